//! Every rule of validation, every default, and the way back to the wire.

use super::*;
use model::ResourceId;
use proptest::prelude::*;
use psrpc::BusError;
use session::{AudioFacts, VideoFacts};
use std::time::Duration;

fn rtmp() -> lk::IngressInfo {
    lk::IngressInfo {
        ingress_id: "IN_x".into(),
        name: "name".into(),
        stream_key: "sesame".into(),
        room_name: "room".into(),
        participant_identity: "publisher".into(),
        participant_name: "Publisher".into(),
        participant_metadata: "md".into(),
        ..Default::default()
    }
}

fn whip() -> lk::IngressInfo {
    lk::IngressInfo { input_type: lk::IngressInput::WhipInput.into(), ..rtmp() }
}

fn url() -> lk::IngressInfo {
    lk::IngressInfo {
        input_type: lk::IngressInput::UrlInput.into(),
        stream_key: String::new(),
        url: "https://example.org/a.mp4".into(),
        ..rtmp()
    }
}

fn with_video(options: lk::IngressVideoOptions) -> lk::IngressInfo {
    lk::IngressInfo { video: Some(options), ..rtmp() }
}

fn with_audio(options: lk::IngressAudioOptions) -> lk::IngressInfo {
    lk::IngressInfo { audio: Some(options), ..rtmp() }
}

fn custom_video_of(custom: lk::IngressVideoEncodingOptions) -> lk::IngressInfo {
    with_video(lk::IngressVideoOptions { encoding_options: Some(VideoOptions::Options(custom)), ..Default::default() })
}

fn custom_audio_of(custom: lk::IngressAudioEncodingOptions) -> lk::IngressInfo {
    with_audio(lk::IngressAudioOptions { encoding_options: Some(AudioOptions::Options(custom)), ..Default::default() })
}

fn layers_of(layers: &[(lk::VideoQuality, u32, u32, u32)]) -> lk::IngressInfo {
    let layer = |&(quality, width, height, bitrate): &(lk::VideoQuality, u32, u32, u32)| lk::VideoLayer {
        quality: quality.into(),
        width,
        height,
        bitrate,
        ..Default::default()
    };
    let layers = layers.iter().map(layer).collect();
    custom_video_of(lk::IngressVideoEncodingOptions { layers, ..Default::default() })
}

#[track_caller]
fn refused(info: &lk::IngressInfo, text: &str) {
    let fault = spec(info).expect_err(text);
    assert_eq!((fault.text.as_str(), fault.blame, fault.retry), (text, Blame::Spec, false));
}

#[test]
fn a_plain_ingress_has_the_default_presets() {
    let spec = spec(&rtmp()).unwrap();
    assert_eq!(
        spec,
        IngressSpec {
            ingress_id: IngressId("IN_x".into()),
            name: "name".into(),
            stream_key: Secret::new("sesame"),
            url: Secret::default(),
            input: InputKind::Rtmp,
            room: "room".into(),
            identity: "publisher".into(),
            participant_name: "Publisher".into(),
            metadata: "md".into(),
            transcode: true,
            enabled: true,
            audio: AudioSpec {
                name: String::new(),
                source: TrackSource::Microphone,
                encoding: AudioPreset::OpusStereo96k.encoding(),
            },
            video: VideoSpec {
                name: String::new(),
                source: TrackSource::Camera,
                encoding: VideoPreset::H264_720p30Layers3.encoding(),
            },
        }
    );
}

#[test]
fn missing_fields_have_the_go_programs_text() {
    refused(&lk::IngressInfo { input_type: 7, ..rtmp() }, "invalid ingress: unsupported input type");
    refused(&lk::IngressInfo { room_name: String::new(), ..rtmp() }, "invalid ingress: no room name");
    refused(&lk::IngressInfo { stream_key: String::new(), ..rtmp() }, "invalid ingress: no stream key");
    refused(&lk::IngressInfo { stream_key: String::new(), ..whip() }, "invalid ingress: no stream key");
    refused(&lk::IngressInfo { url: String::new(), ..url() }, "invalid ingress: no source URL");
    refused(
        &lk::IngressInfo { participant_identity: String::new(), ..rtmp() },
        "invalid ingress: no participant identity",
    );
    refused(&lk::IngressInfo { enabled: Some(false), ..url() }, "invalid ingress: disabled non reusable ingress");
    assert!(spec(&url()).is_ok());
}

