//! Lists of ports: what is on them works, what is not is refused, and no list refuses nothing; the same in a network of
//! its own.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::Arc;

use clawdforge_process::sandbox::{PORTS_ABI, Ports, Targets, landlock_abi};
use clawdforge_process::{Confinement, Sandbox, Tree};
use rustix::io::Errno;

use crate::support::{Bench, all_said};

/// What comes of connecting to a port and of listening on one that the kernel chooses.
async fn outcomes(bench: &Bench, confinement: &Arc<Confinement>, port: u16, ports: Option<Ports>) -> String {
    all_said(attacker(bench, confinement, port, ports, "connect_tcp,listen_tcp").await).await
}

/// An attacker of what listens on a port of TCP, or of UDP.
async fn attacker(
    bench: &Bench,
    confinement: &Arc<Confinement>,
    port: u16,
    ports: Option<Ports>,
    attacks: &str,
) -> Tree {
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
        udp: port,
        ipc: 1,
        queue: "/none".to_owned(),
    };
    let mut spec = bench.spec(env!("CARGO_BIN_EXE_process-test-helper"), &["attack", attacks]);
    spec.args.extend(targets.args());
    spec.cwd.clone_from(&own);
    spec.sandbox = Some(Sandbox { write: vec![own], ports, ..Sandbox::of(confinement) });
    bench.spawner.spawn(spec).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_ports_on_the_list_are_used() {
    let bench = Bench::new();
    let (one, other) =
        (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let (port, listed) = (one.local_addr().unwrap().port(), other.local_addr().unwrap().port());
    let refused = |what: &str| format!("{what} denied {}\n", Errno::ACCESS.raw_os_error());
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

/// Two sockets of the service on one port: of TCP and of UDP.
fn service() -> (TcpListener, UdpSocket, u16) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        // Somebody else's connection may have it.
        if let Ok(tcp) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return (tcp, udp, port);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_of_its_own_has_no_way_out_and_none_in() {
    let bench = Bench::new();
    let (_tcp, udp, port) = service();
    udp.set_nonblocking(true).unwrap();
    let confinement = bench.confinement_with_own_network();
    let attacks = "connect_tcp,listen_tcp,send_udp";
    let mut tree = attacker(&bench, &confinement, port, Some(Ports::default()), attacks).await;
    assert!(tree.take_listeners().is_empty());
    let denied = |what: &str, errno: i32| format!("{what} denied {errno}\n");
    let expected = denied("connect_tcp", Errno::CONNREFUSED.raw_os_error())
        + &denied("listen_tcp", Errno::NETUNREACH.raw_os_error())
        + &denied("send_udp", Errno::CONNREFUSED.raw_os_error());
    assert_eq!(all_said(tree).await, expected);
    assert_eq!(udp.recv_from(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);

    // Without a list nothing is closed, and the network is everybody's.
    let tree = attacker(&bench, &confinement, port, None, attacks).await;
    assert_eq!(all_said(tree).await, "connect_tcp open 0\nlisten_tcp open 0\nsend_udp open 0\n");
    assert_eq!(udp.recv_from(&mut [0; 1]).unwrap().0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_may_be_connected_to_are_answered_by_whoever_started_the_program() {
    let bench = Bench::new();
    let (_tcp, _udp, port) = service();
    let confinement = bench.confinement_with_own_network();
    let ports = Ports { connect: vec![port], bind: Vec::new() };
    let mut tree = attacker(&bench, &confinement, port, Some(ports), "connect_tcp").await;
    let listeners = tree.take_listeners();
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    assert_eq!(addresses, loopback.map(|address| (address, port).into()));
    assert_eq!(all_said(tree).await, "connect_tcp open 0\n");
    // It was connected to here, and not at the service's own socket of the same port.
    drop(listeners[0].accept().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_through_a_listener_both_ways() {
    let bench = Bench::new();
    let confinement = bench.confinement_with_own_network();
    let own = bench.private().join("own");
    std::fs::create_dir_all(&own).unwrap();
    let mut spec = bench.spec("/bin/bash", &["-c", "exec 3<>/dev/tcp/127.0.0.1/80; echo hello >&3; cat <&3"]);
    spec.cwd.clone_from(&own);
    // A small number, as only those may bind who may do more: it is bound before that is given up.
    let ports = Some(Ports { connect: vec![80], bind: Vec::new() });
    spec.sandbox = Some(Sandbox { write: vec![own], ports, ..Sandbox::of(&confinement) });
    let mut tree = bench.spawner.spawn(spec).await.unwrap();
    let listener = tree.take_listeners().remove(0);
    let said = tokio::task::spawn_blocking(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut hello = [0; 6];
        connection.read_exact(&mut hello).unwrap();
        connection.write_all(b"and back").unwrap();
        hello
    });
    assert_eq!(all_said(tree).await, "and back");
    assert_eq!(&said.await.unwrap(), b"hello\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_talks_to_servers_of_its_own_in_its_network() {
    let bench = Bench::new();
    let own = bench.private().join("own");
    for user in crate::support::users() {
        let confinement = bench.confinement_with_own_network();
        std::fs::create_dir_all(&own).unwrap();
        let mut spec = bench.spec(env!("CARGO_BIN_EXE_process-test-helper"), &["converse"]);
        spec.cwd.clone_from(&own);
        let ports = Some(Ports::default());
        spec.sandbox = Some(Sandbox { write: vec![own.clone()], ports, identity: user, ..Sandbox::of(&confinement) });
        let tree = bench.spawner.spawn(spec).await.unwrap();
        assert_eq!(all_said(tree).await, "", "{user:?}");
    }
}
