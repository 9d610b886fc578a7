//! The HTTP server against slow, silent and malformed clients.

use std::net::Ipv6Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::config::{CpuCost, IpNet};
use crate::http::{health, metrics};
use crate::load::Capacity;
use crate::metrics::{Registry, register_machine, register_process};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn start(router: Router, limits: Limits) -> Server {
    serve(listen(LOCAL, 0, "health_port").await.unwrap(), router, limits).unwrap()
}

async fn ask(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(server: &Server, path: &str) -> (String, String) {
    let answer = ask(server, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn machine() -> Capacity {
    Capacity::new(8.0, CpuCost::default())
}

#[tokio::test]
async fn health_and_availability() {
    let capacity = machine();
    let server = start(health(capacity.clone()), Limits::default()).await;
    let (head, body) = get(&server, "/availability").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "Available");
    capacity.drain();
    let (head, body) = get(&server, "/availability?now").await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, "No availability");
    for path in ["/", "/health", "/availability/x"] {
        let (head, body) = get(&server, path).await;
        assert!(head.starts_with("HTTP/1.1 200 ") && body == "Healthy", "{path}: {head} {body}");
    }
    let answer = ask(&server, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn metrics_on_every_path() {
    let registry = Registry::default();
    register_machine(&registry, "NE_x", "1", &machine());
    register_process(&registry, "/proc");
    let server = start(metrics(registry), Limits::default()).await;
    for path in ["/", "/metrics", "/any/where"] {
        let (head, body) = get(&server, path).await;
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        assert!(body.contains("livekit_ingress_available{node_id=\"NE_x\"} 1\n"), "{body}");
        assert!(body.contains("\nprocess_cpu_seconds_total "), "{body}");
    }
    server.stop().await;
}

#[tokio::test]
async fn malformed_requests_cost_their_connection_only() {
    let server = start(health(machine()), Limits::default()).await;
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000));
    for request in ["\u{16}\u{3}\u{1}\0\r\n\r\n", "NONSENSE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", &many] {
        let answer = ask(&server, request).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // The server may hang up while this is still being sent.
    let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
    let _ = stream.write_all(long.as_bytes()).await;
    drop(stream);
    assert_eq!(get(&server, "/").await.1, "Healthy");
    server.stop().await;
}

#[tokio::test]
async fn a_silent_connection_gives_way() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let server = start(health(machine()), limits).await;
    let mut silent = Vec::new();
    for begin in ["", "GET / HTTP/1.1\r\nHo", ""] {
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    let mut kept = Vec::new();
    for mut oldest in silent {
        assert_eq!(get(&server, "/").await.1, "Healthy");
        let mut rest = Vec::new();
        let _ = oldest.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
        kept.push(TcpStream::connect(server.local_addr()).await.unwrap());
    }
    server.stop().await;
}

/// Virtual time jumps to the next deadline, so that no test waits for a silent peer.
#[tokio::test(start_paused = true)]
async fn a_silent_connection_ends_by_itself() {
    let server = start(health(machine()), Limits::default()).await;
    let mut silent = TcpStream::connect(server.local_addr()).await.unwrap();
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    server.stop().await;
}

/// A proxy brings many clients over one connection: each request is its client's.
#[tokio::test]
async fn requests_of_a_proxy_are_charged_to_their_clients() {
    let router = Router::new().fallback(async |peer: axum::extract::Extension<Peer>| {
        if peer.address.ip().to_string().ends_with(".66") {
            peer.charge();
        }
        peer.address.to_string()
    });
    let proxies = Arc::new(Proxies { trusted: vec![IpNet { address: LOCAL, prefix: 8 }], ..Proxies::default() });
    let limits = Limits { connections_per_address: 1, keep_alive: true, ..Limits::default() };
    let listener = listen(LOCAL, 0, "whip_port").await.unwrap();
    let server = serve_behind(listener, None, router, limits, proxies).unwrap();
    let request = |client: &str, close: &str| {
        let client = if client.is_empty() { String::new() } else { format!("X-Forwarded-For: {client}\r\n") };
        format!("GET / HTTP/1.1\r\nHost: x\r\n{client}Connection: {close}\r\n\r\n")
    };
    // One wrong key keeps no neighbour out; ten within a second do.
    let mut all = vec![("192.0.2.66", "keep-alive"); 11];
    all.extend([("192.0.2.7", "keep-alive"), ("", "close")]);
    let said = ask(&server, &all.iter().map(|(client, close)| request(client, close)).collect::<String>()).await;
    let bodies: Vec<_> =
        said.split("HTTP/1.1 ").skip(1).map(|a| (&a[..3], a.split("\r\n\r\n").nth(1).unwrap())).collect();
    assert!(bodies[..10].iter().all(|body| *body == ("200", "192.0.2.66:0")), "{bodies:?}");
    assert_eq!(bodies[10].0, "503", "charged for a second");
    assert_eq!(bodies[11], ("200", "192.0.2.7:0"));
    assert!(bodies[12].1.starts_with("127.0.0.1:"), "{bodies:?}");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_the_silent() {
    let server = start(health(machine()), Limits::default()).await;
    let address = server.local_addr();
    let silent = TcpStream::connect(address).await.unwrap();
    let before = tokio::time::Instant::now();
    server.stop().await;
    assert!(before.elapsed() <= STOP_DEADLINE + Duration::from_millis(10));
    assert!(TcpStream::connect(address).await.is_err());
    drop(silent);
}

#[tokio::test]
async fn a_port_that_cannot_be_opened_is_explained() {
    let first = listen(LOCAL, 0, "health_port").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let taken = listen(LOCAL, port, "prometheus_port").await.unwrap_err();
    assert_eq!(taken.text, format!("prometheus_port: port {port} is in use by another program"));
    // 192.0.2.0/24 is for documentation (RFC 5737): nobody's.
    let foreign = listen(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0, "health_port").await.unwrap_err();
    assert_eq!(foreign.text, "bind_address: 192.0.2.1 is not an address of this machine (health_port)");
}

#[tokio::test]
async fn the_unspecified_address_takes_ipv4() {
    let listener = listen(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0, "health_port").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (connected, accepted) = tokio::join!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)), listener.accept());
    assert!(connected.is_ok() && accepted.is_ok());
}
