//! Stories of a turn: inputs and the effects they must give.

use proptest::prelude::*;

use super::*;
use crate::limits::{EVENT_TEXT_BYTES_MAX, NAME_BYTES_MAX};

mod outputs;

const LIMITS: TurnLimits = TurnLimits { total: Duration::from_secs(120), silence: Duration::from_secs(30) };

/// Plays a story and gives the effects of each input, the start's first, in a short notation.
fn play(inputs: Vec<Input>) -> Vec<String> {
    play_with(AfterTurn::Close, inputs)
}

/// As [`play`], a turn of a conversation, whose link is kept.
fn play_kept(inputs: Vec<Input>) -> Vec<String> {
    play_with(AfterTurn::Keep, inputs)
}

fn play_with(after: AfterTurn, inputs: Vec<Input>) -> Vec<String> {
    play_as(after, OnContextLoss::Rebuild, inputs)
}

fn play_as(after: AfterTurn, on_loss: OnContextLoss, inputs: Vec<Input>) -> Vec<String> {
    let (mut machine, effects) = TurnMachine::start(LIMITS, after, on_loss);
    let mut shown = vec![show(&effects)];
    shown.extend(inputs.into_iter().map(|input| show(&machine.step(input))));
    shown
}

fn show(effects: &[Effect]) -> String {
    let one = |effect: &Effect| match effect {
        Effect::Record(body) => {
            format!("record {}", serde_json::to_value(body).unwrap()["type"].as_str().unwrap())
        }
        Effect::SetTimer(timer, after) => format!("{timer:?} in {}", after.as_secs()),
        Effect::RecordEnd(end, _) => {
            format!("end {}", end.failure.as_ref().map_or("completed", |failure| failure.kind.code()))
        }
        other => format!("{other:?}"),
    };
    effects.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn answer(text: &str) -> Input {
    Input::Signal(AgentSignal::TurnEnded(TurnEnd { answer: Some(text.to_owned()), ..TurnEnd::default() }))
}

fn closed() -> Input {
    Input::LinkClosed { stderr: String::new() }
}

#[test]
fn a_full_workspace_ends_a_run_and_cancels_a_turn_whose_agent_is_kept() {
    let full = || Input::WorkspaceFull(Failure::new(FailureKind::WorkspaceFull, "full"));
    assert_eq!(play(vec![Input::LinkOpened, full(), closed()])[2..], ["CloseLink", "end workspace_full, Stop"]);
    let story = play_kept(vec![Input::LinkOpened, full(), full(), answer("late")]);
    assert!(story[2].starts_with("CancelTurn"), "{story:?}");
    assert_eq!(story[3..], ["", "end workspace_full, Stop"], "told once");
}

#[test]
fn an_answer_is_recorded_before_the_process_is_waited_for() {
    let text = Input::Signal(AgentSignal::Text("hi".to_owned()));
    assert_eq!(
        play(vec![Input::LinkOpened, text, answer("hi"), closed()]),
        [
            "record started, Total in 120, Silence in 30, OpenLink",
            "BeginTurn",
            "record text, Silence in 30",
            "end completed, CloseLink",
            "Stop"
        ]
    );
}

#[test]
fn a_timeout_is_recorded_only_after_the_tree_is_gone() {
    let story = play(vec![Input::LinkOpened, Input::TimerFired(Timer::Total), answer("late"), closed()]);
    assert_eq!(story[2..], ["CloseLink", "", "end timed_out, Stop"]);
}

#[test]
fn silence_a_drain_and_a_refused_record_end_the_tree_first() {
    for (input, code) in [
        (Input::TimerFired(Timer::Silence), "end silent, Stop"),
        (Input::DrainExpired, "end interrupted, Stop"),
        (Input::RecordRefused, "end internal, Stop"),
    ] {
        assert_eq!(play(vec![Input::LinkOpened, input, closed()])[2..], ["CloseLink", code]);
    }
}

#[test]
fn a_link_that_is_kept_outlives_the_answer() {
    assert_eq!(
        play_kept(vec![Input::LinkOpened, answer("hi"), answer("late")])[1..],
        ["BeginTurn", "end completed, Stop", ""]
    );
}

#[test]
fn an_agent_whose_link_is_kept_is_told_to_stop_and_the_turn_ends_with_its_word_and_our_reason() {
    for (timer, code) in [(Timer::Total, "timed_out"), (Timer::Silence, "silent")] {
        let text = Input::Signal(AgentSignal::Text("hi".to_owned()));
        let story = play_kept(vec![Input::LinkOpened, Input::TimerFired(timer), text, answer("part")]);
        let end = format!("end {code}, Stop");
        assert_eq!(story[2..], ["CancelTurn, Cancel in 10", "record text, Silence in 30", end.as_str()]);
    }
}

#[test]
fn an_agent_that_does_not_stop_when_told_to_or_dies_of_it_loses_its_process_first() {
    for input in [Input::TimerFired(Timer::Cancel), Input::Signal(AgentSignal::Exited(Exit::default()))] {
        let silent = Input::TimerFired(Timer::Silence);
        let story = play_kept(vec![Input::LinkOpened, Input::TimerFired(Timer::Total), silent, input, closed()]);
        assert_eq!(story[3..], ["", "CloseLink", "end timed_out, Stop"]);
    }
}

#[test]
fn a_cancel_stops_a_turn_whose_agent_stays_and_ends_the_process_of_one_that_does_not() {
    let story = play_kept(vec![Input::LinkOpened, Input::CancelAsked, Input::CancelAsked, answer("part")]);
    assert_eq!(story[2..], ["CancelTurn, Cancel in 10", "", "end cancelled, Stop"]);
    let story = play(vec![Input::LinkOpened, Input::CancelAsked, closed()]);
    assert_eq!(story[2..], ["CloseLink", "end cancelled, Stop"]);
}

#[test]
fn a_cancel_while_opening_ends_what_is_opened_late() {
    let story = play_kept(vec![Input::CancelAsked, Input::LinkOpened, closed()]);
    assert_eq!(story[1..], ["CloseLink", "CloseLink", "end cancelled, Stop"]);
}

#[test]
fn a_close_ends_the_process_before_the_turn_is_recorded_as_ended() {
    for begun in [vec![Input::LinkOpened], vec![Input::LinkOpened, Input::TimerFired(Timer::Total)]] {
        let mut inputs = begun;
        inputs.extend([Input::SessionClosed, closed()]);
        let story = play_kept(inputs);
        assert_eq!(story[story.len() - 2..], ["CloseLink", "end session_closed, Stop"]);
    }
}

#[test]
fn a_drain_while_opening_closes_a_link_that_opens_late() {
    let story = play(vec![Input::DrainExpired, Input::LinkOpened, closed()]);
    assert_eq!(story[1..], ["CloseLink", "CloseLink", "end interrupted, Stop"]);
}

#[test]
fn a_drain_while_opening_still_ends_when_opening_fails() {
    let failed = Input::OpenFailed(Failure::new(FailureKind::NotInstalled, "no"));
    let story = play(vec![Input::DrainExpired, failed, closed()]);
    assert_eq!(story[1..], ["CloseLink", "CloseLink", "end interrupted, Stop"]);
}

#[test]
fn an_agent_that_dies_without_an_answer_is_a_crash_with_its_last_words() {
    let exit = Exit { code: Some(3), signal: None, stderr: "noise\nboom: no disk\n\n".to_owned() };
    let (mut machine, _) = TurnMachine::start(LIMITS, AfterTurn::Close, OnContextLoss::Rebuild);
    machine.step(Input::LinkOpened);
    assert_eq!(machine.step(Input::Signal(AgentSignal::Exited(exit))), [Effect::CloseLink]);
    let effects = machine.step(closed());
    let Effect::RecordEnd(end, 0) = &effects[0] else { panic!("{effects:?}") };
    let failure = end.failure.as_ref().unwrap();
    assert_eq!(failure.kind, FailureKind::Crashed);
    assert_eq!(failure.message, "the agent exited with code 3 without an answer: boom: no disk");
    assert!(end.stderr.contains("noise"));
}

#[test]
fn an_agent_that_dies_between_two_events_of_a_turn_loses_nothing_it_had_said() {
    let text = |said: &str| Input::Signal(AgentSignal::Text(said.to_owned()));
    let dies = || Input::Signal(AgentSignal::Exited(Exit { code: Some(1), ..Exit::default() }));
    for play in [play, play_kept] {
        let story = play(vec![Input::LinkOpened, text("one"), dies(), text("late"), closed()]);
        assert_eq!(story[2..], ["record text, Silence in 30", "CloseLink", "", "end agent_crashed, Stop"]);
    }
}

/// A question is answered where it is asked, so all that a turn sees of one is an agent at work on a tool that does not end.
#[test]
fn a_cancel_while_a_tool_waits_for_its_permission_asks_the_agent_to_stop_and_takes_its_word() {
    let asks = || Input::Signal(AgentSignal::Working);
    let story = play_kept(vec![Input::LinkOpened, asks(), Input::CancelAsked, asks(), answer("part")]);
    assert_eq!(story[2..], ["Silence in 30", "CancelTurn, Cancel in 10", "Silence in 30", "end cancelled, Stop"]);
    let ends =
        play_kept(vec![Input::LinkOpened, asks(), Input::CancelAsked, Input::TimerFired(Timer::Cancel), closed()]);
    assert_eq!(ends[4..], ["CloseLink", "end cancelled, Stop"]);
}

#[test]
fn a_flood_of_events_is_counted_but_not_kept_and_the_answer_still_counts() {
    let (mut machine, _) = TurnMachine::start(LIMITS, AfterTurn::Close, OnContextLoss::Rebuild);
    machine.step(Input::LinkOpened);
    let mut kept = 1;
    for _ in 0..EVENTS_PER_TURN_MAX + 10 {
        let effects = machine.step(Input::Signal(AgentSignal::Text("x".to_owned())));
        kept += effects.iter().filter(|effect| matches!(effect, Effect::Record(_))).count() as u64;
    }
    assert_eq!(kept, EVENTS_PER_TURN_MAX);
    let effects = machine.step(answer("done"));
    assert!(matches!(&effects[0], Effect::RecordEnd(end, 11) if end.answer.as_deref() == Some("done")), "{effects:?}");
}

#[test]
fn a_turn_of_heavy_events_is_bounded_in_bytes_and_whole_up_to_where_it_is_cut() {
    let (mut machine, _) = TurnMachine::start(LIMITS, AfterTurn::Close, OnContextLoss::Rebuild);
    machine.step(Input::LinkOpened);
    let text = |bytes: usize| Input::Signal(AgentSignal::Text("x".repeat(bytes)));
    let mut kept = 0;
    for _ in 0..EVENT_BYTES_PER_TURN_MAX / EVENT_TEXT_BYTES_MAX + 10 {
        let effects = machine.step(text(2 * EVENT_TEXT_BYTES_MAX));
        kept += effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Record(body) => Some(body.weight()),
                _ => None,
            })
            .sum::<usize>();
    }
    assert!(kept <= EVENT_BYTES_PER_TURN_MAX && kept > EVENT_BYTES_PER_TURN_MAX - 2 * EVENT_TEXT_BYTES_MAX, "{kept}");
    assert!(!matches!(machine.step(text(1))[0], Effect::Record(_)), "nothing follows a gap");
    let effects = machine.step(answer("done"));
    assert!(matches!(&effects[0], Effect::RecordEnd(end, dropped) if *dropped >= 10 && end.failure.is_none()));
}

