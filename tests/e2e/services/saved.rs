//! `serin up --watch`: what is saved is deployed, what cannot be built leaves the old version serving.

use std::fs;

use anyhow::Result;
use serin_tests::wait::until;
use serin_tests::{Serin, place};

use super::{SOON, TICKS, write};

/// The version that takes the calls; empty while there is none.
async fn serving(serin: &Serin, name: &str) -> Result<String> {
    let service = serin.get(&format!("/api/v1/services/{name}")).await?;
    let version = service["route"]["versions"][0]["version"].as_str();
    Ok(version.unwrap_or_default().to_owned())
}

async fn serves(serin: &Serin, name: &str, version: &str) -> Result<()> {
    until(&format!("{name} {version} serves"), SOON, async || {
        Ok((serving(serin, name).await? == version).then_some(()))
    })
    .await
}

async fn says(serin: &Serin, words: &str) -> Result<()> {
    until(&format!("serin up says {words:?}"), SOON, async || {
        Ok(serin.said().contains(words).then_some(()))
    })
    .await
}

#[tokio::test]
async fn what_is_saved_is_deployed() -> Result<()> {
    let folder = place::fresh_folder()?;
    fs::write(
        folder.path().join("serin.yaml"),
        "deploy: {on_start: true, on_save: true}\n",
    )?;
    let mut serin = Serin::prepared(folder.path())?;
    write(&serin, "ticker", TICKS)?;
    serin.start_again().await?;
    serves(&serin, "ticker", "v1").await?;

    // A service that is made later, and an edit.
    write(&serin, "tocker", TICKS)?;
    write(&serin, "ticker", &TICKS.replace("tick;", "tack;"))?;
    serves(&serin, "tocker", "v1").await?;
    serves(&serin, "ticker", "v2").await?;

    // Faults are told, and nothing else happens.
    write(&serin, "ticker", "runn: x\n")?;
    says(&serin, "services/ticker/service.yaml:1:1").await?;
    write(
        &serin,
        "ticker",
        &format!("{TICKS}build: sh -c 'echo no compiler; exit 3'\n"),
    )?;
    says(&serin, "no compiler").await?;
    assert_eq!(serving(&serin, "ticker").await?, "v2");

    // What somebody stopped stays so, whatever is saved; the rest goes on.
    serin.run(&["stop", "tocker"]).await?;
    write(&serin, "tocker", &TICKS.replace("tick;", "tuck;"))?;
    write(&serin, "ticker", &TICKS.replace("tick;", "teck;"))?;
    serves(&serin, "ticker", "v3").await?;
    let service = serin.get("/api/v1/services/tocker").await?;
    assert_eq!(service["state"], "stopped");

    // The next start leaves alone what is a version already, though another one serves.
    serin.run(&["rollback", "ticker"]).await?;
    serves(&serin, "ticker", "v2").await?;
    serin.stop().await?;
    write(&serin, "tacker", TICKS)?;
    serin.start_again().await?;
    serves(&serin, "tacker", "v1").await?;
    assert_eq!(serving(&serin, "ticker").await?, "v2");
    Ok(())
}

#[tokio::test]
async fn with_watch_saving_is_deploying_without_a_setting() -> Result<()> {
    let folder = place::fresh_folder()?;
    let mut serin = Serin::prepared(folder.path())?;
    serin.options(&["--watch"]);
    serin.start_again().await?;
    write(&serin, "ticker", TICKS)?;
    serves(&serin, "ticker", "v1").await?;
    write(&serin, "ticker", &TICKS.replace("tick;", "tack;"))?;
    serves(&serin, "ticker", "v2").await
}
