//! The description for people: one page, made from the document, that needs no script and nothing from elsewhere.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::operation::{OPERATOR_SECURITY, SECURITY};

/// What the page may do: have its own style, and nothing else. The hash is that of [`STYLE`]; a test compares.
pub(crate) const POLICY: &str = "default-src 'none'; style-src 'sha256-991UINA+z93FZyRhRe0LcvS044CKp0pimQthmn3Tbfw='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "
:root{color-scheme:light dark;--line:#8884;--quiet:#777}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:auto;padding:1rem}
h2{margin-top:3rem;border-bottom:1px solid var(--line)}
h3{margin-top:2.5rem}
code,pre{font:14px/1.5 ui-monospace,monospace}
pre{overflow-x:auto;padding:.75rem;border:1px solid var(--line);border-radius:.4rem}
table{border-collapse:collapse;width:100%;font-size:.95rem}
td,th{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}
.method{display:inline-block;min-width:4.5rem}
.quiet{color:var(--quiet)}
";

/// Writes the page of a document.
pub(super) fn write(document: &Value) -> String {
    let mut page = Page(String::new());
    page.head(document);
    for tag in items(&document["tags"]) {
        page.group(document, tag);
    }
    page.schemas(&document["components"]["schemas"]);
    page.0.push_str("</main></body></html>\n");
    page.0
}

/// What has been written so far. Writing into a string cannot fail.
struct Page(String);

macro_rules! put {
    ($page:expr, $($rest:tt)*) => { let _ = write!($page.0, $($rest)*); };
}

impl Page {
    fn head(&mut self, document: &Value) {
        let info = &document["info"];
        let (title, version) = (escaped(&info["title"]), escaped(&info["version"]));
        put!(
            self,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} API</title>\
             <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body><main>\n\
             <h1>{title} API <span class=\"quiet\">{version}</span></h1>\n<p>{}</p>\n\
             <p>For programs: <a href=\"/openapi.json\">openapi.json</a>. Every request but those for everybody needs \
             <code>Authorization: Bearer cf_…</code>.</p>\n<table>\n",
            prose(&info["description"])
        );
        for (path, method, operation) in operations(document) {
            let (name, summary) = (escaped(&operation["operationId"]), prose(&operation["summary"]));
            put!(
                self,
                "<tr><td><a href=\"#{name}\"><code><span class=\"method\">{method}</span> {path}</code></a></td><td>{summary}</td></tr>\n"
            );
        }
        self.0.push_str("</table>\n");
    }

    fn group(&mut self, document: &Value, tag: &Value) {
        put!(self, "<h2>{}</h2>\n<p>{}</p>\n", escaped(&tag["name"]), prose(&tag["description"]));
        for (path, method, operation) in operations(document) {
            if operation["tags"][0] == tag["name"] {
                self.operation(&path, &method, operation);
            }
        }
    }

    fn operation(&mut self, path: &str, method: &str, operation: &Value) {
        let name = escaped(&operation["operationId"]);
        put!(self, "<section id=\"{name}\"><h3><code>{method} {path}</code></h3>\n");
        put!(self, "<p>{} {}</p>\n", prose(&operation["summary"]), prose(&operation["description"]));
        if operation.get("parameters").is_some() {
            self.0.push_str("<h4>Parameters</h4>\n<table>\n");
            for parameter in items(&operation["parameters"]) {
                let place = escaped(&parameter["in"]);
                let required = if parameter["required"] == true { ", required" } else { "" };
                self.row(
                    &escaped(&parameter["name"]),
                    &format!("{place}{required}; {}", kind(&parameter["schema"])),
                    &prose(&parameter["description"]),
                );
            }
            self.0.push_str("</table>\n");
        }
        for (media, content) in fields(&operation["requestBody"]["content"]) {
            put!(self, "<h4>Body, <code>{media}</code></h4>\n");
            self.object(&content["schema"]);
        }
        self.answers(&operation["responses"]);
        put!(self, "<h4>Example</h4>\n<pre>{}</pre>\n</section>\n", curl(path, method, operation));
    }

    fn answers(&mut self, answers: &Value) {
        self.0.push_str("<h4>Answers</h4>\n<table>\n");
        for (status, answer) in fields(answers) {
            let content = fields(&answer["content"]);
            let kinds: Vec<_> =
                content.map(|(media, content)| format!("<code>{media}</code> {}", kind(&content["schema"]))).collect();
            let mut about = prose(&answer["description"]).replace('\n', "<br>");
            for (name, header) in fields(&answer["headers"]) {
                let _ = write!(about, "<br><code>{name}</code> {}", prose(&header["description"]));
            }
            self.row(status, &kinds.join("<br>"), &about);
        }
        self.0.push_str("</table>\n");
    }

    fn schemas(&mut self, schemas: &Value) {
        self.0.push_str("<h2>Schemas</h2>\n");
        for (name, schema) in fields(schemas) {
            put!(self, "<section id=\"{name}\"><h3>{name}</h3>\n<p>{}</p>\n", prose(&schema["description"]));
            match schema.get("oneOf") {
                Some(_) => {
                    put!(self, "<p>{}</p>\n", kind(schema));
                }
                None => self.object(schema),
            }
            self.0.push_str("</section>\n");
        }
    }

    fn object(&mut self, schema: &Value) {
        self.0.push_str("<table>\n");
        for (name, field) in fields(&schema["properties"]) {
            let required = items(&schema["required"]).any(|required| required == name);
            let absent = if required { "" } else { "; may be absent" };
            self.row(name, &format!("{}{absent}", kind(field)), &prose(&field["description"]));
        }
        self.0.push_str("</table>\n");
    }

    fn row(&mut self, name: &str, kind: &str, about: &str) {
        put!(self, "<tr><td><code>{name}</code></td><td class=\"quiet\">{kind}</td><td>{about}</td></tr>\n");
    }
}

