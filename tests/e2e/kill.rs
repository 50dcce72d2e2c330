//! kill -9 of Serin, of its bus, or of both, at random points under load: nothing acknowledged is
//! lost, nothing is stored twice, a restart is quick, and there is one nats-server, at its old place.
//!
//! Each second kill waits for a random moment within a flush. After each kill the lake's invariants are
//! audited; a generation of 10 kills (50 in the slow form) ends with a recount by DuckDB, and the next
//! one has a folder of its own, so that each recount is over everything. `SERIN_KILLS` sets how many
//! crashes (100, and 1,000 in the slow form), `SERIN_SEED` repeats a run.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serin_connect::Connector;
use serin_tests::random::Random;
use serin_tests::report::{judged, quantile, report};
use serin_tests::wait::until;
use serin_tests::{Serin, place, process};

use crate::audit::{self, Audited};
use crate::writers::{self, Writers};

/// What is killed in one round.
const VICTIMS: [Victim; 4] = [
    Victim::Serin,
    Victim::Bus,
    Victim::Both,
    Victim::BothAndTheNextStart,
];
/// Milliseconds between two kills at most; each tenth is later, so that small files are merged.
const PAUSE: u64 = 1_500;
const LONG_PAUSE: u64 = 5_000;
/// Somebody asks for a flush five times a second and more, while Serin answers.
const FLUSH_DEADLINE: Duration = Duration::from_secs(20);
/// Milliseconds within which most flushes that are asked for are done on this small a lake.
const FLUSH_MS: u64 = 60;
/// A restart may take so long.
const READY_S_MAX: f64 = 2.0;
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

/// What the generations measured together.
#[derive(Debug, Default)]
struct Total {
    acknowledged: usize,
    within_flush: u64,
    flushes: u64,
    merges: i64,
    ready_s: Vec<f64>,
}

#[tokio::test]
async fn every_acknowledged_event_is_stored_once_after_kills() -> Result<()> {
    // Kills, and how many of them between two recounts, over one folder.
    let (kills, generation_of) = if place::is_slow() {
        (1_000, 50)
    } else {
        (100, 10)
    };
    let kills = place::number("SERIN_KILLS", kills);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = place::number("SERIN_SEED", now.as_secs());
    println!("SERIN_SEED={seed} SERIN_KILLS={kills}");
    let mut random = Random::new(seed);
    let mut total = Total::default();
    for first in (0..kills).step_by(usize::try_from(generation_of)?) {
        let range = first..kills.min(first + generation_of);
        let named = format!(
            "kills {} to {} of SERIN_SEED={seed}",
            range.start + 1,
            range.end
        );
        let lived = generation(range, &mut random, &mut total).await;
        lived.with_context(|| named.clone())?;
        println!("{named}: {} acknowledged so far", total.acknowledged);
    }
    told(kills, total)
}

/// Some kills over one folder, and the recount at their end.
async fn generation(
    kills: std::ops::Range<u64>,
    random: &mut Random,
    total: &mut Total,
) -> Result<()> {
    let mut serin = Serin::start_set(writers::SETTINGS).await?;
    let mut audited = Audited::default();
    let writers = Writers::start(&serin, kills.start);
    let bus = serin.bus().to_owned();
    for kill in kills {
        let victim = VICTIMS[usize::try_from(random.below(4))?];
        // The point of time is the input of this test, not a wait for something.
        let pause = if kill % 10 == 9 { LONG_PAUSE } else { PAUSE };
        tokio::time::sleep(Duration::from_millis(50 + random.below(pause))).await;
        if kill % 2 == 0 {
            within_flush(&writers, random).await?;
        }
        total.within_flush += u64::from(writers.is_flushing());
        let struck = strike(&mut serin, victim, random, &writers, total).await;
        let named = || format!("kill {} of {victim:?}: {}", kill + 1, serin.said());
        struck.with_context(named)?;
        ensure!(serin.bus() == bus, "{}: the bus has moved", named());
        audited.again(&serin).await.with_context(named)?;
    }
    let (acknowledged, flushes) = writers.stop().await?;
    writers::all_wrote(&acknowledged, &["h-", "b-", "s-", "i-"])?;
    writers::recount(&serin, &acknowledged).await?;
    let merges = serin.sql_number("SELECT count(*) FROM \"serin.compacted\"");
    total.merges += merges.await.unwrap_or_default();
    total.acknowledged += acknowledged.len();
    total.flushes += flushes;
    serin.stop().await?;
    let left = servers(&serin)?;
    ensure!(left.is_empty(), "alive after `serin down`: {left:?}");
    audit::start_changes_nothing(&serin)
}

/// Waits for a random point of time within a flush: one that ended before it does not count.
async fn within_flush(writers: &Writers, random: &mut Random) -> Result<()> {
    until("a flush is under way", FLUSH_DEADLINE, async || {
        if !writers.is_flushing() {
            return Ok(None);
        }
        tokio::time::sleep(Duration::from_millis(random.below(FLUSH_MS))).await;
        Ok(writers.is_flushing().then_some(()))
    })
    .await
}

/// Kills and starts again.
async fn strike(
    serin: &mut Serin,
    victim: Victim,
    random: &mut Random,
    writers: &Writers,
    total: &mut Total,
) -> Result<()> {
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
        return one_server(serin).await;
    }
    total.ready_s.push(serin.start_again().await?.as_secs_f64());
    writers.moved(serin);
    let servers = servers(serin)?;
    ensure!(servers.len() == 1, "servers {servers:?}");
    Ok(())
}

fn told(kills: u64, mut total: Total) -> Result<()> {
    judged(
        &format!("{kills} kills at random points: acknowledged events lost or doubled"),
        &format!("0 of {}", total.acknowledged),
        "0",
        true,
    );
    report(
        "kills while a flush was under way",
        &format!(
            "{} of {kills}, beside {} flushes and {} merges that went through",
            total.within_flush, total.flushes, total.merges
        ),
        "",
    );
    ensure!(total.within_flush > 0, "no kill hit a flush");
    total.ready_s.sort_by(f64::total_cmp);
    let worst = total.ready_s.last().copied().unwrap_or_default();
    judged(
        "restart ready after kill -9, under load",
        &format!(
            "median {:.2} s, worst {worst:.2} s",
            quantile(&total.ready_s, 0.5)
        ),
        "2 s",
        worst <= READY_S_MAX,
    );
    Ok(())
}

/// Waits until the bus is there again and answers; never are there two.
async fn one_server(serin: &Serin) -> Result<()> {
    let seen = until("one nats-server answers", BUS_BACK_DEADLINE, async || {
        let answers = Connector::new(serin.bus(), "test")?.now().await.is_ok();
        let servers = servers(serin)?;
        Ok((answers && !servers.is_empty()).then_some(servers))
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
    for pid in process::all()? {
        let is_server = fs::read_link(process::folder(pid).join("exe"))
            .is_ok_and(|exe| exe.file_name().is_some_and(|name| name == "nats-server"));
        if is_server && process::command(pid).iter().any(|word| *word == conf) {
            found.push(pid);
        }
    }
    Ok(found)
}
