//! Streams from servers that fail now and then.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use model::{PullGuard, PullLimits};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;

/// What a server answers to a path, asked for the so manieth time (from 0).
type Answer = Box<dyn Fn(&str, usize) -> Vec<u8> + Send + Sync>;

fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn status(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

/// What an answer ends with that goes on with a byte now and then.
const DRIPPING: &[u8] = b"...";

fn drip(mut socket: std::net::TcpStream, begin: Vec<u8>) {
    std::thread::spawn(move || {
        let _ = socket.write_all(&begin);
        while socket.write_all(b".").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Serves such answers; gives the address of its root, and the paths that were asked for.
fn serve(answer: Answer) -> (Address, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let root = Address::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = asked.clone();
    std::thread::spawn(move || {
        let mut counts: HashMap<String, usize> = HashMap::new();
        while let Ok((mut socket, _)) = listener.accept() {
            let mut request = [0; 4096];
            let n = socket.read(&mut request).unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..n]).into_owned();
            let Some(path) = text.split(' ').nth(1).map(str::to_owned) else { continue };
            seen.lock().unwrap().push(path.clone());
            let count = counts.entry(path.clone()).or_default();
            let answer = answer(&path, *count);
            *count += 1;
            match answer.strip_suffix(DRIPPING) {
                Some(begin) => drip(socket, begin.to_vec()),
                None => drop(socket.write_all(&answer)),
            }
        }
    });
    (root, asked)
}

fn client() -> Client {
    Client::new(PullGuard::default(), &PullLimits { timeout: Duration::from_secs(2), ..PullLimits::default() })
}

/// Opens the variants `names` of one presentation.
fn opened(root: &Address, names: &[&str]) -> Stream {
    let choices: Vec<Choice> =
        names.iter().map(|name| Choice { main: root.join(name).unwrap(), audio: None }).collect();
    open(&client(), &choices, &Variables::default(), Duration::from_secs(5)).unwrap().main
}

/// Plays to the end: segments as they came ("|" where one begins, "!" where it begins afresh, "-" where one is left out).
fn play(mut stream: Stream) -> (String, Option<Error>) {
    let mut all = String::new();
    loop {
        match stream.next_piece() {
            Ok(Some(Piece::Segment { fresh, .. })) => all.push(if fresh { '!' } else { '|' }),
            Ok(Some(Piece::Bytes(bytes))) => all += &String::from_utf8_lossy(&bytes),
            Ok(Some(Piece::LeftOut(_))) => all.push('-'),
            Ok(None) => return (all, None),
            Err(e) => return (all, Some(e)),
        }
    }
}

fn vod(names: std::ops::Range<usize>) -> String {
    let segments: String = names.map(|n| format!("#EXTINF:1,\n{n}.ts\n")).collect();
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n{segments}#EXT-X-ENDLIST\n")
}

fn name(path: &str) -> Vec<u8> {
    path.rsplit('/').next().unwrap().split('.').next().unwrap().as_bytes().to_vec()
}

#[test]
fn a_missing_segment_is_left_out() {
    let (root, _) = serve(Box::new(|path, _| match path {
        "/l.m3u8" => ok(vod(0..5)),
        "/1.ts" => status(404),
        "/3.ts" => b"HTTP/1.1 302 F\r\nLocation: file:///x\r\nConnection: close\r\n\r\n".to_vec(),
        path => ok(name(path)),
    }));
    let (all, fault) = play(opened(&root, &["l.m3u8"]));
    assert_eq!((all.as_str(), fault.is_none()), ("!0|-!2|-!4", true));
}

#[test]
fn three_missing_segments_in_a_row_are_an_error() {
    let (root, asked) = serve(Box::new(|path, _| match path {
        "/l.m3u8" => ok(vod(0..9).replace("#EXTINF", "#EXT-X-MAP:URI=\"map\"\n#EXTINF")),
        "/0.ts" | "/map" => ok(name(path)),
        _ => status(404),
    }));
    let (all, fault) = play(opened(&root, &["l.m3u8"]));
    assert_eq!(all, "!map0|-!-!");
    assert!(matches!(fault, Some(Error::NotFound { .. })), "{fault:?}");
    assert!(!asked.lock().unwrap().contains(&"/4.ts".to_owned()));
    let (root, _) = serve(Box::new(|path, _| if path == "/l.m3u8" { ok(vod(0..2)) } else { status(404) }));
    assert!(matches!(play(opened(&root, &["l.m3u8"])).1, Some(Error::NotFound { .. })), "nothing came at all");
}

#[test]
fn faults_that_pass_cost_nothing() {
    let (root, _) = serve(Box::new(|path, count| match (path, count) {
        ("/l.m3u8", _) => ok(vod(0..6)),
        ("/1.ts", 0..2) => status(503),
        ("/2.ts", 0) => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        ("/3.ts", 0) => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_vec(),
        ("/4.ts", 0) => ok("<!DOCTYPE html><p>Bad gateway"),
        (path, _) => ok(name(path)),
    }));
    let (all, fault) = play(opened(&root, &["l.m3u8"]));
    assert_eq!((all.as_str(), fault.is_none()), ("!0|1|2|3|4|5", true));
}

#[test]
fn a_compressed_segment_that_breaks_is_read_on() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::none());
    packed.write_all(&b"0123456789".repeat(10_000)).unwrap();
    let packed = packed.finish().unwrap();
    let (root, _) = serve(Box::new(move |path, count| match (path, count) {
        ("/l.m3u8", _) => ok(vod(0..1)),
        (_, count) => {
            let body = if count == 0 { &packed[..packed.len() / 2] } else { &packed };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len());
            [head.as_bytes(), body].concat()
        }
    }));
    let (all, fault) = play(opened(&root, &["l.m3u8"]));
    assert!(fault.is_none() && all == format!("!{}", "0123456789".repeat(10_000)), "{fault:?} {}", all.len());
}

