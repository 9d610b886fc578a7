//! Media made by ffmpeg, and what ffmpeg says of media.

use crate::flv;
use bytes::Bytes;
use model::{AudioCodec, AudioConfig, Frame, Kind, Media, MediaTime, VideoCodec, VideoConfig};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A file that goes away with the value.
pub struct TempFile(pub PathBuf);

impl TempFile {
    pub fn new(suffix: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("transcode-{}-{n}.{suffix}", std::process::id())))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs ffmpeg with these arguments (split at blanks); gives its standard output.
pub fn ffmpeg(args: &str, input: Option<&[u8]>) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y"]).args(args.split(' ')).stdout(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut process = command.spawn().expect("ffmpeg is installed");
    let writer = process.stdin.take().map(|mut stdin| {
        let bytes = input.unwrap_or_default().to_vec();
        std::thread::spawn(move || drop(stdin.write_all(&bytes)))
    });
    let out = process.wait_with_output().unwrap();
    writer.into_iter().for_each(|w| w.join().unwrap());
    assert!(out.status.success(), "ffmpeg {args}");
    out.stdout
}

/// Media of an FLV file that ffmpeg makes with these arguments.
pub fn flv(args: &str) -> Vec<Media> {
    flv::read(&ffmpeg(&format!("{args} -f flv -"), None))
}

/// An H.264 test picture that moves, as an encoder with low latency sends it. `extra` goes to ffmpeg.
pub fn h264(size: &str, rate: &str, seconds: f64, extra: &str) -> Vec<Media> {
    let extra = if extra.is_empty() { String::new() } else { format!(" {extra}") };
    flv(&format!(
        "-f lavfi -i testsrc2=size={size}:rate={rate}:duration={seconds} -c:v libx264 -preset ultrafast -tune zerolatency -g 50{extra}"
    ))
}

/// Media of any codec: ffmpeg writes a file of this kind, ffprobe takes it apart.
pub fn probed(args: &str, suffix: &str) -> Vec<Media> {
    let file = TempFile::new(suffix);
    ffmpeg(&format!("{args} {}", file.0.display()), None);
    probe(&file.0)
}

fn probe(file: &Path) -> Vec<Media> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-show_data", "-show_streams", "-show_packets", "-of", "default"])
        .arg(file)
        .output()
        .expect("ffprobe is installed");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let sections = |name: &str| -> Vec<Section> {
        let (open, close) = (format!("[{name}]\n"), format!("[/{name}]"));
        text.split(&open).skip(1).map(|s| Section(s.split(&close).next().unwrap_or_default().to_owned())).collect()
    };
    let mut media: Vec<Media> = sections("STREAM").iter().map(Section::config).collect();
    media.extend(sections("PACKET").iter().map(Section::frame));
    media
}

/// One section of what ffprobe prints.
struct Section(String);

impl Section {
    fn value(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='))
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.value(key)?.parse().ok()
    }

