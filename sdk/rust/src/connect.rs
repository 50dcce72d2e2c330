//! Connections to the bus: made in the background, found again for ever.
//!
//! A service has up to three, so that none starves another: events, beats, and, from its first call
//! on, calls. Each tells what becomes of it to whoever made it.

use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectOptions, Event, ServerAddr};

use crate::options::Options;

/// A connection that is silent is asked after this, and given up after two more.
const PING_EVERY: Duration = Duration::from_secs(5);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const RECONNECT_EVERY_MAX: Duration = Duration::from_millis(500);

/// A client that connects in the background; `on_event` is told when it comes and goes.
pub(crate) async fn connect(
    options: &Options,
    on_event: impl Fn(Event) + Send + Sync + 'static,
) -> Result<Client, ConnectError> {
    let wanted = ConnectOptions::new()
        .name(&options.instance)
        .retry_on_initial_connect()
        .connection_timeout(CONNECT_WITHIN)
        .ping_interval(PING_EVERY)
        .request_timeout(None)
        .reconnect_delay_callback(|attempts| {
            let doubled = Duration::from_millis(10) * 2_u32.saturating_pow(attempts.min(8) as u32);
            doubled.min(RECONNECT_EVERY_MAX)
        })
        .event_callback(move |event| {
            on_event(event);
            std::future::ready(())
        });
    let address: ServerAddr = options.bus.parse()?;
    // async-nats does not take credentials from the address by itself.
    let wanted = match (address.username(), address.password()) {
        (Some(user), Some(password)) => wanted.user_and_password(user.into(), password.into()),
        (Some(token), None) => wanted.token(token.into()),
        _ => wanted,
    };
    wanted.connect(address).await
}
