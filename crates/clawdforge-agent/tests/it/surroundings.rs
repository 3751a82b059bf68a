//! What an agent sees of the machine: what was meant, and nothing else.

use std::os::unix::fs::PermissionsExt;

use crate::support::Bench;

#[tokio::test]
async fn the_environment_is_exactly_what_was_composed() {
    let mut bench = Bench::demo();
    bench.profile.env.insert("EXTRA".into(), "yes".into());
    let names: Vec<String> = serde_json::from_str(&bench.answer("env").await).unwrap();
    assert_eq!(
        names,
        [
            "CLAUDE_CODE_DISABLE_AUTO_MEMORY",
            "CLAUDE_CODE_DISABLE_FILE_MENTIONS",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
            "CLAUDE_CODE_MAX_RETRIES",
            "CLAUDE_CODE_TMPDIR",
            "CLAWDFORGE_TREE",
            "DISABLE_AUTOUPDATER",
            "EXTRA",
            "PATH",
            "TMPDIR",
        ]
    );
    assert_eq!(bench.answer("env: CLAUDE_CODE_MAX_RETRIES\nenv: HOME").await, "1\nnot set");
}

#[tokio::test]
async fn the_private_folder_is_there_and_private() {
    let mut bench = Bench::demo();
    bench.spec.system = Some("secret".into());
    let tmp = bench.answer("env: TMPDIR").await;
    assert_eq!(tmp, bench.spec.scratch.join("tmp").to_string_lossy());
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bench.spec.scratch.join("tmp")), 0o700);
    assert_eq!(mode(bench.spec.scratch.join("system.txt")), 0o600);
}

#[tokio::test]
async fn the_operators_arguments_come_first() {
    let mut bench = Bench::demo();
    bench.profile.args = vec!["--effort".into(), "low".into()];
    let args: Vec<String> = serde_json::from_str(&bench.answer("args").await).unwrap();
    assert_eq!(args[..3], ["--effort", "low", "-p"]);
    assert!(!args.iter().any(|arg| arg == "args"), "the prompt is no argument");
}
