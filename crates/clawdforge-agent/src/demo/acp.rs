//! The demo agent as an agent of the Agent Client Protocol, version 1: conversations with a memory.
//!
//! What it remembers of a conversation lies in a file in the conversation's own directory, so that
//! another process can take it up again. One thread reads, one plays: a cancel is heard during a turn.

use std::collections::HashMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clawdforge_core::run::SystemMode;
use serde_json::{Value, json};

use super::chosen::Chosen;
use super::flags::{Flags, Speaking};
use super::player::{Played, Player};
use super::voice::Voice;

/// What the memory of a conversation is called in its directory.
const MEMORY_FILE: &str = ".clawdforge-demo-memory.json";

/// Characters of a prompt that are remembered.
const REMEMBERED_CHARS_MAX: usize = 200;

const NOT_SIGNED_IN: i64 = -32000;
const NOT_FOUND: i64 = -32002;
const INVALID: i64 = -32602;
const NO_METHOD: i64 = -32601;
const INTERNAL: i64 = -32603;

/// Speaks on the process's own streams until its input ends.
pub(super) fn serve(args: Vec<OsString>, speaking: Speaking) -> io::Result<u8> {
    let cancel = Arc::new(Cancel::default());
    let (requests, to_play) = channel();
    let (answers, answered) = channel();
    let mut agent = Agent { args, speaking, sessions: HashMap::new(), cancel: Arc::clone(&cancel), answered };
    std::thread::Builder::new().name("player".to_owned()).spawn(move || agent.work(&to_play))?;
    // Not joined: a turn that hangs must not keep the process when its input has ended.
    listen(&requests, &answers, &cancel)?;
    Ok(0)
}

fn listen(requests: &Sender<Value>, answers: &Sender<Value>, cancel: &Cancel) -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        let receiver = match message["method"].as_str() {
            Some("session/cancel") => {
                cancel.set();
                continue;
            }
            Some(_) => requests,
            None => answers,
        };
        if receiver.send(message).is_err() {
            break;
        }
    }
    Ok(())
}

/// Whether the turn under way was cancelled.
#[derive(Default)]
struct Cancel {
    told: Mutex<bool>,
    changed: Condvar,
}

