//! Where the server is, and how it is asked to let us in.

use super::action::Action;
use crate::join::{self, Dialect, JoinRequest};
use crate::{Config, Error, Event, RenewToken};
use model::Secret;
use std::time::{Duration, Instant};
use url::Url;

/// The address of a server, our token for it, and the version of the protocol it speaks.
#[derive(Debug)]
pub(super) struct Server {
    url: Url,
    token: Secret,
    /// Makes another one. `None` once no token of ours leads to the room.
    renew: Option<RenewToken>,
    /// Whether the present token was made so since the server was last heard of: then another would be refused as well.
    renewed: bool,
    /// How long one attempt may take.
    timeout: Duration,
    dialect: Dialect,
}

impl Server {
    pub(super) fn new(url: Url, config: &Config) -> Self {
        Self {
            url,
            token: config.token.clone(),
            renew: config.renew.clone(),
            renewed: false,
            timeout: config.connect_timeout,
            dialect: Dialect::V1,
        }
    }

    /// Scheme, host and port, for texts.
    pub(super) fn name(&self) -> String {
        join::name(&self.url)
    }

    /// The server has given us another token to come back with; where the room has moved, the only one.
    pub(super) fn refresh(&mut self, token: String, moved: bool) -> Event {
        (self.token, self.renewed) = (Secret::new(token), false);
        if moved {
            self.renew = None;
        }
        Event::TokenRefreshed { token: self.token.clone(), moved }
    }

    /// Whether this refusal means that our token has expired, and we have another now. What a server gives is good for ten minutes
    /// (livekit-server 1.13): signalling that was away for longer can't be taken up with it.
    pub(super) fn renews(&mut self, error: &Error) -> bool {
        let refused = matches!(error, Error::Token(_));
        let token = if refused && !self.renewed { self.renew.as_ref().and_then(RenewToken::make) } else { None };
        // A server that can't be reached says nothing about the token; by the time it can be, this one may have expired, too.
        self.renewed = refused && (self.renewed || token.is_some());
        let Some(token) = token else { return false };
        tracing::info!("the newest token has expired: trying another");
        self.token = token;
        true
    }

    /// Until when an attempt that begins now may take.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        now + self.timeout
    }

    /// The attempt took longer than that.
    pub(super) fn timed_out(&self) -> Error {
        Error::Timeout { at: self.name(), within: self.timeout }
    }

    /// Whether this refusal means that the server does not know the newer dialect. From then on the older one is spoken.
    pub(super) fn falls_back(&mut self, error: &Error) -> bool {
        let unknown = self.dialect == Dialect::V1 && error.status() == Some(404);
        if unknown {
            tracing::debug!("the server does not know /rtc/v1, trying /rtc");
            self.dialect = Dialect::V0;
        }
        unknown
    }

    /// How to open the WebSocket, and whether tracks and offer are in its URL.
    pub(super) fn dial(&self, opening: &JoinRequest) -> (Action, bool) {
        let (url, inside) = join::url(&self.url, self.dialect, opening);
        (Action::Dial { url: Box::new(url), token: self.token.clone() }, inside)
    }
}
