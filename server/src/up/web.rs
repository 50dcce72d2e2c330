//! The gateway, fed with what the runtime says of the services.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serin_control::runtime::{InstanceView, Phase, Runtime, ServiceView, VersionView};
use serin_control::service::Sticky;
use serin_gateway::process::{Door, DoorOptions, DoorState, Place};
use serin_gateway::{Instance, Reach, Service, Standing, Table};
use serin_ui::Metric;
use tokio::sync::watch;

use crate::edge;

/// Starts the gateway's process, or takes over the one of an earlier run; `follow` has to run beside
/// it.
pub(super) async fn open(
    place: Place,
    bus: &str,
    tables: watch::Receiver<Arc<Table>>,
) -> Result<Door> {
    let options = DoorOptions {
        program: std::env::current_exe().context("cannot tell where this program is")?,
        build: edge::build()?,
        bus: bus.to_owned(),
    };
    let door = Door::open(place, options, tables).await;
    door.context("cannot open the gateway")
}

/// Tells the gateway which services there are, whenever that changes.
pub(super) async fn follow(runtime: Arc<Runtime>, tables: watch::Sender<Arc<Table>>) {
    let mut views = runtime.views();
    loop {
        let services = views
            .borrow_and_update()
            .iter()
            .filter_map(service)
            .collect();
        tables.send_modify(|table| {
            let revision = table.revision + 1;
            *table = Arc::new(Table { revision, services });
        });
        if views.changed().await.is_err() {
            return;
        }
    }
}

/// A service with a path, as the gateway sees it.
fn service(view: &ServiceView) -> Option<Service> {
    let usual = Service::new(&view.name, view.web.clone()?);
    let body_bytes_max = view.body_bytes_max.map(|bytes| bytes as usize);
    Some(Service {
        route: view.route.clone(),
        // One that is silent too: the gateway hears pulses itself, and asks another while there is one.
        instances: instances(view, &["ready", "silent"]),
        ended: instances(view, &["ended"]),
        standing: standing(view),
        sticky: view.sticky.as_ref().map(|sticky| match sticky {
            Sticky::Cookie(name) => serin_gateway::Sticky::Cookie(name.clone()),
            Sticky::Header(name) => serin_gateway::Sticky::Header(name.clone()),
        }),
        timeout: (view.answer_within_ms).map_or(usual.timeout, Duration::from_millis),
        body_bytes_max: body_bytes_max.unwrap_or(usual.body_bytes_max),
        ..usual
    })
}

/// Whether a service is to have instances.
fn standing(view: &ServiceView) -> Standing {
    let is_over = |version: &VersionView| matches!(version.phase, Phase::Failed | Phase::Retired);
    match view.state {
        "stopped" => Standing::Stopped,
        "down" if view.versions.iter().all(is_over) => Standing::Failed,
        _ => Standing::Wanted,
    }
}

/// The instances in one of these states.
fn instances(view: &ServiceView, states: &[&str]) -> Vec<Instance> {
    let of = view.instances.iter();
    let of = of.filter(|one| states.contains(&one.state));
    of.map(instance).collect()
}

fn instance(view: &InstanceView) -> Instance {
    let reach = match view.port {
        Some(port) => Reach::Port(SocketAddr::from(([127, 0, 0, 1], port))),
        None => Reach::Bus,
    };
    Instance {
        version: view.version.clone(),
        name: view.name.clone(),
        reach,
    }
}

/// What the gateway counts, for `/metrics`.
pub(super) fn metrics(gateway: &DoorState) -> Vec<Metric> {
    let stats = gateway.stats;
    let mut metrics = vec![
        Metric::counter(
            "serin_gateway_restarts_total",
            "Times its process had to be started again.",
            gateway.restarts,
        ),
        Metric::counter(
            "serin_gateway_connections_total",
            "Connections accepted.",
            stats.connections_total,
        ),
        Metric::gauge(
            "serin_gateway_connections",
            "Connections open now.",
            stats.connections as f64,
        ),
        Metric::counter(
            "serin_gateway_requests_total",
            "Requests whose head was read.",
            stats.requests_total,
        ),
        Metric::gauge(
            "serin_gateway_requests",
            "Requests under way now.",
            stats.requests as f64,
        ),
        Metric::counter(
            "serin_gateway_retries_total",
            "Requests sent to another instance after the first.",
            stats.retries_total,
        ),
        Metric::counter(
            "serin_gateway_broken_total",
            "Answers that broke off.",
            stats.broken_total,
        ),
        Metric::counter(
            "serin_gateway_dropped_rows_total",
            "Rows and spans of requests that were not told.",
            stats.dropped_rows_total,
        ),
        Metric::gauge(
            "serin_gateway_instances_down",
            "Instances passed over now.",
            stats.instances_down as f64,
        ),
    ];
    for (class, count) in stats.answers_total.into_iter().enumerate() {
        let answers = Metric::counter(
            "serin_gateway_answers_total",
            "Answers, by class of status.",
            count,
        );
        metrics.push(answers.label("class", format!("{}xx", class + 1)));
    }
    metrics
}
