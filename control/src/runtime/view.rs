//! Services as they are shown: to the gateway, the API and the page.

use serde::Serialize;
use serin_wire::Route;

use super::deploying::Deploying;
use super::guest::{Guest, with_guests};
use super::seen::{Seen, SeenInstance};
use super::wanted::{Phase, Version, Wanted};
use crate::service::{Instances, Scrape, Sticky};

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// In one word: `serving`, `starting`, `degraded`, `down`, `stopped`.
    pub state: &'static str,
    /// The gateway's path.
    pub web: Option<String>,
    /// Whether it is an unmodified HTTP program.
    pub has_port: bool,
    /// What keeps a web user on one version.
    pub sticky: Option<Sticky>,
    /// How long the gateway waits for its answers; the usual time where nothing is said.
    pub answer_within_ms: Option<u64>,
    /// The longest body that the gateway takes for it; the usual length where nothing is said.
    pub body_bytes_max: Option<u64>,
    /// Who is called, and how much.
    pub route: Route,
    /// A deploy of it that is no version yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<Deploying>,
    /// Its versions, newest first.
    pub versions: Vec<VersionView>,
    /// Its instances, those that run and the last that ended.
    pub instances: Vec<InstanceView>,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionView {
    /// Its name.
    pub name: String,
    /// What it was made of.
    pub hash: String,
    /// How far it is.
    pub phase: Phase,
    /// Since when.
    pub since_us: i64,
    /// Whether it runs once, to its end.
    pub is_job: bool,
    /// Instances it wants.
    pub instances: Instances,
    /// Where its instances tell their metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape: Option<Scrape>,
    /// Why it failed.
    pub why: Option<String>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstanceView {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `starting`, `ready`, `silent`, `draining`, `ended`.
    pub state: &'static str,
    /// Its process; 0 where somebody started it by hand.
    pub pid: u32,
    /// Its port.
    pub port: Option<u16>,
    /// When it was started.
    pub started_us: i64,
    /// When it ended.
    pub ended_us: Option<i64>,
    /// How it ended, `signal 9`.
    pub exit: Option<String>,
    /// Whether it ended and nobody had asked it to, or it was ended since it was silent.
    pub has_died: bool,
    /// Whether somebody started it by hand, so that its process is theirs.
    pub is_by_hand: bool,
    /// How its limits are held, `memory 256 MiB (cgroup v2)`; empty where it has none.
    pub limits: String,
    /// What of its limits is not held, and why.
    pub limits_missing: Option<String>,
}

impl ServiceView {
    pub(super) fn of(wanted: &Wanted, seen: &Seen, guests: &[&Guest]) -> ServiceView {
        let newest = wanted.serving().or(wanted.versions.last());
        let deployed = newest.map(|version| &version.service);
        let service = deployed.or(guests.last().map(|guest| &guest.service));
        let instances = seen.instances.get(&wanted.name).into_iter().flatten();
        let hang_us = |one: &SeenInstance| {
            let version = wanted.version(&one.status.version);
            let hang_ms = version.map_or(u64::MAX, |version| version.service.hang_after_ms);
            i64::try_from(hang_ms.saturating_mul(1_000)).unwrap_or(i64::MAX)
        };
        let instances = instances.map(|one| InstanceView::of(one, hang_us(one), seen.looked_us));
        let by_hand = guests.iter().map(|guest| InstanceView::of_guest(guest));
        let ready = wanted.serving().map_or(0, |version| {
            let of = seen.of(&wanted.name, &version.name);
            of.filter(|one| one.is_ready()).count()
        });
        let route = with_guests(wanted.route(), ready, guests);
        ServiceView {
            name: wanted.name.clone(),
            state: match state(wanted, seen) {
                // Nobody but guests is there.
                "down" | "stopped" | "starting" if guests.iter().any(|guest| guest.is_called()) => {
                    "serving"
                }
                state => state,
            },
            web: service.and_then(|service| service.web.clone()),
            has_port: service.is_some_and(|service| service.port.is_some()),
            sticky: service.and_then(|service| service.sticky.clone()),
            answer_within_ms: service.map(|service| service.answer_within_ms),
            body_bytes_max: service.map(|service| service.body_bytes_max),
            route,
            deploy: None,
            versions: wanted.versions.iter().rev().map(VersionView::of).collect(),
            instances: instances.chain(by_hand).collect(),
        }
    }

    /// Shows how far a deploy of it is that is no version yet.
    pub(super) fn show_deploy(&mut self, deploy: Option<&Deploying>) {
        let is_first = self.versions.is_empty() && self.instances.is_empty();
        if is_first && deploy.is_some_and(|deploy| deploy.why.is_none()) {
            self.state = "starting";
        }
        self.deploy = deploy.cloned();
    }
}

fn state(wanted: &Wanted, seen: &Seen) -> &'static str {
    let ready = |version: &Version| {
        let of = seen.of(&wanted.name, &version.name);
        of.filter(|one| one.is_ready() && !one.is_silent(seen.looked_us))
            .count()
    };
    let is_starting = |version: &Version| version.phase == Phase::Starting;
    match wanted.serving() {
        _ if wanted.is_stopped => "stopped",
        Some(version) if ready(version) == 0 => "down",
        Some(version) if ready(version) < version.service.instances.min as usize => "degraded",
        Some(_) => "serving",
        None if wanted.versions.iter().any(is_starting) => "starting",
        None => match wanted.versions.last().map(|version| version.phase) {
            Some(Phase::Failed) | None => "down",
            Some(Phase::Retired) => "stopped",
            Some(_) => "starting",
        },
    }
}

impl VersionView {
    fn of(version: &Version) -> VersionView {
        VersionView {
            name: version.name.clone(),
            hash: version.hash.clone(),
            phase: version.phase,
            since_us: version.since_us,
            is_job: version.service.is_job,
            instances: version.service.instances,
            scrape: version.service.scrape.clone(),
            why: version.why.clone(),
        }
    }
}

impl InstanceView {
    fn of(one: &SeenInstance, hang_us: i64, now_us: i64) -> InstanceView {
        let status = &one.status;
        let was_silent = |ended_us: i64| {
            one.heard_us
                .is_some_and(|heard_us| ended_us - heard_us > hang_us)
        };
        InstanceView {
            name: status.instance.clone(),
            version: status.version.clone(),
            state: match (one.is_running(), status.is_stopping, status.is_ready) {
                (false, ..) => "ended",
                (true, true, _) => "draining",
                (true, false, true) if one.is_silent(now_us) => "silent",
                (true, false, true) => "ready",
                (true, false, false) => "starting",
            },
            pid: status.pid,
            port: status.port,
            started_us: status.started_us,
            ended_us: status.exit.map(|exit| exit.time_us),
            exit: status.exit.map(|exit| exit.to_string()),
            has_died: status
                .exit
                .is_some_and(|exit| !status.is_stopping || was_silent(exit.time_us)),
            limits: status.limits.clone(),
            limits_missing: status.limits_missing.clone(),
            is_by_hand: false,
        }
    }

    fn of_guest(guest: &Guest) -> InstanceView {
        InstanceView {
            name: guest.member.instance.clone(),
            version: guest.member.version.clone(),
            state: match (guest.is_leaving, guest.is_ready) {
                (true, _) => "draining",
                (false, true) => "ready",
                (false, false) => "starting",
            },
            pid: 0,
            port: guest.port,
            started_us: guest.since_us,
            ended_us: None,
            exit: None,
            has_died: false,
            limits: String::new(),
            limits_missing: None,
            is_by_hand: true,
        }
    }
}
