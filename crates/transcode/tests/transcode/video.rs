//! The video branch.

use crate::media::{describe, flv, h264, luma, probed};
use crate::support::{Child, Picture, Recording, job, layers};
use ipc::transcode::{Command, Event, Job};
use model::{EncodedVideo, Frame, Kind, Media, MediaTime, fit_layers};

const THREE: [(u32, u32); 3] = [(160, 90), (320, 180), (640, 360)];

fn stream(pictures: &[Picture]) -> Vec<u8> {
    pictures.iter().flat_map(|p| p.data.clone()).collect()
}

fn frames(media: &[Media]) -> Vec<&Frame> {
    let frames = media.iter().filter_map(|m| match m {
        Media::Frame(f) => Some(f),
        _ => None,
    });
    frames.filter(|f| f.kind == Kind::Video).collect()
}

fn ascending(pictures: &[Picture]) -> bool {
    pictures.windows(2).all(|p| p[0].pts < p[1].pts)
}

/// Feeds all of it, slow enough that nothing is dropped.
fn transcode(job: Job, media: &[Media], sizes: &[(u32, u32)]) -> Recording {
    let mut child = Child::with(job);
    let rest = child.open_video(media, &layers(sizes));
    child.feed_for(rest, sizes.len() as u8 - 1);
    child.finish()
}

#[test]
fn three_layers_have_their_size_and_profile_and_every_picture() {
    let media = h264("640x360", "25", 2.0, "");
    let recording = transcode(job(), &media, &THREE);
    assert_eq!(recording.formats(), [(640, 360, Some(25.0))]);
    let times: Vec<MediaTime> = frames(&media).iter().map(|f| f.pts).collect();
    for (layer, (width, height)) in (0u8..).zip(THREE) {
        let pictures = recording.layer(layer);
        let got: Vec<MediaTime> = pictures.iter().map(|p| p.pts).collect();
        assert_eq!(got, times, "times of layer {layer}");
        assert_eq!(pictures.iter().filter(|p| p.key).count(), 1, "one key frame, at the start");
        assert!(pictures[0].key);
        let bytes = stream(&pictures);
        // An access unit delimiter opens each picture; the SPS says baseline with constraint set 0 and 1.
        assert_eq!(bytes[..4], [0, 0, 0, 1]);
        assert_eq!(bytes[4] & 31, 9);
        let sps = bytes.windows(6).find(|w| w[..3] == [0, 0, 1] && w[3] & 31 == 7).unwrap();
        assert_eq!((sps[4], sps[5] & 0xc0), (66, 0xc0));
        assert_eq!(describe(&bytes, "h264"), (width, height, "Constrained Baseline".into(), times.len()));
    }
}

#[test]
fn the_picture_is_that_of_the_source() {
    let media = flv(
        "-f lavfi -i color=black:size=320x180:rate=25:duration=1,drawbox=x=0:y=0:w=160:h=90:color=white:t=fill -c:v libx264 -tune zerolatency",
    );
    let recording = transcode(job(), &media, &[(160, 90), (320, 180)]);
    for (layer, (w, h)) in [(0, (160u32, 90u32)), (1, (320, 180))] {
        let pictures = luma(&stream(&recording.layer(layer)), (w, h));
        let at = |x: u32, y: u32| pictures.last().unwrap()[(y * w + x) as usize];
        assert!(at(w / 4, h / 4) > 225, "white above left");
        assert!(at(w * 3 / 4, h / 4) < 25 && at(w / 4, h * 3 / 4) < 25, "black elsewhere");
    }
}

#[test]
fn a_key_frame_comes_when_asked_for_and_on_that_layer_only() {
    let media = h264("640x360", "25", 2.0, "");
    let mut child = Child::with(job());
    let rest = child.open_video(&media, &layers(&THREE));
    let (before, after) = rest.split_at(20);
    child.feed_for(before, 2);
    child.send(&Command::KeyFrame { layer: 1 });
    child.feed_for(after, 2);
    let recording = child.finish();
    let keys = |l| recording.layer(l).iter().enumerate().filter(|(_, p)| p.key).map(|(i, _)| i).collect::<Vec<_>>();
    assert_eq!((keys(0), keys(2)), (vec![0], vec![0]));
    assert_eq!(keys(1).len(), 2);
    // Within the two pictures that may already have been on their way.
    assert!((20..=23).contains(&keys(1)[1]), "{:?}", keys(1));
}

