//! Endpoints with typed bodies, a call of another service, a typed event, a gauge and an error of its own.
//!
//! Run it against a running Serin: `SERIN_BUS=nats://… SERIN_SERVICE=cart cargo run --example cart`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use serin_sdk::{Endpoint, Event, Failure, Serin};

#[derive(serde::Deserialize)]
struct Item {
    sku: String,
    count: u32,
}

#[derive(serde::Serialize, Event)]
#[event("cart.add")]
struct CartAdd<'a> {
    sku: &'a str,
    count: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let serin = Serin::from_env()?;
    let counts = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
    let (adding, showing, gauged) = (Arc::clone(&counts), Arc::clone(&counts), counts);
    serin.gauge("cart.items", move || held(&gauged).len() as f64);
    let service = serin.service().endpoint("add", move |call, item: Item| {
        let counts = Arc::clone(&adding);
        async move {
            let asked = json!({"sku": item.sku});
            let price: Value = call.serin().call("price", "quote", &asked).await?;
            let count = {
                let mut counts = held(&counts);
                let count = counts.entry(item.sku.clone()).or_default();
                *count += item.count;
                *count
            };
            call.serin().emit_event(&CartAdd {
                sku: &item.sku,
                count: item.count,
            });
            Ok(json!({"count": count, "price": price}))
        }
    });
    let show = Endpoint::new("show").idempotent();
    let service = service.endpoint(show, move |_, sku: String| {
        let count = held(&showing).get(&sku).copied();
        async move { count.ok_or_else(|| Failure::new(404, format!("no {sku} in the cart"))) }
    });
    service.run().await?;
    Ok(())
}

/// Whoever panicked with it left it whole.
fn held(counts: &Mutex<BTreeMap<String, u32>>) -> std::sync::MutexGuard<'_, BTreeMap<String, u32>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