#[test]
fn names_that_an_agent_makes_up_are_bounded_too() {
    let (mut machine, _) = TurnMachine::start(LIMITS, AfterTurn::Close, OnContextLoss::Rebuild);
    machine.step(Input::LinkOpened);
    let long = || "n".repeat(64 * NAME_BYTES_MAX);
    let call = AgentSignal::ToolCall { call: long(), name: long(), args: serde_json::Value::Null };
    let result = AgentSignal::ToolResult { call: long(), result: serde_json::Value::Null, failed: false };
    for signal in [call, result] {
        let effects = machine.step(Input::Signal(signal));
        assert!(matches!(&effects[0], Effect::Record(body) if body.weight() < 4 * NAME_BYTES_MAX), "{effects:?}");
    }
    let failure = Failure::new(FailureKind::Crashed, "m".repeat(2 * EVENT_TEXT_BYTES_MAX));
    let end = TurnEnd { stop_reason: Some(long()), failure: Some(failure), ..TurnEnd::default() };
    let effects = machine.step(Input::Signal(AgentSignal::TurnEnded(end)));
    let Effect::RecordEnd(end, 0) = &effects[0] else { panic!("{effects:?}") };
    assert!(end.stop_reason.as_ref().unwrap().len() < 2 * NAME_BYTES_MAX);
    assert!(end.failure.as_ref().unwrap().message.len() < EVENT_TEXT_BYTES_MAX + 40);
}

