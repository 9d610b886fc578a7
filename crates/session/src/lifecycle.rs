//! The life of a session as one total function: inputs and the time go in, actions come out. It does no IO and holds no media;
//! the pipeline carries its actions out.
//!
//! | phase | entered with | leaves when |
//! |---|---|---|
//! | Buffering | report BUFFERING | first media is sent to the room → Publishing; deadline, fault, end → Draining |
//! | Publishing | report PUBLISHING, once | source ended, stop, room closed, no media → Draining |
//! | Draining | the first cause; the transcoder hands over what is inside it, the participant leaves | done or deadline → Ended |
//! | Ended | the last report (none after a deletion), release | never |
//!
//! Admission comes before: a publisher that is refused never becomes a session and stores nothing.

use crate::Status;
use crate::source::{START_DEADLINE, SourceEnd};
use crate::workers::restart_policy::{Crashes, MAX_CRASHES, Starts, not_started};
use model::{Blame, Fault, Kind, SourceTracks};
use std::time::{Duration, Instant};

/// How long an admitted publisher may take to send anything at all: each publisher gets an answer within ten seconds.
pub const MEDIA_DEADLINE: Duration = Duration::from_secs(10);
/// How long a source may send no media once the session publishes, unless configured otherwise. The Go ingress ends it after 60 to
/// 120 s.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long after the first frame to wait for the other kind of media, where the source does not announce its tracks.
/// Encoders that send both interleave them within a few frames; at a frame every 200 ms this is still five.
pub const OTHER_TRACK_WAIT: Duration = Duration::from_secs(1);
/// The same for a track that the source announced but does not send. PUBLISHING is due 2 s after the push began.
pub const ANNOUNCED_TRACK_WAIT: Duration = Duration::from_millis(1_500);
/// How long after the first media to wait for the other kind, where what came can't be decoded: as long as a decoder takes that
/// is still to fail, and short of the ten seconds in which every publisher gets an answer.
pub const UNUSABLE_WAIT: Duration = Duration::from_secs(3);
/// How long the transcoder may take to hand over what is inside it. It holds a few frames; this is for a machine that stalls.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
/// How long the participant may take to leave after that.
pub const LEAVE_DEADLINE: Duration = Duration::from_millis(1_500);

/// Why somebody stops a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The ingress's settings changed; the next session uses them.
    Updated,
    /// The ingress was deleted. Nothing is reported after this: a late report can crash livekit-server.
    Deleted,
    /// The service shuts down.
    Shutdown,
    /// Another machine has a session of the ingress, which began later.
    Superseded,
}

/// What happened to the session.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The source announces its tracks.
    Announced(SourceTracks),
    /// The source sent a frame.
    SourceFrame(Kind),
    /// The source sent a new codec configuration of this kind.
    Configured(Kind),
    /// The format of this kind is known: its track can be published.
    Decodable(Kind),
    /// This kind can't be decoded.
    Unusable(Kind, Fault),
    /// Media was handed to a connected participant.
    MediaOut,
    /// The source has ended.
    SourceEnded(SourceEnd),
    /// The transcoder exited without a reason. The text says how.
    TranscoderCrashed(String),
    /// No transcoder could be started, or it exited before it was ready. The text says how.
    TranscoderNotStarted(String),
    /// The transcoder gave up.
    TranscoderFailed(Fault),
    /// The transcoder has handed over everything.
    TranscoderFinished,
    /// The participant is out of the room for good.
    RoomClosed(Fault),
    /// The participant has left the room.
    RoomLeft,
    /// Somebody stops the session.
    Stop(Stop),
    /// Time passed; see [`Lifecycle::deadline`].
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Report this status, with a text where it is an error.
    Report(Status, String),
    /// Publish these tracks: join with them, or add them if joined already.
    Publish(SourceTracks),
    /// Replace the transcoder that crashed.
    RestartTranscoder,
    /// Try again to start a transcoder, after an attempt that failed.
    StartTranscoder,
    /// Let the transcoder hand over what is inside it.
    FinishTranscoder,
    /// Let go of the source, with a reason for the publisher unless it ended by itself.
    StopSource(Option<Fault>),
    /// End the transcoder.
    KillTranscoder,
    /// Leave the room.
    LeaveRoom,
    /// Let go of everything: the session is over.
    Release,
}

#[derive(Clone, Debug, PartialEq)]
enum Cause {
    /// The source ended in order.
    Finished,
    Stopped(Stop),
    Failed(Fault),
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Buffering,
    Publishing,
    Draining { cause: Cause, leaving: bool, deadline: Instant },
    Ended,
}

