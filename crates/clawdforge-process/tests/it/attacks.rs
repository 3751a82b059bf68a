//! The attack suite: each attack is tried without a sandbox, where it must succeed, so that the try is one;
//! then at every level that this machine can make.

use clawdforge_core::isolation::Isolation;
use clawdforge_process::Identity;
use clawdforge_process::sandbox::probe::{Findings, clean, measure};
use clawdforge_process::sandbox::{Attack, Outcome, PORTS_ABI, Ports, landlock_abi};

use crate::support::{Bench, other_user};

/// The version of Landlock's interface from which on signals and abstract sockets are judged.
const SCOPE_ABI: u32 = 6;

/// What only the almighty can do, so that the control needs it.
const NEEDS_ROOT: &[Attack] =
    &[Attack::WriteEtc, Attack::WriteUsr, Attack::ReadShadow, Attack::RaiseCapability, Attack::OpenRareSocket];

/// What stays open at each level, as published.
const GAPS_OF_LANDLOCK: &[Attack] = &[
    Attack::ChangeDatabaseMode,
    Attack::StatDatabase,
    Attack::ReadServiceArguments,
    Attack::ConnectPath,
    Attack::ConnectTcp,
    Attack::ListenTcp,
    Attack::SendUdp,
    Attack::WatchOtherWorkspace,
];
const GAPS_OF_UID: &[Attack] =
    &[Attack::StatDatabase, Attack::ReadServiceArguments, Attack::ConnectTcp, Attack::ListenTcp, Attack::SendUdp];
const GAPS_OF_NAMESPACES: &[Attack] = &[Attack::ConnectTcp, Attack::ListenTcp, Attack::SendUdp];

async fn tried(bench: &Bench, level: Isolation) -> Option<Findings> {
    tried_with(bench, level, None).await
}

async fn tried_with(bench: &Bench, level: Isolation, ports: Option<Ports>) -> Option<Findings> {
    let identity: Option<Identity> = match level {
        Isolation::Uid => Some(other_user()?),
        Isolation::Namespaces => other_user(),
        Isolation::Off | Isolation::Landlock => None,
    };
    Some(tried_as(bench, level, identity, ports).await)
}

async fn tried_as(bench: &Bench, level: Isolation, identity: Option<Identity>, ports: Option<Ports>) -> Findings {
    let confinement = match level {
        Isolation::Namespaces => bench.confinement_with_namespaces(),
        _ => bench.confinement(),
    };
    let findings = measure(&bench.spawner, &confinement, identity, level != Isolation::Off, ports).await.unwrap();
    assert_eq!(findings.made, level);
    findings
}

fn outcome(findings: &Findings, attack: Attack) -> Outcome {
    findings.outcomes.iter().find(|(tried, _)| *tried == attack).unwrap().1
}

fn gaps_of(level: Isolation) -> Vec<Attack> {
    let mut gaps = match level {
        Isolation::Off => Attack::all().collect(),
        Isolation::Landlock => GAPS_OF_LANDLOCK.to_vec(),
        Isolation::Uid => GAPS_OF_UID.to_vec(),
        Isolation::Namespaces => GAPS_OF_NAMESPACES.to_vec(),
    };
    if landlock_abi() < SCOPE_ABI && level != Isolation::Off {
        gaps.push(Attack::ConnectAbstract);
        gaps.extend((level == Isolation::Landlock).then_some(Attack::SignalService));
    }
    gaps
}

/// The control, then every level that can be made here.
async fn try_everywhere(attack: Attack) {
    let bench = Bench::new();
    let control = tried(&bench, Isolation::Off).await.unwrap();
    if other_user().is_some() || !NEEDS_ROOT.contains(&attack) {
        assert_eq!(outcome(&control, attack), Outcome::Open, "without a sandbox {attack:?} must work");
    }
    for level in [Isolation::Landlock, Isolation::Uid, Isolation::Namespaces] {
        let Some(findings) = tried(&bench, level).await else { continue };
        let expected = if gaps_of(level).contains(&attack) { Outcome::Open } else { Outcome::Denied };
        assert_eq!(outcome(&findings, attack), expected, "{attack:?} at {level}");
    }
    let left = std::fs::read_dir(bench.private()).unwrap().count();
    assert_eq!(left, 0, "what was made to be attacked is gone");
}

macro_rules! attacks {
    ($($name:ident: $attack:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                try_everywhere(Attack::$attack).await;
            }
        )*

        #[test]
        fn every_attack_has_a_test() {
            let tested = [$(Attack::$attack),*];
            assert!(Attack::all().eq(tested), "in the order of the table: {:?}", Attack::all().collect::<Vec<_>>());
        }
    };
}

