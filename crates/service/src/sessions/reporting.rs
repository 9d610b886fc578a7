//! What a session tells the control plane and learns from it, as a state machine: reports, answers and the time go in; calls to make
//! come out. No IO, no clock of its own.
//!
//! It keeps one promise: what is stored of the ingress is true as long as this session is the one that counts. So it tries every report
//! until it is stored, looks from time to time at what is stored, and puts right what somebody has overwritten (a peer that took this
//! instance for dead, a Redis that has lost its newest writes). Which of two sessions counts, the control plane decides by
//! `started_at`; a session that is refused for that looks who is there: it begins anew behind one that is over, and gives way to one
//! that goes on running.
//!
//! While its instance drains, a pull is handed over to another one ([`hand_over`]).

pub mod hand_over;

use crate::control::{HandOverError, ReportError, StoredIngress};
use crate::recovery::Loss;
use hand_over::{HandOver, Verdict};
use model::{Fault, IngressSpec, ResourceId};
use session::lifecycle::Stop;
use session::{Report, Status};
use std::time::{Duration, Instant};

/// The wait before a report is tried again, which doubles each time. A livekit-server that restarts is back within seconds.
pub const FIRST_RETRY_BACKOFF: Duration = Duration::from_millis(500);
/// The longest such wait: a retry every ten seconds costs nothing.
pub const MAX_RETRY_BACKOFF: Duration = Duration::from_secs(10);
/// How long after the first look another is taken. livekit-server stores an update only after it has told the session that it finds
/// running, which takes it 15 s at most (three attempts): an update that began before this session did is stored by then.
pub const SECOND_LOOK: Duration = Duration::from_secs(20);
/// How often to look after that. An operator notices a wrong state within minutes; a look costs livekit-server three reads.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How often to look while another, younger session of the ingress runs elsewhere.
const RIVAL_INTERVAL: Duration = Duration::from_secs(2);
/// For how long that may go on. The room tolerates one of the two: it throws the other out within a second, and that one ends.
pub const RIVAL_PATIENCE: Duration = Duration::from_secs(10);

/// What to do. One call at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Store this report; the result goes to [`Reporting::answered`].
    Report(Report),
    /// Find what is stored; the result goes to [`Reporting::found`].
    Look,
    /// Stop the session for this.
    Stop(Stop),
    /// Ask the other instances to go on with the pull whose newest state this is; the result goes to [`Reporting::asked`].
    HandOver(Report),
}

/// Whether this session still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Counts,
    /// The ingress was deleted.
    Deleted,
    /// Another session of it runs.
    Superseded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    None,
    /// A report with this `updated_at`.
    Report(i64),
    Look,
    HandOver,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Reporting {
    resource_id: ResourceId,
    /// What the session began with.
    spec: IngressSpec,
    started_at: i64,
    /// The newest `updated_at` that was sent, or seen in the store.
    updated_at: i64,
    newest: Option<Report>,
    /// Whether the newest report is to be stored, as far as is known.
    undelivered: bool,
    /// Whether the newest report has failed to be stored at least once.
    failed: bool,
    /// When to try it again. `None`: at once.
    retry_at: Option<Instant>,
    backoff: Option<Duration>,
    /// Whether what is stored must be looked at before anything more is reported.
    blocked: bool,
    call: Call,
    look_at: Option<Instant>,
    /// Looks that have found the ingress.
    looks: u32,
    rival_since: Option<Instant>,
    /// Whether Redis may have lost what it knew: an ingress that is gone then was not deleted.
    forgotten: bool,
    standing: Standing,
    hand_over: HandOver,
    stops: Vec<Stop>,
    /// No more reports come.
    ended: bool,
}

impl Reporting {
    /// Of a session that began with `spec` at `started_at`, in Unix nanoseconds.
    pub fn new(resource_id: ResourceId, spec: IngressSpec, started_at: i64) -> Self {
        Self {
            resource_id,
            spec,
            started_at,
            updated_at: started_at,
            newest: None,
            undelivered: false,
            failed: false,
            retry_at: None,
            backoff: None,
            blocked: false,
            call: Call::None,
            look_at: None,
            looks: 0,
            rival_since: None,
            forgotten: false,
            standing: Standing::Counts,
            hand_over: HandOver::default(),
            stops: Vec::new(),
            ended: false,
        }
    }

