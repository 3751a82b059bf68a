//! Conversations over the Agent Client Protocol.

use std::time::Duration;

use clawdforge_agent::{AgentLink, Choices, LinkContext, Prompt};
use clawdforge_core::agent::{AgentSignal, FailureKind, TurnEnd};
use clawdforge_core::limits::AGENT_LINE_BYTES_MAX;
use clawdforge_core::run::Effort;
use serde_json::json;

use crate::support::{Bench, GRACE, first_text, soon, to_the_end};

/// A turn on a link, which must end by the agent's word.
async fn turn(link: &mut dyn AgentLink, prompt: &str) -> (Vec<AgentSignal>, TurnEnd) {
    link.begin_turn(prompt.into()).await.unwrap();
    ended(link).await
}

async fn ended(link: &mut dyn AgentLink) -> (Vec<AgentSignal>, TurnEnd) {
    match to_the_end(link).await {
        (signals, AgentSignal::TurnEnded(end)) => (signals, end),
        (_, other) => panic!("the turn did not end by the agent's word: {other:?}"),
    }
}

/// The answer to a prompt that succeeds.
pub async fn answer(link: &mut dyn AgentLink, prompt: &str) -> String {
    let (_, end) = turn(link, prompt).await;
    assert_eq!(end.failure, None);
    end.answer.unwrap()
}

pub async fn close(bench: &Bench, link: Box<dyn AgentLink>) {
    let closed = soon(link.close(GRACE)).await;
    assert_eq!(closed.survivors, 0);
    bench.nothing_is_left();
}

#[tokio::test]
async fn turns_follow_one_another_in_one_process() {
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    assert_eq!(link.context(), LinkContext::Fresh);
    let process = link.process();
    assert_eq!(answer(&mut *link, "my name is Ada").await, "You said: my name is Ada");
    assert!(link.is_usable());
    assert_eq!(answer(&mut *link, "recall").await, "my name is Ada");
    assert_eq!(link.process(), process);
    close(&bench, link).await;
}

#[tokio::test]
async fn a_turn_tells_everything_in_order_and_what_it_used() {
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    let (signals, end) =
        turn(&mut *link, "think: hm\nuse tool: Bash {\"command\": \"ls\"}\nsay: two\nsay: three").await;
    let heard: Vec<_> = signals.into_iter().filter(|signal| *signal != AgentSignal::Working).collect();
    assert_eq!(
        heard,
        [
            AgentSignal::Thought("hm".into()),
            AgentSignal::ToolCall { call: "toolu_1".into(), name: "Bash".into(), args: json!({"command": "ls"}) },
            AgentSignal::ToolResult { call: "toolu_1".into(), result: json!("done"), failed: false },
            AgentSignal::Text("two".into()),
            AgentSignal::Text("\nthree".into()),
        ]
    );
    assert_eq!(end.answer.as_deref(), Some("two\nthree"));
    assert_eq!(end.stop_reason.as_deref(), Some("end_turn"));
    assert_eq!(end.usage.output_tokens, Some(3));
    close(&bench, link).await;
}

#[tokio::test]
async fn another_process_takes_the_conversation_up_by_its_key() {
    let mut bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    answer(&mut *link, "the word is plum").await;
    bench.spec.resume = link.resume_key();
    let before = link.process();
    close(&bench, link).await;

    let mut link = bench.open().await.unwrap();
    assert_eq!(link.context(), LinkContext::Resumed);
    assert_ne!(link.process(), before);
    assert_eq!(link.resume_key(), bench.spec.resume);
    assert_eq!(answer(&mut *link, "recall").await, "the word is plum");
    close(&bench, link).await;
}

#[tokio::test]
async fn an_agent_that_has_forgotten_begins_afresh_and_says_so() {
    for volatile in [false, true] {
        let mut bench = Bench::conversation(volatile);
        let mut link = bench.open().await.unwrap();
        answer(&mut *link, "the word is plum\nforget").await;
        bench.spec.resume = link.resume_key();
        close(&bench, link).await;
        let mut link = bench.open().await.unwrap();
        assert_eq!(link.context(), LinkContext::Fresh);
        assert_eq!(answer(&mut *link, "recall").await, "nothing");
        close(&bench, link).await;
    }
}

