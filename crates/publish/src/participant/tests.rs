//! Whole stays in a room on virtual time: the test plays the server and the peer connection.

use super::attributes::REPEAT_AFTER;
use super::live::CLOSE_REASON_DEADLINE;
use super::publication::REPUBLISH_AFTER;
use super::reconnect::{BACKOFF_UNIT, MAX_BACKOFF};
use super::tracker_reset::{MIN_INTERVAL, MUTE_CROSSING, SAME_RESTART};
use super::*;
use crate::track::JOIN_RETRY_WINDOW;
use crate::{AudioTrack, Config, LayerFormat, RenewToken, VideoTrack, join};
use model::{EncodedVideo, Layer, Quality, Secret, TrackSource, VideoFormat};
use proptest::prelude::*;
use proto::signal_request::Message;

const PA: &str = "PA_1";

fn video_track() -> VideoTrack {
    let layer = |quality, width, height, bitrate| LayerFormat {
        layer: Layer { quality, width, height, bitrate },
        format: EncodedVideo::H264.into(),
    };
    VideoTrack {
        cid: "IN_v".into(),
        name: "picture".into(),
        source: TrackSource::Camera,
        layers: vec![layer(Quality::Low, 320, 180, 237_500), layer(Quality::High, 1280, 720, 1_900_000)],
    }
}

fn audio_track() -> AudioTrack {
    AudioTrack { cid: "TR_a".into(), name: "sound".into(), source: TrackSource::Microphone, stereo: true, dtx: true }
}

fn both() -> Tracks {
    Tracks { video: Some(video_track()), audio: Some(audio_track()) }
}

struct Stay {
    participant: Participant,
    start: Instant,
    now: Instant,
    /// Dials not answered yet, with the token shown.
    dials: Vec<(Url, String)>,
    sent: Vec<Message>,
    events: Vec<Event>,
    peers: u32,
    peer_open: bool,
    answers: u32,
    candidates: Vec<String>,
    restarts: u32,
    /// What the newest peer connection may offer.
    formats: Vec<VideoFormat>,
    /// The codecs that the server accepts.
    turn_servers: Vec<Vec<model::TurnServer>>,
    facts: Option<crate::ServerFacts>,
}

impl Stay {
    fn new(tracks: Tracks) -> Self {
        Self::expecting(tracks, None)
    }

    fn expecting(tracks: Tracks, expected: Option<VideoFormat>) -> Self {
        Self::with(tracks, Config { expected, ..Config::new("ws://h:7880", Secret::new("first")) })
    }

    fn with(tracks: Tracks, config: Config) -> Self {
        let now = Instant::now();
        let participant = Participant::new(join::base(&config.ws_url).unwrap(), &config, tracks, now);
        let mut stay = Self {
            participant,
            start: now,
            now,
            dials: Vec::new(),
            sent: Vec::new(),
            events: Vec::new(),
            peers: 0,
            peer_open: false,
            answers: 0,
            candidates: Vec::new(),
            restarts: 0,
            formats: Vec::new(),
            turn_servers: Vec::new(),
            facts: None,
        };
        stay.perform();
        stay
    }

    fn perform(&mut self) {
        while let Some(action) = self.participant.action() {
            match action {
                Action::MakePeer { config, lines } => {
                    self.formats = config.video;
                    self.peers += 1;
                    self.peer_open = true;
                    let any = lines.video.is_some() || lines.audio.is_some();
                    self.participant.peer_made(any.then(|| "offer".into()));
                }
                Action::Offer { restart, .. } => {
                    self.restarts += u32::from(restart);
                    self.participant.offered(Some(if restart { "restart" } else { "more" }.into()));
                }
                Action::Answer(_) => self.answers += 1,
                Action::Candidate(line) => self.candidates.push(line),
                Action::ClosePeer => self.peer_open = false,
                Action::Dial { url, token } => self.dials.push((*url, token.expose().into())),
                Action::Send(message) => self.sent.push(*message),
                Action::HangUp => self.dials.clear(),
                Action::Emit(event) => self.events.push(event),
                Action::TurnServers(servers) => self.turn_servers.push(servers),
                Action::Facts(facts) => self.facts = Some(facts),
            }
        }
    }

    fn hear(&mut self, message: Incoming) {
        self.participant.message(message, self.now);
        self.perform();
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.participant.deadline().filter(|at| *at <= until) {
            assert!(at >= self.now || self.participant.deadline() <= Some(self.now), "time stands still");
            self.now = self.now.max(at);
            self.participant.tick(self.now);
            self.perform();
        }
        self.now = until;
    }

    fn refuse(&mut self, status: u16) {
        assert_eq!(std::mem::take(&mut self.dials).len(), 1);
        self.participant.refused(&Error::Refused { at: "ws://h:7880".into(), status, text: "no".into() }, self.now);
        self.perform();
    }

    /// Whether it dials again at once.
    fn refuse_token(&mut self) -> bool {
        assert_eq!(std::mem::take(&mut self.dials).len(), 1);
        self.participant.refused(&Error::Token("token is expired".into()), self.now);
        self.perform();
        !self.dials.is_empty()
    }

    fn resumed(&mut self) {
        self.dials.clear();
        self.hear(Incoming::Reconnect(proto::ReconnectResponse::default()));
        self.answer();
        self.up();
    }

    fn join_message(sid: &str) -> Incoming {
        Incoming::Join(proto::JoinResponse {
            room: Some(proto::Room { sid: "RM_1".into(), ..Default::default() }),
            participant: Some(proto::ParticipantInfo { sid: sid.into(), ..Default::default() }),
            ping_interval: 5,
            ping_timeout: 15,
            ..Default::default()
        })
    }

    /// The server lets us in and takes everything.
    fn accept(&mut self, sid: &str) {
        assert_eq!(std::mem::take(&mut self.dials).len(), 1, "one dial to answer");
        self.hear(Self::join_message(sid));
        self.publish("IN_v", "TR_V");
        self.publish("TR_a", "TR_A");
        self.answer();
        self.up();
    }

