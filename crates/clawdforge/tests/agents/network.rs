//! The real Claude Code behind the proxy: it gets to its model, and its shell to nothing else of this machine.

use std::net::{Ipv4Addr, TcpListener};

use clawdforge_testkit::mock_model::Reply;
use serde_json::json;

use crate::bench::{Bench, Kind};

#[tokio::test]
async fn the_agent_gets_to_its_model_under_a_rule_that_closes_everything_else() -> anyhow::Result<()> {
    let kind = Kind { agent_lines: "network = \"none\"\nargs = [\"--allowedTools\", \"Bash\"]", ..Kind::default() };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    let victim = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let targets = [victim.local_addr()?.to_string(), bench.app.authority().to_owned()];
    let tries: String = targets
        .iter()
        .map(|target| {
            let (host, port) = target.split_once(':').unwrap_or_default();
            format!(
                "(exec 3<> /dev/tcp/{host}/{port}) 2> /dev/null && echo reached {target}; \
                 NO_PROXY= no_proxy= curl -s -m 5 -o /dev/null -w '%{{http_code}}\\n' http://{target}/healthz; "
            )
        })
        .collect();
    let command = format!("{tries} echo $HTTP_PROXY | cut -c 1-13");
    bench.model.script(move |request| match request.tool_answers().first() {
        None => Reply::tool_use("Bash", json!({ "command": command, "description": "x" })),
        Some(answer) => Reply::text(answer.text.clone()),
    });
    let body = bench.answered(json!({ "prompt": "look around" })).await?;
    assert_eq!(body["result"].as_str().map(str::trim), Some("403\n403\nhttp://agent:"), "{body}");
    victim.set_nonblocking(true)?;
    assert!(victim.accept().is_err(), "nobody came");
    bench.finish().await
}

#[tokio::test]
async fn the_agent_tries_out_a_server_that_it_starts_itself() -> anyhow::Result<()> {
    let kind = Kind { agent_lines: "args = [\"--allowedTools\", \"Bash\"]", ..Kind::default() };
    let Some(bench) = Bench::start_as(kind).await? else { return Ok(()) };
    if !bench.app.log()?.contains("\"isolation.network\":\"namespace\"") {
        // Elsewhere loopback is the host's, and closed.
        return bench.finish().await;
    }
    let serve = "const server = require('http').createServer((_, answer) => answer.end('it works'));\
                 server.listen(0, () => console.log(server.address().port));";
    let command = format!(
        "mkfifo port && (node -e \"{serve}\" > port & echo $! > pid); read number < port; \
         curl -s -m 20 http://localhost:$number/; kill $(cat pid)"
    );
    bench.model.script(move |request| match request.tool_answers().first() {
        None => Reply::tool_use("Bash", json!({ "command": command, "description": "x" })),
        Some(answer) => Reply::text(answer.text.clone()),
    });
    let body = bench.answered(json!({ "prompt": "try it out" })).await?;
    assert_eq!(body["result"].as_str().map(str::trim), Some("it works"), "{body}");
    bench.finish().await
}
