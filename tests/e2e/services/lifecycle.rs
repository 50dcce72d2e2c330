//! The life of a service: deployed, replaced by a new version, adopted after a crash, ended, and begun again.

use std::fs;

use anyhow::{Context, Result};
use serin_tests::Serin;
use serin_tests::process::{self, Signal};
use serin_tests::wait::until;

use super::{SOON, TICKS, becomes, instances, write};

#[tokio::test]
async fn a_service_is_deployed_logs_and_is_replaced_when_it_dies() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "ticker", TICKS)?;
    let said = serin.run(&["deploy", "ticker"]).await?;
    assert!(said.contains("ticker v1 serves"), "{said}");
    let before = instances(&serin, "ticker", "ready").await?;
    assert_eq!(before.len(), 2);

    let (name, pid) = before.first().context("one")?.clone();
    process::kill(pid)?;
    let after = until("two are ready again", SOON, async || {
        let ready = instances(&serin, "ticker", "ready").await?;
        Ok((ready.len() == 2 && !ready.contains(&(name.clone(), pid))).then_some(ready))
    })
    .await?;
    assert!(
        after.iter().any(|(name, _)| name == "ticker-v1-3"),
        "{after:?}"
    );
    let siblings: Vec<_> = before.intersection(&after).collect();
    assert_eq!(siblings.len(), 1, "the other one was not touched");
    until("what they say is in the table of logs", SOON, async || {
        let sql = "SELECT count(DISTINCT instance) FROM logs WHERE service = 'ticker' AND message = 'tick'";
        Ok((serin.sql_number(sql).await? == 3).then_some(()))
    })
    .await?;
    until("their memory is in the table of beats", SOON, async || {
        let sql = "SELECT count(*) FROM beats WHERE service = 'ticker' AND memory_bytes > 0";
        Ok((serin.sql_number(sql).await? > 0).then_some(()))
    })
    .await?;
    until("the death is told as an event", SOON, async || {
        let sql = "SELECT count(*) FROM \"serin.instance_started\" WHERE replaces = 'ticker-v1-1'";
        Ok((serin.sql_number(sql).await? == 1).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_new_version_takes_over_and_a_bad_one_does_not() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "ticker", TICKS)?;
    serin.run(&["deploy", "ticker"]).await?;
    let again = serin.run(&["deploy", "ticker"]).await?;
    assert!(again.contains("nothing changed"), "{again}");

    write(&serin, "ticker", &TICKS.replace("tick;", "tock;"))?;
    serin.run(&["deploy", "ticker"]).await?;
    until("the first version is gone", SOON, async || {
        let service = serin.get("/api/v1/services/ticker").await?;
        let phases: Vec<&str> = service["versions"]
            .as_array()
            .context("versions")?
            .iter()
            .filter_map(|version| version["phase"].as_str())
            .collect();
        Ok((phases == ["serving", "retired"]).then_some(()))
    })
    .await?;
    let good = instances(&serin, "ticker", "ready").await?;

    write(&serin, "ticker", "run: sh -c 'echo no database; exit 3'\n")?;
    let said = serin.refused(&["deploy", "ticker"]).await?;
    assert!(said.contains("ticker v3 was not promoted"), "{said}");
    assert!(
        said.contains("code 3") && said.contains("no database"),
        "{said}"
    );
    assert_eq!(instances(&serin, "ticker", "ready").await?, good);

    write(&serin, "ticker", "runn: x\n")?;
    let said = serin.refused(&["deploy", "ticker"]).await?;
    assert!(said.contains("services/ticker/service.yaml:1:1"), "{said}");

    let said = serin.run(&["rollback", "ticker"]).await?;
    assert!(said.contains("ticker v1 serves after"), "{said}");
    // It was waited for.
    let service = serin.get("/api/v1/services/ticker").await?;
    assert_eq!(
        service["route"]["versions"][0]["version"], "v1",
        "{service}"
    );
    Ok(())
}

#[tokio::test]
async fn services_outlive_a_crash_and_nothing_outlives_down() -> Result<()> {
    let mut serin = Serin::start().await?;
    write(&serin, "ticker", TICKS)?;
    serin.run(&["deploy", "ticker"]).await?;
    let before = instances(&serin, "ticker", "ready").await?;
    serin.kill()?;
    let said = serin.refused(&["status"]).await?;
    assert!(said.contains("if it is just being started"), "{said}");
    serin.start_again().await?;
    until("the same instances are taken up", SOON, async || {
        Ok((instances(&serin, "ticker", "ready").await? == before).then_some(()))
    })
    .await?;
    // Lines of before that no flush had taken went with the crash; these are new.
    until("they go on logging", SOON, async || {
        let sql = "SELECT count(DISTINCT instance) FROM logs WHERE message = 'tick'";
        Ok((serin.sql_number(sql).await? == 2).then_some(()))
    })
    .await?;

    serin.kill()?;
    serin.run(&["down"]).await?;
    for (name, pid) in &before {
        assert!(!process::is_running(*pid), "{name} is left");
    }
    serin.start_again().await?;
    until("what was wanted runs again", SOON, async || {
        Ok((instances(&serin, "ticker", "ready").await?.len() == 2).then_some(()))
    })
    .await?;
    let running = instances(&serin, "ticker", "ready").await?;
    serin.stop().await?;
    for (name, pid) in &running {
        assert!(!process::is_running(*pid), "{name} is left");
    }
    Ok(())
}

#[tokio::test]
async fn logs_name_a_service_that_is_not_there_and_outlive_one_that_was() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "ticker", TICKS)?;
    serin.run(&["deploy", "ticker"]).await?;
    until("it logs", SOON, async || {
        let said = serin.run(&["logs", "ticker"]).await?;
        Ok(said.contains("tick").then_some(()))
    })
    .await?;
    let said = serin.refused(&["logs", "tickre"]).await?;
    let expected = "no service \"tickre\"; did you mean \"ticker\"?";
    assert!(said.contains(expected), "{said}");
    serin.run(&["logs", "ticker", "--text", "tock"]).await?;

    serin.run(&["rm", "ticker"]).await?;
    let said = serin.run(&["logs", "ticker"]).await?;
    assert!(said.contains("tick"), "{said}");
    serin.run(&["logs", "ticker", "--text", "tock"]).await?;
    Ok(())
}

