//! The audio branch.

use crate::media::{flv, pcm, probed};
use crate::support::{Child, Recording, job};
use ipc::transcode::{Event, Job};
use model::{AudioEncoding, Frame, Media, MediaTime};

/// What an Opus decoder gives for the first packet begins this much before what was put in.
const LOOKAHEAD_MS: f64 = 6.5;

fn transcode(job: Job, media: &[Media]) -> Recording {
    let mut child = Child::with(job);
    child.feed(media);
    child.finish()
}

fn ms(t: MediaTime) -> f64 {
    t.as_nanos() as f64 / 1e6
}

fn mono() -> Job {
    Job { audio: AudioEncoding { channels: 1, bitrate: 64_000, dtx: false }, ..job() }
}

/// Energy of a tone in mono samples at 48 kHz, as a part of all energy (Goertzel), on average over twentieths of a second: a
/// clock that is being made good moves the pitch by a hundredth.
fn share(samples: &[i16], hertz: f64) -> f64 {
    let w = std::f64::consts::TAU * hertz / 48_000.0;
    let part = |piece: &[i16]| {
        let (mut re, mut im, mut all) = (0.0, 0.0, 0.0);
        for (i, s) in piece.iter().enumerate() {
            let s = f64::from(*s);
            re += s * (w * i as f64).cos();
            im += s * (w * i as f64).sin();
            all += s * s;
        }
        2.0 * (re * re + im * im) / (piece.len() as f64 * all.max(1.0))
    };
    let pieces = samples.chunks_exact(2400);
    let count = pieces.len() as f64;
    pieces.map(part).sum::<f64>() / count
}

#[test]
fn aac_becomes_opus_at_the_same_times() {
    let media = flv("-f lavfi -i sine=frequency=1000:sample_rate=44100:duration=3 -ac 2 -c:a aac");
    let recording = transcode(job(), &media);
    assert!(recording.0.contains(&Event::AudioFormat { sample_rate: 44_100, channels: 2 }));
    let packets = recording.audio();
    assert!((149..=155).contains(&packets.len()), "{}", packets.len());
    assert!((ms(packets[0].0) + LOOKAHEAD_MS).abs() < 0.1);
    for p in packets.windows(2) {
        let step = (p[1].0 - p[0].0).as_nanos();
        assert!((step - 20_000_000).abs() <= 1, "{step}");
    }
    let samples: Vec<i16> = pcm(&packets, 2).chunks_exact(2).map(|s| s[0]).collect();
    assert!(share(&samples[4800..100_000], 1000.0) > 0.98);
}

#[test]
fn a_long_stream_at_44100_stays_with_its_timestamps() {
    // Ten minutes of the same second of packets, with the timestamps a muxer would give them.
    let media = flv("-f lavfi -i sine=frequency=440:sample_rate=44100:duration=2 -ac 1 -c:a aac");
    let (config, packets): (Vec<_>, Vec<_>) = media.iter().partition(|m| !matches!(m, Media::Frame(_)));
    let mut long: Vec<Media> = config.into_iter().cloned().collect();
    let count = 600 * 44_100 / 1024;
    for i in 0..count {
        let Media::Frame(f) = packets[10 + i % 60] else { unreachable!() };
        let time = MediaTime::from_millis((i as f64 * 1024.0 / 44.1).round() as i64);
        long.push(Media::Frame(Frame { pts: time, dts: time, ..f.clone() }));
    }
    let got = transcode(mono(), &long).audio();
    let expected = count as f64 * 1024.0 / 44_100.0 * 50.0;
    assert!((got.len() as f64 - expected).abs() <= 3.0, "{} packets for {expected}", got.len());
    for (i, (pts, _)) in got.iter().enumerate() {
        let off = ms(*pts) + LOOKAHEAD_MS - i as f64 * 20.0;
        assert!(off.abs() < 20.0, "packet {i} is {off} ms off");
    }
}

#[test]
fn a_gap_in_the_source_is_a_gap_in_the_room() {
    let media = flv("-f lavfi -i sine=frequency=440:sample_rate=48000:duration=4 -ac 1 -c:a aac");
    let gap = MediaTime::from_millis(300_000);
    let shifted: Vec<Media> = media
        .into_iter()
        .map(|m| match m {
            Media::Frame(f) if f.pts.as_millis() >= 2000 => {
                Media::Frame(Frame { pts: f.pts + gap, dts: f.dts + gap, ..f })
            }
            m => m,
        })
        .collect();
    let got = transcode(mono(), &shifted).audio();
    assert!((198..=206).contains(&got.len()), "no silence is made up: {}", got.len());
    let after = got.windows(2).find(|p| ms(p[1].0 - p[0].0) > 1000.0).expect("the gap is followed");
    assert!((ms(after[1].0) + LOOKAHEAD_MS - 302_000.0).abs() < 45.0, "{}", ms(after[1].0));
}

