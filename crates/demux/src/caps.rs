//! Which codecs are played: what a demultiplexer's pad carries, what parses it, and what the session is told of it.

use bytes::Bytes;
use gstreamer as gst;
use gstreamer_video as gst_video;
use ipc::demux::Event;
use model::{AudioCodec, AudioConfig, Colours, Kind, Rotation, VideoCodec, VideoConfig};
use std::str::FromStr;
use worker::max_luminance::max_luminance;

/// How one elementary stream is brought to access units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParserChain {
    pub(crate) kind: Kind,
    /// Elements, first to last.
    pub(crate) elements: &'static [&'static str],
    /// Caps of what comes out of them.
    pub(crate) accepts: &'static str,
    /// Whether frames may come in another order than they are shown.
    pub(crate) reordered: bool,
}

/// What to do with a pad's caps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// A container: this element opens it.
    Container(&'static str),
    /// Media.
    Media(ParserChain),
    /// Something nobody looks for: subtitles, images, data.
    Ignored,
    /// Media that can't be played; its name.
    Unknown(String),
}

/// What people call it; GStreamer's name for it where they hardly speak of it.
fn display_name(name: &str) -> &str {
    match name {
        "video/x-prores" => "Apple ProRes video",
        "image/jpeg" => "Motion JPEG video",
        "video/x-theora" => "Theora video",
        "video/x-h263" => "H.263 video",
        "video/x-h266" => "H.266 video",
        "video/x-dv" => "DV video",
        "video/x-dnxhd" => "DNxHD video",
        "video/x-wmv" => "Windows Media video",
        "video/x-raw" => "uncompressed video",
        "audio/x-wma" => "Windows Media audio",
        "audio/x-dts" => "DTS audio",
        "audio/x-true-hd" => "Dolby TrueHD audio",
        "audio/x-alac" => "Apple Lossless audio",
        "audio/x-speex" => "Speex audio",
        "audio/x-adpcm" => "ADPCM audio",
        "audio/AMR" | "audio/AMR-WB" => "AMR audio",
        "video/x-ms-asf" => "a Windows Media file",
        "application/vnd.rn-realmedia" | "audio/x-pn-realaudio" => "a RealMedia file",
        "application/mxf" => "an MXF file",
        name => name,
    }
}

const fn video(elements: &'static [&'static str], accepts: &'static str, reordered: bool) -> Stream {
    Stream::Media(ParserChain { kind: Kind::Video, elements, accepts, reordered })
}

const fn audio(elements: &'static [&'static str], accepts: &'static str) -> Stream {
    Stream::Media(ParserChain { kind: Kind::Audio, elements, accepts, reordered: false })
}

/// The kind of media by the name of its caps. Of pictures only those that move count: covers are none.
pub(crate) fn kind(caps: &gst::CapsRef) -> Option<Kind> {
    let s = caps.structure(0)?;
    let moves = || s.get::<gst::Fraction>("framerate").is_ok_and(|rate| rate.numer() > 0);
    match s.name().as_str().split_once('/')?.0 {
        "audio" => Some(Kind::Audio),
        "video" => Some(Kind::Video),
        "image" if moves() => Some(Kind::Video),
        _ => None,
    }
}