#[test]
fn a_layer_that_nobody_wants_is_silent_and_comes_back_with_a_key_frame() {
    let media = h264("640x360", "25", 4.0, "");
    let mut child = Child::with(job());
    let rest = child.open_video(&media, &layers(&THREE));
    let part = rest.len() / 3;
    child.feed_for(&rest[..part], 2);
    child.send(&Command::Wanted { layer: 1, wanted: false });
    child.send(&Command::Wanted { layer: 2, wanted: false });
    child.feed_for(&rest[part..2 * part], 0);
    let (middle, top) = (child.pictures[1], child.pictures[2]);
    assert!(child.pictures[0] > part, "the layer that is wanted goes on, scaled from the source itself");
    assert!(middle <= part + 2 && top <= part + 2);
    child.send(&Command::Wanted { layer: 2, wanted: true });
    child.feed_for(&rest[2 * part..], 2);
    let recording = child.finish();
    let back = &recording.layer(2)[top..];
    assert!(back.len() >= part - 1 && back[0].key && !back[1].key);
    assert_eq!(recording.layer(1).len(), middle);
    for (layer, (w, h)) in [(0, THREE[0]), (2, THREE[2])] {
        let (dw, dh, _, n) = describe(&stream(&recording.layer(layer)), "h264");
        assert_eq!((dw, dh, n), (w, h, recording.layer(layer).len()));
    }
}

#[test]
fn b_frames_come_out_in_order_of_showing_and_all_of_them() {
    let media = flv("-f lavfi -i testsrc2=size=320x180:rate=25:duration=3 -c:v libx264 -preset fast -bf 3 -g 25");
    assert!(frames(&media).windows(2).any(|f| f[0].pts > f[1].pts), "the source has B-frames");
    let recording = transcode(job(), &media, &[(160, 90), (320, 180)]);
    let mut times: Vec<MediaTime> = frames(&media).iter().map(|f| f.pts).collect();
    times.sort();
    for layer in 0..2 {
        let pictures = recording.layer(layer);
        assert!(ascending(&pictures));
        let got: Vec<MediaTime> = pictures.iter().map(|p| p.pts).collect();
        // Pictures decoded before the layers were named are not encoded, but the newest of them; and while an encoder opens,
        // on a busy machine, some may be left out. From then on none is.
        let steady = |all: &[MediaTime]| -> Vec<MediaTime> {
            all.iter().copied().filter(|t| *t >= MediaTime::from_millis(1_000)).collect()
        };
        assert_eq!(steady(&got), steady(&times));
        assert!(got.iter().all(|t| times.contains(t)) && times.len() - got.len() <= 8, "{got:?} of {times:?}");
    }
}

#[test]
fn times_begin_anywhere() {
    let media = h264("320x180", "25", 1.0, "");
    for shift in [MediaTime::from_millis(-1500), MediaTime::from_millis(7 * 3_600_000 + 123)] {
        let shifted: Vec<Media> = media
            .iter()
            .map(|m| match m {
                Media::Frame(f) => Media::Frame(Frame { pts: f.pts + shift, dts: f.dts + shift, ..f.clone() }),
                m => m.clone(),
            })
            .collect();
        let recording = transcode(job(), &shifted, &[(320, 180)]);
        let got: Vec<MediaTime> = recording.layer(0).iter().map(|p| p.pts).collect();
        assert_eq!(got, frames(&shifted).iter().map(|f| f.pts).collect::<Vec<_>>());
    }
}

