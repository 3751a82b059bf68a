//! Which variables an agent gets: an empty environment, and then only what is listed.
//!
//! A pattern is a variable's exact name, or the beginning of names followed by `*`. Pure: the binary
//! hands in the environment it was started with.
//!
//! Invariants: no variable of the service reaches an agent, whatever the operator lists (the one word of
//! ours in it is the tree mark that the process crate adds, which is no secret); a variable by
//! which one agent session recognises its own children reaches an agent only when it is listed by its
//! exact name.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What every agent gets where the service has it: enough to find programs, files, the local time
/// and the way out of the network.
pub const BASE: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_*",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
];

/// Variables of the service itself: tokens, address lists, paths. They win over every other list.
pub const OURS: &[&str] = &["CLAWDFORGE_*", "ALLOW_CIDRS"];

/// Set by Claude Code (read from 2.1.330) for the commands it runs, and by the programs that host it.
/// A service started from inside such a session would pass them on, and its agents would take
/// themselves for children of that session: other ids, effort, temporary folders and hooks than the
/// operator's.
pub const NESTING: &[&str] = &[
    "CLAUDECODE",
    "CLAUDE_CODE_ENTRYPOINT",
    "CLAUDE_CODE_SSE_PORT",
    "CLAUDE_CODE_SESSION_*",
    "CLAUDE_CODE_CHILD_*",
    "CLAUDE_CODE_LAUNCHED_BY_SESSION_IDS",
    "CLAUDE_CODE_BRIDGE_*",
    "CLAUDE_CODE_REMOTE*",
    "CLAUDE_CODE_STARTER_*",
    "CLAUDE_CODE_INVOKED_SKILLS",
    "CLAUDE_CODE_EXECPATH",
    "CLAUDE_CODE_TMPDIR",
    "CLAUDE_TMPDIR",
    "CLAUDE_EFFORT",
    "CLAUDE_PID",
    "CLAUDE_JOB_DIR",
    "CLAUDE_PROJECT_DIR",
    "CLAUDE_ENV_FILE",
    "CLAUDE_AGENT_SDK_*",
    "CLAUDE_BG_*",
];

/// The variables an agent's own documentation names, by the agent's usual name; none for an agent
/// that is not known.
#[must_use]
pub fn documented(agent: &str) -> &'static [&'static str] {
    match agent {
        "claude" => &["ANTHROPIC_*", "CLAUDE_*"],
        "codex" => &["OPENAI_*", "CODEX_*"],
        "copilot" => &["COPILOT_*"],
        "gemini" => &["GEMINI_*", "GOOGLE_*"],
        "opencode" => &["OPENCODE_*"],
        "goose" => &["GOOSE_*"],
        _ => &[],
    }
}

/// Whether a variable belongs to the service and must not be given to an agent by any means.
#[must_use]
pub fn is_ours(name: &OsStr) -> bool {
    OURS.iter().any(|pattern| matches(pattern, name))
}

/// The environment of an agent: of `inherited`, what [`BASE`], `documented` or `pass` list; over
/// that, what `set` names with its values; and nothing of ours.
#[must_use]
pub fn compose(
    inherited: impl IntoIterator<Item = (OsString, OsString)>,
    documented: &[&str],
    pass: &[String],
    set: &BTreeMap<String, String>,
) -> BTreeMap<OsString, OsString> {
    let patterns: Vec<&str> = BASE.iter().chain(documented).copied().chain(pass.iter().map(String::as_str)).collect();
    let listed = inherited.into_iter().filter(|(name, _)| is_listed(&patterns, name));
    let named = set.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let mut env: BTreeMap<OsString, OsString> = listed.chain(named).collect();
    env.retain(|name, _| !is_ours(name));
    env
}

fn is_listed(patterns: &[&str], name: &OsStr) -> bool {
    let nesting = NESTING.iter().any(|pattern| matches(pattern, name));
    patterns.iter().any(|pattern| matches(pattern, name) && !(nesting && pattern.ends_with('*')))
}

fn matches(pattern: &str, name: &OsStr) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.as_bytes().starts_with(beginning.as_bytes()),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(inherited: &[&str], agent: &str, pass: &[&str]) -> Vec<String> {
        let inherited = inherited.iter().map(|name| (OsString::from(name), OsString::from("x")));
        let pass: Vec<String> = pass.iter().map(ToString::to_string).collect();
        let env = compose(inherited, documented(agent), &pass, &BTreeMap::new());
        env.keys().map(|name| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn an_agent_gets_the_base_list_and_what_its_documentation_names() {
        let inherited = ["PATH", "LC_TIME", "AWS_SECRET_ACCESS_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "TERM"];
        assert_eq!(names(&inherited, "claude", &[]), ["ANTHROPIC_API_KEY", "LC_TIME", "PATH"]);
        assert_eq!(names(&inherited, "codex", &[]), ["LC_TIME", "OPENAI_API_KEY", "PATH"]);
        assert_eq!(names(&inherited, "demo", &["AWS_*"]), ["AWS_SECRET_ACCESS_KEY", "LC_TIME", "PATH"]);
    }

    #[test]
    fn nothing_of_ours_is_passed_however_it_is_listed() {
        let inherited = ["CLAWDFORGE_ADMIN_TOKEN", "ALLOW_CIDRS", "HOME"];
        assert_eq!(names(&inherited, "claude", &["CLAWDFORGE_ADMIN_TOKEN", "*", "ALLOW_CIDRS"]), ["HOME"]);
        let set = BTreeMap::from([("CLAWDFORGE_ADMIN_TOKEN".to_owned(), "x".to_owned())]);
        assert!(compose([], &[], &[], &set).is_empty());
    }

    #[test]
    fn a_surrounding_agent_session_is_not_passed_on_unless_asked_for_by_name() {
        let inherited = ["CLAUDECODE", "CLAUDE_CODE_SESSION_ID", "CLAUDE_EFFORT", "CLAUDE_CODE_OAUTH_TOKEN"];
        assert_eq!(names(&inherited, "claude", &[]), ["CLAUDE_CODE_OAUTH_TOKEN"]);
        assert_eq!(names(&inherited, "claude", &["CLAUDE*"]), ["CLAUDE_CODE_OAUTH_TOKEN"]);
        assert_eq!(names(&inherited, "claude", &["CLAUDE_EFFORT"]), ["CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_EFFORT"]);
    }

    #[test]
    fn a_value_the_operator_sets_wins_over_the_inherited_one() {
        let set = BTreeMap::from([("HOME".to_owned(), "/srv/agent".to_owned())]);
        let env = compose([("HOME".into(), "/root".into())], &[], &[], &set);
        assert_eq!(env[OsStr::new("HOME")], "/srv/agent");
    }
}
