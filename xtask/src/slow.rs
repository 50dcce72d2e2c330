//! `cargo xtask slow`: the slow tiers of all tests by one command.
//!
//! `SERIN_SLOW=1` makes tests take their long form (more crashes, more clients, more cycles); what
//! they report goes to `docs/measured/slow.md`, which is committed. Start at [`slow`].

use std::process::Command;

use anyhow::{Result, bail};

use crate::bundle;
use crate::measured::Measured;
use crate::project::{Project, cargo};
use crate::steps::{on_path, run, step};
use crate::test::Parts;

/// Runs every test in its long form.
pub(crate) fn slow(project: &Project) -> Result<()> {
    if !on_path("cargo-nextest") {
        bail!("the slow tiers need cargo-nextest (cargo install cargo-nextest)");
    }
    bundle::build(project)?;
    let parts = Parts::all(project)?;
    step("build serin for the tests", || {
        let build = ["build", "--workspace", "--bins", "--locked"];
        run(Command::new(cargo()).args(build).current_dir(&project.root))
    })?;
    let mut measured = Measured::default();
    step("all tests in their long form", || {
        let mut command = Command::new(cargo());
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
        ]);
        command.args(["--profile", "slow", "--success-output", "immediate"]);
        command.env("SERIN_SLOW", "1").current_dir(&project.root);
        // nextest reports on standard error; one stream keeps the order.
        let mut shell = joined(parts.give_to(&mut command));
        measured.collect("the tests", &mut shell)
    })?;
    measured.write(project, "slow", "The slow tiers, last run")?;
    if !measured.failed.is_empty() {
        bail!("tests failed; see above");
    }
    Ok(())
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
