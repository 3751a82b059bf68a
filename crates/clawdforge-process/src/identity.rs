//! Which process the leader of a tree is, beyond the reuse of process numbers.

use std::fmt;
use std::str::FromStr;

/// A process that cannot be mistaken for another: number, birth, and the boot both belong to.
///
/// As text `pid:start:boot`, for storing; [`reaper`](crate::reaper) takes it back after a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TreeIdentity {
    /// The process number of the leader, which is also its group and its session.
    pub pid: i32,
    /// When it was born, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
    /// The kernel's random id of this boot.
    pub boot_id: String,
}

/// Why a text is no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tree identity looks like PID:START_TICKS:BOOT_ID")]
pub struct BadTreeIdentity;

impl fmt::Display for TreeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.pid, self.start_ticks, self.boot_id)
    }
}

impl FromStr for TreeIdentity {
    type Err = BadTreeIdentity;

    fn from_str(text: &str) -> Result<Self, BadTreeIdentity> {
        let mut parts = text.splitn(3, ':');
        let mut next = || parts.next().ok_or(BadTreeIdentity);
        let pid: i32 = next()?.parse().map_err(|_| BadTreeIdentity)?;
        let start_ticks = next()?.parse().map_err(|_| BadTreeIdentity)?;
        let boot_id = next()?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        // Number 1 is never a child of ours, and smaller ones mean groups to the kernel.
        if pid < 2 || boot_id.is_empty() || !boot_id.bytes().all(allowed) {
            return Err(BadTreeIdentity);
        }
        Ok(Self { pid, start_ticks, boot_id: boot_id.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_being_stored() {
        let identity = TreeIdentity {
            pid: 4711,
            start_ticks: 98_765_432_100,
            boot_id: "6b1fd1fc-5d2b-4a3c-9a52-0d8f4b6d8f11".to_owned(),
        };
        assert_eq!(identity.to_string().parse(), Ok(identity));
    }

    #[test]
    fn a_text_that_could_name_a_group_or_everybody_is_refused() {
        for text in ["", "12", "12:3", "12:3:", "1:3:b", "0:3:b", "-1:3:b", "-12:3:b", "12:-3:b", "12:3:b:c", "x:3:b"] {
            assert_eq!(text.parse::<TreeIdentity>(), Err(BadTreeIdentity), "{text:?}");
        }
    }
}
