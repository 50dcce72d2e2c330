//! Section `query`: what one statement may cost, and how many run.
//!
//! The errors of the query engine name these settings; [`resolve`] makes its `Limits`.

use std::time::Duration;

use serin_query::Limits;

use super::raw::RawQuery;
use super::resolve::{Bound, Resolver, count, kib, mib};

const DEADLINE: Bound = Bound {
    name: "query.deadline_s",
    unit: "s",
    least: (1, "a query needs a moment"),
    most: (3_600, "it holds its snapshot's files on disk all the while"),
    what: "how long a query may take",
};

const MEMORY: Bound = Bound {
    name: "query.memory_mib",
    unit: "MiB",
    least: (64, "one group of rows must fit"),
    most: (65_536, "each statement that runs may hold so much"),
    what: "memory of one query",
};

const ROWS: Bound = Bound {
    name: "query.rows_max",
    unit: "rows",
    least: (1, "an answer has rows"),
    most: (10_000_000, "an answer is held in memory"),
    what: "rows of an answer; more are cut off and told",
};

const POINTS: Bound = Bound {
    name: "query.points_max",
    unit: "points",
    least: (1_000, "a chart has a point per few pixels"),
    most: (10_000_000, "an answer is held in memory"),
    what: "points of a KPI's answer; lesser series are left out and told",
};

const RESULT: Bound = Bound {
    name: "query.result_mib_max",
    unit: "MiB",
    least: (1, "a page of rows must fit"),
    most: (1_024, "an answer is held in memory"),
    what: "size of an answer in Arrow",
};

const SQL: Bound = Bound {
    name: "query.sql_kib_max",
    unit: "KiB",
    least: (1, "a statement must fit"),
    most: (128, "an HTTP request with a statement has at most 256 KiB"),
    what: "length of a statement",
};

const SPILL: Bound = Bound {
    name: "query.spill_mib_max",
    unit: "MiB",
    least: (16, "a sort writes whole runs"),
    most: (1_048_576, "it is disk that events then lack"),
    what: "what a query may write aside to disk",
};

const RUNNING: Bound = Bound {
    name: "query.running_max",
    unit: "statements",
    least: (1, "else nothing is answered"),
    most: (64, "each is a process that holds query.memory_mib"),
    what: "ad-hoc statements at a time",
};

const QUEUED: Bound = Bound {
    name: "query.queued_max",
    unit: "statements",
    least: (0, "none need wait"),
    most: (1_000, "each holds a connection"),
    what: "statements that wait for their turn",
};

const KPIS_QUEUED: Bound = Bound {
    name: "query.kpis_queued_max",
    unit: "KPIs",
    least: (1, "a dashboard asks several at once"),
    most: (10_000, "each holds a connection"),
    what: "KPIs that wait for their turn",
};

const CACHE: Bound = Bound {
    name: "query.cache_mib",
    unit: "MiB",
    least: (0, "nothing need be kept"),
    most: (4_096, "the server holds it in memory"),
    what: "partial KPI results kept for the next refresh",
};

pub(super) fn resolve(raw: RawQuery, to: &mut Resolver) -> Limits {
    let own = Limits::default();
    let deadline_s = to.number(DEADLINE, raw.deadline_s.as_ref(), own.deadline.as_secs());
    let memory = to.number(
        MEMORY,
        raw.memory_mib.as_ref(),
        own.memory_bytes as u64 >> 20,
    );
    let rows = to.number(ROWS, raw.rows_max.as_ref(), own.rows_max as u64);
    let points = to.number(POINTS, raw.points_max.as_ref(), own.points_max as u64);
    let result = to.number(
        RESULT,
        raw.result_mib_max.as_ref(),
        own.result_bytes_max as u64 >> 20,
    );
    let sql = to.number(
        SQL,
        raw.sql_kib_max.as_ref(),
        own.sql_bytes_max as u64 >> 10,
    );
    let spill = to.number(SPILL, raw.spill_mib_max.as_ref(), own.spill_bytes_max >> 20);
    let running = to.number(RUNNING, raw.running_max.as_ref(), own.running_max as u64);
    let queued = to.number(QUEUED, raw.queued_max.as_ref(), own.queued_max as u64);
    let kpis_queued = to.number(
        KPIS_QUEUED,
        raw.kpis_queued_max.as_ref(),
        own.kpis_queued_max as u64,
    );
    let cache = to.number(CACHE, raw.cache_mib.as_ref(), own.cache_bytes as u64 >> 20);
    Limits {
        deadline: Duration::from_secs(deadline_s),
        memory_bytes: mib(memory),
        rows_max: count(rows),
        points_max: count(points),
        result_bytes_max: mib(result),
        sql_bytes_max: kib(sql),
        spill_bytes_max: spill << 20,
        running_max: count(running),
        queued_max: count(queued),
        kpis_queued_max: count(kpis_queued),
        cache_bytes: mib(cache),
    }
}
