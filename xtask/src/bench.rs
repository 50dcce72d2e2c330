//! `cargo xtask bench [NAME] [--profile P]`: every benchmark of the workspace, one table.
//!
//! A benchmark is a target of kind `bench`; cargo knows them all, so there is no list here. They are
//! built as what is handed out (another profile is only shown), and as targets of the whole workspace: a
//! package alone would have other features, and DataFusion be built once more. What one measured
//! replaces its rows in docs/measured/bench.md. Start at [`bench`].

use std::process::Command;

use anyhow::{Result, bail};

use crate::measured::Measured;
use crate::project::{Project, cargo};
use crate::steps::step;
use crate::test::Parts;
use crate::{dist, tools, up};

/// Runs all benchmarks, or the one named.
pub(crate) fn bench(project: &Project, args: &[String]) -> Result<()> {
    let (only, profile) = match args {
        [] => (None, dist::PROFILE),
        [flag, profile] if flag == "--profile" => (None, profile.as_str()),
        [name] => (Some(name), dist::PROFILE),
        [name, flag, profile] if flag == "--profile" => (Some(name), profile.as_str()),
        _ => bail!("bench wants NAME, --profile NAME, both or nothing; got {args:?}"),
    };
    let parts = Parts::for_benchmarks(project)?;
    let binary = up::build_with(project, profile, dist::SO_LONG)?;
    up::place_beside(&tools::nats_server(project)?, &binary)?;
    let mut measured = Measured::default();
    let benches = all(project);
    if let Some(name) = only
        && !benches.iter().any(|bench| bench == name)
    {
        bail!("no benchmark {name:?}; there are {}", benches.join(", "));
    }
    for name in &benches {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        step(&format!("benchmark {name}"), || {
            let mut command = Command::new(cargo());
            command.args(["bench", "--locked", "--workspace", "--profile", profile]);
            command
                .args(["--bench", name])
                .current_dir(&project.root)
                .env("SERIN_BIN", &binary);
            measured.collect(project, name, parts.give_to(&mut command))
        })?;
    }
    measured.show();
    if profile == dist::PROFILE {
        measured.write(project, "bench", "What was measured")?;
    }
    measured.verdict()
}

/// The name of every benchmark.
fn all(project: &Project) -> Vec<String> {
    let packages = project.metadata["packages"].as_array();
    let targets = packages
        .into_iter()
        .flatten()
        .filter_map(|package| package["targets"].as_array())
        .flatten();
    targets
        .filter(|target| {
            let kinds = target["kind"].as_array();
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "bench"))
        })
        .filter_map(|target| target["name"].as_str().map(str::to_owned))
        .collect()
}
