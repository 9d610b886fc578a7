//! Our participant in the room as a state machine: joining, and coming back. Messages of the server, facts of the media connection
//! and the time go in; [`Action`]s come out. No IO, no clock of its own.
//!
//! ```text
//!            first message               settled: media up, answered, published
//! Opening ────────────────▶ Live ─────────────────────────────────────────────▶ Live
//!  ▲  ▲                      │ signal or media lost
//!  │  └─── resume ───────────┤
//!  │                         │ that failed
//!  └── rejoin ── Waiting ◀───┘          n² · 300 ms, and 2 s at most, before the n-th attempt
//! ```
//! A resume that the server refuses, or without media, becomes a rejoin; while only the signalling can't be reached and media still
//! flows, it is the resume that is tried again, so that no viewer notices. The first join is tried again for some seconds, if what it
//! failed of may pass.
//!
//! What there is while we are in the room is [`Live`]'s: each part of it owns its state, and no part knows how we came in.

mod action;
mod attributes;
mod keepalive;
mod live;
mod negotiation;
mod publication;
mod reconnect;
mod server;
mod tracker_reset;
mod viewers;

pub(crate) use action::Action;

use crate::join::JoinRequest;
use crate::{Error, Event, Tracks, message};
use action::Actions;
use attributes::Attributes;
use live::{Interruption, Live, disconnected, is_final};
use livekit_protocol as proto;
use model::{Blame, Fault, Kind, VideoCodec};
use proto::signal_response::Message as Incoming;
use publication::Publication;
use reconnect::{Attempt, Reconnect};
use server::Server;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use url::Url;

/// How long the server may take to take note of our leaving.
const LEAVE_DEADLINE: Duration = Duration::from_millis(500);

/// What an opening is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Join,
    Resume,
    Rejoin,
}

#[derive(Debug)]
enum Phase {
    Opening {
        purpose: Purpose,
        by: Instant,
    },
    Live {
        since: Purpose,
    },
    /// Between two attempts. The next is a resume if it may be, and media still flows then.
    Waiting {
        until: Instant,
        may_resume: bool,
    },
    Leaving {
        by: Instant,
    },
    Ended,
}

/// See the [module](self).
///
/// # Contract
/// After each call, carry out what [`action`](Self::action) gives until it gives nothing, in order; call [`tick`](Self::tick) once
/// [`deadline`](Self::deadline) is reached. `now` never goes back. Once [`is_over`](Self::is_over), nothing is to be done but what
/// waits; the last event is [`Event::Closed`], or none after [`leave`](Self::leave).
#[derive(Debug)]
pub(crate) struct Participant {
    server: Server,
    phase: Phase,
    live: Live,
    reconnect: Reconnect,
    actions: Actions,
}

impl Participant {
    /// Starts to join.
    pub(crate) fn new(server: Url, config: &crate::Config, tracks: Tracks, now: Instant) -> Self {
        let publication = Publication::new(tracks, config.expected.clone());
        let attributes = Attributes::new(config.attributes.iter().cloned().collect());
        let mut participant = Self {
            server: Server::new(server, config),
            phase: Phase::Ended,
            live: Live::new(publication, attributes, now),
            reconnect: Reconnect::new(config.join_retry_window, now),
            actions: Actions::default(),
        };
        participant.open(Purpose::Join, now);
        participant
    }

    /// The next thing to do.
    pub(crate) fn action(&mut self) -> Option<Action> {
        self.actions.pop()
    }

    /// Whether all is over (once the actions are done).
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Takes more tracks and attributes. A kind that is there already stays as it is, but for the sizes of its layers.
    pub(crate) fn want(&mut self, tracks: &Tracks, attributes: &BTreeMap<String, String>, now: Instant) {
        self.live.want(tracks);
        self.live.attributes().want(attributes);
        if self.is_live() {
            self.live.publication().announce_size(&mut self.actions);
            self.live.catch_up(now, &mut self.actions);
        }
    }

    /// Leaves.
    pub(crate) fn leave(&mut self, now: Instant) {
        match self.phase {
            Phase::Live { .. } => {
                self.actions.send(message::leave());
                self.actions.push(Action::ClosePeer);
                self.phase = Phase::Leaving { by: now + LEAVE_DEADLINE };
            }
            Phase::Leaving { .. } | Phase::Ended => {}
            Phase::Opening { .. } | Phase::Waiting { .. } => self.close(),
        }
    }

