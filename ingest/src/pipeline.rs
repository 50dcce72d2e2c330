//! Takes messages one by one: number, events, rows, position; and cuts what a flush commits.
//!
//! Owned by the loop in `run`, called from nowhere else, and without IO: the same messages give the
//! same rows whenever they are read, so that a replay after a crash ends where the first try would
//! have. Start at [`Pipeline::take`].

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serin_lake::{Account, Flush, Gap, Position, Progress};
use serin_wire::{Event, Number, ProducerId, Sealed};

use crate::buffer::{Buffer, Inner};
use crate::decode::{self, Bad, Found, Incoming, ulid_of};
use crate::options::Limits;
use crate::producer::{Producers, RANGES_MAX, Taken};
use crate::refuse::{Reason, Refusal};
use crate::refused::{self, Refused};
use crate::seal::Seals;
use crate::seen::{Seen, hash_of};
use crate::stats::{Counters, add};
use crate::telemetry;

/// The table whose rows get an identity here.
const LOGS: &str = "logs";

/// Which messages and events were taken; the doors look into it too.
#[derive(Debug)]
pub(crate) struct Identities {
    pub(crate) producers: Producers,
    pub(crate) seen: Seen,
}

/// What the loop and the doors share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) identities: Mutex<Identities>,
    pub(crate) counters: Counters,
    pub(crate) limits: Limits,
}

impl Shared {
    /// Holds the identities; values that are replaced whole, so a panic elsewhere leaves them usable.
    pub(crate) fn identities(&self) -> MutexGuard<'_, Identities> {
        self.identities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a refusal, and keeps the event as a row as far as there is room.
    pub(crate) fn refuse(&self, buffer: &mut Inner, refused: Refused<'_>, refusal: &Refusal) {
        self.counters.refuse(refusal.reason);
        if !refused::keep(buffer, &self.limits, refused, refusal) {
            add(&self.counters.refused_not_kept, 1);
        }
    }
}

/// The state of one reader of the bus.
#[derive(Debug)]
pub(crate) struct Pipeline {
    shared: Arc<Shared>,
    seals: Seals,
    /// Up to where the bus was taken.
    taken: Position,
    /// When the bus took the message there, where there is one.
    taken_us: Option<i64>,
    /// Up to where the last cut went.
    cut: Position,
    gaps: Vec<Gap>,
    messages: u64,
    /// Lines that were logged so far; tells those of one millisecond apart.
    lines: u64,
    /// When the first thing was taken since the last cut.
    since_us: Option<i64>,
}

impl Pipeline {
    pub(crate) fn new(shared: Arc<Shared>, position: Position, taken_us: Option<i64>) -> Pipeline {
        Pipeline {
            shared,
            seals: Seals::default(),
            taken: position,
            taken_us,
            cut: position,
            gaps: Vec::new(),
            messages: 0,
            lines: 0,
            since_us: None,
        }
    }

    pub(crate) fn taken(&self) -> Position {
        self.taken
    }

    /// When the bus took the message up to which it was taken, where it is known.
    pub(crate) fn taken_us(&self) -> Option<i64> {
        self.taken_us
    }

    /// When the first thing was taken that no cut has.
    pub(crate) fn since_us(&self) -> Option<i64> {
        self.since_us
    }

    /// Another life of the stream; everything before was committed.
    pub(crate) fn start_at(&mut self, position: Position, has_lost: bool) {
        self.taken = position;
        self.taken_us = None;
        self.cut = position;
        if has_lost {
            self.shared.identities().producers.lost();
        }
    }

    /// The stream does not have these messages any more.
    pub(crate) fn gap(&mut self, gap: Gap, now_us: i64) {
        add(&self.shared.counters.lost_messages, gap.len());
        self.shared.identities().producers.lost();
        self.taken.sequence = gap.last;
        self.taken_us = None;
        self.since_us.get_or_insert(now_us);
        self.gaps.push(gap);
    }

