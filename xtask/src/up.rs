//! `cargo xtask up`: from a fresh clone to a running Serin.
//!
//! Fetches nats-server, builds the bundle and the binary with the profile `up`, and becomes
//! `serin up`. Start at [`up`].

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::project::{Project, cargo};
use crate::steps::{note, run, step};
use crate::{bundle, tools};

/// Builds, then becomes `serin up ARGS` in the caller's folder.
pub(crate) fn up(project: &Project, args: &[String]) -> Result<()> {
    let nats = tools::nats_server(project)?;
    let binary = build(project)?;
    note(&format!("the command is {}", binary.display()));
    let error = Command::new(&binary)
        .arg("up")
        .args(args)
        .env("SERIN_NATS_SERVER", nats)
        .exec();
    Err(error).with_context(|| format!("cannot start {}", binary.display()))
}

/// Builds bundle and binary and says where the binary is.
pub(crate) fn build(project: &Project) -> Result<PathBuf> {
    bundle::build(project)?;
    step(
        "build serin (a first build takes about ten minutes on two cores)",
        || {
            let build = ["build", "--profile", "up", "--package", "serin", "--locked"];
            run(Command::new(cargo()).args(build).current_dir(&project.root))
        },
    )?;
    Ok(project.target.join("up/serin"))
}
