//! A file of 26 bytes from servers that understand ranges in their own ways, and break off.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use model::{PullGuard, PullLimits};
use std::io::{Read, Write};
use std::net::TcpListener;

const ALL: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

/// How a server answers: given the number of the request and the range, the whole answer.
type Answer = fn(usize, Option<(usize, usize)>) -> Vec<u8>;

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes(), body].concat()
}

/// Reads a part from such a server to its end, over errors that may pass; how many requests that took.
fn read(range: Option<(u64, u64)>, answers: Answer) -> (Result<String, Error>, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let server = std::thread::spawn(move || {
        for count in 0.. {
            let (mut socket, _) = listener.accept().unwrap();
            let mut asked = [0; 4096];
            let n = socket.read(&mut asked).unwrap();
            let text = String::from_utf8_lossy(&asked[..n]).into_owned();
            if text.is_empty() {
                return count;
            }
            let range = text.split("bytes=").nth(1).map(|r| r.split("\r\n").next().unwrap().split_once('-').unwrap());
            let range = range.map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap_or(ALL.len() - 1).min(ALL.len() - 1)));
            let _ = socket.write_all(&answers(count, range));
        }
        0
    });
    let client = Client::new(PullGuard::default(), &PullLimits::default());
    let mut part = Part::new(address.clone(), range);
    let mut tries = 0;
    let end = loop {
        match part.all(&client, 1000) {
            Err(e) if e.may_pass() && tries < 3 => tries += 1,
            end => break end.map(|all| String::from_utf8(all).unwrap()),
        }
    };
    // Releases a server that still waits for a request.
    let last = std::net::TcpStream::connect(address.authority()).unwrap();
    let _ = last.shutdown(std::net::Shutdown::Write);
    (end, server.join().unwrap())
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn ranged(range: Option<(usize, usize)>, broken: bool) -> Vec<u8> {
    let Some((from, until)) = range else { return plain(broken) };
    let body = &ALL[from..=until];
    let head = format!("206 P\r\nContent-Range: bytes {from}-{until}/26\r\nContent-Length: {}", body.len());
    answer(&head, if broken { &body[..body.len() / 2] } else { body })
}

fn plain(broken: bool) -> Vec<u8> {
    answer("200 OK\r\nContent-Length: 26", if broken { &ALL[..13] } else { ALL })
}

#[test]
fn a_part_comes_from_any_server() {
    let servers: [(&str, Answer); 8] = [
        ("with ranges", |_, range| ranged(range, false)),
        ("with ranges, breaks off", |n, range| ranged(range, n == 0)),
        ("without ranges", |_, _| plain(false)),
        ("without ranges, breaks off", |n, _| plain(n == 0)),
        ("with ranges of which it says nothing", |n, range| {
            let (from, until) = range.unwrap_or((0, 25));
            let body = &ALL[from..=until];
            let head = format!("206 P\r\nContent-Length: {}", body.len());
            answer(&head, if n == 0 { &body[..body.len() / 2] } else { body })
        }),
        ("with ranges that begin before", |_, range| {
            let (from, until) = range.map_or((0, 25), |(from, until)| (from.saturating_sub(2), until));
            ranged(Some((from, until)), false)
        }),
        ("compressed, breaks off", |n, _| {
            let body = gzip(ALL);
            let head = format!("200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}", body.len());
            answer(&head, if n == 0 { &body[..body.len() / 2] } else { &body })
        }),
        (
            "refuses ranges",
            |_, range| if range.is_some() { answer("501 N\r\nContent-Length: 0", b"") } else { plain(false) },
        ),
    ];
    for (name, server) in servers {
        for (range, expected) in [
            (None, "abcdefghijklmnopqrstuvwxyz"),
            (Some((0, 26)), "abcdefghijklmnopqrstuvwxyz"),
            (Some((5, 9)), "fghijklmn"),
        ] {
            let (got, _) = read(range, server);
            assert_eq!(got.unwrap(), expected, "{name} {range:?}");
        }
    }
}

#[test]
fn another_part_is_an_error() {
    let (got, asked) = read(Some((5, 9)), |_, _| ranged(Some((7, 13)), false));
    assert!(matches!(got, Err(Error::Protocol { .. })), "{got:?}");
    assert_eq!(asked, 4);
}

#[test]
fn an_end_that_comes_early_is_noticed() {
    // Three bytes at a time.
    let (got, asked) = read(Some((5, 9)), |_, range| {
        let (from, until) = range.unwrap();
        ranged(Some((from, until.min(from + 2))), false)
    });
    assert_eq!((got.unwrap().as_str(), asked), ("fghijklmn", 3));
    // The playlist says more than there is.
    let (got, asked) = read(Some((20, 100)), |_, range| ranged(range, false));
    assert_eq!((got.unwrap().as_str(), asked), ("uvwxyz", 1));
    let (got, _) = read(Some((20, 100)), |_, _| plain(false));
    assert_eq!(got.unwrap(), "uvwxyz");
    // It broke at its very end.
    let (got, _) = read(None, |n, range| match (n, range) {
        (0, _) => answer("200 OK\r\nTransfer-Encoding: chunked", &[b"1a\r\n", ALL, b"\r\n"].concat()),
        _ => answer("416 R\r\nContent-Length: 0", b""),
    });
    assert_eq!(got.unwrap().len(), 26);
}
