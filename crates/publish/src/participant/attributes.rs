//! The participant's attributes, and when they are sent.

use super::action::Actions;
use crate::message;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long after the attributes they are sent once more. The copies that race each other are written within 20 ms of each other
/// (measured); a second is long for a busy server too, and short for whoever lists participants.
pub(super) const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Attributes {
    wanted: BTreeMap<String, String>,
    sent: bool,
    repeat_at: Option<Instant>,
}

impl Attributes {
    pub(super) fn new(wanted: BTreeMap<String, String>) -> Self {
        Self { wanted, sent: false, repeat_at: None }
    }

    /// Adds to what is wanted.
    pub(super) fn want(&mut self, attributes: &BTreeMap<String, String>) {
        for (key, value) in attributes {
            if self.wanted.get(key) != Some(value) {
                self.wanted.insert(key.clone(), value.clone());
                self.sent = false;
            }
        }
    }

    /// The server may not know them any more.
    pub(super) fn forgotten(&mut self) {
        self.sent = false;
        self.repeat_at = None;
    }

    /// Sends them, if the server does not know them. Only once everything else has settled, and once more a little later:
    /// livekit-server stores what others list of a participant when its state, its tracks or its attributes change, several tasks at
    /// a time, and the oldest of these copies may be written last, without a track or without the attributes (measured, 1.13.5).
    pub(super) fn send(&mut self, now: Instant, actions: &mut Actions) {
        if !std::mem::replace(&mut self.sent, true) && !self.wanted.is_empty() {
            actions.send(message::attributes(&self.wanted));
            self.repeat_at = Some(now + REPEAT_AFTER);
        }
    }

    /// Sends them once more if that is due.
    pub(super) fn tick(&mut self, now: Instant, actions: &mut Actions) {
        if self.repeat_at.take_if(|at| *at <= now).is_some() {
            actions.send(message::attributes(&self.wanted));
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.repeat_at
    }
}
