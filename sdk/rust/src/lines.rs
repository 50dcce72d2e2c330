//! Telemetry between the work and the sender: lines of JSON, bounded, lossy and counted.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// What is kept between two sendings; it is also the largest message, below NATS's default of 1 MiB.
const BYTES_MAX: usize = 512 << 10;

/// Lines that wait.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Mutex<Vec<u8>>,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits with others.
    Joined,
    /// It is the first, or fills half of the room: the sender should know.
    News,
    /// There is no room.
    Full,
}

impl Lines {
    /// Appends a line.
    pub(crate) fn push<T: Serialize>(&self, line: &T) -> Pushed {
        let Ok(line) = serde_json::to_vec(line) else {
            return Pushed::Full;
        };
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = bytes.len();
        if before + line.len() >= BYTES_MAX {
            return Pushed::Full;
        }
        bytes.extend_from_slice(&line);
        bytes.push(b'\n');
        let fills_half = before < BYTES_MAX / 2 && bytes.len() >= BYTES_MAX / 2;
        if before == 0 || fills_half {
            Pushed::News
        } else {
            Pushed::Joined
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn is_half_full(&self) -> bool {
        self.len() >= BYTES_MAX / 2
    }

    /// Takes all lines, if there are any.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let bytes = std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        (!bytes.is_empty()).then_some(bytes)
    }

    fn len(&self) -> usize {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_and_the_half_are_news() {
        let lines = Lines::default();
        let line = "x".repeat(BYTES_MAX / 4);
        let pushed: Vec<_> = (0..5).map(|_| lines.push(&line)).collect();
        use Pushed::{Full, Joined, News};
        assert_eq!(pushed, [News, News, Joined, Full, Full]);
        assert!(lines.is_half_full());
        assert_eq!(
            lines.take().map(|bytes| bytes.len() > BYTES_MAX / 2),
            Some(true)
        );
        assert!(lines.is_empty());
    }
}
