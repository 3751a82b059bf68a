//! The judge is shown a campaign in which everything held, and then each way in which it could not have.

use super::super::evidence::{Line, Seen, Told};
use super::*;

const SESSION: &str = "ses_a";

fn turn(index: u64) -> TurnName {
    TurnName { session: SESSION.to_owned(), index }
}

fn line(seq: u64, index: u64, outcome: Option<&str>) -> Line {
    Line { seq, turn: turn(index), outcome: outcome.map(str::to_owned) }
}

fn told(word: &str, answer: Answer) -> Told {
    Told { word: word.to_owned(), session: SESSION.to_owned(), crashes: false, answer }
}

fn seen(seq: u64, turn: &str, what: Happening) -> Seen {
    Seen { seq, turn: turn.to_owned(), what }
}

fn prompt(word: &str) -> Happening {
    Happening::Prompt(word.to_owned())
}

fn end(outcome: &str, said: &str) -> Happening {
    Happening::End { outcome: outcome.to_owned(), said: said.to_owned() }
}

/// A turn that was answered, one that was interrupted, and one whose caller heard nothing but that was done.
fn good() -> Evidence {
    let found = Found {
        events: vec![
            seen(1, "t1", prompt("one")),
            seen(2, "t1", Happening::Other),
            seen(3, "t1", end(COMPLETED, "one")),
            seen(4, "t2", prompt("two")),
            seen(5, "t2", end(INTERRUPTED, "")),
            seen(6, "t3", prompt("three")),
            seen(7, "t3", end(COMPLETED, "three")),
        ],
        notes: vec!["one".to_owned(), "two".to_owned(), "three".to_owned()],
    };
    Evidence {
        ledger: vec![
            line(10, 1, None),
            line(11, 2, None),
            line(12, 1, Some(COMPLETED)),
            line(13, 3, None),
            line(15, 2, Some(INTERRUPTED)),
            line(16, 3, Some(COMPLETED)),
        ],
        told: vec![
            told("one", Answer::Completed { index: 1, said: "one".to_owned() }),
            told("two", Answer::Silence),
            told("three", Answer::Silence),
            told("four", Answer::Silence),
            told("five", Answer::Refused),
        ],
        sessions: BTreeMap::from([(SESSION.to_owned(), found)]),
    }
}

/// What is found when the good campaign is spoilt in one way.
fn spoilt(spoil: impl FnOnce(&mut Evidence)) -> Vec<Broken> {
    let mut evidence = good();
    spoil(&mut evidence);
    let mut broken: Vec<_> = faults(&evidence).into_iter().map(|fault| fault.broken).collect();
    broken.sort_unstable();
    broken.dedup();
    broken
}

fn found(evidence: &mut Evidence) -> &mut Found {
    evidence.sessions.get_mut(SESSION).unwrap()
}

#[test]
fn a_campaign_in_which_everything_held_has_no_fault() {
    assert_eq!(faults(&good()), []);
}

#[test]
fn a_turn_without_an_outcome_is_lost() {
    let broken = spoilt(|evidence| {
        evidence.ledger.pop();
        found(evidence).events.pop();
    });
    assert_eq!(broken, [Broken::Lost]);
}

#[test]
fn an_answered_turn_that_is_not_on_record_is_lost() {
    assert!(
        spoilt(|evidence| evidence.told[3].answer = Answer::Completed { index: 4, said: "four".to_owned() })
            .contains(&Broken::Lost)
    );
    assert_eq!(
        spoilt(|evidence| evidence.told[1].answer = Answer::Completed { index: 2, said: "two".to_owned() }),
        [Broken::Lost]
    );
    assert_eq!(
        spoilt(|evidence| evidence.told[2].answer = Answer::Completed { index: 2, said: "three".to_owned() }),
        [Broken::Lost]
    );
}

