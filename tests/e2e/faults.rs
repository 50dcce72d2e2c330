//! Disks that are full, read-only or lie, and clocks that jump: a clear error, nothing acknowledged
//! lost or doubled (recounted by DuckDB), and recovery when the cause is gone.
//!
//! What a machine does not allow is skipped and said so. Flipped bits are in `bits`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use serin_tests::beside::Beside;
use serin_tests::process::{self, Signal};
use serin_tests::report::skip;
use serin_tests::wait::until;
use serin_tests::{Serin, place};

use crate::power::Disk;
use crate::writers::recount_of;

const DEADLINE: Duration = Duration::from_secs(60);
/// A bus that gave its disk up notices only at its next look that there is room.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(120);
const EXT4: [&str; 3] = ["mkfs.ext4", "-q", "-F"];
/// The type of the events that are counted here.
const TYPE: &str = "fault.test";
/// More than fits the slack that files of a full disk have.
const POSTS_MAX: u64 = 20_000;

/// Posts events one by one, and remembers which were acknowledged.
#[derive(Default)]
struct Poster {
    next: u64,
    acknowledged: BTreeSet<String>,
    /// What a sender with a clock of its own says; without it, the server's clock counts.
    time: Option<&'static str>,
}

impl Poster {
    /// One event of about 4 KB, so that a small disk fills; the server's answer.
    async fn post(&mut self, serin: &Serin) -> Result<(u16, Value)> {
        let key = format!("f-{}", self.next);
        let text = format!("{:08}", self.next).repeat(500);
        let mut event = json!({"type": TYPE, "source": "/suite", "id": key, "data": {"key": key, "text": text}});
        if let Some(time) = self.time {
            event["time"] = json!(time);
        }
        let (status, answer) = serin.post(event.to_string()).await?;
        if status == 200 {
            self.acknowledged.insert(key);
            self.next += 1;
        }
        Ok((status, answer))
    }

    async fn post_all(&mut self, serin: &Serin, count: u64) -> Result<()> {
        for _ in 0..count {
            let (status, answer) = self.post(serin).await?;
            ensure!(status == 200, "answered {status}: {answer}");
        }
        Ok(())
    }

    /// Posts until one is refused, or the server has ended.
    async fn until_refused(&mut self, serin: &mut Serin) -> Result<(u16, Value)> {
        for _ in 0..POSTS_MAX {
            match self.post(serin).await {
                Ok((200, _)) => {}
                Ok(refused) => return Ok(refused),
                Err(error) => {
                    ended(serin).await.context(error)?;
                    return Ok((0, Value::from(serin.said())));
                }
            }
        }
        bail!("{POSTS_MAX} events were taken")
    }

    /// Events are taken again, and everything acknowledged is there once.
    async fn recovered(&mut self, serin: &Serin) -> Result<()> {
        let cause_gone = Instant::now();
        until("events are taken again", RECOVERY_DEADLINE, async || {
            let (status, answer) = self.post(serin).await?;
            ensure!(status == 200, "answered {status}: {answer}");
            Ok(Some(()))
        })
        .await?;
        println!(
            "taken again after {:.1} s",
            cause_gone.elapsed().as_secs_f64()
        );
        recount_of(serin, &[TYPE], &self.acknowledged).await
    }
}

/// Whether an answer has one of these words.
fn says_one_of(answer: &Value, words: &[&str]) -> bool {
    let said = answer.to_string();
    words.iter().any(|word| said.contains(word))
}

async fn ended(serin: &mut Serin) -> Result<std::process::ExitStatus> {
    until("serin up ends", DEADLINE, async || serin.ended()).await
}

#[tokio::test]
async fn a_full_disk_refuses_clearly_and_recovers() -> Result<()> {
    let disk = match Disk::new("ext4", &EXT4, "96M") {
        Ok(disk) => disk,
        Err(why) => return skip("a full disk", &why),
    };
    let mut serin = Serin::start_in(&disk.mount.join("shop")).await?;
    let mut poster = Poster::default();
    poster.post_all(&serin, 100).await?;
    // Something else fills the disk to the last block.
    let ballast = disk.mount.join("ballast");
    let filled = Command::new("dd")
        .args(["if=/dev/zero", "bs=64K"])
        .arg(format!("of={}", ballast.display()))
        .output()?;
    ensure!(!filled.status.success(), "the disk did not become full");
    let (status, answer) = poster.until_refused(&mut serin).await?;
    ensure!(
        match status {
            0 => says_one_of(&answer, &["No space", "no space", "full"]),
            _ =>
                status == 503
                    && says_one_of(&answer, &["takes no events", "is full", "disk is full"]),
        },
        "a full disk answered {status}: {answer}"
    );
    if serin.ended()?.is_none() {
        opening_says_why(&serin).await?;
    }
    fs::remove_file(&ballast)?;
    if serin.ended()?.is_some() {
        serin.kill()?;
        serin.start_again().await.context("there is room again")?;
    }
    poster.recovered(&serin).await?;
    serin.stop().await
}

