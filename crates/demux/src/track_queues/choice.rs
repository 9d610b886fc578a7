//! The tracks of a source, and which of them are played: the best of each kind.

use super::track::Track;
use crate::fault::unplayable;
use model::{Fault, Kind};
use std::time::{Duration, Instant};

/// How long after the first frame the choice waits for tracks that were announced and bring nothing.
pub(super) const CHOICE_TIMEOUT: Duration = Duration::from_secs(1);

/// Names of unplayable tracks that are kept for the error: more would not be read.
const MAX_UNKNOWN: usize = 16;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) tracks: Vec<Track>,
    /// Tracks that nothing here can play.
    unknown: Vec<(Option<Kind>, String)>,
    /// Kinds that there should be, and why there is none.
    missing: Vec<(Kind, String)>,
    /// How many fillers may still add tracks.
    open: usize,
    /// When the first frame came.
    first: Option<Instant>,
    /// The tracks that are played, once that is settled.
    chosen: Option<Vec<usize>>,
}

impl Choice {
    pub(super) fn open(&mut self) {
        self.open += 1;
    }

    pub(super) fn complete(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    pub(super) fn add(&mut self, mut track: Track) -> usize {
        track.late = self.is_made();
        self.tracks.push(track);
        self.tracks.len() - 1
    }

    pub(super) fn add_unknown(&mut self, kind: Option<Kind>, what: String) {
        let unknown = (kind, what);
        if self.unknown.len() < MAX_UNKNOWN && !self.unknown.contains(&unknown) {
            self.unknown.push(unknown);
        }
    }

    /// There should be a track of this kind.
    pub(super) fn add_missing(&mut self, kind: Kind, why: String) {
        if self.missing.len() < MAX_UNKNOWN {
            self.missing.push((kind, why));
        }
    }

    /// The kinds of which nothing is played, though there is some or should be, and why in words.
    pub(super) fn left_out(&self) -> Vec<(Kind, String)> {
        let played = self.kinds().unwrap_or_default();
        let why = |kind: Kind| {
            let codecs = self.unknown.iter().filter(|(k, _)| *k == Some(kind)).map(|(_, what)| what.as_str());
            let codecs = codecs.collect::<Vec<_>>().join(", ");
            let undecoded = (!codecs.is_empty()).then(|| format!("{codecs} can't be decoded here"));
            let missing = self.missing.iter().filter(|(k, _)| *k == kind).map(|(_, why)| why.clone());
            let all: Vec<String> = missing.chain(undecoded).collect();
            (!all.is_empty()).then(|| format!("{} is left out: {}", kind.as_str(), all.join("; ")))
        };
        let left = [Kind::Video, Kind::Audio].into_iter().filter(|kind| !played.contains(kind));
        left.filter_map(|kind| Some((kind, why(kind)?))).collect()
    }

    /// A frame came.
    pub(super) fn frame_arrived(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    /// When the choice waits no longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.first.map(|first| first + CHOICE_TIMEOUT)
    }

    /// The kinds that are played, once that is settled.
    pub(super) fn kinds(&self) -> Option<Vec<Kind>> {
        let chosen = self.chosen.as_ref()?;
        Some(chosen.iter().map(|t| self.tracks[*t].kind()).collect())
    }

    pub(super) fn is_made(&self) -> bool {
        self.chosen.is_some()
    }

    /// Whether a track is left out.
    pub(super) fn leaves_out(&self, track: usize) -> bool {
        self.chosen.as_ref().is_some_and(|chosen| !chosen.contains(&track))
    }

    /// The tracks that are played, or all while that is open.
    pub(super) fn played(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().enumerate().filter(|(i, _)| !self.leaves_out(*i)).map(|(_, track)| track)
    }

    /// The chosen tracks with their numbers; none while that is open.
    pub(super) fn chosen(&self) -> impl Iterator<Item = (usize, &Track)> {
        self.chosen.iter().flatten().map(|t| (*t, &self.tracks[*t]))
    }

    /// The chosen tracks; none while that is open.
    pub(super) fn chosen_mut(&mut self) -> impl Iterator<Item = &mut Track> {
        let chosen = self.chosen.as_deref().unwrap_or_default();
        self.tracks.iter_mut().enumerate().filter(|(i, _)| chosen.contains(i)).map(|(_, track)| track)
    }

    /// Chooses, if everything is known by which to, or has been waited for long enough.
    pub(super) fn settle(&mut self) {
        if self.chosen.is_some() {
            return;
        }
        let ready = |t: &Track| t.ended || (t.is_configured() && t.first().is_some());
        let all = self.open == 0 && self.tracks.iter().all(ready) && self.tracks.iter().any(Track::is_configured);
        let waited = self.first.is_some_and(|first| first.elapsed() >= CHOICE_TIMEOUT);
        if all || (waited && self.tracks.iter().any(|t| t.is_configured() && t.first().is_some())) {
            self.choose(false);
        }
    }

    /// Takes the best track of each kind. `unconfigured`: also one whose configuration is not known.
    pub(super) fn choose(&mut self, unconfigured: bool) {
        let best = |kind: Kind| {
            let of_kind = |(_, t): &(usize, &Track)| t.kind() == kind && (t.is_configured() || unconfigured);
            // The first of equals: `max_by_key` gives the last.
            let tracks = self.tracks.iter().enumerate().filter(of_kind);
            tracks.rev().max_by_key(|(_, t)| (t.first().is_some(), t.rank())).map(|(i, _)| i)
        };
        let chosen: Vec<usize> = [best(Kind::Video), best(Kind::Audio)].into_iter().flatten().collect();
        for (_, track) in self.tracks.iter_mut().enumerate().filter(|(i, _)| !chosen.contains(i)) {
            track.clear();
        }
        self.chosen = Some(chosen);
    }

    /// A track that is configured only after the choice is played if there is none of its kind, or none whose stream goes on.
    pub(super) fn join(&mut self, track: usize) {
        let kind = self.tracks.get(track).map(Track::kind);
        let goes_on = |t: &Track| Some(t.kind()) == kind && !t.released;
        let missing = self.is_made() && !self.chosen().any(|(_, t)| goes_on(t));
        if missing && self.leaves_out(track) {
            self.play(track);
        }
    }

    /// The stream of a track has ended. Another of its kind that has begun already is played in its place.
    pub(super) fn release(&mut self, track: usize) {
        let Some(t) = self.tracks.get_mut(track) else { return };
        t.released = true;
        let kind = t.kind();
        if !self.is_made() || self.leaves_out(track) {
            return;
        }
        let follows = |(i, t): &(usize, &Track)| {
            let free = t.kind() == kind && t.is_configured() && !t.released && !t.ended && self.leaves_out(*i);
            free && t.follows(&self.tracks[track])
        };
        // The newest: a stream that was left out before is another programme or language.
        if let Some((next, _)) = self.tracks.iter().enumerate().rfind(follows) {
            self.play(next);
            let nothing_yet = self.tracks[next].first().is_none();
            self.tracks[next].stands_in_for = nothing_yet.then_some(track);
        }
    }

    /// Another stream goes on in a track whose stream has ended. If what was to be played in its place has brought nothing, that was
    /// another language, which ended along with it.
    pub(super) fn adopt(&mut self, track: usize) {
        let Some(t) = self.tracks.get_mut(track) else { return };
        t.adopt();
        let Self { tracks, chosen: Some(chosen), .. } = self else { return };
        let before = chosen.len();
        chosen.retain(|other| tracks[*other].stands_in_for != Some(track));
        if chosen.len() < before && !chosen.contains(&track) {
            chosen.push(track);
        }
    }

    fn play(&mut self, track: usize) {
        let Self { tracks, chosen, .. } = self;
        let kind = tracks[track].kind();
        tracks[track].play();
        if let Some(chosen) = chosen {
            chosen.retain(|t| !(tracks[*t].kind() == kind && tracks[*t].released && tracks[*t].is_empty()));
            chosen.push(track);
        }
    }

    /// Why nothing can be played, once that is known.
    pub(super) fn hopeless(&self) -> Option<Fault> {
        let playable = self.tracks.iter().any(|t| t.first().is_some() || !t.ended);
        if self.open > 0 || playable {
            return None;
        }
        Some(unplayable(match self.unknown.as_slice() {
            [] => "there is neither audio nor video in it".to_owned(),
            some => {
                let names: Vec<&str> = some.iter().map(|(_, what)| what.as_str()).collect();
                format!("none of its codecs can be decoded here: {}", names.join(", "))
            }
        }))
    }
}
