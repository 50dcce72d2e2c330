//! What the bus has against us: wrong credentials, missing rights. Told once, and kept for the counts.
//!
//! Without it a service with a wrong password would look like one whose bus is away, for ever. A bus
//! that reads its configuration anew turns away who is just saying who it is, and takes it a moment
//! later: that is kept for the counts and not told.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Event;

/// More different complaints are not told: a service has some subjects, and all may be forbidden.
const TOLD_MAX: usize = 16;
/// How NATS's words for them begin.
const PERMISSIONS: &str = "permissions violation";
const TURNED_AWAY: [&str; 3] = [
    "authorization violation",
    "failed signing nonce",
    "user authentication",
];
/// Who is turned away for longer is not so because the configuration is being read.
const READS_WITHIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The last one, until the bus takes us.
    now: Option<String>,
    /// Since when it turns us away.
    since: Option<Instant>,
    told: BTreeSet<String>,
}

impl Trouble {
    /// Takes what a connection says of itself; `host` is where the bus is, without credentials.
    pub(crate) fn hear(&self, event: &Event, host: &str, now: Instant) {
        let words = match event {
            Event::Connected => {
                let mut heard = self.lock();
                (heard.now, heard.since) = (None, None);
                return;
            }
            Event::ServerError(error) => error.to_string(),
            Event::ClientError(error) => error.to_string(),
            _ => return,
        };
        let words = words.trim_start_matches("nats: ").to_owned();
        if self.is_news(&words, now) {
            tell(&words, host);
        }
    }

    /// What is wrong now.
    pub(crate) fn now(&self) -> Option<String> {
        self.lock().now.clone()
    }

    /// Keeps what may be a refusal; whether it is to be told.
    fn is_news(&self, words: &str, now: Instant) -> bool {
        let lower = words.to_lowercase();
        let is_turned_away = TURNED_AWAY.iter().any(|begin| lower.starts_with(begin));
        if !is_turned_away && !lower.starts_with(PERMISSIONS) {
            return false;
        }
        let mut heard = self.lock();
        heard.now = Some(words.to_owned());
        if is_turned_away {
            let since = *heard.since.get_or_insert(now);
            if now.duration_since(since) < READS_WITHIN {
                return false;
            }
        }
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
    use crate::clock;

    #[test]
    fn a_refusal_is_kept_until_the_bus_takes_us() {
        let (trouble, now) = (Trouble::default(), clock::monotonic());
        let away = Event::ClientError(ClientError::Other("IO error".into()));
        trouble.hear(&away, "here", now);
        assert_eq!(trouble.now(), None);
        let refusal = Event::ServerError(ServerError::AuthorizationViolation);
        trouble.hear(&refusal, "here", now);
        assert_eq!(trouble.now().as_deref(), Some("authorization violation"));
        trouble.hear(&Event::Connected, "here", now);
        assert_eq!(trouble.now(), None);
    }

    #[test]
    fn it_is_told_once_and_not_while_the_bus_reads_its_configuration() {
        let (trouble, start) = (Trouble::default(), clock::monotonic());
        let is_told = |words: &str, ms| trouble.is_news(words, start + Duration::from_millis(ms));
        let turned_away = "authorization violation";
        assert!(!is_told(turned_away, 0));
        assert!(!is_told(turned_away, 900));
        trouble.hear(&Event::Connected, "here", start);
        assert!(!is_told(turned_away, 5_000));
        assert!(is_told(turned_away, 6_000));
        assert!(!is_told(turned_away, 7_000));
        assert!(is_told("Permissions Violation for Publish to \"a\"", 7_000));
        assert!(!is_told(
            "Permissions Violation for Publish to \"a\"",
            7_001
        ));
        assert!(!is_told("slow consumer", 9_000));
    }
}