    /// When the session began, as its reports say.
    pub fn started_at(&self) -> i64 {
        self.started_at
    }

    /// The newest report.
    pub fn newest(&self) -> Option<&Report> {
        self.newest.as_ref()
    }

    /// The last report, where it could not be stored so far, or is held back.
    pub fn undelivered_end(&self) -> Option<&Report> {
        let late = self.failed || self.hand_over.is_given() || self.is_asking();
        self.newest.as_ref().filter(|_| self.is_final() && self.undelivered && late && self.counts())
    }

    /// The last report, where it is stored.
    pub fn stored_end(&self) -> Option<&Report> {
        self.newest.as_ref().filter(|_| self.is_final() && !self.undelivered && self.counts())
    }

    /// Whether all is done: no more reports come, and the last is stored, or of no interest any more.
    pub fn is_over(&self) -> bool {
        self.ended && self.call == Call::None && (!self.counts() || !self.undelivered)
    }

    /// The session reports.
    pub fn report(&mut self, report: Report) {
        self.newest = Some(report);
        self.stamp();
        (self.retry_at, self.backoff, self.failed) = (None, None, false);
    }

    /// No more reports come. A session that ended without a last one is a fault of this server, and must not stand as PUBLISHING.
    pub fn ended(&mut self) {
        self.ended = true;
        if let Some(last) = self.newest.clone().filter(|_| self.counts() && !self.is_final()) {
            let error = "the session ended by a fault of this server; connect again, and please report this".to_owned();
            let at = last.updated_at + 1;
            self.report(Report { status: Status::Error, error, ended_at: at, updated_at: at, ..last });
        }
    }

    /// The control plane commands this.
    pub fn told(&mut self, stop: Stop) {
        if stop == Stop::Deleted {
            self.standing = Standing::Deleted;
        }
    }

    /// Another session of the ingress runs in this process: its states count now.
    pub fn replaced(&mut self) {
        self.standing = Standing::Superseded;
    }

    /// The record of this instance was not there: what is stored may not be what was reported.
    pub fn lost(&mut self, loss: Loss, now: Instant) {
        self.forgotten |= loss == Loss::Forgotten;
        self.look_at = Some(now);
    }

    /// Whether the state that is stored is that of another session which runs, and counts more than this one.
    pub fn gives_way_to(&self, stored: Option<&Report>) -> bool {
        stored.is_some_and(|s| {
            s.resource_id != self.resource_id && !s.status.is_final() && s.started_at >= self.started_at
        })
    }

    /// This instance drains: from `at` on others are asked to go on with what can be pulled elsewhere.
    pub fn drains(&mut self, at: Instant) {
        if !self.spec.input.reusable() {
            self.hand_over.begin(at);
        }
    }

    /// Whether another instance that begins to pull the source would go on where this one is.
    pub fn set_portable(&mut self, portable: bool) {
        self.hand_over.set_portable(portable);
    }

    /// Whether other instances are being asked: the one call that others need not wait for.
    pub fn is_asking(&self) -> bool {
        self.call == Call::HandOver
    }

    /// [`Action::HandOver`] was not carried out: it has to wait until then.
    pub fn ask_later(&mut self, at: Instant) {
        self.call = Call::None;
        self.hand_over.postpone(at);
    }

    /// How [`Action::HandOver`] was answered.
    pub fn asked(&mut self, answer: &Result<Report, HandOverError>, now: Instant) {
        if self.call != Call::HandOver {
            return;
        }
        self.call = Call::None;
        match answer {
            Ok(_) | Err(HandOverError::Unclear(_)) => {
                self.hand_over.given(now);
                self.look_at = Some(now + hand_over::LOOK_INTERVAL);
            }
            Err(HandOverError::NotTaken(_)) => self.hand_over.refused(now),
            Err(HandOverError::Deleted) => {
                self.hand_over.refused(now);
                self.gone(now);
            }
        }
    }

