//! The system calls that a worker may still make, by filters that the kernel runs (seccomp).
//!
//! Three filters stand from the first lines on: what no worker ever needs ends the process, what it must not do is refused, and what
//! libraries do without if it looks missing looks missing. A fourth comes when everything is loaded: it allows what is listed and refuses
//! all else. Of several filters the strictest answer counts.
//!
//! A filter sees numbers and registers, not what pointers lead to: which files may be opened is the business of `files.rs`.

mod allowed;
mod conditions;
mod denied;

use crate::{Error, Profile};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, apply_filter, apply_filter_all_threads};
use std::collections::BTreeMap;

/// What is said of calls by number: without rules always, else where one of the rules fits.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What a refused call returns. Libraries try, and fall back.
const REFUSED: SeccompAction = SeccompAction::Errno(libc::EPERM as u32);

/// What a call returns that is not to be tried again in another way.
const MISSING: SeccompAction = SeccompAction::Errno(libc::ENOSYS as u32);

/// Refuses what not even loading libraries needs, for this thread and those that it starts.
pub(crate) fn deny(profile: Profile) -> Result<(), Error> {
    for program in denying(profile)? {
        apply_filter(&program)?;
    }
    Ok(())
}

/// Refuses all but what work needs, for all threads.
pub(crate) fn allow(profile: Profile) -> Result<(), Error> {
    Ok(apply_filter_all_threads(&allowing(profile)?)?)
}

/// Whether the kernel takes a filter, which holds for this thread and refuses nothing that it does.
pub(crate) fn try_it() -> Result<(), Error> {
    let rules = Rules::from([(libc::SYS_reboot, Vec::new())]);
    Ok(apply_filter(&compiled(rules, SeccompAction::Allow, REFUSED)?)?)
}

fn denying(profile: Profile) -> Result<[BpfProgram; 3], Error> {
    Ok([
        compiled(denied::missing(), SeccompAction::Allow, MISSING)?,
        compiled(denied::refused(profile)?, SeccompAction::Allow, REFUSED)?,
        compiled(denied::never(), SeccompAction::Allow, SeccompAction::KillProcess)?,
    ])
}

fn allowing(profile: Profile) -> Result<BpfProgram, Error> {
    let mut rules = allowed::rules(profile)?;
    // Another filter answers these; the answer of the last one counts among refusals.
    rules.extend(denied::missing());
    compiled(rules, REFUSED, SeccompAction::Allow)
}

fn compiled(rules: Rules, otherwise: SeccompAction, then: SeccompAction) -> Result<BpfProgram, Error> {
    let architecture = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, otherwise, then, architecture)?.try_into()?)
}

#[cfg(test)]
mod tests;
