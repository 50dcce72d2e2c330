//! What the bus has against us: wrong credentials, missing rights. Told once, and kept for the counts.
//!
//! Without it a service with a wrong password would look like one whose bus is away, for ever.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use async_nats::Event;

/// More different complaints are not told: a service has some subjects, and all may be forbidden.
const TOLD_MAX: usize = 16;
/// How NATS's words for them begin.
const REFUSALS: [&str; 4] = [
    "authorization violation",
    "permissions violation",
    "failed signing nonce",
    "user authentication",
];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The last one, until the bus takes us.
    now: Option<String>,
    told: BTreeSet<String>,
}

impl Trouble {
    /// Takes what a connection says of itself; `host` is where the bus is, without credentials.
    pub(crate) fn hear(&self, event: &Event, host: &str) {
        let words = match event {
            Event::Connected => {
                self.lock().now = None;
                return;
            }
            Event::ServerError(error) => error.to_string(),
            Event::ClientError(error) => error.to_string(),
            _ => return,
        };
        let words = words.trim_start_matches("nats: ").to_owned();
        let lower = words.to_lowercase();
        if REFUSALS.iter().any(|refusal| lower.starts_with(refusal)) && self.is_news(&words) {
            tell(&words, host);
        }
    }

    /// What is wrong now.
    pub(crate) fn now(&self) -> Option<String> {
        self.lock().now.clone()
    }

    fn is_news(&self, words: &str) -> bool {
        let mut heard = self.lock();
        heard.now = Some(words.to_owned());
        heard.told.len() < TOLD_MAX && heard.told.insert(words.to_owned())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells by `tracing`, or where nobody listens there, on stderr: this one must be seen.
#[expect(
    clippy::print_stderr,
    reason = "a program without a subscriber has no other place where it would be seen"
)]
fn tell(words: &str, host: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!(
            host,
            words,
            "the bus refuses us; check SERIN_BUS; events wait"
        );
    } else {
        eprintln!("serin: the bus at {host} refuses us: {words}; check SERIN_BUS; events wait");
    }
}

#[cfg(test)]
mod tests {
    use async_nats::{ClientError, ServerError};

    use super::*;

    #[test]
    fn a_refusal_is_kept_until_the_bus_takes_us() {
        let trouble = Trouble::default();
        let away = Event::ClientError(ClientError::Other("IO error".into()));
        trouble.hear(&away, "here");
        assert_eq!(trouble.now(), None);
        trouble.hear(
            &Event::ServerError(ServerError::AuthorizationViolation),
            "here",
        );
        assert_eq!(trouble.now().as_deref(), Some("authorization violation"));
        assert!(!trouble.is_news("authorization violation"));
        assert!(trouble.is_news("Permissions Violation for Publish to \"a\""));
        trouble.hear(&Event::Connected, "here");
        assert_eq!(trouble.now(), None);
    }
}
