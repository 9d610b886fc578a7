//! Which lines, codecs and layers of an offer we take, and why the rest is refused.

use super::accept::{Accept, Delivery};
use super::read::{Attributes, Media, Sdp, candidates, credentials};
use super::taken::{Audio, Common, Offer, Section, Video};
use crate::{Refusal, descriptor};
use model::{AudioCodec, VideoCodec, VideoFormat};

/// Simulcast layers at most: LiveKit has three qualities.
const MAX_LAYERS: usize = 3;

/// The header extensions that are of use here (RFC 8285): the rest is not agreed to.
const EXTENSIONS: [&str; 7] = [
    "urn:ietf:params:rtp-hdrext:sdes:mid",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    "urn:3gpp:video-orientation",
    descriptor::URI,
];

impl Offer {
    /// Reads an offer and chooses what to take of it.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`], [`Refusal::Unacceptable`].
    pub fn read(sdp: &str, accept: &Accept) -> Result<Self, Refusal> {
        choose(&Sdp::read(sdp)?, accept)
    }
}

fn choose(sdp: &Sdp<'_>, accept: &Accept) -> Result<Offer, Refusal> {
    let (mut audio, mut video) = (None, None);
    let mut sections = Vec::new();
    for media in &sdp.media {
        let wanted = sends(media) && matches!(media.kind, "audio" | "video");
        if wanted {
            check_form(media)?;
            let twice = || Refusal::Unacceptable(format!("more than 1 track with given media kind: {}", media.kind));
            let mid = mid(media)?;
            if media.kind == "audio" {
                audio.replace(choose_audio(media, mid, accept)?).map_or(Ok(()), |_| Err(twice()))?;
            } else {
                video.replace(choose_video(media, mid, accept)?).map_or(Ok(()), |_| Err(twice()))?;
            }
        }
        sections.push(section(media, wanted)?);
    }
    if audio.is_none() && video.is_none() {
        return Err(Refusal::Unacceptable("the offer sends neither audio nor video".into()));
    }
    check_mids(&sections)?;
    if let (Some(audio), Some(video)) = (&audio, &video) {
        check_bundle(sdp, [&audio.common.mid, &video.common.mid])?;
    }
    let transport = transport(sdp)?;
    Ok(Offer { audio, video, sections, ..transport })
}

/// Whether the line offers to send.
fn sends(media: &Media<'_>) -> bool {
    let bundled_only = media.attributes.has("bundle-only");
    let receives = ["recvonly", "inactive"].iter().any(|d| media.attributes.has(d));
    (media.port != 0 || bundled_only) && !receives
}

/// Some senders name another profile than they mean. Whatever is called RTP is DTLS-SRTP in the end (RFC 8829 §5.1.2): the fingerprint
/// shows it.
fn check_form(media: &Media<'_>) -> Result<(), Refusal> {
    let prefixes = ["UDP/TLS/", "TCP/DTLS/", "TCP/TLS/", ""];
    let profile = prefixes.iter().find_map(|prefix| media.protocol.strip_prefix(prefix));
    if !matches!(profile, Some("RTP/SAVPF" | "RTP/SAVP" | "RTP/AVPF" | "RTP/AVP")) {
        return Err(Refusal::Unacceptable(format!(
            "{} is offered over {}, and only UDP/TLS/RTP/SAVPF can be received",
            media.kind,
            shortened(media.protocol)
        )));
    }
    Ok(())
}

fn section(media: &Media<'_>, taken: bool) -> Result<Section, Refusal> {
    let mid = if taken { mid(media)? } else { media.attributes.first("mid").unwrap_or_default().to_owned() };
    let tail = std::iter::once(media.protocol).chain(media.formats.iter().copied()).collect::<Vec<_>>().join(" ");
    Ok(Section { kind: media.kind.to_owned(), tail, mid, taken })
}

/// The line's id. Its sender could not tell what an answer with an id of ours is about. The engine cuts longer ones than 16 bytes.
fn mid(media: &Media<'_>) -> Result<String, Refusal> {
    match media.attributes.first("mid") {
        None => Err(Refusal::Unreadable("a media line has no mid (a=mid, RFC 8829 §5.2.1)".into())),
        Some(mid) if is_token(mid) && mid.len() <= 16 => Ok(mid.to_owned()),
        Some(_) => Err(Refusal::Unreadable("a media line's mid is not a token of 1 to 16 letters".into())),
    }
}

