//! The one place where it is decided what agents of conversations may do: everything, as in the first versions. What
//! keeps them in bounds is the sandbox.

use agent_client_protocol::v1::schema::{
    PermissionOptionKind, RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse,
    SelectedPermissionOutcome,
};

/// What a request is answered with: the first of these that the agent offers, so once before always, because always
/// would be remembered by the agent and not by us.
const ANSWERS: [PermissionOptionKind; 2] = [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways];

/// The same as options of acpx, which answers in our stead, and has nobody to ask.
pub(crate) const ACPX_ANSWERS: [&str; 3] = ["--approve-all", "--non-interactive-permissions", "deny"];

/// The answer to a permission request. Options go by kind, never by place or id: those are the agent's own. Once a turn
/// is cancelled, every question that is open or comes has to be answered with that
/// (<https://agentclientprotocol.com/protocol/prompt-turn#cancellation>); so has one of a conversation that nobody has any
/// more.
pub(super) fn decide(request: &RequestPermissionRequest, is_at_work: bool) -> RequestPermissionResponse {
    let of_kind = |kind: &PermissionOptionKind| request.options.iter().find(|option| option.kind == *kind);
    let chosen = ANSWERS.iter().find_map(of_kind).filter(|_| is_at_work);
    RequestPermissionResponse::new(match chosen {
        Some(option) => RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id.clone())),
        None => RequestPermissionOutcome::Cancelled,
    })
}
