//! Instances that somebody starts by hand, from a terminal or under a debugger: let onto the bus,
//! called beside the deployed ones, and forgotten when they go.
//!
//! A guest is of the version `dev` and lives in memory: nothing is wanted of it, nobody starts it
//! anew, nobody ends it. One that is held goes with the connection that holds it; one that is not,
//! when nothing was heard of it for an hour. Start at [`Runtime::invite`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serin_wire::route::SLOTS;
use serin_wire::{Route, Weight, name};
use thiserror::Error;

use super::access::Member;
use super::act::{command, environment, port_of};
use super::deploy::{DeployError, read_service};
use super::folder;
use super::hear::Heard;
use super::probe;
use super::reconcile::Runtime;
use crate::service::{Ready, Service};
use crate::shim::{BY_HAND, StopSignal};

/// The version of every guest; no deployed one may have its name.
pub(super) const VERSION: &str = BY_HAND;
/// Without a beat for so long a guest takes no calls: it was killed, or stands at a breakpoint.
const SILENT_US: i64 = 3_000_000;
/// Nobody debugs for so long without a sign of life.
const FORGOTTEN_AFTER_US: i64 = 3_600_000_000;
/// Callers may hold the old routes for a moment after the new ones were told.
const LEAVES_AFTER: Duration = Duration::from_millis(500);
/// How long the bus may take to let one in.
const LET_IN_WITHIN: Duration = Duration::from_secs(10);
/// A guest without beats is asked again after this.
const PROBED_EVERY: Duration = Duration::from_millis(500);
/// Of one service at a time.
const GUESTS_MAX: usize = 16;
/// The broker's weights are whole percents.
const PERCENT: u32 = SLOTS / 100;

/// How somebody wants to be a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The part of the calls that guests of the service take, in percent; without it, each as much
    /// as an instance.
    pub percent: Option<u32>,
    /// The name of an instance that was a guest before.
    pub instance: Option<String>,
    /// Whether it goes with whoever asked.
    pub is_held: bool,
    /// Whether its process runs already.
    pub is_started: bool,
}

/// What a guest needs to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pass {
    /// Its name.
    pub instance: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// What makes the program, where it is built.
    pub build: Option<Vec<String>>,
    /// The service's folder.
    pub dir: PathBuf,
    /// Beside the environment it is started in; with credentials.
    pub env: BTreeMap<String, String>,
    /// From the signal that asks it to end to SIGKILL.
    pub stop_within_ms: u64,
    /// That signal.
    pub stop_signal: StopSignal,
}

