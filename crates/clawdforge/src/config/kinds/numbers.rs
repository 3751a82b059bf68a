//! Kinds that are written as numbers: counts, durations, sizes.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Kind;
use crate::config::raw::Raw;

/// A whole number within bounds.
pub struct Count {
    /// Smallest allowed number.
    pub min: u32,
    /// Largest allowed number.
    pub max: u32,
}

impl Kind for Count {
    type Value = usize;

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<usize, String> {
        let number = raw.number().filter(|number| (self.min.into()..=self.max.into()).contains(number));
        number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| self.refuse(raw))
    }

    fn json(&self, value: &usize) -> Json {
        json!(value)
    }

    fn placeholder(&self) -> &'static str {
        "N"
    }

    fn toml(&self, text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

/// A duration, as a whole number of one unit.
pub struct Span {
    /// What the number counts.
    pub unit: Unit,
    /// Shortest allowed duration, in the unit.
    pub min: u32,
    /// Longest allowed duration, in the unit.
    pub max: u32,
}

/// What the number of a [`Span`] counts. The option's key ends in it.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Seconds, `_secs`.
    Secs,
    /// Milliseconds, `_ms`.
    Millis,
}

impl Kind for Span {
    type Value = Duration;

    fn expected(&self) -> String {
        let unit = match self.unit {
            Unit::Secs => "seconds",
            Unit::Millis => "milliseconds",
        };
        format!("a whole number of {unit} from {} to {}", self.min, self.max)
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<Duration, String> {
        let number = raw.number().filter(|number| (self.min.into()..=self.max.into()).contains(number));
        let number = number.and_then(|number| u64::try_from(number).ok()).ok_or_else(|| self.refuse(raw))?;
        Ok(match self.unit {
            Unit::Secs => Duration::from_secs(number),
            Unit::Millis => Duration::from_millis(number),
        })
    }

    fn json(&self, value: &Duration) -> Json {
        match self.unit {
            Unit::Secs => json!(value.as_secs()),
            Unit::Millis => json!(u64::try_from(value.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    fn placeholder(&self) -> &'static str {
        match self.unit {
            Unit::Secs => "SECS",
            Unit::Millis => "MS",
        }
    }

    fn toml(&self, text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

/// A duration of which 0 means "for ever".
pub struct OrForEver(
    /// The kind of the duration where it ends.
    pub Span,
);

impl Kind for OrForEver {
    type Value = Option<Duration>;

    fn expected(&self) -> String {
        format!("0 (for ever) or {}", self.0.expected())
    }

    fn read(&self, raw: &Raw, base: &Path) -> Result<Self::Value, String> {
        if raw.number() == Some(0) {
            return Ok(None);
        }
        self.0.read(raw, base).map(Some).map_err(|_| self.refuse(raw))
    }

    fn json(&self, value: &Self::Value) -> Json {
        value.as_ref().map_or(json!(0), |value| self.0.json(value))
    }

    fn human(&self, value: &Self::Value) -> String {
        value.as_ref().map_or("0 (for ever)".to_owned(), |value| self.0.human(value))
    }

    fn placeholder(&self) -> &'static str {
        self.0.placeholder()
    }

    fn toml(&self, text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

/// A number of bytes, with or without one of the suffixes `KiB`, `MiB`, `GiB`, `TiB`.
pub struct Bytes {
    /// Smallest allowed number.
    pub min: u64,
    /// Largest allowed number.
    pub max: u64,
}

impl Bytes {
    const SUFFIXES: [(&'static str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

    fn parse(text: &str) -> Option<u64> {
        let text = text.trim();
        for (suffix, bits) in Self::SUFFIXES {
            if let Some(number) = text.strip_suffix(suffix) {
                return number.trim_end().parse::<u64>().ok()?.checked_mul(1 << bits);
            }
        }
        text.parse().ok()
    }

    fn write(bytes: u64) -> String {
        let whole = |(_, bits): &&(&str, u32)| bytes > 0 && bytes.is_multiple_of(1 << bits);
        match Self::SUFFIXES.iter().find(whole) {
            Some((suffix, bits)) => format!("{}{suffix}", bytes >> bits),
            None => bytes.to_string(),
        }
    }
}

impl Kind for Bytes {
    type Value = u64;

    fn expected(&self) -> String {
        let (min, max) = (Self::write(self.min), Self::write(self.max));
        format!("a number of bytes from {min} to {max}, with or without a suffix KiB, MiB, GiB or TiB")
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<u64, String> {
        let bytes = raw.size().and_then(Self::parse);
        bytes.filter(|bytes| (self.min..=self.max).contains(bytes)).ok_or_else(|| self.refuse(raw))
    }

    fn json(&self, value: &u64) -> Json {
        json!(value)
    }

    fn human(&self, value: &u64) -> String {
        Self::write(*value)
    }

    fn placeholder(&self) -> &'static str {
        "BYTES"
    }
}
