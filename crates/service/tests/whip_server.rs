//! The WHIP server's HTTP side, spoken to with plain bytes: every status, its headers, bounds of size and time. Media is a
//! stand-in; `e2e/test_whip.py` has real clients.

use model::{Blame, Fault, InputKind, ResourceId, Secret};
use rtc::{Accept, Refusal, Restarted};
use service::BoxFuture;
use service::config::{CpuCost, RtcConfig, TurnAccess, TurnServer, TurnTransport};
use service::control::ControlPlane;
use service::control::embedded::{Embedded, ingress};
use service::http::{Proxies, listen};
use service::inputs::whip::{Accepted, Control, IceServers, Media, Parts, Request, Server};
use service::load::Capacity;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const SDP: &str = "Content-Type: application/sdp\r\n";
const FRAGMENT: &str = "Content-Type: application/trickle-ice-sdpfrag\r\n";

/// Media that takes whatever is not called bad.
#[derive(Clone, Default)]
struct Fake {
    trickled: Arc<Mutex<Vec<String>>>,
    closed: Arc<AtomicBool>,
    ice_session: Arc<Mutex<String>>,
    /// What keeps the session on the list; a test that drops it ends the session.
    kept: Arc<Mutex<Vec<Box<dyn std::any::Any + Send>>>>,
}

impl Media for Fake {
    fn accept(&self, offer: &str, accept: &Accept) -> Result<Accepted, Refusal> {
        match offer {
            "bad" => return Err(Refusal::Unreadable("no v= line".into())),
            "useless" => return Err(Refusal::Unacceptable("no media to receive".into())),
            "late" => return Err(Refusal::Full),
            _ => *self.ice_session.lock().unwrap() = "one".into(),
        }
        let this = self.clone();
        Ok(Accepted {
            sdp: format!("answer to {offer}, {:?}", accept.delivery),
            control: Arc::new(self.clone()),
            begin: Box::new(move |keep| {
                this.kept.lock().unwrap().push(keep);
                session::source().1
            }),
        })
    }
}

impl Control for Fake {
    fn trickle<'a>(&'a self, fragment: &'a str) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(async move {
            if fragment == "bad" {
                return Err(Refusal::Unreadable("no a= line".into()));
            }
            self.trickled.lock().unwrap().push(fragment.to_owned());
            Ok(())
        })
    }

    fn restart<'a>(&'a self, fragment: &'a str) -> BoxFuture<'a, Result<Restarted, Refusal>> {
        Box::pin(async move {
            *self.ice_session.lock().unwrap() = "two".into();
            Ok(Restarted { fragment: format!("ours for {fragment}"), ice_session: "two".into() })
        })
    }

    fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::Relaxed)
    }

    fn ice_session(&self) -> String {
        self.ice_session.lock().unwrap().clone()
    }
}

/// A server that admits by what `control` knows, as the service does.
struct Setup {
    address: SocketAddr,
    media: Fake,
    capacity: Capacity,
    _task: JoinHandle<()>,
}

async fn admit(control: &Embedded, keys: &[Secret]) -> Result<(Secret, bool), Fault> {
    let mut refused = Fault::new(Blame::Unknown, "no key");
    for key in keys {
        match control.lookup(key).await {
            Ok(found) => {
                found.spec.expect_input(InputKind::Whip)?;
                return match found.spec.name.as_str() {
                    "disabled" => Err(Fault::new(Blame::Access, "session is disabled")),
                    "busy" => Err(Fault::transient(Blame::InUse, "this stream key is in use")),
                    "full" => Err(Fault::transient(Blame::Capacity, "this machine is full")),
                    "away" => Err(Fault::transient(Blame::Control, "Redis is not reachable")),
                    "broken" => Err(Fault::new(Blame::Us, "out of order")),
                    _ => Ok((key.clone(), found.spec.transcode)),
                };
            }
            Err(fault) => refused = fault,
        }
    }
    Err(refused)
}

async fn answer(control: Embedded, request: Request) {
    match admit(&control, &request.keys).await {
        Ok((key, transcode)) => {
            let accept = if transcode { Accept::transcoded() } else { Accept::passthrough() };
            let _ = request.accept(&key, ResourceId("WH_abcdefABCDEF".into()), "ws://sfu", &accept).await;
        }
        Err(fault) => request.reject(&fault),
    }
}

