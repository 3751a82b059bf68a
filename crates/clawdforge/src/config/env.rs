//! The environment: the third layer, and what agents may see of it.
//!
//! The environment comes in as a map, so tests need no global state; [`of_process`] is the only
//! place in the program that reads the real one. What goes out again, to agents, is
//! [`Environment`]: nothing of ours is in it, whatever an operator lists in `pass_env`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;

use super::file::CONFIG_ENV;
use super::options::{OPTIONS, Spec};
use super::origin::{ConfigError, Origin};
use super::suggest;

/// The environment of a process.
pub type EnvMap = BTreeMap<OsString, OsString>;

/// What our own variables begin with.
const PREFIX: &str = "CLAWDFORGE_";

/// Variables of ours that are no options of the server: the client's.
const CLIENT_NAMES: [&str; 3] = ["CLAWDFORGE_URL", "CLAWDFORGE_TOKEN", "CLAWDFORGE_MCP_LOG"];

/// What variables of our own tests begin with.
const TEST_PREFIX: &str = "CLAWDFORGE_TEST_";

/// Names of the first versions that have no effect yet.
const LATER_NAMES: [&str; 2] = ["CLAWDFORGE_SESSION_TTL_SECS", "CLAWDFORGE_SESSION_HARD_TTL_SECS"];

/// The environment of this process.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn of_process() -> EnvMap {
    std::env::vars_os().collect()
}

/// What this process itself may still look at once its options are read: where programs and temporary files
/// are, and how to print. Values that could be secrets are not among them.
const KEPT: [&str; 9] =
    ["PATH", "HOME", "TMPDIR", "TZ", "LANG", "TERM", "NO_COLOR", "RUST_BACKTRACE", "RUST_LIB_BACKTRACE"];

/// Drops everything else from the environment of this process, in which every neighbour of the same user,
/// and every library, could look for secrets. Must be called before there is a second thread.
pub fn forget_environment() {
    clawdforge_process::secrets::forget_environment(|name| KEPT.iter().any(|kept| name == *kept));
}

/// The environment the service was started in, without any variable of ours; agents get the part
/// of it that their allow-lists name. Its `Debug` shows no values.
#[derive(Clone, Default)]
pub struct Environment(EnvMap);

impl Environment {
    pub(super) fn without_ours(mut env: EnvMap) -> Self {
        env.retain(|name, _| !is_ours(name));
        Self(env)
    }

    /// The value of one variable.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The variables that the patterns name: a whole name, or the beginning of names before a `*`.
    pub fn select<'a>(&self, patterns: impl IntoIterator<Item = &'a str>) -> EnvMap {
        let mut selected = EnvMap::new();
        for pattern in patterns {
            let named = |name: &OsStr| match pattern.strip_suffix('*') {
                Some(beginning) => name.as_encoded_bytes().starts_with(beginning.as_bytes()),
                None => name == pattern,
            };
            let found = self.0.iter().filter(|(name, _)| named(name));
            selected.extend(found.map(|(name, value)| (name.clone(), value.clone())));
        }
        selected
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

/// Whether a variable belongs to the service: it may hold a secret, and no agent needs it.
fn is_ours(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
        || OPTIONS.iter().flat_map(|option| option.spec().env).any(|ours| name == *ours)
}

/// What the environment says about an option: the name that says it, and the text. An empty
/// variable says nothing, because that is how env files leave an option out.
pub(super) fn lookup(env: &EnvMap, spec: &Spec) -> Result<Option<(&'static str, String)>, ConfigError> {
    let mut said: Option<(&'static str, String)> = None;
    for name in spec.env {
        let Some(text) = text_of(env, name)? else { continue };
        match &said {
            Some((first, other)) if *other != text => {
                let message = format!("`{first}` and `{name}` mean the same but differ; keep one of them");
                return Err(ConfigError { origin: Origin::Env((*name).to_owned()), message });
            }
            Some(_) => {}
            None => said = Some((name, text)),
        }
    }
    Ok(said)
}

/// The text of a variable that is there and not empty.
pub(super) fn text_of(env: &EnvMap, name: &str) -> Result<Option<String>, ConfigError> {
    match env.get(OsStr::new(name)).map(|value| value.to_str()) {
        Some(Some("")) | None => Ok(None),
        Some(Some(text)) => Ok(Some(text.to_owned())),
        Some(None) => {
            Err(ConfigError { origin: Origin::Env(name.to_owned()), message: "must be UTF-8 text".to_owned() })
        }
    }
}

/// A warning for each variable that looks like ours but does nothing.
pub(super) fn warnings(env: &EnvMap) -> Vec<String> {
    let known: Vec<&str> = OPTIONS.iter().flat_map(|option| option.spec().env).copied().chain([CONFIG_ENV]).collect();
    let mut warnings = Vec::new();
    for name in env.keys().map(|name| name.to_string_lossy()) {
        let name: &str = &name;
        if LATER_NAMES.contains(&name) {
            warnings.push(format!("env {name}: accepted; takes effect with sessions"));
        } else if name.starts_with(PREFIX)
            && !name.starts_with(TEST_PREFIX)
            && !CLIENT_NAMES.contains(&name)
            && !known.contains(&name)
        {
            // Without the prefix, which would make every name look like every other.
            let typed = name.strip_prefix(PREFIX).unwrap_or(name);
            let near = suggest::nearest(typed, known.iter().filter_map(|name| name.strip_prefix(PREFIX)));
            let hint = near.map(|near| format!("; did you mean `{PREFIX}{near}`?")).unwrap_or_default();
            warnings.push(format!("env {name}: no such option, ignored{hint}"));
        }
    }
    warnings
}
