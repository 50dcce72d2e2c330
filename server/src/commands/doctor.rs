//! `serin doctor`: looks at all that can be looked at in a folder, and says what to do.
//!
//! Works beside a running server and on a folder where none runs. Each check gives one line or
//! more; `bad` ones make the command fail. Nothing is mended and nothing is written here. The lake's
//! invariants (docs/decisions/002) are looked at in `lake`. Start at [`run`].

mod bus;
mod dropped;
mod gateway;
mod lake;
mod ports;
mod services;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;
use serin_control::confine::Ground;

use self::bus::bus;
use self::dropped::dropped;
use self::gateway::gateway;
use self::lake::lake;
use self::ports::ports;
use self::services::services;
use super::{check, print, remark};
use crate::cli::{Doctor, Global};
use crate::client::Client;
use crate::edge;
use crate::run_file::{RunFile, RunLock, data_dir};
use crate::settings::Settings;

/// Less free disk than this will soon be no room for a flush and the bus's stream.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// With less than this nothing more is acknowledged, or will not be in a moment.
const FULL_BYTES: u64 = 64 << 20;
/// Sealed times come each second; this much behind, somebody does not beat or nothing is read.
const WATERMARK_AGE_S_MAX: i64 = 30;
/// How far a file's time may lie ahead of the clock, which is read in coarse steps.
const AHEAD_S_MAX: i64 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Bad,
}

/// What one check found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    found: String,
    /// Empty where nothing needs to be done.
    todo: String,
}

#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.push(check, State::Ok, found.into(), String::new());
    }

    fn warn(&mut self, check: &'static str, found: impl Into<String>, todo: &str) {
        self.push(check, State::Warn, found.into(), todo.to_owned());
    }

    fn bad(&mut self, check: &'static str, found: impl Into<String>, todo: &str) {
        self.push(check, State::Bad, found.into(), todo.to_owned());
    }

    fn push(&mut self, check: &'static str, state: State, found: String, todo: String) {
        self.findings.push(Finding {
            check,
            state,
            found,
            todo,
        });
    }

    fn count(&self, state: State) -> usize {
        let same = self
            .findings
            .iter()
            .filter(|finding| finding.state == state);
        same.count()
    }
}

pub(crate) async fn run(global: &Global, doctor: &Doctor) -> Result<ExitCode> {
    let dir = std::path::absolute(&doctor.dir).context("cannot tell where we are")?;
    // As `serin up` names it, and the processes of its folder are known.
    let dir = dir.canonicalize().unwrap_or(dir);
    let dir = RunFile::find(&dir)?.map_or(dir, |(found, _)| found);
    let data = data_dir(&dir);
    if !data.is_dir() {
        bail!(
            "{} has no .serin folder, so nothing was ever started in it; `serin up {}` does",
            dir.display(),
            dir.display()
        );
    }
    let mut report = Report::default();
    permissions(&data, &mut report);
    disk(&data, &mut report);
    limits(&mut report);
    clock(&data, &mut report);
    files_people_write(&dir, &mut report);
    let is_running = server(global, &dir, &mut report).await?;
    let run = RunFile::read(&dir)?.filter(|_| is_running);
    bus(&data, run.as_ref(), &mut report).await;
    lake(data.join("lake"), is_running, &mut report).await?;
    tell(global, &dir, &report)?;
    Ok(match report.count(State::Bad) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

fn tell(global: &Global, dir: &Path, report: &Report) -> Result<()> {
    if global.json {
        print(&serde_json::to_string(&report.findings)?);
        return Ok(());
    }
    for finding in &report.findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Bad => "BAD",
        };
        print(&format!(
            "{state:<5} {:<10} {}",
            finding.check, finding.found
        ));
        if !finding.todo.is_empty() {
            print(&format!("{:<16} → {}", "", finding.todo));
        }
    }
    let (bad, warn) = (report.count(State::Bad), report.count(State::Warn));
    remark(&format!("{}: {bad} bad, {warn} to look at", dir.display()));
    Ok(())
}