    /// Takes one message; its events are rows when this returns, or refused, or known already.
    pub(crate) fn take(&mut self, incoming: &Incoming<'_>, now_us: i64) {
        self.taken.sequence = incoming.sequence;
        self.taken_us = Some(incoming.taken_us);
        self.messages += 1;
        self.since_us.get_or_insert(now_us);
        let shared = Arc::clone(&self.shared);
        let numbered = incoming.number();
        // Numbers need no copy of what is read twice: only the flag of the batch says "import".
        let is_import =
            serin_wire::batch::read(incoming.payload).is_ok_and(|batch| batch.is_import);
        let mut refusal = None;
        if let Some(numbered) = &numbered {
            let taken = shared.identities().producers.take(
                &numbered.number,
                numbered.to,
                is_import,
                incoming.taken_us,
            );
            match taken {
                Taken::New => {}
                Taken::Duplicate => {
                    add(&shared.counters.duplicates, 1);
                    return;
                }
                Taken::Refused => refusal = Some(too_many_holes(&numbered.number)),
            }
        }
        let mut buffer = shared.buffer.hold();
        if let Some(declared) = incoming.declared() {
            buffer.declare(declared, &shared.limits);
        }
        let mut count = Count::default();
        decode::events(incoming, &mut |is_import, found| match found {
            Ok(found) if let Some(refusal) = &refusal => {
                let event = &found.event;
                refuse_event(&shared, &mut buffer, event, &event.id, incoming, refusal);
            }
            Ok(found) => take_event(
                &shared,
                &mut buffer,
                &mut count,
                is_import,
                &found,
                incoming,
            ),
            Err(bad) => refuse_unread(&shared, &mut buffer, &bad, incoming),
        });
        add(&shared.counters.events, count.events);
        add(&shared.counters.late, count.late);
        add(&shared.counters.duplicates, count.duplicates);
    }

    /// Takes a message of telemetry: a beat with its seal, spans, logs or requests.
    pub(crate) fn take_telemetry(&mut self, subject: &str, payload: &[u8], arrived_us: i64) {
        let Some(found) = telemetry::rows(subject, payload, arrived_us) else {
            add(&self.shared.counters.telemetry_bad, 1);
            return;
        };
        if let Some(seal) = &found.sealed {
            self.hear_seal(seal, arrived_us);
        }
        let shared = Arc::clone(&self.shared);
        let mut bad = found.bad;
        let mut buffer = shared.buffer.hold();
        for mut row in found.rows {
            if row.event.kind == LOGS {
                // Who reads on from a line names it, and lines of one moment keep their order.
                self.lines += 1;
                let id = ulid_of(arrived_us, u128::from(self.lines));
                row.event.id = Cow::Owned(id.to_string());
            }
            row.pack(false);
            let mut taken = buffer.append_to(&row.event.kind, &row.event, &shared.limits, false);
            if taken
                .as_ref()
                .is_err_and(|refusal| refusal.reason == Reason::Columns)
            {
                row.pack(true);
                // One text of many, each of which was taken; a message is bounded.
                let limits = Limits {
                    string_bytes_max: usize::MAX,
                    ..shared.limits.clone()
                };
                taken = buffer.append_to(&row.event.kind, &row.event, &limits, false);
            }
            match taken {
                Ok(()) => {
                    self.since_us.get_or_insert(arrived_us);
                }
                Err(_) => bad += 1,
            }
        }
        add(&shared.counters.telemetry_bad, bad);
    }

    /// Hears what a producer seals.
    pub(crate) fn hear_seal(&mut self, seal: &Sealed, now_us: i64) {
        let id = ProducerId {
            producer: seal.producer.clone(),
            epoch: seal.epoch,
        };
        self.shared.identities().producers.lives(&id, now_us);
        self.seals.hear(seal, now_us);
    }

