//! What is published: psrpc's internal messages in an envelope that reads like `google.protobuf.Any`.
//!
//! Field numbers are those of psrpc's `internal.proto` (0.7). Unknown fields and unknown types are ignored, so that newer
//! peers can be talked to.

use base64::Engine;
use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// `google.protobuf.Any`, and the start of the envelope itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// Which message it is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message's bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// A request, on a request channel.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// `REQ_…`; all that follows carries it.
    #[prost(string, tag = "1")]
    pub request_id: String,
    /// `CLI_…`; names the channels for bids and answers.
    #[prost(string, tag = "2")]
    pub client_id: String,
    /// Unix nanoseconds.
    #[prost(int64, tag = "3")]
    pub sent_at: i64,
    /// Unix nanoseconds; a server that reads it later ignores it.
    #[prost(int64, tag = "4")]
    pub expiry: i64,
    /// Whether every server shall answer.
    #[prost(bool, tag = "5")]
    pub multi: bool,
    /// The request's message, from peers older than `raw_request`.
    #[prost(message, optional, tag = "6")]
    pub request: Option<Any>,
    /// Trace context; not used here.
    #[prost(map = "string, string", tag = "7")]
    pub metadata: HashMap<String, String>,
    /// The request's message.
    #[prost(bytes = "bytes", tag = "8")]
    pub raw_request: Bytes,
}

impl Request {
    /// The bytes of the request's message, wherever they are.
    pub fn body(&self) -> Bytes {
        body(&self.raw_request, self.request.as_ref())
    }
}

/// An answer, on the client's response channel.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// The request it answers.
    #[prost(string, tag = "1")]
    pub request_id: String,
    /// `SRV_…`.
    #[prost(string, tag = "2")]
    pub server_id: String,
    /// Unix nanoseconds.
    #[prost(int64, tag = "3")]
    pub sent_at: i64,
    /// The answer's message, from peers older than `raw_response`.
    #[prost(message, optional, tag = "4")]
    pub response: Option<Any>,
    /// The text of a failure; empty means success.
    #[prost(string, tag = "5")]
    pub error: String,
    /// The name of its [`crate::Code`].
    #[prost(string, tag = "6")]
    pub code: String,
    /// The answer's message.
    #[prost(bytes = "bytes", tag = "7")]
    pub raw_response: Bytes,
}

impl Response {
    /// The bytes of the answer's message, wherever they are.
    pub fn body(&self) -> Bytes {
        body(&self.raw_response, self.response.as_ref())
    }
}

fn body(raw: &Bytes, legacy: Option<&Any>) -> Bytes {
    match legacy {
        Some(any) if raw.is_empty() => any.value.clone(),
        _ => raw.clone(),
    }
}

/// A server's bid for a request, on the client's claim channel.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClaimRequest {
    /// The request it bids for.
    #[prost(string, tag = "1")]
    pub request_id: String,
    /// Who bids.
    #[prost(string, tag = "2")]
    pub server_id: String,
    /// How well it could do it; more is better.
    #[prost(float, tag = "3")]
    pub affinity: f32,
}

/// The client's choice, to all who may have bid.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClaimResponse {
    /// The request.
    #[prost(string, tag = "1")]
    pub request_id: String,
    /// Who shall do it.
    #[prost(string, tag = "2")]
    pub server_id: String,
}

/// Anything that is published.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Envelope {
    Request(Request),
    Response(Response),
    ClaimRequest(ClaimRequest),
    ClaimResponse(ClaimResponse),
}

const REQUEST: &str = "type.googleapis.com/internal.Request";
const RESPONSE: &str = "type.googleapis.com/internal.Response";
const CLAIM_REQUEST: &str = "type.googleapis.com/internal.ClaimRequest";
const CLAIM_RESPONSE: &str = "type.googleapis.com/internal.ClaimResponse";

impl Envelope {
    /// The bytes to publish.
    pub fn encode(&self) -> Bytes {
        let (type_url, value) = match self {
            Self::Request(m) => (REQUEST, m.encode_to_vec()),
            Self::Response(m) => (RESPONSE, m.encode_to_vec()),
            Self::ClaimRequest(m) => (CLAIM_REQUEST, m.encode_to_vec()),
            Self::ClaimResponse(m) => (CLAIM_RESPONSE, m.encode_to_vec()),
        };
        Any { type_url: type_url.to_owned(), value: value.into() }.encode_to_vec().into()
    }

    /// Reads what was published. `None` for what is no envelope or none that is known here: ignore it.
    pub fn decode(payload: Bytes) -> Option<Self> {
        let Any { type_url, value } = Any::decode(payload).ok()?;
        match type_url.as_str() {
            REQUEST => Request::decode(value).ok().map(Self::Request),
            RESPONSE => Response::decode(value).ok().map(Self::Response),
            CLAIM_REQUEST => ClaimRequest::decode(value).ok().map(Self::ClaimRequest),
            CLAIM_RESPONSE => ClaimResponse::decode(value).ok().map(Self::ClaimResponse),
            _ => None,
        }
    }
}

/// The key under which the servers of a queue agree who handles a message: base64 of SHA-256 over the whole payload as it
/// came, which is why it must be formed before anything is decoded.
pub fn lock_key(payload: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(Sha256::digest(payload))
}

/// Now, as messages carry it: Unix nanoseconds.
pub(crate) fn unix_nanos() -> i64 {
    // A clock before 1970 or after 2262 is as good as zero: peers will drop what it stamps.
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_nanos()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
