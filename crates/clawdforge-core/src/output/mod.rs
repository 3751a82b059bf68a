//! Answers as data: the schema that a caller wants an answer to fit, and what is said where it does not.
//!
//! What is decided here needs no validator: which schemas are taken ([`OutputSchema::of`]), what an agent is told, and the
//! bounds. Whether a value fits is asked of the one validator of the engine.

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod shape;

/// Bytes of a schema. It may become one argument of an agent, of which the system takes 128 KiB.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// Levels of the JSON of a schema: an object within an object takes two. Whoever reads a schema does so by recursion.
pub const SCHEMA_DEPTH_MAX: usize = 64;

/// Schemas that may look at one and the same value through each other (`$ref`, `allOf`, …). With
/// [`OUTPUT_DEPTH_MAX`] it bounds how deep the validator's stack grows: some 2 KiB for each at each level.
pub const SCHEMA_HOPS_MAX: usize = 32;

/// Patterns in a schema. Each is compiled into up to 256 KiB, which takes some milliseconds.
pub const PATTERNS_MAX: usize = 100;

/// Levels of the JSON of an answer that is looked at.
pub const OUTPUT_DEPTH_MAX: usize = 64;

/// Bytes of an answer that is looked at: several times what models write at once.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// How often an agent is asked again when its answer does not fit. Who did not do it twice after being told what is wrong
/// hardly ever does it the third time, and each costs a whole answer.
pub const OUTPUT_RETRIES_MAX: u64 = 2;

/// Violations that are told of one answer: enough to see what is wrong.
pub const VIOLATIONS_MAX: usize = 10;

/// Bytes of the text of a violation, and of its place; both hold names that callers and agents make up.
pub const VIOLATION_BYTES_MAX: usize = 300;

/// The schema that an answer is to fit, in the dialect 2020-12: an object within the bounds, whose references stay in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSchema(Value);

/// What is wrong with a schema, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFault {
    /// The place as a JSON pointer (RFC 6901); empty for the schema itself.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// One way in which an answer does not fit its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The place in the answer as a JSON pointer (RFC 6901); empty for all of it.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// Whether an answer fits what its turn asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It does, and this is it.
    Fits(Value),
    /// It does not, for these reasons: one at least, and no more than [`VIOLATIONS_MAX`].
    Misfits(Vec<Violation>),
}

impl Violation {
    /// A violation, cut to its bounds.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: short(path.into()), message: short(message.into()) }
    }
}

impl OutputSchema {
    /// A schema as a caller sends it. Whether its keywords are used as the dialect says, only a validator knows.
    ///
    /// # Errors
    /// [`SchemaFault`]s where it is too large or too deep, is of another dialect, refers to anything outside of itself, or
    /// could keep a validator busy for ever.
    pub fn of(text: &str) -> Result<Self, Vec<SchemaFault>> {
        let fault = |message: String| vec![SchemaFault { path: String::new(), message }];
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(fault(format!("a schema has at most {SCHEMA_BYTES_MAX} bytes, not {}", text.len())));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| fault(error.to_string()))?;
        let faults = shape::faults(&value);
        if faults.is_empty() { Ok(Self(value)) } else { Err(faults) }
    }

    /// One that was taken before, as it was recorded.
    #[must_use]
    pub fn recorded(value: Value) -> Self {
        Self(value)
    }

    /// The schema as JSON.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Calls `see` for each schema within it, itself included, so that it can be marked.
    pub fn each(value: &mut Value, see: &mut impl FnMut(&mut serde_json::Map<String, Value>)) {
        shape::each(value, see);
    }

    /// What an agent is told behind its prompt, where it has no option for schemas.
    #[must_use]
    pub fn instruction(&self) -> String {
        format!(
            "\n\nAnswer with JSON and nothing else: no words before or after it. It must be valid against this JSON Schema \
             (draft 2020-12):\n{}",
            self.0
        )
    }
}

/// What an agent is told whose answer does not fit.
#[must_use]
pub fn asked_again(violations: &[Violation]) -> String {
    let list: Vec<String> =
        violations.iter().map(|Violation { path, message }| format!("- at \"{path}\": {message}")).collect();
    format!(
        "Your answer is not valid against the JSON Schema:\n{}\nAnswer again with the whole corrected JSON and nothing else.",
        list.join("\n")
    )
}

/// Whether a value has more levels than that.
#[must_use]
pub fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(fields) => levels == 0 || fields.values().any(|item| is_deeper(item, levels - 1)),
        _ => false,
    }
}

fn short(mut text: String) -> String {
    if text.len() > VIOLATION_BYTES_MAX {
        text.truncate(text.floor_char_boundary(VIOLATION_BYTES_MAX));
        text.push('…');
    }
    text
}
