//! Requests of a WHIP client to its session. They may arrive at any instance; these are the messages between that one and the
//! one where the session runs.

use crate::boxed::BoxFuture;
use model::Secret;
use std::sync::Arc;

/// What a client wants of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhipRequest {
    /// To end it (RFC 9725 §4.2).
    Delete,
    /// To add candidates to its ICE session, or to restart ICE (§4.3).
    Ice {
        /// The `If-Match` header; empty if there was none.
        if_match: String,
        /// The fragment.
        fragment: String,
    },
}

/// What it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhipAnswer {
    /// Our side of a restarted ICE; empty where none was.
    pub fragment: String,
    /// The entity tag of the ICE session after a restart, in quotes; empty where none was.
    pub etag: String,
}

/// Why it does not get it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct WhipRefusal {
    /// The kind.
    pub why: WhipRefusalKind,
    /// The text for people; it holds no secret.
    pub text: String,
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhipRefusalKind {
    /// The key is not that of the session.
    WrongKey,
    /// No such session runs, here or anywhere.
    Gone,
    /// The request does not name the ICE session it is for.
    Unconditional,
    /// The request is for another ICE session than the one that runs.
    OtherIceSession,
    /// The fragment can't be read.
    Malformed,
    /// The session can't do this (a Go ingress, or one without candidates to add).
    Unprocessable,
    /// The instance where the session runs could not be asked.
    Unreachable,
}

impl WhipRefusal {
    /// A refusal with this text.
    pub fn new(why: WhipRefusalKind, text: impl Into<String>) -> Self {
        Self { why, text: text.into() }
    }

    /// No such session.
    pub fn gone() -> Self {
        Self::new(WhipRefusalKind::Gone, "this WHIP session has ended, or there never was one")
    }
}

/// What answers a request where the session runs: given the key that the client showed.
pub type WhipHandler =
    Arc<dyn Fn(Secret, WhipRequest) -> BoxFuture<'static, Result<WhipAnswer, WhipRefusal>> + Send + Sync>;
