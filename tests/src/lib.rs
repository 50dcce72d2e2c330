//! What the end-to-end tests and benchmarks share: a running Serin, load for it, and DuckDB.
//!
//! Tests start the real binary in a folder of their own, on free ports, with a real nats-server,
//! and look from outside: HTTP, the bus, the files. They wait for conditions, with a deadline,
//! never for time. The tests themselves are in `e2e`, the benchmarks in `benches`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests are an edge: time and environment enter here"
)]
#![expect(clippy::print_stdout, reason = "a seed and a measurement must be seen")]

pub mod beside;
pub mod bus;
pub mod busy;
pub mod cost;
pub mod duck;
pub mod live;
pub mod load;
pub mod place;
pub mod process;
pub mod random;
pub mod report;
pub mod server;
pub mod wait;

pub use server::Serin;

/// The Rust of the pages that readers copy from, compiled.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/events.md")]
    mod events {}
}
