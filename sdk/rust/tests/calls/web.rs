//! Web requests over the bus, whole and in chunks, as the gateway sees them.

use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures::StreamExt;
use serin_sdk::{Failure, WebResponse};
use serin_wire::call;

use crate::{Fixture, PATIENCE};

/// Asks as the gateway does, and takes all messages of the answer.
async fn get(fixture: &Fixture, target: &str) -> Vec<Message> {
    let client = fixture.client();
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.expect("subscribed");
    let mut headers = HeaderMap::new();
    headers.insert(call::WEB_REQUEST, format!("POST {target}"));
    headers.insert("h-accept", "text/plain");
    let to = "svc.shop.v1.http.shop-v1-1";
    let body = Bytes::from_static(b"body");
    client
        .publish_with_reply_and_headers(to, inbox, headers, body)
        .await
        .expect("sent");
    let mut messages = Vec::new();
    loop {
        let message = tokio::time::timeout(PATIENCE, answers.next())
            .await
            .expect("in time");
        let message = message.expect("a message");
        let has_more = header(&message, call::WEB_MORE).is_some();
        messages.push(message);
        if !has_more {
            return messages;
        }
    }
}

fn header(message: &Message, name: &str) -> Option<String> {
    let headers = message.headers.as_ref()?;
    headers.get(name).map(|value| value.as_str().to_owned())
}

#[tokio::test]
async fn answers_come_whole_or_in_chunks() {
    let fixture = Fixture::new().await;
    let shop = fixture.run("shop", "v1", 1, |service| {
        service.web(|_, request| async move {
            match &*request.path {
                "/" => {
                    let (method, body) = (&request.method, &request.body);
                    let accept = request.header("accept");
                    let seen = format!("{method} {} {body:?} {accept:?}", request.query);
                    Ok(WebResponse::text(seen)
                        .pattern("/")
                        .header("set-cookie", "a=1")
                        .header("Set-Cookie", "b=2"))
                }
                "/large" => Ok(WebResponse::new(200).body(vec![b'x'; 1_200_000])),
                "/stream" => {
                    let chunks = ["one", "two", "three"].map(|text| Ok(Bytes::from(text)));
                    Ok(WebResponse::new(200).stream(futures::stream::iter(chunks)))
                }
                "/broken" => {
                    let chunks = [Ok(Bytes::from("one")), Err(Failure::new(500, "gone"))];
                    Ok(WebResponse::new(200).stream(futures::stream::iter(chunks)))
                }
                path => Err(Failure::new(404, format!("no page {path}"))),
            }
        })
    });
    let shop = shop.await;
    let whole = get(&fixture, "/?a=b").await;
    assert_eq!(whole.len(), 1);
    assert_eq!(
        &whole[0].payload[..],
        br#"POST a=b b"body" Some("text/plain")"#
    );
    assert_eq!(header(&whole[0], call::WEB_STATUS).as_deref(), Some("200"));
    assert_eq!(header(&whole[0], call::WEB_PATTERN).as_deref(), Some("/"));
    assert_eq!(
        header(&whole[0], call::INSTANCE).as_deref(),
        Some("shop-v1-1")
    );
    let headers = whole[0].headers.as_ref().expect("headers");
    let cookies: Vec<_> = headers
        .get_all("h-set-cookie")
        .map(|value| value.as_str())
        .collect();
    assert_eq!(cookies, ["a=1", "b=2"]);

    let large = get(&fixture, "/large").await;
    assert_eq!(large.len(), 3);
    assert_eq!(
        large
            .iter()
            .map(|message| message.payload.len())
            .sum::<usize>(),
        1_200_000
    );
    let streamed = get(&fixture, "/stream").await;
    let text: Vec<_> = streamed
        .iter()
        .map(|message| &message.payload[..])
        .collect();
    assert_eq!(text, [&b"one"[..], b"two", b"three", b""]);
    assert_eq!(
        header(&streamed[0], call::WEB_STATUS).as_deref(),
        Some("200")
    );
    assert_eq!(header(&streamed[1], call::WEB_STATUS), None);
    let broken = get(&fixture, "/broken").await;
    assert_eq!(header(&broken[1], call::ERROR).as_deref(), Some("gone"));
    let missing = get(&fixture, "/none").await;
    assert_eq!(&missing[0].payload[..], b"no page /none");
    assert_eq!(
        header(&missing[0], call::WEB_STATUS).as_deref(),
        Some("404")
    );
    shop.stop().await;
}
