//! What an agent says about itself when it greets.

use agent_client_protocol::v1::schema::InitializeResponse;
use serde_json::Value;

/// Characters of an agent's name, version or way to sign in that are kept.
const WORD_CHARS_MAX: usize = 80;

/// What an agent declared: nothing of it was tried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentInfo {
    /// Its own name for itself.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it offers beyond what every agent must, by the protocol's own words, sorted: `load`, `resume`,
    /// `close`, `image`, `mcp-http`, ….
    pub capabilities: Vec<String>,
    /// The ways to sign in it knows, by their names.
    pub sign_in: Vec<String>,
}

impl AgentInfo {
    pub(super) fn of(greeting: &InitializeResponse) -> Self {
        // As JSON, because new capabilities come with every version of the protocol, each as one more key.
        let capabilities = serde_json::to_value(&greeting.agent_capabilities).unwrap_or_default();
        let mut words = Vec::new();
        if capabilities["loadSession"] == true {
            words.push("load".to_owned());
        }
        words.extend(offered(&capabilities["sessionCapabilities"], ""));
        words.extend(offered(&capabilities["promptCapabilities"], ""));
        words.extend(offered(&capabilities["mcpCapabilities"], "mcp-"));
        words.sort();
        let about = greeting.agent_info.as_ref();
        Self {
            name: about.map(|about| word(&about.name)),
            version: about.map(|about| word(&about.version)),
            capabilities: words,
            sign_in: greeting.auth_methods.iter().map(|method| word(method.name())).collect(),
        }
    }
}

/// What a group of capabilities offers: whatever is there and not `false`.
fn offered(group: &Value, prefix: &str) -> Vec<String> {
    let entries = group.as_object().into_iter().flatten();
    let there = entries.filter(|(key, value)| !value.is_null() && *value != false && *key != "_meta");
    there.map(|(key, _)| format!("{prefix}{}", word(key))).collect()
}

fn word(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(WORD_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_offered_is_told_in_the_words_of_the_protocol() {
        let greeting = json!({
            "protocolVersion": 1,
            "agentInfo": {"name": "some\u{7}-agent", "version": "1.2.3"},
            "agentCapabilities": {
                "loadSession": true,
                "sessionCapabilities": {"resume": {}, "close": {}},
                "promptCapabilities": {"image": true, "audio": false, "embeddedContext": true},
                "mcpCapabilities": {"http": true, "sse": false},
            },
            "authMethods": [{"id": "key", "name": "API key"}],
        });
        let info = AgentInfo::of(&serde_json::from_value(greeting).unwrap());
        assert_eq!((info.name.as_deref(), info.version.as_deref()), (Some("some-agent"), Some("1.2.3")));
        assert_eq!(info.capabilities, ["close", "embeddedContext", "image", "load", "mcp-http", "resume"]);
        assert_eq!(info.sign_in, ["API key"]);
    }

    #[test]
    fn an_agent_that_says_nothing_offers_nothing() {
        let info = AgentInfo::of(&serde_json::from_value(json!({"protocolVersion": 1})).unwrap());
        assert_eq!(info, AgentInfo::default());
    }
}
