//! The doors over real sockets, with a lake in a temporary folder and an ingester that only counts.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use serin_dashboards::Watch;
use serin_lake::accept::{AcceptTelemetry, Numbered, RefusedLine, TelemetryLines};
use serin_lake::{Accept, AcceptError, Door, Lake, LakeOptions, Receipt};
use serin_query::{Engine, Limits};
use serin_ui::{Doors, DoorsOptions, Metric, OpenProgress, Operate, Parts, Stage, Upload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

#[path = "doors/ending.rs"]
mod ending;
#[path = "doors/otlp.rs"]
mod otlp;
#[path = "doors/sign_in.rs"]
mod sign_in;
#[path = "doors/tokens.rs"]
mod tokens;

const TOKEN: &str = "0123456789abcdef";
/// A file whose import goes on for as long as somebody listens.
const ENDLESS: &str = "endless.csv";

/// Takes every line but those that say "bad".
#[derive(Default)]
struct Taken {
    bodies: Mutex<Vec<(Door, Bytes, Option<Numbered>)>>,
    telemetry: Mutex<Vec<TelemetryLines>>,
}

/// Takes all telemetry but lines that say "full".
impl AcceptTelemetry for Taken {
    fn tell(&self, lines: Vec<TelemetryLines>) -> BoxFuture<'_, Result<Receipt, AcceptError>> {
        Box::pin(async move {
            let mut receipt = Receipt::default();
            for one in lines {
                if one.text.windows(4).any(|part| part == b"full") {
                    return Err(AcceptError::Full {
                        retry_after: Duration::from_secs(3),
                    });
                }
                receipt.accepted += one.text.split(|byte| *byte == b'\n').count() as u64 - 1;
                self.telemetry.lock().expect("whole").push(one);
            }
            Ok(receipt)
        })
    }
}

impl Accept for Taken {
    fn accept(
        &self,
        door: Door,
        body: Bytes,
        numbered: Option<Numbered>,
    ) -> BoxFuture<'_, Result<Receipt, AcceptError>> {
        Box::pin(async move {
            if body.starts_with(b"full") {
                return Err(AcceptError::Full {
                    retry_after: Duration::from_secs(3),
                });
            }
            let text = String::from_utf8_lossy(&body).into_owned();
            let mut receipt = Receipt::default();
            for (index, line) in text.lines().enumerate() {
                match line.contains("bad") {
                    false => receipt.accepted += 1,
                    true => receipt.refused.push(RefusedLine {
                        line: index as u64 + 1,
                        error: String::from("it is bad"),
                    }),
                }
            }
            if door == Door::One && !receipt.refused.is_empty() {
                return Err(AcceptError::Bad(String::from("it is bad")));
            }
            self.bodies
                .lock()
                .expect("whole")
                .push((door, body, numbered));
            Ok(receipt)
        })
    }
}

struct Quiet;

impl Operate for Quiet {
    fn not_ready(&self) -> Option<String> {
        None
    }
    fn flush(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
    fn stop(&self) {}
    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::gauge("serin_test", "A test.", 1.0)]
    }
    fn write_dashboard(&self, name: &str, _: &str) -> Result<String, String> {
        Ok(format!("dashboards/{name}.yaml"))
    }
    fn schema(&self, name: &str) -> Option<String> {
        (name == "kpis").then(|| String::from("{}"))
    }
    fn status(&self) -> Value {
        json!({"version": "test"})
    }
    fn open(&self, upload: Upload) -> mpsc::Receiver<OpenProgress> {
        let (tx, rx) = mpsc::channel(1);
        if upload.name == ENDLESS {
            tx.try_send(OpenProgress::At {
                stage: Stage::Import,
                done: 1,
                total: 2,
                waits: None,
            })
            .expect("room");
            tokio::spawn(async move { tx.closed().await });
            return rx;
        }
        let text = std::fs::read_to_string(&upload.file).expect("kept");
        tx.try_send(OpenProgress::Failed(format!(
            "{} has {}",
            upload.name, text
        )))
        .expect("room");
        rx
    }
}

struct Server {
    address: SocketAddr,
    doors: Doors,
    taken: Arc<Taken>,
    client: Client,
    _watch: Watch,
    folder: tempfile::TempDir,
}

fn now_us() -> i64 {
    1_431_820_800_000_000
}

fn random() -> [u8; 32] {
    [7; 32]
}

async fn serve() -> Server {
    serve_closing(Duration::from_secs(60)).await
}

/// The doors with another deadline for what is under way when they close.
async fn serve_closing(closes_within: Duration) -> Server {
    serve_at("127.0.0.1:0", closes_within).await
}

