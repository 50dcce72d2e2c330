//! Requests over the bus: what the service sees, what comes back, and what is refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use serde_json::json;
use serin_sdk::{Options, Serin, WebResponse};
use serin_wire::call;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::kit::{ALL_V1, Asked, Fixture, service};

/// More than the gateway keeps of an answer, and than sockets do.
const SLOW_CHUNKS: usize = 200;
const SLOW_CHUNK_BYTES: usize = 256 << 10;

/// Tells what it was asked, as JSON, with a cookie twice.
fn mirror(asked: Asked) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let headers = asked.message.headers.clone().expect("headers");
        let mut lines: Vec<String> = headers
            .iter()
            .flat_map(|(name, values)| {
                values
                    .iter()
                    .map(move |value| format!("{name}: {}", value.as_str()))
            })
            .collect();
        lines.sort();
        let body = String::from_utf8_lossy(&asked.message.payload).into_owned();
        let seen = json!({"headers": lines, "body": body}).to_string();
        let own = [
            (call::WEB_STATUS, "201"),
            ("h-content-type", "application/json"),
            ("h-set-cookie", "a=1"),
            ("h-set-cookie", "b=2"),
            ("h-connection", "close"),
        ];
        asked.send(&own, seen).await;
    })
}

#[tokio::test]
async fn the_service_sees_the_request_and_the_client_its_answer() {
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, mirror).await;
    fixture.tell([service("cart", &ALL_V1, &[&one])]).await;
    let sent = fixture
        .http
        .post(fixture.at("/cart/items?sku=7&n=%20"))
        .header("x-user", "ada")
        .header("serin-arm", "cart=v9")
        .header("x-forwarded-for", "9.9.9.9")
        .header(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        .body("one finch")
        .send();
    let response = sent.await.expect("answered");
    assert_eq!(response.status(), 201);
    let cookies = response.headers().get_all("set-cookie").iter();
    assert_eq!(cookies.collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert!(!response.headers().contains_key("connection"));
    let seen: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(seen["body"], "one finch");
    let lines = seen["headers"].as_array().expect("lines");
    let has = |line: &str| lines.iter().any(|one| one == line);
    let host = format!("h-host: {}", fixture.address);
    for line in [
        "serin-http: POST /items?sku=7&n=%20",
        "serin-from: gateway",
        "h-x-user: ada",
        "h-x-forwarded-for: 127.0.0.1",
        "h-x-forwarded-prefix: /cart",
        host.as_str(),
    ] {
        assert!(has(line), "{line} in {lines:#?}");
    }
    let starting = |start: &str| {
        let mut all = lines.iter().filter_map(|line| line.as_str());
        all.find(|line| line.starts_with(start)).map(str::to_owned)
    };
    let trace = starting("traceparent: ").expect("a trace");
    assert!(
        trace.contains("4bf92f3577b34da6a3ce929d0e0e4736"),
        "{trace}"
    );
    assert!(
        !trace.contains("00f067aa0ba902b7"),
        "the gateway has a span of its own"
    );
    let left = starting("serin-timeout-ms: ").expect("a deadline");
    let left: u32 = left["serin-timeout-ms: ".len()..]
        .parse()
        .expect("a number");
    assert!((29_000..=30_000).contains(&left), "{left}");
    assert_eq!(
        starting("serin-arm"),
        None,
        "no trial, and none from outside"
    );
}

#[tokio::test]
async fn a_service_of_the_sdk_streams_its_answer() {
    let fixture = Fixture::new().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let serin = Serin::connect(Options {
        version: "v1".into(),
        instance: "cart-v1-1".into(),
        spill_dir: None,
        ..Options::new(fixture.bus.url(), "cart")
    });
    let serin = serin.expect("the options are right");
    let (read, is_read) = tokio::sync::watch::channel(());
    let held = Arc::new(Mutex::new(Some(read)));
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let web = serin.service().web(move |_, request| {
        let (held, asked) = (Arc::clone(&held), Arc::clone(&counting));
        async move {
            let response = WebResponse::new(200).header("content-type", "text/plain");
            match request.path.as_str() {
                "/slow" => {
                    let chunks = (0..SLOW_CHUNKS).map(move |n| {
                        asked.store(n + 1, Ordering::Relaxed);
                        Ok(vec![b'x'; SLOW_CHUNK_BYTES].into())
                    });
                    Ok(response.stream(futures::stream::iter(chunks)))
                }
                "/endless" => {
                    let read = held.lock().expect("no panic").take();
                    let begun = futures::stream::iter([Ok("begun".into())]);
                    let endless = begun.chain(futures::stream::pending());
                    Ok(response.stream(endless.inspect(move |_| assert!(read.is_some()))))
                }
                "/long" => Ok(response.body(vec![b'x'; 3 << 20])),
                "/broken" => Ok(response.stream(futures::stream::iter([
                    Ok("begun".into()),
                    Err(serin_sdk::Failure::new(500, "no more")),
                ]))),
                _ => {
                    let ticks = futures::stream::iter(0..3).then(|n| async move {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Ok(format!("{n}\n").into())
                    });
                    Ok(response.stream(ticks))
                }
            }
        }
    });
    let running = tokio::spawn(web.run_until(async { drop(stopped.await) }));
    let mut told = service("cart", &ALL_V1, &[]);
    told.instances.push(serin_gateway::Instance {
        version: "v1".into(),
        name: "cart-v1-1".into(),
        reach: serin_gateway::Reach::Bus,
    });
    fixture.tell([told]).await;
    crate::kit::until("the service answers", async || {
        fixture.text("/cart/ticks").await == (200, "0\n1\n2\n".to_owned())
    })
    .await;
    let (status, long) = fixture.text("/cart/long").await;
    assert_eq!((status, long.len()), (200, 3 << 20));
    let broken = fixture.get("/cart/broken").await;
    assert_eq!(broken.status(), 200);
    assert!(
        broken.bytes().await.is_err(),
        "the client sees that it is not whole"
    );
    let mut slow = fixture.get("/cart/slow").await;
    let mut bytes = 0;
    // Nothing is read meanwhile; the service is as far ahead as it may be, and waits.
    crate::kit::until("the service is ahead", async || {
        asked.load(Ordering::Relaxed) >= 32
    })
    .await;
    while let Some(chunk) = slow.chunk().await.expect("the answer is not cut") {
        bytes += chunk.len();
    }
    assert_eq!(bytes, SLOW_CHUNKS * SLOW_CHUNK_BYTES);
    let mut endless = fixture.get("/cart/endless").await;
    let first = endless.chunk().await.expect("a chunk");
    assert_eq!(first.as_deref(), Some(&b"begun"[..]));
    assert!(is_read.has_changed().is_ok(), "the service waits");
    drop(endless);
    crate::kit::until("the service's stream ends with its visitor", async || {
        is_read.has_changed().is_err()
    })
    .await;
    stop.send(()).expect("it runs");
    running.await.expect("no panic").expect("served");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, mirror).await;
    let mut cart = service("cart", &ALL_V1, &[&one]);
    let mut wide = service("wide", &ALL_V1, &[&one]);
    wide.body_bytes_max = 64 << 20;
    cart.body_bytes_max = 1_000;
    fixture.tell([cart, wide]).await;
    let post = |path: &str, body: reqwest::Body| {
        let request = fixture.http.post(fixture.at(path)).body(body);
        async move {
            let response = request.send().await.expect("answered");
            (
                response.status().as_u16(),
                response.text().await.expect("text"),
            )
        }
    };
    assert_eq!(post("/cart", vec![0; 1_000].into()).await.0, 201);
    let (status, text) = post("/cart", vec![0; 1_001].into()).await;
    assert_eq!(status, 413);
    assert!(
        text.contains("larger than 1000 bytes") && text.contains("SER-GATE-007"),
        "{text}"
    );
    // Of unknown length: it is found out while it comes.
    let pieces = futures::stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(vec![0_u8; 100])));
    assert_eq!(
        post("/cart", reqwest::Body::wrap_stream(pieces)).await.0,
        413
    );
    // More than the bus takes in one message.
    let (status, text) = post("/wide", vec![0; 9 << 20].into()).await;
    assert_eq!(status, 413, "{text}");
    assert_eq!(one.asked(), 1, "none of them came to the service");
}

