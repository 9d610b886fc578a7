//! Offers of real programs, and what is wrong with others.

use super::read::MAX_CANDIDATES;
use super::*;
use crate::Refusal;
use crate::answer_unreachable;
use model::AudioCodec;
use proptest::prelude::*;
use std::time::Instant;

const OBS: &str = include_str!("../../../../e2e/data/obs-offer.sdp");
/// Shaped as Chromium's: many codecs, header extensions, three layers, a data channel.
const CHROMIUM: &str = include_str!("../../../../fuzz/seeds/whip_offers/chromium");

fn read(sdp: &str) -> Result<Offer, Refusal> {
    Offer::read(sdp, &Accept::passthrough())
}

fn answered(sdp: &str) -> Result<String, Refusal> {
    answer_unreachable(sdp, &Accept::passthrough(), Instant::now())
}

#[test]
fn obs_offer_is_taken_whole() {
    let offer = read(OBS).unwrap();
    let (audio, video) = (offer.audio.clone().unwrap(), offer.video.clone().unwrap());
    assert!(audio.stereo && audio.fec && !audio.dtx);
    assert_eq!((audio.common.pt, audio.common.ssrc), (111, Some(1_122_334_455)));
    assert_eq!(video.format.parameters, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
    assert!(video.common.nack && video.pli && video.remb && !video.common.transport_cc && video.rtx.is_none());
    assert_eq!((offer.ufrag.as_str(), offer.candidates.len()), ("kQ7d", 2));
    let answer = answered(OBS).unwrap();
    assert!(answer.contains("a=setup:passive") && answer.matches("a=recvonly").count() == 2, "{answer}");
    assert!(answer.contains("stereo=1"), "{answer}");
}

#[test]
fn chromium_gets_the_best_passthrough_format() {
    let offer = read(CHROMIUM).unwrap();
    let video = offer.video.clone().unwrap();
    assert_eq!((video.common.pt, video.rtx), (127, Some(121)), "packetization mode 1");
    assert_eq!(video.rids, ["q", "h", "f"]);
    assert_eq!(video.common.extensions.len(), 5, "abs-send-time is read by nobody");
    assert!(offer.audio.as_ref().unwrap().dtx);
    let answer = answered(CHROMIUM).unwrap();
    let media: Vec<_> = answer.lines().filter(|l| l.starts_with("m=")).collect();
    let wanted = [
        // A browser sends the first format of the answer: RED.
        "m=audio 9 UDP/TLS/RTP/SAVPF 63 111",
        "m=video 9 UDP/TLS/RTP/SAVPF 127 121",
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
    ];
    assert_eq!(media, wanted);
    assert!(answer.contains("a=simulcast:recv q;h;f") && answer.contains("a=group:BUNDLE 0 1\r\n"), "{answer}");
    assert!(answer.contains("a=fmtp:63 111/111\r\n"), "{answer}");
    assert!(answer.contains("a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1\r\n"), "{answer}");
    let stereo = answered(&CHROMIUM.replace("minptime=10", "stereo=1;minptime=10")).unwrap();
    assert!(stereo.contains("a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1;usedtx=1\r\n"), "{stereo}");
}

#[test]
fn red_of_another_codec_is_not_taken() {
    for other in [CHROMIUM.replace("111/111", "111/9"), CHROMIUM.replace("red/48000", "red/8000")] {
        let answer = answered(&other).unwrap();
        assert!(answer.contains("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"), "{answer}");
    }
}

#[test]
fn faults_are_named() {
    let unreadable = |sdp: &str, words: &str| match answered(sdp) {
        Err(Refusal::Unreadable(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("{words}: {other:?}"),
    };
    let unacceptable = |sdp: &str, words: &str| match answered(sdp) {
        Err(Refusal::Unacceptable(why)) => assert!(why.contains(words), "{why}"),
        other => panic!("{words}: {other:?}"),
    };
    unreadable("", "v=0");
    unreadable("v=0\r\ns=-\r\n", "no media line");
    unreadable(&"v=0\r\n".repeat(20_000), "too long");
    unreadable(&OBS.replace("a=ice-pwd:", "a=ice-pwd:!"), "credentials");
    unreadable(&OBS.replace("a=ice-ufrag", "a=x"), "credentials");
    unreadable(&OBS.replace("sha-256 10:", "sha-256 1:"), "fingerprint");
    unreadable(&OBS.replace("a=fingerprint", "a=x"), "fingerprint");
    unreadable(&OBS.replace("a=mid:1", "a=mid:0"), "same mid");
    unreadable(&format!("{OBS}{}", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(40)), "too many media lines");
    unacceptable(&OBS.replace("opus/48000/2", "G722/8000"), "unsupported audio codec: offered G722; use Opus");
    unacceptable(&OBS.replace("opus/48000/2", "PCMU/8000"), "have it transcoded (enable_transcoding)");
    unacceptable(&OBS.replace("H264/90000", "THEORA/90000"), "unsupported video codec: offered THEORA; use H264");
    unacceptable(&OBS.replace("a=sendonly", "a=recvonly"), "neither audio nor video");
    unacceptable(&OBS.replace("UDP/TLS/RTP/SAVPF", "UDP/DTLS/SCTP"), "only UDP/TLS/RTP/SAVPF");
    unacceptable(&OBS.replace("a=group:BUNDLE", "a=x"), "on separate transports");
    unacceptable(&OBS.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0"), "on separate transports");
    unreadable(&OBS.replace("a=mid:1", "a=x:1"), "has no mid");
    unacceptable(&CHROMIUM.replace("q;~h;f,x", "a;b;c;d"), "invalid simulcast configuration");
    unacceptable(&CHROMIUM.replace("q;~h;f,x", "q;q"), "invalid simulcast configuration");
    let twice = format!("{OBS}{}", OBS[OBS.find("m=video").unwrap()..].replace("a=mid:1", "a=mid:2"));
    unacceptable(&twice, "more than 1 track");
}

#[test]
fn g711_is_taken_where_it_is_decoded() {
    let answer = |sdp: &str| answer_unreachable(sdp, &Accept::transcoded(), Instant::now()).unwrap();
    for (name, codec) in [("PCMU/8000", AudioCodec::PcmMulaw), ("pcma/8000/1", AudioCodec::PcmAlaw)] {
        let sdp = OBS.replace("opus/48000/2", name);
        assert_eq!(Offer::read(&sdp, &Accept::transcoded()).unwrap().audio.unwrap().codec, codec);
        let answer = answer(&sdp);
        assert!(answer.contains("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"), "{answer}");
        assert!(answer.contains(&format!("a=rtpmap:111 {}/8000", &name[..4].to_uppercase())), "{answer}");
    }
    // Static payload types need no map (RFC 3551 §6); Opus goes first, wherever it stands.
    let opus = OBS.lines().find(|line| line.starts_with("a=rtpmap:111")).unwrap();
    let with = |formats: &str, map: &str| {
        OBS.replace("SAVPF 111", &format!("SAVPF {formats}")).replace(&format!("{opus}\r\n"), map)
    };
    let audio = |sdp: &str| Offer::read(sdp, &Accept::transcoded()).unwrap().audio.unwrap();
    let first = audio(&with("13 8 0", ""));
    assert_eq!((first.codec, first.common.pt), (AudioCodec::PcmAlaw, 8));
    assert_eq!(audio(&with("0 111", &format!("{opus}\r\n"))).codec, AudioCodec::Opus);
}

#[test]
fn layers_may_be_named_by_their_ssrcs() {
    let group = |ssrcs: &str| {
        let more = "a=ssrc-group:FID 2 20\r\na=ssrc:1 cname:a\r\n";
        format!("{}a=ssrc-group:SIM {ssrcs}\r\n{more}", OBS.trim_end().to_owned() + "\r\n")
    };
    let layers = |ssrcs: &str| read(&group(ssrcs)).unwrap().video.unwrap().layer_ssrcs;
    assert_eq!(layers("1 2 3"), [(1, None), (2, Some(20)), (3, None)]);
    assert_eq!(layers("1 2 3 4").len(), 3, "LiveKit has no more");
    assert_eq!((layers("1"), layers("1 1"), layers("x 2")), (vec![], vec![], vec![]));
    let offer = read(&group("1 2 3")).unwrap();
    assert_eq!(offer.video.unwrap().rids, ["0", "1", "2"]);
    let answer = answered(&group("1 2 3")).unwrap();
    assert!(!answer.contains("a=rid") && !answer.contains("a=simulcast"), "{answer}");
    // Who names stream ids as well means these.
    let both = CHROMIUM.replace("a=simulcast:send", "a=ssrc-group:SIM 1 2 3\r\na=simulcast:send");
    let video = read(&both).unwrap().video.unwrap();
    assert_eq!((video.rids.len(), video.layer_ssrcs.len()), (3, 0));
}

#[test]
fn the_profile_is_answered_as_it_is_offered() {
    for profile in ["RTP/SAVPF", "RTP/AVPF", "RTP/AVP", "TCP/DTLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP"] {
        let answer = answered(&OBS.replace("UDP/TLS/RTP/SAVPF", profile)).unwrap();
        assert_eq!(answer.matches(&format!(" 9 {profile} ")).count(), 2, "{answer}");
    }
}

#[test]
fn of_several_fingerprints_the_strongest_that_can_be_checked_is_taken() {
    let at = OBS.find("a=fingerprint:").unwrap();
    let weak = format!("a=fingerprint:sha-1 {}\r\n", ["AB"; 20].join(":"));
    let both = format!("{}{weak}{}", &OBS[..at], &OBS[at..]);
    assert_eq!(read(&both).unwrap().fingerprint, read(OBS).unwrap().fingerprint);
    let only = both.replace("sha-256 10:", "sha-384 10:");
    assert!(matches!(read(&only), Err(Refusal::Unreadable(why)) if why.contains("not of SHA-256")));
}

#[test]
fn unreachable_candidates_are_left_out() {
    let with = |line: &str| read(&OBS.replace("a=end-of-candidates", line)).unwrap().candidates.len();
    for line in [
        "a=candidate:9 1 udp 1 0f4e2c3a-0000.local 5000 typ host",
        "a=candidate:9 2 udp 1 10.0.0.1 5000 typ host",
        "a=candidate:9 1 tcp 1 10.0.0.1 9 typ host tcptype active",
        "a=candidate:9 1 udp 1 0.0.0.0 5000 typ host",
        "a=candidate:9 1 udp 1 10.0.0.1 70000 typ host",
        "a=candidate:",
    ] {
        assert_eq!(with(line), 2, "{line}");
    }
    assert_eq!(with(&"a=candidate:9 1 udp 1 10.0.0.1 5000 typ host\r\n".repeat(500)), MAX_CANDIDATES);
}

proptest! {
    /// Whatever a line becomes, an offer is answered or refused.
    #[test]
    fn damaged_offers_are_answered_or_refused(
        chromium: bool,
        at in any::<prop::sample::Index>(),
        what in prop_oneof!["[ -~]{0,40}", "a=[a-z-]{1,10}:[ -~]{0,30}"],
    ) {
        let sdp = if chromium { CHROMIUM } else { OBS };
        let mut lines: Vec<_> = sdp.lines().collect();
        let at = at.index(lines.len());
        lines[at] = &what;
        let _ = answered(&lines.join("\r\n"));
    }

    #[test]
    fn noise_is_refused(noise in "\\PC{0,300}") {
        prop_assert!(read(&noise).is_err());
    }
}
