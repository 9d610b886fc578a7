//! Real encoders publish to the RTMP server over loopback: FFmpeg and GStreamer, as installed.

use model::{AudioCodec, AudioConfig, Blame, Fault, Frame, Kind, Media, VideoCodec, VideoConfig};
use service::servers::rtmp::{Config, Counters, Request, Server};
use session::{Source, SourceEnd, SourceEvent};
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
            assert!(dts.windows(2).all(|w| w[0] < w[1]), "{kind:?} not monotonic: {dts:?}");
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
            SourceEvent::Ended(end) => taken.end = Some(end),
        }
    }
    taken
}

async fn server() -> Server {
    Server::bind("127.0.0.1:0".parse().unwrap(), Config::default(), Counters::default()).await.unwrap()
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
        assert_eq!(request.key.expose(), "KEY");
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
