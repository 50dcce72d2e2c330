//! Unmodified HTTP programs behind the gateway: headers, streams, WebSocket, server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::kit::{ALL_V1, Fixture, One, PATIENCE, service, until};
use crate::life::Load;

type Page = Response<BoxBody<Bytes, Infallible>>;

fn page(body: impl Into<Bytes>) -> Page {
    Response::new(Full::new(body.into()).boxed())
}

/// A small web program; counts connections.
async fn program(stream: TcpStream, connections: Arc<AtomicU64>) {
    connections.fetch_add(1, Ordering::SeqCst);
    let serve = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(match request.uri().path() {
            "/count" => {
                let mut body = request.into_body();
                let mut bytes = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                }
                page(bytes.to_string())
            }
            "/echo" => {
                let pieces = request.into_body().into_data_stream();
                let pieces = pieces.filter_map(async |piece| piece.ok().map(Frame::data).map(Ok));
                Response::new(BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(
                    pieces,
                )))))
            }
            "/events" => {
                let events = futures::stream::unfold(0, |n| async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    let event = Bytes::from(format!("data: {n}\n\n"));
                    Some((Ok(Frame::data(event)), n + 1))
                });
                let mut response = Response::new(BodyExt::boxed(StreamBody::new(SyncStream(
                    Box::pin(events),
                ))));
                let kind = "text/event-stream; charset=utf-8".parse().expect("a value");
                response.headers_mut().insert("content-type", kind);
                response
            }
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                page("slow")
            }
            _ => {
                let headers = request.headers().iter();
                let lines = headers
                    .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")));
                let lines: Vec<_> = lines.collect();
                let line = format!("{} {}", request.method(), request.uri());
                let mut response = page(json!({"line": line, "headers": lines}).to_string());
                let value = "x".parse().expect("a value");
                response.headers_mut().insert("keep-alive", value);
                response
            }
        })
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), serve);
    drop(connection.await);
}

/// hyper's boxed bodies want `Sync`, which no stream of ours needs to be.
struct SyncStream<S>(S);

impl<S: futures::Stream + Unpin> futures::Stream for SyncStream<S> {
    type Item = S::Item;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

async fn shop(fixture: &Fixture) -> One {
    let one = One::on_port("shop", "v1", 1, program).await;
    fixture.tell([service("shop", &ALL_V1, &[&one])]).await;
    one
}

#[tokio::test]
async fn a_program_sees_the_request_without_prefix_and_hop_by_hop() {
    let fixture = Fixture::new().await;
    let one = shop(&fixture).await;
    let sent = fixture
        .http
        .get(fixture.at("/shop/list?page=2"))
        .header("connection", "x-once")
        .header("x-once", "1")
        .header("serin-arm", "shop=v9")
        .send();
    let response = sent.await.expect("answered");
    assert!(!response.headers().contains_key("keep-alive"));
    let seen: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(seen["line"], "GET /list?page=2");
    let lines: Vec<_> = seen["headers"].as_array().expect("lines").iter().collect();
    let has = |start: &str| {
        lines
            .iter()
            .any(|line| line.as_str().is_some_and(|line| line.starts_with(start)))
    };
    let host = format!("host: {}", fixture.address);
    for line in [
        &*host,
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-prefix: /shop",
        "traceparent: 00-",
    ] {
        assert!(has(line), "{line} in {lines:#?}");
    }
    for line in ["x-once", "connection", "serin-"] {
        assert!(!has(line), "{line} in {lines:#?}");
    }
    for _ in 0..20 {
        fixture.json("/shop/again").await;
    }
    assert_eq!(one.asked(), 1, "one connection is kept for all");
}

#[tokio::test]
async fn connections_that_wait_do_not_hold_up_the_end() {
    let fixture = Fixture::with(|options| options.close_within = Duration::from_secs(60)).await;
    let _one = shop(&fixture).await;
    fixture.json("/shop/list").await;
    let closing = tokio::time::timeout(Duration::from_secs(20), fixture.gateway.close());
    assert_eq!(closing.await.expect("it does not wait for them"), 0);
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let fixture = Fixture::new().await;
    let one = One::on_port("shop", "v1", 1, program).await;
    let mut told = service("shop", &ALL_V1, &[&one]);
    told.body_bytes_max = 8 << 20;
    fixture.tell([told]).await;
    let piece = vec![7_u8; 64 << 10];
    let pieces = |count| {
        let piece = piece.clone();
        futures::stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(piece.clone())))
    };
    let post =
        |path: &str, body: reqwest::Body| fixture.http.post(fixture.at(path)).body(body).send();
    let counted = post("/shop/count", reqwest::Body::wrap_stream(pieces(100))).await;
    let counted = counted.expect("answered").text().await.expect("text");
    assert_eq!(counted, (100 * piece.len()).to_string());
    let known = post("/shop/count", vec![1; 5 << 20].into())
        .await
        .expect("answered");
    assert_eq!(known.text().await.expect("text"), (5 << 20).to_string());
    let over = post("/shop/count", reqwest::Body::wrap_stream(pieces(200))).await;
    assert_eq!(over.expect("answered").status(), 413);
    // What is sent comes back before the rest is sent.
    let (tx, rx) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = futures::stream::unfold(rx, async |mut rx| Some((rx.recv().await?, rx)));
    let echoed = tokio::spawn(post("/shop/echo", reqwest::Body::wrap_stream(body)));
    tx.send(Ok("first".into())).await.expect("taken");
    let mut echoed = echoed.await.expect("no panic").expect("answered");
    assert_eq!(
        echoed.chunk().await.expect("a piece").as_deref(),
        Some(&b"first"[..])
    );
    tx.send(Ok("second".into())).await.expect("taken");
    assert_eq!(
        echoed.chunk().await.expect("a piece").as_deref(),
        Some(&b"second"[..])
    );
    drop(tx);
    assert_eq!(echoed.chunk().await.expect("the end"), None);
}

