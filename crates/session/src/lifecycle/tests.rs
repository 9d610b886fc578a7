//! Lives of sessions on virtual time. The promises that hold for any life are tested in `fuzz/`, which breaks them faster.

use super::*;

const BOTH: SourceTracks = SourceTracks { audio: true, video: true };
const VIDEO: SourceTracks = SourceTracks { audio: false, video: true };

struct Life {
    t0: Instant,
    session: Lifecycle,
}

impl Life {
    fn new() -> Self {
        let t0 = Instant::now();
        let (session, actions) = Lifecycle::new(true, t0);
        assert_eq!(actions, [Action::Report(Status::Buffering, String::new())]);
        Self { t0, session }
    }

    fn at(&mut self, ms: u64, input: Input) -> Vec<Action> {
        self.session.step(input, self.t0 + Duration::from_millis(ms))
    }

    fn publishing() -> Self {
        let mut life = Self::new();
        life.at(0, Input::Announced(BOTH));
        life.at(1, Input::SourceFrame(Kind::Video));
        life.at(1, Input::SourceFrame(Kind::Audio));
        assert_eq!(life.at(2, Input::Decodable(Kind::Audio)), []);
        assert_eq!(life.at(30, Input::Decodable(Kind::Video)), [Action::Publish(BOTH)]);
        assert_eq!(life.at(150, Input::MediaOut), [Action::Report(Status::Publishing, String::new())]);
        assert_eq!(life.at(190, Input::MediaOut), [], "PUBLISHING is reported once");
        life
    }
}

fn source_fault(text: &str) -> Fault {
    Fault::new(Blame::Source, text)
}

fn failed(text: &str) -> Fault {
    Fault::new(Blame::Room, text)
}

#[test]
fn a_push_begins_and_ends() {
    let mut life = Life::publishing();
    assert_eq!(
        life.at(9_000, Input::SourceEnded(SourceEnd::Finished)),
        [Action::StopSource(None), Action::FinishTranscoder]
    );
    assert_eq!(life.at(9_020, Input::TranscoderFinished), [Action::KillTranscoder, Action::LeaveRoom]);
    assert_eq!(life.at(9_040, Input::RoomLeft), [Action::Report(Status::Inactive, String::new()), Action::Release]);
    assert!(life.session.ended());
    assert_eq!(life.session.deadline(), None);
}

#[test]
fn a_pull_ends_complete() {
    let t0 = Instant::now();
    let (mut session, _) = Lifecycle::new(false, t0);
    session.step(Input::SourceFrame(Kind::Audio), t0);
    session.step(Input::Decodable(Kind::Audio), t0);
    session.step(Input::SourceEnded(SourceEnd::Finished), t0);
    session.step(Input::TranscoderFinished, t0);
    assert_eq!(session.step(Input::RoomLeft, t0), [Action::Report(Status::Complete, String::new()), Action::Release]);
}

#[test]
fn a_pull_that_never_decoded_is_an_error() {
    let t0 = Instant::now();
    let (mut session, _) = Lifecycle::new(false, t0);
    session.step(Input::SourceFrame(Kind::Video), t0);
    session.step(Input::SourceEnded(SourceEnd::Finished), t0);
    let last = session.step(Input::RoomLeft, t0);
    assert!(matches!(&last[0], Action::Report(Status::Error, text) if text.contains("decoded")), "{last:?}");
}

#[test]
fn after_a_deletion_nothing_is_reported() {
    let mut life = Life::publishing();
    let actions = life.at(500, Input::Stop(Stop::Deleted));
    assert_eq!(actions.last(), Some(&Action::LeaveRoom));
    assert_eq!(life.at(520, Input::RoomLeft), [Action::Release]);
    // Also when it comes while the session is ending by itself.
    let mut life = Life::publishing();
    life.at(500, Input::RoomClosed(failed("room disconnected")));
    life.at(501, Input::Stop(Stop::Deleted));
    assert_eq!(life.at(520, Input::RoomLeft), [Action::Release]);
}

#[test]
fn a_closed_room_is_an_error_with_its_text() {
    let mut life = Life::publishing();
    let fault = failed("room disconnected: the room was deleted");
    assert_eq!(
        life.at(500, Input::RoomClosed(fault.clone())),
        [Action::StopSource(Some(fault)), Action::KillTranscoder, Action::LeaveRoom]
    );
    assert_eq!(
        life.at(501, Input::RoomLeft),
        [Action::Report(Status::Error, "room disconnected: the room was deleted".into()), Action::Release]
    );
}

