//! Gates alone, and against a model of what can be decoded.

use super::*;
use bytes::Bytes;
use model::Kind;
use proptest::prelude::*;
use std::sync::LazyLock;

fn access_unit(ms: u64, key: bool) -> AccessUnit {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let pts = Duration::from_millis(ms);
    AccessUnit { pts: pts.into(), at: *START + pts, key, data: Bytes::from_static(&[1; 10]), level: None }
}

fn unit(ms: u64, key: bool) -> Unit {
    Unit::AccessUnit(access_unit(ms, key))
}

fn packet(ms: u64, stream: u64, key: bool) -> Unit {
    Unit::Packet(Packet {
        kind: Kind::Video,
        layer: 0,
        stream,
        sequence: 0,
        timestamp: 0,
        at: access_unit(ms, key).at,
        marker: false,
        key,
        level: None,
        orientation: None,
        descriptor: None,
        before: None,
        payload: [1][..].into(),
    })
}

impl Gate {
    /// Whether this unit of the first layer goes out.
    fn sends(&mut self, unit: Unit) -> bool {
        self.pass(0, unit).is_some()
    }

    /// Whether it does, and others were left out before it.
    fn resumes(&mut self, unit: Unit) -> bool {
        self.pass(0, unit).is_some_and(|passed| passed.resumes)
    }
}

#[test]
fn another_sender_begins_with_a_key_packet() {
    let mut gate = Gate::new(1);
    gate.pass(0, packet(0, 7, true));
    let (waited, _) = gate.connect();
    assert!(waited[0].resumes);
    assert!(gate.sends(packet(1, 7, false)));
    assert!(!gate.sends(packet(2, 8, false)), "nothing to build on");
    assert!(gate.resumes(packet(3, 8, true)) && !gate.resumes(packet(4, 8, false)));
    gate.want(&[false]);
    assert!(!gate.sends(packet(5, 8, true)));
    gate.want(&[true]);
    assert!(!gate.sends(packet(6, 8, false)) && gate.resumes(packet(7, 8, true)));
}

#[test]
fn producer_changes_at_a_key_frame() {
    let mut gate = Gate::new(1);
    gate.connect();
    assert!(gate.sends(packet(0, 0, true)));
    assert!(!gate.sends(unit(40, false)), "the encoder's pictures do not build on the source's");
    assert!(gate.resumes(unit(80, true)) && gate.sends(unit(120, false)));
    assert!(!gate.sends(packet(160, 0, false)) && gate.resumes(packet(200, 0, true)));
    // The same before there is a connection.
    let mut gate = Gate::new(1);
    gate.pass(0, packet(0, 0, true));
    gate.pass(0, unit(40, false));
    assert_eq!(gate.connect().1, [0]);
    assert!(!gate.sends(unit(80, false)) && gate.sends(unit(120, true)));
}

#[test]
fn newest_key_frame_and_what_follows_wait_for_the_connection() {
    let mut gate = Gate::new(2);
    for (ms, key) in [(0, false), (40, true), (80, false), (120, true), (160, false)] {
        assert!(!gate.sends(unit(ms, key)));
    }
    let (out, lacking) = gate.connect();
    let times: Vec<_> = out.iter().map(|w| (w.layer, w.unit.at(), w.unit.key(), w.resumes)).collect();
    assert_eq!(times, [(0, unit(120, true).at(), true, true), (0, unit(160, false).at(), false, false)]);
    assert_eq!(lacking, [1]);
    assert!(gate.sends(unit(200, false)), "what follows the preroll follows it");
    assert!(gate.pass(1, unit(200, false)).is_none() && gate.pass(1, unit(240, true)).is_some());
}

