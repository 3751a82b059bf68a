//! The one place where ids and tokens get their time and their randomness.

use std::sync::Arc;

use clawdforge_core::app::{TOKEN_RANDOM_BYTES, token_text};
use clawdforge_core::secret::SecretString;
use clawdforge_core::time::{Clock, Timestamp};

/// Makes ids and tokens from the clock and the kernel's randomness.
#[derive(Clone)]
pub struct Ids {
    clock: Arc<dyn Clock>,
}

impl Ids {
    /// A maker of ids on this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A new id: pass the type's constructor, `ids.make(RequestId::new)`.
    #[must_use]
    pub fn make<T>(&self, new: fn(Timestamp, [u8; 10]) -> T) -> T {
        new(self.clock.now(), random())
    }

    /// A new token with this prefix.
    #[must_use]
    pub fn token(&self, prefix: &str) -> SecretString {
        token_text(prefix, &random::<TOKEN_RANDOM_BYTES>())
    }
}

#[expect(clippy::expect_used, reason = "a kernel without randomness cannot run this service in any safe way")]
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives randomness");
    bytes
}
