//! Faults and warnings about a configuration, for the person who writes it.

use std::cell::RefCell;
use std::fmt;

/// A position in the text: line and column from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// One fault or warning about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where it is; `None` for what is missing or comes from the environment.
    pub at: Option<Position>,
    /// The key with its sections, as in `cpu_cost.rtmp_cpu_cost`. Empty if the remark is about the whole text.
    pub key: String,
    /// What is wrong and what is allowed. It holds no secret.
    pub text: String,
    /// The line; `None` where it could show a secret.
    pub line: Option<String>,
}

/// A remark about what is odd but does not keep the service from running.
pub type Warning = Remark;

/// Why a configuration can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// The file's name, or where the text came from.
    pub source_name: String,
    /// The faults in the order of the text, missing keys last. Never empty.
    pub faults: Vec<Remark>,
    /// The warnings beside them.
    pub warnings: Vec<Warning>,
}

/// `line 3, column 12: rtmp_port: "abc" is not a port …`; with `{:#}`, the line and a mark below it.
impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.at {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)?;
        if let (true, Some(Position { line, column }), Some(text)) = (f.alternate(), self.at, &self.line) {
            let number = line.to_string();
            write!(
                f,
                "\n  {number} | {text}\n  {} | {}^",
                " ".repeat(number.len()),
                " ".repeat(column.saturating_sub(1))
            )?;
        }
        Ok(())
    }
}

/// The faults with their lines, then the warnings.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.faults.len();
        write!(f, "{}: {count} {}", self.source_name, if count == 1 { "fault" } else { "faults" })?;
        for fault in &self.faults {
            write!(f, "\n{fault:#}")?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning:#}")?;
        }
        Ok(())
    }
}

/// Characters of a value or a key that a remark repeats; more would hide its text.
const MAX_SHOWN: usize = 60;

/// A value as a remark repeats it.
pub(super) fn shortened(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// Collects remarks while a configuration is read.
#[derive(Debug)]
pub(super) struct Report<'t> {
    lines: Vec<&'t str>,
    faults: RefCell<Vec<Remark>>,
    warnings: RefCell<Vec<Warning>>,
}

/// A line with one of these words is not shown: it may hold a secret, also where the remark is about something else.
const SECRET_WORDS: [&str; 4] = ["secret", "password", "key", "://"];
/// The longest line that is shown, in characters.
const MAX_LINE: usize = 120;

impl<'t> Report<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { lines: text.lines().collect(), faults: RefCell::default(), warnings: RefCell::default() }
    }

    pub(super) fn fault(&self, at: Option<Position>, key: &str, text: impl Into<String>) {
        self.faults.borrow_mut().push(self.remark(at, key, text.into()));
    }

    pub(super) fn warn(&self, at: Option<Position>, key: &str, text: impl Into<String>) {
        self.warnings.borrow_mut().push(self.remark(at, key, text.into()));
    }

    /// A fault without its line: for broken syntax, where it is unknown what the line holds.
    pub(super) fn broken(&self, at: Position, text: String) {
        self.faults.borrow_mut().push(Remark { at: Some(at), key: String::new(), text, line: None });
    }

    fn remark(&self, at: Option<Position>, key: &str, text: String) -> Remark {
        let line = at.and_then(|at| self.lines.get(at.line.checked_sub(1)?)).map(|line| line.trim_end());
        let line = line.filter(|line| {
            let lower = line.to_lowercase();
            line.chars().count() <= MAX_LINE
                && !line.contains(char::is_control)
                && !SECRET_WORDS.iter().any(|word| lower.contains(word))
        });
        Remark { at, key: key.to_owned(), text, line: line.map(str::to_owned) }
    }

    /// All faults and all warnings, each in the order of the text, those without a position last.
    pub(super) fn into_parts(self) -> (Vec<Remark>, Vec<Warning>) {
        let sorted = |remarks: RefCell<Vec<Remark>>| {
            let mut remarks = remarks.into_inner();
            remarks.sort_by_key(|r| (r.at.is_none(), r.at));
            remarks
        };
        (sorted(self.faults), sorted(self.warnings))
    }
}
