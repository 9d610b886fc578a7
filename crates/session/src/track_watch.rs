//! Notices tracks that were announced and do not get through, so that no media fault passes in silence: one that never comes, one that
//! stops, one of which nothing comes out of decoder and encoder, one whose media is damaged, one that viewers can't see as it is meant.
//! Pure: `now` goes in.
//!
//! It judges nothing else: a session with a trouble goes on, and says so in its log and its state.

use model::{Kind, SourceTracks};
use std::time::{Duration, Instant};

/// How long nothing may come of an announced track, or out of it, before that is said: a viewer would have noticed by then, and a worker
/// that is replaced takes less.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest patience. It doubles whenever a track that was reported comes back: a slide show of one picture in ten seconds is none
/// that has stopped.
const MAX_PATIENCE: Duration = Duration::from_secs(80);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct TrackWatch {
    /// Audio and video.
    tracks: [Track; 2],
    /// What its input says of the source.
    notice: Option<String>,
}

#[derive(Debug)]
struct Track {
    kind: Kind,
    /// It was announced, or something of it came. Since then.
    announced: Option<Instant>,
    /// When something of it last came from the source.
    came: Option<Instant>,
    /// When the first of what came since something last went to the room did, or since somebody waits for that.
    waiting: Option<Instant>,
    /// Whether anything ever went to the room.
    delivered: bool,
    /// Why it can't be decoded.
    unusable: Option<String>,
    /// What the decoder complains of, while much of it is damaged.
    damaged: Option<String>,
    /// Why viewers don't see it as it is meant, though it gets through, and when that was last so.
    flaw: Option<(&'static str, Instant)>,
    patience: Duration,
    trouble: Option<Trouble>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    NeverCame,
    Stopped,
    NothingOut,
}

impl Track {
    fn new(kind: Kind) -> Self {
        let (announced, came, waiting) = (None, None, None);
        let (delivered, unusable, damaged, flaw, trouble) = (false, None, None, None, None);
        Self { kind, announced, came, waiting, delivered, unusable, damaged, flaw, patience: PATIENCE, trouble }
    }

    /// Since when it has been in the state that becomes a trouble after [`PATIENCE`].
    fn suspect(&self) -> Option<(Trouble, Instant)> {
        let announced = self.announced?;
        Some(match (self.came, self.waiting) {
            (None, _) => (Trouble::NeverCame, announced),
            (Some(came), Some(waiting)) if waiting < came => (Trouble::NothingOut, waiting),
            (Some(came), _) => (Trouble::Stopped, came),
        })
    }

    fn due(&self) -> Option<Instant> {
        let suspect = self.suspect().filter(|(trouble, _)| self.unusable.is_none() && self.trouble != Some(*trouble));
        let flaw = self.flaw.map(|(_, last)| last + PATIENCE);
        suspect.map(|(_, since)| since + self.patience).into_iter().chain(flaw).min()
    }

    /// Judges it; whether that has changed.
    fn tick(&mut self, now: Instant) -> bool {
        let found = self.suspect().filter(|(_, since)| self.unusable.is_none() && now >= *since + self.patience);
        let found = found.map(|(trouble, _)| trouble);
        let mended = self.flaw.take_if(|(_, last)| now >= *last + PATIENCE).is_some();
        let changed = found != self.trouble;
        if changed && found.is_none() && self.unusable.is_none() {
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
        }
        self.trouble = found;
        changed || mended
    }

