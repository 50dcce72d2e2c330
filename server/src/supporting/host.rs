//! The host: processors, memory, the disk of the data folder; and our own process.
//!
//! What the system does not tell (there is no `/proc`) is left out. Start at [`Host::look`].

use std::path::PathBuf;

use procfs::process::Process;
use procfs::{CpuTime, Current, CurrentSI, KernelStats, LoadAverage, Meminfo};
use serin_ui::Metric;

/// The host, with what the last look counted.
#[derive(Debug)]
pub(super) struct Host {
    data: PathBuf,
    before: Option<Ticks>,
}

/// Counts of the system's clock ticks.
#[derive(Debug, Clone, Copy)]
struct Ticks {
    /// Of all processors.
    all: u64,
    idle: u64,
    /// Of our own process, and when.
    own: u64,
    at_us: i64,
}

impl Host {
    /// The host, seen from the folder `data`.
    pub(super) fn new(data: PathBuf) -> Host {
        Host { data, before: None }
    }

    /// How it is now; shares are those since the last look.
    pub(super) fn look(&mut self, now_us: i64) -> Vec<Metric> {
        let mut metrics = Vec::new();
        self.processors(now_us, &mut metrics);
        memory(&mut metrics);
        self.disk(&mut metrics);
        metrics
    }

    fn processors(&mut self, now_us: i64, metrics: &mut Vec<Metric>) {
        let (Ok(stats), Ok(own)) = (
            KernelStats::current(),
            Process::myself().and_then(|own| own.stat()),
        ) else {
            return;
        };
        let cores = stats.cpu_time.len() as f64;
        let (all, idle) = ticks(&stats.total);
        let now = Ticks {
            all,
            idle,
            own: own.utime + own.stime,
            at_us: now_us,
        };
        metrics.extend([
            Metric::gauge("serin_host_cores", "Processor cores of the host.", cores),
            Metric::gauge(
                "serin_process_memory_bytes",
                "Resident memory of Serin.",
                (own.rss * procfs::page_size()) as f64,
            ),
        ]);
        if let Some(before) = self.before.replace(now) {
            let spent = now.all.saturating_sub(before.all).max(1) as f64;
            let idle = now.idle.saturating_sub(before.idle) as f64;
            let own_s =
                now.own.saturating_sub(before.own) as f64 / procfs::ticks_per_second() as f64;
            let wall_s = (now_us - before.at_us).max(1) as f64 / 1e6;
            metrics.extend([
                Metric::gauge(
                    "serin_host_busy_ratio",
                    "Share of the host's processor time in use.",
                    (1.0 - idle / spent).clamp(0.0, 1.0),
                ),
                Metric::gauge(
                    "serin_process_cores",
                    "Cores that Serin uses.",
                    own_s / wall_s,
                ),
            ]);
        }
        if let Ok(load) = LoadAverage::current() {
            metrics.push(Metric::gauge(
                "serin_host_load",
                "Processes that run or wait to run, mean of a minute.",
                load.one.into(),
            ));
        }
    }

    fn disk(&self, metrics: &mut Vec<Metric>) {
        let Ok(disk) = rustix::fs::statvfs(&self.data) else {
            return;
        };
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize) as f64;
        metrics.extend([
            Metric::gauge(
                "serin_host_disk_bytes",
                "Size of the disk with the data folder.",
                bytes(disk.f_blocks),
            ),
            Metric::gauge(
                "serin_host_disk_free_bytes",
                "What is free on the disk with the data folder.",
                bytes(disk.f_bavail),
            ),
        ]);
    }
}

fn memory(metrics: &mut Vec<Metric>) {
    let Ok(memory) = Meminfo::current() else {
        return;
    };
    let available = memory.mem_available.unwrap_or(memory.mem_free);
    metrics.extend([
        Metric::gauge(
            "serin_host_memory_bytes",
            "Memory of the host.",
            memory.mem_total as f64,
        ),
        Metric::gauge(
            "serin_host_memory_available_bytes",
            "Memory of the host that programs can still have.",
            available as f64,
        ),
    ]);
}

/// All ticks, and those in which nothing ran.
fn ticks(time: &CpuTime) -> (u64, u64) {
    let idle = time.idle + time.iowait.unwrap_or_default();
    let others = [time.irq, time.softirq, time.steal];
    let others: u64 = others.into_iter().flatten().sum();
    (time.user + time.nice + time.system + idle + others, idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_with_the_second_look() {
        let mut host = Host::new(std::env::temp_dir());
        let names = |metrics: &[Metric]| -> Vec<&str> {
            metrics.iter().map(|metric| metric.name).collect()
        };
        let first = host.look(0);
        assert!(!names(&first).contains(&"serin_host_busy_ratio"));
        let second = host.look(5_000_000);
        let busy = second
            .iter()
            .find(|metric| metric.name == "serin_host_busy_ratio");
        let busy = busy.expect("a second look").value;
        assert!((0.0..=1.0).contains(&busy), "{busy}");
        for name in ["serin_host_memory_bytes", "serin_host_disk_free_bytes"] {
            assert!(names(&second).contains(&name), "{name}");
        }
    }
}
