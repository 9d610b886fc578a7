//! Filters leading pictures: those decoded after a key frame and shown before it. In an open GOP they refer to pictures before the
//! key frame (RASL pictures of H.265, B-frames after a recovery point of H.264 or an I-picture of MPEG-2). Where those are
//! missing, a decoder makes garbage of them. Used wherever frames are dropped before a decoder.

use model::MediaTime;

/// Finds leading pictures by their times alone. The few that are decodable all the same (RADL) are filtered as well.
#[derive(Clone, Debug, Default)]
pub struct RaslFilter {
    missing: bool,
    /// The presentation time of the key frame after a gap, until a picture comes that does not lead it: all that lead it come
    /// before (ITU-T H.265 §7.4.2.4.4).
    key: Option<MediaTime>,
}

impl RaslFilter {
    /// A frame was dropped.
    pub fn missed(&mut self) {
        self.missing = true;
    }

    /// Whether the next frame in decoding order, with this presentation time, may go to the decoder. False for a leading picture
    /// after a gap.
    pub fn admits(&mut self, key: bool, pts: MediaTime) -> bool {
        if key {
            self.key = std::mem::take(&mut self.missing).then_some(pts);
            return true;
        }
        self.key = self.key.filter(|key| pts < *key);
        self.key.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_pictures_after_a_gap_are_filtered() {
        // An open GOP in decoding order: its key frame, two pictures that lead it, and so on.
        let group = |at: i64| {
            [(0, true), (-2, false), (-1, false), (3, false), (1, false), (2, false)].map(|(n, key)| (at + n, key))
        };
        let admitted = |leading: &mut RaslFilter, at: i64| {
            let pictures = group(at).into_iter();
            pictures
                .filter(|(n, key)| leading.admits(*key, MediaTime::from_millis(*n)))
                .map(|(n, _)| n - at)
                .collect::<Vec<_>>()
        };
        let mut leading = RaslFilter::default();
        assert_eq!(admitted(&mut leading, 10), [0, -2, -1, 3, 1, 2]);
        leading.missed();
        assert_eq!(admitted(&mut leading, 20), [0, 3, 1, 2]);
        assert_eq!(admitted(&mut leading, 30), [0, -2, -1, 3, 1, 2]);
    }
}
