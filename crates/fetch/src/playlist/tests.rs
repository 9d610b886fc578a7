//! Playlists as they are written, well and badly.

use super::*;
use proptest::prelude::*;

fn media(text: &str) -> MediaList {
    match parse(text.as_bytes()).unwrap() {
        Playlist::Media(list) => list,
        master => panic!("{master:?}"),
    }
}

#[test]
fn segments_with_all_their_tags() {
    let list = media(
        "\u{feff}#EXTM3U\r\n#EXT-X-VERSION:7\r\n#EXT-X-TARGETDURATION:4\r\n#EXT-X-MEDIA-SEQUENCE:7\r\n\
         #EXT-X-MAP:URI=\"init.mp4\",BYTERANGE=\"720@0\"\r\n#EXTINF:4.000,title, with comma\r\n#EXT-X-BYTERANGE:100@50\r\na.m4s\r\n\
         #EXTINF:3.5\r\n#EXT-X-BYTERANGE:60\r\na.m4s\r\n#EXT-X-DISCONTINUITY\r\n\
         #EXT-X-KEY:METHOD=AES-128,URI=\"k?a=1,b\",IV=0x0F\r\n#EXTINF:1,\r\nb.ts\r\n#EXT-X-KEY:METHOD=NONE\r\n#EXTINF:1,\r\nc.ts\r\n#EXT-X-ENDLIST\r\n",
    );
    assert!(list.ended);
    assert_eq!(list.target, Duration::from_secs(4));
    let s = &list.segments;
    assert_eq!(s.iter().map(|s| s.sequence).collect::<Vec<_>>(), [7, 8, 9, 10]);
    assert_eq!((s[0].range, s[1].range, s[2].range), (Some((50, 100)), Some((150, 60)), None));
    assert_eq!(s[0].map, Some(Arc::new(Map { uri: "init.mp4".into(), range: Some((0, 720)), key: None })));
    assert_eq!((s[1].discontinuity, s[2].discontinuity, s[3].discontinuity), (false, true, false));
    assert_eq!(s.iter().map(|s| s.run).collect::<Vec<_>>(), [0, 0, 1, 1]);
    let key = s[2].key.as_ref().unwrap();
    assert_eq!((key.uri.as_str(), key.iv.unwrap()[15]), ("k?a=1,b", 15));
    assert_eq!(s[3].key, None);
}

#[test]
fn late_media_sequence_tags_are_ignored() {
    let list = media("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:9\n#EXTINF:3,\na\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:3,\nb\n");
    assert_eq!(list.segments.iter().map(|s| s.sequence).collect::<Vec<_>>(), [9, 10]);
}

#[test]
fn discontinuities_are_counted() {
    let list = media(
        "#EXTM3U\n#EXT-X-DISCONTINUITY-SEQUENCE:4\n#EXT-X-DISCONTINUITY\n#EXTINF:3,\na\n#EXTINF:3,\nb\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:9\n#EXT-X-DISCONTINUITY\n#EXTINF:3,\nc\n",
    );
    assert_eq!(list.segments.iter().map(|s| s.run).collect::<Vec<_>>(), [5, 5, 6]);
}

#[test]
fn variants_and_audio_renditions() {
    let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",DEFAULT=YES,URI=\"a.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1280000,RESOLUTION=1280x720,CODECS=\"avc1.4d401f,mp4a.40.2\",AUDIO=\"a\"\nv.m3u8\n";
    let Playlist::Master(master) = parse(text.as_bytes()).unwrap() else { panic!() };
    let v = &master.variants[0];
    assert_eq!(
        (v.bandwidth, v.size, v.audio.as_deref(), v.uri.as_str()),
        (1_280_000, Some((1280, 720)), Some("a"), "v.m3u8")
    );
    assert_eq!(v.codecs, "avc1.4d401f,mp4a.40.2");
    assert_eq!(master.audio[0].uri.as_deref(), Some("a.m3u8"));
    assert!(master.audio[0].default && !master.audio[0].autoselect && !master.audio[0].special && !v.hdr);
}

#[test]
fn unusable_playlists_are_errors() {
    let fault = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
    assert!(fault("<html>").contains("#EXTM3U"));
    assert!(fault("#EXTM3U\n").contains("nothing to play"));
    assert!(fault("#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n#EXTINF:1,\na").contains("AES-128"));
    let drm = "#EXT-X-KEY:METHOD=SAMPLE-AES,KEYFORMAT=\"com.apple.streamingkeydelivery\",URI=\"skd://x\"\n";
    assert!(fault(&format!("#EXTM3U\n{drm}#EXTINF:1,\na")).contains("DRM"));
    assert!(fault("#EXTM3U\n#EXT-X-KEY:METHOD=AES-128\n#EXTINF:1,\na").contains("names no key"));
    let stations = "#EXTM3U\n#EXTINF:-1 tvg-id=\"x\",One\nhttp://h/1\n#EXTINF:-1,Two\nhttp://h/2\n";
    assert!(fault(stations).contains("pull one of those"));
}

