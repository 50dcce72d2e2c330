//! What this process uses: processor time and resident memory, from `/proc` on Linux.
//!
//! Elsewhere both are 0, which readers take as "unknown".

use std::time::Duration;

use tokio::time::Instant;

/// Ticks per second of the times in `/proc/self/stat`; fixed at 100 for programs on Linux.
const TICKS_PER_S: f64 = 100.0;
/// A share over less is mostly chance: the kernel counts in ticks.
const SHARE_OVER_AT_LEAST: Duration = Duration::from_millis(250);

/// Totals of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu_s: f64,
    pub(crate) memory_bytes: u64,
}

/// Reads the totals now.
pub(crate) fn read() -> Usage {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    Usage {
        cpu_s: cpu_s(&stat).unwrap_or_default(),
        memory_bytes: memory_bytes(&status).unwrap_or_default(),
    }
}

/// How much of a core was used lately.
#[derive(Debug)]
pub(crate) struct CpuShare {
    cpu_s: f64,
    at: Instant,
    share: f64,
}

impl CpuShare {
    pub(crate) fn new(cpu_s: f64, at: Instant) -> CpuShare {
        CpuShare {
            cpu_s,
            at,
            share: 0.0,
        }
    }

    /// The share since it was last told, 1.0 being a whole core. Too soon after that it is the last
    /// one again: a few milliseconds of an ending say nothing of a service.
    pub(crate) fn next(&mut self, cpu_s: f64, at: Instant) -> f64 {
        let over = at.duration_since(self.at);
        if over >= SHARE_OVER_AT_LEAST {
            self.share = (cpu_s - self.cpu_s) / over.as_secs_f64();
            (self.cpu_s, self.at) = (cpu_s, at);
        }
        self.share
    }
}

/// Fields 14 and 15 of `stat`: time in the program and in the kernel for it.
fn cpu_s(stat: &str) -> Option<f64> {
    // The second field is a name in parentheses that may have spaces in it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_S)
}

fn memory_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 99";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(
            memory_bytes("VmPeak:\t9 kB\nVmRSS:\t   512 kB\n"),
            Some(512 << 10)
        );
        assert_eq!(cpu_s(""), None);
    }

    #[test]
    fn a_moment_does_not_change_the_share() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut share = CpuShare::new(1.0, start);
        let mut told = |cpu_s, ms| (share.next(cpu_s, after(ms)) * 100.0).round();
        let shares = [told(1.01, 5), told(1.5, 1_000), told(1.51, 1_010)];
        assert_eq!(shares, [0.0, 50.0, 50.0]);
        // What was used in that moment is in the next share.
        assert_eq!([told(2.5, 2_000)], [100.0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        assert!(read().memory_bytes > 1 << 20);
    }
}
