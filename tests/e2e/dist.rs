//! The archive that is handed out: unpacked in an empty folder, without a tool on PATH and without a
//! network, `serin up` answers hello.
//!
//! `cargo xtask test` packs the debug build and names it in `SERIN_ARCHIVE`; what `cargo xtask dist`
//! made can be named there as well.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use serin_tests::place;
use serin_tests::report::{judged, report, skip};
use tempfile::TempDir;

/// From the command to the first page.
const HELLO_S_MAX: f64 = 5.0;

/// An archive that was unpacked.
pub(crate) struct Unpacked {
    archive: PathBuf,
    /// Its only folder.
    pub(crate) folder: PathBuf,
    _place: TempDir,
}

/// Unpacks the archive; none where none is named, which is said of `what`.
pub(crate) fn unpacked(what: &str) -> Result<Option<Unpacked>> {
    let Some(archive) = std::env::var_os("SERIN_ARCHIVE").map(PathBuf::from) else {
        let why = anyhow::anyhow!("no SERIN_ARCHIVE; `cargo xtask test` packs one");
        skip(what, &why)?;
        return Ok(None);
    };
    let place = TempDir::new()?;
    let tar = Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(place.path())
        .status()?;
    ensure!(tar.success(), "cannot unpack {}", archive.display());
    let mut entries = fs::read_dir(place.path())?;
    let folder = entries.next().context("the archive is empty")??.path();
    ensure!(
        entries.next().is_none(),
        "the archive has more than one folder"
    );
    Ok(Some(Unpacked {
        archive,
        folder,
        _place: place,
    }))
}

#[test]
fn the_archive_runs_with_nothing_else_there() -> Result<()> {
    let Some(unpacked) = unpacked("the archive")? else {
        return Ok(());
    };
    let Unpacked {
        archive, folder, ..
    } = &unpacked;
    let licences = fs::read_to_string(folder.join("THIRD-PARTY-LICENCES"))?;
    for made_by_others in [
        "datafusion ",
        "async-nats ",
        "uplot ",
        "nats-py ",
        "tweetnacl ",
    ] {
        ensure!(
            licences.contains(made_by_others),
            "no licence of {made_by_others}"
        );
    }

    let has_namespaces = Command::new("unshare").args(["--net", "true"]).status();
    let is_cut_off = has_namespaces.is_ok_and(|status| status.success());
    if !is_cut_off {
        let why = anyhow::anyhow!("this user may not make a network namespace");
        skip("the archive without a network", &why)?;
    }
    let python = place::python();
    let mut command = Command::new(if is_cut_off { "unshare" } else { "env" });
    if is_cut_off {
        command.arg("--net");
    }
    let work = TempDir::new()?;
    let output = command
        .arg(python.get_program())
        .arg(place::repository().join("tests/dist/first_hello.py"))
        .arg(folder)
        .arg(work.path())
        .arg(if is_cut_off { "none" } else { "usual" })
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let seen: Value = serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())?;
    let page = seen["page"].as_str().context("a page")?;
    ensure!(page.contains("Hello"), "{page}");
    let seconds = seen["seconds"].as_f64().context("seconds")?;
    judged(
        "unpacked archive → hello, no tools, no network",
        &format!("{seconds:.2} s"),
        &format!("{HELLO_S_MAX} s"),
        seconds <= HELLO_S_MAX,
    );
    let size = fs::metadata(archive)?.len();
    report(
        "size of the archive",
        &format!("{:.1} MB", size as f64 / 1e6),
        "",
    );
    Ok(())
}