/// What is known of one kind of media.
#[derive(Clone, Debug, Default)]
struct Track {
    announced: Option<bool>,
    seen: bool,
    decodable: bool,
    published: bool,
    unusable: Option<Fault>,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: Phase,
    reusable: bool,
    start_deadline: Duration,
    stall_timeout: Duration,
    began: Instant,
    audio: Track,
    video: Track,
    first_media: Option<Instant>,
    last_frame: Instant,
    crashes: Crashes,
    starts: Starts,
    /// When to try again to start a transcoder.
    retry_start: Option<Instant>,
}

impl Lifecycle {
    /// A session that was admitted at `now`, and the first things to do. `reusable`: it ends INACTIVE rather than COMPLETE.
    pub fn new(reusable: bool, now: Instant) -> (Self, Vec<Action>) {
        let session = Self {
            phase: Phase::Buffering,
            reusable,
            start_deadline: START_DEADLINE,
            stall_timeout: STALL_TIMEOUT,
            began: now,
            audio: Track::default(),
            video: Track::default(),
            first_media: None,
            last_frame: now,
            crashes: Crashes::default(),
            starts: Starts::default(),
            retry_start: None,
        };
        (session, vec![Action::Report(Status::Buffering, String::new())])
    }

    /// The same with another start deadline than `START_DEADLINE`: a pulled source may wait for its server, and knows for how
    /// long.
    #[must_use]
    pub fn with_start_deadline(self, start_deadline: Duration) -> Self {
        Self { start_deadline, ..self }
    }

    /// The same with another time than [`STALL_TIMEOUT`] for which the source may send no media.
    #[must_use]
    pub fn with_stall_timeout(self, stall_timeout: Duration) -> Self {
        Self { stall_timeout, ..self }
    }

    fn stall_timeout(&self) -> Duration {
        // What pulls may have to wait for its server again.
        if self.reusable { self.stall_timeout } else { self.start_deadline.max(self.stall_timeout) }
    }

    /// Whether everything is over.
    pub fn ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether media is still wanted from the source.
    pub fn running(&self) -> bool {
        matches!(self.phase, Phase::Buffering | Phase::Publishing)
    }

    /// The status that was reported last, or is to be reported.
    pub fn status(&self) -> Status {
        match &self.phase {
            Phase::Buffering => Status::Buffering,
            Phase::Publishing => Status::Publishing,
            Phase::Draining { cause, .. } => self.last_status(cause),
            Phase::Ended => Status::Inactive,
        }
    }

