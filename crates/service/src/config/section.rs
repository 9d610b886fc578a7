//! Reads keys of a mapping by their kind. Faults go into the report; which keys were read is remembered, so that the unknown keys are
//! known at the end.

use std::collections::HashSet;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::duration;
use super::fault::{Position, Report, shortened};
use super::yaml::{Entry, Node, Scalar, Value};

/// The most mappings that merge keys (`<<`) may bring into one section. Real files have one or two; more is an attack.
const MAX_MERGES: usize = 64;
/// How deep a merged mapping may merge others.
const MAX_MERGE_DEPTH: usize = 8;

/// A value and its position.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) at: Position,
}

/// A port of ours, and where it was set.
#[derive(Debug)]
pub(super) struct Port {
    /// The key with the sections it is in.
    pub(super) key: String,
    /// `None` if switched off.
    pub(super) port: Option<u16>,
    /// `None` for the default.
    pub(super) at: Option<Position>,
}

/// A mapping from which keys are read. If it is absent, all of its keys are.
pub(super) struct Section<'r, 't> {
    report: &'r Report<'t>,
    path: String,
    at: Option<Position>,
    entries: Vec<(String, Position, Rc<Node>)>,
    asked: Vec<&'static str>,
}

/// The keys of a section that were read, and those that are unknown.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) path: String,
    pub(super) asked: Vec<&'static str>,
    pub(super) unknown: Vec<(String, Position)>,
}

impl<'r, 't> Section<'r, 't> {
    /// The whole document.
    pub(super) fn root(report: &'r Report<'t>, node: Option<Rc<Node>>) -> Self {
        Self::new(report, String::new(), node)
    }

    fn new(report: &'r Report<'t>, path: String, node: Option<Rc<Node>>) -> Self {
        let node = node.filter(|n| !n.is_null());
        let mut section =
            Self { report, path, at: node.as_ref().map(|n| n.at), entries: Vec::new(), asked: Vec::new() };
        match node.as_deref().map(|n| (&n.value, n.at)) {
            None => {}
            Some((Value::Map(entries), _)) => section.entries = merged(entries, report),
            Some((_, at)) => {
                let text = "keys with values are expected here (\"key: value\", one to a line)";
                report.fault(Some(at), &section.path, text);
            }
        }
        section
    }

    /// The section's position; `None` if it is absent.
    pub(super) fn at(&self) -> Option<Position> {
        self.at
    }

    /// The position of a key's value. The key does not count as read.
    pub(super) fn at_key(&self, key: &str) -> Option<Position> {
        self.entries.iter().find(|(k, ..)| k == key).map(|(_, _, node)| node.at)
    }

    /// The position of a key's value, if that is neither empty nor off. The key does not count as read.
    pub(super) fn at_set(&self, key: &str) -> Option<Position> {
        let (_, _, node) = self.entries.iter().find(|(k, ..)| k == key)?;
        fn is_set(node: &Node) -> bool {
            match &node.value {
                Value::Scalar(s) => {
                    !matches!(s.text.to_ascii_lowercase().as_str(), "" | "0" | "0s" | "false" | "no" | "off" | "n")
                }
                Value::List(items) => !items.is_empty(),
                Value::Map(entries) => entries.iter().any(|entry| is_set(&entry.value)),
            }
        }
        (!node.is_null() && is_set(node)).then_some(node.at)
    }

    pub(super) fn report(&self) -> &'r Report<'t> {
        self.report
    }

    /// The key with the sections it is in.
    pub(super) fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn fault(&self, at: Position, key: &str, text: impl Into<String>) {
        self.report.fault(Some(at), &self.full(key), text);
    }

    pub(super) fn warn(&self, at: Position, key: &str, text: impl Into<String>) {
        self.report.warn(Some(at), &self.full(key), text);
    }

    /// The node of a key; `None` for an empty value.
    fn node(&mut self, key: &'static str) -> Option<Rc<Node>> {
        self.asked.push(key);
        self.entries.iter().find(|(k, ..)| k == key).map(|(_, _, node)| Rc::clone(node)).filter(|n| !n.is_null())
    }

