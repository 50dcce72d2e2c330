//! Section `bus`: what waits on the bus.
//!
//! [`resolve`] gives the bound of the stream of events in bytes.

use super::raw::RawBus;
use super::resolve::{Bound, Resolver};

/// Hours of a busy service, should the ingester be away.
const EVENTS_MIB_MAX: u64 = 8_192;

const EVENTS: Bound = Bound {
    name: "bus.events_mib_max",
    unit: "MiB",
    least: (64, "several messages of 8 MiB must fit"),
    most: (1_048_576, "it is disk that the lake then lacks"),
    what: "events that wait on the bus; beyond it new ones are refused",
};

pub(super) fn resolve(raw: RawBus, to: &mut Resolver) -> u64 {
    to.number(EVENTS, raw.events_mib_max.as_ref(), EVENTS_MIB_MAX) << 20
}