    fn publish(&mut self, cid: &str, sid: &str) {
        let track = Some(proto::TrackInfo { sid: sid.into(), ..Default::default() });
        self.hear(Incoming::TrackPublished(proto::TrackPublishedResponse { cid: cid.into(), track }));
    }

    fn answer(&mut self) {
        self.hear(Incoming::Answer(proto::SessionDescription { sdp: "answer".into(), ..Default::default() }));
    }

    fn up(&mut self) {
        self.participant.peer_up(self.now);
        self.perform();
    }

    fn signal_lost(&mut self) {
        self.participant.signal_lost(self.now);
        self.perform();
    }

    fn leave_message(&mut self, reason: proto::DisconnectReason, action: proto::leave_request::Action) {
        let (reason, action) = (reason as i32, action as i32);
        self.hear(Incoming::Leave(proto::LeaveRequest { reason, action, ..Default::default() }));
    }

    fn live() -> Self {
        Self::live_with(Config::new("ws://h:7880", Secret::new("first")))
    }

    fn live_with(config: Config) -> Self {
        let mut stay = Self::with(both(), config);
        stay.accept(PA);
        stay.events.clear();
        stay.sent.clear();
        stay
    }

    fn refuse_after_waiting(&mut self) {
        while self.dials.is_empty() {
            self.wait(Duration::from_millis(100));
        }
        self.refuse(503);
    }

    fn query(&self) -> &str {
        self.dials.last().and_then(|d| d.0.query()).unwrap_or_default()
    }

    fn closed(&self) -> &Fault {
        match self.events.last() {
            Some(Event::Closed(fault)) => fault,
            other => panic!("not closed: {other:?}"),
        }
    }
}

#[test]
fn vp9_stream_is_announced_with_spatial_layers() {
    let [low, high] = &video_track().layers[..] else { panic!("two layers") };
    let vp9 = VideoFormat { codec: model::VideoCodec::Vp9, parameters: String::new(), described: false };
    let of_vp9 = |layer: &LayerFormat| LayerFormat { format: vp9.clone(), ..layer.clone() };
    let track = VideoTrack { layers: vec![of_vp9(high)], ..video_track() };
    let request = message::add_video(&track);
    let sizes: Vec<_> = request.layers.iter().map(|l| (l.spatial_layer, l.width, l.height)).collect();
    assert_eq!(sizes, [(0, 320, 180), (1, 640, 360), (2, 1280, 720)]);
    // Whichever of them somebody watches, the stream is wanted.
    let watched = |enabled: [bool; 3]| {
        let quality = |q: usize| proto::SubscribedQuality { quality: q as i32, enabled: enabled[q] };
        let codecs = vec![proto::SubscribedCodec { codec: "vp9".into(), qualities: (0..3).map(quality).collect() }];
        let update = proto::SubscribedQualityUpdate { subscribed_codecs: codecs, ..Default::default() };
        message::wanted(&update, &track, &[true])
    };
    assert_eq!([watched([true, false, false]), watched([true; 3]), watched([false; 3])], [[true], [true], [false]]);
    // Several streams have one each, as those of other codecs.
    let several = VideoTrack { layers: vec![of_vp9(low), of_vp9(high)], ..video_track() };
    assert_eq!(message::add_video(&several).layers.len(), 2);
    assert_eq!(message::add_video(&VideoTrack { layers: vec![high.clone()], ..video_track() }).layers.len(), 1);
}

#[test]
fn layers_that_are_back_reset_trackers_once() {
    let resets = |stay: &mut Stay| {
        let said = std::mem::take(&mut stay.sent).into_iter();
        said.filter_map(|m| if let Message::Mute(m) = m { Some((m.sid, m.muted)) } else { None }).collect::<Vec<_>>()
    };
    let unmuted = vec![("TR_V".to_owned(), false)];
    let back = |stay: &mut Stay, layer| {
        stay.participant.layer_back(layer, stay.now);
        stay.perform();
    };
    let mut stay = Stay::new(both());
    stay.accept(PA);
    resets(&mut stay);
    back(&mut stay, 0);
    stay.wait(SAME_RESTART / 2);
    back(&mut stay, 1);
    assert_eq!(resets(&mut stay), unmuted, "all layers at once");
    stay.wait(SAME_RESTART);
    back(&mut stay, 1);
    assert_eq!(resets(&mut stay), [], "not too often");
    stay.wait(MIN_INTERVAL);
    assert_eq!(resets(&mut stay), unmuted);
    stay.participant.restarted(stay.now);
    stay.perform();
    assert_eq!(resets(&mut stay), unmuted, "a new encoder is rare, and waits for nothing");

    let mute = proto::MuteTrackRequest { sid: "TR_V".into(), muted: true };
    stay.hear(Incoming::Mute(mute.clone()));
    assert_eq!(resets(&mut stay), [("TR_V".to_owned(), true)], "it may have crossed ours");
    stay.wait(MUTE_CROSSING);
    back(&mut stay, 1);
    stay.participant.restarted(stay.now);
    stay.wait(MIN_INTERVAL);
    stay.hear(Incoming::Mute(mute));
    assert_eq!(resets(&mut stay), []);
}

#[test]
fn another_size_is_announced_once() {
    let sizes = |stay: &mut Stay| {
        let said = std::mem::take(&mut stay.sent).into_iter();
        said.filter_map(|m| {
            if let Message::UpdateVideoTrack(m) = m { Some((m.track_sid, m.width, m.height)) } else { None }
        })
        .collect::<Vec<_>>()
    };
    let resized = |stay: &mut Stay, by: u32| {
        let mut tracks = both();
        for LayerFormat { layer, .. } in &mut tracks.video.as_mut().unwrap().layers {
            (layer.width, layer.height) = (layer.width / by, layer.height / by);
        }
        stay.participant.want(&tracks, &BTreeMap::new(), stay.now);
        stay.perform();
    };
    let half = [("TR_V".to_owned(), 640, 360)];
    let mut stay = Stay::new(both());
    resized(&mut stay, 2);
    assert_eq!(sizes(&mut stay), [], "the track is not there yet");
    stay.accept(PA);
    assert_eq!(sizes(&mut stay), half);
    resized(&mut stay, 2);
    assert_eq!(sizes(&mut stay), []);
    // Changed while nobody hears of it.
    stay.signal_lost();
    resized(&mut stay, 1);
    assert_eq!(sizes(&mut stay), []);
    stay.hear(Incoming::Reconnect(proto::ReconnectResponse::default()));
    assert_eq!(sizes(&mut stay), [("TR_V".to_owned(), 1280, 720)]);
    // A track that is published again has the size of the time.
    resized(&mut stay, 2);
    assert_eq!(sizes(&mut stay), half);
    stay.leave_message(proto::DisconnectReason::StateMismatch, proto::leave_request::Action::Reconnect);
    while stay.dials.is_empty() {
        stay.wait(Duration::from_millis(100));
    }
    stay.accept("PA_2");
    assert_eq!(sizes(&mut stay), []);
    // What a track can't change it keeps.
    let mut fewer = both();
    fewer.video.as_mut().unwrap().layers.pop();
    stay.participant.want(&fewer, &BTreeMap::new(), stay.now);
    stay.perform();
    assert_eq!(sizes(&mut stay), []);
}

