//! Instances that are killed, held and cut off, and that hand over to each other, with clocks that differ, around one store: what is
//! stored comes true.

use bytes::Bytes;
use model::{Blame, Fault, IngressId, InputKind, ResourceId};
use service::control::embedded::ingress;
use service::control::{
    HandOverError, Record, RecordedSession, ReportError, StoredIngress, StoredRecord, started_after,
};
use service::recovery::closing::closing;
use service::recovery::detector::Detector;
use service::recovery::{BEAT_INTERVAL, GOOD_FOR, Loss};
use service::sessions::reporting::{Action, Reporting};
use session::lifecycle::Stop;
use session::{Report, Status};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SECOND: Duration = Duration::from_secs(1);
const INSTANCES: usize = 3;
const INGRESSES: usize = 2;
/// How long all is quiet in the end: longer than the longest wait of all parts together.
const QUIET: u32 = 240;

/// Operations: one byte for what (low nibble) and where (high nibble), one for how much.
///
/// Promises: in the end, what is stored of an ingress is PUBLISHING by its session that runs, or final where none does; records are
/// there of the instances that live, and of no other; and no session is taken for dead whose instance could write its record.
pub fn recovery(data: &[u8]) {
    let mut world = World::new();
    for &[what, much] in data.as_chunks::<2>().0 {
        world.operate(what & 0x0f, usize::from(what >> 4), much);
    }
    (world.redis_away, world.livekit_away) = (0, 0);
    world.instances.iter_mut().for_each(|instance| instance.held = 0);
    world.pass(QUIET);
    world.check();
}

/// A session as its instance sees it.
struct Session {
    ingress: usize,
    id: ResourceId,
    reporting: Reporting,
    running: bool,
    /// The room has thrown its participant out: it ends once its instance can do anything.
    thrown_out: bool,
}

struct Instance {
    name: String,
    /// Seconds for which it does nothing yet.
    held: u32,
    /// How long ago it last was held, or Redis away, in seconds.
    undisturbed: u32,
    beat: u64,
    written: bool,
    skew: i64,
    /// Whether the ends that were stored are to be looked at.
    check_finished: bool,
    detector: Detector,
    sessions: Vec<Session>,
    /// Those whose end was stored.
    finished: Vec<RecordedSession>,
    /// What it has decided to store for another, and will as soon as it can: whose, of which ingress, what.
    closings: Vec<(String, usize, Option<Report>)>,
}

/// How another instance answers that is asked to go on with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandOver {
    Refused,
    /// It begins, and joins the room.
    Taken,
    /// It begins, and fails before it is in the room.
    Fails,
    /// It answers that it has begun, and ends before it has stored anything.
    Dies,
    /// No answer comes, and it has begun all the same.
    Unclear,
    /// No answer comes, and it has not begun.
    Lost,
}

impl HandOver {
    const ALL: [Self; 6] = [Self::Refused, Self::Taken, Self::Fails, Self::Dies, Self::Unclear, Self::Lost];
}

struct World {
    start: Instant,
    seconds: u32,
    count: u32,
    redis_away: u32,
    livekit_away: u32,
    /// How the next hand-overs go.
    hand_over: HandOver,
    store: [Option<Report>; INGRESSES],
    /// What Redis falls back to.
    before: [Option<Report>; INGRESSES],
    table: BTreeMap<String, (Record, Bytes)>,
    instances: Vec<Instance>,
}

fn id(ingress: usize) -> IngressId {
    IngressId(format!("IN_{ingress}"))
}

fn ingress_of(session: &RecordedSession) -> usize {
    (0..INGRESSES).find(|n| id(*n) == session.ingress_id).expect("it is one of ours")
}

