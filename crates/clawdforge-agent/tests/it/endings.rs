//! Nothing of an agent outlives its link.

use clawdforge_core::agent::AgentSignal;

use crate::support::{Bench, GRACE, first_text, soon, to_the_end};

#[tokio::test]
async fn a_hanging_agent_is_ended_politely() {
    let bench = Bench::demo();
    let mut link = bench.begin("say: here\nhang").await.unwrap();
    first_text(&mut *link).await;
    assert_eq!(bench.alive(), [link.process().unwrap().split(':').next().unwrap()]);
    let closed = soon(link.close(GRACE)).await;
    assert_eq!((closed.killed, closed.survivors), (0, 0));
    bench.nothing_is_left();
}

#[tokio::test]
async fn an_agent_that_ignores_the_polite_way_is_killed() {
    let bench = Bench::demo();
    let mut link = bench.begin("ignore term\nsay: deaf\nhang").await.unwrap();
    first_text(&mut *link).await;
    let closed = soon(link.close(std::time::Duration::from_millis(100))).await;
    assert_eq!((closed.killed, closed.survivors), (1, 0));
    bench.nothing_is_left();
}

#[tokio::test]
async fn a_grandchild_in_a_session_of_its_own_is_gone_after_the_answer() {
    let bench = Bench::demo();
    let mut link = bench.begin("grandchild").await.unwrap();
    let (_, last) = to_the_end(&mut *link).await;
    let AgentSignal::TurnEnded(end) = last else { panic!("{last:?}") };
    let pid = end.answer.unwrap();
    assert!(bench.alive().contains(&pid), "it outlives the answer: {:?}", bench.alive());
    let closed = soon(link.close(GRACE)).await;
    assert_eq!((closed.killed, closed.survivors), (1, 0));
    bench.nothing_is_left();
}

#[tokio::test]
async fn a_grandchild_that_holds_the_output_open_holds_no_turn_up() {
    let bench = Bench::demo();
    let turn = bench.turn("grandchild\nsay: bye\ncrash: 7").await;
    assert!(turn.signals.contains(&AgentSignal::Text("bye".into())));
    assert_eq!(turn.closed.killed, 1);
    assert_eq!(turn.exit().code, Some(7));
}

#[tokio::test]
async fn an_agent_that_closes_its_output_is_over() {
    let exit = Bench::demo().turn("close stdout\ncrash: 4").await.exit();
    assert_eq!(exit.code, Some(4));
    let exit = Bench::demo().turn("close stdout\nhang").await.exit();
    assert_eq!((exit.code, exit.signal), (None, None), "it lives on, and is ended with the link");
}

#[tokio::test]
async fn a_link_that_was_given_nothing_closes_at_once() {
    use clawdforge_agent::AgentDriver;
    let bench = Bench::demo();
    let link = bench.driver().open(bench.spec.clone()).await.unwrap();
    assert_eq!(link.process(), None);
    assert_eq!(link.close(GRACE).await, clawdforge_agent::CloseReport::default());
}

#[tokio::test]
async fn a_link_that_is_dropped_takes_its_processes_along() {
    let bench = Bench::demo();
    let mut link = bench.begin("grandchild\nhang").await.unwrap();
    first_text(&mut *link).await;
    drop(link);
    bench.all_gone().await;
}