#[test]
fn expected_format_is_in_the_first_offer() {
    let h265 = VideoFormat { codec: model::VideoCodec::H265, parameters: String::new(), described: false };
    let sound = || Tracks { audio: Some(audio_track()), ..Tracks::default() };
    assert_eq!(Stay::expecting(sound(), Some(h265.clone())).formats, std::slice::from_ref(&h265));
    assert_eq!(Stay::new(sound()).formats, [EncodedVideo::H264.into(), EncodedVideo::Vp8.into()]);
    assert_eq!(Stay::expecting(both(), Some(h265)).formats, [EncodedVideo::H264.into()], "a track knows better");
}

#[test]
fn refused_codec_ends_the_stay() {
    let mut stay = Stay::new(both());
    stay.hear(Stay::join_message(PA));
    stay.participant.codec_refused(Kind::Video, stay.now);
    stay.perform();
    assert!(matches!(stay.sent.last(), Some(Message::Leave(_))) && !stay.peer_open);
    stay.wait(LEAVE_DEADLINE);
    assert!(stay.participant.is_over());
    let Some(Event::Closed(fault)) = stay.events.last() else { panic!("{:?}", stay.events) };
    assert!(fault.text.contains("does not accept H264 video") && !fault.retry, "{fault}");
}

#[test]
fn accepted_codecs_come_with_each_join() {
    let mut silent = Stay::new(both());
    silent.hear(Stay::join_message(PA));
    assert_eq!(silent.facts.unwrap().video_codecs, model::VideoCodec::OVER_RTP, "it takes what it knows");
    let mut stay = Stay::new(Tracks::default());
    let Incoming::Join(mut join) = Stay::join_message(PA) else { unreachable!() };
    let codec = |mime: &str| proto::Codec { mime: mime.into(), ..Default::default() };
    join.enabled_publish_codecs =
        vec![codec("audio/opus"), codec("video/VP8"), codec("video/h265"), codec("video/rtx")];
    stay.hear(Incoming::Join(join));
    assert_eq!(stay.facts.unwrap().video_codecs, [model::VideoCodec::H265, model::VideoCodec::Vp8]);
}

#[test]
fn turn_servers_come_with_each_join_and_resume() {
    let server = |uri: &str| {
        let urls = vec![uri.to_owned(), "stun:stun.example.com".into()];
        proto::IceServer { urls, username: "u".into(), credential: "c".into() }
    };
    let mut stay = Stay::new(both());
    let Incoming::Join(mut join) = Stay::join_message(PA) else { unreachable!() };
    join.ice_servers = vec![server("turn:turn.example.com:3478?transport=udp")];
    stay.hear(Incoming::Join(join));
    let first = model::TurnServer::read("turn:turn.example.com", "u", "c").unwrap();
    assert_eq!(stay.turn_servers, [vec![first.clone()]]);
    assert_eq!(stay.facts.as_ref().unwrap().turn_servers, [first]);

    let mut stay = Stay::new(both());
    stay.accept(PA);
    stay.participant.signal_lost(stay.now);
    stay.perform();
    let reconnect =
        proto::ReconnectResponse { ice_servers: vec![server("turns:other.example.com:443")], ..Default::default() };
    stay.hear(Incoming::Reconnect(reconnect));
    let renewed = model::TurnServer::read("turns:other.example.com:443", "u", "c").unwrap();
    assert_eq!(stay.turn_servers.last(), Some(&vec![renewed]));
}

#[test]
fn joining_takes_one_request() {
    let mut stay = Stay::new(both());
    assert_eq!(stay.dials[0].0.path(), "/rtc/v1");
    stay.accept(PA);
    assert!(stay.sent.is_empty(), "all was in the URL: {:?}", stay.sent);
    assert_eq!(stay.answers, 1);
    assert_eq!(
        stay.events,
        [
            Event::Joined { room_sid: "RM_1".into(), participant_sid: PA.into() },
            Event::Published { kind: Kind::Video, track_sid: "TR_V".into() },
            Event::Published { kind: Kind::Audio, track_sid: "TR_A".into() },
            Event::Connected,
        ]
    );
    stay.wait(Duration::from_secs(14));
    let pings = stay.sent.iter().filter(|m| matches!(m, Message::PingReq(_))).count();
    assert_eq!(pings, 2);
}

