//! Parses HLS playlists (RFC 8216 and its second edition, "bis"). Pure. Unknown tags are ignored, as §6.3.1 demands.

mod attributes;

pub use attributes::Variables;

use crate::Error;
use attributes::attribute;
use std::sync::Arc;
use std::time::Duration;

/// The longest playlist in bytes: a day of two-second segments with long names.
pub const MAX_TEXT: usize = 8 << 20;
/// The most segments or variants of one playlist.
const MAX_ENTRIES: usize = 100_000;
/// The longest duration of a segment, in seconds. Real ones are below 20; one that says more is taken for this long.
const MAX_SECONDS: f64 = 3600.0;
/// The largest media sequence number to begin with: those of all segments of a playlist rise from there.
const MAX_SEQUENCE: u64 = u64::MAX - 2 * MAX_ENTRIES as u64;

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
    /// Variables that its media playlists may import.
    pub variables: Variables,
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
    /// Whether its dynamic range is high (`VIDEO-RANGE`, bis §4.4.6.2).
    pub hdr: bool,
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
    /// Whether it may be chosen without being asked for.
    pub autoselect: bool,
    /// Whether it is for some listeners only: a description of the pictures, a commentary.
    pub special: bool,
}

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaList {
    /// The target duration; at least the duration of the longest segment.
    pub target: Duration,
    /// Whether no segment will be added.
    pub ended: bool,
    /// Whether it says which number its first segment has. If not, that is 0 in each version.
    pub numbered: bool,
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
    pub key: Option<Arc<Key>>,
    /// Its initialisation section.
    pub map: Option<Arc<Map>>,
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
    pub key: Option<Arc<Key>>,
}

/// What a playlist may refer to.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// Names and values in the query of its address.
    pub query: Vec<(String, String)>,
    /// The variables of its master playlist.
    pub imported: Variables,
}

/// Whether a text begins like a playlist.
pub fn is_playlist(text: &[u8]) -> bool {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start().starts_with(b"#EXTM3U")
}

/// Parses a playlist that refers to nothing outside.
///
/// # Errors
/// [`Error::Playlist`].
pub fn parse(text: &[u8]) -> Result<Playlist, Error> {
    parse_in(text, &Context::default())
}

/// Parses a playlist.
///
/// # Errors
/// [`Error::Playlist`].
pub fn parse_in(text: &[u8], context: &Context) -> Result<Playlist, Error> {
    if !is_playlist(text) {
        return Err(Error::Playlist("it does not begin with #EXTM3U"));
    }
    let text = String::from_utf8_lossy(text);
    let mut reader = Reader::new(context);
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix('#') {
            Some(tag) => reader.tag(tag)?,
            None => reader.uri(line)?,
        }
    }
    reader.finish()
}

/// What has been parsed of a playlist, and the tags that apply to the next segment.
struct Reader<'a> {
    context: &'a Context,
    variables: Variables,
    /// Bytes that variables may still add.
    growth: usize,
    master: Master,
    media: MediaList,
    /// A tag of HLS has come, one of media playlists.
    is_hls: bool,
    is_media: bool,
    variant: Option<Variant>,
    duration: Option<Duration>,
    range: Option<(u64, Option<u64>)>,
    /// Where a byte range without an offset begins: at the end of the one before it in the same file.
    after: Option<(String, u64)>,
    discontinuity: bool,
    run: u64,
    keys: Keys,
    map: Option<Arc<Map>>,
    gap: bool,
    sequence: u64,
}

impl<'a> Reader<'a> {
    fn new(context: &'a Context) -> Self {
        Self {
            context,
            variables: Variables::default(),
            growth: MAX_TEXT,
            master: Master::default(),
            media: MediaList::default(),
            is_hls: false,
            is_media: false,
            variant: None,
            duration: None,
            range: None,
            after: None,
            discontinuity: false,
            run: 0,
            keys: Keys::default(),
            map: None,
            gap: false,
            sequence: 0,
        }
    }

