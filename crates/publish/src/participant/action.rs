//! What the participant wants done, in order.

use crate::{Event, ServerFacts};
use livekit_protocol::signal_request::Message;
use model::{Secret, TurnServer};
use std::collections::VecDeque;
use url::Url;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Action {
    /// Make a peer connection that offers `lines`; then call [`Participant::peer_made`](super::Participant::peer_made).
    MakePeer { config: rtc::Config, lines: rtc::Lines },
    /// Offer more over the peer connection, or restart ICE; then call [`Participant::offered`](super::Participant::offered).
    Offer { lines: rtc::Lines, restart: bool },
    /// Give the peer connection its answer.
    Answer(String),
    /// Give the peer connection a `candidate:` line.
    Candidate(String),
    /// Close the peer connection.
    ClosePeer,
    /// Open a WebSocket; then call [`Participant::refused`](super::Participant::refused), or hand over the messages that come.
    Dial { url: Box<Url>, token: Secret },
    /// Send over the WebSocket.
    Send(Box<Message>),
    /// Close the WebSocket, or stop opening it.
    HangUp,
    /// Tell the session.
    Emit(Event),
    /// Name these TURN servers to the peer connection.
    TurnServers(Vec<TurnServer>),
    /// The server says this of itself.
    Facts(ServerFacts),
}

/// Actions that wait to be carried out, in order.
#[derive(Debug, Default)]
pub(super) struct Actions(VecDeque<Action>);

impl Actions {
    pub(super) fn push(&mut self, action: Action) {
        self.0.push_back(action);
    }

    pub(super) fn send(&mut self, message: Message) {
        self.push(Action::Send(Box::new(message)));
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.push(Action::Emit(event));
    }

    pub(super) fn pop(&mut self) -> Option<Action> {
        self.0.pop_front()
    }
}
