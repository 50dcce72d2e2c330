//! Processes of a folder that nobody else ends: those which a Serin or a shim was just starting when it
//! was killed, so that no socket and no file knows of them yet.
//!
//! They are known by what they were started with: our own programs by a path of the folder among their
//! arguments, instances by `SERIN_DATA`, builds and workers of queries by `SERIN_OF`. One that somebody
//! started by hand is theirs and stays. Start at [`sweep`].

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::process::{Process, all_processes};
use rustix::process::getpid;
use thiserror::Error;

use super::strays::{DATA, is_alive, kill_until_gone};

/// The kernel may take its time with killed processes, and each may have started another meanwhile.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Commands of ours that run beside a Serin, each with a path of its folder as an argument.
const OURS: [&str; 2] = ["shim", "gateway"];
/// Marks what must not outlive its Serin: a path in the folder of that.
pub const OF: &str = "SERIN_OF";
const VERSION: &str = "SERIN_VERSION";
/// The version of instances that somebody started by hand.
pub(crate) const BY_HAND: &str = "dev";

/// The folders that tell whose a process is.
#[derive(Debug, Clone)]
pub struct Folders {
    /// Where sockets are.
    pub run: PathBuf,
    /// `DIR/.serin`, with all else.
    pub data: PathBuf,
}

/// Killed processes that do not go.
#[derive(Debug, Error)]
#[error(
    "processes {0:?} of this folder were killed and do not end; a disk that does not answer may hold them"
)]
pub struct Undying(Vec<i32>);

/// Kills what is left of a folder until nothing is; whether there was anything. Nobody else may start
/// anything in it meanwhile.
pub async fn sweep(folders: &Folders) -> Result<bool, Undying> {
    kill(|process| is_of(process, folders)).await
}

/// Kills the program of ours that is to open a socket and has not; whether there was one. Nobody else may
/// start one meanwhile.
pub async fn end_unopened(socket: &Path) -> Result<bool, Undying> {
    let is_it = |arguments: Vec<String>| is_our_program(&arguments, |path| path == socket);
    kill(|process| process.cmdline().is_ok_and(is_it)).await
}

async fn kill(is_of_it: impl Fn(&Process) -> bool) -> Result<bool, Undying> {
    let own = getpid().as_raw_nonzero().get();
    let left = || -> BTreeSet<i32> {
        let processes = all_processes().into_iter().flatten().flatten();
        let of_it = processes.filter(|process| process.pid != own && is_of_it(process));
        of_it.filter(is_alive).map(|process| process.pid).collect()
    };
    let killed = kill_until_gone(left, GONE_WITHIN).await;
    killed.map_err(|left| Undying(left.into_iter().collect()))
}

fn is_of(process: &Process, folders: &Folders) -> bool {
    // Others' processes do not tell, and are none of ours.
    process
        .cmdline()
        .is_ok_and(|arguments| is_our_program(&arguments, |path| is_below(path, folders)))
        || process.environ().is_ok_and(|environment| {
            let variable = |name: &str| environment.get(OsStr::new(name)).map(Path::new);
            let is_here = |name| variable(name).is_some_and(|path| path.starts_with(&folders.data));
            is_here(OF) || is_here(DATA) && variable(VERSION) != Some(Path::new(BY_HAND))
        })
}

fn is_below(path: &Path, folders: &Folders) -> bool {
    path.starts_with(&folders.run) || path.starts_with(&folders.data)
}

/// Whether a command line is one of ours, with an argument that is a path of this kind.
fn is_our_program(arguments: &[String], is_here: impl Fn(&Path) -> bool) -> bool {
    let mut words = arguments.iter().skip(1);
    let is_ours = words
        .next()
        .is_some_and(|command| OURS.contains(&&**command));
    is_ours && words.any(|word| is_here(Path::new(word)))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A process that lives until it is killed.
    fn sleeping(variables: &[(&str, &Path)]) -> Child {
        let mut command = Command::new("sleep");
        command.arg("1000").envs(variables.iter().copied());
        command.spawn().expect("started")
    }

    #[tokio::test]
    async fn what_was_started_with_a_path_of_the_folder_goes_and_guests_stay() {
        let dir = tempfile::tempdir().expect("a folder");
        let folders = Folders {
            run: dir.path().join("run"),
            data: dir.path().join("data"),
        };
        let (kept, other) = (
            folders.data.join("kept/cart"),
            dir.path().join("data2/kept"),
        );
        let mut instance = sleeping(&[(DATA, kept.as_path()), (VERSION, Path::new("v1"))]);
        let copy = folders.data.join("versions/cart/x.new");
        let mut build = sleeping(&[(OF, copy.as_path())]);
        let mut guest = sleeping(&[(DATA, kept.as_path()), (VERSION, Path::new(BY_HAND))]);
        let mut stranger = sleeping(&[(DATA, other.as_path()), (VERSION, Path::new("v1"))]);
        assert!(sweep(&folders).await.expect("swept"));
        for ended in [&mut instance, &mut build] {
            ended.wait().expect("it has ended");
        }
        assert!(!sweep(&folders).await.expect("swept"), "nothing is left");
        for living in [&mut guest, &mut stranger] {
            assert_eq!(living.try_wait().expect("asked"), None);
            living.kill().expect("killed");
            living.wait().expect("it has ended");
        }
    }

    #[test]
    fn our_programs_are_known_by_a_path_among_their_arguments() {
        let folders = Folders {
            run: PathBuf::from("/run/x"),
            data: PathBuf::from("/x/.serin"),
        };
        for (line, expected) in [
            ("serin shim --service a --socket /run/x/a.sock", true),
            ("serin gateway --socket /run/x/gateway.control", true),
            ("serin gateway --socket /run/y/gateway.control", false),
            ("serin query /x/.serin", false),
            ("ls shim", false),
        ] {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let is_ours = is_our_program(&arguments, |path| is_below(path, &folders));
            assert_eq!(is_ours, expected, "{line}");
        }
    }
}