    fn text(&self) -> Option<String> {
        if let Some(text) = &self.unusable {
            return Some(text.clone());
        }
        let kind = self.kind.as_str();
        let Some(trouble) = self.trouble else {
            let damage =
                |why: &String| format!("{kind} comes damaged: much of it can't be decoded as it should be ({why})");
            return self.damaged.as_ref().map(damage).or(self.flaw.map(|(why, _)| format!("{kind}: {why}")));
        };
        Some(match trouble {
            Trouble::NeverCame => format!("{kind} was announced, and none has come"),
            Trouble::Stopped => format!("{kind} has stopped: nothing has come for some seconds"),
            Trouble::NothingOut => {
                format!("{kind} comes, but nothing that can be shown has come out of it for some seconds")
            }
        })
    }
}

impl TrackWatch {
    /// Nothing is announced yet.
    pub(crate) fn new() -> Self {
        Self { tracks: [Track::new(Kind::Audio), Track::new(Kind::Video)], notice: None }
    }

    fn track(&mut self, kind: Kind) -> &mut Track {
        &mut self.tracks[usize::from(kind == Kind::Video)]
    }

    /// These tracks are to be expected.
    pub(crate) fn announced(&mut self, tracks: SourceTracks, now: Instant) {
        for (kind, announced) in [(Kind::Audio, tracks.audio), (Kind::Video, tracks.video)] {
            if announced {
                self.track(kind).announced.get_or_insert(now);
            }
        }
    }

    /// Something of a track has come from the source.
    pub(crate) fn came(&mut self, kind: Kind, now: Instant) {
        if self.tracks.iter().all(|track| track.came.is_none()) {
            // Before anything comes nothing is missed: to connect may take its time.
            self.tracks.iter_mut().for_each(|track| track.announced = track.announced.map(|_| now));
        }
        let track = self.track(kind);
        track.announced.get_or_insert(now);
        track.came = Some(now);
        track.waiting.get_or_insert(now);
    }

    /// Something of a track goes to the room.
    pub(crate) fn out(&mut self, kind: Kind) {
        let track = self.track(kind);
        (track.waiting, track.delivered) = (None, true);
    }

    /// Nothing of a track need go to the room now: nobody watches it.
    pub(crate) fn idle(&mut self, kind: Kind) {
        self.track(kind).waiting = None;
    }

    /// Whether a track can be decoded; `Some` says why not.
    pub(crate) fn unusable(&mut self, kind: Kind, why: Option<String>) {
        self.track(kind).unusable = why;
    }

    /// Whether much of a track is damaged; `Some` is what its decoder complains of. Gives whether that is new.
    pub(crate) fn damaged(&mut self, kind: Kind, why: Option<String>) -> bool {
        let track = self.track(kind);
        let new = track.damaged.is_some() != why.is_some();
        if new {
            track.damaged = why;
        }
        new
    }

    /// The input says that something of the source is not as it should be. The newest counts.
    pub(crate) fn notice(&mut self, text: String) {
        self.notice = Some(text);
    }

    /// Viewers don't see a track as it is meant now, though it gets through. Gives whether that is new. It counts as mended when it was
    /// not so for some seconds.
    pub(crate) fn flawed(&mut self, kind: Kind, why: &'static str, now: Instant) -> bool {
        self.track(kind).flaw.replace((why, now)).is_none_or(|(before, _)| before != why)
    }

    /// Another source takes over: what the one before announced does not count.
    pub(crate) fn restart(&mut self) {
        *self = Self::new();
    }

    /// When to call [`TrackWatch::tick`].
    pub(crate) fn due(&self) -> Option<Instant> {
        self.tracks.iter().filter_map(Track::due).min()
    }

    /// Judges all tracks. Gives the troubles in words where they have changed; empty if there are none any more.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<String> {
        let mut changed = false;
        self.tracks.iter_mut().for_each(|track| changed |= track.tick(now));
        changed.then(|| self.text())
    }

    /// Whether nothing comes of any track.
    pub(crate) fn stalled(&self) -> bool {
        let announced = || self.tracks.iter().filter(|track| track.announced.is_some());
        announced().count() > 0 && announced().all(|t| matches!(t.trouble, Some(Trouble::NeverCame | Trouble::Stopped)))
    }