#[tokio::test]
async fn server_sent_events_come_as_they_happen_and_end_with_the_gateway() {
    let fixture = Fixture::new().await;
    let _one = shop(&fixture).await;
    let mut events = fixture.get("/shop/events").await;
    assert_eq!(
        events.headers()["content-type"],
        "text/event-stream; charset=utf-8"
    );
    for n in 0..5 {
        let event = events.chunk().await.expect("an event").expect("more");
        assert_eq!(event, format!("data: {n}\n\n"));
    }
    let closing = tokio::spawn(fixture.gateway.close());
    let drained = async { while let Ok(Some(_)) = events.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(5), drained)
        .await
        .expect("it ends");
    assert_eq!(closing.await.expect("no panic"), 0, "nothing had to be cut");
}

/// Says yes to another protocol and then sends back every line in capitals.
async fn shouts(stream: TcpStream, connections: Arc<AtomicU64>) {
    connections.fetch_add(1, Ordering::SeqCst);
    let mut lines = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        lines.read_line(&mut head).await.expect("a line");
    }
    let head = head.to_ascii_lowercase();
    let yes = head.contains("upgrade: websocket") && head.contains("connection: upgrade");
    let answer = match yes && head.contains("sec-websocket-key: finch") {
        true => {
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ok\r\n\r\n"
        }
        false => "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
    };
    lines
        .get_mut()
        .write_all(answer.as_bytes())
        .await
        .expect("written");
    let mut line = String::new();
    while lines
        .read_line(&mut line)
        .await
        .is_ok_and(|bytes| bytes > 0)
    {
        let shout = std::mem::take(&mut line).to_uppercase();
        lines
            .get_mut()
            .write_all(shout.as_bytes())
            .await
            .expect("written");
    }
}

/// A client whose connection has become a tunnel.
async fn tunnel(fixture: &Fixture) -> BufReader<TcpStream> {
    let mut client = BufReader::new(
        TcpStream::connect(fixture.address)
            .await
            .expect("connected"),
    );
    let head = "GET /chat/room HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\n\
        upgrade: websocket\r\nsec-websocket-key: finch\r\nsec-websocket-version: 13\r\n\r\n";
    client
        .get_mut()
        .write_all(head.as_bytes())
        .await
        .expect("written");
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        client.read_line(&mut answer).await.expect("a line");
    }
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("sec-websocket-accept: ok"), "{answer}");
    client
}

#[tokio::test]
async fn a_websocket_goes_through() {
    let fixture = Fixture::new().await;
    let one = One::on_port("chat", "v1", 1, shouts).await;
    fixture.tell([service("chat", &ALL_V1, &[&one])]).await;
    let mut client = tunnel(&fixture).await;
    for word in ["hello\n", "and again\n"] {
        client
            .get_mut()
            .write_all(word.as_bytes())
            .await
            .expect("written");
        let mut line = String::new();
        client.read_line(&mut line).await.expect("a line");
        assert_eq!(line, word.to_uppercase());
    }
    assert_eq!(fixture.gateway.stats().tunnels, 1);
    let closing = tokio::spawn(fixture.gateway.close());
    let mut rest = Vec::new();
    let ended = client.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .expect("it ends")
        .expect("read");
    assert_eq!(closing.await.expect("no panic"), 0);
}