#[test]
fn a_disabled_ingress_is_a_matter_of_access() {
    // Before anything else that may be wrong with it.
    let info = lk::IngressInfo { enabled: Some(false), room_name: String::new(), ..rtmp() };
    let fault = spec(&info).unwrap_err();
    assert!(fault.text.starts_with("session is disabled") && fault.blame == Blame::Access && !fault.retry);
    assert!(spec(&lk::IngressInfo { enabled: Some(true), ..rtmp() }).is_ok());
}

#[test]
#[allow(deprecated)]
fn only_whip_can_do_without_transcoding() {
    let transcodes = |info: &lk::IngressInfo| spec(info).unwrap().transcode;
    assert!(transcodes(&whip()) && transcodes(&url()));
    assert!(!transcodes(&lk::IngressInfo { bypass_transcoding: true, ..whip() }));
    assert!(!transcodes(&lk::IngressInfo { enable_transcoding: Some(false), ..whip() }));
    assert!(transcodes(&lk::IngressInfo { enable_transcoding: Some(true), ..whip() }));

    let text = "invalid transcoding bypass configuration: bypassing transcoding impossible with selected input type";
    refused(&lk::IngressInfo { bypass_transcoding: true, ..rtmp() }, text);
    refused(&lk::IngressInfo { enable_transcoding: Some(false), ..url() }, text);

    let video = Some(lk::IngressVideoOptions { encoding_options: Some(VideoOptions::Preset(0)), ..Default::default() });
    let audio = Some(lk::IngressAudioOptions { encoding_options: Some(AudioOptions::Preset(0)), ..Default::default() });
    let text =
        "invalid transcoding bypass configuration: video encoding options must be empty if transcoding is disabled";
    refused(&lk::IngressInfo { enable_transcoding: Some(false), video: video.clone(), ..whip() }, text);
    let text = "invalid transcoding bypass configuration: audio encoding options must be empty if transcoding bypass is selected";
    refused(&lk::IngressInfo { bypass_transcoding: true, audio, ..whip() }, text);
    // A name and a source are not encoding options.
    let named = Some(lk::IngressVideoOptions { name: "cam".into(), ..Default::default() });
    assert!(!transcodes(&lk::IngressInfo { enable_transcoding: Some(false), video: named, ..whip() }));
    assert!(transcodes(&lk::IngressInfo { video, ..whip() }), "transcoded unless told otherwise");
}

#[test]
fn track_sources_fit_their_kind() {
    let video = |source: lk::TrackSource| {
        with_video(lk::IngressVideoOptions { source: source.into(), name: "v".into(), ..Default::default() })
    };
    let audio = |source: lk::TrackSource| {
        with_audio(lk::IngressAudioOptions { source: source.into(), name: "a".into(), ..Default::default() })
    };
    for (given, meant) in [
        (lk::TrackSource::Unknown, TrackSource::Camera),
        (lk::TrackSource::Camera, TrackSource::Camera),
        (lk::TrackSource::ScreenShare, TrackSource::ScreenShare),
    ] {
        let video = spec(&video(given)).unwrap().video;
        assert_eq!((video.source, video.name.as_str()), (meant, "v"));
    }
    for (given, meant) in [
        (lk::TrackSource::Unknown, TrackSource::Microphone),
        (lk::TrackSource::Microphone, TrackSource::Microphone),
        (lk::TrackSource::ScreenShareAudio, TrackSource::ScreenShareAudio),
    ] {
        let audio = spec(&audio(given)).unwrap().audio;
        assert_eq!((audio.source, audio.name.as_str()), (meant, "a"));
    }
    refused(&video(lk::TrackSource::Microphone), "invalid video parameters: invalid track source");
    refused(&video(lk::TrackSource::ScreenShareAudio), "invalid video parameters: invalid track source");
    refused(&audio(lk::TrackSource::Camera), "invalid audio parameters: invalid track source");
    refused(
        &with_video(lk::IngressVideoOptions { source: 99, ..Default::default() }),
        "invalid video parameters: invalid track source",
    );
}

