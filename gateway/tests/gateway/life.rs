//! Under load: routes that change, instances that are killed, a gateway that closes, a bus that goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::kit::{ALL_V1, Asked, Fixture, One, PATIENCE, says_its_name, service, until};

/// Answers after 5 ms.
fn works(asked: Asked) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let name = asked.name.clone();
        asked.answer(200, name).await;
    })
}

/// Requests under way at a time: what a killed instance has is among them.
const UNDER_WAY: usize = 4;

/// Requests at a steady rate, as far as so many under way allow it, until told to stop; how many had which
/// outcome.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    counting: tokio::task::JoinHandle<BTreeMap<String, u64>>,
}

impl Load {
    pub(crate) fn start(fixture: &Fixture, per_s: u32, is_post: bool) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, http, stopped) = (fixture.at("/cart"), fixture.http.clone(), Arc::clone(&stop));
        let counting = tokio::spawn(async move {
            let mut pace = tokio::time::interval(Duration::from_secs(1) / per_s);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let places = Arc::new(Semaphore::new(UNDER_WAY));
            let mut sent = JoinSet::new();
            let mut counts = BTreeMap::new();
            let mut count = |outcome: String| *counts.entry(outcome).or_default() += 1;
            while !stopped.load(Ordering::SeqCst) {
                pace.tick().await;
                let place = Arc::clone(&places).acquire_owned().await.expect("open");
                let request = match is_post {
                    true => http.post(&url).body("x"),
                    false => http.get(&url),
                };
                sent.spawn(async move {
                    let _place = place;
                    match request.send().await {
                        Ok(response) => response.status().to_string(),
                        Err(error) => format!("{error:?}"),
                    }
                });
                while let Some(Some(outcome)) = sent.join_next().now_or_never() {
                    count(outcome.expect("no panic"));
                }
            }
            while let Some(outcome) = sent.join_next().await {
                count(outcome.expect("no panic"));
            }
            counts
        });
        Load { stop, counting }
    }

    pub(crate) async fn end(self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.counting.await.expect("no panic")
    }
}

#[tokio::test]
async fn routes_change_under_load_and_no_request_is_lost() {
    let fixture = Fixture::new().await;
    let mut now = fixture.on_bus("cart", "v1", 1, works).await;
    fixture.tell([service("cart", &ALL_V1, &[&now])]).await;
    let load = Load::start(&fixture, 300, true);
    for number in 2..6 {
        let version = format!("v{number}");
        let next = fixture.on_bus("cart", &version, 1, works).await;
        let half = [(&*version, 5_000), (&*now.instance.version, 5_000)];
        fixture.tell([service("cart", &half, &[&next, &now])]).await;
        until("both are asked", async || next.asked() > 50).await;
        fixture
            .tell([service("cart", &[(&*version, 10_000)], &[&next])])
            .await;
        let old = std::mem::replace(&mut now, next);
        // What was on its way when the table was taken comes to its end, and then nothing comes.
        let mut seen = (old.asked(), now.asked());
        until("only the new one is sent requests", async || {
            if old.asked() != seen.0 {
                seen = (old.asked(), now.asked());
            }
            now.asked() > seen.1 + 50
        })
        .await;
    }
    let counts = load.end().await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["200 OK"], "{counts:?}");
}

