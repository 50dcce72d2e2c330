//! The programs that services are built and run with: whether they are there, and what to do where
//! they are not, or are too old.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::service::{Ready, Service};

/// Programs that people may have to install, and how.
const KNOWN: [(&str, &str); 5] = [
    ("cargo", "install Rust from https://rustup.rs"),
    (
        "node",
        "install Node.js 20 or newer from https://nodejs.org",
    ),
    (
        "npm",
        "install Node.js 20 or newer, with npm, from https://nodejs.org",
    ),
    (
        "python",
        "write python3, or install Python 3.9 or newer from https://www.python.org",
    ),
    (
        "python3",
        "install Python 3.9 or newer from https://www.python.org (apt install python3)",
    ),
];
/// The oldest Node.js the SDK runs on.
const NODE_MIN: u32 = 20;

/// A program that a service needs and nobody finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    /// Which command of its file: `build`, `run`, `ready`.
    pub(super) key: &'static str,
    pub(super) program: String,
    pub(super) advice: &'static str,
}

/// The first program that is not on `PATH`; one with a path is made by the build, or part of the folder.
pub(super) fn missing(service: &Service, env: &BTreeMap<String, String>) -> Option<Missing> {
    let asked = match &service.ready {
        Ready::Run(command) => Some(command),
        _ => None,
    };
    let commands = [
        ("build", service.build.as_ref()),
        ("run", Some(&service.run)),
        ("ready", asked),
    ];
    let programs = commands
        .into_iter()
        .filter_map(|(key, command)| Some((key, command?.first()?)));
    let own = service.env.get("PATH").or(env.get("PATH"));
    let path = own.map(OsString::from).or(std::env::var_os("PATH"));
    let is_there = |program: &str| {
        let mut folders = std::env::split_paths(path.as_deref().unwrap_or_default());
        folders.any(|folder| folder.join(program).is_file())
    };
    for (key, program) in programs {
        if !program.contains('/') && program != "serin" && !is_there(program) {
            let known = KNOWN.iter().find(|(name, _)| name == program);
            return Some(Missing {
                key,
                program: program.clone(),
                advice: known.map_or("install it, or write its path", |(_, advice)| advice),
            });
        }
    }
    None
}

/// What to tell of a service that does not start, where its program is too old for its SDK.
pub(super) async fn too_old(service: &Service, folder: &Path) -> Option<String> {
    let program = service.run.first().filter(|program| *program == "node")?;
    let mut version = Command::new(program);
    version
        .arg("--version")
        .envs(&service.env)
        .stdin(Stdio::null());
    let output = version.current_dir(folder).output().await.ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next()?;
    let is_old = major.parse::<u32>().ok()? < NODE_MIN;
    is_old.then(|| {
        format!("this is Node.js {version}; install {NODE_MIN} or newer from https://nodejs.org")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("cargo"), "").expect("written");
        let path = folder.path().to_string_lossy().into_owned();
        let env = BTreeMap::from([(String::from("PATH"), path)]);
        let missing = |yaml: &str| {
            let service = crate::service::read("service.yaml", "x", yaml).expect("a service");
            let missing = missing(&service, &env)?;
            Some(format!(
                "{} {}: {}",
                missing.key, missing.program, missing.advice
            ))
        };
        assert_eq!(missing("build: cargo build\nrun: target/release/x\n"), None);
        assert_eq!(missing("run: serin serve\n"), None);
        let node = "run node: install Node.js 20 or newer from https://nodejs.org";
        assert_eq!(
            missing("build: cargo build\nrun: node main.ts\n").as_deref(),
            Some(node)
        );
        let gcc = "build gcc: install it, or write its path";
        assert_eq!(
            missing("build: gcc x.c\nrun: ./a.out\n").as_deref(),
            Some(gcc)
        );
        let asks = "ready pg_isredy: install it, or write its path";
        let yaml = "run: serin serve\nready: {run: pg_isredy -q}\n";
        assert_eq!(missing(yaml).as_deref(), Some(asks));
    }
}
