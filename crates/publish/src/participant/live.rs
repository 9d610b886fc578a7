//! What there is while the WebSocket talks: our tracks, what viewers want, keepalive. Messages of the server and the time go in;
//! actions come out, or an [`Interruption`], which the [participant](super::Participant) answers.

use super::action::{Action, Actions};
use super::attributes::Attributes;
use super::keepalive::Keepalive;
use super::negotiation::Negotiation;
use super::publication::Publication;
use super::tracker_reset::TrackerReset;
use super::viewers::Viewers;
use crate::{Event, ServerFacts, message};
use livekit_protocol as proto;
use model::{Blame, Fault, Kind};
use proto::signal_request::Message;
use proto::signal_response::Message as Incoming;
use std::time::{Duration, Instant};

/// How long answer, publication and media connection may take together: ten seconds for a track to be published, as in the Go ingress,
/// and what it takes to fall back to TCP.
const SETTLE_DEADLINE: Duration = Duration::from_secs(15);
/// How long after the media connection was closed the message that tells why may take.
pub(super) const CLOSE_REASON_DEADLINE: Duration = Duration::from_millis(500);

/// Something that ends this stay in the room.
#[derive(Debug)]
pub(super) enum Interruption {
    /// The connection is of no use any more. With `may_resume` the participant may be taken up again.
    Lost { reason: String, may_resume: bool },
    /// There is no way back.
    Over(Fault),
}

/// The media connection.
#[derive(Debug, Default)]
struct MediaPath {
    up: bool,
    /// It was up before.
    was_up: bool,
    /// The server closed it; until when to wait for the reason.
    closed_by: Option<Instant>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Live {
    /// Our participant's sid; empty before the first join.
    sid: String,
    media: MediaPath,
    /// Until when all must have settled; `None` once it has.
    settle_by: Option<Instant>,
    publication: Publication,
    negotiation: Negotiation,
    viewers: Viewers,
    tracker_reset: TrackerReset,
    attributes: Attributes,
    keepalive: Keepalive,
}

impl Live {
    pub(super) fn new(publication: Publication, attributes: Attributes, now: Instant) -> Self {
        Self {
            sid: String::new(),
            media: MediaPath::default(),
            settle_by: None,
            viewers: Viewers::new(publication.layers()),
            publication,
            negotiation: Negotiation::default(),
            tracker_reset: TrackerReset::default(),
            attributes,
            keepalive: Keepalive::new(now),
        }
    }

    /// Another peer connection begins, and is to be made.
    pub(super) fn reset(&mut self, actions: &mut Actions) {
        self.publication.reset(actions);
        self.negotiation.reset();
        self.media = MediaPath::default();
        self.tracker_reset = TrackerReset::default();
        self.attributes.forgotten();
        self.viewers.reset(actions);
    }

    pub(super) fn publication(&mut self) -> &mut Publication {
        &mut self.publication
    }

    pub(super) fn negotiation(&mut self) -> &mut Negotiation {
        &mut self.negotiation
    }

    pub(super) fn attributes(&mut self) -> &mut Attributes {
        &mut self.attributes
    }

    pub(super) fn keepalive(&mut self) -> &mut Keepalive {
        &mut self.keepalive
    }

    pub(super) fn sid(&self) -> &str {
        &self.sid
    }

    /// Whether media flows.
    pub(super) fn media_up(&self) -> bool {
        self.media.up
    }

    /// Whether all has settled, and a broken connection can be resumed.
    pub(super) fn is_resumable(&self) -> bool {
        self.settle_by.is_none() && !self.negotiation.is_awaiting_answer() && self.media.was_up
    }

    /// Whether all has settled since the last join or resume.
    pub(super) fn has_settled(&self) -> bool {
        self.settle_by.is_none()
    }

    /// Takes more tracks, before or while we are in the room.
    pub(super) fn want(&mut self, tracks: &crate::Tracks) {
        if self.publication.want(tracks) {
            self.viewers = Viewers::new(self.publication.layers());
        }
    }

    /// The server lets us in.
    pub(super) fn joined(&mut self, join: proto::JoinResponse, now: Instant, actions: &mut Actions) {
        if join.subscriber_primary {
            tracing::warn!("the token grants subscribing, which this participant has no use for");
        }
        self.keepalive.joined(&join, now);
        self.publication.joined(join.participant.as_ref());
        let video_codecs = message::video_codecs(&join.enabled_publish_codecs);
        let turn_servers = message::turn_servers(&join.ice_servers);
        actions.push(Action::TurnServers(turn_servers.clone()));
        actions.push(Action::Facts(ServerFacts { video_codecs, turn_servers, told: now }));
        self.in_room(join.room, join.participant, actions);
        self.settle_by = Some(now + SETTLE_DEADLINE);
        if let Some(sdp) = self.negotiation.joined() {
            self.announce(true, true, actions);
            self.offered(Some(sdp), actions);
        }
        self.catch_up(now, actions);
    }

