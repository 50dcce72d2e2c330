//! `check`, `test` and `ci`: what must hold before a commit, and before a stop.
//!
//! The tests need real parts beside cargo (nats-server, DuckDB, Chromium, npm packages); they are
//! found or fetched here and named to the tests by environment. Start at [`test`].

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::project::{Project, cargo};
use crate::steps::{each, note, on_path, run, step};
use crate::{bundle, dist, postgres, system, tidy, tools, up};

/// Folders with Python tests (`*_test.py`, `test_*.py`), and the packages from PyPI that they need.
const PYTHON_TESTS: [(&str, &[&str]); 2] = [
    ("tests/weblog", &[]),
    (PYTHON_SDK, &[tools::NATS_PY_PACKAGE]),
];
/// What services import; it is tested with the oldest Python that they may have as well.
const PYTHON_SDK: &str = "sdk/python";
const PYTHON_OLDEST: &str = "3.9";
/// Folders with `npm test`.
const NPM_TESTS: [&str; 2] = ["ui/web", "sdk/typescript"];

/// For each commit: formatting, clippy, and the tests that need no running server.
pub(crate) fn check(project: &Project) -> Result<()> {
    format(project)?;
    bundle::build(project)?;
    clippy(project)?;
    let parts = Parts::without_browser(project)?;
    step("quick tests", || rust_tests(project, &parts, true, &[]))
}

/// Everything.
pub(crate) fn test(project: &Project, args: &[String]) -> Result<()> {
    bundle::build(project)?;
    let mut parts = Parts::all(project)?;
    build_for_tests(project)?;
    let skipped = Skipped::begin(project)?;
    skipped.give_to(&mut parts);
    let archive = step("pack the debug build as it is handed out", || {
        dist::pack(project, &project.target.join("debug/serin"))
    })?;
    parts.name_archive(archive);
    let groups: [&dyn Fn() -> Result<()>; 4] = [
        &|| npm_tests(project, &parts),
        &|| {
            step("Rust, browser and fault tests", || {
                rust_tests(project, &parts, false, args)
            })
        },
        &|| doc_tests(project, &parts),
        &|| python_tests(project, &parts),
    ];
    let tested = each(groups, |group| group());
    skipped.tell();
    tested
}

/// The binaries, with nats-server beside them as `cargo xtask up` leaves it.
pub(crate) fn build_for_tests(project: &Project) -> Result<()> {
    tools::bound_new_packages(project)?;
    step("build serin for the tests", || {
        let build = ["build", "--workspace", "--bins", "--locked"];
        run(Command::new(cargo()).args(build).current_dir(&project.root))
    })?;
    let nats = tools::nats_server(project)?;
    up::place_beside(&nats, &project.target.join("debug/serin"))
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

    /// nats-server, DuckDB and ClickHouse.
    pub(crate) fn for_benchmarks(project: &Project) -> Result<Parts> {
        let mut parts = Parts::without_browser(project)?;
        tools::clickhouse(project, &mut parts.python);
        Ok(parts)
    }

    /// nats-server, DuckDB, Chromium with what drives it, exporters, PostgreSQL, and what fault tests use.
    pub(crate) fn all(project: &Project) -> Result<Parts> {
        let mut parts = Parts::without_browser(project)?;
        system::fault_tools();
        parts
            .environment
            .push(("SERIN_CHROMIUM", system::chromium()?.into_os_string()));
        for folder in ["tests/browser", "tests/micro", "tests/otlp"] {
            bundle::packages(project, &project.root.join(folder))?;
        }
        let exporters = tools::python_packages(project, "otlp", &tools::TELEMETRY_PACKAGES)?;
        parts.python.paths.push(exporters);
        if let Some((programs, driver)) = postgres::postgres(project) {
            let found = [("SERIN_POSTGRES", programs), ("SERIN_PSYCOPG", driver)];
            let found = found.map(|(name, folder)| (name, folder.into_os_string()));
            parts.environment.extend(found);
        }
        Ok(parts)
    }

    /// Lets tests find what is handed out.
    pub(crate) fn name_archive(&mut self, archive: PathBuf) {
        self.environment
            .push(("SERIN_ARCHIVE", archive.into_os_string()));
    }

    /// Lets a command find the parts.
    pub(crate) fn give_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        self.python.give_to(command);
        command
    }
}

