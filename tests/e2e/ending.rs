//! Serin ends though somebody still waits for an answer, and a start that fails leaves nothing behind.

use std::fs;
use std::io::Read;
use std::net::TcpStream as Probe;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serin_tests::Serin;
use serin_tests::process::{self, Signal};
use serin_tests::wait::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::services::write;

/// Two interpreters may start beside other tests.
const SOON: Duration = Duration::from_secs(60);
/// What Serin says where the doors waited in vain for requests that were under way.
const CUT_OFF: &str = "cut off requests that did not finish in time";

/// It never gets ready, and ends at once when it is told to.
const STUCK: &str = "run: sleep 600\nport: auto\nready_within: 10m\n";

fn signal(serin: &Serin) -> Result<()> {
    process::send(serin.pid().context("it runs")?, Signal::TERM)
}

/// Whether a listener still takes connections.
fn is_open(serin: &Serin) -> bool {
    Probe::connect(serin.url().trim_start_matches("http://")).is_ok()
}

/// A request whose body the server waits for.
async fn unfinished(serin: &Serin) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(serin.url().trim_start_matches("http://")).await?;
    let head = format!(
        "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
        serin.token()
    );
    stream.write_all(head.as_bytes()).await?;
    let mut told = [0; 12];
    stream.read_exact(&mut told).await?;
    ensure!(told == *b"HTTP/1.1 100", "it wants the body");
    Ok(stream)
}

#[tokio::test]
async fn a_deploy_under_way_holds_no_end_up() -> Result<()> {
    let mut serin = Serin::start().await?;
    write(&serin, "stuck", STUCK)?;
    let mut deploy = serin
        .command(&["deploy", "stuck"])?
        .stderr(Stdio::piped())
        .spawn()?;
    until("an instance is started", SOON, async || {
        let instances = serin.get("/api/v1/instances").await?;
        let first = &instances["instances"][0];
        Ok((first["service"] == "stuck" && first["name"].is_string()).then_some(()))
    })
    .await?;
    serin.stop().await?;
    ensure!(!serin.said().contains(CUT_OFF), "it waited for the deploy");
    let mut said = String::new();
    let stderr = deploy.stderr.as_mut().context("piped")?;
    stderr.read_to_string(&mut said)?;
    ensure!(!deploy.wait()?.success(), "it did not serve: {said}");
    ensure!(said.contains("`serin status` says where it is"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_at_once() -> Result<()> {
    let mut serin = Serin::start().await?;
    let _unfinished = unfinished(&serin).await?;
    signal(&serin)?;
    until("it takes no connection any more", SOON, async || {
        Ok((!is_open(&serin)).then_some(()))
    })
    .await?;
    signal(&serin)?;
    let ended = until("it has ended", SOON, async || serin.ended()).await?;
    ensure!(!serin.said().contains(CUT_OFF), "it went on waiting");
    ensure!(ended.code() == Some(1), "{ended}: {}", serin.said());
    ensure!(serin.said().contains("`serin down`"), "{}", serin.said());
    let data = serin.dir().join(".serin");
    ensure!(serin_bus::running(&data).is_some(), "the bus goes on");
    serin.stop().await?;
    ensure!(serin_bus::running(&data).is_none(), "nothing is left");
    Ok(())
}

#[tokio::test]
async fn a_start_that_fails_ends_what_it_began_and_nothing_else() -> Result<()> {
    let mut serin = Serin::start().await?;
    let data = serin.dir().join(".serin");
    // Where the SDKs are unpacked, which is done once the bus and the ingester run.
    let sdk = data.join("sdk");
    until("nobody writes there any more", SOON, async || {
        Ok(sdk.join("python/compiled").exists().then_some(()))
    })
    .await?;
    serin.kill()?;
    fs::remove_dir_all(&sdk)?;
    fs::write(&sdk, "no folder")?;
    let fails = async |serin: &mut Serin| -> Result<()> {
        serin.spawn()?;
        let ended = until("it has ended", SOON, async || serin.ended()).await?;
        ensure!(!ended.success(), "it started: {}", serin.said());
        Ok(())
    };
    fails(&mut serin).await?;
    ensure!(
        serin_bus::running(&data).is_some(),
        "the bus that was there goes on"
    );
    serin.run(&["down"]).await?;
    ensure!(serin_bus::running(&data).is_none(), "it was ended");
    fs::remove_file(data.join("bus/nats.pid"))?;
    fails(&mut serin).await?;
    serin.bus_pid().context("a bus was started")?;
    ensure!(serin_bus::running(&data).is_none(), "it was ended again");
    Ok(())
}
