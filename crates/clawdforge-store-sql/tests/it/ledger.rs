//! The ledger.

use std::time::Duration;

use clawdforge_core::agent::Usage;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_core::id::{RequestId, RunId};
use clawdforge_core::isolation::Isolation;
use clawdforge_core::ledger::{Door, FailedSignIns, LedgerEntry, LedgerFact, LedgerLine, RunFacts};
use clawdforge_core::limits::LEDGER_LINES_PER_TRIM_MAX;
use clawdforge_store::{LedgerQuery, Order};

use crate::support::{Fixture, all_lines, at, erased, file_id, line, token_id};

async fn add(fixture: &Fixture, lines: impl IntoIterator<Item = LedgerEntry>) {
    fixture.commit(Commit { ledger: lines.into_iter().collect(), ..Commit::default() }).await.unwrap();
}

fn run() -> RunFacts {
    RunFacts {
        run: RunId::from_u128(5),
        agent: "claude".into(),
        model: "opus".into(),
        isolation: Some(Isolation::Uid),
        prompt_chars: 77,
    }
}

/// A line with nothing but what all lines have.
fn bare(seq: u64, kind: &str, subject: impl ToString) -> LedgerLine {
    LedgerLine {
        seq,
        at: at(10),
        kind: kind.to_owned(),
        principal: "app".to_owned(),
        app: Some("cauldron".to_owned()),
        request_id: Some(RequestId::from_u128(9).to_string()),
        subject: Some(subject.to_string()),
        agent: None,
        model_asked: None,
        usage: Usage::default(),
        prompt_chars: None,
        answer_chars: None,
        size: None,
        duration_ms: None,
        outcome: None,
        isolation: None,
        count: None,
    }
}

#[tokio::test]
async fn every_kind_of_line_is_read_back_whole() {
    let fixture = Fixture::new().await;
    let usage = Usage {
        model: Some("claude-opus-4-1".to_owned()),
        input_tokens: Some(1),
        output_tokens: Some(2),
        cache_read_tokens: Some(3),
        cache_write_tokens: Some(4),
        cost_usd: Some(0.125),
    };
    let facts = [
        LedgerFact::TokenMinted(token_id(1)),
        LedgerFact::TokenRevoked(token_id(1)),
        LedgerFact::FileUploaded { file: file_id(1), size: 12 },
        LedgerFact::FileErased(file_id(1)),
        LedgerFact::RunAccepted(run()),
        LedgerFact::RunEnded {
            run: run(),
            usage: usage.clone(),
            answer_chars: 42,
            duration_ms: 1_500,
            outcome: "completed",
        },
        LedgerFact::RunErased(run().run),
        LedgerFact::SignInsFailed(FailedSignIns {
            from: "192.0.2.7".to_owned(),
            door: Door::Admin,
            count: 40,
            duration: Duration::from_millis(2_500),
        }),
    ];
    add(&fixture, facts.map(|fact| line(10, "cauldron", fact))).await;

    let accepted = LedgerLine {
        agent: Some("claude".to_owned()),
        model_asked: Some("opus".to_owned()),
        prompt_chars: Some(77),
        isolation: Some("uid".to_owned()),
        ..bare(5, "run_accepted", run().run)
    };
    let ended = LedgerLine {
        seq: 6,
        kind: "run_ended".to_owned(),
        usage,
        answer_chars: Some(42),
        duration_ms: Some(1_500),
        outcome: Some("completed".to_owned()),
        ..accepted.clone()
    };
    let expected = [
        bare(1, "token_minted", token_id(1)),
        bare(2, "token_revoked", token_id(1)),
        LedgerLine { size: Some(12), ..bare(3, "file_uploaded", file_id(1)) },
        bare(4, "file_erased", file_id(1)),
        accepted,
        ended,
        bare(7, "run_erased", run().run),
        LedgerLine {
            duration_ms: Some(2_500),
            outcome: Some("wrong_admin_token".to_owned()),
            count: Some(40),
            ..bare(8, "sign_ins_failed", "192.0.2.7")
        },
    ];
    assert_eq!(fixture.store().ledger.ledger(all_lines()).await.unwrap(), expected);
}

