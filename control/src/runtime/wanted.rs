//! What is wanted of a service: its versions and how far each is. A row of the catalogue's file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serin_wire::route::SLOTS;
use serin_wire::{Route, Weight};

use super::told::Reason;
use crate::service::{Instances, Service};

/// Versions that are kept besides those that run, for `serin rollback`.
const KEPT: usize = 5;

/// What is wanted of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its versions, oldest first.
    pub versions: Vec<Version>,
    /// The number of the next version that is not named.
    pub next_version: u64,
    /// Whether it was stopped by hand.
    pub is_stopped: bool,
    /// The version that was drained last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Its name, `v3`.
    pub name: String,
    /// What it was made of, 16 hex digits.
    pub hash: String,
    /// The service as this version runs it.
    pub service: Service,
    /// How far it is.
    pub phase: Phase,
    /// Since when, microseconds since 1970.
    pub since_us: i64,
    /// When it began to serve last, or ended well as a job; nothing where it never did, or somebody
    /// went back from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served_us: Option<i64>,
    /// Why it was started last.
    #[serde(default)]
    pub reason: Reason,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How far a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Its instances are started and not all ready; it takes no calls.
    Starting,
    /// It takes the calls.
    Serving,
    /// It takes no more calls and finishes what it has.
    Draining,
    /// It is kept and does not run.
    Retired,
    /// It did not get ready.
    Failed,
}

impl Wanted {
    /// A service that was never deployed.
    pub fn new(name: &str) -> Wanted {
        Wanted {
            name: name.to_owned(),
            versions: Vec::new(),
            next_version: 1,
            is_stopped: false,
            drained: None,
        }
    }

    /// Reads the rows of all services, each a name and a text. Of one that cannot be read nothing is
    /// wanted: it is shown as down, and goes on with the next deploy.
    pub(super) fn read_all(rows: Vec<(String, String)>) -> BTreeMap<String, Wanted> {
        let read = rows.into_iter().map(|(name, text)| {
            let read = serde_json::from_str(&text).map(Wanted::with_served);
            let wanted = read.unwrap_or_else(|error| {
                tracing::error!(
                    service = name,
                    %error,
                    "the catalogue's text of a service cannot be understood, so nothing of it is \
                     run; `serin deploy {name}` writes it anew, `serin rm {name}` forgets it"
                );
                Wanted::new(&name)
            });
            (name, wanted)
        });
        read.collect()
    }

    /// The row of an earlier Serin does not say who served: those that are over are taken to have.
    fn with_served(mut self) -> Wanted {
        let is_earlier = (self.serving()).is_some_and(|serving| serving.served_us.is_none());
        let latest_us = self.versions.iter().map(|version| version.since_us).max();
        for version in self.versions.iter_mut().filter(|_| is_earlier) {
            version.served_us = match version.phase {
                Phase::Serving => latest_us.map(|latest_us| latest_us + 1),
                Phase::Draining | Phase::Retired => Some(version.since_us),
                Phase::Starting | Phase::Failed => None,
            };
        }
        self
    }

    /// Wants one instance of each version.
    pub(super) fn single(mut self) -> Wanted {
        for version in &mut self.versions {
            version.service.instances = Instances { min: 1, max: 1 };
        }
        self
    }

    /// The version that takes the calls.
    pub fn serving(&self) -> Option<&Version> {
        self.versions
            .iter()
            .rfind(|version| version.phase == Phase::Serving)
    }

    /// The version of a name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The version of a name as it was when something was planned for it; `None` where somebody, such as
    /// who goes back to it, has moved it on since.
    pub(super) fn as_planned(&self, name: &str, since_us: i64) -> Option<&Version> {
        self.version(name)
            .filter(|version| version.since_us == since_us)
    }

    /// Since when who waits for this service need not any more: it serves, or was a job and ended well.
    pub(super) fn there_since_us(&self) -> Option<i64> {
        if self.is_stopped {
            return None;
        }
        if let Some(serving) = self.serving() {
            return Some(serving.since_us);
        }
        let mut versions = self.versions.iter();
        // One that starts has retired those before it, whether or not they had ended.
        if versions.any(|version| version.phase == Phase::Starting) {
            return None;
        }
        let latest = self
            .versions
            .iter()
            .max_by_key(|version| version.since_us)?;
        let has_ended = latest.service.is_job && latest.phase == Phase::Retired;
        has_ended.then_some(latest.since_us)
    }