async fn start_with(max_per_address: usize, rtc: RtcConfig, control: Embedded) -> Setup {
    let (media, capacity) = (Fake::default(), Capacity::new(8.0, CpuCost::default()));
    let mut server = Server::new(Parts {
        media: Arc::new(media.clone()),
        control: Arc::new(control.clone()),
        capacity: capacity.clone(),
        ice_servers: IceServers::new(&rtc),
        max_connections: 50,
        max_connections_per_address: max_per_address,
        proxies: Proxies::default(),
    });
    let listener = listen(IpAddr::V4(Ipv4Addr::LOCALHOST), 0, "whip_port").await.unwrap();
    let address = server.listen(listener).unwrap();
    for key in ["good", "transcoded", "disabled", "busy", "full", "broken", "away"] {
        let mut whip = ingress(InputKind::Whip, key);
        whip.spec.transcode = key == "transcoded";
        whip.spec.name = key.into();
        control.put(whip);
    }
    control.put(ingress(InputKind::Rtmp, "rtmp"));
    let known = control.clone();
    let task = tokio::spawn(async move {
        loop {
            let request = server.next().await;
            tokio::spawn(answer(known.clone(), request));
        }
    });
    Setup { address, media, capacity, _task: task }
}

async fn start() -> Setup {
    start_with(50, RtcConfig::default(), Embedded::new()).await
}

/// An answer, taken apart.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let line = |l: &&str| l.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name));
        self.head.lines().find(line).and_then(|l| l.split_once(':')).map(|(_, value)| value.trim())
    }
}

impl Setup {
    async fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may answer and close before it has all.
        let _ = stream.write_all(bytes).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}");
        let answer = self.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{method} {path}: {answer:?}");
        assert!(answer.header("access-control-expose-headers").unwrap().contains("Location, ETag, Link"));
        answer
    }

    async fn publish(&self) -> String {
        let created = self.ask("POST", "/w/good", SDP, "offer").await;
        assert_eq!(created.status, 201, "{created:?}");
        created.header("location").unwrap().to_owned()
    }
}