#[test]
fn older_server_gets_the_same_by_messages() {
    let mut stay = Stay::new(both());
    stay.refuse(404);
    assert_eq!(stay.dials[0].0.path(), "/rtc");
    assert_eq!(stay.peers, 1);
    stay.accept(PA);
    let kinds: Vec<_> = stay
        .sent
        .iter()
        .map(|m| match m {
            Message::AddTrack(t) => t.cid.as_str(),
            Message::Offer(o) => o.sdp.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["IN_v", "TR_a", "offer"]);
    assert!(stay.events.contains(&Event::Connected));
}

#[test]
fn first_join_is_retried_if_that_can_help() {
    let mut stay = Stay::new(both());
    while !stay.participant.is_over() {
        stay.refuse_after_waiting();
    }
    let text = "LiveKit at ws://h:7880 answered 503: no (tried 6 times)";
    assert_eq!(stay.closed(), &Fault::transient(Blame::Room, text));
    assert!(stay.now < stay.start + JOIN_RETRY_WINDOW && !stay.peer_open && stay.dials.is_empty());

    for status in [401, 403, 410] {
        let mut stay = Stay::new(both());
        stay.refuse(status);
        assert!(!stay.closed().text.contains("tried"), "{:?}", stay.closed());
    }

    let mut stay = Stay::new(both());
    stay.wait(Duration::from_secs(6));
    assert_eq!((stay.events.len(), stay.dials.len()), (0, 1), "the second attempt");
    stay.accept(PA);
    assert!(stay.events.contains(&Event::Connected));
    assert!(!stay.events.contains(&Event::Reconnecting));

    let mut stay = Stay::new(both());
    stay.wait(Duration::from_secs(12));
    assert_eq!(stay.closed().text, "cannot reach LiveKit at ws://h:7880: no answer within 5s (tried 2 times)");

    let mut stay = Stay::new(both());
    stay.signal_lost();
    stay.wait(Duration::from_millis(300));
    stay.accept(PA);
    assert!(stay.events.contains(&Event::Connected));

    let mut stay = Stay::new(both());
    stay.leave_message(proto::DisconnectReason::JoinFailure, proto::leave_request::Action::Disconnect);
    assert!(stay.closed().text.contains("could not join"), "{:?}", stay.closed());

    let mut stay = Stay::new(both());
    stay.hear(Stay::join_message(PA));
    stay.publish("IN_v", "TR_V");
    stay.publish("TR_a", "TR_A");
    stay.answer();
    stay.wait(Duration::from_secs(20));
    assert!(stay.closed().text.contains("no media connection within 15 s"), "{:?}", stay.closed());
}

#[test]
fn lost_signal_is_resumed_with_the_newest_token() {
    let mut stay = Stay::live();
    stay.hear(Incoming::RefreshToken("second".into()));
    assert_eq!(
        std::mem::take(&mut stay.events),
        [Event::TokenRefreshed { token: Secret::new("second"), moved: false }]
    );
    stay.signal_lost();
    assert_eq!(stay.events, [Event::Reconnecting]);
    assert!(stay.peer_open, "media goes on");
    assert_eq!(stay.dials[0].1, "second");
    stay.dials.clear();
    stay.hear(Incoming::Reconnect(proto::ReconnectResponse::default()));
    assert!(matches!(&stay.sent[..], [Message::Offer(o)] if o.sdp == "restart"), "{:?}", stay.sent);
    stay.answer();
    assert_eq!(stay.events.len(), 1, "not before media has found its way");
    stay.up();
    assert_eq!(stay.events, [Event::Reconnecting, Event::Reconnected]);
    assert_eq!((stay.peers, stay.restarts), (1, 1));
    // And again: one resume is allowed for each loss.
    stay.participant.peer_down(stay.now);
    stay.perform();
    assert_eq!(stay.dials.len(), 1);
}

/// A session that can have tokens made: "made 1" and so on.
fn renewing() -> Stay {
    let made = std::sync::atomic::AtomicU32::new(0);
    let make =
        move || Some(Secret::new(format!("made {}", made.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1)));
    let config = Config::new("ws://h:7880", Secret::new("first"));
    let mut stay = Stay::live_with(Config { renew: Some(RenewToken::new(make)), ..config });
    stay.hear(Incoming::RefreshToken("second".into()));
    stay.events.clear();
    stay
}

#[test]
fn signalling_that_was_away_for_longer_than_its_token_lasts_is_taken_up() {
    let mut stay = renewing();
    stay.signal_lost();
    let lost = stay.now;
    // Half a day, in which both the newest token and the first one expire.
    while stay.now < lost + Duration::from_secs(43_200) {
        stay.refuse_after_waiting();
        stay.wait(Duration::from_secs(2));
    }
    assert_eq!(stay.dials[0].1, "second");
    assert!(stay.refuse_token(), "at once");
    assert_eq!(stay.dials[0].1, "made 1");
    assert!(stay.query().starts_with("join_request="), "it is still a resume: {}", stay.query());
    stay.resumed();
    assert_eq!((stay.peers, stay.peer_open), (1, true), "media was never touched");
    assert_eq!(stay.events, [Event::Reconnecting, Event::Reconnected]);
    // What the server gives counts more than what is made, and may expire as well.
    stay.hear(Incoming::RefreshToken("third".into()));
    stay.signal_lost();
    assert_eq!(stay.dials[0].1, "third");
    assert!(stay.refuse_token());
    assert_eq!(stay.dials[0].1, "made 2");
}

#[test]
fn a_token_that_is_refused_however_new_it_is_ends_it() {
    let mut stay = renewing();
    stay.signal_lost();
    let lost = stay.now;
    let mut dialled = 0;
    while !stay.participant.is_over() {
        if stay.dials.is_empty() {
            stay.wait(Duration::from_millis(100));
        } else {
            dialled += 1;
            stay.refuse_token();
        }
    }
    assert!(stay.closed().text.contains("refused the token"), "{:?}", stay.closed());
    let lasted = (stay.now - lost).as_secs();
    assert!((58..63).contains(&lasted) && dialled < 50, "{lasted} s, {dialled} times");
}

#[test]
fn a_token_is_not_made_for_a_room_that_was_left() {
    let mut stay = renewing();
    let room = proto::Room { sid: "RM_2".into(), ..Default::default() };
    let participant = proto::ParticipantInfo { sid: PA.into(), ..Default::default() };
    stay.hear(Incoming::RoomMoved(proto::RoomMovedResponse {
        room: Some(room),
        token: "moved".into(),
        participant: Some(participant),
        ..Default::default()
    }));
    let told = Event::TokenRefreshed { token: Secret::new("moved"), moved: true };
    assert!(stay.events.contains(&told), "{:?}", stay.events);
    stay.signal_lost();
    assert_eq!(stay.dials[0].1, "moved");
    stay.refuse_token();
    assert!(stay.dials.iter().all(|dial| dial.1 == "moved"), "{:?}", stay.dials);
}

#[test]
fn failed_resume_becomes_a_rejoin() {
    for how in ["refused", "asked", "silent", "lost"] {
        let mut stay = Stay::live();
        stay.hear(Incoming::Mute(proto::MuteTrackRequest { sid: "TR_A".into(), muted: true }));
        stay.signal_lost();
        if how == "silent" || how == "lost" {
            stay.participant.peer_down(stay.now);
        }
        match how {
            "refused" => stay.refuse(404),
            "asked" => {
                stay.leave_message(proto::DisconnectReason::StateMismatch, proto::leave_request::Action::Reconnect)
            }
            "silent" => stay.wait(Duration::from_secs(5)),
            _ => stay.signal_lost(),
        }
        assert_eq!((stay.peers, stay.dials.len()), (2, 1), "{how}");
        assert_eq!(stay.dials[0].0.path(), "/rtc/v1");
        stay.accept("PA_2");
        let muted = |muted| Event::Muted { kind: Kind::Audio, muted };
        let joined = Event::Joined { room_sid: "RM_1".into(), participant_sid: "PA_2".into() };
        assert_eq!(stay.events[..4], [muted(true), Event::Reconnecting, muted(false), joined], "{how}");
        assert_eq!(stay.events[6..], [Event::Connected, Event::Reconnected], "{how}");
    }
}

#[test]
fn resume_is_retried_while_media_flows() {
    let mut stay = Stay::live();
    stay.signal_lost();
    for n in 0..20 {
        stay.refuse(503);
        assert!(stay.peer_open && stay.dials.is_empty());
        stay.wait((BACKOFF_UNIT * (n + 1) * (n + 1)).min(MAX_BACKOFF));
        assert!(stay.query().starts_with("join_request="), "{}", stay.query());
    }
    assert_eq!(stay.peers, 1);
    stay.dials.clear();
    stay.hear(Incoming::Reconnect(proto::ReconnectResponse::default()));
    stay.answer();
    stay.up();
    assert_eq!(stay.events, [Event::Reconnecting, Event::Reconnected]);

    // Then media goes too: from there on there is a minute to rejoin.
    stay.signal_lost();
    stay.refuse(503);
    stay.refuse_after_waiting();
    stay.participant.peer_down(stay.now);
    let down = stay.now;
    while !stay.participant.is_over() {
        if stay.dials.is_empty() {
            stay.wait(Duration::from_millis(100));
        } else {
            stay.refuse(503);
        }
    }
    assert!(stay.peers > 20, "{}", stay.peers);
    assert!((60..63).contains(&(stay.now - down).as_secs()));
}

#[test]
fn rejoin_backs_off_and_gives_up_after_a_minute() {
    let mut stay = Stay::live();
    let lost = stay.now;
    stay.signal_lost();
    stay.participant.peer_down(stay.now);
    let mut dialled = Vec::new();
    while !stay.participant.is_over() {
        if stay.dials.is_empty() {
            stay.wait(Duration::from_millis(100));
        } else {
            dialled.push((stay.now - lost).as_millis());
            stay.refuse(503);
        }
    }
    // A resume and a rejoin at once, then after 0.3 and 1.2 s more, then every two.
    assert_eq!(dialled[..7], [0, 0, 300, 1_500, 3_500, 5_500, 7_500]);
    assert!((58_000..62_000).contains(dialled.last().unwrap()), "{dialled:?}");
    let text = "room disconnected unexpectedly: LiveKit at ws://h:7880 answered 503: no";
    assert_eq!(stay.closed(), &Fault::transient(Blame::Room, text));
}

#[test]
fn rejoin_that_never_settles_is_an_attempt() {
    let mut stay = Stay::live();
    stay.signal_lost();
    stay.refuse(404);
    let mut joins = 0;
    while !stay.participant.is_over() {
        if stay.dials.is_empty() {
            stay.wait(Duration::from_millis(100));
        } else {
            stay.dials.clear();
            stay.hear(Stay::join_message(PA));
            joins += 1;
        }
    }
    // Each takes as long as settling may.
    assert_eq!(joins, 4);
    assert!(stay.closed().text.starts_with("room disconnected unexpectedly"), "{:?}", stay.closed());
}

#[test]
fn server_that_forgot_us_is_joined_at_once() {
    let mut stay = Stay::live();
    stay.signal_lost();
    for _ in 0..3 {
        stay.refuse_after_waiting();
    }
    while stay.dials.is_empty() {
        stay.wait(Duration::from_millis(100));
    }
    let at = stay.now;
    stay.leave_message(proto::DisconnectReason::StateMismatch, proto::leave_request::Action::Reconnect);
    assert_eq!((stay.peers, stay.now), (2, at));
    // From here on there is a minute, however long the resumes took.
    stay.refuse(503);
    stay.wait(Duration::from_secs(50));
    assert!(!stay.participant.is_over());
}

/// The server's message to the room about us.
fn own(tracks: &[(&str, bool)], can_publish: bool, sources: &[proto::TrackSource]) -> Incoming {
    let tracks =
        tracks.iter().map(|(sid, muted)| proto::TrackInfo { sid: (*sid).into(), muted: *muted, ..Default::default() });
    let permission = proto::ParticipantPermission {
        can_publish,
        can_publish_sources: sources.iter().map(|s| *s as i32).collect(),
        ..Default::default()
    };
    let us = proto::ParticipantInfo {
        sid: PA.into(),
        tracks: tracks.collect(),
        permission: Some(permission),
        ..Default::default()
    };
    let other = proto::ParticipantInfo { sid: "PA_other".into(), ..Default::default() };
    Incoming::Update(proto::ParticipantUpdate { participants: vec![other, us] })
}

#[test]
fn resume_catches_up_on_mutes_and_removals() {
    let mut stay = Stay::live();
    let mute = |sid: &str, muted| Incoming::Mute(proto::MuteTrackRequest { sid: sid.into(), muted });
    let muted = |kind, muted| Event::Muted { kind, muted };
    stay.hear(mute("TR_A", true));
    // Older than what we know.
    stay.hear(own(&[("TR_V", false), ("TR_A", false)], true, &[]));
    assert_eq!(std::mem::take(&mut stay.events), [muted(Kind::Audio, true)]);
    stay.signal_lost();
    stay.dials.clear();
    stay.hear(Incoming::Reconnect(proto::ReconnectResponse::default()));
    stay.hear(own(&[("TR_V", true), ("TR_A", false)], true, &[]));
    assert_eq!(stay.events, [Event::Reconnecting, muted(Kind::Video, true), muted(Kind::Audio, false)]);
    stay.events.clear();
    stay.answer();
    stay.up();
    stay.hear(own(&[("TR_V", false), ("TR_A", false)], true, &[]));
    assert_eq!(stay.events, [Event::Reconnected], "only the first after a resume is news");
    // A track that went meanwhile.
    stay.signal_lost();
    stay.dials.clear();
    stay.hear(Incoming::Reconnect(proto::ReconnectResponse::default()));
    stay.hear(own(&[("TR_V", true)], true, &[]));
    stay.answer();
    stay.up();
    assert_eq!(stay.events.iter().filter(|e| **e == muted(Kind::Audio, true)).count(), 1);
    stay.wait(REPUBLISH_AFTER);
    assert_eq!((stay.peers, stay.dials.len()), (2, 1));
}

#[test]
fn removed_track_is_published_again_when_permitted() {
    let unpublished = || Incoming::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid: "TR_V".into() });
    let mut stay = Stay::live();
    stay.hear(Incoming::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid: "TR_other".into() }));
    stay.wait(REPUBLISH_AFTER);
    assert!(stay.events.is_empty());
    stay.hear(unpublished());
    stay.wait(REPUBLISH_AFTER - Duration::from_millis(1));
    assert_eq!(stay.events, [Event::Muted { kind: Kind::Video, muted: true }]);
    stay.wait(Duration::from_millis(1));
    assert_eq!((stay.peers, stay.dials.len()), (2, 1));
    stay.accept(PA);
    assert_eq!(stay.events.last(), Some(&Event::Reconnected));
    // A server that does it again is waited for longer.
    stay.hear(unpublished());
    stay.wait(REPUBLISH_AFTER * 2 - Duration::from_millis(1));
    assert!(stay.dials.is_empty());

    for (withdrawn, given) in [
        (own(&[], false, &[]), own(&[], true, &[])),
        (
            own(&[], true, &[proto::TrackSource::Microphone]),
            own(&[], true, &[proto::TrackSource::Microphone, proto::TrackSource::Camera]),
        ),
    ] {
        let mut stay = Stay::live();
        stay.hear(unpublished());
        stay.hear(withdrawn);
        for _ in 0..60 {
            stay.wait(Duration::from_secs(1));
            stay.hear(Incoming::PongResp(proto::Pong::default()));
        }
        assert_eq!(stay.peers, 1, "not as long as it may not");
        stay.hear(given);
        stay.wait(REPUBLISH_AFTER);
        assert_eq!((stay.peers, stay.dials.len()), (2, 1));
    }
}

