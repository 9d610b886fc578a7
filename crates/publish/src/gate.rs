//! Which frames go out: none while there is no connection, none that nobody wants, and after a pause only from a key frame on.
//! Pure; the clock is in the frames.

use crate::AccessUnit;
use media::{KeyframeGate, Passage};
use model::Packet;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How much may wait for the connection, per layer: more than half a second of pictures at once would put a viewer's jitter
/// buffer as far behind.
const PREROLL_TIME: Duration = Duration::from_millis(500);
const PREROLL_UNITS: usize = 512;
/// Bytes of the same: half a second of 16 Mbit/s, and a large key frame.
const PREROLL_BYTES: usize = 2 * 1024 * 1024;

/// What a gate lets through: a picture, or a packet of one that is passed on.
#[derive(Debug)]
pub(crate) enum Unit {
    AccessUnit(AccessUnit),
    Packet(Packet),
}

impl Unit {
    fn key(&self) -> bool {
        match self {
            Self::AccessUnit(unit) => unit.key,
            Self::Packet(packet) => packet.key,
        }
    }

    fn at(&self) -> Instant {
        match self {
            Self::AccessUnit(unit) => unit.at,
            Self::Packet(packet) => packet.at,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::AccessUnit(unit) => unit.data.len(),
            Self::Packet(packet) => packet.payload.len(),
        }
    }

    /// Who produces it: what others produce can't be decoded together with it. All access units of a layer are one encoder's.
    fn producer(&self) -> Producer {
        match self {
            Self::AccessUnit(_) => Producer::Encoder,
            Self::Packet(packet) => Producer::Passthrough(packet.stream),
        }
    }
}

/// Who produces a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Producer {
    Encoder,
    /// A stream of a source, by [`Packet::stream`].
    Passthrough(u64),
}

/// What to do with a unit.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes out; and whether others were left out before it.
    Send(Unit, bool),
    /// It is kept for later, or dropped.
    Hold,
}

/// A unit that goes out once there is a connection.
#[derive(Debug)]
pub(crate) struct Waited {
    pub(crate) layer: usize,
    pub(crate) unit: Unit,
    /// Others were left out before it.
    pub(crate) fresh: bool,
}

#[derive(Debug, Default)]
struct Layer {
    unwanted: bool,
    gate: KeyframeGate,
    /// Of the newest unit.
    producer: Option<Producer>,
    /// The newest key frame and what followed, while there is no connection.
    preroll: VecDeque<Unit>,
}

/// The gate of a video track.
#[derive(Debug)]
pub(crate) struct Gate {
    up: bool,
    muted: bool,
    layers: Vec<Layer>,
}

impl Gate {
    pub(crate) fn new(layers: usize) -> Self {
        Self { up: false, muted: false, layers: (0..layers).map(|_| Layer::default()).collect() }
    }

    /// Whether there is no layer at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// A unit of a layer comes.
    pub(crate) fn unit(&mut self, layer: usize, unit: Unit) -> Verdict {
        let closed = self.muted;
        let Some(layer) = self.layers.get_mut(layer) else { return Verdict::Hold };
        if layer.producer.replace(unit.producer()) != Some(unit.producer()) {
            layer.gate.close();
        }
        if closed || layer.unwanted {
            layer.forget();
            return Verdict::Hold;
        }
        match layer.gate.pass(unit.key()) {
            Passage::Dropped => Verdict::Hold,
            _ if !self.up => {
                layer.keep(unit);
                Verdict::Hold
            }
            passage => Verdict::Send(unit, passage == Passage::Resumes),
        }
    }

    /// The connection is there: returns what has waited for it, in the order it goes out, and the layers for which nothing
    /// has, so that a key frame is needed.
    pub(crate) fn open(&mut self) -> (Vec<Waited>, Vec<usize>) {
        if std::mem::replace(&mut self.up, true) {
            return Default::default();
        }
        let mut out = Vec::new();
        let mut lacking = Vec::new();
        for (i, layer) in self.layers.iter_mut().enumerate().filter(|(_, l)| !l.unwanted) {
            if layer.preroll.is_empty() {
                lacking.push(i);
                continue;
            }
            let units = layer.preroll.drain(..).enumerate();
            out.extend(units.map(|(n, unit)| Waited { layer: i, unit, fresh: n == 0 }));
        }
        // The sort is stable: what belongs to one moment stays in its order.
        out.sort_by_key(|w| w.unit.at());
        (out, lacking)
    }

    /// The connection is gone.
    pub(crate) fn shut(&mut self) {
        if std::mem::replace(&mut self.up, false) {
            self.layers.iter_mut().for_each(|layer| layer.gate.close());
        }
    }

    /// Whether anybody wants each layer. Returns those that come back and need a key frame.
    pub(crate) fn want(&mut self, wanted: &[bool]) -> Vec<usize> {
        let (mut back, up) = (Vec::new(), self.up);
        for (i, (layer, wanted)) in self.layers.iter_mut().zip(wanted).enumerate() {
            if *wanted && layer.unwanted {
                if up {
                    layer.gate.close();
                }
                back.push(i);
            }
            layer.unwanted = !wanted;
        }
        back
    }

    /// Whether the room has muted the track. Returns the layers that come back and need a key frame.
    pub(crate) fn mute(&mut self, muted: bool) -> Vec<usize> {
        let back = self.muted && !muted;
        self.muted = muted;
        if !back {
            return Vec::new();
        }
        self.layers.iter().enumerate().filter(|(_, l)| !l.unwanted).map(|(i, _)| i).collect()
    }
}