/// Why somebody cannot be a guest.
#[derive(Debug, Error)]
pub enum GuestError {
    /// The service's folder is not fit to run.
    #[error(transparent)]
    Service(#[from] DeployError),
    /// The name breaks the rules.
    #[error(transparent)]
    Name(#[from] name::NameError),
    /// There are too many.
    #[error("{0} has {GUESTS_MAX} instances started by hand already; end one of them")]
    TooMany(String),
    /// The part of the calls is none.
    #[error("{0} percent of the calls; say 0 to 100")]
    Percent(u32),
    /// It has no port, or no folder for what it keeps.
    #[error("cannot prepare a place for it")]
    Folder(#[source] std::io::Error),
    /// The bus did not take it.
    #[error("the bus does not let {0} in; `serin doctor` looks at the bus")]
    NotLetIn(String),
}

/// An instance started by hand.
#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) member: Member,
    pub(super) service: Service,
    pub(super) port: Option<u16>,
    pub(super) since_us: i64,
    pub(super) is_ready: bool,
    pub(super) is_leaving: bool,
    /// Whether who started its process said so.
    is_started: bool,
    percent: Option<u32>,
    dir: PathBuf,
    /// Whether it is being asked whether it takes work.
    is_probed: bool,
    is_held: bool,
    heard_us: i64,
}

/// Holds a guest until it is dropped.
pub struct Held {
    runtime: Arc<Runtime>,
    /// None once it may stay.
    instance: Option<String>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(instance) = &self.instance {
            self.runtime.forget_guest(instance);
        }
    }
}

impl Runtime {
    /// Makes room for an instance that is about to be started by hand: its name, its credentials,
    /// and its part of the calls once it says that it takes work.
    pub async fn invite(
        self: &Arc<Runtime>,
        name: &str,
        wish: Wish,
    ) -> Result<(Pass, Option<Held>), GuestError> {
        name::check_service(name)?;
        if let Some(percent) = wish.percent.filter(|percent| *percent > 100) {
            return Err(GuestError::Percent(percent));
        }
        let dir = self.options.dir.join("services").join(name);
        let service = read_service(&dir, name, None)?;
        let port = port_of(&service).map_err(GuestError::Folder)?;
        let member = self.enter_guest(&service, port, &dir, &wish)?;
        // From here on it is forgotten when something fails, or when whoever asked goes away.
        let held = Held {
            runtime: Arc::clone(self),
            instance: Some(member.instance.clone()),
        };
        self.let_in(&member).await?;
        let secrets = folder::env_file(&dir);
        let env = environment(&self.options, &service, &member, secrets, port);
        let pass = Pass {
            command: command(&self.options, &service.run),
            env: env.map_err(GuestError::Folder)?,
            instance: member.instance,
            build: service.build,
            dir,
            stop_within_ms: service.stop_within_ms,
            stop_signal: service.stop_signal,
        };
        if !wish.is_held {
            held.release();
            return Ok((pass, None));
        }
        Ok((pass, Some(held)))
    }

    fn enter_guest(
        &self,
        service: &Service,
        port: Option<u16>,
        dir: &Path,
        wish: &Wish,
    ) -> Result<Member, GuestError> {
        let mut guests = self.guests();
        let names = (1..=GUESTS_MAX).map(|number| format!("{}-{VERSION}-{number}", service.name));
        let mut free = names.filter(|name| !guests.contains_key(name));
        let wished = |name: &String| wish.instance.as_ref().is_none_or(|wished| wished == name);
        let first = free.next();
        let again = first.iter().cloned().chain(free).find(wished);
        let instance = again.or(first);
        let instance = instance.ok_or_else(|| GuestError::TooMany(service.name.clone()))?;
        let now_us = (self.options.now_us)();
        let member = Member {
            service: service.name.clone(),
            version: VERSION.to_owned(),
            instance: instance.clone(),
        };
        let guest = Guest {
            member: member.clone(),
            service: service.clone(),
            port,
            since_us: now_us,
            is_ready: false,
            is_leaving: false,
            is_started: wish.is_started,
            percent: wish.percent,
            dir: dir.to_path_buf(),
            is_probed: false,
            is_held: wish.is_held,
            heard_us: now_us,
        };
        guests.insert(instance, guest);
        Ok(member)
    }

    /// Returns once the bus takes its credentials.
    async fn let_in(&self, member: &Member) -> Result<(), GuestError> {
        let mut members = self.members.subscribe();
        self.guest_changed.notify_one();
        let let_in = members.wait_for(|members| members.contains(member));
        match tokio::time::timeout(LET_IN_WITHIN, let_in).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(GuestError::NotLetIn(member.instance.clone())),
        }
    }

    /// The process of a guest was started; `false` where it is not known.
    pub fn guest_started(&self, instance: &str) -> bool {
        let is_known = match self.guests().get_mut(instance) {
            Some(guest) => {
                guest.is_started = true;
                true
            }
            None => false,
        };
        self.guest_changed.notify_one();
        is_known
    }

    /// Takes a guest out of the routes, and returns once nobody calls it any more; `false` where it
    /// is not known.
    pub async fn leave(&self, instance: &str) -> bool {
        let is_known = match self.guests().get_mut(instance) {
            Some(guest) => {
                guest.is_leaving = true;
                true
            }
            None => false,
        };
        if is_known {
            self.show();
            if !self.routes_taken().await {
                tracing::warn!(instance, "the bus has not taken it out of the routes yet");
            }
            tokio::time::sleep(LEAVES_AFTER).await;
        }
        is_known
    }

