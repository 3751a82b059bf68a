//! What agents reach over the network: tried by the demo agent by itself and through the proxy it was given,
//! towards the service and towards a neighbour on loopback.

use std::net::{Ipv4Addr, TcpListener};

use clawdforge_process::sandbox::landlock_abi;
use clawdforge_testkit::app::{Setup, TestApp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::setup;

/// The version of Landlock's interface from which on the kernel keeps the rules.
const TCP_ABI: u32 = 4;

/// Another service on this machine, which takes connections and says nothing.
fn neighbour() -> anyhow::Result<(TcpListener, String)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?.to_string();
    Ok((listener, address))
}

/// What an agent of this app says to steps, a line for each.
async fn said(app: &TestApp, token: &str, steps: &[String]) -> anyhow::Result<Vec<String>> {
    let answer = app.run(token, json!({ "prompt": steps.join("\n") })).await?.json();
    let text = answer["result"].as_str().unwrap_or_default().to_owned();
    assert_eq!(text.lines().count(), steps.len(), "{answer}");
    Ok(text.lines().map(str::to_owned).collect())
}

async fn mint(app: &TestApp, name: &str, network: Value) -> anyhow::Result<String> {
    let body = json!({ "name": name, "network": network });
    let answer = app.call(Method::POST, "/admin/tokens", &app.admin_token()?, body).await?.json();
    assert_eq!(answer["network"], network, "{answer}");
    Ok(answer["token"].as_str().unwrap_or_default().to_owned())
}

/// Whether the kernel leaves no way: it refuses to connect, or there is nobody in the agent's own network.
fn is_closed(said: &str) -> bool {
    said.contains("Permission denied") || said.contains("Connection refused")
}

fn with_rule(rule: &str) -> Setup {
    setup().demo().env("CLAWDFORGE_AGENT_NETWORK", rule)
}