impl Cancel {
    fn set(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn reset(&self) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Waits for a cancel, for ever without a duration. True when there was one.
    fn wait(&self, time: Option<Duration>) -> bool {
        let until = time.map(|time| Instant::now() + time);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        while !*told {
            told = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(told).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return false,
                Some(left) => self.changed.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        true
    }
}

/// One conversation.
#[derive(Default)]
struct Session {
    cwd: PathBuf,
    memory: Vec<String>,
    chosen: Chosen,
    system: Option<(String, SystemMode)>,
    servers: Vec<Value>,
    /// What is played in place of the next prompt.
    later: Vec<String>,
}

struct Agent {
    args: Vec<OsString>,
    speaking: Speaking,
    sessions: HashMap<String, Session>,
    cancel: Arc<Cancel>,
    answered: Receiver<Value>,
}

type Reply = Result<Value, (i64, String, Value)>;

impl Agent {
    fn work(&mut self, requests: &Receiver<Value>) {
        while let Ok(request) = requests.recv() {
            if let Err(error) = self.take(&request) {
                // Where nobody reads the output any more there is nobody left to tell.
                let _ = writeln!(io::stderr(), "Error: {error}");
                std::process::exit(1);
            }
        }
    }

    fn take(&mut self, request: &Value) -> io::Result<()> {
        let params = &request["params"];
        let reply = match request["method"].as_str().unwrap_or_default() {
            "initialize" => Ok(self.initialize()),
            "session/new" => self.open(params),
            "session/load" => self.take_up(params, true)?,
            "session/resume" => self.take_up(params, false)?,
            "session/set_config_option" => self.set(params, params["configId"].as_str(), params["value"].as_str()),
            "session/set_mode" => self.set(params, Some("mode"), params["modeId"].as_str()),
            "session/fork" => self.fork(params)?,
            "session/close" => {
                self.sessions.remove(id_of(params));
                Ok(json!({}))
            }
            "session/prompt" => self.prompt(params)?,
            other => Err((NO_METHOD, format!("Method not found: {other}"), Value::Null)),
        };
        if request["id"].is_null() {
            return Ok(());
        }
        let mut message = json!({"jsonrpc": "2.0", "id": request["id"]});
        match reply {
            Ok(result) => message["result"] = result,
            Err((code, text, data)) => message["error"] = json!({"code": code, "message": text, "data": data}),
        }
        send(&message)
    }

    fn initialize(&self) -> Value {
        let mut capabilities = json!({"promptCapabilities": {"embeddedContext": true}});
        if !self.speaking.is_volatile {
            capabilities["loadSession"] = true.into();
            capabilities["sessionCapabilities"] = match self.speaking.only_loads {
                true => json!({"close": {}}),
                false => json!({"resume": {}, "close": {}, "fork": {}}),
            };
        }
        if self.speaking.takes_remote_servers {
            capabilities["mcpCapabilities"] = json!({"http": true});
        }
        json!({
            "protocolVersion": 1, "agentCapabilities": capabilities, "authMethods": [],
            "agentInfo": {"name": "clawdforge-demo", "version": super::VERSION},
        })
    }

    fn open(&mut self, params: &Value) -> Reply {
        let cwd = PathBuf::from(params["cwd"].as_str().unwrap_or_default());
        if !cwd.is_absolute() {
            return Err((INVALID, "Invalid params: cwd must be absolute".to_owned(), Value::Null));
        }
        // The number of this conversation in this process, and the process, make it one of a kind.
        let id = format!("demo-{}-{}", std::process::id(), self.sessions.len() + 1);
        let session = Session { cwd, system: system_in(params), servers: servers_in(params), ..Session::default() };
        let mut offered = session.chosen.offered(self.speaking.tells_modes_apart);
        offered["sessionId"] = id.as_str().into();
        self.sessions.insert(id, session);
        Ok(offered)
    }

    /// A copy of what is remembered under another id. The memory is looked for in the directory of the fork, which begins
    /// as a copy of the other one's.
    fn fork(&mut self, params: &Value) -> io::Result<Reply> {
        if let Err(refused) = self.take_up(params, false)? {
            return Ok(Err(refused));
        }
        let Some(session) = self.sessions.remove(id_of(params)) else { return Ok(Ok(Value::Null)) };
        // In a namespace of its own each process has the same number; a directory is one fork's alone.
        let mut of_folder = DefaultHasher::new();
        session.cwd.hash(&mut of_folder);
        let id = format!("demo-fork-{:016x}", of_folder.finish());
        std::fs::write(session.cwd.join(MEMORY_FILE), memory_file(&id, &session.memory))?;
        let mut offered = session.chosen.offered(self.speaking.tells_modes_apart);
        offered["sessionId"] = id.as_str().into();
        self.sessions.insert(id, session);
        Ok(Ok(offered))
    }

    fn take_up(&mut self, params: &Value, replay: bool) -> io::Result<Reply> {
        let id = id_of(params);
        let cwd = PathBuf::from(params["cwd"].as_str().unwrap_or_default());
        let kept =
            std::fs::read(cwd.join(MEMORY_FILE)).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let memory = kept.filter(|kept| kept["session"] == id).and_then(|kept| kept["memory"].as_array().cloned());
        let Some(memory) = memory.filter(|_| !self.speaking.is_volatile) else {
            return Ok(Err((NOT_FOUND, "Resource not found".to_owned(), json!({"sessionId": id}))));
        };
        let memory: Vec<String> = memory.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect();
        if replay {
            for text in &memory {
                update(id, json!({"sessionUpdate": "user_message_chunk", "content": {"type": "text", "text": text}}))?;
                update(id, json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "…"}}))?;
            }
        }
        let (system, servers) = (system_in(params), servers_in(params));
        let session = Session { cwd, memory, system, servers, ..Session::default() };
        let offered = session.chosen.offered(self.speaking.tells_modes_apart);
        self.sessions.insert(id.to_owned(), session);
        Ok(Ok(offered))
    }

    fn set(&mut self, params: &Value, option: Option<&str>, value: Option<&str>) -> Reply {
        let Some(session) = self.sessions.get_mut(id_of(params)) else {
            return Err((NOT_FOUND, "Resource not found".to_owned(), Value::Null));
        };
        match option.zip(value) {
            Some((option, value)) if session.chosen.set(option, value) => {
                Ok(session.chosen.offered(self.speaking.tells_modes_apart))
            }
            _ => Err((INVALID, "Invalid params: no such option or value".to_owned(), Value::Null)),
        }
    }

    fn prompt(&mut self, params: &Value) -> io::Result<Reply> {
        let id = id_of(params);
        let Some(session) = self.sessions.get_mut(id) else {
            return Ok(Err((NOT_FOUND, "Resource not found".to_owned(), json!({"sessionId": id}))));
        };
        let blocks = params["prompt"].as_array().map(Vec::as_slice).unwrap_or_default();
        let texts = || blocks.iter().filter_map(|block| block["text"].as_str());
        // What stands in front of the last text is for knowing, not for doing.
        let prompt = texts().next_back().unwrap_or_default();
        let links = blocks.iter().filter_map(link_in).collect();
        if let [before @ .., _] = texts().collect::<Vec<_>>().as_slice() {
            session.memory.extend(before.iter().map(|text| format!("(told) {}", remembered(text))));
        }
        let memory = session.memory.clone();
        self.cancel.reset();
        session.memory.push(remembered(prompt));
        let planned = std::mem::take(&mut session.later).join("\n");
        let played = if planned.is_empty() { prompt } else { &planned };
        let mut outcome = Ok(Value::Null);
        let voice = AcpVoice {
            session: id,
            cwd: &session.cwd,
            memory,
            later: &mut session.later,
            links,
            servers: &session.servers,
            cancel: &self.cancel,
            deaf: false,
            spoke: false,
            answered: &self.answered,
            outcome: &mut outcome,
        };
        if !self.speaking.is_volatile {
            std::fs::write(session.cwd.join(MEMORY_FILE), memory_file(id, &session.memory))?;
        }
        let Chosen { model, effort, mode } = &session.chosen;
        let mut flags = Flags { model: model.clone(), effort: effort.clone(), mode: mode.clone(), ..Flags::default() };
        let system = session.system.clone().map(|(text, mode)| {
            flags.system_mode = mode;
            text
        });
        match Player::new(self.args.clone(), flags, system, voice).play(played)? {
            Played::Done(_) => Ok(outcome),
            Played::Gone(code) => std::process::exit(i32::from(code)),
        }
    }
}

