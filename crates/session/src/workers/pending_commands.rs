//! What a transcoder is owed: it was to be told while its queue was full. Frames are dropped then, as they would only come too
//! late; a configuration, a wish or the end of the source has to come, and each of them is worth nothing but in its newest
//! version.

use ipc::transcode::Command;
use model::Kind;
use std::collections::VecDeque;

/// See the [module](self). Holds no more than one message of each kind, and one for each layer where a layer is named.
#[derive(Debug, Default)]
pub(crate) struct PendingCommands(VecDeque<Command>);

/// Messages of one subject replace each other.
#[derive(Debug, PartialEq, Eq)]
enum Subject {
    Config(Kind),
    Layers,
    Wanted(u8),
    KeyFrame(u8),
    ShowFrom(Kind),
    Finish,
}

fn subject(message: &Command) -> Option<Subject> {
    Some(match message {
        Command::VideoConfig(_) => Subject::Config(Kind::Video),
        Command::AudioConfig(_) => Subject::Config(Kind::Audio),
        Command::Layers(_) => Subject::Layers,
        Command::Wanted { layer, .. } => Subject::Wanted(*layer),
        Command::KeyFrame { layer } => Subject::KeyFrame(*layer),
        Command::ShowFrom(kind, _) => Subject::ShowFrom(*kind),
        Command::Finish => Subject::Finish,
        // Both are of use at their time only.
        Command::Frame(_) | Command::Repeat(_) => return None,
    })
}

impl PendingCommands {
    /// Keeps a message that found no room; false if it is one that is not worth keeping.
    pub(crate) fn keep(&mut self, message: Command) -> bool {
        let Some(about) = subject(&message) else { return false };
        // What is said of single layers follows what layers there are.
        if about == Subject::Layers
            && let Some(before) = self.0.iter_mut().find(|m| subject(m) == Some(Subject::Layers))
        {
            *before = message;
            return true;
        }
        self.0.retain(|m| subject(m).as_ref() != Some(&about));
        self.0.push_back(message);
        true
    }

    /// Whether nothing is owed.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hands everything over, in order, to whom gives back what it has no room for. Whether nothing is left.
    pub(crate) fn pay(&mut self, mut send: impl FnMut(Command) -> Option<Command>) -> bool {
        while let Some(message) = self.0.pop_front() {
            if let Some(message) = send(message) {
                self.0.push_front(message);
                return false;
            }
        }
        true
    }

    /// For a new transcoder, which is told everything anyway.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Layer, MediaTime, Quality};

    #[test]
    fn layers_are_told_before_what_is_said_of_them() {
        let (mut owed, mut got) = (PendingCommands::default(), Vec::new());
        let wanted = Command::Wanted { layer: 2, wanted: false };
        let layer = |width| Layer { quality: Quality::High, width, height: 180, bitrate: 1 };
        let layers = |width| Command::Layers(vec![layer(width)]);
        for message in [layers(320), wanted.clone(), layers(640)] {
            assert!(owed.keep(message));
        }
        owed.pay(|message| {
            got.push(message);
            None
        });
        assert_eq!(got, [layers(640), wanted]);
    }

    #[test]
    fn the_newest_of_each_is_kept_in_order_and_nothing_that_is_of_no_use_later() {
        let (mut owed, at) = (PendingCommands::default(), MediaTime::from_millis);
        let wanted = |layer, wanted| Command::Wanted { layer, wanted };
        for _ in 0..100 {
            owed.keep(wanted(0, false));
            owed.keep(Command::KeyFrame { layer: 1 });
            owed.keep(Command::KeyFrame { layer: 2 });
            owed.keep(Command::ShowFrom(Kind::Video, at(1)));
            owed.keep(Command::ShowFrom(Kind::Audio, at(2)));
            owed.keep(wanted(0, true));
        }
        assert!(!owed.keep(Command::Repeat(at(3))));
        assert!(owed.keep(Command::Finish));
        let (mut got, mut room) = (Vec::new(), 2);
        let paid = owed.pay(|message| {
            if room == 0 {
                return Some(message);
            }
            room -= 1;
            got.push(message);
            None
        });
        assert!(!paid && !owed.is_empty());
        owed.pay(|message| {
            got.push(message);
            None
        });
        assert!(owed.is_empty());
        let expected = [
            Command::KeyFrame { layer: 1 },
            Command::KeyFrame { layer: 2 },
            Command::ShowFrom(Kind::Video, at(1)),
            Command::ShowFrom(Kind::Audio, at(2)),
            wanted(0, true),
            Command::Finish,
        ];
        assert_eq!(got, expected);
    }
}
