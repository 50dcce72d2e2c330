//! Picking a version, retrying once, and never running twice what must run once.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use serin_sdk::{CallError, Endpoint, Failure};
use serin_wire::{call, subject};

use crate::folder::Folder;
use crate::{Fixture, PATIENCE, wait_for, who};

#[tokio::test]
async fn a_typed_call_comes_back_with_its_times() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Item {
        sku: String,
    }
    #[derive(serde::Deserialize, Debug, PartialEq)]
    struct Added {
        items: u32,
    }
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "cart", &[("v1", 10_000)], &[]).await;
    let cart = fixture.run("cart", "v1", 1, |service| {
        service.endpoint("add", |call, item: Item| async move {
            if item.sku == "none" {
                let more = json!({"known": ["finch"]});
                return Err(Failure::new(404, "no such sku").with(&more));
            }
            assert_eq!(call.caller(), Some("web"));
            assert!(call.time_left().expect("a deadline") <= Duration::from_secs(5));
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(json!({"items": 1}))
        })
    });
    let cart = cart.await;
    let web = fixture.join("web", "v1", 1);
    let item = Item {
        sku: "finch".into(),
    };
    let added: Added = web.call("cart", "add", &item).await.expect("added");
    assert_eq!(added, Added { items: 1 });
    let reply = web
        .call::<Value>("cart", "add", &item)
        .reply()
        .await
        .expect("added");
    assert_eq!(reply.instance.as_deref(), Some("cart-v1-1"));
    let timing = reply.timing;
    assert!(timing.handler_us >= 20_000, "{timing:?}");
    assert_eq!(
        timing.total_us,
        timing.queue_us + timing.handler_us + timing.network_us
    );

    let none = Item { sku: "none".into() };
    let refused = web
        .call::<Added>("cart", "add", &none)
        .await
        .expect_err("refused");
    assert_eq!(refused.to_string(), "cart.add answered 404: no such sku");
    let CallError::Failed { body, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(&body[..], br#"{"known":["finch"]}"#);
    let unread = web
        .call::<Added>("cart", "add", &json!({"no": 1}))
        .await
        .expect_err("refused");
    assert!(
        unread
            .to_string()
            .contains("400: cannot read the request: missing field `sku`"),
        "{unread}"
    );
    let unnamed = web
        .call::<Added>("Cart", "add", &item)
        .await
        .expect_err("refused");
    assert!(matches!(unnamed, CallError::Name { .. }), "{unnamed:?}");
    let absent = web
        .call::<Added>("cart", "absent", &item)
        .await
        .expect_err("refused");
    assert!(matches!(absent, CallError::Absent { .. }), "{absent:?}");
    assert!(!absent.may_have_run());
    cart.stop().await;
    telling.abort();
}

#[tokio::test]
async fn calls_follow_the_weights_and_keys_stay() {
    let fixture = Fixture::new().await;
    let telling = fixture
        .tell_routes(1, "cart", &[("v2", 3_000), ("v1", 7_000)], &[])
        .await;
    let one = fixture
        .run("cart", "v1", 1, |service| who(service, "v1"))
        .await;
    let two = fixture
        .run("cart", "v2", 1, |service| who(service, "v2"))
        .await;
    let web = fixture.join("web", "v1", 1);
    let ask = async |key: Option<String>| -> String {
        let mut call = web.call::<Value>("cart", "who", &json!({}));
        if let Some(key) = key {
            call = call.key(key);
        }
        call.await.expect("answered")["version"]
            .as_str()
            .expect("a version")
            .to_owned()
    };
    let mut counts = BTreeMap::<String, u32>::new();
    for _ in 0..600 {
        *counts.entry(ask(None).await).or_default() += 1;
    }
    // 180 expected; the spread of 600 tries is 11.
    assert!((120..240).contains(&counts["v2"]), "{counts:?}");
    for user in 0..20 {
        let expected = if serin_wire::route::slot_of("cart", &format!("user-{user}")) < 3_000 {
            "v2"
        } else {
            "v1"
        };
        for _ in 0..3 {
            assert_eq!(ask(Some(format!("user-{user}"))).await, expected);
        }
    }
    telling.abort();
    let telling = fixture.tell_routes(2, "cart", &[("v2", 10_000)], &[]).await;
    // An older revision, told later, changes nothing.
    let late =
        br#"{"revision":1,"services":{"cart":{"versions":[{"version":"v1","weight":10000}]}}}"#;
    fixture
        .client()
        .publish(subject::ROUTES, late.as_slice().into())
        .await
        .expect("told");
    fixture.round_trip().await;
    let all_new = async {
        let mut in_a_row = 0;
        while in_a_row < 50 {
            in_a_row = if ask(None).await == "v2" {
                in_a_row + 1
            } else {
                0
            };
        }
    };
    tokio::time::timeout(PATIENCE, all_new)
        .await
        .expect("the new routes hold");
    telling.abort();
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_version_without_instances_is_left_for_another() {
    let fixture = Fixture::new().await;
    let telling = fixture
        .tell_routes(1, "cart", &[("v2", 9_999), ("v1", 1)], &[])
        .await;
    let one = fixture
        .run("cart", "v1", 1, |service| who(service, "v1"))
        .await;
    let web = fixture.join("web", "v1", 1);
    for _ in 0..20 {
        let who: Value = web.call("cart", "who", &json!({})).await.expect("answered");
        assert_eq!(who["version"], "v1");
    }
    telling.abort();
    one.stop().await;
}

#[tokio::test]
async fn a_client_without_routes_is_served_by_the_subject_without_a_version() {
    let fixture = Fixture::new().await;
    let client = fixture.client();
    // As our own bus maps it, or Serin forwards it.
    let mut any = client.subscribe("svc.cart.add").await.expect("subscribed");
    let forwarding = tokio::spawn(async move {
        while let Some(message) = any.next().await {
            let (reply, headers) = (
                message.reply.expect("a call"),
                message.headers.unwrap_or_default(),
            );
            let to = subject::call("cart", "v1", "add");
            client
                .publish_with_reply_and_headers(to, reply, headers, message.payload)
                .await
                .expect("forwarded");
        }
    });
    let cart = fixture.run("cart", "v1", 1, |service| {
        service.endpoint(
            "add",
            |_, item: Value| async move { Ok(json!({"got": item})) },
        )
    });
    let cart = cart.await;
    let web = fixture.join("web", "v1", 1);
    let added: Value = web.call("cart", "add", &json!(7)).await.expect("added");
    assert_eq!(added, json!({"got": 7}));
    let client = fixture.client();
    let raw = client.send_request(
        "svc.cart.add",
        async_nats::Request::new()
            .payload("8".into())
            .headers(async_nats::HeaderMap::new()),
    );
    assert_eq!(&raw.await.expect("added").payload[..], br#"{"got":8}"#);
    forwarding.abort();
    cart.stop().await;
}

/// A service that answers nothing, or `serin-not-run`, on the first tries; counts what it saw.
async fn stub(fixture: &Fixture, silent: u32, busy: u32) -> Arc<AtomicU32> {
    let client = fixture.client();
    let mut calls = client
        .subscribe("svc.pay.v1.charge")
        .await
        .expect("subscribed");
    fixture.round_trip().await;
    let seen = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Some(message) = calls.next().await {
            let number = counting.fetch_add(1, Ordering::Relaxed);
            let reply = message.reply.expect("a call");
            if number < silent {
                continue;
            }
            let mut headers = async_nats::HeaderMap::new();
            if number < silent + busy {
                headers.insert(call::ERROR, "busy");
                headers.insert(call::ERROR_CODE, "503");
                headers.insert(call::NOT_RUN, "1");
            }
            client
                .publish_with_headers(reply, headers, "1".into())
                .await
                .expect("answered");
        }
    });
    seen
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_only_where_that_is_harmless() {
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "pay", &[("v1", 10_000)], &[]).await;
    let web = fixture.caller("web").await;
    let charge = || {
        web.call::<u32>("pay", "charge", &json!({}))
            .timeout(Duration::from_millis(400))
    };
    let seen = stub(&fixture, 1, 0).await;
    let late = charge().await.expect_err("lost");
    assert!(matches!(late, CallError::Late { .. }), "{late:?}");
    assert!(late.may_have_run());
    assert_eq!(seen.load(Ordering::Relaxed), 1, "not sent twice");
    telling.abort();
}

#[tokio::test]
async fn an_idempotent_call_is_repeated_once() {
    let fixture = Fixture::new().await;
    let telling = fixture
        .tell_routes(1, "pay", &[("v1", 10_000)], &["charge"])
        .await;
    let web = fixture.caller("web").await;
    let seen = stub(&fixture, 1, 0).await;
    // The routes say that the endpoint is idempotent.
    let charge = web
        .call::<u32>("pay", "charge", &json!({}))
        .timeout(Duration::from_secs(2));
    assert_eq!(charge.await.expect("the second try"), 1);
    assert_eq!(seen.load(Ordering::Relaxed), 2);
    telling.abort();
}

#[tokio::test]
async fn what_was_not_run_is_tried_once_more_and_not_again() {
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "pay", &[("v1", 10_000)], &[]).await;
    let web = fixture.join("web", "v1", 1);
    let seen = stub(&fixture, 0, 3).await;
    let busy = web
        .call::<u32>("pay", "charge", &json!({}))
        .await
        .expect_err("busy twice");
    assert!(!busy.may_have_run());
    assert_eq!(busy.code(), 503);
    assert_eq!(seen.load(Ordering::Relaxed), 2, "one retry");
    assert_eq!(
        web.call::<u32>("pay", "charge", &json!({}))
            .await
            .expect("busy once"),
        1
    );
    telling.abort();
}

