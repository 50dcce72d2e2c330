//! A real bus, a real lake, and the ingester between them, under a folder that goes away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serin_bus::{Bus, BusOptions, EventStream, stop_left};
use serin_ingest::{Edge, Ingest, IngestOptions, IngestStats};
use serin_lake::check::{Acknowledged, Audit};
use serin_lake::store::Disk;
use serin_lake::{Lake, LakeOptions, Position, Snapshot};
use serin_wire::batch::{self, BatchWriter, Head, Id};
use tempfile::TempDir;
use ulid::Ulid;

pub(crate) struct Place {
    pub(crate) bus: Bus,
    pub(crate) events: EventStream,
    /// The events that the bus acknowledged, by their identity: where their first message lies.
    acknowledged: Mutex<BTreeMap<String, Position>>,
    dir: Folder,
}

/// A folder whose server is gone when the test is over, however it ends.
struct Folder(TempDir);

impl Drop for Folder {
    fn drop(&mut self) {
        let folder = self.0.path().to_path_buf();
        let stopping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(stop_left(&folder)).expect("it stops")
        });
        stopping.join().expect("no panic");
    }
}

pub(crate) fn edge() -> Edge {
    Edge::of_machine().expect("random bytes")
}

impl Place {
    pub(crate) async fn new() -> Place {
        Place::with_room(1 << 30).await
    }

    /// A place whose stream of events holds so many bytes.
    pub(crate) async fn with_room(events_bytes_max: u64) -> Place {
        let dir = Folder(TempDir::new().expect("a folder"));
        Place::open(dir, events_bytes_max).await
    }

    async fn open(dir: Folder, events_bytes_max: u64) -> Place {
        let bus = Bus::start(BusOptions {
            data_dir: dir.0.path().to_path_buf(),
            joined: None,
            port: None,
            events_bytes_max,
            server_binary: None,
            search_path: std::env::var_os("PATH"),
            beside: None,
        })
        .await
        .expect("a bus");
        let events = bus.events().await.expect("the stream");
        Place {
            bus,
            events,
            acknowledged: Mutex::default(),
            dir,
        }
    }

    /// Stops the bus, lets `between` look at what JetStream has on disk, and starts it again.
    pub(crate) async fn restart(self, between: impl FnOnce(&Path)) -> Place {
        let Place {
            bus,
            events,
            acknowledged,
            dir,
        } = self;
        drop(events);
        bus.stop().await;
        between(&dir.0.path().join("bus").join("jetstream"));
        Place {
            acknowledged,
            ..Place::open(dir, 1 << 30).await
        }
    }

    pub(crate) fn options(&self) -> LakeOptions {
        LakeOptions {
            dir: self.dir.0.path().join("lake"),
            ..LakeOptions::default()
        }
    }

    pub(crate) fn catalogue(&self) -> PathBuf {
        self.options().dir.join("catalogue.sqlite")
    }

    pub(crate) async fn start(&self, options: IngestOptions) -> (Lake, Ingest) {
        self.start_at(options, edge()).await
    }

    /// As [`Place::start`], with a clock that may be another than the bus's.
    pub(crate) async fn start_at(&self, options: IngestOptions, edge: Edge) -> (Lake, Ingest) {
        let (lake, recovered) = Lake::open(self.options(), edge.now_us()).expect("a lake");
        let ingest = Ingest::start(lake.clone(), recovered, &self.bus, options, edge).await;
        (lake, ingest.expect("it starts"))
    }

    /// As [`Place::start`], on a disk that may fail at once; `None` where it did.
    pub(crate) async fn start_on(
        &self,
        disk: Arc<dyn Disk>,
        options: IngestOptions,
    ) -> Option<Ingest> {
        let (lake, recovered) = Lake::open_on(disk, self.options(), edge().now_us()).ok()?;
        Ingest::start(lake, recovered, &self.bus, options, edge())
            .await
            .ok()
    }

