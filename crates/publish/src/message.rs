//! The signalling messages that we write, field by field as livekit-server 1.13 reads them, and what we read of its own.

use crate::{AudioTrack, VideoTrack};
use livekit_protocol as proto;
use model::{Layer, Quality, TrackSource, TurnServer, VideoCodec};
use proto::signal_request::Message;
use proto::video_layer::Mode;
use std::collections::BTreeMap;

/// The newest version of the signalling protocol that livekit-server 1.13 knows. What we rely on: 13 (`LeaveRequest.action`), 10 (`track_subscribed`).
pub(crate) const PROTOCOL: i32 = 17;

/// The video codecs that the server takes from us: all from servers that don't say, as those take what they know.
pub(crate) fn video_codecs(enabled: &[proto::Codec]) -> Vec<VideoCodec> {
    let is = |codec: &VideoCodec| {
        let mime = format!("video/{}", codec.rtp_name());
        enabled.iter().any(|e| e.mime.eq_ignore_ascii_case(&mime))
    };
    VideoCodec::OVER_RTP.into_iter().filter(|codec| enabled.is_empty() || is(codec)).collect()
}

/// The TURN servers among those that the server names for ICE.
pub(crate) fn turn_servers(servers: &[proto::IceServer]) -> Vec<TurnServer> {
    let read = |s: &proto::IceServer| {
        s.urls.iter().filter_map(|uri| TurnServer::read(uri, &s.username, &s.credential)).collect::<Vec<_>>()
    };
    servers.iter().flat_map(read).collect()
}

pub(crate) fn add_video(track: &VideoTrack) -> proto::AddTrackRequest {
    let (width, height) = track.size();
    let (layers, mode) = match &track.layers[..] {
        [only] if in_one_stream(track) => (inner_layers(&only.layer), Mode::MultipleSpatialLayersPerStream),
        layers => (layers.iter().map(|l| layer(&l.layer)).collect(), Mode::OneSpatialLayerPerStream),
    };
    proto::AddTrackRequest {
        cid: track.cid.clone(),
        name: track.name.clone(),
        r#type: proto::TrackType::Video as i32,
        source: source(track.source) as i32,
        width,
        height,
        layers: layers.clone(),
        // Without it the server knows codec and layers only from the first packets.
        simulcast_codecs: vec![proto::SimulcastCodec {
            codec: mime(track),
            cid: track.cid.clone(),
            layers,
            video_layer_mode: mode as i32,
        }],
        ..Default::default()
    }
}

// `stereo` and `disable_dtx` are deprecated for `audio_features`; older servers read only the former.
#[allow(deprecated)]
pub(crate) fn add_audio(track: &AudioTrack) -> proto::AddTrackRequest {
    let mut features = Vec::new();
    if track.stereo {
        features.push(proto::AudioTrackFeature::TfStereo as i32);
    }
    if !track.dtx {
        features.push(proto::AudioTrackFeature::TfNoDtx as i32);
    }
    proto::AddTrackRequest {
        cid: track.cid.clone(),
        name: track.name.clone(),
        r#type: proto::TrackType::Audio as i32,
        source: source(track.source) as i32,
        stereo: track.stereo,
        disable_dtx: !track.dtx,
        audio_features: features,
        ..Default::default()
    }
}

pub(crate) fn offer(sdp: String, id: u32) -> proto::SessionDescription {
    proto::SessionDescription { r#type: "offer".into(), sdp, id, ..Default::default() }
}

/// A local candidate, as the JSON of the browsers' `RTCIceCandidateInit`. All media share one transport: the first one's.
pub(crate) fn trickle(line: &str) -> Message {
    let candidate = line.trim_start_matches("a=").trim_end();
    let init = serde_json::json!({ "candidate": candidate, "sdpMid": null, "sdpMLineIndex": 0 });
    Message::Trickle(proto::TrickleRequest {
        candidate_init: init.to_string(),
        target: proto::SignalTarget::Publisher as i32,
        r#final: false,
    })
}

/// The `candidate:` line of a trickled candidate, if it is meant for our connection and there is one.
pub(crate) fn trickled(trickle: &proto::TrickleRequest) -> Option<String> {
    if trickle.target != proto::SignalTarget::Publisher as i32 {
        return None;
    }
    let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init).ok()?;
    let line = init.get("candidate")?.as_str()?;
    (!line.is_empty()).then(|| line.to_owned())
}

pub(crate) fn attributes(attributes: &BTreeMap<String, String>) -> Message {
    Message::UpdateMetadata(proto::UpdateParticipantMetadata {
        attributes: attributes.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        ..Default::default()
    })
}

/// A track of ours is of another size now. Of the sizes of its layers there is no message.
pub(crate) fn size(sid: &str, (width, height): (u32, u32)) -> Message {
    Message::UpdateVideoTrack(proto::UpdateLocalVideoTrack { track_sid: sid.to_owned(), width, height })
}

