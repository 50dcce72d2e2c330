//! Bounds, deadlines, panics, sizes, and a drain that loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use serin_sdk::{CallError, Endpoint, ServeError, State};
use serin_wire::{Beat, call};
use tokio::sync::Semaphore;

use crate::{Fixture, PATIENCE, wait_for, who};

#[tokio::test]
async fn a_full_instance_refuses_at_once_and_goes_on() {
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "cart", &[("v1", 10_000)], &[]).await;
    let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let (inside, counting) = (Arc::clone(&gate), Arc::clone(&begun));
    let cart = fixture.run("cart", "v1", 1, |service| {
        let add = Endpoint::new("add").limit(2).waiting(1);
        service.endpoint(add, move |_, _: Value| {
            let (gate, begun) = (Arc::clone(&inside), Arc::clone(&counting));
            async move {
                begun.fetch_add(1, Ordering::Relaxed);
                gate.acquire().await?.forget();
                Ok(json!(1))
            }
        })
    });
    let cart = cart.await;
    let web = fixture.join("web", "v1", 1);
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let web = web.clone();
            tokio::spawn(async move { web.call::<u32>("cart", "add", &json!({})).await })
        })
        .collect();
    wait_for(|| begun.load(Ordering::Relaxed) == 2).await;
    // Two run and one waits; ask until that one has come, then the next is refused.
    let refused = async {
        loop {
            let tried = web
                .call::<u32>("cart", "add", &json!({}))
                .timeout(Duration::from_millis(500))
                .await;
            match tried.expect_err("the gate is shut") {
                CallError::Late { .. } => {}
                refused => return refused,
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("in time");
    assert_eq!(refused.code(), 503, "{refused}");
    assert!(!refused.may_have_run());
    gate.add_permits(10);
    for call in calls {
        assert_eq!(call.await.expect("no panic").expect("served"), 1);
    }
    telling.abort();
    cart.stop().await;
}

#[tokio::test]
async fn a_periodic_task_that_panicked_runs_again() {
    let fixture = Fixture::new().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&runs);
    let cart = fixture.run("cart", "v1", 1, |service| {
        service.every(Duration::from_millis(10), move |_| {
            // Before it makes a future, and in the future.
            let run = counting.fetch_add(1, Ordering::Relaxed);
            assert!(run != 0, "the first run");
            async move {
                assert!(run != 1, "the second run");
                Ok(())
            }
        })
    });
    let cart = cart.await;
    wait_for(|| runs.load(Ordering::Relaxed) > 3).await;
    cart.stop().await;
}

#[tokio::test]
async fn a_call_whose_time_is_over_does_not_run() {
    let fixture = Fixture::new().await;
    let (gate, runs) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let (inside, counting) = (Arc::clone(&gate), Arc::clone(&runs));
    let cart = fixture.run("cart", "v1", 1, |service| {
        service.endpoint(Endpoint::new("add").limit(1), move |_, _: Value| {
            let (gate, runs) = (Arc::clone(&inside), Arc::clone(&counting));
            async move {
                runs.fetch_add(1, Ordering::Relaxed);
                gate.acquire().await?.forget();
                Ok(json!(1))
            }
        })
    });
    let cart = cart.await;
    let client = fixture.client();
    let mut answers = client.subscribe("answers").await.expect("subscribed");
    for timeout_ms in ["60000", "1"] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(call::TIMEOUT_MS, timeout_ms);
        client
            .publish_with_reply_and_headers("svc.cart.v1.add", "answers", headers, "1".into())
            .await
            .expect("sent");
    }
    wait_for(|| runs.load(Ordering::Relaxed) == 1).await;
    let mut codes = Vec::new();
    for _ in 0..2 {
        let answer = answers.next().await.expect("an answer");
        let headers = answer.headers.expect("headers");
        let header = |name| headers.get(name).map(|value| value.as_str().to_owned());
        codes.push((header(call::ERROR_CODE), header(call::NOT_RUN)));
        // The one that waits is answered when its time is over, while the other still runs.
        gate.add_permits(2);
    }
    codes.reverse();
    assert_eq!(codes[0], (None, None));
    assert_eq!(codes[1], (Some("408".to_owned()), Some("1".to_owned())));
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    cart.stop().await;
}

#[tokio::test]
async fn a_deadline_is_passed_on_and_never_grows() {
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "cart", &[("v1", 10_000)], &[]).await;
    let cart = fixture.run("cart", "v1", 1, |service| {
        service
            .endpoint("outer", |call, _: Value| async move {
                let inner = call.serin().call::<u64>("cart", "inner", &json!({}));
                Ok(inner.timeout(Duration::from_secs(60)).await?)
            })
            .endpoint("inner", |call, _: Value| async move {
                Ok(call.time_left().expect("a deadline").as_millis() as u64)
            })
    });
    let cart = cart.await;
    let web = fixture.join("web", "v1", 1);
    let outer = web.call::<u64>("cart", "outer", &json!({}));
    let left_ms = outer
        .timeout(Duration::from_secs(2))
        .await
        .expect("answered");
    assert!((1..=2_000).contains(&left_ms), "{left_ms}");
    telling.abort();
    cart.stop().await;
}

