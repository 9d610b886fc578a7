//! Bad input, and parents that go away.

use crate::media::{flv, h264};
use crate::support::{Child, job, layers, to_child};
use bytes::Bytes;
use ipc::transcode::{Command, Event};
use ipc::{Assignment, Hello, VERSION, demux};
use model::{Blame, Frame, Kind, Media, MediaTime, PullGuard, PullLimits, VideoCodec, VideoConfig};

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed | 1;
    (0..length)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

fn film(seconds: f64) -> Vec<Media> {
    flv(&format!(
        "-f lavfi -i testsrc2=size=320x180:rate=25:duration={seconds} -f lavfi -i sine=duration={seconds} -c:v libx264 -preset ultrafast -g 25 -bf 2 -c:a aac -shortest"
    ))
}

#[test]
fn a_parent_that_closes_the_socket_ends_the_child() {
    let mut child = Child::ready();
    child.close();
    assert!(child.wait().success());

    let media = h264("320x180", "25", 1.0, "");
    let mut child = Child::with(job());
    let rest = child.open_video(&media, &layers(&[(320, 180)]));
    child.feed(rest);
    child.close();
    assert!(child.wait().success());
}

#[test]
fn a_job_without_media_finishes() {
    let recording = Child::with(job()).finish();
    assert_eq!(recording.0, [Event::Finished]);
}

#[test]
fn another_version_ends_the_child_and_blames_no_source() {
    let mut child = Child::ready();
    child.write(&Hello { version: VERSION + 1 });
    child.ends_without_a_last_word();
}

/// What it would need is not given to it: it can't be told to pull.
#[test]
fn a_job_of_another_profile_ends_the_child() {
    let mut child = Child::ready();
    child.write(&Assignment::from(demux::Job {
        source: demux::Source::Url("http://127.0.0.1:9/x".into()),
        guard: PullGuard::default(),
        limits: PullLimits::default(),
        largest: (1280, 720),
        from: None,
        live_only: false,
    }));
    child.ends_without_a_last_word();
}

#[test]
fn missing_plugins_are_our_fault() {
    let empty = std::env::temp_dir().join(format!("no-plugins-{}", std::process::id()));
    std::fs::create_dir_all(&empty).unwrap();
    let (registry, path) = (empty.join("registry.bin"), empty.to_str().unwrap());
    let environment = [
        ("GST_PLUGIN_SYSTEM_PATH_1_0", path),
        ("GST_PLUGIN_PATH_1_0", path),
        ("GST_REGISTRY_1_0", registry.to_str().unwrap()),
    ];
    let (mut child, ready) = Child::start(&environment);
    let fault = ready.unwrap_err();
    assert_eq!((fault.blame, fault.retry), (Blame::Us, false), "{fault}");
    assert!(fault.text.contains("this installation has no x264enc"), "{fault}");
    assert!(!child.wait().success());
    std::fs::remove_dir_all(&empty).unwrap();
}

#[test]
fn bytes_that_are_no_message_end_the_child() {
    use std::io::Write;
    let mut child = Child::ready();
    child.raw().write_all(&[0xff; 64]).unwrap();
    assert!(!child.wait().success());
}

#[test]
fn noise_instead_of_video_is_told_and_sound_goes_on() {
    let media = film(3.0);
    let mut child = Child::with(job());
    let garbled: Vec<Media> = media
        .iter()
        .map(|m| match m {
            Media::Frame(f) if f.kind == Kind::Video => {
                let data = noise(f.pts.as_nanos() as u64, f.data.len()).into();
                Media::Frame(Frame { data, ..f.clone() })
            }
            m => m.clone(),
        })
        .collect();
    for round in 0..3 {
        for m in &garbled {
            let m = match m {
                Media::Frame(f) => {
                    let shift = MediaTime::from_millis(round * 3000);
                    Media::Frame(Frame { pts: f.pts + shift, dts: f.dts + shift, ..f.clone() })
                }
                m => m.clone(),
            };
            child.send(&to_child(&m));
        }
    }
    let recording = child.finish();
    let unusable = recording.unusable();
    assert_eq!(unusable.len(), 1);
    assert_eq!(unusable[0].0, Kind::Video);
    assert!(unusable[0].1.text.contains("H.264"), "{}", unusable[0].1);
    assert_eq!((unusable[0].1.blame, unusable[0].1.retry), (Blame::Source, false));
    assert!(recording.audio().len() > 400);
}

