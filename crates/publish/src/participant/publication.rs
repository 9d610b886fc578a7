//! Our tracks: what we want to publish, and what the server knows of it.

use super::action::Actions;
use crate::{Event, LayerFormat, Tracks, VideoTrack, message};
use livekit_protocol as proto;
use model::{EncodedVideo, Kind, VideoCodec, VideoFormat};
use std::time::{Duration, Instant};

/// How long after the server removed a track it is published again (the reason, a permission that was withdrawn, comes within that
/// time); twice as long each time, up to so many times twice.
pub(super) const REPUBLISH_AFTER: Duration = Duration::from_secs(1);
const MAX_REPUBLISH_DOUBLINGS: u32 = 6;

/// A track of ours, as far as the server knows it.
#[derive(Debug, Default)]
struct Known {
    offered: bool,
    sid: Option<String>,
    muted: bool,
    /// The size of the video that was last announced.
    size: (u32, u32),
}

/// Tracks that the server has removed from the room.
#[derive(Debug, Default)]
struct Removal {
    /// A track is removed now.
    removed: bool,
    /// When to publish again, if we may then.
    republish_at: Option<Instant>,
    /// How often that has happened.
    count: u32,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Publication {
    tracks: Tracks,
    /// How a video track that is added later will be coded.
    expected: Option<VideoFormat>,
    video: Known,
    audio: Known,
    removal: Removal,
    /// Whether the server lets us publish all tracks.
    permitted: bool,
    /// What the server says of us next is newer than what we know: we were away.
    outdated: bool,
}

impl Publication {
    pub(super) fn new(tracks: Tracks, expected: Option<VideoFormat>) -> Self {
        Self {
            tracks,
            expected,
            video: Known::default(),
            audio: Known::default(),
            removal: Removal::default(),
            permitted: true,
            outdated: false,
        }
    }

    /// Another peer connection begins: the server knows nothing of our tracks.
    pub(super) fn reset(&mut self, actions: &mut Actions) {
        for (kind, known) in [(Kind::Video, &mut self.video), (Kind::Audio, &mut self.audio)] {
            if std::mem::take(known).muted {
                actions.emit(Event::Muted { kind, muted: false });
            }
        }
        self.removal = Removal { count: self.removal.count, ..Removal::default() };
        self.outdated = false;
    }

    /// The video track.
    pub(super) fn video(&self) -> Option<&VideoTrack> {
        self.tracks.video.as_ref()
    }

    /// How many layers the video track has.
    pub(super) fn layers(&self) -> usize {
        self.video().map_or(0, |track| track.layers.len())
    }

    /// The codec of the video track.
    pub(super) fn video_codec(&self) -> Option<VideoCodec> {
        self.video().and_then(VideoTrack::codec)
    }

    /// Takes more tracks. A kind that is there stays as it is, but for the sizes of its layers. Whether there is video now and was none.
    pub(super) fn want(&mut self, tracks: &Tracks) -> bool {
        let first = self.tracks.video.is_none() && tracks.video.is_some();
        match (&mut self.tracks.video, &tracks.video) {
            (Some(ours), Some(theirs)) => _ = ours.resize(&theirs.sizes().collect::<Vec<_>>()),
            (ours, theirs) if first => ours.clone_from(theirs),
            _ => {}
        }
        if self.tracks.audio.is_none() {
            self.tracks.audio.clone_from(&tracks.audio);
        }
        first
    }

    /// What a peer connection is made for.
    pub(super) fn rtc_config(&self) -> rtc::Config {
        let audio = self.tracks.audio.as_ref();
        let format = self.video().and_then(VideoTrack::format).or_else(|| self.expected.clone());
        rtc::Config {
            // While nothing is known these are both that we encode; the server orders them by what the track is announced with.
            video: format
                .map_or_else(|| vec![EncodedVideo::H264.into(), EncodedVideo::Vp8.into()], |format| vec![format]),
            stereo: audio.is_none_or(|a| a.stereo),
            dtx: audio.is_some_and(|a| a.dtx),
        }
    }

    /// The tracks that are not offered yet; marks them as offered.
    pub(super) fn offer(&mut self) -> rtc::Lines {
        let video = self.tracks.video.as_ref().filter(|_| !std::mem::replace(&mut self.video.offered, true));
        if let Some(track) = video {
            self.video.size = track.size();
        }
        let audio = self.tracks.audio.as_ref().filter(|_| !std::mem::replace(&mut self.audio.offered, true));
        rtc::Lines {
            video: video
                .map(|t| rtc::VideoLine { track_id: t.cid.clone(), layers: t.layers.iter().map(layer_line).collect() }),
            audio: audio.map(|t| rtc::AudioLine { track_id: t.cid.clone() }),
        }
    }

    /// Which kinds there are that are not offered yet: video, audio.
    pub(super) fn unoffered(&self) -> (bool, bool) {
        let new = |there: bool, known: &Known| there && !known.offered;
        (new(self.tracks.video.is_some(), &self.video), new(self.tracks.audio.is_some(), &self.audio))
    }

    /// Whether any track is offered.
    pub(super) fn is_offered(&self) -> bool {
        self.video.offered || self.audio.offered
    }

    /// The announcements of those tracks that are offered, as far as they are of these kinds.
    pub(super) fn announcements(&self, video: bool, audio: bool) -> Vec<proto::AddTrackRequest> {
        let video = self.tracks.video.as_ref().filter(|_| video && self.video.offered).map(message::add_video);
        let audio = self.tracks.audio.as_ref().filter(|_| audio && self.audio.offered).map(message::add_audio);
        video.into_iter().chain(audio).collect()
    }

