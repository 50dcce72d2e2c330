//! An instance that dies in a call which it has taken: whoever called asks another one where the
//! endpoint's own code says that twice does no harm, and learns otherwise that it may have run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use serde_json::{Value, json};
use serin_tests::wait::until;
use serin_tests::{Serin, bus, process};

use super::scaffolds::ask;
use super::{SOON, instances, write_python};

/// Each endpoint ends its process in the first call of it that there ever is.
const CART: &str = r#"
import os

import serin

app = serin.service()


def die_once(name):
    try:
        mark = os.path.join(os.environ["SERIN_DATA"], name)
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os._exit(1)


@app.endpoint(idempotent=True)
def look(data: dict) -> str:
    die_once("look")
    return "seen"


@app.endpoint
def add(data: dict) -> str:
    die_once("add")
    return "added"


app.run()
"#;

/// Tells what became of a call.
const SHOP: &str = r#"
import serin

app = serin.service()


@app.endpoint
async def tell(name: str) -> dict:
    try:
        return {"answer": await app.call("cart", name, {}, timeout=4)}
    except serin.CallError as error:
        return {"code": error.code, "may_have_run": error.may_have_run}


app.run()
"#;

#[tokio::test]
async fn what_its_code_calls_idempotent_is_asked_for_again() -> Result<()> {
    let serin = Serin::start().await?;
    let bus = bus::connect(serin.bus()).await?;
    let mut routes = bus.subscribe("ctl.routes").await?;
    for (name, text) in [("cart", CART), ("shop", SHOP)] {
        write_python(&serin, name, "", text)?;
        serin.run(&["deploy", name]).await?;
    }
    // Callers hear it before what is asked of them after it.
    let told = async {
        while let Some(message) = routes.next().await {
            let told: Value = serde_json::from_slice(&message.payload)?;
            if told["services"]["cart"]["idempotent"] == json!(["look"]) {
                return Ok(());
            }
        }
        bail!("the bus went away")
    };
    tokio::time::timeout(SOON, told).await??;
    for (name, expected) in [
        ("look", json!({"answer": "seen"})),
        ("add", json!({"code": 408, "may_have_run": true})),
        ("add", json!({"answer": "added"})),
    ] {
        let asked = json!(name).to_string();
        let (error, told) = ask(&serin, "svc.shop.tell", None, &asked).await?;
        assert_eq!(error, "", "{name}");
        assert_eq!(serde_json::from_str::<Value>(&told)?, expected, "{name}");
    }
    Ok(())
}

/// Takes requests of visitors and never answers one.
const HELD: &str = r#"
import time

import serin

app = serin.service()


@app.web
def hold(request):
    print("held", flush=True)
    time.sleep(600)


app.run()
"#;

#[tokio::test]
async fn a_visitor_is_told_when_the_end_is_seen_and_that_a_service_is_stopped() -> Result<()> {
    let serin = Serin::start().await?;
    let more = "web: /held\ninstances: 1\nstop_within: 1s\n";
    write_python(&serin, "held", more, HELD)?;
    serin.run(&["deploy", "held"]).await?;
    let address = format!("{}/held", serin.gateway());
    let asking = tokio::spawn(reqwest::Client::new().post(&address).send());
    until("an instance has the request", SOON, async || {
        let sql = "SELECT count(*) FROM logs WHERE service = 'held' AND message = 'held'";
        Ok((serin.sql_number(sql).await? == 1).then_some(()))
    })
    .await?;
    let ready = instances(&serin, "held", "ready").await?;
    let (_, pid) = ready.first().context("an instance")?;
    process::kill(*pid)?;
    let killed = Instant::now();
    let answer = asking.await??;
    let waited = killed.elapsed();
    // Whoever only waits for its pulse waits for five, and says the same then.
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    assert_eq!(answer.status(), 502);
    let said = answer.text().await?;
    assert!(said.contains("so it was not sent again"), "{said}");

    serin.run(&["stop", "held"]).await?;
    until("no instance takes requests", SOON, async || {
        let ready = instances(&serin, "held", "ready").await?;
        Ok(ready.is_empty().then_some(()))
    })
    .await?;
    until("its page says that it is stopped", SOON, async || {
        let answer = reqwest::get(&address).await?;
        let has_retry = answer.headers().contains_key("retry-after");
        let said = answer.text().await?;
        let is_said = said.contains("is stopped; `serin deploy held` starts it");
        Ok((is_said && !has_retry).then_some(()))
    })
    .await
}