#[test]
fn a_size_that_changes_is_scaled_into_the_same_layers() {
    let mut media = h264("320x180", "25", 1.0, "");
    let wide = media.len();
    let later = |ms: i64, media: Vec<Media>| {
        media.into_iter().map(move |m| match m {
            Media::Frame(f) => {
                let shift = MediaTime::from_millis(ms);
                Media::Frame(Frame { pts: f.pts + shift, dts: f.dts + shift, ..f })
            }
            m => m,
        })
    };
    media.extend(later(1000, h264("240x240", "25", 1.0, "-bsf:v h264_metadata=video_full_range_flag=0")));
    media.extend(later(2000, h264("640x360", "25", 1.0, "")));
    let recording = transcode(job(), &media, &[(160, 90), (320, 180)]);
    let sizes: Vec<(u32, u32)> = recording.formats().iter().map(|f| (f.0, f.1)).collect();
    assert_eq!(sizes, [(320, 180), (240, 240), (640, 360)]);
    let pictures = recording.layer(1);
    assert_eq!(pictures.len(), frames(&media).len());
    assert!(ascending(&pictures));
    assert_eq!(describe(&stream(&pictures), "h264").2, "Constrained Baseline");
    let square = &luma(&stream(&pictures), (320, 180))[wide + 10];
    let column = |x: usize| (0..180).map(|y| u32::from(square[y * 320 + x])).sum::<u32>() / 180;
    assert!(column(20) <= 20 && column(300) <= 20, "borders left and right");
    assert!(column(160) > 40, "the picture in the middle");
}

#[test]
fn layers_take_other_sizes_with_a_key_frame_and_without_losing_a_picture() {
    let media = h264("320x180", "25", 3.0, "");
    let mut child = Child::with(job());
    let rest = child.open_video(&media, &layers(&[(80, 46), (160, 90), (320, 180)]));
    let (before, after) = rest.split_at(rest.len() / 3);
    child.feed_for(before, 2);
    child.send(&Command::Wanted { layer: 1, wanted: false });
    child.send(&Command::Layers(layers(&[(80, 46), (120, 68), (240, 136)])));
    let (unwanted, wanted) = after.split_at(after.len() / 2);
    child.feed_for(unwanted, 2);
    child.send(&Command::Wanted { layer: 1, wanted: true });
    child.feed_for(wanted, 2);
    let recording = child.finish();
    let pictures = recording.layer(2);
    assert_eq!(
        pictures.iter().map(|p| p.pts).collect::<Vec<_>>(),
        frames(&media).iter().map(|f| f.pts).collect::<Vec<_>>()
    );
    let keys: Vec<_> = (0..pictures.len()).filter(|i| pictures[*i].key).collect();
    let [0, change] = keys[..] else { panic!("{keys:?}") };
    // Within the two pictures that may already have been on their way.
    assert!(pictures.len() - change <= after.len() + 2, "{change}");
    let described = |part: &[Picture]| describe(&stream(part), "h264");
    assert_eq!(described(&pictures[..change]).1, 180);
    let after = described(&pictures[change..]);
    assert_eq!((after.0, after.1, after.3), (240, 136, pictures.len() - change));
    let same = recording.layer(0);
    assert_eq!(
        (same.len(), same.iter().filter(|p| p.key).count()),
        (pictures.len(), 1),
        "what stays as it is needs none"
    );
    let meanwhile = recording.layer(1);
    let back = meanwhile.iter().rposition(|p| p.key).unwrap();
    let described = described(&meanwhile[back..]);
    assert_eq!((described.0, described.1), (120, 68));
    assert!(described.3 >= wanted.len() - 2, "{}", described.3);
}

#[test]
fn a_codec_that_changes_is_followed_without_a_pause() {
    let first = h264("320x180", "25", 1.0, "");
    let vp8 =
        probed("-f lavfi -i testsrc2=size=320x180:rate=25:duration=1 -c:v libvpx -deadline realtime -g 25", "webm");
    let mut media = first.clone();
    let shift = MediaTime::from_millis(1000);
    media.extend(vp8.into_iter().map(|m| match m {
        Media::Frame(f) => Media::Frame(Frame { pts: f.pts + shift, dts: f.dts + shift, ..f }),
        m => m,
    }));
    let recording = transcode(job(), &media, &[(160, 90), (320, 180)]);
    for layer in 0..2 {
        assert_eq!(recording.layer(layer).len(), frames(&media).len());
        assert!(ascending(&recording.layer(layer)));
        assert_eq!(recording.layer(layer).iter().filter(|p| p.key).count(), 1, "encoders go on");
    }
    assert_eq!(recording.unusable(), []);
}