#[tokio::test]
async fn killed_instances_lose_nothing_but_what_was_in_their_hands() {
    let fixture = Fixture::new().await;
    let mut ones: Vec<One> = Vec::new();
    for number in 1..=3 {
        ones.push(fixture.on_bus("cart", "v1", number, works).await);
    }
    let told = |ones: &[One]| service("cart", &ALL_V1, &ones.iter().collect::<Vec<_>>());
    let mut cart = told(&ones);
    cart.timeout = Duration::from_secs(3);
    fixture.tell([cart]).await;
    for (is_post, kills) in [(false, 4), (true, 4)] {
        let load = Load::start(&fixture, 300, is_post);
        for kill in 0..kills {
            let before: u64 = ones.iter().map(One::asked).sum();
            let at = kill % ones.len();
            ones[at].kill();
            let number = u32::try_from(at + 1).expect("small");
            ones[at] = fixture.on_bus("cart", "v1", number, works).await;
            until("the load goes on", async || {
                ones.iter().map(One::asked).sum::<u64>() > before + 100
            })
            .await;
        }
        let counts = load.end().await;
        let failed: u64 = counts
            .iter()
            .filter(|(key, _)| *key != "200 OK")
            .map(|(_, n)| n)
            .sum();
        let most = if is_post { UNDER_WAY * kills } else { 0 };
        assert!(failed <= most as u64, "POST {is_post}: {counts:?}");
        println!("killed {kills} instances under load, POST {is_post}: {counts:?}");
    }
}

#[tokio::test]
async fn a_closing_gateway_finishes_what_it_has() {
    fn slow(asked: Asked) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            asked.answer(200, "done").await;
        })
    }
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, slow).await;
    fixture.tell([service("cart", &ALL_V1, &[&one])]).await;
    let url = fixture.at("/cart");
    let http = fixture.http.clone();
    let asked = tokio::spawn(async move {
        let asked = stream::iter(0..50).map(|_| {
            let (http, url) = (http.clone(), url.clone());
            async move {
                http.get(url)
                    .send()
                    .await
                    .expect("answered")
                    .text()
                    .await
                    .expect("text")
            }
        });
        asked.buffer_unordered(50).collect::<Vec<_>>().await
    });
    until("all are under way", async || one.asked() == 50).await;
    assert_eq!(fixture.gateway.close().await, 0);
    assert_eq!(asked.await.expect("no panic"), vec!["done"; 50]);
    let refused = tokio::net::TcpStream::connect(fixture.address).await;
    assert!(refused.is_err(), "the door is shut");
}

#[tokio::test]
async fn a_closing_gateway_cuts_what_does_not_end() {
    fn never(_: Asked) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    let fixture = Fixture::with(|options| options.close_within = Duration::from_millis(200)).await;
    let one = fixture.on_bus("cart", "v1", 1, never).await;
    fixture.tell([service("cart", &ALL_V1, &[&one])]).await;
    let asked = tokio::spawn(fixture.http.get(fixture.at("/cart")).send());
    until("it is under way", async || one.asked() == 1).await;
    assert_eq!(fixture.gateway.close().await, 1);
    assert!(asked.await.expect("no panic").is_err());
}

#[tokio::test]
async fn a_bus_that_goes_is_said_and_found_again() {
    let fixture = Fixture::with(|options| options.patience = Duration::from_millis(100)).await;
    let one = fixture.on_bus("cart", "v1", 1, says_its_name).await;
    fixture.tell([service("cart", &ALL_V1, &[&one])]).await;
    assert_eq!(fixture.text("/cart").await.0, 200);
    let health = fixture.bus.health().await;
    let pid = health.pid.expect("a private bus");
    let kill = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(kill.expect("run").success());
    let mut words = Vec::new();
    until("it is found again", async || {
        let (status, text) = fixture.text("/cart").await;
        if status != 200 {
            words.push(text);
        }
        status == 200 && !words.is_empty()
    })
    .await;
    let is_said =
        |text: &String| text.contains("the bus is away") || text.contains("do not answer");
    let is_502 = |text: &String| text.contains("ended before it answered");
    assert!(
        words.iter().all(|text| is_said(text) || is_502(text)),
        "{words:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_closes_though_the_bus_has_gone() {
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, says_its_name).await;
    fixture.tell([service("cart", &ALL_V1, &[&one])]).await;
    // Somebody asked; that is still to be told.
    assert_eq!(fixture.text("/cart").await.0, 200);
    fixture.bus.stop().await;
    let closed = tokio::time::timeout(PATIENCE, fixture.gateway.close()).await;
    assert_eq!(closed.expect("in time"), 0);
}
