//! Live playlists as they are reloaded from servers that lag, restart, do not count, or count to the last number.

use super::*;
use crate::playlist::{Playlist, parse};
use proptest::prelude::*;

fn media(text: &str) -> MediaList {
    match parse(format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n{text}").as_bytes()) {
        Ok(Playlist::Media(list)) => list,
        other => panic!("{other:?}"),
    }
}

/// Segments of these numbers, called by `name`.
fn list(numbers: std::ops::RangeInclusive<u64>, name: impl Fn(u64) -> String) -> MediaList {
    let segments: String = numbers.clone().map(|n| format!("#EXTINF:1,\n{}\n", name(n))).collect();
    media(&format!("#EXT-X-MEDIA-SEQUENCE:{}\n{segments}", numbers.start()))
}

fn plain(n: u64) -> String {
    format!("list{n}.ts")
}

/// All that can be played now: numbers, and whether each begins afresh.
fn played(window: &mut Window) -> Vec<(u64, bool)> {
    std::iter::from_fn(|| window.next_segment()).map(|u| (u.segment.sequence, u.fresh)).collect()
}

#[test]
fn a_live_stream_is_joined_near_its_end_and_followed() {
    let mut window = Window::new(list(3..=8, plain));
    assert_eq!(played(&mut window), [(7, true), (8, false)]);
    assert!(!window.has_next());
    window.take(list(5..=10, plain), false);
    assert_eq!(played(&mut window), [(9, false), (10, false)]);
    // Fell behind: it is joined again.
    window.take(list(14..=19, plain), false);
    assert_eq!(played(&mut window), [(18, true), (19, false)]);
}

#[test]
fn older_versions_of_the_playlist_change_nothing() {
    let names: [fn(u64) -> String; 3] = [plain, |n| format!("list{n}.ts?token={n}"), |n| format!("/t{n}/list{n}.ts")];
    for name in names {
        let mut window = Window::new(list(0..=5, name));
        let mut all = played(&mut window);
        for last in 6..20 {
            // Another edge, up to six segments behind, whose window is short.
            window.take(list(last - 6..=last - 5, name), false);
            assert!(!window.has_next());
            window.take(list(last - 5..=last, name), false);
            all.extend(played(&mut window));
        }
        assert_eq!(all.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (4..20).collect::<Vec<_>>());
        assert!(all[1..].iter().all(|(_, fresh)| !fresh));
    }
}

#[test]
fn a_server_that_restarted_is_joined_again() {
    // Other names under the same numbers; numbers from far before; and the same names after a fault.
    for (again, failing) in
        [(list(4..=6, |n| format!("other{n}.ts")), false), (list(0..=1, plain), false), (list(5..=7, plain), true)]
    {
        let mut window = Window::new(list(4..=9, plain));
        played(&mut window);
        let last = again.segments.last().unwrap().sequence;
        window.take(again, failing);
        assert_eq!(played(&mut window), [(last - 1, true), (last, false)]);
    }
    // The same names and numbers for a while.
    let mut window = Window::new(list(0..=5, plain));
    played(&mut window);
    for _ in 1..MAX_OLDER {
        window.take(list(0..=2, plain), false);
        assert!(!window.has_next());
    }
    window.take(list(0..=3, plain), false);
    assert_eq!(played(&mut window), [(2, true), (3, false)]);
}

#[test]
fn a_segment_is_found_again_under_another_address() {
    let mut window = Window::new(list(0..=5, |n| format!("list{n}.ts?t=1")));
    let upcoming = window.next_segment().unwrap();
    window.take(list(1..=6, |n| format!("list{n}.ts?t=2")), false);
    let (segment, after) = window.listed(upcoming.segment.sequence).unwrap();
    assert_eq!((segment.uri.as_str(), after), ("list4.ts?t=2", 2));
    window.lost();
    assert!(window.listed(4).is_none(), "it was given up");
    assert_eq!(window.next_segment().map(|u| (u.segment.sequence, u.fresh)), Some((5, true)));
    window.take(list(20..=25, plain), false);
    assert!(window.listed(5).is_none());
}

