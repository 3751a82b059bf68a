//! The table of streams, whose rows name who was measured.

use std::time::Duration;

use anyhow::Result;

use super::THEIRS;
use crate::bench::measure::report::Table;
use crate::bench::measure::samples::{Samples, millis};

/// The table.
pub struct Rows {
    pub table: Table,
}

impl Rows {
    pub fn new() -> Self {
        let columns = ["what", "who", "median", "p99", "max", "times"];
        Self { table: Table::new("Streams of `/v1`, and of sandbox-agent, which keeps nothing on disk", &columns) }
    }

    pub fn times(&mut self, what: &str, who: &str, samples: Samples) {
        let times = [samples.median(), samples.quantile(0.99), samples.max()].map(millis);
        let named = [what, who].map(str::to_owned);
        self.table.row(named.into_iter().chain(times).chain([samples.count().to_string()]));
    }

    /// Words where there is no time.
    pub fn words(&mut self, what: &str, who: &str) {
        self.table.row([what, who, "", "", "", ""].map(str::to_owned));
    }

    pub fn theirs(&mut self, what: &str, samples: Result<Samples>) {
        match samples {
            Ok(samples) => self.times(what, THEIRS, samples),
            Err(error) => self.words(&format!("{what}: failed, {error}"), THEIRS),
        }
    }

    pub fn rate(&mut self, readers: usize, events: usize, who: &str, times: Vec<Duration>) {
        let samples = Samples::new(times);
        let rate = (events * readers) as f64 / samples.median().as_secs_f64();
        self.times(&format!("{readers} reading a log of {events} events: {rate:.0} events/s"), who, samples);
    }

    pub fn held(&mut self, readers: usize, events: usize, who: &str, kilobytes: f64) {
        let each = kilobytes / readers as f64;
        self.words(&format!("{readers} who read nothing of a log of {events} events hold {each:.1} kB each"), who);
    }
}
