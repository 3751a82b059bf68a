//! The callers of a campaign: they keep every session busy and write down what they are told.
//!
//! A caller queues turns without waiting for their answers, a few at a time. When the service dies its turns
//! under way are answered by silence, and it goes on with the next service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::chance::Chance;
use super::evidence::{Answer, Told};

/// Sessions that are busy at the same time.
pub const SESSIONS: usize = 8;

/// Callers of one session.
const CALLERS_PER_SESSION: u64 = 3;

/// Turns one caller has under way. Those of a session together, and as many that a dead service left waiting, stay
/// below what a session may have waiting, so that a refusal is the exception.
const UNDER_WAY_MAX: usize = 2;

/// How long a caller waits that was refused or found nobody.
const COME_BACK: Duration = Duration::from_millis(20);

/// The longest a turn is told to take its time.
const SLEEP_MAX_MS: u64 = 60;

/// Characters of an answer nobody understands that are shown.
const ODD_CHARS_MAX: usize = 200;

/// How the service is reached.
#[derive(Debug, Clone)]
pub struct Line {
    /// A client of its own for each life of the service, with connections to no other.
    pub http: reqwest::Client,
    /// Its address as a URL.
    pub base: String,
    /// The app's token.
    pub bearer: String,
}

/// What callers know of the service.
#[derive(Debug, Clone)]
pub enum Service {
    /// Nobody is there; wait.
    Down,
    /// Send.
    Up(Arc<Line>),
    /// The campaign is over: wait for what is under way, and go.
    Over,
}

/// What callers and the conductor share.
#[derive(Debug)]
pub struct Stage {
    /// The service, as it stands.
    pub service: watch::Sender<Service>,
    /// Told with every request that is sent.
    pub sent: Notify,
    /// Told with every turn that is answered.
    pub answered: Notify,
    /// Turns answered so far.
    pub answers: AtomicU64,
    words: AtomicU64,
}

impl Stage {
    /// Before anybody is there.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            service: watch::Sender::new(Service::Down),
            sent: Notify::new(),
            answered: Notify::new(),
            answers: AtomicU64::new(0),
            words: AtomicU64::new(0),
        })
    }

    fn word(&self) -> String {
        format!("word-{}", self.words.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// A session as its callers address it and as the ledger names it.
#[derive(Debug, Clone)]
pub struct Session {
    /// In paths.
    pub uuid: String,
    /// In the ledger.
    pub id: String,
}

/// Starts the callers of all sessions; each gives what it was told.
#[must_use]
pub fn start(stage: &Arc<Stage>, sessions: &[Session], chance: &Chance) -> JoinSet<Vec<Told>> {
    let mut callers = JoinSet::new();
    for (place, session) in sessions.iter().enumerate() {
        for number in 0..CALLERS_PER_SESSION {
            let chance = chance.part(1 + place as u64 * CALLERS_PER_SESSION + number);
            callers.spawn(call(Arc::clone(stage), session.clone(), chance));
        }
    }
    callers
}

async fn call(stage: Arc<Stage>, session: Session, mut chance: Chance) -> Vec<Told> {
    let mut service = stage.service.subscribe();
    let mut under_way = FuturesUnordered::new();
    let mut told = Vec::new();
    loop {
        let now = service.borrow_and_update().clone();
        match now {
            Service::Over => break,
            Service::Up(line) if under_way.len() < UNDER_WAY_MAX => {
                let script = Script::draw(stage.word(), &mut chance);
                under_way.push(send(&stage, line, &session, script));
                // Lets it get to the wire before the next is made.
                tokio::task::yield_now().await;
            }
            Service::Up(_) | Service::Down => {}
        }
        let has_room = under_way.len() < UNDER_WAY_MAX && matches!(*service.borrow(), Service::Up(_));
        // Cancel-safe, both: an answer that is ready stays in the set, and a change is seen by the next look.
        tokio::select! {
            biased;
            Some(answer) = under_way.next(), if !under_way.is_empty() => told.push(answer),
            changed = service.changed(), if !has_room => {
                if changed.is_err() {
                    break;
                }
            }
            () = std::future::ready(()), if has_room => {}
        }
    }
    told.extend(under_way.collect::<Vec<_>>().await);
    told
}

/// A prompt for the demo agent that notes its word first and says it last.
struct Script {
    word: String,
    prompt: String,
    crashes: bool,
}

impl Script {
    fn draw(word: String, chance: &mut Chance) -> Self {
        let (between, crashes) = match chance.below(100) {
            0..64 => (String::new(), false),
            64..76 => ("think: hm\nuse tool: Bash {\"command\": \"ls\"}\n".to_owned(), false),
            76..86 => (format!("sleep: {}\n", chance.below(SLEEP_MAX_MS)), false),
            86..90 => ("flood: 40\n".to_owned(), false),
            90..94 => ("grandchild\n".to_owned(), false),
            94..97 => (format!("ignore term\ngrandchild\nsleep: {}\n", chance.below(SLEEP_MAX_MS)), false),
            _ => ("crash: 3\n".to_owned(), true),
        };
        Self { prompt: format!("note: {word}\n{between}say: {word}"), word, crashes }
    }
}

async fn send(stage: &Stage, line: Arc<Line>, session: &Session, script: Script) -> Told {
    let Script { word, prompt, crashes } = script;
    let url = format!("{}/sessions/{}/turn", line.base, session.uuid);
    let request = line.http.post(url).bearer_auth(&line.bearer).json(&json!({ "prompt": prompt }));
    stage.sent.notify_waiters();
    let answer = match request.send().await {
        Ok(response) => read(response).await,
        Err(_broken) => Answer::Silence,
    };
    match &answer {
        Answer::Completed { .. } | Answer::Failed { .. } => {
            stage.answers.fetch_add(1, Ordering::Relaxed);
            stage.answered.notify_waiters();
        }
        Answer::Refused | Answer::Silence | Answer::Odd(_) => tokio::time::sleep(COME_BACK).await,
    }
    Told { word, session: session.id.clone(), crashes, answer }
}

async fn read(response: Response) -> Answer {
    let status = response.status();
    let Ok(text) = response.text().await else { return Answer::Silence };
    let said: Value = serde_json::from_str(&text).unwrap_or_default();
    let index = said["turn_index"].as_u64();
    match (status, index, said["code"].as_str()) {
        (StatusCode::OK, Some(index), _) => Answer::Completed { index, said: last_line(&said) },
        (_, Some(index), Some(code)) => Answer::Failed { index, code: code.to_owned() },
        (StatusCode::SERVICE_UNAVAILABLE, None, None) => Answer::Refused,
        _ => Answer::Odd(format!("{status} {}", text.chars().take(ODD_CHARS_MAX).collect::<String>())),
    }
}

/// The last line of what the agent said in the end.
fn last_line(reply: &Value) -> String {
    let events = reply["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut texts = events.iter().filter(|event| event["type"] == "text").filter_map(|event| event["content"].as_str());
    texts.next_back().and_then(|text| text.lines().last()).unwrap_or_default().to_owned()
}
