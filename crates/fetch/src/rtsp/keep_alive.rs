//! What it takes to keep an RTSP session alive: servers end one from which nothing is heard for its time-out, also while packets flow
//! (RFC 2326 §12.37).

use super::frames::value;
use std::time::Duration;

/// The time-out of a server that names none (RFC 2326 §12.37), in seconds.
const DEFAULT_TIMEOUT: u64 = 60;
/// The shortest time between requests: a server that names a time-out of a second is not asked more often.
const MIN_EVERY: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    session: Option<(String, Duration)>,
    /// Where something plays.
    playing: Option<String>,
    /// The URL of the client's newest PLAY.
    asked: Option<String>,
    /// Whether the server has said that it knows GET_PARAMETER, which has no other effect.
    parameters: bool,
}

impl KeepAlive {
    /// The client sends a request.
    pub(super) fn asked(&mut self, method: &str, uri: &str) {
        match method {
            "PLAY" => self.asked = Some(uri.to_owned()),
            "PAUSE" | "TEARDOWN" => self.playing = None,
            _ => {}
        }
    }

    /// The server answers one.
    pub(super) fn answered(&mut self, method: &str, status: u16, head: &[u8]) {
        if !(200..300).contains(&status) {
            // What a server does not know does not keep it either.
            self.parameters &= method != "GET_PARAMETER";
            return;
        }
        match method {
            "OPTIONS" => {
                let methods = value(head, "public").unwrap_or_default();
                self.parameters = methods.split(',').any(|method| method.trim().eq_ignore_ascii_case("GET_PARAMETER"));
            }
            "SETUP" => self.session = session(head).or(self.session.take()),
            "PLAY" => self.playing = self.asked.take(),
            _ => {}
        }
    }

    /// How often to send a request while something plays.
    pub(super) fn every(&self) -> Option<Duration> {
        let (_, timeout) = self.session.as_ref().filter(|_| self.playing.is_some())?;
        Some((*timeout / 2).max(MIN_EVERY))
    }

    /// Method, URL and session of a request that keeps the session alive, while something plays.
    pub(super) fn request(&self) -> Option<(&'static str, &str, &str)> {
        let ((session, _), uri) = self.session.as_ref().zip(self.playing.as_deref())?;
        Some((if self.parameters { "GET_PARAMETER" } else { "OPTIONS" }, uri, session))
    }
}

/// The session that an answer names, and its time-out.
fn session(head: &[u8]) -> Option<(String, Duration)> {
    let value = value(head, "session")?;
    let mut parts = value.split(';').map(str::trim);
    let id = parts.next().filter(|id| !id.is_empty())?.to_owned();
    let named =
        parts.find_map(|part| part.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("timeout")));
    let seconds = named.and_then(|(_, seconds)| seconds.trim().parse().ok()).filter(|seconds| *seconds > 0);
    Some((id, Duration::from_secs(seconds.unwrap_or(DEFAULT_TIMEOUT))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &str) -> Vec<u8> {
        format!("RTSP/1.0 200 OK\r\n{lines}\r\n\r\n").into_bytes()
    }

    #[test]
    fn a_session_is_kept_while_it_plays() {
        let mut keep = KeepAlive::default();
        keep.asked("OPTIONS", "rtsp://a/x");
        keep.answered("OPTIONS", 200, &head("Public: DESCRIBE, get_parameter"));
        keep.answered("SETUP", 200, &head("Session: 12; timeout = 20"));
        assert_eq!((keep.every(), keep.request()), (None, None));
        keep.asked("PLAY", "rtsp://a/x/");
        assert_eq!(keep.every(), None, "not before the answer");
        keep.answered("PLAY", 200, &head(""));
        assert_eq!(keep.every(), Some(Duration::from_secs(10)));
        assert_eq!(keep.request(), Some(("GET_PARAMETER", "rtsp://a/x/", "12")));
        keep.answered("GET_PARAMETER", 501, &head(""));
        assert_eq!(keep.request(), Some(("OPTIONS", "rtsp://a/x/", "12")));
        keep.asked("TEARDOWN", "rtsp://a/x/");
        assert_eq!(keep.request(), None);
    }

    #[test]
    fn sessions_have_a_time_out() {
        let of = |text: &str| session(&head(&format!("Session: {text}"))).map(|(id, timeout)| (id, timeout.as_secs()));
        assert_eq!(of("a"), Some(("a".into(), 60)));
        assert_eq!(of("a;Timeout=5"), Some(("a".into(), 5)));
        assert_eq!(of("a;timeout=0"), Some(("a".into(), 60)));
        assert_eq!(of("a;timeout=soon;x"), Some(("a".into(), 60)));
        assert_eq!(of(";timeout=9"), None);
        assert_eq!(session(&head("")), None);
    }
}
