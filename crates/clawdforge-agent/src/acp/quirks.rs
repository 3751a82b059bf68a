//! Where agents stray from the protocol, each with its date and proof.

use agent_client_protocol::v1::schema::{self, InitializeResponse};
use clawdforge_core::agent::Usage;

use super::misspoken::Misspoken;

/// What to do differently for one agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Quirks {
    /// It counts tokens over the process's life instead of the turn. Copilot 1.0.102, seen 2026-11-25: a turn of two
    /// requests told 20 tokens, the next of one request 30.
    counts_usage_over_turns: bool,
    /// Its input tokens include those from a cache. Copilot 1.0.102, seen 2026-11-25: of 100 tokens with 10 from a cache
    /// it told 100 and 10, where Codex' and Claude's adapters tell 90 and 10.
    counts_cache_as_input: bool,
    /// It tells failures as answers in words of its own ([`Misspoken`]).
    is_copilot: bool,
}

impl Quirks {
    /// Those of an agent, by what it calls itself.
    pub(super) fn of(greeting: &InitializeResponse) -> Self {
        let name = greeting.agent_info.as_ref().map(|about| about.name.as_str());
        let is_copilot = name == Some("Copilot");
        Self { counts_usage_over_turns: is_copilot, counts_cache_as_input: is_copilot, is_copilot }
    }

    /// A listener for failures told as answers, for one turn.
    pub(super) fn misspoken(self) -> Misspoken {
        if self.is_copilot { Misspoken::of_copilot() } else { Misspoken::default() }
    }

    /// What the agent says it used, in our words.
    pub(super) fn usage_told(self, told: &schema::Usage) -> Usage {
        let cached = told.cached_read_tokens.unwrap_or(0).saturating_add(told.cached_write_tokens.unwrap_or(0));
        let among_input = if self.counts_cache_as_input { cached } else { 0 };
        Usage {
            input_tokens: Some(told.input_tokens.saturating_sub(among_input)),
            output_tokens: Some(told.output_tokens),
            cache_read_tokens: told.cached_read_tokens,
            cache_write_tokens: told.cached_write_tokens,
            ..Usage::default()
        }
    }

    /// What one turn used, where `told` is what the agent says of it and `before` what it said of the turn before.
    pub(super) fn usage_of_turn(self, told: &Usage, before: &Usage) -> Usage {
        if !self.counts_usage_over_turns {
            return told.clone();
        }
        // One that began to count anew tells less than before.
        let since = |now: Option<u64>, then: Option<u64>| match (now, then) {
            (Some(now), Some(then)) if now >= then => Some(now - then),
            (now, _) => now,
        };
        Usage {
            input_tokens: since(told.input_tokens, before.input_tokens),
            output_tokens: since(told.output_tokens, before.output_tokens),
            cache_read_tokens: since(told.cache_read_tokens, before.cache_read_tokens),
            cache_write_tokens: since(told.cache_write_tokens, before.cache_write_tokens),
            ..told.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quirks(name: &str) -> Quirks {
        let greeting = json!({"protocolVersion": 1, "agentInfo": {"name": name, "version": "1"}});
        Quirks::of(&serde_json::from_value(greeting).unwrap())
    }

    fn used(input: u64, output: u64) -> Usage {
        Usage { input_tokens: Some(input), output_tokens: Some(output), ..Usage::default() }
    }

    #[test]
    fn tokens_that_are_counted_over_all_turns_become_those_of_one() {
        let copilot = quirks("Copilot");
        assert_eq!(copilot.usage_of_turn(&used(20, 6), &Usage::default()), used(20, 6));
        assert_eq!(copilot.usage_of_turn(&used(30, 9), &used(20, 6)), used(10, 3));
        assert_eq!(copilot.usage_of_turn(&used(10, 3), &used(30, 9)), used(10, 3), "it began to count anew");
        assert_eq!(quirks("claude").usage_of_turn(&used(30, 9), &used(20, 6)), used(30, 9));
    }

    #[test]
    fn tokens_from_a_cache_are_not_told_twice() {
        let told: schema::Usage = serde_json::from_value(json!({
            "totalTokens": 107, "inputTokens": 100, "outputTokens": 7, "cachedReadTokens": 10, "cachedWriteTokens": 0,
        }))
        .unwrap();
        let cached = |input| Usage { cache_read_tokens: Some(10), cache_write_tokens: Some(0), ..used(input, 7) };
        assert_eq!(quirks("Copilot").usage_told(&told), cached(90));
        assert_eq!(quirks("@agentclientprotocol/codex-acp").usage_told(&told), cached(100));
    }
}
