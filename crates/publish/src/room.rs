//! The session with the room as a state machine: joining, offering, coming back. Messages, facts and the time go in;
//! [`Action`]s come out. No IO, no clock of its own.
//!
//! ```text
//!            first message               settled: media up, answered, published
//! Opening ────────────────▶ Live ─────────────────────────────────────────────▶ Live
//!  ▲  ▲                      │ signal or media lost
//!  │  └─── resume ───────────┤
//!  │                         │ that failed
//!  └── rejoin ── Waiting ◀───┘          n² · 300 ms, and 2 s at the most, before the n-th attempt
//! ```
//! A resume that the server refuses, or without media, becomes a rejoin; while only the signalling can't be reached and
//! media still flows, it is the resume that is tried again, so that no viewer notices. The first join is tried again for some
//! seconds, if what it failed of may pass.

mod live;

use crate::join::{self, Dialect, Opening};
use crate::{Error, Event, LayerFormat, Tracks, VideoTrack, message};
use livekit_protocol as proto;
use model::{Blame, EncodedVideo, Fault, Kind, Secret, VideoCodec, VideoFormat};
use proto::signal_request::Message;
use proto::signal_response::Message as Incoming;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use url::Url;

/// How long answer, publication and media connection may take together: ten seconds for a track to be published, as in the
/// Go ingress, and what it takes to fall back to TCP.
const SETTLE: Duration = Duration::from_secs(15);
/// How long to try to come back while no media flows (as long as the Go SDK does).
const GIVE_UP: Duration = Duration::from_secs(60);
/// Until when after its beginning another attempt at the first join may begin. One that begins last may take
/// [`crate::Config::connect_timeout`] (5 s): in all that is below the 15 s that a session gives its room.
pub(crate) const JOIN_PATIENCE: Duration = Duration::from_secs(8);
/// Before the n-th attempt, n² times this, but never longer than the other: a server that was started anew is found soon.
const ATTEMPT_DELAY: Duration = Duration::from_millis(300);
const MOST_DELAY: Duration = Duration::from_secs(2);
/// How long after the server took a track out of the room it is published anew (the reason, a permission that was withdrawn,
/// comes within that time); twice as long each time, up to so many times twice.
const PUT_BACK: Duration = Duration::from_secs(1);
const PUT_BACK_DOUBLINGS: u32 = 6;
/// How long after the attributes they are told once more. The copies that race each other are written within 20 ms of each
/// other (measured); a second is long for a busy server too, and short for whoever lists participants.
const CONFIRM: Duration = Duration::from_secs(1);
/// How long after [`Room::layer_back`] another layer that is back is the same news: the layers of a new encoder come within it.
const SAME_NEWS: Duration = Duration::from_millis(300);
/// Between two such messages at the least. Each costs the viewers' allocation a moment without layers, so that a stream which
/// stutters for good should not cause many.
const NEWS_EVERY: Duration = Duration::from_secs(2);
/// How long the server's own word that a track is muted may have crossed ours that it is not.
const CROSSED: Duration = Duration::from_secs(2);
/// How long the server may take to take note of our leaving.
const LEAVE: Duration = Duration::from_millis(500);
/// How long after the media connection was closed the message that tells why may take.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What a server advises today; it may advise otherwise when we join.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// When to ask for key frames once somebody subscribed: the first are sent before the server has bound the viewer's track,
/// and it asks again only after a second. Measured: median of the first picture 0.2 s in place of up to 1.3 s.
const BURST: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(250), Duration::from_millis(500)];

