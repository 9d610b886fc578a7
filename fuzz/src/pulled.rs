//! What servers send to who pulls from them: playlists and their later versions, heads of answers, chunks, splice points, RTSP.

use fetch::hls::window::Window;
use fetch::playlist::{Playlist, parse};
use fetch::rtsp::{Answer, Login, Rewriter, Token};
use fetch::{Address, Chunks, hls, reads_head};
use media::mpegts::filter::Filter;
use media::mpegts::pcr::PcrGate;
use media::vp6::crop;
use std::time::Duration;

/// A playlist. Promise: segments are numbered in order, and a master playlist gives a choice or words.
pub fn playlists(data: &[u8]) {
    match parse(data) {
        Ok(Playlist::Media(list)) => {
            assert!(list.segments.windows(2).all(|w| w[0].sequence <= w[1].sequence));
            assert!(list.segments.iter().all(|s| s.duration <= list.target));
        }
        Ok(Playlist::Master(master)) => {
            let base = Address::parse("http://host/list.m3u8").expect("it is an address");
            let _ = hls::choose(&master, &base, (1280, 720));
        }
        Err(_) => {}
    }
}

/// The versions of a live playlist as it is reloaded, with a zero byte between them. Promise: what is played rises by one or begins afresh,
/// on a timeline that never goes back.
pub fn playlist_reloads(data: &[u8]) {
    let mut playing: Option<Window> = None;
    let (mut last, mut at) = (None, Duration::ZERO);
    for version in data.split(|b| *b == 0) {
        let Ok(Playlist::Media(list)) = parse(&[b"#EXTM3U\n", version].concat()) else { continue };
        let window = match &mut playing {
            Some(window) => {
                window.take(list, version.len() % 2 == 0);
                window
            }
            none => none.insert(Window::new(list)),
        };
        window.catch_up();
        while let Some(next) = window.next_segment() {
            let number = next.segment.sequence;
            assert!(next.fresh || last.is_some_and(|last: u64| last.checked_add(1) == Some(number)));
            assert!(next.at >= at);
            (last, at) = (Some(number), next.at);
            if version.len() % 3 == 0 {
                window.lost();
            }
            let _ = window.listed(number);
        }
    }
}

