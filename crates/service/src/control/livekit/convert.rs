//! Between LiveKit's messages and our types: what an ingress asks for, what a session reports, and faults as psrpc codes.
//!
//! Pure. The rules and texts of validation are those of the Go programs (`protocol/ingress/validation.go`), because
//! people search for them; what an ingress leaves open is filled in like the Go ingress does.

use crate::control::ReportError;
use livekit_protocol as lk;
use livekit_protocol::ingress_audio_options::EncodingOptions as AudioOptions;
use livekit_protocol::ingress_video_options::EncodingOptions as VideoOptions;
use model::{
    AudioEncoding, AudioPreset, AudioSpec, Blame, EncodedVideo, Fault, IngressId, IngressSpec, InputKind, Layer,
    Quality, ResourceId, Secret, TrackSource, VideoEncoding, VideoPreset, VideoSpec, default_bitrate,
};
use psrpc::{Code, Failure};
use session::{AudioFacts, Report, Status, VideoFacts};

/// Checks an ingress, and gives what it asks for.
pub(super) fn spec(info: &lk::IngressInfo) -> Result<IngressSpec, Fault> {
    let enabled = info.enabled.unwrap_or(true);
    let input = match lk::IngressInput::try_from(info.input_type) {
        Ok(lk::IngressInput::RtmpInput) => InputKind::Rtmp,
        Ok(lk::IngressInput::WhipInput) => InputKind::Whip,
        Ok(lk::IngressInput::UrlInput) => InputKind::Url,
        Err(_) => return Err(invalid("unsupported input type")),
    };
    if !enabled && input.reusable() {
        return Err(Fault::new(Blame::Access, "session is disabled: enable the ingress to publish with its key"));
    }
    let required = [
        (info.room_name.is_empty(), "no room name"),
        (info.stream_key.is_empty() && input != InputKind::Url, "no stream key"),
        (info.url.is_empty() && input == InputKind::Url, "no source URL"),
        (!enabled, "disabled non reusable ingress"),
        (info.participant_identity.is_empty(), "no participant identity"),
    ];
    if let Some((_, what)) = required.into_iter().find(|(missing, _)| *missing) {
        return Err(invalid(what));
    }
    Ok(IngressSpec {
        ingress_id: IngressId(info.ingress_id.clone()),
        name: info.name.clone(),
        stream_key: Secret::new(&info.stream_key),
        url: Secret::new(&info.url),
        input,
        room: info.room_name.clone(),
        identity: info.participant_identity.clone(),
        participant_name: info.participant_name.clone(),
        metadata: info.participant_metadata.clone(),
        transcode: transcode(info, input)?,
        enabled,
        video: video(info.video.as_ref())?,
        audio: audio(info.audio.as_ref())?,
    })
}

fn invalid(what: &str) -> Fault {
    Fault::new(Blame::Spec, format!("invalid ingress: {what}"))
}

fn invalid_video(what: &str) -> Fault {
    Fault::new(Blame::Spec, format!("invalid video parameters: {what}"))
}

fn invalid_audio(what: &str) -> Fault {
    Fault::new(Blame::Spec, format!("invalid audio parameters: {what}"))
}

/// Whether media is transcoded. Only WHIP can do without, and then there is nothing to set.
#[allow(deprecated)] // `bypass_transcoding`: ingresses made before `enable_transcoding` have only that
fn transcode(info: &lk::IngressInfo, input: InputKind) -> Result<bool, Fault> {
    let bypass = info.bypass_transcoding;
    let transcode = info.enable_transcoding.unwrap_or(input != InputKind::Whip || !bypass);
    if transcode && !bypass {
        return Ok(true);
    }
    let fault = |what: &str| Fault::new(Blame::Spec, format!("invalid transcoding bypass configuration: {what}"));
    if input != InputKind::Whip {
        return Err(fault("bypassing transcoding impossible with selected input type"));
    }
    let condition = if bypass { "transcoding bypass is selected" } else { "transcoding is disabled" };
    if info.video.as_ref().is_some_and(|v| v.encoding_options.is_some()) {
        return Err(fault(&format!("video encoding options must be empty if {condition}")));
    }
    if info.audio.as_ref().is_some_and(|a| a.encoding_options.is_some()) {
        return Err(fault(&format!("audio encoding options must be empty if {condition}")));
    }
    Ok(transcode)
}

