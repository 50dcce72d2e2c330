//! `serin launch`: becomes a service's program, within the limits its shim has made room for.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serin_control::confine::{Entry, enter};

use crate::cli::Launch;

pub(crate) fn main(launch: &Launch) -> Result<ExitCode> {
    let entry = Entry {
        folders: launch.groups.clone(),
        data_bytes: launch.data_bytes,
    };
    let program = launch.command.first().cloned().unwrap_or_default();
    Err(enter(&entry, &launch.command)).with_context(|| format!("cannot start {program:?}"))
}