/// Mutes or unmutes a track of ours.
pub(crate) fn mute(sid: &str, muted: bool) -> Message {
    Message::Mute(proto::MuteTrackRequest { sid: sid.to_owned(), muted })
}

pub(crate) fn leave() -> Message {
    Message::Leave(proto::LeaveRequest {
        reason: proto::DisconnectReason::ClientInitiated as i32,
        action: proto::leave_request::Action::Disconnect as i32,
        ..Default::default()
    })
}

/// Both in milliseconds; the server sends `timestamp` back.
pub(crate) fn ping(timestamp: i64, rtt: i64) -> Message {
    Message::PingReq(proto::Ping { timestamp, rtt })
}

/// Why the server ends a session: the text that follows "room disconnected: ".
pub(crate) fn reason(reason: i32) -> Option<&'static str> {
    use proto::DisconnectReason as R;
    Some(match R::try_from(reason).ok()? {
        R::DuplicateIdentity => "another participant joined with the same identity",
        R::ServerShutdown => "the server shut down",
        R::ParticipantRemoved => "the participant was removed",
        R::RoomDeleted => "the room was deleted",
        R::RoomClosed => "the room was closed",
        R::StateMismatch => "the server lost track of the session",
        R::JoinFailure => "the participant could not join",
        R::Migration => "the participant was moved to another server",
        R::SignalClose => "the signalling connection was closed",
        R::ConnectionTimeout => "the media connection timed out",
        R::MediaFailure => "the media connection failed",
        _ => return None,
    })
}

/// Whether this track's only stream may hold spatial layers (SVC): VP9 names them in each packet, AV1 in its dependency descriptor, and
/// the server takes them for several streams unless it is told.
fn in_one_stream(track: &VideoTrack) -> bool {
    matches!(&track.layers[..], [only] if only.format.codec == VideoCodec::Vp9 || only.format.described)
}

/// The spatial layers that a stream of this size may hold, each half of the next. Those that it lacks do no harm.
fn inner_layers(top: &Layer) -> Vec<proto::VideoLayer> {
    let qualities = [Quality::Low, Quality::Medium, Quality::High];
    let inner = |(index, quality): (usize, Quality)| proto::VideoLayer {
        spatial_layer: index as i32,
        ..layer(&Layer { quality, width: top.width >> (2 - index), height: top.height >> (2 - index), ..*top })
    };
    qualities.into_iter().enumerate().map(inner).collect()
}

/// The MIME type that LiveKit uses in `AddTrackRequest.simulcast_codecs`.
fn mime(track: &VideoTrack) -> String {
    format!("video/{}", track.codec().map_or("", VideoCodec::rtp_name))
}

fn layer(layer: &Layer) -> proto::VideoLayer {
    proto::VideoLayer {
        quality: quality(layer.quality),
        width: layer.width,
        height: layer.height,
        bitrate: layer.bitrate,
        ..Default::default()
    }
}

/// The number of a quality in `livekit.VideoQuality`.
pub(crate) fn quality(quality: model::Quality) -> i32 {
    match quality {
        model::Quality::Low => proto::VideoQuality::Low as i32,
        model::Quality::Medium => proto::VideoQuality::Medium as i32,
        model::Quality::High => proto::VideoQuality::High as i32,
    }
}

/// Whether a track of this source may be published where these are allowed; none named means all.
pub(crate) fn allowed(track: TrackSource, sources: &[i32]) -> bool {
    sources.is_empty() || sources.contains(&(source(track) as i32))
}

fn source(source: TrackSource) -> proto::TrackSource {
    match source {
        TrackSource::Camera => proto::TrackSource::Camera,
        TrackSource::Microphone => proto::TrackSource::Microphone,
        TrackSource::ScreenShare => proto::TrackSource::ScreenShare,
        TrackSource::ScreenShareAudio => proto::TrackSource::ScreenShareAudio,
    }
}

/// Whether each of `layers` is wanted, by the quality it was declared with; what is not mentioned stays as it is.
pub(crate) fn wanted(update: &proto::SubscribedQualityUpdate, track: &VideoTrack, now: &[bool]) -> Vec<bool> {
    let codec = track.codec().map_or("", VideoCodec::rtp_name);
    let of_codec = update
        .subscribed_codecs
        .iter()
        .find(|c| c.codec.rsplit('/').next().unwrap_or_default().eq_ignore_ascii_case(codec))
        .map(|c| &c.qualities);
    #[allow(deprecated)] // all there is from servers before the per-codec list
    let qualities = of_codec.unwrap_or(&update.subscribed_qualities);
    if in_one_stream(track) && !qualities.is_empty() {
        // Whichever of its layers somebody watches, it is this stream.
        return vec![qualities.iter().any(|q| q.enabled)];
    }
    let enabled = |layer: &Layer| qualities.iter().find(|q| q.quality == quality(layer.quality)).map(|q| q.enabled);
    track
        .sizes()
        .enumerate()
        .map(|(i, layer)| enabled(&layer).unwrap_or_else(|| now.get(i).copied().unwrap_or(true)))
        .collect()
}
