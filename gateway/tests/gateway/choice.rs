//! Which version and which instance: weights, visitors that stay, arms, and the less busy of two.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use serin_gateway::Sticky;
use serin_wire::{call, route};

use crate::kit::{ALL_V1, Asked, Fixture, says_its_name, service};

const CANARY: [(&str, u32); 2] = [("v2", 2_000), ("v1", 8_000)];

/// Answers with its version and the arm it was called under.
fn says_its_arm(asked: Asked) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let arm = asked.header(call::ARM).unwrap_or_default();
        asked.answer(200, format!("{} {arm}", asked.name)).await;
    })
}

#[tokio::test]
async fn versions_get_their_weights_and_requests_their_arms() {
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, says_its_arm).await;
    let two = fixture.on_bus("cart", "v2", 1, says_its_arm).await;
    fixture
        .tell([service("cart", &CANARY, &[&one, &two])])
        .await;
    let asked = stream::iter(0..2_000).map(|_| fixture.text("/cart"));
    let answers: Vec<_> = asked.buffer_unordered(16).collect().await;
    let mut counts = BTreeMap::<String, u32>::new();
    for (status, text) in answers {
        assert_eq!(status, 200);
        *counts.entry(text).or_default() += 1;
    }
    assert_eq!(counts.values().sum::<u32>(), 2_000);
    assert_eq!(counts.len(), 2, "{counts:?}");
    // 400 are expected, with a deviation of 18; five of them are never passed by chance.
    let canary = counts["cart-v2-1 cart=v2"];
    assert!((310..=490).contains(&canary), "{counts:?}");
    assert_eq!(fixture.gateway.stats().strays_total, 0);
}

#[tokio::test]
async fn a_visitor_stays_on_a_version_by_cookie_or_header() {
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, says_its_name).await;
    let two = fixture.on_bus("cart", "v2", 1, says_its_name).await;
    let mut by_header = service("cart", &CANARY, &[&one, &two]);
    by_header.sticky = Some(Sticky::Header("x-user".into()));
    fixture.tell([by_header.clone()]).await;
    for user in 0..60 {
        let user = format!("user-{user}");
        let sent = fixture
            .http
            .get(fixture.at("/cart"))
            .header("x-user", &user)
            .send();
        let text = sent.await.expect("answered").text().await.expect("text");
        let version = by_header.route.version(route::slot_of("cart", &user));
        let version = version.expect("two versions");
        assert_eq!(text, format!("cart-{version}-1"), "{user}");
    }
    let mut by_cookie = by_header;
    by_cookie.sticky = Some(Sticky::Cookie("seen".into()));
    fixture.tell([by_cookie.clone()]).await;
    let mut versions = BTreeMap::<String, u32>::new();
    for _ in 0..40 {
        let first = fixture.get("/cart").await;
        let cookie = first.headers()["set-cookie"]
            .to_str()
            .expect("text")
            .to_owned();
        assert!(
            cookie.ends_with("; Path=/cart; Max-Age=31536000; HttpOnly; SameSite=Lax"),
            "{cookie}"
        );
        let pair = cookie.split(';').next().expect("a pair").to_owned();
        let key = pair.strip_prefix("seen=").expect("its name");
        let text = first.text().await.expect("text");
        let version = by_cookie
            .route
            .version(route::slot_of("cart", key))
            .expect("a version");
        assert_eq!(
            text,
            format!("cart-{version}-1"),
            "the first request counts already"
        );
        let again = fixture
            .http
            .get(fixture.at("/cart"))
            .header("cookie", &pair)
            .send();
        let again = again.await.expect("answered");
        assert!(!again.headers().contains_key("set-cookie"));
        assert_eq!(again.text().await.expect("text"), text);
        *versions.entry(text).or_default() += 1;
    }
    assert_eq!(versions.len(), 2, "{versions:?}");
}

#[tokio::test]
async fn a_busy_instance_gets_fewer_requests() {
    fn slow(asked: Asked) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let wait = if asked.name.ends_with('1') { 100 } else { 1 };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            asked.answer(200, "").await;
        })
    }
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, slow).await;
    let two = fixture.on_bus("cart", "v1", 2, slow).await;
    fixture
        .tell([service("cart", &ALL_V1, &[&one, &two])])
        .await;
    let asked = stream::iter(0..300).map(|_| fixture.text("/cart"));
    asked.buffer_unordered(8).collect::<Vec<_>>().await;
    assert!(
        one.asked() * 3 < two.asked(),
        "{} {}",
        one.asked(),
        two.asked()
    );
}
