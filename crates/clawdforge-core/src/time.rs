//! Instants as the store and the wire know them, and the clock that makes them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant in UTC, in whole microseconds since 1970. Shown as RFC 3339 with milliseconds and `Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// Tells the present time. The only implementations are the system's clock (in the binary) and the
/// ones tests set by hand.
pub trait Clock: Send + Sync {
    /// The present instant by the wall clock; may jump when the operator sets the clock.
    fn now(&self) -> Timestamp;
}

impl Timestamp {
    /// The instant so many microseconds after the start of 1970.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start of 1970.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the start of 1970, the form the first versions put on the wire.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Milliseconds since the start of 1970; zero for instants before it.
    #[must_use]
    pub fn millis_since_epoch(self) -> u64 {
        u64::try_from(self.0.div_euclid(1000)).unwrap_or(0)
    }

    /// The instant `by` later, saturating.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The instant `by` earlier, saturating.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to this instant; zero when the clock went backwards.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.div_euclid(1000);
        let (day, in_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
        let (year, month, day) = civil_from_days(day);
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, milli) = (in_day / 1000 % 60, in_day % 1000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as in RFC 3339, such as 2026-01-31T12:00:00Z")]
pub struct BadTimestamp;

impl FromStr for Timestamp {
    type Err = BadTimestamp;

    /// Reads RFC 3339: any offset, any fraction of a second. A leap second is the second after it.
    fn from_str(text: &str) -> Result<Self, BadTimestamp> {
        parse(text).ok_or(BadTimestamp)
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let time = rest.strip_prefix(['T', 't', ' '])?;
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone_at);
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, fraction) = time.split_once('.').map_or((time, None), |(clock, fraction)| (clock, Some(fraction)));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
            let offset = (hours <= 23 && minutes <= 59).then_some(hours * 60 + minutes)?;
            if zone.starts_with('-') { -offset } else { offset }
        }
    };
    if !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    // A day that the month does not have comes out as another one.
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    let micros = match fraction {
        None => 0,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            let padded: String = digits.chars().chain("000000".chars()).take(6).collect();
            padded.parse::<i64>().ok()?
        }
        Some(_) => return None,
    };
    let seconds = days * 86_400 + (hour * 60 + minute - offset_minutes) * 60 + second;
    Some(Timestamp(seconds * 1_000_000 + micros))
}

/// So many numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut all = [0; N];
    for (place, count) in all.iter_mut().zip(digits) {
        let part = parts.next()?;
        let is_number = part.len() == count && part.bytes().all(|digit| digit.is_ascii_digit());
        *place = is_number.then(|| part.parse().ok()).flatten()?;
    }
    parts.next().is_none().then_some(all)
}

/// The day count since 1970-01-01 of a date (the same source, `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_index = (month + 9) % 12;
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day count since 1970-01-01, in the proleptic Gregorian calendar
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_as_rfc_3339() {
        let show = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000 + 7_000).to_string();
        assert_eq!(show(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(show(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(show(1_777_468_975), "2026-04-29T13:22:55.007Z");
        assert_eq!(show(-1), "1969-12-31T23:59:59.007Z");
    }

    #[test]
    fn what_is_shown_is_read_back_and_so_are_offsets_and_fractions() {
        for seconds in [0, 951_782_400, 1_777_468_975, -1, 4_107_542_399] {
            let at = Timestamp::from_micros(seconds * 1_000_000 + 7_000);
            assert_eq!(at.to_string().parse(), Ok(at));
        }
        let same = "2026-04-29T13:22:55Z".parse::<Timestamp>().unwrap();
        for text in ["2026-04-29t15:22:55+02:00", "2026-04-29 07:52:55-05:30", "2026-04-29T13:22:55.0000004z"] {
            assert_eq!(text.parse(), Ok(same), "{text}");
        }
        assert_eq!("2026-04-29T13:22:55.25Z".parse(), Ok(same.plus(Duration::from_millis(250))));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-04-29",
            "2026-04-29T13:22:55",
            "2026-4-29T13:22:55Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+2:00",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00Z ",
            "2026-01-01T+0:00:00Z",
            "٢٠٢٦-01-01T00:00:00Z",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(BadTimestamp), "{text}");
        }
    }

    #[test]
    fn a_clock_that_went_backwards_gives_no_negative_duration() {
        let (early, late) = (Timestamp::from_micros(10), Timestamp::from_micros(30));
        assert_eq!(late.since(early), Duration::from_micros(20));
        assert_eq!(early.since(late), Duration::ZERO);
    }
}
