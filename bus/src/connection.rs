//! Our own connection to the bus, and whether JetStream is there behind it.
//!
//! Start at [`connect`].

use std::time::Duration;

use async_nats::Event;
use async_nats::connection::State;
use serin_connect::Connector;
use tokio::sync::watch;

/// A server that does not answer within this is not there.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Our connection, and a count that rises whenever it breaks or stands again.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) client: async_nats::Client,
    pub(crate) changes: watch::Receiver<u64>,
}

/// Connects now, or says why not.
pub(crate) async fn connect(url: &str) -> Result<Connection, async_nats::ConnectError> {
    let (told, changes) = watch::channel(0_u64);
    let connector = Connector::new(url, "serin")?.with(|options| {
        options
            .connection_timeout(CONNECT_TIMEOUT)
            .event_callback(move |event| {
                if matches!(event, Event::Connected | Event::Disconnected) {
                    told.send_modify(|changes| *changes += 1);
                }
                std::future::ready(())
            })
    });
    let client = connector.now().await?;
    Ok(Connection { client, changes })
}

/// Whether JetStream answers within two seconds.
pub(crate) async fn has_jetstream(client: &async_nats::Client) -> bool {
    if client.connection_state() != State::Connected {
        return false;
    }
    let asked = client.request("$JS.API.INFO", bytes::Bytes::new());
    match tokio::time::timeout(CONNECT_TIMEOUT, asked).await {
        Ok(Ok(answer)) => serde_json::from_slice::<serde_json::Value>(&answer.payload)
            .is_ok_and(|answer| answer.get("error").is_none()),
        _ => false,
    }
}
