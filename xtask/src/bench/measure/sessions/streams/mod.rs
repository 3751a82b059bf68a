//! Streams of `/v1`, beside those of sandbox-agent where it has the same: how soon the first word is seen, how soon
//! a thousand have seen the end of a turn, how fast a log is replayed, and what is held for those who read nothing.

mod log;
mod ours;
mod rows;
mod theirs;

use std::fs;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use self::ours::{Flooded, Ours};
use self::rows::Rows;
use self::theirs::{FirstWord, patiently};
use super::Effort;
use super::direct::Direct;
use crate::bench::measure::Scene;
use crate::bench::measure::report::{Goal, Table, as_kilobytes};
use crate::bench::measure::samples::{Samples, difference_ms};
use crate::bench::measure::sandbox_agent::SandboxAgent;
use crate::bench::measure::service::Service;

/// Milliseconds from what the agent takes to its first word to when a reader of the stream has it.
const FIRST_WORD_MS_MAX: f64 = 2.0;

/// Says something and is busy for a while, so that the end of the turn does not bring the word along.
const TALKS: &str = "say: hello\nsleep: 15";

/// Readers of one log at once.
const REPLAYS: [usize; 2] = [1, 8];

/// Calls of a tool that make a log of 1,000 messages at sandbox-agent, which keeps 1,024: two for each, the opening,
/// a last word and the answer.
const SHORT_CALLS: usize = 498;

/// Who is measured.
const AGENT: &str = "the agent over its pipes";
const OURS: &str = "clawdforge";
const THEIRS: &str = "sandbox-agent";

/// Measures all of it.
///
/// # Errors
/// When the service or the agent fails, or an event is missing. What fails at sandbox-agent once it is up stands in
/// the table.
pub fn measure(scene: &Scene, client: &Runtime, effort: &Effort) -> Result<(Table, Vec<Goal>)> {
    let (data, home) = (scene.folder("streams")?, scene.folder("home")?);
    let service = Service::start(&scene.demo(&data, &home), client)?;
    let ours = Ours { token: service.mint(client)?, service };
    let peer = SandboxAgent::start(scene, client)?;
    let mut streams = Streams { client, effort, rows: Rows::new() };

    let (direct, _) = Direct::start(&home, &scene.folder("direct")?)?;
    let session = client.block_on(ours.opened())?;
    let goal = streams.first_words(direct, &ours, &session, &peer)?;
    streams.fan_outs(&ours, &session, &peer)?;
    let short = client.block_on(ours.flooded(SHORT_CALLS))?;
    let long = client.block_on(ours.flooded(effort.tool_calls))?;
    streams.replays(&ours, [&short, &long], &peer)?;
    peer.stop(client)?;
    ours.service.stop(Signal::TERM)?;

    // What a process holds is seen in one that has done nothing else: ours has the logs on disk, theirs is made anew.
    let ours = Ours { service: Service::start(&scene.demo(&data, &home), client)?, token: ours.token };
    let peer = SandboxAgent::start(scene, client)?;
    streams.stalled(&ours, [&short, &long], &peer)?;
    peer.stop(client)?;
    ours.service.stop(Signal::TERM)?;
    fs::remove_dir_all(&data)?;
    Ok((streams.rows.table, vec![goal]))
}

/// What all parts need.
struct Streams<'a> {
    client: &'a Runtime,
    effort: &'a Effort,
    rows: Rows,
}

