//! What each real agent does for its living, at the default level of isolation: it writes, reads and edits a file, runs
//! commands, commits to git, installs a local package, and calls a tool server over stdio that its operator gave it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clawdforge_testkit::agents;
use clawdforge_testkit::app::Setup;
use clawdforge_testkit::mock_model::{MockModel, Reply};
use serde_json::json;
use tempfile::TempDir;

use crate::bench::{API_KEY, Bench};
use crate::sessions::said;

/// A tool server that adds, in one line of JavaScript.
const SUM: &str = "require('readline').createInterface({input: process.stdin}).on('line', line => { const asked = \
    JSON.parse(line); require('fs').appendFileSync(process.env.HOME + '/asked', asked.method + '\\n'); if (asked.id === undefined) return; const answers = { initialize: () => ({protocolVersion: \
    asked.params.protocolVersion, capabilities: {tools: {}}, serverInfo: {name: 'sum', version: '1'}}), 'tools/list': () => \
    ({tools: [{name: 'add', description: 'Adds.', inputSchema: {type: 'object', properties: {a: {type: 'number'}, b: {type: \
    'number'}}}}]}), 'tools/call': () => ({content: [{type: 'text', text: 'the sum is ' + (asked.params.arguments.a + \
    asked.params.arguments.b)}]}) }; const result = (answers[asked.method] || (() => ({})))(); \
    console.log(JSON.stringify({jsonrpc: '2.0', id: asked.id, result})) })";

/// What a shell does, and says at its end.
const WORK: &str = "set -e; mkdir -p lib && printf '{\"name\":\"lib\",\"version\":\"1.0.0\"}' > lib/package.json; \
    git init -q . && git add -A && git -c user.name=x -c user.email=x@x commit -qm first; \
    npm install --offline --no-update-notifier --no-audit --no-fund ./lib > /dev/null; \
    cat note.txt; git log --format=%s; ls node_modules";

/// How one agent is configured, and how its model has it work.
struct Worker {
    name: &'static str,
    table: String,
    /// The wishes in a workspace, one after the other: write, read, edit, a shell, the tool server.
    wishes: fn(&Path) -> Vec<Reply>,
    /// Whether the tool server is among them. Codex (0.166) starts it and asks what it offers, and offers that to models that it
    /// knows to take it.
    calls_server: bool,
}

/// Lays a file into a folder, with the folders on the way.
fn lay(folder: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(file);
    std::fs::create_dir_all(path.parent().context("it lies in a folder")?)?;
    Ok(std::fs::write(path, text)?)
}

fn claude(folder: &Path, program: &Path) -> anyhow::Result<Worker> {
    let server = json!({ "type": "stdio", "command": "node", "args": ["-e", SUM] });
    lay(folder, ".claude.json", &json!({ "mcpServers": { "sum": server } }).to_string())?;
    Ok(Worker {
        name: "claude",
        table: format!("[agents.claude]\ncommand = {}\nhome_files = {}\n", json!(program), json!(folder)),
        wishes: |_| {
            vec![
                Reply::tool_use("Write", json!({ "file_path": "note.txt", "content": "one plum\n" })),
                Reply::tool_use("Read", json!({ "file_path": "note.txt" })),
                Reply::tool_use(
                    "Edit",
                    json!({ "file_path": "note.txt", "old_string": "one plum", "new_string": "two plums" }),
                ),
                Reply::tool_use("Bash", json!({ "command": WORK, "description": "x" })),
                Reply::tool_use("mcp__sum__add", json!({ "a": 2, "b": 40 })),
            ]
        },
        calls_server: true,
    })
}

fn codex(folder: &Path, program: &Path, url: &str) -> anyhow::Result<Worker> {
    // With the features that ask hosts outside of this machine switched off.
    let config = format!(
        "model = \"gpt-5.5\"\nmodel_provider = \"mock\"\ncheck_for_update_on_startup = false\n\
         [model_providers.mock]\nname = \"mock\"\nbase_url = \"{url}/v1\"\nenv_key = \"MOCK_KEY\"\nwire_api = \"responses\"\n\
         request_max_retries = 1\nstream_max_retries = 1\n[analytics]\nenabled = false\n[features]\nplugins = false\n\
         [mcp_servers.sum]\ncommand = \"node\"\nargs = [\"-e\", {}]\n",
        json!(SUM)
    );
    lay(folder, ".codex/config.toml", &config)?;
    let env = format!("{{ CODEX_PATH = {}, MOCK_KEY = \"{API_KEY}\", NO_BROWSER = \"1\" }}", json!(program));
    Ok(Worker {
        name: "codex",
        table: format!("[agents.codex]\nhome_files = {}\nenv = {env}\n", json!(folder)),
        wishes: |_| {
            vec![
                patch("*** Add File: note.txt\n+one plum"),
                runs("cat note.txt"),
                patch("*** Update File: note.txt\n@@\n-one plum\n+two plums"),
                runs(WORK),
            ]
        },
        calls_server: false,
    })
}

