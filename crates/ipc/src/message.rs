//! The messages.

use bytes::Bytes;
use model::{AudioConfig, AudioEncoding, EncodedVideo, Frame, Kind, Layer, Media, MediaTime, PullJob, VideoConfig};
use serde::{Deserialize, Serialize};

/// Raised by one whenever a message changes its shape.
pub const VERSION: u32 = 5;

/// The first message of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the side that speaks.
    pub version: u32,
}

/// What a child is to do for its whole life. Sent once, when a session takes the child; until then it waits, warm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The codec of all video layers.
    pub video_codec: EncodedVideo,
    /// Pictures a second at the most.
    pub max_frame_rate: f64,
    /// How to encode sound.
    pub audio: AudioEncoding,
}

/// From the session to its child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToChild {
    /// First.
    Hello(Hello),
    /// Second; starts the work.
    Job(Job),
    /// The video frames that follow are coded like this. May come again: the child follows.
    VideoConfig(VideoConfig),
    /// The audio frames that follow are coded like this. May come again: the child follows.
    AudioConfig(AudioConfig),
    /// An access unit of the source. Times are on the session's timeline.
    Frame(Frame),
    /// The layers to encode, lowest first: the answer to [`ToParent::VideoFormat`]. Decoded pictures that come before are
    /// kept back (the newest only), so that the first picture is not lost. May come again with as many layers of other sizes or
    /// bitrates, from the next picture on; until then, and without, pictures of other sizes are scaled to fit.
    Layers(Vec<Layer>),
    /// Whether anybody wants this layer (an index into `Layers`). All are wanted at first. A layer that comes back starts
    /// with a key frame.
    Wanted {
        /// Index into `Layers`.
        layer: u8,
        /// Whether to encode it.
        wanted: bool,
    },
    /// Make the next picture of this layer a key frame.
    KeyFrame {
        /// Index into `Layers`.
        layer: u8,
    },
    /// Pictures (or sound) from before this point are decoded but not encoded: the frames that only bring a decoder up to date
    /// (those since the last key frame, given to a child that replaces a crashed one) or that come too late to be shown.
    ShowFrom(Kind, MediaTime),
    /// Show the last picture once more, at this time: the source sends none just now. Without one shown before, nothing happens.
    Repeat(MediaTime),
    /// The source has ended: encode what is inside, send it, then [`ToParent::Finished`].
    Finish,
    /// In the place of [`ToChild::Job`]: fetch and demultiplex this, and send what is in it as [`ToParent::Pulled`]. It ends
    /// with [`ToParent::Finished`], or with [`ToParent::Failed`] and words for whoever wrote the address.
    Pull(PullJob),
}

/// From the child to its session. Facts only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToParent {
    /// First.
    Hello(Hello),
    /// GStreamer is up; the child waits for a job.
    Ready,
    /// What decoded pictures look like: at the first, whenever it changes, and when there are some again after
    /// [`ToParent::Unusable`].
    VideoFormat {
        /// Pixels, as to be shown (pixel aspect ratio and cropping applied).
        width: u32,
        /// Pixels, as to be shown.
        height: u32,
        /// Pictures a second, if the source says.
        frame_rate: Option<f64>,
    },
    /// What decoded sound is like: at the first, whenever it changes, and when there is some again after
    /// [`ToParent::Unusable`].
    AudioFormat {
        /// Samples a second.
        sample_rate: u32,
        /// Channels.
        channels: u32,
    },
    /// An encoded picture, H.264 as Annex B, VP8 as one frame.
    Video {
        /// Index into `Layers`.
        layer: u8,
        /// When to show it, on the session's timeline.
        pts: MediaTime,
        /// Whether decoding can start here.
        key: bool,
        /// The access unit.
        data: Bytes,
    },
    /// An Opus packet.
    Audio {
        /// When to play it, on the session's timeline.
        pts: MediaTime,
        /// How loud it is, in dBov (RFC 6464 §3): 0 the loudest, -127 silence.
        level: i8,
        /// The packet.
        data: Bytes,
    },
    /// Still here: sent ten times a second, also while there is no media, so that a hung child is told from a silent source.
    Alive {
        /// Frames handed to the decoders so far.
        received: u64,
        /// Pictures and packets sent up so far.
        sent: u64,
    },
    /// One kind cannot be decoded (no such decoder, or it gave up); the other goes on. Words for the publisher.
    Unusable {
        /// Which.
        kind: Kind,
        /// Why, for people.
        reason: String,
    },
    /// Nothing more can be done; the child exits after this. Words for the publisher.
    Failed {
        /// Why, for people.
        reason: String,
    },
    /// The answer to [`ToChild::Finish`], and the end of what [`ToChild::Pull`] asked for: all is sent; the child exits after
    /// this.
    Finished,
    /// What a pulled source brings, at its pace.
    Pulled(Media),
    /// A splice point of a pulled source (SCTE-35): from now on it is out of its network with this event, or (`None`) back.
    Splice(Option<u32>),
}
