//! The proxy over sockets of loopback, in front of a network that is made up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use async_trait::async_trait;
use clawdforge_core::network::{NetworkRule, Reach};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::limits::{CONNECTIONS_PER_GRANT_MAX, HEAD_BYTES_MAX, HEAD_WAIT_MAX};

const PATIENCE: Duration = Duration::from_secs(20);

/// The one public address of the made-up network.
const PUBLIC: &str = "8.8.8.8";

/// How the body of every refusal begins; it is one line.
const REFUSAL: &str = "clawdforge: ";

/// Where a network of an agent's own listens, in these tests: loopback here, and not where anything else is.
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A network in which [`PUBLIC`], and [`INSIDE`] at any port, is a server of the test, and every other address is this machine's.
struct MadeUp {
    server: SocketAddr,
    /// What each look at a name finds; the last one stays.
    names: Mutex<HashMap<&'static str, Vec<Vec<&'static str>>>>,
    looks: Mutex<Vec<String>>,
    connected: Mutex<Vec<SocketAddr>>,
}

#[async_trait]
impl Outside for MadeUp {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.looks.lock().unwrap().push(name.to_owned());
        let mut names = self.names.lock().unwrap();
        let Some(found) = names.get_mut(name) else { return Err(io::ErrorKind::NotFound.into()) };
        let now = if found.len() > 1 { found.remove(0) } else { found[0].clone() };
        Ok(now.into_iter().map(|address| address.parse().unwrap()).collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.connected.lock().unwrap().push(address);
        let served = [PUBLIC.parse().unwrap(), IpAddr::from(INSIDE)];
        TcpStream::connect(if served.contains(&address.ip()) { self.server } else { address }).await
    }

    fn is_own(&self, address: IpAddr) -> bool {
        address == "9.9.9.9".parse::<IpAddr>().unwrap()
    }
}

struct Stage {
    egress: Egress,
    outside: Arc<MadeUp>,
    heard: Arc<Mutex<Vec<String>>>,
    stop: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A server that says `hello`, keeps every head it hears, and the proxy in front of it.
async fn stage() -> Stage {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let server = listener.local_addr().unwrap();
    let (heard, stop) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
    let mut tasks = JoinSet::new();
    let log = Arc::clone(&heard);
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.spawn(say_hello(stream, Arc::clone(&log)));
        }
    });
    let names = HashMap::from([
        ("public.example", vec![vec![PUBLIC]]),
        ("inside.example", vec![vec!["10.0.0.5"]]),
        ("mapped.example", vec![vec!["::ffff:127.0.0.1"]]),
        ("own.example", vec![vec!["9.9.9.9"]]),
        ("mixed.example", vec![vec!["127.0.0.1", PUBLIC, "169.254.169.254"]]),
        ("rebinds.example", vec![vec![PUBLIC], vec!["127.0.0.1"]]),
        ("nothing.example", vec![vec![]]),
    ]);
    let outside =
        Arc::new(MadeUp { server, names: names.into(), looks: Mutex::default(), connected: Mutex::default() });
    let (proxy, egress) = Proxy::bind(Arc::clone(&outside) as Arc<dyn Outside>).await.unwrap();
    tasks.spawn(proxy.serve(stop.clone()));
    Stage { egress, outside, heard, stop, _tasks: tasks }
}

async fn say_hello(mut stream: TcpStream, log: Arc<Mutex<Vec<String>>>) {
    let mut head = vec![0; 4096];
    let length = stream.read(&mut head).await.unwrap_or(0);
    log.lock().unwrap().push(String::from_utf8_lossy(&head[..length]).into_owned());
    let said = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nKeep-Alive: timeout=9\r\nX-End: yes\r\n\r\nhello";
    // Whoever hung up hears nothing.
    let _ = stream.write_all(said).await;
    // Open until the other side is done.
    let _ = stream.read(&mut head).await;
}

