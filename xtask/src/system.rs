//! Programs of the system that tests use: found on `PATH`, or installed by apt where we may.
//!
//! Chromium is needed. The others are used by single fault tests, which skip and say so where they
//! are missing. Start at [`chromium`].

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::{note, on_path, read, run, step};

/// Program, its package in Debian, and the tests that need it.
const FAULT_TOOLS: [(&str, &str, &str); 4] = [
    (
        "mkfs.ext4",
        "e2fsprogs",
        "power cuts, full and read-only disks",
    ),
    ("xfs_io", "xfsprogs", "power cuts"),
    ("strace", "strace", "failing fsync"),
    ("faketime", "faketime", "clock jumps"),
];

/// Finds Chromium, or installs it.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("SERIN_CHROMIUM") {
        return Ok(PathBuf::from(chosen));
    }
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = || names.iter().find(|name| on_path(name));
    if found().is_none() && may_install() {
        step("install Chromium", || install(&["chromium"]))?;
    }
    let Some(name) = found() else {
        bail!(
            "no Chromium on PATH for the browser tests; install it (apt install chromium) or say \
             where it is in SERIN_CHROMIUM"
        );
    };
    Ok(PathBuf::from(name))
}

/// Gets what fault tests use, as far as this machine allows.
pub(crate) fn fault_tools() {
    let missing = || {
        FAULT_TOOLS
            .iter()
            .filter(|(program, ..)| !on_path(program))
            .collect::<Vec<_>>()
    };
    let packages: Vec<&str> = missing().iter().map(|(_, package, _)| *package).collect();
    if !packages.is_empty() && may_install() {
        let installed = step("install the tools of fault tests", || install(&packages));
        if let Err(error) = installed {
            note(&format!("not installed: {error:#}"));
        }
    }
    for (program, package, tests) in missing() {
        note(&format!(
            "SKIPPED: {tests}: no {program} on PATH (apt install {package})"
        ));
    }
}

fn may_install() -> bool {
    on_path("apt-get") && read(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn install(packages: &[&str]) -> Result<()> {
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        run(command.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-q"])?;
    apt(&[
        &["install", "-q", "-y", "--no-install-recommends"],
        packages,
    ]
    .concat())
}
