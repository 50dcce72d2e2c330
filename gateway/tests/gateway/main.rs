//! The gateway before real services: over a real nats-server, and by HTTP.

mod bus;
mod choice;
mod failure;
mod kit;
mod life;
mod port;
mod stalled;
mod told;
