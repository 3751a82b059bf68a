//! Reading a body field by field, with all faults at once, in the words of the first implementation.
//!
//! The old service validated with pydantic, and its clients know that shape: `type`, `loc`, `msg`,
//! `input`. Like it, we take `"120"` and `120.0` for an integer, and pass over keys we do not know.

use clawdforge_api::legacy::ValidationFault;
use serde_json::{Map, Value, json};

use crate::limits::FAULT_INPUT_BYTES_MAX;

/// The fields of a body that is an object, and the faults found so far.
pub(crate) struct Fields {
    object: Map<String, Value>,
    faults: Vec<ValidationFault>,
    place: &'static str,
}

impl Fields {
    /// The fields of a body; its faults are placed at `body`.
    pub fn of_body(body: Value) -> Result<Self, Vec<ValidationFault>> {
        match body {
            Value::Object(object) => Ok(Self { object, faults: Vec::new(), place: "body" }),
            other => Err(vec![ValidationFault {
                kind: "model_attributes_type".to_owned(),
                loc: vec![json!("body")],
                msg: "Input should be a valid dictionary or object to extract fields from".to_owned(),
                input: shown(&other),
                ctx: None,
            }]),
        }
    }

    /// The parameters of a query; their faults are placed at `query`.
    pub fn of_query(parameters: Vec<(String, String)>) -> Self {
        let object = parameters.into_iter().map(|(key, value)| (key, Value::String(value))).collect();
        Self { object, faults: Vec::new(), place: "query" }
    }

    /// A string that must be there and hold more than white space.
    pub fn required_text(&mut self, key: &str, bytes_max: usize) -> String {
        if self.object.contains_key(key) {
            let text = self.text_or_fault(key, bytes_max).unwrap_or_default();
            if text.trim().is_empty() && !self.has_fault(key) {
                let input = Value::String(text.clone());
                self.fault(
                    key,
                    "string_too_short",
                    "String should have at least 1 character",
                    &input,
                    Some(json!({"min_length": 1})),
                );
            }
            return text;
        }
        let input = Value::Object(self.object.clone());
        self.fault(key, "missing", "Field required", &input, None);
        String::new()
    }

    /// A string that may be absent or null; an empty one counts as absent, as it did for the old service.
    pub fn optional_text(&mut self, key: &str, bytes_max: usize) -> Option<String> {
        match self.object.get(key) {
            None | Some(Value::Null) => None,
            Some(_) => self.text_or_fault(key, bytes_max).filter(|text| !text.is_empty()),
        }
    }

    /// One of a list of words, or absent or null.
    pub fn optional_word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let input = self.object.get(key).filter(|input| !input.is_null())?.clone();
        let found = input.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let quoted: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
            let expected = match quoted.split_last() {
                Some((last, [])) => last.clone(),
                Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
                None => String::new(),
            };
            let message = format!("Input should be {expected}");
            self.fault(key, "literal_error", &message, &input, Some(json!({ "expected": expected })));
        }
        found.map(|(_, value)| *value)
    }

    /// A whole number within bounds, or absent or null.
    pub fn optional_integer(&mut self, key: &str, min: i64, max: i64) -> Option<i64> {
        let input = self.object.get(key).filter(|input| !input.is_null())?.clone();
        let Some(number) = integer(&input) else {
            let (kind, message) = match input {
                Value::String(_) => {
                    ("int_parsing", "Input should be a valid integer, unable to parse string as an integer")
                }
                Value::Number(_) => {
                    ("int_from_float", "Input should be a valid integer, got a number with a fractional part")
                }
                _ => ("int_type", "Input should be a valid integer"),
            };
            self.fault(key, kind, message, &input, None);
            return None;
        };
        if number < min {
            let message = format!("Input should be greater than or equal to {min}");
            self.fault(key, "greater_than_equal", &message, &input, Some(json!({ "ge": min })));
        } else if number > max {
            let message = format!("Input should be less than or equal to {max}");
            self.fault(key, "less_than_equal", &message, &input, Some(json!({ "le": max })));
        }
        Some(number)
    }

    /// A list of strings, or absent or null.
    pub fn text_list(&mut self, key: &str, items_max: usize) -> Vec<String> {
        let input = match self.object.get(key) {
            None | Some(Value::Null) => return Vec::new(),
            Some(input) => input.clone(),
        };
        let Value::Array(items) = &input else {
            self.fault(key, "list_type", "Input should be a valid list", &input, None);
            return Vec::new();
        };
        if items.len() > items_max {
            let message = format!("List should have at most {items_max} items after validation, not {}", items.len());
            self.fault(key, "too_long", &message, &Value::Null, Some(json!({ "max_length": items_max })));
            return Vec::new();
        }
        let mut texts = Vec::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text.clone()),
                other => self.faults.push(ValidationFault {
                    kind: "string_type".to_owned(),
                    loc: vec![json!(self.place), json!(key), json!(place)],
                    msg: "Input should be a valid string".to_owned(),
                    input: shown(other),
                    ctx: None,
                }),
            }
        }
        texts
    }

    /// Adds a fault that only the caller can know of, with the input, which was taken out by then.
    pub fn value_fault(&mut self, key: &str, message: &str, input: &Value) {
        self.fault(key, "value_error", message, input, None);
    }

    /// All good, or every fault.
    pub fn finish(self) -> Result<(), Vec<ValidationFault>> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    fn text_or_fault(&mut self, key: &str, bytes_max: usize) -> Option<String> {
        // Taken out, not cloned: a prompt may be megabytes.
        match self.object.get_mut(key) {
            Some(Value::String(text)) if text.len() <= bytes_max => Some(std::mem::take(text)),
            Some(Value::String(_)) => {
                let message = format!("String should have at most {bytes_max} bytes");
                self.fault(key, "string_too_long", &message, &Value::Null, Some(json!({ "max_length": bytes_max })));
                None
            }
            other => {
                let input = other.cloned().unwrap_or(Value::Null);
                self.fault(key, "string_type", "Input should be a valid string", &input, None);
                None
            }
        }
    }

    fn has_fault(&self, key: &str) -> bool {
        self.faults.iter().any(|fault| fault.loc.get(1).and_then(Value::as_str) == Some(key))
    }

    fn fault(&mut self, key: &str, kind: &str, message: &str, input: &Value, ctx: Option<Value>) {
        self.faults.push(ValidationFault {
            kind: kind.to_owned(),
            loc: vec![json!(self.place), json!(key)],
            msg: message.to_owned(),
            input: shown(input),
            ctx,
        });
    }
}

