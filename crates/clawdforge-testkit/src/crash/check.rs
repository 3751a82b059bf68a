//! The judge: pure, so that it can be shown what it must find.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::evidence::{Answer, COMPLETED, Evidence, Found, Happening, INTERRUPTED, TurnName};

/// What a turn whose agent crashed is called in the ledger.
const CRASHED: &str = "agent_crashed";

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Broken {
    /// Something accepted has no outcome, or something that was told is not on record.
    Lost,
    /// Something happened twice.
    Duplicated,
    /// Numbers do not follow on.
    Gap,
    /// Two sides say different things.
    Contradiction,
    /// A process outlived its service.
    ProcessLeft,
}

/// A broken promise, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The promise.
    pub broken: Broken,
    /// What was found.
    pub what: String,
}

impl Fault {
    /// A fault.
    pub fn new(broken: Broken, what: impl Into<String>) -> Self {
        Self { broken, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.broken, self.what)
    }
}

/// Everything that is wrong with the evidence.
#[must_use]
pub fn faults(evidence: &Evidence) -> Vec<Fault> {
    let mut judge = Judge { evidence, outcomes: BTreeMap::new(), words: BTreeMap::new(), faults: Vec::new() };
    judge.ledger();
    for (session, found) in &evidence.sessions {
        judge.log(session, found);
    }
    judge.prompts_and_ledger();
    judge.callers();
    judge.agents();
    judge.faults
}

struct Judge<'a> {
    evidence: &'a Evidence,
    /// What the ledger says of each accepted turn.
    outcomes: BTreeMap<TurnName, Option<&'a str>>,
    /// The turn in whose log a word is the prompt.
    words: BTreeMap<&'a str, TurnName>,
    faults: Vec<Fault>,
}

impl<'a> Judge<'a> {
    fn find(&mut self, broken: Broken, what: String) {
        self.faults.push(Fault::new(broken, what));
    }

    /// Each turn is accepted once, in its place, and ends once, afterwards.
    fn ledger(&mut self) {
        let evidence = self.evidence;
        let mut before = 0;
        let mut last_of: BTreeMap<&str, u64> = BTreeMap::new();
        for line in &evidence.ledger {
            let turn = &line.turn;
            if line.seq <= before {
                self.find(Broken::Gap, format!("ledger line {} came after line {before}", line.seq));
            }
            before = line.seq;
            match (&line.outcome, self.outcomes.get(turn).copied()) {
                (None, Some(_)) => self.find(Broken::Duplicated, format!("{turn} was accepted twice")),
                (None, None) => {
                    self.outcomes.insert(turn.clone(), None);
                    let last = last_of.insert(&turn.session, turn.index).unwrap_or(0);
                    if turn.index != last + 1 {
                        self.find(Broken::Gap, format!("{turn} was accepted after turn {last}"));
                    }
                }
                (Some(_), None) => self.find(Broken::Contradiction, format!("{turn} ended and was never accepted")),
                (Some(_), Some(Some(_))) => self.find(Broken::Duplicated, format!("{turn} ended twice")),
                (Some(outcome), Some(None)) => {
                    self.outcomes.insert(turn.clone(), Some(outcome));
                }
            }
        }
        let lost: Vec<_> =
            self.outcomes.iter().filter(|(_, outcome)| outcome.is_none()).map(|(turn, _)| turn).collect();
        let lost: Vec<_> = lost.into_iter().map(|turn| format!("{turn} was accepted and has no outcome")).collect();
        for what in lost {
            self.find(Broken::Lost, what);
        }
    }

    /// Events are numbered without a gap; each turn is one prompt, what follows it, and one end, before the next.
    fn log(&mut self, session: &str, found: &'a Found) {
        let mut index = 0;
        let mut at_work: Option<&str> = None;
        let mut turns = BTreeSet::new();
        let mut due = 1;
        for event in &found.events {
            let seq = event.seq;
            if seq != due {
                self.find(Broken::Gap, format!("{session} has event {seq} where {due} should be"));
            }
            due = seq + 1;
            match &event.what {
                Happening::Prompt(word) => {
                    index += 1;
                    let turn = TurnName { session: session.to_owned(), index };
                    if at_work.replace(&event.turn).is_some() {
                        self.find(Broken::Contradiction, format!("{turn} began before the turn before it had ended"));
                    }
                    if !turns.insert(&event.turn) {
                        self.find(Broken::Duplicated, format!("{turn} is a turn of the log that began before"));
                    }
                    if let Some(other) = self.words.insert(word, turn.clone()) {
                        self.find(Broken::Duplicated, format!("{word} is the prompt of {other} and of {turn}"));
                    }
                }
                _ if at_work != Some(&event.turn) => {
                    self.find(
                        Broken::Contradiction,
                        format!("event {seq} of {session} is of a turn that is not at work"),
                    );
                }
                Happening::End { outcome, .. } => {
                    at_work = None;
                    let turn = TurnName { session: session.to_owned(), index };
                    let recorded = self.outcomes.get(&turn).copied().flatten();
                    if recorded != Some(outcome) {
                        let what = format!("{turn} ended as {outcome} in the log and as {recorded:?} in the ledger");
                        self.find(Broken::Contradiction, what);
                    }
                }
                Happening::Other => {}
            }
        }
        if let Some(turn) = at_work {
            self.find(Broken::Lost, format!("turn {turn} of {session} has no end in the log"));
        }
    }

