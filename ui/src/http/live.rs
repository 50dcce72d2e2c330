//! Live dashboards: one evaluation for all who look at the same dashboard and range.
//!
//! A task per dashboard and range asks for its panels at most once per refresh, and again at once when
//! the YAML changes. Each panel is shown as soon as it is there, and goes at its own pace: a slow one
//! holds no other up. When nobody looks any more, or the server ends, what is under way is dropped, and
//! with it its queries; what was shown last is kept for a moment, for one who comes back. A viewer is
//! sent what changed since it was last sent something, so that a slow one skips states and never piles
//! them up. Start at [`evaluate`] and [`follow`].

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::Sse;
use axum::response::sse::Event;
use futures::{Stream, StreamExt};
use serde::Serialize;
use serde_json::value::RawValue;
use serin_dashboards::{Chosen, PanelData};
use serin_query::Range;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use super::App;
use super::dashboards::{find, range_of};
use super::dto::{DataBody, RangeBody, RevisionBody, TickBody};
use super::error::ApiError;
use super::range::Times;
use super::round::Round;
use super::variables::{Parameters, chosen};

/// However short the refresh of a dashboard, this much lies between two evaluations.
const REFRESH_MIN: Duration = Duration::from_secs(1);
/// How often a viewer hears something though nothing changes.
const TICK: Duration = Duration::from_secs(5);
/// How long what was shown is kept when nobody looks: a page that is loaded again, or come back to.
const KEPT: Duration = Duration::from_secs(10);
/// How long panels are asked for though only their page was: its browser comes for them by then.
const EXPECTED: Duration = Duration::from_secs(2);
/// Different dashboards and ranges looked at at one moment.
const EVALUATIONS_MAX: usize = 200;
/// What may wait for one viewer's line.
const VIEWER_QUEUE: usize = 4;

/// All evaluations under way.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    running: Mutex<BTreeMap<Key, Evaluation>>,
}

#[derive(Debug, Clone)]
struct Evaluation {
    sender: watch::Sender<Arc<Shown>>,
    /// Somebody looks again.
    joined: Arc<Notify>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    dashboard: String,
    times: Times,
    chosen: Chosen,
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
    compared: Arc<str>,
    sent: Arc<RawValue>,
}

/// `GET /api/v1/dashboards/{name}/live`.
pub(crate) async fn get(
    State(app): State<App>,
    Path(dashboard): Path<String>,
    Query(times): Query<Times>,
    Query(parameters): Query<Parameters>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let shown = look(&app, dashboard, times, &parameters)?;
    let (tx, rx) = mpsc::channel(VIEWER_QUEUE);
    app.tasks.spawn(follow(app.clone(), shown, tx));
    Ok(Sse::new(ReceiverStream::new(rx).map(Ok)))
}

/// A browser has asked for a dashboard's page: while it reads that, its panels are begun.
pub(crate) fn expect(app: &App, dashboard: String, times: Times, parameters: &Parameters) {
    match look(app, dashboard, times, parameters) {
        Ok(shown) => {
            let stop = app.stop.clone();
            app.tasks.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(EXPECTED) => {}
                    () = stop.cancelled() => {}
                }
                drop(shown);
            });
        }
        // The browser will ask the same and be told why.
        Err(error) => tracing::debug!(error = error.message, "panels are not begun"),
    }
}

/// Joins the evaluation that a request is about.
fn look(
    app: &App,
    dashboard: String,
    times: Times,
    parameters: &Parameters,
) -> Result<watch::Receiver<Arc<Shown>>, ApiError> {
    let library = app.library();
    range_of(app, &library, find(&library, &dashboard)?, &times)?;
    let key = Key {
        dashboard,
        times,
        chosen: chosen(parameters)?,
    };
    join(app, key)
}

/// Joins the evaluation of this dashboard and range, or begins it.
fn join(app: &App, key: Key) -> Result<watch::Receiver<Arc<Shown>>, ApiError> {
    let mut running = app.hub.running();
    if let Some(evaluation) = running.get(&key) {
        let shown = evaluation.sender.subscribe();
        evaluation.joined.notify_one();
        return Ok(shown);
    }
    if running.len() >= EVALUATIONS_MAX {
        return Err(ApiError::busy(
            format!("{EVALUATIONS_MAX} different dashboards and ranges are looked at already"),
            TICK,
        ));
    }
    let (sender, receiver) = watch::channel(Arc::new(Shown::default()));
    let joined = Arc::default();
    let evaluation = Evaluation { sender, joined };
    running.insert(key.clone(), evaluation.clone());
    app.tasks.spawn(evaluate(app.clone(), key, evaluation));
    Ok(receiver)
}

