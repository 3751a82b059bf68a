//! What the agent's side keeps of erased conversations: the agent's own records, and those of acpx.

use std::fs;
use std::path::PathBuf;

use clawdforge_agent::{AcpDriver, AgentDriver, Choices, ForgetReport, Forgotten, HostSpec};
use clawdforge_process::TreeMark;

use crate::support::{Bench, soon};

/// An agent that notes in its home what it is told to delete, and answers that with `$answer`.
const KEEPER: &str = r#"while read -r line; do
id=$(printf '%s' "$line" | sed 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/')
case "$line" in
*'"initialize"'*) answer='"result":{"protocolVersion":1,"agentCapabilities":{"sessionCapabilities":{"delete":{}}}}' ;;
*'"session/delete"'*)
  printf '%s' "$line" | sed 's/.*"sessionId":"\([^"]*\)".*/\1\n/' >> "$HOME/deleted"
  [ ! -e "$HOME/hang" ] || sleep 600
  answer=$(cat "$HOME/answer" 2>/dev/null || echo '"result":{}') ;;
esac
printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$answer"
done"#;

/// A keeper with a home, and a conversation of it that is erased.
fn keeper() -> (Bench, PathBuf, Forgotten) {
    let mut bench = Bench::script(KEEPER);
    let home = bench.folder.path().join("home");
    fs::create_dir(&home).unwrap();
    bench.profile.env.insert("HOME".into(), home.clone().into());
    let forgotten = Forgotten {
        workspace: bench.spec.workspace.clone(),
        scratch: bench.spec.scratch.clone(),
        mark: bench.spec.mark.clone(),
        resume_key: Some("noted".into()),
    };
    (bench, home, forgotten)
}

async fn report(bench: &Bench, driver: &dyn AgentDriver, forgotten: &[&Forgotten]) -> ForgetReport {
    let forgotten = forgotten.iter().map(|one| (*one).clone()).collect();
    let report = soon(driver.forget(forgotten, HostSpec::of(&bench.spec))).await;
    assert_eq!(report.survivors, 0);
    bench.nothing_is_left();
    report
}

/// What is left, where the agent can erase.
async fn forget(bench: &Bench, driver: &dyn AgentDriver, forgotten: &[&Forgotten]) -> Vec<TreeMark> {
    let ForgetReport { left, kept, .. } = report(bench, driver, forgotten).await;
    assert_eq!(kept, []);
    left
}

fn native(bench: &Bench) -> AcpDriver {
    AcpDriver::new(bench.profile.clone(), Choices::default(), bench.spawner.clone())
}

fn deleted(home: &std::path::Path) -> Vec<String> {
    let mut deleted: Vec<_> =
        fs::read_to_string(home.join("deleted")).unwrap_or_default().lines().map(str::to_owned).collect();
    deleted.sort();
    deleted
}

#[tokio::test]
async fn an_agent_that_cannot_be_started_or_refuses_leaves_its_records_for_another_try() {
    let (mut bench, home, forgotten) = keeper();
    let program = bench.profile.own_program.replace(bench.folder.path().join("none"));
    assert_eq!(forget(&bench, &native(&bench), &[&forgotten]).await, std::slice::from_ref(&forgotten.mark));
    bench.profile.own_program = program;
    fs::write(home.join("answer"), r#""error":{"code":-32603,"message":"no"}"#).unwrap();
    assert_eq!(forget(&bench, &native(&bench), &[&forgotten]).await, std::slice::from_ref(&forgotten.mark));
    fs::remove_file(home.join("answer")).unwrap();
    assert_eq!(forget(&bench, &native(&bench), &[&forgotten]).await, []);
    assert_eq!(deleted(&home), ["noted", "noted"]);
}

#[tokio::test]
async fn an_agent_that_has_no_way_to_erase_is_told_of_as_keeping_its_records() {
    let (bench, home, mut forgotten) = keeper();
    let program = bench.profile.own_program.as_ref().unwrap();
    fs::write(program, fs::read_to_string(program).unwrap().replace(r#""delete":{}"#, "")).unwrap();
    let kept = ForgetReport { kept: vec![forgotten.mark.clone()], ..ForgetReport::default() };
    assert_eq!(report(&bench, &native(&bench), &[&forgotten]).await, kept);
    assert_eq!(report(&bench, &bench.acpx("exit 9"), &[&forgotten]).await, kept);
    // It never had one to keep.
    forgotten.resume_key = None;
    assert_eq!(report(&bench, &native(&bench), &[&forgotten]).await, ForgetReport::default());
    assert!(deleted(&home).is_empty());
}

#[tokio::test]
async fn the_agent_behind_acpx_erases_its_own_records_before_acpx_loses_their_ids() {
    let (bench, home, forgotten) = keeper();
    let records = home.join(".acpx/sessions");
    fs::create_dir_all(&records).unwrap();
    let record = format!(
        "{{\n  \"acpx_record_id\": \"r\",\n  \"acp_session_id\": \"recorded\",\n  \"cwd\": {}\n}}",
        serde_json::json!(forgotten.workspace)
    );
    fs::write(records.join("r.json"), record).unwrap();
    fs::write(records.join("r.stream.ndjson"), "{\"id\":1,\"result\":{\"sessionId\":\"begun\"}}\n").unwrap();
    let driver = bench.acpx("exit 9");
    let left = || fs::read_dir(&records).unwrap().count();

    // What it cannot erase now, it is asked for again: its ids must still be known then.
    fs::write(home.join("answer"), r#""error":{"code":-32603,"message":"no"}"#).unwrap();
    let others = Forgotten {
        workspace: "/elsewhere".into(),
        resume_key: None,
        mark: "other".parse().unwrap(),
        ..forgotten.clone()
    };
    let left_of = forget(&bench, &driver, &[&forgotten, &others]).await;
    assert_eq!(left_of, std::slice::from_ref(&forgotten.mark), "of the other there was nothing");
    assert_eq!((deleted(&home).len(), left()), (3, 2));

    fs::remove_file(home.join("deleted")).unwrap();
    fs::write(home.join("answer"), r#""error":{"code":-32002,"message":"not found"}"#).unwrap();
    assert_eq!(forget(&bench, &driver, &[&forgotten]).await, []);
    assert_eq!(deleted(&home), ["begun", "noted", "recorded"]);
    assert_eq!(left(), 0, "what the agent does not know it does not have");
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_ended_when_it_is_given_up() {
    let (bench, home, forgotten) = keeper();
    fs::write(home.join("hang"), "").unwrap();
    let given_up = bench.spec.given_up.clone();
    let give_up = async {
        soon(async {
            while deleted(&home).is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        given_up.cancel();
    };
    let driver = native(&bench);
    let forgotten = [&forgotten];
    let (left, ()) = tokio::join!(forget(&bench, &driver, &forgotten), give_up);
    assert_eq!(left, std::slice::from_ref(&forgotten[0].mark));
}
