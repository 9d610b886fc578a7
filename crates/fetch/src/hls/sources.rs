//! Where a stream can be had: the playlist that is preferred, and those that may stand in for it. Pure: `now` goes in.

use crate::Address;
use std::time::{Duration, Instant};

/// The wait before the preferred playlist is tried again after it was left, and the longest: it doubles each time.
const FIRST_RETURN: Duration = Duration::from_secs(8);
const LAST_RETURN: Duration = Duration::from_secs(256);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Sources {
    all: Vec<Source>,
    /// The one that is played.
    at: usize,
    /// Those that were tried since something last came.
    tried: Vec<usize>,
    /// When the preferred one is tried again.
    again: Option<Instant>,
    wait: Duration,
}

#[derive(Debug)]
struct Source {
    /// Where it is asked for: a redirect from there may lead to another place each time, or to one that expires.
    address: Address,
    /// Its newest segment when it was left.
    left_at: Option<(u64, String)>,
}

impl Sources {
    /// Of these, the preferred one first; the one at `at` is played.
    pub(super) fn new(all: Vec<Address>, at: usize, now: Instant) -> Self {
        let all = all.into_iter().map(|address| Source { address, left_at: None }).collect();
        let again = (at > 0).then_some(now + FIRST_RETURN);
        Self { all, at, tried: Vec::new(), again, wait: FIRST_RETURN }
    }

    /// Where the playlist that is played is asked for.
    pub(super) fn current(&self) -> &Address {
        &self.all[self.at].address
    }

    /// The preferred one.
    pub(super) fn preferred(&self) -> &Address {
        &self.all[0].address
    }

    /// The next one to try in place of the current one, the best first. Each is given out once until something comes.
    pub(super) fn another(&mut self) -> Option<(usize, Address)> {
        let next = (0..self.all.len()).find(|i| *i != self.at && !self.tried.contains(i))?;
        self.tried.push(next);
        Some((next, self.all[next].address.clone()))
    }

    /// Something came from the current one.
    pub(super) fn came(&mut self) {
        self.tried.clear();
    }

    /// Whether a playlist with this newest segment is of use in place of the current one: one that has not grown since it was left is not.
    pub(super) fn is_new(&self, index: usize, newest: Option<&(u64, String)>) -> bool {
        newest.is_some() && self.all[index].left_at.as_ref() != newest
    }

    /// Goes to another one; `newest` is the last segment of the one that is left.
    pub(super) fn go_to(&mut self, index: usize, newest: Option<(u64, String)>, now: Instant) {
        if !self.tried.contains(&self.at) {
            self.tried.push(self.at);
        }
        self.all[self.at].left_at = newest;
        self.at = index;
        self.again = None;
        if index > 0 {
            self.again = Some(now + self.wait);
            self.wait = (self.wait * 2).min(LAST_RETURN);
        }
    }

    /// The preferred one, if it is time to try it again.
    pub(super) fn return_due(&mut self, now: Instant) -> Option<Address> {
        self.again.filter(|again| now >= *again)?;
        self.again = Some(now + FIRST_RETURN);
        Some(self.all[0].address.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_tried_and_the_first_is_returned_to() {
        let address = |name: &str| Address::parse(&format!("http://h/{name}")).unwrap();
        let begin = Instant::now();
        let mut sources = Sources::new(vec![address("a"), address("b"), address("c")], 0, begin);
        assert_eq!(sources.return_due(begin + LAST_RETURN), None, "nothing to return to");
        assert_eq!(sources.another(), Some((1, address("b"))));
        sources.go_to(1, Some((7, "x".into())), begin);
        assert_eq!(sources.another(), Some((2, address("c"))), "not the one that was just left");
        assert_eq!(sources.another(), None);
        sources.came();
        assert_eq!(sources.another(), Some((0, address("a"))));
        assert!(!sources.is_new(0, Some(&(7, "x".into()))) && sources.is_new(0, Some(&(8, "y".into()))));
        assert!(!sources.is_new(0, None));
        assert_eq!(sources.return_due(begin + FIRST_RETURN / 2), None);
        assert_eq!(sources.return_due(begin + FIRST_RETURN), Some(address("a")));
        assert_eq!(sources.return_due(begin + FIRST_RETURN), None, "one attempt at a time");
        sources.go_to(0, None, begin + FIRST_RETURN);
        assert_eq!(sources.current(), &address("a"));
        assert_eq!(sources.return_due(begin + LAST_RETURN), None);
        sources.go_to(2, None, begin);
        assert_eq!(sources.return_due(begin + FIRST_RETURN), None, "the second time it takes longer");
        assert!(sources.return_due(begin + FIRST_RETURN * 2).is_some());
    }
}
