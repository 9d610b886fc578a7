//! How busy this machine is, and whether one more session fits on it.
//!
//! [`Cpu`] reads what the container or the machine has and uses, and so do others for memory and workers; [`Sampler`] does so every
//! second, `costs` learns from it what sessions need, [`Capacity`] decides.

mod capacity;
mod costs;
mod cpu;
mod memory;
mod process;
mod sampler;

pub use capacity::{Active, Capacity, Cores, Permit};
pub use confine::memory::Roots;
pub use cpu::{Cpu, CpuUsage};
pub use sampler::Sampler;
