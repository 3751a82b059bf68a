//! What a stream tells of, and where it is.

use clawdforge_core::id::SessionId;

use crate::error::ClientError;
use crate::session::SessionKey;

/// What a stream of events tells of, by ids of `/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventSource {
    /// A run; the stream ends with it.
    Run(String),
    /// A turn of a session; the stream ends with it.
    Turn {
        /// The session.
        session: String,
        /// The turn.
        turn: String,
    },
    /// A session; the stream ends when it is closed.
    Session(String),
}

impl EventSource {
    pub(crate) fn run(id: &str) -> Result<Self, ClientError> {
        Ok(Self::Run(part(id)?))
    }

    pub(crate) fn turn(session: &str, turn: &str) -> Result<Self, ClientError> {
        Ok(Self::Turn { session: session_part(session)?, turn: part(turn)? })
    }

    pub(crate) fn session(id: &str) -> Result<Self, ClientError> {
        Ok(Self::Session(session_part(id)?))
    }

    /// What a `Location` names. Only its ids are taken from it: what is asked then is of the service we know.
    pub(crate) fn of_location(location: &str) -> Result<Self, ClientError> {
        let parts: Vec<&str> = location.trim_end_matches('/').rsplit('/').collect();
        let source = match parts[..] {
            [turn, "turns", session, "sessions", "v1", ..] => Self::turn(session, turn),
            [run, "runs", "v1", ..] => Self::run(run),
            _ => return Err(no_place()),
        };
        source.map_err(|_| no_place())
    }

    /// Its own path.
    pub(crate) fn path(&self) -> Vec<&str> {
        match self {
            Self::Run(run) => vec!["v1", "runs", run],
            Self::Turn { session, turn } => vec!["v1", "sessions", session, "turns", turn],
            Self::Session(session) => vec!["v1", "sessions", session],
        }
    }

    /// Whether a stream of it ends with the end of a turn.
    pub(super) fn ends_with_turn(&self) -> bool {
        !matches!(self, Self::Session(_))
    }
}

fn no_place() -> ClientError {
    ClientError::BadReply("it does not say where its run or turn is".to_owned())
}

/// An id that is fit for a path.
pub(crate) fn part(id: &str) -> Result<String, ClientError> {
    match SessionKey::parse(id) {
        Ok(key) => Ok(key.as_str().to_owned()),
        Err(_) => Err(ClientError::Invalid("an id has letters, digits, `-` and `_` only".to_owned())),
    }
}

/// The id of a session in the form that `/v1` takes; its UUID is the other one.
pub(crate) fn session_part(id: &str) -> Result<String, ClientError> {
    match SessionId::parse_either(id) {
        Ok(session) => Ok(session.to_string()),
        Err(_) => Ok(SessionKey::parse(id)?.as_str().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_gives_ids_and_leads_nowhere_else() {
        let run = EventSource::of_location("/v1/runs/run_1");
        assert_eq!(run.unwrap().path(), ["v1", "runs", "run_1"]);
        let turn = EventSource::of_location("https://elsewhere.example/forge/v1/sessions/ses_1/turns/trn_2");
        assert_eq!(turn.unwrap().path(), ["v1", "sessions", "ses_1", "turns", "trn_2"]);
        for bad in ["", "/", "/v1/runs", "/v1/runs/..", "/v1/runs/a?b", "/v1/tokens/x", "/v1/sessions/ses_1"] {
            assert!(matches!(EventSource::of_location(bad), Err(ClientError::BadReply(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_session_is_named_by_either_of_its_forms() {
        let named = |id| EventSource::session(id).map(|source| source.path()[2].to_owned()).unwrap();
        let id = named("0190f0a4-7c1e-7000-8000-000000000000");
        assert!(id.starts_with("ses_"), "{id}");
        assert_eq!(named(&id), id);
    }
}
