//! A sender on virtual time, and an engine that stands in for the SFU. The wire delays and loses by seed.

use super::*;
use crate::transport::Transport;
use model::EncodedVideo;
use proptest::prelude::*;
use std::net::SocketAddr;
use str0m::change::SdpOffer;
use str0m::media::{KeyframeRequestKind, MediaData};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Input, Output, RtcConfig};

const OURS: &str = "10.0.0.1:1000";
const THEIRS: &str = "10.0.0.2:2000";
/// One way.
const DELAY: Duration = Duration::from_millis(10);

fn ours() -> SocketAddr {
    OURS.parse().unwrap()
}

fn theirs() -> SocketAddr {
    THEIRS.parse().unwrap()
}

struct Pair {
    driver: Driver<Sender>,
    server: Rtc,
    start: Instant,
    now: Instant,
    server_at: Instant,
    /// (arrives, towards the server, what)
    wire: VecDeque<(Instant, bool, Vec<u8>)>,
    /// Of 1000 datagrams of media towards the server, how many get lost; and the state of the dice.
    loss: u32,
    dice: u32,
    got: Vec<MediaData>,
    events: Vec<Event>,
}

impl Pair {
    fn new(config: &Config, lines: &Lines) -> Self {
        let now = Instant::now();
        let mut driver = Driver::sender(config, now);
        assert!(driver.add_local(Transport::Udp, ours()));
        let mut server =
            RtcConfig::new().clear_codecs().enable_opus(true, true).enable_vp8(true).enable_h264(true).build(now);
        server.add_local_candidate(Candidate::host(theirs(), "udp").unwrap());
        let mut pair = Self {
            driver,
            server,
            start: now,
            now,
            server_at: now,
            wire: VecDeque::new(),
            loss: 0,
            dice: 1,
            got: Vec::new(),
            events: Vec::new(),
        };
        pair.negotiate(lines, false);
        pair
    }

    fn connected(config: &Config, lines: &Lines) -> Self {
        let mut pair = Self::new(config, lines);
        pair.run(Duration::from_secs(2));
        assert!(pair.driver.is_up());
        assert!(pair.events.contains(&Event::Up));
        pair
    }

    fn negotiate(&mut self, lines: &Lines, restart: bool) -> String {
        let offer = self.driver.offer(lines, restart).expect("something to offer");
        let answer = self.server.sdp_api().accept_offer(SdpOffer::from_sdp_string(&offer).unwrap()).unwrap();
        self.driver.answer(&answer.to_sdp_string(), self.now).unwrap();
        self.turn();
        offer
    }

    fn rolls_a_loss(&mut self) -> bool {
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.dice >> 8) % 1000 < self.loss
    }

    /// Takes what both sides have to say now.
    fn turn(&mut self) {
        let mut out = Vec::new();
        self.driver
            .drain(|_, from, to, d| {
                assert_eq!((from, to), (ours(), theirs()));
                out.push(d.to_vec());
            })
            .unwrap();
        for d in out {
            // Media only: the handshake is not what is tested here.
            let media = d[0] & 0xc0 == 0x80;
            if !(media && self.rolls_a_loss()) {
                self.wire.push_back((self.now + DELAY, true, d));
            }
        }
        while let Some(event) = self.driver.poll_event() {
            self.events.push(event);
        }
        loop {
            match self.server.poll_output().unwrap() {
                Output::Timeout(at) => {
                    self.server_at = at;
                    break;
                }
                Output::Transmit(t) => self.wire.push_back((self.now + DELAY, false, t.contents.to_vec())),
                Output::Event(str0m::Event::MediaData(data)) => self.got.push(data),
                Output::Event(_) => {}
            }
        }
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let wire = self.wire.front().map_or(until, |w| w.0);
            let next = wire.min(self.driver.deadline()).min(self.server_at).max(self.now);
            if next >= until {
                self.now = until;
                return;
            }
            self.now = next;
            if self.wire.front().is_some_and(|w| w.0 <= next)
                && let Some((_, to_server, d)) = self.wire.pop_front()
            {
                if to_server {
                    let receive = Receive::new(Protocol::Udp, ours(), theirs(), &d).unwrap();
                    self.server.handle_input(Input::Receive(next, receive)).unwrap();
                } else {
                    self.driver.receive(Transport::Udp, theirs(), ours(), &d, next);
                }
            }
            self.turn();
            self.driver.tick(next).unwrap();
            self.turn();
            self.server.handle_input(Input::Timeout(next)).unwrap();
            self.turn();
        }
    }

    fn send(&mut self, kind: Kind, layer: usize, pts: Duration, at: Instant, data: &[u8]) {
        let frame = Frame { pts: pts.into(), at, data, level: None };
        self.driver.write(kind, layer, &frame, self.now);
        self.driver.tick(self.now).unwrap();
        self.turn();
    }

    fn layer(&self, rid: Option<&str>) -> Vec<&MediaData> {
        let rid = rid.map(Rid::from);
        self.got.iter().filter(|d| d.rid == rid && d.params.spec().codec.is_video()).collect()
    }
}