#[tokio::test]
async fn what_is_no_answer_is_said_to_be_none() {
    fn odd(asked: Asked) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let headers: &[(&str, &str)] = match asked.target().as_str() {
                "/error" => &[(call::ERROR, "no <b>stock</b>"), (call::ERROR_CODE, "409")],
                "/status" => &[(call::WEB_STATUS, "abc")],
                "/interim" => &[(call::WEB_STATUS, "101")],
                _ => &[],
            };
            asked.send(headers, "x").await;
        })
    }
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, odd).await;
    fixture.tell([service("cart", &ALL_V1, &[&one])]).await;
    for (path, status, word) in [
        ("/cart/error", 409, "no <b>stock</b>"),
        ("/cart/status", 502, "a status that HTTP does not have"),
        ("/cart/interim", 502, "a status that HTTP does not have"),
        ("/cart/none", 502, "without a status"),
    ] {
        let (found, text) = fixture.text(path).await;
        assert!(
            found == status && text.contains(word),
            "{path}: {found} {text}"
        );
    }
    let page = fixture
        .http
        .get(fixture.at("/cart/error"))
        .header("accept", "text/html,*/*");
    let page = page.send().await.expect("answered");
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.expect("text");
    assert!(page.contains("no &lt;b&gt;stock&lt;/b&gt;"), "{page}");
}

