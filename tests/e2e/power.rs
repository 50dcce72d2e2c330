//! A power cut: the file system under the data folder is shut down under load, as if the plug were
//! pulled, and mounted again. Nothing acknowledged may be lost, nothing stored twice.
//!
//! Needs root, loop devices and `xfs_io`; where they are missing the test says so and ends.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serin_tests::process::{self, Signal};
use serin_tests::random::Random;
use serin_tests::report::{judged, skip};
use serin_tests::wait::until;
use serin_tests::{Serin, place};
use tempfile::TempDir;

use crate::audit::{self, Audited};
use crate::writers::{self, Writers};

/// The ways in that are used in each cycle, by the beginning of their keys.
const WAYS: [&str; 3] = ["h-", "b-", "s-"];
const HOLD_DEADLINE: Duration = Duration::from_secs(20);
/// What the name of a disk's folder begins with; the process that made it follows.
const FOLDER: &str = "serin-disk-";
const UNMOUNT_DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ext4_loses_nothing_acknowledged_in_a_power_cut() -> Result<()> {
    cuts("ext4", &["mkfs.ext4", "-q", "-F"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xfs_loses_nothing_acknowledged_in_a_power_cut() -> Result<()> {
    cuts("xfs", &["mkfs.xfs", "-q", "-f"]).await
}

async fn cuts(kind: &str, mkfs: &[&str]) -> Result<()> {
    let cycles = place::number("SERIN_CUTS", if place::is_slow() { 50 } else { 2 });
    let disk = match Disk::to_cut(kind, mkfs, "512M") {
        Ok(disk) => disk,
        Err(why) => return skip(&format!("power cuts on {kind}"), &why),
    };
    let seed = place::number("SERIN_SEED", 1);
    let mut random = Random::new(seed);
    let dir = disk.mount.join("shop");
    std::fs::create_dir(&dir)?;
    std::fs::write(dir.join("serin.yaml"), writers::SETTINGS)?;
    let mut serin = Serin::start_in(&dir).await?;
    let mut audited = Audited::default();
    let (mut total, mut flushes) = (0, 0);
    for cycle in 0..cycles {
        let writers = Writers::start(&serin, cycle);
        writers.all_begun(&WAYS).await?;
        // The point of time is the input of this test, not a wait for something.
        tokio::time::sleep(Duration::from_millis(300 + random.below(2_000))).await;
        let bus = serin.bus_pid()?;
        hold(bus).await?;
        hold(serin.pid().context("serin runs")?).await?;
        disk.shut_down()?;
        // Their writers had the time of these commands to hear what was said last, on threads of their
        // own; for the answers of the dead nobody waits.
        serin.kill()?;
        process::kill(bus)?;
        let (acknowledged, flushed) = writers.stop().await?;
        disk.mount_again().await?;
        serin.start_again().await?;
        let named = || {
            format!(
                "cycle {cycle} on {kind}, SERIN_SEED={seed}: {}",
                serin.said()
            )
        };
        writers::all_wrote(&acknowledged, &WAYS).with_context(named)?;
        let recounted = writers::recount(&serin, &acknowledged).await;
        recounted.with_context(named)?;
        audited.again(&serin).await.with_context(named)?;
        flushes += flushed;
        total += acknowledged.len();
    }
    serin.stop().await?;
    audit::start_changes_nothing(&serin)?;
    judged(
        &format!("{cycles} power cuts on {kind}: acknowledged events lost or doubled"),
        &format!("0 of {total}, beside {flushes} flushes"),
        "0",
        true,
    );
    Ok(())
}

/// Stops a process in its tracks, outside of every system call. An fsync that is under way in the
/// moment of the shutdown may return success for nothing, which no disk does that loses its power:
/// the acknowledgement would not have left the machine (docs/decisions/002).
async fn hold(pid: u32) -> Result<()> {
    process::send(pid, Signal::STOP)?;
    until("every thread stands still", HOLD_DEADLINE, async || {
        for thread in process::threads(pid)? {
            let stat = std::fs::read_to_string(thread.join("stat"))?;
            let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            if !state.starts_with(['T', 'Z', 'X']) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await
}

/// A file system in a file, mounted.
pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) mount: PathBuf,
    _folder: TempDir,
}

impl Disk {
    /// Makes and mounts one; fails where the machine does not let us.
    pub(crate) fn new(kind: &str, mkfs: &[&str], size: &str) -> Result<Disk> {
        clear_after_the_dead()?;
        let prefix = format!("{FOLDER}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let image = folder.path().join("image");
        let mount = folder.path().join("mount");
        std::fs::create_dir(&mount)?;
        run(Command::new("truncate").args(["-s", size]).arg(&image))?;
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image))
            .with_context(|| format!("cannot make a file system {kind}"))?;
        let disk = Disk {
            image,
            mount,
            _folder: folder,
        };
        disk.mounted()?;
        Ok(disk)
    }

    /// The same for a power cut; fails also where it cannot be cut.
    fn to_cut(kind: &str, mkfs: &[&str], size: &str) -> Result<Disk> {
        let disk = Disk::new(kind, mkfs, size)?;
        let probe = Command::new("xfs_io").arg("-V").output();
        probe.context("no xfs_io on PATH (apt install xfsprogs)")?;
        // The machine may allow the mount and yet not the shutdown: tried once, on an empty disk.
        disk.shut_down().context("this machine cuts no power")?;
        unmount(&disk.mount)?;
        disk.mounted()?;
        Ok(disk)
    }

    fn mounted(&self) -> Result<()> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.mount))
    }

    /// As if the plug were pulled: what was not synced is gone.
    fn shut_down(&self) -> Result<()> {
        run(Command::new("xfs_io")
            .args(["-x", "-c", "shutdown"])
            .arg(&self.mount))
    }

    /// As the kernel does after an error: nothing is written any more.
    pub(crate) fn turn_read_only(&self) -> Result<()> {
        run(Command::new("mount")
            .args(["-o", "remount,abort"])
            .arg(&self.mount))
    }

    /// Power is back: nothing that ran outlived the cut, and the file system recovers by its journal.
    pub(crate) async fn mount_again(&self) -> Result<()> {
        until(
            "killed processes let go of the disk",
            UNMOUNT_DEADLINE,
            async || {
                for pid in self.users()? {
                    process::kill(pid)?;
                }
                run(Command::new("umount").arg(&self.mount)).map(Some)
            },
        )
        .await?;
        self.mounted()
    }

    /// The processes that run in a folder of this disk, or name one in their command: the gateway
    /// outlives a Serin that was killed.
    fn users(&self) -> Result<Vec<u32>> {
        let named = self.mount.to_string_lossy();
        let mut users = process::all()?;
        users.retain(|pid| {
            let folder = std::fs::read_link(process::folder(*pid).join("cwd"));
            folder.is_ok_and(|folder| folder.starts_with(&self.mount))
                || process::command(*pid)
                    .iter()
                    .any(|word| word.contains(&*named))
        });
        Ok(users)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.mount) {
            println!("{} stays mounted: {error:#}", self.mount.display());
        }
    }
}

/// A test that was killed leaves its disk mounted: whoever makes the next one removes it.
fn clear_after_the_dead() -> Result<()> {
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let owner = name.and_then(|name| name.strip_prefix(FOLDER)?.split_once('-'));
        let owner = owner.and_then(|(pid, _)| pid.parse().ok());
        if owner.is_some_and(|pid| !process::is_running(pid)) {
            // It may have been killed before it mounted anything.
            unmount(&path.join("mount")).ok();
            std::fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn unmount(mount: &Path) -> Result<()> {
    run(Command::new("umount").arg(mount))
        .or_else(|_| run(Command::new("umount").arg("-l").arg(mount)))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}
