//! What is to be different in a session or in its fork, by options, and `session set`.

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use clawdforge_api::v1::SessionChanges;
use serde_json::Value;

use super::object;
use crate::commands::connection::ConnectionArgs;
use crate::commands::failure::CommandError;
use crate::commands::io::Io;
use crate::commands::settings;

/// Options that say what is to be different.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Model of the agent [default: as it is]
    #[arg(long)]
    pub model: Option<String>,
    /// How hard the model should think [default: as it is]
    #[arg(long, value_parser = PossibleValuesParser::new(["low", "medium", "high", "xhigh", "max"]))]
    pub effort: Option<String>,
    /// The agent's own name for how it asks for permission [default: as it is]
    #[arg(long)]
    pub mode: Option<String>,
    /// Notes to keep with the session, a JSON object, in place of those before [default: as they are]
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub meta: Option<Value>,
    /// What to take away, separated by commas; model and effort are the agent's own then, and mode the one for unattended work
    #[arg(long, value_name = "WHICH", value_delimiter = ',')]
    pub clear: Vec<Choice>,
}

/// What can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "their names say it, and clap would repeat it")]
pub enum Choice {
    Model,
    Effort,
    Mode,
    Meta,
}

impl ChangeArgs {
    pub(super) fn changes(&self) -> Result<SessionChanges, CommandError> {
        Ok(SessionChanges {
            model: self.change(Choice::Model, self.model.as_ref())?,
            effort: self.change(Choice::Effort, self.effort.as_ref())?,
            mode: self.change(Choice::Mode, self.mode.as_ref())?,
            meta: self.change(Choice::Meta, self.meta.as_ref())?,
        })
    }

    fn change<T: Clone>(&self, choice: Choice, given: Option<&T>) -> Result<Option<Option<T>>, CommandError> {
        match (self.clear.contains(&choice), given) {
            (false, given) => Ok(given.cloned().map(Some)),
            (true, None) => Ok(Some(None)),
            (true, Some(_)) => {
                let name = format!("{choice:?}").to_lowercase();
                Err(CommandError::Usage(format!("--{name} and --clear {name} exclude each other: give one of them")))
            }
        }
    }
}

/// Options of changing.
#[derive(Debug, Args)]
pub struct SessionSetArgs {
    /// Id of the session
    pub id: String,
    /// What is to be different.
    #[command(flatten)]
    pub changes: ChangeArgs,
}

pub(super) async fn set(args: &SessionSetArgs, connection: &ConnectionArgs, io: &mut Io) -> Result<(), CommandError> {
    let changes = args.changes.changes()?;
    if changes == SessionChanges::default() {
        let missing = "nothing is to be changed: give --model, --effort, --mode, --meta or --clear";
        return Err(CommandError::Usage(missing.to_owned()));
    }
    let client = settings::as_app(connection, io)?;
    let reply = client.perform(client.session_change_call(&args.id, &changes)?).await?;
    Ok(io.print_json(&reply.bytes)?)
}
