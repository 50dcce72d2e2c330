//! Versions that do not get ready, and what is tried after them: only the attempt itself counts, what
//! served before serves on, and who waits for whom is said.

use std::fs;
use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use serin_tests::wait::until;
use serin_tests::{Serin, process};

use super::{SOON, TICKS, becomes, instances, write};

/// A service that does not get ready.
const NEVER: &str = "run: sleep 1000\nready: {run: 'false'}\nready_within: 10m\n";

#[tokio::test]
async fn the_version_before_serves_again_where_a_new_one_fails_on_its_port() -> Result<()> {
    let serin = Serin::start().await?;
    let port = {
        let free = TcpListener::bind("127.0.0.1:0")?;
        free.local_addr()?.port()
    };
    let yaml = format!("run: python3 -m http.server {port}\nport: {port}\n");
    write(&serin, "web", &yaml)?;
    serin.run(&["deploy", "web"]).await?;
    write(
        &serin,
        "web",
        &format!("run: sh -c 'exit 3'\nport: {port}\n"),
    )?;
    let said = serin.refused(&["deploy", "web"]).await?;
    assert!(said.contains("code 3; v1 is started again"), "{said}");
    until("the first version answers again", SOON, async || {
        let service = serin.get("/api/v1/services/web").await?;
        let serves = service["route"]["versions"][0]["version"] == "v1";
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/")).await?;
        Ok((serves && answer.status().is_success()).then_some(()))
    })
    .await
}

#[tokio::test]
async fn what_a_removed_service_did_does_not_count_and_its_copies_go() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "again", "run: sh -c 'exit 3'\n")?;
    fs::write(serin.dir().join("services/again/.env"), "KEY=hidden\n")?;
    let said = serin.refused(&["deploy", "again"]).await?;
    assert!(said.contains("code 3"), "{said}");
    serin.run(&["rm", "again"]).await?;
    let copies = serin.dir().join(".serin/versions/again");
    until("its copies are gone", SOON, async || {
        Ok((!copies.exists()).then_some(()))
    })
    .await?;
    write(&serin, "again", TICKS)?;
    let said = serin.run(&["deploy", "again"]).await?;
    assert!(said.contains("again v1 serves"), "{said}");

    let job = "run: sh -c 'echo run >> \"$SERIN_DATA/runs\"'\njob: true\nready: started\n";
    write(&serin, "once", job)?;
    for _ in 0..2 {
        let said = serin.run(&["deploy", "once"]).await?;
        assert!(said.contains("once v1 ended well"), "{said}");
        serin.run(&["rm", "once"]).await?;
    }
    let runs = fs::read_to_string(serin.dir().join(".serin/kept/once/runs"))?;
    assert_eq!(runs.lines().count(), 2, "it ran each time");
    Ok(())
}

