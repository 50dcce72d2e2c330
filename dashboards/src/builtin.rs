//! What is there without any file: KPIs over Serin's own tables, and a dashboard of its own health.
//!
//! The same YAML as everyone's, inside the binary; a test holds it to be without fault.

use serin_yaml::Problem;

use crate::model::Dashboard;
use crate::resolve::{self, Names};
use crate::spec::{KpiFile, RawDashboard, read_kpis};

const KPIS: &str = include_str!("../builtin/kpis.yaml");
const DASHBOARD: &str = include_str!("../builtin/serin.yaml");

/// The built-in KPIs.
pub(crate) fn kpis() -> KpiFile {
    let mut problems = Vec::new();
    read_kpis("built-in/kpis.yaml", KPIS, &mut problems).unwrap_or_default()
}

/// The built-in dashboards.
pub(crate) fn dashboards(names: &Names<'_>) -> Vec<Dashboard> {
    let mut problems: Vec<Problem> = Vec::new();
    let raw = serin_yaml::read::<RawDashboard>("built-in/serin.yaml", DASHBOARD);
    let resolved =
        raw.map(|raw| resolve::dashboard("built-in/serin.yaml", &raw, names, &mut problems));
    resolved
        .into_iter()
        .map(|dashboard| Dashboard {
            file: None,
            ..dashboard
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_built_in_has_no_fault() {
        let mut problems = Vec::new();
        let file = read_kpis("kpis.yaml", KPIS, &mut problems).expect("YAML");
        let definitions = file
            .definitions
            .into_iter()
            .map(|placed| placed.definition)
            .collect();
        let kpis = serin_query::kpi::compile(definitions).expect("KPIs that compile");
        let broken = BTreeSet::new();
        let names = Names {
            kpis: &kpis,
            broken: &broken,
        };
        let raw = serin_yaml::read::<RawDashboard>("serin.yaml", DASHBOARD).expect("YAML");
        resolve::dashboard("serin.yaml", &raw, &names, &mut problems);
        assert_eq!(problems, []);
    }
}