    /// The server resumes our participant. Nothing has settled before ICE has restarted.
    pub(super) fn resumed(&mut self, reconnect: &proto::ReconnectResponse, now: Instant, actions: &mut Actions) {
        // Credentials for them expire.
        actions.push(Action::TurnServers(message::turn_servers(&reconnect.ice_servers)));
        self.settle_by = Some(now + SETTLE_DEADLINE);
        self.keepalive.resumed(now);
        self.media.up = false;
        self.negotiation.begin();
        self.publication.was_away();
        // The server speaks of layers when that changes, once: what it said while nobody could hear it is lost, and a layer that is
        // wanted again would stand still for ever. One too many costs until the next change.
        self.viewers.want_all(actions);
        actions.push(Action::Offer { lines: rtc::Lines::default(), restart: true });
        self.publication.announce_size(actions);
        self.catch_up(now, actions);
    }

    /// We are this participant of this room.
    pub(super) fn in_room(
        &mut self,
        room: Option<proto::Room>,
        own: Option<proto::ParticipantInfo>,
        actions: &mut Actions,
    ) {
        self.sid = own.map(|p| p.sid).unwrap_or_default();
        let room_sid = room.map(|r| r.sid).unwrap_or_default();
        actions.emit(Event::Joined { room_sid, participant_sid: self.sid.clone() });
    }

    /// A message of the server.
    pub(super) fn message(&mut self, message: Incoming, now: Instant, actions: &mut Actions) -> Option<Interruption> {
        match message {
            Incoming::Answer(answer) if self.negotiation.answered() => {
                actions.push(Action::Answer(answer.sdp));
                self.catch_up(now, actions);
            }
            Incoming::Trickle(trickle) => {
                if let Some(line) = message::trickled(&trickle) {
                    actions.push(Action::Candidate(line));
                }
            }
            Incoming::TrackPublished(published) => self.publication.published(&published, actions),
            Incoming::SubscribedQualityUpdate(update) => {
                if let Some(track) = self.publication.video().filter(|_| self.is_video(&update.track_sid)) {
                    self.viewers.update(&update, track, actions);
                }
            }
            Incoming::TrackSubscribed(track) if self.is_video(&track.track_sid) => {
                self.viewers.subscribed(self.media.up, now);
            }
            Incoming::Mute(mute) => self.muted(&mute, now, actions),
            Incoming::TrackUnpublished(gone) => self.publication.removed(&gone.track_sid, now, actions),
            Incoming::Update(update) => {
                if let Some(own) = update.participants.iter().find(|p| p.sid == self.sid) {
                    self.publication.own_info(own, now, actions);
                }
            }
            Incoming::RequestResponse(response) => return refusal(&response).map(Interruption::Over),
            Incoming::PongResp(_) => self.keepalive.pong(now),
            Incoming::Leave(leave) => return Some(self.leave_requested(&leave)),
            _ => {}
        }
        None
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Instant, actions: &mut Actions) -> Option<Interruption> {
        let lost = |reason: &str, may_resume| Some(Interruption::Lost { reason: reason.into(), may_resume });
        if self.media.closed_by.take_if(|by| *by <= now).is_some() {
            return lost("the server closed the media connection", false);
        }
        if self.settle_by.is_some_and(|by| by <= now) {
            return lost(&self.what_is_missing(), false);
        }
        if self.publication.republish_due(now) {
            return lost("the server removed a track from the room", false);
        }
        if self.keepalive.is_silent(now) {
            return lost("the server is silent", true);
        }
        self.keepalive.tick(now, actions);
        self.attributes.tick(now, actions);
        self.reset_trackers(now, actions);
        self.viewers.tick(now, actions);
        None
    }

