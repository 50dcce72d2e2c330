//! `cargo xtask slow`: the slow tiers of all tests by one command.
//!
//! `SERIN_SLOW=1` makes tests take their long form (more crashes, more clients, more cycles), with the
//! binary of `cargo xtask up`; what they report goes to `docs/measured/slow.md`, which is committed.
//! Start at [`slow`].

use std::process::Command;

use anyhow::Result;

use crate::measured::Measured;
use crate::project::{Project, cargo};
use crate::steps::{note, on_path, step};
use crate::test::{Parts, Skipped, build_for_tests};
use crate::{dist, up};

/// Runs every test in its long form, or those that the arguments of the test runner name.
pub(crate) fn slow(project: &Project, args: &[String]) -> Result<()> {
    let binary = up::build(project)?;
    let mut parts = Parts::all(project)?;
    build_for_tests(project)?;
    let skipped = Skipped::begin(project)?;
    skipped.give_to(&mut parts);
    let pack = || dist::pack(project, &binary);
    parts.name_archive(step("pack what is handed out", pack)?);
    let mut measured = Measured::default();
    step("all tests in their long form", || {
        let mut command = Command::new(cargo());
        if on_path("cargo-nextest") {
            command.args(["nextest", "run", "--workspace", "--locked"]);
            command.args(["--no-fail-fast", "--profile", "slow"]);
            command.args(["--success-output", "immediate"]);
        } else {
            note("cargo-nextest is not installed: cargo's own runner takes its place");
            command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
            command.args(["--lib", "--bins", "--tests"]);
            // One after the other: they measure times and take the machine to its limits.
            command.args(["--", "--nocapture", "--test-threads=1"]);
        }
        command
            .args(args)
            .env("SERIN_SLOW", "1")
            .env("SERIN_BIN", &binary)
            .current_dir(&project.root);
        // nextest reports on standard error; one stream keeps the order.
        let mut shell = joined(parts.give_to(&mut command));
        measured.collect(project, "tests", &mut shell)
    })?;
    skipped.tell();
    measured.show();
    measured.write(project, "slow", "The slow tiers, last run")?;
    measured.verdict()
}

/// The same command with its standard error led into its standard output.
fn joined(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .arg(command.get_program());
    shell.args(command.get_args());
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(key, value);
        }
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}
