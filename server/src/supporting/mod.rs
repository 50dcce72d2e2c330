//! How the supporting systems are: bus, ingest, lake, query, services, host.
//!
//! One list of metrics with two readers: `/metrics` answers it, and every [`EVERY`] it is told on
//! the bus and becomes rows of the table `metrics`, like everyone's. What takes waiting to find out
//! (the bus, the host) is looked at here and kept for whoever asks in between. How services are is
//! told at once when it changes, since people wait for it. Start at [`Watch::run`].

mod bus;
mod host;
mod ingest;
mod lake;
mod query;
mod services;
mod tell;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serin_bus::Bus;
use serin_control::runtime::ServiceView;
use serin_ui::Metric;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::edge;
use host::Host;
use services::Services;

pub(crate) use ingest::metrics as of_ingest;
pub(crate) use lake::metrics as of_lake;
pub(crate) use query::metrics as of_query;
pub(crate) use tell::{Teller, Who};

/// How often everything is told. A row costs a few bytes in a file; people look at minutes.
const EVERY: Duration = Duration::from_secs(5);

/// What the last look found, for whoever asks in between.
#[derive(Debug, Default)]
pub(crate) struct Looked(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    bus: Vec<Metric>,
    host: Vec<Metric>,
    services: Vec<Metric>,
}

impl Looked {
    /// All that was found.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = [&found.bus, &found.host, &found.services];
        parts.into_iter().flatten().cloned().collect()
    }

    /// Whether the bus did not answer when it was looked at last.
    pub(crate) fn is_bus_away(&self) -> bool {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metrics = found.bus.iter();
        metrics.any(|metric| metric.name == bus::UP && metric.value == 0.0)
    }

    fn change(&self, change: impl FnOnce(&mut Found)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Looks, and tells.
pub(crate) struct Watch {
    /// Where it is kept.
    pub(crate) looked: Arc<Looked>,
    /// The bus that is looked at.
    pub(crate) bus: Arc<Bus>,
    /// The folder whose disk is looked at.
    pub(crate) data: PathBuf,
    /// The services, as they change.
    pub(crate) views: watch::Receiver<Arc<Vec<ServiceView>>>,
    /// Everything that `/metrics` would answer.
    pub(crate) all: Box<dyn Fn() -> Vec<Metric> + Send>,
    /// Tells it on the bus.
    pub(crate) teller: Teller,
}

impl Watch {
    /// Looks and tells until the task is dropped.
    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut host = Host::new(self.data.clone());
        let mut services = Services::default();
        let mut has_views = true;
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let bus = bus::metrics(&self.bus).await;
                    let host = host.look(edge::now_us());
                    let views = Arc::clone(&self.views.borrow());
                    // What of it is news is told with all.
                    let (now, _) = services.look(&views, edge::now_us());
                    self.looked.change(|found| {
                        (found.bus, found.host, found.services) = (bus, host, now);
                    });
                    let all = (self.all)();
                    self.teller.tell(&all, edge::now_us()).await;
                }
                changed = self.views.changed(), if has_views => {
                    has_views = changed.is_ok();
                    let views = Arc::clone(&self.views.borrow_and_update());
                    let (now, news) = services.look(&views, edge::now_us());
                    self.looked.change(|found| found.services = now);
                    self.teller.tell(&news, edge::now_us()).await;
                }
            }
        }
    }
}