/// The tool servers of a conversation.
fn servers_in(params: &Value) -> Vec<Value> {
    params["mcpServers"].as_array().cloned().unwrap_or_default()
}

/// The system prompt of a conversation, told as it is told to Claude's adapter.
fn system_in(params: &Value) -> Option<(String, SystemMode)> {
    let told = &params["_meta"]["systemPrompt"];
    let whole = told.as_str().map(|text| (text, SystemMode::Replace));
    let (text, mode) = whole.or_else(|| Some((told["append"].as_str()?, SystemMode::Append)))?;
    Some((text.to_owned(), mode))
}

/// What is attached, and how long it is where it came with the prompt.
fn link_in(block: &Value) -> Option<String> {
    let embedded = || {
        let resource = &block["resource"];
        Some(format!("{} ({} bytes)", resource["uri"].as_str()?, resource["text"].as_str()?.len()))
    };
    block["uri"].as_str().map(str::to_owned).or_else(embedded)
}

fn memory_file(id: &str, memory: &[String]) -> String {
    json!({"session": id, "memory": memory}).to_string()
}

fn remembered(prompt: &str) -> String {
    prompt.chars().take(REMEMBERED_CHARS_MAX).collect()
}

fn id_of(params: &Value) -> &str {
    params["sessionId"].as_str().unwrap_or_default()
}

fn update(session: &str, update: Value) -> io::Result<()> {
    send(&json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": update}}))
}

fn send(message: &Value) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// The way out of one turn.
struct AcpVoice<'a> {
    session: &'a str,
    cwd: &'a Path,
    memory: Vec<String>,
    later: &'a mut Vec<String>,
    links: Vec<String>,
    servers: &'a [Value],
    cancel: &'a Cancel,
    deaf: bool,
    spoke: bool,
    answered: &'a Receiver<Value>,
    outcome: &'a mut Reply,
}

impl AcpVoice<'_> {
    fn update(&self, body: Value) -> io::Result<()> {
        update(self.session, body)
    }

    fn chunk(&self, kind: &str, text: &str) -> io::Result<()> {
        self.update(json!({"sessionUpdate": kind, "content": {"type": "text", "text": text}}))
    }
}

