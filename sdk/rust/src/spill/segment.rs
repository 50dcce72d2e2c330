//! Records in a segment's file: how a batch is written, and how a file is read past damage.
//!
//! A record carries its checksum, so that a torn end and flipped bits are known. What is behind the
//! damage is found again: a record is only taken for one if its number follows and its sum is right.
//!
//! ```text
//! record = length:u32 number:u64 sealed_us:i64 events:u32 checksum:u64 payload     (little-endian)
//! ```

use bytes::Bytes;

use crate::queue::Batch;

pub(super) const HEAD_BYTES: usize = 4 + 8 + 8 + 4 + 8;
/// The most by which a number is believed to follow another: a gigabyte of records, each with one
/// event, has fewer.
const STEP_MAX: u64 = 1 << 24;

/// What stands in a segment.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// In order.
    pub(crate) whole: Vec<Batch>,
    /// Outlines of those that are damaged; with one event where their count cannot be read.
    pub(crate) damaged: Vec<Batch>,
}

/// The head of a record.
struct Head {
    length: usize,
    number: u64,
    sealed_us: i64,
    events: u32,
    checksum: u64,
}

/// The record of a batch.
pub(super) fn encode(batch: &Batch) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD_BYTES + batch.payload.len());
    record.extend_from_slice(&(batch.payload.len() as u32).to_le_bytes());
    record.extend_from_slice(&batch.number.to_le_bytes());
    record.extend_from_slice(&batch.sealed_us.to_le_bytes());
    record.extend_from_slice(&batch.events.to_le_bytes());
    record.extend_from_slice(&checksum(&batch.payload, batch.number).to_le_bytes());
    record.extend_from_slice(&batch.payload);
    record
}

/// Everything in a segment whose numbers come after this one.
pub(super) fn read(all: &Bytes, after: u64) -> Contents {
    let mut found = Contents::default();
    let (mut at, mut last) = (0, after);
    while at < all.len() {
        let (next, batch) = match whole_at(all, at, last) {
            Some(batch) => (at, Some(batch)),
            None => find(all, at + 1, last),
        };
        if next > at {
            let until = batch.as_ref().map(|batch| batch.number);
            found
                .damaged
                .extend(lost_between(all, at, last, next, until));
        }
        let Some(batch) = batch else { break };
        at = next + HEAD_BYTES + batch.payload.len();
        last = batch.number;
        found.whole.push(batch);
    }
    found
}

/// The next place with a whole record, or the end.
fn find(all: &Bytes, from: usize, last: u64) -> (usize, Option<Batch>) {
    (from..all.len())
        .find_map(|at| Some((at, Some(whole_at(all, at, last)?))))
        .unwrap_or((all.len(), None))
}

fn whole_at(all: &Bytes, at: usize, last: u64) -> Option<Batch> {
    let head = head_at(all, at, last)?;
    let from = at + HEAD_BYTES;
    let payload = all.get(from..from + head.length)?;
    (checksum(payload, head.number) == head.checksum).then(|| Batch {
        payload: all.slice(from..from + head.length),
        ..head.outline()
    })
}

/// What was at a damaged place: the numbers that are missing there, or where it was the end, the one
/// whose head can still be read, else the next.
fn lost_between(all: &Bytes, at: usize, last: u64, next: usize, until: Option<u64>) -> Vec<Batch> {
    let head = head_at(all, at, last).filter(|head| until.is_none_or(|until| head.number < until));
    let first = match (&head, until) {
        _ if last > 0 => last + 1,
        (Some(head), _) => head.number,
        (None, Some(until)) => until - 1,
        (None, None) => return Vec::new(),
    };
    let until = until.unwrap_or_else(|| head.as_ref().map_or(first, |head| head.number) + 1);
    let records_max = 1 + (next - at) / HEAD_BYTES;
    let missing = (first.max(1)..until).take(records_max);
    let outline = |number| match &head {
        Some(head) if head.number == number => head.outline(),
        _ => Batch {
            number,
            events: 1,
            sealed_us: 0,
            payload: Bytes::new(),
        },
    };
    missing.map(outline).collect()
}

