//! `serin run`: an instance in a terminal takes its part of the calls, and goes without losing one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use serin_tests::Serin;
use serin_tests::process::{self, Signal};
use serin_tests::wait::until;

use super::load::Visitors;
use super::{SOON, instances, write, write_python};

/// A process that a test started, asked to end when the test is over, however it ends.
pub(super) struct Started(Child);

impl Started {
    /// `serin run` in the background.
    pub(super) fn run(serin: &Serin, arguments: &[&str]) -> Result<Started> {
        let mut command = serin.command(&[&["run"], arguments].concat())?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::null());
        Ok(Started(command.spawn().context("cannot start serin run")?))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        process::send(self.0.id(), signal)
    }

    /// Asks it to end as Ctrl-C does, and waits for that.
    pub(super) fn interrupt(mut self) -> Result<()> {
        self.signal(Signal::INT)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "serin run ended with {status}");
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It ends its instance itself, and kills one that does not end in time.
        if let Ok(None) = self.0.try_wait()
            && self.signal(Signal::TERM).is_ok()
            && let Err(error) = self.0.wait()
        {
            panic!("cannot wait for what the test started: {error}");
        }
    }
}

/// The state of the first instance that was started by hand.
async fn state(serin: &Serin, name: &str) -> Result<Option<String>> {
    let service = serin.get(&format!("/api/v1/services/{name}")).await?;
    let mut instances = service["instances"].as_array().into_iter().flatten();
    let by_hand = instances.find(|one| one["is_by_hand"] == true);
    Ok(by_hand.and_then(|one| Some(one["state"].as_str()?.to_owned())))
}

pub(super) async fn becomes(serin: &Serin, name: &str, wanted: Option<&str>) -> Result<()> {
    let what = format!("the instance by hand becomes {wanted:?}");
    until(&what, SOON, async || {
        let is = state(serin, name).await;
        let is = if wanted.is_none() {
            is.unwrap_or_default()
        } else {
            is?
        };
        Ok((is.as_deref() == wanted).then_some(()))
    })
    .await
}

