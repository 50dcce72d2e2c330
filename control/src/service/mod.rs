//! What a service is: its `service.yaml` as written, and as it is run.
//!
//! `raw` mirrors the file and refuses what it does not know; `resolve` turns it into a [`Service`]
//! or into problems with line and column; `command` takes a command line apart, `env_file` the file of
//! secrets; `order` is who waits for whom. Pure, but for `check`, which reads files. Start at [`read`].

mod check;
mod command;
pub(crate) mod env_file;
mod order;
mod raw;
mod resolve;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serin_yaml::Problem;

use crate::confine::Limits;
use crate::shim::StopSignal;

/// The file in a service's folder.
pub const FILE: &str = "service.yaml";
pub(crate) use check::check_secrets;
pub use check::{Checked, check};
pub use order::Others;
pub(crate) use order::ends;
pub use serin_wire::name::OWN_SERVICES as OWN_NAMES;

/// A service as it is run, with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, the folder's.
    pub name: String,
    /// Program and arguments of an instance.
    pub run: Vec<String>,
    /// Program and arguments that build a version, run once in its copy.
    pub build: Option<Vec<String>>,
    /// How long the build may take.
    #[serde(default = "resolve::build_within_ms")]
    pub build_within_ms: u64,
    /// Environment of an instance, beside what Serin gives.
    pub env: BTreeMap<String, String>,
    /// The path under which the gateway serves it.
    pub web: Option<String>,
    /// Where an unmodified HTTP program listens; absent for services on the bus.
    pub port: Option<Port>,
    /// How an instance shows that it takes work.
    pub ready: Ready,
    /// How long it may take for that.
    pub ready_within_ms: u64,
    /// Instances of a version.
    pub instances: Instances,
    /// How long an instance may take to end after it was asked.
    pub stop_within_ms: u64,
    /// What asks it to end.
    #[serde(default)]
    pub stop_signal: StopSignal,
    /// A silent instance is ended after this.
    pub hang_after_ms: u64,
    /// Services that must be ready before it starts.
    pub after: Vec<String>,
    /// Endpoints that may be called twice for one call.
    pub idempotent: Vec<String>,
    /// What keeps a web user on one version.
    pub sticky: Option<Sticky>,
    /// How long the gateway waits for an answer to begin, and for each next piece of it.
    #[serde(default = "resolve::answer_within_ms")]
    pub answer_within_ms: u64,
    /// The longest body of a request that the gateway takes.
    #[serde(default = "resolve::body_bytes_max")]
    pub body_bytes_max: u64,
    /// Whether it says that no two instances may run at a time.
    #[serde(default)]
    pub runs_alone: bool,
    /// Whether it runs once, to its end.
    pub is_job: bool,
    /// Where it tells its metrics as Prometheus reads them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape: Option<Scrape>,
    /// What an instance may use.
    #[serde(default)]
    pub limits: Limits,
}

impl Service {
    /// Whether no two instances may run at a time, of whatever versions: where it says so, or where both
    /// would listen on one port.
    pub fn is_alone(&self) -> bool {
        self.runs_alone || matches!(self.port, Some(Port::Fixed(_)))
    }
}

/// An endpoint that is read again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrape {
    /// The path on each instance's port.
    pub path: String,
    /// How often.
    pub every_ms: u64,
}

/// Where an unmodified program listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Port {
    /// On a free port, told by `PORT`.
    Auto,
    /// On this one, which allows one instance.
    Fixed(u16),
}

/// How an instance shows that it takes work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// By a beat that says so.
    Beat,
    /// By answering this path on its port with a status below 500.
    Http(String),
    /// By taking connections on its port.
    Tcp,
    /// By a command that ends well.
    Run(Vec<String>),
    /// By having started.
    Started,
}

/// How many instances a version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances {
    /// At least.
    pub min: u32,
    /// At most.
    pub max: u32,
}

/// What keeps a web user on one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sticky {
    /// A cookie the gateway sets.
    Cookie(String),
    /// A header the request has.
    Header(String),
}

/// What editors are told of a `service.yaml`; a test of the server holds it against the parser.
pub const SCHEMA: &str = include_str!("../../schema/service.json");

/// Reads the text of a `service.yaml`; `file` names it in problems, `folder` is its folder's name.
pub fn read(file: &str, folder: &str, text: &str) -> Result<Service, Vec<Problem>> {
    let raw = serin_yaml::read(file, text)?;
    resolve::resolve(file, folder, raw, None)
}

/// The same beside other services: those that it waits for must be among them, and not wait for it.
pub fn read_beside(
    file: &str,
    folder: &str,
    text: &str,
    others: &Others,
) -> Result<Service, Vec<Problem>> {
    let raw = serin_yaml::read(file, text)?;
    resolve::resolve(file, folder, raw, Some(others))
}

#[cfg(test)]
mod tests;