async fn serve_at(address: &str, closes_within: Duration) -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let options = LakeOptions {
        dir: folder.path().join("lake"),
        ..LakeOptions::default()
    };
    let (lake, _) = Lake::open(options, now_us()).expect("a lake");
    let listener = TcpListener::bind(address).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let taken = Arc::new(Taken::default());
    let watch = Watch::start(folder.path());
    let store = lake.store();
    let parts = Parts {
        tokens: lake.tokens().expect("read"),
        lake,
        engine: Arc::new(Engine::new(
            Limits::default(),
            folder.path().join("spill"),
            None,
            store,
        )),
        library: watch.library(),
        accept: taken.clone(),
        telemetry: taken.clone(),
        operate: Arc::new(Quiet),
        runtime: None,
        first_steps: None,
    };
    let options = DoorsOptions {
        token: TOKEN.to_owned(),
        sessions_file: None,
        looks_file: None,
        upload_dir: folder.path().to_owned(),
        now_us,
        random,
        closes_within,
    };
    let client = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client");
    Server {
        address,
        doors: Doors::open(listener, parts, options),
        taken,
        client,
        _watch: watch,
        folder,
    }
}

impl Server {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.client.get(self.url(path)).bearer_auth(TOKEN);
        request.send().await.expect("an answer")
    }

    async fn post_events(&self, body: Vec<u8>, headers: &[(&str, &str)]) -> (StatusCode, Value) {
        let mut request = self
            .client
            .post(self.url("/api/v1/events"))
            .bearer_auth(TOKEN)
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.json().await.expect("JSON"))
    }
}