/// Audio and video have to come over one transport, as the answer has only one (RFC 9725 §4.4.2).
fn check_bundle(sdp: &Sdp<'_>, mids: [&String; 2]) -> Result<(), Refusal> {
    let bundles = sdp.session.all("group").filter_map(|group| group.strip_prefix("BUNDLE"));
    let mut bundles = bundles.map(|group| group.split_ascii_whitespace().collect::<Vec<_>>());
    if bundles.any(|bundle| mids.iter().all(|mid| bundle.contains(&mid.as_str()))) {
        return Ok(());
    }
    let text = "audio and video are offered on separate transports; have the client bundle them (a=group:BUNDLE, bundle policy \
                max-bundle)";
    Err(Refusal::Unacceptable(text.into()))
}

fn check_mids(sections: &[Section]) -> Result<(), Refusal> {
    let mut mids: Vec<_> = sections.iter().filter(|s| !s.mid.is_empty()).map(|s| s.mid.as_str()).collect();
    mids.sort_unstable();
    if mids.windows(2).any(|w| w[0] == w[1]) {
        return Err(Refusal::Unreadable("two media lines have the same mid".into()));
    }
    Ok(())
}

/// Credentials, fingerprint and candidates: of the first line used, or of the session (RFC 8839 §5.4, RFC 8842 §5.1).
fn transport(sdp: &Sdp<'_>) -> Result<Offer, Refusal> {
    let unreadable = |why: &str| Refusal::Unreadable(why.to_owned());
    let used: Vec<_> = sdp.media.iter().filter(|m| sends(m)).collect();
    let find = |name: &str| {
        used.iter().find_map(|m| m.attributes.first(name)).or_else(|| sdp.session.first(name)).map(str::to_owned)
    };
    let (ufrag, pwd) = find("ice-ufrag").zip(find("ice-pwd")).ok_or_else(|| unreadable("it has no ICE credentials"))?;
    if !credentials(&ufrag, &pwd) {
        return Err(unreadable("its ICE credentials are damaged"));
    }
    let fingerprints: Vec<_> = used.iter().flat_map(|m| m.attributes.all("fingerprint")).collect();
    let fingerprints = if fingerprints.is_empty() { sdp.session.all("fingerprint").collect() } else { fingerprints };
    // Of several the one that can be checked; certificates are the same for all lines.
    let sha256 = fingerprints.iter().find(|f| f.get(..8).is_some_and(|hash| hash.eq_ignore_ascii_case("sha-256 ")));
    let fingerprint = sha256.or(fingerprints.first()).ok_or_else(|| unreadable("it has no DTLS fingerprint"))?;
    let fingerprint = fingerprint_of(fingerprint)?;
    let setup = find("setup").unwrap_or_else(|| "actpass".into());
    if !matches!(setup.as_str(), "actpass" | "active" | "passive") {
        return Err(unreadable("its setup attribute is none of actpass, active and passive"));
    }
    let offered = used.iter().flat_map(|m| m.attributes.all("candidate")).chain(sdp.session.all("candidate"));
    Ok(Offer {
        ufrag,
        pwd,
        fingerprint,
        setup,
        ice_lite: sdp.session.has("ice-lite"),
        candidates: candidates(offered),
        audio: None,
        video: None,
        sections: Vec::new(),
    })
}

/// RFC 8122 §5; SHA-256 is what everybody has.
fn fingerprint_of(value: &str) -> Result<String, Refusal> {
    let unreadable = |why: &str| Err(Refusal::Unreadable(why.to_owned()));
    let Some((hash, hex)) = value.split_once(' ') else { return unreadable("its DTLS fingerprint is damaged") };
    if !hash.eq_ignore_ascii_case("sha-256") {
        return unreadable("its DTLS fingerprint is not of SHA-256");
    }
    let bytes: Vec<_> = hex.trim().split(':').collect();
    if bytes.len() != 32 || bytes.iter().any(|b| b.len() != 2 || u8::from_str_radix(b, 16).is_err()) {
        return unreadable("its DTLS fingerprint is damaged");
    }
    Ok(format!("sha-256 {}", hex.trim().to_ascii_uppercase()))
}

