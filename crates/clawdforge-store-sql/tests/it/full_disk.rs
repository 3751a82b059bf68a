//! Without room nothing half-done is left, and service resumes when room is back.

use clawdforge_core::commit::Write;
use clawdforge_store::CommitError;

use crate::support::{Fixture, accept, app, at, session_id, text};

#[tokio::test]
async fn a_full_disk_refuses_whole_commits_until_room_is_back() {
    let fixture = Fixture::with_pages_max(Some(200)).await;
    fixture.write([Write::AddApp(app(), at(1))]).await.unwrap();
    fixture.write(accept(1)).await.unwrap();
    fixture.write(accept(2)).await.unwrap();
    let page_of = |session, seq| Write::AppendEvents(vec![text(session, seq, &"x".repeat(100_000))]);

    let mut seq = 0;
    let full = loop {
        match fixture.write([page_of(1, seq + 1)]).await {
            Ok(()) => seq += 1,
            Err(error) => break error,
        }
        assert!(seq < 20, "200 pages are less than 2 MB");
    };
    assert!(matches!(&full, CommitError::Unavailable(reason) if reason.contains("full")), "{full:?}");
    assert_eq!(fixture.store().events.head(session_id(1)).await.unwrap(), seq, "the refused commit left nothing");
    assert!(matches!(fixture.write([page_of(2, 1)]).await, Err(CommitError::Unavailable(_))), "still full");
    assert_eq!(fixture.store().events.head(session_id(2)).await.unwrap(), 0);

    fixture.write([Write::EraseSession(session_id(1))]).await.unwrap();
    fixture.write([page_of(2, 1)]).await.unwrap();
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.store().events.head(session_id(2)).await.unwrap(), 1);
}
