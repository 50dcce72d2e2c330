//! What a door lets in: each event is looked at before anything is promised to its client.
//!
//! What is refused is told, counted, and kept as a row of the table `refused`. Start at [`Post::check`].

use serin_wire::cloudevent::{self, DEFAULT_SERVICE, Defaults};
use serin_wire::{Event, name};
use ulid::Ulid;

use super::Post;
use crate::buffer::Promised;
use crate::json;
use crate::refuse::{Reason, Refusal, admit};
use crate::refused::Refused;

/// An event, or a whole body, that is not taken, and what is known of it.
pub(super) struct NotTaken {
    service: String,
    kind: String,
    pub(super) refusal: Refusal,
}

impl NotTaken {
    /// Of what could not be read.
    pub(super) fn of(refusal: Refusal) -> NotTaken {
        NotTaken {
            service: String::from(DEFAULT_SERVICE),
            kind: String::new(),
            refusal,
        }
    }
}

impl Post {
    /// Reads an event and looks whether it may come in.
    pub(super) fn check<'a>(
        &self,
        text: &'a [u8],
        is_import: bool,
        now_us: i64,
        fields: &mut Vec<json::Field>,
        promised: &mut Promised,
    ) -> Result<Event<'a>, NotTaken> {
        let defaults = Defaults {
            now_us,
            service: DEFAULT_SERVICE,
        };
        let event = cloudevent::parse_json(text, defaults)
            .map_err(|error| NotTaken::of(Refusal::new(Reason::NotAnEvent, error)))?;
        match self.may_come(&event, is_import, now_us, fields, promised) {
            Ok(()) => Ok(event),
            Err(refusal) => Err(NotTaken {
                service: event.service.into_owned(),
                kind: event.kind.into_owned(),
                refusal,
            }),
        }
    }

    fn may_come(
        &self,
        event: &Event<'_>,
        is_import: bool,
        now_us: i64,
        fields: &mut Vec<json::Field>,
        promised: &mut Promised,
    ) -> Result<(), Refusal> {
        // Serin's own types come from Serin's own SDK, never through a door.
        name::check_type(&event.kind).map_err(|error| Refusal::new(Reason::Name, error))?;
        let limits = &self.shared.limits;
        admit(event, limits, is_import, now_us)?;
        let text = json::scan(&event.data, limits.string_bytes_max, fields)?;
        let buffer = self.shared.buffer.hold();
        buffer.check_room(&event.kind, text, fields, limits, promised)
    }

    /// Counts what is not taken and keeps it as a row. It has an identity of its own: its client may
    /// send the event again, mended, under the same one.
    pub(super) fn refuse(&self, bad: &NotTaken, text: &[u8], now_us: i64) {
        let refused = Refused {
            id: &Ulid(self.made_id(now_us, None, 0)).to_string(),
            service: &bad.service,
            kind: &bad.kind,
            payload: text,
            arrived_us: now_us,
        };
        let mut buffer = self.shared.buffer.hold();
        self.shared.refuse(&mut buffer, refused, &bad.refusal);
    }
}
