//! What a running Serin costs the machine: memory and processor of all its processes.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};

use crate::{Serin, process};

/// Clock ticks a second in /proc (`USER_HZ`), which is 100 on every Linux.
const TICKS: f64 = 100.0;

/// Serin, its nats-server and its gateway: what runs whether there are services or not.
pub async fn own(serin: &Serin) -> Result<Vec<u32>> {
    let pid = serin.pid().context("serin does not run")?;
    Ok(vec![pid, serin.bus_pid()?, serin.gateway_pid().await?])
}

/// The same with everything they started: workers, shims, instances of services.
pub async fn family(serin: &Serin) -> Result<Vec<u32>> {
    let mut pids = own(serin).await?;
    let mut of_parent: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in process::all()? {
        if let Some(parent) = process::parent(pid) {
            of_parent.entry(parent).or_default().push(pid);
        }
    }
    let mut looked_at = 0;
    while let Some(pid) = pids.get(looked_at) {
        let children = of_parent.remove(pid).unwrap_or_default();
        for child in children {
            if !pids.contains(&child) {
                pids.push(child);
            }
        }
        looked_at += 1;
    }
    Ok(pids)
}

/// Seconds of a processor that these processes have had, with those of their children who ended: one
/// that has gone since is counted by its parent.
pub fn cpu_seconds(pids: &[u32]) -> Result<f64> {
    let mut ticks = 0.0;
    for fields in pids.iter().filter_map(|pid| process::stat(*pid)) {
        for field in &fields[11..15] {
            ticks += field.parse::<f64>()?;
        }
    }
    Ok(ticks / TICKS)
}

/// The proportional set size of these processes together; one that has gone counts nothing.
pub fn pss_mib(pids: &[u32]) -> u64 {
    let kib: u64 = pids.iter().filter_map(|pid| pss_kib(*pid)).sum();
    kib >> 10
}

fn pss_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(process::folder(pid).join("smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}
