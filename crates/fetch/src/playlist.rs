//! Parses HLS playlists (RFC 8216). Pure. Unknown tags are ignored, as §6.3.1 demands.

use crate::Error;
use std::time::Duration;

/// The longest playlist in bytes: a day of two-second segments with long names.
pub const MAX_TEXT: usize = 8 << 20;
/// The most segments or variants of one playlist.
const MAX_ENTRIES: usize = 100_000;
/// The longest duration of a segment, in seconds. Real ones are below 20.
const MAX_SECONDS: f64 = 3600.0;

/// A playlist.
#[derive(Clone, Debug, PartialEq)]
pub enum Playlist {
    /// A master playlist, which lists media playlists.
    Master(Master),
    /// A media playlist, which lists segments.
    Media(MediaList),
}

/// A master playlist: variants of one content, and their audio renditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Master {
    /// The variants; never empty.
    pub variants: Vec<Variant>,
    /// Audio renditions.
    pub audio: Vec<Rendition>,
}

/// A variant stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant {
    /// Where its media playlist is.
    pub uri: String,
    /// Bits a second.
    pub bandwidth: u64,
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// Its codecs in the form of RFC 6381; empty if none are named.
    pub codecs: String,
    /// The group of its audio renditions.
    pub audio: Option<String>,
}

/// An audio rendition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rendition {
    /// The group it belongs to.
    pub group: String,
    /// Where its media playlist is; `None` if the audio is in the variant's own segments.
    pub uri: Option<String>,
    /// Whether it is played by default.
    pub default: bool,
}

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaList {
    /// The target duration; at least the duration of the longest segment.
    pub target: Duration,
    /// Whether no segment will be added.
    pub ended: bool,
    /// The segments, oldest first.
    pub segments: Vec<Segment>,
}

/// A segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    /// Its media sequence number, which it keeps in later versions of the playlist.
    pub sequence: u64,
    /// Where it is.
    pub uri: String,
    /// Its duration.
    pub duration: Duration,
    /// Offset and length in bytes, if it is a part of a file.
    pub range: Option<(u64, u64)>,
    /// Whether timestamps, tracks or encoding change before it.
    pub discontinuity: bool,
    /// Its discontinuity sequence number (§6.2.1). Segments of the same number share one clock, in all renditions of a presentation.
    pub run: u64,
    /// How it is encrypted.
    pub key: Option<Key>,
    /// Its initialisation section.
    pub map: Option<Map>,
    /// Its media is missing (`EXT-X-GAP`, RFC 8216bis §4.4.4.7): it is not to be fetched.
    pub gap: bool,
}

/// A key for AES-128 of whole segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where the key is.
    pub uri: String,
    /// The initialisation vector; if `None`, it is the segment's media sequence number.
    pub iv: Option<[u8; 16]>,
}

/// An initialisation section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Where it is.
    pub uri: String,
    /// Offset and length in bytes.
    pub range: Option<(u64, u64)>,
    /// How it is encrypted: like the segments, if a key stands before it (RFC 8216 §4.3.2.5).
    pub key: Option<Key>,
}

/// Whether a text begins like a playlist.
pub fn is_playlist(text: &[u8]) -> bool {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start().starts_with(b"#EXTM3U")
}

/// Parses a playlist.
///
/// # Errors
/// [`Error::Playlist`].
pub fn parse(text: &[u8]) -> Result<Playlist, Error> {
    if !is_playlist(text) {
        return Err(Error::Playlist("it does not begin with #EXTM3U"));
    }
    let text = String::from_utf8_lossy(text);
    let mut reader = Reader::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix('#') {
            Some(tag) => reader.tag(tag)?,
            None => reader.uri(line)?,
        }
    }
    reader.finish()
}

