//! `clawdforge agents install` and `agents list`, with a scripted npm on a search path of its own.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::BINARY;
use crate::support::script;

/// What an honest npm does: it makes the program that the `package.json` asks for.
const HONEST: &str = r#"
package=$(grep -o '@anthropic-ai/claude-code-linux-[a-z0-9-]*' "$folder/package.json")
mkdir -p "$folder/node_modules/$package"
program="$folder/node_modules/$package/claude"
printf '#!/bin/sh\necho "2.1.330 (Claude Code)"\n' >"$program"
chmod 755 "$program"
"#;

/// A machine with nothing but a shell, the usual small tools and a fake npm.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new() -> anyhow::Result<Self> {
        let root = tempfile::tempdir()?;
        std::fs::create_dir(root.path().join("bin"))?;
        std::fs::create_dir(root.path().join("home"))?;
        Ok(Self { root })
    }

    /// Where npm may write beside the folder it installs into.
    fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    fn with_npm(body: &str) -> anyhow::Result<Self> {
        let machine = Self::new()?;
        machine.npm(body)?;
        Ok(machine)
    }

    /// Replaces npm. `$folder` is where it is to install, `$home` the home; each call leaves its
    /// arguments and its environment behind.
    fn npm(&self, body: &str) -> anyhow::Result<()> {
        let head = format!(
            "home='{}'\necho \"$@\" >>\"$home/npm-calls\"\n/usr/bin/env >\"$home/npm-env\"\nPATH=/usr/bin:/bin\n\
             for word in \"$@\"; do case $word in --prefix=*) folder=${{word#--prefix=}} ;; esac; done\n",
            self.home().display()
        );
        script(&self.root.path().join("bin/npm"), &format!("{head}{body}"))
    }

    async fn clawdforge(&self, args: &[&str]) -> anyhow::Result<Output> {
        let output = tokio::process::Command::new(BINARY)
            .args(args)
            .arg("--data-dir")
            .arg(self.root.path().join("data"))
            .env_clear()
            .env("PATH", self.root.path().join("bin"))
            .env("HOME", self.home())
            .env("npm_config_registry", "http://127.0.0.1:9/")
            .env("CLAWDFORGE_ADMIN_TOKEN", "cf_admin_never_for_npm_0123456789abcdef")
            .env("ANTHROPIC_API_KEY", "never-for-npm")
            .current_dir(self.root.path())
            .output();
        Ok(output.await?)
    }

    async fn install(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.clawdforge(&[&["agents", "install", "claude"], args].concat()).await
    }

    fn agents(&self) -> PathBuf {
        self.root.path().join("data/agents")
    }

    /// What lies in the folder of agents, but for the lock.
    fn installed(&self) -> anyhow::Result<Vec<String>> {
        let names =
            std::fs::read_dir(self.agents())?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<anyhow::Result<Vec<_>>>()?;
        names.retain(|name| name != ".lock");
        names.sort();
        Ok(names)
    }

    fn npm_calls(&self) -> anyhow::Result<usize> {
        Ok(self.read("npm-calls")?.lines().count())
    }

    fn read(&self, name: &str) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.home().join(name))?)
    }
}

#[track_caller]
fn said(output: &Output, code: i32) -> (String, String) {
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let [out, err] = texts;
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    (out, err)
}

#[tokio::test]
async fn an_agent_is_installed_at_its_pinned_version_and_then_listed() -> anyhow::Result<()> {
    let machine = Machine::with_npm(HONEST)?;
    let (out, _) = said(&machine.install(&[]).await?, 0);
    assert!(out.starts_with("claude 2.1.330 is installed ("), "{out}");
    assert!(out.contains("next: run `") && out.contains("auth login`"), "{out}");
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(machine.agents().join("claude/package.json"))?)?;
    let pinned: Vec<_> = manifest["dependencies"].as_object().into_iter().flatten().collect();
    assert!(matches!(&pinned[..], [(_, Value::String(version))] if version == "2.1.330"), "{manifest}");

    let (out, _) = said(&machine.clawdforge(&["agents", "list", "--json"]).await?, 0);
    let listed: Value = serde_json::from_str(&out)?;
    let claude = &listed["agents"][0];
    assert_eq!((&claude["name"], &claude["source"]), (&"claude".into(), &"own install".into()));
    assert_eq!((&claude["version"], &claude["usable"]), (&"2.1.330 (Claude Code)".into(), &true.into()));
    let codex = listed["agents"].as_array().into_iter().flatten().find(|agent| agent["name"] == "codex");
    assert_eq!(codex.map(|codex| &codex["present"]), Some(&false.into()));
    Ok(())
}