/// What is to be done, in order.
#[derive(Debug)]
pub(crate) enum Action {
    /// Make a peer connection that offers `lines`; tell [`Room::peer_made`].
    MakePeer { config: rtc::Config, lines: rtc::Lines },
    /// Offer more over the peer connection, or new ways; tell [`Room::offered`].
    Offer { lines: rtc::Lines, restart: bool },
    /// Give the peer connection its answer.
    Answer(String),
    /// Give the peer connection a `candidate:` line.
    Candidate(String),
    /// Close the peer connection.
    ClosePeer,
    /// Open a WebSocket; tell [`Room::refused`], or the messages that come.
    Dial { url: Box<Url>, token: Secret },
    /// Send over the WebSocket.
    Send(Box<Message>),
    /// Close the WebSocket, or stop opening it.
    HangUp,
    /// Tell the session.
    Emit(Event),
    /// Tell whoever wants to know it: these video codecs are taken from us.
    Takes(Vec<VideoCodec>),
}

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
        settle_by: Option<Instant>,
    },
    /// Between two attempts to come back. The next is a resume if it may be, and media still flows then.
    Waiting {
        until: Instant,
        may_resume: bool,
    },
    Leaving {
        by: Instant,
    },
    Ended,
}

/// A track of ours, as far as the server knows it.
#[derive(Debug, Default)]
struct Sent {
    offered: bool,
    sid: Option<String>,
    muted: bool,
    /// What was said of the picture's size.
    size: (u32, u32),
}

/// What belongs to one peer connection.
#[derive(Debug, Default)]
struct Link {
    /// The first offer, until it is sent.
    first_offer: Option<String>,
    /// Whether the URL holds the tracks and the first offer.
    offer_in_url: bool,
    awaiting_answer: bool,
    /// Whether media has flowed, and does.
    was_up: bool,
    up: bool,
    video: Sent,
    audio: Sent,
    /// Somebody has subscribed to the picture.
    watched: bool,
    /// When to ask for key frames.
    burst: VecDeque<Instant>,
    /// When to tell the attributes once more.
    confirm: Option<Instant>,
    /// When the server was last told that the picture begins anew, and when it is to be told so again.
    begun: Option<Instant>,
    begin_at: Option<Instant>,
    /// The server closed the media connection; until when to wait for words.
    closed_by: Option<Instant>,
    /// What the server says of us next is newer than what we know: we were away.
    was_away: bool,
    /// The server took a track out of the room; and when to publish it anew, if we may.
    taken_out: bool,
    put_back: Option<Instant>,
}

#[derive(Debug)]
struct Ping {
    interval: Duration,
    timeout: Duration,
    next: Instant,
    heard: Instant,
    sent: Instant,
    rtt: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    base: Url,
    token: Secret,
    timeout: Duration,
    join_patience: Duration,
    dialect: Dialect,
    expected: Option<VideoFormat>,
    tracks: Tracks,
    attributes: BTreeMap<String, String>,
    attributes_sent: bool,
    phase: Phase,
    link: Link,
    participant: String,
    offer_id: u32,
    layers: Vec<bool>,
    ping: Ping,
    start: Instant,
    established: bool,
    reconnecting: bool,
    attempt: u32,
    /// Since when there is no way into the room.
    away_since: Option<Instant>,
    /// Whether the server lets us publish all tracks.
    may_publish: bool,
    /// How often it has taken a track out of the room.
    takings: u32,
    why: String,
    actions: VecDeque<Action>,
}

impl Room {
    /// Starts to join.
    pub(crate) fn new(base: Url, config: &crate::Config, tracks: Tracks, now: Instant) -> Self {
        let mut room = Self {
            base,
            token: config.token.clone(),
            timeout: config.connect_timeout,
            join_patience: config.join_patience,
            dialect: Dialect::V1,
            expected: config.expected.clone(),
            layers: all_wanted(&tracks),
            tracks,
            attributes: config.attributes.iter().cloned().collect(),
            attributes_sent: false,
            phase: Phase::Ended,
            link: Link::default(),
            participant: String::new(),
            offer_id: 0,
            ping: Ping::new(now),
            start: now,
            established: false,
            reconnecting: false,
            attempt: 0,
            away_since: None,
            may_publish: true,
            takings: 0,
            why: String::new(),
            actions: VecDeque::new(),
        };
        room.open(Purpose::Join, now);
        room
    }