    /// When [`Live::tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let others = [
            self.settle_by,
            self.media.closed_by,
            self.publication.deadline(),
            self.attributes.deadline(),
            self.tracker_reset.deadline(),
            self.viewers.deadline(),
        ];
        others.into_iter().flatten().chain([self.keepalive.deadline()]).min()
    }

    /// Media flows, for the first time or again.
    pub(super) fn media_is_up(&mut self, now: Instant, actions: &mut Actions) {
        self.media.up = true;
        if !std::mem::replace(&mut self.media.was_up, true) {
            actions.emit(Event::Connected);
        }
        self.viewers.media_up(now);
    }

    /// Media does not flow any more.
    pub(super) fn media_is_down(&mut self) {
        self.media.up = false;
    }

    /// The server closed the media connection. It mostly says why over the WebSocket, which may come a little later.
    pub(super) fn media_is_closed(&mut self, now: Instant) {
        self.media.up = false;
        self.media.closed_by = Some(now + CLOSE_REASON_DEADLINE);
    }

    /// A layer of the video is back after a pause.
    pub(super) fn layer_back(&mut self, layer: usize, now: Instant) {
        if self.tracker_reset.layer_back(now) {
            tracing::debug!(layer, "a layer is back after a pause");
        }
    }

    /// Layers are about to come back.
    pub(super) fn restarted(&mut self, now: Instant) {
        self.tracker_reset.restarted(now);
    }

    /// Sends what makes layers count at once, if that is due.
    pub(super) fn reset_trackers(&mut self, now: Instant, actions: &mut Actions) {
        if self.tracker_reset.take_due(now)
            && let Some(sid) = self.publication.unmuted_video()
        {
            self.tracker_reset.sent(now);
            actions.send(message::mute(sid, false));
        }
    }

    /// The offer that was asked of the peer connection.
    pub(super) fn offered(&mut self, sdp: Option<String>, actions: &mut Actions) {
        if let Some(message) = self.negotiation.offered(sdp) {
            actions.send(message);
        }
    }

    /// Tells the server what it does not know yet: one offer at a time.
    pub(super) fn catch_up(&mut self, now: Instant, actions: &mut Actions) {
        if self.negotiation.is_awaiting_answer() {
            return;
        }
        let (video, audio) = self.publication.unoffered();
        if video || audio {
            self.settle_by.get_or_insert(now + SETTLE_DEADLINE);
            self.negotiation.begin();
            let lines = self.publication.offer();
            self.announce(video, audio, actions);
            actions.push(Action::Offer { lines, restart: false });
        }
        if self.settle_by.is_none() {
            self.attributes.send(now, actions);
        }
    }

    /// Whether all that we have is in the room, and media flows. From then on a broken connection may be resumed.
    pub(super) fn settle(&mut self) -> bool {
        // Without any track there is no media connection to wait for.
        let media = self.media.up || !self.publication.is_offered();
        let settled = media && !self.negotiation.is_awaiting_answer() && self.publication.unpublished().is_none();
        if settled {
            self.settle_by = None;
        }
        settled
    }

    fn announce(&self, video: bool, audio: bool, actions: &mut Actions) {
        for request in self.publication.announcements(video, audio) {
            actions.send(Message::AddTrack(request));
        }
    }

    fn is_video(&self, sid: &str) -> bool {
        self.publication.kind_of(sid) == Some(Kind::Video)
    }

    /// Somebody mutes or unmutes a track. What [`TrackerReset`] sends may have undone it on the server by crossing it.
    fn muted(&mut self, mute: &proto::MuteTrackRequest, now: Instant, actions: &mut Actions) {
        self.publication.mute(&mute.sid, mute.muted, actions);
        if mute.muted && self.tracker_reset.may_have_crossed(now) && self.is_video(&mute.sid) {
            actions.send(message::mute(&mute.sid, true));
        }
    }

    fn leave_requested(&self, leave: &proto::LeaveRequest) -> Interruption {
        if is_final(leave) {
            return Interruption::Over(disconnected(leave));
        }
        let reason = message::reason(leave.reason).unwrap_or("the server asked us to leave").into();
        let resume = leave.action == proto::leave_request::Action::Resume as i32;
        Interruption::Lost { reason, may_resume: resume && self.media.closed_by.is_none() }
    }

    fn what_is_missing(&self) -> String {
        let within = SETTLE_DEADLINE.as_secs();
        if self.negotiation.is_awaiting_answer() {
            format!("no answer to our offer within {within} s")
        } else if let Some(kind) = self.publication.unpublished() {
            format!("the {} track was not accepted within {within} s", kind.as_str())
        } else {
            format!(
                "no media connection within {within} s, neither over UDP nor TCP nor by a TURN server of its own; check the server's RTC ports and addresses"
            )
        }
    }
}

/// Whether a leave request means that there is no way back. Servers from before protocol 13 say so by `can_reconnect`.
pub(super) fn is_final(leave: &proto::LeaveRequest) -> bool {
    leave.action == proto::leave_request::Action::Disconnect as i32 && !leave.can_reconnect
}

/// The text of the Go ingress, and the reason after it.
pub(super) fn disconnected(leave: &proto::LeaveRequest) -> Fault {
    let text = match message::reason(leave.reason) {
        Some(reason) => format!("room disconnected: {reason}"),
        None => "room disconnected".into(),
    };
    let retry = leave.reason == proto::DisconnectReason::ServerShutdown as i32;
    Fault { blame: Blame::Room, retry, text }
}

/// What the server answers to a request, where that ends the stay.
fn refusal(response: &proto::RequestResponse) -> Option<Fault> {
    use proto::request_response::{Reason, Request};
    let reason = Reason::try_from(response.reason).unwrap_or(Reason::UnclassifiedError);
    match (reason, &response.request) {
        (Reason::Ok, _) => None,
        // The server still holds a track of the connection before this one; it publishes ours when that is gone.
        (Reason::Queued, Some(Request::AddTrack(_))) => None,
        (_, Some(Request::AddTrack(_))) => {
            let text = format!("LiveKit refused to publish: {} ({})", response.message, reason.as_str_name());
            Some(Fault::new(Blame::Room, text))
        }
        _ => {
            tracing::warn!(reason = reason.as_str_name(), message = response.message, "LiveKit refused a request");
            None
        }
    }
}
