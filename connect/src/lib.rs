//! Connections to the bus: who we are there, where answers come to, how we find it again.
//!
//! Credentials stand in the address, which async-nats does not read by itself; the inbox is the one
//! that the bus lets this user read. A nats-server that reads its configuration anew turns away who
//! is just saying who it is, so a refusal counts only when it is told again and again. Nothing here
//! may know what is sent. Start at [`Connector::new`]; [`ack`] reads what JetStream answers.

pub mod ack;

use std::io;
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;
use serin_wire::subject;

/// The pause before a broken connection is tried again doubles from the first to the last.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];
/// How often the bus must refuse us before it counts, and the pause before we ask again.
const REFUSED_MAX: u32 = 20;
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// A connection before it is made.
#[derive(Debug)]
pub struct Connector {
    address: ServerAddr,
    options: ConnectOptions,
}

impl Connector {
    /// To `nats://user:password@host:port`, under a name that the bus's monitoring shows.
    pub fn new(url: &str, name: &str) -> io::Result<Connector> {
        let address: ServerAddr = url.parse()?;
        let options = ConnectOptions::new()
            .name(name)
            .reconnect_delay_callback(|attempts| {
                let doubled = AGAIN_AFTER[0] * 2_u32.saturating_pow(attempts.min(8) as u32);
                doubled.min(AGAIN_AFTER[1])
            });
        let user = address.username().map(decoded).transpose()?;
        let password = address.password().map(decoded).transpose()?;
        let options = match (user, password) {
            (Some(user), Some(password)) => options
                .custom_inbox_prefix(subject::inbox(&user))
                .user_and_password(user, password),
            (Some(token), None) => options.token(token),
            _ => options,
        };
        Ok(Connector { address, options })
    }

    /// Changes what else a connection may want.
    pub fn with(self, change: impl FnOnce(ConnectOptions) -> ConnectOptions) -> Connector {
        Connector {
            options: change(self.options),
            ..self
        }
    }

    /// Connects now, or says why not.
    pub async fn now(self) -> Result<Client, ConnectError> {
        for _ in 1..REFUSED_MAX {
            match self.options.clone().connect(&self.address).await {
                Err(error) if is_refusal(&error) => tokio::time::sleep(REFUSED_PAUSE).await,
                other => return other,
            }
        }
        self.options.connect(&self.address).await
    }

    /// Connects in the background, for as long as it takes, whatever the bus says.
    pub async fn in_background(self) -> Result<Client, ConnectError> {
        let options = self.options.retry_on_initial_connect();
        options.connect(&self.address).await
    }
}

/// A credential as the bus knows it: an address has some of its characters by their numbers, also
/// where it was written without them.
fn decoded(encoded: &str) -> io::Result<String> {
    let decoded = percent_decode_str(encoded).decode_utf8();
    let decoded = decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Ok(decoded.into_owned())
}

fn is_refusal(error: &ConnectError) -> bool {
    use ConnectErrorKind::{Authentication, AuthorizationViolation};
    matches!(error.kind(), Authentication | AuthorizationViolation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_what_was_meant_however_the_address_has_them() {
        for (bus, user, password) in [
            ("nats://cart:p%40ss@host", "cart", Some("p@ss")),
            ("nats://a%2Fb:x%25y@host", "a/b", Some("x%y")),
            ("nats://cart:a=b;c^d|e@host", "cart", Some("a=b;c^d|e")),
            ("nats://c2VjcmV0==@host", "c2VjcmV0==", None),
            ("nats://100%:50%@host", "100%", Some("50%")),
        ] {
            let connector = Connector::new(bus, "test").expect("an address");
            let address = connector.address;
            let read = |part: Option<&str>| part.map(|part| decoded(part).expect("text"));
            assert_eq!(read(address.username()).as_deref(), Some(user), "{bus}");
            assert_eq!(read(address.password()).as_deref(), password, "{bus}");
        }
        assert!(Connector::new("nats://cart:%ff@host", "test").is_err());
    }

    #[test]
    fn the_inbox_is_the_users_own_however_the_address_has_its_name() {
        let connector = Connector::new("nats://cart%2Dv1%2D1:x@host", "test");
        let shown = format!("{:?}", connector.expect("an address").options);
        assert!(shown.contains(r#""_INBOX.cart-v1-1""#), "{shown}");
    }
}
