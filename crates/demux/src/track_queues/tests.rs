//! What is played when, and who waits.

use super::*;
use crate::fault::unplayable;
use model::{AudioCodec, AudioConfig, Blame};

fn queues_with(tracks: &[(Kind, u64)]) -> TrackQueues {
    let queues = TrackQueues::new();
    for (kind, rank) in tracks {
        let track = queues.add(*kind, false);
        queues.config(track, config(), *rank);
    }
    queues.complete();
    queues
}

fn config() -> Event {
    let record = bytes::Bytes::new();
    Event::AudioConfig(AudioConfig { codec: AudioCodec::Mp3, record, sample_rate: None, channels: None })
}

fn unit(ms: i64, size: usize) -> AccessUnit {
    AccessUnit { pts: ms * 1_000_000, dts: None, key: true, data: vec![0; size].into() }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

#[test]
fn the_best_tracks_are_played_in_order_of_time() {
    let queues = queues_with(&[(Kind::Audio, 2), (Kind::Video, 100), (Kind::Video, 400), (Kind::Audio, 2)]);
    for (track, at) in [(0, 5), (1, 0), (2, 10), (3, 0), (0, 45), (2, 50)] {
        assert!(queues.push(track, unit(at, 1)));
    }
    assert_eq!(queues.chosen(soon()), Ok(Some(vec![Kind::Video, Kind::Audio])));
    (0..4).for_each(|t| queues.end(t));
    let mut seen = Vec::new();
    loop {
        match queues.next(i64::MAX) {
            Next::Item(kind, Item::Unit { unit: u, .. }, _) => seen.push((kind, u.pts / 1_000_000)),
            Next::Item(_, Item::Config(_), _) => {}
            Next::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [(Kind::Audio, 5), (Kind::Video, 10), (Kind::Audio, 45), (Kind::Video, 50)]);
}

#[test]
fn video_is_due_a_little_after_its_audio() {
    for (queues, expected) in [
        (TrackQueues::new(), [(Kind::Audio, 0), (Kind::Audio, 10), (Kind::Video, 0)]),
        (TrackQueues::live_over_srt(), [(Kind::Audio, 0), (Kind::Video, 0), (Kind::Audio, 10)]),
    ] {
        for (track, kind) in [(0, Kind::Video), (1, Kind::Audio)] {
            assert_eq!(queues.add(kind, false), track);
            queues.config(track, config(), 1);
        }
        queues.complete();
        [(0, 0), (1, 0), (1, 10)].into_iter().for_each(|(track, at)| assert!(queues.push(track, unit(at, 1))));
        queues.chosen(soon()).unwrap();
        assert_eq!(queues.first(), Some(0));
        let mut seen = Vec::new();
        for due in 0..30 {
            while let Next::Item(kind, item, late) = queues.next(due * 1_000_000) {
                if let Item::Unit { unit, .. } = item {
                    assert_eq!(late, 0, "{kind:?}");
                    seen.push((kind, unit.pts / 1_000_000));
                }
            }
        }
        assert_eq!(seen, expected);
    }
}

#[test]
fn audio_that_comes_late_joins() {
    let queues = queues_with(&[(Kind::Video, 1)]);
    queues.push(0, unit(0, 1));
    assert_eq!(queues.chosen(soon()), Ok(Some(vec![Kind::Video])));
    for rank in [1, 9] {
        let track = queues.add(Kind::Audio, false);
        queues.config(track, config(), rank);
        queues.push(track, unit(5, 1));
    }
    let mut sounds = 0;
    while let Next::Item(kind, item, _) = queues.next(i64::MAX) {
        sounds += usize::from(kind == Kind::Audio && matches!(item, Item::Unit { .. }));
    }
    assert_eq!(sounds, 1);
}

#[test]
fn a_fault_is_given_after_what_is_complete() {
    let queues = queues_with(&[(Kind::Audio, 1)]);
    queues.push(0, unit(100, 1));
    queues.chosen(soon()).unwrap();
    assert!(matches!(queues.next(50_000_000), Next::Empty));
    queues.fail(unplayable("broken"));
    queues.fail(unplayable("worse"));
    assert!(matches!(queues.next(100_000_000), Next::Item(_, Item::Config(_), _)));
    assert!(matches!(queues.next(130_000_000), Next::Item(_, Item::Unit { .. }, 30_000_000)));
    assert!(matches!(queues.next(100_000_000), Next::Fault(f) if f.text == "broken"));
    assert!(!queues.push(0, unit(200, 1)));
}

/// Plays all that is due by `until` (milliseconds); gives kinds and times.
fn played(queues: &TrackQueues, until: i64) -> Vec<(Kind, i64)> {
    let mut units = Vec::new();
    while let Next::Item(kind, item, _) = queues.next(until * 1_000_000 + VIDEO_AFTER_AUDIO) {
        if let Item::Unit { unit, .. } = item {
            units.push((kind, unit.pts / 1_000_000));
        }
    }
    units
}

/// Queues of video (track 0) and audio (track 1), of which the start has been played.
fn playing() -> TrackQueues {
    let queues = queues_with(&[(Kind::Video, 1), (Kind::Audio, 1)]);
    (0..2).for_each(|track| assert!(queues.push(track, unit(0, 1))));
    queues.chosen(soon()).unwrap();
    played(&queues, 0);
    queues
}

#[test]
fn a_gap_is_skipped_once_all_tracks_are_past_it() {
    let queues = playing();
    let both = |at| (0..2).for_each(|track| assert!(queues.push(track, unit(at, 1))));
    both(3_000);
    assert_eq!(queues.gap(20_000_000), None, "a pause in the source is one");
    played(&queues, 3_000);
    queues.rejoined(0);
    queues.push(0, unit(12_000, 1));
    assert_eq!(queues.gap(3_020_000_000), None, "audio may follow");
    queues.rejoined(1);
    queues.push(1, unit(11_990, 1));
    assert_eq!(queues.gap(3_020_000_000), Some(8_970_000_000));
    assert_eq!(queues.gap(11_990_000_000), None, "it has been skipped");
    // What came before a gap is played before it.
    played(&queues, 12_000);
    both(12_040);
    (0..2).for_each(|track| queues.rejoined(track));
    both(20_000);
    assert_eq!(queues.gap(12_020_000_000), None);
    played(&queues, 12_040);
    assert_eq!(queues.gap(12_060_000_000), Some(7_940_000_000));
    // Nothing was missed: a pause that comes later is one again.
    played(&queues, 20_000);
    (0..2).for_each(|track| queues.rejoined(track));
    both(20_040);
    assert_eq!(queues.gap(20_020_000_000), None);
    played(&queues, 20_040);
    both(30_000);
    assert_eq!(queues.gap(20_060_000_000), None);
}

#[test]
fn what_comes_out_of_the_old_connection_last_does_not_use_up_the_gap() {
    let queues = playing();
    // One rendition is past the gap before the other has given what it still held.
    queues.rejoined(1);
    queues.push(1, unit(9_000, 1));
    queues.push(0, unit(40, 1));
    assert_eq!(queues.gap(20_000_000), None);
    assert_eq!(played(&queues, 40), [(Kind::Video, 40)]);
    queues.rejoined(0);
    queues.push(0, unit(9_000, 1));
    assert_eq!(queues.gap(60_000_000), Some(8_940_000_000));
}

#[test]
fn renditions_that_are_joined_apart_go_on_together() {
    let queues = playing();
    (0..2).for_each(|track| queues.rejoined(track));
    // A key frame each second; the audio comes from 13.5 s on.
    let video = |ms: i64| AccessUnit { key: ms % 1_000 == 0, ..unit(ms, 1) };
    (90..160).for_each(|n| assert!(queues.push(0, video(n * 100))));
    queues.push(1, unit(13_500, 1));
    assert_eq!(queues.gap(500_000_000), Some(12_500_000_000 + VIDEO_AFTER_AUDIO), "from the key frame before it");
    assert_eq!(queues.lock().bytes(), 31);
    assert_eq!(played(&queues, 13_100), [(Kind::Video, 13_000), (Kind::Video, 13_100)]);
    // If the video has not come so far, what follows is waited for.
    let queues = playing();
    (0..2).for_each(|track| queues.rejoined(track));
    (90..100).for_each(|n| assert!(queues.push(0, AccessUnit { key: false, ..unit(n * 100, 1) })));
    queues.push(1, unit(13_500, 1));
    assert_eq!(queues.gap(500_000_000), None);
    assert_eq!(queues.lock().bytes(), 1);
    queues.push(0, unit(13_000, 1));
    assert_eq!(queues.gap(500_000_000), Some(12_500_000_000 + VIDEO_AFTER_AUDIO));
}

#[test]
fn the_filler_waits_when_it_is_ahead() {
    let queues = queues_with(&[(Kind::Audio, 1)]);
    queues.push(0, unit(0, 1));
    queues.chosen(soon()).unwrap();
    let filler = std::thread::spawn({
        let queues = queues.clone();
        move || (1..=40).take_while(|i| queues.push(0, unit(i * 100, 1))).count()
    });
    let waits = |queues: &TrackQueues| queues.lock().choice.tracks[0].span() > MAX_AHEAD;
    while !waits(&queues) {
        std::thread::yield_now();
    }
    assert!(queues.lock().choice.tracks[0].span() <= MAX_AHEAD + 100_000_000);
    queues.close();
    assert!(filler.join().unwrap() < 40);
}

#[test]
fn a_full_live_queue_drops_up_to_the_next_key_frame() {
    let queues = TrackQueues::live();
    let track = queues.add(Kind::Video, false);
    queues.config(track, config(), 1);
    queues.complete();
    let half = MAX_BYTES / 2;
    let delta = |ms, size| AccessUnit { key: false, ..unit(ms, size) };
    queues.push(track, unit(0, half));
    queues.chosen(soon()).unwrap();
    queues.push(track, delta(40, half));
    queues.push(track, delta(80, 1));
    assert_eq!(played(&queues, 1_000).len(), 2);
    queues.push(track, delta(120, 1));
    assert!(played(&queues, 1_000).is_empty(), "it builds on what was dropped");
    queues.push(track, unit(160, 1));
    queues.push(track, delta(200, 1));
    assert_eq!(played(&queues, 1_000), [(Kind::Video, 160), (Kind::Video, 200)]);
}

#[test]
fn a_track_that_is_left_out_does_not_grow() {
    let queues = queues_with(&[(Kind::Video, 1), (Kind::Video, 9)]);
    (0..2).for_each(|track| assert!(queues.push(track, unit(0, 1))));
    queues.chosen(soon()).unwrap();
    (0..100).for_each(|_| queues.config(0, config(), 1));
    let mut state = queues.lock();
    assert!(matches!(state.choice.tracks[0].pop(), Some(Item::Config(_))), "for when it takes another's place");
    assert!(state.choice.tracks[0].pop().is_none());
}

#[test]
fn a_stream_that_begins_before_the_one_before_ends_is_played_whole() {
    let queues = playing();
    let next = queues.add(Kind::Audio, false);
    queues.config(next, config(), 1);
    queues.push(1, unit(500, 1));
    (1..4).for_each(|n| assert!(queues.push(next, unit(500 + n * 20, 1))));
    assert_eq!(played(&queues, 600), [(Kind::Audio, 500)], "the audio before goes on");
    queues.release(1);
    let next_items: Vec<_> = std::iter::from_fn(|| match queues.next(560_000_000) {
        Next::Item(kind, Item::Config(_), _) => Some((kind, -1)),
        Next::Item(kind, Item::Unit { unit, .. }, _) => Some((kind, unit.pts / 1_000_000)),
        _ => None,
    })
    .collect();
    assert_eq!(next_items, [-1, 520, 540, 560].map(|at| (Kind::Audio, at)));
    // The stream after that goes on in the first track, which is free again.
    queues.adopt(1);
    queues.config(1, config(), 1);
    queues.push(1, unit(1_100, 1));
    queues.release(next);
    assert_eq!(played(&queues, 1_100), [(Kind::Audio, 1_100)]);
    assert_eq!(queues.lock().choice.chosen().count(), 2);
}

#[test]
fn a_language_that_is_left_out_stays_so_across_a_discontinuity() {
    let queues = queues_with(&[(Kind::Audio, 2), (Kind::Audio, 1)]);
    (0..2).for_each(|track| assert!(queues.push(track, unit(0, 1))));
    queues.chosen(soon()).unwrap();
    for begin in [1_000, 2_000] {
        played(&queues, begin - 1_000);
        // One demultiplexer ends, another goes on in the same tracks.
        (0..2).for_each(|track| queues.release(track));
        (0..2).for_each(|track| queues.adopt(track));
        for track in 0..2 {
            queues.config(track, config(), 1);
            assert!(queues.push(track, unit(begin + track as i64, 1)));
        }
        assert_eq!(played(&queues, begin + 10), [(Kind::Audio, begin)]);
    }
}

#[test]
fn of_a_stream_that_is_not_played_yet_the_newest_is_kept() {
    let queues = playing();
    let next = queues.add(Kind::Video, false);
    queues.config(next, config(), 1);
    // A key frame each second.
    (10..110).for_each(|n| {
        queues.push(next, AccessUnit { key: n % 10 == 0, ..unit(n * 100, 1000) });
    });
    queues.release(0);
    let units = played(&queues, 11_000);
    assert_eq!((units[0], units.len()), ((Kind::Video, 9_000), 20));
    assert_eq!(queues.lock().bytes(), 0);
}

#[test]
fn a_panic_of_a_filler_is_our_fault() {
    let queues = queues_with(&[(Kind::Audio, 1)]);
    queues.push(0, unit(0, 1));
    queues.chosen(soon()).unwrap();
    queues.fill("feed", || panic!("planted")).unwrap();
    loop {
        match queues.next(i64::MAX) {
            Next::Item(..) => {}
            Next::Empty => queues.wait(soon()),
            Next::Fault(fault) => {
                assert!(fault.text.contains("its thread \"feed\" panicked") && fault.blame == Blame::Us, "{fault}");
                break;
            }
            Next::End => panic!("no end"),
        }
    }
}

#[test]
fn nothing_to_play_is_a_fault_that_names_codecs() {
    let queues = TrackQueues::new();
    queues.add_unknown(Some(Kind::Video), "video/x-prores".into());
    assert_eq!(queues.chosen(Instant::now()), Ok(None));
    queues.complete();
    assert!(queues.chosen(soon()).unwrap_err().text.contains("video/x-prores"));
    let queues = TrackQueues::new();
    queues.complete();
    assert!(queues.chosen(soon()).unwrap_err().text.contains("neither"));
}
