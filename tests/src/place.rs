//! Where things are: the binary under test, the repository, programs of other makers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The `serin` under test: `SERIN_BIN`, or the one beside this test in cargo's target folder.
pub fn serin() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SERIN_BIN") {
        return Ok(PathBuf::from(path));
    }
    // A test runs as target/debug/deps/NAME.
    let test = std::env::current_exe().context("cannot tell where this test is")?;
    let folder = test
        .parent()
        .and_then(Path::parent)
        .context("a test is in target/debug/deps")?;
    let binary = folder.join("serin");
    if !binary.is_file() {
        bail!(
            "no {}: build it with `cargo build --workspace --bins`, or run `cargo xtask test`",
            binary.display()
        );
    }
    Ok(binary)
}

/// The nats-server that `cargo xtask test` chose, or the first on `PATH`.
pub fn nats_server() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SERIN_NATS_SERVER") {
        return Ok(PathBuf::from(path));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("nats-server"))
        .find(|candidate| candidate.is_file())
        .context("no nats-server on PATH; run `cargo xtask test`, which fetches one")
}

/// A folder for one test, removed when this is dropped.
pub fn fresh_folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("serin-test-").tempdir();
    folder.context("cannot make a folder for temporary files")
}

/// The shipped access log.
pub fn weblog() -> PathBuf {
    repository().join("examples/weblog/access.log.gz")
}

/// What cargo is told by environment where a test has it build a package: what foreign crates come to
/// is kept from run to run, with little of what only this run's folders can use. `cargo xtask` bounds it.
pub fn builds_of_packages() -> Result<[(&'static str, String); 3]> {
    let serin = serin()?;
    let target = serin.parent().and_then(Path::parent);
    let folder = target
        .context("a target folder")?
        .join("tools/new-packages");
    Ok([
        (
            "CARGO_BUILD_BUILD_DIR",
            folder.to_string_lossy().into_owned(),
        ),
        ("CARGO_INCREMENTAL", String::from("0")),
        ("CARGO_PROFILE_DEV_DEBUG", String::from("none")),
    ])
}

/// A PostgreSQL for services.
#[derive(Debug)]
pub struct Postgres {
    /// `PATH` with its programs.
    pub path: String,
    /// What `PYTHONPATH` has to name for `import psycopg`.
    pub driver: PathBuf,
}

/// The PostgreSQL that `cargo xtask test` fetched; the reason where there is none.
pub fn postgres() -> Result<Postgres> {
    let named = |name| {
        let found = std::env::var_os(name).map(PathBuf::from);
        found.with_context(|| format!("no {name}; `cargo xtask test` fetches a PostgreSQL"))
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders);
    let path = std::env::join_paths([named("SERIN_POSTGRES")?].into_iter().chain(folders))?;
    let path = path.into_string().ok().context("a PATH that is text")?;
    Ok(Postgres {
        path,
        driver: named("SERIN_PSYCOPG")?,
    })
}

/// Python with DuckDB, as `cargo xtask test` chose it.
pub fn python() -> Command {
    let program = std::env::var("SERIN_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    Command::new(program)
}

/// Whether tests take their long form.
pub fn is_slow() -> bool {
    std::env::var_os("SERIN_SLOW").is_some_and(|value| value == "1")
}

/// A number from the environment, for runs longer than the usual or with a seed seen before.
pub fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}