#[tokio::test]
async fn a_panic_or_a_reply_too_large_fails_one_call() {
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "cart", &[("v1", 10_000)], &[]).await;
    let cart = fixture.run("cart", "v1", 1, |service| {
        service
            .endpoint("break", |_, _: Value| async move {
                if true {
                    panic!("on purpose");
                }
                Ok(json!(1))
            })
            .endpoint("huge", |_, _: Value| async move { Ok("x".repeat(9 << 20)) })
            .endpoint("fine", |_, _: Value| async move { Ok(json!(1)) })
    });
    let cart = cart.await;
    let web = fixture.join("web", "v1", 1);
    let broken = web
        .call::<Value>("cart", "break", &())
        .await
        .expect_err("panicked");
    assert_eq!(
        broken.to_string(),
        "cart.break answered 500: the handler of break panicked"
    );
    let huge = web
        .call::<Value>("cart", "huge", &())
        .await
        .expect_err("too large");
    assert!(
        huge.to_string()
            .contains("413: the reply has 9437186 bytes, the bus takes 8388608"),
        "{huge}"
    );
    let request = web
        .call::<Value>("cart", "fine", &"x".repeat(9 << 20))
        .await;
    assert!(
        matches!(request, Err(CallError::TooLarge { .. })),
        "{request:?}"
    );
    assert_eq!(
        web.call::<u32>("cart", "fine", &())
            .await
            .expect("still served"),
        1
    );
    telling.abort();
    cart.stop().await;
}

#[tokio::test]
async fn names_are_checked_before_anything_is_served() {
    let fixture = Fixture::new().await;
    let serve = |names: &[&'static str]| {
        let service = fixture.join("cart", "v1", 1).service();
        let service = names.iter().fold(service, |service, &name| {
            service.endpoint(name, |_, _: Value| async { Ok(json!(1)) })
        });
        service.run_until(std::future::pending())
    };
    assert!(matches!(serve(&[]).await, Err(ServeError::Empty)));
    assert!(matches!(
        serve(&["a", "a"]).await,
        Err(ServeError::Twice(_))
    ));
    assert!(matches!(
        serve(&["a.b"]).await,
        Err(ServeError::Name { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_that_come_and_go_lose_no_call() {
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "cart", &[("v1", 10_000)], &[]).await;
    let slow = |service: serin_sdk::Service| {
        service.endpoint("who", |_, _: Value| async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok(json!(1))
        })
    };
    let mut running = fixture.run("cart", "v1", 0, slow).await;
    let web = fixture.join("web", "v1", 1);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (web, stopped) = (web.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut served = 0;
                while !*stopped.borrow() {
                    let call = web.call::<u32>("cart", "who", &json!({}));
                    served += call.await.expect("no call is lost");
                }
                served
            })
        })
        .collect();
    for number in 1..=20 {
        let next = fixture.run("cart", "v1", number, slow).await;
        std::mem::replace(&mut running, next).stop().await;
    }
    stop.send_replace(true);
    let mut served = 0;
    for caller in callers {
        served += caller.await.expect("no call is lost");
    }
    assert!(served > 100, "{served}");
    telling.abort();
    running.stop().await;
}

#[tokio::test]
async fn beats_say_ready_and_draining_and_events_are_flushed() {
    let fixture = Fixture::new().await;
    let mut beats = fixture
        .client()
        .subscribe("tel.beat.cart.>")
        .await
        .expect("subscribed");
    fixture.round_trip().await;
    let cart = fixture.run("cart", "v1", 1, |service| {
        who(service, "v1").endpoint("tell", |call, _: Value| async move {
            call.serin().emit("cart.told", &json!({"n": 1}));
            Ok(json!(1))
        })
    });
    let cart = cart.await;
    while next(&mut beats).await != State::Ready {}
    let reply = fixture
        .client()
        .request("svc.cart.v1.tell", "{}".into())
        .await
        .expect("served");
    assert_eq!(&reply.payload[..], b"1");
    let serin = cart.serin.clone();
    cart.stop().await;
    let counts = serin.counts();
    assert_eq!((counts.emitted, counts.acknowledged), (1, 1));
    drop(serin);
    while next(&mut beats).await != State::Draining {}
}

