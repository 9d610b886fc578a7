//! Publishes encoded files into a room, over and over, as a session would: for trying things by hand and for end-to-end tests.
//!
//! ```text
//! ffmpeg -i film.mp4 -an -s 1280x720 -c:v libx264 -profile:v baseline -tune zerolatency -g 15 -x264-params aud=1 f.h264
//!   (and so for 320x180 and 640x360)
//! ffmpeg -i film.mp4 -vn -c:a libopus -ar 48000 sound.ogg
//! publish_file ws://127.0.0.1:7880 KEY SECRET ROOM [option]... 320x180=q.h264 640x360=h.h264 1280x720=f.h264
//!   --audio sound.ogg --fps 30 --seconds 60 --lose 50 --audio-after 2 --video-after 2 --identity file --vp8 --log
//! ```
//! H.264 files need access unit delimiters; with `--vp8` layers are IVF files. A key frame request is answered as an
//! encoder would: by jumping to the file's next key frame. Prints one line per event: seconds since the start, then the event;
//! and `frame N at T` for the last layer's frames, T in Unix seconds. `--log` prints what goes on inside, to stderr.

use bytes::Bytes;
use livekit_token::{AccessToken, VideoGrants};
use model::{EncodedVideo, Kind, Layer, MediaTime, Quality, Secret, TrackSource};
use publish::{
    AccessUnit, AudioTrack, Config, Event, LayerFormat, Media, Output, Publisher, Tracks, VideoTrack, connect,
};
use std::error::Error;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// What the command line asks for.
struct Options {
    url: String,
    key: String,
    secret: String,
    room: String,
    identity: String,
    layers: Vec<(Layer, String)>,
    codec: EncodedVideo,
    audio: Option<String>,
    fps: u32,
    seconds: u64,
    lose: u32,
    audio_after: Duration,
    video_after: Duration,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("too few arguments; see the top of the source");
    let mut options = Options {
        url: next()?,
        key: next()?,
        secret: next()?,
        room: next()?,
        identity: "file".into(),
        layers: Vec::new(),
        codec: EncodedVideo::H264,
        audio: None,
        fps: 30,
        seconds: 60,
        lose: 0,
        audio_after: Duration::ZERO,
        video_after: Duration::ZERO,
    };
    let mut files = Vec::new();
    while let Ok(arg) = next() {
        match arg.as_str() {
            "--audio" => options.audio = Some(next()?),
            "--fps" => options.fps = next()?.parse()?,
            "--seconds" => options.seconds = next()?.parse()?,
            "--lose" => options.lose = next()?.parse()?,
            "--audio-after" => options.audio_after = Duration::from_secs_f64(next()?.parse()?),
            "--video-after" => options.video_after = Duration::from_secs_f64(next()?.parse()?),
            "--identity" => options.identity = next()?,
            "--log" => tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
                .with_writer(std::io::stderr)
                .init(),
            "--vp8" => options.codec = EncodedVideo::Vp8,
            _ => files.push(arg),
        }
    }
    let qualities: &[Quality] = match files.len() {
        1 => &[Quality::High],
        2 => &[Quality::Low, Quality::High],
        _ => &[Quality::Low, Quality::Medium, Quality::High],
    };
    for (file, &quality) in files.iter().zip(qualities) {
        let (size, path) = file.split_once('=').ok_or("a layer is WIDTHxHEIGHT=FILE")?;
        let (width, height) = size.split_once('x').ok_or("a layer is WIDTHxHEIGHT=FILE")?;
        let layer = Layer { quality, width: width.parse()?, height: height.parse()?, bitrate: 1_000_000 };
        options.layers.push((layer, path.into()));
    }
    Ok(options)
}

/// The token that the control plane makes for an ingress.
fn token(options: &Options) -> Result<Secret, Box<dyn Error>> {
    let grants = VideoGrants {
        room_join: true,
        room: options.room.clone(),
        can_publish: Some(true),
        can_subscribe: Some(false),
        can_update_own_metadata: Some(true),
        ..Default::default()
    };
    let jwt = AccessToken::with_api_key(&options.key, &options.secret)
        .with_identity(&options.identity)
        .with_name("a file")
        .with_kind("ingress")
        .with_grants(grants)
        .to_jwt()?;
    Ok(Secret::new(jwt))
}

/// One layer's access units, and the position in them.
struct Recording {
    frames: Vec<(Bytes, bool)>,
    at: usize,
}

impl Recording {
    fn h264(file: &[u8]) -> Self {
        // Each access unit starts with a delimiter (NAL type 9).
        let starts: Vec<_> = (0..file.len().saturating_sub(4)).filter(|&i| file[i..i + 4] == [0, 0, 1, 9]).collect();
        let ends = starts.iter().skip(1).copied().chain([file.len()]);
        let frames = starts.iter().zip(ends).map(|(&start, end)| {
            let unit = &file[start..end];
            let key = unit.windows(4).any(|w| w[..3] == [0, 0, 1] && w[3] & 0x1f == 5);
            (Bytes::copy_from_slice(unit), key)
        });
        Self { frames: frames.collect(), at: 0 }
    }

    /// IVF: a header of 32 bytes, then each frame after its size and time.
    fn vp8(file: &[u8]) -> Self {
        let mut frames = Vec::new();
        let mut rest = file.get(32..).unwrap_or_default();
        while let Some((head, after)) = rest.split_at_checked(12) {
            let size = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let Some((frame, after)) = after.split_at_checked(size) else { break };
            // RFC 6386 §9.1: the lowest bit of a key frame is 0.
            frames.push((Bytes::copy_from_slice(frame), frame.first().is_some_and(|b| b & 1 == 0)));
            rest = after;
        }
        Self { frames, at: 0 }
    }

