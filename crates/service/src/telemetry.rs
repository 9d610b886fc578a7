//! Log lines, and the name of this process in them.

mod lines;
mod logs;

use rand::RngExt as _;

pub use logs::{AlreadyInstalled, install, session_span};

/// Letters and digits of a node id, as LiveKit's ids have them: without those that look alike.
const ID_LETTERS: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// A name for this process in logs and metrics: `NE_` and twelve letters and digits, new at every start.
pub fn node_id() -> String {
    let mut rng = rand::rng();
    let letters = (0..12).map(|_| char::from(ID_LETTERS[rng.random_range(0..ID_LETTERS.len())]));
    std::iter::once("NE_".to_owned()).chain(letters.map(String::from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_are_new_each_time() {
        let (a, b) = (node_id(), node_id());
        assert_ne!(a, b);
        assert!(a.starts_with("NE_") && a.len() == 15 && a[3..].chars().all(|c| c.is_ascii_alphanumeric()), "{a}");
    }
}
