//! What the server says, and what the media connection does, once the WebSocket talks.

use super::*;

impl Room {
    /// A message from the server.
    pub(crate) fn message(&mut self, message: Incoming, now: Instant) {
        self.ping.heard = now;
        match self.phase {
            Phase::Opening { purpose, .. } => match message {
                Incoming::Join(join) if purpose != Purpose::Resume => self.joined(join, purpose, now),
                Incoming::Reconnect(_) if purpose == Purpose::Resume => self.resumed(now),
                Incoming::Leave(leave) => self.turned_away(&leave, purpose, now),
                _ => {}
            },
            Phase::Live { .. } => self.live(message, now),
            Phase::Leaving { .. } if matches!(message, Incoming::Leave(_)) => self.close(),
            _ => {}
        }
    }

    /// The media connection is up, for the first time or again.
    pub(crate) fn peer_up(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        self.link.up = true;
        if !std::mem::replace(&mut self.link.was_up, true) {
            self.act(Action::Emit(Event::Connected));
        }
        if self.link.watched {
            self.burst(now);
        }
        self.settle(now);
    }

    /// The media connection has found no way for a while.
    pub(crate) fn peer_down(&mut self, now: Instant) {
        self.link.up = false;
        if matches!(self.phase, Phase::Opening { .. } | Phase::Waiting { .. }) {
            // Only now there is something to be lost by not coming back in time.
            self.start_over(now);
        }
        self.lost("the media connection broke".into(), true, now);
    }

    /// The server closed the media connection. It mostly says why over the WebSocket, which may come a little later.
    pub(crate) fn peer_closed(&mut self, now: Instant) {
        self.link.up = false;
        self.link.closed_by = Some(now + LAST_WORDS);
    }

    /// The media connection can't be used any more.
    pub(crate) fn peer_failed(&mut self, why: String, now: Instant) {
        self.link.up = false;
        match self.phase {
            Phase::Opening { purpose: Purpose::Join, .. } => self.end(Fault::new(Blame::Us, why)),
            Phase::Opening { purpose, .. } => self.opening_failed(purpose, why, false, now),
            Phase::Live { .. } => self.lost(why, false, now),
            Phase::Waiting { .. } | Phase::Leaving { .. } | Phase::Ended => {}
        }
    }

    /// The server's answer leaves a track of ours out: it would answer the same again.
    pub(crate) fn codec_refused(&mut self, kind: Kind, now: Instant) {
        let codec = match (kind, &self.tracks.video) {
            (Kind::Video, Some(video)) => video.codec().map_or("such", VideoCodec::rtp_name),
            (Kind::Video, None) => "such",
            (Kind::Audio, _) => "Opus",
        };
        let text = format!(
            "the room takes no {codec} {}; enable the codec in livekit-server (room.enabled_codecs), or send another one or \
             have it transcoded",
            kind.as_str()
        );
        // With a goodbye, or the server would keep an empty participant for a while.
        self.leave(now);
        self.act(Action::Emit(Event::Closed(Fault::new(Blame::Room, text))));
    }

    /// A way to reach us that no offer has told.
    pub(crate) fn local_candidate(&mut self, line: &str) {
        if matches!(self.phase, Phase::Live { .. }) {
            self.send(message::trickle(line));
        }
    }

    /// A layer of the picture is back after a pause in which the server may have called it stopped; then it would keep viewers
    /// off it for the ten seconds that follow. A publisher's word that the track is not muted makes it count anew, from the
    /// next packet on, and tells viewers nothing when it was not muted before (read in livekit-server 1.13.5, whose
    /// `MediaTrackReceiver::SetMuted` resets its stream trackers; seen there and in no documentation).
    pub(crate) fn layer_back(&mut self, layer: usize, now: Instant) {
        if self.link.begun.is_some_and(|told| now < told + SAME_NEWS) {
            return;
        }
        tracing::debug!(layer, "a layer is back after a pause");
        let at = self.link.begun.map_or(now, |told| now.max(told + NEWS_EVERY));
        self.link.begin_at.get_or_insert(at);
        self.begin_anew(now);
    }

