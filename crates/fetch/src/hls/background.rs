//! Fetches a playlist in a thread of its own, so that a server that hangs holds up nothing that is there already.

use crate::{Address, Client, Error, playlist};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

/// A playlist: where it came from, and its text.
pub(super) type Fetched = Result<(Address, Vec<u8>), Error>;

/// A playlist that is being fetched. Dropping it leaves the thread to its timeouts.
#[derive(Debug)]
pub(super) struct Background(Receiver<Fetched>);

impl Background {
    /// Begins; `None` if the system has no threads left.
    pub(super) fn start(client: &Client, address: &Address) -> Option<Self> {
        let (done, receiver) = sync_channel(1);
        let (client, address) = (client.clone(), address.clone());
        let work = move || {
            // Nobody may be left who wants it.
            let _ = done.send(client.get_small(&address, None, playlist::MAX_TEXT));
        };
        let spawned = std::thread::Builder::new().name("playlist".into()).spawn(work);
        spawned.ok().map(|_| Self(receiver))
    }

    /// What has come, if it is done.
    pub(super) fn done(&self) -> Option<Fetched> {
        match self.0.try_recv() {
            Ok(fetched) => Some(fetched),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Error::Playlist("its fetching failed"))),
        }
    }

    /// Waits for it: the client's timeouts bound that.
    pub(super) fn wait(self) -> Fetched {
        self.0.recv().unwrap_or(Err(Error::Playlist("its fetching failed")))
    }
}