#[test]
fn every_codec_gives_its_tone() {
    let tone = |rate: u32| format!("-f lavfi -i sine=frequency=440:sample_rate={rate}:duration=2,volume=4");
    let cases = [
        ("AAC", probed(&format!("{} -c:a aac", tone(44_100)), "mp4")),
        ("MP3", flv(&format!("{} -c:a libmp3lame", tone(44_100)))),
        ("MP3 22 kHz", flv(&format!("{} -c:a libmp3lame", tone(22_050)))),
        ("Opus", probed(&format!("{} -c:a libopus", tone(48_000)), "mka")),
        ("AC-3", probed(&format!("{} -c:a ac3", tone(48_000)), "mp4")),
        ("E-AC-3", probed(&format!("{} -c:a eac3", tone(48_000)), "mp4")),
        ("FLAC", probed(&format!("{} -c:a flac", tone(44_100)), "mka")),
        ("PCM", flv(&format!("{} -c:a pcm_s16le", tone(44_100)))),
        ("PCM 8 bit", probed(&format!("{} -c:a pcm_u8", tone(22_050)), "wav")),
        ("ADPCM", flv(&format!("{} -c:a adpcm_swf", tone(22_050)))),
        ("A-law", flv(&format!("{} -c:a pcm_alaw", tone(8_000)))),
        ("µ-law", flv(&format!("{} -c:a pcm_mulaw", tone(8_000)))),
        ("Speex", flv(&format!("{} -ac 1 -c:a libspeex", tone(16_000)))),
        ("Nellymoser", flv(&format!("{} -ac 1 -c:a nellymoser", tone(22_050)))),
    ];
    for (name, media) in cases {
        let recording = transcode(mono(), &media);
        assert_eq!(recording.unusable(), [], "{name}");
        let packets = recording.audio();
        assert!((96..=110).contains(&packets.len()), "{name}: {} packets", packets.len());
        let samples = pcm(&packets, 1);
        let tone = share(&samples[9_600..86_400], 440.0);
        assert!(tone > 0.9, "{name}: {tone} of the energy is in the tone");
    }
}

#[test]
fn surround_is_mixed_down_with_all_of_its_channels() {
    for channel in ["FL", "FR", "FC", "BL", "BR"] {
        let media = probed(
            &format!(
                "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=1,pan=5.1|{channel}=c0 -c:a aac -b:a 384k"
            ),
            "mp4",
        );
        let recording = transcode(job(), &media);
        assert!(recording.0.contains(&Event::AudioFormat { sample_rate: 48_000, channels: 6 }));
        let samples = pcm(&recording.audio(), 2);
        let side = |i: usize| {
            let s: Vec<f64> = samples[9600..90_000].iter().skip(i).step_by(2).map(|s| f64::from(*s)).collect();
            (s.iter().map(|s| s * s).sum::<f64>() / s.len() as f64).sqrt()
        };
        let (left, right) = (side(0), side(1));
        let loud = 100.0;
        match channel {
            "FL" | "BL" => assert!(left > loud && right < left / 10.0, "{channel} {left} {right}"),
            "FR" | "BR" => assert!(right > loud && left < right / 10.0, "{channel} {left} {right}"),
            _ => assert!(left > loud && (left - right).abs() < left / 10.0, "{channel} {left} {right}"),
        }
    }
}

#[test]
fn sound_that_changes_its_codec_goes_on() {
    let mut media = flv("-f lavfi -i sine=frequency=440:sample_rate=44100:duration=2 -ac 2 -c:a aac");
    let second = flv("-f lavfi -i sine=frequency=440:sample_rate=22050:duration=2 -ac 1 -c:a libmp3lame");
    let shift = MediaTime::from_millis(2000);
    media.extend(second.into_iter().map(|m| match m {
        Media::Frame(f) => Media::Frame(Frame { pts: f.pts + shift, dts: f.dts + shift, ..f }),
        m => m,
    }));
    let recording = transcode(mono(), &media);
    let packets = recording.audio();
    assert!((195..=212).contains(&packets.len()), "{}", packets.len());
    assert!(packets.windows(2).all(|p| p[0].0 < p[1].0));
    // Piece by piece: the two need not agree in phase, and the clock of the second is only known to the millisecond.
    let samples = pcm(&packets, 1);
    let shares = [9_600, 50_000, 120_000, 140_000, 160_000].map(|at| share(&samples[at..at + 19_200], 440.0));
    // The second begins some milliseconds apart, and is stretched for as long as that lasts.
    assert!(shares.iter().all(|s| *s > 0.75), "{shares:?}");
}

#[test]
fn silence_costs_next_to_nothing() {
    let media = flv("-f lavfi -i anullsrc=r=48000:cl=stereo -t 4 -c:a aac");
    for dtx in [true, false] {
        let audio = AudioEncoding { channels: 2, bitrate: 96_000, dtx };
        let packets = transcode(Job { audio, ..job() }, &media).audio();
        assert!((198..=206).contains(&packets.len()));
        let bytes = packets[50..].iter().map(|p| p.1.len()).sum::<usize>();
        assert!(bytes < 150 * 8, "{bytes}");
    }
}
