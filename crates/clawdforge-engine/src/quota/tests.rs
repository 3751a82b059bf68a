//! When a workspace is looked at, and what is made of it.

use std::fs;

use super::*;

const MIB: u64 = 1 << 20;

fn meter(bytes_max: u64) -> (tempfile::TempDir, Arc<Meter>) {
    let dir = tempfile::tempdir().unwrap();
    let meter = Meter::of_conversation(dir.path().to_owned(), bytes_max);
    (dir, meter)
}

async fn begins(meter: &Meter, more: u64, is_warm: bool) -> Result<(), Failure> {
    meter.room_for(more, is_warm, &CancellationToken::new()).await
}

#[tokio::test]
async fn a_warm_turn_with_room_begins_upon_the_last_look_and_a_cold_one_never() {
    let (dir, meter) = meter(MIB);
    assert_eq!(begins(&meter, 0, true).await, Ok(()), "the first turn looks");
    fs::write(dir.path().join("large"), vec![1; 2 << 20]).unwrap();
    assert_eq!(begins(&meter, 0, true).await, Ok(()), "which says enough for the next");
    assert!(!meter.is_full());
    let failure = begins(&meter, 0, false).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::WorkspaceFull);
    let expected = "the workspace takes at least 2 MiB of the disk, and 1 MiB are allowed; close the session and open \
                    another, or have the operator raise workspace_bytes_max or delete files in it";
    assert_eq!(failure.message, expected);
    assert!(meter.is_full());
    assert!(begins(&meter, 0, true).await.is_err(), "it stays so");
    fs::remove_file(dir.path().join("large")).unwrap();
    assert_eq!(begins(&meter, 0, true).await, Ok(()), "until there is room again");
}

#[tokio::test]
async fn a_warm_turn_near_the_limit_or_with_files_that_come_near_it_looks_first() {
    let (dir, meter) = meter(4 * MIB);
    assert_eq!(begins(&meter, 0, true).await, Ok(()));
    fs::write(dir.path().join("some"), vec![1; (3 << 20) + 4_096]).unwrap();
    let failure = begins(&meter, 3 * MIB + 1, true).await.unwrap_err();
    assert!(
        failure.message.starts_with("the workspace would take 6 MiB of the disk with the attached files"),
        "{failure:?}"
    );
    fs::write(dir.path().join("more"), vec![1; 2 << 20]).unwrap();
    assert!(begins(&meter, 0, true).await.is_err(), "three quarters are near");
}

#[test]
fn a_look_that_is_old_or_left_something_out_says_nothing_about_the_next_turn() {
    let (at, second) = (Instant::now(), Duration::from_secs(1));
    let seen = Seen { at: Some(at), bytes: MIB, part: false, full: false };
    assert!(!seen.is_doubtful(at + LOOK_AGE_MAX, 0, 4 * MIB));
    assert!(seen.is_doubtful(at + LOOK_AGE_MAX + second, 0, 4 * MIB));
    assert!(Seen { part: true, ..seen }.is_doubtful(at, 0, 4 * MIB));
    assert!(Seen::default().is_doubtful(at, 0, 4 * MIB));
}

#[test]
fn what_cannot_be_counted_is_too_much_only_twice_in_a_row() {
    let (_dir, meter) = meter(MIB);
    let part = |why| meter.judge(Count::Part(1, why));
    for why in [LeftOut::Closed, LeftOut::Late] {
        assert_eq!((part(why), meter.judge(Count::Whole(1)), part(why)), (Ok(()), Ok(()), Ok(())));
        assert_eq!(part(why).map_err(|failure| failure.kind), Err(FailureKind::WorkspaceFull), "{why:?}");
        assert_eq!(meter.judge(Count::Whole(1)), Ok(()));
    }
    for _ in 0..3 {
        assert_eq!(part(LeftOut::Failed(rustix::io::Errno::IO)), Ok(()), "the machine's failure is not the agent's");
    }
    assert!(part(LeftOut::Closed).is_ok());
    assert_eq!(meter.judge(Count::GivenUp), Ok(()));
    assert!(part(LeftOut::Closed).is_err(), "a look that nobody wanted says nothing");
}

#[test]
fn large_folders_are_looked_at_less_often_and_never_seldom() {
    let seconds = Duration::from_secs;
    assert_eq!(pause_after(TURN_LOOK_PAUSE, Duration::from_millis(5)), TURN_LOOK_PAUSE);
    assert_eq!(pause_after(TURN_LOOK_PAUSE, seconds(1)), seconds(10));
    assert_eq!(pause_after(TURN_LOOK_PAUSE, LOOK_TIME_MAX), LOOK_PAUSE_MAX);
    assert!(LOOK_AGE_MAX > REST_LOOK_PAUSE && LOOK_AGE_MAX > LOOK_PAUSE_MAX, "a rest does not make a turn wait");
}

#[test]
fn bytes_are_told_as_people_count_them() {
    assert_eq!([0, 1_023, 1_024].map(shown), ["0 bytes", "1023 bytes", "1 KiB"]);
    assert_eq!([5 << 30, (3 << 20) + (1 << 19)].map(shown), ["5 GiB", "3.5 MiB"]);
}
