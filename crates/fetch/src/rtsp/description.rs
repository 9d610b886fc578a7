//! Completes session descriptions (SDP, RFC 8866): cameras may leave out `a=rtpmap` of payload types that RFC 3551 fixes, and clients
//! that look only there play nothing of such a stream; they may describe a payload type that they do not send, or leave out how AAC is
//! configured, which its name, rate and channels tell.

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

/// Sampling rates in hertz by their index in an AudioSpecificConfig (ISO 14496-3, table 1.18).
const AAC_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// The description with an `a=rtpmap` for each static payload type that has none, and an `a=fmtp` that names the payload type of its
/// media and configures AAC. All else stays as it is.
pub(super) fn completed(sdp: &str) -> String {
    let mut out = String::with_capacity(sdp.len() + 64);
    let mut section: Vec<&str> = Vec::new();
    for line in sdp.split_inclusive('\n') {
        if line.trim().starts_with("m=") {
            write(&mut out, &std::mem::take(&mut section));
        }
        section.push(line);
    }
    write(&mut out, &section);
    out
}

/// Writes the lines of one media, completed.
fn write(out: &mut String, lines: &[&str]) {
    let formats = formats(lines);
    let maps: Vec<(u8, &str)> = lines.iter().filter_map(|line| numbered(line, "a=rtpmap:")).collect();
    let mut configured = Vec::new();
    for line in lines {
        match numbered(line, "a=fmtp:") {
            Some((format, rest)) => {
                let format = renamed(format, &formats);
                configured.push(format);
                let aac = maps.iter().find(|(of, _)| *of == format).and_then(|(_, map)| aac(map));
                let missing = aac.and_then(|config| missing(rest, &config));
                if missing.is_none() && line.trim().starts_with(&format!("a=fmtp:{format} ")) {
                    *out += line;
                } else {
                    *out += &format!("a=fmtp:{format} {}{}\r\n", rest.trim(), missing.unwrap_or_default());
                }
            }
            None => *out += line,
        }
    }
    let named = |format: &u8| maps.iter().any(|(of, _)| of == format);
    let known = STATIC.iter().filter(|(format, _)| formats.contains(format) && !named(format));
    let maps_missing = known.map(|(format, meaning)| format!("a=rtpmap:{format} {meaning}\r\n"));
    let unconfigured = maps.iter().filter(|(format, _)| formats.contains(format) && !configured.contains(format));
    let configs_missing = unconfigured.filter_map(|(format, map)| {
        let config = aac(map)?;
        Some(format!("a=fmtp:{format} streamtype=5{}\r\n", missing("", &config)?))
    });
    let more: String = maps_missing.chain(configs_missing).collect();
    if !more.is_empty() && !out.ends_with('\n') {
        *out += "\r\n";
    }
    *out += &more;
}

/// The payload types of a media. Its kind, port and transport come before them.
fn formats(lines: &[&str]) -> Vec<u8> {
    let media = lines.first().and_then(|line| line.trim().strip_prefix("m="));
    media.into_iter().flat_map(|m| m.split_whitespace().skip(3)).filter_map(|format| format.parse().ok()).collect()
}

/// The payload type and the rest of an attribute's line.
fn numbered<'a>(line: &'a str, name: &str) -> Option<(u8, &'a str)> {
    let value = line.trim().strip_prefix(name)?.trim_start();
    let (format, rest) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
    Some((format.parse().ok()?, rest.trim()))
}

/// A payload type that its media does not have stands for the only one that it has.
fn renamed(format: u8, formats: &[u8]) -> u8 {
    match formats {
        [only] if *only != format => *only,
        _ => format,
    }
}

