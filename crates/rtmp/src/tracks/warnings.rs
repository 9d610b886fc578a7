//! What is wrong with the tracks of a publish: warnings, each given once, and what makes a track unusable. Nothing of it ends the publish,
//! as the other track may be as it should be.

use crate::Event;
use media::ConfigError;
use model::{Kind, Media};
use std::collections::VecDeque;

/// Messages in a row that are left out of a track after which it is unusable. Relays that join a stream in its middle send some
/// before the first configuration. Two seconds at 30 frames a second.
pub(super) const MAX_LEFT_OUT: u32 = 60;

/// Remembers what was warned of.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    /// What each warning was about. Bounded, as all of these are literals of this crate.
    given: Vec<&'static str>,
    audio: Track,
    video: Track,
}

/// What is wrong with one track.
#[derive(Debug, Default)]
struct Track {
    /// What is wrong with its newest configuration.
    config_fault: Option<&'static str>,
    /// Messages in a row that were left out.
    left_out: u32,
    /// Why it was called unusable, and after how many of these messages.
    unusable: Option<(String, u32)>,
}

impl Track {
    /// Counts a message that is left out. Whether the track is to be called unusable because of this text now: `at_once`, or after
    /// [`MAX_LEFT_OUT`]; and once more if there is another reason after as many.
    fn leave_out(&mut self, at_once: bool, text: &str) -> bool {
        self.left_out = self.left_out.saturating_add(1);
        let say = match &self.unusable {
            None => at_once || self.left_out >= MAX_LEFT_OUT,
            Some((told, at)) => told != text && self.left_out - at >= MAX_LEFT_OUT,
        };
        if say {
            self.unusable = Some((text.to_owned(), self.left_out));
        }
        say
    }
}

impl Warnings {
    fn track(&mut self, kind: Kind) -> &mut Track {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }

    /// Warns, once for each `what`.
    pub(super) fn warn(&mut self, what: &'static str, text: impl FnOnce() -> String, events: &mut VecDeque<Event>) {
        if !self.given.contains(&what) {
            self.given.push(what);
            events.push_back(Event::Warning(text()));
        }
    }

    /// A message is left out, and with it at last its track.
    fn leave_out(&mut self, kind: Kind, at_once: bool, text: String, events: &mut VecDeque<Event>) {
        if self.track(kind).leave_out(at_once, &text) {
            events.push_back(Event::Media(Media::Unusable(kind, text)));
        }
    }

    /// A message whose codec no decoder takes, or that nobody knows. Its track is unusable at once, unless it `plays`: then this may be
    /// a stray message.
    pub(super) fn undecodable(
        &mut self,
        kind: Kind,
        codec: &'static str,
        name: &str,
        plays: bool,
        events: &mut VecDeque<Event>,
    ) {
        let text = format!("{name} is left out: it cannot be decoded here; send H.264 video with AAC audio");
        self.warn(codec, || text.clone(), events);
        self.leave_out(kind, !plays, text, events);
    }

    /// A message that can't be read.
    pub(super) fn malformed(&mut self, kind: Kind, events: &mut VecDeque<Event>) {
        let what = if kind == Kind::Video { "malformed video" } else { "malformed audio" };
        let text = format!("{what} messages are left out: they end too early or contradict themselves");
        self.warn(what, || text.clone(), events);
        self.leave_out(kind, false, text, events);
    }

    /// A configuration that is none. What came before it stays, and another may come.
    pub(super) fn bad_config(&mut self, kind: Kind, error: ConfigError, events: &mut VecDeque<Event>) {
        let what = if kind == Kind::Video { "video configuration" } else { "audio configuration" };
        self.warn(what, || format!("{error}; it is ignored"), events);
        self.track(kind).config_fault = Some(error.why);
    }

    /// A frame without a configuration.
    pub(super) fn unconfigured(&mut self, kind: Kind, name: &'static str, events: &mut VecDeque<Event>) {
        let why = match self.track(kind).config_fault {
            Some(why) => format!("is malformed ({why})"),
            None => "did not come".into(),
        };
        let text =
            format!("{name} frames are left out: their decoder configuration {why}; start the encoder's stream again");
        self.warn(name, || text.clone(), events);
        self.leave_out(kind, false, text, events);
    }

    /// A configuration of this track goes on: with it begins what can be decoded.
    pub(super) fn configured(&mut self, kind: Kind) {
        *self.track(kind) = Track::default();
    }

    /// Something of this track goes on. Whether the track counted as unusable, so that its configuration has to be told again.
    pub(super) fn usable(&mut self, kind: Kind) -> bool {
        let track = self.track(kind);
        track.left_out = 0;
        track.unusable.take().is_some()
    }
}
