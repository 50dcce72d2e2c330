//! A new version: read, checked, copied, built, and added to what is wanted.
//!
//! What is wanted changes only once everything before it has worked; a deploy that ends early leaves
//! the running version as it was. Start at [`Runtime::deploy`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serin_wire::causes::sentence;
use serin_wire::name;
use serin_yaml::Problem;
use thiserror::Error;
use tokio::sync::mpsc;

use super::build;
use super::folder;
use super::guest::VERSION;
use super::orders::remove_folder;
use super::programs;
use super::reconcile::{Runtime, RuntimeError};
use super::stage::{STAGES_QUEUE, Stage, last_shown, tell};
use super::told::{Act, Reason};
use super::wanted::{Phase, Version};
use crate::service::{self, Others, Service};

/// Why a version was not deployed.
#[derive(Debug, Error)]
pub enum DeployError {
    /// There is no such folder.
    #[error("there is no {}; `serin new {name}` makes one", file.display())]
    NoFile {
        /// The service.
        name: String,
        /// Where its file was looked for.
        file: PathBuf,
    },
    /// Its file cannot be read.
    #[error("cannot read {}", file.display())]
    Unreadable {
        /// Its file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its file has faults.
    #[error("{}", in_lines(.0))]
    File(Vec<Problem>),
    /// The version's name is no name.
    #[error(transparent)]
    Version(#[from] name::NameError),
    /// The version's name was taken.
    #[error(
        "{service} has a version {version:?} already, made of something else; choose another name"
    )]
    Taken {
        /// The service.
        service: String,
        /// The version.
        version: String,
    },
    /// The version's name means something else.
    #[error(
        "the version {VERSION:?} is that of instances started by `serin run`; choose another name"
    )]
    Reserved,
    /// Another service answers at its path.
    #[error(
        "{path} is the path of {by:?} already; give {service} a path of its own, or `serin stop {by}`"
    )]
    Path {
        /// The service.
        service: String,
        /// The gateway's path.
        path: String,
        /// Who has it.
        by: String,
    },
    /// A program that it needs is not there.
    #[error(
        "{service} needs {program:?} for `{key}:`, and it is not on PATH of `serin up`; {advice}"
    )]
    NoProgram {
        /// The service.
        service: String,
        /// The command of its file.
        key: &'static str,
        /// The program.
        program: String,
        /// What to do.
        advice: &'static str,
    },
    /// The folder could not be read or copied.
    #[error("cannot copy {}", folder.display())]
    Copy {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The build failed.
    #[error("the build of {service} failed, {why}:\n{}", lines.join("\n"))]
    Build {
        /// The service.
        service: String,
        /// How it ended.
        why: String,
        /// The last lines it wrote.
        lines: Vec<String>,
    },
    /// What is wanted could not be kept.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

fn in_lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

impl Runtime {
    /// Deploys the folder of a service as a new version, and tells how far it is. The version goes
    /// on by itself when nobody listens any more.
    pub fn deploy(
        self: &Arc<Runtime>,
        name: &str,
        version: Option<String>,
    ) -> mpsc::Receiver<Stage> {
        self.deploy_for(name, Cause::Asked(version))
    }

    /// The same for what nobody asked for: a service that was made at the start.
    pub fn deploy_at_start(self: &Arc<Runtime>, name: &str) -> mpsc::Receiver<Stage> {
        self.deploy_for(name, Cause::Started)
    }

    /// The same, by whatever caused it.
    pub(super) fn deploy_for(
        self: &Arc<Runtime>,
        name: &str,
        cause: Cause,
    ) -> mpsc::Receiver<Stage> {
        let (stages, told) = mpsc::channel(STAGES_QUEUE);
        let (runtime, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            if let Err(error) = runtime.deploy_stages(&name, cause, &stages).await {
                let why = sentence(&error);
                let now_us = (runtime.options.now_us)();
                runtime.deploying.fails(&name, &error, &why, now_us);
                runtime.show();
                runtime.tell_act(&name, Act::Fails(None, &why));
                let failed = Stage::Failed {
                    version: None,
                    why,
                    lines: Vec::new(),
                };
                tell(&stages, failed).await;
            }
        });
        told
    }

    async fn deploy_stages(
        self: &Arc<Runtime>,
        name: &str,
        cause: Cause,
        stages: &mpsc::Sender<Stage>,
    ) -> Result<(), DeployError> {
        let began_us = (self.options.now_us)();
        if let Cause::Asked(Some(version)) = &cause {
            name::check_version(version)?;
            if version == VERSION {
                return Err(DeployError::Reserved);
            }
        }
        name::check_service(name)?;
        let folder = self.options.dir.join("services").join(name);
        // A fault is told before an earlier deploy is waited for.
        self.checked(&folder, name)?;
        // One deploy of a service at a time: two copies of one folder would get into each other's way,
        // and a copy of which nothing is wanted yet would be taken for one that was left.
        let copying = self.copying.of(name).lock_owned().await;
        let (service, hash) = self.copied(&folder, name, stages).await?;
        let added = self.add(service, &hash, cause);
        self.deploying.ends(name);
        let version = match added? {
            Added::New(version) => version,
            Added::Kept(version) => {
                tell(stages, Stage::Unchanged { version }).await;
                return Ok(());
            }
            Added::Serving(version) => {
                drop(copying);
                self.follow_serving(name, &version, stages).await;
                return Ok(());
            }
        };
        drop(copying);
        // What is shown of an earlier version of this name says nothing of this one.
        self.show();
        self.follow(name, &version, began_us, stages).await;
        Ok(())
    }

    /// Reads the service of a folder; what it needs is there.
    fn checked(&self, folder: &Path, name: &str) -> Result<Service, DeployError> {
        let service = read_service(folder, name, Some(&self.others()))?;
        match programs::missing(&service, &self.options.env) {
            None => Ok(service),
            Some(missing) => Err(DeployError::NoProgram {
                service: service.name,
                key: missing.key,
                program: missing.program,
                advice: missing.advice,
            }),
        }
    }

    /// Copies and builds, where this was not done before; the service as the copy has it, and its hash.
    async fn copied(
        &self,
        folder: &Path,
        name: &str,
        stages: &mpsc::Sender<Stage>,
    ) -> Result<(Service, String), DeployError> {
        let failed = |source| DeployError::Copy {
            folder: folder.to_path_buf(),
            source,
        };
        let (from, to) = (folder.to_path_buf(), self.options.versions_dir.join(name));
        let copying = tokio::task::spawn_blocking(move || copy(&from, &to));
        let copied = copying.await.map_err(std::io::Error::other);
        let (hash, aside) = copied.and_then(|copied| copied).map_err(failed)?;
        tell(stages, Stage::Copied { hash: hash.clone() }).await;
        let copy = self.copy_of(name, &hash);
        let made = aside.as_deref().unwrap_or(&copy);
        // A link leads from the folder to where it does; from elsewhere, perhaps to nothing.
        let is_link = made.join(service::FILE).is_symlink();
        let checked = self.checked(if is_link { folder } else { made }, name);
        let service = checked.inspect_err(|_| {
            // A fault that was saved meanwhile.
            aside.iter().for_each(|aside| remove_folder(aside));
        })?;
        if let Some(aside) = aside {
            if service.build.is_some() {
                tell(stages, Stage::Building).await;
                (self.deploying).builds(name, (self.options.now_us)());
                self.show();
                let built = {
                    let _place = self.builds.acquire().await;
                    build::run(&service, &self.options.build_env, &aside).await
                };
                if let Err(build::Fault { why, lines }) = built {
                    remove_folder(&aside);
                    return Err(DeployError::Build {
                        service: name.to_owned(),
                        why,
                        lines: last_shown(lines),
                    });
                }
            }
            // Named only when whole: a copy that is there can be run.
            std::fs::rename(&aside, &copy).map_err(failed)?;
        }
        Ok((service, hash))
    }

    fn add(&self, service: Service, hash: &str, cause: Cause) -> Result<Added, DeployError> {
        let now_us = (self.options.now_us)();
        let name = service.name.clone();
        let taken = |version: &str| DeployError::Taken {
            service: name.clone(),
            version: version.to_owned(),
        };
        let (reason, named) = match cause {
            Cause::Asked(named) => (Reason::Asked, named),
            Cause::Saved => (Reason::Saved, None),
            Cause::Started => (Reason::Started, None),
        };
        let is_start = reason == Reason::Started;
        if let Some(path) = &service.web
            && let Some(by) = self.kept.who_has(path, &name)
        {
            let (service, path) = (name, path.clone());
            return Err(DeployError::Path { service, path, by });
        }
        self.kept.change_or_make(&name, |wanted| {
            let is_same = |version: &&Version| version.hash == hash && version.service == service;
            // Whoever went back from a version does not want it again with the next start.
            if let Some(known) = wanted.versions.iter().rfind(is_same).filter(|_| is_start) {
                return Ok(Added::Kept(known.name.clone()));
            }
            let is_named =
                |version: &&Version| named.as_ref().is_none_or(|name| *name == version.name);
            let last = wanted.versions.last().filter(|_| !wanted.is_stopped);
            if let Some(last) = last.filter(is_same).filter(is_named)
                && last.phase == Phase::Starting
            {
                return Ok(Added::New(last.name.clone()));
            }
            let serving = wanted.serving().filter(is_same).filter(is_named);
            if let Some(serving) = serving.map(|version| version.name.clone()) {
                wanted.retire_starting(now_us);
                if std::mem::take(&mut wanted.is_stopped) {
                    wanted.start(&serving, reason, now_us);
                    return Ok(Added::New(serving));
                }
                return Ok(Added::Serving(serving));
            }
            let version = named.clone().unwrap_or_else(|| {
                let free = (wanted.next_version..).map(|number| format!("v{number}"));
                let mut free = free.filter(|name| wanted.version(name).is_none());
                free.next().unwrap_or_default()
            });
            let known = wanted.version(&version).map(|known| is_same(&known));
            if known == Some(false) {
                return Err(taken(&version));
            }
            wanted.is_stopped = false;
            // Else one that starts already could be taken for the newer one.
            wanted.retire_starting(now_us);
            if known.is_some() {
                wanted.start(&version, reason, now_us);
                return Ok(Added::New(version));
            }
            let number = version
                .strip_prefix('v')
                .and_then(|number| number.parse::<u64>().ok());
            wanted.next_version = number.map_or(wanted.next_version, |number| {
                wanted.next_version.max(number.saturating_add(1))
            });
            wanted.versions.push(Version {
                name: version.clone(),
                hash: hash.to_owned(),
                service,
                phase: Phase::Starting,
                since_us: now_us,
                served_us: None,
                reason,
                why: None,
            });
            Ok(Added::New(version))
        })?
    }
}

