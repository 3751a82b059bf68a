//! `clawdforge events ID`: what happened in a session or run, one JSON line per event.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use clawdforge_core::event::EventSeq;
use clawdforge_core::id::SessionId;
use tokio::time::timeout;

use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::io::Io;
use super::settings;
use super::text::whole_number;
use crate::client::Client;
use crate::events::{Event, EventStream};
use crate::v1::PageQuery;

/// How long nothing comes of a run that goes on before what is there counts as told. The service sends what it has at
/// once, and there is no other way to ask for the events of a run than its stream.
const PRESENT_PAUSE: Duration = Duration::from_secs(1);

/// The state of a run that is over.
const ENDED: &str = "ended";

/// Options of `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Id of a session (`ses_…` or its UUID) or of a run (`run_…`)
    pub id: String,
    /// Go on with what comes, until the run ends or the session is closed
    #[arg(long)]
    pub follow: bool,
    /// Only events behind this number
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole_number::<EventSeq>, allow_negative_numbers = true)]
    pub after: EventSeq,
    /// Where the service is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

pub(super) async fn events(args: &EventsArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_app(&args.connection, io)?;
    let is_run = args.id.starts_with("run_");
    if !is_run && SessionId::parse_either(&args.id).is_err() {
        let message = "events are had of a session, by its `ses_…` or its UUID, or of a run, by its `run_…`";
        return Err(CommandError::Usage(message.to_owned()));
    }
    match (is_run, args.follow) {
        (true, true) => to_the_end(client.follow_run(&args.id, args.after).await?, io).await,
        (true, false) => {
            // Asked before: of one that has ended all is there, however long it takes to come.
            let has_ended = client.get_run(&args.id).await?.progress.state == ENDED;
            let stream = client.follow_run(&args.id, args.after).await?;
            if has_ended { to_the_end(stream, io).await } else { present(stream, io).await }
        }
        (false, true) => to_the_end(client.follow_session(&args.id, args.after).await?, io).await,
        (false, false) => pages(&client, args, io).await,
    }
}

async fn to_the_end(mut stream: EventStream, io: &mut Io) -> Result<(), CommandError> {
    while let Some(event) = stream.next().await? {
        print(&event, io)?;
        // Somebody may be reading along.
        io.stdout.flush()?;
    }
    Ok(())
}

/// What is there of a run.
async fn present(mut stream: EventStream, io: &mut Io) -> Result<(), CommandError> {
    while let Ok(next) = timeout(PRESENT_PAUSE, stream.next()).await {
        let Some(event) = next? else { break };
        print(&event, io)?;
    }
    Ok(io.stdout.flush()?)
}

/// What is there of a session.
async fn pages(client: &Client, args: &EventsArgs, io: &mut Io) -> Result<(), CommandError> {
    let mut query = PageQuery::default();
    loop {
        let page = client.session_events(&args.id, args.after, &query).await?;
        for event in &page.data {
            print(event, io)?;
        }
        io.stdout.flush()?;
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(()),
        }
    }
}

fn print(event: &Event, io: &mut Io) -> std::io::Result<()> {
    io.stdout.write_all(event.json().as_bytes())?;
    io.stdout.write_all(b"\n")
}