#[test]
fn an_encrypted_segment_that_breaks_is_fetched_again() {
    // openssl enc -aes-128-cbc -K 000102…0f -iv 0 of "hello"
    const HELLO: [u8; 16] =
        [0x5d, 0x87, 0x49, 0xe2, 0xaf, 0x75, 0x31, 0xb2, 0xbf, 0x66, 0x61, 0xe9, 0xe5, 0xda, 0xf0, 0x12];
    let (root, _) = serve(Box::new(|path, count| match (path, count) {
        ("/l.m3u8", _) => ok(vod(0..2).replace("#EXTINF", "#EXT-X-KEY:METHOD=AES-128,URI=\"key\",IV=0x00\n#EXTINF")),
        ("/key", _) => ok((0..16).collect::<Vec<u8>>()),
        ("/0.ts", 0) => b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nabc".to_vec(),
        _ => ok(HELLO),
    }));
    let (all, fault) = play(opened(&root, &["l.m3u8"]));
    assert_eq!((all.as_str(), fault.is_none()), ("!hello|hello", true));
}

#[test]
fn another_playlist_stands_in_and_nothing_is_lost() {
    let (root, asked) = serve(Box::new(|path, _| match path {
        "/a/l.m3u8" | "/b/l.m3u8" => ok(vod(0..6)),
        "/a/2.ts" => status(404),
        path if path.starts_with("/a/") || path.starts_with("/b/") => ok(name(path)),
        _ => status(404),
    }));
    let (all, fault) = play(opened(&root, &["gone.m3u8", "a/l.m3u8", "b/l.m3u8"]));
    assert_eq!((all.as_str(), fault.is_none()), ("!0|1|!2|3|4|5", true));
    assert!(asked.lock().unwrap().contains(&"/b/5.ts".to_owned()));
}

#[test]
fn audio_that_is_gone_leaves_the_pictures() {
    let (root, _) = serve(Box::new(|path, _| if path == "/l.m3u8" { ok(vod(0..2)) } else { status(404) }));
    let choice = Choice { main: root.join("l.m3u8").unwrap(), audio: Some(root.join("a.m3u8").unwrap()) };
    let opened = open(&client(), &[choice], &Variables::default(), Duration::ZERO).unwrap();
    assert!(opened.audio.is_none() && matches!(opened.without_audio, Some(Error::NotFound { .. })));
}

/// A live playlist that grows by one segment with each answer, and ends with segment 12.
fn live(count: usize, query: &str) -> String {
    let (first, last) = (count.min(7), count.min(7) + 5);
    let segments: String = (first..=last).map(|n| format!("#EXTINF:0.2,\n{n}.ts{query}\n")).collect();
    let end = if last == 12 { "#EXT-X-ENDLIST\n" } else { "" };
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:0\n#EXT-X-MEDIA-SEQUENCE:{first}\n{segments}{end}")
}

#[test]
fn a_live_stream_goes_on_after_faults_of_any_kind() {
    let (root, _) = serve(Box::new(|path, count| match (path, count) {
        ("/l.m3u8", 3) => status(500),
        ("/l.m3u8", _) => ok(live(count, &format!("?t={count}"))),
        // A token that is good no more; the next playlist has another.
        (path, _) if path.starts_with("/6.ts") && path[8..].parse::<usize>().unwrap() < 4 => status(403),
        (path, 0) if path.starts_with("/8.ts") => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec()
        }
        (path, _) if path.starts_with("/10.ts") => {
            b"HTTP/1.1 302 F\r\nLocation: file:///x\r\nConnection: close\r\n\r\n".to_vec()
        }
        (path, _) => ok(name(path)),
    }));
    let (all, fault) = play(opened(&root, &["l.m3u8"]));
    assert!(fault.is_none(), "{all} {fault:?}");
    assert_eq!(all, "!4|5|6|7|8|9|-!11|12");
}

#[test]
fn a_live_segment_that_drips_is_left_out() {
    let (root, _) = serve(Box::new(|path, count| match path {
        "/l.m3u8" => ok(live(count, "")),
        "/6.ts" => [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", DRIPPING].concat(),
        path => ok(name(path)),
    }));
    let limits = PullLimits { timeout: Duration::from_millis(100), ..PullLimits::default() };
    let client = Client::new(PullGuard::default(), &limits);
    let choice = Choice { main: root.join("l.m3u8").unwrap(), audio: None };
    let stream = open(&client, &[choice], &Variables::default(), Duration::from_secs(5)).unwrap().main;
    let (all, fault) = play(stream);
    assert!(fault.is_none() && all.starts_with("!4|5|.") && all.ends_with("12"), "{all} {fault:?}");
}

#[test]
fn a_live_playlist_that_is_gone_is_had_from_elsewhere() {
    let (root, asked) = serve(Box::new(|path, count| match path {
        "/a/l.m3u8" if count < 2 => ok(live(count, "")),
        "/a/l.m3u8" => status(404),
        "/b/l.m3u8" => ok(live(count + 2, "")),
        path => ok(name(path)),
    }));
    let (all, fault) = play(opened(&root, &["a/l.m3u8", "b/l.m3u8"]));
    assert!(fault.is_none(), "{all} {fault:?}");
    assert_eq!(all, "!4|5|6!7|8|9|10|11|12");
    assert!(asked.lock().unwrap().contains(&"/b/7.ts".to_owned()));
}
