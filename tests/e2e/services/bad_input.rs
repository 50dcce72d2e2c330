//! Services that do what services should not: each is bounded, and told in words one can act on.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serin_tests::wait::until;
use serin_tests::{Serin, process};

use super::scaffolds::ask;
use super::{SOON, TICKS, instances, write, write_python};

/// A gigabyte takes a debug build some seconds to read.
const LATER: Duration = Duration::from_secs(120);

/// Processes that have an instance's name in their environment.
fn processes_of(instance: &str) -> Result<Vec<u32>> {
    let mark = format!("SERIN_INSTANCE={instance}");
    let all = process::all()?.into_iter();
    Ok(all
        .filter(|pid| process::environment(*pid).contains(&mark))
        .collect())
}

#[tokio::test]
async fn a_program_that_cannot_start_is_told_at_once() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "typo", "run: ./mian.sh\n")?;
    let said = serin.refused(&["deploy", "typo"]).await?;
    assert!(said.contains("code 127"), "{said}");
    assert!(
        said.contains("cannot start \"./mian.sh\": No such file"),
        "{said}"
    );
    let service = serin.get("/api/v1/services/typo").await?;
    let all = service["instances"].as_array().context("instances")?;
    let latest = all.iter().filter_map(|one| {
        let (_, number) = one["name"].as_str()?.rsplit_once('-')?;
        number.parse::<u32>().ok()
    });
    // Two were started side by side, and each may have been followed once before the verdict.
    let latest = latest.max().context("it was tried")?;
    assert!(latest <= 4, "three ends are enough, this is try {latest}");
    Ok(())
}

