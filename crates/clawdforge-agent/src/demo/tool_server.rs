//! A call of a tool of a conversation's tool server, over its standard streams.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// Starts the server of this name, calls one of its tools, and ends the server. What the tool says comes back.
pub(super) fn call(servers: &[Value], server: &str, tool: &str, args: &Value) -> io::Result<String> {
    let Some(server) = servers.iter().find(|each| each["name"] == server) else {
        return Ok(format!("there is no tool server {server}"));
    };
    let Some(command) = server["command"].as_str() else { return Ok("it is no program".to_owned()) };
    let texts = |key: &str| server[key].as_array().cloned().unwrap_or_default();
    let args_of_it: Vec<String> = texts("args").iter().filter_map(|arg| arg.as_str().map(str::to_owned)).collect();
    let env: Vec<(String, String)> = texts("env")
        .iter()
        .filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["value"].as_str()?.to_owned())))
        .collect();
    let mut command = Command::new(command);
    command.args(args_of_it).envs(env).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    #[expect(clippy::disallowed_methods, reason = "this program is the agent, which starts what it is given")]
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(format!("it does not start: {error}")),
    };
    let said = converse(&mut child, tool, args);
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    Ok(said.unwrap_or_else(|error| format!("it does not answer: {error}")))
}

fn converse(child: &mut Child, tool: &str, args: &Value) -> io::Result<String> {
    let gone = || io::Error::other("it has no pipes");
    let mut stdin = child.stdin.take().ok_or_else(gone)?;
    let mut stdout = BufReader::new(child.stdout.take().ok_or_else(gone)?);
    let about = json!({"name": "clawdforge-demo", "version": "1"});
    let greeting = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": about});
    send(&mut stdin, &json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": greeting}))?;
    answer(&mut stdout, 1)?;
    send(&mut stdin, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
    let params = json!({"name": tool, "arguments": args});
    send(&mut stdin, &json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}))?;
    let said = answer(&mut stdout, 2)?;
    Ok(said["content"][0]["text"].as_str().unwrap_or("nothing").to_owned())
}

fn send(stdin: &mut impl Write, message: &Value) -> io::Result<()> {
    stdin.write_all(format!("{message}\n").as_bytes())
}

/// The answer of this number; what comes before it is passed over.
fn answer(stdout: &mut BufReader<ChildStdout>, id: u64) -> io::Result<Value> {
    let mut line = String::new();
    loop {
        line.clear();
        if stdout.read_line(&mut line)? == 0 {
            return Err(io::Error::other("it has ended"));
        }
        match serde_json::from_str::<Value>(&line) {
            Ok(mut message) if message["id"] == id => return Ok(message["result"].take()),
            _ => {}
        }
    }
}
