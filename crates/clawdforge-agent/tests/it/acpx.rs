//! Faults of acpx, played by a script in its place. What the real one does is tested with the whole service.

use std::fs;
use std::time::Duration;

use clawdforge_agent::{AgentDriver, AgentLink, LinkContext, Prompt};
use clawdforge_core::agent::{AgentSignal, FailureKind, TurnEnd};
use clawdforge_core::limits::AGENT_LINE_BYTES_MAX;

use crate::support::{Bench, GRACE, first_text, soon, to_the_end};

const PROMPT: &str =
    r#"echo '{"jsonrpc":"2.0","id":3,"method":"session/prompt","params":{"sessionId":"s1","prompt":[]}}'"#;
const HELLO: &str = r#"echo '{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s1","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"hello"}}}}'"#;
const RESULT: &str = r#"echo '{"jsonrpc":"2.0","id":3,"result":{"stopReason":"end_turn"}}'"#;
const CANCELLED: &str = r#"echo '{"jsonrpc":"2.0","id":3,"result":{"stopReason":"cancelled"}}'"#;

/// A stand-in that notes how it was called, and plays `turn` for a prompt and `cancel` for a cancel.
fn script(turn: &str, cancel: &str) -> String {
    format!(
        r#"cd "${{0%/*}}" || exit 9
printf '%s\n' "$*" >> calls
case "$*" in
--version) cat version 2>/dev/null || echo 0.19.1 ;;
*"sessions new"*) echo '{{"action":"session_ensured","created":true,"acpxRecordId":"r1","acpxSessionId":"s1","name":"n"}}' ;;
*"sessions close"*) echo '{{"action":"session_closed"}}' ;;
*"cancel -s"*)
{cancel}
;;
*"prompt -s"*) cat > input
{turn}
;;
*) exit 9 ;;
esac"#
    )
}

fn calls(bench: &Bench) -> Vec<String> {
    let calls = fs::read_to_string(bench.folder.path().join("calls")).unwrap_or_default();
    calls.lines().map(str::to_owned).collect()
}

async fn open(bench: &Bench, turn: &str) -> Box<dyn AgentLink> {
    soon(bench.acpx(&script(turn, "")).open(bench.spec.clone())).await.unwrap()
}

async fn turn(link: &mut dyn AgentLink) -> (Vec<AgentSignal>, TurnEnd) {
    link.begin_turn("a prompt".into()).await.unwrap();
    match to_the_end(link).await {
        (signals, AgentSignal::TurnEnded(end)) => (signals, end),
        (_, other) => panic!("the turn did not end: {other:?}"),
    }
}

async fn close(bench: &Bench, link: Box<dyn AgentLink>) {
    assert_eq!(soon(link.close(GRACE)).await.survivors, 0);
    bench.nothing_is_left();
}

#[tokio::test]
async fn every_call_says_all_that_a_configuration_could_change() {
    let mut bench = Bench::conversation(false);
    let file = bench.spec.workspace.join("a file.txt");
    bench.profile.args.push("it's".into());
    bench.spec.resume = Some("old-key".into());
    let mut link = open(&bench, &format!("{PROMPT}\n{RESULT}")).await;
    assert_eq!((link.context(), link.resume_key().as_deref()), (LinkContext::Resumed, Some("s1")));
    let prompt = Prompt { attachments: vec![file], ..Prompt::from("[1]") };
    link.begin_turn(prompt).await.unwrap();
    to_the_end(&mut *link).await;
    close(&bench, link).await;
    let (work, scratch) = (bench.spec.workspace.display(), bench.spec.scratch.display());
    let agent = bench.profile.own_program.as_ref().unwrap().display();
    let mark = &bench.spec.mark;
    let said = format!(
        "--agent {agent} --acp 'it'\\''s' --cwd {work} --format json --json-strict --approve-all \
         --non-interactive-permissions deny --mcp-config {scratch}/acpx-mcp.json"
    );
    assert_eq!(
        calls(&bench),
        [
            "--version".to_owned(),
            format!("{said} sessions new --name {mark} --resume-session old-key"),
            format!("{said} --ttl 120 --timeout 87000 prompt -s {mark} -f -"),
            format!("{said} sessions close {mark}"),
        ]
    );
    let input: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(bench.folder.path().join("input")).unwrap()).unwrap();
    assert_eq!(input[0]["type"], "resource_link", "{input}");
    assert_eq!(input[0]["uri"], format!("file://{work}/a%20file.txt"));
    assert_eq!(input[1], serde_json::json!({"type": "text", "text": "[1]"}));
}

