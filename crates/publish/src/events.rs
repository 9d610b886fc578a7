//! Events that wait for a session which is busy: bounded, and merged where the newest says all.

use crate::Event;
use std::collections::VecDeque;

/// Events that may wait. Requests are merged, so that more means that nobody listens; then the oldest goes.
const MAX_WAITING: usize = 64;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct EventQueue(VecDeque<Event>);

impl EventQueue {
    /// Adds an event. A key frame request that waits already is not repeated; of the layers that are wanted only the newest counts.
    pub(crate) fn push(&mut self, event: Event) {
        match &event {
            Event::KeyframeRequest { .. } if self.0.contains(&event) => return,
            Event::LayersWanted(_) => self.0.retain(|e| !matches!(e, Event::LayersWanted(_))),
            _ => {}
        }
        if self.0.len() >= MAX_WAITING {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    /// Adds a key frame request for each of these layers.
    pub(crate) fn request_keyframes(&mut self, layers: impl IntoIterator<Item = usize>) {
        layers.into_iter().for_each(|layer| self.push(Event::KeyframeRequest { layer }));
    }

    /// The oldest.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.0.pop_front()
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_merge_and_the_oldest_goes() {
        let mut events = EventQueue::default();
        events.request_keyframes([0, 1, 0]);
        events.push(Event::LayersWanted(vec![true]));
        events.push(Event::Connected);
        events.push(Event::LayersWanted(vec![false]));
        let mut all = std::iter::from_fn(|| events.pop());
        let request = |layer| Some(Event::KeyframeRequest { layer });
        assert_eq!([all.next(), all.next()], [request(0), request(1)]);
        assert_eq!([all.next(), all.next()], [Some(Event::Connected), Some(Event::LayersWanted(vec![false]))]);
        assert_eq!(all.next(), None);

        (0..=MAX_WAITING).for_each(|layer| events.request_keyframes([layer]));
        assert_eq!(events.pop(), request(1));
        events.clear();
        assert!(events.is_empty());
    }
}
