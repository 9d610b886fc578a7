//! Log lines as operators read them.

use std::io;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text_of(written: &Written) -> String {
    String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
}

/// The lines written while `speak` runs, without their time.
fn lines(config: &LoggingConfig, speak: impl FnOnce()) -> Vec<String> {
    let written = Written::default();
    let writer = written.clone();
    tracing::subscriber::with_default(subscriber(config, "ingress", "NE_x", move || writer.clone()), speak);
    let text = text_of(&written);
    let year = "20";
    let untimed = |line: &str| match line.strip_prefix(year) {
        Some(_) => line.split_once(' ').unwrap().1.to_owned(),
        None => {
            let (before, after) = line.split_once("\"ts\":\"20").unwrap();
            format!("{before}{}", after.split_once("Z\",").unwrap().1)
        }
    };
    text.lines().map(untimed).collect()
}

/// The span of a session that a control plane wants more said about.
fn span(room: &str, identity: &str, fields: &[(&str, &str)]) -> Span {
    let mut spec = crate::control::embedded::ingress(model::InputKind::Rtmp, "1").spec;
    (spec.room, spec.identity) = (room.to_owned(), identity.to_owned());
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    session_span(&spec, &ResourceId("RT_1".to_owned()), &fields)
}

fn speak_in_a_session() {
    let span = span("a room", "me", &[]);
    span.in_scope(|| {
        let inner = tracing::info_span!(target: "rtmp", "inner", count = 1, late = tracing::field::Empty);
        inner.record("late", true);
        let _entered = inner.enter();
        let error = io::Error::other("refused");
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::warn!(target: "rtmp::server", error, count = 2, share = 0.5, evil = "x\n\u{1b}[31m\"", "it {}", "broke\nhere");
    });
}

#[test]
fn json_carries_the_names_of_the_session() {
    let config = LoggingConfig { json: true, ..LoggingConfig::default() };
    assert_eq!(
        lines(&config, speak_in_a_session),
        [
            r#"{"level":"warn","logger":"ingress.rtmp.server","msg":"it broke\nhere","nodeID":"NE_x","ingressID":"IN_1","resourceID":"RT_1","room":"a room","participant":"me","late":true,"error":"refused","count":2,"share":0.5,"evil":"x\n\u001b[31m\""}"#
        ]
    );
}

#[test]
fn the_console_line_stays_one_line() {
    assert_eq!(
        lines(&LoggingConfig::default(), speak_in_a_session),
        [
            r#"WARN  rtmp::server: it broke\nhere ingressID=IN_1 resourceID=RT_1 room="a room" participant=me late=true error=refused count=2 share=0.5 evil="x\n\u{1b}[31m\"""#
        ]
    );
}

#[test]
fn a_session_is_named_whatever_the_level() {
    let config = LoggingConfig { level: LogLevel::Error, ..LoggingConfig::default() };
    let written = lines(&config, || {
        span("r", "p", &[]).in_scope(|| tracing::error!(target: "session", "lost"));
        span("r", "p", &[("a", "b"), ("c", "d\n")]).in_scope(|| tracing::error!(target: "session", "more"));
    });
    let expected = [
        "ERROR session: lost ingressID=IN_1 resourceID=RT_1 room=r participant=p",
        r#"ERROR session: more ingressID=IN_1 resourceID=RT_1 room=r participant=p fields="a=b c=d\n""#,
    ];
    assert_eq!(written, expected);
}

#[test]
fn the_level_is_for_us_and_libraries_only_warn() {
    let speak = || {
        tracing::debug!(target: "rtmp::server", "ours");
        tracing::debug!(target: "session", "silenced");
        tracing::trace!(target: "service::control", "named");
        tracing::info!(target: "str0m", "chatter");
        tracing::warn!(target: "str0m", "serious");
        tracing::debug!(target: "hyper::proto", "asked for");
    };
    let component_levels =
        [("session", LogLevel::Warn), ("service.control", LogLevel::Trace), ("hyper", LogLevel::Debug)];
    let component_levels = component_levels.into_iter().map(|(name, level)| (name.to_owned(), level)).collect();
    let config = LoggingConfig { level: LogLevel::Debug, json: false, component_levels };
    let expected = [
        "DEBUG rtmp::server: ours",
        "TRACE service::control: named",
        "WARN  str0m: serious",
        "DEBUG hyper::proto: asked for",
    ];
    assert_eq!(lines(&config, speak), expected);
    let quiet = LoggingConfig { level: LogLevel::Error, ..LoggingConfig::default() };
    assert!(lines(&quiet, speak).is_empty());
}

#[test]
fn fields_are_bounded_and_replace_no_common_field() {
    let config = LoggingConfig { json: true, ..LoggingConfig::default() };
    let written = lines(&config, || {
        tracing::info!(target: "rtmp", nodeID = "forged", endless = f64::INFINITY, long = "é".repeat(10_000), "m");
    });
    assert!(
        written[0].contains(r#""nodeID":"NE_x","nodeID_":"forged","endless":"inf","long":"é"#),
        "{}",
        &written[0][..99]
    );
    assert_eq!(written[0].matches('é').count(), 8192);
}

proptest! {
    #[test]
    fn nobody_writes_lines_of_their_own(message in "\\PC*|[\\s\\S]{0,40}", value in "[\\s\\S]{0,40}", json: bool) {
        let config = LoggingConfig { json, ..LoggingConfig::default() };
        let written = Written::default();
        let writer = written.clone();
        let subscriber = subscriber(&config, "ingress", "NE_x", move || writer.clone());
        tracing::subscriber::with_default(subscriber, || tracing::info!(target: "rtmp", value, "{message}"));
        let text = text_of(&written);
        prop_assert_eq!(text.chars().filter(|c| c.is_control()).count(), 1, "{:?}", text);
        prop_assert!(text.ends_with('\n'));
    }
}
