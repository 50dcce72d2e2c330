//! Services on one machine: what is wanted, what is there, and making the one the other.
//!
//! Commands change only what is wanted ([`Wanted`], kept in the catalogue's file). The reconciler
//! compares it with what shims and bus say, [`plan`] says what to do, and `act` does it; doing it
//! twice equals doing it once (docs/decisions/006). Start at [`Runtime`].

mod access;
mod act;
mod build;
mod deploy;
mod deploying;
mod folder;
mod forward;
mod guest;
mod hear;
mod idempotent;
mod kept;
mod kill;
mod orders;
mod perform;
mod plan;
mod probe;
mod programs;
mod reconcile;
mod saved;
mod seen;
mod stage;
mod told;
mod view;
mod wanted;

pub use access::{Access, Member};
pub use deploy::DeployError;
pub use deploying::Deploying;
pub use guest::{GuestError, Held, Pass, Wish};
pub use kill::{KillError, Replaced};
pub use plan::{Action, plan};
pub use reconcile::{Runtime, RuntimeError, RuntimeOptions};
pub use seen::{Seen, SeenInstance};
pub use stage::Stage;
pub use told::Reason;
pub use view::{InstanceView, ServiceView, VersionView};
pub use wanted::{Phase, Version, Wanted};
