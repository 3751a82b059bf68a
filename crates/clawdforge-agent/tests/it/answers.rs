//! Turns that go well.

use clawdforge_core::agent::AgentSignal;
use clawdforge_core::run::{Effort, SystemMode};
use serde_json::json;

use crate::support::{Bench, soon, to_the_end};

fn heard(signals: &[AgentSignal]) -> Vec<&AgentSignal> {
    signals.iter().filter(|signal| **signal != AgentSignal::Working).collect()
}

#[tokio::test]
async fn a_prompt_is_answered_with_model_and_usage() {
    let turn = Bench::demo().turn("hello").await;
    assert_eq!(heard(&turn.signals), [&AgentSignal::Text("You said: hello".into())]);
    assert!(turn.signals.contains(&AgentSignal::Working), "signs of life come too");
    let end = turn.end();
    assert_eq!(end.answer.as_deref(), Some("You said: hello"));
    assert_eq!((end.stop_reason.as_deref(), end.failure), (Some("end_turn"), None));
    assert_eq!(end.usage.model.as_deref(), Some("demo-large"));
    assert_eq!((end.usage.input_tokens, end.usage.output_tokens, end.usage.cost_usd), (Some(2), Some(4), Some(0.0)));
}

#[tokio::test]
async fn thoughts_and_tools_are_told() {
    let turn = Bench::demo().turn("think: hm\nuse tool: Bash {\"command\": \"ls\"}\nsay: ok").await;
    let expected = [
        AgentSignal::Thought("hm".into()),
        AgentSignal::ToolCall { call: "toolu_1".into(), name: "Bash".into(), args: json!({"command": "ls"}) },
        AgentSignal::ToolResult { call: "toolu_1".into(), result: json!("done"), failed: false },
        AgentSignal::Text("ok".into()),
    ];
    assert_eq!(heard(&turn.signals), expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn the_agent_works_in_its_workspace_and_reads_what_lies_there() {
    let bench = Bench::demo();
    std::fs::write(bench.spec.workspace.join("attachment-1.txt"), "the word is plum").unwrap();
    assert_eq!(bench.answer("read: attachment-1.txt").await, "the word is plum");
    assert_eq!(bench.answer("cwd").await, bench.spec.workspace.canonicalize().unwrap().to_string_lossy());
}

#[tokio::test]
async fn what_it_is_told_to_note_stands_in_its_workspace_a_line_each() {
    let bench = Bench::demo();
    assert_eq!(bench.answer("note: one\nsay: noted").await, "noted");
    assert_eq!(bench.answer("note: two").await, "done");
    let notes = std::fs::read_to_string(bench.spec.workspace.join(clawdforge_agent::demo::NOTES_FILE)).unwrap();
    assert_eq!(notes, "one\ntwo\n");
}

#[tokio::test]
async fn model_and_effort_reach_the_agent() {
    let mut bench = Bench::demo();
    bench.spec.effort = Some(Effort::High);
    bench.spec.model = Some("--odd name".into());
    assert_eq!(bench.answer("model\neffort").await, "--odd name\nhigh");
}

#[tokio::test]
async fn the_system_prompt_is_appended_or_replaces_and_is_no_argument() {
    let mut bench = Bench::demo();
    bench.spec.system = Some("be brief ".repeat(50_000));
    let text = bench.spec.system.clone().unwrap();
    assert_eq!(bench.answer("system").await, format!("append: {text}"));
    bench.spec.system_mode = SystemMode::Replace;
    assert_eq!(bench.answer("system").await, format!("replace: {text}"));
    assert!(!bench.answer("args").await.contains("be brief"));
}

#[tokio::test]
async fn an_exit_after_the_answer_changes_nothing() {
    let bench = Bench::script(
        r#"cat >/dev/null; echo '{"type":"result","subtype":"success","is_error":false,"result":"good"}'; exit 1"#,
    );
    assert_eq!(bench.answer("x").await, "good");
}

#[tokio::test]
async fn after_the_last_signal_there_is_none() {
    let bench = Bench::demo();
    let mut link = bench.begin("hello").await.unwrap();
    to_the_end(&mut *link).await;
    let more = tokio::time::timeout(std::time::Duration::from_millis(200), link.next_signal()).await;
    assert!(more.is_err(), "{more:?}");
    soon(link.close(crate::support::GRACE)).await;
}
