//! Offers and answers: one at a time, each with a number. The first offer of a peer connection goes with the join where it can.

use crate::message;
use livekit_protocol as proto;
use proto::signal_request::Message;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    /// Of the newest offer.
    id: u32,
    /// The first offer, until it is sent.
    first: Option<String>,
    /// Whether the URL of the join holds the tracks and the first offer.
    in_url: bool,
    awaiting_answer: bool,
}

impl Negotiation {
    /// Another peer connection begins.
    pub(super) fn reset(&mut self) {
        *self = Self { id: self.id, ..Self::default() };
    }

    /// The peer connection is made; this is its offer, if there is anything to offer.
    pub(super) fn made(&mut self, offer: Option<String>) {
        self.first = offer;
    }

    /// The first offer, for the URL of a join.
    pub(super) fn first(&self) -> Option<proto::SessionDescription> {
        self.first.clone().map(|sdp| message::offer(sdp, self.id + 1))
    }

    /// Whether the URL of the join holds the first offer.
    pub(super) fn set_in_url(&mut self, in_url: bool) {
        self.in_url = in_url;
    }

    /// The server has let us in: the first offer awaits its answer. Gives it if it is yet to be sent, behind the tracks.
    pub(super) fn joined(&mut self) -> Option<String> {
        let sdp = self.first.take()?;
        self.awaiting_answer = true;
        if self.in_url {
            self.id += 1;
        }
        (!self.in_url).then_some(sdp)
    }

    /// An offer is asked of the peer connection.
    pub(super) fn begin(&mut self) {
        self.awaiting_answer = true;
    }

    /// The peer connection's offer; gives the message to send. There may be nothing to offer.
    pub(super) fn offered(&mut self, sdp: Option<String>) -> Option<Message> {
        let Some(sdp) = sdp else {
            self.awaiting_answer = false;
            return None;
        };
        self.id += 1;
        Some(Message::Offer(message::offer(sdp, self.id)))
    }

    /// An answer comes. Whether it is awaited.
    pub(super) fn answered(&mut self) -> bool {
        std::mem::take(&mut self.awaiting_answer)
    }

    pub(super) fn is_awaiting_answer(&self) -> bool {
        self.awaiting_answer
    }
}
