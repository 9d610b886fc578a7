//! The egress side of a session: its participant in the room.
//!
//! Media goes in with its output; [`FromRoom`] comes out. This owns the participant, what it has
//! published, the samples of latency, and leaving. It knows neither source nor worker.

use crate::participant::{Participant, ParticipantFactory};
use crate::{Observer, SessionIds};
use model::{
    AudioSpec, Blame, Fault, IngressSpec, Layer, OpusFormat, Quality, Secret, SourceTracks, VideoFormat, VideoSpec,
};
use publish::{AudioTrack, Event, LayerFormat, Media, Output, RenewToken, Tracks, VideoTrack};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tracing::{info, warn};

#[cfg(test)]
mod tests;

/// How often the latency of a track or layer is sampled, as in the Go ingress: for a histogram, twice a second is plenty.
const LATENCY_INTERVAL: Duration = Duration::from_millis(500);
/// Audio and the layers of a video track.
const OUTPUTS: usize = 4;

/// How to reach the room.
pub(super) struct RoomAccess {
    /// Makes participants.
    pub(super) participants: Arc<dyn ParticipantFactory>,
    /// The server's address.
    pub(super) ws_url: String,
    /// Admits to the room.
    pub(super) token: Secret,
    /// Makes another token, or gives the first one again. `None` once the room has moved.
    pub(super) renew: Option<RenewToken>,
    /// Whether to offer loopback addresses for media.
    pub(super) loopback: bool,
}

/// What comes from the room.
#[derive(Debug, PartialEq)]
pub(super) enum FromRoom {
    /// The participant is in the room with this sid.
    Joined(String),
    /// A viewer needs a key frame of this output.
    KeyframeWanted(usize),
    /// Which layers are wanted.
    LayersWanted(Vec<bool>),
    /// The room is gone for good.
    Closed(Fault),
    /// The participant has left.
    Left,
}

/// See the [module](self).
pub(super) struct Egress {
    access: RoomAccess,
    ids: SessionIds,
    audio: AudioSpec,
    video: VideoSpec,
    observer: Arc<dyn Observer>,
    participant: Option<Box<dyn Participant>>,
    events: Option<mpsc::Receiver<Event>>,
    leaving: Option<tokio::task::JoinHandle<()>>,
    connected: bool,
    /// The tracks that were published with this participant.
    published: SourceTracks,
    /// When the latency of each output was last sampled; audio first.
    sampled: [Option<Instant>; OUTPUTS],
}

impl Egress {
    /// Not in the room yet.
    pub(super) fn new(access: RoomAccess, ids: SessionIds, spec: &IngressSpec, observer: Arc<dyn Observer>) -> Self {
        Self {
            access,
            ids,
            audio: spec.audio.clone(),
            video: spec.video.clone(),
            observer,
            participant: None,
            events: None,
            leaving: None,
            connected: false,
            published: SourceTracks::default(),
            sampled: [None; OUTPUTS],
        }
    }

    /// Publishes tracks: joins with them, or adds them if joined already. `expected`: the format of video that may be added
    /// later.
    pub(super) fn publish(
        &mut self,
        video: Option<Vec<LayerFormat>>,
        audio: Option<OpusFormat>,
        expected: Option<VideoFormat>,
    ) {
        self.published.video |= video.is_some();
        self.published.audio |= audio.is_some();
        let video = video.map(|layers| self.video_track(layers));
        let audio = audio.map(|format| self.audio_track(format));
        if let Some(participant) = &self.participant {
            video.into_iter().for_each(|track| participant.add_video(track));
            audio.into_iter().for_each(|track| participant.add_audio(track));
            return;
        }
        let mut config = publish::Config::new(self.access.ws_url.clone(), self.access.token.clone());
        config.attributes = vec![("ingress.resourceID".to_owned(), self.ids.resource_id.to_string())];
        config.renew = self.access.renew.clone();
        config.loopback = self.access.loopback;
        config.expected = expected;
        let (participant, events) = self.access.participants.join(config, Tracks { video, audio });
        (self.participant, self.events) = (Some(participant), Some(events));
    }

    fn video_track(&self, layers: Vec<LayerFormat>) -> VideoTrack {
        VideoTrack {
            // The Go ingress names its video track so; LiveKit only wants it unique within the participant.
            cid: self.ids.ingress_id.to_string(),
            name: self.video.name.clone(),
            source: self.video.source,
            layers,
        }
    }

    fn audio_track(&self, format: OpusFormat) -> AudioTrack {
        AudioTrack {
            cid: format!("TR_{}", self.ids.resource_id),
            name: self.audio.name.clone(),
            source: self.audio.source,
            stereo: format.stereo,
            dtx: format.dtx,
        }
    }