    /// The peer connection is made, and this is its offer, if there is anything to offer.
    pub(crate) fn peer_made(&mut self, offer: Option<String>) {
        if let Phase::Opening { purpose: Purpose::Join | Purpose::Rejoin, .. } = self.phase {
            self.live.negotiation().made(offer);
            self.dial(None);
        }
    }

    /// The offer that [`Action::Offer`] asked for.
    pub(crate) fn offered(&mut self, sdp: Option<String>) {
        self.live.offered(sdp, &mut self.actions);
    }

    /// No WebSocket, for this reason; or no peer connection.
    pub(crate) fn refused(&mut self, error: &Error, now: Instant) {
        let Phase::Opening { purpose, .. } = self.phase else { return };
        if self.server.renews(error) {
            let resume = (purpose == Purpose::Resume).then(|| self.live.sid().to_owned());
            self.dial(resume);
        } else if purpose != Purpose::Join {
            self.opening_failed(purpose, error.to_string(), error.fault().retry, now);
        } else if self.server.falls_back(error) {
            self.dial(None);
        } else {
            self.join_failed(error.fault(), now);
        }
    }

    /// The WebSocket is gone.
    pub(crate) fn signal_lost(&mut self, now: Instant) {
        match self.phase {
            Phase::Opening { purpose: Purpose::Join, .. } => {
                let text = format!("LiveKit at {} closed the connection before we had joined", self.server.name());
                self.join_failed(Fault::transient(Blame::Room, text), now);
            }
            Phase::Opening { purpose, .. } => {
                self.opening_failed(purpose, "the connection was closed".into(), true, now);
            }
            Phase::Live { .. } => self.lost("the signalling connection broke".into(), true, now),
            Phase::Leaving { .. } => self.close(),
            Phase::Waiting { .. } | Phase::Ended => {}
        }
    }

    /// A message from the server.
    pub(crate) fn message(&mut self, message: Incoming, now: Instant) {
        self.live.keepalive().last_received(now);
        match self.phase {
            Phase::Opening { purpose, .. } => match message {
                Incoming::Join(join) if purpose != Purpose::Resume => {
                    self.phase = Phase::Live { since: purpose };
                    self.live.joined(join, now, &mut self.actions);
                    self.settle(now);
                }
                Incoming::Reconnect(reconnect) if purpose == Purpose::Resume => {
                    self.phase = Phase::Live { since: purpose };
                    self.live.resumed(&reconnect, now, &mut self.actions);
                }
                Incoming::Leave(leave) => self.join_rejected(&leave, purpose, now),
                _ => {}
            },
            Phase::Live { .. } => match message {
                Incoming::RefreshToken(token) => self.actions.emit(self.server.refresh(token, false)),
                Incoming::RoomMoved(moved) => {
                    self.actions.emit(self.server.refresh(moved.token, true));
                    self.live.in_room(moved.room, moved.participant, &mut self.actions);
                }
                message => {
                    let setback = self.live.message(message, now, &mut self.actions);
                    self.set_back(setback, now);
                    self.settle(now);
                }
            },
            Phase::Leaving { .. } if matches!(message, Incoming::Leave(_)) => self.close(),
            _ => {}
        }
    }

    /// The media connection is up, for the first time or again.
    pub(crate) fn peer_up(&mut self, now: Instant) {
        if !self.is_over() {
            self.live.media_is_up(now, &mut self.actions);
            self.settle(now);
        }
    }

    /// The media connection is broken: no ICE candidate pair works.
    pub(crate) fn peer_down(&mut self, now: Instant) {
        self.live.media_is_down();
        if matches!(self.phase, Phase::Opening { .. } | Phase::Waiting { .. }) {
            // Only now there is something to be lost by not coming back in time.
            self.reconnect.start_over(now);
        }
        self.lost("the media connection broke".into(), true, now);
    }

    /// The server closed the media connection.
    pub(crate) fn peer_closed(&mut self, now: Instant) {
        self.live.media_is_closed(now);
    }

