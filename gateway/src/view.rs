//! The table as requests see it: services by prefix, and their instances with what is known of them.
//!
//! A new table makes a new view; instances that are in both keep their health, their requests in
//! flight and their connections. Those that left are still heard of as long as a request is at them,
//! so that their silence or their end is noticed. Start at [`View::build`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serin_wire::{call, subject};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use crate::health::Health;
use crate::page::{NotAgain, Refusal};
use crate::pool::Pool;
use crate::table::{Instance, Service, Table};

/// Every web service of this moment.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Of the table it was made of.
    pub(crate) revision: u64,
    /// Longest prefix first.
    services: Vec<Arc<Entry>>,
    /// By `<service>.<version>.<instance>`, as pulses name them; also those that left the table.
    known: HashMap<String, Weak<Peer>>,
}

/// A service and its instances.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) service: Service,
    pub(crate) peers: Vec<Arc<Peer>>,
}

/// An instance and what is known of it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) service: String,
    pub(crate) instance: Instance,
    /// `<service>.<version>.<instance>`.
    pub(crate) key: String,
    /// Where it takes web requests on the bus.
    pub(crate) subject: String,
    in_flight: AtomicU32,
    health: Mutex<Health>,
    /// A probe is under way.
    pub(crate) is_probed: AtomicBool,
    /// Connections, where it is reached by HTTP.
    pub(crate) pool: Pool,
    /// Cancelled when its process has ended.
    end: CancellationToken,
}

/// A request at an instance; over when dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Peer>);

impl View {
    /// The view of a table, after the one before.
    pub(crate) fn build(table: &Table, before: &View) -> View {
        let mut known = before.known.clone();
        known.retain(|_, peer| peer.strong_count() > 0);
        for service in &table.services {
            let keys = service.ended.iter().map(|one| key(&service.name, one));
            let ended = keys.filter_map(|key| before.peer(&key));
            ended.for_each(|peer| peer.end.cancel());
        }
        let mut entry = |service: &Service| {
            let all = service.instances.iter().map(|instance| {
                let key = key(&service.name, instance);
                let peer = known.get(&key).and_then(Weak::upgrade);
                let peer = peer
                    .filter(|known| known.instance == *instance && !known.end.is_cancelled())
                    .unwrap_or_else(|| Arc::new(Peer::new(&service.name, instance)));
                known.insert(key, Arc::downgrade(&peer));
                peer
            });
            Arc::new(Entry {
                peers: all.collect(),
                service: service.clone(),
            })
        };
        let mut services: Vec<_> = table.services.iter().map(&mut entry).collect();
        services.sort_by_key(|entry| std::cmp::Reverse(entry.service.prefix.len()));
        View {
            revision: table.revision,
            services,
            known,
        }
    }

    /// The service a path belongs to.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Entry>> {
        let mut services = self.services.iter();
        services.find(|entry| entry.service.below(path).is_some())
    }

    /// A service by its name.
    pub(crate) fn service(&self, name: &str) -> Option<&Arc<Entry>> {
        let mut services = self.services.iter();
        services.find(|entry| entry.service.name == name)
    }

    /// The instance of `<service>.<version>.<instance>`, also one that left while a request is at it.
    pub(crate) fn peer(&self, key: &str) -> Option<Arc<Peer>> {
        self.known.get(key)?.upgrade()
    }

    /// Every instance of the table.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.services.iter().flat_map(|entry| &entry.peers)
    }

    /// Paths of every service, shortest first.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = &str> {
        let services = self.services.iter().rev();
        services.map(|entry| entry.service.prefix.as_str())
    }
}

impl Peer {
    fn new(service: &str, instance: &Instance) -> Peer {
        let (version, name) = (&instance.version, &instance.name);
        Peer {
            service: service.to_owned(),
            instance: instance.clone(),
            key: key(service, instance),
            subject: subject::call_instance(service, version, call::WEB_ENDPOINT, name),
            in_flight: AtomicU32::new(0),
            health: Mutex::default(),
            is_probed: AtomicBool::new(false),
            pool: Pool::default(),
            end: CancellationToken::new(),
        }
    }

    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What is said where it ended with a request at it.
    pub(crate) fn broke_off(&self) -> Refusal {
        Refusal::BrokeOff {
            service: self.service.clone(),
            instance: self.instance.name.clone(),
            not_again: NotAgain::MayHaveRun,
        }
    }

    /// Returns once its process has ended.
    pub(crate) fn ended(&self) -> WaitForCancellationFuture<'_> {
        self.end.cancelled()
    }

    /// Counts a request until what is returned is dropped.
    pub(crate) fn enter(self: &Arc<Peer>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

fn key(service: &str, instance: &Instance) -> String {
    format!("{service}.{}.{}", instance.version, instance.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Reach;

    #[test]
    fn an_instance_keeps_what_is_known_of_it_over_a_new_table() {
        let mut cart = Service::new("cart", "/cart");
        let instance = |name: &str| Instance {
            version: "v1".into(),
            name: name.into(),
            reach: Reach::Bus,
        };
        cart.instances = vec![instance("cart-v1-1"), instance("cart-v1-2")];
        let mut table = Table {
            revision: 1,
            services: vec![Service::new("front", "/"), cart],
        };
        let first = View::build(&table, &View::default());
        let peer = |view: &View, number: u32| view.peer(&format!("cart.v1.cart-v1-{number}"));
        let kept = peer(&first, 1).expect("listed").enter();
        let leaving = peer(&first, 2).expect("listed").enter();
        table.services[1].instances.remove(1);
        let second = View::build(&table, &first);
        drop(first);
        assert_eq!(kept.0.in_flight(), 1);
        let same = peer(&second, 1).expect("listed");
        assert!(Arc::ptr_eq(&same, &kept.0));
        assert_eq!(same.subject, "svc.cart.v1.http.cart-v1-1");
        assert_eq!(second.peers().count(), 1);
        assert!(peer(&second, 2).is_some(), "a request is at it");
        drop(leaving);
        assert!(peer(&second, 2).is_none());
        let cart = &mut table.services[1];
        cart.ended = std::mem::take(&mut cart.instances);
        let third = View::build(&table, &second);
        assert!(kept.0.end.is_cancelled(), "who waits for it is told");
        let cart = &mut table.services[1];
        cart.instances = std::mem::take(&mut cart.ended);
        let again = peer(&View::build(&table, &third), 1).expect("listed");
        assert!(!again.end.is_cancelled(), "another of the same name");
        let name = |path| second.find(path).map(|entry| entry.service.name.clone());
        assert_eq!(name("/cart/7").as_deref(), Some("cart"));
        assert_eq!(name("/carts").as_deref(), Some("front"));
    }
}
