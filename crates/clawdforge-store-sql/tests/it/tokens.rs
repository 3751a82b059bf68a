//! Apps and their tokens.

use std::sync::Arc;

use clawdforge_core::app::App;
use clawdforge_core::commit::{Commit, Expect, Write};
use clawdforge_core::id::AppId;

use crate::support::{Fixture, app, at, token, token_id, unexpected};

#[tokio::test]
async fn a_minted_token_is_read_back_whole() {
    let fixture = Fixture::with_app().await;
    fixture.write([Write::AddToken(token(1, app()))]).await.unwrap();
    assert_eq!(fixture.store().tokens.live_tokens().await.unwrap(), [token(1, app())]);
    assert_eq!(fixture.store().tokens.app(&app().name).await.unwrap(), Some(app()));
    assert_eq!(fixture.store().tokens.app(&"other".parse().unwrap()).await.unwrap(), None);
}

#[tokio::test]
async fn live_tokens_come_by_the_name_of_their_app() {
    let fixture = Fixture::with_app().await;
    let earlier = App { id: AppId::from_u128(2), name: "anvil".parse().unwrap() };
    let writes = [
        Write::AddApp(earlier.clone(), at(1)),
        Write::AddToken(token(1, app())),
        Write::AddToken(token(2, earlier.clone())),
    ];
    fixture.write(writes).await.unwrap();
    assert_eq!(fixture.store().tokens.live_tokens().await.unwrap(), [token(2, earlier), token(1, app())]);
}

#[tokio::test]
async fn registering_an_app_again_changes_nothing() {
    let fixture = Fixture::with_app().await;
    let same_name = App { id: AppId::from_u128(7), name: app().name };
    fixture.write([Write::AddApp(same_name, at(9)), Write::AddApp(app(), at(9))]).await.unwrap();
    assert_eq!(fixture.store().tokens.app(&app().name).await.unwrap(), Some(app()));
}

#[tokio::test]
async fn a_revoked_token_is_gone_and_makes_room_for_the_next() {
    let fixture = Fixture::with_app().await;
    fixture.write([Write::AddToken(token(1, app()))]).await.unwrap();
    fixture.write([Write::RevokeToken(token_id(1), at(3))]).await.unwrap();
    assert_eq!(fixture.store().tokens.live_tokens().await.unwrap(), []);
    assert_eq!(fixture.write([Write::RevokeToken(token_id(1), at(4))]).await, Err(unexpected(0)));

    fixture.write([Write::AddToken(token(2, app()))]).await.unwrap();
    assert_eq!(fixture.store().tokens.live_tokens().await.unwrap(), [token(2, app())]);
}

#[tokio::test]
async fn a_token_can_be_expected_to_be_live_or_not_to_be_there() {
    let fixture = Fixture::with_app().await;
    let (live, none) = (Expect::TokenLive(token_id(1)), Expect::NoLiveToken(app().name));
    assert_eq!(fixture.expect(live.clone()).await, Err(unexpected(0)));
    assert_eq!(fixture.expect(none.clone()).await, Ok(()));

    fixture.write([Write::AddToken(token(1, app()))]).await.unwrap();
    assert_eq!(fixture.expect(live.clone()).await, Ok(()));
    assert_eq!(fixture.expect(none.clone()).await, Err(unexpected(0)));

    fixture.write([Write::RevokeToken(token_id(1), at(3))]).await.unwrap();
    assert_eq!(fixture.expect(live).await, Err(unexpected(0)));
    assert_eq!(fixture.expect(none).await, Ok(()));
}

#[tokio::test]
async fn a_token_for_an_unknown_app_or_of_a_known_hash_is_refused() {
    let fixture = Fixture::with_app().await;
    let stranger = App { id: AppId::from_u128(3), name: "stranger".parse().unwrap() };
    assert_eq!(fixture.write([Write::AddToken(token(1, stranger.clone()))]).await, Err(unexpected(0)));

    fixture.write([Write::AddToken(token(1, app())), Write::AddApp(stranger.clone(), at(1))]).await.unwrap();
    let mut copy = token(2, stranger);
    copy.hash = token(1, app()).hash;
    assert_eq!(fixture.write([Write::AddToken(copy)]).await, Err(unexpected(0)));
}

#[tokio::test]
async fn of_many_mints_at_once_for_one_app_exactly_one_succeeds() {
    for careful in [true, false] {
        let fixture = Arc::new(Fixture::with_app().await);
        let mints = (1..=32).map(|number| {
            let fixture = fixture.clone();
            async move {
                let expects = if careful { vec![Expect::NoLiveToken(app().name)] } else { Vec::new() };
                let writes = vec![Write::AddToken(token(number, app()))];
                fixture.commit(Commit { expects, writes, ledger: Vec::new() }).await
            }
        });
        let outcomes = crate::many_callers::all_at_once(mints).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "careful: {careful}");
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(unexpected(0))).count(), 31);
        assert_eq!(fixture.store().tokens.live_tokens().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_apps_agents_get_a_user_once_and_no_other_app_gets_it() {
    let fixture = Fixture::with_app().await;
    let other = App { id: AppId::from_u128(2), name: "anvil".parse().unwrap() };
    let users = &fixture.store().agent_users;
    assert_eq!((users.agent_user(app().id).await, users.last_agent_user().await), (Ok(None), Ok(None)));
    fixture.write([Write::AddApp(other.clone(), at(1)), Write::AddAgentUser(app().id, 20_000)]).await.unwrap();
    for taken in [Write::AddAgentUser(other.id, 20_000), Write::AddAgentUser(app().id, 20_001)] {
        assert_eq!(fixture.write([taken]).await, Err(unexpected(0)));
    }
    fixture.write([Write::AddAgentUser(other.id, 20_007)]).await.unwrap();
    assert_eq!(users.agent_user(app().id).await, Ok(Some(20_000)));
    assert_eq!(users.agent_user(other.id).await, Ok(Some(20_007)));
    assert_eq!(users.last_agent_user().await, Ok(Some(20_007)));
}
