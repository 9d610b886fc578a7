//! See [`super`]: with scripted workers, on virtual time.

use super::*;
use ipc::{Transcode, transcode};
use std::sync::Mutex;

/// The other ends of a worker.
struct Script {
    job: Job,
    told: mpsc::Receiver<Command>,
    says: mpsc::Sender<FromWorker<Event>>,
}

/// Workers whose other ends are kept here.
#[derive(Default)]
struct Scripted(Mutex<Vec<Script>>);

impl Scripted {
    fn newest(&self) -> Script {
        self.0.lock().unwrap().pop().expect("a worker was started")
    }
}

impl Workers for Scripted {
    fn transcode(&self, _: transcode::Job) -> io::Result<Worker<Transcode>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn demux(&self, job: Job) -> io::Result<Worker<Demux>> {
        let ((to, told), (says, from)) = (mpsc::channel(4), mpsc::channel(4));
        self.0.lock().unwrap().push(Script { job, told, says });
        Ok(Worker::from_channels(to, from))
    }
}

async fn ended(source: &mut Source) -> SourceEnd {
    match source.events.recv().await {
        Some(SourceEvent::Ended(end)) => end,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_go_down_in_pieces_and_end() {
    let workers = Arc::new(Scripted::default());
    let (feed, mut source) = from_bytes(workers.clone(), Container::MpegTs).unwrap();
    let mut script = workers.newest();
    assert_eq!(script.job.source, demux::Source::Bytes(Container::MpegTs));
    let sent = Bytes::from(vec![0x47; MAX_PIECE + 5]);
    assert!(feed.send(sent.clone()).await);
    assert_eq!(script.told.recv().await, Some(Command::Bytes(sent.slice(..MAX_PIECE))));
    assert_eq!(script.told.recv().await, Some(Command::Bytes(sent.slice(MAX_PIECE..))));
    drop(feed);
    assert_eq!(script.told.recv().await, Some(Command::End));
    script.says.send(FromWorker::Event(Event::Finished)).await.unwrap();
    assert_eq!(ended(&mut source).await, SourceEnd::Finished);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_takes_no_bytes_holds_up_the_feed() {
    let workers = Arc::new(Scripted::default());
    let (feed, _source) = from_bytes(workers.clone(), Container::MpegTs).unwrap();
    let script = workers.newest();
    let mut taken = 0;
    while tokio::time::timeout(std::time::Duration::from_secs(1), feed.send(Bytes::from_static(b"G"))).await.is_ok() {
        taken += 1;
        assert!(taken < 100, "what waits is bounded");
    }
    assert_eq!(taken, PIECES + 4);
    drop(script);
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_worker_is_passed_on_unchanged() {
    let workers = Arc::new(Scripted::default());
    let (_feed, mut source) = from_bytes(workers.clone(), Container::MpegTs).unwrap();
    let fault = Fault::transient(Blame::Us, "the system has no threads left");
    let script = workers.newest();
    script.says.send(FromWorker::Event(Event::Failed(fault.clone()))).await.unwrap();
    assert_eq!(ended(&mut source).await, SourceEnd::Lost(fault));
}

#[tokio::test(start_paused = true)]
async fn a_crashed_worker_is_replaced_and_three_are_our_fault() {
    let workers = Arc::new(Scripted::default());
    let (feed, mut source) = from_bytes(workers.clone(), Container::MpegTs).unwrap();
    for _ in 0..2 {
        let script = workers.newest();
        script.says.send(FromWorker::Gone(Gone::Crashed("signal: 11".into()))).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let mut script = workers.newest();
    assert!(feed.send(Bytes::from_static(b"G")).await);
    assert_eq!(script.told.recv().await, Some(Command::Bytes(Bytes::from_static(b"G"))));
    script.says.send(FromWorker::Gone(Gone::Crashed("signal: 11".into()))).await.unwrap();
    let SourceEnd::Lost(fault) = ended(&mut source).await else { panic!("a fault") };
    assert_eq!((fault.blame, fault.retry), (Blame::Us, false), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn what_the_worker_says_of_it_is_known_until_it_crashes() {
    let workers = Arc::new(Scripted::default());
    let job = Job {
        source: demux::Source::Url("https://example.org/live.m3u8".into()),
        guard: PullGuard::default(),
        limits: PullLimits::default(),
        largest: (1, 1),
        from: None,
        live_only: true,
    };
    let mut source = from_url(workers.clone(), job).unwrap();
    assert!(!source.portable.get());
    let script = workers.newest();
    for portable in [true, false, true] {
        script.says.send(FromWorker::Event(Event::Portable(portable))).await.unwrap();
        script.says.send(FromWorker::Event(Event::Notice(String::new()))).await.unwrap();
        assert!(matches!(source.events.recv().await, Some(SourceEvent::Notice(_))));
        assert_eq!(source.portable.get(), portable);
    }
    script.says.send(FromWorker::Gone(Gone::Crashed("by a test".into()))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!source.portable.get());
    assert!(workers.newest().job.live_only, "nothing has played yet");
}