fn away() -> Fault {
    Fault::transient(Blame::Control, "away")
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            start: Instant::now(),
            seconds: 0,
            count: 0,
            redis_away: 0,
            livekit_away: 0,
            hand_over: HandOver::Taken,
            store: Default::default(),
            before: Default::default(),
            table: BTreeMap::new(),
            instances: Vec::new(),
        };
        world.instances = (0..INSTANCES).map(|_| world.instance()).collect();
        world
    }

    fn instance(&mut self) -> Instance {
        self.count += 1;
        let name = format!("NE_{}", self.count);
        Instance {
            detector: Detector::new(name.clone()),
            name,
            held: 0,
            undisturbed: 0,
            beat: 0,
            written: false,
            skew: 0,
            check_finished: false,
            sessions: Vec::new(),
            finished: Vec::new(),
            closings: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.start + SECOND * self.seconds
    }

    /// The time by the clock of an instance.
    fn clock(&self, at: usize) -> SystemTime {
        let seconds = 1_000_000 + i64::from(self.seconds) + self.instances[at].skew;
        UNIX_EPOCH + SECOND * u32::try_from(seconds.max(0)).unwrap_or(0)
    }

    fn operate(&mut self, what: u8, place: usize, much: u8) {
        let at = place % INSTANCES;
        let much32 = u32::from(much);
        match what {
            0 => self.begin(at, usize::from(much) % INGRESSES, None),
            1 => {
                let ingress = usize::from(much) % INGRESSES;
                self.end(at, |session| session.ingress == ingress, Status::Inactive);
            }
            2 => self.kill(at),
            3 => self.instances[at].held = much32,
            4 => self.redis_away = much32,
            5 => self.livekit_away = much32,
            6 => self.forget(),
            7 => self.instances[at].skew = i64::from(much as i8) * 10,
            9 => self.before = self.store.clone(),
            10 => self.drain(at, usize::from(much)),
            _ => self.pass(much32 % 100),
        }
    }

    /// Redis falls back to what it knew some time ago, where an instance that lives knows better.
    fn forget(&mut self) {
        for ingress in 0..INGRESSES {
            let Some(before) = &self.before[ingress] else { continue };
            let known = |instance: &Instance| {
                instance.sessions.iter().any(|s| s.id == before.resource_id)
                    || instance.finished.iter().any(|s| s.resource_id == before.resource_id)
            };
            if self.instances.iter().any(known) {
                self.store[ingress] = Some(before.clone());
            }
        }
        let alive: Vec<_> = self.instances.iter().map(|instance| &instance.name).collect();
        self.table.retain(|name, _| !alive.contains(&name));
    }

    /// Another instance starts in its place. Not while it has yet to notice that Redis has lost something: of what is lost with both
    /// nobody can know.
    fn kill(&mut self, at: usize) {
        let instance = &self.instances[at];
        let noticed = !instance.check_finished && (!instance.written || self.table.contains_key(&instance.name));
        if noticed {
            self.instances[at] = self.instance();
        }
    }

    /// An instance is told to drain: it asks the others to go on with what it has.
    fn drain(&mut self, at: usize, how: usize) {
        self.hand_over = HandOver::ALL[how % HandOver::ALL.len()];
        let now = self.now();
        self.instances[at].sessions.iter_mut().for_each(|session| session.reporting.drains(now));
    }

    /// The next instance is asked to go on with a session in this state.
    fn ask(&mut self, at: usize, ingress: usize, state: &Report) -> Result<Report, HandOverError> {
        let other = (at + 1) % INSTANCES;
        let able = self.redis_away == 0 && self.livekit_away == 0 && self.instances[other].held == 0;
        let how = if able { self.hand_over } else { HandOver::Refused };
        if matches!(how, HandOver::Taken | HandOver::Fails | HandOver::Unclear) {
            self.begin(other, ingress, Some(state));
        }
        if how == HandOver::Fails {
            self.end(other, |session| session.ingress == ingress, Status::Error);
            self.serve(other);
        }
        match how {
            HandOver::Refused => Err(HandOverError::NotTaken(away())),
            HandOver::Unclear | HandOver::Lost => Err(HandOverError::Unclear(away())),
            HandOver::Taken | HandOver::Fails | HandOver::Dies => Ok(state.clone()),
        }
    }

    /// An encoder connects, or another instance goes on with a session in `state`. The room throws out whoever was there as the same
    /// participant.
    fn begin(&mut self, at: usize, ingress: usize, state: Option<&Report>) {
        if self.redis_away > 0 || self.livekit_away > 0 || self.instances[at].held > 0 {
            return;
        }
        let fails = state.is_some() && self.hand_over == HandOver::Fails;
        let started = started_after(state.or(self.store[ingress].as_ref()), self.clock(at));
        self.end(at, |session| session.ingress == ingress, Status::Inactive);
        for session in self.instances.iter_mut().flat_map(|instance| &mut instance.sessions) {
            session.thrown_out |= session.ingress == ingress && !fails;
        }
        self.count += 1;
        let id = ResourceId(format!("RT_{}", self.count));
        let spec = spec();
        let nanos = |at: SystemTime| {
            i64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(i64::MAX)
        };
        let before = self.instances[at].sessions.iter().filter(|old| old.ingress == ingress);
        let before = before.map(|old| old.reporting.started_at() + 1).max().unwrap_or(0);
        let mut reporting = Reporting::new(id.clone(), spec, nanos(started).max(before));
        reporting.set_portable(true);
        reporting.report(Report::first(id.clone(), Status::Publishing, String::new(), self.clock(at)));
        for old in self.instances[at].sessions.iter_mut().filter(|old| old.ingress == ingress) {
            old.reporting.replaced();
        }
        let session = Session { ingress, id, reporting, running: true, thrown_out: false };
        self.instances[at].sessions.push(session);
        self.beat(at);
        self.serve(at);
    }

    /// Sessions of an instance end.
    fn end(&mut self, at: usize, which: impl Fn(&Session) -> bool, status: Status) {
        if self.instances[at].held > 0 {
            return;
        }
        let clock = self.clock(at);
        for session in self.instances[at].sessions.iter_mut().filter(|session| session.running && which(session)) {
            session.running = false;
            let end = Report::first(session.id.clone(), status, "end".into(), clock);
            session.reporting.report(Report { ended_at: end.updated_at, ..end });
            session.reporting.ended();
        }
    }

    fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.seconds += 1;
            for at in 0..INSTANCES {
                self.turn(at);
            }
            self.redis_away = self.redis_away.saturating_sub(1);
            self.livekit_away = self.livekit_away.saturating_sub(1);
        }
    }

    /// A second of an instance.
    fn turn(&mut self, at: usize) {
        let instance = &mut self.instances[at];
        if instance.held > 0 || self.redis_away > 0 {
            instance.undisturbed = 0;
        } else {
            instance.undisturbed += 1;
        }
        if instance.held > 0 {
            instance.held -= 1;
            return;
        }
        self.end(at, |session| session.thrown_out, Status::Error);
        // Instances do not beat in step.
        if (self.seconds as usize + at * 2).is_multiple_of(BEAT_INTERVAL.as_secs() as usize) {
            self.beat(at);
            self.look_after(at);
        }
        self.close(at);
        self.serve(at);
        self.finish(at);
    }

    fn finish(&mut self, at: usize) {
        let instance = &mut self.instances[at];
        for session in instance.sessions.extract_if(.., |session| session.reporting.is_over()) {
            let recorded = |end: &Report| RecordedSession {
                ingress_id: id(session.ingress),
                resource_id: session.id.clone(),
                started_at: session.reporting.started_at(),
                end: Some(end.clone()),
            };
            instance.finished.extend(session.reporting.stored_end().map(recorded));
        }
        if instance.check_finished && self.redis_away == 0 && self.livekit_away == 0 {
            instance.check_finished = false;
            for session in instance.finished.clone() {
                let ingress = ingress_of(&session);
                if let Some(end) = closing(&session, self.store[ingress].as_ref(), 0) {
                    let _ = self.take(ingress, &end);
                }
            }
        }
    }

    fn beat(&mut self, at: usize) {
        if self.redis_away > 0 {
            return;
        }
        let now = self.now();
        let instance = &mut self.instances[at];
        instance.beat += 1;
        let recorded = |session: &Session| RecordedSession {
            ingress_id: id(session.ingress),
            resource_id: session.id.clone(),
            started_at: session.reporting.started_at(),
            end: session.reporting.undelivered_end().cloned(),
        };
        let sessions = instance.sessions.iter().map(recorded).collect();
        let record = Record { beat: instance.beat, good_for: GOOD_FOR, ended: false, sessions };
        let bytes = instance.beat.to_be_bytes().to_vec().into();
        let absent = self.table.insert(instance.name.clone(), (record, bytes)).is_none();
        if absent && std::mem::replace(&mut instance.written, true) {
            instance.sessions.iter_mut().for_each(|session| session.reporting.lost(Loss::Held, now));
            instance.check_finished = true;
        }
    }

    /// Looks for instances that are gone.
    fn look_after(&mut self, at: usize) {
        if self.redis_away > 0 {
            return self.instances[at].detector.failed();
        }
        let read = |(name, (record, bytes)): (&String, &(Record, Bytes))| StoredRecord {
            instance: name.clone(),
            bytes: bytes.clone(),
            record: Some(record.clone()),
        };
        let records = self.table.iter().map(read).collect();
        let now = self.now();
        for (name, record) in self.instances[at].detector.read(records, now) {
            let owner = self.instances.iter().find(|instance| instance.name == name);
            assert!(owner.is_none_or(|o| o.undisturbed < GOOD_FOR.as_secs() as u32), "{name} could write");
            if self.livekit_away > 0 {
                continue;
            }
            for session in record.map(|record| record.sessions).unwrap_or_default() {
                let ingress = ingress_of(&session);
                let report = closing(&session, self.store[ingress].as_ref(), i64::from(self.seconds));
                self.instances[at].closings.push((name.clone(), ingress, report));
            }
            if self.instances[at].closings.iter().all(|(whose, ..)| *whose != name) {
                self.table.remove(&name);
            }
        }
    }

    /// Stores what it has decided for another; it may have been held in between.
    fn close(&mut self, at: usize) {
        if self.redis_away > 0 || self.livekit_away > 0 {
            // A call that fails is not made again: the record is still there, and is judged anew.
            self.instances[at].closings.clear();
            return;
        }
        for (name, ingress, report) in std::mem::take(&mut self.instances[at].closings) {
            if let Some(report) = report {
                let _ = self.take(ingress, &report);
            }
            self.table.remove(&name);
        }
    }

    /// Lets an instance's sessions make their calls.
    fn serve(&mut self, at: usize) {
        let (now, mut sessions) = (self.now(), std::mem::take(&mut self.instances[at].sessions));
        let (mut superseded, mut asked) = (Vec::new(), Vec::new());
        for session in &mut sessions {
            for _ in 0..8 {
                match session.reporting.action(now) {
                    None => break,
                    Some(Action::Report(report)) => {
                        let answer = self.take(session.ingress, &report);
                        session.reporting.answered(&answer, now);
                    }
                    Some(Action::Look) => {
                        let up = self.redis_away == 0 && self.livekit_away == 0;
                        let state = self.store[session.ingress].clone();
                        let found = if up { Ok(Some(StoredIngress { spec: Ok(spec()), state })) } else { Err(away()) };
                        session.reporting.found(found, now);
                    }
                    Some(Action::HandOver(state)) => {
                        asked.push((session.id.clone(), session.ingress, state));
                        break;
                    }
                    Some(Action::Stop(stop)) => {
                        assert_eq!(stop, Stop::Superseded);
                        superseded.push(session.id.clone());
                    }
                }
            }
            assert!(session.reporting.action(now).is_none(), "it spins");
        }
        self.instances[at].sessions = sessions;
        for (id, ingress, state) in asked {
            let answer = self.ask(at, ingress, &state);
            let asking = self.instances[at].sessions.iter_mut().find(|session| session.id == id);
            if let Some(session) = asking {
                session.reporting.asked(&answer, now);
            }
        }
        self.end(at, |session| superseded.contains(&session.id), Status::Inactive);
    }

    /// livekit-server's rule.
    fn take(&mut self, ingress: usize, report: &Report) -> Result<(), ReportError> {
        if self.redis_away > 0 || self.livekit_away > 0 {
            return Err(ReportError::Unreachable(away()));
        }
        match &self.store[ingress] {
            Some(stored) if report.started_at < stored.started_at => return Err(ReportError::Older),
            Some(stored) if report.started_at == stored.started_at && report.updated_at < stored.updated_at => {}
            _ => self.store[ingress] = Some(report.clone()),
        }
        Ok(())
    }

    fn check(&self) {
        for ingress in 0..INGRESSES {
            let sessions = self.instances.iter().flat_map(|instance| &instance.sessions);
            let running: Vec<_> = sessions.filter(|s| s.ingress == ingress && s.running).collect();
            assert!(running.len() <= 1, "the room has one participant");
            match (running.first(), &self.store[ingress]) {
                (Some(session), Some(stored)) => {
                    assert_eq!((stored.status, &stored.resource_id), (Status::Publishing, &session.id));
                }
                (Some(session), None) => panic!("{} is not stored", session.id),
                (None, stored) => assert!(stored.as_ref().is_none_or(|s| s.status.is_final()), "{stored:?}"),
            }
        }
        let alive: Vec<_> = self.instances.iter().map(|instance| &instance.name).collect();
        assert!(self.table.keys().all(|name| alive.contains(&name)) && self.table.len() == INSTANCES);
        assert!(self.instances.iter().flat_map(|i| &i.sessions).all(|s| s.running), "all ends are stored");
    }
}

fn spec() -> model::IngressSpec {
    ingress(InputKind::Url, "k").spec
}
