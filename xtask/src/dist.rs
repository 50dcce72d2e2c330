//! `cargo xtask dist`: one archive to hand out, which runs with nothing else installed.
//!
//! The stripped binary (with the browser application, the book and the SDKs inside), nats-server beside
//! it, where `serin` looks first, a page on how to begin, and the licences of everything in it. Start at [`dist`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::project::Project;
use crate::steps::{note, read, run};
use crate::{licences, tools, up};

/// The profile of what is handed out.
pub(crate) const PROFILE: &str = "release";
pub(crate) const SO_LONG: &str = "half an hour";

const BEGIN: &str = "\
Serin: your small services, what they emit, and live dashboards of it, on one machine.

  ./serin up my-app      makes the folder my-app and runs in it, until Ctrl-C
  ./serin --help         everything else

The book is at /docs of the page that `serin up` opens. To have `serin` at hand, put this folder on
your PATH; serin and nats-server belong side by side.
";

/// Builds with the profile, or with the one named by `--profile`, and says where the archive is.
pub(crate) fn dist(project: &Project, args: &[String]) -> Result<()> {
    let profile = match args {
        [] => PROFILE,
        [flag, profile] if flag == "--profile" => profile,
        _ => bail!("dist wants nothing, or --profile NAME; got {args:?}"),
    };
    let binary = up::build_with(project, profile, SO_LONG)?;
    let archive = pack(project, &binary)?;
    let size = fs::metadata(&archive)?.len();
    println!("{} ({:.1} MB)", archive.display(), size as f64 / 1e6);
    Ok(())
}

/// Packs a binary of ours into an archive under the target folder.
pub(crate) fn pack(project: &Project, binary: &Path) -> Result<PathBuf> {
    let name = format!("serin-{}-{}", env!("CARGO_PKG_VERSION"), host()?);
    let out = project.target.join("dist");
    let folder = out.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    copy(binary, &folder.join("serin"))?;
    let strip = read(Command::new("strip").arg(folder.join("serin")));
    if let Err(error) = strip {
        note(&format!("the binary keeps its symbols: {error:#}"));
    }
    copy(&tools::nats_server(project)?, &folder.join("nats-server"))?;
    copy(&project.root.join("LICENSE"), &folder.join("LICENSE"))?;
    fs::write(folder.join("README"), BEGIN)?;
    fs::write(
        folder.join("THIRD-PARTY-LICENCES"),
        licences::third_party(project)?,
    )?;
    let archive = out.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&archive).arg("-C").arg(&out).arg(&name);
    run(&mut tar)?;
    Ok(archive)
}

/// The platform, as rustc names it: `x86_64-unknown-linux-gnu`.
fn host() -> Result<String> {
    let said = read(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}