#[test]
fn a_publisher_without_media_ends_in_ten_seconds() {
    let mut life = Life::new();
    life.at(0, Input::Announced(BOTH));
    assert_eq!(life.session.deadline(), Some(life.t0 + MEDIA_DEADLINE));
    assert_eq!(life.at(9_999, Input::Tick), []);
    let actions = life.at(10_000, Input::Tick);
    assert!(matches!(&actions[0], Action::StopSource(Some(fault)) if fault.text.contains("after 10 s")), "{actions:?}");
    // Once media comes, it may take longer until it is published.
    let mut life = Life::new();
    life.at(9_000, Input::SourceFrame(Kind::Video));
    assert_eq!(life.at(14_999, Input::Tick), []);
    assert_ne!(life.at(15_000, Input::Tick), []);
    // A pulled source has the start deadline that it was given.
    let (session, _) = Lifecycle::new(false, life.t0);
    let session = session.with_start_deadline(Duration::from_secs(40));
    assert_eq!(session.deadline(), Some(life.t0 + Duration::from_secs(40)));
}

#[test]
fn a_source_may_stall_for_as_long_as_is_configured() {
    for (reusable, start_within, ends_after) in [(true, 15, 8), (false, 3, 8), (false, 40, 40)] {
        let t0 = Instant::now();
        let at = |ms| t0 + Duration::from_millis(ms);
        let (session, _) = Lifecycle::new(reusable, t0);
        let session = session.with_start_deadline(Duration::from_secs(start_within));
        let mut session = session.with_stall_timeout(Duration::from_secs(8));
        session.step(Input::Decodable(Kind::Video), t0);
        session.step(Input::MediaOut, t0);
        session.step(Input::SourceFrame(Kind::Video), at(500));
        assert_eq!(session.step(Input::Tick, at(ends_after * 1_000 + 499)), []);
        let actions = session.step(Input::Tick, at(ends_after * 1_000 + 500));
        let text = format!("no media has come for {ends_after} s");
        assert!(matches!(&actions[0], Action::StopSource(Some(fault)) if fault.text.contains(&text)), "{actions:?}");
    }
}

#[test]
fn video_alone_is_published_within_two_seconds() {
    for (announced, by) in [(None, 1_100), (Some(BOTH), 1_600), (Some(VIDEO), 110)] {
        let mut life = Life::new();
        if let Some(tracks) = announced {
            life.at(0, Input::Announced(tracks));
        }
        life.at(100, Input::SourceFrame(Kind::Video));
        let mut actions = life.at(110, Input::Decodable(Kind::Video));
        if actions.is_empty() {
            let deadline = life.session.deadline().unwrap() - life.t0;
            assert_eq!(deadline, Duration::from_millis(by));
            assert_eq!(life.at(by - 1, Input::Tick), []);
            actions = life.at(by, Input::Tick);
        }
        assert_eq!(actions, [Action::Publish(VIDEO)], "{announced:?}");
        // Audio that comes after all is added.
        life.at(5_000, Input::SourceFrame(Kind::Audio));
        assert_eq!(
            life.at(5_010, Input::Decodable(Kind::Audio)),
            [Action::Publish(SourceTracks { audio: true, video: false })]
        );
    }
}

#[test]
fn one_unusable_kind_is_left_out_two_end_it() {
    let mut life = Life::new();
    life.at(0, Input::Announced(BOTH));
    life.at(1, Input::SourceFrame(Kind::Video));
    life.at(1, Input::SourceFrame(Kind::Audio));
    life.at(2, Input::Decodable(Kind::Video));
    assert_eq!(life.at(3, Input::Unusable(Kind::Audio, source_fault("no decoder for X"))), [Action::Publish(VIDEO)]);
    let actions = life.at(4, Input::Unusable(Kind::Video, source_fault("broken")));
    let Some(Action::StopSource(Some(fault))) = actions.first() else { panic!("{actions:?}") };
    assert_eq!(fault.text, "broken; no decoder for X");
}

