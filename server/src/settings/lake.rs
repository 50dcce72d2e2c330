//! Section `lake`: how long rows, snapshots and files stay, and how large files grow.
//!
//! [`resolve`] makes the lake's options, but for its folder. What is set for a table replaces what
//! is set for all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serin_lake::{LakeOptions, Retention};

use super::raw::{RawLake, Written};
use super::resolve::{Bound, Resolver};

const DAYS: Bound = Bound {
    name: "lake.raw_days",
    unit: "days",
    least: (1, "rows must be readable for a while"),
    most: (36_500, "a century is for ever"),
    what: "days that rows stay after they arrived; imported ones stay",
};

const DAYS_BY_TABLE: Bound = Bound {
    name: "lake.raw_days_by_table",
    unit: "days",
    least: (1, "rows must be readable for a while"),
    most: (36_500, "a century is for ever"),
    what: "the same for one table",
};

const SIZE: Bound = Bound {
    name: "lake.mib_max",
    unit: "MiB",
    least: (1, "a file must fit"),
    most: (1_073_741_824, "a pebibyte is no limit"),
    what: "size of a table on disk; its oldest files go first",
};

const SIZE_BY_TABLE: Bound = Bound {
    name: "lake.mib_max_by_table",
    unit: "MiB",
    least: (1, "a file must fit"),
    most: (1_073_741_824, "a pebibyte is no limit"),
    what: "the same for one table",
};

const KEEP: Bound = Bound {
    name: "lake.snapshot_keep_s",
    unit: "s",
    least: (60, "DuckDB looks at a snapshot in several steps"),
    most: (2_592_000, "the catalogue grows with each"),
    what: "how long older snapshots can be read",
};

const GRACE: Bound = Bound {
    name: "lake.delete_grace_s",
    unit: "s",
    least: (60, "readers outside Serin may have the file open"),
    most: (2_592_000, "it is disk that events then lack"),
    what: "how long a superseded file stays on disk",
};

const FILE: Bound = Bound {
    name: "lake.target_file_mib",
    unit: "MiB",
    least: (1, "small files are slow to read"),
    most: (4_096, "a file is read and merged as a whole"),
    what: "size that merged files aim at",
};

pub(super) fn resolve(raw: RawLake, to: &mut Resolver) -> LakeOptions {
    let own = LakeOptions::default();
    let retention = retention(&raw, &own.retention, to);
    let keep_s = to.number(
        KEEP,
        raw.snapshot_keep_s.as_ref(),
        own.snapshot_keep.as_secs(),
    );
    let grace_s = to.number(
        GRACE,
        raw.delete_grace_s.as_ref(),
        own.delete_grace.as_secs(),
    );
    let file = to.number(
        FILE,
        raw.target_file_mib.as_ref(),
        own.target_file_bytes >> 20,
    );
    LakeOptions {
        retention,
        snapshot_keep: Duration::from_secs(keep_s),
        delete_grace: Duration::from_secs(grace_s),
        target_file_bytes: file << 20,
        ..own
    }
}

fn retention(raw: &RawLake, own: &Retention, to: &mut Resolver) -> Retention {
    let days = to.number(DAYS, raw.raw_days.as_ref(), u64::from(own.raw_days));
    let own_days = own.raw_days_by_table.iter();
    let own_days = own_days.map(|(table, days)| (table.clone(), u64::from(*days)));
    let by_table = raw.raw_days_by_table.as_ref();
    let days_by_table = by_tables(DAYS_BY_TABLE, by_table, &own_days.collect(), to);
    let size = to.optional(
        SIZE,
        raw.mib_max.as_ref(),
        own.bytes_max.map(|bytes| bytes >> 20),
    );
    let own_sizes = own.bytes_max_by_table.iter();
    let own_sizes = own_sizes.map(|(table, bytes)| (table.clone(), bytes >> 20));
    let by_table = raw.mib_max_by_table.as_ref();
    let sizes_by_table = by_tables(SIZE_BY_TABLE, by_table, &own_sizes.collect(), to);
    Retention {
        raw_days: to_days(days),
        raw_days_by_table: days_by_table
            .into_iter()
            .map(|(table, days)| (table, to_days(days)))
            .collect(),
        bytes_max: size.map(|mib| mib << 20),
        bytes_max_by_table: sizes_by_table
            .into_iter()
            .map(|(table, mib)| (table, mib << 20))
            .collect(),
    }
}

/// What is set for tables, by us or in the file.
fn by_tables(
    bound: Bound,
    raw: Option<&BTreeMap<String, Written>>,
    own: &BTreeMap<String, u64>,
    to: &mut Resolver,
) -> BTreeMap<String, u64> {
    let written = raw.into_iter().flat_map(BTreeMap::keys);
    let tables: BTreeSet<&String> = own.keys().chain(written).collect();
    tables
        .into_iter()
        .filter_map(|table| {
            let written = raw.and_then(|raw| raw.get(table));
            let number = to.of_table(bound, table, written, own.get(table).copied())?;
            Some((table.clone(), number))
        })
        .collect()
}

/// The bounds keep days far below the end of the type.
fn to_days(days: u64) -> u32 {
    u32::try_from(days).unwrap_or(u32::MAX)
}
