//! What is relayed, what is not, and what is sent again with the login.

use super::*;
use proptest::prelude::*;

fn rewriter() -> Rewriter {
    with(None)
}

fn with(login: Option<Login>) -> Rewriter {
    let names = ("rtsp://127.0.0.1:4000".to_owned(), "rtsp://camera.example:8554".to_owned());
    Rewriter::new("192.0.2.7".parse().unwrap(), names, login)
}

/// Passes a server's bytes in pieces of `cut` bytes.
fn pass(bytes: &[u8], cut: usize) -> (Answer, Result<(), &'static str>) {
    let (mut rewriter, mut all) = (rewriter(), Answer::default());
    for piece in bytes.chunks(cut) {
        match rewriter.from_server(piece) {
            Ok(answer) => {
                all.client.extend(answer.client);
                all.redirect = answer.redirect;
                if all.redirect.is_some() {
                    return (all, Ok(()));
                }
            }
            Err(fault) => return (all, Err(fault)),
        }
    }
    (all, Ok(()))
}

fn passed(bytes: &[u8]) -> (Answer, Result<(), &'static str>) {
    (Answer { client: bytes.to_vec(), ..Answer::default() }, Ok(()))
}

#[test]
fn a_redirect_is_not_relayed() {
    let ok = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\nv=0\r\n".to_vec();
    let moved = b"RTSP/1.0 302 Moved\r\nCSeq: 2\r\nlocation: rtsp://10.0.0.1/x\r\n\r\n";
    for cut in 1..40 {
        let (answer, end) = pass(&[&ok[..], moved, b"more"].concat(), cut);
        assert_eq!((answer.client, answer.redirect, end), (ok.clone(), Some("rtsp://10.0.0.1/x".into()), Ok(())));
    }
    // Bytes in a body or a packet that look like a redirect.
    let body =
        b"RTSP/1.0 200 OK\r\nContent-Length: 63\r\n\r\nRTSP/1.0 302 Moved\r\nlocation: rtsp://10.0.0.1/x\r\n\r\n0123456789ab";
    let packet = [&b"$\0\0\x33"[..], b"RTSP/1.0 302 Moved\r\nlocation: rtsp://10.0.0.1/x\r\n\r\n"].concat();
    for bytes in [&body[..], &packet] {
        assert_eq!(pass(bytes, 7), passed(bytes));
    }
}

#[test]
fn packets_come_from_the_server_itself() {
    let said = "RTSP/1.0 200 OK\r\nTransport: RTP/AVP;unicast;source=10.0.0.5;client_port=5000-5001;server_port=53-54\r\nSession: 1\r\n\r\n";
    let out = "RTSP/1.0 200 OK\r\nTransport: RTP/AVP;unicast;client_port=5000-5001;server_port=53-54;source=192.0.2.7\r\nSession: 1\r\n\r\n";
    assert_eq!(pass(said.as_bytes(), 11), passed(out.as_bytes()));
}

#[test]
fn an_endless_head_is_an_error() {
    let head = [&b"RTSP/1.0 200 OK\r\nA: "[..], &vec![b'x'; frames::MAX_HEAD]].concat();
    assert!(pass(&head, 1000).1.is_err());
    assert!(pass(b"RTSP/1.0 200 OK\nContent-Length: many\n\n", 1000).1.is_err());
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn requests_get_the_servers_name() {
    for (uri, sent) in [
        ("rtsp://127.0.0.1:4000/live?x=1", "rtsp://camera.example:8554/live?x=1"),
        ("rtsp://127.0.0.1:4000", "rtsp://camera.example:8554"),
        // The server's own name for a track, and the URL of another relay.
        ("rtsp://camera.example:8554/live/track1", "rtsp://camera.example:8554/live/track1"),
        ("rtsp://127.0.0.1:40001/live", "rtsp://127.0.0.1:40001/live"),
        ("*", "*"),
    ] {
        let asked = format!("DESCRIBE {uri} RTSP/1.0\r\nCSeq: 3\r\nAccept: application/sdp\r\n\r\n");
        let wanted = format!("DESCRIBE {sent} RTSP/1.0\r\nCSeq: 3\r\nAccept: application/sdp\r\n\r\n");
        assert_eq!(text(rewriter().from_client(asked.as_bytes()).unwrap()), wanted);
    }
    // Packets, bodies and answers pass unchanged.
    let more = b"$\x01\0\x03abcRTSP/1.0 200 OK\r\nCSeq: 7\r\n\r\nSET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 4\r\n\r\na: 1";
    let mut rewriter = rewriter();
    let sent: Vec<u8> = more.chunks(5).flat_map(|piece| rewriter.from_client(piece).unwrap()).collect();
    assert_eq!(sent, more);
}

fn asked(number: u32) -> Vec<u8> {
    format!("DESCRIBE rtsp://127.0.0.1:4000/live RTSP/1.0\r\nCSeq: {number}\r\nA: b\r\n\r\n").into_bytes()
}

fn unauthorized(number: u32, more: &str) -> Vec<u8> {
    let challenge = format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"n{number}\"{more}");
    format!("RTSP/1.0 401 Unauthorized\r\nCSeq: {number}\r\n{challenge}\r\nContent-Length: 2\r\n\r\nno").into_bytes()
}

