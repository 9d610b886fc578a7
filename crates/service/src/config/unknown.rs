//! Unknown keys: reports each, with the key that was probably meant.

use super::fault::{Report, shortened};
use super::section::Known;

/// The longest key that is compared, in bytes: no key of ours is near a longer one.
const MAX_COMPARED: usize = 48;

/// Unknown keys that are reported: a text with more is no configuration of ours.
const MAX_REPORTED: usize = 50;

/// Reports every unknown key, as a fault if `strict`.
pub(super) fn report(known: &[Known], strict: bool, report: &Report<'_>) {
    let mut left = MAX_REPORTED;
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

/// The nearest key of the same section, or else the section that has this key.
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

/// The nearest candidate, if a typing mistake is likely: at most one letter in three differs. Counted are letters to add, drop,
/// change, or swap with a neighbour (optimal string alignment).
fn nearest<'a>(key: &str, candidates: &[&'a str]) -> Option<&'a str> {
    if key.len() > MAX_COMPARED {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let key = plain(key);
    let rated = candidates.iter().map(|c| (strsim::osa_distance(&key, c), *c));
    let (distance, near) = rated.min_by_key(|(distance, _)| *distance)?;
    (distance <= (near.len() / 3).max(1)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_key_only_if_it_is_near() {
        let keys = ["rtmp_port", "whip_port", "redis"];
        assert_eq!(nearest("RTMP-Port", &keys), Some("rtmp_port"));
        for (typed, meant) in
            [("redsi", "redis"), ("rmtp_port", "rtmp_port"), ("rtmp_portt", "rtmp_port"), ("wipport", "whip_port")]
        {
            assert_eq!(nearest(typed, &keys), Some(meant));
        }
        assert_eq!(nearest("turn_servers", &keys), None);
        assert_eq!(nearest(&"rtmp_port".repeat(9), &keys), None);
    }
}
