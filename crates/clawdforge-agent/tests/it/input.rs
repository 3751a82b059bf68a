//! Large prompts, deaf agents, floods and garbage: nothing stalls and nothing is lost.

use std::time::Duration;

use clawdforge_core::agent::AgentSignal;

use crate::support::{Bench, GRACE, soon, to_the_end};

#[tokio::test]
async fn a_prompt_of_577_kilobytes_arrives_whole() {
    let prompt = "x".repeat(577 * 1024);
    assert_eq!(Bench::demo().answer(&prompt).await, format!("You said {} characters.", prompt.len()));
}

#[tokio::test]
async fn an_agent_that_writes_before_it_reads_stalls_nothing() {
    let bench = Bench::script(
        r#"yes '{"type":"system","subtype":"status"}' | head -n 30000; n=$(wc -c)
        echo '{"type":"result","is_error":false,"result":"'$n'"}'"#,
    );
    assert_eq!(bench.answer(&"x".repeat(577 * 1024)).await.trim(), (577 * 1024).to_string());
}

#[tokio::test]
async fn an_agent_that_never_reads_may_answer_all_the_same() {
    let bench = Bench::script(r#"echo '{"type":"result","is_error":false,"result":"deaf"}'; exec sleep 60"#);
    assert_eq!(bench.answer(&"x".repeat(577 * 1024)).await, "deaf");
}

#[tokio::test]
async fn an_agent_that_never_reads_and_never_answers_can_be_closed() {
    let bench = Bench::script("exec sleep 60");
    let mut link = bench.begin(&"x".repeat(577 * 1024)).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(200), link.next_signal()).await.is_err());
    soon(link.close(GRACE)).await;
    bench.nothing_is_left();
}

#[tokio::test]
async fn an_agent_that_closes_its_input_early_is_heard_to_the_end() {
    let bench = Bench::script("exec <&-\necho '{\"type\":\"result\",\"is_error\":false,\"result\":\"enough\"}'");
    assert_eq!(bench.answer(&"x".repeat(577 * 1024)).await, "enough");
}

#[tokio::test]
async fn a_flood_is_read_to_its_answer() {
    let turn = Bench::demo().turn("flood: 5000\nsay: done").await;
    let texts = turn.signals.iter().filter(|signal| matches!(signal, AgentSignal::Text(_))).count();
    assert_eq!(texts, 5_001);
    assert_eq!(turn.end().answer.as_deref(), Some("done"));
}

#[tokio::test]
async fn garbage_is_shown_cut_and_the_answer_still_counts() {
    let turn = Bench::demo().turn("garbage\nsay: fine").await;
    let shown: Vec<&str> = turn
        .signals
        .iter()
        .filter_map(|signal| match signal {
            AgentSignal::Unrecognised { raw } => Some(raw.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(shown.len(), 4, "{shown:?}");
    assert!(shown[0].contains("not text"));
    assert!(shown[3].starts_with("[a line of 33619968 bytes] xxx") && shown[3].len() < 5000, "{}", shown[3]);
    assert_eq!(turn.end().answer.as_deref(), Some("fine"));
}

#[tokio::test]
async fn a_long_silence_of_words_still_shows_signs_of_life() {
    let turn = Bench::demo().turn("chatter: 400\nsay: done").await;
    let signs = turn.signals.iter().filter(|signal| **signal == AgentSignal::Working).count();
    assert!(signs >= 4, "{signs}");
}

#[tokio::test]
async fn waiting_that_is_given_up_again_and_again_loses_no_signal() {
    let bench = Bench::demo();
    let prompt = format!("flood: 2000\nsay: done\n{}", "x".repeat(577 * 1024));
    let mut link = bench.begin(&prompt).await.unwrap();
    let mut texts = 0;
    let last = soon(async {
        loop {
            match tokio::time::timeout(Duration::from_micros(50), link.next_signal()).await {
                Ok(AgentSignal::Text(_)) => texts += 1,
                Ok(last @ (AgentSignal::TurnEnded(_) | AgentSignal::Exited(_))) => break last,
                Ok(_) | Err(_) => {}
            }
        }
    })
    .await;
    assert_eq!(texts, 2001);
    assert!(matches!(last, AgentSignal::TurnEnded(_)), "{last:?}");
    soon(link.close(GRACE)).await;
}

#[tokio::test]
async fn many_turns_at_once_do_not_mix() {
    let benches: Vec<Bench> = (0..8).map(|_| Bench::demo()).collect();
    let mut links = Vec::new();
    for (number, bench) in benches.iter().enumerate() {
        links.push(bench.begin(&format!("sleep: 50\nsay: number {number}")).await.unwrap());
    }
    for (number, mut link) in links.into_iter().enumerate() {
        let (_, last) = to_the_end(&mut *link).await;
        let AgentSignal::TurnEnded(end) = last else { panic!("{last:?}") };
        assert_eq!(end.answer, Some(format!("number {number}")));
        soon(link.close(GRACE)).await;
    }
}
