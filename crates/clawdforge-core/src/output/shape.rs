//! The shape of a schema: where its schemas are, how they refer to each other, and what is not taken.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{PATTERNS_MAX, SCHEMA_DEPTH_MAX, SCHEMA_HOPS_MAX, SchemaFault, is_deeper};

/// What stands below a keyword of the dialect 2020-12.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    Schema,
    List,
    ByName,
}

/// Every keyword that holds schemas, and whether these look at the same value as the schema they stand in.
const KEYWORDS: [(&str, Below, bool); 20] = [
    ("$defs", Below::ByName, false),
    ("definitions", Below::ByName, false),
    ("properties", Below::ByName, false),
    ("patternProperties", Below::ByName, false),
    ("additionalProperties", Below::Schema, false),
    ("unevaluatedProperties", Below::Schema, false),
    ("propertyNames", Below::Schema, false),
    ("items", Below::Schema, false),
    ("prefixItems", Below::List, false),
    ("contains", Below::Schema, false),
    ("unevaluatedItems", Below::Schema, false),
    ("contentSchema", Below::Schema, false),
    ("allOf", Below::List, true),
    ("anyOf", Below::List, true),
    ("oneOf", Below::List, true),
    ("not", Below::Schema, true),
    ("if", Below::Schema, true),
    ("then", Below::Schema, true),
    ("else", Below::Schema, true),
    ("dependentSchemas", Below::ByName, true),
];

/// The dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Keywords that lead elsewhere by what happens when a value is looked at, so that nobody can say beforehand where to.
const DYNAMIC: [&str; 4] = ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor"];

/// What is wrong with a schema, by its shape alone.
pub(super) fn faults(schema: &Value) -> Vec<SchemaFault> {
    if is_deeper(schema, SCHEMA_DEPTH_MAX) {
        let message = format!("a schema has at most {SCHEMA_DEPTH_MAX} levels; use $defs and $ref");
        return vec![SchemaFault { path: String::new(), message }];
    }
    let mut look = Look::default();
    look.at(schema, String::new());
    if look.patterns > PATTERNS_MAX {
        let message = format!("a schema has at most {PATTERNS_MAX} patterns, not {}", look.patterns);
        look.faults.push(SchemaFault { path: String::new(), message });
    }
    look.faults.extend(look.endless());
    look.faults
}

/// Calls `see` for each schema that is an object.
pub(super) fn each(schema: &mut Value, see: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(fields) = schema else { return };
    for (keyword, below, _) in KEYWORDS {
        match (below, fields.get_mut(keyword)) {
            (Below::Schema, Some(schema)) => each(schema, see),
            (Below::List, Some(Value::Array(list))) => list.iter_mut().for_each(|schema| each(schema, see)),
            (Below::ByName, Some(Value::Object(named))) => named.values_mut().for_each(|schema| each(schema, see)),
            (_, _) => {}
        }
    }
    see(fields);
}

/// The schemas that were found, by their places.
#[derive(Default)]
struct Look {
    /// Which others look at the same value as a schema does: below it, and by reference.
    same_value: HashMap<String, Vec<String>>,
    patterns: usize,
    faults: Vec<SchemaFault>,
}

impl Look {
    fn at(&mut self, schema: &Value, path: String) {
        let mut same = Vec::new();
        if let Value::Object(fields) = schema {
            self.own(fields, &path, &mut same);
            for (keyword, below, is_same) in KEYWORDS {
                let Some(value) = fields.get(keyword) else { continue };
                let place = format!("{path}/{keyword}");
                let found: Vec<(String, &Value)> = match (below, value) {
                    (Below::Schema, schema) => vec![(place, schema)],
                    (Below::List, Value::Array(list)) => {
                        list.iter().enumerate().map(|(index, schema)| (format!("{place}/{index}"), schema)).collect()
                    }
                    (Below::ByName, Value::Object(named)) => {
                        named.iter().map(|(name, schema)| (format!("{place}/{}", escaped(name)), schema)).collect()
                    }
                    // The validator says what should be there.
                    (Below::List | Below::ByName, _) => Vec::new(),
                };
                for (place, schema) in found {
                    if is_same {
                        same.push(place.clone());
                    }
                    self.at(schema, place);
                }
            }
        }
        self.same_value.insert(path, same);
    }

