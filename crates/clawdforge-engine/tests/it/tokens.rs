//! Tokens while the store fails: in doubt nobody gets in, and nothing gets stuck.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawdforge_core::commit::{Commit, Write};
use clawdforge_engine::{Engine, EngineError, TokenWish};
use clawdforge_process::Spawner;
use clawdforge_store::faults::{Fault, FaultyDoor};
use clawdforge_store::{CommitDoor, CommitError, Store};
use secrecy::ExposeSecret;
use tempfile::TempDir;

use crate::stage::{engine, open_store};

/// Counts commits about tokens alone: the sweeper makes some of its own, at no certain time.
struct OfTokens {
    faulty: FaultyDoor,
    others: Arc<dyn CommitDoor>,
}

#[async_trait]
impl CommitDoor for OfTokens {
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let mut writes = commit.writes.iter();
        match writes.any(|write| matches!(write, Write::AddToken(_) | Write::RevokeToken(..))) {
            true => self.faulty.commit(commit).await,
            false => self.others.commit(commit).await,
        }
    }
}

/// An engine whose `nth` commit about tokens fails.
async fn failing(dir: &TempDir, fault: Fault, nth: usize) -> Engine {
    let opened = open_store(dir.path()).await;
    let others = Arc::clone(&opened.store.door);
    let door = Arc::new(OfTokens { faulty: FaultyDoor::new(Arc::clone(&others), fault, nth, 1), others });
    let store = Store { door, ..opened.store.clone() };
    engine(dir.path(), &Spawner::start().unwrap(), store, Ok(()), Vec::new()).await.unwrap().0
}

async fn mint(engine: &Engine) -> Result<String, EngineError> {
    let minted = engine.mint_token(TokenWish::of("app".parse().unwrap()), engine.request_id()).await?;
    Ok(minted.secret.expose_secret().to_owned())
}

async fn revoke(engine: &Engine) -> Result<(), EngineError> {
    engine.revoke_token("app".parse().unwrap(), engine.request_id()).await
}

#[tokio::test]
async fn a_revocation_whose_answer_was_lost_has_happened_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let engine = failing(&dir, Fault::LoseAnswer, 2).await;
    let token = mint(&engine).await.unwrap();
    assert_eq!(revoke(&engine).await, Ok(()));
    assert!(engine.app(&token).is_none());
    mint(&engine).await.unwrap();
    engine.drain(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_revocation_the_store_refused_is_told_and_the_token_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let engine = failing(&dir, Fault::Refuse, 2).await;
    let token = mint(&engine).await.unwrap();
    assert!(matches!(revoke(&engine).await, Err(EngineError::RecordsUnavailable(_))));
    assert!(engine.app(&token).is_some());
    assert_eq!(revoke(&engine).await, Ok(()));
    assert!(engine.app(&token).is_none());
}

#[tokio::test]
async fn a_name_whose_minting_lost_its_answer_can_be_revoked_and_minted_again() {
    let dir = tempfile::tempdir().unwrap();
    let engine = failing(&dir, Fault::LoseAnswer, 1).await;
    assert!(matches!(mint(&engine).await, Err(EngineError::RecordsUnavailable(_))));
    assert!(matches!(mint(&engine).await, Err(EngineError::NameTaken(_))));
    assert_eq!(revoke(&engine).await, Ok(()));
    let token = mint(&engine).await.unwrap();
    assert!(engine.app(&token).is_some());
}

#[tokio::test]
async fn of_many_who_mint_one_name_at_once_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let engine = failing(&dir, Fault::Refuse, usize::MAX).await;
    let minted = futures_util::future::join_all((0..16).map(|_| mint(&engine))).await;
    assert_eq!(minted.iter().filter(|minted| minted.is_ok()).count(), 1);
    assert_eq!(engine.tokens().len(), 1);
}
