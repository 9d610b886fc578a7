//! The session's participant in the room: its tracks, and what the room says.

use super::Driver;
use crate::lifecycle::Input;
use ipc::transcode::Command;
use model::{Blame, Fault, SourceTracks};
use publish::{AudioTrack, Event, LayerFormat, Tracks, VideoTrack};
use tracing::{debug, info, warn};

impl Driver {
    pub(super) fn publish(&mut self, which: SourceTracks) {
        let video = which.video.then(|| self.video_track());
        let audio = which.audio.then(|| self.audio_track());
        if let Some(room) = &self.room {
            video.into_iter().for_each(|t| room.add_video(t));
            audio.into_iter().for_each(|t| room.add_audio(t));
            return;
        }
        let mut config = publish::Config::new(self.ws_url.clone(), self.token.clone());
        config.attributes = vec![("ingress.resourceID".to_owned(), self.slot.entry.resource_id.to_string())];
        config.loopback = self.loopback;
        config.expected = self.passed.as_ref().and_then(|p| p.expected.clone());
        let (room, events) = self.participants.join(config, Tracks { video, audio });
        self.room = Some(room);
        self.room_events = Some(events);
    }

    fn video_track(&mut self) -> VideoTrack {
        let format = self.video_format();
        VideoTrack {
            // The Go ingress names its video track so; LiveKit only wants it unique within the participant.
            cid: self.spec.ingress_id.to_string(),
            name: self.spec.video.name.clone(),
            source: self.spec.video.source,
            layers: self.layers.iter().map(|&layer| LayerFormat { layer, format: format.clone() }).collect(),
        }
    }

    fn audio_track(&self) -> AudioTrack {
        let (stereo, dtx) = self.opus_format();
        AudioTrack {
            cid: format!("TR_{}", self.slot.entry.resource_id),
            name: self.spec.audio.name.clone(),
            source: self.spec.audio.source,
            stereo,
            dtx,
        }
    }

    pub(super) fn on_room(&mut self, event: Option<Event>) {
        match event {
            Some(Event::Joined { room_sid, participant_sid }) => {
                info!(room_sid, participant_sid, "joined the room");
                if self.facts.room(room_sid) {
                    self.report_facts();
                }
            }
            Some(Event::Published { kind, track_sid }) => info!(kind = kind.as_str(), track_sid, "published"),
            Some(Event::Connected) => self.connected = true,
            Some(Event::KeyFrameWanted { layer }) => self.want_key_frame(layer),
            Some(Event::LayersWanted(wanted)) => self.on_wanted(&wanted),
            Some(Event::Muted { kind, muted }) => info!(kind = kind.as_str(), muted, "the room mutes"),
            Some(Event::Reconnecting) => warn!("the room is lost, reconnecting"),
            Some(Event::Reconnected) => info!("back in the room"),
            Some(Event::Closed(fault)) => self.room_gone(fault),
            None => self.room_gone(Fault::new(Blame::Us, "room disconnected unexpectedly: its task ended")),
        }
    }

    fn room_gone(&mut self, fault: Fault) {
        self.room = None;
        self.room_events = None;
        self.connected = false;
        self.step(Input::RoomClosed(fault));
    }

    fn on_wanted(&mut self, wanted: &[bool]) {
        for (layer, &now) in wanted.iter().enumerate() {
            let Some(before) = self.wanted.get_mut(layer) else { break };
            if std::mem::replace(before, now) != now {
                debug!(layer, wanted = now, "layer");
                self.tell_child(Command::Wanted { layer: layer as u8, wanted: now });
            }
        }
        self.watch();
    }

    pub(super) fn leave_room(&mut self) {
        self.room_events = None;
        self.connected = false;
        match self.room.take() {
            Some(room) => self.leaving = Some(tokio::spawn(room.leave())),
            None => self.step(Input::RoomLeft),
        }
    }
}