#[tokio::test]
async fn an_offer_is_answered_by_the_rfc() {
    let setup = start().await;
    for (path, headers) in [
        ("/w", "Authorization: Bearer good\r\n"),
        ("/w", "authorization: good\r\n"),
        ("/w/good", ""),
        ("/w/good", "Authorization: Basic dXNlcjpwYXNz\r\n"),
        ("/w/nobody", "Authorization: Bearer good\r\n"),
    ] {
        let created = setup.ask("POST", path, &format!("{headers}{SDP}"), "offer").await;
        assert_eq!(created.status, 201, "{path} {headers}: {created:?}");
        assert_eq!(created.header("location"), Some("/w/good/WH_abcdefABCDEF"));
        assert_eq!(created.header("etag"), Some("\"one\""));
        assert_eq!(created.header("content-type"), Some("application/sdp"));
        assert_eq!(created.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
        assert_eq!(created.body, "answer to offer, Packets");
    }
    let transcoded = setup.ask("POST", "/w/transcoded", SDP, "offer").await;
    assert_eq!(transcoded.body, "answer to offer, Frames");
    let deep = setup.ask("POST", "/live/eu/1/good", "Content-Type: APPLICATION/SDP; x=y\r\n", "offer").await;
    assert_eq!(deep.header("location"), Some("/live/eu/1/good/WH_abcdefABCDEF"));
}

#[tokio::test]
async fn a_bad_offer_gets_its_status_and_text() {
    let setup = start().await;
    let long = "x".repeat(70_000);
    let table: &[(&str, &str, &str, u16, &str)] = &[
        ("/w", SDP, "offer", 401, "no stream key"),
        ("/w", "Authorization: Basic eA==\r\nContent-Type: application/sdp\r\n", "offer", 401, "no stream key"),
        ("/w/nobody", SDP, "offer", 404, "no ingress has this stream key"),
        ("/w/disabled", SDP, "offer", 403, "disabled"),
        ("/w/rtmp", SDP, "offer", 400, "belongs to a rtmp ingress"),
        ("/w/good", "Content-Type: text/plain\r\n", "offer", 415, "application/sdp"),
        ("/w/good", "", "offer", 415, "application/sdp"),
        ("/w/good", SDP, &long, 413, "too large"),
        ("/w/good", SDP, "bad", 400, "unreadable"),
        ("/w/good", SDP, "useless", 406, "no media to receive"),
        ("/w/busy", SDP, "offer", 409, "in use"),
        ("/w/full", SDP, "offer", 503, "full"),
        ("/w/good", SDP, "late", 503, "no media port"),
        ("/w/broken", SDP, "offer", 500, "out of order"),
        ("/", SDP, "offer", 404, "POST to"),
    ];
    for (path, headers, body, status, words) in table {
        let answer = setup.ask("POST", path, headers, body).await;
        assert_eq!(answer.status, *status, "{path}: {answer:?}");
        assert!(answer.body.contains(words), "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("retry-after").is_some(), *status == 503, "{answer:?}");
        assert_eq!(answer.header("www-authenticate").is_some(), *status == 401, "{answer:?}");
    }
    let away = setup.ask("POST", "/w/away", SDP, "offer").await;
    assert_eq!((away.status, away.header("retry-after")), (503, Some("2")));
    let noise = b"POST /w/good HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 3\r\nConnection: close\r\n\r\n\xff\xfe\xfd";
    assert_eq!(setup.send(noise).await.status, 400);
}

#[tokio::test]
async fn options_for_pages_of_any_origin() {
    let setup = start().await;
    for (path, methods, accept) in [
        ("/w", "POST, OPTIONS", "accept-post"),
        ("/w/good", "POST, OPTIONS", "accept-post"),
        ("/w/good/WH_abcdefABCDEF", "PATCH, DELETE, OPTIONS", "accept-patch"),
    ] {
        let asked = "Origin: http://page\r\nAccess-Control-Request-Method: POST\r\n";
        let answer = setup.ask("OPTIONS", path, asked, "").await;
        assert_eq!((answer.status, answer.header("access-control-allow-methods")), (204, Some(methods)), "{answer:?}");
        assert!(answer.header("access-control-allow-headers").unwrap().contains("Authorization"));
        assert!(answer.header(accept).is_some());
        for method in ["GET", "HEAD", "PUT", "BREW"] {
            let answer = setup.ask(method, path, "", "").await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some(methods)), "{method} {path}");
        }
    }
    assert_eq!(setup.ask("DELETE", "/w/good", "", "").await.status, 405);
    assert_eq!(setup.ask("POST", "/w/good/WH_abcdefABCDEF", SDP, "offer").await.status, 405);
}

#[tokio::test]
async fn a_session_takes_candidates_and_restarts() {
    let setup = start().await;
    let path = setup.publish().await;
    let patch =
        async |condition: &str, body: &str| setup.ask("PATCH", &path, &format!("{FRAGMENT}{condition}"), body).await;
    assert_eq!(patch("", "a=cand").await.status, 428);
    assert_eq!(patch("If-Match: \"other\"\r\n", "a=cand").await.status, 412);
    assert_eq!(patch("If-Match: W/\"one\"\r\n", "a=cand").await.status, 412);
    assert_eq!(patch("If-Match: \"one\"\r\n", "bad").await.status, 400);
    let trickled = patch("If-Match: \"one\"\r\n", "a=cand").await;
    assert_eq!((trickled.status, trickled.body.as_str()), (204, ""));
    assert_eq!(*setup.media.trickled.lock().unwrap(), ["a=cand"]);
    let restarted = patch("If-Match: *\r\n", "a=theirs").await;
    assert_eq!((restarted.status, restarted.header("etag")), (200, Some("\"two\"")));
    assert_eq!(restarted.header("content-type"), Some("application/trickle-ice-sdpfrag"));
    assert_eq!(restarted.body, "ours for a=theirs");
    assert_eq!(patch("If-Match: \"one\"\r\n", "a=cand").await.status, 412, "an ETag ends with its ICE session");
    assert_eq!(patch("If-Match: \"one\", \"two\"\r\n", "a=cand").await.status, 204);
    assert_eq!(setup.ask("PATCH", &path, SDP, "a=cand").await.status, 415);
    let long = "x".repeat(70_000);
    assert_eq!(patch("If-Match: *\r\n", &long).await.status, 413);
}