    /// A hex dump of lines like "00000010: 0001 6764 … ascii".
    fn dump(&self, key: &str) -> Bytes {
        let Some((_, dump)) = self.0.split_once(&format!("{key}=\n")) else { return Bytes::new() };
        let lines = dump.lines().take_while(|l| l.len() > 10 && l.as_bytes()[8] == b':');
        let hex: String = lines.map(|l| l[10..l.len().min(49)].replace(' ', "")).collect();
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    fn config(&self) -> Media {
        let record = self.dump("extradata");
        let video = |codec| {
            let size = self.number("width").zip(self.number("height"));
            Media::VideoConfig(VideoConfig::new(codec, record.clone(), size))
        };
        let audio = |codec| {
            let (sample_rate, channels) = (self.number("sample_rate"), self.number("channels"));
            Media::AudioConfig(AudioConfig { codec, record: record.clone(), sample_rate, channels })
        };
        match self.value("codec_name").unwrap_or_default() {
            "h264" => video(VideoCodec::H264),
            "hevc" => video(VideoCodec::H265),
            "vp8" => video(VideoCodec::Vp8),
            "vp9" => video(VideoCodec::Vp9),
            "av1" => video(VideoCodec::Av1),
            "aac" => audio(AudioCodec::Aac),
            "mp3" => audio(AudioCodec::Mp3),
            "opus" => audio(AudioCodec::Opus),
            "ac3" => audio(AudioCodec::Ac3),
            "eac3" => audio(AudioCodec::Eac3),
            "flac" => audio(AudioCodec::Flac),
            "pcm_u8" => audio(AudioCodec::PcmU8),
            "pcm_s16le" => audio(AudioCodec::PcmS16Le),
            other => panic!("{other}"),
        }
    }

    fn frame(&self) -> Media {
        let time = |key| self.number::<f64>(key).map(|s| MediaTime::from_nanos((s * 1e9).round() as i64));
        let pts = time("pts_time").expect("a time");
        Media::Frame(Frame {
            kind: if self.value("codec_type") == Some("video") { Kind::Video } else { Kind::Audio },
            pts,
            dts: time("dts_time").unwrap_or(pts),
            key: self.value("flags").is_some_and(|f| f.starts_with('K')),
            data: self.dump("data"),
        })
    }
}

/// What ffprobe says of an elementary stream: width, height, profile, and the number of pictures that decode without error.
pub fn describe(stream: &[u8], suffix: &str) -> (u32, u32, String, usize) {
    let file = TempFile::new(suffix);
    std::fs::write(&file.0, stream).unwrap();
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-show_streams", "-of", "default"])
        .arg(&file.0)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stderr), "", "ffprobe found faults");
    let s = Section(String::from_utf8_lossy(&out.stdout).into_owned());
    (
        s.number("width").unwrap_or(0),
        s.number("height").unwrap_or(0),
        s.value("profile").unwrap_or_default().to_owned(),
        s.number("nb_read_frames").unwrap_or(0),
    )
}

/// The decoded pictures of an H.264 stream as luma planes.
pub fn luma(stream: &[u8], size: (u32, u32)) -> Vec<Vec<u8>> {
    let raw = ffmpeg("-f h264 -i - -f rawvideo -pix_fmt gray -", Some(stream));
    raw.chunks_exact((size.0 * size.1) as usize).map(<[u8]>::to_vec).collect()
}

/// An Ogg file of Opus packets of 20 ms, so that ffmpeg can decode them (RFC 7845).
pub fn ogg(packets: &[(MediaTime, Vec<u8>)], channels: u8) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.extend([channels, 0x38, 1]);
    head.extend(48_000u32.to_le_bytes());
    head.extend([0, 0, 0]);
    let mut out = Vec::new();
    page(&mut out, &head, 2, 0, 0);
    page(&mut out, b"OpusTags\x04\0\0\0test\0\0\0\0", 0, 0, 1);
    for (i, (_, data)) in packets.iter().enumerate() {
        page(&mut out, data, 0, (i as u64 + 1) * 960, i as u32 + 2);
    }
    out
}

fn page(out: &mut Vec<u8>, packet: &[u8], flags: u8, granule: u64, sequence: u32) {
    let start = out.len();
    out.extend(b"OggS\0");
    out.push(flags);
    out.extend(granule.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(sequence.to_le_bytes());
    out.extend([0; 4]);
    out.push((packet.len() / 255 + 1) as u8);
    out.extend(std::iter::repeat_n(255, packet.len() / 255));
    out.push((packet.len() % 255) as u8);
    out.extend(packet);
    let mut crc = 0u32;
    for byte in &out[start..] {
        crc ^= u32::from(*byte) << 24;
        for _ in 0..8 {
            crc = if crc & 0x8000_0000 != 0 { (crc << 1) ^ 0x04c1_1db7 } else { crc << 1 };
        }
    }
    out[start + 22..start + 26].copy_from_slice(&crc.to_le_bytes());
}

/// Decodes Opus packets: interleaved samples at 48 kHz.
pub fn pcm(packets: &[(MediaTime, Vec<u8>)], channels: u8) -> Vec<i16> {
    let raw = ffmpeg("-f ogg -i - -f s16le -ar 48000 -", Some(&ogg(packets, channels)));
    raw.chunks_exact(2).map(|s| i16::from_le_bytes([s[0], s[1]])).collect()
}
