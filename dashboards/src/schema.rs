//! What editors are told of our YAML: JSON Schemas, which a test of the server holds against the
//! parser, key by key.

/// Of `kpis/*.yaml`.
pub const KPIS: &str = include_str!("../schema/kpis.json");
/// Of `dashboards/*.yaml`.
pub const DASHBOARD: &str = include_str!("../schema/dashboard.json");
