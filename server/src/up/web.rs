//! The gateway, fed with what the runtime says of the services.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serin_control::runtime::{InstanceView, Phase, Runtime, ServiceView, VersionView};
use serin_control::service::{self, Sticky};
use serin_gateway::process::{
    Binding, Supervisor, SupervisorError, SupervisorOptions, SupervisorState,
};
use serin_gateway::{Instance, Reach, Service, Standing, Table};
use serin_ui::Metric;
use tokio::sync::watch;

use crate::edge;

/// Takes the gateway's address. A process whose Serin was killed before it had opened its socket may
/// still have it, and is ended.
pub(super) async fn take(address: SocketAddr, socket: PathBuf) -> Result<Binding> {
    let taken = Binding::take(address, socket.clone()).await;
    let is_taken = matches!(taken, Err(SupervisorError::Bind { .. }));
    if is_taken && serin_control::shim::end_unopened(&socket).await? {
        return Ok(Binding::take(address, socket).await?);
    }
    Ok(taken?)
}

/// Starts the gateway's process, or takes over the one of an earlier run; `follow` has to run beside
/// it.
pub(super) async fn open(
    binding: Binding,
    bus: &str,
    tables: watch::Receiver<Arc<Table>>,
) -> Result<Supervisor> {
    let options = SupervisorOptions {
        program: std::env::current_exe().context("cannot tell where this program is")?,
        build: edge::build()?,
        bus: bus.to_owned(),
    };
    let supervisor = Supervisor::open(binding, options, tables).await;
    supervisor.context("cannot open the gateway")
}

/// Tells the gateway which services there are, whenever that changes.
pub(super) async fn follow(runtime: Arc<Runtime>, tables: watch::Sender<Arc<Table>>) {
    let mut views = runtime.views();
    loop {
        let services = views.borrow_and_update().iter().filter_map(seen).collect();
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
fn seen(view: &ServiceView) -> Option<Service> {
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

/// A path that the gateway has or is about to have, to show how one looks: of a service that runs, else
/// of one that is deployed at the start, and none where there is none.
pub(super) fn example_path(views: &[ServiceView], deployed: Option<&Path>) -> Option<String> {
    let mut served = views.iter().filter(|view| !view.route.versions.is_empty());
    let kept = served.find_map(|view| view.web.clone());
    kept.or_else(|| deployed.and_then(path_of_files))
}

/// The path of the first service under `services/`, by name.
fn path_of_files(dir: &Path) -> Option<String> {
    let entries = fs::read_dir(dir.join("services")).ok()?;
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort_unstable();
    folders.iter().find_map(|folder| {
        let text = fs::read_to_string(folder.join(service::FILE)).ok()?;
        let name = folder.file_name()?.to_str()?;
        service::read(service::FILE, name, &text).ok()?.web
    })
}

/// What the gateway counts, for `/metrics`.
pub(super) fn metrics(gateway: &SupervisorState) -> Vec<Metric> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_path_of_a_folder_is_shown_and_none_where_there_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(path_of_files(folder.path()), None);
        for (name, text) in [
            ("a", "run: ./a\n"),
            ("b", "run: ./b\nweb: /tills\n"),
            ("c", "run: ./c\nweb: /other\n"),
        ] {
            let place = folder.path().join("services").join(name);
            fs::create_dir_all(&place).expect("made");
            fs::write(place.join("service.yaml"), text).expect("written");
        }
        assert_eq!(path_of_files(folder.path()).as_deref(), Some("/tills"));
    }
}
