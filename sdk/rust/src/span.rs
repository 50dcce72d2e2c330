//! Spans between the tracing layer and the sender: lines of JSON, bounded, lossy and counted.

use std::sync::{Mutex, PoisonError};

use serin_wire::Span;

/// What is kept between two sendings; it is also the largest message, below NATS's default of 1 MiB.
const BYTES_MAX: usize = 512 << 10;

/// Lines that wait.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    lines: Mutex<Vec<u8>>,
}

impl Spans {
    /// Appends a span; `false` where there is no room.
    pub(crate) fn push(&self, span: &Span<'_>) -> bool {
        let Ok(line) = serde_json::to_vec(span) else {
            return false;
        };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = lines.len() + line.len() < BYTES_MAX;
        if has_room {
            lines.extend_from_slice(&line);
            lines.push(b'\n');
        }
        has_room
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Takes all lines, if there are any.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        (!lines.is_empty()).then_some(lines)
    }
}
