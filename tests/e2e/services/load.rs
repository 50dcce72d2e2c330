//! Deploys and deaths under load: no visitor notices but those at a killed process.

use std::fs;

use anyhow::{Context, Result};
use serin_tests::Serin;
use serin_tests::server::kill_process;
use serin_tests::wait::until;

use super::{SOON, instances};

/// What a client that never stops asking got.
#[derive(Debug, Default)]
struct Got {
    pages: u64,
    failed: Vec<String>,
}

/// Asks again and again until told to stop; each answer that is not a page is kept.
async fn visit(url: String, mut stop: tokio::sync::watch::Receiver<bool>) -> Got {
    let client = reqwest::Client::new();
    let mut got = Got::default();
    while !*stop.borrow_and_update() {
        match client.get(&url).send().await {
            Ok(answer) if answer.status() == 200 => got.pages += 1,
            Ok(answer) => got.failed.push(answer.status().to_string()),
            Err(error) => got.failed.push(format!("{error:?}")),
        }
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_visitor_notices_deploys_and_deaths() -> Result<()> {
    let serin = Serin::start().await?;
    serin.run(&["new", "page"]).await?;
    serin.run(&["deploy", "page"]).await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let url = format!("{}/page/", serin.gateway());
    let visitors: Vec<_> = (0..4)
        .map(|_| tokio::spawn(visit(url.clone(), stopped.clone())))
        .collect();
    let page = serin.dir().join("services/page/page.html");
    for round in 0..3 {
        let text = fs::read_to_string(&page)?;
        fs::write(&page, format!("{text}<!-- {round} -->\n"))?;
        serin.run(&["deploy", "page"]).await?;
    }
    until("only the last version runs", SOON, async || {
        let ready = instances(&serin, "page", "ready").await?;
        let draining = instances(&serin, "page", "draining").await?;
        Ok((ready.len() == 2 && draining.is_empty()).then_some(()))
    })
    .await?;
    let (victim, pid) = instances(&serin, "page", "ready")
        .await?
        .pop_first()
        .context("an instance")?;
    kill_process(pid)?;
    until("the dead one is replaced", SOON, async || {
        let ready = instances(&serin, "page", "ready").await?;
        Ok((ready.len() == 2 && ready.iter().all(|(name, _)| *name != victim)).then_some(()))
    })
    .await?;
    stop.send_replace(true);
    let mut all = Got::default();
    for visitor in visitors {
        let got = visitor.await?;
        all.pages += got.pages;
        all.failed.extend(got.failed);
    }
    assert!(all.pages > 100, "{all:?}");
    assert!(
        all.failed.is_empty(),
        "{} of {}: {:?}",
        all.failed.len(),
        all.pages,
        all.failed
    );
    Ok(())
}
