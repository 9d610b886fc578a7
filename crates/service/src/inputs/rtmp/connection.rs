//! One connection: the engine, its socket, and the session that takes its media.

use super::end::End;
use super::request::{Answer, Request};
use super::shared::{Config, Shared};
use crate::inputs::connection_limits::{Eviction, Slot};
use bytes::{Buf, Bytes};
use model::{Blame, Fault, Media, Secret};
use rtmp::{Connection, Event};
use session::{SourceEnd, SourceEvent, SourceFeed};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout, timeout_at};

/// The read buffer before media flows: a handshake block and its neighbours. Small, as idle connections are many.
const IDLE_READ_SIZE: usize = 2 << 10;

/// The read buffer while publishing: a tenth of a second at 1.3 Mbit/s, so that few reads bring less than a frame. Also
/// the bound that the engine asks for between drains.
const MEDIA_READ_SIZE: usize = 16 << 10;

/// Answers that may wait to be written; beyond, the peer is not read.
const MAX_UNWRITTEN_ANSWERS: usize = 8;

/// How long to sleep where no deadline is set.
const NO_DEADLINE: Duration = Duration::from_secs(3600);

/// How long the last events may wait for a session that does not take them.
const LAST_EVENTS_WAIT: Duration = Duration::from_secs(30);

/// What a connection wakes up for.
enum Wake {
    Written(io::Result<usize>),
    Read(io::Result<usize>),
    Stopped(Option<Fault>),
    Notice(String),
    GivesWay,
    /// `None` if the request was dropped.
    Answer(Option<Answer>),
    ServerGone,
    /// The session's queue has capacity (`false`: it is gone).
    Capacity(bool),
    Time,
}

/// Serves a connection to its end.
pub(super) async fn run<S>(stream: S, peer: SocketAddr, slot: Slot, eviction: Eviction, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    shared.counters.connections().inc();
    let mut driver = Driver::new(stream, peer, (slot, eviction), shared);
    let end = driver.drive().await;
    driver.finish(end).await;
}

