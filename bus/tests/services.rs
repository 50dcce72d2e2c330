//! Users and mappings of a private bus, against the real `nats-server` on `PATH`.

mod kit;

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use serin_bus::{Bus, BusError, BusOptions, BusUser};
use serin_connect::Connector;
use serin_wire::route::{Route, Routes, Weight};

use kit::Folder;

async fn connect(url: &str) -> Result<Client, async_nats::ConnectError> {
    Connector::new(url, "test")?.now().await
}

/// Answers every call to a version with the version's name.
async fn serve(client: &Client, version: &'static str) {
    let subject = format!("svc.cart.{version}.add");
    let mut calls = client
        .queue_subscribe(subject, version.to_owned())
        .await
        .expect("subscribed");
    round_trip(client).await;
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(call) = calls.next().await {
            let reply = call.reply.expect("a request");
            let answer = Bytes::from_static(version.as_bytes());
            client.publish(reply, answer).await.expect("answered");
        }
    });
}

/// The bus has taken all that went before on this connection, and has told all that it had for it; a
/// flush says no more than that it was written. The subject of the message that went round.
async fn round_trip(client: &Client) -> String {
    let own = client.new_inbox();
    let mut back = client.subscribe(own.clone()).await.expect("asked for");
    let sent = client.publish(own.clone(), Bytes::new()).await;
    sent.expect("sent");
    back.next().await.expect("its own message");
    own
}

fn routes(weights: &[(&str, u32)]) -> Routes {
    let versions = weights.iter().map(|&(version, weight)| Weight {
        version: version.to_owned(),
        weight,
    });
    let route = Route {
        versions: versions.collect(),
        idempotent: Vec::new(),
    };
    Routes {
        revision: 1,
        services: [(String::from("cart"), route)].into(),
    }
}

/// Calls that name no version, 50 at a time; how many each version answered.
async fn call(client: &Client, count: usize) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    let mut under_way = FuturesUnordered::new();
    for at in 0..count + 50 {
        if at < count {
            under_way.push(client.request("svc.cart.add", Bytes::new()));
        }
        if (at >= 50 || under_way.len() >= 50)
            && let Some(answer) = under_way.next().await
        {
            let answer = answer.expect("no request is lost").payload;
            let version = String::from_utf8(answer.to_vec()).expect("text");
            *answers.entry(version).or_default() += 1;
        }
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_a_version_follow_the_weights() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let client = connect(bus.url()).await.expect("connected");
    serve(&client, "v1").await;
    serve(&client, "v2").await;
    let canary = routes(&[("v2", 3_000), ("v1", 7_000)]);
    bus.set_mappings(&canary).await.expect("taken over");
    let answers = call(&client, 2_000).await;
    // 600 expected with a deviation of 20; five of them on each side.
    let share = answers["v2"];
    assert_eq!(share + answers["v1"], 2_000);
    assert!((500..700).contains(&share), "{answers:?}");

    // Changed under load, no request is lost.
    let calling = tokio::spawn({
        let client = client.clone();
        async move { call(&client, 2_000).await }
    });
    for weight in [1_000, 5_000, 9_000, 10_000] {
        let next = routes(&[("v2", weight), ("v1", 10_000 - weight)]);
        bus.set_mappings(&next).await.expect("taken over");
    }
    let answers = calling.await.expect("no panic");
    assert_eq!(answers.values().sum::<usize>(), 2_000);
    assert_eq!(call(&client, 100).await, [(String::from("v2"), 100)].into());
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_speaks_for_itself_alone() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let events = bus.events().await.expect("the stream");
    let cart = BusUser::instance("cart", "v1", "cart-v1-1", String::from("secret1"));
    let pay = BusUser::instance("pay", "v1", "pay-v1-1", String::from("secret2"));
    bus.set_users(vec![cart.clone(), pay.clone()])
        .await
        .expect("taken over");
    let client = connect(&bus.url_of(&cart).expect("ours"))
        .await
        .expect("signed in");
    let own = client.request("ev.cart.a", Bytes::from_static(b"{}")).await;
    assert!(own.is_ok(), "{own:?}");
    for foreign in [
        "ev.pay.a",
        "ev.pay._batch",
        "$JS.API.STREAM.DELETE.EVENTS",
        "tel.beat.pay.v1.pay-v1-1",
    ] {
        let request = client.request(foreign, Bytes::from_static(b"{}"));
        let answer = tokio::time::timeout(Duration::from_millis(300), request).await;
        assert!(!matches!(answer, Ok(Ok(_))), "{foreign}: {answer:?}");
    }
    let gateway = BusUser::gateway(String::from("secret3"));
    bus.set_users(vec![cart.clone(), pay.clone(), gateway.clone()])
        .await
        .expect("taken over");
    let outside = connect(&bus.url_of(&gateway).expect("ours"))
        .await
        .expect("signed in");
    for foreign in ["ev.cart.a", "ctl.routes", "$JS.API.STREAM.DELETE.EVENTS"] {
        let request = outside.request(foreign, Bytes::from_static(b"{}"));
        let answer = tokio::time::timeout(Duration::from_millis(300), request).await;
        assert!(!matches!(answer, Ok(Ok(_))), "{foreign}: {answer:?}");
    }
    serve(&client, "v1").await;
    let answer = outside.request("svc.cart.v1.add", Bytes::new()).await;
    assert!(answer.is_ok(), "{answer:?}");
    let state = events.state().await.expect("the stream");
    assert_eq!((state.first, state.last), (1, 1));
    // The bus is adopted with them, though they came after its start, and knows them when it is
    // started anew.
    let pid = bus.health().await.pid;
    drop(bus);
    let bus = folder.start().await;
    assert_eq!(bus.health().await.pid, pid);
    connect(&bus.url_of(&cart).expect("ours"))
        .await
        .expect("signed in");
    bus.stop().await;
    let bus = folder.start().await;
    connect(&bus.url_of(&cart).expect("ours"))
        .await
        .expect("signed in");
    // Who is not named any more is out.
    bus.set_users(vec![pay.clone()]).await.expect("taken over");
    assert!(connect(&bus.url_of(&cart).expect("ours")).await.is_err());
    connect(&bus.url_of(&pay).expect("ours"))
        .await
        .expect("signed in");
    let twice = bus.set_users(vec![pay.clone(), pay.clone()]).await;
    assert!(matches!(twice, Err(BusError::User(_))), "{twice:?}");

    let joined = BusOptions {
        joined: Some(bus.url().to_owned()),
        ..folder.options()
    };
    let joined = Bus::start(joined).await.expect("joined");
    let refused = joined.set_users(vec![cart]).await;
    assert!(matches!(refused, Err(BusError::Joined)), "{refused:?}");
    drop(joined);
    bus.stop().await;
}

