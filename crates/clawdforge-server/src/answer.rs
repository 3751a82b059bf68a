//! What every refusal looks like on the wire: the only mapping from errors to statuses.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clawdforge_api::legacy::{ErrorReply, ValidationFault, ValidationReply};
use clawdforge_api::problem::{Code, Fault};
use clawdforge_engine::EngineError;

use crate::validate::schema_fault;

/// When a caller whose body found no room should come back: bodies are held for as long as they take to
/// arrive.
const BODY_ROOM_RETRY_SECS: u64 = 5;

/// A request that is not answered with what it asked for.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The address may not speak to the service, or not with this token.
    AddressNotAllowed(std::net::IpAddr),
    /// Who stands before a trusted proxy cannot be told.
    ForwardedUnreadable,
    /// No bearer, or one that is not known.
    NotSignedIn(&'static str),
    /// The bearer is known, but may not do this.
    NotPermitted(&'static str),
    /// The request names a host under which the service does not answer.
    HostNotAllowed,
    /// The request names no host, or several.
    HostUnreadable,
    /// A page of another origin made the request.
    ForeignPage,
    /// The URL holds a token.
    TokenInUrl,
    /// Too many wrong tokens came from the address; when to come back.
    TooManySignIns(std::time::Duration),
    /// No such route.
    NoSuchRoute,
    /// The route exists, but not with this method.
    MethodNotAllowed,
    /// The body has another content type than the route takes.
    WrongContentType(&'static str),
    /// The body is larger than the route takes.
    BodyTooLarge(u64),
    /// The body stopped arriving.
    BodyTooSlow,
    /// The bodies of other requests take all the memory there is for bodies.
    NoRoomForBody,
    /// The body broke off or is no proper form.
    BodyBroken(String),
    /// The body was read, and these are its faults.
    Invalid(Vec<ValidationFault>),
    /// The engine refused.
    Engine(EngineError),
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        match error {
            // A fault of the body like any other; only a validator could see it.
            EngineError::SchemaInvalid(fault) => Self::Invalid(vec![schema_fault(fault)]),
            error => Self::Engine(error),
        }
    }
}

/// What a problem says of a refusal; it is beside the response in the form of the first versions.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub code: Code,
    pub detail: String,
    pub errors: Vec<Fault>,
}

/// The sentence of a response, and its single faults.
#[derive(Clone)]
struct Said(String, Vec<Fault>);

impl Told {
    /// For what has no words of its own.
    pub fn nothing() -> Self {
        Self { code: Code::InternalError, detail: Code::InternalError.title().to_owned(), errors: Vec::new() }
    }
}

