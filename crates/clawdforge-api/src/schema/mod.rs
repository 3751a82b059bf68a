//! JSON Schema (draft 2020-12) of what travels on `/v1`, for the service's description of itself.
//!
//! Written by hand beside the types, because the types of the events belong to the domain, which derives nothing for
//! the wire, and because a few lines each are less than one more derive below everything. The tests keep it true: they
//! fill every field of every type, and compare what is serialised with what is described.

mod events;
mod shapes;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::problem::Code;

pub use events::EVENT_NAMES;

/// Every schema by its name, as `components.schemas` of an OpenAPI document.
#[must_use]
pub fn all() -> Map<String, Value> {
    shapes::all().into_iter().chain(events::all()).map(|(name, schema)| (name.to_owned(), schema)).collect()
}

/// A schema by its name.
#[must_use]
pub fn named(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// A problem with one of these codes.
#[must_use]
pub fn problem(codes: &[Code]) -> Value {
    let codes: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    json!({ "allOf": [named("Problem"), { "properties": { "code": { "enum": codes } } }] })
}

/// An object, field by field.
#[derive(Debug, Clone)]
pub struct Object {
    about: &'static str,
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Object {
    /// An object without fields.
    #[must_use]
    pub fn new(about: &'static str) -> Self {
        Self { about, properties: Map::new(), required: Vec::new() }
    }

    /// With a field that is always there.
    #[must_use]
    pub fn with(mut self, name: &'static str, schema: Value) -> Self {
        self.required.push(name);
        self.maybe(name, schema)
    }

    /// With a field that may be left out.
    #[must_use]
    pub fn maybe(mut self, name: &'static str, schema: Value) -> Self {
        self.properties.insert(name.to_owned(), schema);
        self
    }

    /// Its schema. Further fields are allowed: adding some is free.
    #[must_use]
    pub fn schema(self) -> Value {
        let mut schema = json!({ "type": "object", "description": self.about, "properties": self.properties });
        if !self.required.is_empty() {
            schema["required"] = json!(self.required);
        }
        schema
    }
}

/// A text.
#[must_use]
pub fn text(about: &str) -> Value {
    json!({ "type": "string", "description": about })
}

/// One of some words.
#[must_use]
pub fn word<'a>(about: &str, words: impl IntoIterator<Item = &'a str>) -> Value {
    let words: Vec<_> = words.into_iter().collect();
    json!({ "type": "string", "enum": words, "description": about })
}

/// An instant.
#[must_use]
pub fn time(about: &str) -> Value {
    json!({ "type": "string", "format": "date-time", "description": about })
}

/// An id of a kind.
#[must_use]
pub fn id(prefix: &str, about: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^{prefix}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$"), "description": about })
}

/// A whole number that is not negative.
#[must_use]
pub fn count(about: &str) -> Value {
    json!({ "type": "integer", "minimum": 0, "description": about })
}

/// A sum of money.
#[must_use]
pub fn money(about: &str) -> Value {
    json!({ "type": "number", "description": about })
}

/// True or false.
#[must_use]
pub fn flag(about: &str) -> Value {
    json!({ "type": "boolean", "description": about })
}

/// A list of things.
#[must_use]
pub fn list(about: &str, item: &Value) -> Value {
    json!({ "type": "array", "items": item, "description": about })
}

/// The same, or null.
#[must_use]
pub fn or_null(mut schema: Value) -> Value {
    let Some(kind) = schema.get("type").cloned() else { return json!({ "anyOf": [schema, { "type": "null" }] }) };
    schema["type"] = json!([kind, "null"]);
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    schema
}