#[test]
fn preroll_is_bounded() {
    let mut gate = Gate::new(1);
    gate.pass(0, unit(0, true));
    for n in 1..20 {
        gate.pass(0, unit(n * 40, false));
    }
    let (out, lacking) = gate.connect();
    assert!(out.is_empty());
    assert_eq!(lacking, [0]);

    let mut gate = Gate::new(1);
    gate.pass(0, unit(0, true));
    let big = AccessUnit { data: vec![0; PREROLL_BYTES].into(), ..access_unit(40, false) };
    gate.pass(0, Unit::AccessUnit(big));
    assert!(gate.connect().0.is_empty());
}

#[test]
fn layer_comes_back_with_a_key_frame() {
    let mut gate = Gate::new(2);
    gate.connect();
    for layer in 0..2 {
        assert!(gate.pass(layer, unit(0, true)).is_some());
    }
    assert!(gate.want(&[true, false]).is_empty());
    assert!(gate.sends(unit(40, false)) && gate.pass(1, unit(40, true)).is_none());
    assert_eq!(gate.want(&[true, true]), [1]);
    assert!(gate.pass(1, unit(80, false)).is_none() && gate.pass(1, unit(120, true)).is_some());
}

#[test]
fn muted_track_comes_back_with_a_key_frame() {
    let mut gate = Gate::new(1);
    gate.connect();
    assert!(gate.sends(unit(0, true)));
    assert!(gate.mute(true).is_empty());
    assert!(!gate.sends(unit(40, true)));
    assert_eq!(gate.mute(false), [0]);
    assert!(!gate.sends(unit(80, false)) && gate.sends(unit(120, true)));
}

#[test]
fn lost_connection_starts_over() {
    let mut gate = Gate::new(1);
    gate.connect();
    assert!(gate.sends(unit(0, true)));
    assert!(gate.connect().1.is_empty() && gate.sends(unit(20, false)), "it was connected");
    gate.disconnect();
    gate.pass(0, unit(40, false));
    assert_eq!(gate.connect().1, [0]);
    assert!(!gate.sends(unit(80, false)));
    assert!(gate.pass(7, unit(80, true)).is_none(), "no such layer");
}

/// What may happen to a gate of one layer.
#[derive(Clone, Debug)]
enum Step {
    /// Producer, and whether it is a key frame.
    Unit(u8, bool),
    Connect,
    Disconnect,
    Want(bool),
    Mute(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..3, prop::bool::weighted(0.2)).prop_map(|(producer, key)| Step::Unit(producer, key)),
        1 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        1 => any::<bool>().prop_map(Step::Want),
        1 => any::<bool>().prop_map(Step::Mute),
    ]
}

proptest! {
    /// Whoever produces, and whatever happens meanwhile: each unit that goes out is a key frame, or the unit right before it from the
    /// same producer went out just before it. What lacks its predecessor says so.
    #[test]
    fn what_goes_out_is_decodable(steps in prop::collection::vec(step(), 0..200)) {
        let mut gate = Gate::new(1);
        // Number and producer of what went out last; units are numbered by their time.
        let mut last: Option<(u64, u8)> = None;
        let mut producers = Vec::new();
        for step in steps {
            let out = match step {
                Step::Unit(producer, key) => {
                    let ms = producers.len() as u64;
                    producers.push((producer, key));
                    let unit = if producer == 0 { unit(ms, key) } else { packet(ms, u64::from(producer), key) };
                    gate.pass(0, unit).into_iter().collect()
                }
                Step::Connect => gate.connect().0,
                Step::Disconnect => {
                    gate.disconnect();
                    Vec::new()
                }
                Step::Want(wanted) => {
                    gate.want(&[wanted]);
                    Vec::new()
                }
                Step::Mute(muted) => {
                    gate.mute(muted);
                    Vec::new()
                }
            };
            for passed in out {
                let number = (passed.unit.at() - unit(0, true).at()).as_millis() as u64;
                let (producer, key) = producers[number as usize];
                let follows = last.is_some_and(|(before, by)| before + 1 == number && by == producer);
                prop_assert!(key || follows, "unit {number} of {producers:?}");
                prop_assert!(passed.resumes || follows, "unit {number} says nothing of what lacks");
                last = Some((number, producer));
            }
        }
    }
}
