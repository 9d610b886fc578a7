//! Response heads as servers send them, and the client against scripted servers on loopback.

use super::head::content_range;
use super::*;
use model::HostRule;
use proptest::prelude::*;
use std::net::TcpListener;

fn head(text: &str) -> Head {
    Head::parse(text.as_bytes()).unwrap().unwrap().0
}

#[test]
fn response_heads() {
    let h = head("HTTP/1.1 206 Partial\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\n");
    assert_eq!((h.status, h.range, h.length, h.keep), (206, Some((5, Some(10))), Some(5), true));
    let h = head("HTTP/1.0 200 OK\r\nContent-Type: Video/MP4; x=1\r\n\r\n");
    assert_eq!((h.keep, h.content_type.as_str()), (false, "video/mp4"));
    assert!(head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n").chunked);
    assert_eq!(head("ICY 200 OK\r\ncontent-type: audio/mpeg\r\n\r\n").content_type, "audio/mpeg");
    let h = head("HTTP/1.0 200 OK\r\nicy-name: x\r\nicy-metaint: 16000\r\n\r\n");
    assert_eq!((h.radio, h.titles, head("ICY 200 OK\r\n\r\n").radio), (true, Some(16000), true));
    assert!(head("HTTP/1.0 200 OK\r\nServer: Icecast 2.4.4\r\n\r\n").radio);
    assert!(!head("HTTP/1.0 200 OK\r\nServer: nginx\r\n\r\n").radio);
    assert_eq!(Head::parse(b"HTTP/1.1 200 OK\r\nContent-Le"), Ok(None));
    assert!(Head::parse(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
    assert!(Head::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n").is_err());
}

#[test]
fn heads_that_are_not_quite_right() {
    let h = head("HTTP/1.1 200 OK\r\nServer : cam\r\nCache Control: x\r\nX: a\r\n b\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(h.length, Some(5));
    assert_eq!(head("HTTP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n").length, None);
    assert_eq!(head("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n").length, Some(5));
    let h = head("HTTP/1.1 200 OK\r\nContent-Encoding: aws-chunked, utf-8\r\n\r\n");
    assert_eq!((h.encoding, h.chunked), (None, false));
    let h = head("HTTP/1.1 200\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
    assert_eq!((h.encoding.as_deref(), h.chunked), (Some("gzip"), true));
    let h = head("HTTP/1.1 200 OK\r\nContent-Encoding: BR\r\n\r\n");
    assert_eq!(h.encoding.as_deref(), Some("br"));
}

#[test]
fn content_ranges() {
    assert_eq!(content_range("bytes 0-99/1000"), Some((0, Some(1000))));
    assert_eq!(content_range("bytes 3-9/*"), Some((3, None)));
    for bad in ["bytes 9-3/10", "bytes 0-10/10", "items 0-1/2", "bytes */10", ""] {
        assert_eq!(content_range(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Head::parse(&noise);
        let _ = Head::parse(&[b"HTTP/1.1 200 OK\r\n".to_vec(), noise].concat());
    }
}

/// Runs a server that answers each connection with the next of `answers`; joining it returns the requests it saw.
fn server(answers: Vec<String>) -> (Address, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://user:pass@{}/first?q=1", listener.local_addr().unwrap());
    let handle = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                socket.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            seen.push(String::from_utf8(request).unwrap());
            socket.write_all(answer.as_bytes()).unwrap();
        }
        seen
    });
    (Address::parse(&address).unwrap(), handle)
}

fn client(guard: PullGuard) -> Client {
    Client::new(guard, &PullLimits { timeout: Duration::from_secs(5), bytes: Some(1000), ..PullLimits::default() })
}

#[test]
fn redirects_are_followed_without_the_login() {
    let (elsewhere, second) =
        server(vec!["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".into()]);
    let away =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{}/b\r\nConnection: close\r\n\r\n", elsewhere.authority());
    let near = "HTTP/1.1 301 Moved\r\nLocation: /a\r\nConnection: close\r\n\r\n".to_owned();
    let (address, first) = server(vec![near, away]);
    let (at, body) = client(PullGuard::default()).get_whole(&address, Some((2, Some(9))), 100).unwrap();
    assert_eq!((body.as_slice(), at.path_and_query().as_str()), (&b"abc"[..], "/b"));
    let (first, second) = (first.join().unwrap(), second.join().unwrap());
    assert!(first[0].starts_with("GET /first?q=1 HTTP/1.1\r\n") && first[0].contains("Range: bytes=2-9\r\n"));
    assert!(first.iter().all(|r| r.contains("Authorization: Basic dXNlcjpwYXNz\r\n")));
    assert!(!second[0].contains("Authorization"));
}

/// A guard that allows this machine by name, so that all is told about it.
fn allowing() -> PullGuard {
    let here = HostRule::Range(std::net::Ipv4Addr::LOCALHOST.into(), 8);
    PullGuard { allow: vec![here], ..PullGuard::default() }
}

fn fault_with(guard: PullGuard, answer: &str) -> Error {
    let (address, _server) = server(vec![answer.to_owned()]);
    client(guard).get_whole(&address, None, 100).unwrap_err()
}

fn fault(answer: &str) -> Error {
    fault_with(allowing(), answer)
}

/// Whoever writes URLs is not to find the open ports of a private network by what is said of them.
#[test]
fn ports_of_private_networks_read_the_same() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = Address::parse(&format!("http://{closed}/")).unwrap();
    let told = |error: Error| match error {
        Error::Inside { host, .. } => error_text(&host),
        other => panic!("{other:?}"),
    };
    let texts = [
        client(PullGuard::default()).get(&closed, None).map(drop).unwrap_err(),
        fault_with(PullGuard::default(), "SSH-2.0-OpenSSH\r\n\r\n"),
        fault_with(PullGuard::default(), ""),
        fault_with(PullGuard::default(), "HTTP/1.1 2"),
    ]
    .map(told);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    assert!(matches!(fault_with(PullGuard::default(), "HTTP/1.1 404 No\r\n\r\n"), Error::NotFound { .. }));
}

/// The text without the port, which is what was asked for.
fn error_text(host: &str) -> String {
    let error = Error::Inside { host: host.to_owned(), retry: true };
    error.to_string().replace(host, "HOST")
}

#[test]
fn each_fault_has_an_error_of_its_own() {
    assert!(fault("HTTP/1.1 404 No\r\n\r\n").to_string().starts_with("File not found"));
    assert!(matches!(fault("HTTP/1.1 403 No\r\n\r\n"), Error::Forbidden { status: 403, .. }));
    assert!(matches!(fault("HTTP/1.1 500 No\r\n\r\n"), Error::Status { status: 500, .. }));
    assert!(matches!(fault("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), Error::Truncated(_)));
    assert!(matches!(fault("HTTP/1.1 302 OK\r\n\r\n"), Error::Protocol { .. }));
    assert!(matches!(fault("HTTP/1.1 302 OK\r\nLocation: file:///etc/passwd\r\n\r\n"), Error::Scheme(_)));
    assert!(matches!(fault("HTTP/1.1 302 OK\r\nLocation: srt://h:1\r\n\r\n"), Error::Scheme(_)));
    assert!(matches!(fault("HTTP/1.1 302 OK\r\nLocation: http://169.254.169.254/\r\n\r\n"), Error::Denied { .. }));
    assert!(matches!(
        fault("HTTP/1.1 302 OK\r\nLocation: http://[::ffff:169.254.169.254]/\r\n\r\n"),
        Error::Denied { .. }
    ));
    assert!(matches!(fault("hello\r\n\r\n"), Error::Protocol { .. }));
    assert!(matches!(fault(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(200))), Error::TooLarge { .. }));
    assert!(matches!(fault("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nabc"), Error::Protocol { .. }));
    let again = "HTTP/1.1 302 OK\r\nLocation: /\r\nConnection: close\r\n\r\n".to_owned();
    let (address, _server) = server(vec![again; 11]);
    assert!(matches!(client(allowing()).get(&address, None), Err(Error::Redirects(_))));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = Address::parse(&format!("http://{closed}/")).unwrap();
    assert!(matches!(client(allowing()).get(&closed, None), Err(Error::Refused(_))));
    let nobody = Address::parse("http://no-such-name.invalid/").unwrap();
    assert!(matches!(
        client(PullGuard::default()).get(&nobody, None),
        Err(Error::Unresolved(_) | Error::LookupTimeout(..))
    ));
    let guard = PullGuard { refuse_private: true, ..PullGuard::default() };
    assert!(matches!(client(guard).get(&closed, None), Err(Error::Denied { .. })));
}

#[test]
fn fetched_bytes_are_counted_over_all_requests() {
    let body = "x".repeat(600);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 600\r\nConnection: close\r\n\r\n{body}");
    let (address, _server) = server(vec![answer.clone(), answer]);
    let client = client(PullGuard::default());
    assert_eq!(client.get_whole(&address, None, 1000).unwrap().1.len(), 600);
    assert!(matches!(client.get_whole(&address, None, 1000), Err(Error::TooMuch(1000))));
}

/// Runs a server that sends `at_once`, and then one byte of `dripped` each 20 ms until its client hangs up.
fn dripping(at_once: &'static str, dripped: &'static str) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let _ = socket.write_all(at_once.as_bytes());
            let mut bytes = dripped.bytes().cycle();
            while socket.write_all(&[bytes.next().unwrap()]).is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    address
}

#[test]
fn a_dripping_server_is_too_slow() {
    let timeout = Duration::from_millis(300);
    let client = Client::new(allowing(), &PullLimits { timeout, ..PullLimits::default() });
    let slow = |address: &Address| client.get_small(address, None, 1000).unwrap_err().to_string();
    let head = slow(&dripping("HTTP/1.1 200 OK\r\n", "X: y\r\n"));
    assert!(head.contains("is too slow: it did not finish the head of its answer within 300ms"), "{head}");
    let address = dripping("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", "x");
    let body = slow(&address);
    assert!(body.contains("is too slow: it did not send all of it within 600ms"), "{body}");
    // Reading may go on after a deadline.
    let mut response = client.get(&address, None).unwrap();
    response.set_deadline(Duration::from_millis(50)).unwrap();
    let mut got = 0;
    let fault = loop {
        match response.next_piece(100) {
            Ok(piece) => got += piece.unwrap().len(),
            Err(e) => break e,
        }
    };
    assert!(matches!(fault, Error::Slow { .. }) && fault.retry() && got > 0, "{fault}");
    response.clear_deadline().unwrap();
    assert_eq!(response.next_piece(1).unwrap().as_deref(), Some(&b"x"[..]));
}

#[test]
fn redirects_have_one_deadline() {
    let timeout = Duration::from_millis(100);
    let client = Client::new(PullGuard::default(), &PullLimits { timeout, ..PullLimits::default() });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            std::thread::sleep(Duration::from_millis(70));
            let _ = socket.write_all(b"HTTP/1.1 302 OK\r\nLocation: /\r\nConnection: close\r\n\r\n");
            let _ = socket.read(&mut [0; 1000]);
        }
    });
    let fault = client.get(&address, None).unwrap_err().to_string();
    assert!(fault.contains("did not lead to anything by its redirects within 300ms"), "{fault}");
}

#[test]
fn a_server_that_refuses_ranges_is_asked_without() {
    for status in ["416 R", "406 N", "403 F", "501 N", "400 B"] {
        let refused = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc".to_owned();
        let (address, seen) = server(vec![refused.clone(), whole]);
        let mut response = client(PullGuard::default()).get(&address, Some((0, None))).unwrap();
        assert_eq!(response.next_piece(10).unwrap().unwrap(), b"abc", "{status}");
        let requests = seen.join().unwrap();
        assert_eq!([requests[0].contains("Range:"), requests[1].contains("Range:")], [true, false]);
        // What it says without a range is what counts.
        let (address, _) = server(vec![refused.clone(), refused]);
        let error = client(PullGuard::default()).get(&address, Some((0, None))).unwrap_err();
        assert!(matches!(error, Error::Empty | Error::Forbidden { .. } | Error::Status { .. }), "{error}");
    }
}

#[test]
fn a_compressed_body_is_inflated() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"#EXTM3U").unwrap();
    let body = gzip.finish().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let serving = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
        socket.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    });
    let (_, text) = client(PullGuard::default()).get_small(&address, None, 100).unwrap();
    assert_eq!(text, b"#EXTM3U");
    serving.join().unwrap();
}