    /// The next thing to do.
    pub(crate) fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether all is over (once the actions are done).
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Takes more tracks and attributes. A kind that is there already stays as it is, but for the sizes of its layers.
    pub(crate) fn want(&mut self, tracks: &Tracks, attributes: &BTreeMap<String, String>, now: Instant) {
        if self.tracks.video.is_none() && tracks.video.is_some() {
            self.tracks.video.clone_from(&tracks.video);
            self.layers = all_wanted(&self.tracks);
        } else if let (Some(ours), Some(theirs)) = (&mut self.tracks.video, &tracks.video)
            && ours.resize(&theirs.sizes().collect::<Vec<_>>())
        {
            self.tell_size();
        }
        if self.tracks.audio.is_none() {
            self.tracks.audio.clone_from(&tracks.audio);
        }
        for (key, value) in attributes {
            if self.attributes.get(key) != Some(value) {
                self.attributes.insert(key.clone(), value.clone());
                self.attributes_sent = false;
            }
        }
        self.catch_up(now);
    }

    /// Leaves.
    pub(crate) fn leave(&mut self, now: Instant) {
        match self.phase {
            Phase::Live { .. } => {
                self.send(message::leave());
                self.act(Action::ClosePeer);
                self.phase = Phase::Leaving { by: now + LEAVE };
            }
            Phase::Leaving { .. } | Phase::Ended => {}
            Phase::Opening { .. } | Phase::Waiting { .. } => self.close(),
        }
    }

    /// The peer connection is made, and this is its offer, if there is anything to offer.
    pub(crate) fn peer_made(&mut self, offer: Option<String>) {
        if let Phase::Opening { purpose: Purpose::Join | Purpose::Rejoin, .. } = self.phase {
            self.link.first_offer = offer;
            self.dial(None);
        }
    }

    /// No WebSocket, for this reason; or no peer connection.
    pub(crate) fn refused(&mut self, error: &Error, now: Instant) {
        let Phase::Opening { purpose, .. } = self.phase else { return };
        if purpose == Purpose::Join && self.dialect == Dialect::V1 && error.status() == Some(404) {
            tracing::debug!("the server does not know /rtc/v1, trying /rtc");
            self.dialect = Dialect::V0;
            self.dial(None);
            return;
        }
        if purpose == Purpose::Join {
            self.join_failed(error.fault(), now);
        } else {
            self.opening_failed(purpose, error.to_string(), error.fault().retry, now);
        }
    }

