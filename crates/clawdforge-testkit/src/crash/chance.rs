//! Chance from a seed: the same draws for the same seed. What the machine makes of them differs every time.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A generator (SplitMix64: small, and even enough for moments and kinds).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The draws that belong to a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for a part of the campaign, so that its draws do not depend on who draws first.
    #[must_use]
    pub fn part(&self, number: u64) -> Self {
        let mut part = Self(self.0 ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03));
        part.next();
        part
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `of` draws.
    pub fn once_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// A time below `end`, to the microsecond.
    pub fn within(&mut self, end: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(end.as_micros()).unwrap_or(u64::MAX).max(1)))
    }
}

/// A seed that nobody chose.
#[must_use]
pub fn any_seed() -> u64 {
    // Half of the bits, so that it is short to copy.
    RandomState::new().build_hasher().finish() >> 32
}