    /// Publishes one numbered batch of `count` events of type `a`, with identities by number.
    pub(crate) async fn publish(&self, header: &str, number: u64, count: u64) {
        let id = format!("test/0/{number}");
        self.send(header, &id, number, count).await;
    }

    /// As [`Place::publish`], with a message id of the caller's choice.
    pub(crate) async fn publish_as(&self, id: &str, number: u64, count: u64) {
        self.send("Nats-Msg-Id", id, number, count).await;
    }

    async fn send(&self, header: &str, id: &str, number: u64, count: u64) {
        let mut writer = BatchWriter::new("cart", "v1", "cart-v1-1", 0);
        let mut ids = Vec::new();
        for at in 0..count {
            let identity = u128::from(number * 1000 + at);
            ids.push(Ulid(identity).to_string());
            let data = format!(r#"{{"number":{number},"at":{at}}}"#);
            let head = Head {
                id: Id::Ulid(identity),
                kind: "a",
                service: None,
                time_us: edge().now_us(),
                trace: None,
                arm: None,
            };
            writer.push(&head, data.as_bytes());
        }
        let headers = [(header, id), ("Content-Type", batch::CONTENT_TYPE)];
        let sent = self
            .events
            .publish("ev.cart._batch", &headers, Bytes::from(writer.take()));
        let taken = sent.await.expect("the bus takes it");
        let at = Position {
            sequence: taken.sequence,
            ..self.start_of_life().await
        };
        let mut acknowledged = self.acknowledged.lock().expect("no panic");
        for id in ids {
            acknowledged.entry(id).or_insert(at);
        }
    }

    async fn start_of_life(&self) -> Position {
        let state = self.events.state().await.expect("the stream");
        Position {
            incarnation: state.incarnation.parse().expect("a name of ours"),
            sequence: 0,
        }
    }

    /// The last look at everything, once the ingester has stopped: every invariant that can be asked
    /// of bus and lake at rest.
    pub(crate) async fn end(self) {
        // The bus first: the position may only be further than what it gave up.
        let given_up = Position {
            sequence: self.events.state().await.expect("the stream").first - 1,
            ..self.start_of_life().await
        };
        let audit = Audit::open(&self.options().dir).expect("a lake");
        let mut findings = audit.all().expect("it is read");
        findings.extend(audit.bus_gave_up_only_what_is_in(given_up));
        let acknowledged = self.acknowledged.lock().expect("no panic").clone();
        let events = acknowledged.into_iter();
        let events = events.map(|(key, at)| Acknowledged { key, at: Some(at) });
        let accounted = audit.acknowledged_are_accounted("id", &events.collect::<Vec<_>>());
        findings.extend(accounted.expect("it is read"));
        assert_eq!(findings, []);
        self.bus.stop().await;
    }
}

/// Rows of a table, in files and fresh.
pub(crate) fn rows(snapshot: &Snapshot, table: &str) -> u64 {
    let Some(view) = snapshot.tables.get(table) else {
        return 0;
    };
    let fresh: usize = view.fresh.iter().map(|batch| batch.num_rows()).sum();
    view.files.iter().map(|file| file.rows).sum::<u64>() + fresh as u64
}

/// Waits until the counters say what is wanted.
pub(crate) async fn until(ingest: &Ingest, what: &str, is_so: impl Fn(&IngestStats) -> bool) {
    let deadline = Duration::from_secs(30);
    let wait = async {
        while !is_so(&ingest.stats()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(deadline, wait).await;
    assert!(ended.is_ok(), "{what}: {:?}", ingest.stats());
}

/// Answers of real DuckDB to statements on the catalogue.
pub(crate) fn duckdb(catalogue: &Path, statements: &[&str]) -> Vec<serde_json::Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lake/tests/duckdb_read.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(catalogue)
        .args(statements)
        .output();
    let output = output.expect("python3 runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}
