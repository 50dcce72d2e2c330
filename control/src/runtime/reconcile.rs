//! The reconciler: looks, plans, acts; again at each tick and whenever something changed.
//!
//! One task owns acting. Start at [`Runtime::run`].

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serin_lake::{Lake, LakeError};
use serin_sdk::Serin;
use serin_wire::Routes;
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, watch};

use super::access::{Access, Member, spread_weights};
use super::act::Shims;
use super::deploy::Copying;
use super::deploying::AllDeploying;
use super::forward::forward;
use super::guest::Guest;
use super::hear::Heard;
use super::idempotent;
use super::kept::Kept;
use super::orders;
use super::plan::{Action, is_settled, plan, waits_for};
use super::seen::{Seen, SeenInstance};
use super::view::ServiceView;
use super::wanted::Wanted;
use crate::service::ends;
use crate::shim::ShimError;

/// How often is looked even though nothing was heard, while something is under way.
const TICK: Duration = Duration::from_millis(100);
/// How often while nothing is: an instance falls silent for seconds before it is replaced.
const SETTLED_TICK: Duration = Duration::from_millis(500);
/// How often while there is no service at all: the first one is told of.
const EMPTY_TICK: Duration = Duration::from_secs(5);
/// How long the bus may take to take over routes before it is said that it has not.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// The pause before a bus that did not take them over is asked again.
const SPREAD_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Builds at a time; ten services of an example are deployed at once.
const BUILDS_MAX: usize = 2;

/// Where the runtime works and with what.
pub struct RuntimeOptions {
    /// The project's folder, with `services/`.
    pub dir: PathBuf,
    /// Where the copies of versions are.
    pub versions_dir: PathBuf,
    /// Where each service has a folder for what outlives its instances and versions.
    pub kept_dir: PathBuf,
    /// Where sockets of shims are; short, since a socket's path is.
    pub run_dir: PathBuf,
    /// This program, which is also the shim.
    pub program: PathBuf,
    /// The bus, with credentials.
    pub bus: String,
    /// A connection to it.
    pub client: async_nats::Client,
    /// Who may use it, and where callers go.
    pub access: Box<dyn Access>,
    /// Keeps what is wanted.
    pub lake: Lake,
    /// Tells what was done, like any service.
    pub serin: Serin,
    /// Environment of every instance, under its service's own.
    pub env: BTreeMap<String, String>,
    /// Environment of every build, under its service's own.
    pub build_env: BTreeMap<String, String>,
    /// One instance of each service, to save memory.
    pub is_single: bool,
    /// The clock.
    pub now_us: fn() -> i64,
}

