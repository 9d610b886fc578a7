//! The window of a playlist that is played: which segment is next, however the playlist changes as it is reloaded. Servers behind one name
//! answer with versions of different age, restart and count again, or do not count at all. Pure.

use crate::playlist::{MediaList, Segment};
use std::collections::VecDeque;
use std::time::Duration;

/// How many segments before its end a live stream is joined. The newest segment is up to one segment old when its playlist is read,
/// so that joining at three made 3.1 to 3.5 segments of delay, and three are promised. RFC 8216 §6.3.3 advises against fewer than
/// three, for players that must not stall. Here a source that stalls is shown later from then on; and with two, the next segment
/// is there before the last is used up, as the playlist is reloaded twice per segment.
const JOIN_FROM_END: usize = 2;
/// A live stream that is more segments behind has stalled, and is joined again.
const MAX_BEHIND: usize = 6;
/// Older versions in a row after which the server has restarted: with two reloads per segment, an edge that is six segments behind has
/// caught up by then.
const MAX_OLDER: u32 = 12;
/// Segments whose names are remembered: the windows of edges that are some segments apart.
const MAX_KNOWN: usize = 64;

/// See the [module](self).
#[derive(Debug)]
pub struct Window {
    list: MediaList,
    /// The number of the next segment, once one is chosen.
    next: Option<u64>,
    /// Where the next segment is on the timeline, of which zero is where the stream was joined.
    at: Duration,
    fresh: bool,
    /// Added to discontinuity sequence numbers: a server that does not count the discontinuities that left its playlist counts too
    /// few.
    runs: u64,
    /// Numbers and names of the newest segments that were listed.
    known: VecDeque<(u64, String)>,
    /// The newest segment that was listed.
    newest: Option<u64>,
    /// Older versions in a row.
    older: u32,
}

/// The segment to be played next.
#[derive(Clone, Debug)]
pub struct Upcoming {
    /// The segment.
    pub segment: Segment,
    /// It does not continue the one before.
    pub fresh: bool,
    /// Its start on the timeline.
    pub at: Duration,
    /// Its discontinuity sequence number, as if its server had counted all.
    pub run: u64,
}

impl Window {
    /// The window of this first version.
    pub fn new(list: MediaList) -> Self {
        let (known, at) = (VecDeque::new(), Duration::ZERO);
        let mut window = Self { list, next: None, at, fresh: true, runs: 0, known, newest: None, older: 0 };
        window.remember();
        window
    }

    /// Whether segments will be added.
    pub fn live(&self) -> bool {
        !self.list.ended
    }

    /// The target duration.
    pub fn target(&self) -> Duration {
        self.list.target
    }

    /// Number and name of the newest segment that is listed.
    pub fn last(&self) -> Option<(u64, String)> {
        self.list.segments.last().map(|s| (s.sequence, name(s)))
    }

    /// Chooses the first segment, of a live stream `with` if that is in the playlist, and returns the number of the next one once it is
    /// known.
    pub fn begin(&mut self, with: Option<u64>) -> Option<u64> {
        let segments = &self.list.segments;
        let from = if self.list.ended { 0 } else { segments.len().saturating_sub(JOIN_FROM_END) };
        let first = segments.get(from).map(|s| s.sequence);
        // Renditions of a live stream are counted alike; those of others may begin anywhere.
        let known = with.filter(|n| self.live() && segments.iter().any(|s| s.sequence == *n));
        if self.next.is_none() {
            self.next = known.or(first);
        }
        self.next
    }

    /// Skips segments that end before `from`, in a stream that is not live.
    pub fn skip_to(&mut self, from: Duration) {
        self.skip(from, 1);
    }

    /// Skips segments of which the first of so many `parts` ends before `from`.
    fn skip(&mut self, from: Duration, parts: u32) {
        self.begin(None);
        while let Some((number, duration)) = self.segment().map(|s| (s.sequence, s.duration))
            && self.at + duration / parts <= from
            && !duration.is_zero()
        {
            self.at += duration;
            self.next = Some(number.saturating_add(1));
        }
    }

    fn segment(&self) -> Option<&Segment> {
        let next = self.next?;
        self.list.segments.iter().find(|s| s.sequence >= next)
    }

    /// The segment that is played next, and goes on behind it; `None` if none is listed. Those that are said to be missing are passed over.
    pub fn next_segment(&mut self) -> Option<Upcoming> {
        self.begin(None);
        loop {
            let segment = self.segment()?.clone();
            // One that is missing has left the live playlist.
            let missed = self.next.is_some_and(|next| segment.sequence > next);
            let after = segment.sequence.saturating_add(1);
            self.next = Some(after);
            if after == segment.sequence {
                // The last number there is.
                self.list.segments.clear();
            }
            let at = self.at;
            self.at = self.at.saturating_add(segment.duration);
            if segment.gap {
                self.fresh = true;
                continue;
            }
            let fresh = std::mem::take(&mut self.fresh) || missed || segment.discontinuity;
            let run = segment.run.saturating_add(self.runs);
            return Some(Upcoming { segment, fresh, at, run });
        }
    }

    /// Whether a segment is listed that was not given out.
    pub fn has_next(&self) -> bool {
        if self.next.is_none() { !self.list.segments.is_empty() } else { self.segment().is_some() }
    }

    /// A segment that was given out did not come, or not to its end.
    pub fn lost(&mut self) {
        self.fresh = true;
    }

