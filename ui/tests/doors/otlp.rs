//! OTLP over HTTP at both ports: encodings, packing, bounds, who may come in, and what is answered.
//! Over gRPC it is tested with real exporters (`tests/e2e/otlp.rs`).

use std::net::SocketAddr;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const SPAN: &str =
    r#"{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"a"}"#;

fn traces(spans: &str) -> String {
    let resource = r#"{"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}]}"#;
    format!(
        r#"{{"resourceSpans":[{{"resource":{resource},"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#
    )
}

/// The doors with a listener for exporters; its address.
async fn hear() -> (Server, SocketAddr) {
    hear_beside(serve().await).await
}

async fn hear_beside(server: Server) -> (Server, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    server.doors.hear_otlp(Some(listener), None);
    (server, address)
}

async fn post(
    server: &Server,
    to: SocketAddr,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> reqwest::Response {
    let mut request = server.client.post(format!("http://{to}/v1/traces"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).send().await.expect("an answer")
}

#[tokio::test]
async fn exporters_of_this_machine_need_no_token_and_pages_are_refused() {
    let (server, exporters) = hear().await;
    let json = ("content-type", "application/json");
    let token = format!("Bearer {TOKEN}");
    let evil = ("host", "evil.example");
    let page = ("origin", "http://localhost:3000");
    let plain = ("content-type", "text/plain");
    for (to, headers, status) in [
        (exporters, vec![json], 200),
        (exporters, vec![json, evil], 421),
        (exporters, vec![json, page], 403),
        (exporters, vec![plain], 415),
        (server.address, vec![json], 401),
        (server.address, vec![json, ("authorization", &token)], 200),
    ] {
        let answer = post(&server, to, &headers, traces(SPAN)).await;
        assert_eq!(answer.status(), status, "{headers:?}");
    }
    let subjects: Vec<String> = {
        let told = server.taken.telemetry.lock().expect("whole");
        told.iter().map(|lines| lines.subject.clone()).collect()
    };
    assert_eq!(subjects, ["tel.span.cart._._"; 2]);
    // Nothing but OTLP is behind that port.
    let other = server.client.get(format!("http://{exporters}/metrics"));
    assert_eq!(other.send().await.expect("an answer").status(), 404);
    server.doors.close().await;
}

#[tokio::test]
async fn the_exporters_port_wants_a_name_of_loopback_wherever_the_pages_are() {
    let open = serve_at("0.0.0.0:0", Duration::from_secs(60)).await;
    let (server, exporters) = hear_beside(open).await;
    let json = ("content-type", "application/json");
    let evil = ("host", "evil.example");
    let refused = post(&server, exporters, &[json, evil], traces(SPAN)).await;
    assert_eq!(refused.status(), 421);
    // The pages are to be reached by any name then.
    let page = server.client.get(server.url("/healthz"));
    let page = page.header("host", "shop.example").send().await;
    assert_eq!(page.expect("an answer").status(), 200);
    server.doors.close().await;
}

#[tokio::test]
async fn answers_are_written_as_the_request_was() {
    let (server, exporters) = hear().await;
    let json = ("content-type", "application/json; charset=utf-8");
    let protobuf = ("content-type", "application/x-protobuf");
    let text = |answer: reqwest::Response| async { answer.text().await.expect("text") };
    let good = post(&server, exporters, &[json], traces(SPAN)).await;
    assert_eq!(text(good).await, "{}");
    let spans = format!(r#"{SPAN},{{"name":"b"}}"#);
    let part = post(&server, exporters, &[json], traces(&spans)).await;
    let part = text(part).await;
    assert!(part.contains(r#""rejectedSpans":"1""#), "{part}");
    let bad = post(&server, exporters, &[json], "nonsense").await;
    assert_eq!(
        (
            bad.status().as_u16(),
            bad.headers()["content-type"].as_bytes()
        ),
        (400, &b"application/json"[..])
    );
    let bad = text(bad).await;
    assert!(
        bad.starts_with(r#"{"code":3,"message":"the body is no Export"#),
        "{bad}"
    );
    let bad = post(&server, exporters, &[protobuf], "nonsense").await;
    assert_eq!(
        (
            bad.status().as_u16(),
            bad.headers()["content-type"].as_bytes()
        ),
        (400, &b"application/x-protobuf"[..])
    );
    let none = post(&server, exporters, &[protobuf], "").await;
    assert_eq!(
        (none.status().as_u16(), text(none).await.as_str()),
        (200, "")
    );
    let full = traces(&SPAN.replace(r#""a""#, r#""full""#));
    let full = post(&server, exporters, &[json], full).await;
    assert_eq!(
        (
            full.status().as_u16(),
            full.headers()["retry-after"].as_bytes()
        ),
        (503, &b"3"[..])
    );
    let counted = server.get("/metrics").await.text().await.expect("text");
    for (outcome, count) in [("accepted", 2), ("refused", 1)] {
        let line =
            format!(r#"serin_otlp_records_total{{signal="spans",outcome="{outcome}"}} {count}"#);
        assert!(counted.contains(&line), "{counted}");
    }
    server.doors.close().await;
}

#[tokio::test]
async fn packed_requests_are_unpacked_and_bombs_refused() {
    let (server, exporters) = hear().await;
    let headers = [
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ];
    let packed = |body: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).expect("memory");
        encoder.finish().expect("memory")
    };
    let good = post(
        &server,
        exporters,
        &headers,
        packed(traces(SPAN).as_bytes()),
    )
    .await;
    assert_eq!(good.status(), 200);
    let bomb = post(&server, exporters, &headers, packed(&vec![b' '; 64 << 20])).await;
    assert_eq!(bomb.status(), 413);
    // Each span repeats its resource: half a megabyte would become hundreds.
    let long = "x".repeat(1 << 19);
    let spans = vec![SPAN; 1000].join(",");
    let large = traces(&spans).replace(
        r#"{"key":"service.name""#,
        &format!(r#"{{"key":"a","value":{{"stringValue":"{long}"}}}},{{"key":"service.name""#),
    );
    let large = post(&server, exporters, &headers, packed(large.as_bytes())).await;
    assert_eq!(large.status(), 413);
    let good = post(
        &server,
        exporters,
        &headers,
        packed(traces(SPAN).as_bytes()),
    )
    .await;
    assert_eq!(good.status(), 200);
    server.doors.close().await;
}
