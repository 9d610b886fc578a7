//! Log lines: one JSON object each, or plain text. A line holds the event's fields and those of all spans around it.
//!
//! JSON has the names LiveKit's logs have: `level`, `ts`, `logger`, `msg`, `nodeID`, then the fields. Whatever a stranger put into
//! a value stays within it: control characters are escaped, so that nobody writes lines or colours of their own.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Characters of a value that are written; a stack of causes or a session description fits.
const MAX_VALUE_LENGTH: usize = 8192;

/// Writes a line for each event.
pub(super) struct Lines<W> {
    json: bool,
    service_name: String,
    node_id: String,
    writer: W,
}

impl<W> Lines<W> {
    pub(super) fn new(json: bool, service_name: &str, node_id: &str, writer: W) -> Self {
        Self { json, service_name: service_name.to_owned(), node_id: node_id.to_owned(), writer }
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.0.extend_from_slice(&outer.0);
            }
        }
        event.record(&mut fields);
        let line = if self.json { self.json(event, &fields) } else { console(event, &fields) };
        // One write for the whole line, so that lines of several threads don't mix. There is nobody to tell of an error.
        let _ = self.writer.make_writer_for(event.metadata()).write_all(line.as_bytes());
    }
}

impl<W> Lines<W> {
    fn json(&self, event: &Event<'_>, fields: &Fields) -> String {
        let mut line = String::from("{");
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        member(&mut line, "level", &Value::Text(level));
        member(&mut line, "ts", &Value::Text(now()));
        let logger = format!("{}.{}", self.service_name, event.metadata().target().replace("::", "."));
        member(&mut line, "logger", &Value::Text(logger));
        member(&mut line, "msg", &Value::Text(fields.message().to_owned()));
        member(&mut line, "nodeID", &Value::Text(self.node_id.clone()));
        for (name, value) in fields.named() {
            match name {
                // A field of ours must not stand for what every line has.
                "level" | "ts" | "logger" | "msg" | "nodeID" => member(&mut line, &format!("{name}_"), value),
                _ => member(&mut line, name, value),
            }
        }
        line.push_str("}\n");
        line
    }
}

fn console(event: &Event<'_>, fields: &Fields) -> String {
    let metadata = event.metadata();
    let mut line = format!("{} {:5} {}: ", now(), metadata.level().as_str(), metadata.target());
    for c in fields.message().chars() {
        escaped(&mut line, c);
    }
    for (name, value) in fields.named() {
        // Writing to a String cannot fail, here and below.
        let _ = match value {
            Value::Bare(text) => write!(line, " {name}={text}"),
            Value::Text(text)
                if text.is_empty() || text.contains([' ', '"', '=']) || text.contains(char::is_control) =>
            {
                write!(line, " {name}={text:?}")
            }
            Value::Text(text) => write!(line, " {name}={text}"),
        };
    }
    line.push('\n');
    line
}

fn escaped(line: &mut String, c: char) {
    if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
}

/// `2026-01-31T12:00:00.000000Z`.
fn now() -> String {
    let mut text = String::new();
    // A clock before 1970 would leave it empty.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

fn member(line: &mut String, name: &str, value: &Value) {
    if !line.ends_with('{') {
        line.push(',');
    }
    string(line, name);
    line.push(':');
    match value {
        Value::Bare(text) => line.push_str(text),
        Value::Text(text) => string(line, text),
    }
}

/// A JSON string (RFC 8259 §7). DEL and the C1 controls are escaped as well: some terminals obey them.
fn string(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            // Controls end at U+009F, so four digits are enough.
            c if c.is_control() => _ = write!(line, "\\u{:04x}", u32::from(c)),
            c => line.push(c),
        }
    }
    line.push('"');
}

/// The fields of an event or a span.
#[derive(Clone, Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

#[derive(Clone, Debug)]
enum Value {
    /// A text.
    Text(String),
    /// What JSON writes without quotes: a number, true, false.
    Bare(String),
}

impl Fields {
    fn message(&self) -> &str {
        let message = self.0.iter().rev().find(|(name, _)| *name == "message");
        message.map_or("", |(_, Value::Text(text) | Value::Bare(text))| text)
    }

    /// All but the message; of several with the same name the innermost.
    fn named(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().enumerate().filter_map(|(index, (name, value))| {
            let again = self.0[index + 1..].iter().any(|(later, _)| later == name);
            (!again && *name != "message").then_some((*name, value))
        })
    }

    fn put(&mut self, field: &Field, value: Value) {
        self.0.push((field.name(), value));
    }

    fn text(&mut self, field: &Field, mut text: String) {
        if let Some((end, _)) = text.char_indices().nth(MAX_VALUE_LENGTH) {
            text.truncate(end);
            text.push('…');
        }
        self.put(field, Value::Text(text));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        let text = value.to_string();
        self.put(field, if value.is_finite() { Value::Bare(text) } else { Value::Text(text) });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Bare(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Bare(value.to_string()));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, Value::Bare(value.to_string()));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, Value::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bare(value.to_string()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    /// An error with all its causes.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.text(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }
}