#[tokio::test]
async fn what_goes_before_a_prompt_is_known_but_not_done() {
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    let before = Some("say: never".to_owned());
    link.begin_turn(Prompt { before, ..Prompt::from("recall") }).await.unwrap();
    assert_eq!(ended(&mut *link).await.1.answer.as_deref(), Some("(told) say: never"));
    close(&bench, link).await;
}

#[tokio::test]
async fn small_texts_come_with_the_prompt_and_other_attachments_are_links() {
    let bench = Bench::conversation(false);
    let attached = |name: &str, bytes: &[u8]| {
        let path = bench.spec.workspace.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let files = [
        attached("attachment-1 é.txt", b"plum"),
        attached("large.txt", &[b'x'; 40_000]),
        attached("image.png", b"\x89PNG\xff"),
        bench.spec.workspace.join("gone.txt"),
    ];
    let mut link = bench.open().await.unwrap();
    let prompt = Prompt { attachments: files.to_vec(), ..Prompt::from("read: attachment-1 é.txt\nattached") };
    link.begin_turn(prompt).await.unwrap();
    let [small, large, image, gone] =
        files.map(|path| format!("file://{}", path.to_str().unwrap().replace(' ', "%20").replace('é', "%C3%A9")));
    let expected = format!("plum\n{small} (4 bytes) | {large} | {image} | {gone}");
    assert_eq!(ended(&mut *link).await.1.answer.unwrap(), expected);
    close(&bench, link).await;
}

#[tokio::test]
async fn permission_is_given_by_kind_and_only_once() {
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    let said = answer(&mut *link, "ask: Bash").await;
    assert_eq!(said, r#"{"outcome":"selected","optionId":"yes"}"#);
    close(&bench, link).await;
}

#[tokio::test]
async fn the_model_is_chosen_and_an_unknown_one_refused() {
    let mut bench = Bench::conversation(false);
    bench.spec.model = Some("demo".into());
    let mut link = bench.open().await.unwrap();
    assert_eq!(answer(&mut *link, "model").await, "demo");
    bench.spec.resume = link.resume_key();
    close(&bench, link).await;
    // Agents do not keep it: it is chosen again after the conversation was taken up.
    let mut link = bench.open().await.unwrap();
    assert_eq!((link.context(), answer(&mut *link, "model").await.as_str()), (LinkContext::Resumed, "demo"));
    close(&bench, link).await;
    bench.spec.model = Some("no-such-model".into());
    let failure = bench.open().await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::UnknownModel);
    assert!(failure.message.contains("no-such-model"), "{}", failure.message);
    bench.nothing_is_left();
}

#[tokio::test]
async fn a_cancelled_turn_ends_and_the_next_one_begins() {
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    link.begin_turn("say: here\nhang".into()).await.unwrap();
    first_text(&mut *link).await;
    link.cancel_turn();
    let (_, end) = ended(&mut *link).await;
    assert_eq!((end.stop_reason.as_deref(), end.answer.as_deref()), (Some("cancelled"), Some("here")));
    assert_eq!(answer(&mut *link, "hello").await, "You said: hello");
    close(&bench, link).await;
}

#[tokio::test]
async fn a_question_that_is_open_when_the_turn_is_cancelled_is_answered_with_that() {
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    link.begin_turn("say: here\nask on cancel: Bash".into()).await.unwrap();
    first_text(&mut *link).await;
    link.cancel_turn();
    let (_, end) = ended(&mut *link).await;
    assert_eq!(end.stop_reason.as_deref(), Some("cancelled"));
    assert_eq!(end.answer.as_deref(), Some("here\n{\"outcome\":\"cancelled\"}"));
    // It was that turn's cancel: the next one is permitted what it asks for.
    assert_eq!(answer(&mut *link, "ask: Bash").await, r#"{"outcome":"selected","optionId":"yes"}"#);
    close(&bench, link).await;
}

#[tokio::test]
async fn an_agent_that_ignores_a_cancel_is_ended_with_its_link() {
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    link.begin_turn("ignore cancel\nignore term\ngrandchild\nhang".into()).await.unwrap();
    first_text(&mut *link).await;
    link.cancel_turn();
    let closed = soon(link.close(Duration::from_millis(100))).await;
    // The agent leaves when its input closes; what it left behind does not.
    assert_eq!((closed.killed, closed.survivors), (1, 0));
    bench.nothing_is_left();
}

#[tokio::test]
async fn an_agent_that_dies_during_a_turn_or_between_two_is_noticed() {
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    link.begin_turn("say: bye\nstderr: no disk\ncrash: 7".into()).await.unwrap();
    let (signals, last) = to_the_end(&mut *link).await;
    let AgentSignal::Exited(exit) = last else { panic!("{last:?}") };
    assert_eq!((exit.code, exit.stderr.trim()), (Some(7), "no disk"));
    assert!(signals.contains(&AgentSignal::Text("bye".into())));
    assert!(!link.is_usable());
    close(&bench, link).await;

    let mut link = bench.open().await.unwrap();
    answer(&mut *link, "hello").await;
    let pid: i32 = link.process().unwrap().split(':').next().unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    let AgentSignal::Exited(exit) = soon(link.next_signal()).await else { panic!("it is gone") };
    assert_eq!(exit.signal, Some(9));
    assert!(!link.is_usable());
    assert_eq!(link.begin_turn("hello".into()).await.unwrap_err().kind, FailureKind::Internal);
    close(&bench, link).await;
}

#[tokio::test]
async fn a_flood_arrives_whole_and_garbage_is_passed_over() {
    const LINES: usize = 20_000;
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    let (signals, end) = turn(&mut *link, &format!("flood: {LINES}")).await;
    assert_eq!(signals.iter().filter(|signal| matches!(signal, AgentSignal::Text(_))).count(), LINES);
    assert!(end.answer.unwrap().ends_with(&format!("line {LINES}")));

    let (signals, end) = turn(&mut *link, "garbage\nsay: still here").await;
    assert_eq!((end.answer.as_deref(), end.failure), (Some("still here"), None));
    let oversized = AGENT_LINE_BYTES_MAX / (64 * 1024) * 64 * 1024;
    let told = |signal: &AgentSignal| match signal {
        AgentSignal::Unrecognised { raw } => raw.starts_with(&format!("[a line of {} bytes] xxx", oversized + 65536)),
        _ => false,
    };
    assert!(signals.iter().any(told), "the oversized line is told: {signals:?}");
    assert_eq!(answer(&mut *link, "hello").await, "You said: hello");
    close(&bench, link).await;
}

#[tokio::test]
async fn an_api_failure_is_one_failure_and_the_conversation_goes_on() {
    let bench = Bench::conversation(false);
    let mut link = bench.open().await.unwrap();
    for (status, kind) in [
        (401, FailureKind::Unauthorized),
        (404, FailureKind::UnknownModel),
        (429, FailureKind::RateLimited),
        (500, FailureKind::ProviderError),
        (529, FailureKind::Overloaded),
    ] {
        let (_, end) = turn(&mut *link, &format!("api error: {status}")).await;
        assert_eq!((end.answer, end.failure.unwrap().kind), (None, kind), "{status}");
    }
    let (_, end) = turn(&mut *link, "not signed in").await;
    let failure = end.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::NotSignedIn);
    assert!(failure.message.contains("clawdforge doctor"), "{}", failure.message);
    let (_, end) = turn(&mut *link, "refuse").await;
    assert_eq!((end.stop_reason.as_deref(), end.failure.unwrap().kind), (Some("refusal"), FailureKind::Refused));
    assert_eq!(answer(&mut *link, "hello").await, "You said: hello");
    close(&bench, link).await;
}

/// An agent that answers these requests in turn, whatever they are, with what follows the id.
fn scripted(answers: &[&str]) -> Bench {
    scripted_then(answers, "read rest")
}

/// What it does behind its last answer is more of the script.
fn scripted_then(answers: &[&str], then: &str) -> Bench {
    let lines = answers.iter().map(|answer| format!("read line; answer '{answer}'\n"));
    let prelude =
        r#"answer() { id=${line#*\"id\":}; id=${id%%[,\}]*}; printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$1"; }"#;
    let mut bench = Bench::script(&format!("{prelude}\n{}{then}", lines.collect::<String>()));
    bench.spec.model = None;
    bench
}

const INITIALIZED: &str = r#""result":{"protocolVersion":1,"agentCapabilities":{}}"#;
const OPENED: &str = r#""result":{"sessionId":"s1"}"#;

#[tokio::test]
async fn a_stop_reason_nobody_knows_ends_the_turn_as_unknown() {
    let bench = scripted(&[INITIALIZED, OPENED, r#""result":{"stopReason":"bored"}"#]);
    let mut link = bench.open().await.unwrap();
    let (_, end) = turn(&mut *link, "hello").await;
    assert_eq!((end.stop_reason.as_deref(), end.failure), (Some("unknown"), None));
    close(&bench, link).await;
}

#[tokio::test]
async fn an_agent_that_lost_the_conversation_fails_the_turn_and_takes_no_other() {
    let bench = scripted(&[INITIALIZED, OPENED, r#""error":{"code":-32002,"message":"Resource not found"}"#]);
    let mut link = bench.open().await.unwrap();
    let (_, end) = turn(&mut *link, "hello").await;
    assert_eq!(end.failure.unwrap().kind, FailureKind::Crashed);
    assert!(!link.is_usable());
    close(&bench, link).await;
}

#[tokio::test]
async fn agents_that_cannot_begin_say_why() {
    for (answers, kind, words) in [
        (vec![r#""result":{"protocolVersion":2,"agentCapabilities":{}}"#], FailureKind::StartFailed, "version 1"),
        (
            vec![INITIALIZED, r#""error":{"code":-32000,"message":"Authentication required"}"#],
            FailureKind::NotSignedIn,
            "clawdforge doctor",
        ),
        (
            vec![INITIALIZED, r#""error":{"code":-32603,"message":"Internal error","data":{"details":"no home"}}"#],
            FailureKind::StartFailed,
            "could not begin a conversation: no home",
        ),
    ] {
        let failure = scripted(&answers).open().await.err().unwrap();
        assert_eq!(failure.kind, kind, "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
    }
}

#[tokio::test]
async fn the_last_words_of_an_agent_that_ends_before_a_conversation_begins_are_waited_for() {
    // Its output ends first, before it greets and behind that.
    let leaves = "exec >&-; sleep 0.1; echo 'no licence' >&2; exit 3";
    for answers in [&[][..], &[INITIALIZED]] {
        let bench = scripted_then(answers, &format!("read line; {leaves}"));
        let failure = bench.open().await.err().unwrap();
        assert_eq!(failure.kind, FailureKind::StartFailed);
        assert!(failure.message.ends_with("no licence"), "{answers:?}: {failure:?}");
        bench.nothing_is_left();
    }
}

#[tokio::test]
async fn an_agent_that_is_given_up_while_it_begins_is_gone_when_that_is_told() {
    let bench = Bench::script("trap '' TERM; while :; do sleep 1; done");
    let given_up = bench.spec.given_up.clone();
    let give_up = async {
        soon(async {
            while bench.alive().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        given_up.cancel();
    };
    let (opened, ()) = tokio::join!(bench.open(), give_up);
    assert_eq!(opened.err().unwrap().kind, FailureKind::Interrupted);
    bench.nothing_is_left();
}

#[tokio::test]
async fn a_missing_program_is_named_with_what_to_do() {
    let mut bench = Bench::conversation(false);
    bench.profile.own_program = None;
    let failure = bench.open().await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::NotInstalled);
}

#[tokio::test]
async fn the_effort_is_chosen_and_one_the_agent_does_not_have_refused() {
    let mut bench = Bench::conversation(false);
    bench.spec.effort = Some(Effort::High);
    let mut link = bench.open().await.unwrap();
    assert_eq!(answer(&mut *link, "effort").await, "high");
    close(&bench, link).await;
    bench.spec.effort = Some(Effort::Max);
    let failure = bench.open().await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::RequestRejected);
    assert!(failure.message.contains("effort max"), "{}", failure.message);
    bench.nothing_is_left();
}

#[tokio::test]
async fn the_operator_says_which_model_it_is_unless_a_conversation_does_and_by_which_option() {
    let mut bench = Bench::conversation(false);
    bench.spec.model = None;
    let choose = |option: Option<&str>| Choices {
        default_model: Some("large".to_owned()),
        model_option: option.map(str::to_owned),
        ..Choices::default()
    };
    for option in [None, Some("model")] {
        let mut link = bench.open_choosing(choose(option)).await.unwrap();
        assert_eq!(answer(&mut *link, "model").await, "large");
        close(&bench, link).await;
    }
    bench.spec.model = Some("small".into());
    let mut link = bench.open_choosing(choose(None)).await.unwrap();
    assert_eq!(answer(&mut *link, "model").await, "small");
    close(&bench, link).await;
    let failure = bench.open_choosing(choose(Some("engine"))).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::UnknownModel);
    bench.nothing_is_left();
}
