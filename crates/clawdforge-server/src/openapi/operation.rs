//! One operation, and how it is written down.

use std::collections::BTreeMap;

use axum::http::Method;
use clawdforge_api::problem::{Code, PROBLEM_JSON};
use clawdforge_api::schema::{self, named};
use clawdforge_api::v1::EVENT_STREAM;
use serde_json::{Map, Value, json};

use crate::router::Audience;

/// The name under which the document knows how apps sign in.
pub(super) const SECURITY: &str = "appToken";

/// The name under which it knows how the operator does.
pub(super) const OPERATOR_SECURITY: &str = "adminToken";

/// What any request can be refused with.
const OF_ANYBODY: [Code; 6] = [
    Code::AddressNotAllowed,
    Code::HostNotAllowed,
    Code::HostUnreadable,
    Code::ForeignPage,
    Code::TokenInUrl,
    Code::InternalError,
];

/// What a request with a token can be refused with besides.
const SIGNED_IN: [Code; 4] = [Code::NotSignedIn, Code::NotPermitted, Code::TooManySignIns, Code::RecordsUnavailable];

/// What can be asked of one route.
pub(super) struct Operation {
    pub method: Method,
    pub path: &'static str,
    name: &'static str,
    tag: &'static str,
    summary: &'static str,
    about: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Map<String, Value>,
    codes: Vec<Code>,
    audience: Audience,
}

impl Operation {
    /// An operation of apps.
    pub fn new(
        method: Method,
        path: &'static str,
        name: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            name,
            tag,
            summary,
            about: "",
            parameters: Vec::new(),
            body: None,
            answers: Map::new(),
            codes: OF_ANYBODY.into_iter().chain(SIGNED_IN).collect(),
            audience: Audience::App,
        }
    }

    /// Needs no token, and is refused in the form of the first versions.
    pub fn for_everybody(mut self) -> Self {
        self.audience = Audience::Everybody;
        self.codes = OF_ANYBODY.to_vec();
        self
    }

    /// Needs the operator's token.
    pub fn for_the_operator(mut self) -> Self {
        self.audience = Audience::Operator;
        self
    }

    /// With more to say.
    pub fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    /// With parameters.
    pub fn with(mut self, parameters: impl IntoIterator<Item = Value>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// With a query that can have faults.
    pub fn query(self, parameters: impl IntoIterator<Item = Value>) -> Self {
        self.with(parameters).refuses(&[Code::InvalidRequest])
    }

    /// About one thing of the app.
    pub fn of(self, parameters: impl IntoIterator<Item = Value>) -> Self {
        self.with(parameters).refuses(&[Code::NotFound])
    }

    /// With a body in this content type.
    pub fn body(mut self, kind: &str, content: Value) -> Self {
        self.body = Some(json!({ "required": true, "content": { kind: content } }));
        self.refuses(&[
            Code::WrongContentType,
            Code::BodyTooLarge,
            Code::BodyTooSlow,
            Code::BodyBroken,
            Code::InvalidRequest,
            Code::Stopping,
        ])
    }

    /// As [`Self::body`], where it may be left out.
    pub fn optional_body(self, kind: &str, content: Value) -> Self {
        let body = json!({ "required": false, "content": { kind: content.clone() } });
        Self { body: Some(body), ..self.body(kind, content) }
    }

    /// With a further problem as an answer.
    pub fn refuses(mut self, codes: &[Code]) -> Self {
        let new = codes.iter().filter(|code| !self.codes.contains(code));
        let new: Vec<Code> = new.copied().collect();
        self.codes.extend(new);
        self
    }

    /// Answers well with a JSON value.
    pub fn answers(mut self, status: u16, about: &str, schema: &str) -> Self {
        let answer = self.answer(status, about);
        answer["content"]["application/json"] = json!({ "schema": named(schema) });
        self
    }

    /// Answers well with nothing.
    pub fn answers_nothing(mut self, about: &str) -> Self {
        self.answer(204, about);
        self
    }

    /// Answers well with a stream of events, of which an app has only so many open.
    pub fn streams(mut self, about: &str) -> Self {
        let answer = self.answer(200, about);
        answer["content"][EVENT_STREAM] = json!({ "schema": named("StreamEvent") });
        self.refuses(&[Code::Busy])
    }

    /// Answers well with a text.
    pub fn answers_text(mut self, about: &str, kind: &str) -> Self {
        let answer = self.answer(200, about);
        answer["content"][kind] = json!({ "schema": { "type": "string" } });
        self
    }

    /// With headers of a good answer.
    pub fn headers(mut self, status: u16, headers: &[(&str, &str, bool)]) -> Self {
        for (name, about, is_always_there) in headers {
            self.answer(status, "")["headers"][*name] =
                json!({ "description": about, "required": is_always_there, "schema": { "type": "string" } });
        }
        self
    }

    /// With the operations about what a good answer brings, and where they find it: a parameter's name and place.
    pub fn leads_to(mut self, status: u16, operations: &[&str], parameters: &[(&str, &str)]) -> Self {
        let parameters: Map<_, _> = parameters.iter().map(|(name, place)| ((*name).to_owned(), json!(place))).collect();
        for operation in operations {
            self.answer(status, "")["links"][*operation] =
                json!({ "operationId": operation, "parameters": parameters });
        }
        self
    }

    fn answer(&mut self, status: u16, about: &str) -> &mut Value {
        let answer = self.answers.entry(status.to_string()).or_insert_with(|| json!({ "description": "" }));
        let said = answer["description"].as_str().unwrap_or_default();
        let parts = [said, about].into_iter().filter(|part| !part.is_empty());
        answer["description"] = parts.collect::<Vec<_>>().join(" Or: ").into();
        answer
    }

    /// As a part of the document.
    pub fn to_json(&self) -> Value {
        let mut operation = json!({ "operationId": self.name, "tags": [self.tag], "summary": self.summary });
        if !self.about.is_empty() {
            operation["description"] = self.about.into();
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.clone().into();
        }
        if let Some(body) = &self.body {
            operation["requestBody"] = body.clone();
        }
        let mut answers = self.answers.clone();
        answers.extend(self.refusals());
        operation["responses"] = answers.into();
        operation["security"] = match self.audience {
            Audience::Everybody => json!([]),
            Audience::App => json!([{ SECURITY: [] }]),
            Audience::Operator => json!([{ OPERATOR_SECURITY: [] }]),
        };
        operation
    }

    /// The problems, by status.
    fn refusals(&self) -> impl Iterator<Item = (String, Value)> {
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in &self.codes {
            by_status.entry(code.status()).or_default().push(*code);
        }
        by_status.into_iter().map(|(status, codes)| (status.to_string(), self.refusal(status, &codes)))
    }

    fn refusal(&self, status: u16, codes: &[Code]) -> Value {
        let about: Vec<_> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
        let content = json!({ PROBLEM_JSON: { "schema": schema::problem(codes) } });
        let mut refusal = json!({ "description": about.join("\n"), "content": content });
        let name = match status {
            401 => "WWW-Authenticate",
            429 | 503 => "Retry-After",
            _ => return refusal,
        };
        refusal["headers"][name] = json!({ "required": true, "schema": { "type": "string" } });
        refusal
    }
}
