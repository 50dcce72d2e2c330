//! One round of a dashboard: what it is for a reader's choices, and its panels at one moment.
//!
//! All panels of a round see the same snapshot, the same range and the same marks. Start at
//! [`Round::begin`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serin_dashboards::evaluate::{Asked, evaluate};
use serin_dashboards::marks::happened;
use serin_dashboards::variable::choose;
use serin_dashboards::{Chosen, Dashboard, Happened, Library, Panel, PanelData};
use serin_lake::Snapshot;
use serin_query::{Range, nice_step_us};
use serin_wire::time::to_rfc3339;

use super::App;
use super::default_range::data_range_us;
use super::dto::{DataBody, RangeBody};

/// How wide a page is taken to be where the browser does not say.
const PAGE_PX: f64 = 1_200.0;
/// Points over the whole range that the step of an answer is told for.
const POINTS: usize = 400;

/// What the panels of one round are asked with.
pub(crate) struct Round {
    pub(crate) library: Arc<Library>,
    /// With its choices filled in.
    pub(crate) dashboard: Arc<Dashboard>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) range: Range,
    happened: Happened,
}

impl Round {
    /// Fills in what was chosen and reads what happened.
    pub(crate) async fn begin(
        app: &App,
        library: Arc<Library>,
        dashboard: &Arc<Dashboard>,
        snapshot: Arc<Snapshot>,
        chosen: &Chosen,
        range: Range,
    ) -> Round {
        let dashboard = choose(&app.engine, &snapshot, &library, dashboard, chosen, range).await;
        let happened = happened(&app.engine, &snapshot, &dashboard.panels, range).await;
        Round {
            library,
            dashboard,
            snapshot,
            range,
            happened,
        }
    }

    /// What one panel shows, as wide as its place in the layout.
    pub(crate) async fn numbers(&self, app: &App, panel: &Panel) -> PanelData {
        let width_px = width_px(&self.dashboard, &panel.name);
        self.drawn(app, panel, width_px).await
    }

    /// What one panel shows, drawn so wide.
    pub(crate) async fn drawn(&self, app: &App, panel: &Panel, width_px: u32) -> PanelData {
        let range = self.range;
        let asked = Asked { range, width_px };
        let mut data = evaluate(
            &app.engine,
            &self.snapshot,
            &self.library,
            panel,
            asked,
            &self.happened,
        )
        .await;
        app.looks.dress(&mut data);
        data
    }

    /// The numbers of panels, with the range and the moment they belong to.
    pub(crate) fn frame<T>(&self, panels: BTreeMap<String, T>) -> DataBody<T> {
        DataBody {
            from: to_rfc3339(self.range.from_us),
            to: to_rfc3339(self.range.to_us),
            step_s: nice_step_us(self.range, POINTS) as f64 / 1e6,
            panels,
            watermark: self.snapshot.watermark_us.map(to_rfc3339),
            data_range: self.data_range(),
        }
    }

    /// Where there are data for this dashboard, in whole seconds.
    fn data_range(&self) -> Option<RangeBody> {
        let (first, last) = data_range_us(&self.library, &self.dashboard, &self.snapshot)?;
        // The end of a range is not part of it: the second after the last event shows that event.
        let end = last - last.rem_euclid(1_000_000) + 1_000_000;
        Some(RangeBody {
            from: to_rfc3339(first - first.rem_euclid(1_000_000)),
            to: to_rfc3339(end),
        })
    }
}

fn width_px(dashboard: &Dashboard, panel: &str) -> u32 {
    let row = dashboard
        .layout
        .iter()
        .find(|row| row.iter().any(|(name, _)| name == panel));
    let share = row.map_or(1.0, |row| {
        let all: f64 = row.iter().map(|(_, share)| share).sum();
        let own = row.iter().find(|(name, _)| name == panel);
        own.map_or(1.0, |(_, share)| share / all)
    });
    (PAGE_PX * share) as u32
}
