//! The HTTP door to web services: a request comes in, an instance is chosen, its answer goes out.
//!
//! The server tells which services and instances there are ([`Table`]); pulses on the bus and the
//! answers themselves tell which of them to ask. Services on the bus get the request as a message,
//! unmodified HTTP programs by HTTP. Every request is told as a row and a span. Must never run a
//! request twice unless it may be, and never hold more than its bounds. Start at [`Gateway::open`].

mod access;
mod answer;
mod budget;
mod choose;
mod counts;
mod endpoint;
mod gateway;
mod head;
mod health;
mod inbox;
mod load;
mod over_bus;
mod over_port;
mod page;
mod pass;
mod pool;
pub mod process;
mod serve;
mod table;
mod view;
mod watch;

pub use counts::GatewayStats;
pub use gateway::{Gateway, OpenError, Options, Parts};
pub use table::{Instance, Reach, Service, Standing, Sticky, Table};
