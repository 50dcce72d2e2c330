//! What the processes of an instance use: processor time and resident memory, whole group together.

use std::collections::BTreeMap;

use procfs::process::all_processes;

/// Totals of a process group.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu_s: f64,
    pub(super) memory_bytes: u64,
}

/// Reads the totals of every group at this moment, by the group's number; empty where the system
/// does not tell.
pub(super) fn by_group() -> BTreeMap<u32, Usage> {
    let mut groups: BTreeMap<u32, Usage> = BTreeMap::new();
    let ticks = procfs::ticks_per_second() as f64;
    let page = procfs::page_size();
    // A process may end while it is looked at: it is left out.
    let stats = all_processes().into_iter().flatten().flatten();
    for stat in stats.filter_map(|process| process.stat().ok()) {
        let Ok(group) = u32::try_from(stat.pgrp) else {
            continue;
        };
        let usage = groups.entry(group).or_default();
        usage.cpu_s += (stat.utime + stat.stime) as f64 / ticks;
        usage.memory_bytes += stat.rss * page;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_uses_memory() {
        let group = rustix::process::getpgrp().as_raw_nonzero().get();
        let usage = by_group()[&u32::try_from(group).expect("a group")];
        assert!(usage.memory_bytes > 1 << 20, "{usage:?}");
    }
}
