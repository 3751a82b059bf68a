//! Text for the system prompt of a conversation's agent: told again however the conversation begins.

use clawdforge_agent::{AgentDriver, LinkContext};
use clawdforge_core::run::SystemMode;

use crate::acp::{answer, close};
use crate::support::Bench;

#[tokio::test]
async fn a_system_prompt_is_told_anew_when_a_conversation_begins_is_resumed_and_is_loaded() {
    let [append, replace] = [(SystemMode::Append, "append: be brief"), (SystemMode::Replace, "replace: be brief")];
    for (mode, told, only_loads) in
        [(append.0, append.1, false), (replace.0, replace.1, false), (append.0, append.1, true)]
    {
        let mut bench = Bench::conversation(false);
        if only_loads {
            bench.profile.args.push("--load-only".into());
        }
        bench.spec.system = Some("be brief".into());
        bench.spec.system_mode = mode;
        for context in [LinkContext::Fresh, LinkContext::Resumed] {
            let mut link = bench.open().await.unwrap();
            assert_eq!(
                (link.context(), answer(&mut *link, "system").await.as_str()),
                (context, told),
                "load: {only_loads}"
            );
            bench.spec.resume = link.resume_key();
            close(&bench, link).await;
        }
    }
}

#[tokio::test]
async fn a_conversation_without_a_system_prompt_tells_none() {
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    assert_eq!(answer(&mut *link, "system").await, "none");
    close(&bench, link).await;
    assert!(!bench.driver().takes_system_prompt(), "runs have a field of their own");
}