    /// The log has the prompt of every accepted turn and of no other.
    fn prompts_and_ledger(&mut self) {
        let prompted: BTreeSet<&TurnName> = self.words.values().collect();
        let accepted: BTreeSet<&TurnName> = self.outcomes.keys().collect();
        let lost = accepted
            .difference(&prompted)
            .map(|turn| (Broken::Lost, format!("the prompt of {turn} is not in the log")));
        let extra = prompted
            .difference(&accepted)
            .map(|turn| (Broken::Contradiction, format!("{turn} began and was never accepted")));
        let found: Vec<_> = lost.chain(extra).collect();
        for (broken, what) in found {
            self.find(broken, what);
        }
    }

    /// What callers were told is what is on record.
    fn callers(&mut self) {
        let evidence = self.evidence;
        for told in &evidence.told {
            let word = &told.word;
            let turn = self.words.get(word.as_str()).cloned();
            let outcome = turn.as_ref().and_then(|turn| self.outcomes.get(turn).copied().flatten());
            let named = |index: u64| TurnName { session: told.session.clone(), index };
            match &told.answer {
                Answer::Completed { index, said } => {
                    if turn.as_ref() != Some(&named(*index)) {
                        let what = format!("{word} was answered as {} and is on record as {turn:?}", named(*index));
                        self.find(Broken::Lost, what);
                    } else if outcome != Some(COMPLETED) {
                        self.find(Broken::Lost, format!("{word} was answered and is on record as {outcome:?}"));
                    }
                    if said != word {
                        self.find(Broken::Contradiction, format!("{word} was answered with {said:?}"));
                    }
                }
                Answer::Failed { index, code } => {
                    if turn.as_ref() != Some(&named(*index)) || outcome != Some(code) {
                        let what = format!(
                            "{word} failed as {code} in {} and is on record as {turn:?}, {outcome:?}",
                            named(*index)
                        );
                        self.find(Broken::Contradiction, what);
                    }
                }
                Answer::Refused if turn.is_some() => {
                    self.find(Broken::Contradiction, format!("{word} was refused and accepted all the same"));
                }
                Answer::Refused | Answer::Silence => {}
                Answer::Odd(answer) => self.find(Broken::Contradiction, format!("{word} was answered with {answer}")),
            }
            let expected = if told.crashes { CRASHED } else { COMPLETED };
            if let Some(outcome) = outcome.filter(|outcome| *outcome != expected && *outcome != INTERRUPTED) {
                self.find(Broken::Contradiction, format!("{word} ended as {outcome} instead of {expected}"));
            }
        }
        let sent: BTreeSet<&str> = evidence.told.iter().map(|told| told.word.as_str()).collect();
        let unsent: Vec<_> = self.words.keys().filter(|word| !sent.contains(**word)).map(ToString::to_string).collect();
        for word in unsent {
            self.find(Broken::Contradiction, format!("{word:?} is a prompt that nobody sent"));
        }
    }

    /// No prompt reached an agent twice, none that was not accepted, and each that was completed.
    fn agents(&mut self) {
        let evidence = self.evidence;
        let mut noted: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
        for (session, found) in &evidence.sessions {
            for word in &found.notes {
                noted.entry(word).or_insert((session, 0)).1 += 1;
            }
        }
        for (word, (session, times)) in &noted {
            if *times > 1 {
                self.find(Broken::Duplicated, format!("{word} reached the agent {times} times"));
            }
            if self.words.get(word).is_none_or(|turn| turn.session != **session) {
                self.find(
                    Broken::Contradiction,
                    format!("{word} reached the agent of {session} and is no prompt there"),
                );
            }
        }
        let done = self.words.iter().filter(|(_, turn)| self.outcomes.get(turn).copied().flatten() == Some(COMPLETED));
        let undone: Vec<_> = done.filter(|(word, _)| !noted.contains_key(**word)).map(|(word, _)| *word).collect();
        for word in undone {
            self.find(Broken::Lost, format!("{word} is on record as completed and never reached the agent"));
        }
        let ends: Vec<_> = evidence.sessions.values().flat_map(words_and_ends).collect();
        for (word, said) in ends.into_iter().filter(|(word, said)| word != said) {
            self.find(Broken::Contradiction, format!("the recorded answer to {word} is {said:?}"));
        }
    }
}

/// Prompts that were completed, with their recorded answers.
fn words_and_ends(found: &Found) -> Vec<(&str, &str)> {
    let mut asked = "";
    let mut pairs = Vec::new();
    for event in &found.events {
        match &event.what {
            Happening::Prompt(word) => asked = word,
            Happening::End { outcome, said } if outcome == COMPLETED => pairs.push((asked, said.as_str())),
            Happening::End { .. } | Happening::Other => {}
        }
    }
    pairs
}

#[cfg(test)]
mod tests;
