//! Where things are: the binary under test, the repository, programs of other makers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

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

/// The shipped access log.
pub fn weblog() -> PathBuf {
    repository().join("examples/weblog/access.log.gz")
}

/// Where cargo keeps what it makes for packages of tests, from run to run.
pub fn new_packages() -> Result<PathBuf> {
    let serin = serin()?;
    let target = serin.parent().and_then(Path::parent);
    Ok(target
        .context("a target folder")?
        .join("tools/new-packages"))
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
