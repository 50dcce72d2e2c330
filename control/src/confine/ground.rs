//! What can be limited on this machine: which cgroups there are and may be written.
//!
//! In version 2 a group that has processes cannot have limited children; so Serin, at its start, puts
//! itself into a child of the group it was given ([`prepare`]), beside which instances get theirs.
//! That works where the group was delegated to us, as by the unit that `serin install` writes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where cgroups are mounted.
pub(super) const ROOT: &str = "/sys/fs/cgroup";
/// Where a process learns its own.
pub(super) const OWN: &str = "/proc/self/cgroup";
/// The child group in which Serin itself runs, in version 2.
pub const MAIN: &str = "serin-main";
const CONTROLLERS: &str = "+memory +cpu";

/// What limits are held by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ground {
    /// Version 2: groups are made in this folder.
    Unified(PathBuf),
    /// Version 1: in these, where they may be written.
    Split {
        /// For memory.
        memory: Option<PathBuf>,
        /// For the processor.
        cpu: Option<PathBuf>,
    },
}

impl Ground {
    /// What this process may use; folders that cannot be written do not count.
    pub fn find() -> Ground {
        let own = fs::read_to_string(OWN).unwrap_or_default();
        Ground::of(Path::new(ROOT), &own)
    }

    /// The same from the text of a process's own groups, below a root.
    pub(super) fn of(root: &Path, own: &str) -> Ground {
        if root.join("cgroup.controllers").is_file() {
            let base = base(root, own);
            let base = base.filter(|base| has_controllers(base) && is_writable(base));
            return base.map_or(Ground::none(), Ground::Unified);
        }
        let of = |controller: &str| {
            let path = own.lines().find_map(|line| {
                let (_, rest) = line.split_once(':')?;
                let (controllers, path) = rest.split_once(':')?;
                let mut controllers = controllers.split(',');
                controllers.any(|one| one == controller).then_some(path)
            })?;
            let mount = root.join(controller);
            // In a container the path of the host may be told, which is not to be seen here.
            let inside = mount.join(path.trim_start_matches('/'));
            [inside, mount]
                .into_iter()
                .find(|folder| is_writable(folder))
        };
        Ground::Split {
            memory: of("memory"),
            cpu: of("cpu"),
        }
    }

    /// Nothing can be written.
    fn none() -> Ground {
        Ground::Split {
            memory: None,
            cpu: None,
        }
    }

    /// What can be limited, and by what, for people; an error says what cannot.
    pub fn describe(&self) -> Result<String, String> {
        match self {
            Ground::Unified(base) => Ok(format!(
                "memory and processor are limited by cgroups v2, in {}",
                base.display()
            )),
            Ground::Split {
                memory: Some(memory),
                cpu: Some(_),
            } => Ok(format!(
                "memory and processor are limited by cgroups v1, in {}",
                memory.display()
            )),
            Ground::Split { memory, cpu } => {
                let memory = match memory {
                    Some(_) => "memory is limited by a cgroup",
                    None => "memory is limited for each process by an rlimit, not for an instance",
                };
                let cpu = match cpu {
                    Some(_) => "the processor by a cgroup",
                    None => "the processor not at all",
                };
                Err(format!(
                    "no cgroup can be written for all of it: {memory}, {cpu}"
                ))
            }
        }
    }
}

/// The folder of version 2 in which groups of instances belong: our own, or the one around it where
/// we are in its child.
fn base(root: &Path, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = Path::new(path.trim_start_matches('/'));
    let path = match path.file_name() {
        Some(name) if name == MAIN => path.parent()?,
        _ => path,
    };
    Some(root.join(path))
}

fn has_controllers(base: &Path) -> bool {
    let given = fs::read_to_string(base.join("cgroup.subtree_control")).unwrap_or_default();
    ["memory", "cpu"]
        .iter()
        .all(|wanted| given.split_whitespace().any(|one| one == *wanted))
}

fn is_writable(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// Makes room for groups of instances in version 2; where the group is not ours alone, nothing is
/// changed. To be called before anything else is started.
pub fn prepare() {
    let root = Path::new(ROOT);
    let own = fs::read_to_string(OWN).unwrap_or_default();
    if !root.join("cgroup.controllers").is_file() {
        return;
    }
    let Some(base) = base(root, &own).filter(|base| !has_controllers(base) && is_writable(base))
    else {
        return;
    };
    let is_inside = own.trim_end().ends_with(MAIN);
    if let Err(error) = make_room(&base, is_inside) {
        tracing::debug!(%error, base = %base.display(), "no groups for limits here");
    }
}

fn make_room(base: &Path, is_inside: bool) -> io::Result<()> {
    let main = base.join(MAIN);
    match fs::create_dir(&main) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // "0" is whoever writes.
    fs::write(main.join("cgroup.procs"), "0")?;
    let given = fs::write(base.join("cgroup.subtree_control"), CONTROLLERS);
    if given.is_err() && !is_inside {
        // Others are in it: back to where we were.
        fs::write(base.join("cgroup.procs"), "0")?;
        fs::remove_dir(&main)?;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_wants_controllers_and_a_group_of_our_own() {
        let root = tempfile::tempdir().expect("a folder");
        let unit = root.path().join("user.slice/serin.service");
        fs::create_dir_all(unit.join(MAIN)).expect("made");
        fs::write(root.path().join("cgroup.controllers"), "cpu memory").expect("written");
        let own = "0::/user.slice/serin.service/serin-main\n";
        assert_eq!(Ground::of(root.path(), own), Ground::none());
        fs::write(unit.join("cgroup.subtree_control"), "cpu memory pids\n").expect("written");
        let expected = Ground::Unified(unit);
        assert_eq!(Ground::of(root.path(), own), expected);
        let outside = "0::/user.slice/serin.service\n";
        assert_eq!(Ground::of(root.path(), outside), expected);
        assert!(expected.describe().is_ok());
    }

    #[test]
    fn version_1_has_a_folder_for_each_controller() {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(root.path().join("memory/job")).expect("made");
        fs::create_dir_all(root.path().join("cpu,cpuacct")).expect("made");
        let own = "4:memory:/job\n3:cpu,cpuacct:/elsewhere\n0::/\n";
        let ground = Ground::of(root.path(), own);
        let memory = Some(root.path().join("memory/job"));
        assert_eq!(ground, Ground::Split { memory, cpu: None });
        let said = ground.describe().expect_err("not all of it");
        assert!(
            said.ends_with("memory is limited by a cgroup, the processor not at all"),
            "{said}"
        );
        fs::create_dir_all(root.path().join("cpu")).expect("made");
        assert!(Ground::of(root.path(), own).describe().is_ok());
    }
}