/// `serin open` says that there is no room, at once or while it waits.
async fn opening_says_why(serin: &Serin) -> Result<()> {
    let elsewhere = tempfile::tempdir()?;
    let file = elsewhere.path().join("small.csv");
    fs::write(&file, "name,n\na,1\n")?;
    let file = file.to_string_lossy();
    let reasons = [
        "No space left",
        "takes no events",
        "does not answer",
        "is full",
    ];
    let mut opening = Beside::remarks_of(serin.command(&["open", &file, "--no-browser"])?)?;
    let told = opening.says(&reasons, DEADLINE).await;
    println!(
        "serin open on a full disk: {}",
        told.context("it says no reason")?
    );
    Ok(())
}

#[tokio::test]
async fn a_read_only_folder_is_told_at_the_start() -> Result<()> {
    let disk = match Disk::new("ext4", &EXT4, "64M") {
        Ok(disk) => disk,
        Err(why) => return skip("a read-only folder", &why),
    };
    fs::create_dir(disk.mount.join("shop"))?;
    turn_read_only(&disk)?;
    is_told_at_the_start(&disk.mount.join("shop"))?;
    // The same where an earlier run has been there.
    disk.mount_again().await?;
    fs::create_dir_all(disk.mount.join("shop/.serin/tmp"))?;
    turn_read_only(&disk)?;
    is_told_at_the_start(&disk.mount.join("shop"))
}

fn turn_read_only(disk: &Disk) -> Result<()> {
    let mut remount = Command::new("mount");
    let status = remount
        .args(["-o", "remount,ro"])
        .arg(&disk.mount)
        .status()?;
    ensure!(status.success(), "cannot mount read-only");
    Ok(())
}

/// What failed, where, why, and what to do.
fn is_told_at_the_start(folder: &Path) -> Result<()> {
    let output = Command::new(place::serin()?)
        .args(["up", "--listen", "127.0.0.1:0"])
        .arg(folder)
        .current_dir("/")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{said} {:?}",
        output.status.signal()
    );
    let told = format!(
        "error: cannot write in {}/.serin, where Serin keeps everything; make room and let the \
         user who runs Serin write there, or name another folder (`serin up DIR`): Read-only file \
         system (os error 30)\n",
        folder.display()
    );
    assert_eq!(said, told);
    Ok(())
}

/// A file system that met an error makes itself read-only under everybody's feet.
#[tokio::test]
async fn a_disk_that_becomes_read_only_under_load_loses_nothing() -> Result<()> {
    let disk = match Disk::new("ext4", &EXT4, "96M") {
        Ok(disk) => disk,
        Err(why) => return skip("a disk that becomes read-only", &why),
    };
    let mut serin = Serin::start_in(&disk.mount.join("shop")).await?;
    let mut poster = Poster::default();
    poster.post_all(&serin, 100).await?;
    let bus = serin.bus_pid()?;
    if let Err(why) = disk.turn_read_only() {
        return skip("a disk that becomes read-only", &why);
    }
    let (status, answer) = poster.until_refused(&mut serin).await?;
    ensure!(
        matches!(status, 0 | 503),
        "a read-only disk answered {status}: {answer}"
    );
    serin.kill()?;
    process::kill(bus)?;
    disk.mount_again().await?;
    serin.start_again().await.context("the disk is writable")?;
    poster.recovered(&serin).await?;
    serin.stop().await
}

/// `strace` at a process, which makes its syncs fail.
struct FailingSync(Child);

