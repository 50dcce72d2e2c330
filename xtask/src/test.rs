//! `check`, `test` and `ci`: what must hold before a commit, and before a stop.
//!
//! The tests need real parts beside cargo (nats-server, DuckDB, Chromium, npm packages); they are
//! found or fetched here and named to the tests by environment. Start at [`test`].

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::project::{Project, cargo};
use crate::steps::{note, on_path, run, step};
use crate::{bundle, tidy, tools};

/// For each commit: formatting, clippy, and the tests that need no running server.
pub(crate) fn check(project: &Project) -> Result<()> {
    format(project)?;
    bundle::build(project)?;
    clippy(project)?;
    let mut parts = Parts::without_browser(project)?;
    step("quick tests", || rust_tests(project, &mut parts, true, &[]))
}

/// Everything.
pub(crate) fn test(project: &Project, args: &[String]) -> Result<()> {
    bundle::build(project)?;
    let mut parts = Parts::all(project)?;
    step("build serin for the tests", || {
        let build = ["build", "--workspace", "--bins", "--locked"];
        run(Command::new(cargo()).args(build).current_dir(&project.root))
    })?;
    step("tests of the browser application", || {
        run(Command::new("npm")
            .args(["test", "--silent"])
            .current_dir(project.web()))
    })?;
    step("Rust, browser and fault tests", || {
        rust_tests(project, &mut parts, false, args)
    })?;
    step("examples in the documentation of the crates", || {
        let doc = ["test", "--doc", "--workspace", "--locked"];
        run(parts.give_to(Command::new(cargo()).args(doc).current_dir(&project.root)))
    })?;
    python_tests(project, &parts)
}

/// What `.ci/run` calls.
pub(crate) fn ci(project: &Project) -> Result<()> {
    format(project)?;
    step("tidy", || tidy::tidy(project))?;
    bundle::build(project)?;
    clippy(project)?;
    deny(project)?;
    test(project, &[])
}

fn format(project: &Project) -> Result<()> {
    step("formatting", || {
        run(Command::new(cargo())
            .args(["fmt", "--all", "--check"])
            .current_dir(&project.root))
    })
}

fn clippy(project: &Project) -> Result<()> {
    step("clippy", || {
        let clippy = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
        ];
        let strict = ["--", "--deny", "warnings"];
        run(Command::new(cargo())
            .args(clippy)
            .args(strict)
            .current_dir(&project.root))
    })
}

/// Advisories need the network's database and are left to a job that has it.
fn deny(project: &Project) -> Result<()> {
    if !on_path("cargo-deny") {
        note("cargo deny: SKIPPED, cargo-deny is not installed (cargo install cargo-deny)");
        return Ok(());
    }
    step("cargo deny", || {
        let deny = ["deny", "--offline", "check", "bans", "licenses", "sources"];
        run(Command::new(cargo()).args(deny).current_dir(&project.root))
    })
}

/// The foreign parts that tests use.
pub(crate) struct Parts {
    environment: Vec<(&'static str, std::ffi::OsString)>,
    python: tools::Python,
}

impl Parts {
    /// nats-server and DuckDB.
    pub(crate) fn without_browser(project: &Project) -> Result<Parts> {
        let nats = tools::nats_server(project)?;
        let python = tools::duckdb(project)?;
        let folder = nats.parent().unwrap_or(Path::new(".")).to_owned();
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders = [folder]
            .into_iter()
            .chain(std::env::split_paths(&inherited));
        let path = std::env::join_paths(folders)?;
        let environment = vec![("SERIN_NATS_SERVER", nats.into_os_string()), ("PATH", path)];
        Ok(Parts {
            environment,
            python,
        })
    }

    /// The same with Chromium and what drives it.
    pub(crate) fn all(project: &Project) -> Result<Parts> {
        let mut parts = Parts::without_browser(project)?;
        parts
            .environment
            .push(("SERIN_CHROMIUM", tools::chromium()?.into_os_string()));
        bundle::packages(project, &project.root.join("tests/browser"))?;
        Ok(parts)
    }

    /// Lets a command find the parts.
    pub(crate) fn give_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        self.python.give_to(command);
        command
    }
}

/// Runs the Rust tests by nextest, or by cargo itself where nextest is not installed.
pub(crate) fn rust_tests(
    project: &Project,
    parts: &mut Parts,
    quick: bool,
    args: &[String],
) -> Result<()> {
    let mut command = Command::new(cargo());
    command.current_dir(&project.root);
    parts.give_to(&mut command);
    if on_path("cargo-nextest") {
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
        ]);
        if quick {
            command.args(["--profile", "quick"]);
        }
    } else {
        note("cargo-nextest is not installed: cargo's own runner takes its place");
        command.args([
            "test",
            "--workspace",
            "--locked",
            "--lib",
            "--bins",
            "--tests",
        ]);
        if quick {
            command.args(["--exclude", "serin-tests"]);
        }
    }
    run(command.args(args))
}

/// Python's own tests, for every SDK or tool written in it.
fn python_tests(project: &Project, parts: &Parts) -> Result<()> {
    let folder = project.root.join("tests/weblog");
    if !folder.join("expected.py").is_file() {
        bail!("{} has no expected.py", folder.display());
    }
    step("Python tests", || {
        let mut command = Command::new(tools::python()?);
        let discover = [
            "-m",
            "unittest",
            "discover",
            "--quiet",
            "--pattern",
            "*_test.py",
        ];
        run(parts.give_to(command.args(discover).current_dir(folder)))
    })
}