#[test]
fn durations_as_they_are_written() {
    let of = |text: &str| {
        media(&format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:{text}\na\n")).segments[0].duration.as_secs_f64()
    };
    for (text, expected) in [
        ("1.5 tvg-id=x,", 1.5),
        ("4000,", 3600.0),
        ("-1,", 0.0),
        ("nan,", 0.0),
        (",", 0.0),
        (" 2,x", 2.0),
        ("99999999999999999999999999", 3600.0),
        ("1.2.3,", 0.0),
    ] {
        assert_eq!(of(text), expected, "{text}");
    }
}

#[test]
fn a_key_of_ours_beside_those_of_drm_systems() {
    let drm = "#EXT-X-KEY:METHOD=SAMPLE-AES,KEYFORMAT=\"com.apple.streamingkeydelivery\",URI=\"skd://x\"\n";
    let own = "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n";
    for keys in [format!("{drm}{own}"), format!("{own}{drm}"), format!("{own}#EXTINF:1,\nb\n{drm}")] {
        let list = media(&format!("#EXTM3U\n{keys}#EXTINF:1,\na\n#EXT-X-KEY:METHOD=NONE\n#EXTINF:1,\nc\n"));
        let keys: Vec<bool> = list.segments.iter().map(|s| s.key.is_some()).collect();
        assert!(keys[..keys.len() - 1].iter().all(|k| *k) && !keys[keys.len() - 1], "{keys:?}");
    }
}

#[test]
fn variables_are_replaced() {
    let context = Context { query: vec![("t".into(), "7".into())], imported: Variables::default() };
    let text = "#EXTM3U\n#EXT-X-DEFINE:NAME=\"p\",VALUE=\"list\"\n#EXT-X-DEFINE:QUERYPARAM=\"t\"\n\
        #EXT-X-MAP:URI=\"{$p}.mp4\"\n#EXTINF:1,{$nobody}\n{$p}0.ts?t={$t}&{$p}\n";
    let Playlist::Media(list) = parse_in(text.as_bytes(), &context).unwrap() else { panic!() };
    assert_eq!(
        (list.segments[0].uri.as_str(), list.segments[0].map.as_ref().unwrap().uri.as_str()),
        ("list0.ts?t=7&list", "list.mp4")
    );
    let Playlist::Master(master) =
        parse(b"#EXTM3U\n#EXT-X-DEFINE:NAME=\"h\",VALUE=\"cdn\"\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{$h}/a\n").unwrap()
    else {
        panic!()
    };
    assert_eq!(master.variants[0].uri, "cdn/a");
    let context = Context { query: Vec::new(), imported: master.variables };
    let import = "#EXTM3U\n#EXT-X-DEFINE:IMPORT=\"h\"\n#EXTINF:1,\n{$h}/1\n";
    let Playlist::Media(list) = parse_in(import.as_bytes(), &context).unwrap() else { panic!() };
    assert_eq!(list.segments[0].uri, "cdn/1");
    for wrong in [import, text, "#EXTM3U\n#EXTINF:1,\n{$x}/1\n"] {
        assert!(parse(wrong.as_bytes()).unwrap_err().to_string().contains("variable"), "{wrong}");
    }
    // Each doubles the one before.
    let mut bomb = "#EXTM3U\n#EXT-X-DEFINE:NAME=\"v0\",VALUE=\"xxxxxxxxxxxxxxxx\"\n".to_owned();
    for i in 1..60 {
        bomb += &format!("#EXT-X-DEFINE:NAME=\"v{i}\",VALUE=\"{{$v{0}}}{{$v{0}}}\"\n", i - 1);
    }
    assert!(parse(bomb.as_bytes()).unwrap_err().to_string().contains("too long"));
    let many = "#EXTINF:1,\n{$v0}{$v0}{$v0}{$v0}\n".repeat(50_000);
    let value = "x".repeat(8000);
    let bomb = format!("#EXTM3U\n#EXT-X-DEFINE:NAME=\"v0\",VALUE=\"{value}\"\n{many}");
    assert!(parse(bomb.as_bytes()).unwrap_err().to_string().contains("too long"));
}

#[test]
fn numbers_and_ends() {
    let list = media("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:18446744073709551615\n#EXTINF:1,\na\n#EXTINF:1,\nb\n");
    assert_eq!(list.segments[1].sequence, list.segments[0].sequence + 1);
    let list = media("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXTINF:1,\na\n");
    assert_eq!((list.segments[0].sequence, list.numbered, list.ended), (8, true, false));
    let list = media("#EXTM3U\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXTINF:1,\na\n");
    assert!(list.ended && !list.numbered);
    assert!(!media("#EXTM3U\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXTINF:1,\na\n").ended);
    assert!(media("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n").segments.is_empty(), "live, and nothing yet");
    let list = media("#EXTM3U\n#EXT-X-BYTERANGE:18446744073709551615@1\n#EXTINF:1,\na\n");
    assert_eq!(list.segments[0].range, None);
}

proptest! {
    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..500)) {
        let _ = parse(&noise);
        let _ = parse(&[b"#EXTM3U\n#".to_vec(), noise].concat());
    }

    #[test]
    fn tags_in_any_order_never_panic(tags in proptest::collection::vec(0usize..10, 0..40), n: u64) {
        let lines = [
            "#EXTINF:2.5,", "a.ts", "#EXT-X-BYTERANGE:18446744073709551615", "#EXT-X-DISCONTINUITY", "#EXT-X-ENDLIST",
            "#EXT-X-KEY:METHOD=AES-128,URI=\"k\"", "#EXT-X-MAP:URI=\"m\"", "#EXT-X-STREAM-INF:BANDWIDTH=1", "#EXT-X-BYTERANGE:1@5", "#EXT-X-TARGETDURATION:x",
        ];
        let text: Vec<String> = tags.iter().map(|t| lines[*t].to_owned()).collect();
        let text = format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{n}\n{}", text.join("\n"));
        if let Ok(Playlist::Media(list)) = parse(text.as_bytes()) {
            prop_assert!(list.segments.windows(2).all(|w| w[0].sequence <= w[1].sequence));
        }
    }
}
