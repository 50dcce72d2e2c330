//! What to do so that what is there becomes what is wanted: a function of values.
//!
//! No clock, no process, no socket: `now_us` is a parameter. A plan is made anew each time from the
//! whole, so that a step that failed is simply planned again. Start at [`plan`].

use std::collections::BTreeMap;

use super::seen::{Seen, SeenInstance};
use super::wanted::{Phase, Version, Wanted};

/// Callers may hold the old routes for a moment after the new ones were told.
const DRAIN_AFTER_US: i64 = 500_000;
/// An end after a life this long is no crash loop.
const HEALTHY_US: i64 = 60_000_000;
/// Ends in a row, never ready, after which a version that starts has failed.
const CRASHES_MAX: usize = 3;
/// The first pause of a crash loop, doubling to the last.
const BACK_OFF_US: (i64, i64) = (100_000, 30_000_000);

/// Why an instance is stopped of which nothing is heard.
pub(super) const SILENT: &str = "silent";

/// One thing to do. Doing it twice equals doing it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start an instance of this number.
    Start {
        /// The service.
        service: String,
        /// Its version.
        version: String,
        /// Which instance of the version, never given before.
        number: u64,
        /// The instance it takes the place of.
        replaces: Option<String>,
    },
    /// Ask an instance to end.
    Stop {
        /// The service.
        service: String,
        /// The instance.
        instance: String,
        /// How long it may take.
        grace_ms: u64,
        /// Why, for people.
        why: &'static str,
    },
    /// Move a version to another phase.
    Enter {
        /// The service.
        service: String,
        /// Its version.
        version: String,
        /// Since when it had been in the phase before, microseconds since 1970.
        since_us: i64,
        /// The phase.
        phase: Phase,
        /// Why it failed.
        why: Option<String>,
    },
}

/// What is to be done now.
pub fn plan(wanted: &BTreeMap<String, Wanted>, seen: &Seen, now_us: i64) -> Vec<Action> {
    let mut actions = Vec::new();
    for service in wanted.values() {
        phases(service, wanted, seen, now_us, &mut actions);
        instances(service, wanted, seen, now_us, &mut actions);
    }
    for (name, instances) in &seen.instances {
        if !wanted.contains_key(name) {
            let running = instances.iter().filter(|one| one.is_running());
            actions.extend(running.filter_map(|one| stop(name, one, 10_000, "removed")));
        }
    }
    actions
}

/// Whether nothing is under way: then ends and commands wake us, and only silence has to be looked for.
pub(super) fn is_settled(wanted: &BTreeMap<String, Wanted>, seen: &Seen) -> bool {
    let mut all = seen.instances.values().flatten();
    all.all(|one| one.is_ready() || !one.is_running())
        && wanted.values().all(|service| {
            service.versions.iter().all(|version| match version.phase {
                Phase::Starting => service.is_stopped,
                Phase::Draining => false,
                Phase::Serving => {
                    let running = seen.of(&service.name, &version.name);
                    let running = running.filter(|one| one.is_running()).count();
                    service.is_stopped || running >= version.service.instances.min as usize
                }
                Phase::Retired | Phase::Failed => true,
            })
        })
}

/// Versions go on when their instances have.
fn phases(
    service: &Wanted,
    wanted: &BTreeMap<String, Wanted>,
    seen: &Seen,
    now_us: i64,
    actions: &mut Vec<Action>,
) {
    let mut enter = |version: &Version, phase, why| {
        actions.push(Action::Enter {
            service: service.name.clone(),
            version: version.name.clone(),
            since_us: version.since_us,
            phase,
            why,
        });
    };
    let newest = service
        .versions
        .iter()
        .rfind(|version| version.phase == Phase::Starting);
    for version in &service.versions {
        let mut of = seen.of(&service.name, &version.name);
        match version.phase {
            Phase::Starting if newest.is_some_and(|newest| newest.name != version.name) => {
                enter(version, Phase::Retired, None);
            }
            Phase::Starting if service.is_stopped => {}
            Phase::Starting if version.service.is_job => {
                let mut ends = attempt(service, version, seen).filter_map(|one| one.status.exit);
                if ends.clone().any(|exit| exit.code == Some(0)) {
                    enter(version, Phase::Retired, None);
                } else if let Some(exit) = ends.next() {
                    enter(
                        version,
                        Phase::Failed,
                        Some(format!("it ended with {exit}")),
                    );
                }
            }
            Phase::Starting => {
                let ready = of.clone().filter(|one| one.is_ready()).count();
                let free_since_us = free_since_us(version, wanted);
                if version.service.is_alone() && free_since_us.is_some() && ready == 0 {
                    // Two cannot run at a time: the old one makes room first.
                    for old in &service.versions {
                        if old.phase == Phase::Serving {
                            enter(old, Phase::Draining, None);
                        }
                    }
                }
                if ready >= version.service.instances.min as usize {
                    for old in &service.versions {
                        if old.phase == Phase::Serving {
                            enter(old, Phase::Draining, None);
                        }
                    }
                    enter(version, Phase::Serving, None);
                } else if let Some(since_us) = tried_since_us(service, version, wanted, seen)
                    && let Some(why) = failure(service, version, seen, now_us - since_us)
                {
                    let before = made_room(service);
                    let again =
                        before.map(|before| format!("{why}; {} is started again", before.name));
                    enter(version, Phase::Failed, Some(again.unwrap_or(why)));
                    if let Some(before) = before {
                        enter(before, Phase::Starting, None);
                    }
                }
            }
            Phase::Draining if !of.any(SeenInstance::is_running) => {
                enter(version, Phase::Retired, None);
            }
            _ => {}
        }
    }
}

