//! Stories of turns whose answer is to fit a schema.

use serde_json::{Value, json};

use super::*;

fn play(after: AfterTurn, inputs: Vec<Input>) -> (Vec<String>, Option<TurnEnd>) {
    let (machine, effects) = TurnMachine::start(LIMITS, after, OnContextLoss::Rebuild);
    let mut machine = machine.expecting_output();
    let (mut shown, mut end) = (vec![show(&effects)], None);
    for input in inputs {
        let effects = machine.step(input);
        shown.push(brief(&effects));
        for effect in effects {
            if let Effect::RecordEnd(recorded, _) = effect {
                end = Some(recorded);
            }
        }
    }
    (shown, end)
}

/// As [`show`], without what is in a check or a prompt.
fn brief(effects: &[Effect]) -> String {
    let one = |effect: &Effect| match effect {
        Effect::CheckOutput(_) => "check".to_owned(),
        Effect::AskAgain(_) => "ask again".to_owned(),
        other => show(std::slice::from_ref(other)),
    };
    effects.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn used(answer: &str, tokens: u64) -> Input {
    let usage = Usage { output_tokens: Some(tokens), cost_usd: Some(0.5), ..Usage::default() };
    Input::Signal(AgentSignal::TurnEnded(TurnEnd { answer: Some(answer.to_owned()), usage, ..TurnEnd::default() }))
}

fn fits(value: Value) -> Input {
    Input::OutputChecked(Verdict::Fits(value))
}

fn misfits(path: &str) -> Input {
    Input::OutputChecked(Verdict::Misfits(vec![Violation::new(path, "is no number")]))
}

#[test]
fn an_answer_that_fits_is_recorded_as_data_once_it_was_looked_at() {
    let (story, end) = play(AfterTurn::Keep, vec![Input::LinkOpened, used("7", 1), fits(json!(7))]);
    assert_eq!(story[1..], ["BeginTurn", "check", "end completed, Stop"]);
    let end = end.unwrap();
    assert_eq!((end.answer.as_deref(), end.output), (Some("7"), Some(Box::new(json!(7)))));
    let (story, _) = play(AfterTurn::Close, vec![Input::LinkOpened, used("7", 1), fits(json!(7)), closed()]);
    assert_eq!(story[2..], ["check", "end completed, CloseLink", "Stop"]);
}

#[test]
fn an_answer_that_does_not_fit_is_asked_for_again_with_what_is_wrong_and_all_of_it_counts() {
    let inputs = vec![Input::LinkOpened, used("x", 1), misfits("/a"), used("7", 10), fits(json!(7))];
    let (story, end) = play(AfterTurn::Keep, inputs);
    let again = "record asked_again, Silence in 30, ask again";
    assert_eq!(story[2..], ["check", again, "check", "end completed, Stop"]);
    let usage = end.unwrap().usage;
    assert_eq!((usage.output_tokens, usage.cost_usd), (Some(11), Some(1.0)));

    let (machine, _) = TurnMachine::start(LIMITS, AfterTurn::Keep, OnContextLoss::Rebuild);
    let mut machine = machine.expecting_output();
    machine.step(Input::LinkOpened);
    machine.step(used("x", 1));
    let effects = machine.step(misfits("/a"));
    let [Effect::Record(EventBody::AskedAgain { attempt: 1, violations, text }), _, Effect::AskAgain(asked)] =
        &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((violations[0].path.as_str(), asked), ("/a", text), "the log has what was sent");
    assert!(text.contains("- at \"/a\": is no number"), "{text}");
}

#[test]
fn what_never_fits_ends_as_invalid_with_what_is_wrong_and_the_answer() {
    let mut inputs = vec![Input::LinkOpened];
    for attempt in 0..=OUTPUT_RETRIES_MAX {
        inputs.extend([used("x", 1), misfits(&format!("/{attempt}"))]);
    }
    let (story, end) = play(AfterTurn::Keep, inputs);
    assert_eq!(story.last().unwrap(), "end output_invalid, Stop");
    assert_eq!(story.iter().filter(|effects| effects.contains("ask again")).count() as u64, OUTPUT_RETRIES_MAX);
    let end = end.unwrap();
    let failure = end.failure.unwrap();
    assert_eq!(failure.violations, [Violation::new("/2", "is no number")], "of the last answer");
    assert_eq!(failure.message, "none of 3 answers fits output_schema; the last one does not, at \"/2\": is no number");
    assert_eq!((end.answer.as_deref(), end.output, end.usage.output_tokens), (Some("x"), None, Some(3)));
}

#[test]
fn an_agent_that_takes_one_prompt_only_is_not_asked_again() {
    let (story, end) = play(AfterTurn::Close, vec![Input::LinkOpened, used("x", 1), misfits(""), closed()]);
    assert_eq!(story[2..], ["check", "end output_invalid, CloseLink", "Stop"]);
    assert_eq!(end.unwrap().failure.unwrap().message, "the answer does not fit output_schema, at \"\": is no number");
}

#[test]
fn a_failure_of_the_agent_is_told_as_it_is() {
    let failure = Some(Failure::new(FailureKind::RateLimited, "later"));
    let failed = Input::Signal(AgentSignal::TurnEnded(TurnEnd { failure, ..TurnEnd::default() }));
    let (story, _) = play(AfterTurn::Keep, vec![Input::LinkOpened, failed]);
    assert_eq!(story[2..], ["end agent_rate_limited, Stop"]);
}

#[test]
fn what_ends_a_turn_between_two_answers_needs_no_agent_to_stop() {
    let full = Failure::new(FailureKind::WorkspaceFull, "full");
    for (input, end) in [
        (Input::CancelAsked, "end cancelled, Stop"),
        (Input::TimerFired(Timer::Total), "end timed_out, Stop"),
        (Input::WorkspaceFull(full), "end workspace_full, Stop"),
    ] {
        let (story, last) = play(AfterTurn::Keep, vec![Input::LinkOpened, used("7", 1), input, fits(json!(7))]);
        assert_eq!(story[2..], ["check", end, ""]);
        assert_eq!(last.unwrap().usage.output_tokens, Some(1), "what it used counts");
    }
    for (input, end) in [
        (Input::DrainExpired, "end interrupted, Stop"),
        (Input::SessionClosed, "end session_closed, Stop"),
        (Input::RecordRefused, "end internal, Stop"),
    ] {
        let (story, _) = play(AfterTurn::Keep, vec![Input::LinkOpened, used("7", 1), input, fits(json!(7)), closed()]);
        assert_eq!(story[2..], ["check", "CloseLink", "", end]);
    }
}

#[test]
fn the_time_goes_on_over_all_answers_and_a_cancel_stops_the_agent_that_was_asked_again() {
    let begun = || vec![Input::LinkOpened, used("x", 1), misfits("")];
    for (input, end) in
        [(Input::CancelAsked, "end cancelled, Stop"), (Input::TimerFired(Timer::Total), "end timed_out, Stop")]
    {
        let mut inputs = begun();
        inputs.extend([input, used("part", 10)]);
        let (story, last) = play(AfterTurn::Keep, inputs);
        assert!(!story.iter().skip(1).any(|effects| effects.contains("Total in")), "set once: {story:?}");
        assert_eq!(story[4..], ["CancelTurn, Cancel in 10", end]);
        assert_eq!(last.unwrap().usage.output_tokens, Some(11));
    }
}

#[test]
fn an_agent_that_is_gone_when_it_is_to_be_asked_again_ends_the_turn_with_that() {
    let gone = Input::Signal(AgentSignal::Exited(Exit::default()));
    let refused = Input::OpenFailed(Failure::new(FailureKind::Crashed, "gone"));
    let inputs = vec![Input::LinkOpened, used("x", 1), gone, misfits(""), refused, closed()];
    let (story, end) = play(AfterTurn::Keep, inputs);
    assert_eq!(story[2..4], ["check", ""]);
    assert_eq!(story[5..], ["CloseLink", "end agent_crashed, Stop"]);
    assert_eq!(end.unwrap().usage.output_tokens, Some(1));
}