#[test]
fn presets_are_found_by_number() {
    let video = |n| {
        with_video(lk::IngressVideoOptions { encoding_options: Some(VideoOptions::Preset(n)), ..Default::default() })
    };
    let audio = |n| {
        with_audio(lk::IngressAudioOptions { encoding_options: Some(AudioOptions::Preset(n)), ..Default::default() })
    };
    for n in 0..10 {
        assert_eq!(spec(&video(n)).unwrap().video.encoding, VideoPreset::from_number(n).unwrap().encoding());
    }
    assert_eq!(spec(&audio(1)).unwrap().audio.encoding, AudioPreset::OpusMono64k.encoding());
    refused(&video(10), "invalid video parameters: invalid preset");
    refused(&audio(2), "invalid audio parameters: invalid preset");
}

#[test]
fn custom_video_is_filled_in() {
    let encoding = spec(&custom_video_of(Default::default())).unwrap().video.encoding;
    assert_eq!(
        encoding,
        VideoEncoding { codec: EncodedVideo::H264, max_frame_rate: 30.0, layers: VideoEncoding::default_layers() }
    );
    let options = lk::IngressVideoEncodingOptions {
        video_codec: lk::VideoCodec::Vp8.into(),
        frame_rate: 15.0,
        ..Default::default()
    };
    let encoding = spec(&custom_video_of(options)).unwrap().video.encoding;
    assert_eq!((encoding.codec, encoding.max_frame_rate), (EncodedVideo::Vp8, 15.0));

    let encoding = spec(&layers_of(&[
        (lk::VideoQuality::High, 1920, 1080, 0),
        (lk::VideoQuality::Low, 960, 540, 0),
        (lk::VideoQuality::Medium, 1280, 720, 123_456),
    ]))
    .unwrap()
    .video
    .encoding;
    assert_eq!(
        encoding.layers,
        [
            Layer { quality: Quality::Low, width: 960, height: 540, bitrate: 1_237_436 },
            Layer { quality: Quality::Medium, width: 1280, height: 720, bitrate: 123_456 },
            Layer { quality: Quality::High, width: 1920, height: 1080, bitrate: 3_500_000 },
        ]
    );
}

#[test]
fn impossible_custom_video_is_refused() {
    use lk::VideoQuality::{High, Low, Off};
    let of = |change: fn(&mut lk::IngressVideoEncodingOptions)| {
        let mut options = lk::IngressVideoEncodingOptions::default();
        change(&mut options);
        custom_video_of(options)
    };
    refused(&of(|o| o.frame_rate = -1.0), "invalid video parameters: invalid framerate");
    refused(&of(|o| o.frame_rate = f64::NAN), "invalid video parameters: invalid framerate");
    refused(&of(|o| o.frame_rate = f64::INFINITY), "invalid video parameters: invalid framerate");
    refused(
        &of(|o| o.video_codec = lk::VideoCodec::H264Main.into()),
        "invalid video parameters: video codec unsupported",
    );
    refused(&of(|o| o.video_codec = 77), "invalid video parameters: video codec unsupported");
    refused(&layers_of(&[(Low, 0, 180, 1)]), "invalid video parameters: invalid output media dimensions");
    refused(&layers_of(&[(Low, 320, 0, 1)]), "invalid video parameters: invalid output media dimensions");
    refused(&layers_of(&[(Low, 321, 180, 1)]), "invalid ingress: layer width must be even");
    refused(&layers_of(&[(Low, 320, 181, 1)]), "invalid ingress: layer height must be even");
    refused(&layers_of(&[(Off, 320, 180, 1)]), "invalid video parameters: invalid layer quality");
    refused(
        &layers_of(&[(Low, 320, 180, 1), (Low, 640, 360, 1)]),
        "invalid video parameters: more than one layer with the same quality level",
    );
    refused(
        &layers_of(&[(High, 320, 180, 1), (Low, 320, 360, 1)]),
        "invalid video parameters: video layers do not have increasing height with increasing quality",
    );
    refused(
        &layers_of(&[(High, 320, 360, 1), (Low, 640, 360, 1)]),
        "invalid video parameters: video layers do not have increasing width with increasing quality",
    );
    assert!(spec(&layers_of(&[(High, 320, 180, 2), (Low, 320, 180, 1)])).is_ok(), "equal sizes are allowed");
}

