//! The bus as the runtime of services needs it: who may use it, and where callers go.

use std::sync::{Arc, Weak};

use futures::future::BoxFuture;
use serin_bus::{Bus, BusUser};
use serin_control::runtime::{Access, Member};
use serin_gateway::Table;
use serin_gateway::process::DoorState;
use serin_wire::Routes;
use tokio::sync::watch;

/// Holds nothing that has to end before the bus does.
pub(super) struct BusAccess {
    bus: Weak<Bus>,
    url: String,
    is_ours: bool,
    tables: watch::Receiver<Arc<Table>>,
    gateway: watch::Receiver<DoorState>,
}

impl BusAccess {
    /// `tables` is what the gateway is told, `gateway` what it says.
    pub(super) fn of(
        bus: &Arc<Bus>,
        tables: watch::Receiver<Arc<Table>>,
        gateway: watch::Receiver<DoorState>,
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

    /// The same for an instance whenever it is asked: made of the bus's own secret and its name.
    fn password(&self, instance: &str) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("serin: an instance's password on its bus");
        // Without the address, which may move.
        let secret = self.url.rsplit_once('@').map_or("", |(secret, _)| secret);
        hasher.update(secret.as_bytes()).update(instance.as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

impl Access for BusAccess {
    fn url(&self, member: &Member) -> String {
        match self.url.rsplit_once('@') {
            Some((_, host)) if self.is_ours => {
                let password = self.password(&member.instance);
                format!("nats://{}:{password}@{host}", member.instance)
            }
            _ => self.url.clone(),
        }
    }

    fn admit(&self, members: Vec<Member>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            if !self.is_ours {
                return Ok(());
            }
            let users = members.iter().map(|member| {
                let password = self.password(&member.instance);
                BusUser::instance(&member.service, &member.version, &member.instance, password)
            });
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