#[tokio::test]
async fn npm_runs_no_scripts_and_sees_its_own_settings_but_no_secret() -> anyhow::Result<()> {
    let machine = Machine::with_npm(HONEST)?;
    said(&machine.install(&[]).await?, 0);
    let call = machine.read("npm-calls")?;
    for flag in ["install", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"] {
        assert!(call.split_whitespace().any(|word| word == flag), "{flag}: {call}");
    }
    let env = machine.read("npm-env")?;
    assert!(env.contains("npm_config_registry=http://127.0.0.1:9/"), "{env}");
    assert!(env.contains("HOME="), "{env}");
    assert!(!env.contains("never"), "{env}");
    Ok(())
}

#[tokio::test]
async fn installing_again_does_nothing_unless_it_is_forced() -> anyhow::Result<()> {
    let machine = Machine::with_npm(HONEST)?;
    said(&machine.install(&[]).await?, 0);
    let (out, _) = said(&machine.install(&[]).await?, 0);
    assert!(out.starts_with("claude 2.1.330 is installed already: "), "{out}");
    assert_eq!(machine.npm_calls()?, 1);
    said(&machine.install(&["--force"]).await?, 0);
    assert_eq!(machine.npm_calls()?, 2);
    assert_eq!(machine.installed()?, ["claude"]);
    Ok(())
}

