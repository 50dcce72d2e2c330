//! A body of a door is cut into the events of each message, by its text alone.
//!
//! Pure: nothing is read here but where one event ends and the next begins. Start at [`pieces`].

use serin_lake::{AcceptError, Door};
use serin_wire::cloudevent;

/// A message of a numbered body takes events of so much text. Packed, the shortest event grows to four times its text,
/// so that a message stays below 512 KiB plus one event: half of NATS's default limit of 1 MiB.
pub(super) const PIECE_BYTES: usize = 128 << 10;
/// A body without a number goes in messages of at most so many bytes: with one event more, of the
/// default limit of 256 KiB, they stay below 1 MiB, NATS's default.
const MESSAGE_BYTES: usize = 704 << 10;
/// What an event may take in a message beyond its text: flags 1, time 8, identity 16, and up to 9
/// texts' lengths of up to 4 bytes. The names and the data are no longer than in the text.
const HEAD_BYTES: usize = 64;
/// The events of one message, as they stand in the body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// Line or place from 1, and the text.
    pub(super) items: Vec<(u64, &'a [u8])>,
}

/// How a body becomes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The same pieces for the same text in every version of Serin, since their numbers are fixed.
    ByText,
    /// One message where it fits, so that all of it is taken or nothing.
    Whole,
}

/// Cuts a body into the events of each message, by its text alone.
pub(super) fn pieces(door: Door, body: &[u8], cut: Cut) -> Result<Vec<Piece<'_>>, AcceptError> {
    let items: Vec<(u64, &[u8])> = match door {
        Door::One => vec![(1, body)],
        Door::Batch => {
            let texts = cloudevent::split_batch(body).map_err(|error| {
                AcceptError::Bad(format!("the body must be a JSON array: {error}"))
            })?;
            let texts = texts.into_iter().map(|text| text.get().as_bytes());
            (1..).zip(texts).collect()
        }
        Door::Ndjson => {
            let lines = (1..).zip(body.split(|byte| *byte == b'\n'));
            lines
                .filter(|(_, line)| !line.trim_ascii().is_empty())
                .collect()
        }
    };
    let mut pieces = vec![Piece { items: Vec::new() }];
    let mut bytes = 0;
    let (bytes_max, head_bytes) = match cut {
        Cut::ByText => (PIECE_BYTES, 0),
        Cut::Whole => (MESSAGE_BYTES, HEAD_BYTES),
    };
    for item in items {
        if bytes >= bytes_max {
            pieces.push(Piece { items: Vec::new() });
            bytes = 0;
        }
        bytes += item.1.len() + head_bytes;
        if let Some(piece) = pieces.last_mut() {
            piece.items.push(item);
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_body_is_cut_as_ever() {
        let body = vec![r#"{"type":"a","data":{"n":1}}"#; 20_000].join("\n");
        let pieces = pieces(Door::Ndjson, body.as_bytes(), Cut::ByText).expect("lines");
        let firsts: Vec<u64> = pieces.iter().map(|piece| piece.items[0].0).collect();
        assert_eq!(firsts, [1, 4856, 9711, 14566, 19421]);
    }
}
