//! Tokens that outlive a start: made once, good like the start's but for tokens and sign-in, gone at once.

use reqwest::{Method, RequestBuilder};

use super::*;

/// Asks with a token; status and body.
async fn ask(
    server: &Server,
    token: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let request = server.client.request(method, server.url(path));
    let with_body = |request: RequestBuilder| match &body {
        Some(body) => request.json(body),
        None => request,
    };
    let answer = with_body(request.bearer_auth(token)).send().await;
    let answer = answer.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

async fn make(server: &Server, name: &str, lasts: &str) -> String {
    let body = json!({"name": name, "for": lasts});
    let (status, made) = ask(server, TOKEN, Method::POST, "/api/v1/tokens", Some(body)).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    made["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn a_token_is_told_once_and_good_until_it_is_removed() {
    let server = serve().await;
    let token = make(&server, "ci", "1d").await;
    assert!(token.starts_with("serin_"), "{token}");
    assert_eq!(token.len(), "serin_".len() + 64);
    let session = "/api/v1/session";
    let (status, _) = ask(&server, &token, Method::GET, session, None).await;
    assert_eq!(status, StatusCode::OK);
    let (_, told) = ask(&server, &token, Method::GET, "/api/v1/tokens", None).await;
    let ci = json!({
        "name": "ci",
        "created": "2015-05-17T00:00:00Z",
        "expires": "2015-05-18T00:00:00Z",
        "is_expired": false,
    });
    assert_eq!(told, json!({"tokens": [ci]}));
    let path = "/api/v1/tokens/ci";
    let (status, _) = ask(&server, TOKEN, Method::DELETE, path, None).await;
    assert_eq!(status, StatusCode::OK);
    let (status, refused) = ask(&server, &token, Method::GET, session, None).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused["code"], "SER-AUTH-001");
    let (status, _) = ask(&server, TOKEN, Method::DELETE, path, None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "it is gone");
    server.doors.close().await;
}

#[tokio::test]
async fn what_cannot_be_made_is_told() {
    let server = serve().await;
    make(&server, "ci", "never").await;
    for (body, status, what) in [
        (json!({"name": "ci"}), StatusCode::CONFLICT, "already"),
        (json!({"name": "C I"}), StatusCode::BAD_REQUEST, "a-z"),
        (json!({}), StatusCode::BAD_REQUEST, "`name`"),
        (
            json!({"name": "a", "for": "soon"}),
            StatusCode::BAD_REQUEST,
            "no length of time",
        ),
        (
            json!({"name": "a", "until": "x"}),
            StatusCode::BAD_REQUEST,
            "`until`",
        ),
    ] {
        let asked = Some(body.clone());
        let (found, told) = ask(&server, TOKEN, Method::POST, "/api/v1/tokens", asked).await;
        assert_eq!(found, status, "{body}: {told}");
        let error = told["error"].as_str().expect("words");
        assert!(error.contains(what), "{body}: {error}");
    }
    server.doors.close().await;
}

#[tokio::test]
async fn a_stored_token_does_all_but_what_would_outlive_it() {
    let server = serve().await;
    let token = make(&server, "ci", "never").await;
    let another = Some(json!({"name": "another"}));
    for (method, path, body) in [
        (Method::POST, "/api/v1/tokens", another),
        (Method::DELETE, "/api/v1/tokens/ci", None),
        (Method::POST, "/api/v1/signin", None),
    ] {
        let (status, told) = ask(&server, &token, method, path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}: {told}");
        assert_eq!(told["code"], "SER-AUTH-006", "{path}");
    }
    for (method, path) in [
        (Method::POST, "/api/v1/flush"),
        (Method::GET, "/api/v1/dashboards"),
    ] {
        let (status, told) = ask(&server, &token, method, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {told}");
    }
    server.doors.close().await;
}

#[tokio::test]
async fn an_answer_under_way_breaks_off_when_its_token_is_removed() {
    let server = serve().await;
    let token = make(&server, "ci", "never").await;
    let request = server
        .client
        .post(server.url(&format!("/api/v1/open?name={ENDLESS}")))
        .bearer_auth(&token);
    let mut answer = request.body("x").send().await.expect("an answer");
    let first = answer.chunk().await.expect("whole").expect("a line");
    assert!(first.starts_with(b"{\"stage\":\"import\""), "{first:?}");
    let (status, _) = ask(&server, TOKEN, Method::DELETE, "/api/v1/tokens/ci", None).await;
    assert_eq!(status, StatusCode::OK);
    answer.text().await.expect_err("it is seen to be cut off");
    server.doors.close().await;
}