#[test]
fn custom_audio_is_filled_in_or_refused() {
    let of = |channels, bitrate, disable_dtx| {
        custom_audio_of(lk::IngressAudioEncodingOptions { channels, bitrate, disable_dtx, ..Default::default() })
    };
    let encoding = |info| spec(&info).unwrap().audio.encoding;
    assert_eq!(encoding(of(0, 0, false)), AudioEncoding { channels: 2, bitrate: 96_000, dtx: true });
    assert_eq!(encoding(of(1, 0, true)), AudioEncoding { channels: 1, bitrate: 64_000, dtx: false });
    assert_eq!(encoding(of(2, 32_000, false)), AudioEncoding { channels: 2, bitrate: 32_000, dtx: true });
    refused(&of(3, 0, false), "invalid audio parameters: invalid audio channel count");
    let aac = lk::IngressAudioEncodingOptions { audio_codec: lk::AudioCodec::Aac.into(), ..Default::default() };
    refused(&custom_audio_of(aac), "invalid audio parameters: audio codec unsupported");
}

#[test]
fn a_key_is_for_one_kind_of_input() {
    let spec = spec(&whip()).unwrap();
    assert!(spec.expect_input(InputKind::Whip).is_ok());
    let fault = spec.expect_input(InputKind::Rtmp).unwrap_err();
    assert!(fault.text.starts_with("invalid ingress type") && fault.blame == Blame::Mismatch);
}

fn report() -> Report {
    Report {
        resource_id: ResourceId("RT_a".into()),
        status: Status::Publishing,
        error: String::new(),
        video: None,
        audio: None,
        room_id: String::new(),
        started_at: 1,
        ended_at: 0,
        updated_at: 2,
    }
}

#[test]
fn a_report_is_stored_whole() {
    let report = Report {
        status: Status::Error,
        error: "words".into(),
        video: Some(VideoFacts {
            mime: "video/H264".into(),
            average_bitrate: 1,
            width: 2,
            height: 3,
            frame_rate: 25.0,
        }),
        audio: Some(AudioFacts { mime: "audio/aac".into(), average_bitrate: 4, channels: 2, sample_rate: 44_100 }),
        room_id: "RM_a".into(),
        started_at: 1_795_435_184_721_810_362,
        ended_at: 1_795_435_184_721_810_364,
        updated_at: 1_795_435_184_721_810_363,
        ..report()
    };
    let expected = lk::IngressState {
        status: 3,
        error: "words".into(),
        video: Some(lk::InputVideoState {
            mime_type: "video/H264".into(),
            average_bitrate: 1,
            width: 2,
            height: 3,
            framerate: 25.0,
        }),
        audio: Some(lk::InputAudioState {
            mime_type: "audio/aac".into(),
            average_bitrate: 4,
            channels: 2,
            sample_rate: 44_100,
        }),
        room_id: "RM_a".into(),
        started_at: 1_795_435_184_721_810_362,
        ended_at: 1_795_435_184_721_810_364,
        updated_at: 1_795_435_184_721_810_363,
        resource_id: "RT_a".into(),
        tracks: Vec::new(),
    };
    assert_eq!(state(&report), expected);
}

#[test]
fn statuses_go_there_and_back() {
    for status in [Status::Inactive, Status::Buffering, Status::Publishing, Status::Error, Status::Complete] {
        let info = lk::IngressInfo { state: Some(state(&Report { status, ..report() })), ..rtmp() };
        assert_eq!(stored_state(&info), Some(Report { status, ..report() }));
    }
    assert_eq!(stored_state(&rtmp()), None);
    let unknown = lk::IngressState { status: 9, ..Default::default() };
    assert_eq!(stored_state(&lk::IngressInfo { state: Some(unknown), ..rtmp() }), None);
}

#[test]
fn an_accepted_start_is_given_back_with_its_state() {
    let info = started(url(), state(&report()));
    assert_eq!(info.state.unwrap().resource_id, "RT_a");
    assert_eq!((info.audio, info.video), (Some(Default::default()), Some(Default::default())));
    assert_eq!((info.enable_transcoding, info.url.as_str()), (Some(true), "https://example.org/a.mp4"));
}

