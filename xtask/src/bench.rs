//! `cargo xtask bench [NAME]`: every benchmark of the workspace, one table.
//!
//! A benchmark is a target of kind `bench`; cargo knows them all, so there is no list here. They are
//! built with the profile `up`, which is what users run. What one measured replaces its rows in
//! docs/measured/bench.md. Start at [`bench`].

use std::process::Command;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::measured::Measured;
use crate::project::{Project, cargo};
use crate::steps::step;
use crate::test::Parts;
use crate::up;

/// Runs all benchmarks, or the one named.
pub(crate) fn bench(project: &Project, only: Option<&str>) -> Result<()> {
    let parts = Parts::for_benchmarks(project)?;
    let binary = up::build(project)?;
    let mut measured = Measured::default();
    let benches = all(project);
    if let Some(name) = only
        && !benches.iter().any(|(_, bench)| bench == name)
    {
        let names: Vec<_> = benches.iter().map(|(_, bench)| bench.as_str()).collect();
        bail!("no benchmark {name:?}; there are {}", names.join(", "));
    }
    for (package, name) in &benches {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        step(&format!("benchmark {name}"), || {
            let mut command = Command::new(cargo());
            command.args(["bench", "--profile", "up", "--locked", "--package", package]);
            command
                .args(["--bench", name])
                .current_dir(&project.root)
                .env("SERIN_BIN", &binary);
            measured.collect(project, name, parts.give_to(&mut command))
        })?;
    }
    let failed = measured.failed.clone();
    measured.write(project, "bench", "What was measured")?;
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Package and name of every benchmark.
fn all(project: &Project) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let empty = Vec::new();
    for package in project.metadata["packages"].as_array().unwrap_or(&empty) {
        for target in package["targets"].as_array().unwrap_or(&empty) {
            let is_bench = target["kind"]
                .as_array()
                .is_some_and(|k| k.iter().any(is_bench));
            if let (true, Some(package), Some(name)) =
                (is_bench, package["name"].as_str(), target["name"].as_str())
            {
                found.push((package.to_owned(), name.to_owned()));
            }
        }
    }
    found
}

fn is_bench(kind: &Value) -> bool {
    kind == "bench"
}
