//! What the room's viewers want of the video track: layers, and key frames for the first of them.

use super::action::Actions;
use crate::{Event, VideoTrack, message};
use livekit_protocol as proto;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When to request key frames once somebody subscribed: the first are sent before the server has bound the viewer's track, and it asks
/// again only after a second. Measured: median of the first picture 0.2 s in place of up to 1.3 s.
const KEYFRAME_BURST: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(250), Duration::from_millis(500)];

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Viewers {
    /// For each layer whether anybody watches it, as the server last said.
    wanted: Vec<bool>,
    /// Somebody has subscribed.
    subscribed: bool,
    /// When to request key frames.
    burst: VecDeque<Instant>,
}

impl Viewers {
    /// Of a track of so many layers, all of which are wanted until the server says otherwise.
    pub(super) fn new(layers: usize) -> Self {
        Self { wanted: vec![true; layers], subscribed: false, burst: VecDeque::new() }
    }

    /// What the server said counts no more: all layers are wanted until it speaks again.
    pub(super) fn want_all(&mut self, actions: &mut Actions) {
        if self.wanted.contains(&false) {
            self.wanted.fill(true);
            actions.emit(Event::LayersWanted(self.wanted.clone()));
        }
    }

    /// A new peer connection has no viewers yet.
    pub(super) fn reset(&mut self, actions: &mut Actions) {
        self.subscribed = false;
        self.burst.clear();
        self.want_all(actions);
    }

    /// The server says which qualities are watched.
    pub(super) fn update(
        &mut self,
        update: &proto::SubscribedQualityUpdate,
        track: &VideoTrack,
        actions: &mut Actions,
    ) {
        let wanted = message::wanted(update, track, &self.wanted);
        if wanted != self.wanted {
            self.wanted.clone_from(&wanted);
            actions.emit(Event::LayersWanted(wanted));
        }
    }

    /// Somebody subscribed.
    pub(super) fn subscribed(&mut self, media_up: bool, now: Instant) {
        self.subscribed = true;
        if media_up {
            self.media_up(now);
        }
    }

    /// Media flows: whoever has subscribed needs key frames.
    pub(super) fn media_up(&mut self, now: Instant) {
        if self.subscribed {
            self.burst = KEYFRAME_BURST.iter().map(|after| now + *after).collect();
        }
    }

    /// Requests key frames if that is due.
    pub(super) fn tick(&mut self, now: Instant, actions: &mut Actions) {
        while self.burst.front().is_some_and(|at| *at <= now) {
            self.burst.pop_front();
            for layer in (0..self.wanted.len()).filter(|l| self.wanted[*l]) {
                actions.emit(Event::KeyframeRequest { layer });
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.burst.front().copied()
    }
}
