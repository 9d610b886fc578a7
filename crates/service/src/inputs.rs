//! The inputs, a folder each: what encoders push to, and what is pulled.
//!
//! Each folder has the same plan: `open` (from the configuration), `server` (what listens), `request` (a publisher that waits
//! for its answer), and its side of the session. To add an input, add its folder, its section of the configuration, and its
//! line in `open`.

pub(crate) mod connection_limits;
pub(crate) mod context;
pub mod listener;
pub mod proxy_header;
pub mod request;
pub mod rtmp;
pub(crate) mod url;
pub mod whip;

use context::Context;
use listener::{Listener, Listeners};
use model::Fault;

/// Opens all inputs that the configuration switches on.
///
/// # Errors
/// What keeps an input from being opened, by its configuration key.
pub(crate) async fn open(context: &Context<'_>) -> Result<Listeners, Fault> {
    let inputs: [Option<Box<dyn Listener>>; 3] =
        [rtmp::open::open(context).await?, whip::open::open(context).await?, url::open::open(context)];
    Ok(Listeners::new(inputs.into_iter().flatten().collect()))
}