    /// The WebSocket is gone.
    pub(crate) fn signal_lost(&mut self, now: Instant) {
        match self.phase {
            Phase::Opening { purpose: Purpose::Join, .. } => {
                let text = format!("LiveKit at {} closed the connection before we had joined", join::name(&self.base));
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

    /// Lets time pass. To be called once [`Room::deadline`] is reached.
    pub(crate) fn tick(&mut self, now: Instant) {
        match self.phase {
            Phase::Opening { by, .. } if by <= now => {
                self.act(Action::HangUp);
                let error = Error::Timeout { at: join::name(&self.base), within: self.timeout };
                self.refused(&error, now);
            }
            Phase::Waiting { until, may_resume } if until <= now => {
                if may_resume && self.link.up {
                    self.resume(now);
                } else {
                    let joined = !self.participant.is_empty();
                    self.open(if joined { Purpose::Rejoin } else { Purpose::Join }, now);
                }
            }
            Phase::Leaving { by } if by <= now => self.close(),
            Phase::Live { .. } => self.tick_live(now),
            _ => {}
        }
    }

    /// When [`Room::tick`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Opening { by, .. } | Phase::Leaving { by } | Phase::Waiting { until: by, .. } => Some(by),
            Phase::Live { settle_by, .. } => {
                let ping = self.ping.next.min(self.ping.heard + self.ping.timeout);
                let burst = self.link.burst.front().copied();
                let Link { confirm, closed_by, put_back, begin_at, .. } = self.link;
                let others = [settle_by, burst, confirm, closed_by, put_back, begin_at];
                others.into_iter().flatten().chain([ping]).min()
            }
            Phase::Ended => None,
        }
    }

    fn open(&mut self, purpose: Purpose, now: Instant) {
        for (kind, sent) in [(Kind::Video, &self.link.video), (Kind::Audio, &self.link.audio)] {
            if sent.muted {
                self.actions.push_back(Action::Emit(Event::Muted { kind, muted: false }));
            }
        }
        self.link = Link::default();
        self.attributes_sent = false;
        self.want_all_layers();
        self.act(Action::HangUp);
        self.act(Action::ClosePeer);
        self.phase = Phase::Opening { purpose, by: now + self.timeout };
        let lines = self.lines();
        let (video, audio) = (self.tracks.video.as_ref(), self.tracks.audio.as_ref());
        let config = rtc::Config {
            video: video.and_then(VideoTrack::format).map_or_else(|| self.unknown(), |format| vec![format]),
            stereo: audio.is_none_or(|a| a.stereo),
            dtx: audio.is_some_and(|a| a.dtx),
        };
        self.act(Action::MakePeer { config, lines });
    }

    /// The formats to offer while there is no track: the one to come, or both that we encode; the server orders them by what
    /// the track is announced with.
    fn unknown(&self) -> Vec<VideoFormat> {
        let encoded = || vec![EncodedVideo::H264.into(), EncodedVideo::Vp8.into()];
        self.expected.clone().map_or_else(encoded, |format| vec![format])
    }

    /// Until the server says otherwise.
    fn want_all_layers(&mut self) {
        if self.layers.contains(&false) {
            self.layers = all_wanted(&self.tracks);
            self.act(Action::Emit(Event::LayersWanted(self.layers.clone())));
        }
    }

    /// The tracks that are wanted and not offered yet; marks them as offered.
    fn lines(&mut self) -> rtc::Lines {
        let Link { video, audio, .. } = &mut self.link;
        let fresh = self.tracks.video.as_ref().filter(|_| !std::mem::replace(&mut video.offered, true));
        if let Some(track) = fresh {
            video.size = track.size();
        }
        rtc::Lines {
            video: fresh
                .map(|t| rtc::VideoLine { track_id: t.cid.clone(), layers: t.layers.iter().map(layer_line).collect() }),
            audio: self
                .tracks
                .audio
                .as_ref()
                .filter(|_| !std::mem::replace(&mut audio.offered, true))
                .map(|t| rtc::AudioLine { track_id: t.cid.clone() }),
        }
    }

    fn dial(&mut self, resume: Option<String>) {
        let fresh = resume.is_none();
        let offer = self.link.first_offer.clone().filter(|_| fresh).map(|sdp| message::offer(sdp, self.offer_id + 1));
        let tracks = if offer.is_some() { self.track_requests(true, true) } else { Vec::new() };
        let (url, inside) = join::url(&self.base, self.dialect, &Opening { tracks, offer, resume });
        self.link.offer_in_url = inside;
        self.act(Action::Dial { url: Box::new(url), token: self.token.clone() });
    }

    fn track_requests(&self, video: bool, audio: bool) -> Vec<proto::AddTrackRequest> {
        let video = self.tracks.video.as_ref().filter(|_| video && self.link.video.offered).map(message::add_video);
        let audio = self.tracks.audio.as_ref().filter(|_| audio && self.link.audio.offered).map(message::add_audio);
        video.into_iter().chain(audio).collect()
    }

    /// The first join came to nothing. What may pass is tried again: a server that was killed may be handed the room by others for
    /// some seconds yet, and one that is started anew is not there at once.
    fn join_failed(&mut self, fault: Fault, now: Instant) {
        self.attempt += 1;
        let delay = self.delay();
        if fault.retry && now + delay < self.start + self.join_patience {
            tracing::warn!(reason = fault.text, "cannot join the room, trying again");
            self.act(Action::HangUp);
            self.phase = Phase::Waiting { until: now + delay, may_resume: false };
            return;
        }
        let tried = if self.attempt > 1 { format!(" (tried {} times)", self.attempt) } else { String::new() };
        self.end(Fault { text: format!("{}{tried}", fault.text), ..fault });
    }

    fn delay(&self) -> Duration {
        ATTEMPT_DELAY.saturating_mul(self.attempt.saturating_mul(self.attempt)).min(MOST_DELAY)
    }

    /// The connection doesn't do any more. Comes back by whichever way is left.
    fn lost(&mut self, why: String, may_resume: bool, now: Instant) {
        let Phase::Live { since, settle_by } = self.phase else { return };
        tracing::debug!(why, "lost the room");
        if !self.established {
            self.end(Fault::transient(
                Blame::Room,
                format!("cannot publish to LiveKit at {}: {why}", join::name(&self.base)),
            ));
            return;
        }
        self.start_reconnecting(why, now);
        let settled = settle_by.is_none();
        if settled && may_resume && !self.link.awaiting_answer && self.link.was_up {
            self.resume(now);
            return;
        }
        if !settled && since == Purpose::Rejoin {
            self.attempt += 1;
        }
        self.come_back(false, now);
    }

    fn resume(&mut self, now: Instant) {
        self.attributes_sent = false;
        self.link.confirm = None;
        self.phase = Phase::Opening { purpose: Purpose::Resume, by: now + self.timeout };
        self.dial(Some(self.participant.clone()));
    }

    fn start_reconnecting(&mut self, why: String, now: Instant) {
        self.why = why;
        self.away_since.get_or_insert(now);
        self.act(Action::HangUp);
        if !std::mem::replace(&mut self.reconnecting, true) {
            self.act(Action::Emit(Event::Reconnecting));
        }
    }

    /// An attempt to come back came to nothing; `passing` says that it may not the next time.
    fn opening_failed(&mut self, purpose: Purpose, why: String, passing: bool, now: Instant) {
        self.why = why;
        self.act(Action::HangUp);
        let may_resume = purpose == Purpose::Resume && passing && self.link.up;
        if may_resume || purpose == Purpose::Rejoin {
            self.attempt += 1;
        } else {
            // The server is there, or media is not: what counts begins now.
            self.start_over(now);
        }
        self.come_back(may_resume, now);
    }

    fn start_over(&mut self, now: Instant) {
        self.attempt = 0;
        self.away_since = Some(now);
    }

    fn come_back(&mut self, may_resume: bool, now: Instant) {
        // As long as media flows there is no reason to give up.
        if !may_resume && self.away_since.is_some_and(|since| now >= since + GIVE_UP) {
            let text = format!("room disconnected unexpectedly: {}", self.why);
            self.end(Fault::transient(Blame::Room, text));
        } else if self.attempt == 0 {
            self.open(Purpose::Rejoin, now);
        } else {
            self.phase = Phase::Waiting { until: now + self.delay(), may_resume };
        }
    }

    fn end(&mut self, fault: Fault) {
        self.close();
        self.act(Action::Emit(Event::Closed(fault)));
    }

    /// The quiet end.
    fn close(&mut self) {
        self.act(Action::HangUp);
        self.act(Action::ClosePeer);
        self.phase = Phase::Ended;
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn send(&mut self, message: Message) {
        self.act(Action::Send(Box::new(message)));
    }
}

impl Ping {
    fn new(now: Instant) -> Self {
        Self {
            interval: PING_INTERVAL,
            timeout: PING_TIMEOUT,
            next: now + PING_INTERVAL,
            heard: now,
            sent: now,
            rtt: Duration::ZERO,
        }
    }
}

fn layer_line(layer: &LayerFormat) -> rtc::LayerLine {
    rtc::LayerLine { rid: layer.layer.quality.rid(), format: layer.format.clone() }
}

fn all_wanted(tracks: &Tracks) -> Vec<bool> {
    tracks.video.as_ref().map_or(Vec::new(), |v| vec![true; v.layers.len()])
}

#[cfg(test)]
mod tests;
