//! What goes out and when, on virtual time.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::time::Duration;

/// A track of two layers with a connection.
struct Harness {
    egress: Egress,
    start: Instant,
    now: Instant,
    audio_ready: bool,
    /// When each went out, in ms, with what it is.
    out: Vec<(u64, Sent)>,
}

/// What went out: its output, its own time in ms, and whether others were left out before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Unit(Output, u64),
    Packet(Output, u64, bool),
}

const LOW: Output = Output::Video(0);
const TOP: Output = Output::Video(1);

impl Harness {
    fn new() -> Self {
        let start = Instant::now();
        let mut egress = Egress::new(2);
        egress.connect();
        Self { egress, start, now: start, audio_ready: true, out: Vec::new() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn unit(&self, ms: u64, key: bool) -> Media {
        let pts = Duration::from_millis(ms);
        let data = Bytes::from_static(b"x");
        Media::AccessUnit(AccessUnit { pts: pts.into(), at: self.at(ms), key, data, level: None })
    }

    fn packets(&self, ms: &[u64], key: bool) -> Media {
        let packet = |ms: &u64| Packet {
            kind: Kind::Video,
            // What the source calls it counts for nothing.
            layer: 7,
            stream: 1,
            sequence: 0,
            timestamp: 0,
            at: self.at(*ms),
            marker: false,
            key,
            level: None,
            orientation: None,
            descriptor: None,
            before: None,
            payload: [1][..].into(),
        };
        Media::Packets(ms.iter().map(packet).collect())
    }

    fn take(&mut self, output: Output, media: Media) {
        let mut out = Vec::new();
        self.egress.take(output, media, self.audio_ready, self.now, &mut out);
        self.egress.due(self.now, &mut out);
        self.sent(out);
    }

    /// Lets time pass up to here.
    fn wait(&mut self, ms: u64) {
        let until = self.at(ms);
        while let Some(at) = self.egress.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let mut out = Vec::new();
            self.egress.due(self.now, &mut out);
            assert!(!out.is_empty() || self.egress.deadline() > Some(at), "time stands still");
            self.sent(out);
        }
        self.now = until;
    }

    fn sent(&mut self, departures: Vec<Outgoing>) {
        let (start, at) = (self.start, (self.now - self.start).as_millis() as u64);
        let ms = |at: Instant| (at - start).as_millis() as u64;
        self.out.extend(departures.into_iter().map(|departure| match departure {
            Outgoing::AccessUnit(output, unit) => (at, Sent::Unit(output, ms(unit.at))),
            Outgoing::Packet(packet, resumes) => {
                let output = match packet.kind {
                    Kind::Audio => Output::Audio,
                    Kind::Video => Output::Video(packet.layer),
                };
                (at, Sent::Packet(output, ms(packet.at), resumes))
            }
        }));
    }

    fn order(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.out).into_iter().map(|(_, sent)| sent).collect()
    }
}

#[test]
fn packets_keep_the_pace_of_their_source() {
    let mut h = Harness::new();
    h.wait(50);
    h.take(Output::Audio, h.packets(&[10, 30], true));
    h.take(TOP, h.packets(&[0, 1], true));
    let expected = [(Output::Audio, 10, false), (Output::Audio, 30, false), (TOP, 0, true), (TOP, 1, false)];
    assert_eq!(h.order(), expected.map(|(output, at, resumes)| Sent::Packet(output, at, resumes)));
}

#[test]
fn audio_packets_that_cannot_go_leave_a_mark() {
    let mut h = Harness::new();
    h.audio_ready = false;
    h.take(Output::Audio, h.packets(&[0], true));
    h.audio_ready = true;
    h.take(Output::Audio, h.packets(&[1, 2], true));
    h.egress.mute(Kind::Audio, true);
    h.take(Output::Audio, h.packets(&[3], true));
    h.egress.mute(Kind::Audio, false);
    h.take(Output::Audio, h.packets(&[4], true));
    assert_eq!(h.order(), [(1, true), (2, false), (4, true)].map(|(at, r)| Sent::Packet(Output::Audio, at, r)));
}

