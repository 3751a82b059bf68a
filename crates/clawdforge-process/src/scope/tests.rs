//! Which processes belong to a tree, decided from made-up process tables.

use std::io;

use super::*;

/// `(pid, start, parent, group, session)`; a negative start means that it has ended.
type Row = (i32, i64, i32, i32, i32);

const STRANGER: i32 = 900_000;

/// Our own number: a real one could be any of those below.
const US: i32 = 800_000;
const OUR_SESSION: i32 = 799_999;

fn table(rows: &[Row]) -> Vec<Entry> {
    let entry = |&(pid, start, ppid, group, session): &Row| Entry {
        key: Key { pid, start_ticks: start.unsigned_abs() },
        ppid,
        group,
        session,
        ended: start < 0,
    };
    let outside: [Row; 2] = [(1, 1, 0, 1, 1), (STRANGER, 5, 1, STRANGER, STRANGER)];
    outside.iter().chain(rows).map(entry).collect()
}

fn select(scope: &Scope, rows: &[Row], marked: &[i32]) -> Vec<i32> {
    let members = scope.members(&table(rows), |pid| Ok(marked.contains(&pid))).unwrap();
    let mut pids: Vec<i32> = members.iter().map(|member| member.key.pid).collect();
    pids.sort_unstable();
    pids
}

fn key(pid: i32, start_ticks: u64) -> Key {
    Key { pid, start_ticks }
}

fn tree(leader: Key) -> (Scope, i32) {
    (tree_in(OUR_SESSION, leader), US)
}

fn tree_in(our_session: i32, leader: Key) -> Scope {
    Scope::of_tree(leader, TreeMark::new("m").unwrap(), Arc::new(Leaders::of(US, our_session)))
}

fn leftovers(leader: Option<Key>) -> (Scope, i32) {
    let mut scope = Scope::of_leftovers(leader.into_iter().collect(), HashSet::from([TreeMark::new("m").unwrap()]));
    scope.reach = Reach::Everywhere { us: US };
    (scope, US)
}

#[test]
fn the_leaders_descendants_belong_wherever_they_went() {
    let (scope, us) = tree(key(50, 10));
    let rows = [(us, 1, 1, us, us), (50, 10, us, 50, 50), (51, 11, 50, 51, 51), (52, 12, 51, 52, 52)];
    assert_eq!(select(&scope, &rows, &[]), [50, 51, 52]);
}

#[test]
fn an_orphan_belongs_by_session_or_mark() {
    let (scope, us) = tree(key(50, 10));
    let rows = [(us, 1, 1, us, us), (50, -10, us, 50, 50), (60, 20, us, 61, 50), (70, 21, us, 70, 70)];
    assert_eq!(select(&scope, &rows, &[]), [50, 60]);
    assert_eq!(select(&scope, &rows, &[70]), [50, 60, 70]);
}

#[test]
fn whoever_shares_a_session_opened_in_the_tree_belongs() {
    let (scope, us) = tree(key(50, 10));
    let rows = [(us, 1, 1, us, us), (50, -10, us, 50, 50), (70, 21, us, 70, 69), (71, 22, us, 71, 69)];
    assert_eq!(select(&scope, &rows, &[70]), [50, 70, 71]);
}

#[test]
fn our_own_session_makes_nobody_a_member() {
    // 0 is a session whose leader is outside of our PID namespace.
    for ours in [OUR_SESSION, 0] {
        let scope = tree_in(ours, key(50, 10));
        let rows = [(US, 1, 1, US, ours), (50, 10, US, ours, ours), (80, 30, US, ours, ours)];
        assert_eq!(select(&scope, &rows, &[]), [50]);
    }
}

#[test]
fn a_member_seen_before_still_belongs_when_nothing_else_tells() {
    let (mut scope, us) = tree(key(50, 10));
    scope.known.insert(key(70, 21));
    let rows = |start| [(us, 1, 1, us, us), (70, start, us, 70, 70)];
    assert_eq!(select(&scope, &rows(21), &[]), [70]);
    assert_eq!(select(&scope, &rows(22), &[]), [0; 0], "the number was given away since");
}

#[test]
fn a_recycled_leader_number_proves_nothing() {
    let (scope, us) = tree(key(50, 10));
    let rows = [(us, 1, 1, us, us), (50, 99, us, 50, 50), (51, 100, us, 50, 50)];
    assert_eq!(select(&scope, &rows, &[]), [0; 0]);
}

#[test]
fn nobody_outside_of_us_belongs_to_a_tree_of_ours() {
    let (scope, us) = tree(key(50, 10));
    let rows = [(us, 1, 1, us, us), (50, -10, us, 50, 50), (90, 30, 1, 50, 50)];
    assert_eq!(select(&scope, &rows, &[STRANGER]), [50]);
}

#[test]
fn a_child_whose_parent_ended_during_the_pass_is_seen() {
    let (scope, us) = tree(key(50, 10));
    let rows = [(us, 1, 1, us, us), (50, -10, us, 50, 50), (70, 21, 66, 70, 70)];
    assert_eq!(select(&scope, &rows, &[70]), [50, 70]);
}

#[test]
fn leftovers_are_found_anywhere_by_mark_with_their_descendants() {
    let (scope, us) = leftovers(None);
    let rows = [(us, 1, 1, us, us), (70, 21, 1, 70, 70), (71, 22, 70, 71, 71), (72, 23, 1, 70, 70)];
    assert_eq!(select(&scope, &rows, &[70]), [70, 71], "a session alone is no proof outside of us");
}

#[test]
fn leftovers_are_found_by_a_leader_that_is_still_the_same() {
    let (scope, us) = leftovers(Some(key(70, 21)));
    let rows = |start| [(us, 1, 1, us, us), (70, start, 1, 70, 70), (72, 23, 1, 72, 70)];
    assert_eq!(select(&scope, &rows(21), &[]), [70, 72]);
    assert_eq!(select(&scope, &rows(-21), &[]), [70, 72], "a zombie still holds its number");
    assert_eq!(select(&scope, &rows(22), &[]), [0; 0]);
}

#[test]
fn we_and_our_ancestors_are_spared_even_when_marked() {
    let (scope, us) = leftovers(Some(key(70, 21)));
    let rows = [(70, 21, 1, 70, 70), (71, 22, 70, 70, 70), (us, 23, 71, 70, 70), (90, 30, us, 70, 90)];
    assert_eq!(select(&scope, &rows, &[us, 70, 71, 1]), [0; 0]);
}

#[test]
fn a_look_that_fails_is_not_taken_for_an_empty_tree() {
    let (scope, us) = tree(key(50, 10));
    let rows = table(&[(us, 1, 1, us, us), (70, 21, us, 70, 70)]);
    let failed = scope.members(&rows, |_| Err(io::Error::other("out of descriptors")));
    assert!(failed.is_err());
}
