//! Takes messages one by one: number, events, rows, position; and cuts what a flush commits.
//!
//! Owned by the loop in `run`, called from nowhere else, and without IO: the same messages give the
//! same rows whenever they are read, so that a replay after a crash ends where the first try would
//! have. Start at [`Pipeline::take`].

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serin_lake::{Account, Flush, Gap, Position, Progress};
use serin_wire::{Event, Number, Sealed};

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
                refuse_event(&shared, &mut buffer, &found.event, incoming, refusal);
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
            self.seals.hear(seal, arrived_us);
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
                taken = buffer.append_to(&row.event.kind, &row.event, &shared.limits, false);
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

    /// Hears what a producer in this process seals: the doors.
    pub(crate) fn hear_seal(&mut self, seal: &Sealed, now_us: i64) {
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
    if found.is_client_id {
        let hash = hash_of(&event.service, &event.id);
        let seen = &mut shared.identities().seen;
        if !seen.take(hash, incoming.taken_us, is_import) {
            count.duplicates += 1;
            return;
        }
    }
    match buffer.append(event, &shared.limits, is_import, incoming.admitted_us()) {
        Ok(()) => {
            count.events += 1;
            let is_late = buffer
                .watermark_us()
                .is_some_and(|mark| event.time_us <= mark);
            count.late += u64::from(is_late && !is_import);
        }
        Err(refusal) => refuse_event(shared, buffer, event, incoming, &refusal),
    }
}

