//! A new version: read, checked, copied, built, and followed until it serves or has failed.
//!
//! What is wanted changes only once everything before it has worked; a deploy that ends early leaves
//! the running version as it was. Start at [`Runtime::deploy`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serin_wire::causes::sentence;
use serin_wire::name;
use serin_yaml::Problem;
use thiserror::Error;
use tokio::process::Command;
use tokio::sync::mpsc;

use super::folder;
use super::guest::VERSION;
use super::programs;
use super::reconcile::{Runtime, RuntimeError};
use super::told::{Act, Reason};
use super::view::{ServiceView, VersionView};
use super::wanted::{Phase, Version};
use crate::service::{self, Instances, Service};

/// Lines of a build or of an instance that are shown when it fails.
const LINES_SHOWN: usize = 20;

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

/// How far a deploy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
pub enum Stage {
    /// The folder was copied.
    Copied {
        /// What it is made of.
        hash: String,
    },
    /// Its build runs.
    Building,
    /// Its instances are started.
    Starting {
        /// Its name.
        version: String,
        /// Instances that are ready.
        ready: usize,
        /// Instances it wants.
        of: u32,
    },
    /// Something that whoever deploys should know, though it goes on.
    Note {
        /// For people.
        text: String,
    },
    /// It takes the calls.
    Serving {
        /// Its name.
        version: String,
        /// Since the command, milliseconds.
        took_ms: i64,
    },
    /// It was a job, and ended well.
    Ended {
        /// Its name.
        version: String,
        /// Since the command, milliseconds.
        took_ms: i64,
    },
    /// Nothing changed: this version serves it already.
    Unchanged {
        /// Its name.
        version: String,
    },
    /// It did not get ready; the version before serves on.
    Failed {
        /// Its name, where it got one.
        version: Option<String>,
        /// Why.
        why: String,
        /// The last lines it logged.
        lines: Vec<String>,
    },
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
        // A few stages; whoever is slow to read is waited for.
        let (stages, told) = mpsc::channel(16);
        let (runtime, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            if let Err(error) = runtime.deploy_stages(&name, cause, &stages).await {
                let why = sentence(&error);
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
        let mut service = read_service(&folder, name)?;
        if self.options.is_single {
            service.instances = Instances { min: 1, max: 1 };
        }
        if let Some(missing) = programs::missing(&service, &self.options.env) {
            return Err(DeployError::NoProgram {
                service: service.name,
                key: missing.key,
                program: missing.program,
                advice: missing.advice,
            });
        }
        let hash = self.copied(&folder, &service, stages).await?;
        let version = match self.add(service, &hash, cause)? {
            Added::New(version) => version,
            Added::Known(version) => {
                tell(stages, Stage::Unchanged { version }).await;
                return Ok(());
            }
        };
        self.follow(name, &version, began_us, stages).await;
        Ok(())
    }

    /// Copies and builds, where this was not done before; the hash.
    async fn copied(
        &self,
        folder: &Path,
        service: &Service,
        stages: &mpsc::Sender<Stage>,
    ) -> Result<String, DeployError> {
        let failed = |source| DeployError::Copy {
            folder: folder.to_path_buf(),
            source,
        };
        let (from, name) = (folder.to_path_buf(), service.name.clone());
        // Two copies of one folder at a time would get into each other's way.
        let _copying = self.copying.of(&name).lock_owned().await;
        let to = self.options.versions_dir.join(&name);
        let hashing = tokio::task::spawn_blocking(move || {
            let entries = folder::contents(&from)?;
            let hash = folder::hash(&from, &entries)?;
            let copy = to.join(&hash);
            let aside = to.join(format!("{hash}.new"));
            if copy.is_dir() {
                return Ok((hash, None));
            }
            if aside.is_dir() {
                std::fs::remove_dir_all(&aside)?;
            }
            folder::copy(&from, &entries, &aside)?;
            Ok((hash, Some((aside, copy))))
        });
        let hashed = hashing.await.map_err(std::io::Error::other);
        let (hash, made) = hashed.and_then(|hashed| hashed).map_err(failed)?;
        tell(stages, Stage::Copied { hash: hash.clone() }).await;
        if let Some((aside, copy)) = made {
            if let Some(build) = &service.build {
                tell(stages, Stage::Building).await;
                let _place = self.builds.acquire().await;
                run_build(service, build, &self.options.build_env, &aside).await?;
            }
            // Named only when whole: a copy that is there can be run.
            std::fs::rename(&aside, &copy).map_err(failed)?;
        }
        Ok(hash)
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
        self.change(&name, |wanted| {
            let is_same = |version: &&Version| version.hash == hash && version.service == service;
            // Whoever went back from a version does not want it again with the next start.
            if let Some(known) = wanted.versions.iter().rfind(is_same).filter(|_| is_start) {
                return Ok(Added::Known(known.name.clone()));
            }
            let is_named =
                |version: &&Version| named.as_ref().is_none_or(|name| *name == version.name);
            let last = wanted.versions.last().filter(|_| !wanted.is_stopped);
            if let Some(last) = last.filter(is_same).filter(is_named)
                && last.phase == Phase::Starting
            {
                return Ok(Added::New(last.name.clone()));
            }
            let serving = wanted.serving().filter(is_same);
            if let Some(serving) = serving.filter(is_named)
                && !wanted.is_stopped
            {
                return Ok(Added::Known(serving.name.clone()));
            }
            wanted.is_stopped = false;
            let version = named.clone().unwrap_or_else(|| {
                let free = (wanted.next_version..).map(|number| format!("v{number}"));
                let mut free = free.filter(|name| wanted.version(name).is_none());
                free.next().unwrap_or_default()
            });
            if let Some(known) = wanted.version(&version) {
                if !is_same(&known) {
                    return Err(taken(&version));
                }
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
                reason,
                why: None,
            });
            Ok(Added::New(version))
        })?
    }

