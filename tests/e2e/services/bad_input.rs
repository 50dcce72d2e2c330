//! Services that do what services should not: each is bounded, and told in words one can act on.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serin_tests::Serin;
use serin_tests::server::kill_process;
use serin_tests::wait::until;

use super::scaffolds::ask;
use super::{SOON, TICKS, instances, is_running, write};

/// A gigabyte takes a debug build some seconds to read.
const LATER: Duration = Duration::from_secs(120);

/// What a deploy that must fail says.
pub(super) async fn refused(serin: &Serin, name: &str) -> Result<String> {
    let output = serin.output(&["deploy", name]).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Processes that have an instance's name in their environment.
fn processes_of(instance: &str) -> Result<usize> {
    let mark = format!("SERIN_INSTANCE={instance}");
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        // One that goes meanwhile, or is a zombie, has none.
        let environment = fs::read(entry?.path().join("environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        count += usize::from(variables.any(|one| one == mark.as_bytes()));
    }
    Ok(count)
}

#[tokio::test]
async fn a_program_that_cannot_start_is_told_at_once() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "typo", "run: ./mian.sh\n")?;
    let start = Instant::now();
    let said = refused(&serin, "typo").await?;
    assert!(said.contains("code 127"), "{said}");
    assert!(
        said.contains("cannot start \"./mian.sh\": No such file"),
        "{said}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "three tries are enough"
    );
    Ok(())
}

#[tokio::test]
async fn a_port_that_another_program_has_is_told() -> Result<()> {
    let serin = Serin::start().await?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let yaml = format!("run: python3 -m http.server {port}\nport: {port}\n");
    write(&serin, "web", &yaml)?;
    let said = refused(&serin, "web").await?;
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
    .await
}

#[tokio::test]
async fn children_go_with_their_instance_wherever_they_went() -> Result<()> {
    let serin = Serin::start().await?;
    let yaml = "run: sh -c 'sleep 1000 & setsid sleep 1000 & setsid sh -c \"sleep 1000 & exec sleep 1000\" & exec sleep 1000'\n\
                ready: started\ninstances: 1\n";
    write(&serin, "parent", yaml)?;
    serin.run(&["deploy", "parent"]).await?;
    until("it has its children", SOON, async || {
        Ok((processes_of("parent-v1-1")? == 5).then_some(()))
    })
    .await?;
    let (name, pid) = instances(&serin, "parent", "ready")
        .await?
        .pop_first()
        .context("one")?;
    kill_process(pid)?;
    until("the next one is there", SOON, async || {
        let ready = instances(&serin, "parent", "ready").await?;
        Ok(ready.iter().any(|(other, _)| *other != name).then_some(()))
    })
    .await?;
    assert_eq!(processes_of(&name)?, 0, "children are left");
    serin.run(&["stop", "parent"]).await?;
    until("nothing is left", SOON, async || {
        Ok((processes_of("parent-v1-2")? == 0).then_some(()))
    })
    .await
}

