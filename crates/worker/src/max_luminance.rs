//! How bright pictures of high dynamic range become, as those say who made them: by the display they were mastered on (SMPTE ST 2086)
//! and by their brightest pixel (MaxCLL of CTA-861.3). Containers tell it the child that pulls, streams the one that decodes, which
//! reads AV1's itself.

use gstreamer as gst;
use gstreamer_video::{VideoContentLightLevel, VideoMasteringDisplayInfo};
use media::picture::av1_luminance;

/// Units of a nit in which mastering displays are measured.
const UNITS: u32 = 10_000;

/// Nits of the brightest that is in pictures with these caps, if they say so.
pub fn max_luminance(caps: &gst::CapsRef) -> Option<u16> {
    let display = VideoMasteringDisplayInfo::from_caps(caps).map(|d| d.max_display_mastering_luminance() / UNITS);
    let pixel = VideoContentLightLevel::from_caps(caps).map(|c| u32::from(c.max_content_light_level()));
    lower(display.ok(), pixel.ok())
}

/// Nits of the brightest that is in pictures of AV1 from this access unit on, if the stream says it: its decoder does not report it.
pub fn of_av1(unit: &[u8]) -> Option<u16> {
    let light = av1_luminance(unit);
    lower(light.display, light.pixel)
}

fn lower(display: Option<u32>, pixel: Option<u32>) -> Option<u16> {
    // Zero stands for what nobody measured. Nothing is brighter than its maker saw it.
    let said = [display, pixel].into_iter().flatten().filter(|nits| *nits > 0);
    said.min().map(|nits| u16::try_from(nits).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr;

    #[test]
    fn the_lower_of_both_counts() {
        gst::init().unwrap();
        let of = |fields: &str| max_luminance(&gst::Caps::from_str(&format!("video/x-vp9{fields}")).unwrap());
        let display = ",mastering-display-info=(string)34000:16000:13250:34500:7500:3000:15635:16450:40000000:50";
        assert_eq!(of(""), None);
        assert_eq!(of(display), Some(4000));
        assert_eq!(of(&format!("{display},content-light-level=(string)650:100")), Some(650));
        assert_eq!(of(&format!("{display},content-light-level=(string)0:0")), Some(4000));
        assert_eq!(of(",content-light-level=(string)10000:100"), Some(10_000));
        assert_eq!(of(",content-light-level=(string)bright,mastering-display-info=(string)1:2"), None);
    }
}