#[test]
fn an_accepted_turn_that_never_began_and_a_completed_one_that_no_agent_saw_are_lost() {
    let never_began = spoilt(|evidence| {
        evidence.ledger.extend([line(17, 4, None), line(18, 4, Some(INTERRUPTED))]);
    });
    assert_eq!(never_began, [Broken::Lost]);
    assert_eq!(spoilt(|evidence| drop(found(evidence).notes.pop())), [Broken::Lost]);
    // An interrupted one need not have reached it.
    assert_eq!(spoilt(|evidence| drop(found(evidence).notes.remove(1))), []);
}

#[test]
fn a_prompt_that_reached_the_agent_twice_is_duplicated() {
    assert_eq!(spoilt(|evidence| found(evidence).notes.push("two".to_owned())), [Broken::Duplicated]);
}

#[test]
fn a_turn_that_was_accepted_or_ended_twice_is_duplicated() {
    assert_eq!(spoilt(|evidence| evidence.ledger.push(line(17, 3, Some(COMPLETED)))), [Broken::Duplicated]);
    assert_eq!(spoilt(|evidence| evidence.ledger.push(line(17, 3, None))), [Broken::Duplicated]);
}

#[test]
fn a_prompt_that_is_two_turns_is_duplicated() {
    let broken = spoilt(|evidence| {
        evidence.ledger.extend([line(17, 4, None), line(18, 4, Some(INTERRUPTED))]);
        found(evidence).events.extend([seen(8, "t4", prompt("three")), seen(9, "t4", end(INTERRUPTED, ""))]);
    });
    assert!(broken.contains(&Broken::Duplicated), "{broken:?}");
}

#[test]
fn numbers_that_do_not_follow_on_are_a_gap() {
    for place in [0, 1, 6] {
        assert_eq!(spoilt(|evidence| found(evidence).events[place].seq += 1), [Broken::Gap], "event {place}");
    }
    assert_eq!(spoilt(|evidence| drop(found(evidence).events.remove(1))), [Broken::Gap]);
    assert!(spoilt(|evidence| evidence.ledger[1].seq = 9).contains(&Broken::Gap));
    let broken = spoilt(|evidence| {
        for place in [3, 5] {
            evidence.ledger[place].turn.index = 4;
        }
    });
    assert!(broken.contains(&Broken::Gap), "{broken:?}");
}

#[test]
fn sides_that_say_different_things_contradict_each_other() {
    let spoil: [fn(&mut Evidence); 9] = [
        |evidence| evidence.told[0].answer = Answer::Completed { index: 1, said: "two".to_owned() },
        |evidence| evidence.told[1].answer = Answer::Failed { index: 2, code: "agent_crashed".to_owned() },
        |evidence| evidence.told[2].answer = Answer::Refused,
        |evidence| evidence.told[3].answer = Answer::Odd("500".to_owned()),
        |evidence| evidence.ledger[5].outcome = Some(INTERRUPTED.to_owned()),
        |evidence| drop(evidence.told.remove(2)),
        |evidence| found(evidence).notes.push("four".to_owned()),
        |evidence| found(evidence).events[1].turn = "t9".to_owned(),
        |evidence| found(evidence).events[6].what = end(COMPLETED, "one"),
    ];
    for (place, spoil) in spoil.into_iter().enumerate() {
        assert!(spoilt(spoil).contains(&Broken::Contradiction), "number {place}");
    }
}

#[test]
fn an_outcome_that_the_prompt_did_not_ask_for_is_told() {
    let broken = spoilt(|evidence| {
        evidence.ledger[4].outcome = Some("agent_timeout".to_owned());
        found(evidence).events[4].what = end("agent_timeout", "");
    });
    assert_eq!(broken, [Broken::Contradiction]);
    assert_eq!(spoilt(|evidence| evidence.told[0].crashes = true), [Broken::Contradiction]);
}

#[test]
fn a_turn_that_begins_before_the_last_has_ended_is_told() {
    let broken = spoilt(|evidence| {
        let events = &mut found(evidence).events;
        events.swap(4, 5);
        (events[4].seq, events[5].seq) = (5, 6);
    });
    assert!(broken.contains(&Broken::Contradiction), "{broken:?}");
}
