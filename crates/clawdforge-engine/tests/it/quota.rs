//! A workspace that takes more of the disk than it may.

use std::path::PathBuf;
use std::time::Duration;

use clawdforge_core::agent::FailureKind;
use clawdforge_core::id::FileId;
use clawdforge_core::run::RunRequest;
use clawdforge_engine::{EngineOptions, TurnRequest, UploadWish};

use crate::scene::{Scene, ended, failure, soon, until};
use crate::stage::request;

const QUOTA: u64 = 1 << 20;

fn with_quota(options: &mut EngineOptions) {
    options.workspace_bytes_max = Some(QUOTA);
    options.upload_bytes_max = 4 * QUOTA;
}

/// Where the agent that was opened last works.
fn workspace(scene: &Scene) -> PathBuf {
    scene.talker.opened.lock().unwrap().last().unwrap().workspace.clone()
}

fn fill(scene: &Scene) -> PathBuf {
    let file = workspace(scene).join("large");
    std::fs::write(&file, vec![1; 2 * QUOTA as usize]).unwrap();
    file
}

async fn upload(scene: &Scene, bytes: u64) -> FileId {
    let mut upload = scene.engine.begin_upload(None).await.unwrap();
    upload.write(&vec![1; bytes as usize]).await.unwrap();
    let id = scene.engine.request_id();
    let wish = UploadWish { name: "a.bin".into(), ..UploadWish::default() };
    scene.engine.finish_upload(upload, &scene.by, wish, id).await.unwrap().fresh().unwrap().0.id
}

#[tokio::test]
async fn a_turn_that_fills_its_workspace_is_ended_with_its_agent_and_no_other_begins_until_there_is_room() {
    let scene = Scene::with(true, with_quota).await;
    let (session, other) = (scene.open().await, scene.open().await);
    scene.answered(session, "hello").await;
    let hanging = scene.submit(session, "hang").await.unwrap();
    scene.asked(2).await;
    let file = fill(&scene);
    let full = ended(hanging).await;
    assert_eq!(failure(&full), Some(FailureKind::WorkspaceFull));
    assert_eq!(full.outcome.stop_reason.as_deref(), Some("cancelled"), "it was told to stop before");
    assert_eq!(failure(&scene.turn(session, "again").await), Some(FailureKind::WorkspaceFull));
    assert_eq!(scene.talker.alive(), 0, "its agent was ended before the next turn was looked at");
    assert_eq!((scene.talker.opens(), scene.talker.asked()), (1, vec!["hello".to_owned(), "hang".to_owned()]));
    scene.answered(other, "another session has its own").await;
    std::fs::remove_file(file).unwrap();
    scene.answered(session, "there is room").await;
    assert_eq!(scene.close(session).await, Ok(true));
}

#[tokio::test]
async fn a_full_session_can_be_closed() {
    let scene = Scene::with(true, |options| {
        with_quota(options);
        options.session_warm_up = true;
    })
    .await;
    let session = scene.open().await;
    until(|| scene.talker.alive() == 1).await;
    fill(&scene);
    assert_eq!(failure(&scene.turn(session, "hello").await), Some(FailureKind::WorkspaceFull));
    assert_eq!(scene.talker.alive(), 0, "the agent that was started ahead is ended");
    assert_eq!(scene.talker.asked(), Vec::<String>::new(), "and was not asked");
    assert_eq!(scene.close(session).await, Ok(true));
}

#[tokio::test]
async fn a_run_that_fills_its_workspace_is_ended_and_its_folder_gone() {
    let scene = Scene::with(true, with_quota).await;
    let request = RunRequest { prompt: "hang".to_owned(), ..request(Duration::from_secs(60)) };
    let ticket =
        scene.engine.submit_run(&scene.by, request, scene.engine.request_id(), None).await.unwrap().fresh().unwrap();
    scene.asked(1).await;
    fill(&scene);
    let outcome = soon(ticket.outcome()).await.unwrap();
    let failure = outcome.failure.clone().unwrap();
    assert_eq!(failure.kind, FailureKind::WorkspaceFull);
    assert!(
        failure.message.ends_with("ask for what writes less, or have the operator raise workspace_bytes_max"),
        "{failure:?}"
    );
    until(|| !workspace(&scene).exists()).await;
}

#[tokio::test]
async fn attached_files_that_do_not_fit_are_not_laid_in() {
    let scene = Scene::with(true, with_quota).await;
    let (large, small) = (upload(&scene, QUOTA).await, upload(&scene, QUOTA / 2).await);
    let run = RunRequest { files: vec![large], ..request(Duration::from_secs(60)) };
    let ticket = scene
        .engine
        .submit_run(&scene.by, run.clone(), scene.engine.request_id(), None)
        .await
        .unwrap()
        .fresh()
        .unwrap();
    let outcome = soon(ticket.outcome()).await.unwrap();
    assert_eq!(outcome.failure, None, "as much as may be is not too much: {outcome:?}");
    let both = RunRequest { files: vec![large, small], ..run };
    let ticket =
        scene.engine.submit_run(&scene.by, both, scene.engine.request_id(), None).await.unwrap().fresh().unwrap();
    let failed = soon(ticket.outcome()).await.unwrap().failure.clone().unwrap();
    assert!(
        failed.message.starts_with("the workspace would take 1.5 MiB of the disk with the attached files"),
        "{failed:?}"
    );

    let session = scene.open().await;
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let request = TurnRequest {
            prompt: "look".to_owned(),
            files: vec![small],
            timeout: Duration::from_secs(60),
            output_schema: None,
            will_be_followed: false,
        };
        let ticket = scene
            .engine
            .submit_turn(&scene.by, session, request, scene.engine.request_id(), None)
            .await
            .unwrap()
            .fresh()
            .unwrap();
        kinds.push(failure(&ended(ticket).await));
    }
    assert_eq!(kinds, [None, Some(FailureKind::WorkspaceFull)], "the second half does not fit beside the first");
}

#[tokio::test]
async fn an_agent_whose_leavings_fill_the_workspace_while_it_rests_is_ended() {
    let scene = Scene::with(true, with_quota).await;
    let session = scene.open().await;
    scene.answered(session, "hello").await;
    assert_eq!(scene.talker.alive(), 1);
    fill(&scene);
    scene.until_cold().await;
    assert_eq!(scene.talker.alive(), 0);
    assert_eq!(failure(&scene.turn(session, "again").await), Some(FailureKind::WorkspaceFull));
}

#[tokio::test]
async fn without_a_quota_nothing_is_too_much() {
    let scene = Scene::new(true).await;
    let session = scene.open().await;
    scene.answered(session, "hello").await;
    fill(&scene);
    scene.answered(session, "again").await;
}
