//! The services as the runtime sees them: who is up, how many are wanted, who died, what was deployed.
//!
//! Deaths are counted from one view to the next. Pure; start at [`Services::look`].

use std::collections::{BTreeMap, HashMap};

use serin_control::runtime::{InstanceView, Phase, ServiceView, VersionView};
use serin_ui::Metric;
use serin_wire::request::NONE;

/// How an instance ended is told for so long.
const ENDED_TOLD_US: i64 = 60_000_000;

/// What was seen before.
#[derive(Debug, Default)]
pub(super) struct Services {
    ends: BTreeMap<String, Ends>,
    has_looked: bool,
    told: HashMap<Series, u64>,
}

/// The ends of a service's instances.
#[derive(Debug, Default)]
struct Ends {
    deaths: u64,
    /// The last that was seen.
    last_us: Option<i64>,
}

/// A metric's name and labels.
type Series = (&'static str, Vec<(&'static str, String)>);

impl Services {
    /// Everything about the services now, and of that what is new.
    pub(super) fn look(
        &mut self,
        views: &[ServiceView],
        now_us: i64,
    ) -> (Vec<Metric>, Vec<Metric>) {
        self.count_deaths(views);
        let now: Vec<Metric> = views
            .iter()
            .flat_map(|view| self.of_service(view, now_us))
            .collect();
        let series = |metric: &Metric| (metric.name, metric.labels.clone());
        let values = now
            .iter()
            .map(|metric| (series(metric), metric.value.to_bits()));
        let before = std::mem::replace(&mut self.told, values.collect());
        let is_new =
            |metric: &&Metric| before.get(&series(metric)) != Some(&metric.value.to_bits());
        let news = now.iter().filter(is_new).cloned().collect();
        (now, news)
    }

    /// Counts the ends that are later than those that were seen; what ended before the first look is
    /// history.
    fn count_deaths(&mut self, views: &[ServiceView]) {
        for view in views {
            let ends = self.ends.entry(view.name.clone()).or_default();
            let died = view
                .instances
                .iter()
                .filter(|one| one.has_died && one.ended_us > ends.last_us && !is_of_job(view, one));
            if self.has_looked {
                ends.deaths += died.count() as u64;
            }
            let last_us = view.instances.iter().filter_map(|one| one.ended_us).max();
            ends.last_us = ends.last_us.max(last_us);
        }
        self.has_looked = true;
    }

    fn of_service(&self, view: &ServiceView, now_us: i64) -> Vec<Metric> {
        let serving = view.versions.iter().find(|version| {
            let mut routed = view.route.versions.iter();
            routed.any(|routed| routed.version == version.name)
        });
        let version = serving.or(view.versions.first());
        let named = |metric: Metric, version: &str| {
            metric
                .label("service", &view.name)
                .label("version", version)
                .label("instance", NONE)
        };
        // One series each, whichever version serves and whichever Serin tells it.
        let of_all = |metric| named(metric, NONE);
        let is_of_it = |one: &&InstanceView| {
            one.is_by_hand || version.is_some_and(|version| version.name == one.version)
        };
        let ready = view.instances.iter().filter(|one| one.state == "ready");
        let draining = view.instances.iter().filter(|one| is_draining(view, one));
        let deaths = self.ends.get(&view.name).map(|ends| ends.deaths);
        let mut metrics = vec![
            of_all(Metric::gauge(
                "serin_service_up",
                "1 where a service is as wanted, 0.5 with too few instances, else 0.",
                match view.state {
                    "serving" | "stopped" => 1.0,
                    "degraded" => 0.5,
                    _ => 0.0,
                },
            ))
            .label("state", view.state),
            of_all(Metric::gauge(
                "serin_service_instances_ready",
                "Instances of the version that serves, or is to, that take work; those started by hand too.",
                ready.filter(is_of_it).count() as f64,
            )),
            of_all(Metric::gauge(
                "serin_service_instances_draining",
                "Instances that finish what they have and then end.",
                draining.count() as f64,
            )),
            of_all(Metric::counter(
                "serin_service_deaths_total",
                "Instances that ended though nobody asked them to.",
                deaths.unwrap_or_default(),
            )),
        ];
        if let Some(version) = version {
            let is_guest = |one: &&InstanceView| one.is_by_hand && one.state == "ready";
            let guests = view.instances.iter().filter(is_guest);
            metrics.push(of_all(Metric::gauge(
                "serin_service_instances_wanted",
                "Instances that are wanted, those that somebody started by hand among them.",
                f64::from(version.instances.min) + guests.count() as f64,
            )));
        }
        if let Some(serving) = serving {
            let deployed = Metric::gauge(
                "serin_service_deployed_seconds",
                "When the version that serves was deployed, seconds since 1970.",
                serving.since_us as f64 / 1e6,
            );
            metrics.push(named(deployed, &serving.name));
        }
        let is_told = |one: &&InstanceView| {
            one.ended_us
                .is_none_or(|ended_us| now_us - ended_us < ENDED_TOLD_US)
        };
        let told = view.instances.iter().filter(is_told);
        metrics.extend(told.map(|one| of_instance(view, one)));
        metrics
    }
}

fn is_of_job(view: &ServiceView, one: &InstanceView) -> bool {
    let mut versions = view.versions.iter();
    versions.any(|version| version.name == one.version && version.is_job)
}

/// Whether an instance is asked to end, or is about to be since its version gave the calls to another.
fn is_draining(view: &ServiceView, one: &InstanceView) -> bool {
    let is_over = |version: &VersionView| {
        version.name == one.version && !matches!(version.phase, Phase::Starting | Phase::Serving)
    };
    one.state == "draining" || one.state != "ended" && view.versions.iter().any(is_over)
}