/// What has been parsed of a playlist, and the tags that apply to the next segment.
#[derive(Default)]
struct Reader {
    master: Master,
    media: MediaList,
    is_media: bool,
    variant: Option<Variant>,
    duration: Option<Duration>,
    range: Option<(u64, Option<u64>)>,
    /// Where a byte range without an offset begins: at the end of the one before it in the same file.
    after: Option<(String, u64)>,
    discontinuity: bool,
    run: u64,
    key: Option<Key>,
    map: Option<Map>,
    gap: bool,
    sequence: u64,
}

impl Reader {
    fn tag(&mut self, tag: &str) -> Result<(), Error> {
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        match name {
            "EXT-X-STREAM-INF" => self.variant = Some(variant(value)),
            "EXT-X-MEDIA"
                if attribute(value, "TYPE").as_deref() == Some("AUDIO") && self.master.audio.len() < MAX_ENTRIES =>
            {
                self.master.audio.push(rendition(value));
            }
            "EXTINF" => {
                self.is_media = true;
                let seconds = value.split(',').next().unwrap_or_default().trim().parse::<f64>();
                let seconds = seconds.ok().filter(|s| (0.0..=MAX_SECONDS).contains(s));
                let wrong = Error::Playlist("a segment's duration is not a possible number");
                self.duration = Some(Duration::from_secs_f64(seconds.ok_or(wrong)?));
            }
            "EXT-X-TARGETDURATION" => {
                self.is_media = true;
                let seconds = value.trim().parse::<f64>().ok().filter(|s| (0.0..=MAX_SECONDS).contains(s));
                self.media.target = Duration::from_secs_f64(seconds.unwrap_or(0.0));
            }
            // It must come before the first segment (RFC 8216 §4.3.3.2). A later one would repeat numbers.
            "EXT-X-MEDIA-SEQUENCE" if self.media.segments.is_empty() => {
                self.sequence = value.trim().parse().unwrap_or(0);
            }
            "EXT-X-ENDLIST" => self.media.ended = true,
            // It must come before the first segment and the first discontinuity (§4.3.3.3).
            "EXT-X-DISCONTINUITY-SEQUENCE" if self.media.segments.is_empty() && !self.discontinuity => {
                self.run = value.trim().parse().unwrap_or(0);
            }
            "EXT-X-DISCONTINUITY" => {
                self.discontinuity = true;
                self.run = self.run.saturating_add(1);
            }
            "EXT-X-GAP" => self.gap = true,
            "EXT-X-BYTERANGE" => self.range = byte_range(value),
            "EXT-X-KEY" => self.key = key(value)?,
            "EXT-X-MAP" => self.map = Some(self.map(value)?),
            _ => {}
        }
        Ok(())
    }

    fn map(&self, value: &str) -> Result<Map, Error> {
        let uri = attribute(value, "URI").ok_or(Error::Playlist("an initialisation section has no address"))?;
        let range = attribute(value, "BYTERANGE").and_then(|r| byte_range(&r));
        let range = range.map(|(length, from)| (from.unwrap_or(0), length));
        Ok(Map { uri, range, key: self.key.clone() })
    }

    fn uri(&mut self, uri: &str) -> Result<(), Error> {
        if let Some(variant) = self.variant.take() {
            if self.master.variants.len() < MAX_ENTRIES {
                self.master.variants.push(Variant { uri: uri.to_owned(), ..variant });
            }
            return Ok(());
        }
        let Some(duration) = self.duration.take() else { return Ok(()) };
        if self.media.segments.len() == MAX_ENTRIES {
            return Err(Error::Playlist("it has too many segments"));
        }
        let range = self.range.take().map(|(length, from)| {
            let next = self.after.as_ref().filter(|(file, _)| file == uri).map_or(0, |(_, next)| *next);
            let from = from.unwrap_or(next);
            self.after = Some((uri.to_owned(), from.saturating_add(length)));
            (from, length)
        });
        self.media.segments.push(Segment {
            sequence: self.sequence,
            uri: uri.to_owned(),
            duration,
            range,
            discontinuity: std::mem::take(&mut self.discontinuity),
            run: self.run,
            key: self.key.clone(),
            map: self.map.clone(),
            gap: std::mem::take(&mut self.gap),
        });
        self.sequence = self.sequence.saturating_add(1);
        Ok(())
    }

