//! What is wrong with a configuration, as told to the person who writes it.

use std::cell::RefCell;
use std::fmt;

/// A place in the text: line and column count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// Something to tell about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where it stands; `None` for what isn't there, or comes from the environment.
    pub at: Option<Position>,
    /// The key, with the sections it is in: `cpu_cost.rtmp_cpu_cost`. Empty if it is about the whole.
    pub key: String,
    /// What is wrong and what is allowed. Holds no secret.
    pub text: String,
    /// The line it is about; `None` where that line could show a secret.
    pub line: Option<String>,
}

/// Something odd that the service can run with.
pub type Warning = Remark;

/// All that keeps a configuration from being used. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults {
    /// What was read: a file's name, or where the text came from.
    pub source_name: String,
    /// The faults, in the order of the text; what is missing comes last.
    pub faults: Vec<Remark>,
    /// What was odd beside them.
    pub warnings: Vec<Warning>,
}

/// `line 3, column 12: rtmp_port: "abc" is not a port …`; with `{:#}` the line with a mark stands below it.
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

/// Characters of a value or a key that are repeated in a remark; more would hide what it says.
const SHOWN: usize = 60;

/// A value as repeated in a remark.
pub(super) fn shortened(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// Where remarks are gathered while a configuration is read.
#[derive(Debug)]
pub(super) struct Report<'t> {
    lines: Vec<&'t str>,
    faults: RefCell<Vec<Remark>>,
    warnings: RefCell<Vec<Warning>>,
}

/// Lines with one of these words aren't shown: they may hold a secret, even if the remark is about something else on them.
const SECRET_WORDS: [&str; 4] = ["secret", "password", "key", "://"];
/// Longer lines aren't shown.
const LONGEST_LINE: usize = 120;

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

    /// A fault without its line: for broken syntax, where it can't be told what the line holds.
    pub(super) fn broken(&self, at: Position, text: String) {
        self.faults.borrow_mut().push(Remark { at: Some(at), key: String::new(), text, line: None });
    }

    fn remark(&self, at: Option<Position>, key: &str, text: String) -> Remark {
        let line = at.and_then(|at| self.lines.get(at.line.checked_sub(1)?)).map(|line| line.trim_end());
        let line = line.filter(|line| {
            let lower = line.to_lowercase();
            line.chars().count() <= LONGEST_LINE
                && !line.contains(char::is_control)
                && !SECRET_WORDS.iter().any(|word| lower.contains(word))
        });
        Remark { at, key: key.to_owned(), text, line: line.map(str::to_owned) }
    }

    /// All faults and all warnings, each in the order of the text, those without a place last.
    pub(super) fn into_parts(self) -> (Vec<Remark>, Vec<Warning>) {
        let sorted = |remarks: RefCell<Vec<Remark>>| {
            let mut remarks = remarks.into_inner();
            remarks.sort_by_key(|r| (r.at.is_none(), r.at));
            remarks
        };
        (sorted(self.faults), sorted(self.warnings))
    }
}