    /// The server has published a track, which may be one of ours. Its size may have changed meanwhile.
    pub(super) fn published(&mut self, published: &proto::TrackPublishedResponse, actions: &mut Actions) {
        let Some(track) = &published.track else { return };
        let is = |cid: Option<&String>| cid == Some(&published.cid);
        let (kind, known) = if is(self.tracks.video.as_ref().map(|t| &t.cid)) {
            (Kind::Video, &mut self.video)
        } else if is(self.tracks.audio.as_ref().map(|t| &t.cid)) {
            (Kind::Audio, &mut self.audio)
        } else {
            return;
        };
        if known.sid.as_ref() != Some(&track.sid) {
            known.sid = Some(track.sid.clone());
            actions.emit(Event::Published { kind, track_sid: track.sid.clone() });
        }
        self.announce_size(actions);
    }

    /// A kind that the server has not published yet, though there is a track.
    pub(super) fn unpublished(&self) -> Option<Kind> {
        let lacks = |there: bool, known: &Known| there && known.sid.is_none();
        if lacks(self.tracks.video.is_some(), &self.video) {
            Some(Kind::Video)
        } else {
            lacks(self.tracks.audio.is_some(), &self.audio).then_some(Kind::Audio)
        }
    }

    /// Which of our tracks the server calls so.
    pub(super) fn kind_of(&self, sid: &str) -> Option<Kind> {
        let is = |known: &Known| known.sid.as_deref() == Some(sid);
        match (is(&self.video), is(&self.audio)) {
            (true, _) => Some(Kind::Video),
            (_, true) => Some(Kind::Audio),
            _ => None,
        }
    }

    /// The video track's sid, if it is published and not muted.
    pub(super) fn unmuted_video(&self) -> Option<&str> {
        self.video.sid.as_deref().filter(|_| !self.video.muted)
    }

    /// Announces the video's size, if the server knows another.
    pub(super) fn announce_size(&mut self, actions: &mut Actions) {
        let Some(size) = self.video().map(VideoTrack::size) else { return };
        if let Some(sid) = &self.video.sid
            && self.video.size != size
        {
            actions.send(message::size(sid, size));
            self.video.size = size;
        }
    }

    /// The server says whether a track is muted.
    pub(super) fn mute(&mut self, sid: &str, muted: bool, actions: &mut Actions) {
        let Some(kind) = self.kind_of(sid) else { return };
        let known = match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        if std::mem::replace(&mut known.muted, muted) != muted {
            actions.emit(Event::Muted { kind, muted });
        }
    }

    /// The server has removed a track from the room. Nothing of it goes out until it is published again.
    pub(super) fn removed(&mut self, sid: &str, now: Instant, actions: &mut Actions) {
        if self.kind_of(sid).is_none() {
            return;
        }
        tracing::warn!(track = sid, "the server removed a track from the room");
        self.mute(sid, true, actions);
        if !std::mem::replace(&mut self.removal.removed, true) {
            let doublings = self.removal.count.min(MAX_REPUBLISH_DOUBLINGS);
            self.removal.republish_at = Some(now + REPUBLISH_AFTER * (1 << doublings));
            self.removal.count = self.removal.count.saturating_add(1);
        }
    }

    /// Whether a track that was removed is to be published again; asked once. Not as long as we may not.
    pub(super) fn republish_due(&mut self, now: Instant) -> bool {
        self.removal.republish_at.take_if(|at| *at <= now).is_some() && self.permitted
    }

    /// When that is to be asked.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.removal.republish_at
    }

    /// The server lets a participant in who may do this.
    pub(super) fn joined(&mut self, own: Option<&proto::ParticipantInfo>) {
        self.permitted = self.permits(own);
    }

    /// We were away: the server speaks of changes once, and what it said meanwhile is lost.
    pub(super) fn was_away(&mut self) {
        self.outdated = true;
    }

    /// What the server tells the room of us: what we may do, and once we were away, what we did not hear of our tracks.
    pub(super) fn own_info(&mut self, own: &proto::ParticipantInfo, now: Instant, actions: &mut Actions) {
        let may = self.permits(Some(own));
        let might = std::mem::replace(&mut self.permitted, may);
        if may && !might && self.removal.removed {
            self.removal.republish_at = Some(now + REPUBLISH_AFTER);
        }
        if !std::mem::take(&mut self.outdated) {
            return;
        }
        let sids = [self.video.sid.clone(), self.audio.sid.clone()];
        for sid in sids.into_iter().flatten() {
            match own.tracks.iter().find(|t| t.sid == sid) {
                Some(track) => self.mute(&sid, track.muted, actions),
                None => self.removed(&sid, now, actions),
            }
        }
    }

    /// Whether this is a participant that may publish what we have.
    fn permits(&self, own: Option<&proto::ParticipantInfo>) -> bool {
        let Some(permission) = own.and_then(|p| p.permission.as_ref()) else { return true };
        let (video, audio) = (self.tracks.video.as_ref(), self.tracks.audio.as_ref());
        let sources = [video.map(|t| t.source), audio.map(|t| t.source)];
        permission.can_publish
            && sources.into_iter().flatten().all(|source| message::allowed(source, &permission.can_publish_sources))
    }
}

fn layer_line(layer: &LayerFormat) -> rtc::LayerLine {
    rtc::LayerLine { rid: layer.layer.quality.rid(), format: layer.format.clone() }
}
