//! Preconditions: one question each, asked inside the transaction that they guard.

use clawdforge_core::commit::Expect;

use crate::batch::Batch;

/// Asks whether a precondition holds.
pub(crate) fn add_expect(batch: &mut Batch, index: usize, expect: &Expect) {
    match expect {
        Expect::NoLiveToken(name) => batch
            .expect(
                index,
                "NOT EXISTS (SELECT 1 FROM tokens JOIN apps ON apps.id = tokens.app
                             WHERE apps.name = ? AND tokens.revoked_at IS NULL)",
            )
            .bind(name.as_str()),
        Expect::TokenLive(token) => batch
            .expect(index, "EXISTS (SELECT 1 FROM tokens WHERE id = ? AND revoked_at IS NULL)")
            .bind(token.to_string()),
        Expect::TurnIs(turn, state) => batch
            .expect(index, "EXISTS (SELECT 1 FROM turns WHERE id = ? AND state = ?)")
            .bind(turn.to_string())
            .bind(state.as_str()),
        Expect::TurnUnfinished(turn) => {
            batch.expect(index, "EXISTS (SELECT 1 FROM turns WHERE id = ? AND ended_at IS NULL)").bind(turn.to_string())
        }
        Expect::KeyUnused(app, key) => batch
            .expect(index, "NOT EXISTS (SELECT 1 FROM idempotency_keys WHERE app = ? AND key = ?)")
            .bind(app.to_string())
            .bind(key),
        Expect::SessionOpen(session) => batch
            .expect(index, "EXISTS (SELECT 1 FROM sessions WHERE id = ? AND closed_at IS NULL)")
            .bind(session.to_string()),
        Expect::SessionIdle(session, before) => batch
            .expect(
                index,
                "EXISTS (SELECT 1 FROM sessions WHERE id = ? AND closed_at IS NULL AND active_at < ?
                   AND NOT EXISTS (SELECT 1 FROM turns WHERE turns.session = sessions.id AND ended_at IS NULL))",
            )
            .bind(session.to_string())
            .bind(before.micros()),
        Expect::FileExists(file) => {
            batch.expect(index, "EXISTS (SELECT 1 FROM files WHERE id = ?)").bind(file.to_string())
        }
    };
}
