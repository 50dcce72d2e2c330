//! `serin launch`: enters the groups, limits itself, and becomes the program.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the process does to itself before it becomes the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Groups it enters.
    pub folders: Vec<PathBuf>,
    /// Its own private memory, at most.
    pub data_bytes: Option<u64>,
}

impl Entry {
    /// The command line that does it, in front of a program's.
    pub fn command(&self, program: String, command: Vec<String>) -> Vec<String> {
        let mut words = vec![program, String::from("launch")];
        for folder in &self.folders {
            words.extend([
                String::from("--group"),
                folder.to_string_lossy().into_owned(),
            ]);
        }
        if let Some(bytes) = self.data_bytes {
            words.extend([String::from("--data-bytes"), bytes.to_string()]);
        }
        words.push(String::from("--"));
        words.extend(command);
        words
    }
}

/// Enters and becomes the program; returns only with what was in the way.
pub fn enter(entry: &Entry, command: &[String]) -> io::Error {
    for folder in &entry.folders {
        // "0" is whoever writes.
        if let Err(error) = std::fs::write(folder.join("cgroup.procs"), "0") {
            return error;
        }
    }
    if let Some(bytes) = entry.data_bytes {
        let maximum = getrlimit(Resource::Data).maximum;
        let most = maximum.map_or(bytes, |most| most.min(bytes));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        if let Err(error) = setrlimit(Resource::Data, limit) {
            return error.into();
        }
    }
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "the command is empty");
    };
    Command::new(program).args(arguments).exec()
}