/// What stands behind these caps.
pub(crate) fn stream(caps: &gst::CapsRef) -> Stream {
    let Some(s) = caps.structure(0) else { return Stream::Unknown("something without a name".into()) };
    let int = |field: &str| s.get::<i32>(field).unwrap_or(0);
    match s.name().as_str() {
        "video/quicktime" | "audio/x-m4a" | "application/x-3gp" => Stream::Container("qtdemux"),
        "video/x-matroska" | "audio/x-matroska" | "video/webm" | "audio/webm" | "video/x-matroska-3d" => {
            Stream::Container("matroskademux")
        }
        "video/mpegts" => Stream::Container("tsdemux"),
        "application/ogg" | "audio/ogg" | "video/ogg" | "application/kate" => Stream::Container("oggdemux"),
        "video/x-flv" => Stream::Container("flvdemux"),
        "video/x-msvideo" => Stream::Container("avidemux"),
        "audio/x-wav" => Stream::Container("wavparse"),
        "application/x-id3" => Stream::Container("id3demux"),
        "application/x-apetag" => Stream::Container("apedemux"),
        "video/mpeg" if s.get::<bool>("systemstream").unwrap_or(false) => Stream::Container("mpegpsdemux"),
        "video/x-h264" => video(&["h264parse"], "video/x-h264,stream-format=avc,alignment=au", true),
        "video/x-h265" => video(&["h265parse"], "video/x-h265,stream-format=hvc1,alignment=au", true),
        "video/x-vp8" => video(&[], "video/x-vp8", false),
        "video/x-vp9" => video(&["vp9parse"], "video/x-vp9,alignment=super-frame", false),
        "video/x-av1" => video(&["av1parse"], "video/x-av1,stream-format=obu-stream,alignment=tu", false),
        "video/mpeg" if int("mpegversion") == 4 => {
            video(&["mpeg4videoparse"], "video/mpeg,mpegversion=4,systemstream=false", true)
        }
        "video/mpeg" => video(&["mpegvideoparse"], "video/mpeg,systemstream=false", true),
        "video/x-divx" if int("divxversion") >= 4 => {
            video(&["mpeg4videoparse"], "video/mpeg,mpegversion=4,systemstream=false", true)
        }
        "video/x-flash-video" => video(&[], "video/x-flash-video", false),
        "video/x-vp6-flash" => video(&[], "video/x-vp6-flash", false),
        "video/x-vp6-alpha" => video(&[], "video/x-vp6-alpha", false),
        "audio/mpeg" if int("mpegversion") == 1 => audio(&["mpegaudioparse"], "audio/mpeg,mpegversion=1"),
        // LATM, as broadcasters send it, stays in its own layers: nothing but its decoder takes it out of them.
        "audio/mpeg" if s.get::<&str>("stream-format") == Ok("loas") => {
            audio(&["aacparse"], "audio/mpeg,stream-format=loas")
        }
        "audio/mpeg" => audio(&["aacparse"], "audio/mpeg,stream-format=raw"),
        "audio/x-opus" => audio(&["opusparse"], "audio/x-opus"),
        "audio/x-vorbis" => audio(&["vorbisparse"], "audio/x-vorbis"),
        "audio/x-ac3" | "audio/ac3" | "audio/x-private1-ac3" => audio(&["ac3parse"], "audio/x-ac3,alignment=frame"),
        "audio/x-eac3" => audio(&["ac3parse"], "audio/x-eac3,alignment=frame"),
        "audio/x-flac" => audio(&["flacparse"], "audio/x-flac"),
        "audio/x-raw" => audio(&["audioconvert"], "audio/x-raw,format=S16LE,layout=interleaved,channels=[1,2]"),
        "audio/x-alaw" => audio(&[], "audio/x-alaw"),
        "audio/x-mulaw" => audio(&[], "audio/x-mulaw"),
        name if ["video/", "audio/", "image/"].iter().any(|kind| name.starts_with(kind)) => {
            Stream::Unknown(display_name(name).to_owned())
        }
        _ => Stream::Ignored,
    }
}