    /// The media connection can't be used any more.
    pub(crate) fn peer_failed(&mut self, reason: String, now: Instant) {
        self.live.media_is_down();
        match self.phase {
            Phase::Opening { purpose: Purpose::Join, .. } => self.end(Fault::new(Blame::Us, reason)),
            Phase::Opening { purpose, .. } => self.opening_failed(purpose, reason, false, now),
            Phase::Live { .. } => self.lost(reason, false, now),
            Phase::Waiting { .. } | Phase::Leaving { .. } | Phase::Ended => {}
        }
    }

    /// The server's answer leaves a track of ours out: it would answer the same again.
    pub(crate) fn codec_refused(&mut self, kind: Kind, now: Instant) {
        let codec = match kind {
            Kind::Video => self.live.publication().video_codec().map_or("this", VideoCodec::rtp_name),
            Kind::Audio => "Opus",
        };
        let text = format!(
            "livekit-server does not accept {codec} {}; enable the codec in livekit-server (room.enabled_codecs), or send another one or \
             have it transcoded",
            kind.as_str()
        );
        // With a goodbye, or the server would keep an empty participant for a while.
        self.leave(now);
        self.actions.emit(Event::Closed(Fault::new(Blame::Room, text)));
    }

    /// An ICE candidate of ours that no offer holds.
    pub(crate) fn local_candidate(&mut self, line: &str) {
        if self.is_live() {
            self.actions.send(message::trickle(line));
        }
    }

    /// A layer of the video is back after a pause in which the server may have called it stopped.
    pub(crate) fn layer_back(&mut self, layer: usize, now: Instant) {
        self.live.layer_back(layer, now);
        self.reset_trackers(now);
    }

    /// Layers are about to come back, as in [`Participant::layer_back`]: the message is there before them.
    pub(crate) fn restarted(&mut self, now: Instant) {
        self.live.restarted(now);
        self.reset_trackers(now);
    }

    /// Lets time pass. To be called once [`Participant::deadline`] is reached.
    pub(crate) fn tick(&mut self, now: Instant) {
        match self.phase {
            Phase::Opening { by, .. } if by <= now => {
                self.actions.push(Action::HangUp);
                let error = self.server.timed_out();
                self.refused(&error, now);
            }
            Phase::Waiting { until, may_resume } if until <= now => {
                if may_resume && self.live.media_up() {
                    self.resume(now);
                } else {
                    let joined = !self.live.sid().is_empty();
                    self.open(if joined { Purpose::Rejoin } else { Purpose::Join }, now);
                }
            }
            Phase::Leaving { by } if by <= now => self.close(),
            Phase::Live { .. } => {
                let setback = self.live.tick(now, &mut self.actions);
                self.set_back(setback, now);
            }
            _ => {}
        }
    }

