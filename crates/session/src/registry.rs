//! The registry of sessions: which ingresses run here, and how to reach their sessions. One session per ingress.

use crate::Source;
use crate::lifecycle::Stop;
use model::{IngressId, InputKind, ResourceId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::mpsc;

/// Commands that may wait for a session. It takes each within a frame's time, and only operators and encoders send any.
const COMMANDS: usize = 8;

/// A command for a running session.
#[derive(Debug)]
pub enum Command {
    /// End the session.
    Stop(Stop),
    /// Another encoder came with the same stream key: go on with this one.
    TakeOver(Source),
}

/// What the registry knows of a session.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its ingress.
    pub ingress_id: IngressId,
    /// The session.
    pub resource_id: ResourceId,
    /// How media comes in.
    pub input: InputKind,
    /// Whether media is transcoded.
    pub transcode: bool,
    /// When it was admitted.
    pub started_at: SystemTime,
    commands: mpsc::Sender<Command>,
}

impl Entry {
    /// Sends a command to the session. Gives it back if the session is ending, or too busy.
    ///
    /// # Errors
    /// The command.
    pub fn tell(&self, command: Command) -> Result<(), Command> {
        self.commands.try_send(command).map_err(|e| match e {
            mpsc::error::TrySendError::Full(c) | mpsc::error::TrySendError::Closed(c) => c,
        })
    }

    /// Whether it has stopped taking commands: it is about to give up its slot.
    pub fn is_ending(&self) -> bool {
        self.commands.is_closed()
    }
}

/// See the [module](self). Clones share one registry.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    sessions: Arc<Mutex<HashMap<IngressId, Entry>>>,
}

/// A slot in the registry. Dropping it frees the slot.
#[derive(Debug)]
pub struct Slot {
    registry: Registry,
    /// What stands in the registry.
    pub entry: Entry,
    commands: Option<Commands>,
}

impl Slot {
    /// The commands for this session. Taken once.
    pub(crate) fn commands(&mut self) -> Commands {
        // A second taker gets a closed queue.
        self.commands.take().unwrap_or_else(|| Commands(mpsc::channel(1).1))
    }
}

/// The commands for a session. Once it is dropped none are taken, and encoders that wait to take over are sent away.
#[derive(Debug)]
pub(crate) struct Commands(mpsc::Receiver<Command>);

impl Commands {
    /// The next command. Cancel safe.
    pub(crate) async fn recv(&mut self) -> Option<Command> {
        self.0.recv().await
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.0.close();
        while let Ok(command) = self.0.try_recv() {
            if let Command::TakeOver(source) = command {
                source.refuse_ended();
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.entry.ingress_id);
    }
}

impl Registry {
    /// Takes the slot of an ingress for a session to come, which counts as begun at `started_at`.
    ///
    /// # Errors
    /// The session of this ingress that runs (or is being admitted) already.
    pub fn enter(
        &self,
        ingress_id: IngressId,
        resource_id: ResourceId,
        input: InputKind,
        transcode: bool,
        started_at: SystemTime,
    ) -> Result<Slot, Entry> {
        let mut sessions = self.lock();
        if let Some(running) = sessions.get(&ingress_id) {
            return Err(running.clone());
        }
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let entry = Entry { ingress_id: ingress_id.clone(), resource_id, input, transcode, started_at, commands };
        sessions.insert(ingress_id, entry.clone());
        Ok(Slot { registry: self.clone(), entry, commands: Some(Commands(receiver)) })
    }

    /// The session of this ingress, if there is one.
    pub fn get(&self, ingress_id: &IngressId) -> Option<Entry> {
        self.lock().get(ingress_id).cloned()
    }

    /// All sessions.
    pub fn list(&self) -> Vec<Entry> {
        self.lock().values().cloned().collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IngressId, Entry>> {
        // Held for single map operations only, which cannot leave it half done.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ingress_has_one_session_at_a_time() {
        let registry = Registry::default();
        let enter = |resource: &str| {
            registry.enter(
                IngressId("IN_1".into()),
                ResourceId(resource.into()),
                InputKind::Rtmp,
                true,
                SystemTime::now(),
            )
        };
        let mut slot = enter("RT_1").unwrap();
        let running = enter("RT_2").unwrap_err();
        assert_eq!((&running.resource_id, running.started_at), (&ResourceId("RT_1".into()), slot.entry.started_at));
        running.tell(Command::Stop(Stop::Shutdown)).unwrap();
        let mut commands = slot.commands();
        assert!(matches!(commands.recv().await, Some(Command::Stop(Stop::Shutdown))));
        let (feed, source) = crate::source();
        running.tell(Command::TakeOver(source)).unwrap();
        drop(commands);
        assert!(feed.stopped.await.unwrap().unwrap().retry, "who comes too late may try again");
        assert!(running.is_ending());
        assert!(running.tell(Command::Stop(Stop::Shutdown)).is_err());
        assert!(!registry.is_empty());
        drop(slot);
        assert!(registry.is_empty());
        enter("RT_3").unwrap();
    }
}
