//! The build of a version: a command run once in its copy, for no longer than it may take.
//!
//! It has a process group of its own that ends with it, whatever it started. What it writes is read
//! and its last lines are kept, without its secrets. By a variable `serin down` knows one that a killed
//! Serin left. Start at [`run`].

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::folder;
use crate::service::Service;
use crate::shim::{Mask, OF, Tail, read_tail};

/// How long the last lines of a build that has ended may take.
const READ_WITHIN: Duration = Duration::from_millis(200);

/// Why a build made nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// How it ended.
    pub(super) why: String,
    /// The last lines it wrote.
    pub(super) lines: Vec<String>,
}

/// Ends the processes of a build, also when nobody waits for it any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0
            && let Err(error) = kill_process_group(group, Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, ?group, "cannot end a build");
        }
    }
}

/// Builds what is in a folder, where the service says how.
pub(super) async fn run(
    service: &Service,
    env: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<(), Fault> {
    let Some((program, arguments)) = service.build.as_ref().and_then(|build| build.split_first())
    else {
        return Ok(());
    };
    let failed = |error: io::Error| Fault {
        why: format!("{program}: {error}"),
        lines: Vec::new(),
    };
    let secrets = folder::env_file(folder);
    let mask = Mask::of(secrets.iter().map(|(_, value)| value.as_str()));
    let mask = mask.map_err(|error| failed(io::Error::other(error)))?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .envs(env)
        .envs(&service.env)
        .envs(secrets)
        .env(OF, folder)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let group = Group(pid.and_then(Pid::from_raw));
    let tail = Tail::default();
    let mut reading = read(&mut child, &tail, &Arc::new(mask));
    let within = Duration::from_millis(service.build_within_ms);
    let ended = tokio::time::timeout(within, child.wait()).await;
    // Also children that did not go with their parent: they hold the pipes.
    drop(group);
    let all_read = async { while reading.join_next().await.is_some() {} };
    if tokio::time::timeout(READ_WITHIN, all_read).await.is_err() {
        tracing::debug!("a process that left its build's group holds its output");
    }
    let why = match ended {
        Ok(Ok(status)) if status.success() => return Ok(()),
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(error)) => return Err(failed(error)),
        Err(_) => format!(
            "it was ended after {} s; write a longer build_within: if it needs more",
            within.as_secs_f64()
        ),
    };
    Err(Fault {
        why,
        lines: tail.lines(),
    })
}

fn read(child: &mut Child, tail: &Tail, mask: &Arc<Mask>) -> JoinSet<()> {
    let mut reading = JoinSet::new();
    if let Some(out) = child.stdout.take() {
        reading.spawn(read_tail(out, tail.clone(), Arc::clone(mask)));
    }
    if let Some(err) = child.stderr.take() {
        reading.spawn(read_tail(err, tail.clone(), Arc::clone(mask)));
    }
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn built(folder: &Path, yaml: &str) -> Result<(), Fault> {
        let service = crate::service::read("service.yaml", "x", yaml).expect("a service");
        run(&service, &BTreeMap::new(), folder).await
    }

    #[tokio::test]
    async fn a_build_that_hangs_is_ended_with_all_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let yaml = "run: x\nbuild_within: 3s\n\
                    build: sh -c 'echo begun; sleep 1000 & echo $! > child; wait'\n";
        let fault = built(folder.path(), yaml).await.expect_err("it hangs");
        assert_eq!(
            fault.why,
            "it was ended after 3 s; write a longer build_within: if it needs more"
        );
        assert_eq!(fault.lines, ["begun"]);
        let child = std::fs::read_to_string(folder.path().join("child")).expect("its child");
        // A signal is sent before it has ended anybody.
        let ends = async {
            while is_alive(child.trim()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(10), ends).await;
        assert!(ended.is_ok(), "{child} is left");
    }

    /// Neither gone, nor dead and not yet buried by whoever adopted it.
    fn is_alive(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn a_build_shows_none_of_its_secrets() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(".env"), "KEY=hunter22\n").expect("written");
        let yaml = "run: x\nbuild: sh -c 'echo $KEY; exit 3'\n";
        let fault = built(folder.path(), yaml).await.expect_err("it fails");
        assert_eq!(fault.lines, ["***"]);
    }

    #[tokio::test]
    async fn the_last_lines_of_a_build_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let yaml = "run: x\nbuild: sh -c 'seq 1 100000; exit 3'\n";
        let fault = built(folder.path(), yaml).await.expect_err("it fails");
        assert_eq!(fault.why, "exit status: 3");
        assert_eq!(fault.lines.last().map(String::as_str), Some("100000"));
        assert!(fault.lines.len() <= 50, "{}", fault.lines.len());
        assert_eq!(
            built(folder.path(), "run: x\nbuild: 'true'\n").await,
            Ok(())
        );
        let absent = built(folder.path(), "run: x\nbuild: ./absent\n").await;
        let why = absent.expect_err("no program").why;
        assert!(why.starts_with("./absent: No such file"), "{why}");
    }
}