    /// When [`Participant::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Opening { by, .. } | Phase::Leaving { by } | Phase::Waiting { until: by, .. } => Some(by),
            Phase::Live { .. } => self.live.deadline(),
            Phase::Ended => None,
        }
    }

    fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }

    fn reset_trackers(&mut self, now: Instant) {
        if self.is_live() {
            self.live.reset_trackers(now, &mut self.actions);
        }
    }

    fn settle(&mut self, now: Instant) {
        if self.is_live() && self.live.settle() {
            self.reconnect.settled(&mut self.actions);
            self.live.attributes().send(now, &mut self.actions);
        }
    }

    /// Begins again: another peer connection, another WebSocket.
    fn open(&mut self, purpose: Purpose, now: Instant) {
        self.live.reset(&mut self.actions);
        self.actions.push(Action::HangUp);
        self.actions.push(Action::ClosePeer);
        self.phase = Phase::Opening { purpose, by: self.server.deadline(now) };
        let publication = self.live.publication();
        let (config, lines) = (publication.rtc_config(), publication.offer());
        self.actions.push(Action::MakePeer { config, lines });
    }

    /// Takes the participant up again, on the same peer connection.
    fn resume(&mut self, now: Instant) {
        self.live.attributes().forgotten();
        self.phase = Phase::Opening { purpose: Purpose::Resume, by: self.server.deadline(now) };
        self.dial(Some(self.live.sid().to_owned()));
    }

    fn dial(&mut self, resume: Option<String>) {
        let offer = if resume.is_none() { self.live.negotiation().first() } else { None };
        let tracks = if offer.is_some() { self.live.publication().announcements(true, true) } else { Vec::new() };
        let (dial, inside) = self.server.dial(&JoinRequest { tracks, offer, resume });
        self.live.negotiation().set_in_url(inside);
        self.actions.push(dial);
    }

    /// The first join came to nothing. What may pass is tried again: a server that was killed may be handed the room by others for some
    /// seconds yet, and one that is started again is not there at once.
    fn join_failed(&mut self, fault: Fault, now: Instant) {
        if let Some(until) = self.reconnect.join_failed(fault.retry, now) {
            tracing::warn!(reason = fault.text, "cannot join the room, trying again");
            self.actions.push(Action::HangUp);
            self.phase = Phase::Waiting { until, may_resume: false };
            return;
        }
        let attempts = self.reconnect.attempts();
        let tried = if attempts > 1 { format!(" (tried {attempts} times)") } else { String::new() };
        self.end(Fault { text: format!("{}{tried}", fault.text), ..fault });
    }

    fn join_rejected(&mut self, leave: &proto::LeaveRequest, purpose: Purpose, now: Instant) {
        let reason = message::reason(leave.reason).unwrap_or("no reason given");
        if purpose == Purpose::Join {
            let text = format!("LiveKit at {} refused the participant: {reason}", self.server.name());
            self.end(Fault::transient(Blame::Room, text));
        } else if is_final(leave) && leave.reason != proto::DisconnectReason::JoinFailure as i32 {
            self.end(disconnected(leave));
        } else {
            self.opening_failed(purpose, reason.into(), false, now);
        }
    }

    fn set_back(&mut self, setback: Option<Interruption>, now: Instant) {
        match setback {
            None => {}
            Some(Interruption::Over(fault)) => self.end(fault),
            Some(Interruption::Lost { reason, may_resume }) => self.lost(reason, may_resume, now),
        }
    }

    /// The connection is of no use any more. Resumes, joins again, or ends.
    fn lost(&mut self, reason: String, may_resume: bool, now: Instant) {
        let Phase::Live { since } = self.phase else { return };
        tracing::debug!(reason, "lost the room");
        if !self.reconnect.is_established() {
            let text = format!("cannot publish to LiveKit at {}: {reason}", self.server.name());
            self.end(Fault::transient(Blame::Room, text));
            return;
        }
        self.actions.push(Action::HangUp);
        self.reconnect.lost(reason, now, &mut self.actions);
        if may_resume && self.live.is_resumable() {
            self.resume(now);
            return;
        }
        if !self.live.has_settled() && since == Purpose::Rejoin {
            self.reconnect.back_off();
        }
        self.come_back(false, now);
    }

    /// An attempt to come back came to nothing; `may_pass` says whether what it failed of may pass.
    fn opening_failed(&mut self, purpose: Purpose, reason: String, may_pass: bool, now: Instant) {
        self.reconnect.failed(reason);
        self.actions.push(Action::HangUp);
        let may_resume = purpose == Purpose::Resume && may_pass && self.live.media_up();
        if may_resume || purpose == Purpose::Rejoin {
            self.reconnect.back_off();
        } else {
            // The server is there, or media is not: what counts begins now.
            self.reconnect.start_over(now);
        }
        self.come_back(may_resume, now);
    }

    fn come_back(&mut self, may_resume: bool, now: Instant) {
        match self.reconnect.next(may_resume, now) {
            Attempt::Never => {
                let text = format!("room disconnected unexpectedly: {}", self.reconnect.reason());
                self.end(Fault::transient(Blame::Room, text));
            }
            Attempt::Now => self.open(Purpose::Rejoin, now),
            Attempt::At(until) => self.phase = Phase::Waiting { until, may_resume },
        }
    }

    fn end(&mut self, fault: Fault) {
        self.close();
        self.actions.emit(Event::Closed(fault));
    }

    /// The end without an event.
    fn close(&mut self) {
        self.actions.push(Action::HangUp);
        self.actions.push(Action::ClosePeer);
        self.phase = Phase::Ended;
    }
}

#[cfg(test)]
mod tests;
