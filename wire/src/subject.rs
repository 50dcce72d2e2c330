//! The subjects on the bus, made and read in one place.
//!
//! `ev.` carries events and is stored on disk; `tel.` carries beats, logs, spans, requests and
//! metrics and is stored in memory; `svc.` carries calls; `ctl.` carries routes. The tail of an
//! event's subject is its type.

/// What the stream of events captures.
pub const EVENTS: &str = "ev.>";
/// What the memory stream of telemetry captures.
pub const TELEMETRY: [&str; 5] = [
    "tel.beat.>",
    "tel.log.>",
    "tel.span.>",
    "tel.req.>",
    "tel.metric.>",
];
/// The last token of a subject that carries many events in one message.
pub const BATCH: &str = "_batch";
/// The word of a subject for a version or an instance that is not known.
pub const UNKNOWN: &str = "_";
/// Where changed [`crate::Routes`] are told.
pub const ROUTES: &str = "ctl.routes";
/// Where the routes of this moment are asked for; the answer is [`crate::Routes`] as JSON.
pub const ROUTES_GET: &str = "ctl.routes.get";
/// What the subjects of all answers begin with, see [`inbox`].
pub const INBOXES: &str = "_INBOX";
/// Every pulse.
pub const PULSES: &str = "tel.pulse.>";

/// What the subjects begin with to which answers to a user of the bus come: `_INBOX.<user>`, which no
/// other service may read, though everyone may write there. A name that is no word of a subject
/// has none of its own.
pub fn inbox(user: &str) -> String {
    let is_in_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !user.is_empty() && user.chars().all(is_in_word) {
        true => format!("{INBOXES}.{user}"),
        false => INBOXES.to_owned(),
    }
}

/// `ev.<service>.<type>`: one event, CloudEvents binary mode.
pub fn event(service: &str, kind: &str) -> String {
    format!("ev.{service}.{kind}")
}

/// `ev.<service>._batch`: many events in one message.
pub fn batch(service: &str) -> String {
    format!("ev.{service}.{BATCH}")
}

/// `tel.beat.<service>.<version>.<instance>`.
pub fn beat(service: &str, version: &str, instance: &str) -> String {
    format!("tel.beat.{service}.{version}.{instance}")
}

/// `tel.span.<service>.<version>.<instance>`.
pub fn span(service: &str, version: &str, instance: &str) -> String {
    format!("tel.span.{service}.{version}.{instance}")
}

/// `tel.log.<service>.<version>.<instance>`.
pub fn log(service: &str, version: &str, instance: &str) -> String {
    format!("tel.log.{service}.{version}.{instance}")
}

/// `tel.pulse.<service>.<version>.<instance>`: "alive", every 250 ms, never stored.
pub fn pulse(service: &str, version: &str, instance: &str) -> String {
    format!("tel.pulse.{service}.{version}.{instance}")
}

/// `tel.req.<service>.<version>.<instance>`: requests handled, see [`crate::request`].
pub fn request(service: &str, version: &str, instance: &str) -> String {
    format!("tel.req.{service}.{version}.{instance}")
}

/// `tel.metric.<service>.<version>.<instance>`: numbers with labels, see [`crate::metric`].
pub fn metric(service: &str, version: &str, instance: &str) -> String {
    format!("tel.metric.{service}.{version}.{instance}")
}

/// `svc.<service>.<version>.<endpoint>`: a call to one version; the queue group is the version.
pub fn call(service: &str, version: &str, endpoint: &str) -> String {
    format!("svc.{service}.{version}.{endpoint}")
}

/// `svc.<service>.<version>.<endpoint>.<instance>`: a call to one instance.
pub fn call_instance(service: &str, version: &str, endpoint: &str, instance: &str) -> String {
    format!("svc.{service}.{version}.{endpoint}.{instance}")
}

/// `svc.<service>.<endpoint>`: a call of a client that knows no versions.
pub fn call_any(service: &str, endpoint: &str) -> String {
    format!("svc.{service}.{endpoint}")
}

/// Service, version and instance of `tel.pulse.<service>.<version>.<instance>`.
pub fn parse_pulse(subject: &str) -> Option<(&str, &str, &str)> {
    let mut words = subject.strip_prefix("tel.pulse.")?.split('.');
    let sender = (words.next()?, words.next()?, words.next()?);
    words.next().is_none().then_some(sender)
}

/// What an event's subject says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSubject<'a> {
    /// The emitting service.
    pub service: &'a str,
    /// The event type, or `None` where the message is a batch.
    pub kind: Option<&'a str>,
}

/// Reads `ev.<service>.<type>` and `ev.<service>._batch`; `None` for any other subject.
pub fn parse_event(subject: &str) -> Option<EventSubject<'_>> {
    let (service, tail) = subject.strip_prefix("ev.")?.split_once('.')?;
    let kind = (tail != BATCH).then_some(tail);
    Some(EventSubject { service, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_is_named_by_a_word_alone() {
        assert_eq!(inbox("cart-v1-1"), "_INBOX.cart-v1-1");
        for no_word in ["", "a.b", "*", ">", "a b", "é"] {
            assert_eq!(inbox(no_word), "_INBOX", "{no_word}");
        }
    }

    #[test]
    fn event_subjects_read_back() {
        assert_eq!(
            parse_event(&event("cart", "order.paid")),
            Some(EventSubject {
                service: "cart",
                kind: Some("order.paid")
            })
        );
        assert_eq!(
            parse_event(&batch("cart")),
            Some(EventSubject {
                service: "cart",
                kind: None
            })
        );
        assert_eq!(parse_event("tel.beat.a.b.c"), None);
        assert_eq!(parse_event("ev.cart"), None);
    }
}