#[test]
fn a_configuration_that_is_repeated_changes_nothing() {
    let media = h264("320x180", "25", 1.0, "");
    let config = media.iter().find(|m| matches!(m, Media::VideoConfig(_))).unwrap().clone();
    let repeated: Vec<Media> = media.iter().flat_map(|m| [config.clone(), m.clone()]).collect();
    let recording = transcode(job(), &repeated, &[(320, 180)]);
    assert_eq!(recording.layer(0).len(), frames(&media).len());
}

#[test]
fn rates_above_the_limit_are_thinned_and_pictures_are_never_made_up() {
    for (rate, expected) in [("60", 60), ("15", 30)] {
        let media = h264("160x90", rate, 2.0, "");
        let mut child = Child::with(job());
        let rest = child.open_video(&media, &layers(&[(160, 90)]));
        child.feed_for(rest, 0);
        let n = child.finish().layer(0).len();
        assert!((expected - 2..=expected + 1).contains(&n), "{n} pictures of {rate} a second");
    }
}

#[test]
fn vp8_layers() {
    let media = h264("640x360", "25", 2.0, "");
    let mut child = Child::with(Job { video_codec: EncodedVideo::Vp8, ..job() });
    let rest = child.open_video(&media, &layers(&THREE));
    let (before, after) = rest.split_at(20);
    child.feed_for(before, 2);
    child.send(&Command::KeyFrame { layer: 2 });
    child.feed_for(after, 2);
    let recording = child.finish();
    for (layer, (width, height)) in (0u8..).zip(THREE) {
        let pictures = recording.layer(layer);
        assert_eq!(pictures.len(), frames(&media).len());
        assert!(ascending(&pictures));
        assert_eq!(pictures.iter().filter(|p| p.key).count(), if layer == 2 { 2 } else { 1 });
        for p in &pictures {
            // RFC 6386 §9.1: bit 0 of the first byte is 0 in key frames, which then carry a start code and the size.
            assert_eq!(p.data[0] & 1 == 0, p.key);
            if p.key {
                assert_eq!(p.data[3..6], [0x9d, 0x01, 0x2a]);
                let side = |i: usize| u32::from(u16::from_le_bytes([p.data[i], p.data[i + 1]]) & 0x3fff);
                assert_eq!((side(6), side(8)), (width, height));
            }
        }
        assert_eq!(describe(&ivf(&pictures, width, height), "ivf").3, pictures.len());
    }
}

fn ivf(pictures: &[Picture], width: u32, height: u32) -> Vec<u8> {
    let mut out = b"DKIF\0\0\x20\0VP80".to_vec();
    out.extend((width as u16).to_le_bytes());
    out.extend((height as u16).to_le_bytes());
    out.extend([0xe8, 3, 0, 0, 1, 0, 0, 0]);
    out.extend((pictures.len() as u32).to_le_bytes());
    out.extend([0; 4]);
    for p in pictures {
        out.extend((p.data.len() as u32).to_le_bytes());
        out.extend((p.pts.as_millis() as u64).to_le_bytes());
        out.extend(&p.data);
    }
    out
}

#[test]
fn odd_and_upright_sources_fit_their_layers() {
    for size in ["334x188", "270x480", "98x162"] {
        let media = h264(size, "25", 0.4, "");
        let mut child = Child::with(job());
        let (w, h) = size.split_once('x').map(|(w, h)| (w.parse().unwrap(), h.parse().unwrap())).unwrap();
        let fitted = fit_layers(&model::VideoPreset::H264_720p30Layers3.encoding().layers, w, h);
        let rest = child.open_video(&media, &fitted);
        child.feed_for(rest, fitted.len() as u8 - 1);
        let recording = child.finish();
        assert_eq!(recording.formats()[0].0..=recording.formats()[0].1, w..=h);
        for (i, l) in (0u8..).zip(&fitted) {
            let (dw, dh, _, n) = describe(&stream(&recording.layer(i)), "h264");
            assert_eq!((dw, dh, n), (l.width, l.height, 10), "{size}");
        }
    }
}

