//! The decoding step alone, for `benches/decode.rs`: no bus, no lake, no clock.
//!
//! Not for other callers; everything else of this crate goes through [`crate::Ingest`].

use std::sync::{Arc, Mutex};

use serin_lake::{Fresh, Position};

use crate::buffer::Buffer;
use crate::decode::Incoming;
use crate::options::Limits;
use crate::pipeline::{Identities, Pipeline, Shared};
use crate::producer::Producers;
use crate::seen::Seen;
use crate::stats::Counters;

/// A pipeline without its loop.
#[derive(Debug)]
pub struct Decoder {
    shared: Arc<Shared>,
    pipeline: Pipeline,
    sequence: u64,
}

impl Decoder {
    /// An empty one.
    pub fn new(limits: Limits) -> Decoder {
        let shared = Arc::new(Shared {
            buffer: Arc::new(Buffer::new([])),
            identities: Mutex::new(Identities {
                producers: Producers::default(),
                seen: Seen::from_kept(Vec::new(), limits.seen_max),
            }),
            counters: Counters::default(),
            limits,
        });
        Decoder {
            pipeline: Pipeline::new(Arc::clone(&shared), Position::default(), None),
            shared,
            sequence: 0,
        }
    }

    /// Takes one message.
    pub fn take(&mut self, subject: &str, message_id: &str, payload: &[u8], now_us: i64) {
        self.sequence += 1;
        let incoming = Incoming {
            sequence: self.sequence,
            taken_us: now_us,
            subject,
            headers: &[("Nats-Msg-Id", message_id)],
            payload,
        };
        self.pipeline.take(&incoming, now_us);
    }

    /// Throws the rows away, as a commit would; how many rows and Arrow bytes there were.
    pub fn flush(&mut self, now_us: i64) -> (u64, usize) {
        let bytes = self.shared.buffer.hold().fill().total;
        let Some(flush) = self.pipeline.cut(now_us) else {
            return (0, 0);
        };
        self.shared.buffer.forget(flush.number);
        (
            flush.progress.account.map_or(0, |account| account.rows),
            bytes,
        )
    }
}
