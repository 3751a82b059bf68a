//! What the operator's check sees.

use clawdforge_core::commit::Write;
use clawdforge_store_sql::{SqliteOptions, inspect, open};

use crate::support::{Fixture, accept, text};

#[tokio::test]
async fn a_healthy_store_has_no_problems_and_tells_its_size() {
    let fixture = Fixture::with_app().await;
    let check = fixture.opened.check().await.unwrap();
    assert_eq!(check.problems, [""; 0]);
    assert_eq!((check.schema, check.page_bytes), (13, 4_096));
    assert!(check.pages > 10 && check.log_bytes > 0, "{check:?}");
}

#[tokio::test]
async fn a_store_can_be_inspected_beside_a_running_server_and_after_it() {
    let fixture = Fixture::with_app().await;
    let beside = inspect(&fixture.path()).await.unwrap();
    assert_eq!(beside, fixture.opened.check().await.unwrap());
    fixture.write(accept(1)).await.unwrap();

    let path = fixture.path();
    fixture.opened.close().await.unwrap();
    let after = inspect(&path).await.unwrap();
    assert_eq!((after.problems, after.log_bytes), (Vec::new(), 0));
    assert!(inspect(&path.with_file_name("missing.db")).await.is_err());
}

#[tokio::test]
async fn damage_deep_inside_is_found() {
    let fixture = Fixture::with_app().await;
    fixture.write(accept(1)).await.unwrap();
    let events = (1..=50).map(|seq| text(1, seq, &"y".repeat(2_000))).collect();
    fixture.write([Write::AppendEvents(events)]).await.unwrap();
    let path = fixture.path();
    fixture.opened.close().await.unwrap();

    let mut bytes = std::fs::read(&path).unwrap();
    let last_pages = bytes.len() - 10 * 4_096;
    bytes[last_pages..].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let opened = open(SqliteOptions::at(&path)).await.unwrap();
    assert_ne!(opened.check().await.unwrap().problems, [""; 0]);
}
