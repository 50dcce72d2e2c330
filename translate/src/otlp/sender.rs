//! Who sent a group: service, version and instance by the resource, as names on the bus.
//!
//! OpenTelemetry takes any text for a name, the bus does not: `Cart API` becomes `cart-api`, and
//! what it was stays beside it as the resource's attribute. Start at [`Sender::of`].

use serde_json::{Map, Value};
use serin_wire::name::{NAME_BYTES_MAX, OWN_SERVICES};
use serin_wire::subject;
use thiserror::Error;

use super::message::Resource;
use super::value;

/// The name of a service that does not say its own, as OpenTelemetry's SDKs begin it.
const NAMELESS: &str = "unknown-service";
/// The resource's attributes that name the sender, as [`value::attributes`] writes them.
const SERVICE: &str = "service_name";
const VERSION: &str = "service_version";
const INSTANCE: &str = "service_instance_id";
const INSTANCE_BYTES_MAX: usize = 96;

/// Who sent a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sender {
    service: String,
    version: String,
    instance: String,
    /// What else the resource says.
    pub(super) resource: Map<String, Value>,
}

/// The group is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("service.name {0:?} is a part of Serin; give the service another name")]
pub(super) struct OwnName(String);

impl Sender {
    pub(super) fn of(resource: &Resource) -> Result<Sender, OwnName> {
        let mut resource = value::attributes(resource.attributes.clone());
        let mut named = |key: &str, plain: fn(&str) -> String| {
            let told = match resource.get(key) {
                Some(Value::String(text)) => text.clone(),
                _ => String::new(),
            };
            let name = plain(&told);
            // A name that had to be changed stays to be read.
            if name == told {
                resource.remove(key);
            }
            name
        };
        let service = match named(SERVICE, short) {
            name if name.is_empty() => NAMELESS.to_owned(),
            name => name,
        };
        if OWN_SERVICES.contains(&&*service) {
            return Err(OwnName(service));
        }
        let unknown = |name: String| match name.is_empty() {
            true => subject::UNKNOWN.to_owned(),
            false => name,
        };
        Ok(Sender {
            version: unknown(named(VERSION, short)),
            instance: unknown(named(INSTANCE, long)),
            service,
            resource,
        })
    }

    pub(super) fn service(&self) -> &str {
        &self.service
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// A subject of this sender's.
    pub(super) fn subject(&self, of: fn(&str, &str, &str) -> String) -> String {
        of(&self.service, &self.version, &self.instance)
    }
}

/// The text as the name of a service or version; empty where nothing of it can stay.
fn short(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut name = words(&lower, |c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.truncate(NAME_BYTES_MAX);
    name.trim_end_matches('-').to_owned()
}

/// The text as the name of an instance.
fn long(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut name = words(text, fits);
    name.truncate(INSTANCE_BYTES_MAX);
    name
}

/// What fits, with a `-` for each stretch that does not.
fn words(text: &str, fits: impl Fn(char) -> bool) -> String {
    let words: Vec<&str> = text
        .split(|c| !fits(c))
        .filter(|word| !word.is_empty())
        .collect();
    words.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_becomes_a_name() {
        for (told, name) in [
            ("cart", "cart"),
            ("Cart API", "cart-api"),
            ("unknown_service:node", "unknown-service-node"),
            ("1.2.3-rc.1", "1-2-3-rc-1"),
            ("--ä--", ""),
            (
                "a-very-long-name-of-a-service-that-goes-on",
                "a-very-long-name-of-a-service-th",
            ),
        ] {
            assert_eq!(short(told), name, "{told}");
            let is_name = serin_wire::name::check_service(name).is_ok();
            assert!(is_name || name.is_empty(), "{name}");
        }
        assert_eq!(long("host:8080/Ab_1"), "host-8080-Ab_1");
    }
}
