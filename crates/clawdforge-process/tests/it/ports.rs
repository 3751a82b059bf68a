//! Lists of ports: what is on them works, what is not is refused, and no list refuses nothing.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use clawdforge_process::sandbox::{PORTS_ABI, Ports, Targets, landlock_abi};
use clawdforge_process::{Confinement, Sandbox};
use tokio::io::AsyncReadExt;

use crate::support::{Bench, PATIENCE};

/// What comes of connecting to a port and of listening on one that the kernel chooses.
async fn outcomes(bench: &Bench, confinement: &Arc<Confinement>, port: u16, ports: Option<Ports>) -> String {
    let own = bench.private().join("own");
    std::fs::create_dir_all(&own).unwrap();
    let nowhere = std::path::PathBuf::from("/nowhere");
    let targets = Targets {
        database: nowhere.clone(),
        workspace: nowhere.clone(),
        tmp: nowhere.clone(),
        service: 1,
        abstract_name: "nobody".to_owned(),
        socket: nowhere,
        tcp: port,
        udp: 1,
    };
    let mut spec = bench.spec(env!("CARGO_BIN_EXE_process-test-helper"), &["attack", "connect_tcp,listen_tcp"]);
    spec.args.extend(targets.args());
    spec.cwd.clone_from(&own);
    spec.sandbox = Some(Sandbox { write: vec![own], ports, ..Sandbox::of(confinement) });
    let mut tree = bench.spawner.spawn(spec).await.unwrap();
    let mut said = String::new();
    tree.take_stdout().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(tree.end(PATIENCE).await.survivors, 0);
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn only_ports_on_the_list_are_used() {
    let bench = Bench::new();
    let (one, other) =
        (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let (port, listed) = (one.local_addr().unwrap().port(), other.local_addr().unwrap().port());
    let refused = |what: &str| format!("{what} denied {}\n", rustix::io::Errno::ACCESS.raw_os_error());
    let open = |what: &str| format!("{what} open 0\n");
    let (connect, listen) = ("connect_tcp", "listen_tcp");
    for confinement in [bench.confinement(), bench.confinement_with_namespaces()] {
        let tried = async |port, ports| outcomes(&bench, &confinement, port, ports).await;
        assert_eq!(tried(port, None).await, open(connect) + &open(listen));
        if landlock_abi() < PORTS_ABI {
            continue;
        }
        assert_eq!(tried(port, Some(Ports::default())).await, refused(connect) + &refused(listen));
        let some = Ports { connect: vec![listed], bind: vec![0] };
        assert_eq!(tried(port, Some(some.clone())).await, refused(connect) + &open(listen));
        assert_eq!(tried(listed, Some(some)).await, open(connect) + &open(listen));
        // The right to listen on a port is none to connect to it.
        let only_bind = Ports { connect: Vec::new(), bind: vec![listed] };
        assert_eq!(tried(listed, Some(only_bind)).await, refused(connect) + &refused(listen));
    }
}