/// The instances of a version that count for it now: while it starts, those of this attempt. A shim
/// remembers instances of earlier ones, and of a version that had the same name.
fn attempt<'a>(
    service: &Wanted,
    version: &'a Version,
    seen: &'a Seen,
) -> impl Iterator<Item = &'a SeenInstance> + Clone {
    let since_us = match version.phase {
        Phase::Starting => version.since_us,
        _ => i64::MIN,
    };
    let of = seen.of(&service.name, &version.name);
    of.filter(move |one| one.status.started_us >= since_us)
}

/// The version that served until it made room for one that runs alone; none while one serves.
fn made_room(service: &Wanted) -> Option<&Version> {
    if service.serving().is_some() {
        return None;
    }
    let before = service.version(service.drained.as_deref()?)?;
    matches!(before.phase, Phase::Draining | Phase::Retired).then_some(before)
}

/// Why a version that was tried for so long will not get ready.
fn failure(service: &Wanted, version: &Version, seen: &Seen, tried_us: i64) -> Option<String> {
    let crashes: Vec<_> = attempt(service, version, seen)
        .filter(|one| !one.status.is_ready && !one.status.is_stopping)
        .filter_map(|one| one.status.exit)
        .collect();
    if crashes.len() >= CRASHES_MAX {
        let last = crashes.last()?;
        return Some(format!(
            "its instances ended before they were ready, the last with {last}"
        ));
    }
    let within_us = i64::try_from(version.service.ready_within_ms).ok()? * 1_000;
    if tried_us <= within_us {
        return None;
    }
    let of = seen.of(&service.name, &version.name);
    let ready = of.clone().filter(|one| one.is_ready()).count();
    let mut running = of.filter(|one| one.is_running());
    let saw = running.find_map(|one| one.unready.as_ref());
    let saw = saw.map_or_else(String::new, |saw| format!(": {saw}"));
    Some(format!(
        "{ready} of {} instances were ready within {} s{saw}",
        version.service.instances.min,
        version.service.ready_within_ms / 1_000
    ))
}

/// Since when all that this version waits for is there; `None` while something is not.
fn free_since_us(version: &Version, wanted: &BTreeMap<String, Wanted>) -> Option<i64> {
    let after = version.service.after.iter();
    let since_us = after.map(|name| wanted.get(name)?.there_since_us());
    since_us
        .chain([Some(version.since_us)])
        .try_fold(i64::MIN, |latest, since_us| Some(latest.max(since_us?)))
}

/// The services that a version which starts still waits for.
pub(super) fn waits_for(version: &Version, wanted: &BTreeMap<String, Wanted>) -> Vec<String> {
    let is_there = |name: &&String| {
        let other = wanted.get(*name);
        other.is_some_and(|other| other.there_since_us().is_some())
    };
    let after = version.service.after.iter();
    after.filter(|name| !is_there(name)).cloned().collect()
}

/// Whether a version that serves holds its first start back for a service of its `after:` that is
/// about to get ready: when everything starts again, all versions serve and no instance is there.
/// Whoever ends later is replaced at once, and nobody waits for what takes too long.
fn keeps_order(
    service: &Wanted,
    version: &Version,
    wanted: &BTreeMap<String, Wanted>,
    seen: &Seen,
    now_us: i64,
) -> bool {
    let was_started = seen.of(&service.name, &version.name).next().is_some();
    let is_coming = |name: &String| {
        let other = wanted.get(name).filter(|other| !other.is_stopped)?;
        let serving = other.serving()?;
        let mut of = seen.of(name, &serving.name);
        let first_us = of.clone().map(|one| one.status.started_us).min();
        let since_us = first_us.map_or(seen.since_us, |first_us| first_us.max(seen.since_us));
        let within_us = i64::try_from(serving.service.ready_within_ms).ok()? * 1_000;
        Some(!of.any(SeenInstance::is_ready) && now_us - since_us < within_us)
    };
    let mut after = version.service.after.iter();
    !was_started && after.any(|name| is_coming(name) == Some(true))
}

