//! Which instance takes a request: a version by its weight, then the less busy of two.
//!
//! Values in, values out. As long as there is one that should be up, none is taken that should not;
//! when the version has none, the visitor gets another version rather than an error; when nobody
//! seems up, the untried are tried, since a guess may be wrong. Start at [`choose`].

use std::sync::Arc;

use serin_wire::route::SLOTS;

use crate::view::{Entry, Peer};

/// The instance for a request on slot `slot`; `None` where every one was tried or none is there.
pub(crate) fn choose(
    entry: &Entry,
    slot: u32,
    chance: u64,
    tried: &[Arc<Peer>],
    is_up: impl Fn(&Peer) -> bool,
) -> Option<Arc<Peer>> {
    let version = entry.service.route.version(slot)?;
    let weighs = |peer: &Peer| {
        let mut versions = entry.service.route.versions.iter();
        versions.any(|one| one.weight > 0 && one.version == peer.instance.version)
    };
    let is_right = |peer: &Peer| peer.instance.version == version;
    let untried = |peer: &Arc<Peer>| !tried.iter().any(|one| Arc::ptr_eq(one, peer));
    let of = |takes: &dyn Fn(&Peer) -> bool| {
        let fit = entry
            .peers
            .iter()
            .filter(|peer| takes(peer) && untried(peer));
        less_busy_of_two(&fit.collect::<Vec<_>>(), chance)
    };
    of(&|peer| is_right(peer) && is_up(peer))
        .or_else(|| of(&|peer| weighs(peer) && is_up(peer)))
        .or_else(|| of(&is_right))
        .or_else(|| of(&weighs))
}

/// Two at random, and of these the one with fewer requests: nearly as good as the least of all, and
/// gateways that see different numbers do not all run to the same one (Mitzenmacher, 2001).
fn less_busy_of_two(peers: &[&Arc<Peer>], chance: u64) -> Option<Arc<Peer>> {
    let count = peers.len() as u64;
    let index = |chance: u64, count: u64| usize::try_from(chance % count).unwrap_or(0);
    let first = match count {
        0 => return None,
        1 => return Some(Arc::clone(peers[0])),
        _ => index(chance & 0xffff_ffff, count),
    };
    let step = 1 + index(chance >> 32, count - 1);
    let second = (first + step) % peers.len();
    let (first, second) = (peers[first], peers[second]);
    let is_busier = first.in_flight() > second.in_flight();
    Some(Arc::clone(if is_busier { second } else { first }))
}

/// A slot by chance.
pub(crate) fn slot_by(chance: u64) -> u32 {
    u32::try_from(chance % u64::from(SLOTS)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serin_wire::Weight;

    use super::*;
    use crate::table::{Instance, Reach, Service, Table};
    use crate::view::View;

    fn entry(weights: &[(&str, u32)], instances: &[(&str, &str)]) -> Arc<Entry> {
        let mut service = Service::new("cart", "/");
        let weights = weights.iter().map(|&(version, weight)| Weight {
            version: version.into(),
            weight,
        });
        service.route.versions = weights.collect();
        let instances = instances.iter().map(|&(version, name)| Instance {
            version: version.into(),
            name: name.into(),
            reach: Reach::Bus,
        });
        service.instances = instances.collect();
        let table = Table {
            revision: 1,
            services: vec![service],
        };
        let view = View::build(&table, &View::default());
        Arc::clone(view.find("/").expect("it takes all"))
    }

    fn name(peer: Option<Arc<Peer>>) -> String {
        peer.map_or_else(|| "none".into(), |peer| peer.instance.name.clone())
    }

    const CANARY: [(&str, u32); 2] = [("v2", 1_000), ("v1", 9_000)];
    const THREE: [(&str, &str); 3] = [("v1", "a"), ("v1", "b"), ("v2", "c")];

    #[test]
    fn the_version_is_by_slot_and_the_instance_by_load() {
        let entry = entry(&CANARY, &THREE);
        assert_eq!(name(choose(&entry, 999, 7, &[], |_| true)), "c");
        let busy = entry.peers[0].enter();
        for chance in 0..100_u64 {
            let mixed = chance.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert_eq!(name(choose(&entry, 1_000, mixed, &[], |_| true)), "b");
        }
        drop(busy);
        let first = |chance| name(choose(&entry, 1_000, chance, &[], |_| true));
        assert_eq!((first(0), first(1)), ("a".into(), "b".into()));
    }

    #[test]
    fn who_is_not_up_is_taken_only_when_nobody_is() {
        let entry = entry(&CANARY, &THREE);
        let up =
            |names: &'static str| move |peer: &Peer| names.contains(peer.instance.name.as_str());
        assert_eq!(name(choose(&entry, 5_000, 0, &[], up("b"))), "b");
        assert_eq!(
            name(choose(&entry, 0, 0, &[], up("b"))),
            "b",
            "another version"
        );
        assert_eq!(
            name(choose(&entry, 0, 0, &[], up(""))),
            "c",
            "the version's own"
        );
        let tried: Vec<_> = entry.peers.iter().take(2).map(Arc::clone).collect();
        assert_eq!(name(choose(&entry, 5_000, 0, &tried, up("ab"))), "c");
        assert_eq!(
            name(choose(&entry, 5_000, 0, &entry.peers, up("abc"))),
            "none"
        );
    }

    #[test]
    fn a_version_without_weight_gets_nothing() {
        let entry = entry(&[("v2", 0), ("v1", SLOTS)], &[("v2", "c")]);
        assert_eq!(name(choose(&entry, 5_000, 0, &[], |_| true)), "none");
    }
}
