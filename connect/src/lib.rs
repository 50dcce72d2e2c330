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
        let options = match (address.username(), address.password()) {
            (Some(user), Some(password)) => options
                .custom_inbox_prefix(subject::inbox(user))
                .user_and_password(user.into(), password.into()),
            (Some(token), None) => options.token(token.into()),
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

fn is_refusal(error: &ConnectError) -> bool {
    use ConnectErrorKind::{Authentication, AuthorizationViolation};
    matches!(error.kind(), Authentication | AuthorizationViolation)
}
