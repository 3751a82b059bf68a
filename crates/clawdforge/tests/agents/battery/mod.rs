//! The driver battery: the same stories with every driver and every agent behind it.
//!
//! A *subject* is a driver with an agent, a *case* is one story. Each cell of the [table](cells) is a test of its own, named
//! `battery::<case>::<subject>`, or says why there is none; a test sees to it that no cell is missing. Real agents stand in
//! front of the mock model, which is told what to do; the demo agent is told by the prompt.
//!
//! Every case ends with [`stage::Stage::finish`]: closed, no process left, one outcome on record for each turn.

pub mod act;
pub mod agent;
mod dying;
pub mod followed;
pub mod stage;
mod stopping;
pub mod subject;
mod table;
mod talking;

use subject::Subject;

/// One case with the subjects that it is told of, and those for which it makes no sense.
struct Row {
    case: &'static str,
    tested: &'static [&'static str],
    excluded: &'static [(&'static str, &'static str)],
}

macro_rules! cells {
    ($($case:ident in $place:ident: $($subject:ident),+ $(; not $other:ident because $why:literal)* .)+) => {
        $(mod $case {
            $(#[tokio::test]
            async fn $subject() -> anyhow::Result<()> {
                super::$place::$case(super::Subject::named(stringify!($subject))).await
            })+
        })+

        const TABLE: &[Row] = &[$(Row {
            case: stringify!($case),
            tested: &[$(stringify!($subject)),+],
            excluded: &[$((stringify!($other), $why)),*],
        }),+];
    };
}

cells! {
    open in talking: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
    turn in talking: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
    memory in talking: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
    tool in talking: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
    attachment in talking: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
    cancel in stopping: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
    kill_agent in dying: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
    kill_adapter in dying: acp_claude, acpx_demo, acpx_claude, acp_codex;
        not acp_demo because "it speaks the protocol itself: its one process is the agent";
        not acp_copilot because "it speaks the protocol itself: its one process is the agent".
    restart in dying: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
    flood in stopping: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
    garbage in stopping: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
    hang in stopping: acp_demo, acp_claude, acpx_demo, acpx_claude, acp_codex, acp_copilot.
}
