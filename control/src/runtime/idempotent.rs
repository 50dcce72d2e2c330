//! Which endpoints of a service may be called twice for one call, so that a lost answer is asked for
//! once more: those that `service.yaml` names, and those that the instances call so themselves.
//!
//! An instance says it in its answer to `INFO` of the micro protocol (ADR-32), as metadata of the
//! endpoint: `{"idempotent": "true"}`. It is asked once it takes work ([`super::hear`]). A route
//! speaks for all its versions, and a call that is made again may reach another one; so the
//! instances' word counts where those of each called version give it. Start at [`complete`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serin_wire::Route;

use super::view::InstanceView;

/// What of the answer to `INFO` matters here.
#[derive(Debug, Deserialize)]
struct Info {
    endpoints: Vec<EndpointInfo>,
}

#[derive(Debug, Deserialize)]
struct EndpointInfo {
    name: String,
    /// Some clients write null where there is none.
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

/// Names of endpoints.
pub(super) type Names = BTreeSet<String>;

/// The endpoints that an answer to `INFO` calls idempotent; `None` where it is no such answer.
pub(super) fn read(answer: &[u8]) -> Option<Names> {
    let info: Info = serde_json::from_slice(answer).ok()?;
    let is_so = |one: &EndpointInfo| {
        let metadata = one.metadata.as_ref();
        let said = metadata.and_then(|metadata| metadata.get("idempotent"));
        said.is_some_and(|said| said == "true")
    };
    let endpoints = info.endpoints.into_iter().filter(is_so);
    Some(endpoints.map(|one| one.name).collect())
}

/// Adds to a route what the instances say; `said` is what one of them did, where it was heard.
pub(super) fn complete(
    route: &mut Route,
    instances: &[InstanceView],
    said: impl Fn(&str) -> Option<Names>,
) {
    let called = route.versions.iter().filter(|version| version.weight > 0);
    let of_versions = called.map(|version| {
        let of = instances
            .iter()
            .filter(|one| one.version == version.version);
        let all = of.filter_map(|one| said(&one.name));
        all.reduce(|some, more| &some & &more).unwrap_or_default()
    });
    let common = of_versions.reduce(|some, more| &some & &more);
    for name in common.unwrap_or_default() {
        if !route.idempotent.contains(&name) {
            route.idempotent.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serin_wire::Weight;

    use super::*;

    fn instance(name: &str, version: &str) -> InstanceView {
        InstanceView {
            name: name.to_owned(),
            version: version.to_owned(),
            state: "ready",
            pid: 1,
            port: None,
            started_us: 0,
            ended_us: None,
            exit: None,
            is_by_hand: false,
            limits: String::new(),
            limits_missing: None,
            has_died: false,
        }
    }

    #[test]
    fn an_answer_names_them() {
        let answer = br#"{"type": "io.nats.micro.v1.info_response", "endpoints": [
            {"name": "look", "metadata": {"idempotent": "true"}},
            {"name": "add", "metadata": {}}, {"name": "b", "metadata": null}, {"name": "c"},
            {"name": "d", "metadata": {"idempotent": "false"}}]}"#;
        assert_eq!(read(answer), Some(Names::from(["look".to_owned()])));
        assert_eq!(read(b""), None);
    }

    #[test]
    fn the_word_of_each_called_version_counts() {
        let instances = [
            instance("v1-1", "v1"),
            instance("v1-2", "v1"),
            instance("v2-1", "v2"),
            instance("v3-1", "v3"),
        ];
        let said = |name: &str| {
            let names: &[&str] = match name {
                "v1-1" => &["look", "list"],
                "v2-1" => &["look"],
                "v3-1" => &[],
                _ => return None,
            };
            Some(names.iter().map(|&name| name.to_owned()).collect())
        };
        let told = |weights: &[(&str, u32)]| {
            let versions = weights.iter().map(|&(version, weight)| Weight {
                version: version.to_owned(),
                weight,
            });
            let mut route = Route {
                versions: versions.collect(),
                idempotent: vec![String::from("pay")],
            };
            complete(&mut route, &instances, said);
            route.idempotent.join(" ")
        };
        assert_eq!(told(&[("v1", 10_000)]), "pay list look");
        assert_eq!(told(&[("v2", 500), ("v1", 9_500)]), "pay look");
        assert_eq!(told(&[("v3", 0), ("v1", 10_000)]), "pay list look");
        assert_eq!(told(&[("v3", 500), ("v1", 9_500)]), "pay");
        assert_eq!(told(&[("v4", 10_000)]), "pay");
        assert_eq!(told(&[]), "pay");
    }
}
