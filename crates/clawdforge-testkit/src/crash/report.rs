//! What a campaign comes to.

use std::collections::BTreeMap;
use std::fmt;

use super::Options;
use super::check::{Broken, Fault};
use super::evidence::{Answer, COMPLETED, Evidence, Happening, INTERRUPTED};
use super::moments::Moment;

/// What was done and what came of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was asked for.
    pub options: Options,
    /// Kills by what led up to them.
    pub kills: BTreeMap<Moment, u64>,
    /// Kills of a service that was held with SIGSTOP first.
    pub held: u64,
    /// Turns that were accepted.
    pub accepted: u64,
    /// Turns by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Turns that a service had accepted and not begun when it died, counted after each start; one that waits
    /// through several deaths counts each time.
    pub promised: u64,
    /// Interrupted turns whose prompt had reached the agent.
    pub interrupted_at_work: u64,
    /// Turns on record as completed whose caller heard nothing.
    pub completed_in_silence: u64,
    /// Prompts by what their callers were told.
    pub answers: BTreeMap<&'static str, u64>,
    /// Processes of agents, and of what they had started, that were there when their service was killed.
    pub orphaned: u64,
    /// The most of them at one time.
    pub processes_max: u64,
    /// The longest start, in milliseconds.
    pub start_ms_max: u64,
    /// The longest time after a start until no process of an earlier life was there, in milliseconds.
    pub clean_ms_max: u64,
    /// The longest time after a start until every turn accepted before it had its outcome, in milliseconds.
    pub settled_ms_max: u64,
    /// How long it all took, in seconds.
    pub took_secs: u64,
    /// Everything that did not hold.
    pub faults: Vec<Fault>,
}

impl Report {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            kills: BTreeMap::new(),
            held: 0,
            accepted: 0,
            outcomes: BTreeMap::new(),
            promised: 0,
            interrupted_at_work: 0,
            completed_in_silence: 0,
            answers: BTreeMap::new(),
            orphaned: 0,
            processes_max: 0,
            start_ms_max: 0,
            clean_ms_max: 0,
            settled_ms_max: 0,
            took_secs: 0,
            faults: Vec::new(),
        }
    }

    /// How often the service was killed.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.kills.values().sum()
    }

    /// Faults of a kind.
    #[must_use]
    pub fn broken(&self, broken: Broken) -> usize {
        self.faults.iter().filter(|fault| fault.broken == broken).count()
    }

    pub(super) fn count(&mut self, evidence: &Evidence) {
        for line in &evidence.ledger {
            match &line.outcome {
                Some(outcome) => *self.outcomes.entry(outcome.clone()).or_default() += 1,
                None => self.accepted += 1,
            }
        }
        let mut in_silence = std::collections::BTreeSet::new();
        for told in &evidence.told {
            let answer = match &told.answer {
                Answer::Completed { .. } => "answered",
                Answer::Failed { .. } => "failed",
                Answer::Refused => "refused",
                Answer::Silence => "silence",
                Answer::Odd(_) => "odd",
            };
            *self.answers.entry(answer).or_default() += 1;
            if told.answer == Answer::Silence {
                in_silence.insert(told.word.as_str());
            }
        }
        for found in evidence.sessions.values() {
            let mut asked = "";
            for event in &found.events {
                match &event.what {
                    Happening::Prompt(word) => asked = word,
                    Happening::End { outcome, .. } if outcome == INTERRUPTED => {
                        self.interrupted_at_work += u64::from(found.notes.iter().any(|note| note == asked));
                    }
                    Happening::End { outcome, .. } if outcome == COMPLETED => {
                        self.completed_in_silence += u64::from(in_silence.contains(asked));
                    }
                    Happening::End { .. } | Happening::Other => {}
                }
            }
        }
    }
}

fn listed<K: fmt::Display>(counts: &BTreeMap<K, u64>) -> String {
    counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interrupted = self.outcomes.get(INTERRUPTED).copied().unwrap_or(0);
        let rows = [
            ("seed", self.options.seed.to_string()),
            ("kills", format!("{}: {}", self.kills(), listed(&self.kills))),
            ("of those held with SIGSTOP first", self.held.to_string()),
            ("turns accepted", format!("{}: {}", self.accepted, listed(&self.outcomes))),
            ("found waiting after a start", self.promised.to_string()),
            (
                "interrupted",
                format!(
                    "{} with the prompt at the agent, {} on the way there",
                    self.interrupted_at_work,
                    interrupted.saturating_sub(self.interrupted_at_work)
                ),
            ),
            ("completed, the answer lost with the connection", self.completed_in_silence.to_string()),
            ("prompts sent", listed(&self.answers)),
            (
                "processes there when their service was killed",
                format!("{}, at most {} at one time", self.orphaned, self.processes_max),
            ),
            ("longest start", format!("{} ms", self.start_ms_max)),
            ("longest until nothing of an earlier service was left", format!("{} ms", self.clean_ms_max)),
            ("longest until everything accepted before had ended", format!("{} ms", self.settled_ms_max)),
            ("took", format!("{} s", self.took_secs)),
            ("**lost**", self.broken(Broken::Lost).to_string()),
            ("**duplicated**", self.broken(Broken::Duplicated).to_string()),
            ("**gaps**", self.broken(Broken::Gap).to_string()),
            ("**contradictions**", self.broken(Broken::Contradiction).to_string()),
            ("**processes left**", self.broken(Broken::ProcessLeft).to_string()),
        ];
        writeln!(f, "| | |\n| --- | --- |")?;
        rows.iter().try_for_each(|(what, value)| writeln!(f, "| {what} | {value} |"))
    }
}