fn choose_audio(media: &Media<'_>, mid: String, accept: &Accept) -> Result<Audio, Refusal> {
    let opus = media.formats.iter().find(|pt| {
        let map = media.attributes.of_format("rtpmap", pt).unwrap_or_default();
        map.split('/').next().is_some_and(|name| name.eq_ignore_ascii_case("opus"))
    });
    let Some(opus) = opus else {
        return choose_g711(media, mid, accept);
    };
    let parameters = media.attributes.of_format("fmtp", opus).unwrap_or_default();
    let on = |name: &str| parameter(parameters, name) == Some("1");
    let red = media.formats.iter().find(|pt| {
        let map = media.attributes.of_format("rtpmap", pt).unwrap_or_default();
        let mut repeats = media.attributes.of_format("fmtp", pt).unwrap_or_default().split('/');
        map.to_ascii_lowercase().starts_with("red/48000") && repeats.all(|of| of.trim() == *opus)
    });
    Ok(Audio {
        codec: AudioCodec::Opus,
        red: red.and_then(|pt| payload_type(pt)),
        common: common(media, mid, opus, None)?,
        stereo: on("sprop-stereo") || on("stereo"),
        dtx: on("usedtx"),
        fec: on("useinbandfec"),
    })
}

/// What telephones and small devices send. A room takes Opus alone, so that it has to be decoded.
fn choose_g711(media: &Media<'_>, mid: String, accept: &Accept) -> Result<Audio, Refusal> {
    let codec_of = |pt: &str| {
        let map = media.attributes.of_format("rtpmap", pt).map(str::to_ascii_uppercase);
        match (map.as_deref(), pt) {
            (Some("PCMU/8000" | "PCMU/8000/1"), _) | (None, "0") => Some(AudioCodec::PcmMulaw),
            (Some("PCMA/8000" | "PCMA/8000/1"), _) | (None, "8") => Some(AudioCodec::PcmAlaw),
            _ => None,
        }
    };
    let Some((pt, codec)) = media.formats.iter().find_map(|pt| Some((pt, codec_of(pt)?))) else {
        return Err(unsupported(media, "Opus"));
    };
    if accept.delivery == Delivery::Packets {
        let text =
            "audio is offered as G.711 (PCMU, PCMA) alone: send Opus, or have it transcoded (enable_transcoding)";
        return Err(Refusal::Unacceptable(text.into()));
    }
    let common = common(media, mid, pt, None)?;
    Ok(Audio { codec, common, red: None, stereo: false, dtx: false, fec: false })
}

fn choose_video(media: &Media<'_>, mid: String, accept: &Accept) -> Result<Video, Refusal> {
    let attributes = &media.attributes;
    let known = |pt: &str| {
        let name = attributes.of_format("rtpmap", pt)?.split('/').next()?;
        VideoCodec::OVER_RTP.into_iter().find(|c| c.rtp_name().eq_ignore_ascii_case(name))
    };
    let codec_of = |pt: &str| known(pt).filter(|codec| accept.video.contains(codec));
    let Some(codec) = media.formats.iter().find_map(|pt| codec_of(pt)) else {
        let usable = accept.video.iter().map(|c| c.rtp_name()).collect::<Vec<_>>().join(", ");
        return Err(match media.formats.iter().find_map(|pt| known(pt)) {
            Some(codec) => refused_by_room(codec, &usable),
            None => unsupported(media, &usable),
        });
    };
    let fmtp = |pt: &str| attributes.of_format("fmtp", pt).unwrap_or_default();
    // The first of those that suit best: max_by_key would take the last.
    let formats = media.formats.iter().rev().filter(|pt| codec_of(pt) == Some(codec));
    let Some(pt) = formats.max_by_key(|pt| suitability(codec, fmtp(pt))) else {
        return Err(unsupported(media, codec.rtp_name()));
    };
    let rtx = media.formats.iter().find(|rtx| {
        attributes.of_format("rtpmap", rtx).is_some_and(|m| m.to_ascii_lowercase().starts_with("rtx/"))
            && parameter(fmtp(rtx), "apt") == Some(pt)
    });
    let rtx = rtx.and_then(|p| payload_type(p));
    let (mut rids, layer_ssrcs) = (layers(attributes)?, ssrc_layers(attributes));
    let layer_ssrcs = if rids.is_empty() { layer_ssrcs } else { Vec::new() };
    rids.extend((0..layer_ssrcs.len()).map(|n| n.to_string()));
    let mut common = common(media, mid, pt, rtx)?;
    let source = descriptor::source(codec, rids.len()).filter(|_| accept.delivery == Delivery::Packets);
    if source != Some(descriptor::Source::Sender) {
        common.extensions.retain(|(_, uri)| *uri != descriptor::URI);
    }
    let described = match source {
        Some(descriptor::Source::Sender) => common.extensions.iter().any(|(_, uri)| *uri == descriptor::URI),
        Some(descriptor::Source::Ours) => true,
        None => false,
    };
    Ok(Video {
        pli: feedback(attributes, pt, "nack pli"),
        fir: feedback(attributes, pt, "ccm fir"),
        remb: feedback(attributes, pt, "goog-remb"),
        rids,
        layer_ssrcs,
        format: VideoFormat { codec, parameters: parameters(codec, fmtp(pt)), described },
        common,
        rtx,
    })
}