impl Stage {
    fn grant(&self, agent: NetworkRule, app: Option<NetworkRule>, always: &[String]) -> Grant {
        let always = always.iter().map(|text| text.parse().unwrap()).collect();
        let whose = Whose { agent: "claude".to_owned(), app: "cauldron".to_owned() };
        self.egress.grant(whose, Reach { agent, app, always }).unwrap()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.egress.port())).await.unwrap()
    }

    /// What the proxy says to a head, up to `until` or its end.
    async fn ask(&self, grant: Option<&Grant>, line: &str, until: &str) -> String {
        self.ask_with(grant.map(credential).as_deref(), line, until).await
    }

    async fn ask_with(&self, authorization: Option<&str>, line: &str, until: &str) -> String {
        let mut stream = self.connect().await;
        let authorization = authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
        let head = format!("{line}\r\nHost: ignored\r\nConnection: X-Own\r\nX-Own: 1\r\n{authorization}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut stream, until).await
    }
}

async fn read_until(stream: &mut TcpStream, until: &str) -> String {
    let mut said = Vec::new();
    let reading = async {
        let mut buffer = [0; 1024];
        let is_whole = |said: &[u8]| {
            let said = String::from_utf8_lossy(said);
            said.contains(until) && (until != REFUSAL || said.ends_with('\n'))
        };
        while !is_whole(&said) {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => said.extend_from_slice(&buffer[..length]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    String::from_utf8(said).unwrap()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |chunk: &[u8], place: usize| {
        let word = chunk.iter().enumerate().fold(0_u32, |word, (at, byte)| word | u32::from(*byte) << (16 - 8 * at));
        if place > chunk.len() { '=' } else { char::from(DIGITS[((word >> (18 - 6 * place)) & 63) as usize]) }
    };
    bytes.chunks(3).flat_map(|chunk| (0..4).map(move |place| digit(chunk, place))).collect()
}

fn credential(grant: &Grant) -> String {
    let userinfo = grant.url().trim_start_matches("http://").split('@').next().unwrap().to_owned();
    format!("Basic {}", base64(userinfo.as_bytes()))
}

fn only(entries: &[&str]) -> NetworkRule {
    NetworkRule::only(entries).unwrap()
}

#[tokio::test]
async fn what_is_open_is_reached_by_a_tunnel_and_by_a_request() {
    let stage = stage().await;
    let grant = stage.grant(only(&["public.example:443", "public.example:80"]), None, &[]);
    let mut stream = stage.connect().await;
    let head = format!(
        "CONNECT public.example:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {}\r\n\r\n",
        credential(&grant)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"bytes of any kind").await.unwrap();
    assert!(read_until(&mut stream, "hello").await.ends_with("hello"));
    assert_eq!(stage.heard.lock().unwrap().pop().unwrap(), "bytes of any kind");

    let said = stage.ask(Some(&grant), "GET http://public.example/path?q=1 HTTP/1.1", "hello").await;
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("hello"), "{said}");
    assert!(!said.to_lowercase().contains("keep-alive") && said.contains("x-end: yes"), "{said}");
    let heard = stage.heard.lock().unwrap().pop().unwrap();
    assert!(heard.starts_with("GET /path?q=1 HTTP/1.1\r\n"), "{heard}");
    let lower = heard.to_lowercase();
    assert!(lower.contains("host: public.example\r\n") && !lower.contains("ignored"), "{heard}");
    assert!(!lower.contains("proxy-authorization") && !lower.contains("x-own"), "the credential stays here: {heard}");
}

#[tokio::test]
async fn what_is_closed_is_refused_with_the_rule_that_closes_it() {
    let stage = stage().await;
    let both = stage.grant(NetworkRule::Open, Some(only(&["public.example:443"])), &[]);
    for (grant, host, why) in [
        (stage.grant(NetworkRule::None, None, &[]), "public.example:443", "by the network rule of the agent claude"),
        (both, "other.example:443", "by the network rule of the app cauldron"),
        (stage.grant(NetworkRule::Open, None, &[]), "inside.example:443", "leads to a private address"),
        (stage.grant(NetworkRule::Open, None, &[]), "mapped.example:443", "leads to a loopback address"),
        (stage.grant(NetworkRule::Open, None, &[]), "own.example:443", "leads to an address of this host"),
        (stage.grant(NetworkRule::Open, None, &[]), "169.254.169.254:80", "leads to a link-local address"),
        (stage.grant(NetworkRule::Open, None, &[]), "[::1]:80", "leads to a loopback address"),
        (stage.grant(only(&["inside.example:443"]), None, &[]), "inside.example:443", "leads to a private address"),
    ] {
        for line in [format!("CONNECT {host} HTTP/1.1"), format!("GET http://{host}/secret-path HTTP/1.1")] {
            let said = stage.ask(Some(&grant), &line, REFUSAL).await;
            assert!(said.starts_with("HTTP/1.1 403"), "{line}: {said}");
            assert!(said.contains(why) && said.contains("operator"), "{line}: {said}");
        }
    }
    assert!(stage.outside.connected.lock().unwrap().is_empty(), "nothing was connected to");
}

#[tokio::test]
async fn what_is_not_asked_for_properly_is_no_request() {
    let stage = stage().await;
    let grant = stage.grant(NetworkRule::Open, None, &[]);
    for line in [
        "CONNECT public.example HTTP/1.1",
        "CONNECT 2130706433:80 HTTP/1.1",
        "CONNECT 0x7f.1:80 HTTP/1.1",
        "CONNECT 127.1:80 HTTP/1.1",
        "CONNECT 0177.0.0.1:80 HTTP/1.1",
        "CONNECT a@public.example:443 HTTP/1.1",
        "CONNECT public.example:0 HTTP/1.1",
        "GET /path HTTP/1.1",
        "GET https://public.example/ HTTP/1.1",
        "GET http://a@public.example/ HTTP/1.1",
        "GET http://2130706433/ HTTP/1.1",
        "GET ftp://public.example/ HTTP/1.1",
    ] {
        let said = stage.ask(Some(&grant), line, "\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 400"), "{line}: {said}");
    }
    assert!(stage.outside.looks.lock().unwrap().is_empty(), "nothing was looked up");
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_so() {
    let stage = stage().await;
    let grant = stage.grant(NetworkRule::Open, None, &["127.0.0.1:1".to_owned()]);
    for (host, why) in [
        ("unknown.example:443", "has no address"),
        ("nothing.example:443", "has no address"),
        ("127.0.0.1:1", "cannot be reached"),
    ] {
        let said = stage.ask(Some(&grant), &format!("CONNECT {host} HTTP/1.1"), REFUSAL).await;
        assert!(said.starts_with("HTTP/1.1 502") && said.contains(why), "{host}: {said}");
    }
}

#[tokio::test]
async fn a_model_that_is_not_there_looks_as_without_a_proxy() {
    let stage = stage().await;
    let grant = stage.grant(NetworkRule::Open, None, &["127.0.0.1:1".to_owned()]);
    let ask = async |line: &str| stage.ask(Some(&grant), line, REFUSAL).await;
    assert_eq!(ask("GET http://127.0.0.1:1/v1/messages HTTP/1.1").await, "", "no answer, as from nobody");
    let said = ask("GET http://unknown.example/ HTTP/1.1").await;
    assert!(said.starts_with("HTTP/1.1 502") && said.contains("has no address"), "others are told: {said}");
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_only_what_was_judged_is_connected_to() {
    let stage = stage().await;
    let grant = stage.grant(NetworkRule::Open, None, &[]);
    let public = SocketAddr::new(PUBLIC.parse().unwrap(), 443);
    let ask = async |host: &str| stage.ask(Some(&grant), &format!("CONNECT {host}:443 HTTP/1.1"), "\r\n\r\n").await;
    assert!(ask("rebinds.example").await.starts_with("HTTP/1.1 200"));
    assert_eq!(*stage.outside.looks.lock().unwrap(), ["rebinds.example"], "a second look would find another address");
    assert!(ask("rebinds.example").await.starts_with("HTTP/1.1 403"), "each request is judged anew");
    assert!(ask("mixed.example").await.starts_with("HTTP/1.1 200"));
    assert_eq!(*stage.outside.connected.lock().unwrap(), [public, public], "the closed ones were passed over");
}

#[tokio::test]
async fn what_the_operator_names_is_reached_on_this_machine_and_its_neighbour_is_not() {
    let stage = stage().await;
    let port = stage.outside.server.port();
    let grant = stage.grant(NetworkRule::None, None, &[format!("127.0.0.1:{port}")]);
    assert_eq!(grant.ports(), [stage.egress.port(), port]);
    let ask = async |host: String| stage.ask(Some(&grant), &format!("GET http://{host}/ HTTP/1.1"), "\r\n\r\n").await;
    assert!(ask(format!("127.0.0.1:{port}")).await.starts_with("HTTP/1.1 200"));
    let neighbour = stage.egress.port();
    for closed in [format!("127.0.0.1:{neighbour}"), format!("127.0.0.2:{port}"), format!("localhost:{port}")] {
        assert!(ask(closed.clone()).await.starts_with("HTTP/1.1 403"), "{closed}");
    }
}

#[tokio::test]
async fn without_a_good_credential_nothing_passes() {
    let stage = stage().await;
    let grant = stage.grant(NetworkRule::Open, None, &[]);
    let good = credential(&grant);
    let wrong = ["Basic", "Basic !!!", "Basic YWdlbnQ6d3Jvbmc=", "Bearer x", &good[..good.len() - 6]];
    for authorization in wrong.into_iter().map(Some).chain([None]) {
        for line in ["CONNECT public.example:443 HTTP/1.1", "GET http://public.example/ HTTP/1.1"] {
            let said = stage.ask_with(authorization, line, REFUSAL).await;
            assert!(said.starts_with("HTTP/1.1 407"), "{authorization:?}: {said}");
            assert!(said.to_lowercase().contains("proxy-authenticate: basic"), "{said}");
        }
    }
    assert!(stage.outside.looks.lock().unwrap().is_empty(), "nothing was looked up");
    assert!(!format!("{grant:?} {:?}", stage.egress).contains(grant.url()), "and it does not print");
}

#[tokio::test]
async fn with_the_grant_its_connections_end() {
    let stage = stage().await;
    let grant = stage.grant(NetworkRule::Open, None, &[]);
    let credential = credential(&grant);
    let head = format!("CONNECT public.example:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {credential}\r\n\r\n");
    let mut tunnel = stage.connect().await;
    tunnel.write_all(head.as_bytes()).await.unwrap();
    read_until(&mut tunnel, "\r\n\r\n").await;
    let mut waiting = stage.connect().await;
    let get = head.replace("CONNECT public.example:443", "GET http://inside.example/");
    waiting.write_all(get.as_bytes()).await.unwrap();
    read_until(&mut waiting, REFUSAL).await;
    drop(grant);
    let began = Instant::now();
    assert_eq!(read_until(&mut tunnel, "never").await, "");
    assert_eq!(read_until(&mut waiting, "never").await, "");
    assert!(began.elapsed() < HEAD_WAIT_MAX, "at once, not when a head is overdue");
    let said = stage.ask_with(Some(&credential), "CONNECT public.example:443 HTTP/1.1", REFUSAL).await;
    assert!(said.starts_with("HTTP/1.1 407"), "{said}");
}

#[tokio::test]
async fn a_connection_belongs_to_its_first_credential() {
    let stage = stage().await;
    let (ours, other) = (stage.grant(NetworkRule::None, None, &[]), stage.grant(NetworkRule::Open, None, &[]));
    let mut stream = stage.connect().await;
    for (grant, status) in [(&ours, "403"), (&other, "407"), (&ours, "403")] {
        let credential = credential(grant);
        let head =
            format!("GET http://inside.example/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: {credential}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let said = read_until(&mut stream, REFUSAL).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_sends_its_head_drop_by_drop_is_cut() {
    let stage = stage().await;
    let mut stream = stage.connect().await;
    let began = tokio::time::Instant::now();
    let mut buffer = [0; 1];
    stream.write_all(b"GET http://public.exam").await.unwrap();
    // why: the clock is paused; it moves by itself as far as the next timer, which is the proxy's.
    let ended = stream.read(&mut buffer).await;
    assert!(matches!(ended, Ok(_) | Err(_)) && began.elapsed() >= HEAD_WAIT_MAX, "{ended:?}");
    assert!(began.elapsed() < 3 * HEAD_WAIT_MAX);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let stage = stage().await;
    let grant = stage.grant(NetworkRule::Open, None, &[]);
    let line = format!("GET http://public.example/ HTTP/1.1\r\nX-Large: {}", "x".repeat(4 * HEAD_BYTES_MAX));
    let said = stage.ask(Some(&grant), &line, "\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 431") || said.starts_with("HTTP/1.1 414"), "{said}");
}

#[tokio::test]
async fn one_tree_cannot_have_all_connections() {
    let stage = stage().await;
    let (greedy, other) = (stage.grant(NetworkRule::Open, None, &[]), stage.grant(NetworkRule::Open, None, &[]));
    let line = "CONNECT public.example:443 HTTP/1.1";
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS_PER_GRANT_MAX {
        let mut stream = stage.connect().await;
        let head = format!("{line}\r\nHost: x\r\nProxy-Authorization: {}\r\n\r\n", credential(&greedy));
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        open.push(stream);
    }
    assert!(stage.ask(Some(&greedy), line, REFUSAL).await.starts_with("HTTP/1.1 503"));
    assert!(stage.ask(Some(&other), line, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn addresses_of_this_machine_are_known_as_its_own() {
    assert!(System.is_own("127.0.0.1".parse().unwrap()));
    assert!(!System.is_own("8.8.8.8".parse().unwrap()));
}

/// A listener of an agent's own network.
fn inside(port: u16) -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind((INSIDE, port)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn the_proxy_is_found_inside_a_network_of_the_agents_own() {
    let stage = stage().await;
    let grant = stage.grant(only(&["public.example:80"]), None, &[]);
    let (listener, address) = inside(stage.egress.port());
    grant.answer(vec![listener]).await.unwrap();
    for (authorization, expected) in [(Some(credential(&grant)), "HTTP/1.1 200"), (None, "HTTP/1.1 407")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let authorization = authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
        let head = format!("GET http://public.example/ HTTP/1.1\r\nHost: x\r\n{authorization}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let said = read_until(&mut stream, "\r\n\r\n").await;
        assert!(said.starts_with(expected), "{said}");
    }
}

#[tokio::test]
async fn what_is_always_reached_on_loopback_is_found_inside_and_its_neighbour_is_not() {
    let stage = stage().await;
    let (listener, address) = inside(0);
    let (other, other_address) = inside(0);
    let grant =
        stage.grant(NetworkRule::None, None, &[address.to_string(), format!("127.0.0.3:{}", other_address.port())]);
    grant.answer(vec![listener, other]).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"no HTTP").await.unwrap();
    assert!(read_until(&mut stream, "hello").await.ends_with("hello"));
    assert_eq!(stage.heard.lock().unwrap().pop().unwrap(), "no HTTP");
    // The port was named, at another address.
    let mut stream = TcpStream::connect(other_address).await.unwrap();
    assert_eq!(read_until(&mut stream, "hello").await, "");
    assert_eq!(*stage.outside.connected.lock().unwrap(), [address]);
}

#[tokio::test]
async fn with_the_grant_the_listeners_inside_end_and_what_came_through_them() {
    let stage = stage().await;
    let (listener, address) = inside(0);
    let grant = stage.grant(NetworkRule::None, None, &[address.to_string()]);
    grant.answer(vec![listener]).await.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"word").await.unwrap();
    assert!(read_until(&mut stream, "hello").await.ends_with("hello"));
    drop(grant);
    assert_eq!(read_until(&mut stream, "more").await, "");
    let gone = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}
