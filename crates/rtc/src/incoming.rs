//! One session that is received: what it delivers ([`Incoming`]), and the handle to steer it from elsewhere ([`Control`]).

mod control;
mod paths;

pub use control::{Control, Restarted};

use crate::driver::Driver;
use crate::ports::{Ports, SessionInbox, SessionPorts};
use crate::roles::receiver::{Received, Receiver};
use crate::runner::Runner;
use model::{Blame, Fault};
use paths::SessionPaths;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

/// A received session. Whoever polls [`Incoming::next`] drives it; dropping it tells the client that it is over.
///
/// The engine inside may panic on what it takes for impossible: poll it in a task of its own.
pub struct Incoming {
    runner: Runner<SessionPaths>,
    over: bool,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("driver", &self.runner.driver).finish_non_exhaustive()
    }
}

impl Incoming {
    pub(crate) fn new(
        driver: Driver<Receiver>,
        endpoint: Arc<Ports>,
        ports: SessionPorts,
        inbox: SessionInbox,
        ice_session: String,
    ) -> Self {
        let paths = SessionPaths::new(endpoint, ports, inbox, ice_session);
        Self { runner: Runner::new(driver, paths), over: false }
    }

    /// The next thing that happens. Cancel safe. `None` after the end.
    pub async fn next(&mut self) -> Option<Received> {
        if self.over {
            return None;
        }
        let received = match poll_fn(|cx| self.runner.poll_next(cx)).await {
            Ok(received) => received,
            Err(e) => Received::Lost(Fault::transient(Blame::Us, e.to_string())),
        };
        self.over = matches!(received, Received::Finished | Received::Lost(_));
        Some(received)
    }

    /// A handle to steer it.
    pub fn control(&self) -> Control {
        self.runner.paths.control.clone()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.runner.driver.finish();
        if let Err(error) = self.runner.step(Instant::now()) {
            tracing::debug!(%error, "ended without telling the client");
        }
    }
}