/// Why a folder is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody asked, perhaps for a name of the version.
    Asked(Option<String>),
    /// The folder was saved.
    Saved,
    /// Serin started: what was deployed before is left as it is.
    Started,
}

/// What became of a deploy, with the version's name.
enum Added {
    /// It is started.
    New(String),
    /// It takes the calls already.
    Serving(String),
    /// It is known and left as it is.
    Kept(String),
}

/// Copies a folder to below `to`, where the copies of its service are; the hash of what was copied, and
/// where it is as long as it has no name: nowhere where there was a copy already.
fn copy(from: &Path, to: &Path) -> std::io::Result<(String, Option<PathBuf>)> {
    let entries = folder::contents(from)?;
    let hash = folder::hash(from, &entries)?;
    if to.join(&hash).is_dir() {
        return Ok((hash, None));
    }
    let aside = to.join(format!("{hash}.new"));
    if aside.is_dir() {
        std::fs::remove_dir_all(&aside)?;
    }
    let hash = folder::copy(from, &entries, &aside)?;
    if to.join(&hash).is_dir() {
        std::fs::remove_dir_all(&aside)?;
        return Ok((hash, None));
    }
    Ok((hash, Some(aside)))
}

/// Lets one at a time at the copies of a service.
#[derive(Debug, Default)]
pub(super) struct Copying(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Copying {
    pub(super) fn of(&self, service: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(service.to_owned()).or_default())
    }
}