/// The hash that a deploy says.
fn hash_of(said: &str) -> Result<String> {
    let (_, hash) = said
        .split_once("copied services/words (")
        .context("a copy")?;
    let (hash, _) = hash.split_once(')').context("a hash")?;
    Ok(hash.to_owned())
}

#[tokio::test]
async fn a_version_stays_what_was_deployed_whatever_becomes_of_its_folder() -> Result<()> {
    let serin = Serin::start().await?;
    write(
        &serin,
        "words",
        "run: sh main.sh\nready: started\ninstances: 1\n",
    )?;
    let program = |word: &str| format!("echo {word} $SERIN_INSTANCE; exec sleep 600\n");
    let file = "services/words/main.sh";
    serin.write(file, &program("old"))?;
    let first = hash_of(&serin.remarks(&["deploy", "words"]).await?)?;
    serin.write(file, &program("new"))?;
    let (_, pid) = instances(&serin, "words", "ready")
        .await?
        .pop_first()
        .context("one")?;
    process::kill(pid)?;
    let says = async |message: &str| {
        let sql = format!("SELECT count(*) FROM logs WHERE message = '{message}'");
        until(&format!("it says {message:?}"), SOON, async || {
            Ok((serin.sql_number(&sql).await? == 1).then_some(()))
        })
        .await
    };
    says("old words-v1-2").await?;
    let second = hash_of(&serin.remarks(&["deploy", "words"]).await?)?;
    assert_ne!(first, second);
    says("new words-v2-1").await?;
    let service = serin.get("/api/v1/services/words").await?;
    let hash = service["versions"][0]["hash"].as_str().context("a hash")?;
    assert!(hash.starts_with(&second), "{hash} and {second}");

    // The same content has the same hash, whatever version it becomes.
    serin.write(file, &program("old"))?;
    let third = serin.remarks(&["deploy", "words", "--version", "again"]);
    assert_eq!(hash_of(&third.await?)?, first);
    says("old words-again-1").await
}

