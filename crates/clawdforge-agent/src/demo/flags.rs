//! The part of `claude`'s command line the one-shot driver uses. Like `claude`, the demo agent refuses
//! an option it does not know, so a driver that sends a wrong one is noticed here.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clawdforge_core::run::SystemMode;
use serde_json::Value;

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Version,
    Turn(Flags),
    /// Conversations over the Agent Client Protocol.
    Acp(Speaking),
}

/// How it speaks the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Speaking {
    /// Its conversations cannot be taken up again by another process.
    pub(super) is_volatile: bool,
    /// Its modes are no option, as they were not at first.
    pub(super) tells_modes_apart: bool,
    /// It cannot take a conversation up without telling it again.
    pub(super) only_loads: bool,
    /// It declares that it takes tool servers over HTTP.
    pub(super) takes_remote_servers: bool,
}

/// The options of a turn.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) model: Option<String>,
    pub(super) effort: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) system_file: Option<PathBuf>,
    pub(super) system_mode: SystemMode,
    /// It was asked for data by a schema.
    pub(super) has_schema: bool,
}

pub(super) fn parse(args: &[OsString]) -> Result<Wanted, String> {
    let mut flags = Flags::default();
    let mut print = false;
    let (mut acp, mut speaking) = (false, Speaking::default());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let shown = arg.to_string_lossy();
        let (name, attached) = match shown.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (shown.as_ref(), None),
        };
        let mut value = || {
            attached.clone().or_else(|| args.next().cloned()).ok_or_else(|| format!("option '{name}' argument missing"))
        };
        match name {
            "--version" => return Ok(Wanted::Version),
            "-p" | "--print" => print = true,
            "--acp" => acp = true,
            "--volatile" => speaking.is_volatile = true,
            "--load-only" => speaking.only_loads = true,
            "--remote-servers" => speaking.takes_remote_servers = true,
            "--modes-apart" => speaking.tells_modes_apart = true,
            "--verbose" | "--include-partial-messages" | "--no-session-persistence" => {}
            "--output-format" if value()? == "stream-json" => {}
            "--output-format" => return Err("the demo agent only writes --output-format stream-json".to_owned()),
            "--model" => flags.model = Some(lossy(&value()?)),
            "--json-schema" => {
                let schema: Value =
                    serde_json::from_str(&lossy(&value()?)).map_err(|error| format!("--json-schema: {error}"))?;
                flags.has_schema = schema.is_object();
            }
            "--effort" => flags.effort = Some(lossy(&value()?)),
            "--append-system-prompt-file" => flags.system_file = Some(value()?.into()),
            "--system-prompt-file" => {
                flags.system_file = Some(value()?.into());
                flags.system_mode = SystemMode::Replace;
            }
            _ => return Err(format!("unknown option '{shown}'")),
        }
    }
    match (acp, print) {
        (true, _) => Ok(Wanted::Acp(speaking)),
        (false, true) => Ok(Wanted::Turn(flags)),
        (false, false) => Err("the demo agent only works with -p or --acp".to_owned()),
    }
}

fn lossy(value: &OsStr) -> String {
    value.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Wanted, String> {
        parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_taken_with_their_values_attached_or_not() {
        let expected = Flags {
            model: Some("a=b".into()),
            effort: Some("low".into()),
            mode: None,
            system_file: Some("/s".into()),
            system_mode: SystemMode::Replace,
            has_schema: true,
        };
        let line = "-p --output-format stream-json --model=a=b --effort low --json-schema={} --system-prompt-file /s";
        assert_eq!(parsed(line), Ok(Wanted::Turn(expected)));
        assert_eq!(parsed("--version"), Ok(Wanted::Version));
    }

    #[test]
    fn what_claude_would_refuse_is_refused() {
        assert_eq!(parsed("-p --files x"), Err("unknown option '--files'".into()));
        assert_eq!(parsed("-p --model"), Err("option '--model' argument missing".into()));
        assert!(parsed("--verbose").is_err());
        assert!(parsed("-p --output-format json").is_err());
    }
}
