//! `clawdforge doctor`: what it looks at, what it says to do, and its exit code.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::script;
use crate::{BINARY, setup};

/// A `claude` that says its version, and is signed in where it gets a key.
const CLAUDE: &str = r#"
case "$1 $2" in
  "--version ") echo "2.1.330 (Claude Code)" ;;
  "auth status")
    if [ -e "$HOME/.claude/login" ]; then echo '{"loggedIn": true, "authMethod": "oauth"}'; exit 0; fi
    if [ -z "$ANTHROPIC_API_KEY" ]; then echo '{"loggedIn": false, "authMethod": "none"}'; exit 1; fi
    echo '{"loggedIn": true, "authMethod": "api_key"}' ;;
  *) exit 64 ;;
esac
"#;

/// A machine with a data directory that is in order and a search path of its own.
struct Machine {
    root: TempDir,
}

/// What the doctor said.
struct Diagnosis {
    code: Option<i32>,
    report: Value,
}

impl Machine {
    fn new() -> anyhow::Result<Self> {
        let root = tempfile::tempdir()?;
        for (name, mode) in [("bin", 0o755), ("home", 0o755), ("data", 0o700)] {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder)?;
            std::fs::set_permissions(&folder, Permissions::from_mode(mode))?;
        }
        Ok(Self { root })
    }

    fn with_claude(body: &str) -> anyhow::Result<Self> {
        let machine = Self::new()?;
        script(&machine.root.path().join("bin/claude"), body)?;
        Ok(machine)
    }

    fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    async fn doctor(&self, args: &[&str], env: &[(&str, &str)]) -> anyhow::Result<Diagnosis> {
        let output = tokio::process::Command::new(BINARY)
            .args(["doctor", "--json", "--data-dir"])
            .arg(self.data_dir())
            // Any free port: no two tests shall meet at one.
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .env_clear()
            .env("PATH", self.root.path().join("bin"))
            .env("HOME", self.root.path().join("home"))
            .envs(env.iter().copied())
            .current_dir(self.root.path())
            .output()
            .await?;
        let report = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok(Diagnosis { code: output.status.code(), report })
    }
}

/// Looks at a certain address, with the demo agent.
async fn doctor_at(address: &str, data_dir: &Path) -> anyhow::Result<Diagnosis> {
    let output = tokio::process::Command::new(BINARY)
        .args(["doctor", "--json", "--demo", "--listen", address, "--data-dir"])
        .arg(data_dir)
        .env_clear()
        .output()
        .await?;
    Ok(Diagnosis { code: output.status.code(), report: serde_json::from_slice(&output.stdout)? })
}

impl Diagnosis {
    /// Verdict and the two texts of one check.
    #[track_caller]
    fn check(&self, name: &str) -> (&str, &str, &str) {
        let checks = self.report["checks"].as_array().into_iter().flatten();
        let check = checks.into_iter().find(|check| check["name"] == name);
        let check = check.unwrap_or_else(|| panic!("no check `{name}` in {:#}", self.report));
        let text = |key: &str| check[key].as_str().unwrap_or_default();
        (text("verdict"), text("what"), text("todo"))
    }
}

#[tokio::test]
async fn without_an_agent_the_service_is_not_healthy_and_the_demo_is() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let found = machine.doctor(&[], &[]).await?;
    assert_eq!((found.code, &found.report["healthy"]), (Some(1), &false.into()));
    let (verdict, what, _) = found.check("agent claude");
    assert_eq!(verdict, "fail");
    assert!(what.contains("clawdforge agents install claude"), "{what}");

    let found = machine.doctor(&["--demo"], &[]).await?;
    assert_eq!((found.code, &found.report["healthy"]), (Some(0), &true.into()), "{:#}", found.report);
    assert_eq!(found.check("agent demo").0, "ok");
    assert!(found.check("other agents").1.contains("claude"), "{:#}", found.report);
    Ok(())
}

#[tokio::test]
async fn a_login_in_the_services_own_home_is_noticed_with_what_makes_agents_see_it() -> anyhow::Result<()> {
    let machine = Machine::with_claude(CLAUDE)?;
    let home = machine.root.path().join("home");
    std::fs::create_dir(home.join(".claude"))?;
    std::fs::write(home.join(".claude/login"), "")?;
    let found = machine.doctor(&[], &[]).await?;
    let (verdict, what, todo) = found.check("agent claude");
    assert_eq!(verdict, "fail");
    assert!(what.contains(&format!("it is in the service's own home ({})", home.display())), "{what}");
    assert!(todo.contains("claude setup-token`") && todo.contains("`agent_home = \"shared\"`"), "{todo}");

    let found = machine.doctor(&["--agent-home=shared"], &[]).await?;
    assert_eq!(found.check("agent claude").0, "ok", "{:#}", found.report);
    assert!(found.check("configuration").1.contains("agents of all apps share one home"), "{:#}", found.report);

    let key = machine.root.path().join("key");
    std::fs::write(&key, "sk-secret")?;
    std::fs::set_permissions(&key, Permissions::from_mode(0o600))?;
    let table = format!("[agents.claude]\nsign_in = {{ ANTHROPIC_API_KEY = {:?} }}\n", key.display().to_string());
    std::fs::write(machine.root.path().join("clawdforge.toml"), table)?;
    let found = machine.doctor(&[], &[]).await?;
    assert!(found.check("agent claude").1.ends_with("; signed in (api_key)"), "{:#}", found.report);
    assert!(!found.report.to_string().contains("sk-secret"));
    Ok(())
}