#[test]
fn final_leave_request_ends_the_stay() {
    use proto::DisconnectReason as R;
    for (reason, text, retry) in [
        (R::RoomDeleted, "room disconnected: the room was deleted", false),
        (R::ParticipantRemoved, "room disconnected: the participant was removed", false),
        (R::DuplicateIdentity, "room disconnected: another participant joined with the same identity", false),
        (R::ServerShutdown, "room disconnected: the server shut down", true),
        (R::UnknownReason, "room disconnected", false),
    ] {
        let mut stay = Stay::live();
        stay.leave_message(reason, proto::leave_request::Action::Disconnect);
        assert_eq!(stay.closed(), &Fault { blame: Blame::Room, retry, text: text.into() });
        assert!(stay.participant.is_over() && !stay.peer_open);
    }
}

#[test]
fn leave_request_can_ask_to_come_back() {
    use proto::leave_request::Action as A;
    let mut stay = Stay::live();
    stay.leave_message(proto::DisconnectReason::ConnectionTimeout, A::Resume);
    assert_eq!((stay.peers, stay.dials.len()), (1, 1));
    let mut stay = Stay::live();
    stay.leave_message(proto::DisconnectReason::StateMismatch, A::Reconnect);
    assert_eq!((stay.peers, stay.dials.len()), (2, 1));
}

