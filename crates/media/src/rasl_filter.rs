//! Pictures that lead a key picture: decoded after it, shown before it. In open groups of pictures they build on what came before
//! it (RASL pictures of H.265, B-pictures behind a recovery point of H.264 or an I-picture of MPEG-2), so that where this is
//! missing decoders make garbage of them. For whoever leaves pictures out in front of a decoder.

use model::MediaTime;

/// Tells them, by their times alone. Those few that would do without what is missing (RADL) are told as well.
#[derive(Clone, Debug, Default)]
pub struct RaslFilter {
    missing: bool,
    /// Where the key picture behind a gap is shown, until one is decoded that does not lead it: all that do come before (ITU-T
    /// H.265 §7.4.2.4.4).
    key: Option<MediaTime>,
}

impl RaslFilter {
    /// A picture was left out.
    pub fn missed(&mut self) {
        self.missing = true;
    }

    /// Whether the next picture in the order of decoding, to be shown at `pts`, may go to the decoder as far as this is concerned.
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
    fn what_leads_a_key_picture_behind_a_gap_is_left_out_and_nothing_else() {
        // An open group as it is sent: its key picture, two that are shown before it, and so on.
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