struct Driver<S> {
    shared: Arc<Shared>,
    peer: SocketAddr,
    slot: Slot,
    eviction: Eviction,
    engine: Connection,
    read: ReadHalf<S>,
    write: WriteHalf<S>,
    buffer: Vec<u8>,
    /// What the peer has not taken yet, and since when it waits.
    out: VecDeque<Bytes>,
    out_since: Option<Instant>,
    /// Why writing failed. What the peer sent before may still be there to be read.
    write_error: Option<io::Error>,
    /// Not later than [`Driver::deadline`]; moved on only when it has passed, as the deadline moves with every read.
    sleep: Pin<Box<Sleep>>,
    key: Option<Secret>,
    /// While a publish waits for its answer, and until when it may.
    answer: Option<(oneshot::Receiver<Answer>, Instant)>,
    /// While a session takes the media.
    events: Option<mpsc::Sender<SourceEvent>>,
    stopped: Option<oneshot::Receiver<Option<Fault>>>,
    /// What the session has to say while it takes the media.
    notices: Option<mpsc::Receiver<String>>,
    /// Media that waits for capacity in the session's queue.
    pending: VecDeque<Media>,
    ended: Option<End>,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Driver<S> {
    fn new(stream: S, peer: SocketAddr, (slot, eviction): (Slot, Eviction), shared: Arc<Shared>) -> Self {
        let (read, write) = tokio::io::split(stream);
        let now = Instant::now();
        let engine = Connection::new(shared.config.limits.clone(), now.into_std());
        Self {
            shared,
            peer,
            slot,
            eviction,
            engine,
            read,
            write,
            buffer: vec![0; IDLE_READ_SIZE],
            out: VecDeque::new(),
            out_since: None,
            write_error: None,
            sleep: Box::pin(sleep_until(now)),
            key: None,
            answer: None,
            events: None,
            stopped: None,
            notices: None,
            pending: VecDeque::new(),
            ended: None,
        }
    }

    /// Runs until there is a reason to end.
    async fn drive(&mut self) -> End {
        let mut open = self.shared.open.clone();
        loop {
            self.collect_output();
            let can_read = self.can_read();
            let wake = self.wake(can_read, &mut open).await;
            self.handle(wake);
            self.overdue(can_read);
            if let Some(end) = self.ended.take() {
                return end;
            }
        }
    }

    /// Waits for something to happen. Written before read: answers wait for nobody.
    async fn wake(&mut self, can_read: bool, open: &mut watch::Receiver<()>) -> Wake {
        let deadline = self.deadline(can_read);
        if deadline < self.sleep.deadline() || self.sleep.is_elapsed() {
            self.sleep.as_mut().reset(deadline);
        }
        tokio::select! {
            biased;
            written = self.write.write(self.out.front().map_or(&[][..], |b| b)), if !self.out.is_empty() => {
                Wake::Written(written)
            }
            () = self.eviction.evicted() => Wake::GivesWay,
            fault = wait(self.stopped.as_mut()), if self.stopped.is_some() => Wake::Stopped(fault.unwrap_or_default()),
            notice = next_notice(self.notices.as_mut()) => Wake::Notice(notice),
            answer = wait(self.answer.as_mut().map(|(a, _)| a)), if self.answer.is_some() => Wake::Answer(answer.ok()),
            // Only a server that is dropped closes it.
            _ = open.changed(), if self.events.is_none() => Wake::ServerGone,
            capacity = capacity(self.events.as_ref()), if !self.pending.is_empty() => Wake::Capacity(capacity),
            read = self.read.read(&mut self.buffer), if can_read => Wake::Read(read),
            () = self.sleep.as_mut() => Wake::Time,
        }
    }

    fn handle(&mut self, wake: Wake) {
        self.ended = match wake {
            Wake::Read(Ok(0)) => Some(self.closed()),
            // TLS without its goodbye: encoders that are killed have no time for it, and some never say it. A stream that was cut by
            // somebody on the way is no more harmed by it than one without TLS.
            Wake::Read(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Some(self.closed()),
            Wake::Read(Err(error)) => Some(End::Socket(error)),
            Wake::GivesWay => Some(End::GaveWay),
            Wake::Written(Ok(0)) => self.write_failed(io::ErrorKind::BrokenPipe.into()),
            Wake::Written(Err(error)) => self.write_failed(error),
            Wake::Stopped(fault) => {
                self.stopped = None;
                Some(End::Stopped(fault))
            }
            Wake::Notice(text) => {
                self.engine.notify(&text);
                None
            }
            Wake::Answer(Some(Answer::Reject(fault))) => Some(End::Rejected(fault)),
            Wake::Answer(None) => Some(End::Refused(Fault::transient(Blame::Us, "the publish was not answered"))),
            Wake::ServerGone => Some(End::Refused(Fault::transient(Blame::Draining, "the server is shutting down"))),
            Wake::Capacity(false) => Some(End::Stopped(None)),
            Wake::Written(Ok(count)) => self.written(count),
            Wake::Answer(Some(Answer::Accept(feed))) => self.accepted(feed),
            Wake::Capacity(true) => self.deliver(),
            Wake::Read(Ok(count)) => self.received(count),
            Wake::Time => None,
        };
    }

    fn write_failed(&mut self, error: io::Error) -> Option<End> {
        self.out.clear();
        self.out_since = None;
        self.write_error = Some(error);
        None
    }

    /// What it means that nothing more can be read. The system tells of a fault once, and calls the connection closed from
    /// then on: if writing met it first, it counts. A broken pipe is what a peer leaves that has closed in order.
    fn closed(&mut self) -> End {
        match self.write_error.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => End::Socket(error),
            _ => End::Closed,
        }
    }

    /// While media waits, the socket is not read: TCP's flow control slows the encoder down.
    fn can_read(&self) -> bool {
        let ready = match self.events {
            Some(_) => self.pending.is_empty(),
            None => self.engine.wants_input(),
        };
        ready && self.out.len() < MAX_UNWRITTEN_ANSWERS
    }

    /// When something is due. A peer that is not read can't be called silent.
    fn deadline(&self, can_read: bool) -> Instant {
        let engine = self.engine.deadline().filter(|_| can_read).map(Instant::from_std);
        let write = self.out_since.map(|s| s + self.shared.config.write);
        let answer = self.answer.as_ref().map(|(_, until)| *until);
        [engine, write, answer].into_iter().flatten().min().unwrap_or_else(|| Instant::now() + NO_DEADLINE)
    }

    fn overdue(&mut self, can_read: bool) {
        let now = Instant::now();
        if can_read && let Err(error) = self.engine.handle_timeout(now.into_std()) {
            self.ended.get_or_insert(End::Protocol(error));
        }
        if self.out_since.is_some_and(|s| now >= s + self.shared.config.write) {
            self.ended = Some(End::WriteTimeout);
        }
        if self.answer.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.answer = None;
            self.ended = Some(End::Refused(Fault::transient(Blame::Us, "the publish was not answered in time")));
        }
    }

