//! What services write: it becomes rows and is followed, their secrets are in none of it, and an error is
//! found with what it says.

use std::fs;

use anyhow::Result;
use serde_json::json;
use serin_tests::Serin;
use serin_tests::beside::Beside;
use serin_tests::wait::until;

use super::{SOON, write, write_python};

const SECRET: &str = "hunter22-hunter22";

#[tokio::test]
async fn secrets_of_a_service_are_in_nothing_it_writes() -> Result<()> {
    let serin = Serin::start().await?;
    let talks = "env: {PLACE: harbour-town}\nready: started\ninstances: 1\n\
                 run: sh -c 'echo key $KEY at $PLACE; echo {\\\"key\\\":\\\"$KEY\\\"}; exec sleep 1000'\n";
    write(&serin, "talks", talks)?;
    let folder = serin.dir().join("services/talks");
    fs::write(folder.join(".env"), format!("KEY={SECRET}\n"))?;
    serin.run(&["deploy", "talks"]).await?;
    let count = async |condition: &str| {
        let sql = format!("SELECT count(*) FROM logs WHERE service = 'talks' AND {condition}");
        serin.sql_number(&sql).await
    };
    until("both lines are there, without it", SOON, async || {
        let plain = count("message = 'key *** at harbour-town'").await?;
        let structured = count("message = '{\"key\":\"***\"}'").await?;
        Ok((plain == 1 && structured == 1).then_some(()))
    })
    .await?;
    assert_eq!(count(&format!("message LIKE '%{SECRET}%'")).await?, 0);
    let said = serin.run(&["logs", "talks"]).await?;
    assert!(said.contains("***") && !said.contains(SECRET), "{said}");

    write(&serin, "talks", "run: sh -c 'echo key $KEY; exit 3'\n")?;
    let said = serin.refused(&["deploy", "talks"]).await?;
    assert!(said.contains("key ***") && !said.contains(SECRET), "{said}");
    write(
        &serin,
        "talks",
        "run: sleep 1000\nbuild: sh -c 'echo built with $KEY; exit 3'\n",
    )?;
    let said = serin.refused(&["deploy", "talks"]).await?;
    assert!(
        said.contains("built with ***") && !said.contains(SECRET),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn an_error_is_found_by_its_level_with_what_it_says() -> Result<()> {
    let serin = Serin::start().await?;
    let breaks = "run: python3 -c 'import json; json.loads(\"no json\")'\njob: true\n";
    write(&serin, "breaks", breaks)?;
    serin.refused(&["deploy", "breaks"]).await?;
    until("what went wrong is said", SOON, async || {
        let said = serin.run(&["logs", "breaks", "--level", "error"]).await?;
        let is_whole = said.contains("Traceback") && said.contains("JSONDecodeError: Expecting");
        Ok(is_whole.then_some(()))
    })
    .await
}

/// Writes in each way there is, and then a number again and again.
const WRITES: &str = r#"
import itertools, json, sys, time

print(json.dumps({"severity": "warning", "msg": "late", "order": {"id": 7}, "took_ms": 1.5}))
print("plain text")
print("to the other pipe", file=sys.stderr)
for number in itertools.count():
    print(json.dumps({"level": "warn" if number % 2 else "info", "message": f"number {number}"}))
    sys.stdout.flush()
    time.sleep(0.05)
"#;

#[tokio::test]
async fn lines_become_rows_and_are_followed_as_one_asks_for_them() -> Result<()> {
    let serin = Serin::start().await?;
    write_python(&serin, "writes", "ready: started\n", WRITES)?;
    serin.run(&["deploy", "writes"]).await?;
    let sql = "SELECT level, message, source, fields_order_id, fields_took_ms FROM logs \
               WHERE instance = 'writes-v1-2' AND message NOT LIKE 'number %' ORDER BY message";
    let expected = json!([
        ["warn", "late", "stdout", 7, 1.5],
        ["info", "plain text", "stdout", null, null],
        ["info", "to the other pipe", "stderr", null, null],
    ]);
    until("all are there as they were meant", SOON, async || {
        Ok((json!(serin.sql(sql).await?) == expected).then_some(()))
    })
    .await?;

    let narrow = ["--instance", "writes-v1-2", "--level", "warn"];
    let follow = [&["logs", "writes", "-f"], &narrow[..]].concat();
    let mut follow = Beside::output_of(serin.command(&follow)?)?;
    follow.says(&["warn  writes-v1-2 number"], SOON).await?;
    let so_far =
        "SELECT count(*) FROM logs WHERE instance = 'writes-v1-2' AND message LIKE 'number %'";
    let so_far = serin.sql_number(so_far).await?;
    let later = format!("warn  writes-v1-2 number {}", (so_far + 20) | 1);
    follow.says(&[&later], SOON).await?;

    // What came long ago is not of the last second; what is asked for by a range is of that.
    until("the last second is told", SOON, async || {
        let last = serin.run(&["logs", "writes", "--last", "1s"]).await?;
        assert!(!last.contains("plain text"), "{last}");
        Ok(last.contains("number").then_some(()))
    })
    .await?;
    let range = [
        "logs", "writes", "--from", "now-1h", "--to", "now", "--text", "plain",
    ];
    until("there is one of each instance", SOON, async || {
        let range = serin.run(&range).await?;
        Ok((range.lines().count() == 2).then_some(()))
    })
    .await?;
    let early = ["logs", "writes", "--from", "now-2h", "--to", "now-1h"];
    assert_eq!(serin.run(&early).await?, "");
    Ok(())
}
