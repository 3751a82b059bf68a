//! The real Claude Code at the default level of isolation: its own tools work, and a tool server over stdio that the operator
//! gave it.

use clawdforge_testkit::mock_model::Reply;
use serde_json::json;

use crate::bench::{Bench, Kind};

/// A tool server that adds, in one line of JavaScript.
const WITH_TOOLS: &str = r#"args = ["--allowedTools", "Read,Write,Edit,Bash,mcp__sum__add", "--mcp-config", '''
{"mcpServers": {"sum": {"command": "node", "args": ["-e",
"require('readline').createInterface({input: process.stdin}).on('line', line => { const asked = JSON.parse(line); if (asked.id === undefined) return; const answers = { initialize: () => ({protocolVersion: asked.params.protocolVersion, capabilities: {tools: {}}, serverInfo: {name: 'sum', version: '1'}}), 'tools/list': () => ({tools: [{name: 'add', inputSchema: {type: 'object', properties: {a: {type: 'number'}, b: {type: 'number'}}}}]}), 'tools/call': () => ({content: [{type: 'text', text: String(asked.params.arguments.a + asked.params.arguments.b)}]}) }; const result = (answers[asked.method] || (() => ({})))(); console.log(JSON.stringify({jsonrpc: '2.0', id: asked.id, result})) })"
]}}}''']"#;

#[tokio::test]
async fn it_writes_reads_edits_runs_and_calls_a_tool_server() -> anyhow::Result<()> {
    let Some(bench) = Bench::start_as(Kind { agent_lines: WITH_TOOLS, ..Kind::default() }).await? else {
        return Ok(());
    };
    let mut wanted = [
        ("Write", json!({ "file_path": "note.txt", "content": "one plum\n" })),
        ("Read", json!({ "file_path": "note.txt" })),
        ("Edit", json!({ "file_path": "note.txt", "old_string": "one plum", "new_string": "two plums" })),
        ("Bash", json!({ "command": "cat note.txt", "description": "x" })),
        ("mcp__sum__add", json!({ "a": 2, "b": 40 })),
    ]
    .into_iter();
    let mut said = Vec::new();
    bench.model.script(move |request| {
        said.extend(request.tool_answers().into_iter().map(|answer| answer.text.trim().to_owned()));
        match wanted.next() {
            Some((tool, input)) => Reply::tool_use(tool, input),
            None => Reply::text(said.join("\n")),
        }
    });
    let body = bench.answered(json!({ "prompt": "work" })).await?;
    let said = body["result"].as_str().unwrap_or_default();
    assert!(said.contains("one plum"), "what it read: {said}");
    assert!(said.ends_with("two plums\n42"), "what the shell and the tool server said: {said}");
    bench.finish().await
}
