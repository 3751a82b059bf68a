//! Foreign text on a terminal, and a person's on the command line.

use std::str::FromStr;

/// The text with every control character made visible: what a service or an agent says must not
/// move the cursor or retitle the window of whoever reads it.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// The same for a text of many lines, which stay.
pub(super) fn printable_lines(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Reads a count or a number of an option, for a person who mistyped it.
pub(super) fn whole_number<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "give a whole number, such as 10")
}

/// The beginning of a text, with a mark where there was more than `chars`.
pub(super) fn beginning(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A number of bytes for a person: three significant digits are enough to watch it move.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Precision lost above 2^53 bytes is far below the digit shown.
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut amount = count as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\rc\u{9b}d\te"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d e");
    }

    #[test]
    fn foreign_lines_stay_lines_and_steer_nothing() {
        assert_eq!(printable_lines("a\n\tb\x1b[2J\r\nc"), "a\n\tb\u{fffd}[2J\u{fffd}\nc");
    }

    #[test]
    fn a_beginning_is_cut_between_characters() {
        assert_eq!((beginning("äöü", 3).as_str(), beginning("äöü", 2).as_str()), ("äöü", "äö…"));
    }

    #[test]
    fn sizes_are_short() {
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