    /// Forgets a guest that has ended.
    fn forget_guest(&self, instance: &str) {
        self.guests().remove(instance);
        self.guest_changed.notify_one();
    }

    pub(super) fn guests(&self) -> MutexGuard<'_, BTreeMap<String, Guest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out which guests take work now, and forgets those that nobody holds and nobody hears.
    pub(super) fn look_at_guests(self: &Arc<Runtime>, heard: &Heard) {
        let now_us = (self.options.now_us)();
        let mut guests = self.guests();
        guests.retain(|_, guest| guest.is_held || now_us - guest.heard_us < FORGOTTEN_AFTER_US);
        for guest in guests.values_mut().filter(|guest| !guest.is_probed) {
            if let Some(ready) = guest.asked() {
                guest.is_probed = true;
                tokio::spawn(Arc::clone(self).probe_guest(guest.clone(), ready));
                continue;
            }
            let instance = &guest.member.instance;
            let heard_us = heard.heard_us(instance, now_us);
            guest.heard_us = heard_us.unwrap_or(guest.heard_us);
            // Where nobody is heard it cannot be called either.
            let is_silent = now_us - guest.heard_us > SILENT_US;
            guest.is_ready = match guest.service.ready {
                Ready::Started => guest.is_started || heard_us.is_some() && !is_silent,
                _ => heard.is_ready(instance) && !is_silent,
            };
        }
    }

    async fn probe_guest(self: Arc<Runtime>, guest: Guest, ready: Ready) {
        let Guest {
            service,
            member,
            dir,
            port,
            ..
        } = &guest;
        let secrets = folder::env_file(dir);
        let is_ready = match environment(&self.options, service, member, secrets, *port) {
            Ok(env) => probe::look(&ready, *port, dir, &env).await.is_ok(),
            Err(error) => {
                tracing::warn!(%error, instance = member.instance, "cannot ask a guest");
                false
            }
        };
        // What takes work needs no second look at once, and what does not is soon asked again.
        tokio::time::sleep(PROBED_EVERY).await;
        let now_us = (self.options.now_us)();
        if let Some(guest) = self.guests().get_mut(&guest.member.instance) {
            guest.is_probed = false;
            guest.is_ready = is_ready;
            if is_ready {
                guest.heard_us = now_us;
            }
        }
        self.guest_changed.notify_one();
    }
}

impl Held {
    /// Lets it stay without anybody who holds it.
    fn release(mut self) {
        self.instance = None;
    }
}

impl Guest {
    /// What it is asked, where it does not say by itself that it takes work. That its process runs nobody
    /// can ask but by its port: who started it says so, or it does itself by its beats.
    fn asked(&self) -> Option<Ready> {
        match &self.service.ready {
            Ready::Beat => None,
            Ready::Started => self.port.map(|_| Ready::Tcp),
            ready => Some(ready.clone()),
        }
    }

    /// Whether calls are sent to it.
    pub(super) fn is_called(&self) -> bool {
        self.is_ready && !self.is_leaving
    }
}

