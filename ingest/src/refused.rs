//! The table `refused`: what could not be taken, with its reason, whether it came over the bus or by a door.
//!
//! Bounded: a payload is cut, and past a budget of bytes per flush events are only counted. On disk
//! the table has its own retention. A row's time is the time of arrival, since the event's own may
//! be what was wrong with it.

use std::borrow::Cow;

use serin_lake::ColumnKind;
use serin_wire::Event;

use crate::buffer::Inner;
use crate::options::Limits;
use crate::refuse::Refusal;

/// The columns beside the standard ones.
pub(crate) const COLUMNS: &[(&str, ColumnKind)] = &[
    ("type", ColumnKind::Text),
    ("reason", ColumnKind::Text),
    ("explanation", ColumnKind::Text),
    ("payload", ColumnKind::Text),
];
/// Bytes of a refused event that are kept: enough to see who sent what.
const PAYLOAD_BYTES_MAX: usize = 2048;
const TEXT_BYTES_MAX: usize = 256;

/// What is known of a refused event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused<'a> {
    pub(crate) id: &'a str,
    pub(crate) service: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) arrived_us: i64,
}

/// Keeps a refused event as a row; `false` where the budget is used up and it is only counted.
pub(crate) fn keep(
    buffer: &mut Inner,
    limits: &Limits,
    refused: Refused<'_>,
    refusal: &Refusal,
) -> bool {
    let payload = cut(
        &String::from_utf8_lossy(head(refused.payload)),
        PAYLOAD_BYTES_MAX,
    );
    let data = serde_json::json!({
        "type": cut(refused.kind, TEXT_BYTES_MAX),
        "reason": refusal.reason.name(),
        "explanation": cut(&refusal.explanation, 2 * TEXT_BYTES_MAX),
        "payload": payload,
    });
    let data = data.to_string();
    if !buffer.take_room_for_refused(data.len(), limits.refused_bytes_max) {
        return false;
    }
    let row = Event {
        id: Cow::Owned(cut(refused.id, TEXT_BYTES_MAX)),
        kind: Cow::Borrowed("refused"),
        service: Cow::Owned(cut(refused.service, TEXT_BYTES_MAX)),
        version: Cow::Borrowed(""),
        instance: Cow::Borrowed(""),
        time_us: refused.arrived_us,
        trace: None,
        arm: None,
        data: Cow::Borrowed(data.as_bytes()),
    };
    // Our own texts are short; a limit set below them by configuration is no reason to lose the row.
    let limits = Limits {
        string_bytes_max: usize::MAX,
        columns_per_type_max: usize::MAX >> 8,
        ..limits.clone()
    };
    match buffer.append_to("refused", &row, &limits, false) {
        Ok(()) => true,
        Err(refusal) => {
            tracing::error!(?refusal, "a refused event cannot be kept");
            false
        }
    }
}

/// The part of a payload worth looking at, before it is made text.
fn head(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(PAYLOAD_BYTES_MAX + 4)]
}

fn cut(text: &str, bytes_max: usize) -> String {
    let mut to = text.len().min(bytes_max);
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    text[..to].to_owned()
}
