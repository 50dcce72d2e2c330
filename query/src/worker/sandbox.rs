//! What the operating system holds a worker to: memory, CPU, files, folders, no TCP.
//!
//! Limits on resources must hold or the worker refuses to run. Landlock is taken as far as the kernel
//! has it (read-only folders from Linux 5.13, no TCP from 6.7); what could not be had is reported. It
//! does not hold back UDP or Unix sockets; the guard leaves no function that could open one.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::limits::Limits;

/// Threads a worker may have: two that compute, four that read files, one that plans, one that waits.
pub(super) const COMPUTING_THREADS: usize = 2;
pub(super) const READING_THREADS: usize = 4;
/// Deep enough for any plan the guard lets pass.
pub(super) const PLANNING_STACK_BYTES: usize = 128 << 20;
pub(super) const THREAD_STACK_BYTES: usize = 16 << 20;
/// Stacks count as data; a watchdog's is small.
const STACKS_BYTES: usize =
    PLANNING_STACK_BYTES + (COMPUTING_THREADS + READING_THREADS) * THREAD_STACK_BYTES + (4 << 20);
/// Address space beyond data: the program itself, mapped files, the allocator's reservations.
const MAPPED_BYTES: u64 = 2 << 30;
/// Open files: a scan holds few at a time.
const FILES_MAX: u64 = 512;

/// Holds this process to its limits. Must be called before other threads start.
pub(super) fn limit(limits: &Limits) -> io::Result<()> {
    let data = data_bytes() + (limits.memory_bytes + STACKS_BYTES) as u64;
    let seconds = limits.deadline.as_secs() + 1;
    let hard = [
        (Resource::Data, data),
        (Resource::As, data + MAPPED_BYTES),
        (Resource::Cpu, seconds * (COMPUTING_THREADS as u64 + 1)),
        (Resource::Nofile, FILES_MAX),
        (Resource::Fsize, limits.spill_bytes_max),
        (Resource::Core, 0),
    ];
    for (resource, most) in hard {
        setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )?;
    }
    Ok(())
}

/// What this process holds already.
fn data_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(128 << 10) << 10
}

/// Closes the file system but for reading `folders` and writing `spill`, and closes TCP. Says what
/// could not be had, if anything.
pub(super) fn enclose(
    folders: &[PathBuf],
    spill: &Path,
) -> Result<Option<&'static str>, RulesetError> {
    let abi = ABI::V5;
    let status: RestrictionStatus = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(folders, AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules([spill], AccessFs::from_all(abi)))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => Some("this kernel's Landlock closes files but not TCP"),
        RulesetStatus::NotEnforced => {
            Some("this kernel has no Landlock; files and TCP are not closed")
        }
    })
}
