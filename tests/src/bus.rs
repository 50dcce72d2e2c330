//! The bus as a foreign program reaches it.

use std::time::Duration;

use anyhow::Result;
use async_nats::Client;
use serin_connect::Connector;

const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A client that finds the bus again soon after a crash.
pub async fn connect(url: &str) -> Result<Client> {
    let connector = Connector::new(url, "test")?;
    let connector = connector.with(|options| options.reconnect_delay_callback(|_| AGAIN_AFTER));
    Ok(connector.in_background().await?)
}
