//! Warnings about a stream, each given once, and the tracks that become unusable by them.

use crate::Event;
use model::{Kind, Media};
use std::collections::VecDeque;

/// Frames without a decoder configuration after which their track is unusable. Relays that join a stream in its middle send some
/// before the first configuration. Two seconds at 30 frames a second.
pub(super) const MAX_UNCONFIGURED: u32 = 60;

/// Remembers what was warned of.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    /// What each warning was about. Bounded, as all of these are literals of this crate.
    given: Vec<&'static str>,
    /// Video frames without a configuration.
    unconfigured_video: u32,
    /// Audio packets without a configuration.
    unconfigured_audio: u32,
}

impl Warnings {
    /// Warns, once for each `what`.
    pub(super) fn warn(&mut self, what: &'static str, text: impl FnOnce() -> String, events: &mut VecDeque<Event>) {
        if !self.given.contains(&what) {
            self.given.push(what);
            events.push_back(Event::Warning(text()));
        }
    }

    /// Warns once that no decoder takes this codec, and marks the track as unusable.
    pub(super) fn undecodable(&mut self, kind: Kind, name: &'static str, events: &mut VecDeque<Event>) {
        if !self.given.contains(&name) {
            let text = format!("{name} is left out: it cannot be decoded here; send H.264 video with AAC audio");
            self.warn(name, || text.clone(), events);
            events.push_back(Event::Media(Media::Unusable(kind, text)));
        }
    }

    /// Warns of a frame without a configuration, and marks the track as unusable after too many.
    pub(super) fn unconfigured(&mut self, kind: Kind, name: &'static str, events: &mut VecDeque<Event>) {
        let text = format!(
            "{name} frames are left out: their decoder configuration did not come; start the encoder's stream again"
        );
        self.warn(name, || text.clone(), events);
        let count = match kind {
            Kind::Video => &mut self.unconfigured_video,
            Kind::Audio => &mut self.unconfigured_audio,
        };
        *count = count.saturating_add(1);
        if *count == MAX_UNCONFIGURED {
            events.push_back(Event::Media(Media::Unusable(kind, text)));
        }
    }
}
