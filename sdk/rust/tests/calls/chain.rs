//! Chains: merging, deadlines, who may be missing, and all bounds.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use serin_sdk::{ChainError, Failure, HopStatus, Packet, Stage};

use crate::{Fixture, Running};

/// What one of the enhancers reads of a packet's data.
#[derive(Deserialize)]
struct Page {
    sku: Value,
}

/// One service whose endpoints are enhancers of every kind.
async fn enhancers(fixture: &Fixture) -> Running {
    fixture
        .run("shop", "v1", 1, |service| {
            service
                .endpoint("price", |_, packet: Packet| async move {
                    assert_eq!(packet.chain, "page");
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    Ok(json!({"price": {"net": 10}, "by": "price"}))
                })
                .endpoint("stock", |_, packet: Packet<Page>| async move {
                    let sku = packet.data.sku;
                    Ok(json!({"stock": 3, "by": "stock", "of": sku, "price": {"tax": 2}}))
                })
                .endpoint("see", |_, packet: Packet| async move {
                    Ok(json!({"seen": packet.data.len(), "stage": packet.stage}))
                })
                .endpoint("slow", |_, _: Value| async move {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    Ok(json!({"slow": true}))
                })
                .endpoint("fail", |_, _: Value| async move {
                    Err::<Value, _>(Failure::new(422, "out of order"))
                })
                .endpoint("text", |_, _: Value| async move { Ok("no object") })
                .endpoint("large", |_, _: Value| async move {
                    Ok(json!({"large": "x".repeat(200 << 10)}))
                })
                .endpoint("larger", |_, _: Value| async move {
                    Ok(json!({"larger": "x".repeat(200 << 10)}))
                })
                .endpoint("loop", |call, _: Value| async move {
                    let chain = call
                        .serin()
                        .chain("page")
                        .stage(Stage::new().enhance("shop.loop"));
                    let enhanced = chain.run(&json!({})).await?;
                    Ok(Value::Object(enhanced.data))
                })
        })
        .await
}

#[tokio::test]
async fn additions_are_merged_in_the_order_they_are_named() {
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "shop", &[("v1", 10_000)], &[]).await;
    let shop = enhancers(&fixture).await;
    let web = fixture.join("web", "v1", 1);
    // The slower one is named first, and wins all the same.
    let page = web
        .chain("page")
        .stage(Stage::new().enhance("shop.price").enhance("shop.stock"))
        .stage(Stage::new().enhance("shop.see"))
        .run(&json!({"sku": "finch"}))
        .await
        .expect("enhanced");
    assert_eq!(
        Value::Object(page.data),
        json!({
            "sku": "finch", "of": "finch", "by": "price", "stock": 3,
            "price": {"net": 10, "tax": 2}, "seen": 5, "stage": 2,
        })
    );
    let [price, stock, see] = &page.hops[..] else {
        panic!("{:?}", page.hops)
    };
    assert_eq!(stock.conflicts, ["by"]);
    assert_eq!(
        (see.stage, &*see.enhancer, see.status),
        (2, "shop.see", HopStatus::Ok)
    );
    assert!(price.handler_us >= 30_000, "{price:?}");
    assert_eq!(
        price.total_us,
        price.queue_us + price.handler_us + price.network_us
    );
    telling.abort();
    shop.stop().await;
}

#[tokio::test]
async fn optional_ones_may_be_late_absent_or_failed() {
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "shop", &[("v1", 10_000)], &[]).await;
    let shop = enhancers(&fixture).await;
    let web = fixture.caller("web").await;
    let stage = Stage::new()
        .optional("shop.slow")
        .optional("nobody.here")
        .optional("shop.fail")
        .optional("shop.text")
        .enhance("shop.stock")
        .within(Duration::from_secs(1));
    let page = web
        .chain("page")
        .stage(stage)
        .run(&json!({"sku": 1}))
        .await
        .expect("enhanced");
    let states: Vec<_> = page.hops.iter().map(|hop| hop.status).collect();
    use HopStatus::{Absent, Failed, Late, Ok};
    assert_eq!(states, [Late, Absent, Failed, Failed, Ok]);
    assert_eq!(
        page.hops[2].error.as_deref(),
        Some("shop.fail answered 422: out of order")
    );
    assert_eq!(page.data["stock"], 3);
    telling.abort();
    shop.stop().await;
}

#[tokio::test]
async fn a_required_one_fails_the_chain_by_name() {
    let fixture = Fixture::new().await;
    let telling = fixture.tell_routes(1, "shop", &[("v1", 10_000)], &[]).await;
    let shop = enhancers(&fixture).await;
    let web = fixture.join("web", "v1", 1);
    let stage = Stage::new().enhance("shop.stock").enhance("shop.fail");
    let failed = web
        .chain("page")
        .stage(stage)
        .run(&json!({"sku": 1}))
        .await
        .expect_err("failed");
    assert_eq!(
        failed.to_string(),
        r#"chain "page" needs shop.fail in stage 1: shop.fail answered 422: out of order"#
    );
    assert_eq!(failed.code(), 422);
    let ChainError::Required { hops, .. } = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(hops.len(), 2);
    // A chain that enhances itself comes to its end, at the bound of what may enclose each other.
    let stage = Stage::new().enhance("shop.loop");
    let looped = web
        .chain("page")
        .stage(stage)
        .run(&json!({}))
        .await
        .expect_err("failed");
    assert!(
        looped.to_string().contains("is enclosed by 4 others"),
        "{looped}"
    );
    // Each alone fits, both together do not: the one named second is left out.
    let stage = Stage::new().optional("shop.large").optional("shop.larger");
    let large = web
        .chain("page")
        .stage(stage)
        .run(&json!({}))
        .await
        .expect("enhanced");
    assert_eq!(large.hops[1].status, HopStatus::Failed);
    assert!(
        large.hops[1]
            .error
            .as_deref()
            .expect("why")
            .contains("the most is 262144")
    );
    assert!(large.data.contains_key("large") && !large.data.contains_key("larger"));
    telling.abort();
    shop.stop().await;
}

#[tokio::test]
async fn bounds_are_checked_before_anyone_is_asked() {
    let fixture = Fixture::new().await;
    let web = fixture.join("web", "v1", 1);
    let run = async |stages: usize, enhancers: usize, name: &str, data: Value| {
        let stage = (0..enhancers).fold(Stage::new(), |stage, _| stage.enhance(name));
        let chain = (0..stages).fold(web.chain("page"), |chain, _| chain.stage(stage.clone()));
        chain.run(&data).await.expect_err("refused").to_string()
    };
    let object = json!({});
    for (told, text) in [
        (
            run(5, 1, "a.b", object.clone()).await,
            "has 5 stages, must have 1 to 4",
        ),
        (
            run(1, 17, "a.b", object.clone()).await,
            "has 17 enhancers, must have 1 to 16",
        ),
        (run(1, 0, "a.b", object.clone()).await, "has 0 enhancers"),
        (
            run(1, 1, "a", object.clone()).await,
            "must be <service>.<endpoint>",
        ),
        (run(1, 1, "a.b", json!([])).await, "must be a JSON object"),
        (
            run(1, 1, "a.b", json!({"x": "y".repeat(256 << 10)})).await,
            "the most is 262144",
        ),
    ] {
        assert!(told.contains(text), "{told}");
    }
}
