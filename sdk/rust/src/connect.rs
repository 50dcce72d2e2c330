//! Connections to the bus: made in the background, found again for ever.
//!
//! A service has up to three, so that none starves another: events, beats, and, from its first call
//! on, calls. Each tells what becomes of it to whoever made it.

use std::time::Duration;

use async_nats::{Client, ConnectError, Event};
use serin_connect::Connector;

use crate::options::Options;

/// A connection that is silent is asked after this, and given up after two more.
const PING_EVERY: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// A client that connects in the background; `on_event` is told when it comes and goes.
pub(crate) async fn connect(
    options: &Options,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, ConnectError> {
    let connector = Connector::new(&options.bus, &options.instance)?;
    let connector = connector.with(|options| {
        options
            .connection_timeout(CONNECT_WITHIN)
            .ping_interval(PING_EVERY)
            .request_timeout(None)
            .event_callback(move |event| {
                on_event(event);
                std::future::ready(())
            })
    });
    connector.in_background().await
}