    /// Waits until every caller goes to a version that serves; for people, what is not as it should
    /// be: callers who do not in time, limits that are not held.
    async fn shortcomings(&self, name: &str, version: &str) -> Vec<String> {
        let mut notes = Vec::new();
        let missing = self.views().borrow().iter().find_map(|service| {
            let mut of = service.instances.iter();
            let of = of.find(|one| service.name == name && one.version == version)?;
            of.limits_missing.clone()
        });
        notes.extend(missing);
        if !self.routes_taken().await {
            notes.push(String::from(
                "the bus has not taken over the routes: calls without a version, from clients \
                 without an SDK, may go where they went before; `serin doctor` looks at the bus",
            ));
        }
        if !self.is_reached(name, version).await {
            notes.push(String::from(
                "the gateway does not send requests to it yet; `serin status` says how it is",
            ));
        }
        notes
    }

    /// Tells how a version gets on until it serves or will not.
    async fn follow(&self, name: &str, version: &str, began_us: i64, stages: &mpsc::Sender<Stage>) {
        let took_ms = || ((self.options.now_us)() - began_us) / 1_000;
        let mut views = self.views();
        let mut told_ready = None;
        loop {
            // Absent until the reconciler has seen the version.
            let seen = progress(&views.borrow_and_update(), name, version);
            let version = version.to_owned();
            match seen {
                Some((of, ready)) if of.phase == Phase::Starting => {
                    let is_news = told_ready.replace(ready) != Some(ready);
                    if is_news {
                        let of = of.instances.min;
                        tell(stages, Stage::Starting { version, ready, of }).await;
                    }
                }
                Some((of, _)) if of.phase == Phase::Serving => {
                    for text in self.shortcomings(name, &version).await {
                        tell(stages, Stage::Note { text }).await;
                    }
                    let took_ms = took_ms();
                    return tell(stages, Stage::Serving { version, took_ms }).await;
                }
                Some((of, _)) if of.is_job && of.phase == Phase::Retired => {
                    let took_ms = took_ms();
                    return tell(stages, Stage::Ended { version, took_ms }).await;
                }
                Some((of, _)) => {
                    let failed = self.failed(name, version, of.why).await;
                    return tell(stages, failed).await;
                }
                None => {}
            }
            if stages.is_closed() || views.changed().await.is_err() {
                return;
            }
        }
    }

    /// What to tell of a version that will not serve: why, and what its instances said last.
    async fn failed(&self, name: &str, version: String, why: Option<String>) -> Stage {
        let mut lines = self.tail(name, &version).await;
        lines.drain(..lines.len().saturating_sub(LINES_SHOWN));
        let mut why = why.unwrap_or_else(|| String::from("another version took its place"));
        let wanted = self.known(name).ok();
        if let Some(of) = wanted.as_ref().and_then(|wanted| wanted.version(&version))
            && let Some(advice) = programs::too_old(&of.service, &self.options.dir).await
        {
            why = format!("{why}; {advice}");
        }
        Stage::Failed {
            version: Some(version),
            why,
            lines,
        }
    }
}

/// A version as it is seen, and how many of its instances are ready.
fn progress(views: &[ServiceView], name: &str, version: &str) -> Option<(VersionView, usize)> {
    let service = views.iter().find(|service| service.name == name)?;
    let of = service.versions.iter().find(|one| one.name == version)?;
    let instances = service.instances.iter();
    let ready = instances.filter(|one| one.version == version && one.state == "ready");
    Some((of.clone(), ready.count()))
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

enum Added {
    New(String),
    Known(String),
}

/// Lets one at a time at the copies of a service.
#[derive(Debug, Default)]
pub(super) struct Copying(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Copying {
    fn of(&self, service: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(service.to_owned()).or_default())
    }
}

/// Reads and checks the file of a service.
pub(super) fn read_service(folder: &Path, name: &str) -> Result<Service, DeployError> {
    let file = folder.join(service::FILE);
    let text = std::fs::read_to_string(&file).map_err(|_| DeployError::NoFile {
        name: name.to_owned(),
        file: file.clone(),
    })?;
    let shown = format!("services/{name}/{}", service::FILE);
    service::read(&shown, name, &text).map_err(DeployError::File)
}

async fn run_build(
    service: &Service,
    build: &[String],
    env: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<(), DeployError> {
    let failed = |why: String, lines| DeployError::Build {
        service: service.name.clone(),
        why,
        lines,
    };
    let Some((program, arguments)) = build.split_first() else {
        return Ok(());
    };
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .envs(env)
        .envs(&service.env)
        .envs(folder::env_file(folder))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(format!("{program}: {error}"), Vec::new()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.drain(..lines.len().saturating_sub(LINES_SHOWN));
    Err(failed(output.status.to_string(), lines))
}

async fn tell(stages: &mpsc::Sender<Stage>, stage: Stage) {
    // Whoever asked may have gone; the version goes on.
    if stages.send(stage).await.is_err() {
        tracing::debug!("nobody follows a deploy any more");
    }
}