#[tokio::test]
async fn no_result_line_is_a_failure_whatever_the_exit_code() {
    for code in [0, 5] {
        let bench = Bench::conversation(false);
        let mut link = open(&bench, &format!("{PROMPT}\n{HELLO}\necho 'no disk' >&2\nexit {code}")).await;
        let (_, end) = turn(&mut *link).await;
        assert_eq!((end.failure.unwrap().kind, end.answer), (FailureKind::Crashed, None), "{code}");
        assert!(end.stderr.contains("no disk") && !link.is_usable());
        close(&bench, link).await;
    }
}

#[tokio::test]
async fn a_result_line_is_an_answer_whatever_the_exit_code() {
    for code in [0, 1, 5] {
        let bench = Bench::conversation(false);
        let mut link = open(&bench, &format!("{PROMPT}\n{HELLO}\n{RESULT}\nexit {code}")).await;
        for _ in 0..2 {
            let (_, end) = turn(&mut *link).await;
            assert_eq!((end.failure, end.answer.as_deref()), (None, Some("hello")), "{code}");
            assert!(link.is_usable());
        }
        close(&bench, link).await;
    }
}

#[tokio::test]
async fn an_error_line_of_acpx_ends_the_turn_and_the_link() {
    let bench = Bench::conversation(false);
    let error = r#"echo '{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"lost","data":{"acpxCode":"RUNTIME","detailCode":"QUEUE_DISCONNECTED_BEFORE_COMPLETION"}}}'"#;
    let mut link = open(&bench, &format!("{PROMPT}\n{HELLO}\n{error}\nexit 1")).await;
    let (_, end) = turn(&mut *link).await;
    let failure = end.failure.unwrap();
    assert!(failure.kind == FailureKind::Crashed && failure.message.contains("not known"), "{failure:?}");
    assert!(!link.is_usable());
    assert_eq!(link.begin_turn("more".into()).await.unwrap_err().kind, FailureKind::Internal);
    close(&bench, link).await;
}

