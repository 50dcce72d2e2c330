//! Who stops reading: visitors their answers, instances the bodies of requests; and who only waits.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use futures::future::BoxFuture;
use serin_wire::call;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::kit::{ALL_V1, Asked, Fixture, One, PATIENCE, service, until};

const MS: Duration = Duration::from_millis(1);
static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];

async fn fixture(taken_within: Duration) -> Fixture {
    Fixture::with(|options| options.taken_within = taken_within).await
}

/// Reads the head of a request, and nothing more.
async fn asked(stream: TcpStream) -> BufReader<TcpStream> {
    let mut stream = BufReader::with_capacity(1 << 10, stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        let read = stream.read_line(&mut line).await.expect("a request");
        assert!(read > 0, "the gateway went away");
    }
    stream
}

/// Answers without an end, as fast as it is taken.
async fn floods(stream: TcpStream, _: Arc<AtomicU64>) {
    let mut stream = asked(stream).await;
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).await.expect("written");
    let size = format!("{:x}\r\n", PIECE.len());
    let piece = [size.as_bytes(), &PIECE, b"\r\n"].concat();
    while stream.write_all(&piece).await.is_ok() {}
}

/// The same over the bus, as far ahead as the gateway allows: 24 MiB.
fn floods_the_bus(asked: Asked) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        for _ in 0..48 {
            let head = [(call::WEB_STATUS, "200"), (call::WEB_MORE, "1")];
            asked.send(&head, PIECE.repeat(8)).await;
        }
    })
}

/// More than sockets take of which nobody reads, in one message.
const PAGE_PIECES: usize = 112;
const PAGE_BYTES: usize = PAGE_PIECES * PIECE.len();

/// Answers with one large page, of which more is to come where it is asked for.
fn has_a_large_page(asked: Asked) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let head = [(call::WEB_STATUS, "200"), (call::WEB_MORE, "1")];
        let head = match asked.target().as_str() {
            "/more" => &head[..],
            _ => &head[..1],
        };
        asked.send(head, PIECE.repeat(PAGE_PIECES)).await;
    })
}

/// Takes nothing of a request but its head.
async fn takes_nothing(stream: TcpStream, _: Arc<AtomicU64>) {
    let _held = asked(stream).await;
    std::future::pending::<()>().await;
}

/// Tells an event, nothing for a while, and another one.
async fn tells_seldom(stream: TcpStream, _: Arc<AtomicU64>) {
    let mut stream = asked(stream).await;
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    stream.write_all(head).await.expect("written");
    for event in ["first", "second"] {
        let told = format!("data: {event}\n\n");
        stream.write_all(told.as_bytes()).await.expect("written");
        tokio::time::sleep(1_000 * MS).await;
    }
}

/// A visitor who has asked and got the head of the answer.
async fn visitor(fixture: &Fixture, path: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(fixture.address)
        .await
        .expect("connected");
    let mut stream = BufReader::new(stream);
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut line = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await;
    read.expect("in time").expect("read");
    assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
    stream
}

#[tokio::test]
async fn a_visitor_who_stops_reading_gives_its_place_back() {
    let fixture = fixture(300 * MS).await;
    let port = One::on_port("shop", "v1", 1, floods).await;
    let bus = fixture.on_bus("cart", "v1", 1, floods_the_bus).await;
    let shop = service("shop", &ALL_V1, &[&port]);
    fixture
        .tell([shop, service("cart", &ALL_V1, &[&bus])])
        .await;
    for path in ["/shop", "/cart"] {
        let stopped = visitor(&fixture, path).await;
        until("it is cut off", async || {
            let stats = fixture.gateway.stats();
            (stats.connections, stats.requests, stats.held_bytes) == (0, 0, 0)
        })
        .await;
        drop(stopped);
    }
    assert_eq!(fixture.gateway.stats().abandoned_total, 2);
}

#[tokio::test]
async fn what_a_visitor_has_not_taken_is_held_until_it_is_cut_off() {
    let fixture = fixture(1_000 * MS).await;
    let one = fixture.on_bus("cart", "v1", 1, has_a_large_page).await;
    fixture.tell([service("cart", &ALL_V1, &[&one])]).await;
    for path in ["/cart", "/cart/more"] {
        let stopped = visitor(&fixture, path).await;
        assert_eq!(fixture.gateway.stats().held_bytes, PAGE_BYTES as u64);
        until("it is cut off", async || {
            let stats = fixture.gateway.stats();
            (stats.requests, stats.held_bytes) == (0, 0)
        })
        .await;
        drop(stopped);
    }
}

