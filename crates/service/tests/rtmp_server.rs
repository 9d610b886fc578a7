//! The RTMP server's driver against a scripted encoder over an in-memory pipe, mostly on virtual time.

use model::{Blame, Fault, Frame, Media};
use rtmp::amf::{self, Value, object};
use service::config::IpNet;
use service::inputs::rtmp::{Config, Counters, Request, Server};
use service::metrics::Registry;
use session::{Source, SourceEnd, SourceEvent};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;

const PEER: &str = "192.0.2.7:5000";

/// An encoder's end of a connection, and the task that serves the other.
#[derive(Debug)]
struct Encoder<S = DuplexStream> {
    stream: S,
    served: Option<JoinHandle<()>>,
}

impl Encoder {
    fn connect(server: &Server) -> Self {
        Self::with_pipe(server, 64 << 10, PEER)
    }

    fn with_pipe(server: &Server, size: usize, peer: &str) -> Self {
        let (stream, theirs) = duplex(size);
        let served = tokio::spawn(server.serve(theirs, peer.parse().unwrap()));
        Self { stream, served: Some(served) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Encoder<S> {
    async fn send(&mut self, kind: u8, time: u32, body: &[u8]) {
        self.stream.write_all(&message(kind, time, body)).await.unwrap();
    }

    async fn command(&mut self, values: &[Value]) {
        self.send(20, 0, &amf::encode_all(values)).await;
    }

    async fn handshake(&mut self) {
        let mut hello = vec![0; 1 + 1536];
        hello[0] = 3;
        self.stream.write_all(&hello).await.unwrap();
        let mut answer = vec![0; 1 + 2 * 1536];
        self.stream.read_exact(&mut answer).await.unwrap();
        self.stream.write_all(&answer[1..=1536]).await.unwrap();
        self.send(1, 0, &60_000u32.to_be_bytes()).await;
        self.command(&["connect".into(), 1.0.into(), object([("app", "live".into())])]).await;
    }

    async fn publish(&mut self) {
        self.handshake().await;
        self.command(&["publish".into(), 2.0.into(), Value::Null, "KEY".into()]).await;
    }

    async fn delete_stream(&mut self) {
        self.command(&["deleteStream".into(), 3.0.into(), Value::Null, 1.0.into()]).await;
    }

    /// Reads until the server has said this.
    async fn hear(&mut self, wanted: &str) {
        let mut said = Vec::new();
        while !said.ends_with(wanted.as_bytes()) {
            said.push(self.stream.read_u8().await.unwrap());
        }
    }

    /// All that the server says until it closes; text is found in it as it is.
    async fn hear_out(&mut self) -> String {
        let mut said = Vec::new();
        self.stream.read_to_end(&mut said).await.unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// One chunk with a full header, on a chunk stream for its kind.
fn message(kind: u8, time: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![if kind < 7 { 2 } else { 4 }];
    bytes.extend(&time.to_be_bytes()[1..]);
    bytes.extend(&(body.len() as u32).to_be_bytes()[1..]);
    bytes.push(kind);
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(body);
    bytes
}

/// A Speex packet of this length: a codec that needs no configuration.
fn speex(length: usize) -> Vec<u8> {
    let mut body = vec![7; length];
    body[0] = 0xb2;
    body
}

fn server_with(config: Config) -> (Server, Registry) {
    let registry = Registry::default();
    let counters = Counters::register(&registry);
    (Server::new(config, counters), registry)
}

fn server() -> Server {
    server_with(Config::default()).0
}

fn shown(registry: &Registry) -> String {
    registry.page().unwrap()
}

async fn rest(mut source: Source) -> (Vec<Frame>, Option<SourceEnd>) {
    let (mut frames, mut end) = (Vec::new(), None);
    while let Some(event) = source.events.recv().await {
        assert!(end.is_none());
        match event {
            SourceEvent::Media(Media::Frame(frame)) => frames.push(frame),
            SourceEvent::Media(_) | SourceEvent::Passthrough(_) | SourceEvent::Splice(_) | SourceEvent::Notice(_) => {}
            SourceEvent::Ended(e) => end = Some(e),
        }
    }
    (frames, end)
}

/// A stream that was accepted.
async fn publishing(server: &mut Server) -> (Encoder, Source) {
    let mut encoder = Encoder::connect(server);
    encoder.publish().await;
    let source = server.next().await.accept();
    (encoder, source)
}

fn lost(end: Option<SourceEnd>) -> Fault {
    match end {
        Some(SourceEnd::Lost(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn media_flows_until_the_stream_is_deleted() {
    let (mut server, registry) = server_with(Config::default());
    let mut encoder = Encoder::connect(&server);
    encoder.publish().await;
    let request: Request = server.next().await;
    assert_eq!((request.keys[0].expose(), request.app.expose()), ("KEY", "live"));
    assert_eq!(request.peer, PEER.parse::<SocketAddr>().unwrap());
    let source = request.accept();
    for time in 0..200 {
        encoder.send(8, time * 20, &speex(50)).await;
    }
    encoder.delete_stream().await;
    let (frames, end) = rest(source).await;
    assert_eq!((frames.len(), end), (200, Some(SourceEnd::Finished)));
    assert!(frames.iter().enumerate().all(|(i, f)| f.pts.as_millis() == i as i64 * 20));
    let said = encoder.hear_out().await;
    assert!(said.contains("NetStream.Publish.Start") && said.contains("NetStream.Unpublish.Success"), "{said}");
    drop(encoder.stream);
    encoder.served.unwrap().await.unwrap();
    let shown = shown(&registry);
    for line in [
        "rtmp_connections 0",
        "rtmp_publishes_total{answer=\"accepted\"} 1",
        "rtmp_ended_connections_total{how=\"finished\"} 1",
        "rtmp_received_bytes_total 1",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_ends_it_in_order() {
    let mut server = server();
    let (mut encoder, source) = publishing(&mut server).await;
    encoder.send(8, 0, &speex(50)).await;
    drop(encoder.stream);
    assert_eq!(rest(source).await.1, Some(SourceEnd::Finished));
}

#[tokio::test]
async fn a_reset_connection_ends_it_like_a_closed_one() {
    let mut server = server();
    let address = server.listen(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap()).unwrap();
    let mut encoder = Encoder { stream: tokio::net::TcpStream::connect(address).await.unwrap(), served: None };
    encoder.publish().await;
    let mut source = server.next().await.accept();
    encoder.send(8, 0, &speex(50)).await;
    // Until the packet is through: what is behind a reset is lost.
    while !matches!(source.events.recv().await, Some(SourceEvent::Media(Media::Frame(_)))) {}
    encoder.stream.set_zero_linger().unwrap();
    drop(encoder.stream);
    assert_eq!(rest(source).await.1, Some(SourceEnd::Finished));
}

/// A transport that fails where it would end, as TCP does when the network is gone.
struct Failing(DuplexStream);

impl AsyncRead for Failing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        Poll::Ready(if buf.filled().len() > before { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) })
    }
}

impl AsyncWrite for Failing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_a_loss_unless_parting() {
    for parting in [false, true] {
        let mut server = server();
        let (stream, theirs) = duplex(64 << 10);
        tokio::spawn(server.serve(Failing(theirs), PEER.parse().unwrap()));
        let mut encoder = Encoder { stream, served: None };
        encoder.publish().await;
        let source = server.next().await.accept();
        if parting {
            encoder.command(&["FCUnpublish".into(), 3.0.into(), Value::Null, "KEY".into()]).await;
        }
        encoder.send(8, 0, &speex(50)).await;
        drop(encoder);
        let (frames, end) = rest(source).await;
        assert_eq!(frames.len(), 1);
        if parting {
            assert_eq!(end, Some(SourceEnd::Finished));
        } else {
            assert_eq!(lost(end), Fault::transient(Blame::Source, "the encoder's connection broke: timed out"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_protocol_error_reaches_both_sides() {
    let mut server = server();
    let (mut encoder, source) = publishing(&mut server).await;
    encoder.send(8, 0, &speex(50)).await;
    // A chunk size that is too short for its number.
    encoder.send(1, 0, &[0]).await;
    let (frames, end) = rest(source).await;
    assert_eq!(frames.len(), 1, "what came before is not lost");
    let fault = lost(end);
    assert_eq!(fault.blame, Blame::Source);
    let said = encoder.hear_out().await;
    assert!(said.contains("NetStream.Failed") && said.contains(&fault.text), "{said} {fault}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_sent_and_charges_the_address() {
    let (mut server, registry) = server_with(Config { max_waiting_per_address: 1, ..Config::default() });
    let mut encoder = Encoder::connect(&server);
    encoder.publish().await;
    server.next().await.reject(Fault::new(Blame::Access, "no such stream key"));
    let said = encoder.hear_out().await;
    assert!(said.contains("NetStream.Publish.Failed") && said.contains("no such stream key"), "{said}");
    drop(encoder.stream);
    // One keeps no neighbour out; ten within a second do.
    for _ in 0..9 {
        let mut wrong = Encoder::connect(&server);
        wrong.publish().await;
        server.next().await.reject(Fault::new(Blame::Access, "no such stream key"));
        wrong.hear_out().await;
    }
    assert_eq!(Encoder::connect(&server).hear_out().await, "", "not even greeted");
    encoder.served.unwrap().await.unwrap();
    let mut again = Encoder::connect(&server);
    again.publish().await;
    server.next().await;
    assert!(shown(&registry).contains("rtmp_refused_connections_total{reason=\"address\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn the_session_can_let_go_with_a_fault_or_without() {
    for (fault, wanted) in [
        (Some(Fault::new(Blame::Room, "the room was deleted")), ["NetStream.Failed", "the room was deleted"]),
        (None, ["NetStream.Unpublish.Success", "has ended"]),
    ] {
        let mut server = server();
        let (mut encoder, source) = publishing(&mut server).await;
        let Source { mut events, stop, .. } = source;
        stop.send(fault).unwrap();
        // It goes on sending, as encoders do until they have read.
        encoder.send(8, 0, &speex(5000)).await;
        let said = encoder.hear_out().await;
        assert!(wanted.iter().all(|w| said.contains(w)), "{said}");
        assert!(matches!(events.recv().await, Some(SourceEvent::Ended(SourceEnd::Finished))));
    }
    // Dropped without a word.
    let mut server = server();
    let (mut encoder, source) = publishing(&mut server).await;
    drop(source);
    assert!(encoder.hear_out().await.contains("NetStream.Unpublish.Success"));
}

#[tokio::test(start_paused = true)]
async fn requests_that_nobody_answers_are_refused() {
    let mut server = server();
    let mut encoder = Encoder::connect(&server);
    encoder.publish().await;
    drop(server.next().await);
    assert!(encoder.hear_out().await.contains("the publish was not answered"));

    let mut encoder = Encoder::connect(&server);
    encoder.publish().await;
    let mut request = server.next().await;
    request.withdrawn().await;
    assert!(encoder.hear_out().await.contains("was not answered in time"));
    assert_eq!(rest(request.accept()).await.1, Some(SourceEnd::Finished));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_leaves_withdraws_its_request() {
    let mut server = server();
    let mut encoder = Encoder::connect(&server);
    encoder.publish().await;
    let mut request = server.next().await;
    drop(encoder.stream);
    request.withdrawn().await;
    assert_eq!(rest(request.accept()).await, (vec![], Some(SourceEnd::Finished)));
}

#[tokio::test(start_paused = true)]
async fn media_before_the_answer_is_kept() {
    let (mut server, registry) = server_with(Config::default());
    let mut encoder = Encoder::connect(&server);
    encoder.publish().await;
    let request = server.next().await;
    for time in 0..100 {
        encoder.send(8, time, &speex(300)).await;
    }
    until_received(&registry, 30_000).await;
    let source = request.accept();
    drop(encoder.stream);
    assert_eq!(rest(source).await.0.len(), 100);
}

/// Bytes received so far.
fn received(registry: &Registry) -> usize {
    let shown = shown(registry);
    let value = shown.lines().find_map(|line| line.strip_prefix("ingress_rtmp_received_bytes_total "));
    value.unwrap_or("0").parse().unwrap()
}

/// Waits until so many bytes were received.
async fn until_received(registry: &Registry, bytes: usize) {
    while received(registry) < bytes {
        tokio::task::yield_now().await;
    }
}

/// Whose key was not looked up yet has 64 KiB; the rest stays with the encoder, and is not lost.
#[tokio::test(start_paused = true)]
async fn only_little_is_read_before_the_answer() {
    let (mut server, registry) = server_with(Config::default());
    let mut encoder = Encoder::with_pipe(&server, 4096, PEER);
    encoder.publish().await;
    let request = server.next().await;
    let writer = tokio::spawn(async move {
        for time in 0..1000 {
            encoder.send(8, time, &speex(1000)).await;
        }
        encoder.delete_stream().await;
    });
    until_received(&registry, 64 << 10).await;
    // Time passes when nothing else happens.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(received(&registry) < 80_000, "{}", received(&registry));
    let (frames, end) = rest(request.accept()).await;
    assert_eq!((frames.len(), end), (1000, Some(SourceEnd::Finished)));
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stalled_session_slows_the_encoder_down() {
    let mut server = server();
    let mut encoder = Encoder::with_pipe(&server, 4096, PEER);
    encoder.publish().await;
    let source = server.next().await.accept();
    let sent = 5000;
    let mut writer = tokio::spawn(async move {
        for time in 0..sent {
            encoder.send(8, time, &speex(200)).await;
        }
        encoder.delete_stream().await;
        encoder
    });
    // Virtual time runs only when nothing else can: here, when the encoder is stuck. Longer than any deadline but the idle one.
    tokio::time::timeout(Duration::from_secs(50), &mut writer).await.expect_err("the encoder is held back");
    let (frames, end) = rest(source).await;
    assert_eq!((frames.len(), end), (sent as usize, Some(SourceEnd::Finished)));
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stalled_session_is_no_silent_encoder() {
    let mut server = server();
    let mut encoder = Encoder::with_pipe(&server, 4096, PEER);
    encoder.publish().await;
    let source = server.next().await.accept();
    let writer = tokio::spawn(async move {
        for time in 0..1000 {
            encoder.send(8, time, &speex(200)).await;
        }
        encoder.delete_stream().await;
    });
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(rest(source).await.1, Some(SourceEnd::Finished));
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_publisher_is_pinged_and_closed() {
    let mut server = server();
    let mut encoder = Encoder::connect(&server);
    encoder.publish().await;
    let source = server.next().await.accept();
    encoder.send(8, 0, &speex(200)).await;
    let begun = tokio::time::Instant::now();
    let said = encoder.hear_out().await;
    let lasted = begun.elapsed();
    assert!((Duration::from_secs(60)..Duration::from_secs(65)).contains(&lasted), "{lasted:?}");
    assert!(said.contains("NetStream.Failed"), "the encoder is told why");
    let fault = lost(rest(source).await.1);
    assert!(fault.text.contains("silent") || fault.text.contains("60 s"), "{}", fault.text);
}

#[tokio::test(start_paused = true)]
async fn peers_that_neither_read_nor_send_are_closed() {
    let mut server = server();
    let mut encoder = Encoder::with_pipe(&server, 4096, PEER);
    encoder.publish().await;
    let source = server.next().await.accept();
    let ping = message(4, 0, &[0, 6, 0, 0, 0, 0]);
    // The answers fill the pipe back; then writing fails, as the server is gone.
    while encoder.stream.write_all(&ping).await.is_ok() {}
    let fault = lost(rest(source).await.1);
    assert_eq!(fault.text, "the encoder does not read the answers");

    let mut silent = Encoder::connect(&server);
    assert_eq!(silent.hear_out().await, "");

    let (mut encoder, source) = publishing(&mut server).await;
    assert!(encoder.hear_out().await.contains("the encoder has gone silent"));
    assert_eq!(lost(rest(source).await.1), Fault::transient(Blame::Source, "the encoder has gone silent"));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_server_keeps_only_publishers() {
    let mut server = server();
    let (mut publisher, source) = publishing(&mut server).await;
    let mut waiting = Encoder::connect(&server);
    waiting.publish().await;
    let _request = server.next().await;
    let mut greeted = Encoder::connect(&server);
    greeted.handshake().await;
    greeted.hear("NetConnection.Connect.Success").await;
    drop(server);
    assert!(waiting.hear_out().await.contains("the server is shutting down"));
    assert!(greeted.hear_out().await.contains("the server is shutting down"));
    publisher.send(8, 0, &speex(9)).await;
    publisher.delete_stream().await;
    let (frames, end) = rest(source).await;
    assert_eq!((frames.len(), end), (1, Some(SourceEnd::Finished)));
}

#[tokio::test(start_paused = true)]
async fn connections_are_bounded_and_those_without_a_key_give_way() {
    let config = Config { max_connections: 3, max_waiting_per_address: 2, ..Config::default() };
    let (mut server, registry) = server_with(config);
    let (mut publisher, source) = publishing(&mut server).await;
    let mut silent = Encoder::connect(&server);
    let mut greeted = Encoder::connect(&server);
    greeted.handshake().await;
    greeted.hear("NetConnection.Connect.Success").await;
    // Of one address, and then of all.
    let mut third = Encoder::connect(&server);
    assert_eq!(silent.hear_out().await, "", "the oldest gives way, and is told nothing");
    let mut asking = Encoder::with_pipe(&server, 64 << 10, "[2001:db8::1]:1");
    asking.publish().await;
    let _request = server.next().await;
    greeted.hear_out().await;
    // Who waits for an answer and who publishes stay.
    let mut last = Encoder::with_pipe(&server, 1000, "[2001:db8:9::1]:1");
    third.hear_out().await;
    assert!(
        Encoder::with_pipe(&server, 1000, "[2001:db8:9::1]:2").stream.read_u8().await.is_err(),
        "too late to speak"
    );
    last.hear_out().await;
    publisher.send(8, 0, &speex(9)).await;
    publisher.delete_stream().await;
    assert_eq!(rest(source).await.1, Some(SourceEnd::Finished));
    let shown = shown(&registry);
    assert!(shown.contains("rtmp_ended_connections_total{how=\"gave_way\"} 4"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn where_nobody_gives_way_the_next_is_refused() {
    let config = Config { max_connections: 2, max_waiting_per_address: 1, ..Config::default() };
    let (mut server, registry) = server_with(config);
    let (_first, _source) = publishing(&mut server).await;
    let mut asking = Encoder::connect(&server);
    asking.publish().await;
    let _request = server.next().await;
    assert_eq!(Encoder::connect(&server).hear_out().await, "");
    assert_eq!(Encoder::with_pipe(&server, 1000, "[2001:db8::1]:1").hear_out().await, "");
    for reason in ["address", "connections"] {
        assert!(shown(&registry).contains(&format!("rtmp_refused_connections_total{{reason=\"{reason}\"}} 1")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_balancer_says_whose_a_connection_is() {
    let proxies = vec![IpNet { address: "192.0.2.0".parse().unwrap(), prefix: 24 }];
    let config = Config { max_waiting_per_address: 1, proxies, ..Config::default() };
    let (mut server, registry) = server_with(config);
    let behind = async |client: &str| {
        let mut encoder = Encoder::connect(&server);
        encoder.stream.write_all(format!("PROXY TCP4 {client} 10.0.0.1 4711 1935\r\n").as_bytes()).await.unwrap();
        encoder
    };
    let mut first = behind("198.51.100.1").await;
    first.handshake().await;
    let mut other = behind("198.51.100.2").await;
    other.handshake().await;
    let mut again = behind("198.51.100.1").await;
    again.publish().await;
    let request = server.next().await;
    assert_eq!(request.peer.to_string(), "198.51.100.1:4711");
    first.hear_out().await;
    other.hear("NetConnection.Connect.Success").await;
    // One that speaks without a header, one that does not speak, and a client's own header where no balancer is.
    let mut plain = Encoder::connect(&server);
    plain.stream.write_all(&[3; 1537]).await.unwrap();
    assert_eq!(plain.hear_out().await, "");
    assert_eq!(Encoder::connect(&server).hear_out().await, "");
    let mut direct = Encoder::with_pipe(&server, 1000, "203.0.113.1:1");
    direct.stream.write_all(b"PROXY TCP4 198.51.100.9 10.0.0.1 1 1935\r\n").await.unwrap();
    assert_eq!(direct.hear_out().await, "");
    for how in ["how=\"proxy\"} 2", "how=\"not_rtmp\"} 1", "how=\"gave_way\"} 1"] {
        assert!(shown(&registry).contains(how), "{how} in {}", shown(&registry));
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_that_speak_no_rtmp_are_closed_on() {
    let (server, registry) = server_with(Config::default());
    for hello in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00"] {
        let mut stranger = Encoder::connect(&server);
        stranger.stream.write_all(hello).await.unwrap();
        assert_eq!(stranger.hear_out().await, "");
    }
    assert!(shown(&registry).contains("rtmp_ended_connections_total{how=\"not_rtmp\"} 2"));
}