/// What the session is told, and how good a track of this kind it is; `crop` is what a file says of VP6. `None` for caps that say
/// too little.
pub(crate) fn config(caps: &gst::CapsRef, rotation: Rotation, crop: Option<u8>) -> Option<(Event, u64)> {
    let s = caps.structure(0)?;
    let int = |field: &str| s.get::<i32>(field).ok().and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0);
    let record = || s.get::<gst::Buffer>("codec_data").ok().and_then(|b| bytes_of(&b)).unwrap_or_default();
    let name = s.name().as_str();
    let codec = match name {
        "video/x-h264" => VideoCodec::H264,
        "video/x-h265" => VideoCodec::H265,
        "video/x-vp8" => VideoCodec::Vp8,
        "video/x-vp9" => VideoCodec::Vp9,
        "video/x-av1" => VideoCodec::Av1,
        "video/x-flash-video" => VideoCodec::Flv1,
        "video/x-vp6-flash" => VideoCodec::Vp6,
        "video/x-vp6-alpha" => VideoCodec::Vp6Alpha,
        "video/mpeg" if int("mpegversion") == Some(4) => VideoCodec::Mpeg4,
        "video/mpeg" => VideoCodec::Mpeg2,
        _ => return audio_config(name, s, int("rate"), int("channels"), record),
    };
    let size = int("width").zip(int("height"));
    let rank = size.map_or(0, |(w, h)| u64::from(w) * u64::from(h));
    // What GStreamer 1.22 has of av1C is cut wrongly; sequence headers come with the key frames.
    let record = match codec {
        VideoCodec::Av1 => Bytes::new(),
        VideoCodec::Vp6 | VideoCodec::Vp6Alpha => crop.map(|crop| Bytes::from(vec![crop])).unwrap_or_default(),
        _ => record(),
    };
    let aspect = s.get::<gst::Fraction>("pixel-aspect-ratio").ok().map(|f| (f.numer(), f.denom()));
    let sides = |(n, d): (i32, i32)| Some((u32::try_from(n).ok()?, u32::try_from(d).ok()?));
    // Square is what they say who say nothing; the stream itself may know better.
    let pixel_aspect = aspect.and_then(sides).filter(|(n, d)| n != d);
    Some((
        Event::VideoConfig(VideoConfig {
            codec,
            record,
            size,
            rotation,
            colours: colours(s),
            pixel_aspect,
            max_luminance: max_luminance(caps),
        }),
        rank,
    ))
}

/// What the container says of the colours.
fn colours(s: &gst::StructureRef) -> Colours {
    let said = s.get::<&str>("colorimetry").ok().and_then(|c| gst_video::VideoColorimetry::from_str(c).ok());
    match said.map(|c| (c.transfer(), c.primaries())) {
        Some((gst_video::VideoTransferFunction::Smpte2084, _)) => Colours::Pq,
        Some((gst_video::VideoTransferFunction::AribStdB67, _)) => Colours::Hlg,
        Some((_, gst_video::VideoColorPrimaries::Bt2020)) => Colours::Wide,
        _ => Colours::Unspecified,
    }
}

/// How pictures with these tags are to be turned; `None` if they don't say. Mirrored ones are left as they are.
pub(crate) fn rotation(tags: &gst::TagListRef) -> Option<Rotation> {
    Some(match tags.get::<gst::tags::ImageOrientation>()?.get() {
        "rotate-90" => Rotation::Clockwise90,
        "rotate-180" => Rotation::Clockwise180,
        "rotate-270" => Rotation::Clockwise270,
        _ => Rotation::None,
    })
}

