//! Aligns video with audio: a picture waits until audio of the same time leaves.
//!
//! A picture is ready 20 ms and more before audio of the same time, which first has to fill a packet and is then paced. Why that matters
//! to viewers, and what it brings, stands in [`crate::av_alignment`].
//!
//! **May assume** of [`crate::audio_pacer`]: audio leaves a known hold after its time, and that hold moves slowly.

use crate::audio_pacer::{MAX_QUEUED, nanos};
use crate::av_alignment::MAX_PACING;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// See the [module](self).
#[derive(Debug)]
pub struct AvAligner<T> {
    /// With the time at which each is due.
    waiting: VecDeque<(Instant, T)>,
}

impl<T> Default for AvAligner<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> AvAligner<T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self { waiting: VecDeque::new() }
    }

    /// A picture came at `now` that belongs to `at`; audio leaves `hold` nanoseconds after its time, if there is any. Where audio is
    /// much later than video, the rest is left to the viewer.
    pub fn push(&mut self, at: Instant, hold: Option<i64>, now: Instant, picture: T) {
        let wait = hold.map_or(0, |hold| (hold - nanos(at, now)).clamp(0, MAX_PACING));
        let due = now + Duration::from_nanos(wait.unsigned_abs());
        let due = self.waiting.back().map_or(due, |(before, _)| due.max(*before));
        self.waiting.push_back((due, picture));
    }

    /// The next picture that is due.
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let full = self.waiting.len() > MAX_QUEUED;
        let due = self.waiting.front().is_some_and(|(due, _)| full || *due <= now);
        if due { self.waiting.pop_front().map(|(_, picture)| picture) } else { None }
    }

    /// When [`AvAligner::pop`] will have something.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn video_waits_for_its_audio_but_not_for_ever() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut aligner = AvAligner::new();
        let mut left_after = |at: u64, hold: Option<i64>, came: u64| {
            aligner.push(start + ms(at), hold.map(|ms| ms * 1_000_000), start + ms(came), ());
            let due = aligner.deadline().unwrap() - start;
            assert_eq!(aligner.pop(start + due), Some(()));
            due.as_millis() as u64 - came
        };
        assert_eq!(left_after(0, None, 10), 0, "no audio");
        assert_eq!(left_after(100, Some(45), 110), 35);
        assert_eq!(left_after(200, Some(45), 260), 0, "late");
        assert_eq!(left_after(300, Some(900), 310), 60, "audio that is far behind");
        assert_eq!(left_after(400, Some(-50), 350), 0, "audio that is ahead");
    }
}