    /// Leaves, to join again with other tracks in place of those that can't be changed. Gives what was published; nothing if
    /// there was no participant.
    pub(super) fn leave_to_rejoin(&mut self) -> Option<SourceTracks> {
        let participant = self.participant.take()?;
        info!("the source's video has another format now: joining the room again");
        (self.events, self.connected) = (None, false);
        tokio::spawn(participant.leave());
        Some(std::mem::take(&mut self.published))
    }

    /// Leaves for good; [`FromRoom::Left`] follows. False if there is nothing to leave.
    pub(super) fn leave(&mut self) -> bool {
        (self.events, self.connected) = (None, false);
        self.leaving = self.participant.take().map(|participant| tokio::spawn(participant.leave()));
        self.leaving.is_some()
    }

    /// The layers have other sizes or bitrates.
    pub(super) fn resize(&self, layers: Vec<Layer>) {
        if let Some(participant) = &self.participant {
            let sizes: Vec<_> = layers.iter().map(|l| (l.width, l.height)).collect();
            info!(?sizes, "the layers follow the size of the source");
            participant.resized(layers);
        }
    }

    /// The encoders begin again.
    pub(super) fn restarted(&self) {
        if let Some(participant) = &self.participant {
            participant.restarted();
        }
    }

    /// Publishes a splice point (SCTE-35) as an attribute, like the Go ingress does: the event id while the programme is out of the
    /// network.
    pub(super) fn show_splice(&self, event: Option<u32>) {
        info!(event, "splice point");
        if let Some(participant) = &self.participant {
            let value = event.map(|event| event.to_string()).unwrap_or_default();
            participant.set_attributes(vec![("ingress.outOfNetwork.eventID".to_owned(), value)]);
        }
    }

    /// Sends media, of which the last is due at `at`, to an output of this rank. Whether media flows into the room.
    pub(super) fn send(
        &mut self,
        output: Output,
        quality: Option<Quality>,
        media: Media,
        at: Instant,
        now: Instant,
    ) -> bool {
        if let Some(participant) = &self.participant {
            participant.send(output, media);
        }
        let slot = match output {
            Output::Audio => 0,
            Output::Video(layer) => layer + 1,
        };
        if self.connected
            && let Some(sampled) = self.sampled.get_mut(slot)
            && sampled.is_none_or(|last| now.saturating_duration_since(last) >= LATENCY_INTERVAL)
        {
            *sampled = Some(now);
            self.observer.latency(quality, now.saturating_duration_since(at));
        }
        self.connected
    }

    /// What comes from the room next. Cancel safe.
    pub(super) async fn recv(&mut self) -> FromRoom {
        loop {
            if let Some(task) = &mut self.leaving {
                let _ = task.await;
                self.leaving = None;
                return FromRoom::Left;
            }
            let Some(events) = &mut self.events else { return std::future::pending().await };
            let event = events.recv().await;
            if let Some(news) = self.on_event(event) {
                return news;
            }
        }
    }

    /// Takes in an event of the participant; `None`: its task ended.
    fn on_event(&mut self, event: Option<Event>) -> Option<FromRoom> {
        match event {
            Some(Event::Joined { room_sid, participant_sid }) => {
                info!(room_sid, participant_sid, "joined the room");
                return Some(FromRoom::Joined(room_sid));
            }
            Some(Event::Published { kind, track_sid }) => info!(kind = kind.as_str(), track_sid, "published"),
            Some(Event::Connected) => self.connected = true,
            Some(Event::TokenRefreshed { token, moved }) => {
                self.access.token = token;
                if moved {
                    self.access.renew = None;
                }
            }
            Some(Event::KeyframeRequest { layer }) => return Some(FromRoom::KeyframeWanted(layer)),
            Some(Event::LayersWanted(wanted)) => return Some(FromRoom::LayersWanted(wanted)),
            Some(Event::Muted { kind, muted }) => info!(kind = kind.as_str(), muted, "mute state of a track changed"),
            Some(Event::Reconnecting) => warn!("the room is lost, reconnecting"),
            Some(Event::Reconnected) => info!("back in the room"),
            Some(Event::Closed(fault)) => return Some(self.closed(fault)),
            None => {
                let text = "room disconnected unexpectedly: its task ended";
                return Some(self.closed(Fault::new(Blame::Us, text)));
            }
        }
        None
    }

    fn closed(&mut self, fault: Fault) -> FromRoom {
        (self.participant, self.events, self.connected) = (None, None, false);
        FromRoom::Closed(fault)
    }
}