impl Hub {
    fn running(&self) -> MutexGuard<'_, BTreeMap<Key, Evaluation>> {
        let running = self.running.lock();
        running.unwrap_or_else(PoisonError::into_inner)
    }
}

/// An evaluation's place in the hub. It goes with the evaluation, however that ends: who looks later
/// would join what shows nothing any more.
struct Listed<'a> {
    hub: &'a Hub,
    key: &'a Key,
    sender: &'a watch::Sender<Arc<Shown>>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut running = self.hub.running();
        // Where it was forgotten in time another one may stand by now.
        let is_own = |listed: &Evaluation| listed.sender.same_channel(self.sender);
        if running.get(self.key).is_some_and(is_own) {
            running.remove(self.key);
        }
    }
}

/// Evaluates until nobody looks. Dropping `under_way` ends the queries in it.
async fn evaluate(app: App, key: Key, Evaluation { sender, joined }: Evaluation) {
    let _listed = Listed {
        hub: &app.hub,
        key: &key,
        sender: &sender,
    };
    let mut library = app.library.clone();
    let mut shown = Shown::default();
    let mut rounds = Rounds::default();
    let mut under_way: JoinSet<Found> = JoinSet::new();
    let mut refresh = Box::pin(tokio::time::sleep(Duration::ZERO));
    let mut next_at = Instant::now();
    // When it is forgotten, while nobody looks.
    let mut ends_at: Option<Instant> = None;
    loop {
        let ending = tokio::time::sleep_until(ends_at.unwrap_or_else(Instant::now));
        tokio::select! {
            Some(found) = under_way.join_next() => {
                let mut found = Some(found);
                // What is there by now is shown at once, together.
                while let Some(one) = found {
                    take(&app, &mut rounds, &mut shown, whole(one), &mut under_way);
                    found = under_way.try_join_next();
                }
            }
            () = &mut refresh, if ends_at.is_none() => {
                next_at = Instant::now() + begin(&app, &key, &mut rounds, &mut shown, &mut under_way);
                refresh.set(tokio::time::sleep_until(next_at));
            }
            changed = library.changed() => {
                if changed.is_err() {
                    break;
                }
                // What is under way belongs to another definition.
                under_way = JoinSet::new();
                rounds = Rounds::default();
                next_at = Instant::now();
                refresh.set(tokio::time::sleep_until(next_at));
            }
            () = sender.closed(), if ends_at.is_none() => {
                // What is under way has shown nothing yet; one who comes back has it begun anew.
                if !under_way.is_empty() {
                    under_way = JoinSet::new();
                    rounds = Rounds::default();
                    next_at = Instant::now();
                }
                ends_at = Some(Instant::now() + KEPT);
            }
            () = joined.notified(), if ends_at.is_some() => {
                ends_at = None;
                refresh.set(tokio::time::sleep_until(next_at));
            }
            () = ending, if ends_at.is_some() => {
                let mut running = app.hub.running();
                // Who joined just now has left a note.
                if sender.is_closed() {
                    running.remove(&key);
                    break;
                }
            }
            () = app.stop.cancelled() => break,
        }
        if sender.borrow().version != shown.version {
            sender.send_replace(Arc::new(shown.clone()));
        }
    }
}

