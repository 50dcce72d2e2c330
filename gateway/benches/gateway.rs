//! What the gateway adds to a request: over the bus beside a plain NATS request to the same service,
//! and by port beside a plain HTTP request to the same program.
//!
//! Gateway and services are processes of their own: this program starts itself again as each. The
//! four kinds take turns at a steady rate, whether or not earlier ones are back, and are timed from
//! the moment they were due. Reached is at most half a millisecond more at the median.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures::StreamExt;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use serin_bus::{Bus, BusOptions};
use serin_connect::Connector;
use serin_gateway::{Gateway, Instance, Options, Parts, Reach, Service, Table};
use serin_wire::route::SLOTS;
use serin_wire::{Weight, call, subject};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// Requests per second, all kinds together.
const PER_S: u32 = 400;
/// Requests before anything is counted, and those that count; 1 % of each kind are 40.
const WARM_UP: u32 = 1_000;
const COUNTED: u32 = 16_000;
/// Requests that may be late before the pace stands still.
const BEHIND_MAX: usize = 10_000;
/// The body of each request and answer.
const BODY_BYTES: usize = 1_000;

/// The kinds of requests, in the order they take turns.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Nats,
    OverBus,
    Http,
    OverPort,
}

const KINDS: [Kind; 4] = [Kind::Nats, Kind::OverBus, Kind::Http, Kind::OverPort];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match words[..] {
        ["bus-service", url] => runtime.block_on(bus_service(url)),
        ["port-service"] => runtime.block_on(port_service()),
        ["gateway", url, port] => runtime.block_on(gateway(url, port)),
        _ => runtime.block_on(measure()),
    }
}

/// Answers with what it was sent.
async fn bus_service(url: &str) {
    let client = connect(url).await;
    let mut asked = client.subscribe(own_subject()).await.expect("subscribed");
    client.flush().await.expect("flushed");
    say("ready");
    while let Some(message) = asked.next().await {
        let mut headers = HeaderMap::new();
        headers.insert(call::WEB_STATUS, "200");
        let reply = message.reply.expect("a request");
        let sent = client.publish_with_headers(reply, headers, message.payload);
        sent.await.expect("answered");
    }
}

/// Answers with what it was sent.
async fn port_service() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    say(&listener.local_addr().expect("bound").to_string());
    loop {
        let (stream, _) = listener.accept().await.expect("accepted");
        stream.set_nodelay(true).expect("set");
        let echo = service_fn(|request: Request<Incoming>| async move {
            Ok::<_, hyper::Error>(Response::new(request.into_body()))
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), echo));
    }
}

async fn gateway(url: &str, port: &str) {
    let port = port.parse().expect("an address");
    let services = [("echo", Reach::Bus), ("port", Reach::Port(port))];
    let services = services.map(|(name, reach)| {
        let mut service = Service::new(name, format!("/{name}"));
        service.route.versions = vec![Weight {
            version: "v1".into(),
            weight: SLOTS,
        }];
        service.instances = vec![Instance {
            version: "v1".into(),
            name: format!("{name}-v1-1"),
            reach,
        }];
        service
    });
    let table = Table {
        revision: 1,
        services: services.into(),
    };
    let (_tables, tables) = watch::channel(Arc::new(table));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let parts = Parts {
        bus: url.to_owned(),
        tables,
    };
    let options = Options::new("v1", now_us, random);
    let _gateway = Gateway::open(listener, parts, options).await.expect("open");
    say(&address.to_string());
    std::future::pending().await
}

async fn measure() {
    let folder = tempfile::tempdir().expect("a folder");
    let bus = Bus::start(BusOptions {
        data_dir: folder.path().join("data"),
        joined: None,
        port: None,
        events_bytes_max: 1 << 30,
        server_binary: None,
        search_path: std::env::var_os("PATH"),
        beside: None,
    });
    let bus = bus.await.expect("the bus starts");
    bus.telemetry().await.expect("the memory stream");
    let (on_bus, _) = start(&["bus-service", bus.url()]);
    let (on_port, port) = start(&["port-service"]);
    let (gateway, door) = start(&["gateway", bus.url(), &port]);
    let asking = Asking {
        nats: connect(bus.url()).await,
        http: reqwest::Client::new(),
        port: port.parse().expect("an address"),
        door: door.parse().expect("an address"),
        body: Bytes::from(vec![b'x'; BODY_BYTES]),
    };
    asking.paced(WARM_UP).await;
    let took = asking.paced(COUNTED).await;
    let [nats, over_bus, http, over_port] = took;
    report("gateway over the bus", &over_bus, "NATS alone", &nats);
    report("gateway by port", &over_port, "HTTP alone", &http);
    for mut process in [gateway, on_bus, on_port] {
        process.kill().expect("it runs");
        process.wait().expect("ended");
    }
    bus.stop().await;
}