    /// What a schema says itself.
    fn own(&mut self, fields: &Map<String, Value>, path: &str, same: &mut Vec<String>) {
        self.patterns += usize::from(fields.contains_key("pattern"));
        self.patterns += fields.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
        for keyword in DYNAMIC.into_iter().filter(|keyword| fields.contains_key(*keyword)) {
            self.fault(path, keyword, format!("{keyword} is not taken; refer with $ref to a place in this schema"));
        }
        if fields.contains_key("$id") && !path.is_empty() {
            self.fault(path, "$id", "a schema within another has no $id here".to_owned());
        }
        let dialect = fields.get("$schema").map(|dialect| dialect.as_str().unwrap_or_default().trim_end_matches('#'));
        if dialect.is_some_and(|dialect| dialect != DIALECT) {
            self.fault(
                path,
                "$schema",
                format!("only the dialect {DIALECT} is taken; leave $schema out, or name that"),
            );
        }
        match fields.get("$ref").map(|target| target.as_str().and_then(pointer)) {
            Some(Some(target)) => same.push(target),
            Some(None) => {
                let message = "a $ref is `#` or begins with `#/`: nothing outside of this schema is ever looked up";
                self.fault(path, "$ref", message.to_owned());
            }
            None => {}
        }
    }

    /// References that lead to no schema, and schemas that would look at one value for ever, or through too many others.
    fn endless(&self) -> Vec<SchemaFault> {
        let mut hops = HashMap::new();
        let mut faults = Vec::new();
        let mut places: Vec<&String> = self.same_value.keys().collect();
        places.sort_unstable();
        for place in places {
            if let Err(fault) = self.hops(place, &mut hops, 0) {
                faults.push(fault);
                return faults;
            }
        }
        faults
    }

    /// How many schemas look at one value from here on, this one included.
    fn hops(&self, place: &str, known: &mut HashMap<String, usize>, before: usize) -> Result<usize, SchemaFault> {
        if let Some(hops) = known.get(place) {
            return Ok(*hops);
        }
        let fault = |message: String| SchemaFault { path: place.to_owned(), message };
        // A circle has no end, so it is found by this as well.
        if before > SCHEMA_HOPS_MAX {
            return Err(fault(too_many()));
        }
        let mut most = 0;
        for next in self.same_value.get(place).into_iter().flatten() {
            if !self.same_value.contains_key(next) {
                return Err(SchemaFault {
                    path: format!("{place}/$ref"),
                    message: format!("there is no schema at #{next}"),
                });
            }
            most = most.max(self.hops(next, known, before + 1)?);
        }
        if most + 1 > SCHEMA_HOPS_MAX {
            return Err(fault(too_many()));
        }
        known.insert(place.to_owned(), most + 1);
        Ok(most + 1)
    }

    fn fault(&mut self, path: &str, keyword: &str, message: String) {
        self.faults.push(SchemaFault { path: format!("{path}/{keyword}"), message });
    }
}

fn too_many() -> String {
    format!(
        "one value is looked at through more than {SCHEMA_HOPS_MAX} schemas that refer to each other, or for ever in a circle"
    )
}

/// The JSON pointer of a reference within its own document.
fn pointer(reference: &str) -> Option<String> {
    let fragment = reference.strip_prefix('#')?;
    if !fragment.is_empty() && !fragment.starts_with('/') {
        return None;
    }
    Some(fragment.to_owned())
}

