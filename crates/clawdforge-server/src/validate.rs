//! Reading a body field by field, with all faults at once, in the words of the first implementation.
//!
//! The old service validated with pydantic, and its clients know that shape: `type`, `loc`, `msg`,
//! `input`. Like it, we take `"120"` and `120.0` for an integer, and pass over keys we do not know.

use std::borrow::Cow;
use std::fmt;

use clawdforge_api::legacy::ValidationFault;
use clawdforge_core::output::{OutputSchema, SchemaFault};
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::limits::FAULT_INPUT_BYTES_MAX;

/// Most bytes of JSON text that one byte of a string can take: `\u0000`.
const ESCAPED_BYTES_MAX: usize = 6;

/// The field with the schema that an answer is to fit.
pub(crate) const OUTPUT_SCHEMA: &str = "output_schema";

/// The fields of a body that is an object, and the faults found so far.
///
/// Fields stay JSON text until they are asked for, and those nobody asks for are passed over: small
/// numbers take sixteen times the memory of their text once they are expanded.
pub(crate) struct Fields<'a> {
    values: Vec<(&'static str, Cow<'a, str>)>,
    /// The whole input, as a fault repeats it.
    whole: Value,
    faults: Vec<ValidationFault>,
    place: &'static str,
}

impl<'a> Fields<'a> {
    /// The known fields of a JSON body; its faults are placed at `body`. Of equal keys the last counts.
    pub fn of_body(body: &'a [u8], known: &'static [&'static str]) -> Result<Self, Vec<ValidationFault>> {
        let bad_json = |error| vec![not_json(body, &error)];
        if !body.trim_ascii_start().starts_with(b"{") {
            let other: &RawValue = serde_json::from_slice(body).map_err(bad_json)?;
            return Err(vec![ValidationFault {
                kind: "model_attributes_type".to_owned(),
                loc: vec![json!("body")],
                msg: "Input should be a valid dictionary or object to extract fields from".to_owned(),
                input: shown(other.get()),
                ctx: None,
            }]);
        }
        let mut reader = serde_json::Deserializer::from_slice(body);
        let values = reader.deserialize_map(KnownFields(known)).map_err(bad_json)?;
        reader.end().map_err(bad_json)?;
        let whole = std::str::from_utf8(body).map_or(Value::Null, shown);
        Ok(Self { values, whole, faults: Vec::new(), place: "body" })
    }

    /// The known parameters of a query; their faults are placed at `query`.
    pub fn of_query(parameters: Vec<(String, String)>, known: &'static [&'static str]) -> Self {
        let mut values = Vec::new();
        for (key, value) in parameters {
            if let Some(key) = known.iter().find(|known| **known == key) {
                put(&mut values, key, Cow::Owned(Value::String(value).to_string()));
            }
        }
        Self { values, whole: Value::Null, faults: Vec::new(), place: "query" }
    }

    /// A string that must be there and hold more than white space.
    pub fn required_text(&mut self, key: &str, bytes_max: usize) -> String {
        let Some(raw) = self.take(key) else {
            let input = self.whole.clone();
            self.fault(key, "missing", "Field required", input, None);
            return String::new();
        };
        let text = self.text_or_fault(key, &raw, bytes_max).unwrap_or_default();
        if text.trim().is_empty() && !self.has_fault(key) {
            let message = "String should have at least 1 character";
            self.fault(key, "string_too_short", message, shown(&raw), Some(json!({"min_length": 1})));
        }
        text
    }

    /// A string that may be absent or null; an empty one counts as absent, as it did for the old service.
    pub fn optional_text(&mut self, key: &str, bytes_max: usize) -> Option<String> {
        let raw = self.take(key).filter(|raw| raw != "null")?;
        self.text_or_fault(key, &raw, bytes_max).filter(|text| !text.is_empty())
    }