#[tokio::test]
async fn a_port_that_another_program_has_is_told() -> Result<()> {
    let serin = Serin::start().await?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let yaml = format!("run: python3 -m http.server {port}\nport: {port}\n");
    write(&serin, "web", &yaml)?;
    let said = serin.refused(&["deploy", "web"]).await?;
    assert!(
        said.contains(&format!("port {port} is taken by another program")),
        "{said}"
    );
    drop(taken);
    let said = serin.run(&["deploy", "web"]).await?;
    assert!(said.contains("web v2 serves"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_gigabyte_of_lines_passes_in_part_and_the_rest_is_counted() -> Result<()> {
    let serin = Serin::start().await?;
    let line = "x".repeat(999);
    let yaml = format!(
        "run: sh -c 'yes {line} | head -c 1000000000; sleep 2; echo the end; exec sleep 1000'\n\
         ready: started\ninstances: 1\n"
    );
    write(&serin, "loud", &yaml)?;
    serin.run(&["deploy", "loud"]).await?;
    until("the last line is in the table", LATER, async || {
        let sql = "SELECT count(*) FROM logs WHERE service = 'loud' AND message = 'the end'";
        Ok((serin.sql_number(sql).await? == 1).then_some(()))
    })
    .await?;
    let kept = serin
        .sql_number("SELECT count(*) FROM logs WHERE service = 'loud'")
        .await?;
    let dropped = "SELECT sum(dropped) FROM logs WHERE service = 'loud'";
    let dropped = serin.sql_number(dropped).await?;
    assert!(kept < 200_000, "{kept} lines were kept");
    // Lines lost on the way, told at most once, are in neither.
    assert!(
        kept + dropped > 900_000 && kept + dropped <= 1_000_001,
        "{kept} and {dropped}"
    );
    assert_eq!(
        instances(&serin, "loud", "ready").await?.len(),
        1,
        "it lives on"
    );
    Ok(())
}

#[tokio::test]
async fn who_does_not_listen_to_sigterm_is_killed_after_its_time() -> Result<()> {
    let serin = Serin::start().await?;
    let yaml = "run: sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'\n\
                ready: started\nstop_within: 300ms\n";
    write(&serin, "deaf", yaml)?;
    serin.run(&["deploy", "deaf"]).await?;
    serin.run(&["stop", "deaf"]).await?;
    until("both were killed", SOON, async || {
        let service = serin.get("/api/v1/services/deaf").await?;
        let all = service["instances"].as_array().context("instances")?;
        Ok(all
            .iter()
            .all(|one| one["exit"] == "signal 9")
            .then_some(()))
    })
    .await?;
    let said = "it had not ended 0.3 s after it was asked to, and was killed";
    until_said(&serin, "deaf", said, 2).await?;
    // When all end it has its own time too, and not the 10 s of who says nothing.
    serin.run(&["deploy", "deaf"]).await?;
    let begun = Instant::now();
    serin.run(&["down"]).await?;
    let took = begun.elapsed();
    ensure!(took < Duration::from_secs(9), "{took:?}");
    Ok(())
}

/// Waits until Serin has said something in the log of a service so often.
async fn until_said(serin: &Serin, name: &str, said: &str, times: i64) -> Result<()> {
    let sql = format!(
        "SELECT count(*) FROM logs WHERE service = '{name}' AND source = 'serin' AND message = '{said}'"
    );
    until(&format!("it is said that {said}"), SOON, async || {
        Ok((serin.sql_number(&sql).await? == times).then_some(()))
    })
    .await
}

/// Waits until an instance has all its children, three of them in groups of their own; its process.
async fn grown(instance: &str) -> Result<u32> {
    until(&format!("{instance} has its children"), SOON, async || {
        let all = processes_of(instance)?;
        let group = |pid: &u32| process::stat(*pid)?.get(2)?.parse::<u32>().ok();
        // Two are in the group that the instance leads.
        let led = |leader: &&u32| {
            let of = all.iter().filter(|pid| group(pid) == Some(**leader));
            process::parent(**leader).is_some_and(|parent| !all.contains(&parent))
                && of.count() == 2
        };
        Ok(all.iter().find(led).copied().filter(|_| all.len() == 5))
    })
    .await
}

#[tokio::test]
async fn children_go_with_their_instance_wherever_they_went() -> Result<()> {
    let serin = Serin::start().await?;
    let yaml = "run: sh -c 'sleep 1000 & setsid sleep 1000 & setsid sh -c \"sleep 1000 & exec sleep 1000\" & exec sleep 1000'\n\
                ready: started\ninstances: 1\n";
    write(&serin, "parent", yaml)?;
    serin.run(&["deploy", "parent"]).await?;
    process::kill(grown("parent-v1-1").await?)?;
    until("no child is left", SOON, async || {
        Ok(processes_of("parent-v1-1")?.is_empty().then_some(()))
    })
    .await?;
    grown("parent-v1-2").await?;
    serin.run(&["stop", "parent"]).await?;
    until("nothing is left", SOON, async || {
        Ok(processes_of("parent-v1-2")?.is_empty().then_some(()))
    })
    .await?;
    let said = "3 processes that it had started in groups of their own were ended with it";
    until_said(&serin, "parent", said, 2).await
}

/// Processes that were started with an argument, and are not zombies.
fn processes_with(argument: &str) -> Result<BTreeSet<u32>> {
    let all = process::all()?.into_iter();
    Ok(all
        .filter(|pid| process::command(*pid) == ["sleep", argument])
        .collect())
}

#[tokio::test]
async fn children_that_nothing_tells_of_go_when_nobody_can_have_started_them() -> Result<()> {
    let serin = Serin::start().await?;
    let time = format!("{}", 100_000 + std::process::id());
    let anonymous = format!("setsid env -i sleep {time} &");
    // One ends by itself, one is left by its parent, and, when these have begun, one stays a child.
    let yaml = format!(
        "run: sh -c 'setsid sh -c \"sleep 0.1 &\"; setsid sh -c \"{anonymous}\"; {anonymous} \
         exec sleep 1000'\nready: started\n"
    );
    let have = async |count: usize| {
        let what = format!("there are {count}");
        let all = async || Ok(Some(processes_with(&time)?).filter(|all| all.len() == count));
        until(&what, SOON, all).await
    };
    write(&serin, "secretive", &yaml)?;
    serin.run(&["deploy", "secretive"]).await?;
    let all = have(4).await?;
    let mut ready = instances(&serin, "secretive", "ready").await?;
    let (_, ends) = ready.pop_first().context("one")?;
    let (_, lives) = ready.pop_first().context("another")?;
    let is_its = |pid: &&u32| process::parent(**pid) == Some(lives);
    let its: Vec<u32> = all.iter().filter(is_its).copied().collect();
    assert_eq!(its.len(), 1, "the other's parent has ended");
    process::kill(ends)?;
    until("another one is there with its children", SOON, async || {
        let ready = instances(&serin, "secretive", "ready").await?;
        let other = ready.iter().find(|(_, pid)| ![ends, lives].contains(pid));
        let all = processes_with(&time)?;
        let other = other.map(|(_, pid)| *pid);
        let is_its = |pid: &u32| other.is_some() && process::parent(*pid) == other;
        Ok(all.iter().any(is_its).then_some(()))
    })
    .await?;
    assert!(
        process::is_running(its[0]),
        "the child of one that lives was ended"
    );

    // What begins later has not started them.
    write(&serin, "secretive", TICKS)?;
    serin.run(&["deploy", "secretive"]).await?;
    have(0).await?;
    let mut ready = instances(&serin, "secretive", "ready").await?;
    let (_, one) = ready.pop_first().context("one")?;
    let shim = process::parent(one).context("its shim")?;
    until("all that ended are buried", SOON, async || {
        let is_zombie = |pid: &u32| process::stat(*pid).is_some_and(|stat| stat[0] == "Z");
        Ok((!children(shim)?.iter().any(is_zombie)).then_some(()))
    })
    .await?;

    serin.run(&["rollback", "secretive"]).await?;
    have(4).await?;
    serin.run(&["stop", "secretive"]).await?;
    have(0).await?;
    Ok(())
}

/// The processes whose parent a process is.
fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in process::threads(pid)? {
        let text = fs::read_to_string(thread.join("children"))?;
        children.extend(text.split_whitespace().flat_map(str::parse::<u32>));
    }
    Ok(children)
}

#[tokio::test]
async fn children_of_a_killed_shim_go_too() -> Result<()> {
    let mut serin = Serin::start().await?;
    let yaml = "run: sh -c 'sleep 1000 & setsid sleep 1000 & exec sleep 1000'\n\
                ready: started\ninstances: 1\n";
    write(&serin, "orphan", yaml)?;
    serin.run(&["deploy", "orphan"]).await?;
    until("it has its children", SOON, async || {
        Ok((processes_of("orphan-v1-1")?.len() == 3).then_some(()))
    })
    .await?;
    let (_, before) = instances(&serin, "orphan", "ready")
        .await?
        .pop_first()
        .context("one")?;
    process::kill(process::parent(before).context("its shim")?)?;
    // The shim that follows ends what is left, and starts another instance.
    let after = until("another one is there with its children", SOON, async || {
        let ready = instances(&serin, "orphan", "ready").await?.pop_first();
        let other = ready.filter(|(_, pid)| *pid != before);
        Ok(other.filter(|(name, _)| processes_of(name).is_ok_and(|all| all.len() == 3)))
    })
    .await?;
    assert!(processes_of("orphan-v1-1")?.is_empty(), "children are left");
    // So it is where nobody follows the shim, since Serin is killed too.
    let shim = process::parent(after.1).context("its shim")?;
    serin.kill()?;
    process::kill(shim)?;
    serin.run(&["down"]).await?;
    assert!(processes_of(&after.0)?.is_empty(), "children are left");
    Ok(())
}

/// A service in Python with one instance and these endpoints.
fn write_endpoints(serin: &Serin, name: &str, body: &str) -> Result<()> {
    let text = format!(
        "import serin\n\napp = serin.service()\n\n\n{body}\n\n\n\
         if __name__ == \"__main__\":\n    app.run()\n"
    );
    write_python(serin, name, "instances: 1\n", &text)
}

#[tokio::test]
async fn calls_in_a_circle_end_with_an_error_and_harm_nobody() -> Result<()> {
    let serin = Serin::start().await?;
    for (name, other) in [("ping", "pong"), ("pong", "ping")] {
        let body = format!(
            "@app.endpoint\nasync def hit(data: dict) -> dict:\n    \
             return await app.call(\"{other}\", \"hit\", data)\n\n\n\
             @app.endpoint\ndef well(data: dict) -> dict:\n    return {{\"well\": True}}"
        );
        write_endpoints(&serin, name, &body)?;
        serin.run(&["deploy", name]).await?;
    }
    // Whoever asks waits for ten seconds: a circle without an end is an error of its own there.
    let (error, _) = ask(&serin, "svc.ping.hit", None, "{}").await?;
    assert!(
        error.contains("pong") || error.contains("ping"),
        "names who failed: {error:?}"
    );
    for name in ["ping", "pong"] {
        let (error, answer) = ask(&serin, &format!("svc.{name}.well"), None, "{}").await?;
        assert_eq!((error.as_str(), answer.as_str()), ("", r#"{"well":true}"#));
    }
    Ok(())
}

#[tokio::test]
async fn a_reply_that_the_bus_does_not_take_is_an_error_in_words() -> Result<()> {
    let serin = Serin::start().await?;
    let body = "@app.endpoint\ndef much(data: dict) -> bytes:\n    return b\"x\" * (9 << 20)";
    write_endpoints(&serin, "big", body)?;
    serin.run(&["deploy", "big"]).await?;
    let (error, _) = ask(&serin, "svc.big.much", None, "{}").await?;
    assert!(error.contains("the reply has 9437184 bytes"), "{error:?}");
    Ok(())
}