#[tokio::test]
async fn an_agent_says_itself_whether_it_is_signed_in() -> anyhow::Result<()> {
    let machine = Machine::with_claude(CLAUDE)?;
    let found = machine.doctor(&[], &[]).await?;
    let (verdict, what, todo) = found.check("agent claude");
    assert_eq!((found.code, verdict), (Some(1), "fail"));
    assert!(what.starts_with("2.1.330 (Claude Code), PATH (") && what.ends_with("; not signed in"), "{what}");
    assert!(todo.contains("bin/claude auth login`"), "{todo}");

    let found = machine.doctor(&[], &[("ANTHROPIC_API_KEY", "sk-secret")]).await?;
    let (verdict, what, _) = found.check("agent claude");
    assert_eq!((found.code, verdict), (Some(0), "ok"), "{:#}", found.report);
    assert!(what.ends_with("; signed in (api_key)"), "{what}");
    assert!(!found.report.to_string().contains("sk-secret"));
    Ok(())
}

#[tokio::test]
async fn the_doctor_asks_an_agent_in_the_environment_it_would_work_in() -> anyhow::Result<()> {
    let machine = Machine::with_claude(CLAUDE)?;
    let config = machine.root.path().join("clawdforge.toml");
    std::fs::write(&config, "[agents.claude]\nenv = { ANTHROPIC_API_KEY = \"sk-secret\" }\n")?;
    std::fs::set_permissions(&config, Permissions::from_mode(0o600))?;
    let found = machine.doctor(&[], &[]).await?;
    assert_eq!(found.check("agent claude").0, "ok", "{:#}", found.report);
    assert_eq!(found.check("secrets").0, "ok", "{:#}", found.report);
    std::fs::set_permissions(&config, Permissions::from_mode(0o644))?;
    let found = machine.doctor(&[], &[]).await?;
    assert_eq!((found.code, found.check("secrets").0), (Some(1), "fail"), "{:#}", found.report);
    Ok(())
}

#[tokio::test]
async fn an_agent_that_does_not_run_fails_with_its_own_words() -> anyhow::Result<()> {
    let machine = Machine::with_claude("echo 'wrong libc' >&2\nexit 127")?;
    let found = machine.doctor(&[], &[]).await?;
    let (verdict, what, todo) = found.check("agent claude");
    assert_eq!(verdict, "fail");
    assert!(what.contains("does not run") && what.contains("wrong libc"), "{what}");
    assert!(todo.contains("agents install claude --force"), "{todo}");
    Ok(())
}

#[tokio::test]
async fn a_data_directory_that_others_may_enter_fails_with_the_command_that_helps() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    std::fs::set_permissions(machine.data_dir(), Permissions::from_mode(0o755))?;
    let found = machine.doctor(&["--demo"], &[]).await?;
    let (verdict, _, todo) = found.check("data directory");
    assert_eq!((found.code, verdict), (Some(1), "fail"));
    assert_eq!(todo, format!("chmod 700 {}", machine.data_dir().display()));
    Ok(())
}

#[tokio::test]
async fn an_admin_token_with_which_a_start_would_be_refused_fails_here_too() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let weak = [("CLAWDFORGE_ADMIN_TOKEN", "changeme-changeme")];
    for (env, word) in [(&[][..], "generated-admin-token"), (&weak, "weak-admin-token")] {
        let doctor = async |despite: &str| -> anyhow::Result<Diagnosis> {
            let mut command = tokio::process::Command::new(BINARY);
            command.args(["doctor", "--json", "--demo", "--listen", "0.0.0.0:0", "--start-despite", despite]);
            command.arg("--data-dir").arg(machine.data_dir()).env_clear().envs(env.iter().copied());
            let output = command.output().await?;
            Ok(Diagnosis { code: output.status.code(), report: serde_json::from_slice(&output.stdout)? })
        };
        let found = doctor("no-locks").await?;
        assert_eq!((found.code, found.check("admin token").0), (Some(1), "fail"), "{word} {:#}", found.report);
        let found = doctor(word).await?;
        assert_eq!((found.code, found.check("admin token").0), (Some(0), "warn"), "{word} {:#}", found.report);
    }
    assert_eq!(machine.doctor(&["--demo"], &[]).await?.check("admin token").0, "ok");
    Ok(())
}

