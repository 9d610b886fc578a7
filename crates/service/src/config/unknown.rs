//! Keys that nobody asked for: what was probably meant.

use super::fault::{Report, shortened};
use super::section::Known;

/// Longer keys aren't compared: no key of ours is near them.
const LONGEST: usize = 48;

/// Unknown keys that are looked at: a text with more is no configuration of ours.
const MOST: usize = 50;

/// Reports every unknown key, as a fault if `strict`.
pub(super) fn report(known: &[Known], strict: bool, report: &Report<'_>) {
    let mut left = MOST;
    for section in known {
        for (key, at) in &section.unknown {
            let Some(less) = left.checked_sub(1) else {
                report.warn(Some(*at), "", "further keys are not known either");
                return;
            };
            left = less;
            let full = if section.path.is_empty() { key.clone() } else { format!("{}.{key}", section.path) };
            let text = format!("this key is not known{}", meant(key, section, known));
            if strict {
                report.fault(Some(*at), &shortened(&full), text);
            } else {
                report.warn(Some(*at), &shortened(&full), format!("{text}; it is ignored"));
            }
        }
    }
}

/// The nearest key of the same section; else the section that has this very key.
fn meant(key: &str, section: &Known, all: &[Known]) -> String {
    if let Some(near) = nearest(key, &section.asked) {
        return format!("; did you mean {near}?");
    }
    let elsewhere = all.iter().find(|s| s.asked.contains(&key));
    match elsewhere {
        Some(s) if s.path.is_empty() => "; it belongs to no section (no indentation)".to_owned(),
        Some(s) => format!("; it belongs under {}", s.path),
        None => String::new(),
    }
}

/// The nearest of the candidates, if near enough that a slip is likely: one letter in three.
fn nearest<'a>(key: &str, candidates: &[&'a str]) -> Option<&'a str> {
    if key.len() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let key = plain(key);
    let rated = candidates.iter().map(|c| (distance(&key, c), *c));
    let (distance, near) = rated.min_by_key(|(distance, _)| *distance)?;
    (distance <= (near.len() / 3).max(1)).then_some(near)
}

/// Letters to add, drop, change, or swap with a neighbour, to turn one word into the other (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_slips() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("rtmp_port", "rtmp_port", 0),
            ("rmtp_port", "rtmp_port", 1),
            ("rtmp_prt", "rtmp_port", 1),
            ("rtmp_portt", "rtmp_port", 1),
            ("wipport", "whip_port", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn names_a_key_only_if_it_is_near() {
        let keys = ["rtmp_port", "whip_port", "redis"];
        assert_eq!(nearest("RTMP-Port", &keys), Some("rtmp_port"));
        assert_eq!(nearest("redsi", &keys), Some("redis"));
        assert_eq!(nearest("turn_servers", &keys), None);
        assert_eq!(nearest(&"rtmp_port".repeat(9), &keys), None);
    }
}