#[tokio::test]
async fn garbage_and_oversized_lines_are_told_and_passed_over() {
    let bench = Bench::conversation(false);
    let bytes = AGENT_LINE_BYTES_MAX + 1;
    let oversized = format!("head -c {bytes} /dev/zero | tr '\\0' x; echo");
    let mut link = open(&bench, &format!("echo garbage\n{PROMPT}\n{oversized}\n{HELLO}\n{RESULT}")).await;
    let (signals, end) = turn(&mut *link).await;
    assert_eq!(end.answer.as_deref(), Some("hello"));
    let told: Vec<String> = signals
        .into_iter()
        .filter_map(|signal| match signal {
            AgentSignal::Unrecognised { raw } => Some(raw),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 2);
    assert!(told[0] == "garbage" && told[1].starts_with(&format!("[a line of {bytes} bytes] xxx")), "{told:?}");
    close(&bench, link).await;
}

#[tokio::test]
async fn an_old_version_is_refused_with_the_reason_and_asked_for_once() {
    let bench = Bench::conversation(false);
    fs::write(bench.folder.path().join("version"), "0.6.1\n").unwrap();
    let driver = bench.acpx(&script("", ""));
    assert_eq!(driver.check(), Ok(()), "nobody has asked yet");
    for _ in 0..2 {
        let failure = soon(driver.open(bench.spec.clone())).await.err().unwrap();
        assert!(
            failure.kind == FailureKind::StartFailed && failure.message.contains("acpx 0.6.1 is too old"),
            "{failure:?}"
        );
    }
    assert_eq!(driver.check().unwrap_err().kind, FailureKind::StartFailed);
    assert_eq!(calls(&bench), ["--version"]);
    bench.nothing_is_left();
}

#[tokio::test]
async fn a_cancel_that_comes_before_the_prompt_is_told_again() {
    let bench = Bench::conversation(false);
    let waits = format!("{PROMPT}\n{HELLO}\nwhile ! [ -e told ]; do sleep 0.05; done\n{CANCELLED}");
    let cancel = r#"if [ -e early ]; then touch told; echo '{"action":"cancel_result","cancelled":true}'
else touch early; echo '{"action":"cancel_result","cancelled":false}'; fi"#;
    let mut link = soon(bench.acpx(&script(&waits, cancel)).open(bench.spec.clone())).await.unwrap();
    link.begin_turn("a prompt".into()).await.unwrap();
    first_text(&mut *link).await;
    link.cancel_turn();
    let (_, last) = to_the_end(&mut *link).await;
    let AgentSignal::TurnEnded(end) = last else { panic!("{last:?}") };
    assert_eq!((end.stop_reason.as_deref(), link.is_usable()), (Some("cancelled"), true));
    close(&bench, link).await;
    assert_eq!(calls(&bench).iter().filter(|call| call.contains("cancel -s")).count(), 2);
}

#[tokio::test]
async fn the_next_turn_does_not_wait_for_the_call_of_the_last_one() {
    let bench = Bench::conversation(false);
    let mut link = open(&bench, &format!("{PROMPT}\n{HELLO}\n{RESULT}\nexec sleep 600")).await;
    for _ in 0..3 {
        assert_eq!(turn(&mut *link).await.1.answer.as_deref(), Some("hello"));
    }
    close(&bench, link).await;
}

#[tokio::test]
async fn what_acpx_leaves_behind_outlives_a_turn_but_not_its_link() {
    // It is there for good once it has set its trap.
    let leaves =
        "[ -e left ] || (setsid sh -c 'trap \"\" TERM; touch left; while :; do sleep 1; done' > /dev/null 2>&1 &)
        while [ ! -e left ]; do sleep 0.01; done";
    for dropped in [false, true] {
        let bench = Bench::conversation(false);
        let mut link = open(&bench, &format!("{leaves}\n{PROMPT}\n{RESULT}")).await;
        turn(&mut *link).await;
        turn(&mut *link).await;
        bench.some_are_there().await;
        if dropped {
            drop(link);
            bench.all_gone().await;
        } else {
            let closed = soon(link.close(Duration::from_millis(100))).await;
            assert!(closed.killed >= 1 && closed.survivors == 0, "{closed:?}");
            bench.nothing_is_left();
        }
    }
}

#[tokio::test]
async fn an_owner_that_ends_between_turns_is_noticed() {
    let leaves =
        "(setsid sh -c 'echo $$ > owner; exec sleep 600' > /dev/null 2>&1 &); while ! [ -s owner ]; do :; done";
    let bench = Bench::conversation(false);
    let mut link = open(&bench, &format!("{leaves}\n{PROMPT}\n{RESULT}")).await;
    turn(&mut *link).await;
    let owner: i32 = fs::read_to_string(bench.folder.path().join("owner")).unwrap().trim().parse().unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(100), link.next_signal()).await;
    assert!(waited.is_err(), "it lives");
    rustix::process::kill_process(rustix::process::Pid::from_raw(owner).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    assert!(matches!(soon(link.next_signal()).await, AgentSignal::Exited(_)));
    assert!(!link.is_usable());
    close(&bench, link).await;
}

#[tokio::test]
async fn an_opening_that_is_given_up_leaves_nothing_and_says_so() {
    let bench = Bench::conversation(false);
    let hangs = "case \"$*\" in --version) echo 0.19.1 ;; *) trap '' TERM; (setsid sleep 600 &); while :; do sleep 1; done ;; esac";
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
    let driver = bench.acpx(hangs);
    let (opened, ()) = tokio::join!(driver.open(bench.spec.clone()), give_up);
    assert_eq!(opened.err().unwrap().kind, FailureKind::Interrupted);
    bench.nothing_is_left();
}

#[tokio::test]
async fn a_prompt_beyond_what_an_owner_takes_is_refused_before_it_is_lost() {
    let bench = Bench::conversation(false);
    let mut link = open(&bench, "").await;
    let failure = link.begin_turn(Prompt::from("\u{1}".repeat(2 * 1024 * 1024).as_str())).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::RequestTooLarge);
    close(&bench, link).await;
    assert!(calls(&bench).iter().all(|call| !call.contains("prompt")), "{:?}", calls(&bench));
}

#[tokio::test]
async fn a_missing_acpx_and_a_missing_agent_are_named_with_what_to_do() {
    let mut bench = Bench::conversation(false);
    let driver = bench.acpx("");
    fs::remove_file(bench.folder.path().join("acpx")).unwrap();
    assert_eq!(driver.check().unwrap_err().kind, FailureKind::NotInstalled);
    bench.profile.own_program = None;
    let program = bench.folder.path().join("acpx");
    let driver = bench.acpx(&script("", ""));
    assert!(program.exists());
    assert_eq!(driver.check().unwrap_err().kind, FailureKind::NotInstalled);
}
