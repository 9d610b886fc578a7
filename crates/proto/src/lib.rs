//! Messages of LiveKit's internal RPC (package `rpc`) that an ingress exchanges with livekit-server, by hand: the crate
//! `livekit-protocol` generates package `livekit` only.
//!
//! Field numbers are those of `rpc/ingress.proto` and `rpc/io.proto`; a test compares them with the copies of those files
//! that `livekit-protocol` ships. Methods are described by the crate that calls them.
#![forbid(unsafe_code)]

use livekit_protocol::{IngressInfo, IngressState, InputAudioState, InputVideoState};
use std::collections::HashMap;

/// `google.protobuf.Empty`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// Asks for an ingress by its id or by its stream key; the id counts where both are given.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetIngressInfoRequest {
    /// `IN_…`.
    #[prost(string, tag = "1")]
    pub ingress_id: String,
    /// What the publisher showed.
    #[prost(string, tag = "2")]
    pub stream_key: String,
}

/// The ingress, and what it takes to join its room where the server provides that (livekit-server 1.13 fills only `info`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetIngressInfoResponse {
    /// The ingress as it is stored.
    #[prost(message, optional, tag = "1")]
    pub info: Option<IngressInfo>,
    /// A token to join with; empty to mint one.
    #[prost(string, tag = "2")]
    pub token: String,
    /// The URL to join at; empty for the configured one.
    #[prost(string, tag = "3")]
    pub ws_url: String,
    /// Fields to add to log lines.
    #[prost(map = "string, string", tag = "4")]
    pub logging_fields: HashMap<String, String>,
    /// Switches for this session.
    #[prost(map = "string, string", tag = "5")]
    pub feature_flags: HashMap<String, String>,
    /// The project, where there are projects.
    #[prost(string, tag = "6")]
    pub project_id: String,
}

/// Replaces the stored state of an ingress. Answered with [`Empty`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateIngressStateRequest {
    /// `IN_…`.
    #[prost(string, tag = "1")]
    pub ingress_id: String,
    /// The whole new state.
    #[prost(message, optional, tag = "2")]
    pub state: Option<IngressState>,
}

/// The answer to `IOInfo.CreateIngress`; livekit-server 1.13 answers with nothing in it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateIngressResponse {
    /// The ingress as it is stored.
    #[prost(message, optional, tag = "1")]
    pub info: Option<IngressInfo>,
}

/// Asks for a URL to be pulled. Answered with the [`IngressInfo`], its state filled in.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StartIngressRequest {
    /// What to pull and where to publish it.
    #[prost(message, optional, tag = "1")]
    pub info: Option<IngressInfo>,
    /// A token to join with; empty to mint one.
    #[prost(string, tag = "2")]
    pub token: String,
    /// The URL to join at; empty for the configured one.
    #[prost(string, tag = "3")]
    pub ws_url: String,
    /// Fields to add to log lines.
    #[prost(map = "string, string", tag = "4")]
    pub logging_fields: HashMap<String, String>,
    /// Switches for this session.
    #[prost(map = "string, string", tag = "5")]
    pub feature_flags: HashMap<String, String>,
}

/// Asks which sessions run.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ListActiveIngressRequest {}

/// The sessions that run on one machine.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListActiveIngressResponse {
    /// Their ingresses; deprecated by `ingress_sessions`, but the Go ingress still fills it.
    #[prost(string, repeated, tag = "1")]
    pub ingress_ids: Vec<String>,
    /// The sessions.
    #[prost(message, repeated, tag = "2")]
    pub ingress_sessions: Vec<IngressSession>,
}

/// A session.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IngressSession {
    /// `IN_…`.
    #[prost(string, tag = "1")]
    pub ingress_id: String,
    /// `RT_…`, `WH_…` or `UR_…`.
    #[prost(string, tag = "2")]
    pub resource_id: String,
}

/// Ends a WHIP session. Answered with [`Empty`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeleteWhipResourceRequest {
    /// `WH_…`.
    #[prost(string, tag = "1")]
    pub resource_id: String,
    /// What the publisher showed.
    #[prost(string, tag = "2")]
    pub stream_key: String,
}

/// Restarts ICE of a WHIP session.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IceRestartWhipResourceRequest {
    /// `WH_…`.
    #[prost(string, tag = "1")]
    pub resource_id: String,
    /// What the publisher showed.
    #[prost(string, tag = "2")]
    pub stream_key: String,
    /// The publisher's new ICE user fragment.
    #[prost(string, tag = "3")]
    pub user_fragment: String,
    /// The publisher's new ICE password.
    #[prost(string, tag = "4")]
    pub password: String,
    /// The publisher's candidates; never filled by the Go ingress.
    #[prost(string, repeated, tag = "5")]
    pub candidates: Vec<String>,
    /// The body of the PATCH request.
    #[prost(string, tag = "6")]
    pub raw_trickle_ice_sdpfrag: String,
    /// Its `If-Match` header.
    #[prost(string, tag = "7")]
    pub if_match: String,
}

/// Our side of a restarted ICE.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IceRestartWhipResourceResponse {
    /// The body of the PATCH response.
    #[prost(string, tag = "1")]
    pub trickle_ice_sdpfrag: String,
    /// Its `ETag` header.
    #[prost(string, tag = "2")]
    pub etag: String,
}

/// Says how a proxied WHIP connection of the SFU is doing. Answered with [`Empty`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct WhipRtcConnectionNotifyRequest {
    /// `PA_…`.
    #[prost(string, tag = "1")]
    pub participant_id: String,
    /// Whether it ended.
    #[prost(bool, tag = "2")]
    pub closed: bool,
    /// The incoming video.
    #[prost(message, optional, tag = "3")]
    pub video: Option<InputVideoState>,
    /// The incoming audio.
    #[prost(message, optional, tag = "4")]
    pub audio: Option<InputAudioState>,
}

#[cfg(test)]
mod tests;