#[test]
fn an_undecodable_kind_alone_ends_the_session() {
    let unusable = || Input::Unusable(Kind::Video, source_fault("VP10 is left out"));
    let mut life = Life::new();
    assert_eq!(life.at(100, unusable()), [], "audio may follow");
    assert_eq!(life.session.deadline().unwrap() - life.t0, Duration::from_millis(3_100));
    let actions = life.at(3_100, Input::Tick);
    assert!(matches!(&actions[0], Action::StopSource(Some(f)) if f.text == "VP10 is left out"), "{actions:?}");
    let mut life = Life::new();
    life.at(100, unusable());
    life.at(200, Input::SourceFrame(Kind::Audio));
    let audio = SourceTracks { audio: true, video: false };
    assert_eq!(life.at(300, Input::Decodable(Kind::Audio)), [Action::Publish(audio)]);
    assert_eq!(life.at(4_000, Input::Tick), []);
    let mut life = Life::new();
    life.at(0, Input::Announced(VIDEO));
    assert!(!life.at(100, unusable()).is_empty(), "nothing else will come");
    let mut life = Life::new();
    life.at(100, unusable());
    life.at(200, Input::Configured(Kind::Video));
    assert_eq!(life.at(3_100, Input::Tick), [], "another configuration is another chance");
}

#[test]
fn a_session_without_media_ends() {
    let mut life = Life::publishing();
    let deadline = life.session.deadline().unwrap();
    assert_eq!(deadline - life.t0, STALL_TIMEOUT + Duration::from_millis(1));
    let actions = life.session.step(Input::Tick, deadline);
    assert!(matches!(&actions[0], Action::StopSource(Some(f)) if f.text.starts_with("source encoder not ready")));
    let mut life = Life::new();
    let deadline = life.session.deadline().unwrap();
    let actions = life.session.step(Input::Tick, deadline);
    assert!(matches!(&actions[0], Action::StopSource(Some(f)) if f.text.contains("sent no media")));
}

#[test]
fn crashes_are_survived_twice_a_minute() {
    let mut life = Life::publishing();
    let crash = || Input::TranscoderCrashed("signal 11".into());
    assert_eq!(life.at(1_000, crash()), [Action::RestartTranscoder]);
    assert_eq!(life.at(2_000, crash()), [Action::RestartTranscoder]);
    assert_eq!(life.at(63_000, crash()), [Action::RestartTranscoder], "the first two are forgotten");
    assert_eq!(life.at(64_000, crash()), [Action::RestartTranscoder]);
    let actions = life.at(65_000, crash());
    assert!(matches!(&actions[0], Action::StopSource(Some(f)) if f.blame == Blame::Us && f.text.contains("signal 11")));
}

#[test]
fn a_transcoder_that_never_starts_is_given_up() {
    let not_started = || Input::TranscoderNotStarted("no memory".into());
    let mut life = Life::publishing();
    life.at(900, Input::SourceFrame(Kind::Video));
    assert_eq!(life.at(1_000, Input::TranscoderCrashed("signal 9".into())), [Action::RestartTranscoder]);
    let mut now = 1_000;
    for wait in [250, 500, 1_000, 2_000, 4_000] {
        assert_eq!(life.at(now, not_started()), []);
        assert_eq!(life.session.deadline().unwrap() - life.t0, Duration::from_millis(now + wait));
        assert_eq!(life.at(now + wait - 1, Input::Tick), []);
        now += wait;
        assert_eq!(life.at(now, Input::Tick), [Action::StartTranscoder]);
        assert_eq!(life.at(now, Input::Tick), [], "once");
    }
    let actions = life.at(now, not_started());
    let Some(Action::StopSource(Some(fault))) = actions.first() else { panic!("{actions:?}") };
    assert!(fault.retry && fault.blame == Blame::Us && fault.text.contains("6 attempts (no memory)"), "{fault}");
    // One that came up ends the row of failures.
    let mut life = Life::publishing();
    (0..5).for_each(|_| drop(life.at(1_000, not_started())));
    life.at(5_000, Input::Tick);
    life.at(6_000, Input::TranscoderCrashed("signal 9".into()));
    assert_eq!(life.at(7_000, not_started()), []);
}

#[test]
fn a_hanging_transcoder_or_room_delays_no_end() {
    let mut life = Life::publishing();
    life.at(1_000, Input::SourceEnded(SourceEnd::Finished));
    assert_eq!(life.at(2_000, Input::Tick), [Action::KillTranscoder, Action::LeaveRoom]);
    assert_eq!(life.at(3_500, Input::Tick).last(), Some(&Action::Release));
}