    fn finish(mut self) -> Result<Playlist, Error> {
        if !self.master.variants.is_empty() && !self.is_media {
            return Ok(Playlist::Master(self.master));
        }
        if !self.is_media {
            return Err(Error::Playlist("it lists nothing to play"));
        }
        let longest = self.media.segments.iter().map(|s| s.duration).max().unwrap_or_default();
        self.media.target = self.media.target.max(longest).max(Duration::from_millis(100));
        Ok(Playlist::Media(self.media))
    }
}

fn variant(value: &str) -> Variant {
    let size = attribute(value, "RESOLUTION").and_then(|r| {
        let (width, height) = r.split_once(['x', 'X'])?;
        Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
    });
    let number = |name| attribute(value, name).and_then(|v| v.parse::<u64>().ok());
    Variant {
        uri: String::new(),
        bandwidth: number("BANDWIDTH").unwrap_or(0),
        size,
        codecs: attribute(value, "CODECS").unwrap_or_default(),
        audio: attribute(value, "AUDIO"),
    }
}

fn rendition(value: &str) -> Rendition {
    Rendition {
        group: attribute(value, "GROUP-ID").unwrap_or_default(),
        uri: attribute(value, "URI"),
        default: attribute(value, "DEFAULT").as_deref() == Some("YES"),
    }
}

fn key(value: &str) -> Result<Option<Key>, Error> {
    match attribute(value, "METHOD").as_deref() {
        Some("AES-128") => {}
        None | Some("NONE") => return Ok(None),
        Some(_) => return Err(Error::Playlist("it is encrypted with a method that is not supported (not AES-128)")),
    }
    if attribute(value, "KEYFORMAT").is_some_and(|f| f != "identity") {
        return Err(Error::Playlist("its key is kept by a DRM system"));
    }
    let uri = attribute(value, "URI").ok_or(Error::Playlist("it is encrypted and names no key"))?;
    let iv = attribute(value, "IV").and_then(|iv| {
        let digits = iv.strip_prefix("0x").or_else(|| iv.strip_prefix("0X"))?;
        let number = if digits.len() <= 32 { u128::from_str_radix(digits, 16).ok() } else { None };
        number.map(u128::to_be_bytes)
    });
    Ok(Some(Key { uri, iv }))
}

/// Reads `length[@offset]`.
fn byte_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (length, from) = match value.trim().split_once('@') {
        Some((length, from)) => (length, Some(from.trim().parse().ok()?)),
        None => (value.trim(), None),
    };
    Some((length.trim().parse().ok()?, from))
}

/// The value of one attribute of a list such as `A=1,B="x,y",C=z`, without its quotes.
fn attribute(list: &str, wanted: &str) -> Option<String> {
    let mut rest = list;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, next) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value, next.split_once(',').map_or("", |(_, next)| next))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if name.trim() == wanted {
            return Some(value.trim().to_owned());
        }
        rest = next;
    }
    None
}

#[cfg(test)]
mod tests {
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
        assert_eq!(s[0].map, Some(Map { uri: "init.mp4".into(), range: Some((0, 720)), key: None }));
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
    }

    #[test]
    fn unusable_playlists_are_errors() {
        let fault = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
        assert!(fault("<html>").contains("#EXTM3U"));
        assert!(fault("#EXTM3U\n").contains("nothing to play"));
        assert!(fault("#EXTM3U\n#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"k\"\n#EXTINF:1,\na").contains("AES-128"));
        assert!(fault("#EXTM3U\n#EXTINF:99999999,\na").contains("duration"));
        assert!(fault("#EXTM3U\n#EXTINF:nan,\na").contains("duration"));
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
}