    fn collect_output(&mut self) {
        let bytes = self.engine.take_output();
        if !bytes.is_empty() && self.write_error.is_none() {
            self.out_since.get_or_insert_with(Instant::now);
            self.out.push_back(bytes);
        }
    }

    fn written(&mut self, count: usize) -> Option<End> {
        if let Some(front) = self.out.front_mut() {
            front.advance(count);
            if front.is_empty() {
                self.out.pop_front();
            }
        }
        if self.out.is_empty() {
            self.out_since = None;
        }
        None
    }

    fn received(&mut self, count: usize) -> Option<End> {
        self.shared.counters.received(count);
        let result = self.engine.receive(&self.buffer[..count], Instant::now().into_std());
        self.take_events(result)
    }

    /// Takes what the engine has made of bytes.
    fn take_events(&mut self, result: Result<(), rtmp::Error>) -> Option<End> {
        let mut end = None;
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Publish { app, keys, encoder } => end = self.request(app, keys, encoder),
                Event::Media(media) => self.media(media),
                Event::Warning(text) => self.warn(&text),
                Event::Finished => end = Some(End::Finished),
            }
        }
        result.err().map(End::Protocol).or(end)
    }

    fn request(&mut self, app: Secret, keys: Vec<Secret>, encoder: Option<String>) -> Option<End> {
        tracing::debug!(peer = %self.peer, ?keys, ?app, encoder, "RTMP publish requested");
        if !self.slot.hold() {
            return Some(End::GaveWay);
        }
        let (answer, receiver) = oneshot::channel();
        self.key = keys.first().cloned();
        let log = self.shared.limits.log().clone();
        match self.shared.requests.try_send(Request { keys, app, peer: self.peer, encoder, log, answer }) {
            Ok(()) => {
                self.answer = Some((receiver, Instant::now() + self.shared.config.answer));
                None
            }
            Err(_) => {
                Some(End::Refused(Fault::transient(Blame::Capacity, "the server is busy; try again in a moment")))
            }
        }
    }

    fn accepted(&mut self, feed: SourceFeed) -> Option<End> {
        self.answer = None;
        self.slot.publishes();
        self.shared.counters.published("accepted");
        self.events = Some(feed.events);
        self.stopped = Some(feed.stopped);
        self.notices = Some(feed.notices);
        self.buffer = vec![0; MEDIA_READ_SIZE];
        let result = self.engine.accept_publish(Instant::now().into_std());
        self.take_events(result)
    }

    fn media(&mut self, media: Media) {
        self.pending.push_back(media);
        // What the queue does not take waits for capacity; there it shows, too, if the session is gone.
        self.deliver();
    }

    /// Gives the session what its queue takes.
    fn deliver(&mut self) -> Option<End> {
        let events = self.events.as_ref()?;
        while !self.pending.is_empty() {
            let Ok(permit) = events.try_reserve() else { break };
            if let Some(media) = self.pending.pop_front() {
                permit.send(SourceEvent::Media(media));
            }
        }
        None
    }

    /// Logs a warning about the stream. A publisher has a few; before it is accepted, the log is bounded.
    fn warn(&self, text: &str) {
        if self.events.is_some() || self.shared.limits.log().may_log().is_some() {
            tracing::warn!(peer = %self.peer, key = %self.shown_key(), text, "RTMP stream");
        }
    }

    fn shown_key(&self) -> String {
        self.key.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// Tells both sides, closes, and frees the slot.
    async fn finish(mut self, end: End) {
        match &end {
            End::Rejected(fault) | End::Refused(fault) => self.engine.reject_publish(&fault.public()),
            End::Stopped(fault) => self.engine.close(fault.as_ref().map(Fault::public).as_deref()),
            _ => {}
        }
        self.collect_output();
        self.report(&end);
        let Self { shared, slot, mut eviction, read, write, out, events, pending, engine, .. } = self;
        let last = end.for_session(engine.is_parting());
        let closed = async {
            if end.peer_reads() {
                tokio::select! {
                    () = close(read, write, out, matches!(end, End::Finished), &shared.config) => {}
                    // Its slot is another's by now.
                    () = eviction.evicted() => {}
                }
            }
        };
        tokio::join!(deliver_last(events, pending, last), closed);
        if let End::Rejected(Fault { blame: Blame::Access | Blame::Unknown | Blame::Mismatch, .. }) = end {
            slot.fine();
            sleep(shared.config.refusal_charge).await;
        }
        drop(slot);
        shared.counters.connections().dec();
    }

    fn report(&self, end: &End) {
        let (peer, key, how, counters) = (self.peer, self.shown_key(), end.label(), &self.shared.counters);
        counters.ended(how);
        let reason = end.text();
        if self.events.is_some() {
            tracing::info!(%peer, key, how, reason, "RTMP publish ended");
            return;
        }
        if matches!(end, End::Refused(_) | End::Rejected(_)) {
            counters.published("refused");
        }
        // A peer that connects and leaves is a port scan, or a health check.
        let logged = matches!(end, End::Refused(_) | End::Protocol(_));
        match logged.then(|| self.shared.limits.log().may_log()).flatten() {
            Some(unlogged) => {
                tracing::info!(%peer, key, how, reason, unlogged, "RTMP connection ended before its stream began")
            }
            None => tracing::debug!(%peer, key, how, reason, "RTMP connection ended before its stream began"),
        }
    }
}

