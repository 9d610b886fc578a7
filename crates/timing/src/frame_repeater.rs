//! Pictures that stay away: when the last one is to be shown once more.
//!
//! livekit-server calls a middle or upper layer stopped that sends nothing for half a second, and keeps viewers on the lowest
//! layer for the ten seconds that follow. A slide that changes once a second, or a network that stalls for one, should not do
//! that to them.

use model::MediaTime;
use std::time::{Duration, Instant};

/// How long to wait for a picture: as long as one may come late and still be shown ([`crate::ingest_clock::LATE`]), and a tenth of a
/// second short of what livekit-server waits for.
const PATIENCE: Duration = crate::ingest_clock::LATE;

/// How much before its time the repetition is stamped, so that the picture that comes right behind it is still after it.
const ROOM: MediaTime = MediaTime::from_millis(100);

/// See the [module](self).
#[derive(Debug, Default)]
pub struct FrameRepeater {
    /// The newest picture's time, and when it came.
    last: Option<(MediaTime, Instant)>,
    due: Option<Instant>,
    /// The newest time that was given out.
    repeated: Option<MediaTime>,
}

impl FrameRepeater {
    /// A picture to be shown at `pts` came in time.
    pub fn picture(&mut self, pts: MediaTime, now: Instant) {
        if self.last.is_none_or(|(last, _)| pts > last) {
            self.last = Some((pts, now));
        }
        self.due = Some(now + PATIENCE);
    }

    /// When to ask [`FrameRepeater::repeat`].
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// For when the last picture is to be shown again, if that is due.
    pub fn repeat(&mut self, now: Instant) -> Option<MediaTime> {
        let (pts, at) = self.last?;
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = Some(now + PATIENCE);
        self.repeated = Some(pts + MediaTime::from(now.saturating_duration_since(at)) - ROOM);
        self.repeated
    }

    /// The newest time for which a picture was repeated: nothing before it is to be shown any more.
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
        // Sent behind the picture that it builds on, shown before it.
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
