//! Turns that fail: which failure it was.

use std::os::unix::fs::PermissionsExt;

use clawdforge_core::agent::{AgentSignal, FailureKind};

use crate::support::Bench;

#[tokio::test]
async fn an_api_error_says_which_it_was() {
    let bench = Bench::demo();
    for (prompt, kind, word) in [
        ("api error: 400", FailureKind::RequestRejected, "400"),
        ("api error: 401", FailureKind::Unauthorized, "sign in again"),
        ("api error: 403", FailureKind::Forbidden, "403"),
        ("api error: 404", FailureKind::UnknownModel, "demo-large"),
        ("api error: 413", FailureKind::RequestTooLarge, "413"),
        ("api error: 429", FailureKind::RateLimited, "429"),
        ("api error: 500", FailureKind::ProviderError, "500"),
        ("api error: 529", FailureKind::Overloaded, "529"),
        ("not signed in", FailureKind::NotSignedIn, "clawdforge doctor"),
        ("refuse", FailureKind::Refused, "refused"),
    ] {
        let end = bench.turn(prompt).await.end();
        let failure = end.failure.unwrap();
        assert_eq!((failure.kind, end.answer), (kind, None), "{prompt}");
        assert!(failure.message.contains(word), "{prompt}: {}", failure.message);
    }
}

#[tokio::test]
async fn a_retry_is_told() {
    let turn = Bench::demo().turn("api error: 429").await;
    let retry = AgentSignal::Retrying { attempt: 1, status: Some(429), reason: "rate_limit".into() };
    assert!(turn.signals.contains(&retry), "{:?}", turn.signals);
}

#[tokio::test]
async fn a_crash_tells_its_code_and_the_end_of_the_error_stream() {
    let exit = Bench::demo().turn("stderr: first\nstderr: it broke\ncrash: 3").await.exit();
    assert_eq!((exit.code, exit.signal), (Some(3), None));
    assert_eq!(exit.stderr, "first\nit broke\n");
}

#[tokio::test]
async fn a_death_by_signal_tells_the_signal() {
    for (name, number) in [("KILL", 9), ("SEGV", 11), ("TERM", 15)] {
        let exit = Bench::demo().turn(&format!("say: half\ndie: {name}")).await.exit();
        assert_eq!((exit.code, exit.signal), (None, Some(number)));
    }
}

#[tokio::test]
async fn an_exit_without_an_answer_is_no_answer_whatever_the_code() {
    let exit = Bench::demo().turn("say: half an answer\nno answer").await.exit();
    assert_eq!((exit.code, exit.signal), (Some(0), None));
}

#[tokio::test]
async fn a_refused_command_line_shows_what_the_agent_said() {
    let mut bench = Bench::demo();
    bench.profile.args = vec!["--files".into()];
    let exit = bench.turn("hello").await.exit();
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(1), "error: unknown option '--files'\n"));
}

#[tokio::test]
async fn the_error_stream_goes_with_a_failure_and_not_with_an_answer() {
    let bench = Bench::demo();
    let failed = bench.turn("stderr: warning\nrefuse").await.end();
    assert_eq!(failed.stderr, "warning\n");
    let good = bench.turn("stderr: warning\nsay: fine").await;
    assert_eq!(good.closed.stderr, "warning\n");
    assert_eq!(good.end().stderr, "");
}

#[tokio::test]
async fn a_missing_program_is_noticed_before_anything_starts() {
    let mut bench = Bench::demo();
    bench.profile.own_program = Some(bench.folder.path().join("gone"));
    let failure = bench.begin("hello").await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::NotInstalled);
    assert_eq!(failure.message, "demo is not installed: build it");
}

#[tokio::test]
async fn a_program_that_cannot_run_is_a_failed_start() {
    let mut bench = Bench::demo();
    let program = bench.folder.path().join("broken");
    std::fs::write(&program, "#!/no/such/interpreter\n").unwrap();
    bench.profile.own_program = Some(program.clone());
    assert_eq!(bench.begin("hello").await.err().unwrap().kind, FailureKind::StartFailed, "not executable");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let failure = bench.begin("hello").await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::StartFailed, "no interpreter");
    assert!(!failure.message.contains("broken"), "no path for the caller: {}", failure.message);
}

#[tokio::test]
async fn a_second_prompt_is_refused() {
    let bench = Bench::demo();
    let mut link = bench.begin("hello").await.unwrap();
    assert_eq!(link.begin_turn("again".into()).await.unwrap_err().kind, FailureKind::Internal);
    link.close(crate::support::GRACE).await;
    bench.nothing_is_left();
}