#[test]
fn pixels_that_are_not_square_are_reported_as_shown() {
    let media = h264("320x240", "25", 0.4, "-vf setsar=4/3");
    let recording = transcode(job(), &media, &[(426, 240)]);
    assert_eq!(recording.formats(), [(427, 240, Some(25.0))]);
    assert_eq!(describe(&stream(&recording.layer(0)), "h264").3, 10);
}

#[test]
fn other_kinds_of_pictures_become_eight_bit_420() {
    for format in ["yuv420p10le", "yuv422p", "yuv444p"] {
        let media = h264("320x180", "25", 0.6, &format!("-pix_fmt {format} -color_range tv"));
        let recording = transcode(job(), &media, &[(160, 90), (320, 180)]);
        for layer in 0..2 {
            let pictures = recording.layer(layer);
            assert_eq!(pictures.len(), 15, "{format}");
            assert_eq!(describe(&stream(&pictures), "h264").2, "Constrained Baseline");
        }
        // The test picture has white and black in it; a wrong conversion has not.
        let last = luma(&stream(&recording.layer(1)), (320, 180)).pop().unwrap();
        assert!(last.iter().any(|v| *v > 200) && last.iter().any(|v| *v < 30), "{format}");
    }
}

#[test]
fn interlaced_sources_are_deinterlaced() {
    let media = flv(
        "-f lavfi -i testsrc2=size=320x240:rate=50:duration=1,tinterlace=interleave_top,fieldorder=tff -c:v libx264 -flags +ildct+ilme -bf 0 -x264opts tff=1",
    );
    let recording = transcode(job(), &media, &[(320, 240)]);
    let pictures = recording.layer(0);
    assert!(pictures.len() >= frames(&media).len() - 2 && pictures.len() <= frames(&media).len(), "{}", pictures.len());
    assert!(ascending(&pictures));
    assert_eq!(describe(&stream(&pictures), "h264").3, pictures.len());
}

/// The pictures of 320×180 that come of this where all before `from` are to be decoded only.
fn shown_from(mut child: Child, media: &[Media], from: MediaTime) -> Vec<Picture> {
    child.send(&Command::ShowFrom(Kind::Video, from));
    let hidden = media.iter().take_while(|m| !matches!(m, Media::Frame(f) if f.pts >= from)).count();
    child.feed(&media[..hidden]);
    child.until(|m| matches!(m, Event::VideoFormat { .. }));
    child.send(&Command::Layers(layers(&[(320, 180)])));
    child.feed_for(&media[hidden..], 0);
    child.finish().layer(0)
}

#[test]
fn pictures_before_the_show_point_are_decoded_only() {
    let media = h264("320x180", "25", 2.0, "");
    let mut child = Child::with(job());
    child.send(&Command::ShowFrom(Kind::Audio, MediaTime::from_millis(9_000)));
    let from = MediaTime::from_millis(1000);
    let pictures = shown_from(child, &media, from);
    assert_eq!((pictures[0].pts, pictures[0].key, pictures.len()), (from, true, 25));
}

#[test]
fn behind_a_deep_catching_up_every_picture_is_shown_whole_and_in_order() {
    // B-pictures, of which some need not be decoded.
    let media = h264("320x180", "25", 6.0, "-bf 2 -g 100 -keyint_min 100 -sc_threshold 0");
    let mut times: Vec<MediaTime> = frames(&media).iter().map(|f| f.pts).collect();
    times.sort();
    let from = times[75];
    let spare = frames(&media).iter().filter(|f| media::picture::h264_is_disposable(&f.data, 4)).count();
    assert!(spare > 20, "{spare}");
    let pictures = shown_from(Child::with(job()), &media, from);
    assert_eq!(pictures.iter().map(|p| p.pts).collect::<Vec<_>>(), times[75..]);
    let (expected, got) = (
        luma(&stream(&transcode(job(), &media, &[(320, 180)]).layer(0)), (320, 180)),
        luma(&stream(&pictures), (320, 180)),
    );
    for (a, b) in expected[75..].iter().zip(&got) {
        let off: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(off < 320 * 180 * 6, "{off}");
    }
}

