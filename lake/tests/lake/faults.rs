//! Each step of a commit and of a compaction fails in turn; after a restart all invariants hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serin_lake::check::{Acknowledged, Audit, Finding, is_held_by, start_changes_nothing};
use serin_lake::{CommitError, Lake, LakeError, LakeOptions, Position};

use crate::kit::{self, Failing, Failure, START_US};

/// Everything that must hold at rest, and the ids that must be there.
fn assert_whole(options: &LakeOptions, rows: u64) {
    assert_eq!(kit::findings(options, 0, rows), []);
    assert_eq!(Audit::open(&options.dir).unwrap().position(), kit::at(rows));
    let (lake, recovered) = kit::open(options);
    assert!(recovered.damaged.is_empty(), "{:?}", recovered.damaged);
    assert_eq!(recovered.removed, Vec::<std::path::PathBuf>::new());
    kit::assert_ids(&kit::ids(&lake.snapshot(), "order.paid"), 0, rows);
}

/// Opens on a disk whose `at`-th step from now on fails.
fn failing(options: &LakeOptions, at: u64, how: Failure, once: bool) -> (Lake, Arc<AtomicU64>) {
    let steps = Arc::new(AtomicU64::new(0));
    let disk = Failing {
        at: u64::MAX,
        how,
        once,
        steps: steps.clone(),
    };
    let disk = Failing { at, ..disk };
    // Opening takes steps too; they are not counted.
    steps.store(u64::MAX / 2, Ordering::SeqCst);
    let disk = Arc::new(OpenFirst {
        disk,
        steps: steps.clone(),
    });
    let (lake, _) = Lake::open_on(disk, options.clone(), START_US).unwrap();
    steps.store(0, Ordering::SeqCst);
    (lake, steps)
}

/// Lets everything pass until the count of steps is set to 0.
struct OpenFirst {
    disk: Failing,
    steps: Arc<AtomicU64>,
}

impl OpenFirst {
    fn disk(&self) -> &dyn serin_lake::store::Disk {
        match self.steps.load(Ordering::SeqCst) >= u64::MAX / 2 {
            true => &serin_lake::store::RealDisk,
            false => &self.disk,
        }
    }
}

impl serin_lake::store::Disk for OpenFirst {
    fn create_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        self.disk().create_dir(path)
    }
    fn create(
        &self,
        path: &std::path::Path,
    ) -> std::io::Result<Box<dyn serin_lake::store::FileOut>> {
        self.disk().create(path)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
        self.disk().rename(from, to)
    }
    fn sync_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        self.disk().sync_dir(path)
    }
    fn remove(&self, path: &std::path::Path) -> std::io::Result<()> {
        self.disk().remove(path)
    }
    fn pass(&self, moment: serin_lake::store::Moment) -> std::io::Result<()> {
        self.disk().pass(moment)
    }
}

#[test]
fn a_commit_cut_at_any_step_happened_whole_or_not_at_all() {
    for how in [Failure::Refused, Failure::Done, Failure::Torn] {
        for at in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let options = kit::options(dir.path());
            kit::open(&options)
                .0
                .commit(kit::flush(1, "order.paid", 0, 100))
                .unwrap();
            let (lake, steps) = failing(&options, at, how, false);
            let mut flush = kit::flush(1, "order.paid", 100, 300);
            flush.tables.push(kit::table_rows("cart.add", Vec::new()));
            let result = lake.commit(flush);
            let is_over = steps.load(Ordering::SeqCst) < at;
            drop(lake);
            let (lake, recovered) = kit::open(&options);
            let reached = recovered.position.sequence;
            assert!(reached == 100 || reached == 300);
            // What was acknowledged is there; what was refused may be there only when unknown.
            match &result {
                Ok(_) => assert_eq!(reached, 300),
                Err(CommitError::Durability { .. }) => {}
                Err(_) => assert_eq!(reached, 100, "step {at} {how:?}"),
            }
            if reached == 100 {
                lake.commit(kit::flush(1, "order.paid", 100, 300)).unwrap();
            }
            drop(lake);
            assert_whole(&options, 300);
            if is_over {
                assert!(result.is_ok() && at > 8, "only {at} steps");
                break;
            }
        }
    }
}