/// The subjects of what a client hears at `subjects` while `meanwhile` goes on.
async fn overhears(
    client: &Client,
    subjects: &[&str],
    meanwhile: impl Future<Output = ()>,
) -> Vec<String> {
    let mut heard = Vec::new();
    for &subject in subjects {
        let messages = client.subscribe(subject.to_owned()).await;
        heard.push(messages.expect("asked for"));
    }
    let before = round_trip(client).await;
    meanwhile.await;
    let after = round_trip(client).await;
    let mut subjects = Vec::new();
    for messages in &mut heard {
        while let Some(message) = messages.next().now_or_never().flatten() {
            subjects.push(message.subject.to_string());
        }
    }
    subjects.retain(|subject| ![&before, &after].contains(&subject));
    subjects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_read_by_who_asked_alone() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let user = |service: &str| {
        let instance = format!("{service}-v1-1");
        BusUser::instance(service, "v1", &instance, format!("secret-{service}"))
    };
    let users = vec![
        user("cart"),
        user("pay"),
        BusUser::gateway("secret".to_owned()),
    ];
    bus.set_users(users.clone()).await.expect("taken over");
    let mut clients = Vec::new();
    for user in &users {
        let url = bus.url_of(user).expect("ours");
        clients.push(connect(&url).await.expect("signed in"));
    }
    let [cart, pay, gateway] = &clients[..] else {
        panic!("{clients:?}");
    };
    serve(cart, "v1").await;
    let own = connect(bus.url()).await.expect("signed in");
    // As any program has it that knows no more than the address.
    let (user, host) = bus.url().split_once('@').expect("with credentials");
    let (user, password) = user
        .trim_start_matches("nats://")
        .split_once(':')
        .expect("both");
    let raw = async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
    let raw = raw.connect(host).await.expect("signed in");
    let everybody_asks = async || {
        for client in [&own, &raw, pay, gateway] {
            let answer = client.request("svc.cart.v1.add", Bytes::new()).await;
            assert_eq!(answer.expect("an answer").payload, "v1");
        }
    };
    let inboxes = [
        "_INBOX.>",
        "_INBOX.*.>",
        "_INBOX.pay-v1-1.>",
        "_INBOX.gateway.>",
    ];
    let heard = overhears(cart, &inboxes, everybody_asks()).await;
    assert!(heard.is_empty(), "{heard:?}");
    let heard = overhears(gateway, &inboxes[..3], everybody_asks()).await;
    assert!(heard.is_empty(), "{heard:?}");
    // Serin's own credentials hear all of it, as the tools of NATS do.
    let heard = overhears(&raw, &inboxes[..1], everybody_asks()).await;
    assert_eq!(heard.len(), 4, "{heard:?}");
    bus.stop().await;
}