#[tokio::test]
async fn a_path_of_nobody_lists_the_services() {
    let fixture = Fixture::new().await;
    fixture
        .tell([service("cart", &ALL_V1, &[]), service("pay", &ALL_V1, &[])])
        .await;
    let response = fixture.get("/carts").await;
    assert_eq!(response.status(), 404);
    let body: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(body["code"], "SER-GATE-001");
    let mut services = body["services"].as_array().expect("a list").clone();
    services.sort_by_key(|path| path.to_string());
    assert_eq!(services, ["/cart", "/pay"]);
}

#[tokio::test]
async fn a_slow_body_does_not_keep_its_connection() {
    let fixture = Fixture::new().await;
    let one = fixture.on_bus("cart", "v1", 1, mirror).await;
    fixture.tell([service("cart", &ALL_V1, &[&one])]).await;
    let mut client = TcpStream::connect(fixture.address)
        .await
        .expect("connected");
    let head = b"POST /cart HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc";
    client.write_all(head).await.expect("written");
    let mut answer = String::new();
    let read = client.read_to_string(&mut answer);
    let read = tokio::time::timeout(Duration::from_secs(20), read).await;
    read.expect("the gateway ends it").expect("read");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(one.asked(), 0);
}

#[tokio::test]
async fn a_client_that_says_nothing_gives_its_place_back() {
    let fixture = Fixture::with(|options| {
        options.header_within = Duration::from_secs(2);
        options.connections_max = 1;
    });
    let fixture = fixture.await;
    let one = fixture.on_bus("cart", "v1", 1, mirror).await;
    fixture.tell([service("cart", &ALL_V1, &[&one])]).await;
    let mut silent = TcpStream::connect(fixture.address)
        .await
        .expect("connected");
    silent.write_all(b"GET /cart HT").await.expect("written");
    crate::kit::until("it has the only place", async || {
        fixture.gateway.stats().connections == 1
    })
    .await;
    assert_eq!(
        fixture.get("/cart").await.status(),
        201,
        "it waited its turn"
    );
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), silent.read_to_end(&mut rest));
    ended.await.expect("it was ended").expect("read");
}
