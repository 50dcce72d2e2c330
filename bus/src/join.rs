//! Joins a bus that somebody else runs, or says why it will not do: nobody there, not let in, no
//! JetStream. It waits for the bus's answers, each no longer than a moment. Start at [`join`].

use std::io;

use async_nats::{ConnectErrorKind, RequestErrorKind, ServerAddr};
use bytes::Bytes;
use serde_json::Value;

use crate::connection::{CONNECT_TIMEOUT, Connection, connect};
use crate::error::BusError;

/// Connects to the bus at a URL; one that cannot keep events is no bus for us.
pub(crate) async fn join(url: &str) -> Result<Connection, BusError> {
    let address: ServerAddr = url.parse().map_err(BusError::Address)?;
    if address.host().is_empty() {
        return Err(BusError::Address(io::ErrorKind::InvalidInput.into()));
    }
    let host = format!("{}:{}", address.host(), address.port());
    let connection = connect(url).await.map_err(|source| match source.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            BusError::NotLetIn {
                host: host.clone(),
                who: who(&address),
            }
        }
        _ => BusError::Join {
            host: host.clone(),
            source: source.into(),
        },
    })?;
    match missing_jetstream(&connection).await {
        Some(said) => Err(BusError::NoJetStream { host, said }),
        None => Ok(connection),
    }
}

/// Whom an address signs in.
fn who(address: &ServerAddr) -> String {
    match (address.username(), address.password()) {
        (Some(user), Some(_)) => format!("the user {user:?} with this password"),
        (Some(_), None) => String::from("the bearer of this token"),
        (None, _) => String::from("somebody without user and password"),
    }
}

/// What the bus says instead of telling how its JetStream is.
async fn missing_jetstream(connection: &Connection) -> Option<String> {
    let asked = connection.client.request("$JS.API.INFO", Bytes::new());
    let answer = match tokio::time::timeout(CONNECT_TIMEOUT, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {
            return Some(String::from("nobody answers for it"));
        }
        Ok(Err(error)) => return Some(error.to_string()),
        Err(_) => return Some(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())),
    };
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    let error = answer.get("error")?;
    let said = error["description"].as_str().map(str::to_owned);
    Some(said.unwrap_or_else(|| error.to_string()))
}
