//! What the operating system holds a worker to: memory, CPU, files, folders, no sockets, no programs.
//!
//! Limits on resources must hold or the worker refuses to run. Landlock is taken as far as the kernel
//! has it (read-only folders from Linux 5.13, no TCP from 6.7), and seccomp closes what Landlock leaves
//! open: sockets of every kind, other programs, other processes. What could not be had is reported.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use crate::limits::Limits;

/// What a worker has no use for and is refused: sockets of any kind, also by way of io_uring; other
/// programs; other processes. Threads are made as before, and `abort` still ends the process.
const CLOSED: [i64; 17] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_io_uring_setup,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
];

/// Threads a worker may have: two that compute, four that read files, one that plans, one that waits.
pub(super) const COMPUTING_THREADS: usize = 2;
pub(super) const READING_THREADS: usize = 4;
/// Deep enough for any plan the guard lets pass.
pub(super) const PLANNING_STACK_BYTES: usize = 128 << 20;
pub(super) const THREAD_STACK_BYTES: usize = 16 << 20;
/// Stacks count as data; a watchdog's is small.
const STACKS_BYTES: usize =
    PLANNING_STACK_BYTES + (COMPUTING_THREADS + READING_THREADS) * THREAD_STACK_BYTES + (4 << 20);
/// Address space beyond data: the program itself, mapped files, the allocator's reservations.
const MAPPED_BYTES: u64 = 2 << 30;
/// A worker answers so many questions; what a long life leaves in memory goes with it.
pub(super) const QUESTIONS_MAX: u32 = 100;
/// Open files: a scan holds few at a time.
const FILES_MAX: u64 = 512;

/// Holds this process to its limits. Must be called before other threads start.
pub(super) fn limit(limits: &Limits) -> io::Result<()> {
    let data = data_bytes() + (limits.memory_bytes + STACKS_BYTES) as u64;
    let hard = [
        (Resource::Data, data),
        (Resource::As, data + MAPPED_BYTES),
        (Resource::Cpu, u64::from(QUESTIONS_MAX) * seconds(limits)),
        (Resource::Nofile, FILES_MAX),
        (Resource::Fsize, limits.spill_bytes_max),
        (Resource::Core, 0),
    ];
    for (resource, most) in hard {
        setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )?;
    }
    Ok(())
}

/// Tells what this process has used of processors; opened before files are closed to it.
pub(super) struct Clock(File);

impl Clock {
    pub(super) fn open() -> io::Result<Clock> {
        File::open("/proc/self/stat").map(Clock)
    }

    /// Lets this process compute for one question more, within what [`limit`] gave it altogether.
    pub(super) fn allow(&self, limits: &Limits) -> io::Result<()> {
        let most = self.used_s()? + 1 + seconds(limits);
        let maximum = getrlimit(Resource::Cpu).maximum;
        let current = Some(maximum.map_or(most, |maximum| most.min(maximum)));
        setrlimit(Resource::Cpu, Rlimit { current, maximum })?;
        Ok(())
    }

    fn used_s(&self) -> io::Result<u64> {
        let mut text = [0; 1024];
        let length = self.0.read_at(&mut text, 0)?;
        let text = String::from_utf8_lossy(&text[..length]);
        // Behind the name, which may have spaces: the 12th and 13th, in hundredths of a second.
        let (_, fields) = text.rsplit_once(") ").unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(ticks / 100)
    }
}

/// Seconds of a processor that one question may take.
fn seconds(limits: &Limits) -> u64 {
    (limits.deadline.as_secs() + 1) * (COMPUTING_THREADS as u64 + 1)
}

/// What this process holds already.
fn data_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(128 << 10) << 10
}

/// Closes everything but reading `folders` and writing `spill`, for this thread and those it starts.
/// Says what could not be had, if anything.
pub(super) fn enclose(
    folders: &[PathBuf],
    spill: &Path,
) -> Result<Option<&'static str>, RulesetError> {
    let lacking = close_files(folders, spill)?;
    // The kernel may be built without it; Landlock and the guard are there all the same.
    let is_closed = close_calls().is_ok();
    Ok(lacking.or((!is_closed).then_some("this kernel has no seccomp; sockets are not closed")))
}

/// Refuses what is in `CLOSED`: the call fails, and the statement with it.
fn close_calls() -> Result<(), seccompiler::Error> {
    let rules = CLOSED.map(|call| (call, Vec::new())).into();
    let refuse = SeccompAction::Errno(libc::EACCES.unsigned_abs());
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, machine)?;
    apply_filter(&BpfProgram::try_from(filter)?)
}

fn close_files(folders: &[PathBuf], spill: &Path) -> Result<Option<&'static str>, RulesetError> {
    let abi = ABI::V5;
    let status: RestrictionStatus = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(folders, AccessFs::from_read(abi)))?
        .add_rules(path_beneath_rules([spill], AccessFs::from_all(abi)))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => Some("this kernel's Landlock closes files but not TCP"),
        RulesetStatus::NotEnforced => {
            Some("this kernel has no Landlock; files and TCP are not closed")
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::process::Command;

    use super::*;

    /// A filter holds for its thread alone, so that the other tests go on.
    #[test]
    fn no_socket_can_be_opened_and_no_program_started() {
        let tries = std::thread::spawn(|| {
            close_calls().unwrap();
            let threads = std::thread::spawn(|| 1).join().unwrap();
            assert_eq!(threads, 1, "threads are made as before");
            [
                TcpListener::bind("127.0.0.1:0").map(drop),
                UdpSocket::bind("127.0.0.1:0").map(drop),
                UnixDatagram::unbound().map(drop),
                UnixStream::connect("/nowhere").map(drop),
                UnixStream::pair().map(drop),
                Command::new("/bin/true").spawn().map(drop),
            ]
            .map(|tried| tried.map_err(|error| error.kind()))
        });
        let tries = tries.join().unwrap();
        assert_eq!(tries, [Err(ErrorKind::PermissionDenied); 6]);
    }
}