/// A head that can be believed: its number follows the last one's, if there was one.
fn head_at(all: &Bytes, at: usize, last: u64) -> Option<Head> {
    let mut rest = all.get(at..)?;
    let head = Head {
        length: u32::from_le_bytes(take(&mut rest)?) as usize,
        number: u64::from_le_bytes(take(&mut rest)?),
        sealed_us: i64::from_le_bytes(take(&mut rest)?),
        events: u32::from_le_bytes(take(&mut rest)?),
        checksum: u64::from_le_bytes(take(&mut rest)?),
    };
    let follows = head.number > last && (last == 0 || head.number - last <= STEP_MAX);
    let has_room = (head.events as usize) <= head.length;
    (follows && has_room).then_some(head)
}

impl Head {
    fn outline(&self) -> Batch {
        Batch {
            number: self.number,
            events: self.events.max(1),
            sealed_us: self.sealed_us,
            payload: Bytes::new(),
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// FNV-1a over eight bytes at a time: it must find a torn write, not an attacker.
pub(super) fn checksum(payload: &[u8], number: u64) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut sum = 0xcbf2_9ce4_8422_2325 ^ number;
    let (words, tail) = payload.as_chunks::<8>();
    for word in words {
        sum = (sum ^ u64::from_le_bytes(*word))
            .wrapping_mul(PRIME)
            .rotate_left(29);
    }
    for &byte in tail {
        sum = (sum ^ u64::from(byte)).wrapping_mul(PRIME);
    }
    sum ^ payload.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of 100 bytes with three events each.
    fn records(numbers: &[u64]) -> Vec<u8> {
        let record = |&number: &u64| {
            encode(&Batch {
                number,
                events: 3,
                sealed_us: 7,
                payload: Bytes::from(vec![number as u8; 100 - HEAD_BYTES]),
            })
        };
        numbers.iter().flat_map(record).collect()
    }

    /// Numbers of whole ones, then numbers and events of damaged ones.
    fn found(all: Vec<u8>, after: u64) -> (Vec<u64>, Vec<(u64, u32)>) {
        let found = read(&Bytes::from(all), after);
        let whole = found.whole.iter().map(|batch| batch.number);
        let damaged = found.damaged.iter();
        (
            whole.collect(),
            damaged.map(|batch| (batch.number, batch.events)).collect(),
        )
    }

    #[test]
    fn what_is_behind_damage_is_read() {
        assert_eq!(found(records(&[5, 6, 8]), 4), (vec![5, 6, 8], vec![]));
        // A bit of the payload, of the number, of the length.
        for (at, lost) in [(150, (6, 3)), (105, (6, 1)), (102, (6, 3))] {
            let mut all = records(&[5, 6, 7]);
            all[at] ^= 0x10;
            assert_eq!(found(all, 4), (vec![5, 7], vec![lost]), "{at}");
        }
        // A block of zeros over two records, and over the first of a segment.
        let mut all = records(&[5, 6, 7, 8]);
        all[120..250].fill(0);
        assert_eq!(found(all, 4), (vec![5, 8], vec![(6, 1), (7, 1)]));
        let mut all = records(&[5, 6]);
        all[..40].fill(0);
        assert_eq!(found(all.clone(), 4), (vec![6], vec![(5, 1)]));
        assert_eq!(found(all, 0), (vec![6], vec![(5, 1)]));
    }

    #[test]
    fn a_torn_end_is_told() {
        for cut in [1, 60, 67] {
            let mut all = records(&[5, 6]);
            all.truncate(200 - cut);
            assert_eq!(found(all, 0), (vec![5], vec![(6, 3)]), "{cut}");
        }
        let mut all = records(&[5, 6]);
        all.truncate(120);
        assert_eq!(found(all, 0), (vec![5], vec![(6, 1)]));
        assert_eq!(found(Vec::new(), 0), (vec![], vec![]));
    }

    #[test]
    fn any_bytes_are_read() {
        let mut state = 1_u64;
        for length in 0..400 {
            let byte = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8 & 3
            };
            let bytes: Vec<u8> = std::iter::repeat_with(byte).take(length).collect();
            assert_eq!(found(bytes, 0).0, [] as [u64; 0]);
        }
    }
}