attacks! {
    the_database_is_read: ReadDatabase,
    the_database_is_read_through_a_link: ReadDatabaseByLink,
    the_database_gets_another_name: LinkDatabase,
    the_database_is_cut: TruncateDatabase,
    the_database_changes_its_mode: ChangeDatabaseMode,
    the_database_tells_its_size: StatDatabase,
    another_workspace_is_read: ReadOtherWorkspace,
    another_workspace_is_written: WriteOtherWorkspace,
    etc_is_written: WriteEtc,
    usr_is_written: WriteUsr,
    the_shared_tmp_is_written: WriteSharedTmp,
    password_hashes_are_read: ReadShadow,
    the_service_is_signalled: SignalService,
    the_environment_of_the_service_is_read: ReadServiceEnvironment,
    the_memory_of_the_service_is_opened: ReadServiceMemory,
    the_open_files_of_the_service_are_listed: ListServiceFiles,
    the_database_is_read_through_the_service: ReadThroughServiceRoot,
    the_arguments_of_the_service_are_read: ReadServiceArguments,
    the_service_is_traced: TraceService,
    the_memory_of_the_service_is_copied: CopyServiceMemory,
    an_abstract_socket_of_the_service_is_reached: ConnectAbstract,
    a_path_socket_of_the_service_is_reached: ConnectPath,
    the_service_is_reached_over_tcp: ConnectTcp,
    a_port_is_listened_on: ListenTcp,
    datagrams_are_sent: SendUdp,
    what_system_v_has_is_reached: ReachSystemV,
    a_queue_is_reached: ReachQueue,
    another_workspace_is_watched: WatchOtherWorkspace,
    a_capability_is_taken_back: RaiseCapability,
    a_rare_socket_is_opened: OpenRareSocket,
    a_user_namespace_is_made: NestUserNamespace,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_is_reported_as_it_was_measured() {
    let bench = Bench::new();
    assert_eq!(tried(&bench, Isolation::Off).await.unwrap().level(), Isolation::Off);
    assert_eq!(tried(&bench, Isolation::Landlock).await.unwrap().level(), Isolation::Landlock);
    if let Some(findings) = tried(&bench, Isolation::Uid).await {
        assert_eq!(findings.level(), Isolation::Uid);
    }
    // With a user of its own and without.
    for identity in [other_user(), None] {
        let findings = tried_as(&bench, Isolation::Namespaces, identity, None).await;
        assert_eq!(findings.level(), Isolation::Namespaces, "{:?}", findings.gaps().collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_kept_off_by_being_others_and_not_by_a_closed_way() {
    let bench = Bench::new();
    // As the service does, which sets it for the sake of its own files.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    if let Some(findings) = tried(&bench, Isolation::Uid).await {
        assert_eq!(findings.level(), Isolation::Uid);
        assert_eq!(outcome(&findings, Attack::StatDatabase), Outcome::Open, "the way there is open");
        assert_eq!(outcome(&findings, Attack::ChangeDatabaseMode), Outcome::Denied);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_network_is_closed_no_port_is_reached_but_those_named() {
    if landlock_abi() < PORTS_ABI {
        return;
    }
    let bench = Bench::new();
    for level in [Isolation::Landlock, Isolation::Uid, Isolation::Namespaces] {
        for connect in [Vec::new(), vec![1]] {
            let Some(findings) = tried_with(&bench, level, Ports::only(connect)).await else { continue };
            for attack in [Attack::ConnectTcp, Attack::SendUdp] {
                assert_eq!(outcome(&findings, attack), Outcome::Denied, "{attack:?} at {level}");
            }
            assert_eq!(findings.level(), level);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_opens_a_hole_is_caught() {
    let bench = Bench::new();
    // As if an operator had named the database among the places that agents may write.
    let database = bench.private().join(format!("isolation-probe-{}-usual.sqlite", std::process::id()));
    let confinement = bench.confinement_with(vec![database]);
    let findings = measure(&bench.spawner, &confinement, None, true, None).await.unwrap();
    assert_eq!((findings.made, findings.level()), (Isolation::Landlock, Isolation::Off));
    let broken: Vec<_> = findings.broken(Isolation::Landlock).collect();
    assert_eq!(broken, [Attack::ReadDatabase, Attack::ReadDatabaseByLink, Attack::TruncateDatabase]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_data_directory_is_never_given_whoever_asks() {
    let bench = Bench::new();
    let confinement = bench.confinement_with(vec![bench.private(), bench.dir.path().to_owned()]);
    let findings = measure(&bench.spawner, &confinement, None, true, None).await.unwrap();
    assert_eq!(findings.level(), Isolation::Landlock);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_probe_left_is_removed() {
    let bench = Bench::new();
    bench.confinement();
    std::fs::create_dir_all(bench.private().join("isolation-probe-1/own")).unwrap();
    std::fs::write(bench.private().join("isolation-probe-1.sqlite"), "").unwrap();
    std::fs::write(bench.private().join("kept"), "").unwrap();
    // No process has this number: it is beyond the kernel's largest.
    let gone = std::path::Path::new("/tmp/clawdforge-isolation-probe-4194305-0");
    let in_use = std::path::PathBuf::from(format!("/tmp/clawdforge-isolation-probe-{}-9", std::process::id()));
    for folder in [gone, &in_use] {
        std::fs::create_dir_all(folder).unwrap();
    }
    clean(&bench.private()).unwrap();
    assert!(!gone.exists() && in_use.exists());
    std::fs::remove_dir(in_use).unwrap();
    let left: Vec<_> = std::fs::read_dir(bench.private()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["kept"]);
}
