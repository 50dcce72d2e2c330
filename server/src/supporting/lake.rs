//! The lake: tables, files, rows, bytes, and the age of its newest snapshot.

use serin_lake::LakeTotals;
use serin_ui::Metric;

/// What the lake holds, for `/metrics` and the table `metrics`.
pub(crate) fn metrics(totals: &LakeTotals, now_us: i64) -> Vec<Metric> {
    let mut metrics = vec![
        Metric::gauge("serin_lake_tables", "Tables.", totals.tables as f64),
        Metric::gauge(
            "serin_lake_files",
            "Files in the catalogue.",
            totals.files as f64,
        ),
        Metric::gauge("serin_lake_rows", "Rows in files.", totals.rows as f64),
        Metric::gauge("serin_lake_bytes", "Bytes of files.", totals.bytes as f64),
        Metric::gauge(
            "serin_lake_catalogue_bytes",
            "Bytes of the catalogue.",
            totals.catalogue_bytes as f64,
        ),
        Metric::gauge(
            "serin_lake_retired_files",
            "Files that were merged or expired and wait to leave the disk.",
            totals.retired_files as f64,
        ),
        Metric::gauge(
            "serin_lake_snapshots",
            "DuckLake snapshots that can be read.",
            totals.snapshots as f64,
        ),
    ];
    if let Some(changed_us) = totals.changed_us {
        metrics.push(Metric::gauge(
            "serin_lake_snapshot_age_seconds",
            "Since the last commit.",
            (now_us - changed_us) as f64 / 1e6,
        ));
    }
    metrics
}
