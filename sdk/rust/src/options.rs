//! What a service says of itself when it connects.

use std::path::PathBuf;
use std::time::Duration;

use serin_wire::name::{self, NameError};
use thiserror::Error;

use crate::clock;
use crate::id::Random;

/// Memory for events that the bus has not acknowledged: some seconds of a busy service.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Disk for events while the bus is away.
const SPILL_BYTES_MAX: u64 = 1 << 30;
/// How long a service that ends waits for its last events to be acknowledged.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);

/// How to connect; begin with [`Options::new`].
#[derive(Debug, Clone)]
pub struct Options {
    /// The bus, `nats://user:password@host:port`.
    pub bus: String,
    /// The service.
    pub service: String,
    /// Its version.
    pub version: String,
    /// This process among the instances of the version.
    pub instance: String,
    /// Bytes of events kept in memory until the bus has them.
    pub queue_bytes_max: usize,
    /// Where events go while the bus is away; `None` keeps them in memory alone. What one run leaves
    /// there a later one sends to its bus, so a folder is for one bus, whatever its address.
    pub spill_dir: Option<PathBuf>,
    /// Bytes of events that all runs of the service keep there.
    pub spill_bytes_max: u64,
    /// How long the last handle waits for acknowledgements when it is dropped.
    pub drain_deadline: Duration,
    /// Whether event types starting with `serin.` may be emitted; for Serin's own process alone.
    pub emits_own_types: bool,
    /// Whether four pulses a second tell that it lives, beside the beats. Who runs an instance goes by
    /// them; a process that nobody would replace as soon as it hangs needs none, as Serin's own.
    pub pulses: bool,
}

/// Why a service cannot connect. A bus that is away is no reason: events wait for it.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A variable of the environment is missing.
    #[error("{0} is not set; `serin run` and `serin deploy` set it for services they start")]
    Missing(&'static str),
    /// The address of the bus cannot be read.
    #[error("the address of the bus must look like nats://user:password@host:port")]
    Address(#[source] std::io::Error),
    /// A name breaks the rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A thread cannot be started.
    #[error("cannot start the thread {0}")]
    Thread(&'static str, #[source] std::io::Error),
}

impl Options {
    /// Options for a service with a random instance name and version `dev`.
    pub fn new(bus: impl Into<String>, service: impl Into<String>) -> Options {
        let service = service.into();
        let bus = bus.into();
        let suffix = Random::new(clock::random_u64()).next() & 0xff_ffff;
        Options {
            instance: format!("{service}-dev-{suffix:06x}"),
            version: String::from("dev"),
            service,
            queue_bytes_max: QUEUE_BYTES_MAX,
            spill_dir: host(&bus)
                .ok()
                .and_then(|host| Some(state_folder()?.join(host))),
            bus,
            spill_bytes_max: SPILL_BYTES_MAX,
            drain_deadline: DRAIN_DEADLINE,
            emits_own_types: false,
            pulses: true,
        }
    }

    /// Reads `SERIN_BUS`, `SERIN_SERVICE` and, where they are set, `SERIN_VERSION`,
    /// `SERIN_INSTANCE` and `SERIN_SPILL_DIR`.
    pub fn from_env() -> Result<Options, ConnectError> {
        let needed = |name: &'static str| variable(name).ok_or(ConnectError::Missing(name));
        let mut options = Options::new(needed("SERIN_BUS")?, needed("SERIN_SERVICE")?);
        if let Some(version) = variable("SERIN_VERSION") {
            options.instance = options
                .instance
                .replacen("-dev-", &format!("-{version}-"), 1);
            options.version = version;
        }
        if let Some(instance) = variable("SERIN_INSTANCE") {
            options.instance = instance;
        }
        if let Some(folder) = variable("SERIN_SPILL_DIR") {
            options.spill_dir = Some(PathBuf::from(folder));
        }
        Ok(options)
    }

    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        self.host()?;
        name::check_service(&self.service)?;
        name::check_version(&self.version)?;
        name::check_instance(&self.instance)?;
        Ok(())
    }

    /// The host and port of the bus, without credentials.
    pub(crate) fn host(&self) -> Result<String, ConnectError> {
        host(&self.bus)
    }

    /// The folder of this service's spills.
    pub(crate) fn spill_parent(&self) -> Option<PathBuf> {
        Some(self.spill_dir.as_ref()?.join(&self.service))
    }
}

/// The host and port of the bus, without credentials.
fn host(bus: &str) -> Result<String, ConnectError> {
    let address = bus.parse::<async_nats::ServerAddr>();
    let address = address.map_err(ConnectError::Address)?;
    Ok(format!("{}_{}", address.host(), address.port()))
}

/// `$XDG_STATE_HOME/serin/spill`, else `~/.local/state/serin/spill`; `None` without a home. Buses have
/// a folder each in there, by their address.
fn state_folder() -> Option<PathBuf> {
    let state = match variable("XDG_STATE_HOME") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(variable("HOME")?).join(".local/state"),
    };
    Some(state.join("serin/spill"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the SDK is configured by its environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
