//! Sessions over real sockets, with our own sender as the client: demultiplexing, trickle, restart, close.

use super::*;
use crate::{AudioLine, Config, Event, Frame, LayerLine, Lines, Peer, Received, UdpPorts, VideoLine};
use model::{EncodedVideo, Kind, Media, MediaTime, Packet, PassthroughMedia, Quality};
use std::net::Ipv4Addr;
use std::time::Duration;

/// As long as a busy machine may need.
const WITHIN: Duration = Duration::from_secs(20);
/// SPS (of 64 × 48), PPS, and an IDR slice that says nothing.
const KEY: &[u8] = &[
    0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x04, 0x7b, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03,
    0x03, 0x20, 0xf1, 0x22, 0x64, 0x80, 0, 0, 0, 1, 0x68, 0xce, 0x38, 0x80, 0, 0, 0, 1, 0x65, 0x88, 0x84, 0x21,
];

fn config() -> EndpointConfig {
    EndpointConfig {
        udp: UdpPorts::Shared { first: 0, last: 0 },
        bind_address: Ipv4Addr::LOCALHOST.into(),
        loopback: true,
        ..Default::default()
    }
}

fn lines(rids: &[&'static str]) -> Lines {
    Lines {
        video: Some(VideoLine {
            track_id: "v".into(),
            layers: rids.iter().map(|&rid| LayerLine { rid, format: EncodedVideo::H264.into() }).collect(),
        }),
        audio: Some(AudioLine { track_id: "a".into() }),
    }
}

fn client() -> Peer {
    let config = Config { video: vec![EncodedVideo::H264.into()], stereo: true, dtx: false };
    Peer::new(&config, &["127.0.0.1:9".parse().unwrap()], true).unwrap()
}

async fn next(incoming: &mut Incoming) -> Received {
    tokio::time::timeout(WITHIN, incoming.next()).await.expect("an event in time").expect("it is not over")
}

/// Connects a client, and drives both until `enough` says so of what came; the client sends all its layers meanwhile.
async fn until(peer: &mut Peer, incoming: &mut Incoming, layers: usize, mut enough: impl FnMut(&Received) -> bool) {
    let origin = Instant::now();
    let mut n = 0;
    loop {
        assert!(origin.elapsed() < WITHIN);
        tokio::select! {
            event = peer.next() => drop(event.unwrap()),
            received = incoming.next() => if enough(&received.expect("it is not over")) { return },
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                let pts = Duration::from_millis(20) * n;
                n += 1;
                let frame = Frame { pts: MediaTime::from(pts), at: origin + pts, data: KEY, level: None };
                for layer in 0..layers {
                    peer.write(Kind::Video, layer, &frame).unwrap();
                }
                peer.write(Kind::Audio, 0, &Frame { data: &[0xfc, 1], level: Some(-20), ..frame }).unwrap();
            }
        }
    }
}

/// Waits for an answer that only a driven session gives.
async fn driving<T>(incoming: &mut Incoming, answer: impl Future<Output = T>) -> T {
    tokio::pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            received = incoming.next() => drop(received.expect("it is not over")),
        }
    }
}

fn packets(received: &Received) -> &[Packet] {
    match received {
        Received::Passthrough(PassthroughMedia::Packets(packets)) => packets,
        _ => &[],
    }
}