/// What a task found; its panic is ours.
fn whole(found: Result<Found, JoinError>) -> Found {
    found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Where the rounds of an evaluation are.
#[derive(Default)]
struct Rounds {
    /// What the last round looked at: the same again would show the same.
    last_seen: Option<(u64, u64, Range)>,
    /// A round whose choices are being looked up.
    is_beginning: bool,
    /// Panels that are being asked for.
    busy: BTreeSet<String>,
}

/// Something that an evaluation waited for.
enum Found {
    Round(Box<Round>),
    Panel(Box<PanelData>),
}

/// Begins a round, unless nothing is new; how long to wait for the next.
fn begin(
    app: &App,
    key: &Key,
    rounds: &mut Rounds,
    shown: &mut Shown,
    under_way: &mut JoinSet<Found>,
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
    let range = match range_of(app, &library, dashboard, &key.times) {
        Ok(range) => range,
        Err(error) => {
            tracing::debug!(error = error.message, "a live range can no longer be read");
            return refresh;
        }
    };
    let snapshot = app.lake.snapshot();
    // A fixed range without new rows shows what it showed.
    let seen = (snapshot.version, library.revision, range);
    if rounds.is_beginning || rounds.last_seen == Some(seen) {
        return refresh;
    }
    rounds.last_seen = Some(seen);
    rounds.is_beginning = true;
    let (app, chosen, dashboard) = (app.clone(), key.chosen.clone(), Arc::clone(dashboard));
    under_way.spawn(async move {
        let round = Round::begin(&app, library, &dashboard, snapshot, &chosen, range);
        Found::Round(Box::new(round.await))
    });
    refresh
}

/// Takes what was found into what is shown; asks for the panels of a round, in its order.
fn take(
    app: &App,
    rounds: &mut Rounds,
    shown: &mut Shown,
    found: Found,
    under_way: &mut JoinSet<Found>,
) {
    let round = match found {
        Found::Panel(data) => {
            rounds.busy.remove(&data.panel);
            shown.take(*data);
            return;
        }
        Found::Round(round) => Arc::from(round),
    };
    rounds.is_beginning = false;
    shown.begin(&round);
    for (index, panel) in round.dashboard.panels.iter().enumerate() {
        if !rounds.busy.insert(panel.name.clone()) {
            // Still at the last round: what is new now is looked at in the next one.
            rounds.last_seen = None;
            continue;
        }
        let (app, round) = (app.clone(), Arc::clone(&round));
        under_way.spawn(async move {
            let shown = round.numbers(&app, &round.dashboard.panels[index]).await;
            Found::Panel(Box::new(shown))
        });
    }
}

impl Shown {
    /// A round begins: its range, and only its panels.
    fn begin(&mut self, round: &Round) {
        let about: DataBody<()> = round.frame(BTreeMap::new());
        if self.revision != round.library.revision {
            self.revision = round.library.revision;
            self.version += 1;
        }
        self.from = about.from;
        self.to = about.to;
        self.step_s = about.step_s;
        self.watermark = about.watermark;
        self.data_range = about.data_range;
        self.panels
            .retain(|name, _| round.dashboard.panel(name).is_some());
    }

    /// A panel is there.
    fn take(&mut self, data: PanelData) {
        let name = data.panel.clone();
        let before = self.panels.remove(&name);
        match shown_panel(data, self.version + 1, before) {
            Ok(next) => {
                self.version = self.version.max(next.changed);
                self.panels.insert(name, next);
            }
            Err(error) => tracing::error!(%error, panel = name, "cannot write a panel"),
        }
    }
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
        Some(before) if *before.compared == *compared => before,
        _ => ShownPanel {
            changed: version,
            compared: Arc::from(compared),
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
                compared: Arc::from(""),
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
    fn a_panel_is_shown_as_soon_as_it_is_there() {
        let data = |value: f64| PanelData {
            panel: String::from("n"),
            title: String::from("N"),
            description: None,
            draw: serin_dashboards::Draw::Stat,
            unit: None,
            better: None,
            state: serin_dashboards::PanelState::Ok,
            error: None,
            data: Some(serin_dashboards::Data::Stat {
                value: Some(value),
                compare: None,
                spark: Vec::new(),
            }),
            thresholds: Vec::new(),
            marks: Vec::new(),
            series_dropped: 0,
            truncated: false,
            approximate: false,
            range: Default::default(),
            watermark: None,
            served_from: "raw",
        };
        let mut now = shown(3, &[("a", 3)]);
        now.take(data(1.0));
        assert_eq!((now.version, now.panels.len()), (4, 2));
        // The same again changes nothing.
        now.take(data(1.0));
        assert_eq!(now.version, 4);
        now.take(data(2.0));
        assert_eq!((now.version, now.panels["n"].changed), (5, 5));
    }

    #[test]
    fn an_evaluation_that_panics_is_joined_by_nobody() {
        let hub = Hub::default();
        let key = Key {
            dashboard: String::from("shop"),
            times: Times::default(),
            chosen: Chosen::new(),
        };
        let (sender, _) = watch::channel(Arc::default());
        let list = |sender: &watch::Sender<Arc<Shown>>| {
            let (sender, joined) = (sender.clone(), Arc::default());
            hub.running()
                .insert(key.clone(), Evaluation { sender, joined });
        };
        let panics = || {
            let _listed = Listed {
                hub: &hub,
                key: &key,
                sender: &sender,
            };
            std::panic::resume_unwind(Box::new("a panel"));
        };
        let panics = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err();
        list(&sender);
        assert!(panics());
        assert!(hub.running().is_empty());
        // One that was begun anew stays.
        list(&watch::channel(Arc::default()).0);
        assert!(panics());
        assert_eq!(hub.running().len(), 1);
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
