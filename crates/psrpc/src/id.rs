//! Ids of clients, servers and requests.

use rand::RngExt;
use rand::distr::Alphanumeric;

/// `prefix` and 12 random letters or digits, as LiveKit's programs form them.
pub(crate) fn new(prefix: &str) -> String {
    let mut id = String::with_capacity(prefix.len() + 12);
    id.push_str(prefix);
    id.extend(rand::rng().sample_iter(Alphanumeric).take(12).map(char::from));
    id
}