    /// One of a list of words, or absent or null.
    pub fn optional_word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let raw = self.take(key).filter(|raw| raw != "null")?;
        let input = shown(&raw);
        let found = input.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let quoted: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
            let expected = match quoted.split_last() {
                Some((last, [])) => last.clone(),
                Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
                None => String::new(),
            };
            let message = format!("Input should be {expected}");
            self.fault(key, "literal_error", &message, input, Some(json!({ "expected": expected })));
        }
        found.map(|(_, value)| *value)
    }

    /// A whole number within bounds, or absent or null.
    pub fn optional_integer(&mut self, key: &str, min: i64, max: i64) -> Option<i64> {
        let raw = self.take(key).filter(|raw| raw != "null")?;
        if raw.len() > FAULT_INPUT_BYTES_MAX {
            let message = "Input should be a valid integer, and this is far too long for one";
            self.fault(key, "int_parsing_size", message, Value::Null, None);
            return None;
        }
        let input: Value = self.parsed(key, &raw)?;
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
            self.fault(key, kind, message, input, None);
            return None;
        };
        if number < min {
            let message = format!("Input should be greater than or equal to {min}");
            self.fault(key, "greater_than_equal", &message, input, Some(json!({ "ge": min })));
        } else if number > max {
            let message = format!("Input should be less than or equal to {max}");
            self.fault(key, "less_than_equal", &message, input, Some(json!({ "le": max })));
        }
        Some(number)
    }

    /// A JSON object as text, or absent or null.
    pub fn optional_object(&mut self, key: &str, bytes_max: usize) -> Option<String> {
        let raw = self.take(key).filter(|raw| raw != "null")?;
        if !raw.starts_with('{') {
            self.fault(key, "dict_type", "Input should be a valid dictionary", shown(&raw), None);
            return None;
        }
        if raw.len() > bytes_max {
            let message = format!("Dictionary should have at most {bytes_max} bytes");
            self.fault(key, "too_long", &message, Value::Null, Some(json!({ "max_length": bytes_max })));
            return None;
        }
        // Read once as what it will be read as later: half a character shows only then.
        let object: Value = self.parsed(key, &raw)?;
        Some(object.to_string())
    }

    /// The schema that the answer is to fit, or absent or null.
    pub fn output_schema(&mut self) -> Option<OutputSchema> {
        let raw = self.take(OUTPUT_SCHEMA).filter(|raw| raw != "null")?;
        if !raw.starts_with('{') {
            self.fault(OUTPUT_SCHEMA, "dict_type", "Input should be a valid dictionary", shown(&raw), None);
            return None;
        }
        let taken = OutputSchema::of(&raw);
        taken.map_err(|faults| self.faults.extend(faults.into_iter().map(schema_fault))).ok()
    }

    /// A true or false, or absent.
    pub fn optional_bool(&mut self, key: &str) -> Option<bool> {
        let raw = self.take(key).filter(|raw| raw != "null")?;
        let input = shown(&raw);
        let read = match &input {
            Value::Bool(value) => Some(*value),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if read.is_none() {
            let message = "Input should be a valid boolean, unable to interpret input";
            self.fault(key, "bool_parsing", message, input, None);
        }
        read
    }

    /// A list of strings, or absent or null.
    pub fn text_list(&mut self, key: &str, items_max: usize) -> Vec<String> {
        let Some(raw) = self.take(key).filter(|raw| raw != "null") else { return Vec::new() };
        if !raw.starts_with('[') {
            self.fault(key, "list_type", "Input should be a valid list", shown(&raw), None);
            return Vec::new();
        }
        let read = serde_json::Deserializer::from_str(&raw).deserialize_seq(FirstItems(items_max));
        let (items, count) = match read {
            Ok(read) => read,
            Err(error) => {
                self.json_fault(vec![json!(self.place), json!(key)], &error);
                return Vec::new();
            }
        };
        if count > items_max {
            let message = format!("List should have at most {items_max} items after validation, not {count}");
            self.fault(key, "too_long", &message, Value::Null, Some(json!({ "max_length": items_max })));
            return Vec::new();
        }
        let mut texts = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().map(RawValue::get).enumerate() {
            let loc = vec![json!(self.place), json!(key), json!(place)];
            if item.starts_with('"') {
                match serde_json::from_str(item) {
                    Ok(text) => texts.push(text),
                    Err(error) => self.json_fault(loc, &error),
                }
            } else {
                self.faults.push(ValidationFault {
                    kind: "string_type".to_owned(),
                    loc,
                    msg: "Input should be a valid string".to_owned(),
                    input: shown(item),
                    ctx: None,
                });
            }
        }
        texts
    }

    /// A list of anything, or absent or null, bounded as a whole. Its faults do not repeat it.
    pub fn optional_list(&mut self, key: &str, items_max: usize, bytes_max: usize) -> Vec<Value> {
        let Some(raw) = self.take(key).filter(|raw| raw != "null") else { return Vec::new() };
        if !raw.starts_with('[') {
            self.fault(key, "list_type", "Input should be a valid list", Value::Null, None);
            return Vec::new();
        }
        if raw.len() > bytes_max {
            let message = format!("List should have at most {bytes_max} bytes");
            self.fault(key, "too_long", &message, Value::Null, Some(json!({ "max_length": bytes_max })));
            return Vec::new();
        }
        let items: Vec<Value> = self.parsed(key, &raw).unwrap_or_default();
        if items.len() > items_max {
            let message = format!("List should have at most {items_max} items after validation, not {}", items.len());
            self.fault(key, "too_long", &message, Value::Null, Some(json!({ "max_length": items_max })));
            return Vec::new();
        }
        items
    }

    /// Adds a fault of something within a field, which is not repeated.
    pub fn inner_fault(&mut self, key: &str, path: Vec<Value>, kind: &str, message: &str) {
        self.faults.push(ValidationFault {
            kind: kind.to_owned(),
            loc: [json!(self.place), json!(key)].into_iter().chain(path).collect(),
            msg: message.to_owned(),
            input: Value::Null,
            ctx: None,
        });
    }

    /// Whether a field is a string.
    pub fn is_text(&self, key: &str) -> bool {
        self.values.iter().any(|(name, raw)| *name == key && raw.starts_with('"'))
    }

    /// Whether a field is there, null or not.
    pub fn is_named(&self, key: &str) -> bool {
        self.values.iter().any(|(known, _)| *known == key)
    }

    /// Whether a field is there with anything but null.
    pub fn has(&self, key: &str) -> bool {
        self.values.iter().any(|(name, raw)| *name == key && raw != "null")
    }

    /// Adds a fault that only the caller can know of, with the input, which was taken out by then.
    pub fn value_fault(&mut self, key: &str, message: &str, input: &Value) {
        self.fault(key, "value_error", message, shown(&input.to_string()), None);
    }

    /// Adds a fault of a header that goes with the fields.
    pub fn header_fault(&mut self, name: &str, message: &str, input: Value) {
        self.faults.push(ValidationFault {
            kind: "value_error".to_owned(),
            loc: vec!["header".into(), name.into()],
            msg: message.to_owned(),
            input,
            ctx: None,
        });
    }

    /// All good, or every fault.
    pub fn finish(self) -> Result<(), Vec<ValidationFault>> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    fn take(&mut self, key: &str) -> Option<Cow<'a, str>> {
        let place = self.values.iter().position(|(name, _)| *name == key)?;
        Some(self.values.swap_remove(place).1)
    }

    fn text_or_fault(&mut self, key: &str, raw: &str, bytes_max: usize) -> Option<String> {
        if !raw.starts_with('"') {
            self.fault(key, "string_type", "Input should be a valid string", shown(raw), None);
            return None;
        }
        let certainly_too_long = raw.len() > bytes_max.saturating_mul(ESCAPED_BYTES_MAX) + 2;
        if !certainly_too_long {
            let text: String = self.parsed(key, raw)?;
            if text.len() <= bytes_max {
                return Some(text);
            }
        }
        let message = format!("String should have at most {bytes_max} bytes");
        self.fault(key, "string_too_long", &message, Value::Null, Some(json!({ "max_length": bytes_max })));
        None
    }

    /// A value whose text is JSON by its shape only so far: half a character or a number beyond all
    /// numbers shows when it is read.
    fn parsed<T: serde::de::DeserializeOwned>(&mut self, key: &str, raw: &str) -> Option<T> {
        let parsed = serde_json::from_str(raw);
        parsed.map_err(|error| self.json_fault(vec![json!(self.place), json!(key)], &error)).ok()
    }

    fn has_fault(&self, key: &str) -> bool {
        self.faults.iter().any(|fault| fault.loc.get(1).and_then(Value::as_str) == Some(key))
    }

    fn fault(&mut self, key: &str, kind: &str, message: &str, input: Value, ctx: Option<Value>) {
        self.faults.push(ValidationFault {
            kind: kind.to_owned(),
            loc: vec![json!(self.place), json!(key)],
            msg: message.to_owned(),
            input,
            ctx,
        });
    }

    fn json_fault(&mut self, loc: Vec<Value>, error: &serde_json::Error) {
        self.faults.push(json_invalid(loc, error));
    }
}

