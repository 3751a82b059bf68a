//! The mode that a conversation asks for, with agents that offer it as an option and with those that tell it apart.

use clawdforge_agent::{AgentDriver, LinkContext};
use clawdforge_core::agent::FailureKind;

use crate::acp::{answer, close};
use crate::support::{Bench, soon};

#[tokio::test]
async fn a_mode_is_chosen_anew_however_the_conversation_begins() {
    for apart in [false, true] {
        let mut bench = Bench::conversation(false);
        if apart {
            bench.profile.args.push("--modes-apart".into());
        }
        let mut link = bench.open().await.unwrap();
        assert_eq!(answer(&mut *link, "mode").await, "none", "nobody asks for one");
        bench.spec.resume = link.resume_key();
        close(&bench, link).await;
        bench.spec.mode = Some("plan".into());
        for context in [LinkContext::Resumed, LinkContext::Fresh] {
            let mut link = bench.open().await.unwrap();
            assert_eq!(
                (link.context(), answer(&mut *link, "mode").await.as_str()),
                (context, "plan"),
                "apart: {apart}"
            );
            close(&bench, link).await;
            bench.spec.resume = None;
        }
    }
}

#[tokio::test]
async fn a_mode_that_an_agent_does_not_have_is_told_with_those_it_has() {
    for apart in [false, true] {
        let mut bench = Bench::conversation(false);
        if apart {
            bench.profile.args.push("--modes-apart".into());
        }
        bench.spec.mode = Some("dream".into());
        let failure = bench.open().await.err().unwrap();
        assert_eq!(failure.kind, FailureKind::UnknownMode);
        assert!(failure.message.contains("mode dream; it has: default, plan;"), "{}", failure.message);
        bench.nothing_is_left();
    }
}

/// acpx as it answers to a mode, and to being asked what there is.
const ACPX: &str = r#"cd "${0%/*}" || exit 9
printf '%s\n' "$*" >> calls
case "$*" in
--version) echo 0.19.1 ;;
*"sessions new"*) echo '{"action":"session_ensured","created":true,"acpxRecordId":"r1","acpxSessionId":"s1","name":"n"}' ;;
*"set OPTION plan"*) echo '{"action":"config_set","acpxSessionId":"s1"}' ;;
*"set "*) echo '{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"no such option","data":{"acpxCode":"RUNTIME"}}}' ;;
*"sessions show"*) echo '{"acpxRecordId":"r1","acpx":{"config_options":[{"id":"DECLARED","category":"mode","options":[{"value":"default"},{"value":"plan"}]}]}}' ;;
*) exit 9 ;;
esac"#;

#[tokio::test]
async fn behind_acpx_a_mode_is_an_option_by_whatever_id_the_agent_gives_it() {
    let calls = |bench: &Bench| {
        let calls = std::fs::read_to_string(bench.folder.path().join("calls")).unwrap_or_default();
        let words = calls
            .lines()
            .filter_map(|line| Some(line.split_once("acpx-mcp.json ")?.1.replace(bench.spec.mark.as_str(), "M")));
        words.collect::<Vec<_>>()
    };
    for (taken, declared, wanted) in [
        ("mode", "mode", &["sessions new --name M", "set mode plan -s M"][..]),
        ("how", "how", &["sessions new --name M", "set mode plan -s M", "sessions show M", "set how plan -s M"]),
    ] {
        let mut bench = Bench::conversation(false);
        bench.spec.mode = Some("plan".into());
        let script = ACPX.replace("OPTION", taken).replace("DECLARED", declared);
        let link = soon(bench.acpx(&script).open(bench.spec.clone())).await.unwrap();
        assert_eq!(calls(&bench), wanted);
        drop(link);
    }
    for (declared, mode, said) in [
        ("mode", "dream", "mode dream; it has: default, plan;"),
        ("how", "dream", "mode dream; it has: default, plan;"),
        ("mode", "plan", "does not take the mode plan; it has"),
    ] {
        let mut bench = Bench::conversation(false);
        bench.spec.mode = Some(mode.into());
        let script = ACPX.replace("OPTION", "nothing").replace("DECLARED", declared);
        let failure = soon(bench.acpx(&script).open(bench.spec.clone())).await.err().unwrap();
        assert_eq!(failure.kind, FailureKind::UnknownMode);
        assert!(failure.message.contains(said), "{}", failure.message);
    }
    let mut bench = Bench::conversation(false);
    bench.spec.mode = Some("plan".into());
    let script = ACPX.replace("OPTION", "nothing").replace(r#""category":"mode""#, r#""category":"other""#);
    let failure = soon(bench.acpx(&script).open(bench.spec.clone())).await.err().unwrap();
    assert!(failure.message.contains("open the session with the driver acp"), "{}", failure.message);
}
