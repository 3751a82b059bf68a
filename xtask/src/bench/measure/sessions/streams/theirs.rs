//! The streams of sandbox-agent: each follower of a conversation is given what the ring still holds, then what comes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::PROMPT;
use super::log::{Log, Stream};
use crate::bench::measure::process::PATIENCE;
use crate::bench::measure::sandbox_agent::{Conversation, SandboxAgent, path};

/// What only the answer to a prompt has, which is the last message of its turn.
const ANSWER: &str = "\"stopReason\"";

/// What only a word of the agent has.
const WORD: &str = "\"agent_message_chunk\"";

/// Gives up where a message that was lost would be waited for without end.
///
/// # Errors
/// When it takes longer than [`PATIENCE`].
pub async fn patiently<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let told = || format!("sandbox-agent did not get there within {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, work).await.with_context(told)?
}

/// All that the ring holds of a conversation.
pub fn log(peer: &SandboxAgent, name: &str) -> Log {
    Log { address: peer.address, path: path(name), headers: String::new(), end: ANSWER }
}

/// A conversation with a warm agent, and a follower that has seen all so far.
pub struct FirstWord {
    conversation: Conversation,
    follower: Stream,
}

impl FirstWord {
    pub async fn open(peer: &SandboxAgent) -> Result<Self> {
        let name = "first-word";
        let mut conversation = Conversation::open(peer, name).await?.0;
        conversation.turn(PROMPT).await?;
        let mut follower = log(peer, name).follow().await?;
        follower.until(ANSWER).await?;
        Ok(Self { conversation, follower })
    }

    /// From the request to the first word at the follower; the end of the turn is waited for as well.
    pub async fn take(&mut self, prompt: &str) -> Result<Duration> {
        let began = Instant::now();
        let followed = async {
            self.follower.until(WORD).await?;
            let took = began.elapsed();
            self.follower.until(ANSWER).await?;
            anyhow::Ok(took)
        };
        let (turn, took) = tokio::join!(self.conversation.turn(prompt), followed);
        turn?;
        took
    }
}

/// Turns of a conversation with a warm agent that so many follow.
pub async fn fan_out(peer: &SandboxAgent, followers: usize, rounds: usize) -> Result<Vec<Duration>> {
    let name = format!("{followers}-followers");
    let mut conversation = Conversation::open(peer, &name).await?.0;
    conversation.turn(PROMPT).await?;
    let seen = kept(peer, &name).await?;
    let log = Log { headers: format!("Last-Event-ID: {}\r\n", seen.all), ..log(peer, &name) };
    log.fan_out(followers, rounds, async || conversation.turn(PROMPT).await.map(drop)).await
}

/// What is given of a log.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// Messages that were given.
    pub given: usize,
    /// Messages that there were: the number of the last.
    pub all: usize,
}

impl Kept {
    /// What became of a log that is read from its beginning.
    pub fn told(&self) -> String {
        let Self { given, all } = self;
        if given == all {
            format!("all {all} messages are given")
        } else {
            format!("not offered, the last {given} of {all} messages come without an error")
        }
    }

    fn of(text: &str) -> Result<Self> {
        let numbers = || text.lines().filter_map(|line| line.strip_prefix("id: "));
        let all = numbers().next_back().context("a log has messages")?;
        Ok(Self {
            given: numbers().count(),
            all: all.parse().with_context(|| format!("a number of a message: {all}"))?,
        })
    }
}

/// Has a conversation made with a log of so many calls of a tool; what is given of it.
pub async fn flooded(peer: &SandboxAgent, name: &str, calls: usize) -> Result<Kept> {
    let mut conversation = Conversation::open(peer, name).await?.0;
    conversation.turn(&"use tool: Read {}\n".repeat(calls)).await?;
    kept(peer, name).await
}

/// What is given of the log of a conversation that had one turn.
async fn kept(peer: &SandboxAgent, name: &str) -> Result<Kept> {
    let text = log(peer, name).follow().await?.text_until(ANSWER).await?;
    Kept::of(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_of_a_log_is_seen_in_its_numbers_and_told() {
        let of = |numbers: &[usize]| {
            let events = numbers.iter().map(|number| format!("F\r\nevent: message\nid: {number}\ndata: {{}}\n\n\r\n"));
            Kept::of(&events.collect::<String>()).unwrap()
        };
        assert_eq!(of(&[3, 4]), Kept { given: 2, all: 4 });
        assert!(of(&[3, 4]).told().starts_with("not offered, the last 2 of 4 messages"));
        assert_eq!(of(&[1, 2]).told(), "all 2 messages are given");
        assert!(Kept::of("").is_err());
    }
}
