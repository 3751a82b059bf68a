//! Several conversations in one process of an agent that speaks the Agent Client Protocol.

use std::time::Duration;

use clawdforge_agent::{AcpDriver, AgentDriver, AgentHost, AgentLink, Choices, HostSpec, OpenSpec};
use clawdforge_core::agent::{AgentSignal, FailureKind, TurnEnd};

use crate::support::{Bench, GRACE, first_text, soon, to_the_end};

async fn host(bench: &Bench) -> Box<dyn AgentHost> {
    let driver = AcpDriver::new(bench.profile.clone(), Choices::default(), bench.spawner.clone());
    soon(driver.hosting().unwrap().start(HostSpec::of(&bench.spec))).await.unwrap()
}

/// The specification of one more conversation, in a directory of its own.
fn another(bench: &Bench, name: &str) -> OpenSpec {
    let workspace = bench.folder.path().join(name);
    std::fs::create_dir(&workspace).unwrap();
    OpenSpec { workspace, ..bench.spec.clone() }
}

async fn answer(link: &mut dyn AgentLink, prompt: &str) -> String {
    link.begin_turn(prompt.into()).await.unwrap();
    let (_, last) = to_the_end(link).await;
    let AgentSignal::TurnEnded(TurnEnd { answer, failure: None, .. }) = last else { panic!("{last:?}") };
    answer.unwrap()
}

#[tokio::test]
async fn conversations_in_one_process_have_their_own_memory_and_directory() {
    let bench = Bench::conversation(false);
    let host = host(&bench).await;
    assert!(host.ends_conversations() && host.takes_in().await);
    let (one, two) = (another(&bench, "one"), another(&bench, "two"));
    let mut first = soon(host.open(one.clone())).await.unwrap();
    let mut second = soon(host.open(two)).await.unwrap();
    assert_eq!(first.process(), second.process());
    assert_eq!(first.process().as_deref(), Some(host.process().as_str()));
    assert_eq!(answer(&mut *first, "my name is Ada").await, "You said: my name is Ada");
    assert_eq!(answer(&mut *second, "recall").await, "nothing");
    assert_eq!(answer(&mut *first, "recall").await, "my name is Ada");
    assert_eq!(answer(&mut *first, "cwd").await, one.workspace.to_str().unwrap());
    assert_eq!(soon(host.close(GRACE)).await.survivors, 0);
    assert!(!host.takes_in().await);
    bench.nothing_is_left();
}

#[tokio::test]
async fn a_conversation_that_is_closed_leaves_the_others_in_peace() {
    let bench = Bench::conversation(false);
    let host = host(&bench).await;
    let first = soon(host.open(another(&bench, "one"))).await.unwrap();
    let mut second = soon(host.open(another(&bench, "two"))).await.unwrap();
    assert_eq!(answer(&mut *second, "the word is plum").await, "You said: the word is plum");
    let closed = soon(first.close(GRACE)).await;
    assert_eq!((closed.killed, closed.survivors), (0, 0));
    assert!(host.takes_in().await);
    assert_eq!(answer(&mut *second, "recall").await, "the word is plum");
    let third = soon(host.open(another(&bench, "three"))).await.unwrap();
    assert_eq!(third.process(), second.process());
    soon(host.close(GRACE)).await;
    bench.nothing_is_left();
}

#[tokio::test]
async fn an_agent_that_does_not_let_go_of_a_conversation_is_ended_and_the_others_hear_it() {
    let bench = Bench::conversation(false);
    let host = host(&bench).await;
    let mut deaf = soon(host.open(another(&bench, "one"))).await.unwrap();
    let mut other = soon(host.open(another(&bench, "two"))).await.unwrap();
    deaf.begin_turn("say: here\nignore cancel\nhang".into()).await.unwrap();
    assert_eq!(first_text(&mut *deaf).await, "here");
    deaf.cancel_turn();
    let grace = Duration::from_millis(200);
    let (closed, signal) = tokio::join!(soon(deaf.close(grace)), soon(other.next_signal()));
    assert_eq!(closed.survivors, 0);
    assert!(matches!(signal, AgentSignal::Exited(_)), "{signal:?}");
    assert!(!other.is_usable() && !host.takes_in().await);
    assert!(soon(host.open(another(&bench, "three"))).await.is_err(), "nobody else gets in");
    bench.nothing_is_left();
}

#[tokio::test]
async fn when_the_process_dies_every_conversation_hears_it_and_is_taken_up_elsewhere() {
    let bench = Bench::conversation(false);
    let host = host(&bench).await;
    let (one, two) = (another(&bench, "one"), another(&bench, "two"));
    let mut first = soon(host.open(one.clone())).await.unwrap();
    let mut second = soon(host.open(two)).await.unwrap();
    assert_eq!(answer(&mut *first, "the word is plum").await, "You said: the word is plum");
    second.begin_turn("crash: 3".into()).await.unwrap();
    let (_, last) = to_the_end(&mut *second).await;
    assert!(matches!(&last, AgentSignal::Exited(exit) if exit.code == Some(3)), "{last:?}");
    let signal = soon(first.next_signal()).await;
    assert!(matches!(&signal, AgentSignal::Exited(exit) if exit.code == Some(3)), "{signal:?}");
    let resume = first.resume_key();
    soon(host.close(GRACE)).await;
    bench.nothing_is_left();

    let host = self::host(&bench).await;
    let mut again = soon(host.open(OpenSpec { resume, ..one })).await.unwrap();
    assert_eq!(answer(&mut *again, "recall").await, "the word is plum");
    soon(host.close(GRACE)).await;
}