    fn tag(&mut self, tag: &str) -> Result<(), Error> {
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        self.is_hls |= name.starts_with("EXT-X-");
        let replaced = value.contains("{$").then(|| self.variables.replace(value, &mut self.growth)).transpose();
        match name {
            "EXT-X-DEFINE" | "EXT-X-STREAM-INF" | "EXT-X-MEDIA" | "EXT-X-KEY" | "EXT-X-MAP" => {
                self.list_tag(name, replaced?.as_deref().unwrap_or(value))
            }
            _ => {
                self.plain_tag(name, value.trim());
                Ok(())
            }
        }
    }

    /// Tags with attributes.
    fn list_tag(&mut self, name: &str, value: &str) -> Result<(), Error> {
        match name {
            "EXT-X-DEFINE" => self.variables.define(value, &self.context.query, &self.context.imported)?,
            "EXT-X-STREAM-INF" => self.variant = Some(variant(value)),
            "EXT-X-MEDIA"
                if attribute(value, "TYPE").as_deref() == Some("AUDIO") && self.master.audio.len() < MAX_ENTRIES =>
            {
                self.master.audio.push(rendition(value));
            }
            "EXT-X-KEY" => self.keys.take(value),
            "EXT-X-MAP" => self.map = Some(Arc::new(self.map(value)?)),
            _ => {}
        }
        Ok(())
    }

    fn plain_tag(&mut self, name: &str, value: &str) {
        let first = self.media.segments.is_empty();
        match name {
            "EXTINF" => {
                self.is_media = true;
                self.duration = Some(duration(value));
            }
            "EXT-X-TARGETDURATION" => {
                self.is_media = true;
                self.media.target = duration(value);
            }
            // It must come before the first segment (RFC 8216 §4.3.3.2). A later one would repeat numbers.
            "EXT-X-MEDIA-SEQUENCE" if first => {
                (self.is_media, self.media.numbered) = (true, true);
                self.sequence = value.parse().unwrap_or(0).min(MAX_SEQUENCE);
            }
            // Of a version that says what has changed only (bis §4.4.5.2), for which nobody asked.
            "EXT-X-SKIP" if first => {
                let skipped = attribute(value, "SKIPPED-SEGMENTS").and_then(|n| n.parse().ok()).unwrap_or(0);
                self.sequence = self.sequence.saturating_add(skipped).min(MAX_SEQUENCE);
            }
            "EXT-X-ENDLIST" => (self.is_media, self.media.ended) = (true, true),
            // Nothing will be added (§4.3.3.5): some leave the end mark away.
            "EXT-X-PLAYLIST-TYPE" if value.eq_ignore_ascii_case("VOD") => {
                (self.is_media, self.media.ended) = (true, true);
            }
            // It must come before the first segment and the first discontinuity (§4.3.3.3).
            "EXT-X-DISCONTINUITY-SEQUENCE" if first && !self.discontinuity => {
                self.run = value.parse().unwrap_or(0);
            }
            "EXT-X-DISCONTINUITY" => {
                self.discontinuity = true;
                self.run = self.run.saturating_add(1);
            }
            "EXT-X-GAP" => self.gap = true,
            "EXT-X-BYTERANGE" => self.range = byte_range(value),
            _ => {}
        }
    }

    fn map(&self, value: &str) -> Result<Map, Error> {
        let uri = attribute(value, "URI").ok_or(Error::Playlist("an initialisation section has no address"))?;
        let range = attribute(value, "BYTERANGE").and_then(|r| byte_range(&r));
        let range = range.map(|(length, from)| (from.unwrap_or(0), length));
        Ok(Map { uri, range, key: self.keys.usable()? })
    }

    fn uri(&mut self, uri: &str) -> Result<(), Error> {
        let uri = self.variables.replace(uri, &mut self.growth)?;
        if let Some(variant) = self.variant.take() {
            if self.master.variants.len() < MAX_ENTRIES {
                self.master.variants.push(Variant { uri, ..variant });
            }
            return Ok(());
        }
        let Some(duration) = self.duration.take() else { return Ok(()) };
        if self.media.segments.len() == MAX_ENTRIES {
            return Err(Error::Playlist("it has too many segments"));
        }
        let range = self.range.take().map(|(length, from)| {
            let next = self.after.as_ref().filter(|(file, _)| *file == uri).map_or(0, |(_, next)| *next);
            let from = from.unwrap_or(next);
            self.after = Some((uri.clone(), from.saturating_add(length)));
            (from, length)
        });
        self.media.segments.push(Segment {
            sequence: self.sequence,
            uri,
            duration,
            range,
            discontinuity: std::mem::take(&mut self.discontinuity),
            run: self.run,
            key: self.keys.usable()?,
            map: self.map.clone(),
            gap: std::mem::take(&mut self.gap),
        });
        self.sequence = self.sequence.saturating_add(1);
        Ok(())
    }

