//! `cargo xtask up`: from a fresh clone to a running Serin.
//!
//! Fetches nats-server, builds the bundle and the binary with the profile `up`, puts nats-server
//! beside the binary, where `serin` finds it by itself, and becomes `serin up`. Without arguments
//! that is the example, and its log is brought in as soon as the server is ready. Start at [`up`].

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::project::{Project, cargo};
use crate::steps::{note, read, run, step};
use crate::{bundle, tools};

/// What a new user sees first, and how its log comes in.
const EXAMPLE: &str = "examples/weblog";
const IMPORT: [&str; 4] = ["import", "access.log.gz", "--type", "http.request"];
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Builds, then becomes `serin up ARGS` in the caller's folder, or `serin up` on the example.
pub(crate) fn up(project: &Project, args: &[String]) -> Result<()> {
    let binary = build(project)?;
    note(&format!(
        "the command is {}; to have it on your PATH: export PATH=\"{}:$PATH\"",
        binary.display(),
        binary.parent().unwrap_or(Path::new(".")).display()
    ));
    let mut command = Command::new(&binary);
    command.arg("up");
    if args.is_empty() {
        let example = project.root.join(EXAMPLE);
        start_filling(&binary, &example)?;
        command.arg(example);
    }
    let error = command.args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", binary.display()))
}

/// Builds bundle and binary and says where the binary is. `SERIN_BIN` names one that is built.
pub(crate) fn build(project: &Project) -> Result<PathBuf> {
    let nats = tools::nats_server(project)?;
    let binary = match std::env::var_os("SERIN_BIN") {
        Some(built) => PathBuf::from(built),
        None => build_with(project, "up", "about ten minutes")?,
    };
    place_beside(&nats, &binary)?;
    Ok(binary)
}

/// Builds bundle and binary with a profile of cargo's, which takes `so_long` the first time on two cores.
pub(crate) fn build_with(project: &Project, profile: &str, so_long: &str) -> Result<PathBuf> {
    bundle::build(project)?;
    step(
        &format!("build serin (a first build takes {so_long} on two cores)"),
        || {
            let build = ["build", "--package", "serin", "--locked", "--profile"];
            let mut command = Command::new(cargo());
            run(command.args(build).arg(profile).current_dir(&project.root))
        },
    )?;
    // Cargo's name for the folder of the profile `dev`.
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(project.target.join(folder).join("serin"))
}

/// Puts a link to nats-server beside a binary of ours, which looks there before it looks on `PATH`.
pub(crate) fn place_beside(nats: &Path, binary: &Path) -> Result<()> {
    let nats = std::path::absolute(nats)?;
    let link = binary.with_file_name("nats-server");
    if link == nats || fs::read_link(&link).is_ok_and(|target| target == nats) {
        return Ok(());
    }
    // Tests may place it at the same time; a rename replaces it in one step.
    let aside = binary.with_file_name(format!("nats-server.{}", std::process::id()));
    symlink(&nats, &aside)
        .and_then(|()| fs::rename(&aside, &link))
        .with_context(|| format!("cannot put nats-server at {}", link.display()))
}

/// Starts [`fill`] as a process of its own, which belongs to nobody: we are about to become Serin.
fn start_filling(binary: &Path, example: &Path) -> Result<()> {
    let this = std::env::current_exe().context("cannot tell where this program is")?;
    run(Command::new("sh")
        .args(["-c", "\"$@\" &", "sh"])
        .arg(this)
        .arg("fill")
        .args([binary, example])
        .arg(std::process::id().to_string()))
}

/// Brings the example's log into the server of process `pid` once it is ready; ends when it ends.
pub(crate) fn fill(args: &[String]) -> Result<()> {
    let [binary, example, pid] = args else {
        bail!("fill wants BINARY FOLDER PID");
    };
    let folder = Path::new(example);
    loop {
        let text = fs::read(folder.join(".serin/run.json")).unwrap_or_default();
        let told: Value = serde_json::from_slice(&text).unwrap_or_default();
        if told["pid"].as_u64() == pid.parse().ok() {
            break;
        }
        if read(Command::new("kill").args(["-0", pid])).is_err() {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    run(Command::new(binary).args(IMPORT).current_dir(folder))
        .context("cannot bring in the example's log")?;
    let status = read(
        Command::new(binary)
            .args(["status", "--json"])
            .current_dir(folder),
    )?;
    let status: Value = serde_json::from_str(&status)?;
    // The link ends in the page to show.
    println!(
        "The example's log is in. Its dashboard: {}d/weblog",
        status["signin"].as_str().unwrap_or_default()
    );
    Ok(())
}
