//! Uploads.

use clawdforge_core::commit::{Expect, Write};
use clawdforge_core::id::FileId;

use crate::support::{Fixture, at, file, file_id, unexpected};

#[tokio::test]
async fn an_upload_is_read_back_whole_until_it_is_removed() {
    let fixture = Fixture::with_app().await;
    assert_eq!(fixture.store().files.file(file_id(1)).await.unwrap(), None);
    assert_eq!(fixture.expect(Expect::FileExists(file_id(1))).await, Err(unexpected(0)));

    fixture.write([Write::AddFile(file(1, 100))]).await.unwrap();
    assert_eq!(fixture.store().files.file(file_id(1)).await.unwrap(), Some(file(1, 100)));
    assert_eq!(fixture.expect(Expect::FileExists(file_id(1))).await, Ok(()));
    assert_eq!(fixture.write([Write::AddFile(file(1, 200))]).await, Err(unexpected(0)));

    fixture.write([Write::RemoveFile(file_id(1))]).await.unwrap();
    assert_eq!(fixture.store().files.file(file_id(1)).await.unwrap(), None);
    assert_eq!(fixture.write([Write::RemoveFile(file_id(1))]).await, Ok(()), "it is gone, as wished");
}

#[tokio::test]
async fn an_upload_of_an_unknown_app_is_refused() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.write([Write::AddFile(file(1, 100))]).await, Err(unexpected(0)));
}

#[tokio::test]
async fn expired_files_come_oldest_first_and_none_too_early() {
    let fixture = Fixture::with_app().await;
    let files = [file(1, 300), file(2, 100), file(3, 200), file(4, 400)];
    fixture.write(files.map(Write::AddFile)).await.unwrap();
    let expired = async |now: i64, limit| {
        let files = fixture.store().files.expired_files(at(now), limit).await.unwrap();
        files.into_iter().map(|file| file.id).collect::<Vec<_>>()
    };
    assert_eq!(expired(99, 10).await, []);
    assert_eq!(expired(300, 10).await, [file_id(2), file_id(3), file_id(1)]);
    assert_eq!(expired(300, 2).await, [file_id(2), file_id(3)]);
}

#[tokio::test]
async fn all_files_can_be_paged_through_by_age() {
    let fixture = Fixture::with_app().await;
    let mut ids: Vec<_> = (0..7).map(|second| FileId::new(at(second), [u8::MAX - second as u8; 10])).collect();
    for id in ids.iter().rev() {
        let file = clawdforge_core::file::File { id: *id, ..file(1, 100) };
        fixture.write([Write::AddFile(file)]).await.unwrap();
    }
    let mut read = Vec::new();
    loop {
        let page = fixture.store().files.files_after(read.last().copied(), 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    ids.sort();
    assert_eq!(read, ids);
}