#[test]
fn a_failed_sync_gives_the_lake_up_and_other_failures_do_not() {
    let mut seen = (0, 0);
    for at in 1..20 {
        let dir = tempfile::tempdir().unwrap();
        let options = kit::options(dir.path());
        drop(kit::open(&options));
        let (lake, steps) = failing(&options, at, Failure::Refused, true);
        let result = lake.commit(kit::flush(1, "order.paid", 0, 50));
        if steps.load(Ordering::SeqCst) < at {
            break;
        }
        let again = lake.commit(kit::flush(1, "order.paid", 0, 50));
        match result {
            Err(CommitError::Durability { .. }) => {
                assert!(matches!(again, Err(CommitError::Poisoned)));
                assert!(lake.is_poisoned());
                assert!(matches!(lake.expire(START_US), Err(LakeError::Poisoned)));
                seen.0 += 1;
            }
            Err(_) => {
                assert_eq!(again.unwrap().position, kit::at(50));
                seen.1 += 1;
            }
            Ok(_) => panic!("step {at} failed unnoticed"),
        }
    }
    assert!(seen.0 >= 3 && seen.1 >= 3, "{seen:?}");
}

#[test]
fn a_compaction_cut_at_any_step_keeps_every_row_once() {
    for how in [Failure::Refused, Failure::Done, Failure::Torn] {
        for at in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let options = kit::hasty(dir.path());
            let (lake, _) = kit::open(&options);
            for part in 0..4 {
                let (from, to) = (part * 100, part * 100 + 100);
                lake.commit(kit::flush(part + 1, "order.paid", from, to))
                    .unwrap();
            }
            drop(lake);
            let before = Audit::open(&options.dir)
                .unwrap()
                .row_sum("order.paid")
                .unwrap();
            let (lake, steps) = failing(&options, at, how, false);
            let merged = lake.compact(START_US + 1).map(|_| ());
            let expired = lake.expire(START_US + kit::SECOND_US).map(|_| ());
            let is_over = steps.load(Ordering::SeqCst) < at;
            drop(lake);
            drop(kit::open(&options));
            let audit = Audit::open(&options.dir).unwrap();
            let kept = audit.rows_are_kept("order.paid", before).unwrap();
            assert_eq!(kept, [], "step {at} {how:?}");
            drop(audit);
            assert_whole(&options, 400);
            if is_over {
                assert!(merged.is_ok() && expired.is_ok());
                break;
            }
        }
    }
}

#[test]
fn a_second_writer_is_told_who_was_first() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    let us = std::process::id();
    let (lake, _) = kit::open(&options);
    match Lake::open(options.clone(), START_US) {
        Err(LakeError::Locked { pid, .. }) => assert_eq!(pid, us),
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(is_held_by(&options.dir, us).unwrap(), []);
    assert_eq!(is_held_by(&options.dir, us + 1).unwrap().len(), 1);
    drop(lake);
    assert_eq!(is_held_by(&options.dir, us).unwrap().len(), 1);
    kit::open(&options);
}

#[test]
fn a_flush_from_elsewhere_or_that_does_not_add_up_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    let (lake, _) = kit::open(&options);
    lake.commit(kit::flush(1, "order.paid", 0, 10)).unwrap();
    let elsewhere = lake.commit(kit::flush(2, "order.paid", 9, 20));
    assert!(matches!(elsewhere, Err(CommitError::Elsewhere { found, .. }) if found == kit::at(10)));
    let mut short = kit::flush(2, "order.paid", 10, 20);
    short.progress.to = kit::at(21);
    assert!(matches!(
        lake.commit(short),
        Err(CommitError::Account { range: 11, .. })
    ));
    drop(lake);
    assert_whole(&options, 10);
}

#[test]
fn another_life_of_the_stream_begins_with_its_gap() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    let (lake, recovered) = kit::open(&options);
    assert_eq!(recovered.position, Position::default());
    lake.commit(kit::flush(1, "order.paid", 0, 10)).unwrap();
    let other = Position {
        incarnation: serin_lake::Incarnation(7),
        sequence: 0,
    };
    let gap = serin_lake::Gap {
        incarnation: kit::incarnation(),
        first: 11,
        last: 20,
        reason: "wiped",
    };
    lake.start_lineage(other, std::slice::from_ref(&gap), "wiped", START_US)
        .unwrap();
    assert!(matches!(
        lake.commit(kit::flush(2, "order.paid", 10, 20)),
        Err(CommitError::Elsewhere { .. })
    ));
    let mut flush = kit::flush(2, "order.paid", 10, 20);
    flush.progress.from = other;
    flush.progress.to = Position {
        sequence: 10,
        ..other
    };
    lake.commit(flush).unwrap();
    drop(lake);
    let (lake, recovered) = kit::open(&options);
    assert_eq!(recovered.position.sequence, 10);
    assert_eq!(recovered.gaps, [gap]);
    assert_eq!(recovered.producers.len(), 1);
    assert_eq!(recovered.producers[0].above, [(22, 22)]);
    assert_eq!(recovered.seen.len(), 2);
    drop(lake);
    let audit = Audit::open(&options.dir).unwrap();
    assert_eq!(audit.all().unwrap(), []);
    // What the recorded gap has is accounted for, and no more than that.
    let lost = |sequence| Acknowledged {
        key: format!("lost-{sequence}"),
        at: Some(kit::at(sequence)),
    };
    let told = audit.acknowledged_are_accounted("id", &[lost(11), lost(20)]);
    assert_eq!(told.unwrap(), []);
    let told = audit.acknowledged_are_accounted("id", &[lost(10), lost(21)]);
    assert_eq!(told.unwrap().len(), 2);
}

