//! `DIR/.serin/run.json`: how a running server is found, and the lock that keeps a second one out.
//!
//! The file is readable by its owner alone: it holds the token and the bus's credentials.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

/// How long a program that is just being started may hold the lock of a process that is gone.
const LET_GO_DEADLINE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a running server says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunFile {
    pub(crate) pid: u32,
    pub(crate) http: String,
    pub(crate) gateway: Option<String>,
    /// Where OpenTelemetry's exporters are heard, over HTTP and over gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) otlp_http: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) otlp_grpc: Option<String>,
    /// With credentials.
    pub(crate) bus: String,
    pub(crate) token: String,
    /// What DuckDB attaches.
    pub(crate) catalogue: String,
}

/// The folder everything is kept under.
pub(crate) fn data_dir(dir: &Path) -> PathBuf {
    dir.join(".serin")
}

/// Removes what was uploaded to a run that was killed; for whoever has the lock.
pub(crate) fn clear_uploads(dir: &Path) {
    let left = fs::read_dir(data_dir(dir).join("tmp"));
    for entry in left.into_iter().flatten().flatten() {
        if let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(%error, file = %entry.path().display(), "cannot remove an old upload");
        }
    }
}

/// The folder, made where it is missing, with its `.serin` for the owner alone.
pub(crate) fn prepare(dir: &Path) -> Result<PathBuf> {
    let dir = std::path::absolute(dir).context("cannot tell where we are")?;
    let data = data_dir(&dir);
    let temporary = data.join("tmp");
    let make = |folder| {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
    };
    make(&data)
        .and_then(|()| make(&temporary))
        // A folder that was there may be on a disk that became read-only.
        .and_then(|()| tempfile::tempfile_in(&temporary).map(drop))
        .with_context(|| {
            format!(
                "cannot write in {}, where Serin keeps everything; make room and let the user who \
                 runs Serin write there, or name another folder (`serin up DIR`)",
                data.display()
            )
        })?;
    Ok(dir.canonicalize().unwrap_or(dir))
}

/// Where the sockets of shims are: a socket's path has 107 bytes at most, so that those of a deep
/// folder go to the system's folder for temporary files, under a name made of the folder's.
pub(crate) fn sockets_dir(data: &Path) -> Result<PathBuf> {
    const NAME_BYTES: usize = "/12345678901234567890123456789012.sock".len();
    const PATH_BYTES_MAX: usize = 107;
    let near = data.join("run");
    let dir = if near.as_os_str().len() + NAME_BYTES <= PATH_BYTES_MAX {
        near
    } else {
        let hash = blake3::hash(data.as_os_str().as_encoded_bytes()).to_hex();
        std::env::temp_dir().join(format!("serin-{}", &hash[..16]))
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .with_context(|| format!("cannot make the folder {}", dir.display()))?;
    check_ours(&dir)?;
    Ok(dir)
}

/// In the folder for temporary files anybody may have been there before us, also with a link.
fn check_ours(dir: &Path) -> Result<()> {
    let found = fs::symlink_metadata(dir)
        .with_context(|| format!("cannot look at the folder {}", dir.display()))?;
    let us = rustix::process::getuid().as_raw();
    let wrong = match () {
        () if !found.is_dir() => "is no folder",
        () if found.uid() != us => "belongs to another user",
        () if found.mode() & 0o077 != 0 => "is open to other users",
        () => return Ok(()),
    };
    bail!("{} {wrong}; remove it", dir.display());
}

/// Where the gateway's process is found; no name of a shim's socket.
pub(crate) fn gateway_socket(data: &Path) -> Result<PathBuf> {
    Ok(sockets_dir(data)?.join("gateway.control"))
}

fn path(dir: &Path) -> PathBuf {
    data_dir(dir).join("run.json")
}

impl RunFile {
    /// Writes it whole or not at all.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = path(dir);
        let aside = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.write_all(b"\n")?;
            drop(file);
            fs::rename(&aside, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// The server that runs in `dir`, if its file is there.
    pub(crate) fn read(dir: &Path) -> Result<Option<RunFile>> {
        let path = path(dir);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        let run = serde_json::from_slice(&text)
            .with_context(|| format!("cannot understand {}", path.display()))?;
        Ok(Some(run))
    }

    /// The server of `start` or of the nearest folder above it.
    pub(crate) fn find(start: &Path) -> Result<Option<(PathBuf, RunFile)>> {
        let start = std::path::absolute(start).context("cannot tell where we are")?;
        for dir in start.ancestors() {
            if let Some(run) = RunFile::read(dir)? {
                return Ok(Some((dir.to_path_buf(), run)));
            }
        }
        Ok(None)
    }

    /// Removes it, where it is there.
    pub(crate) fn forget(dir: &Path) {
        let path = path(dir);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "cannot remove the run file");
        }
    }
}

/// Held by the one server of a folder until it is dropped; the system lets go after a crash.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: File,
}