#[tokio::test]
async fn who_waits_for_whom_is_checked_and_said() -> Result<()> {
    let serin = Serin::start().await?;
    let after = |names: &str| format!("{TICKS}after: {names}\n");
    write(&serin, "db", TICKS)?;
    write(&serin, "shop", &after("dbb"))?;
    let said = serin.refused(&["deploy", "shop"]).await?;
    let expected = "services/shop/service.yaml:3:8: after: no service \"dbb\"";
    assert!(said.contains(expected), "{said}");
    write(&serin, "shop", &after("db"))?;
    write(&serin, "db", &after("shop"))?;
    let said = serin.refused(&["deploy", "shop"]).await?;
    assert!(
        said.contains("shop → db → shop wait for each other"),
        "{said}"
    );
    write(&serin, "db", TICKS)?;
    let other = async {
        becomes(&serin, "shop", "starting").await?;
        serin.run(&["deploy", "db"]).await
    };
    let (said, deployed) = tokio::join!(serin.remarks(&["deploy", "shop"]), other);
    deployed?;
    let said = said?;
    assert!(said.contains("shop v1 waits for db"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_deploy_ends_when_its_service_is_stopped_or_removed_meanwhile() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "never", NEVER)?;
    for (command, why) in [
        ("stop", "it was stopped meanwhile"),
        ("rm", "it was removed meanwhile"),
    ] {
        let end = async {
            becomes(&serin, "never", "starting").await?;
            serin.run(&[command, "never"]).await
        };
        let (said, _) = tokio::try_join!(serin.refused(&["deploy", "never"]), end)?;
        ensure!(said.contains(why), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_goes_back_to_what_was_gone_back_from() -> Result<()> {
    let serin = Serin::start().await?;
    let deploy = async |word: &str| {
        write(&serin, "ticker", &TICKS.replace("tick", word))?;
        serin.run(&["deploy", "ticker"]).await
    };
    let goes_back = async || {
        let said = serin.run(&["rollback", "ticker"]).await?;
        ensure!(said.contains("ticker v1 serves after"), "{said}");
        Ok(())
    };
    deploy("tick").await?;
    deploy("tack").await?;
    goes_back().await?;
    deploy("teck").await?;
    // Also while another one is on its way.
    let starts = async || {
        until("the next one starts", SOON, async || {
            let service = serin.get("/api/v1/services/ticker").await?;
            Ok((service["versions"][0]["phase"] == "starting").then_some(()))
        })
        .await
    };
    write(&serin, "ticker", NEVER)?;
    let back = async {
        starts().await?;
        goes_back().await
    };
    let (said, ()) = tokio::try_join!(serin.refused(&["deploy", "ticker"]), back)?;
    ensure!(said.contains("another version took its place"), "{said}");
    let said = serin.refused(&["rollback", "ticker"]).await?;
    ensure!(said.contains("no earlier version"), "{said}");

    // So does a known version that is asked for by its name.
    let named = async {
        starts().await?;
        write(&serin, "ticker", &TICKS.replace("tick", "teck"))?;
        let said = serin.run(&["deploy", "ticker", "--version", "v3"]).await?;
        ensure!(said.contains("ticker v3 serves after"), "{said}");
        Ok(())
    };
    let (said, ()) = tokio::try_join!(serin.refused(&["deploy", "ticker"]), named)?;
    ensure!(said.contains("another version took its place"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_build_that_hangs_is_ended_and_leaves_nothing() -> Result<()> {
    let serin = Serin::start().await?;
    let yaml = format!("{TICKS}build: sh -c 'echo compiling; sleep 1000'\nbuild_within: 3s\n");
    write(&serin, "slow", &yaml)?;
    let said = serin.refused(&["deploy", "slow"]).await?;
    assert!(said.contains("it was ended after 3 s"), "{said}");
    assert!(said.contains("compiling"), "{said}");
    let copies = fs::read_dir(serin.dir().join(".serin/versions/slow"))?;
    assert_eq!(copies.count(), 0, "half a copy is left");
    Ok(())
}

#[tokio::test]
async fn secrets_reach_the_instance_and_its_question_and_nobody_else() -> Result<()> {
    const SECRET: &str = "hidden-2f61a9";
    let mut serin = Serin::start().await?;
    serin.stop().await?;
    serin.set("OF_SERIN_ALONE", "yes");
    serin.start_again().await?;
    let yaml = format!(
        "run: sh -c 'exec sleep 1000'\nport: auto\nenv: {{GREETING: hi}}\n\
         ready:\n  run: sh -c '[ \"${{#KEY}}\" = {} ] && [ \"$GREETING\" = hi ] && \
         [ -n \"$PORT\" ] && [ -n \"$SERIN_INSTANCE\" ] && [ -z \"$OF_SERIN_ALONE\" ]'\n",
        SECRET.len()
    );
    write(&serin, "vault", &yaml)?;
    fs::write(
        serin.dir().join("services/vault/.env"),
        format!("KEY={SECRET}\n"),
    )?;
    serin.run(&["deploy", "vault"]).await?;
    let mut told = serin.get("/api/v1/services").await?.to_string();
    told += &serin.get("/api/v1/services/vault").await?.to_string();
    told += &serin.get("/api/v1/instances").await?.to_string();
    told += &serin.run(&["status", "--json"]).await?;
    told += &serin.said();
    for pid in process::all()? {
        told += &process::command(pid).join(" ");
    }
    assert!(told.contains("vault-v1-1"), "something was looked at");
    assert!(!told.contains(SECRET), "a secret is shown");

    let typo = "run: sh -c 'exec sleep 1000'\nready: {run: pg_isredy -q}\n";
    write(&serin, "typo", typo)?;
    let said = serin.refused(&["deploy", "typo"]).await?;
    assert!(
        said.contains("typo needs \"pg_isredy\" for `ready:`"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn what_was_seen_instead_of_readiness_is_said() -> Result<()> {
    let serin = Serin::start().await?;
    let slow = |ready: &str| format!("run: sleep 1000\ninstances: 1\nready_within: 4s\n{ready}");
    for (ready, saw) in [
        (
            "ready: {run: 'false'}\n",
            "`false` ended with exit status: 1",
        ),
        ("", "no beat said that it takes work"),
    ] {
        write(&serin, "slow", &slow(ready))?;
        let said = serin.refused(&["deploy", "slow"]).await?;
        assert!(said.contains(saw), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_deployed_already_is_had_run_or_said_not_to() -> Result<()> {
    let serin = Serin::start().await?;
    let yaml = "run: sleep 1000\ninstances: 1\nready_within: 5s\n\
                ready: {run: \"sh -c '! test -e $SERIN_DATA/broken'\"}\n";
    write(&serin, "same", yaml)?;
    serin.run(&["deploy", "same"]).await?;
    let said = serin.run(&["deploy", "same"]).await?;
    assert!(said.contains("nothing changed: same v1 serves"), "{said}");
    serin.run(&["stop", "same"]).await?;
    let said = serin.run(&["deploy", "same"]).await?;
    assert!(said.contains("same v1 serves after"), "{said}");

    fs::write(serin.dir().join(".serin/kept/same/broken"), "")?;
    let before = instances(&serin, "same", "ready").await?;
    for (_, pid) in &before {
        process::kill(*pid)?;
    }
    becomes(&serin, "same", "down").await?;
    let said = serin.refused(&["deploy", "same"]).await?;
    assert!(
        said.contains("is deployed already, and 0 of 1 of its instances are ready"),
        "{said}"
    );
    let status = serin.output(&["doctor"]).await?;
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(said.contains("same is down"), "{said}");
    Ok(())
}

#[tokio::test]
async fn who_waits_is_told_that_what_it_waits_for_failed() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "db", "run: sh -c 'exit 3'\n")?;
    serin.refused(&["deploy", "db"]).await?;
    write(&serin, "shop", &format!("{TICKS}after: db\n"))?;
    let other = async {
        becomes(&serin, "shop", "starting").await?;
        write(&serin, "db", TICKS)?;
        serin.run(&["deploy", "db"]).await
    };
    let (said, deployed) = tokio::join!(serin.remarks(&["deploy", "shop"]), other);
    deployed?;
    let said = said?;
    assert!(
        said.contains("note: db failed: its instances ended"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_path_has_one_service_and_a_refused_deploy_starts_nothing() -> Result<()> {
    let serin = Serin::start().await?;
    let yaml = format!("{TICKS}web: /same\n");
    write(&serin, "one", &yaml)?;
    write(&serin, "two", &yaml)?;
    serin.run(&["deploy", "one"]).await?;
    let said = serin.refused(&["deploy", "two"]).await?;
    assert!(
        said.contains("/same is the path of \"one\" already"),
        "{said}"
    );
    serin.run(&["stop", "one"]).await?;
    serin.run(&["deploy", "two"]).await?;
    let said = serin.refused(&["deploy", "one"]).await?;
    assert!(
        said.contains("/same is the path of \"two\" already"),
        "{said}"
    );

    // A name that is taken is refused before the service counts as wanted again.
    write(&serin, "one", &format!("{TICKS}web: /other\n"))?;
    let said = serin.refused(&["deploy", "one", "--version", "v1"]).await?;
    assert!(said.contains("has a version \"v1\" already"), "{said}");
    let service = serin.get("/api/v1/services/one").await?;
    assert_eq!(service["state"], "stopped");
    Ok(())
}

#[tokio::test]
async fn who_ends_again_and_again_is_started_ever_later_and_its_sibling_stays() -> Result<()> {
    let serin = Serin::start().await?;
    let yaml = "run: sh -c '[ $SERIN_INSTANCE = loops-v1-1 ] && exec sleep 1000; sleep 0.4; exit 7'\n\
                ready: started\n";
    write(&serin, "loops", yaml)?;
    serin.run(&["deploy", "loops"]).await?;
    let pauses_us = until("it was started five times more", SOON, async || {
        let service = serin.get("/api/v1/services/loops").await?;
        let all = service["instances"].as_array().context("instances")?;
        let at = |name: &str, key: &str| {
            let mut all = all.iter();
            all.find(|one| one["name"] == name)?[key].as_i64()
        };
        let pause_before = |number: u32| {
            let ended_us = at(&format!("loops-v1-{}", number - 1), "ended_us")?;
            Some(at(&format!("loops-v1-{number}"), "started_us")? - ended_us)
        };
        Ok((3..=7).map(pause_before).collect::<Option<Vec<i64>>>())
    })
    .await?;
    // The first is replaced at once; then 0.1 s, twice that, and so on.
    for (doublings, pause_us) in pauses_us[1..].iter().enumerate() {
        ensure!(*pause_us >= 100_000 << doublings, "{pauses_us:?}");
    }
    ensure!(pauses_us[0] < pauses_us[4], "{pauses_us:?}");
    let ready = instances(&serin, "loops", "ready").await?;
    ensure!(
        ready.iter().any(|(name, _)| name == "loops-v1-1"),
        "{ready:?}"
    );
    Ok(())
}
