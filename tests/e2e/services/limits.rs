//! Limits of memory and processor: they hold, and where they cannot it is said.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use serin_tests::report::skip;
use serin_tests::wait::until;
use serin_tests::{Serin, place};

use super::{SOON, write, write_python};

#[tokio::test]
async fn a_limit_of_memory_ends_who_passes_it_and_says_so() -> Result<()> {
    let serin = Serin::start().await?;
    let yaml = "run: python3 -c 'x = b\"x\" * (200 << 20); import time; time.sleep(1000)'\n\
                ready: {run: sleep 5}\nlimits: {memory: 64MiB, cpu: 0.5}\n";
    write(&serin, "hungry", yaml)?;
    let said = serin.refused(&["deploy", "hungry"]).await?;
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

/// What is said of the limits of a service's only instance: what holds, and what does not.
async fn said_of(serin: &Serin, name: &str) -> Result<(String, Value)> {
    let service = serin.get(&format!("/api/v1/services/{name}")).await?;
    let one = &service["instances"][0];
    let held = one["limits"].as_str().context("its limits")?;
    Ok((held.to_owned(), one["limits_missing"].clone()))
}

#[tokio::test]
async fn a_limit_of_the_processor_holds_or_is_said_not_to() -> Result<()> {
    let serin = Serin::start().await?;
    let more = "ready: started\ninstances: 1\nlimits: {cpu: 0.2}\n";
    write_python(&serin, "busy", more, "while True:\n    pass\n")?;
    serin.run(&["deploy", "busy"]).await?;
    let (held, missing) = said_of(&serin, "busy").await?;
    if !held.contains("cpu 0.2 (cgroup") {
        ensure!(missing.to_string().contains("the processor is not limited"));
        return Ok(());
    }
    // The first beat is of a moment.
    let sql = "SELECT count(*), avg(cpu) FROM beats WHERE service = 'busy' AND time > \
               (SELECT min(time) FROM beats WHERE service = 'busy')";
    until("it has used what it may", SOON, async || {
        let row = serin.sql(sql).await?.remove(0);
        if row[0].as_i64() < Some(4) {
            return Ok(None);
        }
        let share = row[1].as_f64().context("a share")?;
        ensure!(share <= 0.3, "it uses {share} of a core");
        Ok(Some(()))
    })
    .await
}

/// Where no cgroup can be written, since there is none to be seen.
#[tokio::test]
async fn where_there_are_no_groups_processes_are_limited_and_the_rest_is_said() -> Result<()> {
    let folder = place::fresh_folder()?;
    let hidden = folder.path().join("serin-without-groups");
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs none /sys/fs/cgroup && exec \"$0\" \"$@\"' '{}' \"$@\"\n",
        place::serin()?.display()
    );
    fs::write(&hidden, script)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o755))?;
    let can = Command::new(&hidden).arg("--version").output()?;
    if !can.status.success() {
        let why = anyhow::anyhow!("this user may not make a mount namespace");
        return skip("limits without cgroups", &why);
    }
    let mut serin = Serin::prepared(&folder.path().join("work"))?;
    serin.use_program(&hidden);
    serin.start_again().await?;
    let yaml = "run: python3 -c 'import time; x = b\"x\" * SIZE; time.sleep(1000)'\n\
                ready: started\ninstances: 1\nlimits: {memory: 64MiB, cpu: 0.5}\n";
    write(&serin, "modest", &yaml.replace("SIZE", "1000"))?;
    let said = serin.remarks(&["deploy", "modest"]).await?;
    let (held, missing) = said_of(&serin, "modest").await?;
    assert_eq!(held, "memory 64 MiB for each process (rlimit)");
    let missing = missing.as_str().context("what is missing")?;
    let words = "memory is limited for each process alone";
    for place in [missing, &said, &serin.run(&["status"]).await?] {
        ensure!(place.contains(words), "{place}");
        ensure!(place.contains("the processor is not limited"), "{place}");
    }
    let yaml = yaml.replace("ready: started", "ready: {run: sleep 5}");
    write(&serin, "hungry", &yaml.replace("SIZE", "(200 << 20)"))?;
    let said = serin.refused(&["deploy", "hungry"]).await?;
    ensure!(said.contains("MemoryError"), "{said}");
    Ok(())
}
