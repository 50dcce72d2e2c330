//! The bus as a foreign program reaches it.

use std::time::Duration;

use anyhow::Result;
use async_nats::{Client, ConnectOptions, ServerAddr};

const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A client that finds the bus again after a crash. async-nats does not take credentials from the
/// address by itself, and would try without them for ever.
pub async fn connect(url: &str) -> Result<Client> {
    let address: ServerAddr = url.parse()?;
    let options = ConnectOptions::new()
        .retry_on_initial_connect()
        .reconnect_delay_callback(|_| AGAIN_AFTER);
    let options = match (address.username(), address.password()) {
        (Some(user), Some(password)) => options.user_and_password(user.into(), password.into()),
        _ => options,
    };
    Ok(options.connect(address).await?)
}