impl Layer {
    /// Keeps a unit that the gate passes until there is a connection.
    fn keep(&mut self, unit: Unit) {
        if unit.key() {
            self.preroll.clear();
        }
        let first = self.preroll.front().map_or(unit.at(), Unit::at);
        let bytes: usize = self.preroll.iter().map(Unit::len).sum();
        let long = unit.at().saturating_duration_since(first) > PREROLL_TIME;
        if !self.preroll.is_empty()
            && (long || self.preroll.len() >= PREROLL_UNITS || bytes + unit.len() > PREROLL_BYTES)
        {
            self.forget();
        } else {
            self.preroll.push_back(unit);
        }
    }

    /// Nothing goes out before the next key frame.
    fn forget(&mut self) {
        self.preroll.clear();
        self.gate.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use model::Kind;
    use std::sync::LazyLock;

    fn picture(ms: u64, key: bool) -> AccessUnit {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        let pts = Duration::from_millis(ms);
        AccessUnit { pts: pts.into(), at: *START + pts, key, data: Bytes::from_static(&[1; 10]), level: None }
    }

    fn frame(ms: u64, key: bool) -> Unit {
        Unit::AccessUnit(picture(ms, key))
    }

    fn packet(ms: u64, stream: u64, key: bool) -> Unit {
        Unit::Packet(Packet {
            kind: Kind::Video,
            layer: 0,
            stream,
            sequence: 0,
            timestamp: 0,
            at: picture(ms, key).at,
            marker: false,
            key,
            level: None,
            orientation: None,
            descriptor: None,
            before: None,
            payload: [1][..].into(),
        })
    }

    fn sent(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Send(..))
    }

    fn fresh(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Send(_, true))
    }

    #[test]
    fn another_sender_begins_with_a_key_packet_and_without_a_gap() {
        let mut gate = Gate::new(1);
        gate.unit(0, packet(0, 7, true));
        let (waited, _) = gate.open();
        assert!(waited[0].fresh);
        assert!(sent(&gate.unit(0, packet(1, 7, false))));
        assert!(!sent(&gate.unit(0, packet(2, 8, false))), "nothing to build on");
        assert!(fresh(&gate.unit(0, packet(3, 8, true))) && !fresh(&gate.unit(0, packet(4, 8, false))));
        gate.want(&[false]);
        assert!(!sent(&gate.unit(0, packet(5, 8, true))));
        gate.want(&[true]);
        assert!(!sent(&gate.unit(0, packet(6, 8, false))) && fresh(&gate.unit(0, packet(7, 8, true))));
    }

    #[test]
    fn the_newest_key_frame_and_what_follows_wait_for_the_connection() {
        let mut gate = Gate::new(2);
        for (ms, key) in [(0, false), (40, true), (80, false), (120, true), (160, false)] {
            assert!(!sent(&gate.unit(0, frame(ms, key))));
        }
        let (out, lacking) = gate.open();
        let times: Vec<_> = out.iter().map(|w| (w.layer, w.unit.at(), w.unit.key())).collect();
        assert_eq!(times, [(0, frame(120, true).at(), true), (0, frame(160, false).at(), false)]);
        assert_eq!(lacking, [1]);
        assert!(sent(&gate.unit(0, frame(200, false))), "what follows the preroll follows it");
        assert!(!sent(&gate.unit(1, frame(200, false))) && sent(&gate.unit(1, frame(240, true))));
    }

    #[test]
    fn what_waited_too_long_is_let_go() {
        let mut gate = Gate::new(1);
        gate.unit(0, frame(0, true));
        for n in 1..20 {
            gate.unit(0, frame(n * 40, false));
        }
        let (out, lacking) = gate.open();
        assert!(out.is_empty());
        assert_eq!(lacking, [0]);

        let mut gate = Gate::new(1);
        gate.unit(0, frame(0, true));
        let big = AccessUnit { data: vec![0; PREROLL_BYTES].into(), ..picture(40, false) };
        gate.unit(0, Unit::AccessUnit(big));
        assert!(gate.open().0.is_empty());
    }

    #[test]
    fn a_layer_that_comes_back_starts_with_a_key_frame() {
        let mut gate = Gate::new(2);
        gate.open();
        for layer in 0..2 {
            assert!(sent(&gate.unit(layer, frame(0, true))));
        }
        assert!(gate.want(&[true, false]).is_empty());
        assert!(sent(&gate.unit(0, frame(40, false))) && !sent(&gate.unit(1, frame(40, true))));
        assert_eq!(gate.want(&[true, true]), [1]);
        assert!(!sent(&gate.unit(1, frame(80, false))) && sent(&gate.unit(1, frame(120, true))));
    }

    #[test]
    fn a_muted_track_is_silent_until_its_next_key_frame() {
        let mut gate = Gate::new(1);
        gate.open();
        assert!(sent(&gate.unit(0, frame(0, true))));
        assert!(gate.mute(true).is_empty());
        assert!(!sent(&gate.unit(0, frame(40, true))));
        assert_eq!(gate.mute(false), [0]);
        assert!(!sent(&gate.unit(0, frame(80, false))) && sent(&gate.unit(0, frame(120, true))));
    }

    #[test]
    fn a_lost_connection_starts_over() {
        let mut gate = Gate::new(1);
        gate.open();
        assert!(sent(&gate.unit(0, frame(0, true))));
        assert!(gate.open().1.is_empty() && sent(&gate.unit(0, frame(20, false))), "it was open");
        gate.shut();
        gate.unit(0, frame(40, false));
        assert_eq!(gate.open().1, [0]);
        assert!(!sent(&gate.unit(0, frame(80, false))));
        assert!(!sent(&gate.unit(7, frame(80, true))), "no such layer");
    }
}
