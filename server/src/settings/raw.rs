//! `serin.yaml` as people write it: every key may be missing, unknown ones are refused.
//!
//! Numbers keep their place in the file, so that a bound that is passed has a line and a column.
//! Nothing is judged here; the file of each area does.

use std::collections::BTreeMap;

use serde::Deserialize;
use serin_yaml::Spanned;

/// A number where it was written.
pub(super) type Written = Spanned<i64>;
/// Yes or no where it was written.
pub(super) type Switch = Spanned<bool>;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) query: Option<RawQuery>,
    pub(super) ingest: Option<RawIngest>,
    pub(super) lake: Option<RawLake>,
    pub(super) bus: Option<RawBus>,
    pub(super) deploy: Option<RawDeploy>,
    pub(super) otlp: Option<RawOtlp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawQuery {
    pub(super) deadline_s: Option<Written>,
    pub(super) memory_mib: Option<Written>,
    pub(super) rows_max: Option<Written>,
    pub(super) points_max: Option<Written>,
    pub(super) result_mib_max: Option<Written>,
    pub(super) sql_kib_max: Option<Written>,
    pub(super) spill_mib_max: Option<Written>,
    pub(super) running_max: Option<Written>,
    pub(super) queued_max: Option<Written>,
    pub(super) kpis_queued_max: Option<Written>,
    pub(super) cache_mib: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawIngest {
    pub(super) flush_age_s: Option<Written>,
    pub(super) flush_mib: Option<Written>,
    pub(super) memory_mib: Option<Written>,
    pub(super) types_max: Option<Written>,
    pub(super) columns_per_type_max: Option<Written>,
    pub(super) string_kib_max: Option<Written>,
    pub(super) event_kib_max: Option<Written>,
    pub(super) skew_future_s: Option<Written>,
    pub(super) refused_mib_max: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLake {
    pub(super) raw_days: Option<Written>,
    pub(super) raw_days_by_table: Option<BTreeMap<String, Written>>,
    pub(super) mib_max: Option<Written>,
    pub(super) mib_max_by_table: Option<BTreeMap<String, Written>>,
    pub(super) snapshot_keep_s: Option<Written>,
    pub(super) delete_grace_s: Option<Written>,
    pub(super) target_file_mib: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawBus {
    pub(super) events_mib_max: Option<Written>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDeploy {
    pub(super) on_start: Option<Switch>,
    pub(super) on_save: Option<Switch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawOtlp {
    pub(super) http_port: Option<Written>,
    pub(super) grpc_port: Option<Written>,
}
