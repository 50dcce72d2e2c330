//! What is shown of instances: one that is stopped in its tracks is silent, long before anything is done
//! about it; those of the version before drain, and are gone from the lists once they have ended. What is
//! built for the first time, or could not be, is shown though it has none.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serin_tests::report::judged;
use serin_tests::wait::until;
use serin_tests::{Serin, process};

use super::{SOON, TICKS, becomes, instances, write};

/// From its last sign to what is shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(3);

#[tokio::test]
async fn who_is_not_heard_is_shown_silent_and_ready_when_it_is_heard_again() -> Result<()> {
    let serin = Serin::start().await?;
    serin.run(&["new", "still", "--web=false"]).await?;
    serin.run(&["deploy", "still"]).await?;
    let beats = "SELECT count(DISTINCT instance) FROM beats WHERE service = 'still'";
    until("both were heard", SOON, async || {
        Ok((serin.sql_number(beats).await? == 2).then_some(()))
    })
    .await?;
    let before = instances(&serin, "still", "ready").await?;
    let stopped = before.first().context("an instance")?;
    process::send(stopped.1, process::Signal::STOP)?;
    let begun = Instant::now();
    until("it is shown silent", SOON, async || {
        let silent = instances(&serin, "still", "silent").await?;
        Ok(silent.contains(stopped).then_some(()))
    })
    .await?;
    let shown = begun.elapsed();
    becomes(&serin, "still", "degraded").await?;
    until("so does `serin status`", SOON, async || {
        let said = serin.run(&["status"]).await?;
        let mut lines = said.lines();
        let is_said = lines.any(|line| line.contains(&stopped.0) && line.contains("silent"));
        Ok((is_said && said.contains("1 of 2")).then_some(()))
    })
    .await?;
    process::send(stopped.1, process::Signal::CONT)?;
    until("it is ready again", SOON, async || {
        Ok((instances(&serin, "still", "ready").await? == before).then_some(()))
    })
    .await?;
    judged(
        "a stopped instance is shown silent",
        &format!("{:.1} s", shown.as_secs_f64()),
        "3 s",
        shown <= SHOWN_WITHIN,
    );
    ensure!(shown <= 2 * SHOWN_WITHIN, "{shown:?}");
    Ok(())
}

#[tokio::test]
async fn those_that_drain_are_told_apart_and_those_that_ended_are_left_out() -> Result<()> {
    let serin = Serin::start().await?;
    // It ends when it is killed, not when it is asked.
    let yaml = "run: sh -c 'trap \"\" TERM; while :; do sleep 0.2; done'\nready: started\nstop_within: 8s\n";
    write(&serin, "slow", yaml)?;
    serin.run(&["deploy", "slow"]).await?;
    write(&serin, "slow", &format!("{yaml}env: {{A: 1}}\n"))?;
    serin.run(&["deploy", "slow"]).await?;
    let status = async |more: &[&str]| serin.run(&[&["status"], more].concat()).await;
    until("two drain beside the two that serve", SOON, async || {
        let said = status(&[]).await?;
        ensure!(!said.contains("4 of 2"), "{said}");
        Ok(said.contains("2 of 2, 2 draining").then_some(()))
    })
    .await?;
    until("those that ended are left out", SOON, async || {
        let said = status(&[]).await?;
        let is_short = said.contains("slow-v2-2") && !said.contains("slow-v1-1");
        Ok((is_short && !said.contains("draining")).then_some(()))
    })
    .await?;
    let all = status(&["--all"]).await?;
    ensure!(
        all.contains("slow-v1-1") && all.contains("signal 9"),
        "{all}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_built_for_the_first_time_is_shown_and_why_it_could_not_be() -> Result<()> {
    let serin = Serin::start().await?;
    let gate = serin.dir().join("gate");
    let build = format!(
        "build: sh -c 'while [ ! -e {} ]; do sleep 0.05; done; echo no such header; exit 3'\n",
        gate.display()
    );
    write(&serin, "slow", &format!("{build}{TICKS}"))?;
    let look = async {
        until("it is shown", SOON, async || {
            let said = serin.run(&["status"]).await?;
            Ok(said.contains("slow is being built since ").then_some(()))
        })
        .await?;
        becomes(&serin, "slow", "starting").await?;
        serin.run(&["logs", "slow"]).await?;
        for command in ["stop", "rollback", "rm"] {
            let said = serin.refused(&[command, "slow"]).await?;
            ensure!(said.contains("no version yet: it is being built"), "{said}");
        }
        serin.write("gate", "")
    };
    tokio::try_join!(serin.refused(&["deploy", "slow"]), look)?;
    becomes(&serin, "slow", "down").await?;
    let said = serin.run(&["status"]).await?;
    ensure!(
        said.contains("the last deploy of slow failed: the build of slow failed"),
        "{said}"
    );
    ensure!(said.contains("no such header"), "{said}");
    serin.run(&["rm", "slow"]).await?;
    let services = serin.get("/api/v1/services").await?;
    ensure!(services["services"] == serde_json::json!([]), "{services}");
    // A service that runs goes on, and says so as well.
    write(&serin, "slow", TICKS)?;
    serin.run(&["deploy", "slow"]).await?;
    let is_told = async || {
        let service = serin.get("/api/v1/services/slow").await?;
        anyhow::Ok(service["deploy"].is_object())
    };
    ensure!(!is_told().await?);
    write(&serin, "slow", "run: [")?;
    let wrong = serin.refused(&["deploy", "slow"]).await?;
    ensure!(
        is_told().await? && instances(&serin, "slow", "ready").await?.len() == 2,
        "{wrong}"
    );
    Ok(())
}