#[tokio::test]
async fn events_are_taken_and_bad_lines_told() {
    let server = serve().await;
    let ndjson = ("content-type", "application/x-ndjson");
    let (status, body) = server.post_events(b"{}\nbad\n{}".to_vec(), &[ndjson]).await;
    assert_eq!(status, StatusCode::MULTI_STATUS);
    assert_eq!(body["accepted"], 2);
    assert_eq!(body["refused"], json!([{"line": 2, "error": "it is bad"}]));
    let numbered = [
        ndjson,
        ("serin-number", "import-1/0/7"),
        ("serin-import", "true"),
    ];
    let (status, _) = server.post_events(b"{}".to_vec(), &numbered).await;
    assert_eq!(status, StatusCode::OK);
    let last = server
        .taken
        .bodies
        .lock()
        .expect("whole")
        .last()
        .cloned()
        .expect("taken");
    assert_eq!(last.0, Door::Ndjson);
    let numbered = last.2.expect("numbered");
    assert_eq!(
        (numbered.number.as_str(), numbered.is_import),
        ("import-1/0/7", true)
    );
    for (body, header, status) in [
        (
            &b"bad"[..],
            ("content-type", "application/cloudevents+json"),
            StatusCode::BAD_REQUEST,
        ),
        (b"{}", ("serin-number", "x"), StatusCode::BAD_REQUEST),
        (
            b"{}",
            ("content-encoding", "br"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (b"{}", ("content-encoding", "gzip"), StatusCode::BAD_REQUEST),
        (b"full", ndjson, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let (found, answer) = server.post_events(body.to_vec(), &[header]).await;
        assert_eq!(found, status, "{header:?} {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    server.doors.close().await;
}

#[tokio::test]
async fn packed_bodies_are_unpacked_and_bombs_refused() {
    let server = serve().await;
    let gzip = |bytes: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(bytes).expect("packed");
        packer.finish().expect("packed")
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).expect("packed");
    for (coding, packed) in [("gzip", gzip(b"{}\n{}")), ("zstd", zstd(b"{}\n{}"))] {
        let (status, body) = server
            .post_events(packed, &[("content-encoding", coding)])
            .await;
        assert_eq!(
            (status, &body["accepted"]),
            (StatusCode::OK, &json!(2)),
            "{coding}"
        );
    }
    let zeros = vec![0; 80 << 20];
    for (coding, packed) in [("gzip", gzip(&zeros)), ("zstd", zstd(&zeros))] {
        assert!(packed.len() < 1 << 20, "{coding} packs zeros well");
        let (status, body) = server
            .post_events(packed, &[("content-encoding", coding)])
            .await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{coding} {body}");
    }
    let (status, _) = server.post_events(vec![b' '; 11 << 20], &[]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    // A skippable frame that unpacks to nothing.
    let mut skip = vec![0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    skip.extend(zstd(b"{}"));
    let (status, _) = server
        .post_events(skip, &[("content-encoding", "zstd")])
        .await;
    assert_eq!(status, StatusCode::OK);
    server.doors.close().await;
}

#[tokio::test]
async fn a_slow_head_is_cut_off_and_others_are_served() {
    let server = serve().await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
            .await
            .expect("sent");
        slow.push(stream);
    }
    assert_eq!(server.get("/healthz").await.status(), StatusCode::OK);
    // The server ends it by itself, within its deadline of ten seconds.
    let mut rest = Vec::new();
    let ended = slow[0].read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .expect("ended in time")
        .expect("ended in order");
    server.doors.close().await;
}

#[tokio::test]
async fn statements_kpis_and_dashboards_answer() {
    let server = serve().await;
    let sql = json!({"sql": "SELECT 1 AS one"});
    let request = server
        .client
        .post(server.url("/api/v1/query"))
        .bearer_auth(TOKEN)
        .json(&sql);
    let answer: Value = request
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    assert_eq!(answer["rows"], json!([[1]]));
    assert_eq!(
        server.get("/api/v1/kpis/none").await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        server
            .get("/api/v1/decisions")
            .await
            .text()
            .await
            .expect("text"),
        "[]"
    );
    std::fs::create_dir_all(server.folder.path().join("dashboards")).expect("made");
    std::fs::create_dir_all(server.folder.path().join("kpis")).expect("made");
    let kpis = "kpis:\n  orders: {event: order.paid, measure: count()}\n";
    std::fs::write(server.folder.path().join("kpis/a.yaml"), kpis).expect("written");
    let dashboard = "dashboard: shop\ntitle: Shop\nrange: 6h\nrefresh: 1s\npanels:\n  orders: {kpi: orders, draw: stat}\nlayout:\n  - {orders: 1}\n";
    std::fs::write(server.folder.path().join("dashboards/a.yaml"), dashboard).expect("written");
    let found = async {
        loop {
            let answer = server.get("/api/v1/dashboards/shop").await;
            if answer.status() == StatusCode::OK {
                return answer.json::<Value>().await.expect("JSON");
            }
            tokio::task::yield_now().await;
        }
    };
    let shop = tokio::time::timeout(Duration::from_secs(10), found)
        .await
        .expect("seen");
    assert_eq!(shop["range"], json!({"from": "now-6h", "to": "now"}));
    assert_eq!(shop["layout"], json!([[{"panel": "orders", "share": 1.0}]]));
    let data: Value = server
        .get("/api/v1/dashboards/shop/data")
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(data["panels"]["orders"]["state"], "empty");
    assert_eq!(data["data_range"], Value::Null);
    let mut live = server.get("/api/v1/dashboards/shop/live").await;
    let mut told = String::new();
    while !(told.contains("event: panels") && told.contains("event: tick")) {
        let piece = tokio::time::timeout(Duration::from_secs(10), live.chunk()).await;
        let piece = piece.expect("in time").expect("whole").expect("more");
        told.push_str(&String::from_utf8_lossy(&piece));
    }
    let picture = server
        .get("/d/shop/orders.svg")
        .await
        .text()
        .await
        .expect("text");
    assert!(picture.contains("<svg"), "{picture}");
    server.doors.close().await;
}

#[tokio::test]
async fn a_dropped_file_is_handed_over() {
    let server = serve().await;
    let request = server
        .client
        .post(server.url("/api/v1/open?name=a.csv"))
        .bearer_auth(TOKEN);
    let answer = request.body("x,y").send().await.expect("an answer");
    let line = answer.text().await.expect("text");
    assert_eq!(line, "{\"error\":\"a.csv has x,y\"}\n");
    server.doors.close().await;
}

#[tokio::test]
async fn logs_traces_and_map_are_empty_before_there_are_any() {
    let server = serve().await;
    let lines: Value = server.get("/api/v1/logs").await.json().await.expect("JSON");
    assert_eq!(
        lines,
        json!({"lines": [], "has_more": false, "watermark": null})
    );
    let counts = server.get("/api/v1/logs/counts?from=now-5m").await;
    let counts: Value = counts.json().await.expect("JSON");
    assert_eq!(
        (&counts["levels"], &counts["senders"]),
        (&json!([]), &json!([]))
    );
    let traces: Value = server
        .get("/api/v1/traces?status=error&slower=1s")
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(traces["traces"], json!([]));
    let map: Value = server.get("/api/v1/map").await.json().await.expect("JSON");
    assert_eq!((&map["nodes"], &map["edges"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn what_logs_and_traces_do_not_understand_is_said() {
    let server = serve().await;
    for (path, status, said) in [
        (
            "/api/v1/logs?level=loud",
            400,
            "there are error, warn, info",
        ),
        ("/api/v1/logs?before=yesterday", 400, "the cursor of a line"),
        ("/api/v1/logs?servce=cart", 400, "unknown field `servce`"),
        ("/api/v1/traces?status=500", 400, "there are ok and error"),
        ("/api/v1/traces?slower=fast", 400, "write 200ms or 2s"),
        ("/api/v1/traces/xyz", 400, "32 hex digits"),
        (
            "/api/v1/traces/4bf92f3577b34da6a3ce929d0e0e4736",
            404,
            "has expired",
        ),
        ("/api/v1/first-steps", 404, "no first steps"),
    ] {
        let answer = server.get(path).await;
        assert_eq!(answer.status(), status, "{path}");
        let text = answer.text().await.expect("text");
        assert!(text.contains(said), "{path}: {text}");
    }
}