fn logged_in() -> Rewriter {
    with(Login::new("user".into(), "word".into(), 1))
}

/// The value of a header; empty if there is none.
fn line(sent: &str, name: &str) -> String {
    value(sent.as_bytes(), name).unwrap_or_default()
}

#[test]
fn a_login_is_sent_when_asked_for() {
    let mut rewriter = logged_in();
    assert!(!text(rewriter.from_client(&asked(5)).unwrap()).contains("Authorization"));
    let answer = rewriter.from_server(&[&unauthorized(5, "")[..], b"$\0\0\x01x"].concat()).unwrap();
    assert_eq!(answer.client, b"$\0\0\x01x");
    let sent = text(answer.server);
    assert!(
        sent.starts_with("DESCRIBE rtsp://camera.example:8554/live RTSP/1.0\r\nCSeq: 6\r\nAuthorization: Digest "),
        "{sent}"
    );
    assert!(sent.contains("uri=\"rtsp://camera.example:8554/live\"") && sent.ends_with("\r\nA: b\r\n\r\n"), "{sent}");
    assert!(!sent.contains("word"));
    // The client gets the CSeq it knows. Its next request has the login, and the server's next CSeq, at once.
    let answer = rewriter.from_server(b"RTSP/1.0 200 OK\r\nCSeq: 6\r\nX: y\r\n\r\n").unwrap();
    assert_eq!(text(answer.client), "RTSP/1.0 200 OK\r\nCSeq: 5\r\nX: y\r\n\r\n");
    let next = text(rewriter.from_client(&asked(6)).unwrap());
    assert_eq!(line(&next, "cseq"), "7");
    assert!(line(&next, "authorization").contains("nonce=\"n5\""), "{next}");
    // A stale nonce.
    let answer = rewriter.from_server(&unauthorized(7, ", stale=true")).unwrap();
    assert_eq!(line(&text(answer.server), "cseq"), "8");
    assert!(answer.client.is_empty());
}

#[test]
fn a_wrong_login_is_not_sent_for_ever() {
    let mut rewriter = logged_in();
    rewriter.from_client(&asked(1)).unwrap();
    assert!(rewriter.from_server(&unauthorized(1, "")).unwrap().client.is_empty());
    let answer = rewriter.from_server(&unauthorized(2, "")).unwrap();
    assert!(answer.server.is_empty());
    assert!(
        answer.client.starts_with(b"RTSP/1.0 401 Unauthorized\r\nCSeq: 1\r\n")
            && answer.client.ends_with(b"\r\n\r\nno")
    );
    rewriter.from_client(&asked(2)).unwrap();
    let mut again = 0;
    for number in 3..20 {
        again += u32::from(!rewriter.from_server(&unauthorized(number, ", stale=true")).unwrap().server.is_empty());
    }
    assert_eq!(again, 2);
}

#[test]
fn without_a_login_the_client_sees_401() {
    let mut without = rewriter();
    without.from_client(&asked(1)).unwrap();
    assert_eq!(without.from_server(&unauthorized(1, "")).unwrap().client, unauthorized(1, ""));
    // No login is sent for an answer without a request, nor for a request whose body is gone.
    let mut with = logged_in();
    assert!(with.from_server(&unauthorized(1, "")).unwrap().server.is_empty());
    with.from_client(b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 4\r\n\r\na: 1").unwrap();
    assert!(with.from_server(&unauthorized(1, "")).unwrap().server.is_empty());
}

proptest! {
    #[test]
    fn cutting_changes_nothing(noise in proptest::collection::vec(any::<u8>(), 0..400), cut in 1usize..50) {
        prop_assert_eq!(pass(&noise, cut), pass(&noise, noise.len().max(1)));
    }

    #[test]
    fn packets_pass_unchanged(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8), cut in 1usize..50) {
        let frame = |p: &Vec<u8>| [&[b'$', 1][..], &(p.len() as u16).to_be_bytes(), p].concat();
        let bytes: Vec<u8> = packets.iter().flat_map(frame).collect();
        prop_assert_eq!(pass(&bytes, cut), passed(&bytes));
    }

    #[test]
    fn open_requests_are_bounded(numbers in proptest::collection::vec(any::<u32>(), 0..60)) {
        let mut rewriter = logged_in();
        for number in numbers {
            rewriter.from_client(&asked(number)).unwrap();
            rewriter.from_server(&unauthorized(number, "")).unwrap();
            prop_assert!(rewriter.open.len() <= MAX_OPEN + 1);
        }
    }
}

