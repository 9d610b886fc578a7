//! Real encoders publish to the RTMP server over loopback: FFmpeg and GStreamer, as installed.

use model::{AudioCodec, AudioConfig, Blame, Fault, Frame, Kind, Media, MediaTime, VideoCodec, VideoConfig};
use service::inputs::rtmp::{Config, Counters, Request, Server};
use service::metrics::Registry;
use service::tls::Files as TlsFiles;
use session::{Source, SourceEnd, SourceEvent};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Far above what anything here takes, for loaded machines.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a source brought.
#[derive(Debug, Default)]
struct Taken {
    video_configs: Vec<VideoConfig>,
    audio_configs: Vec<AudioConfig>,
    frames: Vec<Frame>,
    announced: usize,
    end: Option<SourceEnd>,
}

impl Taken {
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Frame> {
        self.frames.iter().filter(move |f| f.kind == kind)
    }

    /// What holds for every stream.
    #[track_caller]
    fn check(&self) {
        assert_eq!(self.end, Some(SourceEnd::Finished));
        for kind in [Kind::Video, Kind::Audio] {
            let dts: Vec<_> = self.of(kind).map(|f| f.dts).collect();
            // Equal only where GStreamer writes the times before zero, of the first reordered pictures, as zero.
            assert!(dts.windows(2).all(|w| w[0] < w[1] || w[1] == MediaTime::ZERO), "{kind:?} not monotonic: {dts:?}");
            assert!(self.of(kind).all(|f| f.pts >= f.dts && !f.data.is_empty()));
            assert!(self.of(kind).next().is_none_or(|f| f.key));
        }
    }
}

async fn take(mut source: Source) -> Taken {
    let mut taken = Taken::default();
    while let Some(event) = timeout(PATIENCE, source.events.recv()).await.expect("the source goes on or ends") {
        assert!(taken.end.is_none(), "{event:?} after the end");
        match event {
            SourceEvent::Media(Media::Announced(_)) => taken.announced += 1,
            SourceEvent::Media(Media::VideoConfig(config)) => taken.video_configs.push(config),
            SourceEvent::Media(Media::AudioConfig(config)) => taken.audio_configs.push(config),
            SourceEvent::Media(Media::Frame(frame)) => taken.frames.push(frame),
            SourceEvent::Media(Media::Unusable(kind, why)) => panic!("{kind:?}: {why}"),
            SourceEvent::Passthrough(_) | SourceEvent::Splice(_) | SourceEvent::Notice(_) => {}
            SourceEvent::Ended(end) => taken.end = Some(end),
        }
    }
    taken
}

async fn server() -> Server {
    Server::bind("127.0.0.1:0".parse().unwrap(), Config::default(), Counters::register(&Registry::default()))
        .await
        .unwrap()
}

fn url(server: &Server, path: &str) -> String {
    format!("rtmp://{}/{path}", server.addresses()[0])
}

fn ffmpeg(arguments: &str, url: &str) -> Command {
    program("ffmpeg", &format!("-hide_banner -nostdin {arguments} -f flv {url}"))
}