    /// What to do next.
    pub fn action(&mut self, now: Instant) -> Option<Action> {
        if let Some(stop) = self.stops.pop() {
            return Some(Action::Stop(stop));
        }
        if self.call != Call::None || !self.counts() {
            return None;
        }
        if self.may_report() && self.retry_at.is_none_or(|at| now >= at) {
            let report = self.newest.clone()?;
            self.call = Call::Report(report.updated_at);
            return Some(Action::Report(report));
        }
        // One that was thrown out of the room meanwhile knows at once who is there now.
        let early = self.is_final() && self.hand_over.is_given() && !std::mem::replace(&mut self.blocked, true);
        if self.may_look() && (early || self.look_at.is_some_and(|at| now >= at)) {
            (self.call, self.look_at) = (Call::Look, None);
            return Some(Action::Look);
        }
        if self.may_hand_over() && self.hand_over.is_due(now) {
            self.call = Call::HandOver;
            return self.newest.clone().map(Action::HandOver);
        }
        None
    }

    /// When to ask for an action again, if nothing happens until then.
    pub fn deadline(&self) -> Option<Instant> {
        if self.call != Call::None || !self.counts() {
            return None;
        }
        let retry = self.retry_at.filter(|_| self.may_report());
        let look = self.look_at.filter(|_| self.may_look());
        let ask = self.hand_over.due().filter(|_| self.may_hand_over());
        [retry, look, ask].into_iter().flatten().min()
    }

    /// How [`Action::Report`] was answered.
    pub fn answered(&mut self, answer: &Result<(), ReportError>, now: Instant) {
        let Call::Report(updated_at) = std::mem::replace(&mut self.call, Call::None) else { return };
        let newest = self.newest.as_ref().is_some_and(|newest| newest.updated_at == updated_at);
        match answer {
            Ok(()) => {
                if newest {
                    (self.undelivered, self.failed) = (false, false);
                    (self.retry_at, self.backoff, self.rival_since) = (None, None, None);
                }
                if self.looks == 0 {
                    self.look_at.get_or_insert(now);
                }
            }
            Err(ReportError::Deleted) => self.gone(now),
            Err(ReportError::Older) => {
                (self.blocked, self.look_at) = (true, Some(now));
                self.failed |= newest;
            }
            Err(ReportError::Unreachable(fault)) if newest => {
                self.failed = true;
                self.retry_later(fault.retry, now);
            }
            Err(ReportError::Unreachable(_)) => {}
        }
    }

    /// What [`Action::Look`] found.
    pub fn found(&mut self, found: Result<Option<StoredIngress>, Fault>, now: Instant) {
        if self.call != Call::Look {
            return;
        }
        self.call = Call::None;
        match found {
            Err(fault) => self.look_at = Some(now + self.backed_off(fault.retry)),
            Ok(None) => {
                self.blocked = false;
                self.gone(now);
            }
            Ok(Some(stored)) if self.hand_over.is_given() => self.judge_hand_over(stored.state, now),
            Ok(Some(stored)) => {
                (self.blocked, self.forgotten, self.backoff) = (false, false, None);
                self.looks += 1;
                let wait = if self.looks == 1 { SECOND_LOOK } else { LOOK_INTERVAL };
                self.look_at = Some(now + wait);
                // What is pulled once can't be changed.
                if self.spec.input.reusable() && !self.is_final() && stored.spec.as_ref() != Ok(&self.spec) {
                    self.stops.push(Stop::Updated);
                }
                self.compare(stored.state, now);
            }
        }
    }

    /// Compares what is stored with what should be.
    fn compare(&mut self, stored: Option<Report>, now: Instant) {
        let Some((stored, newest)) = stored.zip(self.newest.as_ref()) else {
            // A state that has not reached the store is tried all the same; one that has left it is put back.
            self.undelivered |= self.newest.is_some();
            return;
        };
        if stored.resource_id == self.resource_id {
            let times = (stored.started_at, stored.updated_at);
            let same = times == (self.started_at, newest.updated_at) && stored.status == newest.status;
            // A report that looks older than what is stored would be dropped without a word.
            let hidden = stored.started_at > self.started_at || stored.updated_at >= newest.updated_at;
            if !same && (hidden || !self.undelivered) {
                self.take_back(&stored, stored.started_at);
            }
        } else if stored.started_at < self.started_at {
            if !self.undelivered {
                self.take_back(&stored, self.started_at);
            }
        } else if stored.status.is_final() {
            self.take_back(&stored, stored.started_at.saturating_add(1));
        } else {
            self.meet_rival(now);
        }
    }

