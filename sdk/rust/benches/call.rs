//! What a call costs beside raw NATS request and reply, and a chain of four stages by four.
//!
//! Every service is a process of its own: this program starts itself again as each of them. Calls are
//! sent at a fixed rate whether or not earlier ones are back, and timed from the moment they were
//! meant to be sent, so that waiting behind a slow one counts. Raw and ours take turns in one run.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serin_bus::{Bus, BusOptions};
use serin_connect::Connector;
use serin_sdk::{Options, Packet, Serin, Stage};
use serin_wire::route::SLOTS;
use serin_wire::{Route, Routes, Weight, subject};
use tokio::sync::mpsc;

/// Calls per second of each kind, and how many in all; 1 % of them are 40.
const CALLS_PER_S: u32 = 250;
const CALLS: u32 = 4_000;
const CHAINS_PER_S: u32 = 200;
const CHAINS: u32 = 2_000;
/// Before anything is counted.
const WARM_UP: u32 = 300;
const STAGES: usize = 4;
const PARALLEL: usize = 4;
/// Events per second beside the calls, in the same process.
const EVENTS_PER_S: u32 = 20_000;
/// Calls that may be late before the pace stands still.
const BEHIND_MAX: usize = 10_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Item {
    sku: String,
    text: String,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    match words[..] {
        ["raw", url] => runtime.block_on(raw_service(url)),
        ["serve", url, service] => runtime.block_on(service_of_ours(url, service)),
        _ => runtime.block_on(measure()),
    }
}

/// Answers with what it was sent, as little as NATS can do.
async fn raw_service(url: &str) {
    let client = connect(url).await;
    let mut calls = client.subscribe("raw.echo").await.expect("subscribed");
    while let Some(call) = calls.next().await {
        let reply = call.reply.expect("a request");
        client.publish(reply, call.payload).await.expect("answered");
    }
}

async fn service_of_ours(url: &str, service: &str) {
    let serin = join(url, service);
    let field = service.to_owned();
    let service = serin
        .service()
        .endpoint("echo", |_, item: Item| async move { Ok(item) })
        .endpoint("enhance", move |_, packet: Packet| {
            let field = field.clone();
            async move { Ok(json!({field: packet.stage})) }
        });
    service.run().await.expect("served");
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
    bus.events().await.expect("the stream");
    bus.telemetry().await.expect("the memory stream");
    let url = bus.url().to_owned();
    let enhancers: Vec<String> = (0..STAGES * PARALLEL)
        .map(|n| format!("enhancer-{n}"))
        .collect();
    let mut services: Vec<Child> = vec![start(&["raw", &url])];
    for service in std::iter::once("echo").chain(enhancers.iter().map(String::as_str)) {
        services.push(start(&["serve", &url, service]));
    }
    let client = connect(&url).await;
    let telling = tokio::spawn(tell_routes(client.clone(), enhancers.clone()));
    let serin = join(&url, "caller");
    ready(&client, &enhancers).await;

    calls(&client, &serin).await;
    chains(&serin, &enhancers).await;

    telling.abort();
    drop(serin);
    for service in &mut services {
        service.kill().expect("it runs");
        service.wait().expect("ended");
    }
    bus.stop().await;
}

async fn calls(client: &Client, serin: &Serin) {
    let item = Item {
        sku: "finch-7".into(),
        text: "x".repeat(990),
    };
    let body = Bytes::from(serde_json::to_vec(&item).expect("JSON"));
    let call = |is_raw: bool| {
        let (client, serin, item, body) =
            (client.clone(), serin.clone(), item.clone(), body.clone());
        async move {
            if is_raw {
                client.request("raw.echo", body).await.expect("answered");
            } else {
                let echoed: Item = serin.call("echo", "echo", &item).await.expect("answered");
                assert_eq!(echoed.text.len(), item.text.len());
            }
        }
    };
    paced(2 * CALLS_PER_S, WARM_UP, |n| call(n % 2 == 0)).await;
    let (raw, ours) = split(&paced(2 * CALLS_PER_S, 2 * CALLS, |n| call(n % 2 == 0)).await);
    report(
        "one call of 1 KB over the bus, median",
        0.25,
        0.5,
        &raw,
        &ours,
    );
    report("one call of 1 KB over the bus, p99", 1.0, 0.99, &raw, &ours);

    let flood = flood(serin.clone());
    let (raw, ours) = split(&paced(2 * CALLS_PER_S, CALLS, |n| call(n % 2 == 0)).await);
    flood.store(false, std::sync::atomic::Ordering::Relaxed);
    let what = format!("one call while its process emits {EVENTS_PER_S} events/s, p99");
    report(&what, 1.0, 0.99, &raw, &ours);
    serin.flush().await;
}