fn refuse_event(
    shared: &Shared,
    buffer: &mut Inner,
    event: &Event<'_>,
    incoming: &Incoming<'_>,
    refusal: &Refusal,
) {
    let refused = Refused {
        id: &event.id,
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
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::AsArray;
    use serin_lake::{Fresh, Incarnation};
    use serin_wire::batch::{BatchWriter, Head, IMPORTED, Id};

    use super::*;

    fn pipeline(limits: Limits) -> Pipeline {
        let shared = Shared {
            buffer: Arc::new(Buffer::new([])),
            identities: Mutex::new(Identities {
                producers: Producers::default(),
                seen: Seen::from_kept(Vec::new(), limits.seen_max),
            }),
            counters: Counters::default(),
            limits,
        };
        Pipeline::new(Arc::new(shared), Position::default(), None)
    }

    fn batch(flags: u8, ids: &[Id<'_>], time_us: i64, data: &str) -> Vec<u8> {
        let mut writer = BatchWriter::new("cart", "v1", "cart-v1-1", flags);
        for &id in ids {
            let head = Head {
                id,
                kind: "a",
                service: None,
                time_us,
                trace: None,
                arm: None,
            };
            writer.push(&head, data.as_bytes());
        }
        writer.take()
    }

    fn take(pipeline: &mut Pipeline, message_id: &str, payload: &[u8]) {
        let incoming = Incoming {
            sequence: pipeline.taken().sequence + 1,
            taken_us: 1_000_000,
            subject: "ev.cart._batch",
            headers: &[("Nats-Msg-Id", message_id)],
            payload,
        };
        pipeline.take(&incoming, 1_000_000);
    }

    /// Rows of each table that has some: our own tables are there before their first row.
    fn rows(pipeline: &Pipeline) -> BTreeMap<String, usize> {
        let fresh = pipeline.shared.buffer.rows(0);
        let count = |table: &serin_lake::FreshTable| -> usize {
            table.batches.iter().map(|batch| batch.num_rows()).sum()
        };
        let counted = fresh.tables.iter();
        counted
            .map(|(name, table)| (name.clone(), count(table)))
            .filter(|(_, rows)| *rows > 0)
            .collect()
    }

    #[test]
    fn numbers_and_identities_are_taken_once() {
        let mut pipeline = pipeline(Limits::default());
        let ulids = batch(0, &[Id::Ulid(1), Id::Ulid(2)], 0, "{}");
        let texts = batch(0, &[Id::Text("x"), Id::Text("y"), Id::Text("x")], 0, "{}");
        take(&mut pipeline, "p/0/1", &ulids);
        take(&mut pipeline, "p/0/1", &ulids);
        take(&mut pipeline, "p/0/2", &texts);
        take(&mut pipeline, "p/0/3", &texts);
        assert_eq!(rows(&pipeline)["a"], 4);
        assert_eq!(pipeline.shared.counters.read().duplicates, 5);
        let flush = pipeline.cut(0).expect("rows");
        assert_eq!(
            flush.progress.account,
            Some(Account {
                messages: 4,
                rows: 4
            })
        );
        assert_eq!(flush.progress.to.sequence, 4);
        assert_eq!(flush.progress.seen.len(), 2);
        assert_eq!(flush.progress.producers[0].contiguous, 3);
        assert!(pipeline.cut(0).is_none());
    }

    #[test]
    fn a_message_behind_too_many_holes_is_refused_and_told() {
        let mut pipeline = pipeline(Limits::default());
        let event = batch(0, &[Id::Ulid(1), Id::Ulid(2)], 0, "{}");
        for n in 1..=RANGES_MAX as u64 {
            take(&mut pipeline, &format!("p/0/{}", 2 * n + 1), b"SB\x01");
        }
        take(&mut pipeline, "p/0/100000", &event);
        let refused = &pipeline.shared.counters.read().refused;
        assert_eq!(refused.get("holes"), Some(&2));
        take(&mut pipeline, "p/0/1", &event);
        assert_eq!(rows(&pipeline)["a"], 2);
    }

    #[test]
    fn imports_keep_old_times_and_their_own_files() {
        let mut pipeline = pipeline(Limits::default());
        let far_us = 40_000_000_000;
        take(
            &mut pipeline,
            "p/0/1",
            &batch(IMPORTED, &[Id::Ulid(1)], far_us, "{}"),
        );
        take(
            &mut pipeline,
            "p/0/2",
            &batch(0, &[Id::Ulid(2)], far_us, "{}"),
        );
        take(&mut pipeline, "p/0/3", &batch(0, &[Id::Ulid(3)], 1, "{}"));
        assert_eq!(
            rows(&pipeline),
            [("a".into(), 2), ("refused".into(), 1)].into()
        );
        assert_eq!(
            pipeline.shared.counters.read().refused,
            [("clock-skew", 1)].into()
        );
        let flush = pipeline.cut(0).expect("rows");
        let mut parts: Vec<_> = flush
            .tables
            .iter()
            .map(|t| (&*t.name, t.is_import))
            .collect();
        parts.sort_unstable();
        assert_eq!(parts, [("a", false), ("a", true), ("refused", false)]);
    }

    #[test]
    fn what_is_refused_is_kept_within_bounds_and_counted() {
        let mut pipeline = pipeline(Limits {
            types_max: 1,
            columns_per_type_max: 2,
            string_bytes_max: 50,
            event_bytes_max: 100,
            refused_bytes_max: 3000,
            ..Limits::default()
        });
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(51));
        let longer = format!("{{\"a\":\"{}\"}}", "x".repeat(101));
        let bodies = [
            r#"{"a":1,"b":2}"#,
            r#"{"a":1,"c":2}"#,
            &long,
            &longer,
            "{",
            "[1]",
        ];
        for (at, data) in bodies.iter().enumerate() {
            let message = batch(0, &[Id::Ulid(at as u128)], 0, data);
            take(&mut pipeline, &format!("p/0/{}", at + 1), &message);
        }
        take(&mut pipeline, "p/0/99", b"nonsense");
        let counted = pipeline.shared.counters.read().refused;
        let expected = [
            ("columns", 1),
            ("string-length", 1),
            ("event-size", 1),
            ("json", 2),
            ("unreadable", 1),
        ];
        assert_eq!(counted, expected.into());
        assert_eq!(
            rows(&pipeline),
            [("a".into(), 1), ("refused".into(), 6)].into()
        );
        for n in 100..1100 {
            take(&mut pipeline, &format!("p/0/{n}"), b"nonsense");
        }
        assert!(rows(&pipeline)["refused"] < 40);
        let stats = pipeline.shared.counters.read();
        assert_eq!(stats.refused["unreadable"], 1001);
        assert_eq!(
            stats.refused_not_kept,
            1007 - rows(&pipeline)["refused"] as u64 - 1
        );
    }

    #[test]
    fn a_late_row_is_taken_and_counted() {
        let mut pipeline = pipeline(Limits::default());
        let seal = Sealed {
            producer: String::from("p"),
            epoch: 0,
            number: 1,
            time_us: 900_000,
        };
        pipeline.hear_seal(&seal, 1_000_000);
        pipeline.seal(1_000_000);
        assert_eq!(pipeline.shared.buffer.rows(0).watermark_us, None);
        take(&mut pipeline, "p/0/1", &batch(0, &[Id::Ulid(1)], 5, "{}"));
        pipeline.seal(1_000_000);
        assert_eq!(pipeline.shared.buffer.rows(0).watermark_us, Some(900_000));
        // Sealed means that every event up to that time is in: one of that very time is late.
        for (number, time_us) in [(2, 899_999), (3, 900_000), (4, 900_001)] {
            let message = batch(0, &[Id::Ulid(number)], time_us, "{}");
            take(&mut pipeline, &format!("p/0/{number}"), &message);
        }
        assert_eq!(pipeline.shared.counters.read().late, 2);
        assert_eq!(rows(&pipeline)["a"], 4);
    }

    #[test]
    fn lines_are_told_apart_in_the_order_of_their_arrival() {
        let mut pipeline = pipeline(Limits::default());
        let line = br#"{"time":5,"message":"same"}"#;
        for _ in 0..12 {
            pipeline.take_telemetry("tel.log.cart.v1.cart-v1-1", line, 5_000);
        }
        let batches = &pipeline.shared.buffer.rows(0).tables["logs"].batches;
        let ids: Vec<&str> = batches
            .iter()
            .flat_map(|batch| batch["id"].as_string::<i32>().iter().flatten())
            .collect();
        assert_eq!(ids.len(), 12);
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }

    #[test]
    fn a_subject_nobody_knows_is_counted() {
        let mut pipeline = pipeline(Limits::default());
        pipeline.take_telemetry("tel.span.gateway.0.1.0.gateway-1", b"{}", 5);
        assert_eq!(pipeline.shared.counters.read().telemetry_bad, 1);
    }

    #[test]
    fn a_gap_is_part_of_the_progress() {
        let mut pipeline = pipeline(Limits::default());
        let gap = Gap {
            incarnation: Incarnation(0),
            first: 1,
            last: 7,
            reason: "purged",
        };
        pipeline.gap(gap.clone(), 0);
        let flush = pipeline.cut(0).expect("progress");
        assert_eq!(
            (flush.progress.to.sequence, flush.progress.gaps),
            (7, vec![gap])
        );
    }
}
