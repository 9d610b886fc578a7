//! YAML of all kinds, including attacks.

use super::*;

fn show(node: &Node) -> String {
    match &node.value {
        Value::Scalar(s) => format!("{}{:?}", if s.plain { "" } else { "'" }, s.text),
        Value::List(items) => format!("[{}]", items.iter().map(|n| show(n)).collect::<Vec<_>>().join(" ")),
        Value::Map(entries) => {
            let entries = entries.iter().map(|e| format!("{}@{}:{}={}", e.key, e.at.line, e.at.column, show(&e.value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
        }
    }
}

fn tree(text: &str) -> (String, Vec<String>) {
    let document = parse(text).unwrap();
    let faults = document.faults.iter().map(|(at, why)| format!("{}:{} {why}", at.line, at.column));
    (document.root.map(|n| show(&n)).unwrap_or_default(), faults.collect())
}

#[test]
fn keeps_values_and_positions() {
    let (tree, faults) = tree("a: 007\nb:\n  - 'x'\n  - !!str 1\n  - {c: ~}\n");
    assert_eq!(tree, r#"{a@1:1="007" b@2:1=['"x" '"1" {c@5:6="~"}]}"#);
    assert!(faults.is_empty());
}

#[test]
fn aliases_share_their_node() {
    let (shown, faults) = tree("a: &x [1]\nb: *x\n");
    assert_eq!(shown, r#"{a@1:1=["1"] b@2:1=["1"]}"#);
    assert!(faults.is_empty());
    // Ten levels of ten aliases each would be ten thousand million nodes.
    let mut bomb = String::from("a0: &a0 [x]\n");
    for level in 1..11 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let document = parse(&bomb).unwrap();
    assert!(matches!(&document.root.unwrap().value, Value::Map(entries) if entries.len() == 11));
}

#[test]
fn continues_after_faults() {
    let (shown, faults) = tree("a: 1\na: 2\n[b]: 3\nc: *nothing\nd: &d [*d]\ne: 5\n");
    assert_eq!(shown, r#"{a@1:1="1" c@4:1="" d@5:1=[""] e@6:1="5"}"#);
    assert_eq!(
        faults,
        [
            "2:1 the key \"a\" is here for the second time",
            "3:1 a key must be a word, not a list or a mapping",
            "4:4 a value that begins with * is an alias, and nothing has this name: put it in quotes",
            "5:8 an alias (*) of a value that contains it",
        ]
    );
}

#[test]
fn reads_the_first_document_only() {
    let document = parse("a: 1\n---\nb: 2\n").unwrap();
    assert_eq!(show(&document.root.unwrap()), r#"{a@1:1="1"}"#);
    assert_eq!(document.second, Some(Position { line: 2, column: 1 }));
    assert!(parse("").unwrap().root.is_none());
    assert!(parse("# nothing\n").unwrap().root.is_none());
}

#[test]
fn syntax_errors_have_a_position() {
    let broken = parse("a: 1\nb: [1, 2\nc: 3\n").unwrap_err();
    assert!(broken.at.line >= 2, "{broken:?}");
    assert!(broken.text.starts_with("this is not YAML: "), "{}", broken.text);
    assert!(parse("a:\n\t- b\n").is_err());
}
