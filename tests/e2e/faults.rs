//! Disks that are full, read-only or lie: a clear error, nothing acknowledged lost, recovery.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use serin_tests::report::report;
use serin_tests::wait::until;
use serin_tests::{Serin, place};

use crate::power::Disk;

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_full_disk_refuses_clearly_and_recovers() -> Result<()> {
    let disk = match Disk::new("ext4", &["mkfs.ext4", "-q", "-F"], "96M") {
        Ok(disk) => disk,
        Err(error) => {
            report(
                "disk full",
                &format!("not possible on this machine: {error:#}"),
                "a clear error",
            );
            return Ok(());
        }
    };
    let mut serin = Serin::start_in(&disk.mount.join("shop")).await?;
    let mut accepted = post(&serin, 100).await?;
    // Something else fills the disk to the last block.
    let ballast = disk.mount.join("ballast");
    let mut command = Command::new("dd");
    command
        .arg("if=/dev/zero")
        .arg(format!("of={}", ballast.display()))
        .arg("bs=1M");
    let output = command.output()?;
    ensure!(!output.status.success(), "the disk did not become full");
    let mut refusal = None;
    for _ in 0..200 {
        let (status, answer) = post_one(&serin, "full.disk", accepted).await?;
        match status {
            200 => accepted += 1,
            _ => {
                refusal = Some((status, answer.to_string()));
                break;
            }
        }
    }
    if let Some((status, answer)) = &refusal {
        assert_eq!(*status, 503, "a full disk answered {answer}");
    }
    fs::remove_file(&ballast)?;
    if serin.ended()?.is_some() {
        serin.kill()?;
        serin
            .start_again()
            .await
            .context("it starts again when there is room")?;
    }
    until(
        "events are taken again when there is room",
        DEADLINE,
        async || {
            let (status, _) = post_one(&serin, "full.disk", accepted).await?;
            Ok((status == 200).then_some(()))
        },
    )
    .await?;
    accepted += 1;
    seen(&serin, accepted).await?;
    serin.run(&["flush"]).await?;
    seen(&serin, accepted).await?;
    serin.stop().await
}

#[tokio::test]
async fn a_read_only_folder_is_told_at_the_start() -> Result<()> {
    let disk = match Disk::new("ext4", &["mkfs.ext4", "-q", "-F"], "64M") {
        Ok(disk) => disk,
        Err(error) => {
            let said = format!("not possible on this machine: {error:#}");
            report("read-only data folder", &said, "a clear error");
            return Ok(());
        }
    };
    fs::create_dir(disk.mount.join("shop"))?;
    let status = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&disk.mount)
        .status()?;
    ensure!(status.success(), "cannot mount read-only");
    let output = Command::new(place::serin()?)
        .args(["up", "--listen", "127.0.0.1:0", "--gateway", "127.0.0.1:0"])
        .arg(disk.mount.join("shop"))
        .current_dir("/")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{said} {:?}",
        output.status.signal()
    );
    assert!(said.contains(".serin"), "it names the folder: {said}");
    Ok(())
}

#[tokio::test]
async fn a_flipped_bit_in_a_file_is_never_served_as_data() -> Result<()> {
    let mut serin = Serin::start().await?;
    post(&serin, 2_000).await?;
    seen(&serin, 2_000).await?;
    serin.run(&["flush"]).await?;
    let sql = "SELECT count(*), sum(n), min(text), max(text) FROM \"full.disk\"";
    let right = serin.sql(sql).await?;
    let dir = serin.dir().to_owned();
    serin.stop().await?;
    let file = largest_parquet(&dir)?;
    let length = file.metadata()?.len();
    // One bit in the middle of the data, and later one near the end, in the footer.
    for at in [length / 3, length - 40] {
        flip(&file, at)?;
        serin.start_again().await?;
        match serin.sql(sql).await {
            // A bit that nothing reads, such as padding, changes nothing.
            Ok(rows) => assert_eq!(rows, right, "wrong rows served from a damaged file"),
            Err(error) => println!("as it should be: {error:#}"),
        }
        quick_event(&serin).await?;
        serin.stop().await?;
        flip(&file, at)?;
    }
    serin.start_again().await?;
    assert_eq!(
        serin.sql(sql).await?,
        right,
        "the mended file is read again"
    );
    Ok(())
}

fn flip(file: &File, at: u64) -> Result<()> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x10], at)?;
    Ok(())
}

fn largest_parquet(dir: &Path) -> Result<File> {
    let mut folders = vec![dir.join(".serin")];
    let mut largest: Option<(u64, PathBuf)> = None;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let length = path.metadata()?.len();
            let is_parquet = path.extension().is_some_and(|end| end == "parquet");
            let is_table = path.to_string_lossy().contains("full.disk");
            if path.is_dir() {
                folders.push(path);
            } else if is_parquet && is_table && largest.as_ref().is_none_or(|(l, _)| length > *l) {
                largest = Some((length, path));
            }
        }
    }
    let (_, path) = largest.context("a flush leaves a Parquet file of the table")?;
    Ok(File::options().read(true).write(true).open(path)?)
}

async fn post(serin: &Serin, count: u64) -> Result<u64> {
    let mut lines = String::new();
    for n in 0..count {
        lines.push_str(&event("full.disk", n));
        lines.push('\n');
    }
    let (status, answer) = serin.post(lines).await?;
    ensure!(status == 200, "answered {status}: {answer}");
    Ok(count)
}

async fn post_one(serin: &Serin, kind: &str, n: u64) -> Result<(u16, serde_json::Value)> {
    serin.post(event(kind, n)).await
}

async fn quick_event(serin: &Serin) -> Result<()> {
    let (status, answer) = post_one(serin, "other.type", 1).await?;
    ensure!(status == 200, "answered {status}: {answer}");
    Ok(())
}

/// An event of about 4 KB, so that a small disk fills.
fn event(kind: &str, n: u64) -> String {
    let text = format!("{n:08}").repeat(500);
    json!({"type": kind, "source": "/suite", "id": format!("f-{kind}-{n}"), "data": {"n": n, "text": text}})
        .to_string()
}

async fn seen(serin: &Serin, count: u64) -> Result<()> {
    until("what was accepted is visible", DEADLINE, async || {
        let rows = serin
            .sql_number("SELECT count(DISTINCT id) FROM \"full.disk\"")
            .await?;
        Ok((rows == count as i64).then_some(()))
    })
    .await
}