#[test]
fn closed_media_waits_for_the_reason() {
    let mut stay = Stay::live();
    stay.participant.peer_closed(stay.now);
    stay.wait(Duration::from_millis(100));
    stay.leave_message(proto::DisconnectReason::RoomDeleted, proto::leave_request::Action::Disconnect);
    assert_eq!(stay.closed().text, "room disconnected: the room was deleted");

    let mut stay = Stay::live();
    stay.participant.peer_closed(stay.now);
    stay.wait(CLOSE_REASON_DEADLINE);
    assert_eq!((stay.peers, stay.dials.len()), (2, 1), "no resume onto a closed connection");
}

#[test]
fn silent_server_is_lost() {
    let mut stay = Stay::live();
    stay.wait(Duration::from_secs(10));
    stay.hear(Incoming::PongResp(proto::Pong::default()));
    stay.wait(Duration::from_secs(14));
    assert!(stay.events.is_empty());
    stay.wait(Duration::from_secs(2));
    assert_eq!(stay.events[0], Event::Reconnecting);
    assert!(stay.start < stay.now);
}

#[test]
fn layers_are_wanted_by_their_declared_quality() {
    let mut stay = Stay::live();
    let update = |enabled: [bool; 3]| {
        let qualities =
            (0..3).map(|q| proto::SubscribedQuality { quality: q, enabled: enabled[q as usize] }).collect::<Vec<_>>();
        Incoming::SubscribedQualityUpdate(proto::SubscribedQualityUpdate {
            track_sid: "TR_V".into(),
            subscribed_codecs: vec![proto::SubscribedCodec { codec: "h264".into(), qualities }],
            ..Default::default()
        })
    };
    // MEDIUM is none of ours: LOW and HIGH are layers 0 and 1.
    for (server, ours) in [([true, true, false], [true, false]), ([false; 3], [false; 2]), ([true; 3], [true; 2])] {
        stay.hear(update(server));
        stay.hear(update(server));
        assert_eq!(stay.events, [Event::LayersWanted(ours.to_vec())], "once");
        stay.events.clear();
    }
    stay.hear(update([false; 3]));
    stay.events.clear();
    stay.signal_lost();
    stay.refuse(404);
    assert!(
        stay.events.contains(&Event::LayersWanted(vec![true; 2])),
        "a new track starts with all: {:?}",
        stay.events
    );

    let mut stay = Stay::live();
    stay.hear(update([false; 3]));
    stay.signal_lost();
    stay.events.clear();
    stay.hear(Incoming::Reconnect(proto::ReconnectResponse::default()));
    assert_eq!(stay.events, [Event::LayersWanted(vec![true; 2])], "what was said meanwhile is lost");
}