impl RunLock {
    /// The lock. Where its process is gone, a program that it was just starting when it was killed
    /// may have the lock for a moment still: that is waited for.
    pub(crate) async fn take(dir: &Path) -> Result<RunLock> {
        let let_go = async {
            loop {
                match RunLock::try_take(dir)? {
                    Ok(lock) => return Ok(lock),
                    Err(pid) if is_running(&pid) => return Err(RunLock::is_taken(dir, &pid)),
                    Err(_) => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        };
        match tokio::time::timeout(LET_GO_DEADLINE, let_go).await {
            Ok(taken) => taken,
            Err(_) => Err(RunLock::is_taken(dir, "unknown")),
        }
    }

    fn is_taken(dir: &Path, pid: &str) -> anyhow::Error {
        let dir = dir.display();
        anyhow!(
            "a server runs in {dir} already (process {pid}); stop it with `serin down {dir}`, or choose another folder"
        )
    }

    /// Whether a server was ever started in a folder.
    pub(crate) fn was_taken(dir: &Path) -> bool {
        lock_file(dir).is_file()
    }

    /// Whether a process lives that has the lock's file open. The number in it is that of an earlier
    /// server for the moment in which another one takes it, and may be anybody's by now.
    pub(crate) fn is_held_by(dir: &Path, pid: &str) -> bool {
        let file = lock_file(dir);
        let has_it_open = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(open) => open.flatten().any(|link| {
                let to = fs::read_link(link.path());
                to.is_ok_and(|to| to == file)
            }),
            // Another user's does not tell, nor do systems that list no open files: its number has to do.
            Err(_) => true,
        };
        has_it_open && is_running(pid)
    }

    /// The lock, or the process that has it.
    pub(crate) fn try_take(dir: &Path) -> Result<Result<RunLock, String>> {
        let path = lock_file(dir);
        let open = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let failed = || format!("cannot lock {}", path.display());
        let mut file = open.with_context(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).with_context(failed)?;
                return Ok(Err(pid.trim().to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
        }
        file.set_len(0).with_context(failed)?;
        file.seek(SeekFrom::Start(0)).with_context(failed)?;
        writeln!(file, "{}", std::process::id()).with_context(failed)?;
        Ok(Ok(RunLock { _file: file }))
    }
}

fn lock_file(dir: &Path) -> PathBuf {
    data_dir(dir).join("up.lock")
}

fn is_running(pid: &str) -> bool {
    pid.parse().is_ok_and(serin_bus::is_alive)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_run_file_reads_back_and_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(data_dir(folder.path())).expect("made");
        assert_eq!(RunFile::read(folder.path()).expect("no file"), None);
        let run = RunFile {
            pid: 7,
            http: "http://127.0.0.1:7070".into(),
            gateway: None,
            otlp_http: None,
            otlp_grpc: None,
            bus: "nats://a:b@127.0.0.1:4222".into(),
            token: "t".into(),
            catalogue: "ducklake:sqlite:/x".into(),
        };
        run.write(folder.path()).expect("written");
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).expect("made");
        let (dir, found) = RunFile::find(&below).expect("read").expect("found");
        assert_eq!((dir.as_path(), found), (folder.path(), run));
        let mode = fs::metadata(path(folder.path()))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_folder_of_sockets_is_ours_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let ours = folder.path().join("ours");
        fs::create_dir(&ours).expect("made");
        let set = |mode| fs::set_permissions(&ours, fs::Permissions::from_mode(mode)).expect("set");
        set(0o700);
        check_ours(&ours).expect("it is ours");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&ours, &link).expect("linked");
        let error = check_ours(&link).expect_err("a link may lead anywhere");
        assert!(error.to_string().contains("is no folder"), "{error}");
        set(0o750);
        let error = check_ours(&ours).expect_err("others may go in");
        assert!(error.to_string().contains("open to other"), "{error}");
    }

    #[tokio::test]
    async fn a_second_server_is_kept_out() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(data_dir(folder.path())).expect("made");
        let lock = RunLock::take(folder.path()).await.expect("free");
        let error = RunLock::take(folder.path()).await.expect_err("taken");
        let error = error.to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        let own = std::process::id().to_string();
        let dir = folder.path().canonicalize().expect("there");
        assert!(RunLock::is_held_by(&dir, &own));
        assert!(!RunLock::is_held_by(&dir, "1"), "another has the number");
        drop(lock);
        assert!(!RunLock::is_held_by(&dir, &own));
        RunLock::take(folder.path()).await.expect("free again");
    }

    /// What a kill in the middle of a fork leaves: the lock is held, and not by the process it names.
    #[tokio::test]
    async fn a_lock_whose_process_is_gone_is_waited_for() {
        // No process has such a number.
        const NOBODY: &str = "2147483647";
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(data_dir(folder.path())).expect("made");
        let held = File::create(data_dir(folder.path()).join("up.lock")).expect("made");
        (&held).write_all(NOBODY.as_bytes()).expect("written");
        held.lock().expect("held");
        let (taken, ()) = tokio::join!(RunLock::take(folder.path()), async {
            tokio::task::yield_now().await;
            drop(held);
        });
        taken.expect("it was let go");
    }
}