/// `.serin` and what is secret in it are the owner's alone, and the owner is us.
fn permissions(data: &Path, report: &mut Report) {
    let secrets = ["", "run.json", "sessions.json", "bus/nats.conf"].map(|name| match name {
        "" => data.to_path_buf(),
        name => data.join(name),
    });
    let us = rustix::process::getuid().as_raw();
    let mut are_right = true;
    for path in secrets {
        let Ok(found) = path.metadata() else {
            continue;
        };
        if found.mode() & 0o077 != 0 {
            are_right = false;
            let open = format!(
                "{} can be read by others (mode {:o})",
                path.display(),
                found.mode() & 0o777
            );
            report.bad("rights", open, &format!("chmod go-rwx {}", path.display()));
        }
        if found.uid() != us && us != 0 {
            are_right = false;
            let other = format!(
                "{} belongs to user {}, we are {us}",
                path.display(),
                found.uid()
            );
            report.bad("rights", other, "run serin as the user who owns the folder");
        }
    }
    if are_right {
        report.ok("rights", ".serin is for its owner alone");
    }
}

fn disk(data: &Path, report: &mut Report) {
    let found = match rustix::fs::statvfs(data) {
        Ok(found) => found,
        Err(error) => {
            report.bad("disk", format!("cannot look at the disk: {error}"), "");
            return;
        }
    };
    if is_read_only(data) {
        let todo = "mount it for writing, then `serin up` again; what was acknowledged is kept";
        report.bad("disk", "the file system is read-only", todo);
    }
    let free = found.f_bavail * found.f_frsize;
    let share = found.f_bavail as f64 / found.f_blocks.max(1) as f64;
    let told = format!("{:.1} GiB free ({:.0} %)", gib(free), share * 100.0);
    let todo = "free some space, or keep less: `lake.raw_days`, `lake.mib_max` in serin.yaml";
    match free {
        0..FULL_BYTES => report.bad(
            "disk",
            format!("{told}: events are acknowledged again once there is room"),
            todo,
        ),
        FULL_BYTES..FREE_BYTES_MIN => report.warn("disk", told, todo),
        _ => report.ok("disk", told),
    }
    if found.f_files > 0 && found.f_favail < 10_000 {
        let told = format!("only {} more files can be made", found.f_favail);
        report.warn("disk", told, "remove small files from this file system");
    }
}