#[tokio::test]
async fn where_no_room_is_left_what_has_run_is_told_from_what_has_not() {
    let fixture = Fixture::with(|options| {
        options.taken_within = 1_000 * MS;
        options.held_bytes_max = PAGE_BYTES;
    });
    let fixture = fixture.await;
    let one = fixture.on_bus("cart", "v1", 1, has_a_large_page).await;
    fixture.tell([service("cart", &ALL_V1, &[&one])]).await;
    let stopped = visitor(&fixture, "/cart").await;
    let post = || fixture.http.post(fixture.at("/cart")).body("x").send();
    let refused = post().await.expect("answered at once");
    assert_eq!(refused.status(), 503);
    assert!(
        refused.headers().contains_key("retry-after"),
        "it did not run"
    );
    assert_eq!(one.asked(), 1);
    until("the page is given up", async || {
        fixture.gateway.stats().held_bytes == 0
    })
    .await;
    drop(stopped);
    // Its one byte leaves too little for the page: the answer is lost, by no fault of the instance.
    let lost = post().await.expect("answered");
    assert_eq!((lost.status().as_u16(), one.asked()), (502, 2));
    assert!(!lost.headers().contains_key("retry-after"), "it has run");
    let told = lost.text().await.expect("text");
    assert!(told.contains("SER-GATE-011"), "{told}");
    let stats = fixture.gateway.stats();
    assert_eq!((stats.instances_down, stats.cut_answers_total), (0, 1));
    let page = fixture.get("/cart").await.bytes().await;
    assert_eq!(page.expect("it fits").len(), PAGE_BYTES);
}

#[tokio::test]
async fn a_visitor_who_reads_slowly_is_served() {
    let fixture = fixture(1_000 * MS).await;
    let one = One::on_port("shop", "v1", 1, floods).await;
    fixture.tell([service("shop", &ALL_V1, &[&one])]).await;
    let mut slow = visitor(&fixture, "/shop").await;
    let mut piece = vec![0; 1 << 20];
    // Thrice as long as it might take nothing.
    for _ in 0..100 {
        slow.read_exact(&mut piece).await.expect("it goes on");
        tokio::time::sleep(30 * MS).await;
    }
    assert_eq!(fixture.gateway.stats().requests, 1);
}

#[tokio::test]
async fn a_stream_on_which_nothing_happens_stays() {
    let fixture = fixture(300 * MS).await;
    let one = One::on_port("shop", "v1", 1, tells_seldom).await;
    fixture.tell([service("shop", &ALL_V1, &[&one])]).await;
    let mut lines = visitor(&fixture, "/shop").await.lines();
    let mut events = Vec::new();
    while events.len() < 2 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let line = line.expect("in time").expect("it stays");
        events.extend(
            line.expect("a line")
                .strip_prefix("data: ")
                .map(str::to_owned),
        );
    }
    assert_eq!(events, ["first", "second"]);
}

#[tokio::test]
async fn an_instance_that_stops_reading_fails_its_request_alone() {
    let fixture = fixture(300 * MS).await;
    let one = One::on_port("shop", "v1", 1, takes_nothing).await;
    let mut shop = service("shop", &ALL_V1, &[&one]);
    shop.body_bytes_max = 1 << 30;
    fixture.tell([shop]).await;
    let stream = TcpStream::connect(fixture.address)
        .await
        .expect("connected");
    let (read, mut write) = stream.into_split();
    let head = format!(
        "POST /shop HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        1 << 29
    );
    write.write_all(head.as_bytes()).await.expect("written");
    let sending = async move { while write.write_all(&PIECE).await.is_ok() {} };
    let answering = async move {
        let mut line = String::new();
        let mut read = BufReader::new(read);
        read.read_line(&mut line).await.expect("read");
        line
    };
    let answered = tokio::time::timeout(PATIENCE, async {
        let sending = tokio::spawn(sending);
        let line = answering.await;
        sending.abort();
        line
    });
    let line = answered.await.expect("the gateway gives up");
    assert!(line.starts_with("HTTP/1.1 502 "), "{line}");
}
