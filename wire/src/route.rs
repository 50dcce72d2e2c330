//! Which versions of a service are called, and how much each: told on `ctl.routes` to every caller.
//!
//! Gateway, SDKs and broker choose by the same weights. A key (a user, a session) always falls on
//! the same slot, and the versions take the slots in the order of the list; so with the version
//! under trial first, a rising weight only adds keys to it. Start at [`Route::version`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Weights are parts of this many slots.
pub const SLOTS: u32 = 10_000;

/// The routes of all services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// Rises with every change; older routes than those known are ignored.
    pub revision: u64,
    /// By service.
    pub services: BTreeMap<String, Route>,
}

/// The route of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Versions that are called, the one under trial first; their weights add up to [`SLOTS`].
    pub versions: Vec<Weight>,
    /// Endpoints that may be called twice for one call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idempotent: Vec<String>,
}

/// How much a version is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// The version.
    pub version: String,
    /// Its part of [`SLOTS`].
    pub weight: u32,
}

impl Route {
    /// The version that slot `slot` (below [`SLOTS`]) falls on; `None` where there is none.
    pub fn version(&self, slot: u32) -> Option<&str> {
        let mut end = 0;
        let found = self.versions.iter().find(|version| {
            end += version.weight;
            slot < end
        });
        found
            .or(self.versions.last())
            .map(|version| version.version.as_str())
    }

    /// Whether a version is under trial: more than one takes calls.
    pub fn has_trial(&self) -> bool {
        self.versions.iter().filter(|one| one.weight > 0).count() > 1
    }
}

/// The slot of a key at a service: FNV-1a over `<service>/<key>`, mixed as MurmurHash3 ends.
///
/// 32 bits, so that every language has it. The service is part of it, so that the users who try one
/// canary are not those who try every other. Sources: FNV (Fowler, Noll, Vo, RFC 9923), MurmurHash3
/// `fmix32` (Appleby).
pub fn slot_of(service: &str, key: &str) -> u32 {
    let bytes = service.bytes().chain(*b"/").chain(key.bytes());
    let mut hash = bytes.fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    (hash ^ (hash >> 16)) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(weights: &[(&str, u32)]) -> Route {
        let versions = weights.iter().map(|&(version, weight)| Weight {
            version: version.to_owned(),
            weight,
        });
        Route {
            versions: versions.collect(),
            idempotent: Vec::new(),
        }
    }

    #[test]
    fn slots_fall_on_versions_by_their_weights() {
        let canary = route(&[("v2", 500), ("v1", 9_500)]);
        assert_eq!(canary.version(0), Some("v2"));
        assert_eq!(canary.version(499), Some("v2"));
        assert_eq!(canary.version(500), Some("v1"));
        assert_eq!(canary.version(9_999), Some("v1"));
        assert!(canary.has_trial());
        assert_eq!(route(&[]).version(0), None);
        assert!(!route(&[("v2", 0), ("v1", SLOTS)]).has_trial());
    }

    #[test]
    fn keys_spread_evenly_and_the_same_in_every_language() {
        let hits = (0..100_000)
            .filter(|user| slot_of("cart", &format!("user-{user}")) < 500)
            .count();
        assert!((4_700..5_300).contains(&hits), "{hits}");
        // The other SDKs' tests name the same three.
        let known = [("cart", "ada"), ("cart", ""), ("pay", "ada")];
        assert_eq!(
            known.map(|(service, key)| slot_of(service, key)),
            [7_140, 8_361, 3_883]
        );
    }
}
