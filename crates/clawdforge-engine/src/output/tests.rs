//! What fits and what does not, and what keeps a check from taking the service with it.

use clawdforge_core::output::{SCHEMA_BYTES_MAX, SCHEMA_HOPS_MAX};
use serde_json::Map;

use super::*;

fn schema(value: &Value) -> OutputSchema {
    OutputSchema::of(&value.to_string()).unwrap()
}

fn said(answer: impl Into<String>) -> TurnEnd {
    TurnEnd { answer: Some(answer.into()), ..TurnEnd::default() }
}

async fn check(wanted: &Value, end: TurnEnd) -> Verdict {
    Checks::new().answer(schema(wanted), end).await
}

#[track_caller]
fn places(verdict: &Verdict) -> Vec<&str> {
    let Verdict::Misfits(violations) = verdict else { panic!("it fits: {verdict:?}") };
    violations.iter().map(|violation| violation.path.as_str()).collect()
}

fn person() -> Value {
    json!({
        "type": "object", "required": ["name", "age"], "additionalProperties": false,
        "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"type": "integer", "minimum": 0}},
    })
}

#[tokio::test]
async fn an_answer_fits_bare_or_in_a_fence_and_data_counts_before_it() {
    let ada = json!({"name": "Ada", "age": 36});
    for answer in [ada.to_string(), format!("```json\n{ada}\n```"), format!("\n{ada}\n")] {
        assert_eq!(check(&person(), said(answer)).await, Verdict::Fits(ada.clone()));
    }
    let end = TurnEnd { output: Some(Box::new(ada.clone())), ..said("I have written it down.") };
    assert_eq!(check(&person(), end).await, Verdict::Fits(ada));
}