/// Runs the Rust tests by nextest, or by cargo itself where nextest is not installed.
fn rust_tests(project: &Project, parts: &Parts, quick: bool, args: &[String]) -> Result<()> {
    let mut command = Command::new(cargo());
    command.current_dir(&project.root);
    parts.give_to(&mut command);
    if on_path("cargo-nextest") {
        let nextest = ["nextest", "run", "--workspace", "--locked"];
        let mut build = Command::new(cargo());
        build.args(nextest).arg("--no-run");
        run(build.current_dir(&project.root))?;
        // Else the first tests wait for a disk that is busy with the build.
        run(&mut Command::new("sync"))?;
        command.args(nextest).arg("--no-fail-fast");
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

fn doc_tests(project: &Project, parts: &Parts) -> Result<()> {
    step("examples in the documentation of the crates", || {
        let doc = ["test", "--doc", "--workspace", "--locked"];
        run(parts.give_to(Command::new(cargo()).args(doc).current_dir(&project.root)))
    })
}

/// `npm test` of the browser application, and of every folder that has one.
fn npm_tests(project: &Project, parts: &Parts) -> Result<()> {
    each(NPM_TESTS, |name| {
        let folder = project.root.join(name);
        if !folder.join("package.json").is_file() {
            return Ok(());
        }
        bundle::packages(project, &folder)?;
        step(&format!("npm test in {name}"), || {
            let mut command = Command::new("npm");
            command.args(["test", "--silent"]).current_dir(&folder);
            run(parts.give_to(&mut command))
        })
    })
}

/// Python's own tests, of every folder that has some.
fn python_tests(project: &Project, parts: &Parts) -> Result<()> {
    each(PYTHON_TESTS, |(name, packages)| {
        let folder = project.root.join(name);
        let mut python = parts.python.clone();
        if !packages.is_empty() {
            let fetched = tools::python_packages(project, &name.replace('/', "-"), packages)?;
            python.paths.push(fetched);
        }
        // The package under test itself.
        python.paths.push(folder.clone());
        let what = format!("Python tests in {name}");
        step(&what, || python_tests_of(&folder, parts, &python))?;
        if name != PYTHON_SDK {
            return Ok(());
        }
        let Some(program) = tools::python_of(PYTHON_OLDEST) else {
            note(&format!(
                "SKIPPED: {what} with Python {PYTHON_OLDEST}, which is not here"
            ));
            return Ok(());
        };
        python.program = program;
        step(&format!("{what} with Python {PYTHON_OLDEST}"), || {
            python_tests_of(&folder, parts, &python)
        })
    })
}

fn python_tests_of(folder: &Path, parts: &Parts, python: &tools::Python) -> Result<()> {
    for pattern in ["*_test.py", "test_*.py"] {
        let Some(start) = folder_with(folder, pattern) else {
            continue;
        };
        let mut command = Command::new(&python.program);
        let discover = ["-m", "unittest", "discover", "--quiet", "--pattern"];
        command.args(discover).arg(pattern).arg("--start-directory");
        command.arg(&start).arg("--top-level-directory").arg(folder);
        command.current_dir(folder);
        parts.give_to(&mut command);
        python.give_to(&mut command);
        run(&mut command)?;
    }
    Ok(())
}

/// The folder itself or its `tests`, whichever has a file of this pattern.
fn folder_with(folder: &Path, pattern: &str) -> Option<PathBuf> {
    let (start, end) = pattern.split_once('*')?;
    [folder.to_owned(), folder.join("tests")]
        .into_iter()
        .find(|folder| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .any(|name| name.starts_with(start) && name.ends_with(end))
        })
}

/// What tests could not do on this machine: they write a line each, which is told at the end.
pub(crate) struct Skipped {
    file: PathBuf,
}

impl Skipped {
    /// Forgets what the run before skipped.
    pub(crate) fn begin(project: &Project) -> Result<Skipped> {
        let file = project.tools().join("skipped.txt");
        std::fs::create_dir_all(project.tools())?;
        std::fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;
        Ok(Skipped { file })
    }

    pub(crate) fn give_to(&self, parts: &mut Parts) {
        let file = self.file.clone().into_os_string();
        parts.environment.push(("SERIN_SKIPPED", file));
    }

    pub(crate) fn tell(&self) {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        for line in text.lines() {
            note(&format!("SKIPPED: {line}"));
        }
    }
}