#[tokio::test]
async fn a_session_ends_for_its_own_key_only() {
    let setup = start().await;
    let path = setup.publish().await;
    let resource = "WH_abcdefABCDEF";
    let delete = async |path: &str, headers: &str| setup.ask("DELETE", path, headers, "").await.status;
    assert_eq!(delete(&format!("/w/other/{resource}"), "").await, 403);
    assert_eq!(delete(&format!("/w/other/{resource}"), "Authorization: Bearer wrong\r\n").await, 403);
    assert_eq!(delete(&format!("/{resource}"), "").await, 401);
    assert_eq!(delete("/w/good/WH_000000000000", "").await, 404);
    assert!(!setup.media.closed.load(Ordering::Relaxed));
    // With If-Match, which does not count here (RFC 9725 §4.3.1).
    assert_eq!(delete(&path, "If-Match: \"other\"\r\n").await, 200);
    assert!(setup.media.closed.load(Ordering::Relaxed));
    setup.media.kept.lock().unwrap().clear();
    assert_eq!(delete(&path, "").await, 404);
    assert_eq!(setup.ask("PATCH", &path, &format!("{FRAGMENT}If-Match: *\r\n"), "a=x").await.status, 404);
    // By its header alone.
    setup.media.closed.store(false, Ordering::Relaxed);
    setup.publish().await;
    assert_eq!(delete(&format!("/{resource}"), "Authorization: Bearer good\r\n").await, 200);
}

#[tokio::test]
async fn any_machine_serves_the_sessions_of_the_others() {
    let control = Embedded::new();
    let here = start_with(50, RtcConfig::default(), control.clone()).await;
    let there = start_with(50, RtcConfig::default(), control).await;
    let path = here.publish().await;
    let patch = async |condition: &str, path: &str| {
        there.ask("PATCH", path, &format!("{FRAGMENT}If-Match: {condition}\r\n"), "a=theirs").await
    };
    assert_eq!(patch("\"other\"", &path).await.status, 412);
    assert_eq!(patch("*", "/w/wrong/WH_abcdefABCDEF").await.status, 404);
    assert_eq!(patch("\"one\"", &path).await.status, 204);
    let restarted = patch("*", &path).await;
    assert_eq!((restarted.status, restarted.header("etag")), (200, Some("\"two\"")));
    assert_eq!(there.ask("DELETE", "/w/wrong/WH_abcdefABCDEF", "", "").await.status, 404);
    assert_eq!(there.ask("DELETE", &path, "", "").await.status, 200);
    assert!(here.media.closed.load(Ordering::Relaxed));
    here.media.kept.lock().unwrap().clear();
    assert_eq!(there.ask("DELETE", &path, "", "").await.status, 404);
}

#[tokio::test]
async fn ice_servers_are_for_those_with_a_key() {
    let access = TurnAccess::Shared { secret: Secret::new("north"), ttl: Duration::from_secs(600) };
    let turn = TurnServer { host: "turn.example".into(), port: 443, protocol: TurnTransport::Tls, access };
    let stun_servers = vec!["stun.example:3478".into()];
    let rtc = RtcConfig { stun_servers, turn_servers: vec![turn], ..RtcConfig::default() };
    let setup = start_with(50, rtc, Embedded::new()).await;
    let links = |answer: &Answer| answer.head.lines().filter(|l| l.to_lowercase().starts_with("link:")).count();
    let created = setup.ask("POST", "/w/good", SDP, "offer").await;
    assert_eq!(links(&created), 2, "{created:?}");
    assert!(created.head.contains("<turns:turn.example:443?transport=tcp>; rel=\"ice-server\"; username=\""));
    assert!(!created.head.contains("north"));
    let asked = async |headers: &str| links(&setup.ask("OPTIONS", "/w", headers, "").await);
    assert_eq!(asked("").await, 1);
    let refused = setup.ask("OPTIONS", "/w", "Authorization: Bearer nobody\r\n", "").await;
    assert_eq!(links(&refused), 1);
    assert!(refused.head.to_lowercase().contains("connection: close"), "a wrong key costs the connection: {refused:?}");
    assert_eq!(asked("Authorization: Bearer good\r\n").await, 2);
    assert_eq!(links(&setup.ask("POST", "/w/nobody", SDP, "offer").await), 0);
}

