//! Section `ingest`: when rows are flushed, and which events are refused.
//!
//! [`resolve`] makes the ingester's options.

use std::time::Duration;

use serin_ingest::{IngestOptions, Limits};

use super::raw::RawIngest;
use super::resolve::{Bound, Resolver, count, kib, mib};

const AGE: Bound = Bound {
    name: "ingest.flush_age_s",
    unit: "s",
    least: (1, "each flush makes files"),
    most: (3_600, "until then only the bus holds the rows"),
    what: "age of the oldest row in memory at which a flush begins",
};

const FLUSH: Bound = Bound {
    name: "ingest.flush_mib",
    unit: "MiB",
    least: (1, "small files are slow to read"),
    most: (4_096, "the rows are in memory"),
    what: "rows in memory at which a flush begins",
};

const MEMORY: Bound = Bound {
    name: "ingest.memory_mib",
    unit: "MiB",
    least: (2, "one buffer fills while the other is flushed"),
    most: (16_384, "the rows are in memory"),
    what: "rows in memory; beyond it nothing is pulled from the bus",
};

const TYPES: Bound = Bound {
    name: "ingest.types_max",
    unit: "types",
    least: (1, "else nothing is taken"),
    most: (10_000, "each is a table with files of its own"),
    what: "event types",
};

const COLUMNS: Bound = Bound {
    name: "ingest.columns_per_type_max",
    unit: "columns",
    least: (1, "else nothing is taken"),
    most: (5_000, "each costs in every file"),
    what: "attributes of one event type",
};

const STRING: Bound = Bound {
    name: "ingest.string_kib_max",
    unit: "KiB",
    least: (1, "names and addresses must fit"),
    most: (512, "no event is longer"),
    what: "one text in an event",
};

const EVENT: Bound = Bound {
    name: "ingest.event_kib_max",
    unit: "KiB",
    least: (1, "a small event must fit"),
    most: (512, "the SDK sends no longer ones"),
    what: "one event",
};

const SKEW: Bound = Bound {
    name: "ingest.skew_future_s",
    unit: "s",
    least: (1, "no two clocks are the same"),
    most: (86_400, "events from the future stay out of every range"),
    what: "how far an event may lie in the future; imports are exempt",
};

const REFUSED: Bound = Bound {
    name: "ingest.refused_mib_max",
    unit: "MiB",
    least: (1, "a refusal must be explained"),
    most: (256, "it is held in memory"),
    what: "refused events kept per flush; beyond it they are counted",
};

pub(super) fn resolve(raw: RawIngest, to: &mut Resolver) -> IngestOptions {
    let own = IngestOptions::default();
    let age_s = to.number(AGE, raw.flush_age_s.as_ref(), own.flush_age.as_secs());
    let flush = to.number(
        FLUSH,
        raw.flush_mib.as_ref(),
        own.flush_rows_bytes as u64 >> 20,
    );
    let memory = to.number(
        MEMORY,
        raw.memory_mib.as_ref(),
        own.memory_bytes_max as u64 >> 20,
    );
    let written = raw.memory_mib.as_ref().or(raw.flush_mib.as_ref());
    if let Some(written) = written.filter(|_| memory < 2 * flush) {
        to.problem(
            written,
            format!(
                "ingest.memory_mib is {memory}, must be at least {} (twice ingest.flush_mib: one \
                 buffer fills while the other is flushed)",
                2 * flush
            ),
        );
    }
    IngestOptions {
        flush_rows_bytes: mib(flush),
        flush_age: Duration::from_secs(age_s),
        memory_bytes_max: mib(memory),
        limits: limits(&raw, own.limits, to),
    }
}

fn limits(raw: &RawIngest, own: Limits, to: &mut Resolver) -> Limits {
    let types = to.number(TYPES, raw.types_max.as_ref(), own.types_max as u64);
    let columns = raw.columns_per_type_max.as_ref();
    let columns = to.number(COLUMNS, columns, own.columns_per_type_max as u64);
    let string = to.number(
        STRING,
        raw.string_kib_max.as_ref(),
        own.string_bytes_max as u64 >> 10,
    );
    let event = to.number(
        EVENT,
        raw.event_kib_max.as_ref(),
        own.event_bytes_max as u64 >> 10,
    );
    let skew_s = to.number(SKEW, raw.skew_future_s.as_ref(), own.skew_future.as_secs());
    let refused = raw.refused_mib_max.as_ref();
    let refused = to.number(REFUSED, refused, own.refused_bytes_max as u64 >> 20);
    Limits {
        types_max: count(types),
        columns_per_type_max: count(columns),
        string_bytes_max: kib(string),
        event_bytes_max: kib(event),
        skew_future: Duration::from_secs(skew_s),
        refused_bytes_max: mib(refused),
        ..own
    }
}