fn video(options: Option<&lk::IngressVideoOptions>) -> Result<VideoSpec, Fault> {
    let Some(options) = options else {
        let encoding = VideoPreset::H264_720p30Layers3.encoding();
        return Ok(VideoSpec { name: String::new(), source: TrackSource::Camera, encoding });
    };
    let source = match lk::TrackSource::try_from(options.source) {
        Ok(lk::TrackSource::Unknown | lk::TrackSource::Camera) => TrackSource::Camera,
        Ok(lk::TrackSource::ScreenShare) => TrackSource::ScreenShare,
        _ => return Err(invalid_video("invalid track source")),
    };
    let encoding = match &options.encoding_options {
        None => VideoPreset::H264_720p30Layers3.encoding(),
        Some(VideoOptions::Preset(n)) => {
            VideoPreset::from_number(*n).ok_or_else(|| invalid_video("invalid preset"))?.encoding()
        }
        Some(VideoOptions::Options(custom)) => custom_video(custom)?,
    };
    Ok(VideoSpec { name: options.name.clone(), source, encoding })
}

/// Frames per second where an ingress names none.
const FRAME_RATE: f64 = 30.0;

fn custom_video(options: &lk::IngressVideoEncodingOptions) -> Result<VideoEncoding, Fault> {
    if options.frame_rate < 0.0 || !options.frame_rate.is_finite() {
        return Err(invalid_video("invalid framerate"));
    }
    let max_frame_rate = if options.frame_rate > 0.0 { options.frame_rate } else { FRAME_RATE };
    let codec = match lk::VideoCodec::try_from(options.video_codec) {
        Ok(lk::VideoCodec::DefaultVc | lk::VideoCodec::H264Baseline) => EncodedVideo::H264,
        Ok(lk::VideoCodec::Vp8) => EncodedVideo::Vp8,
        _ => return Err(invalid_video("video codec unsupported")),
    };
    let layers = if options.layers.is_empty() {
        VideoEncoding::default_layers()
    } else {
        custom_layers(&options.layers, max_frame_rate)?
    };
    Ok(VideoEncoding { codec, max_frame_rate, layers })
}

fn custom_layers(layers: &[lk::VideoLayer], frame_rate: f64) -> Result<Vec<Layer>, Fault> {
    let mut wanted: Vec<Layer> = Vec::new();
    for layer in layers {
        let (width, height) = (layer.width, layer.height);
        if width == 0 || height == 0 {
            return Err(invalid_video("invalid output media dimensions"));
        }
        if width % 2 == 1 {
            return Err(invalid("layer width must be even"));
        }
        if height % 2 == 1 {
            return Err(invalid("layer height must be even"));
        }
        let quality = match lk::VideoQuality::try_from(layer.quality) {
            Ok(lk::VideoQuality::Low) => Quality::Low,
            Ok(lk::VideoQuality::Medium) => Quality::Medium,
            Ok(lk::VideoQuality::High) => Quality::High,
            // Not in the Go programs, which encode such a layer and can't publish it.
            _ => return Err(invalid_video("invalid layer quality")),
        };
        if wanted.iter().any(|other| other.quality == quality) {
            return Err(invalid_video("more than one layer with the same quality level"));
        }
        let bitrate = if layer.bitrate > 0 { layer.bitrate } else { default_bitrate(width, height, frame_rate) };
        wanted.push(Layer { quality, width, height, bitrate });
    }
    wanted.sort_by_key(|layer| layer.quality);
    let shrinks = |size: fn(&Layer) -> u32| wanted.windows(2).any(|pair| size(&pair[1]) < size(&pair[0]));
    if shrinks(|layer| layer.height) {
        return Err(invalid_video("video layers do not have increasing height with increasing quality"));
    }
    if shrinks(|layer| layer.width) {
        return Err(invalid_video("video layers do not have increasing width with increasing quality"));
    }
    Ok(wanted)
}

