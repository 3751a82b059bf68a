//! Tool servers of a conversation: told again however it begins, and only of a kind that the agent declares.

use clawdforge_agent::LinkContext;
use clawdforge_core::agent::FailureKind;
use clawdforge_core::tools::{NamedSecret, Remote, ToolServer, Transport};
use serde_json::{Value, json};

use crate::acp::{answer, close};
use crate::support::{Bench, soon};

fn secret(name: &str, value: &str) -> Vec<NamedSecret> {
    vec![NamedSecret { name: name.into(), value: value.to_owned().into() }]
}

fn program() -> ToolServer {
    let transport = Transport::Stdio { command: "cat".into(), args: vec!["-u".into()], env: secret("TOKEN", "t") };
    ToolServer { name: "cat".into(), transport }
}

fn remote(kind: Remote) -> ToolServer {
    let (url, headers) = ("https://example.org/mcp".to_owned(), secret("Authorization", "Bearer x"));
    ToolServer { name: "docs".into(), transport: Transport::Remote { kind, url, headers } }
}

#[tokio::test]
async fn servers_are_told_anew_when_a_conversation_begins_is_resumed_and_is_loaded() {
    for only_loads in [false, true] {
        let mut bench = Bench::conversation(false);
        bench.profile.args.push("--remote-servers".into());
        if only_loads {
            bench.profile.args.push("--load-only".into());
        }
        bench.spec.tool_servers = vec![program(), remote(Remote::Http)];
        for context in [LinkContext::Fresh, LinkContext::Resumed] {
            let mut link = bench.open().await.unwrap();
            assert_eq!(link.context(), context);
            let told: Value = serde_json::from_str(&answer(&mut *link, "tool servers").await).unwrap();
            let wanted = json!([
                {"name": "cat", "command": "cat", "args": ["-u"], "env": [{"name": "TOKEN", "value": "t"}]},
                {"type": "http", "name": "docs", "url": "https://example.org/mcp",
                 "headers": [{"name": "Authorization", "value": "Bearer x"}]},
            ]);
            assert_eq!(told, wanted, "load: {only_loads}");
            bench.spec.resume = link.resume_key();
            close(&bench, link).await;
        }
    }
}

#[tokio::test]
async fn a_server_of_a_kind_that_the_agent_does_not_declare_is_refused_by_name() {
    for (kind, declares) in [(Remote::Http, false), (Remote::Sse, true)] {
        let mut bench = Bench::conversation(false);
        if declares {
            bench.profile.args.push("--remote-servers".into());
        }
        bench.spec.tool_servers = vec![program(), remote(kind)];
        let failure = bench.open().await.err().unwrap();
        assert_eq!(failure.kind, FailureKind::ToolServerRefused);
        let said = format!("demo takes no tool servers over {}, as docs is", kind.as_str());
        assert!(failure.message.contains(&said), "{}", failure.message);
        bench.nothing_is_left();
    }
}

/// acpx that has on record what an agent declared.
const ACPX: &str = r#"cd "${0%/*}" || exit 9
case "$*" in
--version) echo 0.19.1 ;;
*"sessions new"*) echo '{"action":"session_ensured","created":true,"acpxRecordId":"r1","acpxSessionId":"s1","name":"n"}' ;;
*"sessions show"*) echo '{"acpxRecordId":"r1","agentCapabilities":{"mcpCapabilities":{"http":DECLARED}}}' ;;
*) exit 9 ;;
esac"#;

#[tokio::test]
async fn behind_acpx_servers_are_in_its_file_and_those_that_are_not_declared_are_refused() {
    use clawdforge_agent::AgentDriver;
    for declares in [true, false] {
        let mut bench = Bench::conversation(false);
        bench.spec.tool_servers = vec![program(), remote(Remote::Http)];
        let script = ACPX.replace("DECLARED", &declares.to_string());
        let opened = soon(bench.acpx(&script).open(bench.spec.clone())).await;
        let file = bench.spec.scratch.join("acpx-mcp.json");
        let told: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(
            (told["mcpServers"][0]["name"].as_str(), told["mcpServers"][1]["type"].as_str()),
            (Some("cat"), Some("http"))
        );
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        match opened {
            Ok(link) => {
                assert!(declares);
                drop(link);
            }
            Err(failure) => assert!(!declares && failure.kind == FailureKind::ToolServerRefused, "{failure:?}"),
        }
    }
}
