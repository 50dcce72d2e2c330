//! Who comes in: with the token, with a session of a browser, and under which name of ours.

use super::*;

#[tokio::test]
async fn only_those_with_the_token_come_in() {
    let server = serve().await;
    let as_nobody = async |path: &str| {
        let request = server.client.get(server.url(path));
        request.send().await.expect("an answer")
    };
    for path in [
        "/healthz",
        "/readyz",
        "/",
        "/d/any",
        "/decisions",
        "/explore",
        "/schema/kpis.json",
    ] {
        let answer = as_nobody(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .expect("text");
        assert!(policy.contains("script-src 'self'"), "{policy}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
    for path in [
        "/metrics",
        "/api/v1/kpis",
        "/api/v1/dashboards",
        "/api/v1/session",
        "/d/a/b.svg",
    ] {
        let answer = as_nobody(path).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        let wrong = server.client.get(server.url(path)).bearer_auth("wrong");
        let answer = wrong.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(server.get("/api/v1/session").await.status(), StatusCode::OK);
    assert!(
        server
            .get("/metrics")
            .await
            .text()
            .await
            .expect("text")
            .contains("serin_test 1")
    );
    assert_eq!(
        server.get("/api/v1/none").await.status(),
        StatusCode::NOT_FOUND
    );
    server.doors.close().await;
}

#[tokio::test]
async fn a_browser_swaps_the_code_of_a_link_for_a_session_of_its_own() {
    let server = serve().await;
    let follow = async |link: String| {
        let request = server.client.get(server.url(&link));
        request.send().await.expect("an answer")
    };
    for bad in ["code=x".to_owned(), format!("code={TOKEN}")] {
        let bad = follow(format!("/signin?{bad}")).await;
        assert_eq!(bad.status(), StatusCode::UNAUTHORIZED);
        let page = bad.text().await.expect("text");
        assert!(page.contains("<html"), "the page says what to do: {page}");
    }
    // The token itself stands in no link.
    let token = follow(format!("/signin?token={TOKEN}")).await;
    assert!(token.headers().get("set-cookie").is_none());
    let made = server.client.post(server.url("/api/v1/signin"));
    let made = made.bearer_auth(TOKEN).send().await.expect("an answer");
    let made: Value = made.json().await.expect("JSON");
    let link = format!(
        "/signin?code={}&next=//evil.example",
        made["code"].as_str().expect("a code")
    );
    let signed = follow(link.clone()).await;
    assert_eq!(signed.status(), StatusCode::SEE_OTHER);
    assert_eq!(signed.headers()["location"], "/");
    let again = follow(link.clone()).await;
    assert_eq!(again.status(), StatusCode::UNAUTHORIZED, "it was used");
    let cookie = signed.headers()["set-cookie"]
        .to_str()
        .expect("text")
        .to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    assert!(
        !cookie.contains(TOKEN),
        "the token stays out of the browser"
    );
    let cookie = cookie.split(';').next().expect("a pair").to_owned();
    let with = |request: reqwest::RequestBuilder| request.header("cookie", &cookie);
    let read = with(server.client.get(server.url("/api/v1/session")))
        .send()
        .await;
    assert_eq!(read.expect("an answer").status(), StatusCode::OK);
    let signed_in = with(server.client.get(server.url(&link))).send().await;
    let signed_in = signed_in.expect("an answer");
    assert_eq!(signed_in.status(), StatusCode::SEE_OTHER, "it goes on");
    let own = format!("http://{}", server.address);
    for (origin, status) in [
        (Some(own.as_str()), StatusCode::OK),
        (Some("http://evil.example"), StatusCode::FORBIDDEN),
        (None, StatusCode::FORBIDDEN),
    ] {
        let mut flush = with(server.client.post(server.url("/api/v1/flush")));
        if let Some(origin) = origin {
            flush = flush.header("origin", origin);
        }
        assert_eq!(
            flush.send().await.expect("an answer").status(),
            status,
            "{origin:?}"
        );
    }
    server.doors.close().await;
}

#[tokio::test]
async fn another_name_for_us_is_refused() {
    let server = serve().await;
    let request = server
        .client
        .get(server.url("/"))
        .header("host", "evil.example:7070");
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    server.doors.close().await;
}
