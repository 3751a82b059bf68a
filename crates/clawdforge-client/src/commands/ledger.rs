//! `clawdforge ledger list|export`

use clap::{Args, Subcommand, ValueEnum};
use clawdforge_api::admin::LedgerEntry;
use clawdforge_core::limits::PAGE_ROWS_MAX;

use super::connection::ConnectionArgs;
use super::failure::CommandError;
use super::io::Io;
use super::ledger_table::{self, CsvLines};
use super::settings;
use super::text::whole_number;
use crate::error::ClientError;
use crate::ledger::{LedgerOrder, LedgerQuery};

/// Options of `ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: LedgerVerb,
    /// Where the service is.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// What can be done with the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerVerb {
    /// Show one page, newest lines first: a table on a terminal, JSON otherwise
    List(LedgerListArgs),
    /// Write every line, oldest first
    Export(LedgerExportArgs),
}

/// Which lines.
#[derive(Debug, Args)]
pub struct LedgerFilter {
    /// Only lines of this app
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// Only lines of this kind, such as `run_ended`
    #[arg(long)]
    pub kind: Option<String>,
}

/// Options of `ledger list`.
#[derive(Debug, Args)]
pub struct LedgerListArgs {
    /// Which lines.
    #[command(flatten)]
    pub filter: LedgerFilter,
    /// Lines to show at most (up to 1000) [default: the service's, 100]
    #[arg(long, value_name = "LINES", value_parser = whole_number::<usize>)]
    pub limit: Option<usize>,
    /// Go on where the page before ended
    #[arg(long, value_name = "NUMBER")]
    pub cursor: Option<u64>,
    /// JSON, on a terminal too
    #[arg(long)]
    pub json: bool,
}

/// Options of `ledger export`.
#[derive(Debug, Args)]
pub struct LedgerExportArgs {
    /// One JSON object a line, or comma-separated values with a heading
    #[arg(long, value_enum, default_value = "jsonl")]
    pub format: LedgerFormat,
    /// Which lines.
    #[command(flatten)]
    pub filter: LedgerFilter,
}

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LedgerFormat {
    /// JSON lines.
    Jsonl,
    /// Comma-separated values.
    Csv,
}

pub(super) async fn ledger(args: &LedgerArgs, io: &mut Io) -> Result<(), CommandError> {
    match &args.verb {
        LedgerVerb::List(list_args) => list(list_args, &args.connection, io).await,
        LedgerVerb::Export(export_args) => export(export_args, &args.connection, io).await,
    }
}

async fn list(args: &LedgerListArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_admin(connection, io)?;
    let query = LedgerQuery { cursor: args.cursor, limit: args.limit, ..query(&args.filter) };
    let reply = client.perform(client.ledger_call(&query)?).await?;
    if args.json || !io.stdout_is_terminal {
        return Ok(io.print_json(&reply.bytes)?);
    }
    io.stdout.write_all(ledger_table::table(&reply.value.entries).as_bytes())?;
    io.stdout.flush()?;
    if let Some(cursor) = reply.value.next_cursor {
        io.say(&format!("there is more: --cursor {cursor}"));
    }
    Ok(())
}

/// Page by page, so that nothing but one page is held however long the ledger is.
async fn export(args: &LedgerExportArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let client = settings::as_admin(connection, io)?;
    let mut query = LedgerQuery { order: Some(LedgerOrder::Oldest), limit: Some(PAGE_ROWS_MAX), ..query(&args.filter) };
    let mut csv = CsvLines::default();
    loop {
        let page = client.ledger_page(&query).await?;
        let text = match args.format {
            LedgerFormat::Jsonl => json_lines(&page.entries)?,
            LedgerFormat::Csv => csv.page(&page.entries)?,
        };
        io.stdout.write_all(&text)?;
        match page.next_cursor {
            None => return Ok(io.stdout.flush()?),
            // Oldest first, cursors only grow; anything else would go round for ever.
            Some(next) if query.cursor.is_none_or(|last| next > last) => query.cursor = Some(next),
            Some(_) => {
                io.stdout.flush()?;
                return Err(ClientError::BadReply("the pages of the ledger do not move on".to_owned()).into());
            }
        }
    }
}

fn query(filter: &LedgerFilter) -> LedgerQuery {
    LedgerQuery { app: filter.app.clone(), kind: filter.kind.clone(), ..LedgerQuery::default() }
}

fn json_lines(entries: &[LedgerEntry]) -> Result<Vec<u8>, CommandError> {
    let mut text = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut text, entry).map_err(std::io::Error::from)?;
        text.push(b'\n');
    }
    Ok(text)
}
