//! How a pull is handed over to another instance, as a state machine: when the others are asked, and what has come of it. Pure.
//!
//! Both instances pull for a while. The other one joins the room once it has media; the room then throws out this participant, of the
//! same identity. Until then nothing is lost should the other one fail. What is stored tells how it goes: this session reports nothing
//! once another may have begun.

use model::ResourceId;
use session::{Report, Status};
use std::time::{Duration, Instant};

/// The wait after nobody has taken it, which doubles each time. An instance that starts in place of this one needs some seconds.
pub const FIRST_RETRY: Duration = Duration::from_secs(5);
/// The longest such wait: a drain lasts for hours.
pub const MAX_RETRY: Duration = Duration::from_secs(60);
/// How often to look at what is stored, while both pull.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long the other one may take to store that it has begun: it tries again for longer than a livekit-server takes to restart.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(super) struct HandOver {
    phase: Phase,
    /// The last wait for another attempt.
    waited: Option<Duration>,
    /// Whether another instance could go on where this one is.
    portable: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// It stays here: this instance does not drain, or the pull has failed elsewhere.
    #[default]
    Stays,
    /// Others are asked from then on.
    At(Instant),
    /// One of them has it, or may have it, since then.
    Given { since: Instant },
}

/// What is stored says this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
    /// The other session is the one that counts.
    Given,
    /// There is no other session: this one goes on, and others are asked again later.
    NotTaken,
    /// The other session has ended: this one goes on, and nobody is asked again.
    Failed,
}

impl HandOver {
    /// This instance drains.
    pub(super) fn begin(&mut self, at: Instant) {
        if self.phase == Phase::Stays {
            self.phase = Phase::At(at);
        }
    }

    /// Whether another instance could go on where this one is.
    pub(super) fn set_portable(&mut self, portable: bool) {
        self.portable = portable;
    }

    /// When the others are to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::At(at) => Some(at),
            _ => None,
        }
    }

    /// Whether the others are to be asked now. What could not go on elsewhere is looked at again later.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|at| now >= at);
        if due && !self.portable {
            self.postpone(now + FIRST_RETRY);
        }
        due && self.portable
    }

    /// Others are asked from then on.
    pub(super) fn postpone(&mut self, at: Instant) {
        self.phase = Phase::At(at);
    }

    /// Nobody has taken it.
    pub(super) fn refused(&mut self, now: Instant) {
        let wait = self.waited.map_or(FIRST_RETRY, |waited| (waited * 2).min(MAX_RETRY));
        self.waited = Some(wait);
        self.phase = Phase::At(now + wait);
    }

    /// Another instance has taken it, or may have.
    pub(super) fn given(&mut self, now: Instant) {
        self.phase = Phase::Given { since: now };
    }

    /// Whether another instance has it, or may have it.
    pub(super) fn is_given(&self) -> bool {
        matches!(self.phase, Phase::Given { .. })
    }

    /// Judges by what is stored; `own` is the session that was handed over, which began at `started_at`, and has `ended` or not. One
    /// whose source came to its own end does not count as ended: that may be all that there is.
    pub(super) fn judge(
        &mut self,
        (own, started_at, ended): (&ResourceId, i64, bool),
        stored: Option<&Report>,
        now: Instant,
    ) -> Verdict {
        let Phase::Given { since } = self.phase else { return Verdict::NotTaken };
        let other = stored.filter(|s| s.resource_id != *own && s.started_at >= started_at);
        let verdict = match other.map(|other| other.status) {
            None if now >= since + PATIENCE => Verdict::NotTaken,
            None => Verdict::Wait,
            Some(Status::Publishing) => Verdict::Given,
            Some(Status::Buffering) if ended => Verdict::Given,
            // Until it publishes or ends both pull: what it can't reach, or what serves one client only, stays here.
            Some(Status::Buffering) => Verdict::Wait,
            Some(_) => Verdict::Failed,
        };
        match verdict {
            Verdict::NotTaken => self.refused(now),
            Verdict::Failed => self.phase = Phase::Stays,
            Verdict::Wait | Verdict::Given => {}
        }
        verdict
    }
}