/// A name as a part of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{OutputSchema, SCHEMA_BYTES_MAX};
    use super::*;

    #[track_caller]
    fn refused(schema: Value) -> Vec<(String, String)> {
        let faults = OutputSchema::of(&schema.to_string()).unwrap_err();
        faults.into_iter().map(|fault| (fault.path, fault.message)).collect()
    }

    #[test]
    fn a_schema_whose_references_stay_in_it_is_taken_also_where_they_go_round_through_the_value() {
        let node = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/a~1b"}, "all": {"items": {"$ref": "#"}}}});
        let schema = json!({
            "$schema": DIALECT, "$id": "https://example.com/list", "$ref": "#/$defs/a~1b", "$defs": {"a/b": node},
            "default": {"$ref": "https://example.com/this-is-data"},
        });
        assert_eq!(OutputSchema::of(&schema.to_string()).unwrap().value(), &schema);
    }

    #[test]
    fn what_leads_out_of_a_schema_is_refused_with_its_place() {
        for reference in ["https://example.com/x", "file:///etc/passwd", "other.json#/a", "#anchor", "", "//host/x"] {
            let faults = refused(json!({"properties": {"a": {"items": {"$ref": reference}}}}));
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].0, "/properties/a/items/$ref");
        }
        let faults = refused(
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "not": {"$id": "x", "$dynamicRef": "#a"}}),
        );
        let places: Vec<_> = faults.iter().map(|fault| fault.0.as_str()).collect();
        assert_eq!(places, ["/$schema", "/not/$dynamicRef", "/not/$id"], "all at once");
        assert_eq!(refused(json!({"$ref": "#/$defs/no"}))[0].0, "/$ref");
        assert_eq!(refused(json!({"$ref": "#/default", "default": {}}))[0].1, "there is no schema at #/default");
    }

    #[test]
    fn what_would_look_at_one_value_for_ever_or_through_too_many_schemas_is_refused() {
        assert!(refused(json!({"$ref": "#"}))[0].1.contains("in a circle"));
        let round =
            json!({"$defs": {"a": {"anyOf": [true, {"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}});
        assert!(refused(round)[0].1.contains("in a circle"));
        let chain = |links: usize| {
            let named = |link: usize| json!({"$ref": format!("#/$defs/d{}", link + 1)});
            let mut all: Map<_, _> = (0..links).map(|link| (format!("d{link}"), named(link))).collect();
            all.insert(format!("d{links}"), json!({"type": "string"}));
            json!({"$defs": all})
        };
        assert!(OutputSchema::of(&chain(SCHEMA_HOPS_MAX - 1).to_string()).is_ok());
        assert!(refused(chain(SCHEMA_HOPS_MAX))[0].1.contains("more than 32 schemas"));
    }

    #[test]
    fn a_schema_that_is_too_large_too_deep_or_no_json_is_refused() {
        assert!(refused(json!({"description": "x".repeat(SCHEMA_BYTES_MAX)}))[0].1.contains("at most 65536 bytes"));
        let deep = (0..SCHEMA_DEPTH_MAX).fold(json!({}), |inner, _| json!({"not": inner}));
        assert!(refused(deep)[0].1.contains("at most 64 levels"));
        assert!(OutputSchema::of("{").is_err());
        let patterns = (0..=PATTERNS_MAX).map(|index| json!({"pattern": index.to_string()})).collect::<Vec<_>>();
        assert!(refused(json!({"anyOf": patterns}))[0].1.contains("at most 100 patterns"));
    }

    #[test]
    fn every_schema_is_seen_and_nothing_that_only_looks_like_one() {
        let mut schema = json!({
            "properties": {"not": {"items": {}}}, "anyOf": [{}, true], "const": {"not": {}}, "enum": [{"items": {}}],
        });
        each(&mut schema, &mut |fields| drop(fields.insert("seen".to_owned(), true.into())));
        let expected = json!({
            "properties": {"not": {"items": {"seen": true}, "seen": true}}, "anyOf": [{"seen": true}, true],
            "const": {"not": {}}, "enum": [{"items": {}}], "seen": true,
        });
        assert_eq!(schema, expected);
    }
}