fn audio_config(
    name: &str,
    s: &gst::StructureRef,
    rate: Option<u32>,
    channels: Option<u32>,
    record: impl Fn() -> Bytes,
) -> Option<(Event, u64)> {
    let headers = || -> Vec<Bytes> {
        let array = s.get::<gst::Array>("streamheader").ok();
        let buffers = array.iter().flat_map(|a| a.iter());
        buffers.filter_map(|v| v.get::<gst::Buffer>().ok()).filter_map(|b| bytes_of(&b)).collect()
    };
    let (codec, record) = match name {
        "audio/mpeg" if s.get::<i32>("mpegversion") == Ok(1) => {
            (if s.get::<i32>("layer") == Ok(3) { AudioCodec::Mp3 } else { AudioCodec::Mp2 }, Bytes::new())
        }
        "audio/mpeg" if s.get::<&str>("stream-format") == Ok("loas") => (AudioCodec::AacLatm, Bytes::new()),
        "audio/mpeg" => (AudioCodec::Aac, record()),
        "audio/x-opus" => (AudioCodec::Opus, headers().first().cloned().unwrap_or_default()),
        "audio/x-vorbis" => (AudioCodec::Vorbis, laced(&headers())),
        "audio/x-ac3" => (AudioCodec::Ac3, Bytes::new()),
        "audio/x-eac3" => (AudioCodec::Eac3, Bytes::new()),
        "audio/x-flac" => (AudioCodec::Flac, stream_info(&headers())),
        "audio/x-raw" => (AudioCodec::PcmS16Le, Bytes::new()),
        "audio/x-alaw" => (AudioCodec::PcmAlaw, Bytes::new()),
        "audio/x-mulaw" => (AudioCodec::PcmMulaw, Bytes::new()),
        _ => return None,
    };
    let channels = channels.and_then(|c| u8::try_from(c).ok());
    let rank = u64::from(channels.unwrap_or(0)) * u64::from(rate.unwrap_or(0));
    Some((Event::AudioConfig(AudioConfig { codec, record, sample_rate: rate, channels }), rank))
}

/// The bytes of a buffer, copied.
pub(crate) fn bytes_of(buffer: &gst::BufferRef) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(buffer.map_readable().ok()?.as_slice()))
}

/// Xiph lacing: how many packets but one, the lengths of all but the last, the packets (as in Matroska's CodecPrivate).
fn laced(packets: &[Bytes]) -> Bytes {
    let Some((_, all_but_last)) = packets.split_last() else { return Bytes::new() };
    let mut out = vec![u8::try_from(all_but_last.len()).unwrap_or(u8::MAX)];
    for packet in all_but_last {
        out.extend(std::iter::repeat_n(255, packet.len() / 255));
        // The cast holds: a remainder of 255.
        out.push((packet.len() % 255) as u8);
    }
    packets.iter().for_each(|p| out.extend_from_slice(p));
    Bytes::from(out)
}

/// The 34 bytes of STREAMINFO (RFC 9639 §8.2) out of a stream's first header.
fn stream_info(headers: &[Bytes]) -> Bytes {
    let Some(first) = headers.first() else { return Bytes::new() };
    // As flacparse hands it over it is that of Ogg (13 bytes and the block's 4 before it) or the bare block.
    let mark = first.windows(4).position(|w| w == b"fLaC");
    let at = mark.map_or(4, |m| m + 8);
    if first.len() < at + 34 { Bytes::new() } else { first.slice(at..at + 34) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_by_what_they_are() {
        gst::init().unwrap();
        let of = |text: &str| stream(&gst::Caps::from_str(text).unwrap());
        assert_eq!(of("video/mpegts,systemstream=true"), Stream::Container("tsdemux"));
        assert_eq!(of("video/mpeg,systemstream=true"), Stream::Container("mpegpsdemux"));
        assert!(
            matches!(of("video/mpeg,mpegversion=2,systemstream=false"), Stream::Media(p) if p.elements == ["mpegvideoparse"])
        );
        assert!(matches!(of("audio/mpeg,mpegversion=4"), Stream::Media(p) if p.elements == ["aacparse"]));
        assert_eq!(of("text/x-raw"), Stream::Ignored);
        assert_eq!(of("video/x-prores"), Stream::Unknown("Apple ProRes video".into()));
        assert_eq!(of("video/x-nobody-knows"), Stream::Unknown("video/x-nobody-knows".into()));
        assert!(
            matches!(of("audio/mpeg,mpegversion=4,stream-format=loas"), Stream::Media(p) if p.accepts.contains("loas"))
        );
    }

    #[test]
    fn headers_are_laced_as_matroska_does() {
        let packets = [vec![1u8; 30], vec![2; 300], vec![3; 5]].map(Bytes::from);
        let laced = laced(&packets);
        assert_eq!(laced[..4], [2, 30, 255, 45]);
        assert_eq!(laced.len(), 4 + 335);
        assert!(super::laced(&[]).is_empty());
    }
}