#[test]
fn an_oversized_event_is_cut_at_a_character_with_a_mark() {
    let text = "é".repeat(EVENT_TEXT_BYTES_MAX);
    let cut = cut(text);
    assert!(cut.ends_with("bytes cut]") && cut.len() < EVENT_TEXT_BYTES_MAX + 40);
    let value = cut_value(serde_json::json!({ "a": "b".repeat(EVENT_TEXT_BYTES_MAX) }));
    assert!(value.as_str().unwrap().ends_with("bytes cut]"));
    let small = serde_json::json!({ "path": "README.md" });
    assert_eq!(cut_value(small.clone()), small);
}

#[test]
fn a_lost_context_is_recorded_and_the_turn_goes_on() {
    let reset = Input::Signal(AgentSignal::ContextReset);
    assert_eq!(
        play_kept(vec![Input::LinkOpened, reset, answer("hi")])[1..],
        ["BeginTurn", "record context, Silence in 30", "end completed, Stop"]
    );
}

#[test]
fn a_lost_context_ends_the_turn_where_the_session_says_so() {
    let reset = || Input::Signal(AgentSignal::ContextReset);
    let fail = |inputs| play_as(AfterTurn::Keep, OnContextLoss::Fail, inputs);
    assert_eq!(
        fail(vec![Input::LinkOpened, reset(), reset(), answer("hi")])[1..],
        [
            "BeginTurn",
            "record context, Silence in 30, CancelTurn, Cancel in 10",
            "record context, Silence in 30",
            "end context_lost, Stop"
        ]
    );
    // An agent that goes on all the same loses its process.
    let cancel = Input::TimerFired(Timer::Cancel);
    assert_eq!(fail(vec![Input::LinkOpened, reset(), cancel, closed()])[3..], ["CloseLink", "end context_lost, Stop"]);
    // What was decided before stays the reason.
    let late = Input::TimerFired(Timer::Total);
    assert_eq!(
        fail(vec![Input::LinkOpened, late, reset(), answer("hi")])[3..],
        ["record context, Silence in 30", "end timed_out, Stop"]
    );
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::LinkOpened),
        Just(Input::OpenFailed(Failure::new(FailureKind::StartFailed, "no"))),
        Just(Input::Signal(AgentSignal::Working)),
        Just(Input::Signal(AgentSignal::Text("t".to_owned()))),
        Just(Input::Signal(AgentSignal::Unrecognised { raw: "?".to_owned() })),
        Just(answer("a")),
        Just(Input::Signal(AgentSignal::Exited(Exit::default()))),
        Just(Input::TimerFired(Timer::Total)),
        Just(Input::TimerFired(Timer::Silence)),
        Just(Input::TimerFired(Timer::Cancel)),
        Just(Input::DrainExpired),
        Just(Input::SessionClosed),
        Just(Input::CancelAsked),
        Just(Input::WorkspaceFull(Failure::new(FailureKind::WorkspaceFull, "full"))),
        Just(Input::RecordRefused),
        Just(Input::OutputChecked(Verdict::Fits(serde_json::Value::Null))),
        Just(Input::OutputChecked(Verdict::Misfits(vec![Violation::new("", "no")]))),
        Just(closed()),
        Just(Input::Signal(AgentSignal::ContextReset)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_a_turn_ends_once_and_records_nothing_after(
        keep: bool, fail: bool, data: bool, inputs in prop::collection::vec(any_input(), 0..40),
    ) {
        let after = if keep { AfterTurn::Keep } else { AfterTurn::Close };
        let on_loss = if fail { OnContextLoss::Fail } else { OnContextLoss::Rebuild };
        let (mut machine, mut effects) = TurnMachine::start(LIMITS, after, on_loss);
        if data {
            machine = machine.expecting_output();
        }
        for input in inputs {
            effects.extend(machine.step(input));
        }
        // Two ways out that every owner has: the drain, and the tree being gone.
        effects.extend(machine.step(Input::DrainExpired));
        effects.extend(machine.step(closed()));
        let ends: Vec<usize> = effects.iter().enumerate()
            .filter(|(_, effect)| matches!(effect, Effect::RecordEnd(..))).map(|(at, _)| at).collect();
        prop_assert_eq!(ends.len(), 1);
        prop_assert!(!effects[ends[0]..].iter().any(|effect| matches!(effect, Effect::Record(_))));
        prop_assert_eq!(effects.last(), Some(&Effect::Stop));
        prop_assert_eq!(effects.iter().filter(|effect| **effect == Effect::Stop).count(), 1);
        let asked_again = effects.iter().filter(|effect| matches!(effect, Effect::AskAgain(_))).count() as u64;
        let most = if data && keep { OUTPUT_RETRIES_MAX } else { 0 };
        prop_assert!(asked_again <= most);
        if let Effect::RecordEnd(end, _) = &effects[ends[0]] {
            prop_assert_eq!(end.output.is_some(), data && end.failure.is_none(), "only what fits is an output");
        }
    }
}
