//! What the tests share: a fixture with bus and gateway, and instances that can be killed or hang.
//!
//! Each instance has a runtime of its own; to kill it drops that runtime, so that its connections
//! break as they do when a process is killed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use reqwest::redirect;
use serin_bus::{Bus, BusOptions, stop_left};
use serin_connect::Connector;
use serin_gateway::{Gateway, Instance, Options, Parts, Reach, Service, Table};
use serin_wire::{Weight, call, subject};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const MS: Duration = Duration::from_millis(1);

/// A data folder whose server is gone when the test is over, however it ends.
struct Folder(tempfile::TempDir);

impl Drop for Folder {
    fn drop(&mut self) {
        let folder = self.0.path().to_path_buf();
        let stopping = std::thread::spawn(move || {
            let runtime = Runtime::new().expect("a runtime");
            runtime.block_on(stop_left(&folder)).expect("stopped")
        });
        stopping.join().expect("no panic");
    }
}

/// A bus and a gateway on it.
pub(crate) struct Fixture {
    pub(crate) gateway: Gateway,
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    pub(crate) http: reqwest::Client,
    tables: watch::Sender<Arc<Table>>,
    pub(crate) bus: Bus,
    _folder: Folder,
}

impl Fixture {
    pub(crate) async fn new() -> Fixture {
        Fixture::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Fixture {
        let folder = Folder(tempfile::tempdir().expect("a folder"));
        let bus = Bus::start(BusOptions {
            data_dir: folder.0.path().to_path_buf(),
            joined: None,
            port: None,
            events_bytes_max: 64 << 20,
            server_binary: None,
            search_path: std::env::var_os("PATH"),
            beside: None,
        });
        let bus = bus.await.expect("the bus starts");
        bus.telemetry().await.expect("the memory stream");
        let (tables, receiver) = watch::channel(Arc::default());
        let mut options = Options::new("v1", now_us, random);
        change(&mut options);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let parts = Parts {
            bus: bus.url().to_owned(),
            tables: receiver,
        };
        let gateway = Gateway::open(listener, parts, options).await.expect("open");
        let http = reqwest::Client::builder().redirect(redirect::Policy::none());
        Fixture {
            gateway,
            url: format!("http://{address}"),
            address,
            http: http.build().expect("a client"),
            tables,
            bus,
            _folder: folder,
        }
    }

    /// Tells the gateway of these services alone, and waits until it knows.
    pub(crate) async fn tell(&self, services: impl IntoIterator<Item = Service>) {
        let mut revision = 0;
        self.tables.send_modify(|table| {
            revision = table.revision + 1;
            *table = Arc::new(Table {
                revision,
                services: services.into_iter().collect(),
            });
        });
        self.gateway.taken(revision).await;
        assert!(self.gateway.revision() >= revision);
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        let sent = self.http.get(self.at(path)).send();
        let sent = tokio::time::timeout(PATIENCE, sent).await;
        sent.expect("in time").expect("answered")
    }

    /// Status and text of a GET.
    pub(crate) async fn text(&self, path: &str) -> (u16, String) {
        let response = self.get(path).await;
        let status = response.status().as_u16();
        (status, response.text().await.expect("text"))
    }

    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        let (status, text) = self.text(path).await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Starts an instance on the bus and waits until it listens.
    pub(crate) async fn on_bus(
        &self,
        service: &str,
        version: &str,
        number: u32,
        by: Handler,
    ) -> One {
        One::on_bus(self.bus.url(), service, version, number, by).await
    }
}

/// Waits until the bus knows that an instance is gone: what comes before that is in its hands.
pub(crate) async fn until_gone(fixture: &Fixture, one: &One) {
    let Instance { name, version, .. } = &one.instance;
    let (service, _) = name.split_once('-').expect("its service comes first");
    let ping = format!("$SRV.PING.{service}.{name}");
    let client = fixture.bus.client();
    until(&format!("{name} of {version} is gone"), async || {
        let asked = client.request(ping.clone(), Bytes::new()).await;
        asked.is_err_and(|error| error.kind() == async_nats::RequestErrorKind::NoResponders)
    })
    .await;
}

/// A service under `/<name>` with these weights and instances.
pub(crate) fn service(name: &str, weights: &[(&str, u32)], instances: &[&One]) -> Service {
    let mut service = Service::new(name, format!("/{name}"));
    let weights = weights.iter().map(|&(version, weight)| Weight {
        version: version.into(),
        weight,
    });
    service.route.versions = weights.collect();
    service.instances = instances.iter().map(|one| one.instance.clone()).collect();
    service
}

/// All calls to one version.
pub(crate) const ALL_V1: [(&str, u32); 1] = [("v1", 10_000)];

/// What a bus instance does with a request.
pub(crate) type Handler = fn(Asked) -> BoxFuture<'static, ()>;

/// A request at a bus instance.
pub(crate) struct Asked {
    pub(crate) client: Client,
    pub(crate) message: Message,
    pub(crate) name: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let headers = self.message.headers.as_ref()?;
        headers.get(name).map(|value| value.as_str().to_owned())
    }

