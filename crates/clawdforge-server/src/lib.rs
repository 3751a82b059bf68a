//! The HTTP surface: gates, routes, uploads and the rendering of every answer.
//!
//! Handlers are short: extract, call the engine, answer. They own nothing that the work needs, so a
//! caller who hangs up changes nothing about it (I9). Nothing here knows a store, an agent or a
//! process (I4).

mod admin;
mod answer;
mod browser;
mod connection;
mod envelope;
mod extract;
mod gate;
mod hosts;
mod legacy;
mod limits;
mod openapi;
mod router;
mod sign_ins;
#[cfg(test)]
mod tests;
mod unread;
mod v1;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use clawdforge_engine::Engine;
use ipnet::IpNet;

pub use connection::Server;
pub use hosts::{AllowedHost, BadHost};
pub use router::{Audience, Route, routes};

/// What the operator may set about the surface.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Addresses that may speak to the service, besides loopback.
    pub allow_cidrs: Vec<IpNet>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Host names under which the service answers, beside those that public DNS cannot hold.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Wrong tokens that one address may send in a minute.
    pub sign_in_failures_max: u32,
    /// Whether somebody might guess the admin token: it is not one that was generated.
    pub admin_token_guessable: bool,
    /// The model of a run that names none.
    pub default_model: String,
    /// The time limit of a run that names none.
    pub default_timeout: Duration,
    /// The longest time limit a run may ask for.
    pub timeout_max: Duration,
}

/// What every handler may reach.
#[derive(Clone)]
pub(crate) struct App {
    pub engine: Engine,
    pub options: Arc<ServerOptions>,
    pub body_room: extract::BodyRoom,
    pub places: v1::places::Places,
    pub sign_ins: Arc<sign_ins::SignIns>,
    pub description: Arc<openapi::Description>,
}