    fn finish(mut self) -> Result<Playlist, Error> {
        if !self.master.variants.is_empty() && self.media.segments.is_empty() {
            self.master.variables = self.variables;
            return Ok(Playlist::Master(self.master));
        }
        if !self.is_media {
            return Err(Error::Playlist("it lists nothing to play"));
        }
        let longest = self.media.segments.iter().map(|s| s.duration).max().unwrap_or_default();
        if !self.is_hls && longest.is_zero() {
            return Err(Error::Playlist(
                "it lists stations or files, and no segments of one stream: pull one of those addresses",
            ));
        }
        self.media.target = self.media.target.max(longest).max(Duration::from_millis(100));
        Ok(Playlist::Media(self.media))
    }
}

/// The keys that apply: one for each format (bis §4.4.4.4).
#[derive(Default)]
struct Keys {
    /// Of the format that we can use: the key, or why we can't use it.
    identity: Option<Result<Arc<Key>, &'static str>>,
    /// Of formats of DRM systems.
    foreign: bool,
}

impl Keys {
    fn take(&mut self, value: &str) {
        let method = attribute(value, "METHOD");
        if method.as_deref().is_none_or(|method| method == "NONE") {
            *self = Self::default();
        } else if attribute(value, "KEYFORMAT").is_some_and(|f| f != "identity") {
            self.foreign = true;
        } else if method.as_deref() == Some("AES-128") {
            self.identity = Some(key(value).map(Arc::new));
        } else {
            self.identity = Some(Err("it is encrypted with a method that is not supported (not AES-128)"));
        }
    }

    /// The key to use.
    fn usable(&self) -> Result<Option<Arc<Key>>, Error> {
        match &self.identity {
            Some(Ok(key)) => Ok(Some(key.clone())),
            Some(Err(why)) => Err(Error::Playlist(why)),
            None if self.foreign => Err(Error::Playlist("its key is kept by a DRM system")),
            None => Ok(None),
        }
    }
}

/// The number that a text begins with, in seconds: some add attributes to it. None, or one below zero, is 0.
fn duration(text: &str) -> Duration {
    let number = text.trim_start();
    let end = number.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(number.len());
    let seconds = number[..end].parse::<f64>().unwrap_or(0.0);
    Duration::from_secs_f64(if seconds.is_finite() { seconds.min(MAX_SECONDS) } else { MAX_SECONDS })
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
        hdr: attribute(value, "VIDEO-RANGE").is_some_and(|range| range != "SDR"),
        audio: attribute(value, "AUDIO"),
    }
}

fn rendition(value: &str) -> Rendition {
    Rendition {
        group: attribute(value, "GROUP-ID").unwrap_or_default(),
        uri: attribute(value, "URI"),
        default: attribute(value, "DEFAULT").as_deref() == Some("YES"),
        autoselect: attribute(value, "AUTOSELECT").as_deref() == Some("YES"),
        special: attribute(value, "CHARACTERISTICS")
            .is_some_and(|c| c.contains("describes-video") || c.contains("commentary")),
    }
}

fn key(value: &str) -> Result<Key, &'static str> {
    let uri = attribute(value, "URI").ok_or("it is encrypted and names no key")?;
    let iv = attribute(value, "IV").and_then(|iv| {
        let digits = iv.strip_prefix("0x").or_else(|| iv.strip_prefix("0X"))?;
        let number = if digits.len() <= 32 { u128::from_str_radix(digits, 16).ok() } else { None };
        number.map(u128::to_be_bytes)
    });
    Ok(Key { uri, iv })
}

/// Reads `length[@offset]`; `None` if no file could be that large.
fn byte_range(value: &str) -> Option<(u64, Option<u64>)> {
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|n| i64::try_from(*n).is_ok());
    match value.trim().split_once('@') {
        Some((length, from)) => Some((number(length)?, Some(number(from)?))),
        None => Some((number(value)?, None)),
    }
}

#[cfg(test)]
mod tests;
