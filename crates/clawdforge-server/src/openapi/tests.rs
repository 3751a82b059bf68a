//! The document is whole, true to what is committed, and fit for a page that may do nothing.

use std::collections::HashSet;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::*;

/// The default of `timeout_max_secs`.
const TIMEOUT_SECS_MAX: u64 = 3_600;

/// Has the test below write the committed document instead of comparing it.
const WRITE_VARIABLE: &str = "CLAWDFORGE_WRITE_OPENAPI";

#[test]
fn every_route_of_v1_is_described_and_nothing_else() {
    let routes: HashSet<_> =
        routes().into_iter().filter(is_described).map(|route| (route.method.to_string(), route.path)).collect();
    let operations = operations::all(TIMEOUT_SECS_MAX);
    let described: HashSet<_> = operations.iter().map(|one| (one.method.to_string(), one.path)).collect();
    assert_eq!(described, routes, "describe a new route in openapi/operations.rs");
    assert_eq!(described.len(), operations.len(), "each once");
    let names: HashSet<_> = operations.iter().map(|one| one.to_json()["operationId"].to_string()).collect();
    assert_eq!(names.len(), operations.len(), "each by a name of its own");
}

#[test]
fn every_segment_of_a_path_is_a_parameter_and_every_parameter_of_a_path_a_segment() {
    for operation in operations::all(TIMEOUT_SECS_MAX) {
        let segments: Vec<_> =
            operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let described = operation.to_json();
        let parameters = described["parameters"].as_array().into_iter().flatten();
        let of_path: Vec<_> =
            parameters.filter(|one| one["in"] == "path").map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(of_path, segments, "{} {}", operation.method, operation.path);
    }
}

#[test]
fn every_link_leads_to_an_operation_and_fills_its_path() {
    let all: Vec<Value> = operations::all(TIMEOUT_SECS_MAX).iter().map(Operation::to_json).collect();
    let answers = all.iter().flat_map(|one| one["responses"].as_object().unwrap().values());
    let links: Vec<_> = answers.filter_map(|answer| answer["links"].as_object()).flat_map(Map::values).collect();
    assert!(links.len() >= 20, "{links:?}");
    for link in links {
        let to = all.iter().find(|one| one["operationId"] == link["operationId"]).unwrap_or_else(|| panic!("{link}"));
        let parameters = to["parameters"].as_array().into_iter().flatten();
        let path: Vec<_> =
            parameters.filter(|one| one["in"] == "path").map(|one| one["name"].as_str().unwrap()).collect();
        let filled: Vec<_> = link["parameters"].as_object().unwrap().keys().collect();
        assert_eq!(filled, path, "{link}");
    }
}

fn references(value: &Value, found: &mut HashSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").map(|name| name.as_str().unwrap().to_owned()));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_to_a_schema_and_every_schema_is_referred_to() {
    let document = document(TIMEOUT_SECS_MAX);
    let mut found = HashSet::new();
    references(&document, &mut found);
    let schemas = document["components"]["schemas"].as_object().unwrap().keys();
    let there: HashSet<_> = schemas.map(|name| format!("#/components/schemas/{name}")).collect();
    assert_eq!(found, there);
}

#[test]
fn the_longest_time_limit_is_the_operators() {
    let body = document(77)["paths"]["/v1/runs"]["post"]["requestBody"]["content"]["application/json"].clone();
    assert_eq!(body["schema"]["properties"]["timeout_secs"]["maximum"], 77);
}

#[test]
fn the_committed_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    let written = format!("{:#}\n", document(TIMEOUT_SECS_MAX));
    #[expect(clippy::disallowed_methods, reason = "the one way to tell a test something")]
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == written,
        "docs/reference/openapi.json is stale; look whether the change is meant, then run \
         `{WRITE_VARIABLE}=1 cargo test -p clawdforge-server the_committed_document`"
    );
}

#[test]
fn the_page_shows_every_operation_and_needs_nothing_from_elsewhere() {
    let document = document(TIMEOUT_SECS_MAX);
    let page = page::write(&document);
    for operation in operations::all(TIMEOUT_SECS_MAX) {
        let heading = format!("<h3><code>{} {}</code></h3>", operation.method, operation.path);
        assert!(page.contains(&heading), "{heading}");
    }
    for foreign in ["<script", "http:", "https:", "url(", "@import", "style=", "<img", "<iframe", "<link", "<form"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let links = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    for link in links {
        let is_there =
            link.strip_prefix('#').map_or(link == "/openapi.json", |id| page.contains(&format!("id=\"{id}\"")));
        assert!(is_there, "{link}");
    }
}

#[test]
fn what_a_document_says_cannot_become_markup() {
    let document = json!({ "info": { "title": "<b>", "description": "a `<i>` & \"c\"" }, "tags": [], "paths": {} });
    let page = page::write(&document);
    assert!(page.contains("<title>&lt;b&gt; API</title>"), "{page}");
    assert!(page.contains("a <code>&lt;i&gt;</code> &amp; &quot;c&quot;"), "{page}");
}

#[test]
fn the_policy_of_the_page_names_its_style_and_no_other() {
    let page = page::write(&document(TIMEOUT_SECS_MAX));
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let hash = format!("'sha256-{}'", base64(&Sha256::digest(style.as_bytes())));
    assert!(page::POLICY.contains(&hash), "{hash}");
    assert_eq!(page.matches("<style>").count(), 1);
    assert!(!page::POLICY.contains("unsafe"));
}

/// The base64 of 32 bytes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let whole = chunk.iter().chain(&[0, 0]).take(3).fold(0_u32, |whole, byte| whole << 8 | u32::from(*byte));
        (0..=chunk.len()).map(move |place| char::from(DIGITS[(whole >> (18 - 6 * place)) as usize & 63]))
    });
    let text: String = digits.collect();
    format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4))
}