/// Guessing by OPTIONS is as slow as guessing by offers.
#[tokio::test(start_paused = true)]
async fn a_wrong_key_in_options_charges_its_address() {
    let access = TurnAccess::Shared { secret: Secret::new("north"), ttl: Duration::from_secs(600) };
    let turn = TurnServer { host: "turn.example".into(), port: 443, protocol: TurnTransport::Tls, access };
    let rtc = RtcConfig { turn_servers: vec![turn], ..RtcConfig::default() };
    let setup = start_with(1, rtc, Embedded::new()).await;
    let began = tokio::time::Instant::now();
    let guess = async || setup.ask("OPTIONS", "/w", "Authorization: Bearer nobody\r\n", "").await.status;
    assert_eq!(guess().await, 204);
    let mut next = TcpStream::connect(setup.address).await.unwrap();
    assert!(gave_way(&mut next).await, "closed at once");
    while began.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(guess().await, 204);
}

#[tokio::test]
async fn health_and_availability() {
    let setup = start().await;
    let page = async |path: &str| {
        let answer = setup.ask("GET", path, "", "").await;
        (answer.status, answer.body)
    };
    assert_eq!(page("/health").await, (200, "Healthy".into()));
    assert_eq!(page("/availability").await, (200, "Available".into()));
    setup.capacity.drain();
    assert_eq!(page("/availability").await, (503, "No availability".into()));
    assert_eq!(page("/health").await.0, 200);
}

#[tokio::test]
async fn a_large_body_does_not_hide_its_answer() {
    let setup = start().await;
    let head = "POST /w/good HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n";
    let mut large = format!("{head}Content-Length: {}\r\n\r\n", 16 << 20).into_bytes();
    large.resize(large.len() + (16 << 20), b'a');
    assert_eq!(setup.send(&large).await.status, 413);
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..100 {
        chunked.extend_from_slice(b"1000\r\n");
        chunked.resize(chunked.len() + 0x1000, b'a');
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(setup.send(&chunked).await.status, 413);
    // A client that asks before it sends the body is refused before it does.
    let asks = format!("{head}Expect: 100-continue\r\nContent-Length: 90000\r\n\r\n");
    assert_eq!(setup.send(asks.as_bytes()).await.status, 413);
    let odd = format!("{head}Expect: gold\r\nContent-Length: 5\r\n\r\noffer");
    assert_eq!(setup.send(odd.as_bytes()).await.status, 417);
    let head_alone = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(20_000));
    assert_eq!(setup.send(head_alone.as_bytes()).await.status, 431);
}

