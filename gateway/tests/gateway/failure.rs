//! Instances that are gone, hang, refuse or come back: who is asked instead, and what never is twice.

use std::time::Duration;

use futures::future::BoxFuture;
use serin_gateway::{Service, Standing};
use serin_wire::call;
use tokio::time::Instant;

use crate::kit::{ALL_V1, Asked, Fixture, One, says_its_name, service, until, until_gone};

fn never(_: Asked) -> BoxFuture<'static, ()> {
    Box::pin(std::future::ready(()))
}

fn busy(asked: Asked) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let headers = [
            (call::NOT_RUN, "1"),
            (call::ERROR, "enough to do"),
            (call::ERROR_CODE, "503"),
        ];
        asked.send(&headers, "").await;
    })
}

async fn post(fixture: &Fixture, path: &str) -> (u16, String) {
    let sent = fixture.http.post(fixture.at(path)).body("x").send();
    let response = sent.await.expect("answered");
    (
        response.status().as_u16(),
        response.text().await.expect("text"),
    )
}

#[tokio::test]
async fn what_did_not_run_is_sent_to_another_whatever_the_method() {
    let fixture = Fixture::new().await;
    let mut gone = fixture.on_bus("cart", "v1", 1, says_its_name).await;
    let busy = fixture.on_bus("cart", "v1", 2, busy).await;
    let good = fixture.on_bus("cart", "v1", 3, says_its_name).await;
    gone.kill();
    until_gone(&fixture, &gone).await;
    fixture
        .tell([service("cart", &ALL_V1, &[&gone, &busy, &good])])
        .await;
    for _ in 0..50 {
        assert_eq!(post(&fixture, "/cart").await, (200, "cart-v1-3".to_owned()));
    }
    let stats = fixture.gateway.stats();
    // Of the one that is gone the late pulse may have told before.
    assert!(stats.retries_total >= 1, "{stats:?}");
    assert!(
        stats.retries_total < 50,
        "one that is gone is passed over: {stats:?}"
    );
    assert_eq!(good.asked(), 50);
}

#[tokio::test]
async fn what_may_have_run_is_sent_again_only_where_that_does_no_harm() {
    let fixture = Fixture::new().await;
    let mut silent = fixture.on_bus("cart", "v1", 1, never).await;
    let good = fixture.on_bus("cart", "v1", 2, says_its_name).await;
    let mut cart = service("cart", &ALL_V1, &[&silent, &good]);
    cart.timeout = Duration::from_millis(400);
    cart.idempotent = vec!["/search".into()];
    fixture.tell([cart.clone()]).await;
    // A silent one is passed over after its failure; so ask until it is asked, and count answers.
    let mut late = 0;
    until("the silent one is asked by POST", async || {
        let (status, text) = post(&fixture, "/cart").await;
        if status == 504 {
            assert!(text.contains("did not answer within 0.4 s"), "{text}");
            late += 1;
        } else {
            assert_eq!(status, 200);
        }
        late >= 2
    })
    .await;
    assert_eq!(silent.asked(), late, "no POST was sent twice");
    let before = silent.asked();
    until("the silent one is asked by GET", async || {
        assert_eq!(fixture.text("/cart").await, (200, "cart-v1-2".to_owned()));
        silent.asked() > before
    })
    .await;
    let before = silent.asked();
    until("the silent one is asked by a declared POST", async || {
        assert_eq!(post(&fixture, "/cart/search").await.0, 200);
        silent.asked() > before
    })
    .await;
    silent.kill();
}

/// Two instances that were asked, the first of which hangs now.
async fn two_of_which_one_hangs() -> (Fixture, One, One) {
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, says_its_name).await;
    let two = fixture.on_bus("cart", "v1", 2, says_its_name).await;
    fixture
        .tell([service("cart", &ALL_V1, &[&one, &two])])
        .await;
    until("both are asked", async || {
        fixture.text("/cart").await;
        one.asked() > 0 && two.asked() > 0
    })
    .await;
    one.hang(true);
    (fixture, one, two)
}

#[tokio::test]
async fn a_late_pulse_stops_requests_at_once_and_a_new_one_lets_them_in_again() {
    let (fixture, one, _two) = two_of_which_one_hangs().await;
    until("its pulse is late", async || {
        fixture.gateway.stats().instances_down == 1
    })
    .await;
    let before = one.asked();
    for _ in 0..50 {
        assert_eq!(post(&fixture, "/cart").await, (200, "cart-v1-2".to_owned()));
    }
    assert_eq!(one.asked(), before, "not one request found out");
    one.hang(false);
    until("it is asked again", async || {
        assert_eq!(fixture.text("/cart").await.0, 200);
        one.asked() > before
    })
    .await;
}

#[tokio::test]
async fn a_request_at_an_instance_that_hangs_moves_on_when_its_pulse_is_late() {
    let (fixture, one, _two) = two_of_which_one_hangs().await;
    let before = one.asked();
    let start = Instant::now();
    while one.asked() == before {
        assert_eq!(fixture.text("/cart").await, (200, "cart-v1-2".to_owned()));
    }
    // Its timeout is 30 s.
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn one_that_was_gone_is_asked_again_when_it_is_back() {
    let fixture = Fixture::new().await;
    let mut one = fixture.on_bus("cart", "v1", 1, says_its_name).await;
    let two = fixture.on_bus("cart", "v1", 2, says_its_name).await;
    one.kill();
    until_gone(&fixture, &one).await;
    fixture
        .tell([service("cart", &ALL_V1, &[&one, &two])])
        .await;
    until("it is passed over", async || {
        assert_eq!(fixture.text("/cart").await.0, 200);
        fixture.gateway.stats().instances_down == 1
    })
    .await;
    let again = fixture.on_bus("cart", "v1", 1, says_its_name).await;
    until("it is found", async || {
        fixture.gateway.stats().instances_down == 0
    })
    .await;
    until("it is asked again", async || {
        assert_eq!(fixture.text("/cart").await.0, 200);
        again.asked() > 0
    })
    .await;
}

#[tokio::test]
async fn a_version_without_instances_is_stood_in_for() {
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, says_its_name).await;
    let weights = [("v2", 5_000), ("v1", 5_000)];
    fixture.tell([service("cart", &weights, &[&one])]).await;
    for _ in 0..20 {
        assert_eq!(fixture.text("/cart").await, (200, "cart-v1-1".to_owned()));
    }
    assert!(fixture.gateway.stats().strays_total > 0);
}