#[test]
fn a_playlist_without_numbers_is_followed() {
    let of =
        |from: u64| media(&(from..from + 4).map(|n| format!("#EXTINF:1,\nlist{n}.ts?t={from}\n")).collect::<String>());
    let mut window = Window::new(of(0));
    let mut all = played(&mut window);
    for from in [0, 1, 2, 2, 5, 6] {
        window.take(of(from), false);
        all.extend(played(&mut window));
    }
    assert_eq!(all.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (2..10).collect::<Vec<_>>());
    // Nothing is known of it.
    window.take(of(100), false);
    assert!(matches!(played(&mut window)[..], [(_, true), (_, false)]));
}

#[test]
fn another_variant_goes_on_where_the_first_was() {
    let mut window = Window::new(list(0..=5, plain));
    played(&mut window);
    window.replace(list(3..=8, |n| format!("b{n}.ts")), Duration::ZERO);
    assert_eq!(played(&mut window), [(6, true), (7, false), (8, false)]);
    window.replace(list(103..=108, |n| format!("c{n}.ts")), Duration::ZERO);
    assert_eq!(played(&mut window), [(107, true), (108, false)], "it counts otherwise");
    let ended = |duration: f64| media(&format!("{}#EXT-X-ENDLIST\n", format!("#EXTINF:{duration},\nx.ts\n").repeat(6)));
    let mut window = Window::new(ended(1.0));
    (0..3).for_each(|_| drop(window.next_segment()));
    window.replace(ended(1.001), Duration::from_secs(3));
    assert_eq!(played(&mut window), [(3, true), (4, false), (5, false)]);
}

#[test]
fn the_last_numbers_there_are() {
    let mut window = Window::new(list(u64::MAX..=u64::MAX, plain));
    assert_eq!(played(&mut window).len(), 1);
    let mut last = media("#EXTINF:1,\na\n#EXTINF:1,\nb\n");
    last.segments.iter_mut().for_each(|s| (s.sequence, s.run) = (u64::MAX, u64::MAX));
    window.take(last.clone(), false);
    assert!(played(&mut window).len() <= 2);
    window.take(last, true);
    played(&mut window);
    assert!(window.listed(u64::MAX).is_none_or(|(_, after)| after == 0));
}

#[test]
fn gaps_are_passed_over() {
    let mut window = Window::new(media("#EXTINF:1,\na\n#EXT-X-GAP\n#EXTINF:2,\nb\n#EXTINF:1,\nc\n#EXT-X-ENDLIST\n"));
    let all: Vec<_> =
        std::iter::from_fn(|| window.next_segment()).map(|u| (u.segment.uri, u.fresh, u.at.as_secs())).collect();
    assert_eq!(all, [("a".to_owned(), true, 0), ("c".to_owned(), true, 3)]);
}

proptest! {
    /// However a live playlist is reloaded, what is given out rises by one or begins afresh.
    #[test]
    fn numbers_rise_or_begin_afresh(versions in proptest::collection::vec((0u64..40, 0u64..8, any::<bool>(), 0u8..3), 1..40)) {
        let mut window = Window::new(list(0..=3, plain));
        let (mut last, mut at) = (None, Duration::ZERO);
        for (first, length, failing, kind) in versions {
            let version = match kind {
                0 => list(first..=first + length, plain),
                1 => list(first..=first + length, |n| format!("other{n}.ts")),
                _ => media(&(first..first + length).map(|n| format!("#EXTINF:1,\nlist{n}.ts\n")).collect::<String>()),
            };
            window.take(version, failing);
            window.catch_up();
            while let Some(next) = window.next_segment() {
                prop_assert!(next.fresh || last == Some(next.segment.sequence - 1));
                prop_assert!(next.at >= at);
                (last, at) = (Some(next.segment.sequence), next.at);
            }
        }
    }
}