/// What a schema allows, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        if schema.get(several).is_some() {
            let named = items(&schema[several]).map(kind).filter(|kind| !kind.is_empty());
            return named.collect::<Vec<_>>().join(if several == "allOf" { " and " } else { " or " });
        }
    }
    let mut said = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(escaped).collect::<Vec<_>>().join(" or "),
        kind => escaped(kind),
    };
    if let Some(item) = schema.get("items") {
        said = said.replace("array", &format!("list of {}", kind(item)));
    }
    let words: Vec<_> = items(&schema["enum"])
        .chain(schema.get("const"))
        .map(|word| format!("<code>{}</code>", escaped(word)))
        .collect();
    // The codes of problems have pages, and a list of all of them would hide everything else.
    if (1..=12).contains(&words.len()) {
        said = words.join(", ");
    }
    for (word, shown) in
        [("minimum", "from"), ("maximum", "to"), ("maxLength", "up to"), ("maxItems", "up to"), ("default", "default")]
    {
        if let Some(bound) = schema.get(word) {
            let _ = write!(said, ", {shown} {}", escaped(bound));
        }
    }
    said
}

/// A command that works when the variables in it are set.
fn curl(path: &str, method: &str, operation: &Value) -> String {
    let mut command = "curl -s".to_owned();
    if method != "GET" {
        let _ = write!(command, " -X {method}");
    }
    for (scheme, variable) in [(SECURITY, "CLAWDFORGE_TOKEN"), (OPERATOR_SECURITY, "CLAWDFORGE_ADMIN_TOKEN")] {
        if operation["security"][0].get(scheme).is_some() {
            let _ = write!(command, " -H \"Authorization: Bearer ${variable}\"");
        }
    }
    for (media, content) in fields(&operation["requestBody"]["content"]) {
        match content.get("example") {
            Some(example) => {
                let _ = write!(command, " \\\n  -H 'Content-Type: {media}' -d '{example}'");
            }
            None => command.push_str(" \\\n  -F file=@notes.txt"),
        }
    }
    // Segments become variables of the shell: braces are something else to curl.
    let path = path.replace('{', "$").replace('}', "");
    let _ = write!(command, " \\\n  \"$CLAWDFORGE_URL{path}\"");
    escaped(&command.into())
}

/// Every operation, as it is shown: path, method, and what is said of it.
fn operations(document: &Value) -> impl Iterator<Item = (String, String, &Value)> {
    fields(&document["paths"]).flat_map(|(path, methods)| {
        fields(methods).map(move |(method, operation)| (path.clone(), method.to_ascii_uppercase(), operation))
    })
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// A text or a number as it may stand in a page.
fn escaped(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A sentence, in which backticks mark code and stars what is meant.
fn prose(value: &Value) -> String {
    let marked = |text: String, mark: &str, tag: &str| {
        let parts = text.split(mark).enumerate();
        parts
            .map(|(place, part)| if place % 2 == 1 { format!("<{tag}>{part}</{tag}>") } else { part.to_owned() })
            .collect()
    };
    marked(marked(escaped(value), "`", "code"), "*", "em")
}
