//! What is to be stored for a session whose instance is gone. Pure.

use crate::control::RecordedSession;
use session::{Report, Status};

/// What users read.
const GONE: &str = "the server that took this stream has stopped working before the stream ended; connect again";

/// The report that puts the state of a session right which is `stored`, at `now` in Unix nanoseconds. `None` where nothing is to be
/// done: it has ended, or another session has begun since.
///
/// The report counts more than those of the session that were stored, and less than any that the session still makes, should its
/// instance live after all. So two who find the same do no harm, and neither does one that comes late.
pub fn closing(session: &RecordedSession, stored: Option<&Report>, now: i64) -> Option<Report> {
    let stored = stored.filter(|s| s.resource_id == session.resource_id && !s.status.is_final())?;
    let (status, error, ended_at) = match &session.end {
        Some(end) => (end.status, end.error.clone(), end.ended_at),
        None => (Status::Error, GONE.to_owned(), now),
    };
    Some(Report {
        status,
        error,
        ended_at: ended_at.max(stored.started_at),
        updated_at: stored.updated_at.saturating_add(1),
        ..stored.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{IngressId, ResourceId};

    fn stored(resource: &str, status: Status) -> Report {
        Report {
            room_id: "RM_a".into(),
            started_at: 100,
            updated_at: 200,
            ..Report::first(ResourceId(resource.into()), status, String::new(), std::time::UNIX_EPOCH)
        }
    }

    fn session(end: Option<Report>) -> RecordedSession {
        let (ingress_id, resource_id) = (IngressId("IN_a".into()), ResourceId("RT_a".into()));
        RecordedSession { ingress_id, resource_id, started_at: 100, end }
    }

    #[test]
    fn a_session_that_stands_as_running_is_ended_in_words() {
        for status in [Status::Buffering, Status::Publishing] {
            let end = closing(&session(None), Some(&stored("RT_a", status)), 300).unwrap();
            assert_eq!((end.status, end.started_at, end.updated_at, end.ended_at), (Status::Error, 100, 201, 300));
            assert!(end.error.contains("connect again") && end.room_id == "RM_a", "{end:?}");
        }
        // By a clock that is behind.
        assert_eq!(closing(&session(None), Some(&stored("RT_a", Status::Publishing)), 5).unwrap().ended_at, 100);
    }

    #[test]
    fn an_end_that_was_not_stored_is() {
        let end = Report { ended_at: 250, updated_at: 250, ..stored("RT_a", Status::Inactive) };
        let report = closing(&session(Some(end)), Some(&stored("RT_a", Status::Publishing)), 300).unwrap();
        assert_eq!((report.status, report.error.as_str(), report.ended_at), (Status::Inactive, "", 250));
    }

    #[test]
    fn nothing_else_is_touched() {
        let nothing = |stored: Option<Report>| assert_eq!(closing(&session(None), stored.as_ref(), 300), None);
        nothing(None);
        nothing(Some(stored("RT_b", Status::Publishing)));
        for status in [Status::Inactive, Status::Complete, Status::Error] {
            nothing(Some(stored("RT_a", status)));
        }
    }
}
