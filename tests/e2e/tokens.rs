//! Tokens that outlive a start: good after a crash and an end in order, nowhere kept in clear, refused
//! once they are removed or past their time.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use serin_tests::Serin;
use serin_tests::wait::until;

const SOON: Duration = Duration::from_secs(60);

/// What the server answers to a request with this token: status and body.
async fn asked_with(serin: &Serin, token: &str) -> Result<(u16, Value)> {
    let url = format!("{}/api/v1/status", serin.url());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(url).bearer_auth(token).send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

/// A command from elsewhere, with nothing but the address and the token.
async fn elsewhere(serin: &Serin, token: &str, args: &[&str]) -> Result<std::process::Output> {
    let folder = tempfile::tempdir()?;
    let mut command = tokio::process::Command::from(serin.command(args)?);
    command
        .args(["--server", serin.url()])
        .env("SERIN_TOKEN", token)
        .current_dir(folder.path());
    Ok(command.output().await?)
}

/// The files below a folder in which a text stands; what goes while it is looked at is none.
fn files_with(folder: &Path, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let Some(entries) = if_there(fs::read_dir(folder))? else {
        return Ok(found);
    };
    for entry in entries {
        let path = entry?.path();
        let Some(metadata) = if_there(fs::symlink_metadata(&path))? else {
            continue;
        };
        if metadata.is_dir() {
            found.extend(files_with(&path, text)?);
        } else if metadata.is_file()
            && let Some(bytes) = if_there(fs::read(&path))?
            && String::from_utf8_lossy(&bytes).contains(text)
        {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[tokio::test]
async fn a_token_outlives_starts_and_crashes_and_ends_when_it_is_removed() -> Result<()> {
    let mut serin = Serin::start().await?;
    let made = serin
        .output(&["token", "new", "ci", "--for", "30d"])
        .await?;
    ensure!(made.status.success(), "{made:?}");
    let token = String::from_utf8(made.stdout)?.trim().to_owned();
    let beside = String::from_utf8(made.stderr)?;
    ensure!(token.starts_with("serin_"), "the token alone: {token:?}");
    ensure!(
        beside.contains("SERIN_TOKEN=") && !beside.contains(&token),
        "{beside}"
    );
    let said = serin.refused(&["token", "new", "ci"]).await?;
    ensure!(
        said.contains("already") && said.contains("token rm ci"),
        "{said}"
    );
    ensure!(asked_with(&serin, &token).await?.0 == 200);
    let said = serin.refused(&["token", "rm", "a/b"]).await?;
    ensure!(said.contains("there is no token \"a/b\""), "{said}");
    let emitted = elsewhere(&serin, &token, &["emit", "token.used", "n=1"]).await?;
    ensure!(emitted.status.success(), "{emitted:?}");

    serin.kill()?;
    serin.start_again().await?;
    ensure!(asked_with(&serin, &token).await?.0 == 200, "after a crash");
    let status = elsewhere(&serin, &token, &["status"]).await?;
    ensure!(status.status.success(), "{status:?}");
    let shown = String::from_utf8(status.stdout)?;
    ensure!(
        shown.contains(serin.url()) && !shown.contains("sign in"),
        "{shown}"
    );
    let secret = token.trim_start_matches("serin_");
    let kept_in = |text: &str| files_with(&serin.dir().join(".serin"), text);
    let known = kept_in(serin.token())?;
    ensure!(
        known.len() == 1,
        "that of the start is in run.json: {known:?}"
    );
    let kept = kept_in(secret)?;
    ensure!(kept.is_empty(), "in clear in {kept:?}");
    serin.stop().await?;
    let kept = files_with(serin.dir(), secret)?;
    ensure!(kept.is_empty(), "in clear in {kept:?}");
    serin.start_again().await?;
    ensure!(asked_with(&serin, &token).await?.0 == 200, "after an end");

    let refused = elsewhere(&serin, &token, &["token", "rm", "ci"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1), "{said}");
    ensure!(said.contains("SER-AUTH-006"), "{said}");
    let listed: Value = serde_json::from_str(&serin.run(&["token", "list", "--json"]).await?)?;
    ensure!(listed[0]["name"] == "ci", "{listed}");
    serin.run(&["token", "rm", "ci"]).await?;
    let (status, told) = asked_with(&serin, &token).await?;
    ensure!(status == 401, "it was removed: {told}");
    serin.kill()?;
    serin.start_again().await?;
    let (status, told) = asked_with(&serin, &token).await?;
    ensure!(status == 401, "it stays removed: {told}");
    let listed = serin.run(&["token", "list", "--json"]).await?;
    ensure!(listed.trim() == "[]", "{listed}");
    Ok(())
}

#[tokio::test]
async fn a_token_past_its_time_is_refused_and_named() -> Result<()> {
    let mut serin = Serin::start().await?;
    let made = serin
        .run(&["token", "new", "brief", "--for", "1s", "--json"])
        .await?;
    let made: Value = serde_json::from_str(&made)?;
    let token = made["token"].as_str().context("a token")?;
    let told = until("it is past its time", SOON, async || {
        let (status, told) = asked_with(&serin, token).await?;
        Ok((status == 401).then_some(told))
    })
    .await?;
    ensure!(told["code"] == "SER-AUTH-005", "{told}");
    let error = told["error"].as_str().context("words")?;
    ensure!(error.contains("\"brief\" was good until 20"), "{error}");
    serin.kill()?;
    serin.start_again().await?;
    let (status, told) = asked_with(&serin, token).await?;
    ensure!(status == 401 && told["code"] == "SER-AUTH-005", "{told}");
    let listed = serin.run(&["token", "list"]).await?;
    ensure!(listed.contains("is past its time"), "{listed}");
    // Its name is free.
    let again = serin.run(&["token", "new", "brief", "--json"]).await?;
    let again: Value = serde_json::from_str(&again)?;
    let another = again["token"].as_str().context("a token")?;
    ensure!(
        another != token && again["expires"] != json!(null),
        "{again}"
    );
    ensure!(asked_with(&serin, another).await?.0 == 200);
    Ok(())
}