    /// A segment that was given out, as it is listed now, and how many are listed after it; `None` if it has gone, or the stream does not go
    /// on there.
    pub fn listed(&self, number: u64) -> Option<(&Segment, usize)> {
        let goes_on = self.next.is_some_and(|next| next == number.saturating_add(1)) && !self.fresh;
        let at = self.list.segments.iter().position(|s| s.sequence == number).filter(|_| goes_on)?;
        Some((&self.list.segments[at], self.list.segments.len() - 1 - at))
    }

    /// Joins a live stream again if it is far ahead of what was given out.
    pub fn catch_up(&mut self) {
        let left = self.next.map(|next| self.list.segments.iter().filter(|s| s.sequence >= next).count());
        if self.live() && left.is_some_and(|left| left > MAX_BEHIND) {
            self.rejoin();
        }
    }

    fn rejoin(&mut self) {
        (self.next, self.fresh) = (None, true);
        self.begin(None);
    }

    /// Takes the playlist as it was reloaded; `failing`: after a fault, when a server may have restarted. A server that restarted counts
    /// from the start again; one that we fell behind has dropped the next segment.
    pub fn take(&mut self, mut list: MediaList, failing: bool) {
        if !list.numbered && !self.list.numbered {
            self.number(&mut list);
        }
        let Some((first, last)) = ends(&list) else {
            self.list = list;
            return;
        };
        let newest = self.newest.unwrap_or(last);
        let oldest = self.list.segments.first().map_or(first, |s| s.sequence);
        let same = self.is_same(&list);
        let restarted = if last < newest {
            // A cache or another edge may answer with an older version.
            self.older += 1;
            failing || same != Some(true) || self.older >= MAX_OLDER
        } else {
            first < oldest && same == Some(false)
        };
        if last < newest && !restarted {
            return;
        }
        self.older = 0;
        if restarted {
            self.known.clear();
        } else {
            self.count_runs(&list);
        }
        self.list = list;
        self.newest = Some(last);
        self.remember();
        if restarted || self.next.is_some_and(|next| next > last.saturating_add(1) || next < first) {
            self.rejoin();
        }
    }

    /// Where the next segment is on the timeline.
    pub fn at(&self) -> Duration {
        self.at
    }

    /// Takes the playlist of another variant of the same presentation in place of this one, from where this one is: `at` on the timeline,
    /// or, of a live stream, the next number if that is listed.
    pub fn replace(&mut self, list: MediaList, at: Duration) {
        let was_live = self.live();
        self.list = list;
        self.known.clear();
        self.newest = None;
        self.remember();
        (self.older, self.fresh) = (0, true);
        if !was_live {
            (self.next, self.at) = (None, Duration::ZERO);
            // Where `at` is the end of a segment of another variant, rounding makes no difference.
            return self.skip(at, 2);
        }
        let Some((first, last)) = ends(&self.list) else { return };
        let after = last.saturating_add(1);
        self.next = self.next.filter(|next| (first..=after).contains(next));
        if self.next.is_none() && self.list.ended {
            // It ended meanwhile, who knows where.
            self.next = Some(after);
        }
        self.begin(None);
    }

    /// Whether the segments that were listed before under the same numbers are the same; `None` if there are none. Tokens in names change
    /// from one version to the next: in the query, or in a directory.
    fn is_same(&self, list: &MediaList) -> Option<bool> {
        let before =
            |s: &Segment| self.known.iter().find(|(number, _)| *number == s.sequence).map(|(_, n)| *n == name(s));
        let found: Vec<bool> = list.segments.iter().filter_map(before).collect();
        (!found.is_empty()).then(|| found.contains(&true))
    }

    /// Numbers the segments of a live playlist that says no numbers: those that were listed before keep theirs.
    fn number(&self, list: &mut MediaList) {
        let places = list.segments.iter().enumerate();
        let found = places.filter_map(|(i, s)| {
            let name = name(s);
            let (number, _) = self.known.iter().rfind(|(_, known)| *known == name)?;
            number.checked_sub(i as u64)
        });
        // If none of them was listed before, there were others between.
        let first = found.max().or(self.newest.map(|newest| newest.saturating_add(2))).unwrap_or(0);
        for (i, segment) in list.segments.iter_mut().enumerate() {
            segment.sequence = first.saturating_add(i as u64);
        }
    }

    fn remember(&mut self) {
        let skipped = self.list.segments.len().saturating_sub(MAX_KNOWN);
        for segment in &self.list.segments[skipped..] {
            if self.known.back().is_none_or(|(number, _)| *number < segment.sequence) {
                self.known.push_back((segment.sequence, name(segment)));
            }
        }
        while self.known.len() > MAX_KNOWN {
            self.known.pop_front();
        }
        self.newest = self.newest.max(ends(&self.list).map(|(_, last)| last));
    }

    /// Compares the discontinuity sequence number of the first segment, before and now.
    fn count_runs(&mut self, list: &MediaList) {
        let Some(new) = list.segments.first() else { return };
        if let Some(old) = self.list.segments.iter().find(|old| old.sequence == new.sequence) {
            self.runs = self.runs.saturating_add(old.run).saturating_sub(new.run);
        }
    }
}

fn ends(list: &MediaList) -> Option<(u64, u64)> {
    Some((list.segments.first()?.sequence, list.segments.last()?.sequence))
}

/// What a segment is called: its file's name without directory and query, and where it begins in that.
fn name(segment: &Segment) -> String {
    let path = segment.uri.split(['?', '#']).next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    match segment.range {
        Some((from, _)) => format!("{file}@{from}"),
        None => file.to_owned(),
    }
}

#[cfg(test)]
mod tests;