async fn chains(serin: &Serin, enhancers: &[String]) {
    let data = json!({"sku": "finch-7", "text": "x".repeat(990)});
    let run = |_| {
        let stage = |names: &[String]| {
            let names = names.iter().map(|name| format!("{name}.enhance"));
            names.fold(Stage::new(), |stage, name| stage.enhance(name))
        };
        let mut chain = serin.chain("bench");
        for names in enhancers.chunks(PARALLEL) {
            chain = chain.stage(stage(names));
        }
        let data = data.clone();
        async move {
            let enhanced = chain.run(&data).await.expect("enhanced");
            assert_eq!(enhanced.hops.len(), STAGES * PARALLEL);
        }
    };
    paced(CHAINS_PER_S, WARM_UP, run).await;
    let mut took: Vec<f64> = paced(CHAINS_PER_S, CHAINS, run).await;
    took.sort_by(f64::total_cmp);
    let (median, p99) = (at(&took, 0.5), at(&took, 0.99));
    row(
        &format!("chain of {STAGES} stages x {PARALLEL} parallel at {CHAINS_PER_S}/s, p99"),
        &format!("{p99:.2} ms (median {median:.2} ms)"),
        "10 ms",
        p99 <= 10.0,
    );
}

/// Begins `count` works at a fixed rate; milliseconds from when each was meant to begin to its end.
async fn paced<F, Fut>(per_s: u32, count: u32, work: F) -> Vec<f64>
where
    F: Fn(u32) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let (tx, mut rx) = mpsc::channel(BEHIND_MAX);
    // A thread, since tokio's timer has steps of a millisecond.
    let pace = std::thread::spawn(move || {
        let start = now();
        for number in 0..count {
            let due = start + Duration::from_secs(1) * number / per_s;
            while let Some(early) = due
                .checked_duration_since(now())
                .filter(|early| !early.is_zero())
            {
                std::thread::park_timeout(early);
            }
            tx.blocking_send((number, due)).expect("somebody calls");
        }
    });
    let local = tokio::task::LocalSet::new();
    let took = local.run_until(async {
        let mut under_way = tokio::task::JoinSet::new();
        while let Some((number, due)) = rx.recv().await {
            let work = work(number);
            under_way.spawn_local(async move {
                work.await;
                (number, now().duration_since(due).as_secs_f64() * 1e3)
            });
        }
        under_way.join_all().await
    });
    let mut took: Vec<(u32, f64)> = took.await;
    pace.join().expect("no panic");
    took.sort_by_key(|(number, _)| *number);
    took.into_iter().map(|(_, took)| took).collect()
}

/// Emits at a steady rate until it is told to end.
fn flood(serin: Serin) -> std::sync::Arc<std::sync::atomic::AtomicBool> {
    use std::sync::atomic::{AtomicBool, Ordering};
    let goes_on = std::sync::Arc::new(AtomicBool::new(true));
    let watched = std::sync::Arc::clone(&goes_on);
    std::thread::spawn(move || {
        while watched.load(Ordering::Relaxed) {
            for n in 0..EVENTS_PER_S / 100 {
                serin.emit("bench.flood", &json!({"n": n, "text": "some more bytes"}));
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    });
    goes_on
}

/// The raw ones and ours, each in rising order.
fn split(took: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let every_other = |first: usize| {
        let mut took: Vec<f64> = took.iter().skip(first).step_by(2).copied().collect();
        took.sort_by(f64::total_cmp);
        took
    };
    (every_other(0), every_other(1))
}

fn report(what: &str, over_raw_ms: f64, share: f64, raw: &[f64], ours: &[f64]) {
    let (raw, ours) = (at(raw, share), at(ours, share));
    let more = ours - raw;
    row(
        what,
        &format!("{ours:.3} ms, raw NATS {raw:.3} ms: {more:+.3} ms"),
        &format!("{over_raw_ms:.3} ms over raw"),
        more <= over_raw_ms,
    );
}

fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn row(what: &str, measured: &str, to_reach: &str, is_reached: bool) {
    let reached = if is_reached { "yes" } else { "no" };
    println!("serin-bench | {what} | {measured} | {to_reach} | {reached}");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

fn start(arguments: &[&str]) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .expect("started")
}

fn join(url: &str, service: &str) -> Serin {
    let options = Options {
        version: "v1".into(),
        spill_dir: None,
        ..Options::new(url, service)
    };
    Serin::connect(options).expect("connected")
}

async fn connect(url: &str) -> Client {
    let connector = Connector::new(url, "bench").expect("an address");
    connector.now().await.expect("connected")
}

/// Tells the routes as Serin does: one version of each service.
async fn tell_routes(client: Client, enhancers: Vec<String>) {
    let services = enhancers.into_iter().chain(["echo".to_owned()]);
    let route = |service| {
        let version = "v1".to_owned();
        let versions = vec![Weight {
            version,
            weight: SLOTS,
        }];
        (
            service,
            Route {
                versions,
                idempotent: Vec::new(),
            },
        )
    };
    let routes = Routes {
        revision: 1,
        services: services.map(route).collect(),
    };
    let told = Bytes::from(serde_json::to_vec(&routes).expect("JSON"));
    let mut asked = client
        .subscribe(subject::ROUTES_GET)
        .await
        .expect("subscribed");
    client
        .publish(subject::ROUTES, told.clone())
        .await
        .expect("told");
    while let Some(question) = asked.next().await {
        let reply = question.reply.expect("a question");
        client.publish(reply, told.clone()).await.expect("told");
    }
}

/// Returns once all services answer.
async fn ready(client: &Client, enhancers: &[String]) {
    let asked = enhancers
        .iter()
        .map(|service| format!("$SRV.PING.{service}"));
    let asked = asked.chain(["$SRV.PING.echo".to_owned(), "raw.echo".to_owned()]);
    for subject in asked {
        while client.request(subject.clone(), Bytes::new()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
