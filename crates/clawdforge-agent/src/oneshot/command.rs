//! What to start for a turn: pure, from a profile and a request to arguments and environment.
//!
//! Neither the prompt nor the system prompt is ever an argument: arguments are readable by every
//! process of the machine and bounded by the kernel (128 KiB each). A schema is one, because `claude` takes it no
//! other way; it has at most half of that.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clawdforge_core::output::OutputSchema;
use clawdforge_core::run::{Effort, SystemMode};
use serde_json::Value;

use crate::OpenSpec;
use crate::profile::{Dialect, Profile};

/// Arguments and environment of one agent process.
#[derive(Clone, PartialEq, Eq)]
pub struct Launch {
    /// Arguments after the program.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: BTreeMap<OsString, OsString>,
}

/// Where the system prompt is laid down for a turn.
#[must_use]
pub fn system_file(scratch: &Path) -> PathBuf {
    scratch.join("system.txt")
}

/// Composes the command line and the environment of a turn; `env` is what the agent finds around it anyway.
#[must_use]
pub fn launch(profile: &Profile, spec: &OpenSpec, env: BTreeMap<OsString, OsString>) -> Launch {
    Launch { args: args(profile, spec), env: with_switches(profile, env) }
}

fn args(profile: &Profile, spec: &OpenSpec) -> Vec<OsString> {
    let mut args: Vec<OsString> = profile.args.iter().map(OsString::from).collect();
    // Whoever reads the lines needs `stream-json`, which needs `--verbose`; partial messages are the
    // only sign of life while a long answer is written.
    args.extend(
        ["-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"].map(OsString::from),
    );
    args.push("--no-session-persistence".into());
    if profile.dialect == Dialect::Claude && !profile.trusts_workspace {
        // Otherwise hooks, permissions and tool servers of the workspace were the agent's own.
        args.push("--setting-sources=user".into());
    }
    // One argument: a model that begins with a dash must not become an option.
    if let Some(model) = &spec.model {
        args.push(format!("--model={model}").into());
    }
    if let Some(effort) = spec.effort {
        args.extend(["--effort", Effort::as_str(effort)].map(OsString::from));
    }
    if let Some(schema) = &spec.output_schema {
        args.push(format!("--json-schema={}", bare(schema)).into());
    }
    if spec.system.is_some() {
        args.push(match spec.system_mode {
            SystemMode::Append => "--append-system-prompt-file".into(),
            SystemMode::Replace => "--system-prompt-file".into(),
        });
        args.push(system_file(&spec.scratch).into_os_string());
    }
    args
}

/// Whether `claude` can be given a schema: it makes a tool of it, and a tool takes an object.
pub(super) fn takes(schema: &OutputSchema) -> bool {
    schema.value()["type"] == "object"
}

/// The schema without the name of its dialect, by which `claude` would look for one that it knows.
fn bare(schema: &OutputSchema) -> Value {
    let mut bare = schema.value().clone();
    if let Some(fields) = bare.as_object_mut() {
        fields.shift_remove("$schema");
    }
    bare
}

fn with_switches(profile: &Profile, mut env: BTreeMap<OsString, OsString>) -> BTreeMap<OsString, OsString> {
    let retries = profile.retries_max.to_string();
    for (name, value) in [
        // Ten retries by default: a failing API would be reported after three minutes.
        ("CLAUDE_CODE_MAX_RETRIES", retries.as_str()),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("DISABLE_AUTOUPDATER", "1"),
        // Would leave a folder in the operator's home for every workspace there ever was.
        ("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1"),
    ] {
        env.entry(OsString::from(name)).or_insert_with(|| OsStr::new(value).to_owned());
    }
    // Not for anybody to switch off: a prompt that says `@/path` would have that file of the host read and
    // sent to the model with no permission asked.
    env.insert("CLAUDE_CODE_DISABLE_FILE_MENTIONS".into(), "1".into());
    env
}

/// The prompt as the agent must be given it: one that begins with a slash would be taken for a command
/// of the program (`/cost`, `/clear`) and never reach the model.
#[must_use]
pub fn prompt_input(prompt: String) -> Vec<u8> {
    if prompt.starts_with('/') { format!("\n{prompt}").into_bytes() } else { prompt.into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawdforge_process::TreeMark;

    fn profile() -> Profile {
        Profile { args: vec!["--first".into()], ..Profile::plain() }
    }

    fn spec() -> OpenSpec {
        OpenSpec {
            workspace: "/w".into(),
            scratch: "/s".into(),
            mark: TreeMark::new("test").unwrap(),
            model: Some("sonnet".into()),
            resume: None,
            system: None,
            system_mode: SystemMode::Append,
            effort: None,
            mode: None,
            tool_servers: Vec::new(),
            output_schema: None,
            home: None,
            app: None,
            given_up: tokio_util::sync::CancellationToken::new(),
        }
    }

    fn line(spec: &OpenSpec) -> String {
        let launch = launch(&profile(), spec, BTreeMap::new());
        launch.args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_command_line_is_the_operators_arguments_and_then_ours() {
        assert_eq!(
            line(&spec()),
            "--first -p --output-format stream-json --verbose --include-partial-messages --no-session-persistence \
             --setting-sources=user --model=sonnet"
        );
        let trusting = Profile { trusts_workspace: true, ..profile() };
        let args = super::launch(&trusting, &spec(), BTreeMap::new()).args;
        assert!(!args.iter().any(|arg| arg == "--setting-sources=user"), "{args:?}");
        let full = OpenSpec {
            system: Some("secret words".into()),
            system_mode: SystemMode::Replace,
            effort: Some(Effort::Xhigh),
            ..spec()
        };
        assert!(line(&full).ends_with("--model=sonnet --effort xhigh --system-prompt-file /s/system.txt"));
        let asked = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}"#;
        let schema = OpenSpec { output_schema: Some(OutputSchema::of(asked).unwrap()), ..spec() };
        assert!(line(&schema).ends_with(r#"--model=sonnet --json-schema={"type":"object"}"#));
        let append = OpenSpec { system_mode: SystemMode::Append, ..full };
        assert!(line(&append).ends_with("--append-system-prompt-file /s/system.txt"));
        assert!(!line(&append).contains("secret words"));
    }

    #[test]
    fn switches_are_set_unless_the_operator_did() {
        let own = BTreeMap::from([("CLAUDE_CODE_MAX_RETRIES".into(), "7".into())]);
        let env = launch(&profile(), &spec(), own).env;
        assert_eq!(env[OsStr::new("CLAUDE_CODE_MAX_RETRIES")], "7");
        assert_eq!(env[OsStr::new("DISABLE_AUTOUPDATER")], "1");
        assert_eq!(launch(&profile(), &spec(), BTreeMap::new()).env[OsStr::new("CLAUDE_CODE_MAX_RETRIES")], "2");
    }

    #[test]
    fn a_prompt_that_looks_like_a_command_reaches_the_model() {
        assert_eq!(prompt_input("/cost".into()), b"\n/cost");
        assert_eq!(prompt_input("a / b".into()), b"a / b");
    }
}