    /// Whether a key has a value other than an empty text or list. The key does not count as read.
    pub(super) fn has(&self, key: &str) -> bool {
        let empty = |value: &Value| match value {
            Value::Scalar(scalar) => without_line_end(&scalar.text).is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Map(_) => false,
        };
        self.entries.iter().any(|(k, _, node)| k == key && !node.is_null() && !empty(&node.value))
    }

    /// A section in this one.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'r, 't> {
        let node = self.node(key);
        Section::new(self.report, self.full(key), node)
    }

    /// A list of sections in this one.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'r, 't>> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.fault(node.at, key, "a list is expected here: each entry begins with a dash");
            return Vec::new();
        };
        items.iter().map(|item| Section::new(self.report, self.full(key), Some(Rc::clone(item)))).collect()
    }

    /// An absent section; reading it makes its keys known.
    pub(super) fn absent(&self, key: &str) -> Section<'r, 't> {
        Section::new(self.report, self.full(key), None)
    }

    /// Keys that the user chooses, each with a text. All count as read.
    pub(super) fn every_text(&mut self) -> Vec<(String, Located<String>)> {
        let entries = std::mem::take(&mut self.entries);
        let named = entries.into_iter().filter(|(.., node)| !node.is_null());
        named.filter_map(|(key, _, node)| self.scalar(&key, &node).map(|text| (key, text))).collect()
    }

    fn scalar(&self, key: &str, node: &Node) -> Option<Located<String>> {
        match &node.value {
            Value::Scalar(Scalar { text, .. }) => Some(Located { value: text.clone(), at: node.at }),
            Value::List(_) => {
                self.fault(node.at, key, "one value is expected here, not a list");
                None
            }
            Value::Map(_) => {
                self.fault(node.at, key, "one value is expected here, not further keys");
                None
            }
        }
    }

    /// A text; `None` if it is empty.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Located<String>> {
        let node = self.node(key)?;
        let Located { value, at } = self.scalar(key, &node)?;
        Some(Located { value: without_line_end(&value).to_owned(), at }).filter(|t| !t.value.is_empty())
    }

    /// A text, parsed by `read`, whose error says what is allowed.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let Located { value, at } = self.text(key)?;
        match read(value.trim()) {
            Ok(value) => Some(Located { value, at }),
            Err(why) => {
                self.fault(at, key, why);
                None
            }
        }
    }

    /// A list of texts, each parsed by `read`.
    pub(super) fn list<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(node) = self.node(key) else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.fault(node.at, key, "a list is expected here, such as [first, second]");
            return Vec::new();
        };
        let texts = items.iter().filter_map(|item| self.scalar(key, item));
        texts
            .filter_map(|Located { value, at }| match read(value.trim()) {
                Ok(value) => Some(value),
                Err(why) => {
                    self.fault(at, key, why);
                    None
                }
            })
            .collect()
    }

    /// A switch; off if absent. It takes the spellings of YAML 1.1, as the Go program does.
    pub(super) fn flag(&mut self, key: &'static str) -> bool {
        let read = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Ok(true),
            "false" | "no" | "off" | "n" => Ok(false),
            _ => Err(format!("{:?} is neither true nor false", shortened(text))),
        };
        self.parsed(key, read).is_some_and(|flag| flag.value)
    }

    /// An integer within a range.
    pub(super) fn int(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<Located<i64>> {
        self.parsed(key, |text| {
            let number = text.replace('_', "").parse::<i64>();
            number.ok().filter(|n| range.contains(n)).ok_or_else(|| {
                format!("{:?} is not a whole number from {} to {}", shortened(text), range.start(), range.end())
            })
        })
    }

    /// A port, where 0 or an absent key means `default`, and a negative number switches it off.
    pub(super) fn port(&mut self, key: &'static str, default: Option<u16>) -> Port {
        let off = if default.is_some() { "-1" } else { "0" };
        let given = self.parsed(key, |text| {
            let port = text.replace('_', "").parse::<i64>().ok().filter(|p| *p <= i64::from(u16::MAX));
            port.ok_or_else(|| {
                format!("{:?} is not a port: 1 to 65535 is allowed, and {off} switches it off", shortened(text))
            })
        });
        let port = match &given {
            Some(Located { value, .. }) if *value != 0 => u16::try_from(*value).ok(),
            // After a fault the default stands in, so that reading continues.
            _ => default,
        };
        Port { key: self.full(key), port, at: given.map(|g| g.at) }
    }

    /// The name of a file that can be opened.
    pub(super) fn file(&mut self, key: &'static str) -> Option<Located<PathBuf>> {
        self.parsed(key, |name| {
            let file = File::open(name).and_then(|f| f.metadata());
            match file {
                Ok(file) if file.is_dir() => Err(format!("{name:?} is a directory, not a file")),
                Ok(_) => Ok(PathBuf::from(name)),
                Err(error) => Err(format!("{name:?} cannot be opened: {error}")),
            }
        })
    }

    /// A duration in Go's notation: `90s`, `1h30m`, `250ms`.
    pub(super) fn duration(&mut self, key: &'static str) -> Option<Located<Duration>> {
        self.parsed(key, duration::parse)
    }

    /// A duration, of which a number alone is in nanoseconds, as in the Go program; `None` for 0.
    pub(super) fn go_duration(&mut self, key: &'static str) -> Option<Duration> {
        let read = |text: &str| match text.parse::<u64>() {
            Ok(nanoseconds) => Ok(Duration::from_nanos(nanoseconds)),
            Err(_) => duration::parse(text),
        };
        self.parsed(key, read).map(|d| d.value).filter(|d| !d.is_zero())
    }

    /// A duration in milliseconds; `None` for 0.
    pub(super) fn milliseconds(&mut self, key: &'static str) -> Option<Duration> {
        // An hour at most: longer than anyone waits for an answer.
        let given = self.int(key, 0..=3_600_000)?;
        Some(Duration::from_millis(given.value.unsigned_abs())).filter(|d| !d.is_zero())
    }

    /// Ends the section: which keys were read, and which are unknown.
    pub(super) fn finish(self) -> Known {
        let Self { path, asked, entries, .. } = self;
        let unknown =
            entries.into_iter().filter(|(key, ..)| !asked.contains(&key.as_str())).map(|(key, at, _)| (key, at));
        Known { path, unknown: unknown.collect(), asked }
    }
}