fn audio(options: Option<&lk::IngressAudioOptions>) -> Result<AudioSpec, Fault> {
    let Some(options) = options else {
        let encoding = AudioPreset::OpusStereo96k.encoding();
        return Ok(AudioSpec { name: String::new(), source: TrackSource::Microphone, encoding });
    };
    let source = match lk::TrackSource::try_from(options.source) {
        Ok(lk::TrackSource::Unknown | lk::TrackSource::Microphone) => TrackSource::Microphone,
        Ok(lk::TrackSource::ScreenShareAudio) => TrackSource::ScreenShareAudio,
        _ => return Err(invalid_audio("invalid track source")),
    };
    let encoding = match &options.encoding_options {
        None => AudioPreset::OpusStereo96k.encoding(),
        Some(AudioOptions::Preset(n)) => {
            AudioPreset::from_number(*n).ok_or_else(|| invalid_audio("invalid preset"))?.encoding()
        }
        Some(AudioOptions::Options(custom)) => custom_audio(custom)?,
    };
    Ok(AudioSpec { name: options.name.clone(), source, encoding })
}

fn custom_audio(options: &lk::IngressAudioEncodingOptions) -> Result<AudioEncoding, Fault> {
    if !matches!(lk::AudioCodec::try_from(options.audio_codec), Ok(lk::AudioCodec::DefaultAc | lk::AudioCodec::Opus)) {
        return Err(invalid_audio("audio codec unsupported"));
    }
    let (channels, bitrate) = match options.channels {
        1 => (1, 64_000),
        0 | 2 => (2, 96_000),
        _ => return Err(invalid_audio("invalid audio channel count")),
    };
    let bitrate = if options.bitrate > 0 { options.bitrate } else { bitrate };
    Ok(AudioEncoding { channels, bitrate, dtx: !options.disable_dtx })
}

/// The state that is stored of an ingress. `None` where nothing is, or something unknown.
pub(super) fn stored_state(info: &lk::IngressInfo) -> Option<Report> {
    report(info.state.as_ref()?)
}

/// A stored state as a report. `None` where its status is unknown.
pub(super) fn report(state: &lk::IngressState) -> Option<Report> {
    use lk::ingress_state::Status as Wire;
    let status = match Wire::try_from(state.status).ok()? {
        Wire::EndpointInactive => Status::Inactive,
        Wire::EndpointBuffering => Status::Buffering,
        Wire::EndpointPublishing => Status::Publishing,
        Wire::EndpointError => Status::Error,
        Wire::EndpointComplete => Status::Complete,
    };
    Some(Report {
        resource_id: ResourceId(state.resource_id.clone()),
        status,
        error: state.error.clone(),
        video: state.video.as_ref().map(|v| VideoFacts {
            mime: v.mime_type.clone(),
            average_bitrate: v.average_bitrate,
            width: v.width,
            height: v.height,
            frame_rate: v.framerate,
        }),
        audio: state.audio.as_ref().map(|a| AudioFacts {
            mime: a.mime_type.clone(),
            average_bitrate: a.average_bitrate,
            channels: a.channels,
            sample_rate: a.sample_rate,
        }),
        room_id: state.room_id.clone(),
        started_at: state.started_at,
        ended_at: state.ended_at,
        updated_at: state.updated_at,
    })
}