#[test]
fn descriptions_are_completed() {
    let sdp = "v=0\r\nm=audio 0 RTP/AVP 8\r\na=control:a\r\n";
    let whole = format!("{sdp}a=rtpmap:8 PCMA/8000\r\n");
    let answer = |sdp: &str| {
        let length = sdp.len();
        format!("RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{sdp}")
    };
    let after = "RTSP/1.0 200 OK\r\nCSeq: 3\r\n\r\n$\0\0\x02ab";
    for cut in 1..200 {
        let bytes = answer(sdp) + after;
        assert_eq!(pass(bytes.as_bytes(), cut), passed((answer(&whole) + after).as_bytes()), "{cut}");
    }
}

#[test]
fn bytes_that_belong_to_nothing_are_left_out() {
    let (ok, packet) = (&b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"[..], &b"$\0\0\x02ab"[..]);
    for garbage in [
        &b"\0\x01\xff"[..],
        b"GARBAGE \x02 rest of it",
        b"abc\nABC\ndef",
        b"$\xffxx",
        b"NOT RTSP\r\n\r\n",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH\n",
    ] {
        for cut in 1..60 {
            let (answer, end) = pass(&[packet, garbage, packet, garbage, ok, packet].concat(), cut);
            let seen = answer.client.into_iter().filter(|b| !b"\r\n".contains(b)).collect::<Vec<_>>();
            let wanted =
                [packet, packet, ok, packet].concat().into_iter().filter(|b| !b"\r\n".contains(b)).collect::<Vec<_>>();
            assert_eq!((seen, end), (wanted, Ok(())), "{}", String::from_utf8_lossy(garbage));
        }
    }
}

#[test]
fn answers_that_miscount_are_for_the_oldest_request() {
    for counted in ["", "CSeq: 9\r\n", "CSeq: x\r\n"] {
        let mut rewriter = logged_in();
        rewriter.from_client(&asked(1)).unwrap();
        let refused = format!("RTSP/1.0 401 Unauthorized\r\n{counted}WWW-Authenticate: Basic realm=\"a\"\r\n\r\n");
        let again = text(rewriter.from_server(refused.as_bytes()).unwrap().server);
        assert!(again.contains("Authorization: Basic"), "{counted:?} {again}");
        let answer = text(rewriter.from_server(format!("RTSP/1.0 200 OK\r\n{counted}\r\n").as_bytes()).unwrap().client);
        assert_eq!(answer, "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n");
    }
}

#[test]
fn a_base_that_is_no_url_is_left_out() {
    let answer = |base: &str| format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Base: {base}\r\n\r\n");
    for bad in ["", "192.168.1.10:554/x/", "rtsp://rtsp://camera/x/", "http://camera/x"] {
        assert_eq!(pass(answer(bad).as_bytes(), 9), passed(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"), "{bad}");
    }
    let good = answer("rtsp://10.0.0.1:554/x/");
    assert_eq!(pass(good.as_bytes(), 9), passed(good.as_bytes()));
}

#[test]
fn a_session_is_kept_alive() {
    let mut rewriter = logged_in();
    assert!(rewriter.keep_alive().is_empty());
    let request = |method: &str, number| format!("{method} rtsp://127.0.0.1:4000/x RTSP/1.0\r\nCSeq: {number}\r\n\r\n");
    let answer = |number, more: &str| format!("RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}\r\n");
    for (n, method, more) in
        [(1, "OPTIONS", "Public: GET_PARAMETER\r\n"), (2, "SETUP", "Session: 7;timeout=8\r\n"), (3, "PLAY", "")]
    {
        rewriter.from_client(request(method, n).as_bytes()).unwrap();
        rewriter.from_server(answer(n, more).as_bytes()).unwrap();
    }
    assert_eq!(rewriter.keep_alive_every(), Some(Duration::from_secs(4)));
    let kept = text(rewriter.keep_alive());
    assert!(kept.starts_with("GET_PARAMETER rtsp://camera.example:8554/x RTSP/1.0\r\nCSeq: 4\r\n"), "{kept}");
    assert!(kept.contains("Session: 7\r\n"));
    // The client sees neither its answer, nor that something was counted in between.
    let answered = rewriter.from_server(answer(4, "Content-Length: 2\r\n").as_bytes()).unwrap();
    let body = rewriter.from_server(b"ok").unwrap();
    assert!(answered.client.is_empty() && body.client.is_empty());
    assert_eq!(line(&text(rewriter.from_client(request("TEARDOWN", 4).as_bytes()).unwrap()), "CSeq"), "5");
    assert_eq!(text(rewriter.from_server(answer(5, "").as_bytes()).unwrap().client), answer(4, ""));
    assert!(rewriter.keep_alive().is_empty());
}