impl Voice for AcpVoice<'_> {
    fn begin(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        // Chunks are joined as they are.
        if std::mem::replace(&mut self.spoke, true) {
            return self.chunk("agent_message_chunk", &format!("\n{text}"));
        }
        self.chunk("agent_message_chunk", text)
    }

    fn thinking(&mut self, thought: &str) -> io::Result<()> {
        self.chunk("agent_thought_chunk", thought)
    }

    fn tool_use(&mut self, call: &str, name: &str, input: &Value) -> io::Result<()> {
        // The answer is what is said after the last tool.
        self.spoke = false;
        self.update(json!({
            "sessionUpdate": "tool_call", "toolCallId": call, "title": name, "name": name, "kind": "other",
            "status": "pending", "rawInput": input,
        }))
    }

    fn tool_result(&mut self, call: &str, content: &str, failed: bool) -> io::Result<()> {
        self.update(json!({
            "sessionUpdate": "tool_call_update", "toolCallId": call,
            "status": if failed { "failed" } else { "completed" }, "rawOutput": content,
        }))
    }

    fn tick(&mut self) -> io::Result<()> {
        self.update(json!({"sessionUpdate": "usage_update", "used": 1, "size": 1000}))
    }

    fn retry(&mut self, _status: u16, word: &str) -> io::Result<()> {
        self.update(json!({"sessionUpdate": "notice", "severity": "warning", "title": word}))
    }

    fn failed(&mut self, word: &str, text: &str, stop_reason: &str, status: Option<u16>) -> io::Result<()> {
        self.chunk("agent_message_chunk", text)?;
        *self.outcome = match (stop_reason, status) {
            ("refusal", _) => Ok(json!({"stopReason": "refusal"})),
            (_, None) => Err((NOT_SIGNED_IN, "Authentication required".to_owned(), Value::Null)),
            (_, Some(_)) => Err((INTERNAL, format!("Internal error: {text}"), json!({"errorKind": word}))),
        };
        Ok(())
    }

    fn answered(&mut self, answer: &str, prompt_chars: usize) -> io::Result<()> {
        if !self.spoke {
            self.chunk("agent_message_chunk", answer)?;
        }
        let (input, output) = (prompt_chars.div_ceil(4), answer.chars().count().div_ceil(4));
        *self.outcome = Ok(json!({
            "stopReason": "end_turn",
            "usage": {"totalTokens": input + output, "inputTokens": input, "outputTokens": output},
        }));
        Ok(())
    }

    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }

    fn pause(&mut self, time: Option<Duration>) -> bool {
        if !self.deaf {
            return !self.cancel.wait(time);
        }
        match time {
            Some(time) => std::thread::sleep(time),
            None => loop {
                std::thread::park();
            },
        }
        true
    }

    fn ignore_cancel(&mut self) {
        self.deaf = true;
    }

    fn cancelled(&mut self) -> io::Result<()> {
        *self.outcome = Ok(json!({"stopReason": "cancelled"}));
        Ok(())
    }

    fn ask(&mut self, tool: &str) -> io::Result<String> {
        let options = json!([
            {"optionId": "no", "name": "No", "kind": "reject_once"},
            {"optionId": "always", "name": "Always", "kind": "allow_always"},
            {"optionId": "yes", "name": "Yes", "kind": "allow_once"},
        ]);
        send(&json!({
            "jsonrpc": "2.0", "id": "ask-1", "method": "session/request_permission",
            "params": {"sessionId": self.session, "options": options,
                       "toolCall": {"toolCallId": "ask", "title": tool, "kind": "execute"}},
        }))?;
        let answer = self.answered.recv().map_err(io::Error::other)?;
        Ok(answer["result"]["outcome"].to_string())
    }

    fn memory(&self) -> Vec<String> {
        self.memory.clone()
    }

    fn forget(&mut self) -> io::Result<()> {
        match std::fs::remove_file(self.cwd.join(MEMORY_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn keep_for_later(&mut self, line: &str) {
        self.later.push(line.to_owned());
    }

    fn attachments(&self) -> Vec<String> {
        self.links.clone()
    }

    fn tool_servers(&self) -> &[Value] {
        self.servers
    }

    /// A process may hold conversations of several directories.
    fn folder(&self) -> io::Result<PathBuf> {
        Ok(self.cwd.to_owned())
    }
}