fn config() -> Config {
    Config { video: vec![EncodedVideo::H264.into()], stereo: true, dtx: false }
}

fn video(rids: &[&'static str]) -> Option<VideoLine> {
    Some(VideoLine {
        track_id: "picture".into(),
        layers: rids.iter().map(|&rid| LayerLine { rid, format: EncodedVideo::H264.into() }).collect(),
    })
}

fn audio() -> Option<AudioLine> {
    Some(AudioLine { track_id: "sound".into() })
}

/// An access unit of `len` bytes that tells its number; each tenth is a key frame.
fn picture(n: u32, len: usize) -> Vec<u8> {
    let head: &[u8] = if n.is_multiple_of(10) {
        &[0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1f, 0x8c, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80, 0, 0, 0, 1, 0x65]
    } else {
        &[0, 0, 0, 1, 0x41]
    };
    let mut out = head.to_vec();
    out.extend((0..len).map(|i| (n as usize + i) as u8 | 1));
    out
}

#[test]
fn three_layers_and_audio_arrive_intact() {
    let mut pair = Pair::connected(&config(), &Lines { video: video(&["q", "h", "f"]), audio: audio() });
    for n in 0..60u32 {
        let pts = Duration::from_millis(u64::from(n) * 40);
        for (layer, len) in [300, 2_000, 9_000].into_iter().enumerate() {
            pair.send(Kind::Video, layer, pts, pair.now, &picture(n, len));
        }
        for half in 0..2 {
            pair.send(Kind::Audio, 0, pts + Duration::from_millis(20 * half), pair.now, &[0xfc, n as u8, half as u8]);
        }
        pair.run(Duration::from_millis(40));
    }
    pair.run(Duration::from_millis(200));
    for (rid, len) in [("q", 300), ("h", 2_000), ("f", 9_000)] {
        let got = pair.layer(Some(rid));
        assert_eq!(got.len(), 60, "layer {rid}");
        for (n, data) in got.iter().enumerate() {
            assert_eq!(data.time.numer(), n as u64 * 3_600, "layer {rid}");
            assert_eq!(&data.data[..], &picture(n as u32, len)[..], "layer {rid}, picture {n}");
            assert_eq!(data.is_keyframe(), n % 10 == 0);
        }
    }
    let sound: Vec<_> = pair.got.iter().filter(|d| d.params.spec().codec.is_audio()).collect();
    assert_eq!(sound.len(), 120);
    assert!(sound.iter().enumerate().all(|(n, d)| d.time.numer() == n as u64 * 960));
}

#[test]
fn lost_packets_are_retransmitted() {
    let mut pair = Pair::connected(&config(), &Lines { video: video(&["q", "f"]), audio: None });
    pair.loss = 100;
    for n in 0..100u32 {
        let pts = Duration::from_millis(u64::from(n) * 40);
        pair.send(Kind::Video, 0, pts, pair.now, &picture(n, 800));
        pair.send(Kind::Video, 1, pts, pair.now, &picture(n, 8_000));
        pair.run(Duration::from_millis(40));
    }
    pair.loss = 0;
    // One more of each, so that a loss at the very end can be noticed.
    pair.send(Kind::Video, 0, Duration::from_secs(4), pair.now, &picture(100, 800));
    pair.send(Kind::Video, 1, Duration::from_secs(4), pair.now, &picture(100, 8_000));
    pair.run(Duration::from_secs(1));
    for rid in ["q", "f"] {
        let times: Vec<_> = pair.layer(Some(rid)).iter().map(|d| d.time.numer() / 3_600).collect();
        // Repairs of repairs can be lost too; what counts is that hardly any picture is.
        assert!(
            times.len() >= 99,
            "layer {rid} lost {:?}",
            (0..=100).filter(|n| !times.contains(n)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn dropped_retransmissions_stay_lost() {
    let mut pair = Pair::connected(&config(), &Lines { video: video(&["q", "f"]), audio: None });
    for n in 0..20u32 {
        pair.loss = if (5..10).contains(&n) { 1_000 } else { 0 };
        for layer in 0..2 {
            let pts = Duration::from_millis(u64::from(n) * 40);
            pair.send(Kind::Video, layer, pts, pair.now, &picture(n, 800));
        }
        if n == 9 {
            pair.driver.drop_retransmissions(1);
        }
        pair.run(Duration::from_millis(40));
    }
    pair.run(Duration::from_secs(1));
    let count = |pair: &Pair, rid| pair.layer(Some(rid)).len();
    assert_eq!((count(&pair, "q"), count(&pair, "f")), (20, 15), "what was sent later is whole");
}

#[test]
fn lost_audio_is_covered_by_redundancy() {
    let mut pair = Pair::connected(&config(), &Lines { video: None, audio: audio() });
    let mut talk = |from: u64, packets: u64, loss: u32| {
        pair.loss = loss;
        pair.got.clear();
        for n in from..from + packets {
            pair.send(Kind::Audio, 0, Duration::from_millis(n * 20), pair.now, &[0xfc; 200]);
            pair.run(Duration::from_millis(20));
        }
        pair.run(Duration::from_millis(200));
        pair.got.len()
    };
    assert_eq!(talk(0, 100, 0), 100);
    // Until the receiver's first report what is lost is lost.
    talk(100, 400, 50);
    assert!(talk(500, 1000, 50) >= 995);
}

#[test]
fn key_frame_requests_name_the_layer() {
    let mut pair = Pair::connected(&config(), &Lines { video: video(&["q", "h", "f"]), audio: audio() });
    for layer in 0..3 {
        pair.send(Kind::Video, layer, Duration::ZERO, pair.now, &picture(0, 100));
    }
    pair.run(Duration::from_millis(50));
    let mid = pair.got[0].mid;
    for (layer, rid) in ["q", "h", "f"].into_iter().enumerate() {
        pair.events.clear();
        let mut writer = pair.server.writer(mid).unwrap();
        writer.request_keyframe(Some(rid.into()), KeyframeRequestKind::Pli).unwrap();
        pair.turn();
        pair.run(Duration::from_millis(100));
        assert_eq!(pair.events, [Event::KeyframeRequest { layer }]);
    }
}

#[test]
fn early_dtls_of_strangers_is_dropped() {
    let mut pair = Pair::new(&config(), &Lines { video: video(&["f"]), audio: None });
    for n in 0..20 {
        pair.driver.receive(Transport::Udp, "10.9.9.9:9".parse().unwrap(), ours(), &[22, 254, 253, n], pair.now);
        pair.turn();
    }
    pair.run(Duration::from_secs(2));
    assert!(pair.driver.is_up());
}

/// Where the two tracks' sender reports put media time 0 on the wall clock.
fn origins(pair: &Pair) -> (f64, f64) {
    let of = |audio: bool, rate: f64| {
        let data = pair.got.iter().rfind(|d| d.params.spec().codec.is_audio() == audio && d.last_sender_info.is_some());
        let info = data.unwrap().last_sender_info.unwrap();
        let ntp = info.ntp_time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        ntp - info.rtp_time.numer() as f64 / rate
    };
    (of(true, 48_000.0), of(false, 90_000.0))
}

#[test]
fn sender_reports_align_audio_and_video() {
    // Video comes 700 ms after its time, audio 900 ms before it: neither may show in the reports.
    for (picture_late, sound_early) in [(0, 0), (700, 0), (0, 900), (700, 900)] {
        let mut pair = Pair::connected(&config(), &Lines { video: video(&["f"]), audio: audio() });
        let origin = pair.now;
        for n in 0..300u64 {
            let clock = Duration::from_millis(n * 20);
            if n % 2 == 0
                && let Some(pts) = clock.checked_sub(Duration::from_millis(picture_late))
            {
                pair.send(Kind::Video, 0, pts, origin + pts, &picture(n as u32, 100));
            }
            let pts = clock + Duration::from_millis(sound_early);
            pair.send(Kind::Audio, 0, pts, origin + pts, &[0xfc, 1, 2]);
            pair.run(Duration::from_millis(20));
        }
        let (sound, picture) = origins(&pair);
        // The receiver reads NTP as a double: a fraction of a microsecond is lost, and a tick is 11 µs.
        assert!((sound - picture).abs() < 0.000_1, "{picture_late} {sound_early}: {}", sound - picture);
    }
}

#[test]
fn track_can_be_added_later() {
    let mut pair = Pair::connected(&config(), &Lines { video: None, audio: audio() });
    pair.send(Kind::Audio, 0, Duration::ZERO, pair.now, &[0xfc, 1]);
    pair.send(Kind::Video, 0, Duration::ZERO, pair.now, &picture(0, 100));
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.got.len(), 1, "a picture before its track goes nowhere");
    let offer = pair.negotiate(&Lines { video: video(&["q", "f"]), audio: audio() }, false);
    assert_eq!(offer.matches("m=").count(), 2, "{offer}");
    pair.run(Duration::from_millis(100));
    pair.send(Kind::Video, 1, Duration::ZERO, pair.now, &picture(0, 100));
    pair.send(Kind::Audio, 0, Duration::from_millis(20), pair.now, &[0xfc, 2]);
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.got.len(), 3);
    assert_eq!(pair.layer(Some("f")).len(), 1);
}

#[test]
fn media_flows_through_an_ice_restart() {
    let mut pair = Pair::connected(&config(), &Lines { video: video(&["f"]), audio: None });
    pair.events.clear();
    for n in 0..100u32 {
        if n == 30 {
            pair.negotiate(&Lines::default(), true);
        }
        pair.send(Kind::Video, 0, Duration::from_millis(u64::from(n) * 40), pair.now, &picture(n, 500));
        pair.run(Duration::from_millis(40));
    }
    pair.run(Duration::from_millis(200));
    assert_eq!(pair.layer(None).len(), 100);
    assert!(pair.events.contains(&Event::Up) && !pair.events.contains(&Event::Down), "{:?}", pair.events);
}

#[test]
fn silence_takes_the_connection_down() {
    let mut pair = Pair::connected(&config(), &Lines { video: video(&["f"]), audio: None });
    pair.events.clear();
    let until = pair.now + Duration::from_secs(40);
    while pair.now < until && !pair.events.contains(&Event::Down) {
        pair.now = pair.driver.deadline().max(pair.now + Duration::from_millis(1));
        pair.driver.tick(pair.now).unwrap();
        pair.driver.drain(|_, _, _, _| {}).unwrap();
        pair.events.extend(std::iter::from_fn(|| pair.driver.poll_event()));
    }
    let after = pair.now - pair.start;
    assert!(pair.events.contains(&Event::Down) && !pair.driver.is_up(), "nothing after {after:?}");
    // Connecting took two seconds; the last datagram came somewhere in them.
    assert!(after <= Duration::from_secs(2) + Sender::SILENCE_TIMEOUT, "{after:?}");
}

#[test]
fn unanswered_checks_take_the_connection_down() {
    let mut pair = Pair::connected(&config(), &Lines { video: video(&["f"]), audio: None });
    pair.events.clear();
    let until = pair.now + Duration::from_secs(40);
    while pair.now < until && !pair.events.contains(&Event::Down) {
        pair.now =
            pair.driver.deadline().min(pair.now + Duration::from_secs(1)).max(pair.now + Duration::from_millis(1));
        // A report that can't be decrypted: something comes, so it is not silent, but no check is answered.
        let datagram = [0x80, 201, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        pair.driver.receive(Transport::Udp, theirs(), ours(), &datagram, pair.now);
        pair.driver.drain(|_, _, _, _| {}).unwrap();
        pair.driver.tick(pair.now).unwrap();
        pair.driver.drain(|_, _, _, _| {}).unwrap();
        pair.events.extend(std::iter::from_fn(|| pair.driver.poll_event()));
    }
    let after = pair.now - pair.start;
    assert!(pair.events.contains(&Event::Down) && !pair.driver.is_up(), "nothing after {after:?}");
    assert!(after > Duration::from_secs(2) + Sender::SILENCE_TIMEOUT, "{after:?}: by silence, not by ICE");
}

#[test]
fn offer_says_what_the_sfu_reads() {
    let mut driver = Driver::sender(&config(), Instant::now());
    driver.add_local(Transport::Udp, ours());
    let offer = driver.offer(&Lines { video: video(&["q", "h", "f"]), audio: audio() }, false).unwrap();
    for line in [
        "a=simulcast:send q;h;f",
        "a=rid:q send",
        "a=fmtp:125 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1",
        "a=rtpmap:63 red/48000/2",
        "a=fmtp:63 111/111",
        "a=setup:actpass",
        "a=sendonly",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    ] {
        assert!(offer.lines().any(|l| l == line), "no {line} in\n{offer}");
    }
    assert_eq!(offer.lines().filter(|l| l.starts_with("a=msid:") && l.ends_with(" picture")).count(), 1);
    assert!(offer.contains("10.0.0.1 1000 typ host"), "{offer}");
    assert!(!offer.contains("transport-wide-cc"), "{offer}");

    let single =
        Driver::sender(&config(), Instant::now()).offer(&Lines { video: video(&["f"]), audio: None }, false).unwrap();
    assert!(!single.contains("a=rid") && !single.contains("a=simulcast") && single.contains("a=ssrc:"), "{single}");
}

#[test]
fn answer_without_our_codec_is_an_error() {
    let now = Instant::now();
    let mut driver = Driver::sender(&config(), now);
    driver.add_local(Transport::Udp, ours());
    let offer = driver.offer(&Lines { video: video(&["f"]), audio: None }, false).unwrap();
    let mut server = RtcConfig::new().clear_codecs().enable_vp8(true).build(now);
    let answer = server.sdp_api().accept_offer(SdpOffer::from_sdp_string(&offer).unwrap()).unwrap();
    assert!(matches!(driver.answer(&answer.to_sdp_string(), now), Err(Error::NoCommonCodec(Kind::Video))));
    assert!(matches!(driver.answer(&answer.to_sdp_string(), now), Err(Error::UnexpectedAnswer)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn strangers_input_does_no_harm(
        datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..30),
        text in "(v=0|a=|m=|candidate:|[ -~\r\n]){0,40}",
    ) {
        let mut pair = Pair::new(&config(), &Lines { video: video(&["q", "f"]), audio: audio() });
        for d in datagrams {
            for from in [theirs(), "10.9.9.9:9".parse().unwrap()] {
                pair.driver.receive(Transport::Udp, from, ours(), &d, pair.now);
                pair.turn();
            }
        }
        pair.driver.add_remote(&text);
        prop_assert!(pair.driver.answer(&text, pair.now).is_err());
        pair.run(Duration::from_secs(1));
        prop_assert!(pair.driver.is_up());
    }
}