/// Of AAC in MPEG-4's generic format (RFC 3640): its AudioSpecificConfig in hexadecimal (ISO 14496-3 §1.6.2.1), for AAC-LC with the rate
/// and the channels of the map.
fn aac(map: &str) -> Option<String> {
    let mut parts = map.split('/');
    if !parts.next()?.trim().eq_ignore_ascii_case("mpeg4-generic") {
        return None;
    }
    let rate: u32 = parts.next()?.trim().parse().ok()?;
    let channels: u16 = parts.next().map_or(Some(1), |n| n.trim().parse().ok())?;
    let index = AAC_RATES.iter().position(|known| *known == rate)?;
    let config = 2u16 << 11 | u16::try_from(index).ok()? << 7 | channels.clamp(1, 7) << 3;
    Some(format!("{config:04x}"))
}

/// The parameters without which AAC can't be read, where these lack them; `None` if they lack none.
fn missing(parameters: &str, config: &str) -> Option<String> {
    let has = |name: &str| {
        parameters
            .split(';')
            .filter_map(|p| p.split_once('='))
            .any(|(n, value)| n.trim().eq_ignore_ascii_case(name) && !value.trim().is_empty())
    };
    // Packets of more than one kind of AAC have other lengths: one that names its mode says them.
    let lengths = [("mode", "AAC-hbr"), ("sizelength", "13"), ("indexlength", "3"), ("indexdeltalength", "3")];
    let lengths = lengths.iter().filter(|(name, _)| !has("mode") && !has(name));
    let config = (!has("config")).then_some(("config", config));
    let more: String = lengths.copied().chain(config).map(|(name, value)| format!("; {name}={value}")).collect();
    (!more.is_empty()).then_some(more)
}

/// Whether this describes something that ends: a recording. What is live has no end, or none is said (RFC 2326 §C.1.5).
pub(super) fn ends(sdp: &str) -> bool {
    let ranges = sdp.lines().filter_map(|line| line.trim().strip_prefix("a=range:"));
    ranges
        .filter_map(|range| range.split_once('-'))
        .any(|(_, end)| end.trim().starts_with(|c: char| c.is_ascii_digit()) && end.trim().parse() != Ok(0.0_f64))
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

    #[test]
    fn aac_is_configured() {
        let media = "m=audio 0 RTP/AVP 104\r\na=rtpmap:104 mpeg4-generic/16000/1\r\n";
        let whole = "streamtype=5; mode=AAC-hbr; sizelength=13; indexlength=3; indexdeltalength=3; config=1408";
        assert_eq!(completed(media), format!("{media}a=fmtp:104 {whole}\r\n"));
        // Of another payload type, as a maker of cameras does.
        let other = format!("{media}a=fmtp:97 streamtype=5;mode=AAC-hbr;config=\r\n");
        assert_eq!(completed(&other), format!("{media}a=fmtp:104 streamtype=5;mode=AAC-hbr;config=; config=1408\r\n"));
        let complete = format!("{media}a=fmtp:104 streamtype=5; mode=AAC-hbr; config=1408\r\na=control:b\r\n");
        assert_eq!(completed(&complete), complete);
        // What is not known stays.
        for map in ["mpeg4-generic/16001/1", "mpeg4-generic", "H264/90000"] {
            let media = format!("m=audio 0 RTP/AVP 104\r\na=rtpmap:104 {map}\r\na=fmtp:104 a=b\r\n");
            assert_eq!(completed(&media), media);
        }
    }

    #[test]
    fn recordings_end() {
        assert!(ends("v=0\r\na=range:npt=0-12.3\r\n") && ends("a=range:clock=20260101T000000Z-20260101T010000Z"));
        assert!(!ends("a=range:npt=0-\r\n") && !ends("a=range:npt=now-") && !ends("v=0") && !ends("a=range:npt=0-0.0"));
    }

    proptest! {
        #[test]
        fn a_completed_description_stays(sdp in "(m=audio 0 RTP/AVP [0-9]{1,2}\r?\n|a=[a-z]:[0-9]{1,2}\n|a=rtpmap:[0-9]{1,2} mpeg4-generic/8000/1\n|a=fmtp:[0-9]{1,2} (config=[0-9]?;)?\n|.{0,9}\n){0,9}") {
            let once = completed(&sdp);
            prop_assert_eq!(completed(&once), once);
        }
    }
}