/// Its state, with those that ended though nobody asked them to set apart.
fn state(view: &ServiceView, one: &InstanceView) -> &'static str {
    let has_done_its_job = is_of_job(view, one) && one.exit.as_deref() == Some("code 0");
    match one.has_died && !has_done_its_job {
        true => "dead",
        false => one.state,
    }
}

fn of_instance(view: &ServiceView, one: &InstanceView) -> Metric {
    let is_ready = one.state == "ready";
    let up = Metric::gauge(
        "serin_instance_up",
        "1 where an instance takes work, else 0.",
        f64::from(u8::from(is_ready)),
    );
    let up = up
        .label("service", &view.name)
        .label("version", &one.version)
        .label("instance", &one.name)
        .label("state", state(view, one));
    match &one.exit {
        Some(exit) => up.label("exit", exit),
        None => up,
    }
}

#[cfg(test)]
mod tests {
    use serin_wire::Route;

    use super::*;

    /// Instances by name and state, those that ended with when they did.
    fn view(instances: &[(&str, &'static str, Option<i64>)]) -> ServiceView {
        let instance = |(name, state, ended_us): &(&str, &'static str, Option<i64>)| InstanceView {
            name: (*name).to_owned(),
            version: String::from("v1"),
            state,
            pid: 1,
            port: None,
            started_us: 1,
            ended_us: *ended_us,
            exit: ended_us.map(|_| String::from("signal 9")),
            has_died: *state == "dead",
            is_by_hand: false,
            limits: String::new(),
            limits_missing: None,
        };
        ServiceView {
            name: String::from("cart"),
            state: "serving",
            web: None,
            has_port: false,
            sticky: None,
            answer_within_ms: None,
            body_bytes_max: None,
            route: Route::default(),
            deploy: None,
            versions: vec![version("v1", Phase::Serving)],
            instances: instances.iter().map(instance).collect(),
        }
    }

    fn deaths(metrics: &[Metric]) -> f64 {
        let found = metrics
            .iter()
            .find(|metric| metric.name == "serin_service_deaths_total");
        found.expect("of every service").value
    }

    #[test]
    fn an_end_that_nobody_asked_for_is_a_death() {
        let mut services = Services::default();
        let first = view(&[("a", "dead", Some(1)), ("b", "ready", None)]);
        assert_eq!(deaths(&services.look(&[first], 5).0), 0.0, "history");
        let killed = view(&[
            ("a", "dead", Some(1)),
            ("b", "dead", Some(2)),
            ("c", "ended", Some(3)),
            ("d", "dead", Some(3)),
        ]);
        // `b` was up, `d` came and went between two looks; `c` was told to go.
        assert_eq!(
            deaths(&services.look(std::slice::from_ref(&killed), 5).0),
            2.0
        );
        assert_eq!(
            deaths(&services.look(std::slice::from_ref(&killed), 5).0),
            2.0
        );
        services.look(&[], 5);
        assert_eq!(
            deaths(&services.look(&[killed], 5).0),
            2.0,
            "removed and back"
        );
    }

    #[test]
    fn only_what_changed_is_news() {
        let mut services = Services::default();
        let all = view(&[("a", "ready", None), ("b", "ready", None)]);
        let (now, news) = services.look(std::slice::from_ref(&all), 5);
        assert_eq!(now, news);
        assert_eq!(services.look(&[all], 5).1, []);
        let (_, news) = services.look(&[view(&[("a", "ready", None), ("b", "dead", Some(9))])], 9);
        let names: Vec<_> = news.iter().map(|metric| metric.name).collect();
        let changed = [
            "serin_service_instances_ready",
            "serin_service_deaths_total",
            "serin_instance_up",
        ];
        assert_eq!(names, changed);
    }

    fn value(metrics: &[Metric], name: &str) -> f64 {
        let found = metrics.iter().find(|metric| metric.name == name);
        found.expect("told").value
    }

    fn version(name: &str, phase: Phase) -> VersionView {
        VersionView {
            name: name.to_owned(),
            hash: String::new(),
            phase,
            since_us: 1,
            is_job: false,
            instances: serin_control::service::Instances { min: 2, max: 2 },
            scrape: None,
            why: None,
        }
    }

    #[test]
    fn those_of_a_version_that_gave_the_calls_to_another_drain() {
        let instances: Vec<_> = ["a", "b", "c", "d"]
            .map(|name| (name, "ready", None))
            .into();
        let mut after = view(&instances);
        after.versions = vec![
            version("v2", Phase::Serving),
            version("v1", Phase::Draining),
        ];
        for one in &mut after.instances[..2] {
            one.version = String::from("v2");
        }
        let (now, _) = Services::default().look(&[after], 5);
        assert_eq!(value(&now, "serin_service_instances_ready"), 2.0);
        assert_eq!(value(&now, "serin_service_instances_draining"), 2.0);
        assert_eq!(value(&now, "serin_service_instances_wanted"), 2.0);
    }

    #[test]
    fn how_one_ended_is_told_for_a_minute() {
        let mut services = Services::default();
        let ended = view(&[("a", "dead", Some(1)), ("b", "ended", Some(1))]);
        let mut states = |now_us| {
            let (now, _) = services.look(std::slice::from_ref(&ended), now_us);
            let told = now
                .into_iter()
                .filter(|one| one.name == "serin_instance_up");
            let labels = told.flat_map(|one| one.labels);
            let states = labels.filter(|(label, _)| *label == "state");
            states.map(|(_, state)| state).collect::<Vec<_>>()
        };
        assert_eq!(states(2), ["dead", "ended"]);
        assert!(states(ENDED_TOLD_US + 1).is_empty());
    }
}
