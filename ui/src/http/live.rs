//! Live dashboards: one evaluation for all who look at the same dashboard and range.
//!
//! A task per dashboard and range evaluates at most once per refresh, and again at once when the
//! YAML changes; it ends when nobody looks any more. A viewer is sent what changed since it was last
//! sent something, so that a slow one skips states and never piles them up. Start at [`follow`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::Sse;
use axum::response::sse::Event;
use futures::Stream;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serin_dashboards::PanelData;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::dashboards::{find, frame, numbers, range_of};
use super::dto::{DataBody, RangeBody, RevisionBody, TickBody};
use super::error::ApiError;

/// However short the refresh of a dashboard, this much lies between two evaluations.
const REFRESH_MIN: Duration = Duration::from_secs(1);
/// How often a viewer hears something though nothing changes.
const TICK: Duration = Duration::from_secs(5);
/// Different dashboards and ranges looked at at one moment.
const EVALUATIONS_MAX: usize = 200;
/// What may wait for one viewer's line.
const VIEWER_QUEUE: usize = 4;

/// All evaluations under way.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    running: Mutex<BTreeMap<Key, watch::Sender<Arc<Shown>>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    dashboard: String,
    from: Option<String>,
    to: Option<String>,
}

/// What an evaluation has found by now.
#[derive(Debug, Clone, Default)]
struct Shown {
    /// Rises with each evaluation that changed something; 0 before the first.
    version: u64,
    revision: u64,
    from: String,
    to: String,
    step_s: f64,
    watermark: Option<String>,
    data_range: Option<RangeBody>,
    panels: BTreeMap<String, ShownPanel>,
}

#[derive(Debug, Clone)]
struct ShownPanel {
    /// The version that changed it last.
    changed: u64,
    /// Its numbers without the moment they were asked at: what is compared.
    compared: String,
    sent: Arc<RawValue>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    from: Option<String>,
    to: Option<String>,
}

/// `GET /api/v1/dashboards/{name}/live`.
pub(crate) async fn get(
    State(app): State<App>,
    Path(dashboard): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let library = app.library();
    range_of(
        &app,
        find(&library, &dashboard)?,
        asked.from.as_deref(),
        asked.to.as_deref(),
    )?;
    let key = Key {
        dashboard,
        from: asked.from,
        to: asked.to,
    };
    let shown = join(&app, key)?;
    let (tx, rx) = mpsc::channel(VIEWER_QUEUE);
    app.tasks.spawn(follow(app.clone(), shown, tx));
    Ok(Sse::new(futures::StreamExt::map(
        ReceiverStream::new(rx),
        Ok,
    )))
}

/// Joins the evaluation of this dashboard and range, or begins it.
fn join(app: &App, key: Key) -> Result<watch::Receiver<Arc<Shown>>, ApiError> {
    let mut running = app
        .hub
        .running
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = running.get(&key) {
        return Ok(sender.subscribe());
    }
    if running.len() >= EVALUATIONS_MAX {
        return Err(ApiError::busy(
            format!("{EVALUATIONS_MAX} different dashboards and ranges are looked at already"),
            TICK,
        ));
    }
    let (sender, receiver) = watch::channel(Arc::new(Shown::default()));
    running.insert(key.clone(), sender);
    app.tasks.spawn(evaluate(app.clone(), key));
    Ok(receiver)
}