    fn next(&mut self) -> (usize, Bytes, bool) {
        let at = self.at;
        self.at = (at + 1) % self.frames.len();
        let (data, key) = self.frames[at].clone();
        (at, data, key)
    }

    fn jump_to_key(&mut self) {
        let len = self.frames.len();
        self.at = (0..len).map(|i| (self.at + i) % len).find(|i| self.frames[*i].1).unwrap_or(0);
    }
}

/// The packets of an Ogg Opus file (RFC 3533, RFC 7845) without the two headers. ffmpeg writes 20 ms in each.
fn opus(file: &[u8]) -> Vec<Bytes> {
    let mut packets = Vec::new();
    let mut packet = Vec::new();
    let mut rest = file;
    while rest.len() > 27 && &rest[..4] == b"OggS" {
        let (segments, body) = rest[27..].split_at(usize::from(rest[26]));
        let mut body = body;
        for &size in segments {
            let (part, after) = body.split_at(usize::from(size));
            packet.extend_from_slice(part);
            body = after;
            if size < 255 {
                packets.push(Bytes::from(std::mem::take(&mut packet)));
            }
        }
        rest = body;
    }
    packets.drain(..packets.len().min(2));
    packets
}

/// Prints events; passes on of which layers key frames are requested.
async fn report(start: Instant, mut events: mpsc::Receiver<Event>, requests: mpsc::Sender<usize>) {
    while let Some(event) = events.recv().await {
        println!("{:.3} {event:?}", start.elapsed().as_secs_f64());
        if let Event::KeyframeRequest { layer } = event {
            // Once nothing plays any more there is nothing to request.
            let _ = requests.send(layer).await;
        }
    }
    println!("{:.3} over", start.elapsed().as_secs_f64());
}

async fn play(
    options: &Options,
    publisher: &Publisher,
    mut requests: mpsc::Receiver<usize>,
) -> Result<(), Box<dyn Error>> {
    let mut recordings = Vec::new();
    for (_, path) in &options.layers {
        let file = std::fs::read(path)?;
        recordings.push(if options.codec == EncodedVideo::H264 {
            Recording::h264(&file)
        } else {
            Recording::vp8(&file)
        });
    }
    let audio = options.audio.as_ref().map(std::fs::read).transpose()?.map(|f| opus(&f)).unwrap_or_default();
    let origin = Instant::now();
    let frame_time = Duration::from_secs(1) / options.fps.max(1);
    let (mut frames, mut packets) = (0u32, 0u32);
    let mut later = vec![(options.audio_after, Kind::Audio), (options.video_after, Kind::Video)];
    later.retain(|(after, _)| !after.is_zero());
    while origin.elapsed() < Duration::from_secs(options.seconds) {
        let (frame_at, packet_at) = (frame_time * frames, Duration::from_millis(20) * packets);
        let next = frame_at.min(packet_at);
        tokio::time::sleep_until((origin + next).into()).await;
        while let Some(at) = later.iter().position(|(after, _)| *after <= next) {
            match later.swap_remove(at).1 {
                Kind::Audio => publisher.add_audio(audio_track()),
                Kind::Video => publisher.add_video(video_track(options)),
            }
        }
        while let Ok(layer) = requests.try_recv() {
            recordings[layer].jump_to_key();
        }
        let (pts, at) = (MediaTime::from(next), origin + next);
        if packet_at <= frame_at {
            if let Some(packet) = audio.get(packets as usize % audio.len().max(1)) {
                let packet = AccessUnit { pts, at, key: true, data: packet.clone(), level: Some(-20) };
                publisher.send(Output::Audio, Media::AccessUnit(packet));
            }
            packets += 1;
            continue;
        }
        for (layer, recording) in recordings.iter_mut().enumerate() {
            let (n, data, key) = recording.next();
            let unit = AccessUnit { pts, at, key, data, level: None };
            publisher.send(Output::Video(layer), Media::AccessUnit(unit));
            if layer + 1 == options.layers.len() {
                println!("frame {n} at {:.4}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64());
            }
        }
        frames += 1;
    }
    Ok(())
}

fn audio_track() -> AudioTrack {
    let source = TrackSource::Microphone;
    AudioTrack { cid: "TR_file".into(), name: "sound".into(), source, stereo: true, dtx: true }
}

fn video_track(options: &Options) -> VideoTrack {
    VideoTrack {
        cid: "IN_file".into(),
        name: "picture".into(),
        source: TrackSource::Camera,
        layers: options
            .layers
            .iter()
            .map(|(layer, _)| LayerFormat { layer: *layer, format: options.codec.into() })
            .collect(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // What the binary does for wss:// addresses.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    publish::warm_up();
    let options = options()?;
    let config = Config {
        loopback: true,
        lose_one_in: options.lose,
        attributes: vec![("ingress.resourceID".into(), "UR_file".into())],
        ..Config::new(&options.url, token(&options)?)
    };
    let video = (!options.layers.is_empty() && options.video_after.is_zero()).then(|| video_track(&options));
    let audio = (options.audio.is_some() && options.audio_after.is_zero()).then(audio_track);
    let start = Instant::now();
    let (publisher, events) = connect(config, Tracks { video, audio });
    let (request, requests) = mpsc::channel(64);
    let report = tokio::spawn(report(start, events, request));
    play(&options, &publisher, requests).await?;
    publisher.leave().await;
    report.await?;
    Ok(())
}