fn copilot(folder: &Path, program: &Path, url: &str) -> anyhow::Result<Worker> {
    let server = json!({ "type": "local", "command": "node", "args": ["-e", SUM], "tools": ["*"] });
    lay(folder, ".copilot/mcp-config.json", &json!({ "mcpServers": { "sum": server } }).to_string())?;
    let env = format!(
        "{{ COPILOT_PROVIDER_BASE_URL = \"{url}/v1\", COPILOT_PROVIDER_API_KEY = \"{API_KEY}\", COPILOT_MODEL = \"mock-model\", \
         COPILOT_OFFLINE = \"true\", COPILOT_AUTO_UPDATE = \"false\" }}"
    );
    Ok(Worker {
        name: "copilot",
        table: format!("[agents.copilot]\ncommand = {}\nhome_files = {}\nenv = {env}\n", json!(program), json!(folder)),
        wishes: |work| {
            vec![
                Reply::tool_use("create", json!({ "path": work.join("note.txt"), "file_text": "one plum\n" })),
                Reply::tool_use("view", json!({ "path": work.join("note.txt") })),
                Reply::tool_use(
                    "edit",
                    json!({ "path": work.join("note.txt"), "old_str": "one plum", "new_str": "two plums" }),
                ),
                Reply::tool_use("bash", json!({ "command": WORK, "description": "x" })),
                Reply::tool_use("sum-add", json!({ "a": 2, "b": 40 })),
            ]
        },
        calls_server: true,
    })
}

/// As Codex runs a command, and patches a file.
fn runs(command: &str) -> Reply {
    Reply::tool_use("exec_command", json!({ "cmd": command }))
}

fn patch(lines: &str) -> Reply {
    runs(&format!("apply_patch <<'END'\n*** Begin Patch\n{lines}\n*** End Patch\nEND"))
}

async fn works(worker: impl FnOnce(&Path, &str) -> anyhow::Result<Option<Worker>>) -> anyhow::Result<()> {
    let Some(path) = agents::adapters_path()? else { return Ok(()) };
    let folder = TempDir::new()?;
    let model = MockModel::start().await?;
    let Some(worker) = worker(folder.path(), &model.base_url())? else { return Ok(()) };
    let setup = Setup::new(env!("CARGO_BIN_EXE_clawdforge"))
        .config(worker.table)
        .env("ANTHROPIC_BASE_URL", model.base_url())
        .env("CLAWDFORGE_AGENT_NETWORK_ALWAYS", model.endpoint())
        .env("ANTHROPIC_API_KEY", API_KEY)
        .env("PATH", path);
    let app = setup.start().await?;
    let token = app.mint("app").await?;
    let bench = Bench { model, app, token };
    let session = bench.session(json!({ "agent": worker.name })).await?;
    let (sessions, mut done) = (bench.app.data_dir().join("sessions"), 0);
    bench.model.script(move |_| {
        let wishes = the_workspace(&sessions).map(|work| (worker.wishes)(&work)).unwrap_or_default();
        done += 1;
        wishes.into_iter().nth(done - 1).unwrap_or_else(|| Reply::text("Done."))
    });
    let reply = bench.turned(&session, json!({ "prompt": "Work." })).await?;
    // Copilot says what it does, too.
    assert!(said(&reply).ends_with("Done."), "{reply}");

    let requests = bench.model.turn_requests();
    // Each of them tells what came of the wish before.
    let told: Vec<String> = requests.iter().flat_map(|request| request.tool_answers()).map(|told| told.text).collect();
    assert!(told[1].contains("one plum"), "what it read before the edit: {told:?}");
    for line in ["two plums", "first", "lib"] {
        assert!(told[3].lines().any(|said| said.trim() == line), "`{line}` of the shell: {told:?}");
    }
    if worker.calls_server {
        assert!(told[4].contains("the sum is 42"), "what the tool server said: {told:?}");
    }
    let work = the_workspace(&bench.app.data_dir().join("sessions"))?;
    assert_eq!(std::fs::read_to_string(work.join("note.txt"))?, "two plums\n");
    assert!(work.join(".git/HEAD").is_file() && work.join("node_modules/lib/package.json").is_file());
    let asked = bench.app.agent_homes().into_iter().find_map(|home| std::fs::read_to_string(home.join("asked")).ok());
    let asked = asked.context("the tool server was started")?;
    assert!(asked.contains("tools/list"), "{asked}");
    bench.close(&session).await?;
    bench.finish().await
}

/// Where the only session works.
fn the_workspace(sessions: &Path) -> anyhow::Result<PathBuf> {
    let session = std::fs::read_dir(sessions)?.next().context("it has a folder")??;
    Ok(session.path().join("work"))
}

#[tokio::test]
async fn claude_works_behind_its_adapter() -> anyhow::Result<()> {
    works(|folder, _| agents::claude()?.map(|program| claude(folder, &program)).transpose()).await
}

#[tokio::test]
async fn codex_works() -> anyhow::Result<()> {
    works(|folder, url| agents::codex_and_copilot()?.map(|(program, _)| codex(folder, &program, url)).transpose()).await
}

#[tokio::test]
async fn copilot_works() -> anyhow::Result<()> {
    works(|folder, url| agents::codex_and_copilot()?.map(|(_, program)| copilot(folder, &program, url)).transpose())
        .await
}