#[tokio::test]
async fn what_does_not_fit_is_told_by_its_places_and_without_its_values() {
    let verdict = check(&person(), said(r#"{"name": "ada secret", "age": -1, "x/y": 1}"#)).await;
    let mut found = places(&verdict);
    found.sort_unstable();
    assert_eq!(found, ["", "/age", "/name"], "{verdict:?}");
    assert!(!format!("{verdict:?}").contains("secret"), "{verdict:?}");
    for none in ["", "Here: {\"name\": \"Ada\", \"age\": 1}", "{'name': 1}"] {
        assert_eq!(places(&check(&person(), said(none)).await), [""], "{none:?}");
    }
    let many = check(&json!({"items": {"type": "string"}}), said(json!(vec![1; 100]).to_string())).await;
    assert_eq!(places(&many).len(), VIOLATIONS_MAX);
}

#[tokio::test]
async fn a_schema_that_is_none_is_told_with_its_place() {
    for (bad, place) in [
        (json!({"type": "objekt"}), "/type"),
        (json!({"properties": {"a": {"minimum": "x"}}}), "/properties/a/minimum"),
        (json!({"pattern": "^(?=a)b"}), "/pattern"),
        (json!({"pattern": r"\w{5000}"}), "/pattern"),
        (json!({"items": [{"type": "string"}]}), "/items"),
    ] {
        let fault = Checks::new().schema(&schema(&bad)).await.unwrap_err();
        assert_eq!(fault.path, place, "{fault:?}");
    }
    assert_eq!(Checks::new().schema(&schema(&person())).await, Ok(()));
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_too_deep_does_not_fit() {
    let large = check(&json!({}), said(format!("\"{}\"", "x".repeat(OUTPUT_BYTES_MAX)))).await;
    assert_eq!(places(&large), [""]);
    let deep = |levels: usize| said(format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    assert!(matches!(check(&json!({}), deep(OUTPUT_DEPTH_MAX)).await, Verdict::Fits(_)));
    assert_eq!(places(&check(&json!({}), deep(OUTPUT_DEPTH_MAX + 1)).await), [""]);
}

/// Each schema asks the next one twice, and the last one does the same for the next level of the answer.
fn doubling(links: usize) -> Value {
    let twice = |link: usize| {
        let next = json!({"$ref": format!("#/$defs/d{}", link + 1)});
        json!({"anyOf": [next, next]})
    };
    let mut all: Map<_, _> = (0..links).map(|link| (format!("d{link}"), twice(link))).collect();
    let last = json!({"type": "object", "properties": {"x": {"$ref": "#/$defs/d0"}}});
    all.insert(format!("d{links}"), last);
    json!({"$ref": "#/$defs/d0", "$defs": all})
}

#[tokio::test]
async fn a_schema_whose_work_doubles_at_every_step_is_given_up_in_time() {
    let checks = Checks { time_max: Duration::from_millis(200), ..Checks::new() };
    let wanted = schema(&doubling(SCHEMA_HOPS_MAX / 2 - 1));
    assert_eq!(checks.schema(&wanted).await, Ok(()), "it can be read");
    let verdict = checks.answer(wanted, said(r#"{"x": {"x": {"x": {"x": 1}}}}"#)).await;
    assert_eq!(verdict, Verdict::Misfits(vec![Violation::new("", NotDone::TooLong.of_answer())]));
    let next = checks.answer(schema(&json!({})), said("1")).await;
    assert_eq!(next, Verdict::Fits(json!(1)), "the next check finds room");
}

#[tokio::test]
async fn the_deepest_that_is_taken_does_not_overflow_the_stack() {
    // Each way from one schema to the next about the same value, and how many schemas that makes.
    type Way = fn(Value) -> Value;
    let ways: [(usize, Way); 6] = [
        (1, |next| next),
        (2, |next| json!({"allOf": [next]})),
        (2, |next| json!({"anyOf": [false, next]})),
        (2, |next| json!({"oneOf": [next, false]})),
        (2, |next| json!({"if": true, "then": next})),
        (2, |next| json!({"dependentSchemas": {"x": next}})),
    ];
    let deep = |inner: Value| (1..OUTPUT_DEPTH_MAX).fold(inner, |inner, _| json!({"x": inner}));
    for (schemas, way) in ways {
        let hops = (SCHEMA_HOPS_MAX - 2) / schemas;
        let next = |link: usize| way(json!({"$ref": format!("#/$defs/d{}", link + 1)}));
        let mut all: Map<_, _> = (0..hops).map(|link| (format!("d{link}"), next(link))).collect();
        let last = json!({"properties": {"x": {"$ref": "#/$defs/d0"}}, "unevaluatedProperties": false});
        all.insert(format!("d{hops}"), last);
        let wanted = json!({"$ref": "#/$defs/d0", "$defs": all});
        let fits = deep(json!({"x": 1}));
        assert_eq!(check(&wanted, said(fits.to_string())).await, Verdict::Fits(fits), "{wanted}");
        let verdict = check(&wanted, said(deep(json!({"y": 1})).to_string())).await;
        // Where the last level has no `x`, a schema that depends on one says nothing.
        assert_eq!(
            matches!(verdict, Verdict::Fits(_)),
            wanted.to_string().contains("dependentSchemas"),
            "{wanted} {verdict:?}"
        );
    }
}

#[tokio::test]
async fn a_schema_of_as_many_links_as_it_can_hold_is_read() {
    // Each looks at a part of the value of the one before, so no bound on one value holds them.
    let link = |link: usize| json!({"items": {"$ref": format!("#/$defs/{}", link + 1)}});
    let mut all: Map<_, _> = (0..1_500).map(|number| (number.to_string(), link(number))).collect();
    all.insert("1500".to_owned(), json!(true));
    let wanted = json!({"$ref": "#/$defs/0", "$defs": all});
    assert!(wanted.to_string().len() > SCHEMA_BYTES_MAX * 4 / 5 && wanted.to_string().len() < SCHEMA_BYTES_MAX);
    assert_eq!(Checks::new().schema(&schema(&wanted)).await, Ok(()));
}

#[tokio::test]
async fn more_violations_than_memory_should_hold_are_told_by_the_first() {
    let all: Vec<_> = (0..500).map(|_| json!({"items": {"type": "string"}})).collect();
    let answer = json!(vec![1; 5_000]).to_string();
    let verdict = check(&json!({"allOf": all}), said(answer)).await;
    assert_eq!(places(&verdict), ["/0"]);
}
