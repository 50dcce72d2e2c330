//! Calls, served endpoints and chains against the real `nats-server`: each rule, and that it holds.

mod call;
mod chain;
#[path = "../folder/mod.rs"]
mod folder;
mod micro;
mod serve;
mod telemetry;
mod web;

use std::time::Duration;

use serde_json::{Value, json};
use serin_bus::Bus;
use serin_sdk::{Options, Serin, Service};
use serin_wire::{Route, Routes, Weight, subject};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use folder::Folder;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A bus, and those who meet on it.
pub(crate) struct Fixture {
    pub(crate) bus: Bus,
    _folder: Option<Folder>,
}

/// An instance that runs until it is stopped.
pub(crate) struct Running {
    pub(crate) serin: Serin,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), serin_sdk::ServeError>>,
}

impl Fixture {
    pub(crate) async fn new() -> Fixture {
        let folder = Folder::new();
        Fixture {
            bus: folder.start().await,
            _folder: Some(folder),
        }
    }

    /// A fixture over a folder that outlives it, to come back to.
    pub(crate) async fn over(folder: &Folder) -> Fixture {
        Fixture {
            bus: folder.start().await,
            _folder: None,
        }
    }

    pub(crate) fn client(&self) -> async_nats::Client {
        self.bus.client().clone()
    }

    /// A connection of a service's instance.
    pub(crate) fn join(&self, service: &str, version: &str, number: u32) -> Serin {
        let options = Options {
            version: version.into(),
            instance: format!("{service}-{version}-{number}"),
            spill_dir: None,
            ..Options::new(self.bus.url(), service)
        };
        Serin::connect(options).expect("connected")
    }

    /// Runs an instance, and returns once it says it is ready.
    pub(crate) async fn run(
        &self,
        service: &str,
        version: &str,
        number: u32,
        build: impl FnOnce(Service) -> Service,
    ) -> Running {
        let serin = self.join(service, version, number);
        let (stop, stopped) = oneshot::channel();
        let running = build(serin.service()).run_until(async {
            stopped.await.ok();
        });
        let running = Running {
            ended: tokio::spawn(running),
            stop,
            serin,
        };
        self.until_served(&format!("$SRV.PING.{service}.{service}-{version}-{number}"))
            .await;
        running
    }

    /// Returns once somebody answers on a subject.
    async fn until_served(&self, subject: &str) {
        let asking = async {
            while self
                .client()
                .request(subject.to_owned(), "".into())
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .expect("served in time");
    }

    /// Tells routes as Serin does: one service, its versions and weights.
    pub(crate) async fn tell_routes(
        &self,
        revision: u64,
        service: &str,
        weights: &[(&str, u32)],
        idempotent: &[&str],
    ) -> JoinHandle<()> {
        let versions = weights.iter().map(|&(version, weight)| Weight {
            version: version.to_owned(),
            weight,
        });
        let route = Route {
            versions: versions.collect(),
            idempotent: idempotent.iter().map(|&name| name.to_owned()).collect(),
        };
        let routes = Routes {
            revision,
            services: [(service.to_owned(), route)].into(),
        };
        let told = serde_json::to_vec(&routes).expect("routes are JSON");
        let client = self.client();
        let mut asked = client
            .subscribe(subject::ROUTES_GET)
            .await
            .expect("subscribed");
        client
            .publish(subject::ROUTES, told.clone().into())
            .await
            .expect("told");
        client.flush().await.expect("flushed");
        self.round_trip().await;
        tokio::spawn(async move {
            use futures::StreamExt;
            while let Some(question) = asked.next().await {
                if let Some(reply) = question.reply {
                    client
                        .publish(reply, told.clone().into())
                        .await
                        .expect("told");
                }
            }
        })
    }

    /// One that calls, connected and with the routes that were told, so that a call's time is its own.
    pub(crate) async fn caller(&self, service: &str) -> Serin {
        let app = self.join(service, "v1", 1);
        let knowing = async {
            while app.routes_revision().await < Some(1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let known = tokio::time::timeout(PATIENCE, knowing).await;
        known.expect("the routes are told");
        app
    }

    /// Returns once the server has taken what this client said before.
    pub(crate) async fn round_trip(&self) {
        use futures::StreamExt;
        let client = self.client();
        let inbox = client.new_inbox();
        let mut back = client.subscribe(inbox.clone()).await.expect("subscribed");
        client.publish(inbox, "".into()).await.expect("sent");
        back.next().await.expect("back");
    }
}

impl Running {
    /// Asks it to stop, and returns once it has.
    pub(crate) async fn stop(self) {
        self.stop.send(()).expect("it runs");
        let ended = tokio::time::timeout(PATIENCE, self.ended).await;
        ended.expect("in time").expect("no panic").expect("served");
    }
}

/// An endpoint that says who served.
pub(crate) fn who(service: Service, version: &'static str) -> Service {
    service.endpoint("who", move |_, _: Value| async move {
        Ok(json!({"version": version}))
    })
}

pub(crate) async fn wait_for(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.expect("it becomes so in time");
}