#[test]
fn a_start_with_nothing_to_do_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    kit::open(&options)
        .0
        .commit(kit::flush(1, "order.paid", 0, 100))
        .unwrap();
    assert_eq!(start_changes_nothing(&options, START_US).unwrap(), []);
}

#[test]
fn a_row_that_is_missing_or_there_twice_and_a_position_that_fell_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let options = kit::options(dir.path());
    let (lake, _) = kit::open(&options);
    lake.commit(kit::flush(1, "order.paid", 0, 100)).unwrap();
    let mut again = kit::flush(2, "order.paid", 100, 200);
    again
        .tables
        .push(kit::table_rows("cart.add", vec![kit::batch(99, 101)]));
    again.progress.account = None;
    lake.commit(again).unwrap();
    drop(lake);
    let audit = Audit::open(&options.dir).unwrap();
    let named = |found: Vec<Finding>| -> Vec<&'static str> {
        found.iter().map(|finding| finding.invariant).collect()
    };
    let told = audit.acknowledged_are_accounted("id", &kit::acknowledged(0, 202));
    assert_eq!(
        named(told.unwrap()),
        ["I1"; 4],
        "two are there twice, two are missing"
    );
    assert_eq!(named(audit.ids_are_unique().unwrap()), ["I2"; 2]);
    let told = audit.sent_again_is_there_once("id");
    assert_eq!(named(told.unwrap()), ["I14"; 2]);
    assert_eq!(audit.bus_gave_up_only_what_is_in(kit::at(200)), []);
    assert_eq!(
        named(audit.bus_gave_up_only_what_is_in(kit::at(201))),
        ["I6"]
    );
    assert_eq!(audit.position_never_falls(kit::at(200)), []);
    assert_eq!(named(audit.position_never_falls(kit::at(201))), ["I7"]);
    let before = audit.row_sum("cart.add").unwrap();
    assert_eq!(audit.rows_are_kept("cart.add", before).unwrap(), []);
    assert_eq!(
        named(audit.rows_are_kept("order.paid", before).unwrap()),
        ["I10"]
    );
}

/// I13: what a start reads, and so what it can hold, does not grow with the rows. Each test is a
/// process of its own, so that nobody else reads.
#[test]
fn a_start_reads_no_more_for_more_rows() {
    // A checksum of eight bytes for each 256 KiB, and what SQLite reads ahead.
    const SLACK_BYTES: u64 = 64 << 10;
    let read_by_start = |rows: u64| {
        let dir = tempfile::tempdir().unwrap();
        let options = kit::options(dir.path());
        let (lake, _) = kit::open(&options);
        lake.commit(kit::flush(1, "order.paid", 0, rows)).unwrap();
        let bytes = lake.totals().unwrap().bytes;
        drop(lake);
        let before = bytes_read();
        drop(kit::open(&options));
        (bytes_read() - before, bytes)
    };
    let (few, few_bytes) = read_by_start(100);
    let (many, many_bytes) = read_by_start(200_000);
    assert!(many_bytes - few_bytes > 16 * SLACK_BYTES, "{many_bytes}");
    assert!(many < few + SLACK_BYTES, "{few} bytes, then {many}");
}

/// Bytes that this process read so far, as the kernel counts them.
fn bytes_read() -> u64 {
    let counted = std::fs::read_to_string("/proc/self/io").unwrap();
    let line = counted
        .lines()
        .find_map(|line| line.strip_prefix("rchar: "));
    line.unwrap().parse().unwrap()
}
