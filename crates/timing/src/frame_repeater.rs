//! Repeats the last picture of a source that pauses.
//!
//! livekit-server calls a middle or upper layer stopped when it sends nothing for half a second, and keeps viewers on the lowest
//! layer for the ten seconds that follow. A slide that changes once a second, or a network that stalls for one, should not do that.
//!
//! **May assume** of [`crate::ingest_clock`]: the PTS of pictures that came in time are on the session's timeline.

use crate::ingest_clock::MAX_LATENESS;
use model::MediaTime;
use std::time::{Duration, Instant};

/// How long to wait for a picture before the last one is repeated: as long as one may come late and still be shown, and a tenth of a
/// second less than livekit-server waits.
const REPEAT_AFTER: Duration = MAX_LATENESS;

/// How much earlier than its time a repetition is stamped, so that a picture that comes right after it is still later.
const STAMPED_EARLIER: MediaTime = MediaTime::from_millis(100);

/// See the [module](self).
#[derive(Debug, Default)]
pub struct FrameRepeater {
    /// The newest picture's PTS, and when it came.
    last: Option<(MediaTime, Instant)>,
    due: Option<Instant>,
    /// The newest PTS that was given out.
    repeated: Option<MediaTime>,
}

impl FrameRepeater {
    /// A picture with this PTS came in time.
    pub fn picture(&mut self, pts: MediaTime, now: Instant) {
        if self.last.is_none_or(|(last, _)| pts > last) {
            self.last = Some((pts, now));
        }
        self.due = Some(now + REPEAT_AFTER);
    }

    /// When [`FrameRepeater::repeat`] will have something.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The PTS for a repetition of the last picture, if one is due.
    pub fn repeat(&mut self, now: Instant) -> Option<MediaTime> {
        let (pts, at) = self.last?;
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = Some(now + REPEAT_AFTER);
        self.repeated = Some(pts + MediaTime::from(now.saturating_duration_since(at)) - STAMPED_EARLIER);
        self.repeated
    }

    /// The PTS of the newest repetition: nothing before it is shown any more.
    pub fn repeated(&self) -> Option<MediaTime> {
        self.repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(v: i64) -> MediaTime {
        MediaTime::from_millis(v)
    }

    #[test]
    fn a_picture_is_repeated_until_the_next_comes() {
        let t0 = Instant::now();
        let at = |v: u64| t0 + Duration::from_millis(v);
        let mut repeater = FrameRepeater::default();
        assert_eq!((repeater.due(), repeater.repeat(t0)), (None, None), "there is nothing to show");
        repeater.picture(ms(1_000), at(0));
        // A B-frame: sent after the frame that it references, shown before it.
        repeater.picture(ms(960), at(10));
        assert_eq!((repeater.due(), repeater.repeat(at(409))), (Some(at(410)), None));
        assert_eq!(repeater.repeat(at(410)), Some(ms(1_310)));
        assert_eq!((repeater.due(), repeater.repeat(at(811))), (Some(at(810)), Some(ms(1_711))));
        repeater.picture(ms(2_000), at(1_000));
        assert_eq!(repeater.repeat(at(1_300)), None);
        assert_eq!(repeater.repeat(at(1_400)), Some(ms(2_300)));
        assert_eq!(repeater.repeated(), Some(ms(2_300)));
    }
}
