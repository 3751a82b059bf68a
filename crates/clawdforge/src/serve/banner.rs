//! The block a start prints: where, what, and a command that works when pasted.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use clawdforge_agent::oneshot::OneShotDriver;
use clawdforge_agent::{AgentDriver, Dialect, Presence};
use clawdforge_core::secret::{ExposeSecret, SecretString};

use super::admin_token::{AdminToken, Place};
use crate::address::reachable;
use crate::config::Config;
use crate::isolation::Standing;
use crate::profiles;

/// Everything the block tells.
pub struct Banner<'a> {
    pub address: SocketAddr,
    pub config: &'a Config,
    pub admin: &'a AdminToken,
    pub agents: Vec<String>,
    pub isolation: &'a Standing,
    pub demo_token: Option<&'a SecretString>,
    /// No app has a token yet.
    pub first_app: bool,
}

/// A line for each agent: what was found, or how to get it.
pub fn agents(config: &Config, drivers: &[Arc<OneShotDriver>]) -> Vec<String> {
    let default = profiles::default_agent(config).ok();
    let line = |driver: &Arc<OneShotDriver>| {
        let name = &driver.profile().name;
        let role = if default.as_ref() == Some(name) { " (default)" } else { "" };
        let what = match (driver.locate(), driver.presence()) {
            (Ok(found), Presence { version, .. }) => {
                let version = version.unwrap_or_else(|| "version unknown".to_owned());
                let source = if driver.profile().dialect == Dialect::Demo { "bundled" } else { found.source.as_str() };
                format!("{version}, {source}")
            }
            (Err(failure), _) => failure.message,
        };
        format!("{name}{role}: {what}")
    };
    drivers.iter().map(line).collect()
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = format!("http://{}", reachable(self.address));
        writeln!(f, "clawdforge {} is ready\n", env!("CARGO_PKG_VERSION"))?;
        writeln!(f, "  address      {url}")?;
        writeln!(f, "  data         {}", self.config.data_dir.display())?;
        writeln!(f, "  admin token  {}", self.admin_place())?;
        for (place, agent) in self.agents.iter().enumerate() {
            writeln!(f, "  {}  {agent}", if place == 0 { "agents     " } else { "           " })?;
        }
        writeln!(f, "  isolation    {}", self.isolation.sentence())?;
        if let Some(token) = self.demo_token {
            writeln!(f, "  app token    {} (app \"demo\")", token.expose_secret())?;
        }
        writeln!(f, "\n{}\n\n{}\n", self.invitation(), self.curl(&url))
    }
}

impl Banner<'_> {
    fn admin_place(&self) -> String {
        match &self.admin.place {
            Place::File(path) => format!("in {}", path.display()),
            Place::NewFile(path) => format!("in {} (made just now)", path.display()),
            Place::Given => "as configured".to_owned(),
        }
    }

    fn invitation(&self) -> &'static str {
        match (self.demo_token, self.first_app) {
            (Some(_), _) => "Try it:",
            (None, true) => "Give your first app a token:",
            (None, false) => "Is it up?",
        }
    }

    fn curl(&self, url: &str) -> String {
        let json = "-H 'Content-Type: application/json'";
        if let Some(token) = self.demo_token {
            let token = token.expose_secret();
            let body = r#"{"prompt": "json: {\"hello\": \"world\"}"}"#;
            return format!("  curl -s {url}/run -H 'Authorization: Bearer {token}' {json} \\\n       -d '{body}'");
        }
        if !self.first_app {
            return format!("  curl -s {url}/healthz");
        }
        let bearer = match &self.admin.place {
            Place::File(path) | Place::NewFile(path) => format!("$(cat '{}')", path.display()),
            Place::Given => "$CLAWDFORGE_ADMIN_TOKEN".to_owned(),
        };
        let body = r#"{"name": "my-app"}"#;
        format!("  curl -s {url}/admin/tokens -H \"Authorization: Bearer {bearer}\" {json} -d '{body}'")
    }
}
