//! The ingest side alone: what becomes of a source's access units.

use super::*;
use crate::testing::picture;
use crate::{SourceFeed, source};
use model::Blame;

struct Bench {
    ingest: Ingest,
    feed: SourceFeed,
    start: Instant,
}

impl Bench {
    fn new() -> Self {
        let (feed, source) = source();
        Self { ingest: Ingest::new(source), feed, start: Instant::now() }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    /// A picture that comes in time.
    fn frame(&mut self, ms: i64, key: bool) -> Taken {
        let now = self.at(ms as u64);
        self.ingest.frame(picture(ms, key), now)
    }

    /// The times of the pictures to decode now, in milliseconds on the session's timeline.
    fn decoded(&mut self, full: bool, ms: u64) -> Vec<i64> {
        let now = self.at(ms);
        std::iter::from_fn(|| self.ingest.next_picture(full, now)).map(|f| f.pts.as_millis()).collect()
    }
}

#[test]
fn frames_are_put_on_the_timeline() {
    let mut bench = Bench::new();
    let first = bench.ingest.frame(picture(70_000, true), bench.start);
    assert_eq!((first.frame.pts.as_millis(), first.due, first.dropped), (1_000, None, false));
    let second = bench.ingest.frame(picture(70_040, false), bench.at(40));
    assert_eq!(second.frame.pts.as_millis(), 1_040);
    assert_eq!(bench.decoded(false, 40), [1_000, 1_040]);
    let late = bench.ingest.frame(picture(70_080, false), bench.at(1_080));
    assert_eq!(late.due.map(MediaTime::as_millis), Some(2_080), "a second late");
}

#[test]
fn an_overflow_skips_to_the_next_key_frame() {
    let mut bench = Bench::new();
    bench.frame(0, true);
    bench.ingest.overflow();
    assert_eq!(bench.decoded(false, 0), [0i64; 0]);
    assert!(bench.frame(40, false).dropped);
    assert_eq!(bench.ingest.repeat_due(), None, "nothing is repeated meanwhile");
    assert!(!bench.frame(80, true).dropped);
    assert_eq!(bench.decoded(false, 80), [1_080]);
}

#[test]
fn a_takeover_begins_with_a_key_frame() {
    let mut bench = Bench::new();
    bench.frame(0, true);
    let (_feed, second) = source();
    bench.ingest.take_over(second, Fault::new(Blame::Access, "another"), bench.at(500));
    assert_eq!(bench.feed.stopped.try_recv().unwrap().unwrap().text, "another");
    assert!(bench.frame(500, false).dropped);
    assert!(!bench.frame(540, true).dropped);
    assert_eq!(bench.decoded(false, 540).len(), 1);
}

#[test]
fn a_group_is_replayed_once() {
    let mut bench = Bench::new();
    bench.frame(0, true);
    bench.frame(40, false);
    assert_eq!(bench.decoded(false, 40), [1_000, 1_040]);
    assert_eq!(bench.ingest.replay(bench.at(50)).map(MediaTime::as_millis), Some(1_040));
    assert_eq!(bench.decoded(true, 50), [0i64; 0], "a new decoder may be behind");
    assert_eq!(bench.decoded(false, 50), [1_000, 1_040]);
    assert_eq!(bench.ingest.replay(bench.at(60)), None, "it may be what killed the decoder");
    assert!(bench.frame(80, false).dropped);
    bench.frame(120, true);
    assert_eq!(bench.ingest.replay(bench.at(130)).map(MediaTime::as_millis), Some(1_120));
}

#[test]
fn pictures_wait_while_nobody_watches() {
    let mut bench = Bench::new();
    bench.ingest.watched(false, bench.start);
    bench.frame(3_000, true);
    bench.frame(3_040, false);
    assert_eq!(bench.decoded(false, 3_040), [0i64; 0]);
    assert_eq!(bench.ingest.watched(true, bench.at(3_050)).map(MediaTime::as_millis), Some(1_040));
    assert_eq!(bench.decoded(false, 3_050), [1_000, 1_040]);
}

#[test]
fn splice_points_are_shown_four_times_a_second() {
    let mut bench = Bench::new();
    assert_eq!(bench.ingest.splice(Some(1), bench.start), Some(Some(1)));
    assert_eq!(bench.ingest.splice(Some(2), bench.at(10)), None);
    assert_eq!(bench.ingest.splice(None, bench.at(20)), None);
    assert_eq!(bench.ingest.splice_due(), Some(bench.at(250)));
    assert_eq!(bench.ingest.splice_tick(bench.at(250)), Some(None), "the newest");
    assert_eq!(bench.ingest.splice_due(), None);
}

#[tokio::test]
async fn keyframe_requests_go_to_the_source() {
    let mut bench = Bench::new();
    bench.ingest.request_keyframe(1);
    assert_eq!(bench.feed.keyframes.recv().await, KeyframeRequest { layer: 1 });
}
