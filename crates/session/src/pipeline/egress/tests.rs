//! The egress side alone, with a participant that takes notes, on virtual time.

use super::*;
use crate::testing::{Given, Observed, Participants, Room, ids, spec};
use crate::time::now;
use bytes::Bytes;
use model::{EncodedVideo, InputKind, MediaTime};
use publish::AccessUnit;

struct Bench {
    egress: Egress,
    rooms: mpsc::UnboundedReceiver<Room>,
    observed: Observed,
}

impl Bench {
    fn new() -> Self {
        let (participants, rooms) = Participants::new();
        let access = RoomAccess {
            participants,
            ws_url: "ws://sfu".into(),
            token: Secret::new("token"),
            renew: None,
            loopback: false,
        };
        let (observed, spec) = (Observed::default(), spec(InputKind::Rtmp, true));
        let egress = Egress::new(access, ids(), &spec, Arc::new(observed.clone()));
        Self { egress, rooms, observed }
    }

    fn publish_video(&mut self) -> Room {
        let layers = spec(InputKind::Rtmp, true).video.encoding.layers;
        let format = VideoFormat::from(EncodedVideo::H264);
        let layers = layers.into_iter().map(|layer| LayerFormat { layer, format: format.clone() }).collect();
        self.egress.publish(Some(layers), None, None);
        self.rooms.try_recv().expect("the room is joined")
    }

    fn video(&mut self) -> bool {
        self.send(Output::Video(2), Some(Quality::High))
    }

    fn send(&mut self, output: Output, quality: Option<Quality>) -> bool {
        let unit = AccessUnit { pts: MediaTime::ZERO, at: now(), key: true, data: Bytes::new(), level: None };
        self.egress.send(output, quality, Media::AccessUnit(unit), now(), now())
    }
}

#[tokio::test(start_paused = true)]
async fn tracks_are_joined_with_and_then_added() {
    let mut bench = Bench::new();
    let mut room = bench.publish_video();
    assert_eq!(room.config.attributes, [("ingress.resourceID".to_owned(), "RT_1".to_owned())]);
    let video = room.tracks.video.as_ref().map(|t| (t.cid.as_str(), t.name.as_str(), t.layers.len()));
    assert_eq!((video, room.tracks.audio.is_none()), (Some(("IN_1", "video", 3)), true));
    bench.egress.publish(None, Some(OpusFormat::default()), None);
    assert_eq!(room.given(), [Given::AddAudio]);
    assert!(bench.rooms.try_recv().is_err(), "nothing is joined again");
}

#[tokio::test(start_paused = true)]
async fn latency_is_sampled_once_connected_twice_a_second() {
    let mut bench = Bench::new();
    let mut room = bench.publish_video();
    assert!(!bench.video(), "media does not flow yet");
    room.events.send(Event::Connected).await.unwrap();
    room.events.send(Event::KeyframeRequest { layer: 1 }).await.unwrap();
    assert_eq!(bench.egress.recv().await, FromRoom::KeyframeWanted(1));
    for _ in 0..100 {
        assert!(bench.video());
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    assert_eq!(bench.observed.latencies(), [Some(Quality::High); 2]);
    assert!(bench.send(Output::Audio, None));
    assert_eq!(bench.observed.latencies(), [None]);
    assert_eq!(room.given().len(), 102);
}

#[tokio::test(start_paused = true)]
async fn rejoining_gives_what_was_published() {
    let mut bench = Bench::new();
    assert_eq!(bench.egress.leave_to_rejoin(), None);
    let mut room = bench.publish_video();
    bench.egress.publish(None, Some(OpusFormat::default()), None);
    room.events.send(Event::Connected).await.unwrap();
    assert_eq!(bench.egress.leave_to_rejoin(), Some(SourceTracks { video: true, audio: true }));
    tokio::task::yield_now().await;
    assert_eq!(room.given(), [Given::AddAudio, Given::Left]);
    bench.publish_video();
    assert!(!bench.video(), "not connected yet");
}

#[tokio::test(start_paused = true)]
async fn leaving_ends_with_left() {
    let mut bench = Bench::new();
    assert!(!bench.egress.leave(), "nothing to leave");
    let mut room = bench.publish_video();
    assert!(bench.egress.leave());
    assert_eq!(bench.egress.recv().await, FromRoom::Left);
    assert_eq!(room.given(), [Given::Left]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_closes_is_told() {
    let mut bench = Bench::new();
    let room = bench.publish_video();
    let fault = Fault::new(Blame::Room, "the room was deleted");
    room.events.send(Event::Closed(fault.clone())).await.unwrap();
    assert_eq!(bench.egress.recv().await, FromRoom::Closed(fault));
    assert!(!bench.egress.leave());
    let room = bench.publish_video();
    drop(room);
    assert!(matches!(bench.egress.recv().await, FromRoom::Closed(fault) if fault.blame == Blame::Us));
}
