//! State machines under any sequence of operations: a session's lifecycle and its ingest clock; and psrpc's envelopes, which any
//! peer on Redis may send.

use bytes::Bytes;
use model::{Blame, Fault, Kind, MediaTime, SourceTracks};
use psrpc::envelope::Envelope;
use session::lifecycle::{Action, Input, Lifecycle, Stop};
use session::{SourceEnd, Status};
use std::time::{Duration, Instant};
use timing::ingest_clock::IngestClock;

/// Inputs of a session's lifecycle: one byte for what, one for the time since the last, in units of 100 ms.
///
/// Promises: PUBLISHING at most once; one last report unless the ingress was deleted; one release, and nothing after it;
/// the source is stopped and the room left once; a running session has a deadline; and deadlines alone end it.
pub fn session_life(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let mut now = Instant::now();
    let (mut session, mut all) = Lifecycle::new(kind & 1 == 0, now);
    let mut deleted = false;
    for &[what, wait] in data.as_chunks::<2>().0 {
        now += Duration::from_millis(100) * u32::from(wait);
        let input = input(what);
        let live = !session.ended();
        deleted |= live && input == Input::Stop(Stop::Deleted);
        let actions = session.step(input, now);
        assert!(live || actions.is_empty(), "{actions:?} after the end");
        assert_eq!(session.deadline().is_none(), session.ended());
        all.extend(actions);
    }
    let mut ticks = 0;
    while let Some(deadline) = session.deadline() {
        now = now.max(deadline);
        all.extend(session.step(Input::Tick, now));
        ticks += 1;
        assert!(ticks < 10, "deadlines do not end it: {session:?}");
    }
    let count = |f: fn(&Action) -> bool| all.iter().filter(|a| f(a)).count();
    assert_eq!(all.last(), Some(&Action::Release));
    assert_eq!(count(|a| matches!(a, Action::Release)), 1);
    assert!(count(|a| matches!(a, Action::Report(Status::Publishing, _))) <= 1);
    assert_eq!(count(|a| matches!(a, Action::Report(s, _) if s.is_final())), usize::from(!deleted));
    assert_eq!(count(|a| matches!(a, Action::StopSource(_))), 1);
    assert_eq!(count(|a| matches!(a, Action::LeaveRoom)), 1);
}

fn input(what: u8) -> Input {
    let kind = if what & 0x80 == 0 { Kind::Video } else { Kind::Audio };
    let fault = |blame| Fault::new(blame, "text");
    match what & 0x1f {
        0 => Input::Announced(SourceTracks { video: what & 0x20 != 0, audio: what & 0x40 != 0 }),
        1 => Input::Decodable(kind),
        2 => Input::Unusable(kind, Fault::new(Blame::Source, "no decoder")),
        3 => Input::Configured(kind),
        4 => Input::MediaOut,
        5 => Input::SourceEnded(SourceEnd::Finished),
        6 => Input::SourceEnded(SourceEnd::Lost(fault(Blame::Source))),
        7 => Input::TranscoderCrashed("signal 11".into()),
        8 => Input::TranscoderFailed(Fault::new(Blame::Source, "nothing to decode")),
        9 => Input::TranscoderFinished,
        10 => Input::RoomClosed(fault(Blame::Room)),
        11 => Input::RoomLeft,
        12 => Input::Stop(Stop::Updated),
        13 => Input::Stop(Stop::Deleted),
        14 => Input::Stop(Stop::Shutdown),
        15 => Input::TranscoderNotStarted("no memory".into()),
        16..20 => Input::Tick,
        _ => Input::SourceFrame(kind),
    }
}

/// Frames on a timeline: each is a byte for its track and its reordering, a byte for how many milliseconds passed, and its
/// decode time in milliseconds as 32 bits with a sign, scaled so that a few steps reach the extremes.
///
/// Promises: no panic; decode times of a track strictly rise, lie at zero or later, and are never more than a stall ahead of the
/// time that really passed.
pub fn ingest_clock(data: &[u8]) {
    let start = Instant::now() + Duration::from_secs(100_000);
    let (mut clock, mut now) = (IngestClock::new(), start);
    let mut last = [None::<MediaTime>; 2];
    for &[flags, wait, a, b, c, d] in data.as_chunks::<6>().0 {
        now += Duration::from_millis(u64::from(wait) * if flags & 4 != 0 { 100 } else { 1 });
        let scale = [1, 1_000, 1 << 30, 1 << 40][usize::from(flags >> 3 & 3)];
        let time = i64::from(i32::from_be_bytes([a, b, c, d])).saturating_mul(scale);
        let dts = MediaTime::from_millis(time.clamp(i64::MIN / 4_000_000, i64::MAX / 4_000_000));
        let pts = dts + MediaTime::from_millis(i64::from(flags & 0xe0));
        let kind = if flags & 1 == 0 { Kind::Video } else { Kind::Audio };
        if flags & 2 != 0 && flags & 0x18 == 0x18 {
            clock.restart();
        }
        let mapped = clock.map(kind, dts, pts, now);
        let before = last[usize::from(flags & 1)].replace(mapped.dts);
        assert!(before.is_none_or(|b| mapped.dts > b), "{before:?} then {mapped:?}");
        assert!(mapped.dts >= MediaTime::ZERO && mapped.pts >= MediaTime::ZERO);
        let _ = clock.wall(mapped.pts, now);
    }
}

/// A message as it comes from Redis. Promise: what is read comes back the same when it is written and read again.
pub fn psrpc_envelope(data: &[u8]) {
    let Some(envelope) = Envelope::decode(Bytes::copy_from_slice(data)) else { return };
    match &envelope {
        Envelope::Request(request) => drop(request.body()),
        Envelope::Response(response) => drop(response.body()),
        Envelope::ClaimRequest(_) | Envelope::ClaimResponse(_) => {}
    }
    let again = Envelope::decode(envelope.encode()).expect("what was written can be read");
    // As text: NaN is not equal to itself, and maps have no order.
    if let (Envelope::Request(one), Envelope::Request(two)) = (&envelope, &again) {
        assert_eq!(one, two);
    } else {
        assert_eq!(format!("{envelope:?}"), format!("{again:?}"));
    }
    assert_eq!(psrpc::envelope::lock_key(data).len(), 44);
}
