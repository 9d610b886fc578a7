//! Completes session descriptions (SDP, RFC 8866): cameras may leave out `a=rtpmap` of payload types that RFC 3551 fixes, and clients
//! that look only there play nothing of such a stream.

/// Payload types and what they stand for (RFC 3551 §6, tables 4 and 5).
const STATIC: [(u8, &str); 24] = [
    (0, "PCMU/8000"),
    (3, "GSM/8000"),
    (4, "G723/8000"),
    (5, "DVI4/8000"),
    (6, "DVI4/16000"),
    (7, "LPC/8000"),
    (8, "PCMA/8000"),
    (9, "G722/8000"),
    (10, "L16/44100/2"),
    (11, "L16/44100"),
    (12, "QCELP/8000"),
    (13, "CN/8000"),
    (14, "MPA/90000"),
    (15, "G728/8000"),
    (16, "DVI4/11025"),
    (17, "DVI4/22050"),
    (18, "G729/8000"),
    (25, "CelB/90000"),
    (26, "JPEG/90000"),
    (28, "nv/90000"),
    (31, "H261/90000"),
    (32, "MPV/90000"),
    (33, "MP2T/90000"),
    (34, "H263/90000"),
];

/// The description with an `a=rtpmap` for each static payload type that has none. All else stays as it is.
pub(super) fn completed(sdp: &str) -> String {
    let mut out = String::with_capacity(sdp.len() + 64);
    let mut missing: Vec<u8> = Vec::new();
    for line in sdp.split_inclusive('\n') {
        let text = line.trim();
        if let Some(media) = text.strip_prefix("m=") {
            write(&mut out, &missing);
            // Media, port and transport come before the formats.
            let formats = media.split_whitespace().skip(3).filter_map(|format| format.parse().ok());
            missing = formats.filter(|format| STATIC.iter().any(|(known, _)| known == format)).collect();
        }
        if let Some(map) = text.strip_prefix("a=rtpmap:") {
            let named = map.split_whitespace().next().and_then(|format| format.parse::<u8>().ok());
            missing.retain(|format| Some(*format) != named);
        }
        out += line;
    }
    if !missing.is_empty() && !out.ends_with('\n') {
        out += "\r\n";
    }
    write(&mut out, &missing);
    out
}

fn write(out: &mut String, formats: &[u8]) {
    for (format, meaning) in STATIC.iter().filter(|(format, _)| formats.contains(format)) {
        *out += &format!("a=rtpmap:{format} {meaning}\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn static_payload_types_get_their_meaning() {
        let bare = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\nm=audio 0 RTP/AVP 0 8\r\na=control:a\r\n";
        assert_eq!(completed(bare), format!("{bare}a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"));
        let first = "m=audio 0 RTP/AVP 8\nm=video 0 RTP/AVP 96";
        assert_eq!(completed(first), "m=audio 0 RTP/AVP 8\na=rtpmap:8 PCMA/8000\r\nm=video 0 RTP/AVP 96");
        assert_eq!(completed("m=audio 0 RTP/AVP 0"), "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n");
        let named = "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 L16/16000\r\n";
        assert_eq!(completed(named), named);
    }

    proptest! {
        #[test]
        fn a_completed_description_stays(sdp in "(m=audio 0 RTP/AVP [0-9]{1,2}\r?\n|a=[a-z]:[0-9]{1,2}\n|.{0,9}\n){0,9}") {
            let once = completed(&sdp);
            prop_assert_eq!(completed(&once), once);
        }
    }
}