/// Who asks, and whom.
#[derive(Clone)]
struct Asking {
    nats: Client,
    http: reqwest::Client,
    port: SocketAddr,
    door: SocketAddr,
    body: Bytes,
}

impl Asking {
    async fn ask(&self, kind: Kind) {
        let (address, path) = match kind {
            Kind::Nats => {
                let answer = self.nats.request(own_subject(), self.body.clone()).await;
                assert_eq!(answer.expect("answered").payload, self.body);
                return;
            }
            Kind::OverBus => (self.door, "echo"),
            Kind::Http => (self.port, ""),
            Kind::OverPort => (self.door, "port"),
        };
        let url = format!("http://{address}/{path}");
        let sent = self.http.put(url).body(self.body.clone()).send().await;
        let answer = sent.expect("answered").bytes().await.expect("a body");
        assert_eq!(answer, self.body);
    }

    /// Asks `count` times at the rate; milliseconds of each kind in rising order.
    async fn paced(&self, count: u32) -> [Vec<f64>; 4] {
        let (tx, mut due) = mpsc::channel(BEHIND_MAX);
        // A thread, since tokio's timer has steps of a millisecond.
        let pace = std::thread::spawn(move || {
            let start = now();
            for number in 0..count {
                let at = start + Duration::from_secs(1) * number / PER_S;
                loop {
                    let early = at.saturating_duration_since(now());
                    if early.is_zero() {
                        break;
                    }
                    std::thread::park_timeout(early);
                }
                tx.blocking_send((number, at)).expect("somebody asks");
            }
        });
        let mut under_way = tokio::task::JoinSet::new();
        while let Some((number, at)) = due.recv().await {
            let asking = self.clone();
            let turn = number as usize % KINDS.len();
            under_way.spawn(async move {
                asking.ask(KINDS[turn]).await;
                (turn, now().duration_since(at).as_secs_f64() * 1e3)
            });
        }
        pace.join().expect("no panic");
        let mut took: [Vec<f64>; 4] = Default::default();
        for (turn, ms) in under_way.join_all().await {
            took[turn].push(ms);
        }
        for took in &mut took {
            took.sort_by(f64::total_cmp);
        }
        took
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn report(what: &str, ours: &[f64], alone: &str, direct: &[f64]) {
    let at = |took: &[f64], percent: usize| took[took.len() * percent / 100];
    for (percent, name, more_max) in [(50, "median", Some(0.5)), (99, "p99", None)] {
        let (ours, direct) = (at(ours, percent), at(direct, percent));
        let more = ours - direct;
        let to_reach = match more_max {
            Some(max) if more <= max => format!("{max:.3} ms more | yes"),
            Some(max) => format!("{max:.3} ms more | no"),
            None => String::new(),
        };
        println!(
            "serin-bench | {what}, 1 KB at {PER_S}/s, {name} | {ours:.3} ms, {alone} {direct:.3} ms: \
             {more:+.3} ms | {to_reach}"
        );
    }
}

fn own_subject() -> String {
    subject::call_instance("echo", "v1", call::WEB_ENDPOINT, "echo-v1-1")
}

/// Starts this program once more; it says a line when it is ready.
fn start(arguments: &[&str]) -> (Child, String) {
    let mut process = Command::new(std::env::current_exe().expect("this program"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut line = String::new();
    let said = process.stdout.take().expect("a pipe");
    let mut said = BufReader::new(said);
    said.read_line(&mut line).expect("it says that it is ready");
    (process, line.trim().to_owned())
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").expect("written");
    out.flush().expect("flushed");
}

async fn connect(url: &str) -> Client {
    let connector = Connector::new(url, "bench").expect("an address");
    connector.now().await.expect("connected")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark has a clock")]
fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_micros()).expect("before 292277")
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}
