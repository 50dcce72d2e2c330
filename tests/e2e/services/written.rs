//! What services write: their secrets are in none of it, and an error is found with what it says.

use std::fs;

use anyhow::Result;
use serin_tests::Serin;
use serin_tests::wait::until;

use super::{SOON, write};

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