impl Streams<'_> {
    /// From a prompt to the first word, in turns.
    fn first_words(&mut self, mut direct: Direct, ours: &Ours, session: &str, peer: &SandboxAgent) -> Result<Goal> {
        let mut theirs = self.client.block_on(patiently(FirstWord::open(peer)))?;
        let mut times = [const { Vec::new() }; 3];
        for round in 0..self.effort.streams {
            for place in 0..times.len() {
                let who = (round + place) % times.len();
                times[who].push(match who {
                    0 => direct.first_word(TALKS)?,
                    1 => self.client.block_on(ours.first_word(session, TALKS))?,
                    _ => self.client.block_on(patiently(theirs.take(TALKS)))?,
                });
            }
        }
        let [alone, streamed, relayed] = times.map(Samples::new);
        let added = difference_ms(streamed.median(), alone.median());
        let what = "a prompt, to its first word";
        self.rows.times(what, AGENT, alone);
        self.rows.times(what, &format!("{OURS}, `POST …/turns` as a stream"), streamed);
        self.rows.times(what, &format!("{THEIRS}, a follower"), relayed);
        let what = "added to the first word of a streamed turn, durable, at the median";
        Ok(Goal::signed_millis(what, FIRST_WORD_MS_MAX, added))
    }

    /// From a prompt until the last follower has the end of its turn, one server after the other.
    fn fan_outs(&mut self, ours: &Ours, session: &str, peer: &SandboxAgent) -> Result<()> {
        let rounds = self.effort.fan_outs;
        for followers in [1, self.effort.followers] {
            let what = format!("a turn, from its prompt to its end, with the last of {followers} followers");
            let times = self.client.block_on(ours.fan_out(session, followers, rounds))?;
            self.rows.times(&what, OURS, Samples::new(times));
            let times = self.client.block_on(patiently(theirs::fan_out(peer, followers, rounds)));
            self.rows.theirs(&what, times.map(Samples::new));
        }
        Ok(())
    }

    /// The short log of both in turns, and the long one, of which sandbox-agent keeps the end.
    fn replays(&mut self, ours: &Ours, [short, long]: [&Flooded; 2], peer: &SandboxAgent) -> Result<()> {
        let [short_log, long_log] = [short, long].map(|flooded| ours.log_of(flooded));
        let kept = self.client.block_on(patiently(theirs::flooded(peer, "short", SHORT_CALLS)))?;
        ensure!(kept.given == kept.all, "{THEIRS} has {} of {} messages, which fit its ring", kept.given, kept.all);
        for readers in REPLAYS {
            let (mut durable, mut relayed) = (Vec::new(), Vec::new());
            for _ in 0..self.effort.replays {
                durable.push(self.client.block_on(short_log.replay(readers))?);
                relayed.push(self.client.block_on(patiently(theirs::log(peer, "short").replay(readers)))?);
            }
            self.rows.rate(readers, short.events, OURS, durable);
            self.rows.rate(readers, kept.all, THEIRS, relayed);
        }
        for readers in REPLAYS {
            let time = self.client.block_on(long_log.replay(readers))?;
            self.rows.rate(readers, long.events, OURS, vec![time]);
        }
        let kept = self.client.block_on(patiently(theirs::flooded(peer, "long", self.effort.tool_calls)));
        let told = kept.map_or_else(|error| format!("failed: {error}"), |kept| kept.told());
        self.rows.words(&format!("reading a log as long: {told}"), THEIRS);
        Ok(())
    }

    /// What each reader who does not read costs the process that serves it.
    fn stalled(&mut self, ours: &Ours, [short, long]: [&Flooded; 2], peer: &SandboxAgent) -> Result<()> {
        // The first stay: what they gave back would be given to the second.
        let mut all_readers = Vec::new();
        for flooded in [short, long] {
            let before = ours.service.memory()?;
            let readers = self.client.block_on(ours.log_of(flooded).followers(self.effort.stalled))?;
            let after = ours.service.memory()?;
            self.rows.held(readers.len(), flooded.events, OURS, as_kilobytes(after.anonymous, before.anonymous));
            all_readers.push(readers);
        }
        let kept = self.client.block_on(patiently(theirs::flooded(peer, "stalled", SHORT_CALLS)))?;
        let before = peer.memory()?;
        let readers = self.client.block_on(patiently(theirs::log(peer, "stalled").followers(self.effort.stalled)))?;
        let after = peer.memory()?;
        self.rows.held(readers.len(), kept.all, THEIRS, as_kilobytes(after.anonymous, before.anonymous));
        Ok(())
    }
}
