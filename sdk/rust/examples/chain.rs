//! A product page in ten lines: two stages of enhancers, one of them optional.
//!
//! Run it against a running Serin: `SERIN_BUS=nats://… SERIN_SERVICE=front cargo run --example chain`.

use std::time::Duration;

use serin_sdk::{Serin, Stage};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let serin = Serin::from_env()?;
    let within = Duration::from_millis(200);
    let page = serin
        .chain("product-page")
        .stage(Stage::new().enhance("catalogue.item").within(within));
    let both = Stage::new().enhance("price.quote").enhance("stock.level");
    let done = page
        .stage(both.optional("reviews.top").within(within))
        .run(&serde_json::json!({"sku": "a"}))
        .await?;
    serin.emit("page.made", &done.data);
    Ok(())
}