#[tokio::test]
async fn a_conversation_nobody_listens_to_loses_its_turn_and_does_not_hold_up_the_others() {
    let bench = Bench::conversation(false);
    let host = host(&bench).await;
    let mut unheard = soon(host.open(another(&bench, "one"))).await.unwrap();
    let mut other = soon(host.open(another(&bench, "two"))).await.unwrap();
    // More than is kept of what nobody looks at.
    let flood = "say: word\n".repeat(1_000);
    unheard.begin_turn(flood.as_str().into()).await.unwrap();
    assert_eq!(first_text(&mut *unheard).await, "word");
    assert_eq!(answer(&mut *other, "hello").await, "You said: hello");

    let (signals, last) = to_the_end(&mut *unheard).await;
    assert!(signals.len() < 1_000, "{}", signals.len());
    let AgentSignal::TurnEnded(TurnEnd { failure: Some(failure), .. }) = last else { panic!("{last:?}") };
    assert!(failure.kind == FailureKind::Internal && failure.message.contains("keep up"), "{failure:?}");
    assert!(!unheard.is_usable() && other.is_usable());
    assert_eq!(soon(unheard.close(GRACE)).await.killed, 0);
    assert!(host.takes_in().await, "the agent let go of it");
    assert_eq!(answer(&mut *other, "recall").await, "hello");
    soon(host.close(GRACE)).await;
    bench.nothing_is_left();
}

#[tokio::test]
async fn a_flood_that_is_listened_to_is_taken_in_whole() {
    let bench = Bench::conversation(false);
    let host = host(&bench).await;
    let mut flooded = soon(host.open(another(&bench, "one"))).await.unwrap();
    flooded.begin_turn("say: word\n".repeat(3_000).as_str().into()).await.unwrap();
    let (signals, last) = to_the_end(&mut *flooded).await;
    assert!(matches!(last, AgentSignal::TurnEnded(TurnEnd { failure: None, .. })), "{last:?}");
    assert_eq!(signals.iter().filter(|signal| matches!(signal, AgentSignal::Text(_))).count(), 3_000);
    soon(host.close(GRACE)).await;
}

/// An agent that notes what it hears. It begins a conversation when there is a file `go`, and closes one unless there
/// is a file `deaf`.
const NOTES: &str = r#"cd "${0%/*}" || exit 9
while read -r line; do
id=$(printf '%s' "$line" | sed 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/')
printf '%s\n' "$line" | sed 's/.*"method":"\([^"]*\)".*/\1/' >> heard
answer='{}'
case "$line" in
*'"initialize"'*) answer='{"protocolVersion":1,"agentCapabilities":{"sessionCapabilities":{"close":{}}}}' ;;
*'"session/new"'*) while ! [ -e go ]; do sleep 0.02; done; answer='{"sessionId":"s1"}' ;;
*'"session/close"'*) while [ -e deaf ]; do sleep 0.02; done ;;
esac
printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$answer"
done"#;

fn heard(bench: &Bench) -> Vec<String> {
    let heard = std::fs::read_to_string(bench.folder.path().join("heard")).unwrap_or_default();
    heard.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_conversation_whose_choices_are_refused_is_closed_or_nobody_else_gets_in() {
    for deaf in [false, true] {
        let bench = Bench::script(NOTES);
        std::fs::write(bench.folder.path().join("go"), "").unwrap();
        if deaf {
            std::fs::write(bench.folder.path().join("deaf"), "").unwrap();
        }
        let host = host(&bench).await;
        // It offers no choice of models, and the specification of the bench names one.
        let failure = soon(host.open(another(&bench, "one"))).await.err().unwrap();
        assert_eq!(failure.kind, FailureKind::UnknownModel);
        assert_eq!(heard(&bench), ["initialize", "session/new", "session/close"]);
        assert_eq!(host.takes_in().await, !deaf);
        soon(host.close(GRACE)).await;
        bench.nothing_is_left();
    }
}

#[tokio::test]
async fn a_conversation_that_is_given_up_while_it_begins_is_closed_or_nobody_else_gets_in() {
    for begins in [true, false] {
        let bench = Bench::script(NOTES);
        let host = host(&bench).await;
        let spec = OpenSpec { model: None, ..another(&bench, "one") };
        let given_up = spec.given_up.clone();
        let give_up = async {
            soon(async {
                while heard(&bench).len() < 2 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            given_up.cancel();
            if begins {
                std::fs::write(bench.folder.path().join("go"), "").unwrap();
            }
        };
        let (opened, ()) = tokio::join!(soon(host.open(spec)), give_up);
        assert_eq!(opened.err().unwrap().kind, FailureKind::Interrupted);
        assert_eq!(heard(&bench).last().map(String::as_str) == Some("session/close"), begins);
        assert_eq!(host.takes_in().await, begins);
        soon(host.close(GRACE)).await;
        bench.nothing_is_left();
    }
}

#[tokio::test]
async fn a_conversation_whose_opening_is_dropped_keeps_others_out() {
    let bench = Bench::script(NOTES);
    let host = host(&bench).await;
    let spec = another(&bench, "one");
    tokio::select! {
        _ = host.open(spec) => panic!("it cannot begin"),
        () = soon(async {
            while heard(&bench).len() < 2 {
                tokio::task::yield_now().await;
            }
        }) => {}
    }
    assert!(!host.takes_in().await);
    soon(host.close(GRACE)).await;
    bench.nothing_is_left();
}
