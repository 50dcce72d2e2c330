//! The micro protocol, as a raw NATS client sees it.

use serde_json::{Value, json};
use serin_sdk::{Endpoint, Failure};

use crate::Fixture;

#[tokio::test]
async fn every_depth_is_answered_to_the_letter() {
    let fixture = Fixture::new().await;
    let cart = fixture.run("cart", "v1", 1, |service| {
        let add = Endpoint::new("add")
            .idempotent()
            .description("adds an item");
        service
            .description("what people want to buy")
            .endpoint(add, |_, item: u32| async move {
                if item == 0 {
                    return Err(Failure::new(404, "no such item"));
                }
                Ok(item)
            })
    });
    let cart = cart.await;
    let client = fixture.client();
    let ask = async |subject: &str| -> Value {
        let answer = client
            .request(subject.to_owned(), "".into())
            .await
            .expect("answered");
        serde_json::from_slice(&answer.payload).expect("JSON")
    };
    let ok = client
        .request("svc.cart.v1.add", "3".into())
        .await
        .expect("answered");
    assert_eq!(&ok.payload[..], b"3");
    // The instance's own subject, alone.
    let failed = client
        .request("svc.cart.v1.add.cart-v1-1", "0".into())
        .await
        .expect("answered");
    let headers = failed.headers.expect("headers");
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    assert_eq!(
        header("Nats-Service-Error").as_deref(),
        Some("no such item")
    );
    assert_eq!(header("Nats-Service-Error-Code").as_deref(), Some("404"));

    let standard = json!({
        "name": "cart",
        "id": "cart-v1-1",
        "version": "0.0.0+v1",
        "metadata": {"sdk": "serin-rust", "serin-version": "v1"},
    });
    let with = |kind: &str, more: Value| {
        let mut all = standard.clone();
        all["type"] = format!("io.nats.micro.v1.{kind}_response").into();
        for (name, value) in more.as_object().expect("an object") {
            all[name] = value.clone();
        }
        all
    };
    let info = with(
        "info",
        json!({
            "description": "what people want to buy",
            "endpoints": [{
                "name": "add",
                "subject": "svc.cart.v1.add",
                "queue_group": "v1",
                "metadata": {"description": "adds an item", "idempotent": "true"},
            }],
        }),
    );
    for depth in ["", ".cart", ".cart.cart-v1-1"] {
        assert_eq!(
            ask(&format!("$SRV.PING{depth}")).await,
            with("ping", json!({}))
        );
        assert_eq!(ask(&format!("$SRV.INFO{depth}")).await, info);
        let mut stats = ask(&format!("$SRV.STATS{depth}")).await;
        let endpoint = stats["endpoints"][0].as_object_mut().expect("an endpoint");
        let took = endpoint
            .remove("processing_time")
            .expect("a time")
            .as_u64()
            .expect("ns");
        let average = endpoint.remove("average_processing_time").expect("a time");
        assert_eq!(average.as_u64(), Some(took / 2));
        assert_eq!(
            stats["endpoints"],
            json!([{
                "name": "add",
                "subject": "svc.cart.v1.add",
                "queue_group": "v1",
                "num_requests": 2,
                "num_errors": 1,
                "last_error": "404:no such item",
            }])
        );
        let started = stats["started"].as_str().expect("a time");
        assert!(
            serin_wire::time::parse_rfc3339(started).is_some(),
            "{started}"
        );
        assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    }
    cart.stop().await;
    let gone = client.request("$SRV.PING.cart", "".into()).await;
    assert!(gone.is_err(), "{gone:?}");
}