    /// Moves the watermark to where it is by now.
    pub(crate) fn seal(&mut self, now_us: i64) {
        let watermark_us = {
            let identities = self.shared.identities();
            let complete_to = |id: &_| identities.producers.complete_to(id);
            self.seals.advance(complete_to, now_us)
        };
        self.shared.buffer.hold().set_watermark(watermark_us);
    }

    /// Takes out everything for a flush; `None` where there is nothing to commit.
    pub(crate) fn cut(&mut self, now_us: i64) -> Option<Flush> {
        let mut buffer = self.shared.buffer.hold();
        if self.taken == self.cut && !buffer.has_rows() {
            return None;
        }
        let cut = buffer.cut();
        drop(buffer);
        let mut identities = self.shared.identities();
        let progress = Progress {
            from: self.cut,
            to: self.taken,
            taken_us: self.taken_us,
            gaps: std::mem::take(&mut self.gaps),
            producers: identities.producers.take_changed(),
            seen: identities.seen.take_fresh(),
            seen_from_us: identities.seen.kept_from_us(),
            account: Some(Account {
                messages: std::mem::take(&mut self.messages),
                rows: cut.rows,
            }),
        };
        drop(identities);
        self.cut = self.taken;
        self.since_us = None;
        Some(Flush {
            number: cut.number,
            tables: cut.tables,
            progress,
            now_us,
        })
    }
}

fn take_event(
    shared: &Shared,
    buffer: &mut Inner,
    count: &mut Count,
    is_import: bool,
    found: &Found<'_>,
    incoming: &Incoming<'_>,
) {
    let event = &found.event;
    let identity = (found.is_client_id).then(|| hash_of(&event.service, &event.id));
    if let Some(hash) = identity
        && shared.identities().seen.was_taken(hash, incoming.taken_us)
    {
        count.duplicates += 1;
        return;
    }
    match buffer.append(event, &shared.limits, is_import, incoming.admitted_us()) {
        Ok(()) => {
            // Remembered once it is stored: one that is refused may come again, mended.
            if let Some(hash) = identity {
                let seen = &mut shared.identities().seen;
                seen.take(hash, incoming.taken_us, is_import);
            }
            count.events += 1;
            let is_late = buffer
                .watermark_us()
                .is_some_and(|mark| event.time_us <= mark);
            count.late += u64::from(is_late && !is_import);
        }
        Err(refusal) => {
            // Its row has an identity of its own, for the same reason.
            let made = identity.map(|hash| incoming.made_id(hash as u64));
            let id = made.as_deref().unwrap_or(&event.id);
            refuse_event(shared, buffer, event, id, incoming, &refusal);
        }
    }
}

fn refuse_event(
    shared: &Shared,
    buffer: &mut Inner,
    event: &Event<'_>,
    id: &str,
    incoming: &Incoming<'_>,
    refusal: &Refusal,
) {
    let refused = Refused {
        id,
        service: &event.service,
        kind: &event.kind,
        payload: &event.data,
        arrived_us: incoming.taken_us,
    };
    shared.refuse(buffer, refused, refusal);
}

fn refuse_unread(shared: &Shared, buffer: &mut Inner, bad: &Bad<'_>, incoming: &Incoming<'_>) {
    let subject = serin_wire::subject::parse_event(incoming.subject);
    let refused = Refused {
        id: "",
        service: subject.map_or("", |subject| subject.service),
        kind: subject.and_then(|subject| subject.kind).unwrap_or_default(),
        payload: bad.payload,
        arrived_us: incoming.taken_us,
    };
    shared.refuse(buffer, refused, &bad.refusal);
}

fn too_many_holes(number: &Number) -> Refusal {
    let explanation = format!(
        "message {number} comes after {RANGES_MAX} holes in the numbers of its producer, and there \
         may be no more; send the missing messages first"
    );
    Refusal::new(Reason::Holes, explanation)
}

/// What became of the events of one message.
#[derive(Debug, Default)]
struct Count {
    events: u64,
    late: u64,
    duplicates: u64,
}

#[cfg(test)]
mod tests;
