//! What the processes of an instance use: processor time and resident memory, all together.
//!
//! What left its parent (`setsid` and an early end) is missed.

use super::tree::tree;

/// Totals of an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// Also of children that have ended and were waited for.
    pub(super) cpu_s: f64,
    pub(super) memory_bytes: u64,
}

/// Reads the totals at this moment; nothing where the system does not tell.
pub(super) fn of(pid: u32) -> Usage {
    let ticks = procfs::ticks_per_second() as f64;
    let page = procfs::page_size();
    let mut usage = Usage::default();
    for (_, stat) in tree(pid) {
        let own = stat.utime + stat.stime;
        let ended = u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
        usage.cpu_s += (own + ended) as f64 / ticks;
        usage.memory_bytes += stat.rss * page;
    }
    usage
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_counted_with_its_children() {
        let own = std::process::id();
        let alone = of(own).memory_bytes;
        assert!(alone > 1 << 20, "{alone}");
        let mut child = Command::new("sleep").arg("10").spawn().expect("started");
        // A program that has only just begun has no memory of its own yet.
        let mut looks = (0..100_000).map(|_| of(child.id()).memory_bytes);
        let of_child = looks.find(|bytes| *bytes > 0).unwrap_or_default();
        let both = of(own).memory_bytes;
        child.kill().and_then(|()| child.wait()).expect("ended");
        assert!(of_child > 0 && both > of_child, "{both} {of_child}");
        assert_eq!(of(child.id()), Usage::default());
    }
}