impl Refusal {
    /// The only mapping to codes.
    fn code(&self) -> Code {
        match self {
            Self::AddressNotAllowed(_) | Self::ForwardedUnreadable => Code::AddressNotAllowed,
            Self::NotSignedIn(_) => Code::NotSignedIn,
            Self::NotPermitted(_) => Code::NotPermitted,
            Self::HostNotAllowed => Code::HostNotAllowed,
            Self::HostUnreadable => Code::HostUnreadable,
            Self::ForeignPage => Code::ForeignPage,
            Self::TokenInUrl => Code::TokenInUrl,
            Self::TooManySignIns(_) => Code::TooManySignIns,
            Self::NoSuchRoute => Code::NoSuchRoute,
            Self::MethodNotAllowed => Code::MethodNotAllowed,
            Self::WrongContentType(_) => Code::WrongContentType,
            Self::BodyTooLarge(_) => Code::BodyTooLarge,
            Self::BodyTooSlow => Code::BodyTooSlow,
            Self::NoRoomForBody => Code::Busy,
            Self::BodyBroken(_) => Code::BodyBroken,
            Self::Invalid(_) => Code::InvalidRequest,
            Self::Engine(error) => match error {
                EngineError::NotFound(_) => Code::NotFound,
                EngineError::Busy { .. } => Code::Busy,
                EngineError::SessionClosed => Code::SessionClosed,
                EngineError::SessionBusy => Code::SessionBusy,
                EngineError::ForkImpossible(_) => Code::ForkImpossible,
                EngineError::AlreadyEnded => Code::AlreadyEnded,
                EngineError::KeyReused => Code::KeyReused,
                EngineError::SchemaInvalid(_) => Code::InvalidRequest,
                EngineError::UnknownAgent { .. } => Code::UnknownAgent,
                EngineError::AgentUnavailable(_) => Code::AgentUnavailable,
                EngineError::IsolationTooWeak(_) => Code::IsolationTooWeak,
                EngineError::NotOffered(_) => Code::NotOffered,
                EngineError::ToolServersForbidden => Code::NotPermitted,
                EngineError::Deferred => Code::Deferred,
                EngineError::Stopping => Code::Stopping,
                EngineError::NameTaken(_) => Code::NameTaken,
                EngineError::TooManyTokens(_) => Code::TooManyTokens,
                EngineError::UploadTooLarge(_) => Code::UploadTooLarge,
                EngineError::DiskFull => Code::DiskFull,
                EngineError::RecordsUnavailable(_) => Code::RecordsUnavailable,
                EngineError::OutcomeUnrecorded => Code::OutcomeUnrecorded,
                EngineError::Internal(_) => Code::InternalError,
            },
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let code = self.code();
        let mut response = self.respond();
        let Said(detail, errors) =
            response.extensions_mut().remove().unwrap_or_else(|| Said(code.title().to_owned(), Vec::new()));
        response.extensions_mut().insert(Told { code, detail, errors });
        response
    }
}

impl Refusal {
    /// The response in the form of the first versions.
    fn respond(self) -> Response {
        match self {
            Self::AddressNotAllowed(address) => text(
                StatusCode::FORBIDDEN,
                format!(
                    "requests from {address} are not allowed; the operator can allow the address with ALLOW_CIDRS, or in the token's ip_cidrs"
                ),
            ),
            Self::ForwardedUnreadable => {
                text(StatusCode::FORBIDDEN, "the proxy's X-Forwarded-For header does not say who is calling")
            }
            Self::NotSignedIn(why) => {
                let mut response = text(StatusCode::UNAUTHORIZED, why);
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                response
            }
            Self::NotPermitted(why) => text(StatusCode::FORBIDDEN, why),
            Self::HostNotAllowed => text(
                StatusCode::MISDIRECTED_REQUEST,
                "the service does not answer under this host name; use its IP address, or have the operator add the name to allowed_hosts (CLAWDFORGE_ALLOWED_HOSTS)",
            ),
            Self::HostUnreadable => text(StatusCode::BAD_REQUEST, "the request does not name one host"),
            Self::ForeignPage => text(StatusCode::FORBIDDEN, "pages of other origins may not use the service"),
            Self::TokenInUrl => text(
                StatusCode::BAD_REQUEST,
                "a token has no place in a URL, which logs and histories keep; send it as `Authorization: Bearer …`, and have one that was sent like this replaced",
            ),
            Self::TooManySignIns(wait) => {
                let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let told = format!("too many wrong tokens came from this address; try again in {secs} s");
                with_retry_after(text(StatusCode::TOO_MANY_REQUESTS, told), secs)
            }
            Self::NoSuchRoute => text(StatusCode::NOT_FOUND, "Not Found"),
            Self::MethodNotAllowed => text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
            Self::WrongContentType(wanted) => {
                text(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("send the body with Content-Type: {wanted}"))
            }
            Self::BodyTooLarge(bytes_max) => {
                text(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than the allowed {bytes_max} bytes"))
            }
            Self::BodyTooSlow => text(StatusCode::REQUEST_TIMEOUT, "the body stopped arriving; send it again"),
            Self::NoRoomForBody => busy(
                "the service is taking in as many large requests as it may; try again in 5 s".to_owned(),
                BODY_ROOM_RETRY_SECS,
            ),
            Self::BodyBroken(what) => text(StatusCode::BAD_REQUEST, format!("the body could not be read: {what}")),
            Self::Invalid(faults) => invalid(faults),
            Self::Engine(error) => engine(error),
        }
    }
}

fn engine(error: EngineError) -> Response {
    match &error {
        EngineError::NotFound(_) => text(StatusCode::NOT_FOUND, error.to_string()),
        EngineError::ToolServersForbidden => text(StatusCode::FORBIDDEN, error.to_string()),
        EngineError::SessionClosed => text(StatusCode::GONE, error.to_string()),
        EngineError::UnknownAgent { .. } | EngineError::NotOffered(_) | EngineError::SchemaInvalid(_) => {
            text(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        }
        EngineError::IsolationTooWeak(failure) => {
            let (detail, code) = (failure.message.clone(), Some(failure.kind.code().to_owned()));
            let body = ErrorReply { error: detail.clone(), detail: detail.clone(), code };
            said((StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response(), detail, Vec::new())
        }
        EngineError::AgentUnavailable(_) => text(StatusCode::BAD_GATEWAY, error.to_string()),
        EngineError::Deferred => busy(error.to_string(), 30),
        EngineError::Busy { retry_after, .. } => busy(error.to_string(), retry_after.as_secs()),
        EngineError::Stopping => busy(error.to_string(), 5),
        EngineError::AlreadyEnded
        | EngineError::SessionBusy
        | EngineError::ForkImpossible(_)
        | EngineError::KeyReused
        | EngineError::NameTaken(_)
        | EngineError::TooManyTokens(_) => text(StatusCode::CONFLICT, error.to_string()),
        EngineError::UploadTooLarge(_) => text(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        EngineError::DiskFull => text(StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
        EngineError::RecordsUnavailable(inner) => {
            tracing::error!(error = inner, "a request was refused because the store is not available");
            busy(error.to_string(), 5)
        }
        EngineError::OutcomeUnrecorded => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        EngineError::Internal(inner) => {
            tracing::error!(error = inner, "a request failed inside the service");
            text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal error; the operator finds it in the log by the x-request-id of this reply",
            )
        }
    }
}

/// A refusal that says when to come back.
pub(crate) fn busy(message: String, retry_after_secs: u64) -> Response {
    with_retry_after(text(StatusCode::SERVICE_UNAVAILABLE, message), retry_after_secs)
}

/// Adds when to come back.
pub(crate) fn with_retry_after(mut response: Response, secs: u64) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    response
}

fn text(status: StatusCode, message: impl Into<String>) -> Response {
    let detail = message.into();
    let body = ErrorReply { error: detail.clone(), detail: detail.clone(), code: None };
    said((status, Json(body)).into_response(), detail, Vec::new())
}

/// Keeps beside a response what it says.
fn said(mut response: Response, detail: String, errors: Vec<Fault>) -> Response {
    response.extensions_mut().insert(Said(detail, errors));
    response
}

fn invalid(faults: Vec<ValidationFault>) -> Response {
    let place = |fault: &ValidationFault| {
        let parts = fault.loc.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
        parts.collect::<Vec<_>>().join(".")
    };
    let error = faults.iter().map(|fault| format!("{}: {}", place(fault), fault.msg)).collect::<Vec<_>>().join("; ");
    let error_of =
        |fault: &ValidationFault| Fault { field: place(fault), detail: with_reason(fault), input: fault.input.clone() };
    let errors: Vec<_> = faults.iter().map(error_of).collect();
    let detail = errors.iter().map(|fault| format!("{}: {}", fault.field, fault.detail)).collect::<Vec<_>>().join("; ");
    let body = ValidationReply { detail: faults, error };
    said((StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response(), detail, errors)
}

/// What is wrong, with what the parser says where that is a word of its own; the first versions tell it beside.
fn with_reason(fault: &ValidationFault) -> String {
    match fault.ctx.as_ref().and_then(|context| context["error"].as_str()) {
        Some(reason) if !fault.msg.contains(reason) => format!("{}: {reason}", fault.msg),
        _ => fault.msg.clone(),
    }
}