    /// Moves a version to another phase.
    pub(super) fn enter(&mut self, name: &str, phase: Phase, now_us: i64, why: Option<String>) {
        if phase == Phase::Draining {
            self.drained = Some(name.to_owned());
        }
        let mut versions = self.versions.iter_mut();
        let Some(version) = versions.find(|version| version.name == name) else {
            return;
        };
        let is_job_done =
            version.service.is_job && (version.phase, phase) == (Phase::Starting, Phase::Retired);
        version.phase = phase;
        version.since_us = now_us;
        version.why = why;
        if phase == Phase::Serving || is_job_done {
            let before_us = version.served_us.replace(now_us);
            let is_back = version.reason == Reason::Back;
            // Whoever went back does not want what served since.
            for other in self.versions.iter_mut().filter(|_| is_back) {
                if other.name != name && other.served_us > before_us {
                    other.served_us = None;
                }
            }
        }
    }

    /// The version to go back to: the one that served before. While somebody goes back already, it is
    /// one further back.
    pub(super) fn earlier(&self) -> Option<&Version> {
        let is_back = |one: &&Version| one.phase == Phase::Starting && one.reason == Reason::Back;
        let back = self.versions.iter().find(is_back);
        let before_us = back.and_then(|version| version.served_us);
        let is_over = |one: &&Version| matches!(one.phase, Phase::Retired | Phase::Draining);
        let over = self.versions.iter().filter(is_over);
        let served = over.filter_map(|version| Some((version.served_us?, version)));
        let earlier = served.filter(|(us, _)| before_us.is_none_or(|before_us| *us < before_us));
        earlier
            .max_by_key(|(us, _)| *us)
            .map(|(_, version)| version)
    }

    /// Has a version that is kept started again.
    pub(super) fn start(&mut self, name: &str, reason: Reason, now_us: i64) {
        self.enter(name, Phase::Starting, now_us, None);
        let mut versions = self.versions.iter_mut();
        if let Some(version) = versions.find(|version| version.name == name) {
            version.reason = reason;
        }
    }

    /// Starts the version that served before in the place of all that start; its name.
    pub(super) fn go_back(&mut self, now_us: i64) -> Option<String> {
        let earlier = self.earlier()?.name.clone();
        self.is_stopped = false;
        self.retire_starting(now_us);
        self.start(&earlier, Reason::Back, now_us);
        Some(earlier)
    }

    /// Has no other version take the place of the one that serves.
    pub(super) fn retire_starting(&mut self, now_us: i64) {
        let starting = self.versions.iter_mut();
        for version in starting.filter(|version| version.phase == Phase::Starting) {
            version.phase = Phase::Retired;
            version.since_us = now_us;
        }
    }

    /// Forgets the versions that have not run for the longest; the hashes that nobody needs any more.
    /// One that made room may have to serve again, and so may the one to go back to.
    pub(super) fn forget_old(&mut self) -> Vec<String> {
        let made_room = self.drained.clone().filter(|_| self.serving().is_none());
        let is_over = |version: &Version| {
            matches!(version.phase, Phase::Retired | Phase::Failed)
                && made_room.as_ref() != Some(&version.name)
        };
        let mut over: Vec<&Version> = self.versions.iter().filter(|one| is_over(one)).collect();
        let to_go = over.len().saturating_sub(KEPT);
        let earlier = self.earlier().map(|version| &version.name);
        over.retain(|version| Some(&version.name) != earlier);
        over.sort_by_key(|version| version.since_us);
        let to_go = over.into_iter().take(to_go);
        let to_go: Vec<String> = to_go.map(|version| version.name.clone()).collect();
        let is_gone = |version: &mut Version| to_go.contains(&version.name);
        let gone = self.versions.extract_if(.., is_gone);
        let mut gone: Vec<String> = gone.map(|version| version.hash).collect();
        gone.retain(|hash| self.versions.iter().all(|version| version.hash != *hash));
        gone
    }