#[tokio::test]
async fn a_failure_of_npm_is_explained_in_its_own_words_and_leaves_nothing() -> anyhow::Result<()> {
    let machine = Machine::with_npm("mkdir \"$folder/node_modules\"\necho 'npm error code ENOTFOUND' >&2\nexit 1")?;
    let (out, err) = said(&machine.install(&[]).await?, 1);
    assert_eq!(out, "");
    assert!(err.contains("claude: npm failed with exit code 1; the registry was not reached"), "{err}");
    assert!(err.contains("    npm error code ENOTFOUND"), "{err}");
    assert_eq!(machine.installed()?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn an_agent_of_another_version_is_refused_and_the_one_before_stays() -> anyhow::Result<()> {
    let machine = Machine::with_npm(HONEST)?;
    said(&machine.install(&[]).await?, 0);
    machine.npm(&HONEST.replace("2.1.330", "9.9.9"))?;
    let (_, err) = said(&machine.install(&["--force"]).await?, 1);
    assert!(err.contains("claude says it is `9.9.9 (Claude Code)`; 2.1.330 was asked for"), "{err}");
    assert_eq!(machine.installed()?, ["claude"]);
    let (out, _) = said(&machine.clawdforge(&["agents", "list"]).await?, 0);
    assert!(out.contains("2.1.330 (Claude Code)  own install"), "{out}");
    Ok(())
}

#[tokio::test]
async fn an_npm_that_installs_nothing_is_noticed() -> anyhow::Result<()> {
    let machine = Machine::with_npm("exit 0")?;
    let (_, err) = said(&machine.install(&[]).await?, 1);
    assert!(err.contains("not usable: there is no program node_modules/@anthropic-ai/"), "{err}");
    assert_eq!(machine.installed()?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn what_a_killed_installation_left_is_removed_by_the_next() -> anyhow::Result<()> {
    let machine = Machine::with_npm(HONEST)?;
    std::fs::create_dir_all(machine.agents().join(".claude-x1y2z3/node_modules"))?;
    let (_, err) = said(&machine.install(&[]).await?, 0);
    assert!(err.contains("removed 1 unfinished installation"), "{err}");
    assert_eq!(machine.installed()?, ["claude"]);
    Ok(())
}

#[tokio::test]
async fn of_two_installations_at_once_one_waits_and_finds_it_done() -> anyhow::Result<()> {
    let machine = Machine::with_npm(HONEST)?;
    let (one, other) = tokio::join!(machine.install(&[]), machine.install(&[]));
    let outs = [said(&one?, 0).0, said(&other?, 0).0];
    assert_eq!(outs.iter().filter(|out| out.contains("is installed already")).count(), 1, "{outs:?}");
    assert_eq!(machine.npm_calls()?, 1);
    assert_eq!(machine.installed()?, ["claude"]);
    Ok(())
}

#[tokio::test]
async fn an_interrupt_ends_npm_and_removes_what_it_had_written() -> anyhow::Result<()> {
    let machine = Machine::with_npm(
        "mkdir \"$folder/node_modules\"\necho $PPID >\"$home/installer\"\necho $$ >\"$home/new-pid\"\n\
         mv \"$home/new-pid\" \"$home/npm-pid\"\nexec sleep 600",
    )?;
    let interrupt = async {
        // npm's parent is the installer, at a time when npm runs.
        while !machine.home().join("npm-pid").exists() {
            // why: a script in another process offers nothing to wait for.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let installer = Pid::from_raw(machine.read("installer")?.trim().parse()?).context("a process id")?;
        kill_process(installer, Signal::INT)?;
        anyhow::Ok(())
    };
    let (output, interrupted) = tokio::join!(machine.install(&[]), interrupt);
    interrupted?;
    let (_, err) = said(&output?, 130);
    assert!(err.contains("claude: interrupted; nothing was changed"), "{err}");
    assert_eq!(machine.installed()?, Vec::<String>::new());
    let npm = machine.read("npm-pid")?;
    assert!(!Path::new("/proc").join(npm.trim()).exists(), "npm outlived its installation");
    Ok(())
}

#[tokio::test]
async fn a_missing_npm_says_how_to_get_it() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let (_, err) = said(&machine.install(&[]).await?, 1);
    assert!(err.contains("npm is not on the PATH; install Node.js 22"), "{err}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_agent_is_a_wrong_command_line() -> anyhow::Result<()> {
    let machine = Machine::with_npm(HONEST)?;
    let (_, err) = said(&machine.clawdforge(&["agents", "install", "claud"]).await?, 2);
    assert!(err.contains("a similar value exists: 'claude'"), "{err}");
    assert!(!machine.agents().exists());
    Ok(())
}

#[tokio::test]
async fn agents_list_tells_what_the_agents_of_sessions_declare() -> anyhow::Result<()> {
    let machine = Machine::new()?;
    let config = machine.root.path().join("clawdforge.toml");
    std::fs::write(&config, "[agents.demo]\n[agents.broken]\ndialect = \"acp\"\ncommand = \"/bin/false\"\n")?;
    let config = config.display().to_string();
    let (out, _) = said(&machine.clawdforge(&["agents", "list", "--json", "--config", &config]).await?, 0);
    let listed: Value = serde_json::from_str(&out)?;
    let find = |name: &str| {
        let all = listed["session_agents"].as_array().into_iter().flatten();
        all.clone().find(|agent| agent["name"] == name).cloned().unwrap_or_default()
    };
    let demo = find("demo");
    assert_eq!((&demo["driver"], &demo["usable"]), (&"acp".into(), &true.into()), "{demo}");
    assert_eq!(demo["capabilities"], serde_json::json!(["close", "embeddedContext", "fork", "load", "resume"]));
    let broken = find("broken");
    assert_eq!((&broken["present"], &broken["usable"]), (&true.into(), &false.into()), "{broken}");
    assert!(broken["note"].as_str().is_some_and(|note| note.contains("ended before a conversation")), "{broken}");
    assert_eq!(find("goose")["present"], false);

    let (out, _) = said(&machine.clawdforge(&["agents", "list", "--config", &config]).await?, 0);
    let line = out.lines().find(|line| line.starts_with("demo") && line.contains("acp")).unwrap_or_default();
    assert!(line.ends_with("close embeddedContext fork load resume"), "{out}");
    Ok(())
}
