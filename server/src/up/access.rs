//! The bus as the runtime of services needs it: who may use it, and where callers go.

use std::sync::{Arc, Weak};

use futures::future::BoxFuture;
use serin_bus::{Bus, BusUser};
use serin_control::runtime::{Access, Member};
use serin_gateway::Table;
use serin_gateway::process::SupervisorState;
use serin_wire::Routes;
use tokio::sync::watch;

/// The gateway's name on the bus; no service and no instance may have it.
const GATEWAY: &str = "gateway";

/// Holds nothing that has to end before the bus does.
pub(super) struct BusAccess {
    bus: Weak<Bus>,
    url: String,
    is_ours: bool,
    tables: watch::Receiver<Arc<Table>>,
    gateway: watch::Receiver<SupervisorState>,
}

impl BusAccess {
    /// `tables` is what the gateway is told, `gateway` what it says.
    pub(super) fn of(
        bus: &Arc<Bus>,
        tables: watch::Receiver<Arc<Table>>,
        gateway: watch::Receiver<SupervisorState>,
    ) -> BusAccess {
        BusAccess {
            bus: Arc::downgrade(bus),
            url: bus.url().to_owned(),
            is_ours: bus.monitor_url().is_some(),
            tables,
            gateway,
        }
    }

    fn bus(&self) -> Result<Arc<Bus>, String> {
        self.bus
            .upgrade()
            .ok_or_else(|| String::from("the bus has ended"))
    }

    /// The address of the bus for the gateway.
    pub(super) fn gateway_url(bus: &Bus) -> String {
        url_of(bus.url(), bus.monitor_url().is_some(), GATEWAY)
    }
}

impl Access for BusAccess {
    fn url(&self, member: &Member) -> String {
        url_of(&self.url, self.is_ours, &member.instance)
    }

    fn admit(&self, members: Vec<Member>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            if !self.is_ours {
                return Ok(());
            }
            let gateway = BusUser::gateway(password(&self.url, GATEWAY));
            let instances = members.iter().map(|member| {
                let password = password(&self.url, &member.instance);
                BusUser::instance(&member.service, &member.version, &member.instance, password)
            });
            let users = std::iter::once(gateway).chain(instances);
            let admitted = self.bus()?.set_users(users.collect()).await;
            admitted.map_err(|error| error.to_string())
        })
    }

    fn spread(&self, routes: &Routes) -> BoxFuture<'_, Result<(), String>> {
        let routes = routes.clone();
        Box::pin(async move {
            let spread = self.bus()?.set_mappings(&routes).await;
            spread.map_err(|error| error.to_string())
        })
    }

    fn reaches(&self, service: &str, version: &str) -> BoxFuture<'_, ()> {
        let (mut tables, mut gateway) = (self.tables.clone(), self.gateway.clone());
        let (service, version) = (service.to_owned(), version.to_owned());
        Box::pin(async move {
            let has = |table: &Arc<Table>| table.reaches(&service, &version);
            // Where one of them has ended Serin ends, and nobody waits any more.
            let Ok(revision) = tables.wait_for(has).await.map(|table| table.revision) else {
                return;
            };
            drop(gateway.wait_for(|state| state.taken >= revision).await);
        })
    }

    fn needs_forwarding(&self) -> bool {
        !self.is_ours
    }
}

/// The address of the bus with a user's own credentials; on a joined bus all have the same.
fn url_of(bus: &str, is_ours: bool, name: &str) -> String {
    match bus.rsplit_once('@') {
        Some((_, host)) if is_ours => format!("nats://{name}:{}@{host}", password(bus, name)),
        _ => bus.to_owned(),
    }
}

/// The same for a name whenever it is asked: made of the bus's own secret and the name.
fn password(bus: &str, name: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("serin: an instance's password on its bus");
    // Without the address, which may move.
    let secret = bus.rsplit_once('@').map_or("", |(secret, _)| secret);
    hasher.update(secret.as_bytes()).update(name.as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}
