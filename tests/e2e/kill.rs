//! kill -9 of Serin, of its bus, or of both, at random points under load: nothing acknowledged is
//! lost, nothing is stored twice, a restart is quick, and there is one nats-server, at its old place.
//!
//! `SERIN_KILLS` sets how many crashes, `SERIN_SEED` repeats a run. Slow form: 100.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use serin_tests::random::Random;
use serin_tests::report::{quantile, report};
use serin_tests::wait::until;
use serin_tests::{Serin, place};

use crate::writers::{self, Writers};

/// What is killed in one round.
const VICTIMS: [Victim; 4] = [
    Victim::Serin,
    Victim::Bus,
    Victim::Both,
    Victim::BothAndTheNextStart,
];
/// How long Serin may take to start a killed bus again.
const BUS_BACK_DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Serin,
    Bus,
    Both,
    /// Also a Serin that is about to start the bus.
    BothAndTheNextStart,
}

#[tokio::test]
async fn every_acknowledged_event_is_stored_once_after_kills() -> Result<()> {
    let kills = place::number("SERIN_KILLS", if place::is_slow() { 100 } else { 10 });
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = place::number("SERIN_SEED", now.as_secs());
    println!("SERIN_SEED={seed} SERIN_KILLS={kills}");
    let mut random = Random::new(seed);
    let mut serin = Serin::start().await?;
    let writers = Writers::start(&serin, 0);
    let mut ready_s = Vec::new();
    let bus = serin.bus().to_owned();
    for _ in 0..kills {
        // The point of time is the input of this test, not a wait for something.
        tokio::time::sleep(Duration::from_millis(50 + random.below(1_500))).await;
        let victim = VICTIMS[usize::try_from(random.below(4))?];
        if victim != Victim::Bus {
            serin.kill()?;
        }
        if victim != Victim::Serin {
            serin.kill_bus_if_running()?;
        }
        if victim == Victim::BothAndTheNextStart {
            serin.spawn()?;
            tokio::time::sleep(Duration::from_millis(random.below(600))).await;
            serin.kill()?;
        }
        if victim == Victim::Bus {
            one_server(&serin).await?;
            continue;
        }
        ready_s.push(serin.start_again().await?.as_secs_f64());
        writers.moved(&serin);
        let servers = servers(&serin)?;
        ensure!(servers.len() == 1, "after {victim:?}: servers {servers:?}");
        ensure!(serin.bus() == bus, "after {victim:?} the bus has moved");
    }
    let acknowledged = writers.stop().await?;
    writers::recount(&serin, &acknowledged).await?;
    serin.stop().await?;
    let left = servers(&serin)?;
    ensure!(left.is_empty(), "alive after `serin down`: {left:?}");
    ready_s.sort_by(f64::total_cmp);
    report(
        &format!("{kills} kills at random points: acknowledged events lost or doubled"),
        &format!("0 of {}", acknowledged.len()),
        "0",
    );
    report(
        "restart ready after kill -9 (debug build, under load)",
        &format!(
            "median {:.2} s, worst {:.2} s",
            quantile(&ready_s, 0.5),
            quantile(&ready_s, 1.0)
        ),
        "2 s",
    );
    Ok(())
}

/// Waits until the bus is there again; never are there two.
async fn one_server(serin: &Serin) -> Result<()> {
    let seen = until("one nats-server runs", BUS_BACK_DEADLINE, async || {
        let servers = servers(serin)?;
        Ok((!servers.is_empty()).then_some(servers))
    });
    let seen = seen.await?;
    ensure!(seen.len() == 1, "two over one folder: {seen:?}");
    Ok(())
}

/// The nats-servers that run with the configuration of this folder's bus. A script that is about
/// to become one (pyenv's) and its subshells have the same command line and do not count.
fn servers(serin: &Serin) -> Result<Vec<u32>> {
    let conf = serin.dir().join(".serin/bus/nats.conf");
    let conf = conf.to_string_lossy();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since the folder was read.
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|&byte| byte == 0);
        let is_server = fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "nats-server"));
        if is_server && words.any(|word| word == conf.as_bytes()) {
            found.push(pid);
        }
    }
    Ok(found)
}