/// Instances come and go as their versions want.
fn instances(
    service: &Wanted,
    wanted: &BTreeMap<String, Wanted>,
    seen: &Seen,
    now_us: i64,
    actions: &mut Vec<Action>,
) {
    let known: BTreeMap<&str, &Version> = service
        .versions
        .iter()
        .map(|version| (version.name.as_str(), version))
        .collect();
    for version in &service.versions {
        let running = || {
            let of = seen.of(&service.name, &version.name);
            of.filter(|one| one.is_running() && !one.status.is_stopping)
        };
        let keeps = match version.phase {
            _ if service.is_stopped => 0,
            Phase::Starting | Phase::Serving => version.service.instances.min as usize,
            Phase::Draining if now_us - version.since_us < DRAIN_AFTER_US => usize::MAX,
            Phase::Draining | Phase::Retired | Phase::Failed => 0,
        };
        let grace_ms = version.service.stop_within_ms;
        if keeps != usize::MAX {
            let why = if service.is_stopped {
                "stopped"
            } else {
                "not needed"
            };
            // The youngest go first: the oldest have proved themselves.
            let surplus = running().skip(keeps);
            actions.extend(surplus.filter_map(|one| stop(&service.name, one, grace_ms, why)));
        }
        if keeps == 0 || keeps == usize::MAX {
            continue;
        }
        let hang_us =
            i64::try_from(version.service.hang_after_ms).unwrap_or(i64::MAX / 1_000) * 1_000;
        let hangs = |one: &&SeenInstance| {
            one.heard_us
                .is_some_and(|heard_us| now_us - heard_us > hang_us)
        };
        actions.extend(
            running()
                .filter(hangs)
                .filter_map(|one| stop(&service.name, one, 0, SILENT)),
        );
        let missing = keeps.saturating_sub(running().count());
        let is_held_back = match version.phase {
            Phase::Serving => keeps_order(service, version, wanted, seen, now_us),
            _ => free_since_us(version, wanted).is_none(),
        };
        let waits = is_held_back
            || is_place_taken(service, version, seen)
            || now_us < starts_again_us(service, version, seen)
            || (version.service.is_job && attempt(service, version, seen).next().is_some());
        if missing > 0 && !waits {
            start(service, version, seen, missing, actions);
        }
    }
    // Of versions that were forgotten.
    let all = seen.instances.get(&service.name).into_iter().flatten();
    let unknown = all.filter(|one| one.is_running() && !known.contains_key(&*one.status.version));
    actions.extend(unknown.filter_map(|one| stop(&service.name, one, 10_000, "not known")));
}

fn start(
    service: &Wanted,
    version: &Version,
    seen: &Seen,
    missing: usize,
    actions: &mut Vec<Action>,
) {
    let of = seen.of(&service.name, &version.name);
    let last = of.map(|one| one.status.number).max().unwrap_or(0);
    // The dead whose places are taken, the latest first.
    let mut dead: Vec<_> = attempt(service, version, seen)
        .filter(|one| one.status.exit.is_some() && !one.status.is_stopping)
        .map(|one| (one.status.number, one.status.instance.clone()))
        .collect();
    dead.sort();
    for more in 1..=missing as u64 {
        actions.push(Action::Start {
            service: service.name.clone(),
            version: version.name.clone(),
            number: last + more,
            replaces: dead.pop().map(|(_, name)| name),
        });
    }
}

/// Who runs alone has no other beside it, whatever its version; also none that is about to end.
fn is_place_taken(service: &Wanted, version: &Version, seen: &Seen) -> bool {
    version.service.is_alone()
        && seen
            .instances
            .get(&service.name)
            .into_iter()
            .flatten()
            .any(SeenInstance::is_running)
}

/// Since when nothing keeps a version from starting; `None` while it waits for others, or for the
/// place of one that still runs where it runs alone.
fn tried_since_us(
    service: &Wanted,
    version: &Version,
    wanted: &BTreeMap<String, Wanted>,
    seen: &Seen,
) -> Option<i64> {
    // One that an earlier Serin left starting is tried for its whole time again.
    let since_us = free_since_us(version, wanted)?.max(seen.since_us);
    let all = seen.instances.get(&service.name).into_iter().flatten();
    let mut before = all.filter(|one| {
        let is_other = one.status.version != version.name;
        version.service.is_alone() && (is_other || one.status.started_us < version.since_us)
    });
    before.try_fold(since_us, |latest_us, one| {
        Some(latest_us.max(one.status.exit?.time_us))
    })
}

/// From when an instance may be started again: at once after a first end, later in a crash loop.
fn starts_again_us(service: &Wanted, version: &Version, seen: &Seen) -> i64 {
    let mut ends: Vec<_> = attempt(service, version, seen)
        .filter(|one| !one.status.is_stopping)
        .filter_map(|one| Some((one.status.exit?.time_us, one.status.started_us)))
        .collect();
    ends.sort();
    let loops = ends
        .iter()
        .rev()
        .take_while(|(ended_us, started_us)| ended_us - started_us < HEALTHY_US)
        .count();
    let Some((last_us, _)) = ends.last().filter(|_| loops >= 2) else {
        return i64::MIN;
    };
    let doublings = u32::try_from(loops - 2).unwrap_or(u32::MAX).min(16);
    last_us + (BACK_OFF_US.0 << doublings).min(BACK_OFF_US.1)
}

fn stop(service: &str, one: &SeenInstance, grace_ms: u64, why: &'static str) -> Option<Action> {
    (!one.status.is_stopping).then(|| Action::Stop {
        service: service.to_owned(),
        instance: one.status.instance.clone(),
        grace_ms,
        why,
    })
}

#[cfg(test)]
mod tests;