/// Virtual time jumps to the next deadline, so that no test waits for a silent peer.
#[tokio::test(start_paused = true)]
async fn who_drips_is_cut_off() {
    let setup = start().await;
    let began = tokio::time::Instant::now();
    let slow = setup
        .send(b"POST /w/good HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\nContent-Length: 9\r\n\r\nv=0")
        .await;
    assert_eq!(slow.status, 408, "{slow:?}");
    assert!(began.elapsed() < Duration::from_secs(9));
    for begin in ["", "POST /w/good HTTP/1.1\r\nHo"] {
        let mut silent = TcpStream::connect(setup.address).await.unwrap();
        silent.write_all(begin.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = silent.read_to_end(&mut rest).await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
    }
    // One letter a second, for ever: the connection ends while they still come.
    let mut drip = TcpStream::connect(setup.address).await.unwrap();
    let began = tokio::time::Instant::now();
    while drip.write_all(b"x").await.is_ok() && began.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    setup.publish().await;
}

#[tokio::test]
async fn a_connection_serves_several_requests_in_turn() {
    let setup = start().await;
    let mut stream = TcpStream::connect(setup.address).await.unwrap();
    let one = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    // All at once, as pipelining does.
    let last = "GET /availability HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{}{last}", one.repeat(20)).as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!((text.matches("Healthy").count(), text.matches("Available").count()), (20, 1));
    // A wrong key ends the connection: what is behind it is not answered.
    let mut stream = TcpStream::connect(setup.address).await.unwrap();
    let wrong = format!("POST /w/nobody HTTP/1.1\r\nHost: x\r\n{SDP}Content-Length: 5\r\n\r\noffer");
    stream.write_all(wrong.repeat(20).as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    assert_eq!(String::from_utf8_lossy(&text).matches("HTTP/1.1 404").count(), 1);
}

/// Whether this one was closed without an answer.
async fn gave_way(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    rest.is_empty()
}

#[tokio::test]
async fn one_address_does_not_take_all_places() {
    let setup = start_with(3, RtcConfig::default(), Embedded::new()).await;
    let mut silent = Vec::new();
    let unfinished = format!("POST /w/good HTTP/1.1\r\nHost: x\r\n{SDP}Content-Length: 9\r\n\r\nv=0");
    for begin in ["", "POST /w/good HTTP/1.1\r\nHo", &unfinished] {
        let mut stream = TcpStream::connect(setup.address).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    let mut kept = Vec::new();
    for mut oldest in silent {
        setup.publish().await;
        assert!(gave_way(&mut oldest).await);
        kept.push(TcpStream::connect(setup.address).await.unwrap());
    }
}

/// A request that is whole and shows a key keeps its connection while it is answered, however many come after it.
#[tokio::test]
async fn who_shows_a_key_does_not_give_way() {
    let control = Embedded::new();
    let mut server = Server::new(Parts {
        media: Arc::new(Fake::default()),
        control: Arc::new(control.clone()),
        capacity: Capacity::new(8.0, CpuCost::default()),
        ice_servers: IceServers::new(&RtcConfig::default()),
        max_connections: 50,
        max_connections_per_address: 2,
        proxies: Proxies::default(),
    });
    let listener = listen(IpAddr::V4(Ipv4Addr::LOCALHOST), 0, "whip_port").await.unwrap();
    let address = server.listen(listener).unwrap();
    control.put(ingress(InputKind::Whip, "good"));
    let mut good = TcpStream::connect(address).await.unwrap();
    let offer = format!("POST /w/good HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{SDP}Content-Length: 5\r\n\r\noffer");
    good.write_all(offer.as_bytes()).await.unwrap();
    let waiting = server.next().await;
    let mut first = TcpStream::connect(address).await.unwrap();
    let _second = TcpStream::connect(address).await.unwrap();
    assert!(gave_way(&mut first).await, "the one that is silent");
    answer(control, waiting).await;
    let mut text = String::new();
    good.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 201 "), "{text}");
}

/// Of a stranger's request nothing reaches another machine, and what can't be read reaches nobody.
#[tokio::test]
async fn only_whole_fragments_of_known_keys_go_to_other_machines() {
    let control = Embedded::new();
    let there = start_with(50, RtcConfig::default(), control.clone()).await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let handler: service::control::WhipHandler = Arc::new(move |key: Secret, request| {
        seen.lock().unwrap().push((key.expose().to_owned(), format!("{request:?}")));
        Box::pin(async { Ok(service::control::WhipAnswer::default()) })
    });
    let _serving = control.serve_whip(&ResourceId("WH_abcdefABCDEF".into()), handler).await.unwrap();
    let patch = async |key: &str, body: &str| {
        let headers = format!("{FRAGMENT}If-Match: \"one\"\r\n");
        there.ask("PATCH", &format!("/w/{key}/WH_abcdefABCDEF"), &headers, body).await.status
    };
    let long = format!("a=x:{}", "y".repeat(rtc::MAX_FRAGMENT));
    assert_eq!(patch("nobody", "a=cand").await, 404);
    assert_eq!(
        there.ask("DELETE", "/w/nobody/WH_abcdefABCDEF", "", "").await.status,
        404,
        "a key that nobody has, or has any more"
    );
    for (body, status) in [("", 400), ("noise", 400), ("a=ice-ufrag:x", 400), (&long, 413)] {
        assert_eq!(patch("good", body).await, status, "{}", &body[..body.len().min(20)]);
    }
    assert!(asked.lock().unwrap().is_empty(), "{asked:?}");
    assert_eq!(patch("good", "a=cand").await, 204);
    assert_eq!(asked.lock().unwrap()[0].0, "good");
}
