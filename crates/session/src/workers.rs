//! The worker processes of sessions: started, talked to, and replaced when they are gone.

pub(crate) mod pending_commands;
pub mod pool;
pub(crate) mod restart_policy;