    /// Looks what has come of the pull elsewhere.
    fn judge_hand_over(&mut self, stored: Option<Report>, now: Instant) {
        self.backoff = None;
        let came_to_its_end = self.newest.as_ref().is_some_and(|newest| newest.status == Status::Complete);
        let ended = self.is_final() && !came_to_its_end;
        match self.hand_over.judge((&self.resource_id, self.started_at, ended), stored.as_ref(), now) {
            Verdict::Wait => self.look_at = Some(now + hand_over::LOOK_INTERVAL),
            Verdict::Given => {
                self.standing = Standing::Superseded;
                self.stops.extend((!self.is_final()).then_some(Stop::Superseded));
            }
            // The other one has thrown this one out of the room, and has ended then: its end is the last.
            Verdict::Failed if ended => self.standing = Standing::Superseded,
            Verdict::Failed | Verdict::NotTaken => {
                (self.blocked, self.look_at) = (false, Some(now + LOOK_INTERVAL));
                self.compare(stored, now);
            }
        }
    }

    /// Reports the newest state again, so that it counts more than what is stored.
    fn take_back(&mut self, stored: &Report, started_at: i64) {
        self.started_at = self.started_at.max(started_at);
        self.updated_at = self.updated_at.max(stored.updated_at);
        self.stamp();
        (self.retry_at, self.rival_since) = (None, None);
    }

    /// Another session runs, and counts more. If the room has chosen this one, it ends by itself.
    fn meet_rival(&mut self, now: Instant) {
        let since = *self.rival_since.get_or_insert(now);
        if self.is_final() {
            self.standing = Standing::Superseded;
        } else if now >= since + RIVAL_PATIENCE {
            self.standing = Standing::Superseded;
            self.stops.push(Stop::Superseded);
        } else {
            (self.blocked, self.look_at) = (true, Some(now + RIVAL_INTERVAL));
        }
    }

    /// The ingress does not exist.
    fn gone(&mut self, now: Instant) {
        if self.forgotten {
            // Redis has lost it. Who watches is not to suffer: the session goes on, and there is nothing to report to.
            self.undelivered = false;
            self.look_at = Some(now + LOOK_INTERVAL);
        } else {
            self.standing = Standing::Deleted;
            self.stops.push(Stop::Deleted);
        }
    }

    /// Gives the newest report its times: those of one session never fall, and the control plane drops what looks older.
    fn stamp(&mut self) {
        let Some(newest) = &mut self.newest else { return };
        newest.started_at = self.started_at;
        newest.updated_at = newest.updated_at.max(self.updated_at.saturating_add(1)).max(self.started_at);
        if newest.status.is_final() {
            newest.ended_at = newest.ended_at.max(self.started_at);
        }
        self.updated_at = newest.updated_at;
        self.undelivered = true;
    }

    fn retry_later(&mut self, may_help: bool, now: Instant) {
        // What stays in the store is tried for as long as this process lives; anything else is put right by the next look.
        let tried_again = may_help || self.is_final();
        self.undelivered = tried_again;
        self.retry_at = tried_again.then(|| now + self.backed_off(may_help));
        self.look_at.get_or_insert(now + LOOK_INTERVAL);
    }

    fn backed_off(&mut self, may_help: bool) -> Duration {
        let first = if may_help { FIRST_RETRY_BACKOFF } else { MAX_RETRY_BACKOFF };
        let wait = self.backoff.map_or(first, |waited| (waited * 2).min(MAX_RETRY_BACKOFF));
        self.backoff = Some(wait);
        wait
    }

    fn counts(&self) -> bool {
        self.standing == Standing::Counts
    }

    fn is_final(&self) -> bool {
        self.newest.as_ref().is_some_and(|newest| newest.status.is_final())
    }

    fn may_report(&self) -> bool {
        self.undelivered && !self.blocked && !self.hand_over.is_given()
    }

    /// Only what is stored as it is now, so that the session to come begins later than it.
    fn may_hand_over(&self) -> bool {
        let publishes = self.newest.as_ref().is_some_and(|newest| newest.status == Status::Publishing);
        publishes && !self.undelivered && !self.blocked
    }

    /// Once the session has ended, what is stored is of interest only where it stands in the way of the last report.
    fn may_look(&self) -> bool {
        !self.is_final() || self.blocked
    }
}

#[cfg(test)]
mod tests;
