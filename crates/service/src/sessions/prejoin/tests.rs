//! Rooms that are joined before their session begins, on virtual time.

use super::{
    Duration, FAILED_JOIN_POLL, Prejoin, Prejoined, ROOM_WAIT, ServerFacts, TURN_WAIT, VideoCodec, VideoFormat, Wanted,
};
use crate::control::embedded::ingress;
use crate::testing::FakeParticipants;
use model::{InputKind, ResourceId};
use session::{Report, Status};
use std::sync::Arc;
use tokio::time::{Instant, advance};

fn prejoin(participants: &Arc<FakeParticipants>) -> Prejoin {
    Prejoin { participants: participants.clone(), loopback: false }
}

async fn ask(participants: &Arc<FakeParticipants>, codec: VideoCodec) -> (Option<Vec<VideoCodec>>, Option<Prejoined>) {
    let wanted = Wanted { codec: Some(format(codec)), turn: false };
    prejoin(participants).room_codecs(&ingress(InputKind::Whip, "k"), wanted).await
}

fn facts(video_codecs: Vec<VideoCodec>) -> Option<ServerFacts> {
    Some(ServerFacts { video_codecs, turn_servers: Vec::new(), told: Instant::now().into_std() })
}

fn format(codec: VideoCodec) -> VideoFormat {
    VideoFormat { codec, parameters: String::new(), described: false }
}

#[tokio::test(start_paused = true)]
async fn a_codec_that_is_known_to_be_taken_needs_no_join() {
    let participants = Arc::<FakeParticipants>::default();
    participants.facts.send_replace(facts(vec![VideoCodec::H264]));
    let (codecs, prejoined) = ask(&participants, VideoCodec::H264).await;
    assert_eq!((codecs, prejoined.is_none()), (Some(vec![VideoCodec::H264]), true));
    assert!(participants.joined.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_room_is_joined_and_kept() {
    let participants = Arc::<FakeParticipants>::default();
    let told = async {
        tokio::time::sleep(Duration::from_millis(80)).await;
        participants.facts.send_replace(facts(vec![VideoCodec::H264, VideoCodec::Vp8]));
    };
    let begin = Instant::now();
    let ((codecs, prejoined), ()) = tokio::join!(ask(&participants, VideoCodec::Vp8), told);
    assert_eq!((codecs.unwrap().len(), prejoined.is_some()), (2, true));
    assert_eq!(begin.elapsed(), Duration::from_millis(80));
    assert_eq!(participants.joined.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_does_not_take_the_codec_is_left() {
    let participants = Arc::<FakeParticipants>::default();
    participants.facts.send_replace(facts(vec![VideoCodec::H264]));
    let told = async {
        tokio::time::sleep(Duration::from_millis(80)).await;
        participants.facts.send_replace(facts(vec![VideoCodec::H264]));
    };
    let ((codecs, prejoined), ()) = tokio::join!(ask(&participants, VideoCodec::Av1), told);
    assert_eq!((codecs, prejoined.is_none()), (Some(vec![VideoCodec::H264]), true));
    assert!(participants.joined.lock().unwrap()[0].is_closed(), "it is left");
}

#[tokio::test(start_paused = true)]
async fn a_join_that_fails_is_noticed_at_once() {
    let participants = Arc::<FakeParticipants>::default();
    let fails = async {
        tokio::time::sleep(Duration::from_millis(80)).await;
        participants.joined.lock().unwrap().clear();
    };
    let begin = Instant::now();
    let ((codecs, prejoined), ()) = tokio::join!(ask(&participants, VideoCodec::H264), fails);
    assert_eq!((codecs, prejoined.is_some()), (None, true), "its session reports why");
    assert!(begin.elapsed() <= Duration::from_millis(80) + FAILED_JOIN_POLL, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_room_is_waited_for_three_seconds() {
    let participants = Arc::<FakeParticipants>::default();
    let begin = Instant::now();
    let (codecs, prejoined) = ask(&participants, VideoCodec::H264).await;
    assert_eq!((codecs, prejoined.is_some()), (None, true));
    assert_eq!(begin.elapsed(), ROOM_WAIT);
}

#[tokio::test(start_paused = true)]
async fn turn_servers_are_not_worth_a_long_wait_or_a_running_session() {
    let participants = Arc::<FakeParticipants>::default();
    let (prejoin, wanted) = (prejoin(&participants), Wanted { codec: None, turn: true });
    let mut resolved = ingress(InputKind::Whip, "k");
    let begin = Instant::now();
    let (codecs, prejoined) = prejoin.room_codecs(&resolved, wanted.clone()).await;
    assert_eq!((codecs, prejoined.is_some(), begin.elapsed()), (None, true, TURN_WAIT));
    let begun = std::time::SystemTime::UNIX_EPOCH;
    resolved.stored = Some(Report::first(ResourceId("WH_x".into()), Status::Publishing, String::new(), begun));
    let joined = participants.joined.lock().unwrap().len();
    assert!(prejoin.room_codecs(&resolved, wanted).await.1.is_none());
    assert_eq!(participants.joined.lock().unwrap().len(), joined, "its participant would have to go");
}

#[tokio::test(start_paused = true)]
async fn turn_servers_that_may_have_expired_are_asked_for_again() {
    let participants = Arc::<FakeParticipants>::default();
    let wanted = Wanted { codec: None, turn: true };
    participants.facts.send_replace(facts(Vec::new()));
    let resolved = ingress(InputKind::Whip, "k");
    let prejoin = prejoin(&participants);
    assert!(prejoin.room_codecs(&resolved, wanted.clone()).await.1.is_none(), "the server has said that it has none");
    advance(Duration::from_secs(3_601)).await;
    let told = async {
        tokio::time::sleep(Duration::from_millis(80)).await;
        participants.facts.send_replace(facts(vec![VideoCodec::H264]));
    };
    let ((_, prejoined), ()) = tokio::join!(prejoin.room_codecs(&resolved, wanted), told);
    assert!(prejoined.is_some(), "the session goes on with that participant");
}