    /// Layers are to come back, as in [`Room::layer_back`]: the message is there before them.
    pub(crate) fn restarted(&mut self, now: Instant) {
        self.link.begin_at = Some(now);
        self.begin_anew(now);
    }

    fn begin_anew(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Live { .. }) || self.link.begin_at.is_none_or(|at| now < at) {
            return;
        }
        self.link.begin_at = None;
        if let Some(sid) = self.link.video.sid.clone().filter(|_| !self.link.video.muted) {
            self.link.begun = Some(now);
            self.send(message::mute(&sid, false));
        }
    }

    /// The offer that [`Action::Offer`] asked for.
    pub(crate) fn offered(&mut self, sdp: Option<String>) {
        match sdp {
            Some(sdp) => {
                self.offer_id += 1;
                self.send(Message::Offer(message::offer(sdp, self.offer_id)));
            }
            None => self.link.awaiting_answer = false,
        }
    }

    pub(super) fn tick_live(&mut self, now: Instant) {
        if self.link.closed_by.is_some_and(|by| by <= now) {
            self.link.closed_by = None;
            self.lost("the server closed the media connection".into(), false, now);
            return;
        }
        if let Phase::Live { settle_by: Some(by), .. } = self.phase
            && by <= now
        {
            self.lost(self.what_is_missing(), false, now);
            return;
        }
        if self.link.put_back.is_some_and(|at| at <= now) {
            self.link.put_back = None;
            if self.may_publish {
                self.lost("the server took a track out of the room".into(), false, now);
                return;
            }
        }
        if now >= self.ping.heard + self.ping.timeout {
            self.lost("the server is silent".into(), true, now);
            return;
        }
        if self.ping.next <= now {
            self.ping.next = now + self.ping.interval;
            self.ping.sent = now;
            let ping = message::ping(millis(now - self.start), millis(self.ping.rtt));
            self.send(ping);
        }
        if self.link.confirm.is_some_and(|at| at <= now) {
            self.link.confirm = None;
            self.send(message::attributes(&self.attributes));
        }
        self.begin_anew(now);
        while self.link.burst.front().is_some_and(|at| *at <= now) {
            self.link.burst.pop_front();
            for layer in (0..self.layers.len()).filter(|l| self.layers[*l]) {
                self.actions.push_back(Action::Emit(Event::KeyFrameWanted { layer }));
            }
        }
    }

    fn joined(&mut self, join: proto::JoinResponse, purpose: Purpose, now: Instant) {
        if join.subscriber_primary {
            tracing::warn!("the token grants subscribing, which this participant has no use for");
        }
        let seconds = |s: i32, or| u64::try_from(s).ok().filter(|s| *s > 0).map_or(or, Duration::from_secs);
        self.ping = Ping {
            interval: seconds(join.ping_interval, PING_INTERVAL),
            timeout: seconds(join.ping_timeout, PING_TIMEOUT),
            ..Ping::new(now)
        };
        self.ping.next = now + self.ping.interval;
        self.may_publish = self.permitted(join.participant.as_ref());
        self.act(Action::Takes(message::video_codecs(&join.enabled_publish_codecs)));
        self.in_room(join.room, join.participant);
        self.phase = Phase::Live { since: purpose, settle_by: Some(now + SETTLE) };
        if let Some(sdp) = self.link.first_offer.take() {
            self.link.awaiting_answer = true;
            if self.link.offer_in_url {
                self.offer_id += 1;
            } else {
                self.send_tracks(true, true);
                self.offered(Some(sdp));
            }
        }
        self.catch_up(now);
        self.settle(now);
    }

    fn resumed(&mut self, now: Instant) {
        self.phase = Phase::Live { since: Purpose::Resume, settle_by: Some(now + SETTLE) };
        self.ping.next = now + self.ping.interval;
        // Not settled before the media connection has found its way anew.
        self.link.up = false;
        self.link.awaiting_answer = true;
        self.link.was_away = true;
        // The server tells of layers when that changes, once: what it said while nobody could hear it is lost, and a layer that
        // is wanted again would stand still for ever. One too many costs until the next change.
        self.want_all_layers();
        self.act(Action::Offer { lines: rtc::Lines::default(), restart: true });
        self.tell_size();
        self.catch_up(now);
    }

    fn in_room(&mut self, room: Option<proto::Room>, participant: Option<proto::ParticipantInfo>) {
        self.participant = participant.map(|p| p.sid).unwrap_or_default();
        let room_sid = room.map(|r| r.sid).unwrap_or_default();
        self.act(Action::Emit(Event::Joined { room_sid, participant_sid: self.participant.clone() }));
    }

    fn turned_away(&mut self, leave: &proto::LeaveRequest, purpose: Purpose, now: Instant) {
        let reason = message::reason(leave.reason).unwrap_or("no reason given");
        if purpose == Purpose::Join {
            let text = format!("LiveKit at {} refused the participant: {reason}", join::name(&self.base));
            self.end(Fault::transient(Blame::Room, text));
        } else if is_final(leave) && leave.reason != proto::DisconnectReason::JoinFailure as i32 {
            self.end(disconnected(leave));
        } else {
            self.opening_failed(purpose, reason.into(), false, now);
        }
    }

    fn live(&mut self, message: Incoming, now: Instant) {
        match message {
            Incoming::Answer(answer) if self.link.awaiting_answer => {
                self.link.awaiting_answer = false;
                self.act(Action::Answer(answer.sdp));
                self.catch_up(now);
                self.settle(now);
            }
            Incoming::Trickle(trickle) => {
                if let Some(line) = message::trickled(&trickle) {
                    self.act(Action::Candidate(line));
                }
            }
            Incoming::TrackPublished(published) => self.published(&published, now),
            Incoming::SubscribedQualityUpdate(update) => self.wanted(&update),
            Incoming::TrackSubscribed(subscribed) if self.kind_of(&subscribed.track_sid) == Some(Kind::Video) => {
                self.link.watched = true;
                if self.link.up {
                    self.burst(now);
                }
            }
            Incoming::Mute(mute) => {
                self.muted(&mute.sid, mute.muted);
                self.stay_muted(&mute, now);
            }
            Incoming::TrackUnpublished(gone) => self.taken_out(&gone.track_sid, now),
            Incoming::Update(update) => {
                if let Some(own) = update.participants.iter().find(|p| p.sid == self.participant) {
                    self.told_of_us(own, now);
                }
            }
            Incoming::RefreshToken(token) => self.token = Secret::new(token),
            Incoming::RoomMoved(moved) => {
                self.token = Secret::new(moved.token);
                self.in_room(moved.room, moved.participant);
            }
            Incoming::RequestResponse(response) => self.response(&response),
            Incoming::PongResp(_) => self.ping.rtt = now - self.ping.sent,
            Incoming::Leave(leave) => self.told_to_leave(&leave, now),
            _ => {}
        }
    }

    fn told_to_leave(&mut self, leave: &proto::LeaveRequest, now: Instant) {
        let why = message::reason(leave.reason).unwrap_or("the server asked us to leave");
        if is_final(leave) {
            self.end(disconnected(leave));
        } else {
            let resume = leave.action == proto::leave_request::Action::Resume as i32;
            self.lost(why.into(), resume && self.link.closed_by.is_none(), now);
        }
    }

    fn published(&mut self, published: &proto::TrackPublishedResponse, now: Instant) {
        let Some(track) = &published.track else { return };
        let is = |cid: Option<&String>| cid == Some(&published.cid);
        let (kind, sent) = if is(self.tracks.video.as_ref().map(|t| &t.cid)) {
            (Kind::Video, &mut self.link.video)
        } else if is(self.tracks.audio.as_ref().map(|t| &t.cid)) {
            (Kind::Audio, &mut self.link.audio)
        } else {
            return;
        };
        if sent.sid.as_ref() != Some(&track.sid) {
            sent.sid = Some(track.sid.clone());
            self.act(Action::Emit(Event::Published { kind, track_sid: track.sid.clone() }));
        }
        self.tell_size();
        self.settle(now);
    }

    /// Tells the server the picture's size, if it is another than what it knows.
    pub(super) fn tell_size(&mut self) {
        let Some(size) = self.tracks.video.as_ref().map(VideoTrack::size) else { return };
        let video = &mut self.link.video;
        if let Some(sid) = video.sid.clone().filter(|_| matches!(self.phase, Phase::Live { .. }) && video.size != size)
        {
            video.size = size;
            self.send(message::size(&sid, size));
        }
    }

    fn wanted(&mut self, update: &proto::SubscribedQualityUpdate) {
        let Some(track) = self.tracks.video.as_ref() else { return };
        if self.kind_of(&update.track_sid) != Some(Kind::Video) {
            return;
        }
        let wanted = message::wanted(update, track, &self.layers);
        if wanted != self.layers {
            self.layers.clone_from(&wanted);
            self.act(Action::Emit(Event::LayersWanted(wanted)));
        }
    }

    fn muted(&mut self, sid: &str, muted: bool) {
        let Some(kind) = self.kind_of(sid) else { return };
        let sent = match kind {
            Kind::Video => &mut self.link.video,
            Kind::Audio => &mut self.link.audio,
        };
        if std::mem::replace(&mut sent.muted, muted) != muted {
            self.act(Action::Emit(Event::Muted { kind, muted }));
        }
    }

    /// Somebody has muted the picture, and [`Room::layer_back`] may have undone that on the server by crossing it.
    fn stay_muted(&mut self, mute: &proto::MuteTrackRequest, now: Instant) {
        let crossed = self.link.begun.is_some_and(|told| now < told + CROSSED);
        if mute.muted && crossed && self.kind_of(&mute.sid) == Some(Kind::Video) {
            self.send(message::mute(&mute.sid, true));
        }
    }

    /// Nothing of the track goes out until it is published anew.
    fn taken_out(&mut self, sid: &str, now: Instant) {
        if self.kind_of(sid).is_none() {
            return;
        }
        tracing::warn!(track = sid, "the server took a track out of the room");
        self.muted(sid, true);
        if !std::mem::replace(&mut self.link.taken_out, true) {
            self.link.put_back = Some(now + PUT_BACK * (1 << self.takings.min(PUT_BACK_DOUBLINGS)));
            self.takings = self.takings.saturating_add(1);
        }
    }

    /// What the room is told of us: what we may do, and once we were away, what we did not hear of our tracks.
    fn told_of_us(&mut self, own: &proto::ParticipantInfo, now: Instant) {
        let may = self.permitted(Some(own));
        let might = std::mem::replace(&mut self.may_publish, may);
        if may && !might && self.link.taken_out {
            self.link.put_back = Some(now + PUT_BACK);
        }
        if !std::mem::take(&mut self.link.was_away) {
            return;
        }
        let sids = [self.link.video.sid.clone(), self.link.audio.sid.clone()];
        for sid in sids.into_iter().flatten() {
            match own.tracks.iter().find(|t| t.sid == sid) {
                Some(track) => self.muted(&sid, track.muted),
                None => self.taken_out(&sid, now),
            }
        }
    }

    /// Whether this is a participant that may publish what we have.
    fn permitted(&self, own: Option<&proto::ParticipantInfo>) -> bool {
        let Some(permission) = own.and_then(|p| p.permission.as_ref()) else { return true };
        let (video, audio) = (self.tracks.video.as_ref(), self.tracks.audio.as_ref());
        let sources = [video.map(|t| t.source), audio.map(|t| t.source)];
        permission.can_publish
            && sources.into_iter().flatten().all(|source| message::allowed(source, &permission.can_publish_sources))
    }

    fn response(&mut self, response: &proto::RequestResponse) {
        use proto::request_response::{Reason, Request};
        let reason = Reason::try_from(response.reason).unwrap_or(Reason::UnclassifiedError);
        match (reason, &response.request) {
            (Reason::Ok, _) => {}
            // The server still holds a track of the connection before this one; it publishes ours when that is gone.
            (Reason::Queued, Some(Request::AddTrack(_))) => {}
            (_, Some(Request::AddTrack(_))) => {
                let text = format!("LiveKit refused to publish: {} ({})", response.message, reason.as_str_name());
                self.end(Fault::new(Blame::Room, text));
            }
            _ => tracing::warn!(reason = reason.as_str_name(), message = response.message, "LiveKit refused a request"),
        }
    }

    fn kind_of(&self, sid: &str) -> Option<Kind> {
        let is = |sent: &Sent| sent.sid.as_deref() == Some(sid);
        match (is(&self.link.video), is(&self.link.audio)) {
            (true, _) => Some(Kind::Video),
            (_, true) => Some(Kind::Audio),
            _ => None,
        }
    }

    fn burst(&mut self, now: Instant) {
        self.link.burst = BURST.iter().map(|after| now + *after).collect();
    }

    /// Tells the server what it has not been told: one offer at a time.
    pub(super) fn catch_up(&mut self, now: Instant) {
        let Phase::Live { settle_by, .. } = &mut self.phase else { return };
        if self.link.awaiting_answer {
            return;
        }
        let (video, audio) = (!self.link.video.offered, !self.link.audio.offered);
        let (video, audio) = (video && self.tracks.video.is_some(), audio && self.tracks.audio.is_some());
        if video || audio {
            settle_by.get_or_insert(now + SETTLE);
            self.link.awaiting_answer = true;
            let lines = self.lines();
            self.send_tracks(video, audio);
            self.act(Action::Offer { lines, restart: false });
        }
        self.send_attributes(now);
    }

    fn send_tracks(&mut self, video: bool, audio: bool) {
        for request in self.track_requests(video, audio) {
            self.send(Message::AddTrack(request));
        }
    }

    /// Only once everything else has settled, and once more a little later: livekit-server stores what others list of a
    /// participant when its state, its tracks or its attributes change, several tasks at a time, and the oldest of these
    /// copies may be written last, without a track or without the attributes (measured, 1.13.5).
    fn send_attributes(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Live { settle_by: None, .. }) || self.attributes_sent {
            return;
        }
        self.attributes_sent = true;
        if !self.attributes.is_empty() {
            self.send(message::attributes(&self.attributes));
            self.link.confirm = Some(now + CONFIRM);
        }
    }

    fn settle(&mut self, now: Instant) {
        let Phase::Live { settle_by, .. } = &mut self.phase else { return };
        let done = |wanted: bool, sent: &Sent| !wanted || sent.sid.is_some();
        let (video, audio) = (self.tracks.video.is_some(), self.tracks.audio.is_some());
        let all = done(video, &self.link.video) && done(audio, &self.link.audio);
        // Without any track there is no media connection to wait for.
        let media = self.link.up || !(self.link.video.offered || self.link.audio.offered);
        if !(media && !self.link.awaiting_answer && all) {
            return;
        }
        *settle_by = None;
        self.established = true;
        self.attempt = 0;
        self.away_since = None;
        if std::mem::take(&mut self.reconnecting) {
            self.act(Action::Emit(Event::Reconnected));
        }
        self.send_attributes(now);
    }

    fn what_is_missing(&self) -> String {
        let lacks = |wanted: bool, sent: &Sent| wanted && sent.sid.is_none();
        let within = SETTLE.as_secs();
        if self.link.awaiting_answer {
            format!("no answer to our offer within {within} s")
        } else if lacks(self.tracks.video.is_some(), &self.link.video) {
            format!("the video track was not accepted within {within} s")
        } else if lacks(self.tracks.audio.is_some(), &self.link.audio) {
            format!("the audio track was not accepted within {within} s")
        } else {
            format!(
                "no media connection within {within} s, neither over UDP nor TCP; check the server's RTC ports and addresses"
            )
        }
    }
}

/// Whether a leave request means that there is no way back. Servers from before protocol 13 tell it by `can_reconnect`.
fn is_final(leave: &proto::LeaveRequest) -> bool {
    leave.action == proto::leave_request::Action::Disconnect as i32 && !leave.can_reconnect
}

/// The words of the Go ingress, and the reason after them.
fn disconnected(leave: &proto::LeaveRequest) -> Fault {
    let text = match message::reason(leave.reason) {
        Some(reason) => format!("room disconnected: {reason}"),
        None => "room disconnected".into(),
    };
    let retry = leave.reason == proto::DisconnectReason::ServerShutdown as i32;
    Fault { blame: Blame::Room, retry, text }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
