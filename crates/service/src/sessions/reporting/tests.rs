//! Lives of reports, in virtual time. Many sessions, instances and a store at once are in `fuzz/`.

use super::*;
use crate::control::embedded::ingress;
use model::{Blame, InputKind};
use std::time::UNIX_EPOCH;

const SECOND: Duration = Duration::from_secs(1);
const BEGAN: i64 = 1_000;

struct Life {
    reporting: Reporting,
    now: Instant,
}

fn id(name: &str) -> ResourceId {
    ResourceId(name.into())
}

fn spec() -> IngressSpec {
    ingress(InputKind::Rtmp, "k").spec
}

fn report(status: Status, at: i64) -> Report {
    Report { updated_at: at, ..Report::first(id("RT_a"), status, String::new(), UNIX_EPOCH) }
}

fn other(status: Status, started_at: i64) -> Report {
    let other = Report::first(id("RT_other"), status, String::new(), UNIX_EPOCH);
    Report { started_at, updated_at: started_at, ..other }
}

fn stored(state: Option<Report>) -> Result<Option<StoredIngress>, Fault> {
    Ok(Some(StoredIngress { spec: Ok(spec()), state }))
}

fn away() -> Result<(), ReportError> {
    Err(ReportError::Unreachable(Fault::transient(Blame::Control, "away")))
}

impl Life {
    fn new() -> Self {
        Self { reporting: Reporting::new(id("RT_a"), spec(), BEGAN), now: Instant::now() }
    }

    /// Publishing, and all of it stored and looked at.
    fn publishing() -> (Self, Report) {
        let mut life = Self::new();
        life.reporting.report(report(Status::Publishing, BEGAN + 5));
        let sent = life.sends();
        life.answer(Ok(()));
        assert_eq!(life.action(), Some(Action::Look));
        life.find(stored(Some(sent.clone())));
        assert_eq!(life.action(), None);
        (life, sent)
    }

    fn action(&mut self) -> Option<Action> {
        self.reporting.action(self.now)
    }