#[tokio::test]
async fn a_call_while_the_bus_is_away_did_not_run() {
    let fixture = Fixture::new().await;
    let web = fixture.join("web", "v1", 1);
    fixture.bus.stop().await;
    let away = web
        .call::<Value>("cart", "add", &json!({}))
        .timeout(Duration::from_millis(100))
        .await
        .expect_err("away");
    assert!(matches!(away, CallError::Away { .. }), "{away:?}");
}

#[tokio::test]
async fn services_that_call_each_other_in_a_circle_end() {
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "ring", &[("v1", 10_000)], &[]).await;
    let ring = fixture.run("ring", "v1", 1, |service| {
        let around = Endpoint::new("around").limit(64);
        service.endpoint(around, |call, (): ()| async move {
            let reply: Value = call.serin().call("ring", "around", &()).await?;
            Ok(reply)
        })
    });
    let ring = ring.await;
    let web = fixture.join("web", "v1", 1);
    let ended = web
        .call::<Value>("ring", "around", &())
        .await
        .expect_err("ended");
    let text = ended.to_string();
    assert!(
        text.contains("32 calls enclose each other before ring.around"),
        "{text}"
    );
    telling.abort();
    ring.stop().await;
}

#[tokio::test]
async fn an_answer_lost_with_the_connection_is_asked_for_again_where_that_is_harmless() {
    let folder = Folder::new();
    let fixture = Fixture::over(&folder).await;
    let telling = fixture.tell_routes(1, "pay", &[("v1", 10_000)], &[]).await;
    let runs = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&runs);
    let pay = fixture.run("pay", "v1", 1, |service| {
        let service = service.grace(Duration::ZERO);
        service.endpoint("charge", move |_, (): ()| {
            let number = counting.fetch_add(1, Ordering::Relaxed);
            async move {
                if number == 0 {
                    std::future::pending::<()>().await;
                }
                Ok(number)
            }
        })
    });
    let pay = pay.await;
    let web = fixture.join("web", "v1", 1);
    let charge = web.call::<u32>("pay", "charge", &()).idempotent();
    let charge = tokio::spawn(charge.timeout(PATIENCE * 4).into_future());
    wait_for(|| runs.load(Ordering::Relaxed) == 1).await;
    telling.abort();
    fixture.bus.stop().await;
    let fixture = Fixture::over(&folder).await;
    // Long before half of the time is over, since the broken connection was noticed.
    let charged = tokio::time::timeout(PATIENCE, charge)
        .await
        .expect("in time");
    assert_eq!(charged.expect("no panic").expect("charged"), 1);
    pay.stop().await;
    fixture.bus.stop().await;
}

