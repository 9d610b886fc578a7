//! The statistics of a session, for its reports.

use crate::time::unix_nanos;
use crate::{AudioFacts, Report, Status, VideoFacts};
use model::{AudioCodec, Kind, ResourceId, VideoCodec};
use std::time::{Duration, Instant, SystemTime};

/// The window of the average bitrate, as in the Go ingress.
const RATE_WINDOW: Duration = Duration::from_secs(60);

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct SessionStats {
    resource_id: ResourceId,
    started_at: i64,
    /// When the last report was made, in Unix nanoseconds.
    last_update: i64,
    room_id: String,
    video: Option<VideoFacts>,
    audio: Option<AudioFacts>,
    video_rate: Rate,
    audio_rate: Rate,
}

impl SessionStats {
    /// Of a session that was admitted at `started_at`.
    pub(crate) fn new(resource_id: ResourceId, started_at: SystemTime) -> Self {
        Self {
            resource_id,
            started_at: unix_nanos(started_at),
            last_update: 0,
            room_id: String::new(),
            video: None,
            audio: None,
            video_rate: Rate::default(),
            audio_rate: Rate::default(),
        }
    }

    /// The source's video has this codec.
    pub(crate) fn video_codec(&mut self, codec: VideoCodec) {
        self.video.get_or_insert_default().mime = codec.mime().to_owned();
    }

    /// The source's audio has this codec.
    pub(crate) fn audio_codec(&mut self, codec: AudioCodec) {
        self.audio.get_or_insert_default().mime = codec.mime().to_owned();
    }

    /// Passthrough media is named as in session descriptions, as in the Go ingress.
    pub(crate) fn passthrough_codec(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Video => self.video.get_or_insert_default().mime = format!("video/{name}"),
            Kind::Audio => self.audio.get_or_insert_default().mime = format!("audio/{name}"),
        }
    }

    /// The source's pictures have this size in pixels, and this rate a second where known. Whether either is new.
    pub(crate) fn video_format(&mut self, width: u32, height: u32, frame_rate: Option<f64>) -> bool {
        let video = self.video.get_or_insert_default();
        let frame_rate = frame_rate.unwrap_or(0.0);
        let news = (video.width, video.height, video.frame_rate) != (width, height, frame_rate);
        (video.width, video.height, video.frame_rate) = (width, height, frame_rate);
        news
    }

    /// The source's audio has this format. Whether it is new.
    pub(crate) fn audio_format(&mut self, sample_rate: u32, channels: u32) -> bool {
        let audio = self.audio.get_or_insert_default();
        let news = (audio.sample_rate, audio.channels) != (sample_rate, channels);
        (audio.sample_rate, audio.channels) = (sample_rate, channels);
        news
    }

    /// The room's sid. Whether it is new.
    pub(crate) fn room(&mut self, sid: String) -> bool {
        let news = self.room_id != sid;
        self.room_id = sid;
        news
    }

    /// Counts an access unit or packet of the source.
    pub(crate) fn count(&mut self, kind: Kind, bytes: usize, now: Instant) {
        match kind {
            Kind::Video => self.video_rate.count(bytes, now),
            Kind::Audio => self.audio_rate.count(bytes, now),
        }
    }

    /// The report of this moment.
    pub(crate) fn report(&mut self, status: Status, error: String, now: SystemTime) -> Report {
        // Strictly rising, though the system's clock need not rise: the control plane drops what looks older.
        let updated_at = unix_nanos(now).max(self.last_update + 1).max(self.started_at);
        self.last_update = updated_at;
        if let Some(video) = &mut self.video {
            video.average_bitrate = self.video_rate.average();
        }
        if let Some(audio) = &mut self.audio {
            audio.average_bitrate = self.audio_rate.average();
        }
        Report {
            resource_id: self.resource_id.clone(),
            status,
            error,
            video: self.video.clone(),
            audio: self.audio.clone(),
            room_id: self.room_id.clone(),
            started_at: self.started_at,
            ended_at: if status.is_final() { updated_at } else { 0 },
            updated_at,
        }
    }
}

/// Counts bytes; the rate is that of the last whole window, or of the current one before that.
#[derive(Debug, Default)]
struct Rate {
    from: Option<Instant>,
    until: Option<Instant>,
    bytes: u64,
    last: Option<u32>,
}

impl Rate {
    fn count(&mut self, bytes: usize, now: Instant) {
        let from = *self.from.get_or_insert(now);
        if now.saturating_duration_since(from) >= RATE_WINDOW {
            self.last = self.current(now);
            *self = Self { from: Some(now), last: self.last, ..Self::default() };
        }
        self.until = Some(now);
        self.bytes += bytes as u64;
    }

    fn current(&self, until: Instant) -> Option<u32> {
        let seconds = until.saturating_duration_since(self.from?).as_secs_f64();
        // A rate over less than a second says more about interleaving than about the stream.
        (seconds >= 1.0).then(|| (self.bytes as f64 * 8.0 / seconds) as u32)
    }

    /// Bits a second; 0 until known.
    fn average(&self) -> u32 {
        self.last.or_else(|| self.current(self.until?)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitrate_is_that_of_the_last_minute() {
        let (mut rate, t0) = (Rate::default(), Instant::now());
        assert_eq!(rate.average(), 0);
        for i in 0..100 {
            rate.count(1_000, t0 + Duration::from_millis(i * 40));
        }
        assert!((198_000..=206_000).contains(&rate.average()), "{}", rate.average());
        for i in 100..4_000 {
            rate.count(2_000, t0 + Duration::from_millis(i * 40));
        }
        assert!((395_000..=405_000).contains(&rate.average()), "{}", rate.average());
    }

    #[test]
    fn report_times_rise_even_if_the_clock_does_not() {
        let t = SystemTime::now();
        let mut stats = SessionStats::new(ResourceId("RT_1".into()), t);
        let first = stats.report(Status::Buffering, String::new(), t);
        let second = stats.report(Status::Publishing, String::new(), t - Duration::from_secs(5));
        assert!(second.updated_at > first.updated_at);
        assert_eq!((first.ended_at, second.ended_at), (0, 0));
        let last = stats.report(Status::Inactive, String::new(), t);
        assert_eq!(last.ended_at, last.updated_at);
    }
}