/// How well a format can be passed on: LiveKit knows the baseline profiles and high, each with packetization mode 1; VP9 and
/// AV1 in their profile 0 are what all browsers show.
fn suitability(codec: VideoCodec, fmtp: &str) -> u32 {
    match codec {
        VideoCodec::H264 => {
            let profile = parameter(fmtp, "profile-level-id").unwrap_or("42001f").to_ascii_lowercase();
            let known = ["42e0", "4200", "6400", "640c"].iter().any(|p| profile.starts_with(p));
            u32::from(parameter(fmtp, "packetization-mode") == Some("1")) * 2 + u32::from(known)
        }
        VideoCodec::Vp9 => u32::from(matches!(parameter(fmtp, "profile-id"), None | Some("0"))),
        VideoCodec::Av1 => u32::from(matches!(parameter(fmtp, "profile"), None | Some("0"))),
        _ => 0,
    }
}

/// The format parameters that matter to whoever receives the stream, cleaned.
fn parameters(codec: VideoCodec, fmtp: &str) -> String {
    let names: &[&str] = match codec {
        VideoCodec::H264 => &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"],
        VideoCodec::H265 => &["level-id", "profile-id", "tier-flag", "tx-mode"],
        VideoCodec::Vp9 => &["profile-id"],
        VideoCodec::Av1 => &["level-idx", "profile", "tier"],
        _ => &[],
    };
    let kept = names.iter().filter_map(|name| {
        let value = parameter(fmtp, name).filter(|v| is_token(v) && v.len() <= 16)?;
        Some(format!("{name}={value}"))
    });
    kept.collect::<Vec<_>>().join(";")
}

/// The layers of `a=simulcast:send` in their order (RFC 8853 §5.1); of alternatives the first, whether paused or not.
fn layers(attributes: &Attributes<'_>) -> Result<Vec<String>, Refusal> {
    let Some(simulcast) = attributes.first("simulcast") else { return Ok(Vec::new()) };
    let invalid = || Refusal::Unacceptable(format!("invalid simulcast configuration: {}", shortened(simulcast)));
    let words: Vec<_> = simulcast.split_ascii_whitespace().collect();
    let sent = words.windows(2).find(|w| w[0] == "send").map(|w| w[1]).ok_or_else(invalid)?;
    let first = |layer: &str| layer.split(',').next().unwrap_or_default().trim_start_matches('~').to_owned();
    let rids: Vec<_> = sent.split(';').map(first).collect();
    let distinct = rids.iter().enumerate().all(|(i, r)| !rids[..i].contains(r));
    // The engine keeps ids of up to 16 letters (RFC 8852 asks for alphanumeric ones).
    let valid = rids.iter().all(|r| {
        (1..=16).contains(&r.len()) && r.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    });
    if !distinct || !valid || rids.len() > MAX_LAYERS {
        return Err(invalid());
    }
    Ok(rids)
}