/// What the next beat says.
async fn next(beats: &mut async_nats::Subscriber) -> State {
    let beat = tokio::time::timeout(PATIENCE, beats.next()).await;
    let beat = beat.expect("in time").expect("a beat");
    let beat: Beat = serde_json::from_slice(&beat.payload).expect("a beat");
    beat.state
}

/// Not a test by itself: the service that the next test starts and ends.
#[test]
fn service_that_serves_until_sigterm() {
    let Some(bus) = std::env::var_os("SERIN_TEST_BUS") else {
        return;
    };
    let options = serin_sdk::Options {
        version: "v1".into(),
        instance: "cart-v1-7".into(),
        spill_dir: None,
        ..serin_sdk::Options::new(bus.into_string().expect("text"), "cart")
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let served = runtime.block_on(async {
        let serin = serin_sdk::Serin::connect(options).expect("connected");
        let service = serin
            .service()
            .endpoint("slow", |call, _: Value| async move {
                let passed = call.serin().call::<Value>("gate", "pass", &json!({}));
                Ok(passed.timeout(PATIENCE).await?)
            });
        service.run().await
    });
    served.expect("served");
}

#[tokio::test]
async fn sigterm_lets_calls_end_and_the_process_too() {
    let fixture = Fixture::new().await;
    let mut service = tokio::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "serve::service_that_serves_until_sigterm"])
        .env("SERIN_TEST_BUS", fixture.bus.url())
        .kill_on_drop(true)
        .spawn()
        .expect("started");
    fixture.until_served("$SRV.PING.cart.cart-v1-7").await;
    let client = fixture.client();
    let subscribe = async |subject: &'static str| client.subscribe(subject).await;
    let mut gate = subscribe("svc.gate.pass").await.expect("subscribed");
    let mut beats = subscribe("tel.beat.cart.v1.cart-v1-7")
        .await
        .expect("subscribed");
    fixture.round_trip().await;
    let calling = fixture.client();
    let call = tokio::spawn(async move { calling.request("svc.cart.v1.slow", "1".into()).await });
    let inside = tokio::time::timeout(PATIENCE, gate.next()).await;
    let inside = inside.expect("in time").expect("its handler runs");
    let id = rustix::process::Pid::from_raw(service.id().expect("it runs") as i32).expect("a pid");
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("signalled");
    while next(&mut beats).await != State::Draining {}
    let reply = inside.reply.expect("a reply subject");
    let passed = client.publish(reply, r#""done""#.into()).await;
    passed.expect("published");
    let answer = call.await.expect("no panic").expect("answered");
    assert_eq!(&answer.payload[..], br#""done""#);
    let ended = tokio::time::timeout(PATIENCE, service.wait())
        .await
        .expect("in time");
    assert!(ended.expect("ended").success());
}

#[tokio::test]
async fn an_instance_with_rights_of_its_own_serves_raw_clients_by_the_weights() {
    let fixture = Fixture::new().await;
    let user = |version: &str| {
        let instance = format!("cart-{version}-1");
        serin_bus::BusUser::instance("cart", version, &instance, format!("secret-{version}"))
    };
    let users = ["v1", "v2"].map(user);
    fixture.bus.set_users(users.to_vec()).await.expect("users");
    let weight = |version: &str, weight| serin_wire::Weight {
        version: version.into(),
        weight,
    };
    let route = serin_wire::Route {
        versions: vec![weight("v2", 3_000), weight("v1", 7_000)],
        idempotent: Vec::new(),
    };
    let routes = serin_wire::Routes {
        revision: 1,
        services: [("cart".to_owned(), route)].into(),
    };
    fixture.bus.set_mappings(&routes).await.expect("mapped");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut running = Vec::new();
    for (user, version) in users.iter().zip(["v1", "v2"]) {
        let options = serin_sdk::Options {
            version: version.into(),
            instance: user.name.clone(),
            spill_dir: None,
            ..serin_sdk::Options::new(fixture.bus.url_of(user).expect("an address"), "cart")
        };
        let serin = serin_sdk::Serin::connect(options).expect("connected");
        let mut stopped = stopped.clone();
        let serving = who(serin.service(), version).run_until(async move {
            stopped.wait_for(|stopped| *stopped).await.ok();
        });
        running.push(tokio::spawn(serving));
        fixture
            .until_served(&format!("$SRV.PING.cart.{}", user.name))
            .await;
    }
    let mut of_two = 0;
    for _ in 0..300 {
        let answer = fixture.client().request("svc.cart.who", "{}".into()).await;
        let answer = answer.expect("served").payload;
        of_two += u32::from(&answer[..] == br#"{"version":"v2"}"#);
    }
    // 90 expected; the spread of 300 tries is 8.
    assert!((55..125).contains(&of_two), "{of_two}");
    stop.send_replace(true);
    for serving in running {
        serving.await.expect("no panic").expect("served");
    }
}
