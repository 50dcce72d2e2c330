//! What was done to a service, told as decisions: they stand in `decisions`, and as marks on the
//! charts of the service.
//!
//! Each says who did it and why in one plain sentence. Start at [`Runtime::tell_act`].

use serde::{Deserialize, Serialize};
use serin_wire::{Decision, decision};

use super::reconcile::Runtime;

/// Why a version was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Somebody deployed it.
    #[default]
    Asked,
    /// Its folder was saved.
    Saved,
    /// It was found when Serin started.
    Started,
    /// Somebody went back to it.
    Back,
    /// The version for which it made room failed.
    Restored,
}

/// Something that was done to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act<'a> {
    /// A version takes the calls.
    Serves(&'a str, Reason),
    /// A deploy did not get so far, with its version where it got one; why.
    Fails(Option<&'a str>, &'a str),
    /// An instance takes the place of one that ended.
    Replaces {
        version: &'a str,
        instance: &'a str,
        dead: &'a str,
        /// How that one ended, `signal 9`.
        exit: Option<&'a str>,
    },
    /// An instance is ended because nothing is heard of it; another takes its place.
    IsSilent(&'a str),
    /// Its instances were stopped.
    Stops,
    /// It was removed.
    IsRemoved,
}

impl Runtime {
    /// Tells what was done to a service.
    pub(super) fn tell_act(&self, service: &str, act: Act<'_>) {
        let decision = act.decision(service);
        self.options.serin.emit(decision::EVENT_TYPE, &decision);
    }
}

impl Act<'_> {
    fn decision(self, service: &str) -> Decision {
        let (rule, action, why) = match self {
            Act::Serves(version, reason) => {
                let (rule, action, why) = reason.words();
                (rule, action, format!("{version} {why}"))
            }
            Act::Fails(version, why) => {
                let what = version.unwrap_or("a deploy");
                ("runtime", "fail", format!("{what} does not serve: {why}"))
            }
            Act::Replaces {
                instance,
                dead,
                exit,
                ..
            } => {
                let how = exit.map_or_else(String::new, |exit| format!(" with {exit}"));
                let why = format!("{instance} takes the place of {dead}, which ended{how}");
                ("healer", "replace", why)
            }
            Act::IsSilent(instance) => {
                let why = format!("{instance} fell silent, so another takes its place");
                ("healer", "replace", why)
            }
            Act::Stops => ("person", "stop", String::from("stopped by hand")),
            Act::IsRemoved => ("person", "remove", String::from("removed by hand")),
        };
        let version = match self {
            Act::Serves(version, _) | Act::Replaces { version, .. } => Some(version),
            Act::Fails(version, _) => version,
            Act::IsSilent(_) | Act::Stops | Act::IsRemoved => None,
        };
        let instance = match self {
            Act::Replaces { instance, .. } | Act::IsSilent(instance) => Some(instance),
            _ => None,
        };
        Decision {
            rule: rule.to_owned(),
            action: action.to_owned(),
            subject: Some(service.to_owned()),
            subject_version: version.map(str::to_owned),
            subject_instance: instance.map(str::to_owned),
            inputs: None,
            mode: String::from("act"),
            why,
        }
    }
}

impl Reason {
    /// Who started a version, what that is called, and why it serves.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Reason::Asked => ("person", "deploy", "serves: deployed by hand"),
            Reason::Saved => ("watch", "deploy", "serves: its folder was saved"),
            Reason::Started => ("start", "deploy", "serves: deployed when Serin started"),
            Reason::Back => ("person", "rollback", "serves again: rolled back by hand"),
            Reason::Restored => (
                "runtime",
                "rollback",
                "serves again: the version that took its port failed",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_act_says_who_and_why() {
        let replaces = Act::Replaces {
            version: "v1",
            instance: "cart-v1-3",
            dead: "cart-v1-1",
            exit: Some("signal 9"),
        };
        let serves = |reason| Act::Serves("v2", reason);
        let fails = |version| Act::Fails(version, "no file");
        let silent = Act::IsSilent("cart-v1-2");
        for (act, expected) in [
            (
                serves(Reason::Asked),
                "person deploy: v2 serves: deployed by hand",
            ),
            (
                serves(Reason::Saved),
                "watch deploy: v2 serves: its folder was saved",
            ),
            (
                serves(Reason::Started),
                "start deploy: v2 serves: deployed when Serin started",
            ),
            (
                serves(Reason::Back),
                "person rollback: v2 serves again: rolled back by hand",
            ),
            (
                serves(Reason::Restored),
                "runtime rollback: v2 serves again: the version that took its port failed",
            ),
            (
                fails(Some("v2")),
                "runtime fail: v2 does not serve: no file",
            ),
            (
                fails(None),
                "runtime fail: a deploy does not serve: no file",
            ),
            (
                replaces,
                "healer replace: cart-v1-3 takes the place of cart-v1-1, which ended with signal 9",
            ),
            (
                silent,
                "healer replace: cart-v1-2 fell silent, so another takes its place",
            ),
            (Act::Stops, "person stop: stopped by hand"),
            (Act::IsRemoved, "person remove: removed by hand"),
        ] {
            let told = act.decision("cart");
            assert_eq!(
                format!("{} {}: {}", told.rule, told.action, told.why),
                expected
            );
            assert_eq!(told.subject.as_deref(), Some("cart"));
        }
    }
}