/// Processes that were started with an argument, and are not zombies.
fn processes_with(argument: &str) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut arguments = line.split(|byte| *byte == 0);
        if arguments.next() == Some(b"sleep") && arguments.next() == Some(argument.as_bytes()) {
            found.extend(entry.file_name().to_string_lossy().parse::<u32>());
        }
    }
    Ok(found)
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
    let is_its = |pid: &&u32| parent(**pid).is_ok_and(|parent| parent == lives);
    let its: Vec<u32> = all.iter().filter(is_its).copied().collect();
    assert_eq!(its.len(), 1, "the other's parent has ended");
    kill_process(ends)?;
    until("another one is there with its children", SOON, async || {
        let ready = instances(&serin, "secretive", "ready").await?;
        let other = ready.iter().find(|(_, pid)| ![ends, lives].contains(pid));
        let all = processes_with(&time)?;
        let is_its = |pid: &u32| parent(*pid).is_ok_and(|of| other.is_some_and(|one| one.1 == of));
        Ok(all.iter().any(is_its).then_some(()))
    })
    .await?;
    assert!(is_running(its[0]), "the child of one that lives was ended");

    // What begins later has not started them.
    write(&serin, "secretive", TICKS)?;
    serin.run(&["deploy", "secretive"]).await?;
    have(0).await?;
    let shim = parent(
        instances(&serin, "secretive", "ready")
            .await?
            .pop_first()
            .context("one")?
            .1,
    )?;
    until("all that ended are buried", SOON, async || {
        let states = children(shim)?.into_iter().filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| stat.contains(") Z "))
        });
        Ok((states.count() == 0).then_some(()))
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
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("children"))?;
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
        Ok((processes_of("orphan-v1-1")? == 3).then_some(()))
    })
    .await?;
    let (_, before) = instances(&serin, "orphan", "ready")
        .await?
        .pop_first()
        .context("one")?;
    kill_process(parent(before)?)?;
    // The shim that follows starts the instance anew, with its name.
    let after = until("another one is there with its children", SOON, async || {
        let ready = instances(&serin, "orphan", "ready").await?.pop_first();
        let other = ready.filter(|(_, pid)| *pid != before);
        Ok(other.filter(|_| processes_of("orphan-v1-1").is_ok_and(|count| count == 3)))
    })
    .await?;
    // So it is where nobody follows the shim, since Serin is killed too.
    let shim = parent(after.1)?;
    serin.kill()?;
    kill_process(shim)?;
    serin.run(&["down"]).await?;
    assert_eq!(processes_of("orphan-v1-1")?, 0, "children are left");
    Ok(())
}

/// The process that started another.
fn parent(pid: u32) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(line.context("a parent")?.trim().parse()?)
}

/// A service in Python that calls another one before it answers.
fn write_python(serin: &Serin, name: &str, body: &str) -> Result<()> {
    write(serin, name, "run: python3 main.py\ninstances: 1\n")?;
    let text = format!(
        "import serin\n\napp = serin.service()\n\n\n{body}\n\n\n\
         if __name__ == \"__main__\":\n    app.run()\n"
    );
    fs::write(
        serin.dir().join("services").join(name).join("main.py"),
        text,
    )?;
    Ok(())
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
        write_python(&serin, name, &body)?;
        serin.run(&["deploy", name]).await?;
    }
    let start = Instant::now();
    let (error, _) = ask(&serin, "svc.ping.hit", None, "{}").await?;
    assert!(
        error.contains("pong") || error.contains("ping"),
        "names who failed: {error:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "took {:?}",
        start.elapsed()
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
    write_python(&serin, "big", body)?;
    serin.run(&["deploy", "big"]).await?;
    let (error, _) = ask(&serin, "svc.big.much", None, "{}").await?;
    assert!(error.contains("the reply has 9437184 bytes"), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_limit_of_memory_ends_who_passes_it_and_says_so() -> Result<()> {
    let serin = Serin::start().await?;
    let yaml = "run: python3 -c 'x = b\"x\" * (200 << 20); import time; time.sleep(1000)'\n\
                ready: {run: sleep 5}\nlimits: {memory: 64MiB, cpu: 0.5}\n";
    write(&serin, "hungry", yaml)?;
    let said = refused(&serin, "hungry").await?;
    // A cgroup kills it; where there is none, the program's own allocation fails.
    assert!(
        said.contains("out of the memory") || said.contains("MemoryError"),
        "{said}"
    );

    let modest = yaml
        .replace("200 << 20", "1 << 20")
        .replace("{run: sleep 5}", "started");
    write(&serin, "modest", &modest)?;
    serin.run(&["deploy", "modest"]).await?;
    let service = serin.get("/api/v1/services/modest").await?;
    let held = service["instances"][0]["limits"]
        .as_str()
        .context("its limits")?;
    assert!(held.contains("memory 64 MiB"), "{held}");
    let doctor = serin.output(&["doctor"]).await?;
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("limits"), "{doctor}");
    Ok(())
}