#[tokio::test]
async fn whatever_the_rule_no_service_of_this_machine_is_reached() -> anyhow::Result<()> {
    let (_listening, neighbour) = neighbour()?;
    for rule in ["open", "none", "example.com:443"] {
        let app = with_rule(rule).start().await?;
        let token = app.demo_token()?;
        let targets = [app.authority().to_owned(), neighbour.clone()];
        for target in targets {
            let steps = [format!("proxy: {target}"), format!("connect: {target}")];
            let [proxy, directly] = said(&app, &token, &steps).await?.try_into().unwrap();
            assert!(proxy.starts_with("403 Forbidden clawdforge: "), "{rule}: {proxy}");
            let why =
                if rule == "open" { "leads to a loopback address" } else { "by the network rule of the agent demo" };
            assert!(proxy.contains(why), "{rule}: {proxy}");
            if landlock_abi() >= TCP_ABI {
                assert!(is_closed(&directly), "{rule}: {directly}");
            }
        }
        let log = app.log()?;
        assert!(log.contains("a connection of an agent was refused") && log.contains("127.0.0.1"), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_operator_names_is_reached_and_only_that() -> anyhow::Result<()> {
    let ((_one, named), (_other, neighbour)) = (neighbour()?, neighbour()?);
    for rule in ["open", "none", "example.com:443"] {
        let app = with_rule(rule).env("CLAWDFORGE_AGENT_NETWORK_ALWAYS", named.as_str()).start().await?;
        let token = mint(&app, "narrow", json!("none")).await?;
        let steps = [format!("proxy: {named}"), format!("connect: {named}"), format!("proxy: {neighbour}")];
        let [proxy, directly, other] = said(&app, &token, &steps).await?.try_into().unwrap();
        assert_eq!((proxy.as_str(), directly.as_str()), ("200 OK", "connected"), "{rule}");
        assert!(other.starts_with("403"), "{rule}: {other}");
    }
    Ok(())
}

#[tokio::test]
async fn an_agents_own_table_says_what_it_reaches() -> anyhow::Result<()> {
    let (_listening, named) = neighbour()?;
    let config = format!("[agents.demo]\nnetwork = [\"example.com:443\"]\nnetwork_always = [\"{named}\"]\n");
    let app = setup().demo().config(config).start().await?;
    let steps = [format!("proxy: {named}"), "proxy: example.org:443".to_owned()];
    let [proxy, other] = said(&app, &app.demo_token()?, &steps).await?.try_into().unwrap();
    assert_eq!(proxy, "200 OK");
    assert!(other.contains("example.org:443 is closed to this agent by the network rule of the agent demo"), "{other}");
    Ok(())
}

#[tokio::test]
async fn an_apps_token_narrows_what_its_agents_reach_in_sessions_as_in_runs() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    let token = mint(&app, "narrow", json!(["example.com:443"])).await?;
    let refused = "example.org:443 is closed to this agent by the network rule of the app narrow";
    let [proxy] = said(&app, &token, &["proxy: example.org:443".to_owned()]).await?.try_into().unwrap();
    assert!(proxy.contains(refused), "{proxy}");
    let app = app.restart().await?;
    let opened = app.call(Method::POST, "/sessions", &token, json!({})).await?.json();
    let path = format!("/sessions/{}/turn", opened["session_id"].as_str().unwrap_or_default());
    let turn = app.call(Method::POST, &path, &token, json!({ "prompt": "proxy: example.org:443" })).await?;
    assert!(turn.text.contains(refused), "the rule outlives a restart: {turn:?}");
    let listed = app.call(Method::GET, "/admin/tokens", &app.admin_token()?, Value::Null).await?.json();
    let rows = listed["tokens"].as_array().cloned().unwrap_or_default();
    let networks: Vec<_> = rows.iter().map(|row| (row["name"].clone(), row["network"].clone())).collect();
    assert_eq!(networks, [(json!("demo"), Value::Null), (json!("narrow"), json!(["example.com:443"]))]);
    Ok(())
}

#[tokio::test]
async fn a_token_cannot_widen() -> anyhow::Result<()> {
    let app = setup().demo().start().await?;
    for bad in
        [json!("unfiltered"), json!("all"), json!(["10.0.0.5:443"]), json!(["example.com"]), json!(7), json!([7])]
    {
        let body = json!({ "name": "wide", "network": bad });
        let answer = app.call(Method::POST, "/admin/tokens", &app.admin_token()?, body).await?;
        assert_eq!(answer.status.as_u16(), 422, "{bad}: {answer:?}");
        assert!(answer.text.contains("network"), "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn without_a_filter_everything_is_as_it_was() -> anyhow::Result<()> {
    let (_listening, neighbour) = neighbour()?;
    let app = with_rule("unfiltered").start().await?;
    let steps = [format!("connect: {neighbour}"), format!("proxy: {neighbour}")];
    assert_eq!(said(&app, &app.demo_token()?, &steps).await?, ["connected", "no proxy"]);
    // And an app that asks for less gets less.
    let token = mint(&app, "narrow", json!("none")).await?;
    let [directly, proxy] = said(&app, &token, &steps).await?.try_into().unwrap();
    assert!(proxy.contains("by the network rule of the app narrow"), "{proxy}");
    if landlock_abi() >= TCP_ABI {
        assert!(is_closed(&directly), "{directly}");
    }
    Ok(())
}

#[tokio::test]
async fn without_isolation_the_rules_are_advice_and_it_says_so() -> anyhow::Result<()> {
    let (_listening, neighbour) = neighbour()?;
    let setup =
        setup().demo().arg("--isolation-mode=off").arg("--isolation-require=off").arg("--isolation-off-as-root");
    let app = setup.start().await?;
    let steps = [format!("connect: {neighbour}"), format!("proxy: {neighbour}")];
    let [directly, proxy] = said(&app, &app.demo_token()?, &steps).await?.try_into().unwrap();
    assert_eq!(directly, "connected");
    assert!(proxy.starts_with("403"), "{proxy}");
    assert!(app.log()?.contains("advisory"), "{}", app.log()?);
    Ok(())
}

#[tokio::test]
async fn a_proxy_of_the_operators_is_not_silently_replaced() -> anyhow::Result<()> {
    let with_proxy = || setup().demo().env("HTTPS_PROXY", "http://127.0.0.1:1");
    let refused = with_proxy().start().await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("HTTPS_PROXY") && refused.contains("network = \"unfiltered\""), "{refused}");
    let app = with_proxy().env("CLAWDFORGE_AGENT_NETWORK", "unfiltered").start().await?;
    assert_eq!(said(&app, &app.demo_token()?, &["env: HTTPS_PROXY".to_owned()]).await?, ["http://127.0.0.1:1"]);
    Ok(())
}

#[tokio::test]
async fn a_model_that_an_agent_does_not_reach_is_pointed_out() -> anyhow::Result<()> {
    let app = setup().demo().env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9").start().await?;
    let log = app.log()?;
    assert!(
        log.contains("ANTHROPIC_BASE_URL of the agent claude leads to 127.0.0.1:9, which it does not reach"),
        "{log}"
    );
    Ok(())
}

#[tokio::test]
async fn the_start_says_what_keeps_the_rules_and_that_is_what_keeps_them() -> anyhow::Result<()> {
    let (_listening, neighbour) = neighbour()?;
    let steps = [format!("connect: {neighbour}")];
    for (level, keeper, outcome) in
        [("landlock", "kernel", "Permission denied"), ("namespaces", "namespace", "Connection refused")]
    {
        let app = setup().demo().arg(format!("--isolation-mode={level}")).start().await?;
        let log = app.log()?;
        if level == "landlock" && landlock_abi() < TCP_ABI {
            assert!(log.contains("advisory"), "{log}");
            continue;
        }
        assert!(log.contains(&format!("\"isolation.network\":\"{keeper}\"")), "{log}");
        let [directly] = said(&app, &app.demo_token()?, &steps).await?.try_into().unwrap();
        assert!(directly.contains(outcome), "{level}: {directly}");
    }
    Ok(())
}
