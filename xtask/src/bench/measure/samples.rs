//! Measured times and what is told of them.

use std::fmt::{self, Display};
use std::time::Duration;

/// Times of one thing done often. Never empty where a number is asked for: see [`Samples::quantile`].
#[derive(Debug, Clone, Default)]
pub struct Samples {
    sorted: Vec<Duration>,
}

impl Samples {
    /// These times, in any order.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { sorted: times }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The smallest time that this share of all (0 to 1) does not exceed; zero where there is none.
    pub fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank among millions at most; a share above 1 is cut to the last place"
        )]
        let rank = (share * self.sorted.len() as f64).ceil() as usize;
        let last = self.sorted.len().saturating_sub(1);
        self.sorted.get(rank.saturating_sub(1).min(last)).copied().unwrap_or_default()
    }

    /// The time that half of all do not exceed.
    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }

    /// The shortest.
    pub fn min(&self) -> Duration {
        self.quantile(0.0)
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.quantile(1.0)
    }
}

/// Milliseconds with two digits behind the point.
pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}

/// How much longer one thing takes than another, in milliseconds, from times taken in pairs: what slows
/// both of a pair down does not show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The median of the pairs' differences; negative where the thing is shorter.
    pub median_ms: f64,
    /// Between these the true median lies, 19 times of 20.
    pub interval_ms: (f64, f64),
}

impl Difference {
    /// Of pairs of a thing and what it is compared with; all zero where there is none.
    pub fn of(pairs: impl IntoIterator<Item = (Duration, Duration)>) -> Self {
        let millis = |(time, base): (Duration, Duration)| (time.as_secs_f64() - base.as_secs_f64()) * 1_000.0;
        let mut sorted: Vec<f64> = pairs.into_iter().map(millis).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
        // How many of n pairs lie below the true median is binomial: n/2, give or take 0.98 times the root of n.
        let middle = sorted.len().saturating_sub(1) / 2;
        let reach = sorted.len().isqrt();
        let last = sorted.len().saturating_sub(1);
        Self {
            median_ms: at(middle),
            interval_ms: (at(middle.saturating_sub(reach)), at((middle + reach + 1).min(last))),
        }
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+.2} ms ({:+.1} to {:+.1})", self.median_ms, self.interval_ms.0, self.interval_ms.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(millis: impl IntoIterator<Item = u64>) -> Samples {
        Samples::new(millis.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let hundred = samples((1..=100).rev());
        assert_eq!(hundred.median(), Duration::from_millis(50));
        assert_eq!(hundred.quantile(0.99), Duration::from_millis(99));
        assert_eq!((hundred.min(), hundred.max()), (Duration::from_millis(1), Duration::from_millis(100)));
        assert_eq!(samples([7]).median(), Duration::from_millis(7));
        assert_eq!(samples([]).max(), Duration::ZERO);
    }

    #[test]
    fn a_difference_is_that_of_the_pairs_and_may_be_negative() {
        let pair = |number: u64| (Duration::from_millis(3 + number), Duration::from_millis(5 + number));
        let steady = Difference::of((0..40).map(pair));
        assert!((steady.median_ms + 2.0).abs() < 1e-6, "{steady}");
        assert!((steady.interval_ms.1 + 2.0).abs() < 1e-6, "{steady}");
    }

    #[test]
    fn the_interval_of_a_median_is_about_a_root_of_the_count_wide() {
        let spread = Difference::of((0..100).rev().map(|number| (Duration::from_millis(number), Duration::ZERO)));
        let rounded = (spread.median_ms.round(), spread.interval_ms.0.round(), spread.interval_ms.1.round());
        assert_eq!(rounded, (49.0, 39.0, 60.0));
        assert_eq!(millis(Duration::from_micros(1_234)), "1.23 ms");
    }
}
