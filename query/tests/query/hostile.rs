//! The corpus of hostile statements, through real worker processes, while KPIs are asked beside it.
//!
//! Every statement must be refused or end in an error or a bounded answer, in time; this process must
//! live, and others' panels must not wait for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use serin_query::{KpiRequest, Limits, QueryError, kpi};

use crate::corpus::statements;
use crate::fixture::{Fixture, range};

/// How long a statement, or a panel beside it, may take on a busy machine.
const ENDED_WITHIN: Duration = Duration::from_secs(30);
/// What a worker holds beside its question's memory: the program (not optimized here), which waits
/// warm with about 100 MiB, and what is used of its stacks.
const PROGRAM_BYTES: usize = 160 << 20;

/// The highest resident memory (`VmHWM`) of any process this one has started.
///
/// The kernel keeps the peak of a process as long as it lives, so looking every 2 ms misses at most
/// what came in the last 2 ms of one.
struct Peaks {
    stop: mpsc::Sender<()>,
    looking: std::thread::JoinHandle<usize>,
}

impl Peaks {
    fn watch() -> Peaks {
        let (stop, stopped) = mpsc::channel::<()>();
        let looking = std::thread::spawn(move || {
            let mut most = 0;
            while let Err(mpsc::RecvTimeoutError::Timeout) =
                stopped.recv_timeout(Duration::from_millis(2))
            {
                most = children()
                    .filter_map(|pid| peak(&pid))
                    .fold(most, usize::max);
            }
            most
        });
        Peaks { stop, looking }
    }

    fn most(self) -> usize {
        drop(self.stop);
        self.looking.join().unwrap()
    }
}

fn children() -> impl Iterator<Item = String> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    threads.flat_map(|thread| {
        let pids = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        let pids: Vec<String> = pids.split_whitespace().map(str::to_owned).collect();
        pids
    })
}

fn peak(pid: &str) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? << 10)
}

/// Whether the kernel refuses a process some calls (`Seccomp: 2`).
fn is_enclosed(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line == "Seccomp:\t2")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_statements_harm_nobody() {
    let fixture = Fixture::new();
    let limits = Limits {
        deadline: Duration::from_secs(2),
        memory_bytes: 256 << 20,
        spill_bytes_max: 64 << 20,
        ..Limits::default()
    };
    let engine = fixture.engine(limits.clone());
    // The panel's own deadline is not what is looked at.
    let panels = fixture.engine(Limits::default());
    let memory = Peaks::watch();
    let plan = kpi::compile(vec![kpi::Definition::simple(
        "n",
        "order.paid",
        "count()",
        None,
    )])
    .unwrap();
    let mut request = KpiRequest {
        range: range(0, 180),
        step_us: None,
        by: vec![],
        filters: vec![],
        shift_us: 0,
        series_max: 1,
    };
    let statements = statements();
    let count = statements.len();
    assert!(count >= 100, "only {count} statements");
    let mut wrong = Vec::new();
    for (wanted, sql) in statements {
        let line: String = sql.chars().take(200).collect();
        // Another range each time, so that it is read anew.
        request.range.to_us += 1;
        let has_answered = AtomicBool::new(false);
        let hostile = async {
            let asked = engine.sql(&fixture.snapshot, &sql, None);
            let ended = tokio::time::timeout(ENDED_WITHIN, asked).await;
            (ended, has_answered.load(Ordering::SeqCst))
        };
        let panel = async {
            let asked = panels.kpi(&fixture.snapshot, &plan["n"], &request);
            let panel = tokio::time::timeout(ENDED_WITHIN, asked).await;
            has_answered.store(true, Ordering::SeqCst);
            panel.expect("it is answered").unwrap()
        };
        let ((hostile, was_first), panel) = tokio::join!(hostile, panel);
        assert_eq!(panel.series[0].points[0].1, Some(6.0), "{line}");
        let found = hostile.unwrap_or_else(|_| panic!("was not ended in time: {line}"));
        let took_its_time = matches!(found, Err(QueryError::Deadline { .. }));
        assert!(was_first || !took_its_time, "a panel waited for {line}");
        match (wanted, found) {
            ("refused", Err(QueryError::Refused(_))) | ("any", _) | ("fails", Err(_)) => {}
            (_, other) => wrong.push(format!("wanted {wanted}, found {other:?}: {line}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let peak = memory.most();
    assert!(peak > 0, "no worker was seen");
    let bound = limits.memory_bytes + PROGRAM_BYTES;
    assert!(
        peak <= bound,
        "a worker held {} MiB, more than {} MiB",
        peak >> 20,
        bound >> 20
    );
    // A worker that has answered waits for more, and its folder with it.
    drop(engine);
    let left: Vec<_> = std::fs::read_dir(fixture.spill_dir())
        .unwrap()
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with("worker-")),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_statement_nobody_waits_for_is_ended() {
    let fixture = Fixture::new();
    let engine = Arc::new(fixture.engine(Limits {
        running_max: 1,
        // The corpus measures all workers of this process.
        memory_bytes: 256 << 20,
        ..Limits::default()
    }));
    let endless =
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
    let asked = engine.sql(&fixture.snapshot, endless, None);
    let enclosed = async {
        while !children().any(|pid| is_enclosed(&pid)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = asked => panic!("it has no end"),
        seen = tokio::time::timeout(Duration::from_secs(20), enclosed) => seen.unwrap(),
    }
    // The only place is free again at once.
    let next = engine.sql(&fixture.snapshot, "SELECT 1 AS one", None);
    let answer = tokio::time::timeout(Duration::from_secs(20), next)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(serin_query::render::csv(&answer), "one\n1\n");
}

#[tokio::test]
async fn a_worker_that_has_answered_is_asked_again_and_one_that_failed_is_not() {
    let fixture = Fixture::new();
    let engine = fixture.engine(Limits {
        // The corpus measures all workers of this process.
        memory_bytes: 256 << 20,
        ..Limits::default()
    });
    let enclosed = || -> Vec<String> { children().filter(|pid| is_enclosed(pid)).collect() };
    let count = r#"SELECT count(*) AS n FROM "order.paid""#;
    let ask = async |sql| engine.sql(&fixture.snapshot, sql, None).await;
    assert_eq!(
        serin_query::render::csv(&ask(count).await.unwrap()),
        "n\n6\n"
    );
    let first = enclosed();
    assert_eq!(first.len(), 1, "{first:?}");
    let sums = r#"SELECT count("user") AS n FROM "cart.add""#;
    assert_eq!(
        serin_query::render::csv(&ask(sums).await.unwrap()),
        "n\n5\n"
    );
    assert_eq!(enclosed(), first, "the same one answers for another table");
    let failing = r#"SELECT CAST(service AS BIGINT) FROM "order.paid""#;
    ask(failing).await.unwrap_err();
    assert_eq!(
        serin_query::render::csv(&ask(count).await.unwrap()),
        "n\n6\n"
    );
    let gone = async {
        while enclosed().contains(&first[0]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .unwrap();
    assert_eq!(enclosed().len(), 1, "another one has answered");
}