    /// Who is called, and how much.
    pub fn route(&self) -> Route {
        let serving = self.serving().filter(|_| !self.is_stopped);
        Route {
            versions: serving
                .map(|version| Weight {
                    version: version.name.clone(),
                    weight: SLOTS,
                })
                .into_iter()
                .collect(),
            idempotent: serving
                .map(|version| version.service.idempotent.clone())
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str, phase: Phase, since_us: i64, yaml: &str) -> Version {
        Version {
            name: name.to_owned(),
            hash: name.to_owned(),
            service: crate::service::read("service.yaml", "cart", yaml).expect("a service"),
            phase,
            since_us,
            served_us: (phase == Phase::Serving).then_some(since_us),
            reason: Reason::default(),
            why: None,
        }
    }

    fn wanted(versions: Vec<Version>) -> Wanted {
        Wanted {
            versions,
            ..Wanted::new("cart")
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_harms_no_other() {
        let good = wanted(vec![version("v1", Phase::Serving, 1, "run: x\n")]);
        let text = serde_json::to_string(&good).expect("a text");
        let rows = [
            ("cart", text.as_str()),
            ("torn", "{"),
            ("later", "{\"of\": 1}"),
        ];
        let rows = rows.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let read = Wanted::read_all(rows.to_vec());
        assert_eq!(read["cart"], good);
        assert_eq!(read["torn"], Wanted::new("torn"));
        assert_eq!(read["later"], Wanted::new("later"));
    }

    #[test]
    fn what_is_planned_for_a_version_that_is_started_meanwhile_is_not_done() {
        let drained = version("v1", Phase::Draining, 7, "run: x\n");
        let serving = version("v2", Phase::Serving, 7, "run: x\n");
        let mut cart = wanted(vec![drained, serving]);
        assert!(cart.as_planned("v1", 7).is_some());
        cart.start("v1", Reason::Back, 8);
        assert_eq!(cart.as_planned("v1", 7), None, "it would be retired again");
        assert!(cart.as_planned("v2", 7).is_some());
    }

    #[test]
    fn those_longest_out_of_use_are_forgotten_but_not_who_made_room() {
        let yaml = "run: x\nport: 8000\n";
        let failed = (2..=6).map(|number| version(&format!("v{number}"), Phase::Failed, 1, yaml));
        let first = version("v1", Phase::Retired, 0, yaml);
        let mut many = wanted([first].into_iter().chain(failed).collect());
        many.drained = Some(String::from("v1"));
        assert_eq!(many.forget_old(), Vec::<String>::new());
        many.versions.push(version("v7", Phase::Serving, 1, yaml));
        assert_eq!(many.forget_old(), ["v1"]);
    }

    /// Has a version take the place of the one that serves.
    fn serves(wanted: &mut Wanted, name: &str, now_us: i64) {
        if let Some(before) = wanted.serving().map(|version| version.name.clone()) {
            wanted.enter(&before, Phase::Draining, now_us, None);
        }
        wanted.enter(name, Phase::Serving, now_us, None);
        let draining = wanted
            .versions
            .iter()
            .find(|one| one.phase == Phase::Draining);
        if let Some(before) = draining.map(|version| version.name.clone()) {
            wanted.enter(&before, Phase::Retired, now_us + 1, None);
        }
    }

    fn deployed(wanted: &mut Wanted, name: &str, now_us: i64) {
        let new = version(name, Phase::Starting, now_us, "run: x\n");
        wanted.versions.push(new);
        serves(wanted, name, now_us + 1);
    }

    fn goes_back(wanted: &mut Wanted, now_us: i64) -> Option<String> {
        let earlier = wanted.go_back(now_us)?;
        serves(wanted, &earlier, now_us + 1);
        Some(earlier)
    }

    #[test]
    fn whoever_goes_back_gets_to_what_served_before_and_never_to_what_was_gone_back_from() {
        let mut cart = wanted(Vec::new());
        for (name, now_us) in [("v0", 0), ("v1", 10), ("v2", 20)] {
            deployed(&mut cart, name, now_us);
        }
        assert_eq!(goes_back(&mut cart, 30).as_deref(), Some("v1"));
        deployed(&mut cart, "v3", 40);
        assert_eq!(
            goes_back(&mut cart, 50).as_deref(),
            Some("v1"),
            "v2 was bad"
        );
        assert_eq!(
            goes_back(&mut cart, 60).as_deref(),
            Some("v0"),
            "further back"
        );
        assert_eq!(goes_back(&mut cart, 70), None, "not forth again");
        // Deployed again, it counts again.
        cart.start("v3", Reason::Asked, 80);
        serves(&mut cart, "v3", 81);
        deployed(&mut cart, "v4", 90);
        assert_eq!(goes_back(&mut cart, 100).as_deref(), Some("v3"));
    }

    #[test]
    fn nobody_goes_back_to_what_never_served() {
        let mut cart = wanted(Vec::new());
        deployed(&mut cart, "v1", 0);
        let superseded = version("v2", Phase::Starting, 10, "run: x\n");
        cart.versions.push(superseded);
        cart.retire_starting(11);
        deployed(&mut cart, "v3", 11);
        assert_eq!(goes_back(&mut cart, 20).as_deref(), Some("v1"));
    }

    #[test]
    fn whoever_goes_back_while_another_version_starts_ends_that() {
        let mut cart = wanted(Vec::new());
        deployed(&mut cart, "v7", 0);
        deployed(&mut cart, "v8", 10);
        let starting = version("v9", Phase::Starting, 20, "run: x\n");
        cart.versions.push(starting);
        assert_eq!(cart.go_back(21).as_deref(), Some("v7"));
        let phase = |name: &str| cart.version(name).expect("there").phase;
        assert_eq!(phase("v7"), Phase::Starting);
        assert_eq!(
            phase("v9"),
            Phase::Retired,
            "it would be taken for the newest"
        );
    }

    #[test]
    fn who_goes_back_twice_at_once_goes_further_back() {
        let mut cart = wanted(Vec::new());
        for (name, now_us) in [("v1", 0), ("v2", 10), ("v3", 20)] {
            deployed(&mut cart, name, now_us);
        }
        cart.start("v2", Reason::Back, 30);
        // It made room for one that runs alone.
        cart.enter("v3", Phase::Draining, 31, None);
        assert_eq!(cart.earlier().expect("one").name, "v1");
    }

    #[test]
    fn the_version_to_go_back_to_is_not_forgotten() {
        let mut cart = wanted(Vec::new());
        deployed(&mut cart, "v1", 0);
        deployed(&mut cart, "v2", 10);
        for number in 3..8_i64 {
            deployed(&mut cart, &format!("v{number}"), number * 10);
            let back = goes_back(&mut cart, number * 10 + 5);
            assert_eq!(back.as_deref(), Some("v2"));
        }
        deployed(&mut cart, "v8", 80);
        assert_eq!(cart.forget_old(), ["v1", "v3"]);
        assert_eq!(goes_back(&mut cart, 90).as_deref(), Some("v2"));
    }

    #[test]
    fn of_a_row_that_does_not_say_who_served_those_that_are_over_did() {
        let row = |name, phase, since_us| Version {
            served_us: None,
            ..version(name, phase, since_us, "run: x\n")
        };
        let earlier = wanted(vec![
            row("v1", Phase::Retired, 20),
            row("v2", Phase::Retired, 31),
            row("v3", Phase::Serving, 30),
        ]);
        let text = serde_json::to_string(&earlier).expect("a text");
        assert!(!text.contains("served_us"), "{text}");
        let mut read = Wanted::read_all(vec![(String::from("cart"), text)]);
        let cart = read.get_mut("cart").expect("read");
        assert_eq!(goes_back(cart, 40).as_deref(), Some("v2"));
        assert_eq!(goes_back(cart, 50).as_deref(), Some("v1"));
        assert_eq!(goes_back(cart, 60), None);
    }

    #[test]
    fn one_of_each_is_wanted_but_not_kept() {
        let two = wanted(vec![version("v1", Phase::Serving, 1, "run: x\n")]);
        let single = two.clone().single();
        let instances = |of: &Wanted| of.versions[0].service.instances.min;
        assert_eq!((instances(&two), instances(&single)), (2, 1));
    }

    #[test]
    fn a_job_is_there_once_it_ended_well() {
        let job = |name, phase, since_us| version(name, phase, since_us, "run: x\njob: true\n");
        for (versions, expected) in [
            (vec![job("v1", Phase::Starting, 1)], None),
            (vec![job("v1", Phase::Retired, 2)], Some(2)),
            (vec![job("v1", Phase::Failed, 2)], None),
            (
                vec![job("v1", Phase::Retired, 2), job("v2", Phase::Starting, 1)],
                None,
            ),
            (
                vec![job("v1", Phase::Retired, 2), job("v2", Phase::Failed, 3)],
                None,
            ),
            (vec![version("v1", Phase::Retired, 2, "run: x\n")], None),
        ] {
            assert_eq!(wanted(versions).there_since_us(), expected);
        }
    }
}
