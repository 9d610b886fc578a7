//! What the signals of the system ask of the service.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that may wait to be looked at; all that matters beyond the first is that there was another.
const SIGNAL_QUEUE: usize = 4;

/// How the service is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// Admit nobody any more, let running sessions go on, end with the last of them: SIGTERM and SIGQUIT.
    Drain,
    /// End the sessions in order, and then the program: SIGINT.
    Stop,
}

/// Signals as they come; in tests, from the test.
pub(crate) type Signals = mpsc::Receiver<Shutdown>;

/// Listens for signals from now on.
///
/// # Errors
/// The system does not let us.
pub(crate) fn listen() -> std::io::Result<Signals> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, signals) = mpsc::channel(SIGNAL_QUEUE);
    tokio::spawn(async move {
        loop {
            let shutdown = tokio::select! {
                _ = terminate.recv() => Shutdown::Drain,
                _ = quit.recv() => Shutdown::Drain,
                _ = interrupt.recv() => Shutdown::Stop,
            };
            // A full queue has woken the service already.
            if let Err(mpsc::error::TrySendError::Closed(_)) = sender.try_send(shutdown) {
                return;
            }
        }
    });
    Ok(signals)
}

/// The next signal; never where none can come any more. Cancel safe.
pub(crate) async fn next(signals: &mut Signals) -> Shutdown {
    match signals.recv().await {
        Some(shutdown) => shutdown,
        None => std::future::pending().await,
    }
}
