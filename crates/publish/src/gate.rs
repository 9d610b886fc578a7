//! Which frames go out: none while there is no connection, none that nobody wants, and after a pause only from a key frame on.
//! Pure; the clock is in the frames.

use crate::Out;
use std::collections::VecDeque;
use std::time::Duration;

/// How much may wait for the connection, per layer: more than half a second of pictures at once would put a viewer's jitter
/// buffer as far behind.
const PREROLL_TIME: Duration = Duration::from_millis(500);
const PREROLL_FRAMES: usize = 60;
/// Bytes of the same: half a second of 16 Mbit/s, and a large key frame.
const PREROLL_BYTES: usize = 2 * 1024 * 1024;

/// What to do with a frame.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes out.
    Send(Out),
    /// It is kept for later, or dropped.
    Hold,
}

#[derive(Debug, Default)]
struct Layer {
    unwanted: bool,
    /// Nothing before the next key frame can be decoded by anyone.
    needs_key: bool,
    /// The newest key frame and what followed, while there is no connection.
    preroll: VecDeque<Out>,
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

    /// A frame of a layer comes.
    pub(crate) fn frame(&mut self, layer: usize, frame: Out) -> Verdict {
        let closed = self.muted;
        let Some(layer) = self.layers.get_mut(layer) else { return Verdict::Hold };
        if closed || layer.unwanted {
            layer.needs_key = true;
            layer.preroll.clear();
            return Verdict::Hold;
        }
        if !self.up {
            layer.keep(frame);
            return Verdict::Hold;
        }
        if layer.needs_key && !frame.key {
            return Verdict::Hold;
        }
        layer.needs_key = false;
        Verdict::Send(frame)
    }

    /// The connection is there: returns what has waited for it, in the order it goes out, and the layers for which nothing
    /// has, so that a key frame is needed.
    pub(crate) fn open(&mut self) -> (Vec<(usize, Out)>, Vec<usize>) {
        if std::mem::replace(&mut self.up, true) {
            return Default::default();
        }
        let mut out = Vec::new();
        let mut lacking = Vec::new();
        for (i, layer) in self.layers.iter_mut().enumerate().filter(|(_, l)| !l.unwanted) {
            layer.needs_key = layer.preroll.is_empty();
            if layer.needs_key {
                lacking.push(i);
            }
            out.extend(layer.preroll.drain(..).map(|f| (i, f)));
        }
        out.sort_by_key(|(_, f)| f.pts);
        (out, lacking)
    }

    /// The connection is gone.
    pub(crate) fn shut(&mut self) {
        self.up = false;
    }

    /// Whether anybody wants each layer. Returns those that come back and need a key frame.
    pub(crate) fn want(&mut self, wanted: &[bool]) -> Vec<usize> {
        let mut back = Vec::new();
        for (i, (layer, wanted)) in self.layers.iter_mut().zip(wanted).enumerate() {
            if *wanted && layer.unwanted {
                layer.needs_key = true;
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
    fn keep(&mut self, frame: Out) {
        if frame.key {
            self.preroll.clear();
        }
        let Some(first) = self.preroll.front() else {
            if frame.key {
                self.preroll.push_back(frame);
            }
            return;
        };
        let bytes: usize = self.preroll.iter().map(|f| f.data.len()).sum();
        let long = frame.pts.since(first.pts).is_none_or(|t| t > PREROLL_TIME);
        if long || self.preroll.len() >= PREROLL_FRAMES || bytes + frame.data.len() > PREROLL_BYTES {
            self.preroll.clear();
        } else {
            self.preroll.push_back(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use model::MediaTime;
    use std::time::Instant;

    fn frame(ms: i64, key: bool) -> Out {
        Out { pts: MediaTime::from_millis(ms), at: Instant::now(), key, data: Bytes::from_static(&[1; 10]) }
    }

    fn sent(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Send(_))
    }

    #[test]
    fn the_newest_key_frame_and_what_follows_wait_for_the_connection() {
        let mut gate = Gate::new(2);
        for (ms, key) in [(0, false), (40, true), (80, false), (120, true), (160, false)] {
            assert!(!sent(&gate.frame(0, frame(ms, key))));
        }
        let (out, lacking) = gate.open();
        let times: Vec<_> = out.iter().map(|(l, f)| (*l, f.pts.as_millis(), f.key)).collect();
        assert_eq!(times, [(0, 120, true), (0, 160, false)]);
        assert_eq!(lacking, [1]);
        assert!(sent(&gate.frame(0, frame(200, false))), "what follows the preroll follows it");
        assert!(!sent(&gate.frame(1, frame(200, false))) && sent(&gate.frame(1, frame(240, true))));
    }

    #[test]
    fn what_waited_too_long_is_let_go() {
        let mut gate = Gate::new(1);
        gate.frame(0, frame(0, true));
        for n in 1..20 {
            gate.frame(0, frame(n * 40, false));
        }
        let (out, lacking) = gate.open();
        assert!(out.is_empty());
        assert_eq!(lacking, [0]);

        let mut gate = Gate::new(1);
        gate.frame(0, frame(0, true));
        let big = Out { data: vec![0; PREROLL_BYTES].into(), ..frame(40, false) };
        gate.frame(0, big);
        assert!(gate.open().0.is_empty());
    }

    #[test]
    fn a_layer_that_comes_back_starts_with_a_key_frame() {
        let mut gate = Gate::new(2);
        gate.open();
        for layer in 0..2 {
            assert!(sent(&gate.frame(layer, frame(0, true))));
        }
        assert!(gate.want(&[true, false]).is_empty());
        assert!(sent(&gate.frame(0, frame(40, false))) && !sent(&gate.frame(1, frame(40, true))));
        assert_eq!(gate.want(&[true, true]), [1]);
        assert!(!sent(&gate.frame(1, frame(80, false))) && sent(&gate.frame(1, frame(120, true))));
    }

    #[test]
    fn a_muted_track_is_silent_until_its_next_key_frame() {
        let mut gate = Gate::new(1);
        gate.open();
        assert!(sent(&gate.frame(0, frame(0, true))));
        assert!(gate.mute(true).is_empty());
        assert!(!sent(&gate.frame(0, frame(40, true))));
        assert_eq!(gate.mute(false), [0]);
        assert!(!sent(&gate.frame(0, frame(80, false))) && sent(&gate.frame(0, frame(120, true))));
    }

    #[test]
    fn a_lost_connection_starts_over() {
        let mut gate = Gate::new(1);
        gate.open();
        assert!(sent(&gate.frame(0, frame(0, true))));
        assert!(gate.open().1.is_empty() && sent(&gate.frame(0, frame(20, false))), "it was open");
        gate.shut();
        gate.frame(0, frame(40, false));
        assert_eq!(gate.open().1, [0]);
        assert!(!sent(&gate.frame(0, frame(80, false))));
        assert!(!sent(&gate.frame(7, frame(80, true))), "no such layer");
    }
}