impl FailingSync {
    async fn at(pid: u32) -> Result<FailingSync> {
        let calls = "fsync,fdatasync,sync_file_range,msync";
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()])
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:error=EIO")])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("no strace on PATH (apt install strace)")?;
        let mut strace = FailingSync(child);
        until("strace holds every thread", DEADLINE, async || {
            if let Some(status) = strace.0.try_wait()? {
                bail!("strace ended with {status}: this machine lets nobody be traced");
            }
            for thread in process::threads(pid)? {
                let status = fs::read_to_string(thread.join("status"))?;
                if status.contains("TracerPid:\t0\n") {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await?;
        Ok(strace)
    }
}

impl Drop for FailingSync {
    fn drop(&mut self) {
        // It lets its processes go on when it ends.
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            println!("strace stays: {error}");
        }
    }
}

#[tokio::test]
async fn a_failing_fsync_ends_serin_and_loses_nothing() -> Result<()> {
    let mut serin = Serin::start().await?;
    let mut poster = Poster::default();
    poster.post_all(&serin, 50).await?;
    let pid = serin.pid().context("serin runs")?;
    let failing = match FailingSync::at(pid).await {
        Ok(failing) => failing,
        Err(why) => return skip("a failing fsync of Serin", &why),
    };
    let flushed = serin.output(&["flush"]).await?;
    ensure!(!flushed.status.success(), "a flush without fsync succeeded");
    let status = ended(&mut serin).await?;
    drop(failing);
    assert_eq!(status.code(), Some(1), "{}", serin.said());
    assert!(
        serin.said().contains("is safe on the bus"),
        "{}",
        serin.said()
    );
    serin.start_again().await.context("fsync works again")?;
    poster.recovered(&serin).await?;
    serin.stop().await
}

/// Shows that a bus whose syncs fail, and which is then killed, keeps what it acknowledged and is
/// found again. It does not show what a loss of power would take: the pages survive a kill, and
/// nats-server may acknowledge although its sync failed. `power` cuts the disk itself.
#[tokio::test]
async fn a_failing_fsync_of_the_bus_loses_nothing_acknowledged() -> Result<()> {
    let mut serin = Serin::start().await?;
    let mut poster = Poster::default();
    poster.post_all(&serin, 50).await?;
    let bus = serin.bus_pid()?;
    let failing = match FailingSync::at(bus).await {
        Ok(failing) => failing,
        Err(why) => return skip("a failing fsync of the bus", &why),
    };
    for _ in 0..20 {
        let (status, answer) = poster.post(&serin).await?;
        ensure!(
            matches!(status, 200 | 503),
            "a bus that cannot sync answered {status}: {answer}"
        );
    }
    process::kill(bus)?;
    drop(failing);
    poster.recovered(&serin).await?;
    serin.stop().await
}

/// The library that gives a process another clock.
fn faketime() -> Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib")?
        .flatten()
        .map(|entry| entry.path());
    let candidates = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    candidates
        .into_iter()
        .find(|library| library.is_file())
        .context("no libfaketime (apt install faketime)")
}

/// Writes what the clock is off, in one step.
fn turn(clock: &Path, offset: &str) -> Result<()> {
    let aside = clock.with_extension("new");
    fs::write(&aside, format!("{offset}\n"))?;
    Ok(fs::rename(&aside, clock)?)
}

#[tokio::test]
async fn a_clock_that_jumps_loses_and_doubles_nothing() -> Result<()> {
    let library = match faketime() {
        Ok(library) => library,
        Err(why) => return skip("a clock that jumps", &why),
    };
    let folder = tempfile::Builder::new().prefix("serin-clock-").tempdir()?;
    let clock = folder.path().join("clock");
    turn(&clock, "+0")?;
    let mut serin = Serin::prepared(&folder.path().join("shop"))?;
    serin.set("LD_PRELOAD", &library.to_string_lossy());
    serin.set("FAKETIME_TIMESTAMP_FILE", &clock.to_string_lossy());
    serin.set("FAKETIME_NO_CACHE", "1");
    serin.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    serin.start_again().await?;
    let mut poster = Poster::default();
    // The bus's clock stays right. While we are ahead the sender says its time; an event that says
    // none gets ours, and is stored since the door said so.
    for (offset, time) in [
        ("+0", None),
        ("+40d", Some("2026-01-01T00:00:00Z")),
        ("-3d", None),
        ("+0", None),
    ] {
        turn(&clock, offset)?;
        poster.time = time;
        poster.post_all(&serin, 20).await?;
        if time.is_some() {
            let ahead = json!({"type": "ahead.test", "source": "/suite", "data": {}});
            serin.give(ahead.to_string()).await?;
        }
        serin.run(&["flush"]).await?;
        recount_of(&serin, &[TYPE], &poster.acknowledged).await?;
    }
    let ahead = "SELECT count(*) FROM \"ahead.test\" WHERE time > now() + INTERVAL '30 days'";
    assert_eq!(serin.sql_number(ahead).await?, 1, "the clock did not jump");
    turn(&clock, "+400d")?;
    serin.kill()?;
    serin
        .start_again()
        .await
        .context("with a clock far ahead")?;
    turn(&clock, "+0")?;
    poster.recovered(&serin).await?;
    serin.stop().await
}

/// Who runs it restarts a bus that hangs after a while; until then everybody is told.
#[tokio::test]
async fn a_bus_that_does_not_answer_is_told_wherever_one_looks() -> Result<()> {
    let serin = Serin::start().await?;
    let bus = serin.bus_pid()?;
    let ready = async || -> Result<(u16, String)> {
        let answer = reqwest::get(format!("{}/readyz", serin.url())).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    };
    process::send(bus, Signal::STOP)?;
    let report = serin.output(&["doctor"]).await?;
    let told = until(
        "it is said to be away",
        Duration::from_secs(30),
        async || {
            let (status, text) = ready().await?;
            Ok((status == 503).then_some(text))
        },
    );
    let told = told.await;
    // Whatever was found, nobody waits for a stopped process.
    process::send(bus, Signal::CONT)?;
    let told = told?;
    ensure!(told.contains("the bus does not answer"), "{told}");
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    ensure!(report.contains("does not answer within 3 s"), "{report}");
    until("it is back", Duration::from_secs(30), async || {
        Ok((ready().await?.0 == 200).then_some(()))
    })
    .await
}