/// Whether the file system of a folder is mounted for reading alone.
fn is_read_only(folder: &Path) -> bool {
    let found = rustix::fs::statvfs(folder);
    found.is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// By what services are held to the limits they ask for.
fn limits(report: &mut Report) {
    match Ground::find().describe() {
        Ok(how) => report.ok("limits", how),
        Err(why) => report.warn(
            "limits",
            why,
            "it matters to services with `limits:` alone; `serin install` makes a unit with a cgroup of its own",
        ),
    }
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// A file written after now: the clock was set back.
fn clock(data: &Path, report: &mut Report) {
    let now_s = edge::now_us() / 1_000_000;
    let files = [
        "lake/catalogue.sqlite",
        "lake/catalogue.sqlite-wal",
        "run.json",
    ];
    let written = files
        .iter()
        .filter_map(|name| data.join(name).metadata().ok());
    let newest_s = written.map(|found| found.mtime()).max().unwrap_or(now_s);
    match newest_s - now_s {
        ahead if ahead > AHEAD_S_MAX => report.warn(
            "clock",
            format!("the clock is {ahead} s behind what was written last: it was set back"),
            "set the clock (NTP); until it has caught up, events are stamped with times that were there before",
        ),
        _ => report.ok("clock", serin_wire::time::to_rfc3339(now_s * 1_000_000)),
    }
}

fn files_people_write(dir: &Path, report: &mut Report) {
    let checked = check::with_the_rest(serin_dashboards::check(dir), dir);
    match checked.problems.iter().filter(|p| !p.is_warning).count() {
        0 => report.ok("YAML", format!("{} files are right", checked.files)),
        count => report.bad(
            "YAML",
            format!("{count} faults"),
            "`serin check` names each with its line",
        ),
    }
}

/// Whether a server has the folder, and what it says of itself.
async fn server(global: &Global, dir: &Path, report: &mut Report) -> Result<bool> {
    let run = RunFile::read(dir)?;
    let held = match RunLock::try_take(dir) {
        Ok(lock) => lock.err(),
        Err(error) => {
            report.bad(
                "server",
                format!("{error:#}"),
                "see the rights and the disk above",
            );
            return Ok(false);
        }
    };
    match (held, run) {
        (Some(pid), Some(run)) => {
            let client = Client::of(&run, global, dir)?;
            let status: Result<Value> = client.get("/api/v1/status", &[]).await;
            match status {
                Ok(status) => {
                    report.ok("server", format!("process {pid} answers at {}", run.http));
                    said_by_the_server(&status, report);
                    services(&client, report).await;
                    dropped(&client, report).await;
                    gateway(&run, Some(&status), report).await;
                }
                Err(error) => report.bad(
                    "server",
                    format!("process {pid} runs, but: {error:#}"),
                    "look at what it printed; `serin down` and `serin up` start it anew",
                ),
            }
            Ok(true)
        }
        (Some(pid), None) => {
            let told = format!("process {pid} is starting or stopping");
            report.warn("server", told, "wait a moment and ask again");
            Ok(true)
        }
        (None, Some(run)) => {
            let told = format!("process {} was killed and left its run file", run.pid);
            report.warn(
                "server",
                told,
                "`serin up` goes on where it stopped; nothing acknowledged is lost",
            );
            gateway(&run, None, report).await;
            Ok(false)
        }
        (None, None) => {
            report.ok("server", "none runs here");
            // Where serin.yaml cannot be read that is told above.
            if let Ok(settings) = Settings::load(dir) {
                ports(settings.otlp, report);
            }
            Ok(false)
        }
    }
}

fn said_by_the_server(status: &Value, report: &mut Report) {
    let watermark = status["watermark"].as_str();
    let watermark_us = watermark.and_then(serin_wire::time::parse_rfc3339);
    let age_s = watermark_us.map(|at_us| (edge::now_us() - at_us) / 1_000_000);
    match age_s {
        None => report.ok("watermark", "nobody has sealed any time yet"),
        Some(age_s) if age_s > WATERMARK_AGE_S_MAX => report.warn(
            "watermark",
            format!("data are complete up to {age_s} s ago only"),
            "a service beats but does not seal, or the ingester is behind (see lag in `serin status`)",
        ),
        Some(age_s) if age_s < -AHEAD_S_MAX => report.warn(
            "watermark",
            format!("data are complete up to {} s in the future", -age_s),
            "the clock was ahead when that was sealed; until it is reached, what comes counts as late; further \
             than a minute ahead it is forgotten by itself",
        ),
        Some(age_s) => report.ok("watermark", format!("data are complete up to {age_s} s ago")),
    }
    match status["refused"].as_u64() {
        None | Some(0) => report.ok("refused", "no event was refused since the start"),
        Some(count) => report.warn(
            "refused",
            format!("{count} events were refused since the start"),
            "serin query 'SELECT reason, count(*) FROM refused GROUP BY 1' says why",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_folder_open_to_others_is_bad_and_a_clock_set_back_is_told() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join(".serin");
        fs::create_dir_all(data.join("lake")).expect("made");
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("set");
        let ahead = std::time::SystemTime::UNIX_EPOCH
            + Duration::from_micros((edge::now_us() + 3_600_000_000) as u64);
        let catalogue = fs::File::create(data.join("lake/catalogue.sqlite")).expect("made");
        catalogue.set_modified(ahead).expect("set");
        let mut report = Report::default();
        permissions(&data, &mut report);
        clock(&data, &mut report);
        let states: Vec<State> = report.findings.iter().map(|f| f.state).collect();
        assert_eq!(states, [State::Bad, State::Warn]);
        assert!(report.findings[1].found.contains("set back"));
    }
}
