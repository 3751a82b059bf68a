//! Measured times and what is told of them.

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

/// How much longer `time` is than `base`, in milliseconds; negative where it is shorter.
pub fn difference_ms(time: Duration, base: Duration) -> f64 {
    (time.as_secs_f64() - base.as_secs_f64()) * 1_000.0
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
    fn a_difference_may_be_negative() {
        assert_eq!(difference_ms(Duration::from_millis(3), Duration::from_millis(5)), -2.0);
        assert_eq!(millis(Duration::from_micros(1_234)), "1.23 ms");
    }
}