#[test]
fn a_kind_that_was_unusable_is_reported_again_once_it_can_be_used() {
    let media = h264("320x180", "25", 1.0, "");
    let mut child = Child::with(job());
    let rest = child.open_video(&media, &layers(&[(320, 180)]));
    child.feed_for(rest, 0);
    let later = |seconds: i64| {
        let shift = MediaTime::from_millis(seconds * 1_000);
        move |m: &Media| match m {
            Media::Frame(f) => Media::Frame(Frame { pts: f.pts + shift, dts: f.dts + shift, ..f.clone() }),
            m => m.clone(),
        }
    };
    let garbled = media.iter().filter_map(|m| match m {
        Media::Frame(f) => Some(Media::Frame(Frame { data: noise(f.pts.as_nanos() as u64, 300).into(), ..f.clone() })),
        _ => None,
    });
    let garbled: Vec<_> = garbled.collect();
    for round in 1..10 {
        garbled.iter().map(later(round)).for_each(|m| child.send(&to_child(&m)));
    }
    child.until(|m| matches!(m, Event::Unusable { kind: Kind::Video, .. }));
    // The encoder starts again, as it was before.
    child.send(&Command::VideoConfig(VideoConfig::new(VideoCodec::H264, Bytes::from_static(&[1]), None)));
    media.iter().map(later(10)).for_each(|m| child.send(&to_child(&m)));
    child.until(|m| matches!(m, Event::VideoFormat { width: 320, height: 180, .. }));
    child.finish();
}

#[test]
fn a_broken_configuration_is_survived() {
    let media = h264("320x180", "25", 1.0, "");
    for record in [vec![], vec![1], noise(7, 40), vec![1, 66, 0, 30, 255, 225, 255, 255, 0]] {
        let mut child = Child::with(job());
        let record = Bytes::from(record);
        child.send(&Command::VideoConfig(VideoConfig::new(VideoCodec::H264, record, None)));
        child.feed(&media[1..]);
        // The next configuration is right, and all is well.
        let rest = child.open_video(&media, &layers(&[(320, 180)]));
        child.feed_for(rest, 0);
        assert!(child.finish().layer(0).len() > 10);
    }
}

#[test]
fn a_film_with_flipped_bits_and_cut_frames_does_not_stop_the_child() {
    let media = film(4.0);
    let mut child = Child::with(job());
    let rest = child.open_video(&media, &layers(&[(160, 90), (320, 180)]));
    let mut random = noise(99, 1 << 16).into_iter().cycle();
    let mut next = move || u32::from_le_bytes([0; 4].map(|_: u8| random.next().unwrap())) as usize;
    for m in rest {
        let Media::Frame(f) = m else { continue };
        let mut data = f.data.to_vec();
        match next() % 4 {
            0 => {
                for _ in 0..3 {
                    let (at, bit) = (next() % data.len(), next() % 8);
                    data[at] ^= 1 << bit;
                }
            }
            1 => data.truncate(next() % data.len() + 1),
            _ => {}
        }
        child.send(&Command::Frame(Frame { data: data.into(), ..f.clone() }));
    }
    // The same again, whole: both branches still work.
    let shift = MediaTime::from_millis(5000);
    let again: Vec<Media> = media
        .iter()
        .map(|m| match m {
            Media::Frame(f) => Media::Frame(Frame { pts: f.pts + shift, dts: f.dts + shift, ..f.clone() }),
            m => m.clone(),
        })
        .collect();
    child.feed_for(&again, 1);
    let recording = child.finish();
    let late = |t: MediaTime| t >= shift;
    assert!(recording.layer(1).iter().filter(|p| late(p.pts)).count() > 80);
    assert!(recording.audio().iter().filter(|p| late(p.0)).count() > 150);
}

#[test]
fn frames_that_are_empty_or_tiny_are_survived() {
    let media = film(1.0);
    let mut child = Child::with(job());
    for m in media.iter().filter(|m| !matches!(m, Media::Frame(_))) {
        child.send(&to_child(m));
    }
    for length in 0..40 {
        for kind in [Kind::Video, Kind::Audio] {
            let time = MediaTime::from_millis(length);
            let data = Bytes::from(noise(length as u64, length as usize));
            child.send(&Command::Frame(Frame { kind, pts: time, dts: time, key: true, data }));
        }
    }
    let rest = child.open_video(&media, &layers(&[(320, 180)]));
    child.feed_for(rest, 0);
    let recording = child.finish();
    assert!(recording.layer(0).len() > 10);
    assert!(recording.audio().len() > 20);
}