    /// `/path?query`.
    pub(crate) fn target(&self) -> String {
        let line = self.header(call::WEB_REQUEST).expect("a request");
        line.split_once(' ').expect("two words").1.to_owned()
    }

    pub(crate) async fn send(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) {
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.append(name, value);
        }
        let reply = self.message.reply.clone().expect("a reply subject");
        let sent = self.client.publish_with_headers(reply, map, body.into());
        sent.await.expect("published");
    }

    pub(crate) async fn answer(&self, status: u16, body: impl Into<Bytes>) {
        let status = status.to_string();
        self.send(&[(call::WEB_STATUS, &status)], body).await;
    }
}

/// Answers with its name.
pub(crate) fn says_its_name(asked: Asked) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let name = asked.name.clone();
        asked.answer(200, name).await;
    })
}

/// A running instance.
pub(crate) struct One {
    pub(crate) instance: Instance,
    runtime: Option<Runtime>,
    is_hung: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
}

impl One {
    async fn on_bus(url: &str, service: &str, version: &str, number: u32, by: Handler) -> One {
        let mut one = One::new(service, version, number, Reach::Bus);
        let name = one.instance.name.clone();
        let client = Connector::new(url, &name).expect("an address");
        let endpoint = subject::call_instance(service, version, call::WEB_ENDPOINT, &name);
        let ping = format!("$SRV.PING.{service}.{name}");
        let pulse = subject::pulse(service, version, &name);
        let (is_hung, count) = (Arc::clone(&one.is_hung), Arc::clone(&one.asked));
        let is_ready = one.spawn(move |ready| async move {
            let client = client.now().await.expect("connected");
            let mut requests = client.subscribe(endpoint).await.expect("subscribed");
            let mut pings = client.subscribe(ping).await.expect("subscribed");
            client.flush().await.expect("flushed");
            let mut pulses = tokio::time::interval(250 * MS);
            ready.send(()).expect("awaited");
            loop {
                tokio::select! {
                    Some(message) = requests.next() => {
                        count.fetch_add(1, Ordering::SeqCst);
                        if !is_hung.load(Ordering::SeqCst) {
                            let (client, name) = (client.clone(), name.clone());
                            tokio::spawn(by(Asked { client, message, name }));
                        }
                    }
                    Some(ping) = pings.next() => if !is_hung.load(Ordering::SeqCst) {
                        let reply = ping.reply.expect("a reply subject");
                        client.publish(reply, "{}".into()).await.expect("published");
                    },
                    _ = pulses.tick() => if !is_hung.load(Ordering::SeqCst) {
                        let sent = client.publish(pulse.clone(), Bytes::new()).await;
                        sent.expect("published");
                    },
                }
            }
        });
        is_ready.await.expect("it starts");
        one
    }

    /// An HTTP program on a port of its own; `serve` has each of its connections.
    pub(crate) async fn on_port<F, Fut>(service: &str, version: &str, number: u32, serve: F) -> One
    where
        F: Fn(tokio::net::TcpStream, Arc<AtomicU64>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let address = listener.local_addr().expect("bound");
        let mut one = One::new(service, version, number, Reach::Port(address));
        let count = Arc::clone(&one.asked);
        let is_ready = one.spawn(move |ready| async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            ready.send(()).expect("awaited");
            loop {
                let (stream, _) = listener.accept().await.expect("accepted");
                tokio::spawn(serve(stream, Arc::clone(&count)));
            }
        });
        is_ready.await.expect("it starts");
        one
    }

    fn new(service: &str, version: &str, number: u32, reach: Reach) -> One {
        One {
            instance: Instance {
                version: version.into(),
                name: format!("{service}-{version}-{number}"),
                reach,
            },
            runtime: None,
            is_hung: Arc::default(),
            asked: Arc::default(),
        }
    }

    fn spawn<F, Fut>(&mut self, work: F) -> oneshot::Receiver<()>
    where
        F: FnOnce(oneshot::Sender<()>) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (tx, rx) = oneshot::channel();
        runtime.spawn(work(tx));
        self.runtime = Some(runtime);
        rx
    }

    /// Ends it as SIGKILL does; returns once its sockets are closed.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Another thread, since one that runs a test may not wait for a runtime to end.
            let ending = std::thread::spawn(move || drop(runtime));
            ending.join().expect("no panic");
        }
    }

    /// It takes messages and does nothing, as a stopped process does; or goes on.
    pub(crate) fn hang(&self, is_hung: bool) {
        self.is_hung.store(is_hung, Ordering::SeqCst);
    }

    /// Requests it got.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(10 * MS).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "never: {what}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test is an edge where time enters"
)]
fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_micros()).expect("before 292277")
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}
