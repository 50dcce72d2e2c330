//! A bus that runs already and is joined: services serve on it, and clients that know no versions reach
//! them by the weights, since Serin sends their calls on.

use std::fs;
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use serin_tests::wait::until;
use serin_tests::{Serin, place, process};
use tempfile::TempDir;

use super::by_hand::{Started, becomes};
use super::{SOON, instances};

/// Share of the calls for the version that is started by hand.
const PERCENT: usize = 20;

/// A nats-server of others, with JetStream.
struct Theirs {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Theirs {
    async fn start() -> Result<Theirs> {
        let folder = place::fresh_folder()?;
        let child = Command::new(place::nats_server()?)
            .args(["-js", "-a", "127.0.0.1", "-p", "-1", "-sd"])
            .arg(folder.path())
            .arg("--ports_file_dir")
            .arg(folder.path())
            .spawn()
            .context("cannot start nats-server")?;
        let said = format!("nats-server_{}.ports", child.id());
        let mut theirs = Theirs {
            child,
            url: String::new(),
            _folder: folder,
        };
        let said = theirs._folder.path().join(said);
        theirs.url = until("it says where it is", SOON, async || {
            let said: serde_json::Value = serde_json::from_slice(&fs::read(&said)?)?;
            Ok(said["nats"][0].as_str().map(str::to_owned))
        })
        .await?;
        Ok(theirs)
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            panic!("cannot end nats-server: {error}");
        }
    }
}

#[tokio::test]
async fn on_a_bus_of_others_raw_clients_are_served_by_the_weights() -> Result<()> {
    let theirs = Theirs::start().await?;
    let folder = place::fresh_folder()?;
    let mut serin = Serin::prepared(folder.path())?;
    serin.options(&["--bus", &theirs.url]);
    serin.start_again().await?;
    serin.run(&["new", "page"]).await?;
    serin.run(&["deploy", "page"]).await?;
    let answer = reqwest::get(format!("{}/page/", serin.gateway())).await?;
    assert_eq!(answer.status(), 200);
    let percent = PERCENT.to_string();
    let by_hand = Started::run(&serin, &["page", "--percent", &percent])?;
    becomes(&serin, "page", Some("ready")).await?;

    let client = serin_tests::bus::connect(&theirs.url).await?;
    let mut versions = Vec::new();
    for _ in 0..100 {
        let asked = client.request("svc.page.greet", r#"{"name": "Ada"}"#.into());
        let answer = asked.await?;
        assert_eq!(&answer.payload[..], br#"{"text":"Hello, Ada!"}"#);
        let headers = answer.headers.context("headers")?;
        versions.push(
            headers
                .get("serin-version")
                .context("a version")?
                .to_string(),
        );
    }
    let by_hand_took = versions.iter().filter(|version| *version == "dev").count();
    // The slots that a service's route ends and begins with may be asked once more.
    ensure!(
        by_hand_took.abs_diff(PERCENT) <= 2,
        "{by_hand_took} of 100: {versions:?}"
    );
    by_hand.interrupt()?;

    let before = instances(&serin, "page", "ready").await?;
    serin.stop().await?;
    for (name, pid) in before {
        ensure!(!process::is_running(pid), "{name} is left");
    }
    // Their bus is theirs.
    client.publish("still.there", "".into()).await?;
    client.flush().await?;
    Ok(())
}