/// Both producers at once: an encoder's layer, and one that is passed through, beside encoded audio.
#[test]
fn layers_of_both_producers_leave_beside_audio() {
    let mut h = Harness::new();
    for n in 0..100 {
        // Audio comes 30 ms after its moment, video at once.
        h.wait(n * 20);
        if let Some(before) = n.checked_sub(2) {
            h.wait(before * 20 + 30);
            h.take(Output::Audio, h.unit(before * 20, true));
        }
        h.wait(n * 20);
        h.take(LOW, h.unit(n * 20, n == 0));
        h.take(TOP, h.packets(&[n * 20, n * 20], n == 0));
    }
    let late = |out: &[(u64, Sent)], of: Output| -> Vec<u64> {
        let late = |(at, sent): &(u64, Sent)| match sent {
            Sent::Unit(output, ms) | Sent::Packet(output, ms, _) if *output == of => Some(at - ms),
            _ => None,
        };
        out[out.len() / 2..].iter().filter_map(late).collect()
    };
    let [audio, low, top] = [Output::Audio, LOW, TOP].map(|output| late(&h.out, output));
    let average = |late: &[u64]| late.iter().sum::<u64>() / late.len() as u64;
    assert!(average(&audio) >= 25, "{audio:?}");
    for video in [low, top] {
        assert!(average(&video).abs_diff(average(&audio)) <= 5, "{video:?} beside {audio:?}");
    }
}

#[test]
fn paused_layer_is_not_wanted_until_the_uplink_recovers() {
    let mut h = Harness::new();
    let wanted =
        |wanted: [bool; 2], keyframes: &[usize]| LayerChange { wanted: wanted.into(), keyframes: keyframes.into() };
    let mut decided = Vec::new();
    for second in 0..30 {
        let now = h.at(second * 1000);
        let paused = decided.iter().any(|(_, d, _)| matches!(d, Decision::Pause { .. }));
        for (layer, lost) in [(0, 0), (1, if paused { 0 } else { 300 })] {
            if let Some((decision, change)) = h.egress.report(layer, 500, lost, now) {
                decided.push((second, decision, change));
            }
        }
    }
    assert_eq!(decided.len(), 2, "{decided:?}");
    assert!(matches!(decided[0].1, Decision::Pause { layer: 1, .. }) && decided[0].2 == wanted([true, false], &[]));
    assert!(matches!(decided[1].1, Decision::Resume { layer: 1 }) && decided[1].2 == wanted([true, true], &[1]));
    // What the room does not want stays away whatever the uplink carries.
    assert_eq!(h.egress.want(vec![false, true]), wanted([false, true], &[]));
}

#[test]
fn video_that_comes_later_has_its_layers_once() {
    let mut h = Harness::new();
    h.egress = Egress::new(0);
    h.take(LOW, h.unit(0, true));
    assert_eq!(h.order(), [], "no such layer");
    h.egress.add_video(2);
    h.egress.connect();
    h.take(TOP, h.unit(1, true));
    h.egress.add_video(1);
    h.take(TOP, h.unit(2, false));
    assert_eq!(h.order(), [1, 2].map(|at| Sent::Unit(TOP, at)));
}

proptest! {
    /// Whatever the mix of producers: each output keeps its order, nothing is sent twice, and all that is due leaves within the bound.
    #[test]
    fn each_output_keeps_its_order(steps in prop::collection::vec((0u8..3, any::<bool>(), 0u64..40), 0..150)) {
        let mut h = Harness::new();
        let mut ms = 0;
        for (output, packets, after) in steps {
            ms += after + 1;
            h.wait(ms);
            let output = [Output::Audio, LOW, TOP][usize::from(output)];
            let media = if packets { h.packets(&[ms], true) } else { h.unit(ms, true) };
            h.take(output, media);
        }
        h.wait(ms + 1_000);
        prop_assert_eq!(h.egress.deadline(), None);
        for output in [LOW, TOP] {
            let times: Vec<_> = h.out.iter().filter_map(|(_, sent)| match sent {
                Sent::Unit(o, ms) | Sent::Packet(o, ms, _) if *o == output => Some(*ms),
                _ => None,
            }).collect();
            prop_assert!(times.windows(2).all(|w| w[0] < w[1]), "{:?}", times);
        }
    }
}