    fn sends(&mut self) -> Report {
        match self.action() {
            Some(Action::Report(report)) => report,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, answer: Result<(), ReportError>) {
        self.reporting.answered(&answer, self.now);
    }

    fn find(&mut self, found: Result<Option<StoredIngress>, Fault>) {
        self.reporting.found(found, self.now);
    }

    /// Lets time pass until it wants something.
    fn due(&mut self) -> Option<Action> {
        self.now = self.now.max(self.reporting.deadline().expect("it waits for something"));
        self.action()
    }
}

#[test]
fn what_is_stored_is_looked_at_early_and_then_seldom() {
    let mut life = Life::new();
    let begin = life.now;
    life.reporting.report(report(Status::Buffering, BEGAN));
    let sent = life.sends();
    assert_eq!(life.action(), None, "one call at a time");
    life.answer(Ok(()));
    let mut looks = Vec::new();
    for _ in 0..4 {
        assert_eq!(life.due_or_now(), Some(Action::Look));
        looks.push((life.now - begin).as_secs());
        life.find(stored(Some(sent.clone())));
        assert_eq!(life.action(), None);
    }
    assert_eq!(looks, [0, 20, 80, 140]);
}

impl Life {
    fn due_or_now(&mut self) -> Option<Action> {
        self.action().or_else(|| self.due())
    }
}

#[test]
fn an_update_or_a_deletion_while_it_started_ends_the_session() {
    let changed = IngressSpec { name: "another".into(), ..spec() };
    let disabled = Err(Fault::new(Blame::Access, "session is disabled"));
    let with = |spec| Ok(Some(StoredIngress { spec, state: Some(report(Status::Buffering, BEGAN + 1)) }));
    for (found, stop) in
        [(with(Ok(changed)), Stop::Updated), (with(disabled), Stop::Updated), (Ok(None), Stop::Deleted)]
    {
        let mut life = Life::new();
        life.reporting.report(report(Status::Buffering, BEGAN));
        life.sends();
        life.answer(Ok(()));
        assert_eq!(life.action(), Some(Action::Look));
        life.find(found);
        assert_eq!(life.action(), Some(Action::Stop(stop)));
        life.reporting.report(report(Status::Inactive, BEGAN + 9));
        life.reporting.ended();
        assert_eq!(matches!(life.action(), Some(Action::Report(_))), stop == Stop::Updated);
        life.answer(Ok(()));
        assert!(life.reporting.is_over());
    }
}

#[test]
fn what_is_pulled_once_is_not_compared() {
    let spec = ingress(InputKind::Url, "u").spec;
    let mut reporting = Reporting::new(id("UR_a"), spec.clone(), BEGAN);
    let now = Instant::now();
    reporting.report(report(Status::Buffering, BEGAN));
    reporting.action(now);
    reporting.answered(&Ok(()), now);
    assert_eq!(reporting.action(now), Some(Action::Look));
    let other = IngressSpec { name: "as livekit-server filled it in".into(), ..spec };
    reporting.found(Ok(Some(StoredIngress { spec: Ok(other), state: None })), now);
    assert!(matches!(reporting.action(now), Some(Action::Report(_))), "only the state is put back");
}

#[test]
fn a_state_that_was_taken_for_that_of_a_dead_instance_is_taken_back() {
    let (mut life, sent) = Life::publishing();
    life.reporting.lost(Loss::Held, life.now);
    assert_eq!(life.action(), Some(Action::Look));
    let buried = Report { status: Status::Error, updated_at: sent.updated_at + 1, ..sent.clone() };
    life.find(stored(Some(buried.clone())));
    let again = life.sends();
    assert_eq!((again.status, again.started_at), (Status::Publishing, BEGAN));
    assert!(again.updated_at > buried.updated_at, "else it is dropped without a word");
}

#[test]
fn a_lost_write_is_made_again() {
    let (mut life, sent) = Life::publishing();
    for older in [
        None,
        Some(Report { status: Status::Buffering, updated_at: BEGAN, ..sent.clone() }),
        Some(other(Status::Inactive, 5)),
    ] {
        assert_eq!(life.due(), Some(Action::Look));
        life.find(stored(older));
        assert_eq!(life.sends().status, Status::Publishing);
        life.answer(Ok(()));
    }
}

#[test]
fn who_is_refused_begins_anew_behind_one_that_is_over() {
    let mut life = Life::new();
    life.reporting.report(report(Status::Buffering, BEGAN));
    life.sends();
    life.answer(Err(ReportError::Older));
    assert_eq!(life.action(), Some(Action::Look), "and no report before that");
    life.find(stored(Some(other(Status::Error, BEGAN + 600))));
    assert_eq!(life.sends().started_at, BEGAN + 601);
    life.answer(Ok(()));
    life.reporting.report(report(Status::Publishing, BEGAN + 9));
    let next = life.sends();
    assert_eq!(next.started_at, BEGAN + 601, "it stays so");
    assert!(next.updated_at >= next.started_at);
}

#[test]
fn who_is_refused_gives_way_to_one_that_goes_on() {
    let (mut life, begin) = (Life::new(), Instant::now());
    life.now = begin;
    life.reporting.report(report(Status::Buffering, BEGAN));
    life.sends();
    life.answer(Err(ReportError::Older));
    loop {
        match life.due_or_now() {
            Some(Action::Look) => life.find(stored(Some(other(Status::Publishing, BEGAN + 600)))),
            Some(Action::Stop(stop)) => break assert_eq!(stop, Stop::Superseded),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(life.now - begin, RIVAL_PATIENCE);
    life.reporting.report(report(Status::Inactive, BEGAN + 99));
    life.reporting.ended();
    assert!(life.action().is_none() && life.reporting.is_over(), "its end is of no interest");
}

#[test]
fn one_that_the_room_has_thrown_out_leaves_the_state_to_the_other() {
    let mut life = Life::new();
    life.reporting.report(report(Status::Publishing, BEGAN));
    life.sends();
    life.answer(Err(ReportError::Older));
    life.action();
    life.find(stored(Some(other(Status::Publishing, BEGAN + 600))));
    assert_eq!((life.action(), life.due()), (None, Some(Action::Look)));
    life.find(stored(Some(other(Status::Error, BEGAN + 600))));
    assert_eq!(life.sends().started_at, BEGAN + 601);
}

#[test]
fn an_end_is_tried_as_long_as_it_takes() {
    let (mut life, _) = Life::publishing();
    life.reporting.report(report(Status::Inactive, BEGAN + 50));
    life.reporting.ended();
    assert_eq!(life.reporting.undelivered_end(), None, "it was not tried yet");
    let refused = || Err(ReportError::Unreachable(Fault::new(Blame::Control, "no")));
    for n in 0..1_000 {
        assert!(matches!(life.due_or_now(), Some(Action::Report(_))));
        life.answer(if n % 2 == 0 { away() } else { refused() });
        assert_eq!(life.reporting.undelivered_end().unwrap().status, Status::Inactive);
        assert!(!life.reporting.is_over());
        life.now += SECOND * 600;
    }
    life.due_or_now();
    life.answer(Ok(()));
    assert!(life.reporting.is_over() && life.reporting.undelivered_end().is_none());
}

#[test]
fn a_redis_that_has_forgotten_ends_no_stream() {
    let (mut life, _) = Life::publishing();
    life.reporting.lost(Loss::Forgotten, life.now);
    assert_eq!(life.action(), Some(Action::Look));
    life.find(Ok(None));
    assert_eq!(life.action(), None);
    life.reporting.report(report(Status::Publishing, BEGAN + 60));
    life.sends();
    life.answer(Err(ReportError::Deleted));
    assert_eq!(life.action(), None);
    // It is there again: made anew with the same id, or from a backup.
    assert_eq!(life.due(), Some(Action::Look));
    life.find(stored(None));
    assert_eq!(life.sends().status, Status::Publishing);
    life.answer(Ok(()));
    // From then on a deletion is one.
    assert_eq!(life.due(), Some(Action::Look));
    life.find(Ok(None));
    assert_eq!(life.action(), Some(Action::Stop(Stop::Deleted)));
}

#[test]
fn a_deletion_while_this_instance_was_held_ends_the_session() {
    let (mut life, _) = Life::publishing();
    life.reporting.lost(Loss::Held, life.now);
    life.action();
    life.find(Ok(None));
    assert_eq!(life.action(), Some(Action::Stop(Stop::Deleted)));
}

#[test]
fn a_store_that_cannot_be_looked_at_changes_nothing() {
    let (mut life, sent) = Life::publishing();
    let begin = life.now;
    for _ in 0..20 {
        assert_eq!(life.due(), Some(Action::Look));
        life.find(Err(Fault::transient(Blame::Control, "away")));
        assert_eq!(life.action(), None);
    }
    assert!(life.now < begin + SECOND * 400);
    assert_eq!(life.due(), Some(Action::Look));
    life.find(stored(Some(sent)));
    assert_eq!(life.action(), None);
}

// Hand-over ------------------------------------------------------------------------------------------------------------------

impl Life {
    /// A pull that publishes, on an instance that drains, and that has just asked the others.
    fn asking() -> (Self, Report) {
        let mut life = Self::pull();
        life.reporting.set_portable(true);
        let (mut life, sent) = life.published();
        life.reporting.drains(life.now);
        assert_eq!(life.action(), Some(Action::HandOver(sent.clone())));
        assert_eq!(life.action(), None, "one attempt at a time");
        (life, sent)
    }

    /// One that another instance has taken.
    fn given() -> (Self, Report) {
        let (mut life, sent) = Self::asking();
        life.reporting.asked(&Ok(other(Status::Buffering, BEGAN + 1)), life.now);
        (life, sent)
    }

    fn pull() -> Self {
        Self { reporting: Reporting::new(id("RT_a"), ingress(InputKind::Url, "k").spec, BEGAN), now: Instant::now() }
    }

    fn published(mut self) -> (Self, Report) {
        self.reporting.report(report(Status::Publishing, BEGAN + 5));
        let sent = self.sends();
        self.answer(Ok(()));
        assert_eq!(self.action(), Some(Action::Look));
        self.find(stored(Some(sent.clone())));
        (self, sent)
    }

    /// The next look, with what it finds.
    fn looks(&mut self, found: Option<Report>) {
        assert_eq!(self.due_or_now(), Some(Action::Look));
        self.find(stored(found));
    }
}

#[test]
fn only_a_live_pull_of_an_instance_that_drains_is_handed_over() {
    let asks = |life: &mut Life| {
        let until = life.now + SECOND * 50;
        let mut asked = 0;
        while life.reporting.deadline().is_some_and(|at| at < until) {
            match life.due() {
                Some(Action::HandOver(_)) => asked += 1,
                Some(Action::Look) => life.find(stored(life.reporting.newest().cloned())),
                None => {}
                other => panic!("{other:?}"),
            }
        }
        asked
    };
    let (mut stays, _) = Life::pull().published();
    stays.reporting.set_portable(true);
    assert_eq!(asks(&mut stays), 0, "it does not drain");
    let (mut file, _) = Life::pull().published();
    file.reporting.drains(file.now);
    assert_eq!(asks(&mut file), 0, "a file would begin anew");
    file.reporting.set_portable(true);
    assert_eq!(asks(&mut file), 1, "known later to be live");
    let (mut push, _) = Life::publishing();
    push.reporting.set_portable(true);
    push.reporting.drains(push.now);
    assert_eq!(asks(&mut push), 0, "its encoder is here");
}

#[test]
fn nobody_there_is_asked_again_from_time_to_time() {
    let (mut life, sent) = Life::asking();
    let (begin, mut asked) = (life.now, vec![0]);
    let nobody = || Err(HandOverError::NotTaken(Fault::transient(Blame::Capacity, "nobody")));
    while asked.len() < 7 {
        life.reporting.asked(&nobody(), life.now);
        loop {
            match life.due_or_now() {
                Some(Action::HandOver(_)) => break,
                Some(Action::Look) => life.find(stored(Some(sent.clone()))),
                other => panic!("{other:?}"),
            }
        }
        asked.push((life.now - begin).as_secs());
    }
    assert_eq!(asked, [0, 5, 15, 35, 75, 135, 195]);
    // Meanwhile it reports as ever.
    life.reporting.asked(&nobody(), life.now);
    life.reporting.report(report(Status::Complete, BEGAN + 9));
    assert_eq!(life.sends().status, Status::Complete);
}

#[test]
fn one_that_was_taken_over_ends_without_a_word() {
    // Thrown out of the room before or after the answer, or let go as the other one publishes.
    for how in 0..3 {
        let (mut life, sent) = if how == 0 { Life::asking() } else { Life::given() };
        let theirs = other(Status::Publishing, BEGAN + 1);
        if how < 2 {
            life.reporting.report(report(Status::Error, BEGAN + 9));
            life.reporting.ended();
        }
        if how == 0 {
            assert_eq!(life.action(), None, "held back while the answer is awaited");
            life.reporting.asked(&Ok(theirs.clone()), life.now);
        }
        if how < 2 {
            assert_eq!(life.action(), Some(Action::Look), "at once");
            life.find(stored(Some(sent.clone())));
            assert_eq!(life.reporting.undelivered_end().map(|end| end.status), Some(Status::Error));
        } else {
            life.looks(Some(sent.clone()));
            life.looks(Some(Report { status: Status::Buffering, ..theirs.clone() }));
        }
        life.looks(Some(theirs));
        if how == 2 {
            assert_eq!(life.action(), Some(Action::Stop(Stop::Superseded)));
            life.reporting.report(report(Status::Inactive, BEGAN + 9));
            life.reporting.ended();
        }
        assert_eq!(life.action(), None);
        assert!(life.reporting.is_over() && life.reporting.stored_end().is_none());
    }
}

#[test]
fn a_source_that_the_other_one_does_not_get_stays_here() {
    let (mut life, _) = Life::given();
    let (begin, waits) = (life.now, other(Status::Buffering, BEGAN + 1));
    while life.now < begin + 60 * SECOND {
        assert_eq!(life.action(), None, "both pull");
        life.looks(Some(waits.clone()));
    }
    // It gives up.
    life.looks(Some(other(Status::Error, BEGAN + 1)));
    assert_eq!(life.sends().status, Status::Publishing);
}

#[test]
fn one_that_fails_elsewhere_goes_on_here_and_stays() {
    let (mut life, _) = Life::given();
    let failed = other(Status::Error, BEGAN + 1);
    life.looks(Some(failed.clone()));
    let again = life.sends();
    assert_eq!((again.status, again.started_at), (Status::Publishing, failed.started_at + 1));
    life.answer(Ok(()));
    let until = life.now + SECOND * 600;
    while life.now < until {
        assert_eq!(life.due_or_now(), Some(Action::Look), "nobody is asked again");
        life.find(stored(Some(again.clone())));
    }
    // Where both have ended, the other's end was the last; unless this one came to the end of the stream.
    for end in [Status::Error, Status::Complete] {
        let (mut life, _) = Life::given();
        life.reporting.report(report(end, BEGAN + 9));
        life.reporting.ended();
        if end == Status::Complete {
            life.looks(Some(other(Status::Buffering, BEGAN + 1)));
            assert_eq!(life.action(), None, "the other one may find more");
        }
        life.looks(Some(failed.clone()));
        if end == Status::Complete {
            let last = life.sends();
            assert_eq!((last.status, last.started_at), (Status::Complete, failed.started_at + 1));
            life.answer(Ok(()));
        }
        assert!(life.reporting.is_over());
    }
}

#[test]
fn nobody_who_stores_anything_means_that_it_goes_on_here() {
    let (mut life, sent) = Life::asking();
    life.reporting.asked(&Err(HandOverError::Unclear(Fault::transient(Blame::Control, "late"))), life.now);
    let begin = life.now;
    while life.now < begin + hand_over::PATIENCE {
        life.reporting.report(report(Status::Publishing, BEGAN + 20));
        life.looks(Some(sent.clone()));
    }
    assert_eq!(life.sends().status, Status::Publishing, "reports go on");
    life.answer(Ok(()));
    let newest = life.reporting.newest().cloned();
    while !matches!(life.due_or_now(), Some(Action::HandOver(_))) {
        life.find(stored(newest.clone()));
    }
    assert!(life.now < begin + hand_over::PATIENCE + hand_over::FIRST_RETRY * 2, "others are asked again");
}

#[test]
fn a_deletion_ends_a_hand_over() {
    let (mut life, _) = Life::asking();
    life.reporting.asked(&Err(HandOverError::Deleted), life.now);
    assert_eq!(life.action(), Some(Action::Stop(Stop::Deleted)));
    let (mut life, _) = Life::given();
    life.looks_at_nothing();
    assert_eq!(life.action(), Some(Action::Stop(Stop::Deleted)));
    let (mut life, _) = Life::asking();
    life.reporting.told(Stop::Deleted);
    life.reporting.report(report(Status::Inactive, BEGAN + 9));
    life.reporting.ended();
    life.reporting.asked(&Ok(other(Status::Buffering, BEGAN + 1)), life.now);
    assert_eq!(life.action(), None);
    assert!(life.reporting.is_over());
}

impl Life {
    fn looks_at_nothing(&mut self) {
        assert_eq!(self.due_or_now(), Some(Action::Look));
        self.find(Ok(None));
    }
}
