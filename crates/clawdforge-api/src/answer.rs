//! From an agent's answer to the `result` of `POST /run`.
//!
//! An answer that is JSON, alone or inside one fence around the whole of it, becomes that JSON, passed on as it was
//! written; every other answer is returned as a string, untouched.

use clawdforge_core::answer::json_in;
use serde_json::value::{RawValue, to_raw_value};

/// The `result` for an answer.
#[must_use]
pub fn result_of(answer: &str) -> Box<RawValue> {
    // A raw value is only scanned; that it is JSON to every reader (1e999 is not) is known by then.
    let raw = json_in(answer).and_then(|(text, _)| serde_json::from_str(text).ok());
    raw.unwrap_or_else(|| string(answer))
}

fn string(text: &str) -> Box<RawValue> {
    #[expect(clippy::expect_used, reason = "a string has no value that JSON cannot hold")]
    to_raw_value(text).expect("a string is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, result: &str) {
        assert_eq!(result_of(answer).get(), result, "of {answer:?}");
    }

    #[test]
    fn an_answer_that_is_json_becomes_that_json_as_it_was_written() {
        check(r#"{"qty": 2, "unit": "cup"}"#, r#"{"qty": 2, "unit": "cup"}"#);
        check("  [1,2]\n", "[1,2]");
        check("42", "42");
        check("true", "true");
        check("null", "null");
        check(r#""text""#, r#""text""#);
        check(r#"{"z":1,"a":12345678901234567890123}"#, r#"{"z":1,"a":12345678901234567890123}"#);
    }

    #[test]
    fn one_fence_around_the_whole_is_taken_off() {
        check("```json\n{\"a\": 1}\n```", "{\"a\": 1}");
        check("```\n{\"a\": 1}\n```\n", "{\"a\": 1}");
        check("\n```JSON  \r\n[1]\r\n```", "[1]");
        check("```{\"a\":1}```", "{\"a\":1}");
        check("```json\n\"`code` inside\"\n```", "\"`code` inside\"");
    }

    #[test]
    fn everything_else_is_returned_untouched_as_a_string() {
        check("hello", r#""hello""#);
        check("", r#""""#);
        check("  spaced  ", r#""  spaced  ""#);
        check("```\nnot json\n```", r#""```\nnot json\n```""#);
        check("Here: ```json\n{}\n```", r#""Here: ```json\n{}\n```""#);
        check("```json\n{}\n```\nand\n```json\n{}\n```", r#""```json\n{}\n```\nand\n```json\n{}\n```""#);
        check("{\"a\": 1} trailing", r#""{\"a\": 1} trailing""#);
        check("{'a': 1}", r#""{'a': 1}""#);
        check("NaN", r#""NaN""#);
        check("1e999", r#""1e999""#);
        check("```", r#""```""#);
        check("```json", r#""```json""#);
        check("{\"a\":\"\u{0}\"}", r#""{\"a\":\"\u0000\"}""#);
    }

    #[test]
    fn json_too_deep_to_read_back_stays_a_string() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(result_of(&deep).get().starts_with('"'));
    }
}