/// The service `cart` with these instances, after those ended.
fn cart_after(ended: &[&One], instances: &[&One]) -> Service {
    let mut cart = service("cart", &ALL_V1, instances);
    cart.ended = ended.iter().map(|one| one.instance.clone()).collect();
    cart
}

#[tokio::test]
async fn a_request_at_an_instance_that_has_ended_is_given_up_at_once() {
    let fixture = Fixture::new().await;
    let mut one = fixture.on_bus("cart", "v1", 1, never).await;
    fixture.tell([cart_after(&[], &[&one])]).await;
    let ((status, text), killed) = tokio::join!(post(&fixture, "/cart"), async {
        until("it has the request", async || one.asked() == 1).await;
        one.kill();
        fixture.tell([cart_after(&[&one], &[])]).await;
        Instant::now()
    });
    // Whether its pulse is late is looked at for five.
    assert!(killed.elapsed() < Duration::from_secs(4));
    assert_eq!(status, 502, "{text}");
    assert!(text.contains("so it was not sent again"), "{text}");
}

#[tokio::test]
async fn a_request_that_met_two_ends_says_so() {
    let fixture = Fixture::new().await;
    let mut one = fixture.on_bus("cart", "v1", 1, never).await;
    let mut two = fixture.on_bus("cart", "v1", 2, never).await;
    let good = fixture.on_bus("cart", "v1", 3, says_its_name).await;
    fixture.tell([cart_after(&[], &[&one])]).await;
    let ((status, text), ()) = tokio::join!(fixture.text("/cart"), async {
        until("the first has the request", async || one.asked() == 1).await;
        one.kill();
        fixture.tell([cart_after(&[&one], &[&two])]).await;
        until("the second has it", async || two.asked() == 1).await;
        two.kill();
        fixture.tell([cart_after(&[&one, &two], &[&good])]).await;
    });
    assert_eq!(status, 502, "{text}");
    assert!(text.contains("cart-v1-2"), "{text}");
    assert!(text.contains("sent to another one before"), "{text}");
    assert_eq!(good.asked(), 0);
    assert_eq!(fixture.text("/cart").await, (200, "cart-v1-3".to_owned()));
}

#[tokio::test]
async fn nobody_waits_for_a_service_that_is_stopped_or_has_failed() {
    let fixture = Fixture::with(|options| options.patience = Duration::from_secs(600)).await;
    let of = |name: &str, standing| {
        let mut service = service(name, &[], &[]);
        service.standing = standing;
        service
    };
    let services = [of("cart", Standing::Stopped), of("pay", Standing::Failed)];
    fixture.tell(services).await;
    for (path, why) in [
        ("/cart", "is stopped; `serin deploy cart` starts it"),
        ("/pay", "`serin logs pay` shows why"),
    ] {
        let response = fixture.get(path).await;
        assert_eq!(response.status(), 503);
        assert!(!response.headers().contains_key("retry-after"), "{path}");
        let text = response.text().await.expect("text");
        assert!(text.contains(why), "{path}: {text}");
    }
}

#[tokio::test]
async fn without_an_instance_the_page_says_why_and_when_to_come_again() {
    let fixture = Fixture::with(|options| options.patience = Duration::from_millis(100)).await;
    let mut gone = fixture.on_bus("cart", "v1", 1, says_its_name).await;
    let busy = fixture.on_bus("pay", "v1", 1, busy).await;
    gone.kill();
    until_gone(&fixture, &gone).await;
    let none = service("mail", &ALL_V1, &[]);
    let services = [
        service("cart", &ALL_V1, &[&gone]),
        service("pay", &ALL_V1, &[&busy]),
        none,
    ];
    fixture.tell(services).await;
    for (path, why) in [
        ("/cart", "those that run do not answer"),
        ("/pay", "those that run have as many requests as they take"),
        ("/mail", "none is running"),
    ] {
        let response = fixture.get(path).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "1");
        let text = response.text().await.expect("text");
        assert!(
            text.contains(why) && text.contains("SER-GATE-002"),
            "{path}: {text}"
        );
    }
}

#[tokio::test]
async fn a_request_waits_for_the_only_instance_to_be_replaced() {
    let fixture = Fixture::with(|options| options.patience = Duration::from_secs(20)).await;
    let mut first = fixture.on_bus("cart", "v1", 1, says_its_name).await;
    fixture.tell([service("cart", &ALL_V1, &[&first])]).await;
    first.kill();
    until_gone(&fixture, &first).await;
    let (answer, _second) = tokio::join!(post(&fixture, "/cart"), async {
        until("the request waits", async || {
            fixture.gateway.stats().waits_total > 0
        })
        .await;
        let second = fixture.on_bus("cart", "v1", 2, says_its_name).await;
        fixture.tell([service("cart", &ALL_V1, &[&second])]).await;
        second
    });
    assert_eq!(answer, (200, "cart-v1-2".to_owned()));
}