/// Why a step of the runtime failed.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// No service of this name was deployed.
    #[error("no service {name:?}; {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Which there are.
        known: String,
    },
    /// It is shown, but has no version yet.
    #[error("{name:?} has no version yet: {how}")]
    NoVersion {
        /// The service.
        name: String,
        /// How its deploy does, and what to do.
        how: &'static str,
    },
    /// There is no older version to go back to.
    #[error("{0:?} has no earlier version to go back to")]
    NoEarlier(String),
    /// What is wanted has no text.
    #[error("cannot write down what is wanted of {0:?}")]
    Unwritable(String, #[source] serde_json::Error),
    /// What is wanted could not be kept.
    #[error("cannot keep what is wanted of a service")]
    Lake(#[from] LakeError),
    /// A shim did not do its part.
    #[error(transparent)]
    Shim(#[from] ShimError),
}

/// The services of this machine.
pub struct Runtime {
    pub(super) options: RuntimeOptions,
    pub(super) kept: Kept,
    /// Since when it looks.
    since_us: i64,
    pub(super) shims: Shims,
    heard: Heard,
    /// Wakes whoever reconciles for a guest; what is wanted wakes by itself.
    pub(super) guest_changed: Notify,
    pub(super) copying: Copying,
    pub(super) deploying: AllDeploying,
    /// Services that were removed and whose copies are still there.
    pub(super) left: Mutex<BTreeSet<String>>,
    /// Builds that run at a time: each takes what cores there are by itself.
    pub(super) builds: Semaphore,
    /// Who was let onto the bus last.
    pub(super) members: watch::Sender<Vec<Member>>,
    /// Instances that were started by hand, by name.
    pub(super) guests: Mutex<BTreeMap<String, Guest>>,
    views: watch::Sender<Arc<Vec<ServiceView>>>,
    routes: watch::Sender<Arc<Routes>>,
    /// The revision of the routes by which calls without a version are spread.
    spread: watch::Sender<u64>,
}

impl Runtime {
    /// Reads what is wanted and finds the shims that an earlier Serin left.
    pub async fn open(options: RuntimeOptions) -> Result<Arc<Runtime>, RuntimeError> {
        let kept = Kept::open(options.lake.clone())?;
        let heard = Heard::new(options.client.clone());
        let shims = Shims::find(&options).await;
        let left = orders::left(&options.versions_dir, &kept.all());
        let runtime = Arc::new(Runtime {
            since_us: (options.now_us)(),
            options,
            kept,
            shims,
            heard,
            guest_changed: Notify::new(),
            copying: Copying::default(),
            deploying: AllDeploying::default(),
            left: Mutex::new(left),
            builds: Semaphore::new(BUILDS_MAX),
            members: watch::Sender::default(),
            guests: Mutex::default(),
            views: watch::Sender::default(),
            routes: watch::Sender::default(),
            spread: watch::Sender::default(),
        });
        // Whoever runs stays, and who is no instance is let on with them: the gateway.
        let seen = runtime.seen();
        let admitted = runtime.options.access.admit(running(&seen)).await;
        if let Err(error) = admitted {
            tracing::warn!(error, "cannot let instances onto the bus");
        }
        runtime.show_seen(&seen);
        Ok(runtime)
    }

    /// The services, as they change.
    pub fn views(&self) -> watch::Receiver<Arc<Vec<ServiceView>>> {
        self.views.subscribe()
    }

    /// The routes, as they change.
    pub fn routes(&self) -> watch::Receiver<Arc<Routes>> {
        self.routes.subscribe()
    }

    /// Looks, plans and acts until the task is dropped. Services live on.
    pub async fn run(self: Arc<Runtime>) {
        let there = self.members.subscribe();
        let hearing = self.heard.listen(self.options.now_us, there);
        let answering = self.heard.answer_routes(self.routes());
        let spreading = self.spread();
        let reconciling = async {
            loop {
                let pause = self.reconcile().await;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.kept.changed() => {}
                    () = self.guest_changed.notified() => {}
                    () = self.shims.changed() => {}
                }
            }
        };
        tokio::join!(hearing, answering, spreading, reconciling);
    }

    /// Has calls without a version spread as the routes say, whenever they change.
    async fn spread(&self) {
        let access = &self.options.access;
        let mut routes = self.routes();
        if access.needs_forwarding() {
            self.spread.send_replace(u64::MAX);
            return forward(&self.options.client, routes).await;
        }
        let mut there = None;
        loop {
            let now = Arc::clone(&routes.borrow_and_update());
            let taken = spread_weights(&**access, &now, &mut there).await;
            let is_over = match taken {
                Ok(()) => {
                    self.spread.send_replace(now.revision);
                    routes.changed().await.is_err()
                }
                Err(error) => {
                    tracing::warn!(error, "calls without a version go where they went before");
                    let changed = tokio::time::timeout(SPREAD_AGAIN_AFTER, routes.changed()).await;
                    changed.is_ok_and(|changed| changed.is_err())
                }
            };
            if is_over {
                return;
            }
        }
    }

    /// Returns once every caller goes by the routes of this moment; `false` where the bus has not
    /// taken them over in time.
    pub(super) async fn routes_taken(&self) -> bool {
        let revision = self.routes.borrow().revision;
        let mut spread = self.spread.subscribe();
        let taken = spread.wait_for(|spread| *spread >= revision);
        tokio::time::timeout(TAKEN_WITHIN, taken).await.is_ok()
    }

    /// Returns once the gateway sends requests to a version, where it is one of a web service; `false`
    /// where it has not in time.
    pub(super) async fn is_reached(&self, service: &str, version: &str) -> bool {
        let wanted = self.kept.of(service).ok();
        let is_web = wanted.is_some_and(|wanted| {
            let version = wanted.version(version);
            version.is_some_and(|version| version.service.web.is_some())
        });
        if !is_web {
            return true;
        }
        let reached = self.options.access.reaches(service, version);
        tokio::time::timeout(TAKEN_WITHIN, reached).await.is_ok()
    }

    /// Lets onto the bus what runs and what is about to.
    async fn admit(&self, seen: &Seen, actions: &[Action]) {
        let started = actions.iter().filter_map(|action| match action {
            Action::Start {
                service,
                version,
                number,
                ..
            } => Some(member(service, version, *number)),
            _ => None,
        });
        let guests: Vec<Member> = {
            let guests = self.guests();
            guests.values().map(|guest| guest.member.clone()).collect()
        };
        let mut members: Vec<Member> = running(seen)
            .into_iter()
            .chain(started)
            .chain(guests)
            .collect();
        members.sort();
        if *self.members.borrow() == members {
            return;
        }
        match self.options.access.admit(members.clone()).await {
            Ok(()) => drop(self.members.send_replace(members)),
            Err(error) => tracing::warn!(error, "cannot let instances onto the bus"),
        }
    }

    /// One look and what follows from it; when to look again.
    async fn reconcile(self: &Arc<Runtime>) -> Duration {
        self.shims.connect_lost(&self.options).await;
        let seen = self.seen();
        self.mark_ready(&seen);
        self.look_at_guests(&self.heard);
        let now_us = (self.options.now_us)();
        self.remove_left(&seen);
        let (actions, pause) = {
            let wanted = self.kept.all();
            let wanted = self.as_run(&wanted);
            let actions = plan(&wanted, &seen, now_us);
            let pause = match self.guests().is_empty() {
                true if wanted.is_empty() && seen.instances.is_empty() => EMPTY_TICK,
                true if actions.is_empty() && is_settled(&wanted, &seen) => SETTLED_TICK,
                _ => TICK,
            };
            (actions, pause)
        };
        // Before what may take a moment: requests at an instance that ended wait for us to say so.
        self.show_seen(&seen);
        self.admit(&seen, &actions).await;
        if actions.is_empty() {
            return pause;
        }
        for action in actions {
            if let Err(error) = self.act(&action).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    ?action,
                    "a step for a service did not work"
                );
            }
        }
        self.show();
        TICK
    }

    /// What is wanted as this Serin runs it.
    fn as_run<'a>(
        &self,
        wanted: &'a BTreeMap<String, Wanted>,
    ) -> Cow<'a, BTreeMap<String, Wanted>> {
        if !self.options.is_single {
            return Cow::Borrowed(wanted);
        }
        let single = wanted.iter();
        let single = single.map(|(name, wanted)| (name.clone(), wanted.clone().single()));
        Cow::Owned(single.collect())
    }

    /// The services that a version which starts still waits for.
    pub(super) fn waits_for(&self, service: &str, version: &str) -> Vec<String> {
        let all = self.kept.all();
        let of = all.get(service).and_then(|wanted| wanted.version(version));
        of.map_or_else(Vec::new, |version| waits_for(version, &all))
    }

    pub(super) fn seen(&self) -> Seen {
        let now_us = (self.options.now_us)();
        let instances = self
            .shims
            .statuses()
            .into_iter()
            .map(|(service, statuses)| {
                let statuses = statuses.into_iter();
                let instances = statuses.map(|(status, unready)| SeenInstance {
                    heard_us: self.heard.heard_us(&status.instance, now_us),
                    status,
                    unready,
                });
                (service, instances.collect())
            });
        Seen {
            instances: instances.collect(),
            since_us: self.since_us,
            looked_us: now_us,
        }
    }

    /// Finds out which instances have become ready.
    fn mark_ready(self: &Arc<Runtime>, seen: &Seen) {
        let wanted = self.kept.all();
        for (name, instances) in &seen.instances {
            let Some(of) = wanted.get(name) else { continue };
            let waiting = instances
                .iter()
                .filter(|one| one.is_running() && !one.status.is_ready && !one.status.is_stopping);
            for one in waiting {
                if let Some(version) = of.version(&one.status.version) {
                    let folder = self.copy_of(name, &version.hash);
                    let (options, service) = (&self.options, &version.service);
                    self.shims
                        .probe(options, service, &one.status, &folder, &self.heard);
                }
            }
        }
    }

    /// Shows what is, where it changed.
    pub(super) fn show(&self) {
        self.show_seen(&self.seen());
    }

    fn show_seen(&self, seen: &Seen) {
        let kept = self.kept.all();
        let wanted = self.as_run(&kept);
        let guests = self.guests();
        let mut views = Vec::new();
        let mut services = BTreeMap::new();
        // Guests may be of services that were never deployed.
        let unknown = guests.values().map(|guest| &guest.member.service);
        let unknown: BTreeSet<&String> =
            unknown.filter(|name| !wanted.contains_key(*name)).collect();
        let unknown: Vec<Wanted> = unknown.into_iter().map(|name| Wanted::new(name)).collect();
        for one in wanted.values().chain(&unknown) {
            let of = guests
                .values()
                .filter(|guest| guest.member.service == one.name);
            let of: Vec<&Guest> = of.collect();
            let mut view = ServiceView::of(one, seen, &of);
            idempotent::complete(&mut view.route, &view.instances, |one| {
                self.heard.idempotent(one)
            });
            services.insert(one.name.clone(), view.route.clone());
            views.push(view);
        }
        let deploying = self.deploying.all();
        // So may be what is built for the first time, or could not be; nobody calls it.
        let unknown = deploying
            .keys()
            .filter(|name| !services.contains_key(*name));
        views.extend(unknown.map(|name| ServiceView::of(&Wanted::new(name), seen, &[])));
        for view in &mut views {
            view.show_deploy(deploying.get(&view.name));
        }
        views.sort_by(|a, b| a.name.cmp(&b.name));
        drop((guests, deploying));
        // What is wanted is held until all is shown: else this could be shown after what follows it, and
        // who has just started a version again would see it retired.
        // Routes first: who sees a version serve waits for routes that have it.
        let now_us = u64::try_from((self.options.now_us)()).unwrap_or_default();
        self.routes.send_if_modified(|shown| {
            let is_new = shown.services != services || shown.revision == 0;
            if is_new {
                // Rises over restarts as well, as long as the clock does.
                let revision = now_us.max(shown.revision + 1);
                *shown = Arc::new(Routes { revision, services });
            }
            is_new
        });
        self.views.send_if_modified(|shown| {
            let is_new = **shown != views;
            if is_new {
                *shown = Arc::new(views);
            }
            is_new
        });
    }

    /// The last lines of the instances of a version.
    pub async fn tail(&self, service: &str, version: &str) -> Vec<String> {
        self.shims.tail(service, version).await
    }

    /// Ends every instance and every shim: who waits for another service ends before it does.
    pub async fn end(&self) {
        let after = self.kept.all().values().map(after).collect();
        self.shims.end(ends(&after)).await;
    }

    /// Where the copy of a version is.
    pub(super) fn copy_of(&self, service: &str, hash: &str) -> PathBuf {
        self.options.versions_dir.join(service).join(hash)
    }
}

/// For which others a service waits, as far as it runs.
fn after(wanted: &Wanted) -> (String, Vec<String>) {
    let after = wanted
        .serving()
        .map(|version| version.service.after.clone());
    (wanted.name.clone(), after.unwrap_or_default())
}

/// The instances that run.
fn running(seen: &Seen) -> Vec<Member> {
    let running = seen.instances.iter().flat_map(|(service, instances)| {
        let running = instances.iter().filter(|one| one.is_running());
        running.map(|one| Member {
            service: service.clone(),
            version: one.status.version.clone(),
            instance: one.status.instance.clone(),
        })
    });
    running.collect()
}

/// The instance of a number.
pub(super) fn member(service: &str, version: &str, number: u64) -> Member {
    Member {
        service: service.to_owned(),
        version: version.to_owned(),
        instance: format!("{service}-{version}-{number}"),
    }
}