/// A report as it is stored.
pub(super) fn state(report: &Report) -> lk::IngressState {
    use lk::ingress_state::Status as Wire;
    let status = match report.status {
        Status::Inactive => Wire::EndpointInactive,
        Status::Buffering => Wire::EndpointBuffering,
        Status::Publishing => Wire::EndpointPublishing,
        Status::Error => Wire::EndpointError,
        Status::Complete => Wire::EndpointComplete,
    };
    lk::IngressState {
        status: status.into(),
        error: report.error.clone(),
        video: report.video.as_ref().map(|v| lk::InputVideoState {
            mime_type: v.mime.clone(),
            average_bitrate: v.average_bitrate,
            width: v.width,
            height: v.height,
            framerate: v.frame_rate,
        }),
        audio: report.audio.as_ref().map(|a| lk::InputAudioState {
            mime_type: a.mime.clone(),
            average_bitrate: a.average_bitrate,
            channels: a.channels,
            sample_rate: a.sample_rate,
        }),
        room_id: report.room_id.clone(),
        started_at: report.started_at,
        ended_at: report.ended_at,
        updated_at: report.updated_at,
        resource_id: report.resource_id.0.clone(),
        tracks: Vec::new(),
    }
}

/// The answer to an accepted StartIngress: the request with what was left open and the session's state filled in, as the
/// Go ingress gives it back.
pub(super) fn started(mut info: lk::IngressInfo, state: lk::IngressState) -> lk::IngressInfo {
    info.state = Some(state);
    info.audio.get_or_insert_default();
    info.video.get_or_insert_default();
    info.enable_transcoding.get_or_insert(true);
    info
}

/// A refused StartIngress as a psrpc code. livekit-server asks again where a fault is transient.
pub(super) fn refusal(fault: Fault) -> Failure {
    let code = match fault.blame {
        Blame::Access => Code::PermissionDenied,
        Blame::Unknown => Code::NotFound,
        Blame::InUse => Code::AlreadyExists,
        Blame::Mismatch | Blame::Spec => Code::InvalidArgument,
        Blame::Capacity => Code::ResourceExhausted,
        Blame::Draining => Code::Unavailable,
        Blame::Source | Blame::Room | Blame::Control if fault.retry => Code::Unavailable,
        Blame::Source | Blame::Room | Blame::Control => Code::FailedPrecondition,
        Blame::Us => Code::Internal,
    };
    Failure::new(code, fault.text)
}

/// Why livekit-server was not heard, for who runs the machines. `bus` names Redis.
pub(super) fn fault(error: &psrpc::Error, bus: &str) -> Fault {
    use psrpc::Error;
    match error {
        Error::Remote(failure) => Fault {
            blame: Blame::Control,
            retry: error.retryable(),
            text: format!("livekit-server refused ({}): {}", failure.code, failure.message),
        },
        Error::NoServers { .. } | Error::NoneWilling { .. } => Fault::transient(
            Blame::Control,
            format!("no livekit-server answered: is it running and connected to the same Redis? (ours: {bus})"),
        ),
        Error::TimedOut => {
            Fault::transient(Blame::Control, "livekit-server took the request and did not answer in time")
        }
        Error::Bus(bus) => Fault::transient(Blame::Control, bus.to_string()),
        other => Fault::new(Blame::Control, format!("livekit-server's answer can't be used: {other}")),
    }
}

/// Why no ingress was found for a key; the text does not hold the key.
pub(super) fn lookup_fault(error: &psrpc::Error, bus: &str) -> Fault {
    match error.code() {
        Code::NotFound => Fault::new(
            Blame::Unknown,
            "no ingress has this stream key: compare the key in the encoder with that of the ingress, or create one",
        ),
        _ => fault(error, bus),
    }
}

/// Why a report was not taken.
pub(super) fn report_error(error: &psrpc::Error, bus: &str) -> ReportError {
    match error.code() {
        Code::NotFound => ReportError::Deleted,
        Code::FailedPrecondition => ReportError::Older,
        _ => ReportError::Unreachable(fault(error, bus)),
    }
}

#[cfg(test)]
mod tests;