#[tokio::test]
async fn what_was_told_outlives_the_end_and_with_single_one_of_each_goes_on() -> Result<()> {
    const TOLD: [&str; 6] = ["beats", "requests", "spans", "logs", "metrics", "decisions"];
    let mut serin = Serin::start().await?;
    serin.run(&["new", "page"]).await?;
    serin.run(&["deploy", "page"]).await?;
    write(&serin, "ticker", TICKS)?;
    serin.run(&["deploy", "ticker"]).await?;
    let page = reqwest::get(format!("{}/page/", serin.gateway())).await?;
    assert_eq!(page.status(), 200);
    let mut before = Vec::new();
    for table in TOLD {
        let sql = format!("SELECT count(*) FROM {table}");
        let what = format!("{table} has rows");
        let some = async || Ok(Some(serin.sql_number(&sql).await?).filter(|count| *count > 0));
        before.push(until(&what, SOON, some).await?);
    }
    serin.stop().await?;

    serin.options(&["--single"]);
    serin.start_again().await?;
    let starts = "SELECT count(*) FROM \"serin.started\"";
    until("the start is told", SOON, async || {
        Ok((serin.sql_number(starts).await? == 2).then_some(()))
    })
    .await?;
    for (table, before) in TOLD.into_iter().zip(before) {
        let sql = format!(
            "SELECT count(*) FROM {table} WHERE time < (SELECT max(time) FROM \"serin.started\")"
        );
        let after = serin.sql_number(&sql).await?;
        assert!(after >= before, "{after} of {before} rows of {table}");
    }
    for name in ["page", "ticker"] {
        becomes(&serin, name, "serving").await?;
        let ready = instances(&serin, name, "ready").await?;
        assert_eq!(ready.len(), 1, "{ready:?}");
    }
    // It is a wish of this start alone.
    serin.stop().await?;
    serin.options(&[]);
    serin.start_again().await?;
    until("there are two again", SOON, async || {
        Ok((instances(&serin, "page", "ready").await?.len() == 2).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_job_runs_once_and_says_how_it_ended() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "tidy", "run: sh -c 'echo swept'\njob: true\n")?;
    let said = serin.run(&["deploy", "tidy"]).await?;
    assert!(said.contains("tidy v1 ended well"), "{said}");
    let service = serin.get("/api/v1/services/tidy").await?;
    assert_eq!(service["instances"].as_array().map(Vec::len), Some(1));
    write(
        &serin,
        "tidy",
        "run: sh -c 'echo no broom; exit 4'\njob: true\n",
    )?;
    let said = serin.refused(&["deploy", "tidy"]).await?;
    assert!(
        said.contains("code 4") && said.contains("no broom"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn an_instance_that_falls_silent_is_replaced() -> Result<()> {
    let serin = Serin::start().await?;
    // It is the only one, so that nobody else is heard for these seconds.
    let yaml = "run: serin serve\ninstances: 1\nhang_after: 4s\n";
    write(&serin, "still", yaml)?;
    let script = serin.dir().join("services/still/main.rhai");
    fs::write(script, "fn on_greet(data) { #{} }\n")?;
    serin.run(&["deploy", "still"]).await?;
    let beats = "SELECT count(*) FROM beats WHERE service = 'still'";
    until("it was heard", SOON, async || {
        Ok((serin.sql_number(beats).await? >= 2).then_some(()))
    })
    .await?;
    let before = instances(&serin, "still", "ready").await?;
    let (_, pid) = before.first().context("an instance")?;
    process::send(*pid, Signal::STOP)?;
    until("another one takes its place", SOON, async || {
        let now = instances(&serin, "still", "ready").await?;
        let is_another = now.len() == 1 && now.is_disjoint(&before);
        Ok((is_another && !process::is_running(*pid)).then_some(()))
    })
    .await
}