/// The head of an answer, chunks, an MPEG-TS, FLV and an address; the first byte cuts the rest into pieces. Promise for MPEG-TS: nothing
/// is left out, and the pieces make no difference.
pub fn pulled_bytes(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let _ = reads_head(data);
    if let Ok(line) = std::str::from_utf8(data)
        && !line.contains(['\r', '\n'])
    {
        assert!(
            reads_head(format!("HTTP/1.1 200 OK\r\nSet-Cookie: {line}\r\n\r\n").as_bytes())
                || line.contains(char::is_control)
        );
    }
    crop(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(address) = Address::parse(text)
    {
        let shown = address.to_string();
        let authority = shown.split("://").nth(1).and_then(|rest| rest.split('/').next());
        assert!(authority.is_some_and(|a| !a.contains('@')));
    }
    mpegts(usize::from(cut).max(1), data);
    let mut chunks = Chunks::default();
    for piece in data.chunks(usize::from(cut).max(1)) {
        let mut rest = piece;
        while !rest.is_empty() && !chunks.ended() {
            let Ok((used, body)) = chunks.take(rest) else { return };
            assert!(used > 0 && body.end <= used);
            rest = &rest[used..];
        }
    }
}

fn mpegts(cut: usize, data: &[u8]) {
    let pass = |mut filter: Filter, cut: usize| {
        let (mut out, mut found) = (Vec::new(), Vec::new());
        for (bytes, splices) in data.chunks(cut).map(|piece| filter.push(piece.to_vec())).collect::<Vec<_>>() {
            out.extend(bytes);
            found.extend(splices);
        }
        let (bytes, splices) = filter.finish();
        out.extend(bytes);
        found.extend(splices);
        (out, found)
    };
    let (plain, gated) = (Filter::default, || Filter::default().with_pcr_gate(PcrGate::default()));
    let (out, found) = pass(plain(), cut);
    assert_eq!(out, data);
    assert_eq!(found, pass(plain(), data.len().max(1)).1);
    let (out, found) = pass(gated(), cut);
    assert!(out.len() == data.len() || out.len() == data.len() + 188);
    assert_eq!((out, found), pass(gated(), data.len().max(1)));
    let terminated = pass(gated().with_terminator(), cut);
    assert!(terminated.0.len() >= data.len());
    let mended = pass(plain().with_mender(), cut);
    assert!(mended.0.len() >= data.len() && (mended.0.len() - data.len()).is_multiple_of(188));
    assert_eq!(mended, pass(plain().with_mender(), data.len().max(1)));
    assert_eq!(terminated, pass(gated().with_terminator(), data.len().max(1)));
}

/// What an RTSP server says to a client that asked something; the first byte cuts the rest into pieces. Promise: the pieces make no
/// difference to whether all can be read, and if so none to what is passed on; that names no server but the one that was connected to,
/// and the login is told a bounded number of times.
pub fn rtsp_answers(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let talk = || {
        let names = ("rtsp://127.0.0.1:1".to_owned(), "rtsp://camera".to_owned());
        Rewriter::new(std::net::IpAddr::from([192, 0, 2, 7]), names, Login::new("user".into(), "word".into(), 0))
    };
    let pass = |size: usize| {
        let (mut talk, mut all) = (talk(), Answer::default());
        talk.from_client(b"DESCRIBE rtsp://127.0.0.1:1/x RTSP/1.0\r\nCSeq: 1\r\n\r\n").expect("it is a request");
        for piece in data.chunks(size.max(1)) {
            let Ok(answer) = talk.from_server(piece) else { return (all, false) };
            all.client.extend(answer.client);
            all.server.extend(answer.server);
            if answer.redirect.is_some() {
                return (Answer { redirect: answer.redirect, ..all }, true);
            }
        }
        (all, true)
    };
    let (all, fine) = pass(usize::from(cut));
    let (whole, as_fine) = pass(data.len());
    assert_eq!(fine, as_fine);
    assert!(!fine || all == whole, "{all:?} {whole:?}");
    assert!(String::from_utf8_lossy(&all.server).matches("\r\nAuthorization: ").count() <= 2);
    // What was passed on is passed on again as it is.
    if fine && all.redirect.is_none() {
        assert!(
            talk()
                .from_server(&all.client)
                .is_ok_and(|again| again == Answer { client: all.client.clone(), ..Answer::default() })
        );
    }
}

/// What a program on this machine says to the relay of an RTSP session; the first byte cuts it into pieces. Promise: nobody is taken for
/// the session's own client, what is decided early stays so, and nothing that a client says makes the relay tell its token to the server.
pub fn rtsp_requests(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else { return };
    let token = Token::new(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let whole = token.is_shown(data);
    assert_ne!(whole, Some(true));
    let early = token.is_shown(&data[..usize::from(cut).min(data.len())]);
    assert!(early.is_none() || early == whole);
    let names = ("rtsp://127.0.0.1:1".to_owned(), "rtsp://camera".to_owned());
    let mut relay = Rewriter::new(std::net::IpAddr::from([192, 0, 2, 7]), names, None).with_token(token.clone());
    let own =
        format!("OPTIONS rtsp://127.0.0.1:1/x RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: {}\r\n\r\n", token.shown_by("own"));
    assert_eq!(token.is_shown(own.as_bytes()), Some(true));
    let mut sent = relay.from_client(own.as_bytes()).expect("it is a request");
    for piece in data.chunks(usize::from(cut).max(1)) {
        let Ok(more) = relay.from_client(piece) else { break };
        sent.extend(more);
    }
    let word = token.shown_by("");
    assert!(!String::from_utf8_lossy(&sent).contains(word.trim()));
}
