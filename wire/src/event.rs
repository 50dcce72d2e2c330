//! One event as it travels: who, what, when, and the data as JSON text.
//!
//! The data are not parsed here: an SDK writes them once and the ingester reads them once, straight
//! into columns. [`Event`] borrows from the message it was read from.

use std::borrow::Cow;

use crate::time::Micros;

/// An event, borrowed from the message that carried it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// Unique per event; a ULID from our SDKs, `ce-id` from others.
    pub id: Cow<'a, str>,
    /// The event type, `order.paid`; it names the table.
    pub kind: Cow<'a, str>,
    /// The service that emitted it.
    pub service: Cow<'a, str>,
    /// The version of the service, or empty where unknown.
    pub version: Cow<'a, str>,
    /// The instance, or empty where unknown.
    pub instance: Cow<'a, str>,
    /// When it happened, at the emitter.
    pub time_us: Micros,
    /// The trace it happened in.
    pub trace: Option<Trace>,
    /// The canary arms its cause passed on the way here.
    pub arm: Option<Arm<'a>>,
    /// The attributes: the text of one JSON object.
    pub data: Cow<'a, [u8]>,
}

/// W3C trace context: the identity part of `traceparent`.
///
/// Source: <https://www.w3.org/TR/trace-context/>, section 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// 16 bytes, never all zero.
    pub trace_id: u128,
    /// 8 bytes, never all zero.
    pub span_id: u64,
    /// The flags; bit 0 is "sampled".
    pub flags: u8,
}

impl Trace {
    /// Reads `00-<32 hex>-<16 hex>-<2 hex>`; `None` for anything that must be ignored by the standard.
    pub fn parse(traceparent: &str) -> Option<Trace> {
        let bytes = traceparent.as_bytes();
        let is_long_enough = bytes.len() == 55 || (bytes.len() > 55 && bytes[55] == b'-');
        if !is_long_enough || !bytes[..55].is_ascii() {
            return None;
        }
        let version = lower_hex(&traceparent[..2])?;
        if version == 0xff || (version == 0 && bytes.len() != 55) {
            return None;
        }
        if bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let trace_id = lower_hex(&traceparent[3..35])?;
        let span_id = u64::try_from(lower_hex(&traceparent[36..52])?).ok()?;
        let flags = u8::try_from(lower_hex(&traceparent[53..55])?).ok()?;
        (trace_id != 0 && span_id != 0).then_some(Trace {
            trace_id,
            span_id,
            flags,
        })
    }

    /// Writes a version-00 `traceparent`.
    pub fn to_traceparent(self) -> String {
        format!(
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
    }
}

fn lower_hex(text: &str) -> Option<u128> {
    let is_lower_hex = text
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if is_lower_hex {
        u128::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

/// The versions that served the request which caused an event: `cart=v8,pay=v2`, in the order taken.
///
/// Only hops with a canary under way are named, so that it is empty nearly always. It travels as
/// the header `serin-arm` and is stored in the column `_arm`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arm<'a>(pub Cow<'a, str>);

impl Arm<'_> {
    /// Longest arm that is carried; a longer one is cut at its oldest hop.
    pub const BYTES_MAX: usize = 256;

    /// The version taken at `service`, if that hop had a canary.
    pub fn version_of(&self, service: &str) -> Option<&str> {
        self.0.split(',').find_map(|hop| {
            let (name, version) = hop.split_once('=')?;
            (name == service).then_some(version)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_reads_back() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Trace::parse(text).expect("valid").to_traceparent(), text);
        let future = format!("cc{}-what-the-future-will-be", &text[2..]);
        assert!(Trace::parse(&future).is_some());
    }

    #[test]
    fn broken_traceparent_is_ignored() {
        for text in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e9}-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Trace::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_arm_names_the_version_taken() {
        let arm = Arm("cart=v8,pay=v2".into());
        assert_eq!(arm.version_of("pay"), Some("v2"));
        assert_eq!(arm.version_of("mail"), None);
    }
}