/// The layers of `a=ssrc-group:SIM`, lowest first, each with the SSRC of its retransmissions (FID). Further ones are left out.
fn ssrc_layers(attributes: &Attributes<'_>) -> Vec<(u32, Option<u32>)> {
    let group = |name| attributes.all("ssrc-group").filter_map(move |g| g.split_once(' ').filter(|(n, _)| *n == name));
    let numbers = |list: &str| list.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect::<Vec<u32>>();
    let fids: Vec<_> = group("FID").map(|(_, list)| numbers(list)).collect();
    let mut layers: Vec<(u32, Option<u32>)> = Vec::new();
    for ssrc in group("SIM").next().map(|(_, list)| numbers(list)).unwrap_or_default() {
        if layers.len() < MAX_LAYERS && layers.iter().all(|(known, _)| *known != ssrc) {
            let rtx = fids.iter().find(|fid| fid.first() == Some(&ssrc)).and_then(|fid| fid.get(1).copied());
            layers.push((ssrc, rtx));
        }
    }
    if layers.len() < 2 { Vec::new() } else { layers }
}

fn common(media: &Media<'_>, mid: String, pt: &str, rtx: Option<u8>) -> Result<Common, Refusal> {
    let damaged = || Refusal::Unreadable("a payload type is not a number below 128".into());
    let attributes = &media.attributes;
    let ssrc = attributes.all("ssrc").find_map(number);
    let fid = ssrc.filter(|_| rtx.is_some()).and_then(|main| {
        attributes.all("ssrc-group").find_map(|group| {
            let mut words = group.strip_prefix("FID ")?.split_ascii_whitespace();
            let (first, second) = (number(words.next()?)?, number(words.next()?)?);
            (first == main).then_some(second)
        })
    });
    Ok(Common {
        mid,
        pt: payload_type(pt).ok_or_else(damaged)?,
        nack: feedback(attributes, pt, "nack"),
        transport_cc: feedback(attributes, pt, "transport-cc"),
        extensions: extensions(attributes),
        ssrc,
        rtx_ssrc: fid,
    })
}

fn extensions(attributes: &Attributes<'_>) -> Vec<(u8, &'static str)> {
    let mut found: Vec<(u8, &'static str)> = Vec::new();
    for value in attributes.all("extmap") {
        let mut words = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else { continue };
        // A direction may stand behind the number. Numbers above 14 need the two-byte form (RFC 8285 §4.2).
        let id = id.split('/').next().and_then(|i| i.parse::<u8>().ok()).filter(|i| (1..=14).contains(i));
        let uri = EXTENSIONS.iter().find(|e| **e == uri);
        if let (Some(id), Some(uri)) = (id, uri)
            && found.iter().all(|(i, u)| *i != id && u != uri)
        {
            found.push((id, uri));
        }
    }
    found
}

fn feedback(attributes: &Attributes<'_>, pt: &str, name: &str) -> bool {
    attributes.all("rtcp-fb").any(|v| {
        v.split_once(' ').is_some_and(|(of, what)| (of == pt || of == "*") && what.trim().eq_ignore_ascii_case(name))
    })
}

/// The value of `name` in `a=b;c=d`.
fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (n, value) = pair.split_once('=')?;
        n.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn number(value: &str) -> Option<u32> {
    value.split_ascii_whitespace().next()?.parse().ok()
}

fn payload_type(pt: &str) -> Option<u8> {
    pt.parse::<u8>().ok().filter(|p| *p < 128)
}

/// We would take it, but livekit-server's configuration does not allow it.
fn refused_by_room(codec: VideoCodec, usable: &str) -> Refusal {
    let send = if usable.is_empty() { String::new() } else { format!(", send {usable}") };
    Refusal::Unacceptable(format!(
        "livekit-server does not accept {} video: enable the codec in livekit-server (room.enabled_codecs){send}, or have it transcoded",
        codec.rtp_name()
    ))
}

fn unsupported(media: &Media<'_>, usable: &str) -> Refusal {
    let names: Vec<_> = media
        .formats
        .iter()
        .filter_map(|pt| media.attributes.of_format("rtpmap", pt)?.split('/').next())
        .filter(|name| is_token(name))
        .take(8)
        .collect();
    let offered = if names.is_empty() { "nothing known".to_owned() } else { names.join(", ") };
    Refusal::Unacceptable(format!("unsupported {} codec: offered {offered}; use {usable}", media.kind))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b))
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}