    /// When to call [`Self::step`] with [`Input::Tick`] at the latest; `None` once it is over.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Buffering | Phase::Publishing => {
                let last = match self.phase {
                    Phase::Buffering => self.began + self.start_within(),
                    _ => self.last_frame + self.stall_timeout(),
                };
                let unusable = self.nothing_usable().map(|(_, at)| at);
                [self.tracks_deadline(), unusable, self.retry_start].into_iter().flatten().chain([last]).min()
            }
            Phase::Draining { deadline, .. } => Some(*deadline),
            Phase::Ended => None,
        }
    }

    /// Takes in what happened. Gives what to do about it, in order.
    pub fn step(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.phase {
            Phase::Buffering | Phase::Publishing => self.step_running(input, now, &mut actions),
            Phase::Draining { .. } => self.step_draining(&input, now, &mut actions),
            Phase::Ended => {}
        }
        actions
    }

    fn step_running(&mut self, input: Input, now: Instant, actions: &mut Vec<Action>) {
        match input {
            Input::Announced(tracks) => {
                self.audio.announced = Some(tracks.audio);
                self.video.announced = Some(tracks.video);
                self.publish(now, actions);
            }
            Input::SourceFrame(kind) => {
                self.last_frame = now;
                self.first_media.get_or_insert(now);
                self.track(kind).seen = true;
            }
            Input::Decodable(kind) => {
                let track = self.track(kind);
                track.decodable = true;
                track.unusable = None;
                self.publish(now, actions);
            }
            Input::Unusable(kind, fault) => {
                self.first_media.get_or_insert(now);
                self.track(kind).unusable = Some(fault);
                self.publish(now, actions);
                self.give_up_unusable(now, actions);
            }
            Input::Configured(kind) => self.track(kind).unusable = None,
            Input::MediaOut => {
                if self.phase == Phase::Buffering {
                    self.phase = Phase::Publishing;
                    actions.push(Action::Report(Status::Publishing, String::new()));
                }
            }
            Input::SourceEnded(SourceEnd::Finished) => {
                let cause = self.nothing_decoded().map_or(Cause::Finished, Cause::Failed);
                self.drain(cause, now, actions);
            }
            Input::SourceEnded(SourceEnd::Lost(fault)) | Input::RoomClosed(fault) => {
                self.drain(Cause::Failed(fault), now, actions);
            }
            Input::TranscoderCrashed(how) => self.crashed(&how, now, actions),
            Input::TranscoderNotStarted(how) => self.not_started(&how, now, actions),
            Input::TranscoderFailed(fault) => self.drain(Cause::Failed(fault), now, actions),
            Input::TranscoderFinished => self.crashed("it stopped by itself", now, actions),
            Input::RoomLeft => {}
            Input::Stop(stop) => self.drain(Cause::Stopped(stop), now, actions),
            Input::Tick => self.tick(now, actions),
        }
    }

    fn track(&mut self, kind: Kind) -> &mut Track {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.retry_start.take_if(|at| now >= *at).is_some() {
            actions.push(Action::StartTranscoder);
        }
        self.publish(now, actions);
        if self.give_up_unusable(now, actions) {
            return;
        }
        if self.phase == Phase::Buffering && now >= self.began + self.start_within() {
            let fault = Fault::new(Blame::Source, self.why_not_started());
            self.drain(Cause::Failed(fault), now, actions);
        } else if self.phase == Phase::Publishing && now >= self.last_frame + self.stall_timeout() {
            // Opens with the Go ingress's text: users filter for it.
            let text = format!(
                "source encoder not ready: no media has come for {} s; check the encoder and its network",
                self.stall_timeout().as_secs()
            );
            self.drain(Cause::Failed(Fault::transient(Blame::Source, text)), now, actions);
        }
    }

    fn why_not_started(&self) -> String {
        let what = match (&self.first_media, self.audio.published || self.video.published) {
            (None, _) if !self.reusable => "nothing came from the URL",
            (None, _) => "the encoder connected but sent no media; start its stream again",
            (Some(_), false) => {
                "media came but nothing in it could be decoded; send H.264 video with AAC or Opus audio"
            }
            (Some(_), true) => "the room took no media; is its UDP or TCP media port reachable from here?",
        };
        format!("source encoder not ready: after {} s {what}", self.start_within().as_secs())
    }

    /// How long the start may take, by what is known so far. A pulled source may keep its puller waiting.
    fn start_within(&self) -> Duration {
        let nothing_came = self.reusable && self.first_media.is_none();
        if nothing_came { self.start_deadline.min(MEDIA_DEADLINE) } else { self.start_deadline }
    }

    /// When the tracks known by then are published without those still missing; `None` if nothing is waited for.
    fn tracks_deadline(&self) -> Option<Instant> {
        let first = self.first_media?;
        if !self.pending_track(&self.audio) && !self.pending_track(&self.video) {
            return None;
        }
        let waits = |t: &Track| t.announced == Some(true) || t.seen;
        let wait = if (waits(&self.audio) && !self.audio.decodable) || (waits(&self.video) && !self.video.decodable) {
            ANNOUNCED_TRACK_WAIT
        } else {
            OTHER_TRACK_WAIT
        };
        Some(first + wait)
    }

    fn pending_track(&self, track: &Track) -> bool {
        track.decodable && !track.published
    }

    /// Publishes what can be, once nothing more is worth waiting for.
    fn publish(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let ready = SourceTracks { audio: self.pending_track(&self.audio), video: self.pending_track(&self.video) };
        if !ready.audio && !ready.video {
            return;
        }
        let joined = self.audio.published || self.video.published;
        let settled =
            |t: &Track| t.decodable || t.published || t.unusable.is_some() || (t.announced == Some(false) && !t.seen);
        let waited = self.tracks_deadline().is_none_or(|d| now >= d);
        if joined || waited || (settled(&self.audio) && settled(&self.video)) {
            self.audio.published |= ready.audio;
            self.video.published |= ready.video;
            actions.push(Action::Publish(ready));
        }
    }

    /// The fault, if a source that can't come again has ended and nothing of it could be decoded.
    fn nothing_decoded(&self) -> Option<Fault> {
        if self.reusable || self.audio.decodable || self.video.decodable {
            return None;
        }
        let nothing = || Fault::new(Blame::Source, "nothing in it could be decoded");
        let fault = self.unusable().unwrap_or_else(nothing);
        Some(Fault { text: format!("the source has ended, and {fault}"), ..fault })
    }

    /// The faults of the tracks that are unusable, as one. It is ours if any is.
    fn unusable(&self) -> Option<Fault> {
        let faults = [&self.video, &self.audio].into_iter().filter_map(|t| t.unusable.clone());
        faults.reduce(|one, other| {
            let text = format!("{one}; {other}");
            let whose = if other.blame == Blame::Us { other } else { one };
            Fault { text, ..whose }
        })
    }

    /// The fault and the time to end with it, if everything that the source has sent is unusable.
    fn nothing_usable(&self) -> Option<(Fault, Instant)> {
        let tracks = [&self.video, &self.audio];
        let fault = self.unusable()?;
        let first = self.first_media?;
        if tracks.iter().any(|t| t.unusable.is_none() && t.seen) {
            return None;
        }
        let sure = tracks.iter().all(|t| t.unusable.is_some() || t.announced == Some(false));
        Some((fault, if sure { first } else { first + UNUSABLE_WAIT }))
    }

    /// Ends a session that has nothing to publish and will not get anything. Whether it did.
    fn give_up_unusable(&mut self, now: Instant, actions: &mut Vec<Action>) -> bool {
        let Some((fault, _)) = self.nothing_usable().filter(|(_, at)| now >= *at) else { return false };
        self.drain(Cause::Failed(fault), now, actions);
        true
    }

    fn not_started(&mut self, how: &str, now: Instant, actions: &mut Vec<Action>) {
        match self.starts.failed() {
            Some(wait) => self.retry_start = Some(now + wait),
            None => self.drain(Cause::Failed(not_started("a transcoder", how)), now, actions),
        }
    }

    fn crashed(&mut self, how: &str, now: Instant, actions: &mut Vec<Action>) {
        self.starts.succeeded();
        if !self.crashes.too_many(now) {
            actions.push(Action::RestartTranscoder);
            return;
        }
        let text = format!(
            "the transcoder crashed {MAX_CRASHES} times within a minute on this stream ({how}); try other encoder settings, and please report this"
        );
        self.drain(Cause::Failed(Fault::new(Blame::Us, text)), now, actions);
    }

    fn drain(&mut self, cause: Cause, now: Instant, actions: &mut Vec<Action>) {
        let reason = match &cause {
            Cause::Finished => None,
            Cause::Stopped(Stop::Updated) => {
                Some(Fault::transient(Blame::Spec, "the ingress was changed; connect again to use its new settings"))
            }
            Cause::Stopped(Stop::Deleted) => Some(Fault::new(Blame::Access, "the ingress was deleted")),
            Cause::Stopped(Stop::Superseded) => {
                Some(Fault::new(Blame::Access, "another encoder has connected with the same stream key"))
            }
            Cause::Stopped(Stop::Shutdown) => Some(Fault::transient(Blame::Draining, "the server is shutting down")),
            Cause::Failed(fault) => Some(fault.clone()),
        };
        actions.push(Action::StopSource(reason));
        // What is inside the transcoder is worth sending only if the source came to its own end.
        if cause == Cause::Finished {
            actions.push(Action::FinishTranscoder);
            self.phase = Phase::Draining { cause, leaving: false, deadline: now + DRAIN_DEADLINE };
        } else {
            self.phase = Phase::Draining { cause, leaving: true, deadline: now + LEAVE_DEADLINE };
            actions.extend([Action::KillTranscoder, Action::LeaveRoom]);
        }
    }

    fn step_draining(&mut self, input: &Input, now: Instant, actions: &mut Vec<Action>) {
        let Phase::Draining { cause, leaving, deadline } = &mut self.phase else { return };
        // A deletion overrides whatever else was going on: it forbids the last report.
        if *input == Input::Stop(Stop::Deleted) {
            *cause = Cause::Stopped(Stop::Deleted);
        }
        let overdue = now >= *deadline;
        let emptied = matches!(
            input,
            Input::TranscoderFinished
                | Input::TranscoderCrashed(_)
                | Input::TranscoderNotStarted(_)
                | Input::TranscoderFailed(_)
                | Input::RoomClosed(_)
        );
        let left = matches!(input, Input::RoomLeft | Input::RoomClosed(_));
        if *leaving && (left || overdue) {
            self.end(actions);
        } else if !*leaving && (emptied || overdue || matches!(input, Input::Stop(_))) {
            *leaving = true;
            *deadline = now + LEAVE_DEADLINE;
            actions.extend([Action::KillTranscoder, Action::LeaveRoom]);
        }
    }

    fn end(&mut self, actions: &mut Vec<Action>) {
        let Phase::Draining { cause, .. } = std::mem::replace(&mut self.phase, Phase::Ended) else { return };
        let error = match &cause {
            Cause::Failed(fault) => fault.text.clone(),
            _ => String::new(),
        };
        if cause != Cause::Stopped(Stop::Deleted) {
            actions.push(Action::Report(self.last_status(&cause), error));
        }
        actions.push(Action::Release);
    }

    fn last_status(&self, cause: &Cause) -> Status {
        match cause {
            Cause::Failed(_) => Status::Error,
            Cause::Finished if !self.reusable => Status::Complete,
            Cause::Finished | Cause::Stopped(_) => Status::Inactive,
        }
    }
}

#[cfg(test)]
mod tests;
