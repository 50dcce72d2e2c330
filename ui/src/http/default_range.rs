//! The range that a dashboard is shown with where nobody asks for one: its own, or a shorter one as long as
//! its data are younger than that. Pure.
//!
//! Minutes of data at the right edge of an hour are a drawing of nothing. As they grow, so does the range,
//! step by step up to the dashboard's own. Start at [`DefaultRange::of`].

use serin_dashboards::{Dashboard, DefaultRange as OwnRange, Library, Source};
use serin_lake::Snapshot;
use serin_wire::name::OWN_TABLES;
use serin_wire::time::to_rfc3339;
use serin_yaml::span_text;

const MINUTE_US: i64 = 60_000_000;
/// The shorter ranges that a page offers, in minutes.
const STEPS_MIN: [i64; 9] = [5, 15, 60, 180, 360, 720, 1_440, 2_880, 10_080];

/// A default range as texts, and why it is shorter than the dashboard's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DefaultRange {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) instead_of: Option<Own>,
}

/// What the dashboard's file names, and when its data begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) from: String,
    pub(crate) data_from_us: i64,
}

impl DefaultRange {
    pub(crate) fn of(
        library: &Library,
        dashboard: &Dashboard,
        snapshot: &Snapshot,
        now_us: i64,
    ) -> DefaultRange {
        match dashboard.range {
            OwnRange::Last(own_us) => {
                let first_us = data_range_us(library, dashboard, snapshot).map(|(first, _)| first);
                DefaultRange::last(own_us, first_us, now_us)
            }
            OwnRange::Between(from_us, to_us) => DefaultRange {
                from: to_rfc3339(from_us),
                to: to_rfc3339(to_us),
                instead_of: None,
            },
        }
    }

    fn last(own_us: i64, first_us: Option<i64>, now_us: i64) -> DefaultRange {
        let from = |span_us| format!("now-{}", span_text(span_us));
        let young = first_us.and_then(|data_from_us| {
            let mut steps = STEPS_MIN.iter().map(|minutes| minutes * MINUTE_US);
            let step_us = steps.find(|step_us| *step_us >= now_us - data_from_us)?;
            (step_us < own_us).then_some((step_us, data_from_us))
        });
        DefaultRange {
            from: from(young.map_or(own_us, |(step_us, _)| step_us)),
            to: String::from("now"),
            instead_of: young.map(|(_, data_from_us)| Own {
                from: from(own_us),
                data_from_us,
            }),
        }
    }
}

/// Where there are data for a dashboard; all event types count where its panels are SQL alone.
pub(crate) fn data_range_us(
    library: &Library,
    dashboard: &Dashboard,
    snapshot: &Snapshot,
) -> Option<(i64, i64)> {
    let mut tables: Vec<String> = Vec::new();
    for panel in &dashboard.panels {
        if let Source::Kpis(names) = &panel.source {
            let plans = names.iter().filter_map(|name| library.kpis.get(name));
            tables.extend(plans.flat_map(|plan| plan.events()));
        }
    }
    if tables.is_empty() {
        let names = snapshot.tables.keys();
        let is_event = |name: &&String| !OWN_TABLES.contains(&name.as_str());
        tables.extend(names.filter(is_event).cloned());
    }
    snapshot.data_range_us(tables.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_000_000 * MINUTE_US;

    #[test]
    fn young_data_fill_the_range_until_the_dashboards_own_is_full() {
        let from_after = |minutes: i64| {
            let range =
                DefaultRange::last(60 * MINUTE_US, Some(NOW_US - minutes * MINUTE_US), NOW_US);
            (range.from, range.instead_of.map(|own| own.from))
        };
        let own = || Some(String::from("now-1h"));
        assert_eq!(from_after(-2), ("now-5m".into(), own()), "a clock ahead");
        assert_eq!(from_after(1), ("now-5m".into(), own()));
        assert_eq!(from_after(6), ("now-15m".into(), own()));
        assert_eq!(from_after(16), ("now-1h".into(), None));
        assert_eq!(from_after(5_000_000), ("now-1h".into(), None));
    }

    #[test]
    fn without_data_and_with_a_short_range_it_is_the_dashboards_own() {
        assert_eq!(
            DefaultRange::last(60 * MINUTE_US, None, NOW_US).from,
            "now-1h"
        );
        let short = DefaultRange::last(MINUTE_US, Some(NOW_US), NOW_US);
        assert_eq!((short.from.as_str(), short.instead_of), ("now-1m", None));
    }
}
