//! Serin is killed, started again and upgraded under load: the gateway goes on, and loses nothing.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serin_tests::wait::until;
use serin_tests::{Serin, place, process};

use super::load::Visitors;
use super::{SOON, instances};

async fn has_gone(pid: u32) -> Result<()> {
    until("the gateway has gone", SOON, async || {
        Ok((!process::is_running(pid)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_and_an_upgrade_of_serin_lose_no_request() -> Result<()> {
    let mut serin = Serin::start().await?;
    serin.run(&["new", "page"]).await?;
    serin.run(&["deploy", "page"]).await?;
    let (gateway, pid) = (serin.gateway().to_owned(), serin.gateway_pid().await?);
    let before = instances(&serin, "page", "ready").await?;
    let visitors = Visitors::start(&format!("{gateway}/page/"), 4);

    // A crash: nobody but Serin is gone.
    serin.kill()?;
    visitors.more(100).await?;
    serin.start_again().await?;
    assert_eq!(serin.gateway(), gateway);
    until("gateway and instances are taken up", SOON, async || {
        let is_same = serin.gateway_pid().await? == pid;
        let ready = instances(&serin, "page", "ready").await?;
        Ok((is_same && ready == before).then_some(()))
    })
    .await?;
    visitors.more(100).await?;

    // An upgrade: another program takes the listener over.
    serin.kill()?;
    let program = serin.dir().join("serin-next");
    fs::copy(place::serin()?, &program)?;
    serin.use_program(&program);
    serin.start_again().await?;
    until("the new program serves", SOON, async || {
        Ok((serin.gateway_pid().await? != pid).then_some(()))
    })
    .await?;
    has_gone(pid).await?;
    assert_eq!(serin.gateway(), gateway);
    visitors.more(100).await?;

    // The new one follows what is deployed from now on.
    let page = serin.dir().join("services/page/page.html");
    let text = fs::read_to_string(&page)?;
    fs::write(&page, format!("{text}<!-- upgraded -->\n"))?;
    serin.run(&["deploy", "page"]).await?;
    let shown = reqwest::get(format!("{gateway}/page/"))
        .await?
        .text()
        .await?;
    assert!(shown.contains("<!-- upgraded -->"), "{shown}");
    visitors.all_were_served().await?;

    let pid = serin.gateway_pid().await?;
    serin.stop().await?;
    has_gone(pid).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_gateway_is_started_again_and_nothing_outlives_down() -> Result<()> {
    let mut serin = Serin::start().await?;
    serin.run(&["new", "page"]).await?;
    serin.run(&["deploy", "page"]).await?;
    let url = format!("{}/page/", serin.gateway());
    let pid = serin.gateway_pid().await?;
    process::kill(pid)?;
    // Who comes now waits in the listener's queue until the next process takes it.
    let answer = reqwest::get(&url).await?;
    assert_eq!(answer.status(), 200);
    let next = until("another process is told and counted", SOON, async || {
        let answer = serin
            .request(reqwest::Method::GET, "/metrics")
            .send()
            .await?;
        let metrics = answer.text().await?;
        ensure!(
            metrics.contains("serin_gateway_restarts_total 1"),
            "{metrics}"
        );
        let next = serin.gateway_pid().await?;
        Ok((next != pid).then_some(next))
    })
    .await?;

    serin.kill()?;
    assert_eq!(reqwest::get(&url).await?.status(), 200, "without Serin");
    serin.run(&["down"]).await?;
    has_gone(next).await
}

#[tokio::test]
async fn a_gateway_that_was_only_being_started_does_not_keep_its_address() -> Result<()> {
    let mut serin = Serin::start().await?;
    let command = process::command(serin.gateway_pid().await?);
    let socket = command.iter().skip_while(|word| *word != "--socket").nth(1);
    let socket = socket.context("the gateway has a socket")?;
    serin.stop().await?;
    // As a gateway is until it opens its socket: with the listener, and no sign of life.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    serin.write("gateway", "kill -STOP $$\n")?;
    let mut left = Command::new("sh")
        .args(["gateway", "--socket", socket])
        .current_dir(serin.dir())
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .spawn()?;
    let listen = [
        "--no-hello",
        "--listen",
        "127.0.0.1:0",
        "--gateway",
        &address,
    ];
    let up = [&["up", "."], &listen[..]].concat();
    let mut next = serin.command(&up)?.spawn()?;
    until("the next Serin has the address", SOON, async || {
        ensure!(next.try_wait()?.is_none(), "it ended at once");
        let run = fs::read_to_string(serin.dir().join(".serin/run.json"))?;
        Ok(run.contains(&address).then_some(()))
    })
    .await?;
    assert!(!left.wait()?.success());
    serin.run(&["down"]).await?;
    ensure!(next.wait()?.success(), "it ended as it was asked");
    Ok(())
}
