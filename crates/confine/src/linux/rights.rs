//! What a process gives up by itself: capabilities, privileges by exec, being looked into; and how it presents itself.

use crate::{Error, Profile};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitiesSecureBits as Bits, CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_name as set_thread_name, set_no_new_privs,
};
use std::ffi::CString;

/// How much rather than its parent the system should end this process when it has no memory left, in thousandths of all memory
/// (proc(5), oom_score_adj): the parent holds every encoder's connection.
const OOM_SCORE: i32 = 500;

/// More capabilities than a kernel has: 41 in Linux 6.18.
const CAPABILITIES: u32 = 64;

/// Keeps none but these capabilities, now and by exec, for this thread and those that it starts.
pub(crate) fn give_up(but: CapabilitySet) -> Result<(), Error> {
    let failed = |e: rustix::io::Errno| Error::System("capabilities can't be dropped", e.into());
    // Who has no right to shrink the bounding set has no capability that it could bound; and without new privileges it has no effect.
    let _ = clear_ambient_capability_set();
    for bit in 0..CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if !but.contains(one) && capability_is_in_bounding_set(one).unwrap_or(false) {
            let _ = remove_capability_from_bounding_set(one);
        }
    }
    if but.is_empty() {
        let bits = Bits::NO_ROOT | Bits::NO_SETUID_FIXUP | Bits::NO_CAP_AMBIENT_RAISE;
        let locks = Bits::NO_ROOT_LOCKED | Bits::NO_SETUID_FIXUP_LOCKED | Bits::NO_CAP_AMBIENT_RAISE_LOCKED;
        let _ = set_capabilities_secure_bits(bits | locks);
    }
    let now = capabilities(None).map_err(failed)?;
    let sets = CapabilitySets {
        effective: now.effective & but,
        permitted: now.permitted & but,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).map_err(failed)?;
    set_no_new_privs(true).map_err(|e| Error::System("new privileges can't be refused", e.into()))
}

/// Closes this process's memory, environment and descriptors to others of the same user. Another program, by exec, is open again.
pub(crate) fn hide() -> Result<(), Error> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| Error::System("it can't be hidden", e.into()))
}

/// The opposite of [`hide`].
pub(crate) fn show() {
    // A debugger would say that it can't look.
    let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
}

/// Sets the name that `ps` and `top` show, of which the system keeps 15 bytes.
pub(crate) fn set_name(profile: Profile) {
    // Only a name: nothing depends on it.
    if let Ok(name) = CString::new(format!("ingress-{}", profile.as_str().split('-').next().unwrap_or_default())) {
        let _ = set_thread_name(&name);
    }
}

/// Makes this process the first to go when memory runs out.
pub(crate) fn volunteer() {
    const SCORE: &str = "/proc/self/oom_score_adj";
    let now = std::fs::read_to_string(SCORE).ok().and_then(|s| s.trim().parse::<i32>().ok()).unwrap_or(0);
    // A system that does not let us costs nothing but the choice.
    let _ = std::fs::write(SCORE, now.saturating_add(OOM_SCORE).min(1000).to_string());
}
