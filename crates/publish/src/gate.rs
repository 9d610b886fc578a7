//! Which video goes out: none while there is no connection, no layer that nobody watches, and behind a gap only from a key frame on.
//! Pure; the time is in the units.

use crate::AccessUnit;
use media::{GateDecision, KeyframeGate};
use model::Packet;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How much of a layer may wait for the connection: more than half a second of it at once would put a viewer's jitter buffer as far
/// behind.
const PREROLL_TIME: Duration = Duration::from_millis(500);
const PREROLL_UNITS: usize = 512;
/// Bytes of the same: half a second of 16 Mbit/s, and a large key frame.
const PREROLL_BYTES: usize = 2 * 1024 * 1024;

/// What a gate lets through: an access unit, or a packet of one that is passed through.
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

    /// What others produce can't be decoded together with this. Access units may come of an encoder and then of the source: each that
    /// takes over begins with a key frame.
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

/// A unit that goes out.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) layer: usize,
    pub(crate) unit: Unit,
    /// Others of its layer were left out before it.
    pub(crate) resumes: bool,
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
    connected: bool,
    muted: bool,
    layers: Vec<Layer>,
}

impl Gate {
    /// `layers`: how many. There is no connection yet.
    pub(crate) fn new(layers: usize) -> Self {
        Self { connected: false, muted: false, layers: (0..layers).map(|_| Layer::default()).collect() }
    }

    /// Whether there is no layer at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// A unit of a layer comes. Gives it back if it goes out; otherwise it is kept for the connection, or dropped.
    pub(crate) fn pass(&mut self, index: usize, unit: Unit) -> Option<Passed> {
        let layer = self.layers.get_mut(index)?;
        let producer = Some(unit.producer());
        if std::mem::replace(&mut layer.producer, producer) != producer || self.muted || layer.unwanted {
            layer.forget();
        }
        if self.muted || layer.unwanted {
            return None;
        }
        match layer.gate.pass(unit.key()) {
            GateDecision::Dropped => None,
            _ if !self.connected => {
                layer.keep(unit);
                None
            }
            passage => Some(Passed { layer: index, unit, resumes: passage == GateDecision::Resumes }),
        }
    }

    /// The connection is there: gives what has waited for it, in the order in which it goes out, and the layers of which nothing
    /// has, so that they need a key frame.
    pub(crate) fn connect(&mut self) -> (Vec<Passed>, Vec<usize>) {
        if std::mem::replace(&mut self.connected, true) {
            return Default::default();
        }
        let (mut out, mut lacking) = (Vec::new(), Vec::new());
        for (i, layer) in self.layers.iter_mut().enumerate().filter(|(_, l)| !l.unwanted) {
            if layer.preroll.is_empty() {
                lacking.push(i);
            }
            let units = layer.preroll.drain(..).enumerate();
            out.extend(units.map(|(n, unit)| Passed { layer: i, unit, resumes: n == 0 }));
        }
        // The sort is stable: what belongs to one moment stays in its order.
        out.sort_by_key(|passed| passed.unit.at());
        (out, lacking)
    }

    /// The connection is gone.
    pub(crate) fn disconnect(&mut self) {
        if std::mem::replace(&mut self.connected, false) {
            self.layers.iter_mut().for_each(Layer::forget);
        }
    }

    /// Whether anybody watches each layer. Gives those that come back and need a key frame.
    pub(crate) fn want(&mut self, wanted: &[bool]) -> Vec<usize> {
        let mut back = Vec::new();
        for (i, (layer, wanted)) in self.layers.iter_mut().zip(wanted).enumerate() {
            if *wanted && layer.unwanted {
                if self.connected {
                    layer.gate.close();
                }
                back.push(i);
            }
            layer.unwanted = !wanted;
        }
        back
    }

    /// Whether the room has muted the track. Gives the layers that come back and need a key frame.
    pub(crate) fn mute(&mut self, muted: bool) -> Vec<usize> {
        let back = std::mem::replace(&mut self.muted, muted) && !muted;
        self.layers.iter().enumerate().filter(|(_, l)| back && !l.unwanted).map(|(i, _)| i).collect()
    }
}

impl Layer {
    /// Keeps a unit that the gate passes until there is a connection. Where too much waits, all of it goes.
    fn keep(&mut self, unit: Unit) {
        if unit.key() {
            self.preroll.clear();
        }
        let bytes: usize = self.preroll.iter().map(Unit::len).sum();
        let full = self.preroll.front().is_some_and(|first| {
            let time = unit.at().saturating_duration_since(first.at());
            time > PREROLL_TIME || self.preroll.len() >= PREROLL_UNITS || bytes + unit.len() > PREROLL_BYTES
        });
        if full {
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
mod tests;