async fn page(serin: &Serin, name: &str) -> Result<String> {
    let answer = reqwest::get(format!("{}/{name}/", serin.gateway())).await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    Ok(answer.text().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_by_hand_takes_its_part_and_loses_nothing() -> Result<()> {
    let serin = Serin::start().await?;
    serin.run(&["new", "page"]).await?;
    serin.run(&["deploy", "page"]).await?;
    let file = serin.dir().join("services/page/page.html");
    let text = fs::read_to_string(&file)?;
    fs::write(&file, text.replace("Hello", "Servus"))?;
    let visitors = Visitors::start(&format!("{}/page/", serin.gateway()), 2);

    let by_hand = Started::run(&serin, &["page"])?;
    becomes(&serin, "page", Some("ready")).await?;
    let service = serin.get("/api/v1/services/page").await?;
    let weights = &service["route"]["versions"];
    assert_eq!(weights[0]["version"], "dev", "{weights}");
    assert_eq!(weights[0]["weight"], 3_300, "{weights}");
    until("both versions answer", SOON, async || {
        let sql = "SELECT count(DISTINCT version) FROM requests WHERE service = 'page'";
        Ok((serin.sql_number(sql).await? == 2).then_some(()))
    })
    .await?;
    let said = serin.run(&["status"]).await?;
    assert!(said.contains("page-dev-1"), "{said}");
    by_hand.interrupt()?;
    becomes(&serin, "page", None).await?;

    let by_hand = Started::run(&serin, &["page", "--percent", "100"])?;
    becomes(&serin, "page", Some("ready")).await?;
    until("all calls come here", SOON, async || {
        Ok(page(&serin, "page").await?.contains("Servus").then_some(()))
    })
    .await?;
    assert!(page(&serin, "page").await?.contains("Servus"));
    by_hand.interrupt()?;
    assert!(page(&serin, "page").await?.contains("Hello"));
    visitors.more(20).await?;
    visitors.all_were_served().await
}

#[tokio::test]
async fn a_service_that_was_never_deployed_is_served_by_hand() -> Result<()> {
    let mut serin = Serin::start().await?;
    serin.run(&["new", "page"]).await?;
    let by_hand = Started::run(&serin, &["page"])?;
    becomes(&serin, "page", Some("ready")).await?;
    until("the gateway knows it", SOON, async || {
        Ok(page(&serin, "page").await.ok())
    })
    .await?;
    // It joins the next run of Serin by itself.
    serin.kill()?;
    serin.start_again().await?;
    until("it is called again", SOON, async || {
        Ok((state(&serin, "page").await.ok().flatten().as_deref() == Some("ready")).then_some(()))
    })
    .await?;
    by_hand.interrupt()?;
    let said = serin
        .refused(&["deploy", "page", "--version", "dev"])
        .await?;
    assert!(said.contains("`serin run`"), "{said}");
    let said = serin.refused(&["run", "nobody"]).await?;
    assert!(said.contains("`serin new nobody` makes one"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_debugger_starts_it_with_the_environment_that_is_printed() -> Result<()> {
    let serin = Serin::start().await?;
    serin.run(&["new", "shout", "--lang", "python"]).await?;
    let lines = serin.run(&["run", "shout", "--print-env"]).await?;
    assert!(lines.contains("SERIN_INSTANCE=shout-dev-1"), "{lines}");
    let json = serin
        .run(&["run", "shout", "--print-env", "--json"])
        .await?;
    let env: Value = serde_json::from_str(&json)?;
    assert_eq!(env["SERIN_INSTANCE"], "shout-dev-2");
    let script = format!("set -a; {lines}\nexec python3 main.py");
    let child = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(serin.dir().join("services/shout"))
        .spawn()?;
    let mut child = Started(child);
    becomes(&serin, "shout", Some("ready")).await?;
    child.0.kill()?;
    child.0.wait()?;
    // Its pulses have stopped: it takes no calls any more.
    becomes(&serin, "shout", Some("starting")).await
}

#[tokio::test]
async fn one_that_is_ready_once_started_is_not_before() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "plain", "run: sleep 600\nready: started\n")?;
    let printed = serin.run(&["run", "plain", "--print-env"]).await?;
    ensure!(printed.contains("SERIN_INSTANCE=plain-dev-1"), "{printed}");
    let by_hand = Started::run(&serin, &["plain"])?;
    until("the one that was started is ready", SOON, async || {
        let ready = instances(&serin, "plain", "ready").await?;
        let names: Vec<String> = ready.into_iter().map(|(name, _)| name).collect();
        ensure!(!names.iter().any(|name| name == "plain-dev-1"), "{names:?}");
        Ok((names == ["plain-dev-2"]).then_some(()))
    })
    .await?;
    by_hand.interrupt()
}

#[tokio::test]
async fn an_interactive_one_reads_what_is_typed_and_sees_ctrl_c_itself() -> Result<()> {
    let serin = Serin::start().await?;
    let text = "import sys\n\
                for line in sys.stdin:\n    print('heard', line.strip(), flush=True)\n";
    write_python(&serin, "typing", "ready: started\n", text)?;
    let mut by_hand = Started::run(&serin, &["typing", "--interactive"])?;
    let mut said = BufReader::new(by_hand.0.stdout.take().context("its output")?).lines();
    let mut typed = by_hand.0.stdin.take().context("its input")?;
    writeln!(typed, "next")?;
    assert_eq!(said.next().context("a line")??, "heard next");
    // A terminal sends it to both; here ours is on its own, and the instance goes on.
    by_hand.signal(Signal::INT)?;
    writeln!(typed, "continue")?;
    assert_eq!(said.next().context("a line")??, "heard continue");
    drop(typed);
    let status = by_hand.0.wait()?;
    ensure!(status.success(), "serin run ended with {status}");
    Ok(())
}