/// The fault of a body that is not there.
pub(crate) fn missing_body() -> ValidationFault {
    ValidationFault {
        kind: "missing".to_owned(),
        loc: vec![json!("body")],
        msg: "Field required".to_owned(),
        input: Value::Null,
        ctx: None,
    }
}

/// The fault of a body that is not JSON, with its place counted in bytes.
pub(crate) fn not_json(bytes: &[u8], error: &serde_json::Error) -> ValidationFault {
    let before: usize =
        bytes.split(|byte| *byte == b'\n').take(error.line().saturating_sub(1)).map(|l| l.len() + 1).sum();
    ValidationFault {
        kind: "json_invalid".to_owned(),
        loc: vec![json!("body"), json!(before + error.column().saturating_sub(1))],
        msg: "JSON decode error".to_owned(),
        input: json!({}),
        ctx: Some(json!({ "error": error.to_string() })),
    }
}

fn integer(input: &Value) -> Option<i64> {
    match input {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
            #[expect(clippy::cast_possible_truncation, reason = "whole and within the exact range of a double")]
            Some(float as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// An input fit to be repeated in a fault: small ones whole, large ones not at all.
fn shown(input: &Value) -> Value {
    match input {
        Value::Object(fields) if fields.len() > 16 => Value::Null,
        Value::Array(items) if items.len() > 64 => Value::Null,
        Value::String(text) if text.len() > FAULT_INPUT_BYTES_MAX => Value::Null,
        small if small.to_string().len() > FAULT_INPUT_BYTES_MAX => Value::Null,
        small => small.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(body: Value) -> Vec<(String, String)> {
        let mut fields = Fields::of_body(body).unwrap();
        fields.required_text("prompt", 10);
        fields.optional_text("system", 10);
        fields.optional_word("mode", &[("append", 1), ("replace", 2)]);
        fields.optional_integer("timeout_secs", 5, 600);
        fields.text_list("files", 2);
        let faults = fields.finish().err().unwrap_or_default();
        faults.into_iter().map(|fault| (fault.kind, fault.msg)).collect()
    }

    fn kinds(body: Value) -> Vec<String> {
        faults_of(body).into_iter().map(|(kind, _)| kind).collect()
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let body = json!({"prompt": 5, "system": [], "mode": "x", "timeout_secs": 4, "files": "ff_"});
        assert_eq!(kinds(body), ["string_type", "string_type", "literal_error", "greater_than_equal", "list_type"]);
    }

    #[test]
    fn unknown_keys_nulls_and_empty_strings_are_passed_over() {
        let body =
            json!({"prompt": "p", "system": null, "mode": null, "timeout_secs": null, "files": null, "created_at": 0});
        assert_eq!(kinds(body), Vec::<String>::new());
        let mut fields = Fields::of_body(json!({"model": ""})).unwrap();
        assert_eq!(fields.optional_text("model", 5), None);
    }

    #[test]
    fn integers_are_read_as_the_old_service_read_them() {
        for good in [json!(5), json!("5"), json!(5.0), json!(" 600 ")] {
            assert_eq!(kinds(json!({"prompt": "p", "timeout_secs": good})), Vec::<String>::new());
        }
        for (bad, kind) in [
            (json!(601), "less_than_equal"),
            (json!(5.5), "int_from_float"),
            (json!("x"), "int_parsing"),
            (json!(true), "int_type"),
            (json!(1e300), "int_from_float"),
        ] {
            assert_eq!(kinds(json!({"prompt": "p", "timeout_secs": bad})), [kind]);
        }
    }

    #[test]
    fn a_prompt_must_say_something() {
        assert_eq!(kinds(json!({})), ["missing"]);
        assert_eq!(kinds(json!({"prompt": null})), ["string_type"]);
        assert_eq!(kinds(json!({"prompt": " \n"})), ["string_too_short"]);
        assert_eq!(kinds(json!({"prompt": "x".repeat(11)})), ["string_too_long"]);
    }

    #[test]
    fn the_words_are_the_old_ones() {
        let faults = faults_of(json!({"prompt": "p", "mode": "x"}));
        assert_eq!(faults, [("literal_error".to_owned(), "Input should be 'append' or 'replace'".to_owned())]);
    }

    #[test]
    fn a_large_input_is_not_repeated() {
        let mut fields = Fields::of_body(json!({"files": "x".repeat(5000)})).unwrap();
        fields.text_list("files", 2);
        assert_eq!(fields.finish().unwrap_err()[0].input, Value::Null);
    }

    #[test]
    fn the_place_of_a_syntax_error_is_counted_over_lines() {
        let bytes = b"{\n  \"a\": x}";
        let error = serde_json::from_slice::<Value>(bytes).unwrap_err();
        assert_eq!(not_json(bytes, &error).loc, [json!("body"), json!(9)]);
    }
}
