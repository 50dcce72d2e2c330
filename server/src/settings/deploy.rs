//! Section `deploy`: what is deployed without a command.

use super::raw::RawDeploy;
use super::resolve::Resolver;

/// What is deployed without a command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Deploys {
    /// At the start, services that are no version yet.
    pub(crate) on_start: bool,
    /// A service when its folder is saved.
    pub(crate) on_save: bool,
}

pub(super) fn resolve(raw: &RawDeploy, to: &mut Resolver) -> Deploys {
    Deploys {
        on_start: to.switch(
            "deploy.on_start",
            raw.on_start.as_ref(),
            "whether a start deploys what is under services/ and is no version yet",
        ),
        on_save: to.switch(
            "deploy.on_save",
            raw.on_save.as_ref(),
            "whether a service is deployed when its folder is saved",
        ),
    }
}