/// A route with its guests: they take their part from the deployed version, which has `instances`
/// that are ready. The guests' version stands first, as one under trial does.
pub(super) fn with_guests(route: Route, instances: usize, guests: &[&Guest]) -> Route {
    let called: Vec<_> = guests.iter().filter(|guest| guest.is_called()).collect();
    let Some(last) = called.last() else {
        return route;
    };
    let percent = called.iter().filter_map(|guest| guest.percent).max();
    let even = || {
        let all = u32::try_from(instances + called.len()).unwrap_or(u32::MAX);
        let guests = u32::try_from(called.len()).unwrap_or(u32::MAX);
        (guests.saturating_mul(100) / all).clamp(1, 100)
    };
    let percent = match route.versions.is_empty() {
        // There is nobody else.
        true => percent.map_or(100, |percent| if percent == 0 { 0 } else { 100 }),
        false => percent.unwrap_or_else(even),
    };
    if percent == 0 {
        return route;
    }
    let mut versions = vec![Weight {
        version: VERSION.to_owned(),
        weight: percent * PERCENT,
    }];
    for version in &route.versions {
        let weight = version.weight / 100 * (100 - percent);
        versions.push(Weight {
            version: version.version.clone(),
            weight,
        });
    }
    versions.retain(|version| version.weight > 0);
    let sum: u32 = versions.iter().map(|version| version.weight).sum();
    if let Some(version) = versions.last_mut() {
        version.weight += SLOTS.saturating_sub(sum);
    }
    let idempotent = match route.versions.is_empty() {
        true => last.service.idempotent.clone(),
        false => route.idempotent,
    };
    Route {
        versions,
        idempotent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(number: u32, percent: Option<u32>, is_ready: bool) -> Guest {
        let service = crate::service::read("service.yaml", "cart", "run: x\n").expect("a service");
        Guest {
            member: Member {
                service: String::from("cart"),
                version: VERSION.to_owned(),
                instance: format!("cart-dev-{number}"),
            },
            service,
            port: None,
            since_us: 0,
            is_ready,
            is_leaving: false,
            is_started: false,
            percent,
            dir: PathBuf::new(),
            is_probed: false,
            is_held: true,
            heard_us: 0,
        }
    }

    fn shares(route: &Route) -> String {
        let shares = route.versions.iter();
        let shares: Vec<String> = shares
            .map(|one| format!("{} {}", one.version, one.weight))
            .collect();
        shares.join(", ")
    }

    #[test]
    fn guests_take_as_much_as_instances_or_as_they_say() {
        let route = |weights: &[(&str, u32)]| Route {
            versions: weights
                .iter()
                .map(|&(version, weight)| Weight {
                    version: version.to_owned(),
                    weight,
                })
                .collect(),
            idempotent: Vec::new(),
        };
        let serving = route(&[("v2", SLOTS)]);
        let trial = route(&[("v3", 500), ("v2", 9_500)]);
        let none = route(&[]);
        let ready = |percent| guest(1, percent, true);
        for (route, instances, guests, expected) in [
            (&serving, 2, vec![ready(None)], "dev 3300, v2 6700"),
            (
                &serving,
                2,
                vec![ready(None), guest(2, None, true)],
                "dev 5000, v2 5000",
            ),
            (&serving, 2, vec![guest(1, None, false)], "v2 10000"),
            (&serving, 2, vec![ready(Some(100))], "dev 10000"),
            (&serving, 2, vec![ready(Some(0))], "v2 10000"),
            (&serving, 2, vec![ready(Some(7))], "dev 700, v2 9300"),
            (&serving, 0, vec![ready(None)], "dev 10000"),
            (
                &trial,
                3,
                vec![ready(Some(50))],
                "dev 5000, v3 250, v2 4750",
            ),
            (&none, 0, vec![ready(Some(10))], "dev 10000"),
            (&none, 0, vec![ready(Some(0))], ""),
            (&none, 0, vec![], ""),
        ] {
            let guests: Vec<&Guest> = guests.iter().collect();
            let route = with_guests(route.clone(), instances, &guests);
            assert_eq!(shares(&route), expected);
        }
    }

    #[test]
    fn who_is_ready_once_started_is_asked_by_its_port_alone() {
        let with = |ready: Ready, port| {
            let mut guest = guest(1, None, false);
            (guest.service.ready, guest.port) = (ready, port);
            guest.asked()
        };
        assert_eq!(with(Ready::Started, None), None);
        assert_eq!(with(Ready::Started, Some(7)), Some(Ready::Tcp));
        assert_eq!(with(Ready::Beat, Some(7)), None);
        assert_eq!(with(Ready::Tcp, Some(7)), Some(Ready::Tcp));
    }

    #[test]
    fn who_leaves_is_called_no_more() {
        let leaving = Guest {
            is_leaving: true,
            ..guest(1, None, true)
        };
        let route = with_guests(Route::default(), 0, &[&leaving]);
        assert!(route.versions.is_empty());
    }
}