#[tokio::test]
async fn a_tunnel_has_a_place_until_it_ends() {
    let fixture = Fixture::with(|options| options.connections_max = 1).await;
    let chat = One::on_port("chat", "v1", 1, shouts).await;
    let shop = One::on_port("shop", "v1", 1, program).await;
    let chat = service("chat", &ALL_V1, &[&chat]);
    fixture
        .tell([chat, service("shop", &ALL_V1, &[&shop])])
        .await;
    let client = tunnel(&fixture).await;
    until("its connection is a tunnel", async || {
        let stats = fixture.gateway.stats();
        (stats.connections, stats.tunnels) == (0, 1)
    })
    .await;
    let mut waiting = tokio::spawn(fixture.http.get(fixture.at("/shop/list")).send());
    let waited = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(waited.is_err(), "there is no other place");
    drop(client);
    let answered = tokio::time::timeout(PATIENCE, waiting).await;
    let answered = answered.expect("it is its turn").expect("no panic");
    assert_eq!(answered.expect("answered").status(), 200);
}

/// Reads one request and closes without an answer, except that `/well` and probes are answered.
async fn moody(stream: TcpStream, connections: Arc<AtomicU64>) {
    connections.fetch_add(1, Ordering::SeqCst);
    let mut lines = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        if !head.starts_with("GET /well") && !head.starts_with("OPTIONS * ") {
            return;
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell";
        lines
            .get_mut()
            .write_all(answer.as_bytes())
            .await
            .expect("written");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_second_try_for_what_may_run_twice() {
    let fixture = Fixture::new().await;
    let moody = One::on_port("shop", "v1", 1, moody).await;
    let good = One::on_port("shop", "v1", 2, program).await;
    let mut gone = One::on_port("shop", "v1", 3, program).await;
    gone.kill();
    fixture
        .tell([service("shop", &ALL_V1, &[&moody, &good, &gone])])
        .await;
    let mut broken = 0;
    until("both kinds were asked of the moody one", async || {
        let (status, text) = fixture.text("/shop/any").await;
        assert_eq!(status, 200, "GET is asked again: {text}");
        let sent = fixture.http.post(fixture.at("/shop/any")).body("x").send();
        let response = sent.await.expect("answered");
        if response.status() != 200 {
            assert_eq!(response.status(), 502);
            let text = response.text().await.expect("text");
            assert!(text.contains("it was not sent again"), "{text}");
            broken += 1;
        }
        broken > 1 && fixture.gateway.stats().retries_total > 1
    })
    .await;
    let alone = One::on_port("shop", "v1", 4, self::moody).await;
    fixture.tell([service("shop", &ALL_V1, &[&alone])]).await;
    assert_eq!(fixture.text("/shop/well").await, (200, "well".to_owned()));
    assert_eq!(fixture.get("/shop/any").await.status(), 502);
}

#[tokio::test]
async fn a_program_that_is_late_or_no_http_is_named() {
    let fixture = Fixture::new().await;
    let slow = One::on_port("shop", "v1", 1, program).await;
    let odd = One::on_port("odd", "v1", 1, |mut stream: TcpStream, _| async move {
        let mut head = [0; 16];
        stream.read_exact(&mut head).await.expect("read");
        stream
            .write_all(b"220 mail.example ESMTP\r\n")
            .await
            .expect("written");
        drop(stream.read(&mut [0; 1_024]).await);
    })
    .await;
    let mut shop = service("shop", &ALL_V1, &[&slow]);
    shop.timeout = Duration::from_millis(100);
    fixture.tell([shop, service("odd", &ALL_V1, &[&odd])]).await;
    let (status, text) = fixture.text("/shop/slow").await;
    assert!(
        status == 504 && text.contains("SER-GATE-003"),
        "{status} {text}"
    );
    let (status, text) = fixture.text("/odd").await;
    assert!(
        status == 502 && text.contains("something that is not HTTP"),
        "{status} {text}"
    );
}

#[tokio::test]
async fn killed_programs_lose_no_request_that_may_run_twice() {
    let fixture = Fixture::new().await;
    let mut ones = Vec::new();
    for number in 1..=3 {
        ones.push(One::on_port("cart", "v1", number, program).await);
    }
    let told = |ones: &[One]| service("cart", &ALL_V1, &ones.iter().collect::<Vec<_>>());
    fixture.tell([told(&ones)]).await;
    let load = Load::start(&fixture, 300, false);
    for kill in 0..4 {
        let before = fixture.gateway.stats().requests_total;
        let at = kill % ones.len();
        ones[at].kill();
        until("the load goes on without it", async || {
            fixture.gateway.stats().requests_total > before + 60
        })
        .await;
        let number = u32::try_from(at + 1).expect("small");
        ones[at] = One::on_port("cart", "v1", number, program).await;
        fixture.tell([told(&ones)]).await;
    }
    let counts = load.end().await;
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["200 OK"], "{counts:?}");
}