#[test]
fn first_viewer_brings_a_burst_of_requests() {
    let requests = |stay: &mut Stay| {
        stay.wait(Duration::from_secs(1));
        std::mem::take(&mut stay.events).into_iter().filter(|e| matches!(e, Event::KeyframeRequest { .. })).count()
    };
    let mut stay = Stay::live();
    let subscribed = |sid: &str| Incoming::TrackSubscribed(proto::TrackSubscribed { track_sid: sid.into() });
    stay.hear(subscribed("TR_A"));
    assert_eq!(requests(&mut stay), 0, "audio needs none");
    stay.hear(subscribed("TR_V"));
    assert_eq!(requests(&mut stay), 3 * 2);

    // A viewer who was there before media flowed.
    let mut stay = Stay::new(both());
    stay.hear(Stay::join_message(PA));
    stay.publish("IN_v", "TR_V");
    stay.hear(subscribed("TR_V"));
    assert_eq!(requests(&mut stay), 0);
    stay.up();
    assert_eq!(requests(&mut stay), 3 * 2);
}

#[test]
fn later_track_waits_for_the_open_offer() {
    let mut stay = Stay::new(Tracks { audio: Some(audio_track()), video: None });
    stay.dials.clear();
    stay.hear(Stay::join_message(PA));
    stay.participant.want(&both(), &BTreeMap::new(), stay.now);
    stay.perform();
    assert!(stay.sent.is_empty(), "not while an offer is open");
    stay.answer();
    assert!(
        matches!(&stay.sent[..], [Message::AddTrack(t), Message::Offer(o)] if t.cid == "IN_v" && o.sdp == "more" && o.id == 2),
        "{:?}",
        stay.sent
    );
    stay.publish("TR_a", "TR_A");
    stay.up();
    stay.publish("IN_v", "TR_V");
    stay.answer();
    stay.wait(Duration::from_secs(4));
    assert_eq!(stay.answers, 2);
    assert!(!stay.participant.is_over());
    // It is not offered again, and a rejoin has both from the start.
    stay.participant.want(&both(), &BTreeMap::new(), stay.now);
    stay.perform();
    stay.signal_lost();
    stay.refuse(404);
    stay.sent.clear();
    stay.accept("PA_2");
    assert!(stay.sent.is_empty());
    assert_eq!(stay.events.last(), Some(&Event::Reconnected));
}

#[test]
fn loss_during_an_offer_is_not_resumed() {
    let mut stay = Stay::new(Tracks { audio: Some(audio_track()), video: None });
    stay.dials.clear();
    stay.hear(Stay::join_message(PA));
    stay.publish("TR_a", "TR_A");
    stay.answer();
    stay.up();
    stay.participant.want(&both(), &BTreeMap::new(), stay.now);
    stay.perform();
    stay.signal_lost();
    assert_eq!(stay.peers, 2, "a new peer connection");
}

#[test]
fn attributes_follow_settling_and_each_loss() {
    let attributes = |stay: &mut Stay| -> Vec<_> {
        std::mem::take(&mut stay.sent)
            .into_iter()
            .filter_map(|m| match m {
                Message::UpdateMetadata(u) => Some(u.attributes.into_iter().collect::<BTreeMap<_, _>>()),
                _ => None,
            })
            .collect()
    };
    let mut stay = Stay::live();
    let wanted = BTreeMap::from([("ingress.resourceID".to_owned(), "RT_1".to_owned())]);
    for _ in 0..2 {
        stay.participant.want(&both(), &wanted, stay.now);
        stay.perform();
    }
    assert_eq!(attributes(&mut stay), std::slice::from_ref(&wanted));
    stay.wait(REPEAT_AFTER - Duration::from_millis(1));
    assert!(attributes(&mut stay).is_empty());
    stay.wait(REPEAT_AFTER * 4);
    assert_eq!(attributes(&mut stay), std::slice::from_ref(&wanted), "and once more");
    stay.signal_lost();
    stay.dials.clear();
    stay.hear(Incoming::Reconnect(proto::ReconnectResponse::default()));
    stay.answer();
    assert!(attributes(&mut stay).is_empty(), "not before all has settled");
    stay.up();
    assert_eq!(attributes(&mut stay), std::slice::from_ref(&wanted));
    stay.signal_lost();
    stay.refuse(404);
    stay.accept("PA_2");
    assert_eq!(attributes(&mut stay), [wanted]);
}

#[test]
fn refused_tracks_and_other_refusals() {
    use proto::request_response::{Reason, Request};
    let response = |reason: Reason, request| {
        Incoming::RequestResponse(proto::RequestResponse {
            reason: reason as i32,
            message: "does not have permission".into(),
            request: Some(request),
            ..Default::default()
        })
    };
    let add = || Request::AddTrack(proto::AddTrackRequest::default());
    let mut stay = Stay::live();
    stay.hear(response(Reason::NotAllowed, Request::UpdateMetadata(proto::UpdateParticipantMetadata::default())));
    stay.hear(response(Reason::Queued, add()));
    assert!(!stay.participant.is_over());
    stay.hear(response(Reason::NotAllowed, add()));
    assert_eq!(
        stay.closed(),
        &Fault::new(Blame::Room, "LiveKit refused to publish: does not have permission (NOT_ALLOWED)")
    );
}