/// Reads and checks the file of a service, beside others where it is to start after some, and that of
/// its secrets.
pub(super) fn read_service(
    folder: &Path,
    name: &str,
    others: Option<&Others>,
) -> Result<Service, DeployError> {
    let file = folder.join(service::FILE);
    let text = std::fs::read_to_string(&file).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => DeployError::NoFile {
            name: name.to_owned(),
            file: file.clone(),
        },
        _ => DeployError::Unreadable {
            file: file.clone(),
            source,
        },
    })?;
    let shown = format!("services/{name}/{}", service::FILE);
    let read = match others {
        Some(others) => service::read_beside(&shown, name, &text, others),
        None => service::read(&shown, name, &text),
    };
    let faults = service::check_secrets(folder, name);
    match read {
        Ok(service) if faults.is_empty() => Ok(service),
        read => {
            let told = read.err().unwrap_or_default();
            Err(DeployError::File(told.into_iter().chain(faults).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_is_not_there_is_said_to_be_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = || read_service(folder.path(), "x", None).expect_err("not readable");
        assert!(matches!(error(), DeployError::NoFile { .. }));
        let file = folder.path().join(service::FILE);
        std::fs::write(&file, [b'r', 0xff]).expect("written");
        let said = sentence(&error());
        assert!(
            said.contains("cannot read") && said.contains("UTF-8"),
            "{said}"
        );
    }

    #[test]
    fn a_copy_has_the_name_of_what_is_in_it_and_is_made_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let copies = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(service::FILE), "run: x\n").expect("written");
        let (hash, aside) = copy(folder.path(), copies.path()).expect("copied");
        let aside = aside.expect("a copy");
        // An earlier Serin ended before it had a name.
        std::fs::write(aside.join("left"), "").expect("written");
        let again = copy(folder.path(), copies.path()).expect("copied");
        assert_eq!(again, (hash.clone(), Some(aside.clone())));
        assert!(!aside.join("left").exists());
        std::fs::rename(&aside, copies.path().join(&hash)).expect("named");
        let known = copy(folder.path(), copies.path()).expect("known");
        assert_eq!(known, (hash, None));
    }

    #[test]
    fn a_line_of_secrets_that_is_no_variable_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(service::FILE), "run: x\n").expect("written");
        std::fs::write(folder.path().join(".env"), "KEY=value\nhunter2\n").expect("written");
        let said = sentence(&read_service(folder.path(), "x", None).expect_err("refused"));
        assert!(said.starts_with("services/x/.env:2:1: "), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}
