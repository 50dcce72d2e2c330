//! What a rule watches: a KPI, a bound, and for how long it must be crossed.
//!
//! `dashboards` reads rules from YAML and `control` decides by them; neither knows the other, and
//! both know the KPIs, so the plain values stand here.

use std::sync::Arc;

use super::compile::Catalog;

/// A rule as checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, unique.
    pub name: String,
    /// The KPI it watches.
    pub kpi: String,
    /// The bound.
    pub bound: Bound,
    /// How long the bound must be crossed, step after step, before anything is decided.
    pub for_us: i64,
    /// How long one step is; at most `for_us`.
    pub every_us: i64,
    /// What people are told, in place of a sentence of our own.
    pub message: Option<String>,
}

/// On which side of a value it is bad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// More than this is bad.
    Above(f64),
    /// Less than this is bad.
    Below(f64),
}

/// The rules with the KPIs they watch.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// The rules, each naming a KPI of `kpis`.
    pub rules: Vec<Rule>,
    /// Every compiled KPI by name.
    pub kpis: Arc<Catalog>,
}

impl Bound {
    /// The number itself.
    pub fn value(self) -> f64 {
        match self {
            Bound::Above(value) | Bound::Below(value) => value,
        }
    }

    /// Whether `value` is on the bad side.
    pub fn is_crossed_by(self, value: f64) -> bool {
        match self {
            Bound::Above(bound) => value > bound,
            Bound::Below(bound) => value < bound,
        }
    }
}