/// A text without its final line break, which blocks (`|`) and secrets mounted from files have.
pub(super) fn without_line_end(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}

/// The entries of a mapping and of the mappings it merges (`<<`), its own first.
fn merged(own: &[Entry], report: &Report<'_>) -> Vec<(String, Position, Rc<Node>)> {
    let mut merge = Merge { entries: Vec::new(), seen: HashSet::new(), left: MAX_MERGES, reported: false, report };
    merge.take(own, MAX_MERGE_DEPTH);
    merge.entries
}

struct Merge<'a, 't> {
    entries: Vec<(String, Position, Rc<Node>)>,
    seen: HashSet<String>,
    left: usize,
    reported: bool,
    report: &'a Report<'t>,
}

impl Merge<'_, '_> {
    fn take(&mut self, entries: &[Entry], depth: usize) {
        for entry in entries.iter().filter(|e| e.key != "<<") {
            if self.seen.insert(entry.key.clone()) {
                self.entries.push((entry.key.clone(), entry.at, Rc::clone(&entry.value)));
            }
        }
        for entry in entries.iter().filter(|e| e.key == "<<") {
            let sources = match &entry.value.value {
                Value::List(sources) => sources.as_slice(),
                _ => std::slice::from_ref(&entry.value),
            };
            for source in sources {
                match &source.value {
                    Value::Map(entries) if depth > 0 && self.left > 0 => {
                        self.left -= 1;
                        self.take(entries, depth - 1);
                    }
                    // Reported once per section.
                    Value::Map(_) if !std::mem::replace(&mut self.reported, true) => {
                        self.report.fault(Some(entry.at), "<<", "too many mappings are merged here");
                    }
                    Value::Map(_) => {}
                    _ => self.report.fault(Some(entry.at), "<<", "only mappings can be merged, such as <<: *defaults"),
                }
            }
        }
    }
}
