//! NATS micro by the official JavaScript client: services of each SDK are found, described and counted as
//! `nats micro ls`, `info` and `stats` do, and called by what they say of themselves.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use serin_tests::{Serin, place};

#[tokio::test]
async fn the_official_client_finds_and_calls_services_of_each_sdk() -> Result<()> {
    let serin = Serin::start().await?;
    let services = [
        ("in-rust", "script"),
        ("in-python", "python"),
        ("in-node", "typescript"),
    ];
    for (name, lang) in services {
        let new = ["new", name, "--lang", lang, "--web=false"];
        serin.run(&new).await?;
        serin.run(&["deploy", name]).await?;
    }
    let mut discover = Command::new("node");
    discover.arg(place::repository().join("tests/micro/discover.mjs"));
    discover
        .arg(serin.bus())
        .args(services.map(|(name, _)| name));
    let output = tokio::process::Command::from(discover).output().await?;
    ensure!(
        output.status.success(),
        "the client failed; `cargo xtask test` fetches its package: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let told: Value = serde_json::from_slice(&output.stdout)?;
    for (name, _) in services {
        let both = [1, 2].map(|number| format!("{name}-v1-{number}"));
        let took = told[name]["took_ns"].as_u64();
        ensure!(took > Some(0), "{told}");
        let expected = json!({
            "among_all": both,
            "pinged": both.clone().map(|id| format!("{id} 0.0.0+v1")),
            "described": both,
            "queue_group": "v1",
            "answer": {"text": "Hello, Ada!"},
            "requests": 1,
            "took_ns": took,
        });
        assert_eq!(told[name], expected);
    }
    Ok(())
}
