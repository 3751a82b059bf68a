//! Preconditions: one question each, asked inside the transaction that they guard.

use clawdforge_core::commit::Expect;
use sqlx::SqliteConnection;

/// Tells whether a precondition holds.
pub(crate) async fn holds(connection: &mut SqliteConnection, expect: &Expect) -> Result<bool, sqlx::Error> {
    let question = match expect {
        Expect::NoLiveToken(name) => sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT 1 FROM tokens JOIN apps ON apps.id = tokens.app
                                WHERE apps.name = ?1 AND tokens.revoked_at IS NULL)",
        )
        .bind(name.as_str()),
        Expect::TokenLive(token) => {
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tokens WHERE id = ?1 AND revoked_at IS NULL)")
                .bind(token.to_string())
        }
        Expect::TurnIs(turn, state) => {
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM turns WHERE id = ?1 AND state = ?2)")
                .bind(turn.to_string())
                .bind(state.as_str())
        }
        Expect::SessionOpen(session) => {
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sessions WHERE id = ?1 AND closed_at IS NULL)")
                .bind(session.to_string())
        }
        Expect::FileExists(file) => {
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM files WHERE id = ?1)").bind(file.to_string())
        }
    };
    question.fetch_one(connection).await
}