#[tokio::test]
async fn a_line_may_concern_no_app_and_no_request() {
    let fixture = Fixture::new().await;
    let lonely = LedgerEntry { app: None, request: None, principal: "service", ..line(10, "", erased(1)) };
    add(&fixture, [lonely]).await;
    let lines = fixture.store().ledger.ledger(all_lines()).await.unwrap();
    let [line] = lines.as_slice() else { panic!("one line, not {lines:?}") };
    assert_eq!((line.app.as_deref(), line.request_id.as_deref(), line.principal.as_str()), (None, None, "service"));
}

#[tokio::test]
async fn pages_in_either_order_meet_every_line_once_under_every_filter() {
    let fixture = Fixture::new().await;
    let lines = (1..=40).map(|number| {
        let app = if number % 2 == 0 { "even" } else { "odd" };
        let fact = if number % 3 == 0 { erased(number) } else { LedgerFact::FileErased(file_id(number)) };
        line(10, app, fact)
    });
    add(&fixture, lines).await;

    for app in [None, Some("even"), Some("nobody")] {
        for kind in [None, Some("run_erased"), Some("token_minted")] {
            for order in [Order::OldestFirst, Order::NewestFirst] {
                let query =
                    LedgerQuery { app: app.map(Into::into), kind: kind.map(Into::into), order, cursor: None, limit: 7 };
                let mut expected: Vec<u64> = (1..=40)
                    .filter(|number| app.is_none_or(|app| app == "even" && number % 2 == 0))
                    .filter(|number| kind.is_none_or(|kind| kind == "run_erased" && number % 3 == 0))
                    .collect();
                if order == Order::NewestFirst {
                    expected.reverse();
                }
                assert_eq!(paged(&fixture, query.clone()).await, expected, "{query:?}");
            }
        }
    }
}

async fn paged(fixture: &Fixture, mut query: LedgerQuery) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let page = fixture.store().ledger.ledger(query.clone()).await.unwrap();
        assert!(page.len() <= query.limit);
        let Some(last) = page.last() else { return numbers };
        query.cursor = Some(last.seq);
        numbers.extend(page.iter().map(|line| line.seq));
    }
}

#[tokio::test]
async fn one_trim_erases_a_bounded_number_of_lines_oldest_first() {
    let fixture = Fixture::new().await;
    let lines = i64::try_from(LEDGER_LINES_PER_TRIM_MAX).unwrap() + 2;
    add(&fixture, (0..lines).rev().map(|second| line(second, "cauldron", erased(1)))).await;
    fixture.write([Write::TrimLedger(at(lines))]).await.unwrap();
    assert_eq!(paged(&fixture, all_lines()).await, [1, 2], "the two newest, which were written first");
    fixture.write([Write::TrimLedger(at(lines))]).await.unwrap();
    assert_eq!(paged(&fixture, all_lines()).await, [0u64; 0]);
}

#[tokio::test]
async fn trimmed_lines_go_by_their_time_and_their_numbers_never_return() {
    let fixture = Fixture::new().await;
    add(&fixture, [10, 20, 30].map(|seconds| line(seconds, "cauldron", erased(1)))).await;
    let has_lines_before = async |second| fixture.store().ledger.has_lines_before(at(second)).await.unwrap();
    assert!(has_lines_before(30).await && !has_lines_before(10).await);
    fixture.write([Write::TrimLedger(at(30))]).await.unwrap();
    assert_eq!(paged(&fixture, all_lines()).await, [3]);
    assert!(!has_lines_before(30).await);

    fixture.write([Write::TrimLedger(at(31))]).await.unwrap();
    assert_eq!(paged(&fixture, all_lines()).await, [0u64; 0]);
    add(&fixture, [line(40, "cauldron", erased(1))]).await;
    assert_eq!(paged(&fixture, all_lines()).await, [4]);
}

#[tokio::test]
async fn usage_that_adds_up_to_more_than_a_number_holds_is_told_as_the_largest() {
    let fixture = Fixture::new().await;
    let ended = |tokens| {
        let usage = Usage { input_tokens: Some(tokens), output_tokens: Some(2), ..Usage::default() };
        let fact = LedgerFact::RunEnded { run: run(), usage, answer_chars: 0, duration_ms: 0, outcome: "completed" };
        line(10, "cauldron", fact)
    };
    add(&fixture, [ended(u64::MAX), ended(u64::MAX), ended(1)]).await;
    let sum = fixture.store().ledger.usage(&"cauldron".parse().unwrap(), None, None).await.unwrap();
    assert_eq!((sum.runs, sum.input_tokens, sum.output_tokens), (3, i64::MAX.unsigned_abs(), 6));
}
