//! How busy this machine is, and whether one more session fits on it.
//!
//! [`Cpu`] reads what the container or the machine has and uses, [`Sampler`] does so every second, [`Capacity`] decides.

mod capacity;
mod cpu;
mod sampler;

pub use capacity::{Active, Capacity, Permit};
pub use confine::memory::Roots;
pub use cpu::{Cpu, CpuUsage};
pub use sampler::Sampler;