/// Reads the known fields of an object as text and passes over the others.
struct KnownFields(&'static [&'static str]);

impl<'de> Visitor<'de> for KnownFields {
    type Value = Vec<(&'static str, Cow<'de, str>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            match self.0.iter().find(|known| **known == key) {
                Some(known) => put(&mut values, known, Cow::Borrowed(map.next_value::<&RawValue>()?.get())),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(values)
    }
}

/// Reads the first items of a list as text, and counts all of them.
struct FirstItems(usize);

impl<'de> Visitor<'de> for FirstItems {
    type Value = (Vec<&'de RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.0
            && let Some(item) = list.next_element()?
        {
            items.push(item);
        }
        let mut count = items.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((items, count))
    }
}

fn put<'a>(values: &mut Vec<(&'static str, Cow<'a, str>)>, key: &'static str, raw: Cow<'a, str>) {
    values.retain(|(name, _)| *name != key);
    values.push((key, raw));
}

/// What is wrong with a schema, with the whole way to it.
pub(crate) fn schema_fault(fault: SchemaFault) -> ValidationFault {
    let below = fault.path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    ValidationFault {
        kind: "value_error".to_owned(),
        loc: [json!("body"), json!(OUTPUT_SCHEMA)].into_iter().chain(below.map(Value::from)).collect(),
        msg: format!("Value error, {}", fault.message),
        input: Value::Null,
        ctx: None,
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
fn not_json(bytes: &[u8], error: &serde_json::Error) -> ValidationFault {
    let before: usize =
        bytes.split(|byte| *byte == b'\n').take(error.line().saturating_sub(1)).map(|l| l.len() + 1).sum();
    json_invalid(vec![json!("body"), json!(before + error.column().saturating_sub(1))], error)
}

fn json_invalid(loc: Vec<Value>, error: &serde_json::Error) -> ValidationFault {
    ValidationFault {
        kind: "json_invalid".to_owned(),
        loc,
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

/// An input fit to be repeated in a fault: a small one whole, a large one not at all.
fn shown(raw: &str) -> Value {
    if raw.len() > FAULT_INPUT_BYTES_MAX {
        return Value::Null;
    }
    // JSON by its shape only (half a character, say) is not repeated either.
    serde_json::from_str(raw).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["prompt", "system", "mode", "timeout_secs", "files", "model"];

    fn faults_of(body: Value) -> Vec<(String, String)> {
        let body = body.to_string();
        let mut fields = Fields::of_body(body.as_bytes(), KNOWN).unwrap();
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
        let mut fields = Fields::of_body(br#"{"model": ""}"#, KNOWN).unwrap();
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
        let body = json!({"files": "x".repeat(5000)}).to_string();
        let mut fields = Fields::of_body(body.as_bytes(), KNOWN).unwrap();
        fields.text_list("files", 2);
        assert_eq!(fields.finish().unwrap_err()[0].input, Value::Null);
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let mut fields = Fields::of_body(br#"{"model": "a", "x": [], "model": "b"}"#, KNOWN).unwrap();
        assert_eq!(fields.optional_text("model", 5).as_deref(), Some("b"));
        let twice = vec![("model".to_owned(), "a".to_owned()), ("model".to_owned(), "b".to_owned())];
        assert_eq!(Fields::of_query(twice, KNOWN).optional_text("model", 5).as_deref(), Some("b"));
    }

    #[test]
    fn a_list_beyond_its_bound_is_counted_and_not_kept() {
        let body = format!(r#"{{"prompt": "p", "files": [{}1]}}"#, "1,".repeat(1_000_000));
        let mut fields = Fields::of_body(body.as_bytes(), KNOWN).unwrap();
        assert_eq!(fields.text_list("files", 2), Vec::<String>::new());
        let faults = fields.finish().unwrap_err();
        assert_eq!(faults[0].msg, "List should have at most 2 items after validation, not 1000001");
    }

    #[test]
    fn what_is_json_only_by_its_shape_is_told_at_its_field_and_passed_over_elsewhere() {
        let body =
            br#"{"x": "\ud800", "prompt": "\ud800", "timeout_secs": 1e999, "files": ["\ud800"], "mode": "\ud800"}"#;
        let mut fields = Fields::of_body(body, KNOWN).unwrap();
        fields.required_text("prompt", 10);
        fields.optional_integer("timeout_secs", 5, 600);
        fields.text_list("files", 2);
        assert_eq!(fields.optional_word("mode", &[("append", 1)]), None);
        let faults = fields.finish().unwrap_err();
        let kinds: Vec<_> = faults.iter().map(|fault| fault.kind.as_str()).collect();
        assert_eq!(kinds, ["json_invalid", "json_invalid", "json_invalid", "literal_error"]);
        assert_eq!(faults[2].loc, [json!("body"), json!("files"), json!(0)]);
    }

    #[test]
    fn the_place_of_a_syntax_error_is_counted_over_lines() {
        let bytes = b"{\n  \"a\": x}";
        let error = serde_json::from_slice::<Value>(bytes).unwrap_err();
        assert_eq!(not_json(bytes, &error).loc, [json!("body"), json!(9)]);
    }
}
