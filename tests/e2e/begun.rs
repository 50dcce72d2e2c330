//! What `serin up` says when it begins: where the web services are, or why it does not begin; that it opens
//! the browser, signed in; and that whoever ends it meanwhile finds nothing left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serin_tests::process::{self, Signal};
use serin_tests::wait::until;
use serin_tests::{Serin, place};

use crate::services::write;

/// A server, its bus and an interpreter start beside other tests.
const SOON: Duration = Duration::from_secs(60);
const TILLS: &str = "run: sh -c 'exec python3 -m http.server $PORT --bind 127.0.0.1'\n\
                     port: auto\nweb: /tills\n";

/// The line about the gateway of the start of this number; it is said a little after all answers.
async fn web_line(serin: &Serin, start: usize) -> Result<String> {
    until("it is said where the web is", SOON, async || {
        let said = serin.said();
        let since = said.split("Serin is ready after").nth(start);
        let mut lines = since.unwrap_or_default().lines();
        let line = lines.find(|line| line.starts_with("  web  "));
        Ok(line.map(str::to_owned))
    })
    .await
}

#[tokio::test]
async fn a_path_is_shown_that_is_there() -> Result<()> {
    let mut serin = Serin::start().await?;
    let line = web_line(&serin, 1).await?;
    ensure!(
        line.ends_with("(services with a path: none has one yet)"),
        "{line}"
    );
    write(&serin, "tills", TILLS)?;
    serin.run(&["deploy", "tills"]).await?;
    serin.stop().await?;
    serin.start_again().await?;
    let line = web_line(&serin, 2).await?;
    let path = format!("{}/tills)", serin.gateway());
    ensure!(line.ends_with(&path), "{line}");
    Ok(())
}

#[tokio::test]
async fn a_bus_that_is_none_is_refused_with_what_to_say() -> Result<()> {
    let folder = place::fresh_folder()?;
    let serin = Serin::prepared(folder.path())?;
    for (bus, says) in [
        ("99999", "it is no port: those are 1 to 65535"),
        ("", "say a port, or the URL of a bus to join"),
    ] {
        let output = serin.command(&["up", ".", "--bus", bus])?.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2), "{bus:?}: {said}");
        ensure!(said.contains(says), "{bus:?}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_signal_during_the_start_leaves_nothing_behind() -> Result<()> {
    let folder = place::fresh_folder()?;
    let mut serin = Serin::prepared(folder.path())?;
    serin.spawn()?;
    let data = serin.dir().join(".serin");
    let begun = async || Ok(serin_bus::running(&data).map(|_| ()));
    until("its bus is started", SOON, begun).await?;
    process::send(serin.pid().context("it runs")?, Signal::INT)?;
    let ended = until("it has ended", SOON, async || serin.ended()).await?;
    ensure!(ended.success(), "{ended}: {}", serin.said());
    ensure!(serin_bus::running(&data).is_none(), "the bus goes on");
    Ok(())
}

/// The browser of this machine is a script, which writes down what it is to open; `script` is the terminal.
#[tokio::test]
async fn the_browser_is_opened_signed_in() -> Result<()> {
    let folder = place::fresh_folder()?;
    let (work, opened) = (folder.path().join("work"), folder.path().join("opened"));
    fs::create_dir(&work)?;
    let browser = folder.path().join("xdg-open");
    fs::write(
        &browser,
        format!("#!/bin/sh\necho \"$1\" > '{}'\n", opened.display()),
    )?;
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755))?;
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let folders = [folder.path().to_owned()].into_iter();
    let path = std::env::join_paths(folders.chain(std::env::split_paths(&inherited)))?;
    let serin = Serin::prepared(&work)?;
    let up = format!(
        "'{}' up . --listen 127.0.0.1:0 --gateway 127.0.0.1:0",
        place::serin()?.display()
    );
    let mut terminal = Command::new("script")
        .args(["-qefc", &up, "/dev/null"])
        .current_dir(&work)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start script")?;
    let link = until("the browser is opened", SOON, async || {
        let link = fs::read_to_string(&opened)?;
        Ok(link.ends_with('\n').then(|| link.trim().to_owned()))
    })
    .await?;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let answer = client.build()?.get(&link).send().await?;
    ensure!(answer.status().is_redirection(), "{}", answer.status());
    ensure!(answer.headers().contains_key("set-cookie"), "{answer:?}");
    serin.run(&["down"]).await?;
    ensure!(terminal.wait()?.success());
    Ok(())
}