#[test]
fn cookies_go_along_with_redirects_and_later_requests() {
    let close = "Connection: close\r\nContent-Length: 0\r\n";
    let set = format!(
        "HTTP/1.1 302 F\r\nLocation: /first?q=1\r\nSet-Cookie: a=1; path=/\r\nSet-Cookie: b=2; Max-Age=0\r\n{close}\r\n"
    );
    let done = format!("HTTP/1.1 200 OK\r\n{close}\r\n");
    let (address, seen) = server(vec![set, done.clone(), done]);
    let client = client(PullGuard::default());
    client.get(&address, None).unwrap();
    client.get(&address.join("/other").unwrap(), None).unwrap();
    let seen = seen.join().unwrap();
    assert!(!seen[0].contains("Cookie:"));
    assert!(seen[1..].iter().all(|request| request.contains("\r\nCookie: a=1\r\n")), "{seen:?}");
}

#[test]
fn a_digest_login_is_answered() {
    let close = "Connection: close\r\nContent-Length: 0\r\n";
    let asks = |nonce: &str| {
        let digest = format!("Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\"");
        format!("HTTP/1.1 401 U\r\nWWW-Authenticate: {digest}\r\n{close}\r\n")
    };
    let done = format!("HTTP/1.1 200 OK\r\n{close}\r\n");
    let (address, seen) =
        server(vec![asks("n1"), done.clone(), done.clone(), asks("n2"), done, asks("n3"), asks("n3")]);
    let client = client(PullGuard::default());
    (0..3).for_each(|_| drop(client.get(&address, None).unwrap()));
    assert!(matches!(client.get(&address, None), Err(Error::Forbidden { status: 401, .. })));
    let seen = seen.join().unwrap();
    assert!(seen[0].contains("Authorization: Basic "));
    for (request, nonce, count) in [(1, "n1", 1), (2, "n1", 2), (3, "n1", 3), (4, "n2", 1), (5, "n2", 2), (6, "n3", 1)]
    {
        let request = &seen[request];
        assert!(request.contains(&format!("nonce=\"{nonce}\", uri=\"/first?q=1\"")), "{request}");
        assert!(request.contains(&format!("nc=0000000{count}")), "{request}");
    }
}

#[test]
fn a_connection_out_of_step_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        for (count, socket) in listener.incoming().enumerate() {
            let mut socket = socket.unwrap();
            assert!(socket.read(&mut [0; 1000]).unwrap() > 0);
            // The first sends more than it says at once, the second later.
            let more: &[u8] = if count == 0 { b"more" } else { b"" };
            socket.write_all(&[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", more].concat()).unwrap();
            if count == 1 && socket.read(&mut [0; 1000]).unwrap() > 0 {
                socket.write_all(b"more\r\n\r\n").unwrap();
            }
        }
    });
    let client = client(PullGuard::default());
    for _ in 0..3 {
        assert_eq!(client.get_whole(&address, None, 100).unwrap().1, b"ok");
    }
}