#[tokio::test]
async fn a_port_that_somebody_else_holds_fails_with_their_name() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let found = doctor_at(&address, &machine.data_dir()).await?;
    let (verdict, what, _) = found.check("port");
    assert_eq!((found.code, verdict), (Some(1), "fail"));
    assert!(what.contains(&format!("taken by process {} (", std::process::id())), "{what}");
    Ok(())
}

#[tokio::test]
async fn a_running_service_is_recognised_and_left_alone() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let found = doctor_at(app.authority(), &app.data_dir()).await?;
    assert_eq!(found.code, Some(0), "{:#}", found.report);
    let pid = app.pid()?.as_raw_nonzero();
    assert_eq!(found.check("database").1, format!("in use by the running service (process {pid})"));
    assert!(found.check("port").1.starts_with("a running service"), "{:#}", found.report);
    let machine = Machine::new()?;
    let beside = doctor_at(app.authority(), &machine.data_dir()).await?;
    assert_eq!((beside.code, beside.check("port").0), (Some(1), "fail"), "its data is not what a start would serve");
    assert_eq!(app.prompt("say: still here").await?.json()["result"], "still here");
    Ok(())
}

#[tokio::test]
async fn the_database_of_a_stopped_service_is_read_through_and_damage_is_found() -> anyhow::Result<()> {
    let mut app = setup().demo().start().await?;
    app.prompt("say: something to keep").await?;
    app.stop().await?;
    let machine = Machine::new()?;
    std::fs::remove_dir(machine.data_dir())?;
    std::os::unix::fs::symlink(app.data_dir(), machine.data_dir())?;
    let found = machine.doctor(&["--demo"], &[]).await?;
    let (verdict, what, _) = found.check("database");
    assert_eq!(verdict, "ok", "{what}");
    assert!(what.starts_with("whole, "), "{what}");

    std::fs::write(app.data_dir().join("clawdforge.sqlite"), [b'x'; 8192])?;
    let found = machine.doctor(&["--demo"], &[]).await?;
    assert_eq!((found.code, found.check("database").0), (Some(1), "fail"));
    Ok(())
}

#[tokio::test]
async fn a_wrong_configuration_is_the_one_thing_that_is_said() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let found = machine.doctor(&["--slots", "many"], &[("CLAWDFORGE_QUEUE_MAX", "-1")]).await?;
    let (verdict, what, _) = found.check("configuration");
    assert_eq!((found.code, verdict), (Some(1), "fail"));
    assert!(what.contains("--slots") && what.contains("CLAWDFORGE_QUEUE_MAX"), "{what}");
    assert_eq!(found.report["checks"].as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_warning_is_healthy() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let found = machine.doctor(&["--demo", "--slots", "1024"], &[("CLAWDFORGE_SLOT", "4")]).await?;
    let (verdict, what, _) = found.check("configuration");
    assert_eq!((found.code, verdict), (Some(0), "warn"), "{:#}", found.report);
    assert!(what.contains("CLAWDFORGE_SLOT"), "{what}");
    Ok(())
}

#[tokio::test]
async fn what_agents_behind_acpx_are_kept_from_is_tried_in_their_own_sandbox() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let report = doctor_at("127.0.0.1:0", &app.data_dir()).await?.report;
    let mut checks = report["checks"].as_array().into_iter().flatten();
    let isolation = &checks.find(|check| check["name"] == "isolation").context("it is a check")?["details"];
    let (usual, behind_acpx) = (&isolation["attacks"], &isolation["acpx"]["attacks"]);
    assert_eq!(isolation["acpx"]["level"], "landlock", "{isolation:#}");
    assert_eq!(behind_acpx.as_object().map(Map::len), usual.as_object().map(Map::len));
    assert_eq!((&behind_acpx["read_database"], &behind_acpx["stat_database"]), (&json!("denied"), &json!("open")));
    let hidden = if isolation["level"] == "namespaces" { "denied" } else { "open" };
    assert_eq!(usual["stat_database"], hidden, "the usual one is another: {isolation:#}");
    let log = app.log()?;
    assert!(log.contains(r#""isolation.acpx.level":"landlock""#), "the start says it: {log}");
    let trial = app.data_dir().join("isolation-probe-acpx");
    assert!(!clawdforge_agent::acpx::socket_folder(&trial).exists(), "nothing is left of it");
    Ok(())
}
