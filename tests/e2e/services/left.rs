//! Whatever moment Serin is killed in, `serin down` leaves no process of the folder behind; and what goes
//! with a shim that is killed is replaced and told.
//!
//! Serin is killed at random moments of a start that builds, deploys and takes up what an earlier one
//! left; some rounds kill a second start too, or the shims with it. `SERIN_KILLS` sets how many rounds,
//! `SERIN_SEED` repeats a run.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serin_tests::random::Random;
use serin_tests::report::judged;
use serin_tests::wait::until;
use serin_tests::{Serin, place, process};

use super::{SOON, TICKS, instances, write};

/// Milliseconds within which a start and its deploys are done.
const START_MS: u64 = 2_000;
/// Its build takes a while, and what it builds ends with nobody's help but ours.
const BUILT: &str = "build: sh -c 'sleep 0.2; sleep 600 & sleep 0.2; kill $!'\n\
                     run: sh -c 'setsid sleep 600 & sleep 600'\nready: started\n";

/// Processes that have to do with a folder, by what they were started with or where they stand.
fn processes_of(dir: &Path) -> Result<Vec<(u32, String)>> {
    let name = dir.to_string_lossy();
    let is_of_it = |pid: &u32| {
        let stands_in = fs::read_link(process::folder(*pid).join("cwd"));
        let words = [process::command(*pid), process::environment(*pid)].concat();
        stands_in.is_ok_and(|place| place.starts_with(dir))
            || words.iter().any(|word| word.contains(&*name))
    };
    let found = process::all()?.into_iter().filter(is_of_it);
    Ok(found
        .map(|pid| (pid, process::command(pid).join(" ")))
        .collect())
}

/// The shims of a folder.
fn shims(dir: &Path) -> Result<Vec<u32>> {
    let all = processes_of(dir)?.into_iter();
    let shims = all.filter(|(_, command)| command.contains(" shim --service "));
    Ok(shims.map(|(pid, _)| pid).collect())
}

#[tokio::test]
async fn down_leaves_nothing_whenever_serin_was_killed() -> Result<()> {
    let rounds = place::number("SERIN_KILLS", if place::is_slow() { 300 } else { 12 });
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = place::number("SERIN_SEED", now.as_secs());
    println!("SERIN_SEED={seed} SERIN_KILLS={rounds}");
    let mut random = Random::new(seed);
    let folder = place::fresh_folder()?;
    let dir = folder.path().canonicalize()?;
    fs::write(dir.join("serin.yaml"), "deploy: {on_start: true}\n")?;
    let mut serin = Serin::prepared(&dir)?;
    write(&serin, "plain", "run: sleep 600\nready: started\n")?;
    for round in 1..=rounds {
        write(
            &serin,
            "built",
            &format!("{BUILT}env: {{ROUND: {round}}}\n"),
        )?;
        for _ in 0..=random.below(2) {
            serin.spawn()?;
            // The point of time is the input of this test, not a wait for something.
            tokio::time::sleep(Duration::from_millis(random.below(START_MS))).await;
            let shims = match random.below(4) {
                0 => shims(&dir)?,
                _ => Vec::new(),
            };
            // Nobody waits for it: it may still be ending when it is looked for.
            process::kill(serin.pid().context("it was started")?)?;
            shims.into_iter().try_for_each(process::kill)?;
        }
        let has_begun = dir.join(".serin/up.lock").exists();
        if !has_begun {
            // Nothing waits for it but this.
            serin.kill()?;
        }
        let named = || format!("round {round} of SERIN_SEED={seed}: {}", serin.said());
        if has_begun {
            serin.run(&["down"]).await.with_context(named)?;
        }
        let left = processes_of(&dir)?;
        ensure!(left.is_empty(), "{left:#?} in {}", named());
        serin.kill()?;
    }
    judged(
        &format!("`serin down` after {rounds} kills of Serin at random moments: processes left"),
        "0",
        "0",
        true,
    );
    Ok(())
}

#[tokio::test]
async fn what_goes_with_a_killed_shim_is_replaced_and_told() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "ticker", TICKS)?;
    serin.run(&["deploy", "ticker"]).await?;
    let before = instances(&serin, "ticker", "ready").await?;
    let shims = shims(&serin.dir().canonicalize()?)?;
    ensure!(shims.len() == 1, "{shims:?}");
    shims.into_iter().try_for_each(process::kill)?;
    until("two others are ready", SOON, async || {
        let now = instances(&serin, "ticker", "ready").await?;
        Ok((now.len() == 2 && now.is_disjoint(&before)).then_some(()))
    })
    .await?;
    for (name, pid) in &before {
        ensure!(!process::is_running(*pid), "{name} is left");
    }
    let ended = instances(&serin, "ticker", "ended").await?;
    ensure!(ended == before, "no name is given again: {ended:?}");
    until("both are told as decisions", SOON, async || {
        let said = serin.run(&["decisions"]).await?;
        let told = said.matches("which ended with the end of its shim").count();
        Ok((told == 2).then_some(()))
    })
    .await?;
    until("both are counted as deaths", SOON, async || {
        let sql = "SELECT CAST(max(value) AS INT) FROM metrics \
                   WHERE name = 'serin_service_deaths_total' AND service = 'ticker'";
        Ok((serin.sql_number(sql).await? == 2).then_some(()))
    })
    .await
}