#[test]
fn the_last_picture_is_repeated_when_asked_for() {
    let media = h264("320x180", "25", 1.0, "");
    let mut child = Child::with(job());
    child.send(&Command::Repeat(MediaTime::from_millis(1)));
    let rest = child.open_video(&media, &layers(&[(320, 180)]));
    child.feed_for(rest, 0);
    let last = frames(&media).last().unwrap().pts;
    let later = |ms| last + MediaTime::from_millis(ms);
    for at in [later(300), later(200), later(700)] {
        child.send(&Command::Repeat(at));
    }
    let pictures = child.finish().layer(0);
    let times: Vec<_> = pictures.iter().map(|p| p.pts).filter(|pts| *pts >= last).collect();
    assert_eq!(times, [last, later(300), later(700)], "none before the one that was shown last");
    let shown = luma(&stream(&pictures), (320, 180));
    let [.., source, _, repeated] = &shown[..] else { panic!("{}", shown.len()) };
    let off: u64 = source.iter().zip(repeated).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    assert!(off < 320 * 180 * 4, "the same picture: {off}");
}

#[test]
fn codecs_beyond_h264() {
    let source = "-f lavfi -i testsrc2=size=320x180:rate=25:duration=0.6";
    let cases = [
        (
            "H.265",
            probed(&format!("{source} -c:v libx265 -preset ultrafast -x265-params log-level=none:bframes=0"), "mp4"),
        ),
        (
            "H.265 10 bit",
            probed(
                &format!("{source} -pix_fmt yuv420p10le -c:v libx265 -preset ultrafast -x265-params log-level=none"),
                "mp4",
            ),
        ),
        ("VP8", probed(&format!("{source} -c:v libvpx -deadline realtime"), "webm")),
        ("VP9", probed(&format!("{source} -c:v libvpx-vp9 -deadline realtime -cpu-used 8"), "webm")),
        ("AV1", probed(&format!("{source} -c:v libaom-av1 -usage realtime -cpu-used 8"), "mp4")),
        ("Sorenson Spark", flv(&format!("{source} -c:v flv"))),
        ("Screen Video", flv(&format!("{source} -c:v flashsv"))),
    ];
    for (name, media) in cases {
        let recording = transcode(job(), &media, &[(160, 90), (320, 180)]);
        assert_eq!(recording.unusable(), [], "{name}");
        assert_eq!((recording.formats()[0].0, recording.formats()[0].1), (320, 180), "{name}");
        let pictures = recording.layer(1);
        assert!(pictures.len() >= 12 && ascending(&pictures), "{name}: {} pictures", pictures.len());
        let last = luma(&stream(&pictures), (320, 180)).pop().unwrap();
        assert!(last.iter().any(|v| *v > 200) && last.iter().any(|v| *v < 40), "{name}");
    }
}

#[test]
fn a_layer_without_viewers_costs_next_to_nothing() {
    let media = h264("640x360", "25", 4.0, "");
    let mut child = Child::with(job());
    let rest = child.open_video(&media, &layers(&THREE));
    let half = rest.len() / 2;
    let cpu = child.cpu();
    child.feed_for(&rest[..half], 2);
    let watched = child.cpu() - cpu;
    for layer in 0..3 {
        child.send(&Command::Wanted { layer, wanted: false });
    }
    let cpu = child.cpu();
    child.feed(&rest[half..]);
    // Behind the last picture, which is encoded once more: all are decoded.
    let end = MediaTime::from_millis(60_000);
    child.send(&Command::Wanted { layer: 0, wanted: true });
    child.send(&Command::Repeat(end));
    child.until(|m| matches!(m, Event::AccessUnit { layer: 0, pts, .. } if *pts == end));
    let unwatched = child.cpu() - cpu;
    assert!(unwatched < watched / 2.0, "{unwatched} s against {watched} s with viewers");
    child.finish();
}