fn program(name: &str, arguments: &str) -> Command {
    let mut command = Command::new(name);
    command.args(arguments.split_whitespace()).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(mut command: Command) -> Output {
    timeout(PATIENCE, command.output()).await.expect("the encoder ends").expect("the encoder is installed")
}

async fn request(server: &mut Server) -> Request {
    timeout(PATIENCE, server.next()).await.expect("the encoder comes")
}

/// Lets one encoder publish all it has.
async fn publish(server: &mut Server, command: Command) -> (Taken, Output) {
    let serve = async {
        let request = request(server).await;
        assert_eq!(request.keys[0].expose(), "KEY");
        take(request.accept()).await
    };
    tokio::join!(serve, run(command))
}

#[tokio::test]
async fn ffmpeg_with_h264_and_aac() {
    let mut server = server().await;
    let input = "-f lavfi -i testsrc2=s=322x182:r=25:d=3 -f lavfi -i sine=r=44100:d=3 -ac 2 -c:a aac \
        -c:v libx264 -preset ultrafast -bf 2 -g 25";
    let command = ffmpeg(input, &url(&server, "live/KEY"));
    let (taken, output) = publish(&mut server, command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    taken.check();
    assert_eq!(taken.announced, 1);
    let [video] = &taken.video_configs[..] else { panic!("{:?}", taken.video_configs) };
    assert_eq!((video.codec, video.size), (VideoCodec::H264, Some((322, 182))));
    let [audio] = &taken.audio_configs[..] else { panic!("{:?}", taken.audio_configs) };
    assert_eq!((audio.codec, audio.sample_rate, audio.channels), (AudioCodec::Aac, Some(44_100), Some(2)));
    assert_eq!(taken.of(Kind::Video).count(), 75);
    assert_eq!(taken.of(Kind::Video).filter(|f| f.key).count(), 3);
    assert!((129..=133).contains(&taken.of(Kind::Audio).count()));
}

#[tokio::test]
async fn a_refusal_reaches_ffmpeg_in_words() {
    let mut server = server().await;
    let command = ffmpeg("-f lavfi -i testsrc2=d=9 -c:v flv1", &url(&server, "live/KEY"));
    let serve = async { request(&mut server).await.reject(Fault::new(Blame::Access, "no such stream key")) };
    let ((), output) = tokio::join!(serve, run(command));
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no such stream key"), "{said}");
}

#[tokio::test]
async fn ffmpeg_with_sorenson_spark_and_mp3() {
    let mut server = server().await;
    let input =
        "-f lavfi -i testsrc2=s=320x240:r=25:d=2 -f lavfi -i sine=r=44100:d=2 -ac 1 -c:v flv1 -g 25 -c:a libmp3lame";
    let command = ffmpeg(input, &url(&server, "some/where/KEY"));
    let (taken, _) = publish(&mut server, command).await;
    taken.check();
    let [video] = &taken.video_configs[..] else { panic!("{:?}", taken.video_configs) };
    assert_eq!((video.codec, video.size), (VideoCodec::Flv1, Some((320, 240))));
    let [audio] = &taken.audio_configs[..] else { panic!("{:?}", taken.audio_configs) };
    assert_eq!((audio.codec, audio.sample_rate, audio.channels), (AudioCodec::Mp3, Some(44_100), Some(1)));
    assert_eq!(taken.of(Kind::Video).count(), 50);
    assert_eq!(taken.of(Kind::Video).filter(|f| f.key).count(), 2);
    assert!((76..=79).contains(&taken.of(Kind::Audio).count()));
}

#[tokio::test]
async fn ffmpeg_beyond_24_bits_of_milliseconds() {
    let mut server = server().await;
    // 4 h 40 min: the extended timestamp, on pictures of many chunks and on sound of one.
    let input = "-f lavfi -i testsrc2=s=640x360:r=25:d=2 -f lavfi -i sine=r=48000:d=2 -c:v libx264 -preset ultrafast -bf 0 \
        -g 25 -qp 1 -c:a aac -output_ts_offset 16800";
    let command = ffmpeg(input, &url(&server, "live/KEY"));
    let (taken, _) = publish(&mut server, command).await;
    taken.check();
    assert_eq!(taken.of(Kind::Video).count(), 50);
    assert!(taken.frames.iter().all(|f| (16_799_000..16_803_000).contains(&f.dts.as_millis())));
}

#[tokio::test]
async fn ffmpeg_with_the_key_in_the_application() {
    let mut server = server().await;
    let input = "-f lavfi -i sine=r=44100:d=1 -c:a aac -rtmp_app live/KEY -rtmp_playpath";
    // An empty playpath cannot be written as a word among others.
    let mut command = program("ffmpeg", &format!("-hide_banner -nostdin {input}"));
    command.arg("").args(["-f", "flv", &url(&server, "x")]);
    let (taken, output) = publish(&mut server, command).await;
    assert!(taken.of(Kind::Audio).count() > 40, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(taken.of(Kind::Video).count(), 0);
}

#[tokio::test]
async fn gstreamer_with_h264_and_aac() {
    let mut server = server().await;
    let pipeline = format!(
        "-q flvmux name=mux streamable=true ! rtmp2sink location={} \
         videotestsrc num-buffers=60 ! video/x-raw,width=320,height=180,framerate=30/1 ! x264enc key-int-max=30 bframes=2 ! \
         h264parse ! mux. \
         audiotestsrc num-buffers=90 samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! aacparse ! mux.",
        url(&server, "live/KEY")
    );
    let (taken, output) = publish(&mut server, program("gst-launch-1.0", &pipeline)).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    taken.check();
    let sizes: Vec<_> = taken.video_configs.iter().map(|c| c.size).collect();
    assert_eq!(sizes, [Some((320, 180))]);
    assert_eq!(taken.audio_configs[0].sample_rate, Some(48_000));
    assert_eq!(taken.of(Kind::Video).count(), 60);
    assert_eq!(taken.of(Kind::Video).filter(|f| f.key).count(), 2);
    assert!((89..=92).contains(&taken.of(Kind::Audio).count()));
}

#[tokio::test]
async fn a_player_is_refused() {
    let server = server().await;
    // As a player, FFmpeg checks the signatures of the handshake, too.
    let output =
        run(program("ffmpeg", &format!("-hide_banner -nostdin -i {} -f null -", url(&server, "live/KEY")))).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("playing is not possible here"), "{said}");
}

#[tokio::test]
async fn the_session_ends_a_running_encoder_in_words() {
    let mut server = server().await;
    let input = "-re -f lavfi -i testsrc2=s=320x180:r=25:d=60 -c:v libx264 -preset ultrafast";
    let command = ffmpeg(input, &url(&server, "live/KEY"));
    let stop = async {
        let Source { mut events, stop, .. } = request(&mut server).await.accept();
        while !matches!(events.recv().await, Some(SourceEvent::Media(Media::Frame(_)))) {}
        stop.send(Some(Fault::new(Blame::Room, "the room was deleted"))).unwrap();
    };
    let ((), output) = tokio::join!(stop, run(command));
    assert!(!output.status.success(), "it does not go on into nowhere");
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A certificate for "localhost", signed by itself.
async fn certificate(directory: &Path) -> TlsFiles {
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|f| directory.join(f));
    let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost";
    let mut command = program("openssl", request);
    command.arg("-out").arg(&certificate).arg("-keyout").arg(&key);
    assert!(run(command).await.status.success());
    TlsFiles { certificate, key }
}

#[tokio::test]
async fn ffmpeg_over_tls() {
    let scratch = Scratch::new("rtmps");
    let mut server = Server::new(Config::default(), Counters::register(&Registry::default()));
    let files = certificate(&scratch.0).await;
    let address = server.listen_tls(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), files).unwrap();
    let input = "-f lavfi -i testsrc2=s=320x180:r=25:d=2 -c:v libx264 -preset ultrafast -g 25";
    let command = ffmpeg(input, &format!("rtmps://{address}/live/KEY"));
    let (taken, output) = publish(&mut server, command).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    taken.check();
    assert_eq!(taken.of(Kind::Video).count(), 50);
}
