//! Commands that found a worker's queue full. Frames are dropped then, as they would only come too late. A configuration, a request
//! or the end of the source has to arrive, but of each only the newest version.

use ipc::transcode::Command;
use model::Kind;
use std::collections::VecDeque;

/// See the [module](self). Holds one command of each subject at most.
#[derive(Debug, Default)]
pub(crate) struct PendingCommands(VecDeque<Command>);

/// Commands of one subject replace each other.
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
    /// Keeps a command that found the queue full; false if it is one that is of no use later.
    pub(crate) fn keep(&mut self, message: Command) -> bool {
        let Some(about) = subject(&message) else { return false };
        // A command about one layer stays behind the layers that it names.
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

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sends all, in order, by what gives back a command for which there is no capacity. Whether none is left.
    pub(crate) fn flush(&mut self, mut send: impl FnMut(Command) -> Option<Command>) -> bool {
        while let Some(message) = self.0.pop_front() {
            if let Some(message) = send(message) {
                self.0.push_front(message);
                return false;
            }
        }
        true
    }

    /// For a new worker, which is told everything anyway.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Layer, MediaTime, Quality};

    #[test]
    fn layers_stay_before_commands_about_layers() {
        let (mut pending, mut got) = (PendingCommands::default(), Vec::new());
        let wanted = Command::Wanted { layer: 2, wanted: false };
        let layer = |width| Layer { quality: Quality::High, width, height: 180, bitrate: 1 };
        let layers = |width| Command::Layers(vec![layer(width)]);
        for message in [layers(320), wanted.clone(), layers(640)] {
            assert!(pending.keep(message));
        }
        pending.flush(|message| {
            got.push(message);
            None
        });
        assert_eq!(got, [layers(640), wanted]);
    }

    #[test]
    fn newest_of_each_subject_is_kept_in_order() {
        let (mut pending, at) = (PendingCommands::default(), MediaTime::from_millis);
        let wanted = |layer, wanted| Command::Wanted { layer, wanted };
        for _ in 0..100 {
            pending.keep(wanted(0, false));
            pending.keep(Command::KeyFrame { layer: 1 });
            pending.keep(Command::KeyFrame { layer: 2 });
            pending.keep(Command::ShowFrom(Kind::Video, at(1)));
            pending.keep(Command::ShowFrom(Kind::Audio, at(2)));
            pending.keep(wanted(0, true));
        }
        assert!(!pending.keep(Command::Repeat(at(3))));
        assert!(pending.keep(Command::Finish));
        let (mut got, mut capacity) = (Vec::new(), 2);
        let sent = pending.flush(|message| {
            if capacity == 0 {
                return Some(message);
            }
            capacity -= 1;
            got.push(message);
            None
        });
        assert!(!sent && !pending.is_empty());
        pending.flush(|message| {
            got.push(message);
            None
        });
        assert!(pending.is_empty());
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