/// Resolves like the receiver; never without one.
async fn wait<T>(receiver: Option<&mut oneshot::Receiver<T>>) -> Result<T, oneshot::error::RecvError> {
    match receiver {
        Some(receiver) => receiver.await,
        None => std::future::pending().await,
    }
}

/// The session's next notice; never without a session.
async fn next_notice(notices: Option<&mut mpsc::Receiver<String>>) -> String {
    match notices {
        Some(notices) => match notices.recv().await {
            Some(text) => text,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Resolves when the session's queue takes an event, with false if the session is gone; never without a session.
async fn capacity(events: Option<&mpsc::Sender<SourceEvent>>) -> bool {
    match events {
        Some(events) => events.reserve().await.is_ok(),
        None => std::future::pending().await,
    }
}

/// Gives the session what is left and the last event.
async fn deliver_last(events: Option<mpsc::Sender<SourceEvent>>, pending: VecDeque<Media>, last: SourceEnd) {
    let Some(events) = events else { return };
    let all = async {
        for media in pending {
            events.send(SourceEvent::Media(media)).await?;
        }
        events.send(SourceEvent::Ended(last)).await
    };
    // An error means that the session has gone: it needs no telling.
    if timeout(LAST_EVENTS_WAIT, all).await.is_err() {
        tracing::error!("a session does not take its source's end");
    }
}

/// Writes what is left and closes. After a stream that its encoder ended, closing is the encoder's part: GStreamer calls it an
/// error if the connection closes while it still sends its last commands. In all other cases we close our side first, and read on
/// for a moment: a socket that is closed with unread bytes resets the connection, and the message would be lost with it.
async fn close<S: AsyncRead + AsyncWrite>(
    mut read: ReadHalf<S>,
    mut write: WriteHalf<S>,
    out: VecDeque<Bytes>,
    theirs: bool,
    config: &Config,
) {
    let flushed = async {
        for bytes in &out {
            write.write_all(bytes).await?;
        }
        if theirs { write.flush().await } else { write.shutdown().await }
    };
    if !matches!(timeout(config.write, flushed).await, Ok(Ok(()))) {
        return;
    }
    let until = Instant::now() + config.linger;
    let mut rest = vec![0; IDLE_READ_SIZE];
    while let Ok(Ok(1..)) = timeout_at(until, read.read(&mut rest)).await {}
    if theirs {
        // What is left of the time is for the peer's side of it; an error means that it has gone.
        let _ = timeout(config.linger, write.shutdown()).await;
    }
}
