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
    let swept = kill_until_gone(|| left(folders), GONE_WITHIN).await;
    swept.map_err(|left| Undying(left.into_iter().collect()))
}

fn left(folders: &Folders) -> BTreeSet<i32> {
    let own = getpid().as_raw_nonzero().get();
    let processes = all_processes().into_iter().flatten().flatten();
    let of_it = processes.filter(|process| process.pid != own && is_of(process, folders));
    of_it.filter(is_alive).map(|process| process.pid).collect()
}

fn is_of(process: &Process, folders: &Folders) -> bool {
    // Others' processes do not tell, and are none of ours.
    process
        .cmdline()
        .is_ok_and(|arguments| is_our_program(&arguments, folders))
        || process.environ().is_ok_and(|environment| {
            let variable = |name: &str| environment.get(OsStr::new(name)).map(Path::new);
            let is_below =
                |name| variable(name).is_some_and(|path| path.starts_with(&folders.data));
            is_below(OF) || is_below(DATA) && variable(VERSION) != Some(Path::new(BY_HAND))
        })
}

fn is_our_program(arguments: &[String], folders: &Folders) -> bool {
    let mut words = arguments.iter().skip(1);
    let is_ours = words
        .next()
        .is_some_and(|command| OURS.contains(&&**command));
    let is_here = |word: &String| {
        let path = Path::new(word);
        path.starts_with(&folders.run) || path.starts_with(&folders.data)
    };
    is_ours && words.any(is_here)
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
            assert_eq!(is_our_program(&arguments, &folders), expected, "{line}");
        }
    }
}
