//! `serin token`: tokens that outlive a start are made, listed and removed.

use std::io::IsTerminal;

use anyhow::Result;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{print, remark, write_out};
use crate::cli::{Global, NewToken, Token, TokenCommand};
use crate::client::{Client, segment};
use crate::table::{Table, cell};

/// A token that was just made.
#[derive(Debug, Deserialize, Serialize)]
struct Made {
    name: String,
    token: String,
    created: String,
    expires: Option<String>,
}

pub(crate) async fn run(global: &Global, token: &Token) -> Result<()> {
    let client = Client::find(global)?;
    match &token.command {
        TokenCommand::New(new) => make(global, &client, new).await,
        TokenCommand::List => list(global, &client).await,
        TokenCommand::Rm { name } => remove(global, &client, name).await,
    }
}

async fn make(global: &Global, client: &Client, new: &NewToken) -> Result<()> {
    let body = json!({"name": new.name, "for": new.lasts});
    let request = client.request(Method::POST, "/api/v1/tokens").json(&body);
    let made: Made = client.json(request).await?;
    if global.json {
        print(&serde_json::to_string(&made)?);
        return Ok(());
    }
    // Alone on standard output, for `TOKEN=$(serin token new ci)`.
    print(&made.token);
    remark(&usage(&made, client.base()));
    Ok(())
}

/// What is said beside a new token.
fn usage(made: &Made, base: &str) -> String {
    let Made { name, token, .. } = made;
    let until = match &made.expires {
        Some(expires) => format!("until {}", to_seconds(expires)),
        None => String::from("until it is removed"),
    };
    // A token that went into a variable or a file is not repeated where logs may keep it.
    let shown = match std::io::stdout().is_terminal() {
        true => token,
        false => "TOKEN",
    };
    format!(
        "\nThis is the token {name:?}, good {until}. It is shown this once; only its hash is kept.\n\
         \x20 SERIN_TOKEN={shown} serin status --server {base}\n\
         \x20 curl -H 'Authorization: Bearer {shown}' {base}/api/v1/status\n\
         `serin token rm {name}` ends it."
    )
}

async fn list(global: &Global, client: &Client) -> Result<()> {
    let told: Value = client.get("/api/v1/tokens", &[]).await?;
    if global.json {
        print(&told["tokens"].to_string());
        return Ok(());
    }
    let tokens = told["tokens"].as_array().map_or(&[][..], Vec::as_slice);
    if tokens.is_empty() {
        remark("there are no tokens but that of this start; `serin token new NAME` makes one");
        return Ok(());
    }
    let mut table = Table::new([("name", false), ("created", false), ("good until", false)]);
    for token in tokens {
        let until = match token["expires"].as_str().map(to_seconds) {
            None => String::from("it is removed"),
            Some(expires) if token["is_expired"] == true => format!("{expires}, is past its time"),
            Some(expires) => expires,
        };
        let created = token["created"].as_str().map(to_seconds);
        table.push([cell(&token["name"]), created.unwrap_or_default(), until]);
    }
    write_out(table.to_text().as_bytes());
    Ok(())
}

/// A time without what is less than a second, for people.
fn to_seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

async fn remove(global: &Global, client: &Client, name: &str) -> Result<()> {
    let path = format!("/api/v1/tokens/{}", segment(name));
    client.send(client.request(Method::DELETE, &path)).await?;
    match global.json {
        true => print(r#"{"done":true}"#),
        false => print(&format!("{name} is refused from now on")),
    }
    Ok(())
}