#[test]
fn a_handle_calls_from_whatever_runtime() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let staying = runtime();
    let (fixture, telling, cart, web) = staying.block_on(async {
        let fixture = Fixture::new().await;
        let telling = fixture.tell_routes(1, "cart", &[("v1", 10_000)], &[]).await;
        let cart = fixture
            .run("cart", "v1", 1, |service| who(service, "v1"))
            .await;
        let web = fixture.join("web", "v1", 1);
        (fixture, telling, cart, web)
    });
    for _ in 0..3 {
        // The connection of the one before ended with it.
        let who: Value = runtime()
            .block_on(web.call("cart", "who", &json!({})).into_future())
            .expect("answered");
        assert_eq!(who["version"], "v1");
    }
    drop(web);
    staying.block_on(async {
        telling.abort();
        cart.stop().await;
        drop(fixture);
    });
}

#[tokio::test]
async fn a_call_without_data_carries_null() {
    let fixture = Fixture::new().await;
    let price = fixture.run("price", "v1", 1, |service| {
        service.endpoint("list", |_, data: Value| async move {
            Ok(json!({"was_null": data.is_null()}))
        })
    });
    let price = price.await;
    let client = fixture.client();
    let answer = client.request("svc.price.v1.list", "".into());
    let answer = answer.await.expect("answered");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(answer, json!({"was_null": true}));
    price.stop().await;
}
