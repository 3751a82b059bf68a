//! What the parser makes of recordings of the real `claude`.
//!
//! Each recording has a snapshot beside it: one line a signal, runs of signs of life counted.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clawdforge_agent::oneshot::output::Parser;
use clawdforge_core::agent::{AgentSignal, FailureKind, TurnEnd};

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/claude");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
}

fn heard(recording: &Path) -> Vec<AgentSignal> {
    let bytes = fs::read(recording).unwrap();
    let mut parser = Parser::new("sonnet");
    bytes.trim_ascii_end().split(|byte| *byte == b'\n').flat_map(|line| parser.line(line)).collect()
}

fn name(recording: &Path) -> &str {
    recording.file_stem().unwrap().to_str().unwrap()
}

fn shown(signals: &[AgentSignal]) -> String {
    let mut text = String::new();
    for run in signals.chunk_by(|a, b| a == b) {
        match &run[0] {
            AgentSignal::TurnEnded(end) => writeln!(text, "{end:#?}").unwrap(),
            signal if run.len() > 1 => writeln!(text, "{signal:?} x {}", run.len()).unwrap(),
            signal => writeln!(text, "{signal:?}").unwrap(),
        }
    }
    text
}

#[test]
fn every_recording_is_understood_to_the_letter() {
    for recording in recordings() {
        insta::assert_snapshot!(name(&recording), shown(&heard(&recording)));
    }
}

#[test]
fn every_recording_ends_once_with_an_answer_or_a_known_failure() {
    let ends: Vec<(String, TurnEnd)> = recordings()
        .iter()
        .map(|recording| {
            let mut signals = heard(recording);
            let Some(AgentSignal::TurnEnded(end)) = signals.pop() else { panic!("{}", name(recording)) };
            for signal in signals {
                assert!(!matches!(signal, AgentSignal::TurnEnded(_) | AgentSignal::Unrecognised { .. }), "{signal:?}");
            }
            (name(recording).to_owned(), end)
        })
        .collect();
    let found: Vec<(&str, Option<FailureKind>)> = ends
        .iter()
        .map(|(name, end)| {
            assert_eq!(end.answer.is_some(), end.failure.is_none(), "{name}");
            (name.as_str(), end.failure.as_ref().map(|failure| failure.kind))
        })
        .collect();
    let expected = [
        ("api_400", Some(FailureKind::RequestRejected)),
        ("api_401", Some(FailureKind::Unauthorized)),
        ("api_403", Some(FailureKind::Forbidden)),
        ("api_404", Some(FailureKind::UnknownModel)),
        ("api_413", Some(FailureKind::RequestTooLarge)),
        ("api_429_with_retries", Some(FailureKind::RateLimited)),
        ("api_500", Some(FailureKind::ProviderError)),
        ("api_529", Some(FailureKind::Overloaded)),
        ("connection_refused", Some(FailureKind::ConnectionFailed)),
        ("cut_once_then_success", None),
        ("cut_stream", Some(FailureKind::ConnectionFailed)),
        ("interrupted_sigint", Some(FailureKind::Crashed)),
        ("max_turns", Some(FailureKind::LimitReached)),
        ("not_logged_in", Some(FailureKind::NotSignedIn)),
        ("oauth_401", Some(FailureKind::Unauthorized)),
        ("oauth_429", Some(FailureKind::RateLimited)),
        ("oauth_success", None),
        ("output_limit", Some(FailureKind::LimitReached)),
        ("permission_denied_tool", None),
        ("refusal", Some(FailureKind::Refused)),
        ("slash_command", None),
        ("success_json_fenced", None),
        ("success_text", None),
        ("thinking", None),
        ("tool_read", None),
    ];
    assert_eq!(found, expected);
}