async fn session(endpoint: &Endpoint, accept: &Accept, rids: &[&'static str]) -> (Peer, Incoming, Answer) {
    let mut peer = client();
    let offer = peer.offer(&lines(rids), false).unwrap().unwrap();
    let (answer, incoming) = endpoint.accept(&offer, accept).unwrap();
    peer.answer(&answer.sdp).unwrap();
    (peer, incoming, answer)
}

#[tokio::test]
async fn packets_come_with_level_key_and_size() {
    let endpoint = Endpoint::bind(config()).await.unwrap();
    let (mut peer, mut incoming, answer) = session(&endpoint, &Accept::passthrough(), &["q"]).await;
    assert!(answer.tracks.audio && answer.tracks.video);
    assert!(answer.sdp.contains(&format!(" {} typ host", endpoint.udp_addresses()[0].port())), "{}", answer.sdp);
    let (mut sound, mut picture, mut told) = (false, false, false);
    until(&mut peer, &mut incoming, 1, |received| {
        match received {
            Received::Passthrough(PassthroughMedia::Audio(format)) => assert!(format.stereo),
            Received::Passthrough(PassthroughMedia::Video(format, layers)) => {
                assert_eq!(format, &EncodedVideo::H264.into());
                assert_eq!((layers.len(), layers[0].width, layers[0].height), (1, 64, 48));
                told = true;
            }
            _ => {}
        }
        for packet in packets(received) {
            match packet.kind {
                Kind::Audio => sound |= packet.level == Some(-20),
                Kind::Video => picture |= packet.key && told,
            }
        }
        sound && picture
    })
    .await;
}

#[tokio::test]
async fn layers_come_in_order() {
    let endpoint = Endpoint::bind(config()).await.unwrap();
    let (mut peer, mut incoming, _) = session(&endpoint, &Accept::passthrough(), &["q", "h", "f"]).await;
    let mut seen = [0; 3];
    until(&mut peer, &mut incoming, 3, |received| {
        if let Received::Passthrough(PassthroughMedia::Video(_, layers)) = received {
            assert_eq!(
                layers.iter().map(|l| l.quality).collect::<Vec<_>>(),
                [Quality::Low, Quality::Medium, Quality::High]
            );
        }
        packets(received).iter().filter(|p| p.kind == Kind::Video).for_each(|p| seen[p.layer] += 1);
        seen.iter().all(|n| *n > 3)
    })
    .await;
}

#[tokio::test]
async fn frames_come_as_the_transcoder_takes_them() {
    let endpoint = Endpoint::bind(config()).await.unwrap();
    let (mut peer, mut incoming, _) = session(&endpoint, &Accept::transcoded(), &["q"]).await;
    let (mut configured, mut sounds) = (false, 0);
    until(&mut peer, &mut incoming, 1, |received| {
        match received {
            Received::Media(Media::VideoConfig(config)) => {
                assert_eq!((config.size, config.record[0]), (Some((64, 48)), 1));
                configured = true;
            }
            Received::Media(Media::Frame(frame)) if frame.kind == Kind::Audio => sounds += 1,
            Received::Media(Media::Frame(frame)) => {
                assert!(configured && frame.key);
                assert_eq!(frame.data[..4], [0, 0, 0, 23]);
                return sounds > 2;
            }
            _ => {}
        }
        false
    })
    .await;
}

#[tokio::test]
async fn closing_on_either_side_ends_it() {
    let endpoint = Endpoint::bind(config()).await.unwrap();
    let (mut peer, mut incoming, _) = session(&endpoint, &Accept::passthrough(), &["q"]).await;
    until(&mut peer, &mut incoming, 1, |r| !packets(r).is_empty()).await;
    peer.close();
    while !matches!(next(&mut incoming).await, Received::Finished) {}
    assert!(incoming.next().await.is_none());

    let (mut peer, mut incoming, _) = session(&endpoint, &Accept::passthrough(), &["q"]).await;
    until(&mut peer, &mut incoming, 1, |r| !packets(r).is_empty()).await;
    let control = incoming.control();
    assert!(control.close());
    while !matches!(next(&mut incoming).await, Received::Finished) {}
    drop(incoming);
    assert!(!control.close());
    assert_eq!(control.trickle("a=end-of-candidates").await, Err(Refusal::Gone));
    let told = async { while peer.next().await.unwrap() != Event::Closed {} };
    tokio::time::timeout(WITHIN, told).await.expect("the sender is told");
}

#[tokio::test]
async fn sessions_survive_a_storm_of_strangers() {
    let endpoint = Endpoint::bind(config()).await.unwrap();
    let address = endpoint.udp_addresses()[0];
    let storm = tokio::spawn(async move {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut noise = [0u8; 200];
        loop {
            for _ in 0..20 {
                noise[0] = rand::random();
                noise[1..9].copy_from_slice(&[1, 0, 20, 0x21, 0x12, 0xa4, 0x42, rand::random()]);
                let _ = socket.send_to(&noise, address).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(session(&endpoint, &Accept::passthrough(), &["q"]).await);
    }
    for (peer, incoming, _) in &mut all {
        until(peer, incoming, 1, |r| !packets(r).is_empty()).await;
    }
    storm.abort();
}

#[tokio::test]
async fn ice_restarts_with_new_credentials() {
    let endpoint = Endpoint::bind(config()).await.unwrap();
    let (mut peer, mut incoming, first) = session(&endpoint, &Accept::passthrough(), &["q"]).await;
    until(&mut peer, &mut incoming, 1, |r| !packets(r).is_empty()).await;
    let control = incoming.control();
    assert_eq!(control.ice_session(), first.ice_session);
    let offer = peer.offer(&Lines::default(), true).unwrap().unwrap();
    let value = |name: &str| offer.lines().find_map(|l| l.strip_prefix(name)).unwrap().to_owned();
    let fragment = format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", value("a=ice-ufrag:"), value("a=ice-pwd:"));
    assert_eq!(driving(&mut incoming, control.trickle(&fragment)).await, Err(Refusal::OtherIceSession));
    let restarted = driving(&mut incoming, control.restart(&fragment)).await;
    let restarted = restarted.unwrap();
    assert_ne!(restarted.ice_session, first.ice_session);
    assert!(restarted.fragment.contains(&format!("a=ice-ufrag:{}", restarted.ice_session)), "{}", restarted.fragment);
    assert_eq!(control.ice_session(), restarted.ice_session);
    // The new answer is the old one with the new credentials.
    let credential = |text: &str, name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap().to_owned();
    let mut answer = first.sdp.clone();
    for name in ["a=ice-ufrag:", "a=ice-pwd:"] {
        answer = answer.replace(&credential(&first.sdp, name), &credential(&restarted.fragment, name));
    }
    peer.answer(&answer).unwrap();
    let mut n = 0;
    until(&mut peer, &mut incoming, 1, |r| {
        n += packets(r).len();
        n > 50
    })
    .await;
}

#[tokio::test]
async fn port_per_session_until_none_is_left() {
    // Two ports that are free now.
    let free = |n: u16| {
        (40_000 + rand::random::<u16>() % 20_000..)
            .find(|p| (0..n).all(|i| std::net::UdpSocket::bind(("127.0.0.1", p + i)).is_ok()))
    };
    let first = free(2).unwrap();
    let config = EndpointConfig { udp: UdpPorts::PerSession { first, last: first + 1 }, ..config() };
    let endpoint = Endpoint::bind(config).await.unwrap();
    let (mut a, mut a_in, _) = session(&endpoint, &Accept::passthrough(), &["q"]).await;
    let (mut b, mut b_in, _) = session(&endpoint, &Accept::passthrough(), &["q"]).await;
    let offer = client().offer(&lines(&["q"]), false).unwrap().unwrap();
    assert_eq!(endpoint.accept(&offer, &Accept::passthrough()).map(|_| ()), Err(Refusal::Full));
    until(&mut a, &mut a_in, 1, |r| !packets(r).is_empty()).await;
    until(&mut b, &mut b_in, 1, |r| !packets(r).is_empty()).await;
}

#[tokio::test]
async fn media_comes_over_tcp_without_udp() {
    let config = EndpointConfig { tcp_port: Some(0), force_tcp: true, ..config() };
    let endpoint = Endpoint::bind(config).await.unwrap();
    let mut peer = client();
    let offer = peer.offer(&lines(&["q"]), false).unwrap().unwrap();
    let (answer, mut incoming) = endpoint.accept(&offer, &Accept::passthrough()).unwrap();
    let candidates: Vec<_> = answer.sdp.lines().filter_map(|l| l.strip_prefix("a=candidate:")).collect();
    assert!(candidates.iter().all(|c| c.contains("tcptype passive")) && !candidates.is_empty(), "{candidates:?}");
    peer.answer(&answer.sdp).unwrap();
    // Our publisher tries TCP only where it is told of it by name.
    peer.add_remote(&format!("candidate:{}", candidates[0])).unwrap();
    until(&mut peer, &mut incoming, 1, |r| !packets(r).is_empty()).await;
}

#[tokio::test]
async fn ice_lite_receives_media() {
    let lite = Endpoint::bind(EndpointConfig { ice_lite: true, ..self::config() }).await.unwrap();
    let (mut peer, mut incoming, answer) = session(&lite, &Accept::passthrough(), &["q"]).await;
    assert!(answer.sdp.contains("a=ice-lite"));
    until(&mut peer, &mut incoming, 1, |r| !packets(r).is_empty()).await;
}

/// A client names a neighbour of this machine, in its offer, by trickle and at a restart: nothing knocks there, and its media flows.
#[tokio::test]
async fn a_client_does_not_have_us_knock_at_neighbours() {
    for (check_private, knocks) in [(false, false), (true, true)] {
        let endpoint = Endpoint::bind(EndpointConfig { check_private, ..config() }).await.unwrap();
        let neighbours = [0; 2].map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let lines_for = |socket: &std::net::UdpSocket| {
            format!("a=candidate:9 1 udp 2130706431 127.0.0.1 {} typ host\r\n", socket.local_addr().unwrap().port())
        };
        let mut peer = client();
        let offer = peer.offer(&lines(&["q"]), false).unwrap().unwrap();
        let at = offer.find("a=ice-ufrag").unwrap();
        let named = format!("{}{}{}", &offer[..at], lines_for(&neighbours[0]), &offer[at..]);
        let (answer, mut incoming) = endpoint.accept(&named, &Accept::passthrough()).unwrap();
        peer.answer(&answer.sdp).unwrap();
        let control = incoming.control();
        driving(&mut incoming, control.trickle(&lines_for(&neighbours[1]))).await.unwrap();
        let mut n = 0;
        until(&mut peer, &mut incoming, 1, |r| {
            n += packets(r).len();
            n > 20
        })
        .await;
        let knocked = neighbours.each_ref().map(|socket| {
            socket.set_nonblocking(true).unwrap();
            socket.recv(&mut [0; 100]).is_ok()
        });
        assert_eq!(knocked, [knocks; 2]);
    }
}
