//! The encode side alone, with a scripted worker on virtual time.

use super::*;
use crate::testing::{Worker, Workers, picture, spec};
use bytes::Bytes;
use model::{InputKind, VideoCodec};
use std::time::Duration;
use tokio::sync::mpsc;

struct Bench {
    encode: Encode,
    workers: mpsc::UnboundedReceiver<Worker>,
}

impl Bench {
    fn new(queue: usize) -> (Self, Worker) {
        let spec = spec(InputKind::Rtmp, true);
        let job = Job { video_codec: spec.video.encoding.codec, max_frame_rate: 30.0, audio: spec.audio.encoding };
        let (factory, workers) = Workers::new(queue);
        let mut bench = Self { encode: Encode::new(factory, job), workers };
        bench.encode.start().unwrap();
        let worker = bench.worker();
        (bench, worker)
    }

    fn worker(&mut self) -> Worker {
        self.workers.try_recv().expect("a worker is taken")
    }

    fn event(&mut self, event: Event) -> Option<Encoded> {
        self.encode.on_event(FromWorker::Event(event), crate::time::now())
    }

    fn picture(&mut self, layer: u8) -> Option<Encoded> {
        let (pts, data) = (MediaTime::from_millis(1_000), Bytes::new());
        self.event(Event::AccessUnit { layer, pts, key: true, data })
    }
}

fn layers() -> Vec<Layer> {
    spec(InputKind::Rtmp, true).video.encoding.layers
}

fn config() -> VideoConfig {
    VideoConfig::new(VideoCodec::H264, Bytes::from_static(b"avcC"), None)
}

#[tokio::test(start_paused = true)]
async fn a_replacement_is_told_all_that_is_so_now() {
    let (mut bench, mut first) = Bench::new(64);
    bench.encode.video_config(config());
    bench.encode.layers(&layers());
    bench.encode.want(1, false);
    bench.encode.encode_from(Kind::Video, MediaTime::from_millis(5));
    bench.encode.request_keyframe(2);
    assert_eq!(first.told().len(), 5);
    bench.encode.restart().unwrap();
    let expected =
        [Command::VideoConfig(config()), Command::Layers(layers()), Command::Wanted { layer: 1, wanted: false }];
    assert_eq!(bench.worker().told(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_costs_frames_and_keeps_commands() {
    let (mut bench, mut worker) = Bench::new(2);
    assert!(bench.encode.frame(picture(0, true)) && bench.encode.frame(picture(40, false)));
    assert!(!bench.encode.frame(picture(80, false)), "dropped");
    bench.encode.request_keyframe(0);
    assert!(bench.encode.full() && !bench.encode.ready());
    assert_eq!(worker.told().len(), 2);
    bench.encode.pending_can_go().await;
    bench.encode.send_pending();
    assert_eq!(worker.told(), [Command::KeyFrame { layer: 0 }]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_waited_for_half_a_second() {
    let (mut bench, mut worker) = Bench::new(4);
    bench.encode.frame(picture(0, true));
    let begin = tokio::time::Instant::now();
    assert!(!bench.encode.capacity(crate::time::now()).await);
    assert_eq!(begin.elapsed(), FULL_QUEUE_DEADLINE);
    tokio::time::advance(Duration::from_secs(1)).await;
    let begin = tokio::time::Instant::now();
    assert!(!bench.encode.capacity(crate::time::now()).await);
    assert_eq!(begin.elapsed(), Duration::ZERO, "once for one overflow");
    worker.told();
    assert!(!bench.encode.capacity(crate::time::now()).await, "it was not full");
    bench.encode.frame(picture(40, true));
    let capacity = bench.encode.capacity(crate::time::now());
    worker.told();
    assert!(capacity.await, "it has drained");
}

#[tokio::test(start_paused = true)]
async fn bounds_only_rise_and_not_with_every_frame() {
    let (mut bench, mut worker) = Bench::new(64);
    let at = MediaTime::from_millis;
    bench.encode.catch_up(Kind::Video, at(2_000));
    bench.encode.catch_up(Kind::Video, at(2_100));
    bench.encode.catch_up(Kind::Video, at(2_101));
    bench.encode.encode_from(Kind::Video, at(1_000));
    bench.encode.encode_from(Kind::Audio, at(1_000));
    let bound = |kind, ms| Command::ShowFrom(kind, at(ms));
    assert_eq!(worker.told(), [bound(Kind::Video, 1_600), bound(Kind::Video, 1_701), bound(Kind::Audio, 1_000)]);
}

#[tokio::test(start_paused = true)]
async fn layers_return_in_order_after_a_restart() {
    let (mut bench, _first) = Bench::new(64);
    bench.encode.layers(&layers());
    assert!(matches!(bench.picture(0), Some(Encoded::Video(_))), "no barrier at first");
    bench.encode.restart().unwrap();
    assert_eq!((bench.picture(0), bench.picture(1)), (None, None));
    let Some(Encoded::VideoInOrder(frames)) = bench.picture(2) else { panic!("all of them") };
    assert_eq!(frames.iter().map(|f| f.encoder).collect::<Vec<_>>(), [2, 1, 0]);
    assert!(matches!(bench.picture(0), Some(Encoded::Video(_))));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_gone_leaves_nothing() {
    let (mut bench, worker) = Bench::new(1);
    bench.encode.frame(picture(0, true));
    bench.encode.request_keyframe(0);
    let gone = Gone::Crashed("signal: 11".into());
    worker.events.send(FromWorker::Gone(gone.clone())).await.unwrap();
    let event = bench.encode.recv().await;
    assert_eq!(bench.encode.on_event(event, crate::time::now()), Some(Encoded::Gone(gone)));
    assert!(!bench.encode.finish() && !bench.encode.full() && !bench.encode.ready(), "there is none");
    bench.encode.restart().unwrap();
    assert_eq!(bench.worker().told(), [], "the request was for the one before");
}
