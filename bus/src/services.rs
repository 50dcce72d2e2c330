//! Who else may use a private bus, and where calls without a version go: users and mappings.
//!
//! Kept in `services.json`, written for the server as `services.conf`, which `nats.conf` includes:
//! so a change is taken over by SIGHUP, without a connection or a request lost, and a server that
//! is adopted need not be replaced for it. Pure but for the two files. Start at [`Services::conf`].

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use serin_wire::route::{Route, Routes, SLOTS};
use serin_wire::subject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::BusError;
use crate::settings::{Files, Settings, read_kept, write_private};

/// Slots in a percent: the broker's weights are whole percents.
const SLOTS_PER_PERCENT: u32 = SLOTS / 100;
/// The gateway's name.
const GATEWAY: &str = "gateway";
/// How long a client may take to say who it is.
const SIGN_IN_S: u32 = 5;
/// What we read of the server's monitoring page at most; it is some 10 KiB.
const PAGE_BYTES_MAX: u64 = 1 << 20;

/// One who may use the bus besides Serin, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusUser {
    /// How it signs in: letters, digits, `_` and `-`, since its inbox is named by it.
    pub name: String,
    /// Its password; the same characters.
    pub password: String,
    /// Subjects it may publish to, with wildcards.
    pub publish: Vec<String>,
    /// Subjects it may listen to, with wildcards.
    pub subscribe: Vec<String>,
}

impl BusUser {
    /// An instance of a service: emits that service's events and its own telemetry, calls others,
    /// serves its own endpoints. It may answer everybody, and read the answers to itself alone.
    pub fn instance(service: &str, version: &str, instance: &str, password: String) -> BusUser {
        let words = [
            format!("ev.{service}.>"),
            subject::beat(service, version, instance),
            subject::pulse(service, version, instance),
            subject::span(service, version, instance),
            subject::log(service, version, instance),
            subject::request(service, version, instance),
            subject::ROUTES_GET.to_owned(),
            String::from("svc.>"),
            inboxes(),
        ];
        BusUser {
            name: instance.to_owned(),
            password,
            publish: words.to_vec(),
            subscribe: vec![
                format!("svc.{service}.>"),
                String::from("$SRV.>"),
                subject::ROUTES.to_owned(),
                own_inbox(instance),
            ],
        }
    }
}

impl BusUser {
    /// The gateway: calls services, asks whether they are there, tells requests and its own spans. It
    /// meets everybody's requests, so that it can emit no event and change nothing.
    pub fn gateway(password: String) -> BusUser {
        let publish = [
            String::from("svc.>"),
            String::from("$SRV.PING.>"),
            subject::request("*", "*", "*"),
            subject::span("gateway", "*", "*"),
            inboxes(),
        ];
        BusUser {
            name: String::from(GATEWAY),
            password,
            publish: publish.to_vec(),
            subscribe: vec![subject::PULSES.to_owned(), own_inbox(GATEWAY)],
        }
    }
}

/// Where answers to anybody go.
fn inboxes() -> String {
    format!("{}.>", subject::INBOXES)
}

/// Where the answers to one user come.
fn own_inbox(user: &str) -> String {
    format!("{}.>", subject::inbox(user))
}

/// What is kept across restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Services {
    pub(crate) users: Vec<BusUser>,
    pub(crate) routes: Routes,
}

impl Services {
    /// As they were stored; none where nothing was.
    pub(crate) fn load(files: &Files) -> Result<Services, BusError> {
        Ok(read_kept(&files.services())?.unwrap_or_default())
    }

    /// Writes both files.
    pub(crate) fn store(&self, files: &Files, settings: &Settings) -> Result<(), BusError> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        write_private(&files.services(), &text)?;
        write_private(&files.services_conf(), &self.conf(settings))
    }

    /// Refuses what the server would choke on, or what would shut Serin out.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), BusError> {
        let is_word = |text: &str| {
            let is_good = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
            (1..=128).contains(&text.len()) && text.chars().all(is_good)
        };
        let mut names: Vec<&str> = vec![&settings.user];
        for user in &self.users {
            let is_taken = names.contains(&&*user.name);
            if is_taken || !is_word(&user.name) || !is_word(&user.password) {
                return Err(BusError::User(user.name.clone()));
            }
            names.push(&user.name);
        }
        Ok(())
    }

    /// The included part of the configuration: one `key: value` a line, the values as JSON.
    pub(crate) fn conf(&self, settings: &Settings) -> Vec<u8> {
        let serin = json!({"user": settings.user, "password": settings.password});
        let users = self.users.iter().map(|user| {
            json!({
                "user": user.name,
                "password": user.password,
                "permissions": {"publish": user.publish, "subscribe": user.subscribe},
            })
        });
        let users: Vec<Value> = std::iter::once(serin).chain(users).collect();
        let mappings: BTreeMap<String, Value> = self
            .routes
            .services
            .iter()
            .filter_map(|(service, route)| mapping(service, route))
            .collect();
        let authorization = json!({"users": users, "timeout": SIGN_IN_S});
        lines([
            ("authorization", authorization),
            ("mappings", json!(mappings)),
        ])
    }
}