    /// All troubles in words; empty if there are none.
    pub(crate) fn text(&self) -> String {
        self.notice.clone().into_iter().chain(self.tracks.iter().filter_map(Track::text)).collect::<Vec<_>>().join("; ")
    }

    /// What was announced, or is there but left out, and never went to the room, in words; empty if there is nothing.
    pub(crate) fn undelivered(&self) -> String {
        let there = |track: &&Track| track.announced.is_some() || track.unusable.is_some();
        let missing = self.tracks.iter().filter(|track| there(track) && !track.delivered);
        self.notice.clone().into_iter().chain(missing.filter_map(Track::text)).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn both() -> SourceTracks {
        SourceTracks { video: true, audio: true }
    }

    #[test]
    fn a_track_that_gets_through_is_no_trouble() {
        let (mut watch, t0) = (TrackWatch::new(), Instant::now());
        watch.announced(both(), t0);
        for n in 0..200 {
            let now = t0 + SECOND / 10 * n;
            for kind in [Kind::Audio, Kind::Video] {
                watch.came(kind, now);
                watch.out(kind);
            }
            assert_eq!(watch.tick(now), None);
        }
        assert_eq!(watch.text(), "");
    }

    #[test]
    fn what_never_comes_is_told_once_and_taken_back() {
        let (mut watch, t0) = (TrackWatch::new(), Instant::now());
        watch.announced(both(), t0);
        let feed = |watch: &mut TrackWatch, now| {
            watch.came(Kind::Video, now);
            watch.out(Kind::Video);
        };
        // It took its time to connect.
        let t0 = t0 + SECOND * 7;
        feed(&mut watch, t0);
        assert_eq!((watch.tick(t0), watch.due()), (None, Some(t0 + PATIENCE)));
        feed(&mut watch, t0 + SECOND * 4);
        assert_eq!(watch.tick(t0 + PATIENCE).as_deref(), Some("audio was announced, and none has come"));
        feed(&mut watch, t0 + SECOND * 6);
        assert_eq!(watch.tick(t0 + SECOND * 6), None, "once");
        assert!(watch.undelivered().contains("audio"));
        watch.came(Kind::Audio, t0 + SECOND * 7);
        watch.out(Kind::Audio);
        assert_eq!(watch.tick(t0 + SECOND * 7).as_deref(), Some(""));
        assert_eq!(watch.undelivered(), "");
    }

    #[test]
    fn nothing_out_of_what_comes_is_told() {
        let (mut watch, t0) = (TrackWatch::new(), Instant::now());
        watch.announced(SourceTracks { video: true, audio: false }, t0);
        let mut told = Vec::new();
        for n in 0..120 {
            let now = t0 + SECOND / 10 * n;
            watch.came(Kind::Video, now);
            told.extend(watch.tick(now).map(|text| (n, text)));
        }
        let [(at, text)] = &told[..] else { panic!("{told:?}") };
        assert!((50..52).contains(at) && text.starts_with("video comes, but nothing"), "{told:?}");
        // While nobody watches nothing is expected.
        let (mut watch, mut now) = (TrackWatch::new(), t0);
        for _ in 0..200 {
            now += SECOND / 10;
            watch.came(Kind::Video, now);
            watch.idle(Kind::Video);
            assert_eq!(watch.tick(now), None);
        }
        for _ in 0..40 {
            now += SECOND / 10;
            watch.came(Kind::Video, now);
            assert_eq!(watch.tick(now), None, "a decoder takes its time to begin again");
        }
    }

    #[test]
    fn slides_raise_fewer_and_fewer_alarms() {
        let (mut watch, t0) = (TrackWatch::new(), Instant::now());
        let mut told = 0;
        for n in 0..100 {
            let now = t0 + SECOND * 15 * n;
            watch.came(Kind::Video, now);
            watch.out(Kind::Video);
            told += usize::from(watch.tick(now).is_some_and(|text| !text.is_empty()));
            let due = watch.due().filter(|due| *due < now + SECOND * 15);
            told += due.map_or(0, |due| usize::from(watch.tick(due).is_some_and(|text| !text.is_empty())));
        }
        assert_eq!(told, 2, "5 s and 10 s");
    }

    #[test]
    fn a_source_of_which_nothing_comes_is_stalled() {
        let (mut watch, t0) = (TrackWatch::new(), Instant::now());
        let tick = |watch: &mut TrackWatch, seconds: u32| {
            watch.tick(t0 + SECOND * seconds);
            watch.stalled()
        };
        assert!(!tick(&mut watch, 0), "nothing is expected yet");
        watch.announced(both(), t0);
        for kind in [Kind::Audio, Kind::Video] {
            watch.came(kind, t0);
            watch.out(kind);
        }
        watch.came(Kind::Audio, t0 + SECOND * 3);
        watch.out(Kind::Audio);
        assert!(!tick(&mut watch, 6), "video has stopped, and audio comes");
        assert!(tick(&mut watch, 8));
        // It goes on: what comes has not gone through a decoder yet, and that is no trouble.
        for at in [SECOND * 9, SECOND * 9 + SECOND / 30] {
            watch.came(Kind::Video, t0 + at);
            watch.tick(t0 + at);
            assert!(!watch.stalled() && !watch.text().contains("video"), "{}", watch.text());
        }
    }

    #[test]
    fn a_codec_that_is_left_out_is_told() {
        let (mut watch, t0) = (TrackWatch::new(), Instant::now());
        watch.announced(both(), t0);
        watch.unusable(Kind::Video, Some("H.266 video is left out".into()));
        assert_eq!(watch.text(), "H.266 video is left out");
        assert!(watch.undelivered().contains("H.266"));
        watch.unusable(Kind::Video, None);
        assert_eq!(watch.text(), "");
    }

    #[test]
    fn damage_is_told_and_taken_back() {
        let mut watch = TrackWatch::new();
        assert!(watch.damaged(Kind::Video, Some("no frame".into())));
        assert!(!watch.damaged(Kind::Video, Some("another".into())), "the state text stays as it is");
        assert_eq!(watch.text(), "video comes damaged: much of it can't be decoded as it should be (no frame)");
        assert!(watch.damaged(Kind::Video, None));
        assert_eq!(watch.text(), "");
    }

    #[test]
    fn a_flaw_is_told_until_it_was_away_for_long() {
        let (mut watch, t0) = (TrackWatch::new(), Instant::now());
        assert!(watch.flawed(Kind::Video, "it flickers", t0));
        assert!(!watch.flawed(Kind::Video, "it flickers", t0 + SECOND));
        assert_eq!((watch.text().as_str(), watch.due()), ("video: it flickers", Some(t0 + SECOND + PATIENCE)));
        assert_eq!(watch.tick(t0 + SECOND * 3), None);
        assert_eq!(watch.tick(t0 + SECOND + PATIENCE).as_deref(), Some(""));
        assert_eq!((watch.text().as_str(), watch.due()), ("", None));
    }

    proptest! {
        /// It never asks to be called for what it has said, so no loop spins.
        #[test]
        fn a_tick_when_due_moves_on(steps in proptest::collection::vec((0u8..6, 0u64..9_000), 0..60)) {
            let (mut watch, mut now) = (TrackWatch::new(), Instant::now());
            for (step, ms) in steps {
                now += Duration::from_millis(ms);
                match step {
                    0 => watch.announced(both(), now),
                    1 => watch.came(Kind::Audio, now),
                    2 => watch.came(Kind::Video, now),
                    3 => watch.out(Kind::Video),
                    4 => _ = watch.flawed(Kind::Audio, "it crackles", now),
                    _ => watch.idle(Kind::Audio),
                }
                watch.tick(now);
                prop_assert!(watch.due().is_none_or(|due| due > now));
            }
        }
    }
}
