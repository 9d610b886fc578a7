//! Parses YAML into a tree with positions, so that a fault found later can name its line.
//!
//! Aliases share their node, so that a document which expands without bound costs nothing. Faults that leave the rest readable (a
//! repeated key, an alias without an anchor) are reported beside the tree; only broken syntax ends parsing.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span};

use super::fault::Position;

/// A value and its position.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// A value.
#[derive(Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A scalar as written, not yet interpreted.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Neither quoted nor a block nor tagged as text, so it may mean null.
    pub(crate) plain: bool,
}

/// A key and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) value: Rc<Node>,
}

impl Node {
    /// Whether it is empty: no text, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(s) if s.plain && matches!(s.text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// A parsed text.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// The first document; `None` if there is none.
    pub(crate) root: Option<Rc<Node>>,
    /// The position of a second document, which is not read.
    pub(crate) second: Option<Position>,
    /// Faults beside the values.
    pub(crate) faults: Vec<(Position, String)>,
}

/// A syntax error.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) at: Position,
    pub(crate) text: String,
}

/// Parses the first document of a text.
pub(crate) fn parse(text: &str) -> Result<Document, Broken> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    // An unquoted secret that begins with an asterisk is an alias in YAML, and the parser's own error would print it.
    options.emit_unresolved_aliases = true;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|e| broken(&e))?;
        if builder.take(event, &span) {
            break;
        }
    }
    Ok(builder.document)
}

fn broken(error: &ScanError) -> Broken {
    let mark = error.marker();
    let at = Position { line: mark.line(), column: mark.col() + 1 };
    Broken { at, text: format!("this is not YAML: {}", error.info()) }
}

fn position(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

/// A collection that is being parsed.
enum Open {
    List { at: Position, anchor: usize, items: Vec<Rc<Node>> },
    Map { at: Position, anchor: usize, entries: Vec<Entry>, seen: HashSet<String>, key: Key },
}

/// What comes next in a mapping.
enum Key {
    /// A key.
    Awaited,
    /// The value of this key.
    Given(String, Position),
    /// The value of a refused key, which is dropped.
    Refused,
}

#[derive(Default)]
struct Builder {
    document: Document,
    documents: usize,
    open: Vec<Open>,
    /// Complete nodes by anchor. An alias of a collection that contains it finds nothing here.
    anchors: HashMap<usize, Rc<Node>>,
}

impl Builder {
    /// Takes an event; true when no more is needed.
    fn take(&mut self, event: Event<'_>, span: &Span) -> bool {
        let at = position(span);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.document.second = Some(at);
                    return true;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none_or(|t| !t.is_yaml_core_schema_tag("str"));
                self.place(Node { at, value: Value::Scalar(Scalar { text: text.into_owned(), plain }) }, anchor);
            }
            Event::SequenceStart(_, anchor, _) => self.open.push(Open::List { at, anchor, items: Vec::new() }),
            Event::MappingStart(_, anchor, _) => {
                let key = Key::Awaited;
                self.open.push(Open::Map { at, anchor, entries: Vec::new(), seen: HashSet::new(), key });
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { at, anchor, items }) => self.place(Node { at, value: Value::List(items) }, anchor),
                Some(Open::Map { at, anchor, entries, .. }) => {
                    self.place(Node { at, value: Value::Map(entries) }, anchor);
                }
                None => {}
            },
            Event::Alias(id) => match self.anchors.get(&id).cloned() {
                Some(node) => self.place_shared(node, at),
                None => self.place_nothing(at, "an alias (*) of a value that contains it"),
            },
            Event::UnresolvedAlias(_) => {
                self.place_nothing(
                    at,
                    "a value that begins with * is an alias, and nothing has this name: put it in quotes",
                );
            }
            _ => {}
        }
        false
    }

    /// Puts a complete node where it belongs, and remembers it under its anchor.
    fn place(&mut self, node: Node, anchor: usize) {
        let at = node.at;
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place_shared(node, at);
    }

    /// Reports an unusable value. An empty one stands in for it, so that keys and values stay in step.
    fn place_nothing(&mut self, at: Position, why: &str) {
        self.document.faults.push((at, why.to_owned()));
        let value = Value::Scalar(Scalar { text: String::new(), plain: true });
        self.place_shared(Rc::new(Node { at, value }), at);
    }

    fn place_shared(&mut self, node: Rc<Node>, at: Position) {
        match self.open.last_mut() {
            None => self.document.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, seen, key, .. }) => {
                *key = match std::mem::replace(key, Key::Awaited) {
                    Key::Given(key, at) => {
                        entries.push(Entry { key, at, value: node });
                        Key::Awaited
                    }
                    Key::Refused => Key::Awaited,
                    Key::Awaited => match accept_key(&node, seen) {
                        Ok(key) => Key::Given(key, at),
                        Err(why) => {
                            self.document.faults.push((at, why));
                            Key::Refused
                        }
                    },
                };
            }
        }
    }
}

/// A key as text; an error if it is no scalar or repeated.
fn accept_key(node: &Node, seen: &mut HashSet<String>) -> Result<String, String> {
    let Value::Scalar(scalar) = &node.value else {
        return Err("a key must be a word, not a list or a mapping".to_owned());
    };
    if scalar.text == "<<" || seen.insert(scalar.text.clone()) {
        return Ok(scalar.text.clone());
    }
    Err(format!("the key {:?} is here for the second time", super::fault::shortened(&scalar.text)))
}

#[cfg(test)]
mod tests;