/// Writes `key: value` lines; nats-server's language takes JSON values, so nothing is quoted by hand.
pub(crate) fn lines(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Vec<u8> {
    let lines = entries
        .into_iter()
        .map(|(key, value)| format!("{key}: {value}\n"));
    lines.collect::<String>().into_bytes()
}

/// `svc.<service>.*` to the versions, by weight; `None` where no version takes calls.
fn mapping(service: &str, route: &Route) -> Option<(String, Value)> {
    let shares = percents(route);
    let to = shares.iter().map(|(version, percent)| {
        json!({
            "destination": subject::call(service, version, "$1"),
            "weight": format!("{percent}%"),
        })
    });
    let to: Vec<Value> = to.collect();
    (!to.is_empty()).then(|| (subject::call_any(service, "*"), Value::Array(to)))
}

/// Weights in whole percents that add up to 100: each version its whole ones, what is left over to
/// the largest remainders. A version with less than a percent gets none.
fn percents(route: &Route) -> Vec<(&str, u32)> {
    let counted = route.versions.iter();
    let counted = counted.filter(|version| version.weight >= SLOTS_PER_PERCENT);
    let mut shares: Vec<(&str, u32, u32)> = counted
        .map(|version| {
            let percent = version.weight / SLOTS_PER_PERCENT;
            let remainder = version.weight % SLOTS_PER_PERCENT;
            (&*version.version, percent, remainder)
        })
        .collect();
    let sum: u32 = shares.iter().map(|share| share.1).sum();
    let left = 100_u32.saturating_sub(sum);
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse((shares[at].2, shares[at].1)));
    for &at in order.iter().cycle().take(left as usize) {
        shares[at].1 += 1;
    }
    shares
        .into_iter()
        .map(|(version, percent, _)| (version, percent))
        .collect()
}

/// When the server last took its configuration over, as its monitoring page says.
pub(crate) async fn loaded_at(monitor_port: u16) -> io::Result<String> {
    let page = page(monitor_port, "/varz").await?;
    let loaded = page["config_load_time"].as_str();
    loaded
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("no config_load_time"))
}

/// A page of the server's monitoring.
pub(crate) async fn page(monitor_port: u16, path: &str) -> io::Result<Value> {
    let mut page = TcpStream::connect(("127.0.0.1", monitor_port)).await?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    page.write_all(request.as_bytes()).await?;
    let mut text = Vec::new();
    page.take(PAGE_BYTES_MAX).read_to_end(&mut text).await?;
    let body = text.windows(4).position(|end| end == b"\r\n\r\n");
    let body = body.map_or(&[][..], |at| &text[at + 4..]);
    Ok(serde_json::from_slice(body)?)
}

/// Waits until the server has taken its configuration over since `before`; `false` where it has not
/// in time, so that it refused.
pub(crate) async fn has_reloaded(monitor_port: u16, before: &str, within: Duration) -> bool {
    let reloaded = async {
        // A page that does not answer for a moment is asked again, up to the deadline.
        while !loaded_at(monitor_port).await.is_ok_and(|now| now != before) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(within, reloaded).await.is_ok()
}

#[cfg(test)]
mod tests {
    use serin_wire::Weight;

    use super::*;

    fn route(weights: &[u32]) -> Route {
        let versions = (1..).zip(weights).map(|(n, &weight)| Weight {
            version: format!("v{n}"),
            weight,
        });
        Route {
            versions: versions.collect(),
            idempotent: Vec::new(),
        }
    }

    #[test]
    fn weights_are_whole_percents_that_add_up() {
        for (weights, shares) in [
            (&[10_000][..], &[100][..]),
            (&[500, 9_500], &[5, 95]),
            (&[3_333, 3_333, 3_334], &[33, 33, 34]),
            (&[150, 9_850], &[1, 99]),
            // Less than a percent gets none.
            (&[99, 9_901], &[100]),
            (&[0, 0], &[]),
            (&[], &[]),
        ] {
            let route = route(weights);
            let found: Vec<u32> = percents(&route).iter().map(|share| share.1).collect();
            assert_eq!(found, shares, "{weights:?}");
        }
    }

    #[test]
    fn a_user_cannot_take_serins_place_or_break_the_file() {
        let settings = Settings::fresh(None).expect("ports");
        let user =
            |name: &str, password: &str| BusUser::instance("cart", "v1", name, password.into());
        let check = |users: Vec<BusUser>| {
            let routes = Routes::default();
            Services { users, routes }.check(&settings).is_ok()
        };
        assert!(check(vec![
            user("cart-v1-1", "ab"),
            user("cart-v1-2", "ab")
        ]));
        assert!(!check(vec![
            user("cart-v1-1", "ab"),
            user("cart-v1-1", "cd")
        ]));
        for (name, password) in [
            ("serin", "ab"),
            ("", "ab"),
            ("a\"b", "ab"),
            ("a", ""),
            ("a", "$x"),
        ] {
            assert!(!check(vec![user(name, password)]), "{name} {password}");
        }
    }
}
