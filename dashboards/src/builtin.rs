//! What is there without any file: KPIs over Serin's own tables, and dashboards of the cluster, of a
//! service and of the supporting systems.
//!
//! The same YAML as everyone's, inside the binary, to be copied and changed; a test holds it to be
//! without fault.

use serin_yaml::Problem;

use crate::model::Dashboard;
use crate::resolve::{self, Names};
use crate::spec::{KpiFile, RawDashboard, read_kpis};

const KPIS: &str = include_str!("../builtin/kpis.yaml");
/// By name; the file of each has its name.
const DASHBOARDS: [(&str, &str); 3] = [
    ("cluster", include_str!("../builtin/cluster.yaml")),
    ("service", include_str!("../builtin/service.yaml")),
    ("supporting", include_str!("../builtin/supporting.yaml")),
];

/// The YAML of a built-in dashboard.
pub fn text(name: &str) -> Option<&'static str> {
    let mut all = DASHBOARDS.iter();
    all.find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The built-in KPIs.
pub(crate) fn kpis() -> KpiFile {
    let mut problems = Vec::new();
    read_kpis("built-in/kpis.yaml", KPIS, &mut problems).unwrap_or_default()
}

/// The built-in dashboards.
pub(crate) fn dashboards(names: &Names<'_>) -> Vec<Dashboard> {
    let mut problems: Vec<Problem> = Vec::new();
    let read = DASHBOARDS.iter().filter_map(|(name, text)| {
        let file = format!("built-in/{name}.yaml");
        let raw = serin_yaml::read::<RawDashboard>(&file, text).ok()?;
        let mut dashboard = resolve::dashboard(&file, &raw, names, &mut problems);
        for panel in &mut dashboard.panels {
            panel.is_built_in = true;
        }
        Some(Dashboard {
            file: None,
            ..dashboard
        })
    });
    read.collect()
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
        for (name, text) in DASHBOARDS {
            let raw = serin_yaml::read::<RawDashboard>(name, text).expect("YAML");
            let dashboard = resolve::dashboard(name, &raw, &names, &mut problems);
            assert_eq!(dashboard.name, name);
        }
        assert_eq!(problems, []);
    }
}
