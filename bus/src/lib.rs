//! The bus: a real `nats-server`, started and watched by us or joined, and our two streams on it.
//!
//! [`Bus::start`] finds a server binary, writes its configuration, starts it in a process group of
//! its own and keeps it alive; the bus outlives a crash of Serin and is adopted by the next start.
//! [`EventStream`] is what the ingester reads and the doors publish to. Nothing here looks into an
//! event. Modules stand in the order of a start: binary, settings, services, process, connection,
//! join, bus, stream, messages.

mod binary;
mod bus;
mod connection;
mod error;
mod join;
mod messages;
mod monitor;
mod owner;
mod process;
mod services;
mod settings;
mod stream;

pub use binary::{Binary, VERSION_MIN, Version, find as find_server};
pub use bus::{Bus, BusHealth, BusOptions, stop_left};
pub use error::{BusError, PublishError};
pub use messages::{Delivery, Message, Messages};
pub use monitor::{BusNumbers, StreamNumbers};
pub use process::{is_alive, of_folder as running};
pub use serin_connect::ack::PubAck;
pub use services::BusUser;
pub use stream::{EventStream, StreamState};