#[test]
fn leaving_says_goodbye_and_emits_nothing() {
    let mut stay = Stay::live();
    stay.participant.leave(stay.now);
    stay.perform();
    assert!(matches!(&stay.sent[..], [Message::Leave(l)] if l.reason == 1 && l.action == 0));
    assert!(!stay.peer_open && !stay.participant.is_over());
    stay.leave_message(proto::DisconnectReason::ClientInitiated, proto::leave_request::Action::Disconnect);
    assert!(stay.participant.is_over() && stay.events.is_empty());

    let mut stay = Stay::live();
    stay.participant.leave(stay.now);
    stay.wait(LEAVE_DEADLINE);
    assert!(stay.participant.is_over() && stay.events.is_empty());

    let mut stay = Stay::new(both());
    stay.participant.leave(stay.now);
    stay.perform();
    assert!(stay.participant.is_over() && stay.dials.is_empty());
}

#[test]
fn candidates_go_both_ways() {
    let mut stay = Stay::live();
    let trickle = |init: &str, target| {
        Incoming::Trickle(proto::TrickleRequest { candidate_init: init.into(), target, r#final: true })
    };
    let good = r#"{"candidate":"candidate:1 1 udp 5 127.0.0.1 7 typ host","sdpMid":"0","sdpMLineIndex":0}"#;
    for (init, target) in
        [(good, 0), (good, 1), ("{", 0), ("[]", 0), (r#"{"candidate":""}"#, 0), (r#"{"candidate":5}"#, 0)]
    {
        stay.hear(trickle(init, target));
    }
    assert_eq!(stay.candidates, ["candidate:1 1 udp 5 127.0.0.1 7 typ host"]);
    stay.participant.local_candidate("a=candidate:2 1 udp 5 10.0.0.1 7 typ host\r\n");
    stay.perform();
    let [Message::Trickle(sent)] = &stay.sent[..] else { panic!("{:?}", stay.sent) };
    assert_eq!(message::trickled(sent).unwrap(), "candidate:2 1 udp 5 10.0.0.1 7 typ host");
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Join,
    Reconnect,
    Published(bool),
    Answer,
    Up,
    Down,
    PeerClosed,
    PeerFailed,
    SignalLost,
    Refused(u16),
    Leave(i32, i32),
    Mute(bool, bool),
    Unpublished(bool),
    Own(bool, bool),
    Want,
    GoAway,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..20_000).prop_map(Step::Wait),
        Just(Step::Join),
        Just(Step::Reconnect),
        any::<bool>().prop_map(Step::Published),
        Just(Step::Answer),
        Just(Step::Up),
        Just(Step::Down),
        Just(Step::PeerClosed),
        Just(Step::PeerFailed),
        Just(Step::SignalLost),
        prop_oneof![Just(401u16), Just(404), Just(503)].prop_map(Step::Refused),
        (0i32..18, 0i32..4).prop_map(|(r, a)| Step::Leave(r, a)),
        any::<(bool, bool)>().prop_map(|(v, m)| Step::Mute(v, m)),
        any::<bool>().prop_map(Step::Unpublished),
        any::<(bool, bool)>().prop_map(|(may, muted)| Step::Own(may, muted)),
        Just(Step::Want),
        Just(Step::GoAway),
    ]
}

proptest! {
    #[test]
    fn any_input_ends_once_and_never_hangs(steps in proptest::collection::vec(step(), 0..60), tracks in 0u8..4) {
        let tracks = Tracks {
            video: (tracks & 1 != 0).then(video_track),
            audio: (tracks & 2 != 0).then(audio_track),
        };
        let mut stay = Stay::new(tracks);
        let mut left = false;
        for step in steps {
            match step {
                Step::Wait(ms) => stay.wait(Duration::from_millis(ms)),
                Step::Join => stay.hear(Stay::join_message(PA)),
                Step::Reconnect => stay.hear(Incoming::Reconnect(proto::ReconnectResponse::default())),
                Step::Published(true) => stay.publish("IN_v", "TR_V"),
                Step::Published(false) => stay.publish("TR_a", "TR_A"),
                Step::Answer => stay.answer(),
                Step::Up => stay.up(),
                Step::Down => stay.participant.peer_down(stay.now),
                Step::PeerClosed => stay.participant.peer_closed(stay.now),
                Step::PeerFailed => stay.participant.peer_failed("broken".into(), stay.now),
                Step::SignalLost => stay.signal_lost(),
                Step::Refused(status) => {
                    let error = Error::Refused { at: "ws://h".into(), status, text: "no".into() };
                    stay.participant.refused(&error, stay.now);
                }
                Step::Leave(reason, action) => {
                    stay.hear(Incoming::Leave(proto::LeaveRequest { reason, action, ..Default::default() }));
                }
                Step::Mute(video, muted) => {
                    let sid = if video { "TR_V" } else { "TR_A" }.into();
                    stay.hear(Incoming::Mute(proto::MuteTrackRequest { sid, muted }));
                }
                Step::Unpublished(video) => {
                    let track_sid = if video { "TR_V" } else { "TR_A" }.into();
                    stay.hear(Incoming::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid }));
                }
                Step::Own(may, muted) => stay.hear(own(&[("TR_V", muted)], may, &[])),
                Step::Want => stay.participant.want(&both(), &BTreeMap::new(), stay.now),
                Step::GoAway => {
                    stay.participant.leave(stay.now);
                    left = true;
                }
            }
            stay.perform();
            // It either has something to wait for, or is over.
            prop_assert_eq!(stay.participant.deadline().is_none(), stay.participant.is_over());
            let closed = stay.events.iter().filter(|e| matches!(e, Event::Closed(_))).count();
            prop_assert!(closed <= 1);
            if stay.participant.is_over() {
                prop_assert!(!stay.peer_open && stay.dials.is_empty());
                prop_assert!(closed == 1 || left);
            }
            if closed == 1 {
                prop_assert!(matches!(stay.events.last(), Some(Event::Closed(_))));
            }
        }
        // Left to itself with a dead server, it gives up.
        stay.participant.peer_down(stay.now);
        stay.perform();
        stay.wait(Duration::from_secs(400));
        prop_assert!(stay.participant.is_over());
    }
}
