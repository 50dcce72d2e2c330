//! The group of one instance: made with its limits, asked how it ended, removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Limits;
use super::ground::Ground;
use super::launch::Entry;

/// The period over which version 1 and 2 count processor time, in microseconds.
const PERIOD_US: u64 = 100_000;
/// The least share that version 1 takes.
const QUOTA_US_MIN: u64 = 1_000;

/// How the limits of an instance are held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// In a few words, `memory 256 MiB, cpu 0.5 (cgroup v2)`.
    pub text: String,
    /// What of them is not held, and why.
    pub missing: Option<String>,
}

/// The groups of an instance; one for each controller in version 1.
#[derive(Debug, Default)]
pub struct Group {
    folders: Vec<PathBuf>,
    /// What the program's own process is to be limited to, where a group does not do it.
    data_bytes: Option<u64>,
    held: Held,
}

impl Group {
    /// Makes the groups. What cannot be made is held otherwise, or said to be missing.
    pub fn make(ground: &Ground, name: &str, limits: &Limits) -> Group {
        let mut group = Group::default();
        let mut held = Vec::new();
        let mut missing = Vec::new();
        if let Some(bytes) = limits.memory_bytes {
            let what = format!("memory {} MiB", bytes >> 20);
            match group.limit_memory(ground, name, bytes) {
                Ok(by) => held.push(format!("{what} ({by})")),
                Err(error) => {
                    group.data_bytes = Some(bytes);
                    held.push(format!("{what} for each process (rlimit)"));
                    missing.push(format!(
                        "memory is limited for each process alone, not for the instance: {error}"
                    ));
                }
            }
        }
        if let Some(milli) = limits.cpu_milli {
            let what = format!("cpu {}", f64::from(milli) / 1_000.0);
            match group.limit_cpu(ground, name, milli) {
                Ok(by) => held.push(format!("{what} ({by})")),
                Err(error) => missing.push(format!("the processor is not limited: {error}")),
            }
        }
        group.held = Held {
            text: held.join(", "),
            missing: (!missing.is_empty()).then(|| missing.join("; ")),
        };
        group
    }

    /// How the limits are held.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// What `serin launch` is told.
    pub fn entry(&self) -> Entry {
        Entry {
            folders: self.folders.clone(),
            data_bytes: self.data_bytes,
        }
    }

    fn limit_memory(
        &mut self,
        ground: &Ground,
        name: &str,
        bytes: u64,
    ) -> io::Result<&'static str> {
        match ground {
            Ground::Unified(base) => {
                let folder = self.folder(base, name)?;
                fs::write(folder.join("memory.max"), bytes.to_string())?;
                // Without it memory only moves to the disk; a kernel without swap has no such file.
                optional(fs::write(folder.join("memory.swap.max"), "0"))?;
                Ok("cgroup v2")
            }
            Ground::Split {
                memory: Some(base), ..
            } => {
                let folder = self.folder(base, name)?;
                fs::write(folder.join("memory.limit_in_bytes"), bytes.to_string())?;
                let both = folder.join("memory.memsw.limit_in_bytes");
                optional(fs::write(both, bytes.to_string()))?;
                Ok("cgroup v1")
            }
            Ground::Split { memory: None, .. } => Err(no_group()),
        }
    }

    fn limit_cpu(&mut self, ground: &Ground, name: &str, milli: u32) -> io::Result<&'static str> {
        let quota_us = (u64::from(milli) * PERIOD_US / 1_000).max(QUOTA_US_MIN);
        match ground {
            Ground::Unified(base) => {
                let folder = self.folder(base, name)?;
                fs::write(folder.join("cpu.max"), format!("{quota_us} {PERIOD_US}"))?;
                Ok("cgroup v2")
            }
            Ground::Split {
                cpu: Some(base), ..
            } => {
                let folder = self.folder(base, name)?;
                fs::write(folder.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
                fs::write(folder.join("cpu.cfs_quota_us"), quota_us.to_string())?;
                Ok("cgroup v1")
            }
            Ground::Split { cpu: None, .. } => Err(no_group()),
        }
    }

    /// The instance's folder in a group; made once.
    fn folder(&mut self, base: &Path, name: &str) -> io::Result<PathBuf> {
        let folder = base.join(name);
        if !self.folders.contains(&folder) {
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => self.folders.push(folder.clone()),
            }
        }
        Ok(folder)
    }

    /// Whether the kernel killed a process of it for want of memory.
    pub fn was_out_of_memory(&self) -> bool {
        let files = ["memory.events", "memory.oom_control"];
        let mut texts = self.folders.iter().flat_map(|folder| {
            files
                .iter()
                .filter_map(|file| fs::read_to_string(folder.join(file)).ok())
        });
        texts.any(|text| {
            let counts = text
                .lines()
                .filter_map(|line| line.strip_prefix("oom_kill "));
            counts
                .filter_map(|count| count.trim().parse::<u64>().ok())
                .any(|count| count > 0)
        })
    }

    /// The processes that are in it.
    pub fn processes(&self) -> Vec<i32> {
        let texts = self.folders.iter().map(|folder| {
            // Gone with the group.
            fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default()
        });
        let mut processes: Vec<i32> = texts
            .flat_map(|text| {
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect();
        processes.sort_unstable();
        processes.dedup();
        processes
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            if let Err(error) = fs::remove_dir(folder) {
                tracing::warn!(%error, folder = %folder.display(), "cannot remove a group");
            }
        }
    }
}

fn no_group() -> io::Error {
    io::Error::other("no cgroup can be written here")
}

/// A file that need not be there.
fn optional(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        memory_bytes: Some(256 << 20),
        cpu_milli: Some(500),
    };

    #[test]
    fn version_2_gets_one_group_for_both() {
        let base = tempfile::tempdir().expect("a folder");
        let ground = Ground::Unified(base.path().to_path_buf());
        let group = Group::make(&ground, "cart-v1-1", &LIMITS);
        let read = |file: &str| fs::read_to_string(base.path().join("cart-v1-1").join(file));
        assert_eq!(read("memory.max").expect("written"), "268435456");
        assert_eq!(read("cpu.max").expect("written"), "50000 100000");
        assert_eq!(
            group.held().text,
            "memory 256 MiB (cgroup v2), cpu 0.5 (cgroup v2)"
        );
        assert_eq!(group.held().missing, None);
        assert_eq!(group.entry().folders.len(), 1);
        assert!(!group.was_out_of_memory());
        let events = base.path().join("cart-v1-1/memory.events");
        fs::write(events, "oom 1\noom_kill 2\n").expect("written");
        assert!(group.was_out_of_memory());
    }

    #[test]
    fn without_groups_it_is_said_what_is_missing() {
        let ground = Ground::Split {
            memory: None,
            cpu: None,
        };
        let group = Group::make(&ground, "cart-v1-1", &LIMITS);
        assert_eq!(group.entry().data_bytes, Some(256 << 20));
        assert_eq!(
            group.held().text,
            "memory 256 MiB for each process (rlimit)"
        );
        let missing = group.held().missing.clone().expect("something");
        assert!(
            missing.contains("the processor is not limited"),
            "{missing}"
        );
    }
}
