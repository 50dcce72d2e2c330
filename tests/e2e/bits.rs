//! Flipped bits in a data file, in the catalogue and in the stream: never served as data.
//!
//! Right rows or a clear error; where the stream itself was damaged, what is gone is recorded.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use serde_json::{Value, json};
use serin_tests::wait::until;
use serin_tests::{Serin, place};

const EVENTS: u64 = 2_000;
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);
const SQL: &str = "SELECT count(*), sum(n), min(text), max(text) FROM \"bit.test\"";

/// A server with events in files, and what it answers of them.
async fn stored() -> Result<(Serin, Vec<Vec<Value>>)> {
    let serin = Serin::start().await?;
    post(&serin).await?;
    serin.run(&["flush"]).await?;
    let right = serin.sql(SQL).await?;
    Ok((serin, right))
}

async fn post(serin: &Serin) -> Result<()> {
    let mut lines = String::new();
    for n in 0..EVENTS {
        let text = format!("{n:08}").repeat(50);
        let event = json!({"type": "bit.test", "source": "/suite", "data": {"n": n, "text": text}});
        lines.push_str(&format!("{event}\n"));
    }
    serin.give(lines).await?;
    until("all are visible", DEADLINE, async || {
        let rows = serin.sql(SQL).await?;
        Ok((rows[0][0] == json!(EVENTS)).then_some(()))
    })
    .await
}

async fn doctor_finds(serin: &Serin) -> Result<String> {
    let found = serin.output(&["doctor", "--json"]).await?;
    Ok(String::from_utf8(found.stdout)?)
}

/// What was damaged is mended: a start reads all of it.
async fn is_whole_again(mut serin: Serin, right: &[Vec<Value>]) -> Result<()> {
    serin.start_again().await.context("the damage is mended")?;
    assert_eq!(serin.sql(SQL).await?, right);
    serin.stop().await
}

#[tokio::test]
async fn a_flipped_bit_in_a_file_is_never_served_as_data() -> Result<()> {
    let (mut serin, right) = stored().await?;
    serin.stop().await?;
    let (_, path) = largest(&serin.dir().join(".serin/lake/data"), "bit.test")?;
    let file = File::options().read(true).write(true).open(&path)?;
    let length = file.metadata()?.len();
    // One bit in the middle of the data, and later one near the end, in the footer.
    for at in [length / 3, length - 40] {
        flip(&file, at)?;
        let found = doctor_finds(&serin).await?;
        ensure!(found.contains("\"bad\""), "doctor finds nothing: {found}");
        serin.start_again().await?;
        match serin.sql(SQL).await {
            // A bit that nothing reads, such as padding, changes nothing.
            Ok(rows) => assert_eq!(rows, right, "wrong rows served from a damaged file"),
            Err(error) => println!("as it should be: {error:#}"),
        }
        let event = json!({"type": "other.type", "source": "/suite", "data": {"n": 1}});
        serin.give(event.to_string()).await?;
        serin.stop().await?;
        flip(&file, at)?;
    }
    is_whole_again(serin, &right).await
}

#[tokio::test]
async fn a_flipped_bit_in_the_catalogue_is_an_error_or_changes_nothing() -> Result<()> {
    let (mut serin, right) = stored().await?;
    serin.stop().await?;
    let path = serin.dir().join(".serin/lake/catalogue.sqlite");
    let whole = fs::read(&path)?;
    let mut refused = 0;
    for part in 1..8 {
        let file = File::options().read(true).write(true).open(&path)?;
        flip(&file, whole.len() as u64 * part / 8)?;
        drop(file);
        match serin.start_again().await {
            Ok(_) => {
                match serin.sql(SQL).await {
                    Ok(rows) => assert_eq!(rows, right, "wrong rows, part {part}"),
                    Err(error) => println!("as it should be: {error:#}"),
                }
                serin.stop().await?;
            }
            Err(error) => {
                refused += 1;
                let said = format!("{error:#} {}", serin.said());
                ensure!(
                    said.contains("lake") || said.contains("catalogue"),
                    "unclear: {said}"
                );
                serin.kill()?;
                serin.kill_bus_if_running()?;
            }
        }
        for left in ["catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
            drop(fs::remove_file(path.with_file_name(left)));
        }
        fs::write(&path, &whole)?;
    }
    println!("{refused} of 7 flipped bits were found at the start");
    is_whole_again(serin, &right).await
}