#[test]
fn refusals_have_the_code_for_retries() {
    let code = |blame, retry| {
        let failure = refusal(Fault { blame, retry, text: "words".into() });
        assert_eq!(failure.message, "words");
        failure.code
    };
    assert_eq!(code(Blame::Capacity, true), Code::ResourceExhausted);
    assert_eq!(code(Blame::Spec, false), Code::InvalidArgument);
    assert_eq!(code(Blame::Access, false), Code::PermissionDenied);
    assert_eq!(code(Blame::Source, true), Code::Unavailable);
    assert_eq!(code(Blame::Source, false), Code::FailedPrecondition);
    assert_eq!(code(Blame::Us, true), Code::Internal);
}

#[test]
fn failures_of_a_call_say_what_to_do() {
    let remote = |code, message: &str| psrpc::Error::Remote(Failure::new(code, message));
    let unknown = lookup_fault(&remote(Code::NotFound, "ingress does not exist"), "Redis at h:1");
    assert!(unknown.text.starts_with("no ingress has this stream key: "), "{unknown}");
    assert_eq!((unknown.blame, unknown.retry), (Blame::Unknown, false));

    let silent = lookup_fault(&psrpc::Error::NoServers { nobody_listens: true }, "Redis at h:1");
    let words = "no livekit-server answered: is it running and connected to the same Redis? (ours: Redis at h:1)";
    assert_eq!((silent.text.as_str(), silent.blame, silent.retry), (words, Blame::Control, true));

    let bus = BusError::Down { name: "Redis at h:1".into(), since: Duration::from_secs(12), reason: "refused".into() };
    let away = lookup_fault(&psrpc::Error::Bus(bus), "Redis at h:1");
    assert_eq!(away.text, "Redis at h:1 is not reachable (since 12 s): refused");
    assert_eq!((away.blame, away.retry), (Blame::Control, true));

    let other = lookup_fault(&remote(Code::Internal, "ingress not connected (redis required)"), "");
    assert_eq!(other.text, "livekit-server refused (internal): ingress not connected (redis required)");

    assert_eq!(report_error(&remote(Code::NotFound, "x"), ""), ReportError::Deleted);
    assert_eq!(report_error(&remote(Code::FailedPrecondition, "x"), ""), ReportError::Older);
    assert!(matches!(report_error(&psrpc::Error::TimedOut, ""), ReportError::Unreachable(f) if f.retry));
    assert!(matches!(report_error(&remote(Code::Internal, "x"), ""), ReportError::Unreachable(f) if !f.retry));
}

proptest! {
    /// Whatever an API client stores, the outcome is a possible ingress or words without the key.
    #[test]
    fn any_ingress_is_possible_or_refused(
        input in -1i32..5, key in "[a-z]{0,8}", room in "[a-z]{0,2}", enabled in any::<Option<bool>>(),
        transcode in any::<Option<bool>>(), rate in any::<f64>(), codec in -1i32..6, channels in 0u32..5,
        layers in prop::collection::vec((-1i32..5, 0u32..4000, 0u32..4000, any::<u32>()), 0..5),
    ) {
        let layers: Vec<_> = layers
            .into_iter()
            .map(|(quality, width, height, bitrate)| lk::VideoLayer { quality, width, height, bitrate, ..Default::default() })
            .collect();
        let key = if key.is_empty() { key } else { format!("KEY{key}") };
        let custom = lk::IngressVideoEncodingOptions { video_codec: codec, frame_rate: rate, layers };
        let audio = lk::IngressAudioEncodingOptions { channels, ..Default::default() };
        let info = lk::IngressInfo {
            input_type: input, stream_key: key.clone(), room_name: room, enabled, enable_transcoding: transcode,
            audio: custom_audio_of(audio).audio, ..custom_video_of(custom)
        };
        match spec(&info) {
            Ok(spec) => {
                let video = spec.video.encoding;
                prop_assert!((1..=3).contains(&video.layers.len()) && video.max_frame_rate > 0.0);
                prop_assert!(video.layers.iter().all(|l| l.bitrate > 0 && l.width % 2 == 0 && l.height % 2 == 0));
                prop_assert!(video.layers.windows(2).all(|p| p[0].quality < p[1].quality));
                prop_assert!(matches!(spec.audio.encoding.channels, 1 | 2));
            }
            Err(fault) => prop_assert!(!fault.retry && (key.is_empty() || !fault.text.contains(&key))),
        }
    }
}