/// Evaluates until nobody looks.
async fn evaluate(app: App, key: Key) {
    let mut library = app.library.clone();
    let mut shown = Shown::default();
    let mut last_seen = None;
    loop {
        let refresh = step(&app, &key, &mut shown, &mut last_seen).await;
        {
            let mut running = app
                .hub
                .running
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let Some(sender) = running.get(&key) else {
                return;
            };
            if sender.is_closed() {
                running.remove(&key);
                return;
            }
            if sender.borrow().version != shown.version {
                sender.send_replace(Arc::new(shown.clone()));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(refresh) => {}
            changed = library.changed() => if changed.is_err() {
                return;
            },
            () = app.stop.cancelled() => return,
        }
    }
}

/// One evaluation; how long to wait for the next.
async fn step(
    app: &App,
    key: &Key,
    shown: &mut Shown,
    last_seen: &mut Option<(u64, u64, serin_query::Range)>,
) -> Duration {
    let library = app.library();
    let Some(dashboard) = library.dashboards.get(&key.dashboard) else {
        // It was removed: the viewer asks for it anew and is told so.
        if shown.revision != library.revision {
            shown.revision = library.revision;
            shown.version += 1;
        }
        return REFRESH_MIN;
    };
    let refresh = Duration::from_micros(dashboard.refresh_us.unsigned_abs()).max(REFRESH_MIN);
    let range = match range_of(app, dashboard, key.from.as_deref(), key.to.as_deref()) {
        Ok(range) => range,
        Err(error) => {
            tracing::debug!(error = error.message, "a live range can no longer be read");
            return refresh;
        }
    };
    let snapshot = app.lake.snapshot();
    // A fixed range without new rows shows what it showed.
    let seen = (snapshot.version, library.revision, range);
    if *last_seen == Some(seen) {
        return refresh;
    }
    *last_seen = Some(seen);
    let version = shown.version + 1;
    let mut changed_any = shown.revision != library.revision;
    let mut panels = BTreeMap::new();
    for panel in &dashboard.panels {
        let data = numbers(app, &snapshot, &library, dashboard, panel, range).await;
        let before = shown.panels.remove(&panel.name);
        match shown_panel(data, version, before) {
            Ok(next) => {
                changed_any |= next.changed == version;
                panels.insert(panel.name.clone(), next);
            }
            Err(error) => tracing::error!(%error, panel = panel.name, "cannot write a panel"),
        }
    }
    let about: DataBody<()> = frame(&library, dashboard, &snapshot, range, BTreeMap::new());
    *shown = Shown {
        version: if changed_any { version } else { shown.version },
        revision: library.revision,
        from: about.from,
        to: about.to,
        step_s: about.step_s,
        watermark: about.watermark,
        data_range: about.data_range,
        panels,
    };
    refresh
}

fn shown_panel(
    data: PanelData,
    version: u64,
    before: Option<ShownPanel>,
) -> serde_json::Result<ShownPanel> {
    let sent = serde_json::value::to_raw_value(&data)?;
    let compared = serde_json::to_string(&PanelData {
        range: Default::default(),
        watermark: None,
        ..data
    })?;
    Ok(match before {
        Some(before) if before.compared == compared => before,
        _ => ShownPanel {
            changed: version,
            compared,
            sent: Arc::from(sent),
        },
    })
}

/// Tells one viewer what changes, until it goes.
async fn follow(app: App, mut shown: watch::Receiver<Arc<Shown>>, tx: mpsc::Sender<Event>) {
    app.counts.viewers.fetch_add(1, Ordering::Relaxed);
    let mut seen = 0;
    let mut revision = None;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let events = tokio::select! {
            changed = shown.changed() => match changed {
                Ok(()) => {
                    let now = Arc::clone(&shown.borrow_and_update());
                    let events = news(&now, seen, revision);
                    seen = now.version;
                    revision = Some(now.revision);
                    events
                }
                Err(_) => break,
            },
            _ = tick.tick() => {
                // One who joins a running evaluation is shown at once what it has.
                let now = Arc::clone(&shown.borrow());
                let mut events = Vec::new();
                if seen == 0 && now.version > 0 {
                    events = news(&now, seen, revision);
                    seen = now.version;
                    revision = Some(now.revision);
                }
                events.extend(event("tick", &TickBody {
                    now: serin_wire::time::to_rfc3339((app.now_us)()),
                    watermark: app.lake.snapshot().watermark_us.map(serin_wire::time::to_rfc3339),
                }));
                events
            }
            () = tx.closed() => break,
            () = app.stop.cancelled() => break,
        };
        for event in events {
            let gone = tokio::select! {
                sent = tx.send(event) => sent.is_err(),
                () = app.stop.cancelled() => true,
            };
            if gone {
                app.counts.viewers.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        }
    }
    app.counts.viewers.fetch_sub(1, Ordering::Relaxed);
}

/// What changed since version `seen`.
fn news(now: &Shown, seen: u64, revision: Option<u64>) -> Vec<Event> {
    let mut events = Vec::new();
    if revision.is_some_and(|known| known != now.revision) {
        events.extend(event(
            "dashboard",
            &RevisionBody {
                revision: now.revision,
            },
        ));
    }
    let panels: BTreeMap<String, &RawValue> = now
        .panels
        .iter()
        .filter(|(_, panel)| panel.changed > seen)
        .map(|(name, panel)| (name.clone(), &*panel.sent))
        .collect();
    if !panels.is_empty() {
        let body = DataBody {
            from: now.from.clone(),
            to: now.to.clone(),
            step_s: now.step_s,
            panels,
            watermark: now.watermark.clone(),
            data_range: now.data_range.clone(),
        };
        events.extend(event("panels", &body));
    }
    events
}

fn event(name: &str, body: &impl Serialize) -> Option<Event> {
    match Event::default().event(name).json_data(body) {
        Ok(event) => Some(event),
        Err(error) => {
            tracing::error!(%error, name, "cannot write a live event");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(version: u64, panels: &[(&str, u64)]) -> Shown {
        let raw = || Arc::from(serde_json::value::to_raw_value(&1).expect("a number"));
        let panels = panels.iter().map(|(name, changed)| {
            let panel = ShownPanel {
                changed: *changed,
                compared: String::new(),
                sent: raw(),
            };
            ((*name).to_owned(), panel)
        });
        Shown {
            version,
            revision: 1,
            panels: panels.collect(),
            ..Shown::default()
        }
    }

    #[test]
    fn only_what_changed_is_told() {
        let now = shown(3, &[("a", 1), ("b", 3)]);
        assert_eq!(news(&now, 3, Some(1)).len(), 0);
        assert_eq!(news(&now, 0, None).len(), 1);
        // A changed definition is told before the numbers.
        assert_eq!(news(&now, 2, Some(0)).len(), 2);
    }
}