/// SQLite finds nothing wrong with such a row: only its digest tells that it is not what was written.
#[tokio::test]
async fn a_row_of_the_catalogue_that_changed_stops_the_start_and_is_named() -> Result<()> {
    let (mut serin, right) = stored().await?;
    serin.stop().await?;
    let path = serin.dir().join(".serin/lake/catalogue.sqlite");
    let whole = fs::read(&path)?;
    // A bound that hides rows from every `WHERE n > 7`.
    let statement = "UPDATE ducklake_file_column_stats SET max_value = '7'
        WHERE max_value = '1999' AND min_value = '0'";
    let changing = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
        print(c.execute(sys.argv[2]).rowcount); c.commit()";
    let changed = place::python()
        .args(["-c", changing])
        .arg(&path)
        .arg(statement)
        .output()?;
    ensure!(changed.stdout == b"1\n", "nothing to change: {changed:?}");
    let found = doctor_finds(&serin).await?;
    ensure!(
        found.contains("not as written: the rows of file"),
        "doctor finds nothing: {found}"
    );
    let refused = serin.start_again().await;
    let said = serin.said();
    ensure!(refused.is_err(), "it started");
    ensure!(
        said.contains("not as it was written") && said.contains("restore"),
        "unclear: {said}"
    );
    serin.kill()?;
    serin.kill_bus_if_running()?;
    fs::write(&path, &whole)?;
    is_whole_again(serin, &right).await
}

/// The bus drops a damaged record and all behind it, without a word. Where nothing of it was committed,
/// what an earlier run heard of says that it was there.
#[tokio::test]
async fn a_flipped_bit_in_the_stream_is_never_a_wrong_row_nor_a_silent_loss() -> Result<()> {
    let mut serin = Serin::start().await?;
    post(&serin).await?;
    let right = serin.sql(SQL).await?;
    let last = last_message(&serin).await?;
    let heard = serin.dir().join(".serin/lake/heard");
    until("the last message was heard of", DEADLINE, async || {
        let text = fs::read_to_string(&heard).unwrap_or_default();
        let sequence = text.split_whitespace().nth(1).map(str::parse::<u64>);
        Ok(matches!(sequence, Some(Ok(sequence)) if sequence >= last).then_some(()))
    })
    .await?;
    // Nothing is in files yet: the next start must read the stream.
    serin.kill()?;
    serin.kill_bus_if_running()?;
    let (length, path) = largest(&serin.dir().join(".serin/bus"), ".blk")?;
    flip(
        &File::options().read(true).write(true).open(&path)?,
        length / 2,
    )?;
    serin.start_again().await?;
    let rows = until(
        "all is read again or a loss is told",
        DEADLINE,
        async || {
            let lost = lost_messages(&serin).await?;
            let rows = match serin.sql(SQL).await {
                Ok(rows) => rows,
                // No message of the type was left.
                Err(error) => {
                    println!("as it should be: {error:#}");
                    Vec::new()
                }
            };
            Ok((rows == right || lost > 0).then_some(rows))
        },
    )
    .await?;
    if rows != right {
        let wrong = "SELECT count(*) FROM \"bit.test\" WHERE text <> repeat(lpad(CAST(n AS VARCHAR), 8, '0'), 50)";
        if !rows.is_empty() {
            assert_eq!(serin.sql_number(wrong).await?, 0, "a wrong row");
        }
        let said = serin.said();
        ensure!(
            said.contains("the bus lost acknowledged messages"),
            "{said}"
        );
    }
    let event = json!({"type": "other.type", "source": "/suite", "data": {"n": 1}});
    serin.give(event.to_string()).await?;
    serin.run(&["flush"]).await?;
    serin.stop().await
}

/// How many messages Serin says were lost on the bus.
async fn lost_messages(serin: &Serin) -> Result<u64> {
    let status = serin.get("/api/v1/status").await?;
    status["lost_messages"].as_u64().context("a count")
}

/// The last message of the stream of events.
async fn last_message(serin: &Serin) -> Result<u64> {
    let client = serin_tests::bus::connect(serin.bus()).await?;
    let stream = jetstream::new(client).get_stream("EVENTS").await?;
    Ok(stream.cached_info().state.last_sequence)
}

fn flip(file: &File, at: u64) -> Result<()> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x10], at)?;
    Ok(())
}

/// The largest file below a folder whose path has this in it.
fn largest(folder: &Path, part: &str) -> Result<(u64, PathBuf)> {
    let mut folders = vec![folder.to_owned()];
    let mut largest: Option<(u64, PathBuf)> = None;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let length = path.metadata()?.len();
            let is_meant = path.is_file() && path.to_string_lossy().contains(part);
            if path.is_dir() {
                folders.push(path);
            } else if is_meant && largest.as_ref().is_none_or(|(l, _)| length > *l) {
                largest = Some((length, path));
            }
        }
    }
    largest.with_context(|| format!("no file of {part} below {}", folder.display()))
}
