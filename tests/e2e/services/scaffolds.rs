//! What `serin new` writes runs, in each language, and is heard by clients that know no versions.

use anyhow::{Context, Result};
use serde_json::Value;
use serin_tests::Serin;
use serin_tests::wait::until;

use super::SOON;

/// Asks a service's endpoint over the bus, as a client that knows no versions.
pub(super) async fn ask(
    serin: &Serin,
    subject: &str,
    web: Option<&str>,
    body: &str,
) -> Result<(String, String)> {
    let client = async_nats::ConnectOptions::new();
    let address: async_nats::ServerAddr = serin.bus().parse()?;
    let (user, password) = (address.username(), address.password());
    let (user, password) = user.zip(password).context("the bus has credentials")?;
    let client = client
        .user_and_password(user.to_owned(), password.to_owned())
        .connect(&address)
        .await?;
    let mut headers = async_nats::HeaderMap::new();
    if let Some(line) = web {
        headers.insert("serin-http", line);
    }
    let answer = client
        .request_with_headers(subject.to_owned(), headers, body.to_owned().into())
        .await?;
    let headers = answer.headers.unwrap_or_default();
    let status = headers.get("serin-http-status").map(ToString::to_string);
    let error = headers.get("Nats-Service-Error").map(ToString::to_string);
    let body = String::from_utf8(answer.payload.to_vec())?;
    Ok((status.or(error).unwrap_or_default(), body))
}

#[tokio::test]
async fn a_new_service_answers_in_each_language() -> Result<()> {
    let serin = Serin::start().await?;
    for lang in ["script", "python"] {
        let name = format!("my-{lang}");
        serin.run(&["new", &name, "--lang", lang]).await?;
        serin.run(&["check"]).await?;
        serin.run(&["deploy", &name]).await?;
        let (status, page) = ask(
            &serin,
            &format!("svc.{name}.http"),
            Some("GET /?name=%3CAda%3E"),
            "",
        )
        .await?;
        assert_eq!(status, "200", "{page}");
        assert!(page.contains("Hello, &lt;Ada&gt;!"), "{page}");
        let through = reqwest::get(format!("{}/{name}/?name=Cy", serin.gateway())).await?;
        assert_eq!(through.status(), 200);
        assert!(through.text().await?.contains("Hello, Cy!"));
        let subject = format!("svc.{name}.greet");
        let (error, answer) = ask(&serin, &subject, None, r#"{"name": "Bo"}"#).await?;
        assert_eq!(error, "");
        assert_eq!(
            serde_json::from_str::<Value>(&answer)?,
            serde_json::json!({"text": "Hello, Bo!"})
        );
        until(
            "the greetings are events of the service",
            SOON,
            async || {
                let sql = format!("SELECT name FROM \"{name}.greeted\" ORDER BY 1");
                let names = serde_json::to_string(&serin.sql(&sql).await?)?;
                anyhow::ensure!(names == r#"[["<Ada>"],["Cy"]]"#, "{names}");
                Ok(Some(()))
            },
        )
        .await?;
        until("call and page are rows of requests", SOON, async || {
            let sql =
                format!("SELECT count(DISTINCT endpoint) FROM requests WHERE service = '{name}'");
            Ok((serin.sql_number(&sql).await? == 2).then_some(()))
        })
        .await?;
        let again = serin.output(&["new", &name]).await?;
        assert_eq!(again.status.code(), Some(1));
    }
    Ok(())
}
