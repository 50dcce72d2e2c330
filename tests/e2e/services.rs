//! Services from a folder to running instances: deployed, replaced, adopted, ended.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use serin_tests::Serin;
use serin_tests::server::kill_process;
use serin_tests::wait::until;

const SOON: Duration = Duration::from_secs(20);
const TICKS: &str = "run: sh -c 'while :; do echo tick; sleep 0.2; done'\nready: started\n";

fn write(serin: &Serin, name: &str, yaml: &str) -> Result<()> {
    let folder = serin.dir().join("services").join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("service.yaml"), yaml)?;
    Ok(())
}

/// Name and process of each instance of a service that is in a state.
async fn instances(serin: &Serin, name: &str, state: &str) -> Result<BTreeSet<(String, u32)>> {
    let service = serin.get(&format!("/api/v1/services/{name}")).await?;
    let all = service["instances"].as_array().context("instances")?;
    let of = all.iter().filter(|one| one["state"] == state);
    of.map(|one| {
        let pid = one["pid"].as_u64().context("a process")?;
        let name = one["name"].as_str().context("a name")?;
        Ok((name.to_owned(), u32::try_from(pid)?))
    })
    .collect()
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_service_is_deployed_logs_and_is_replaced_when_it_dies() -> Result<()> {
    let serin = Serin::start().await?;
    write(&serin, "ticker", TICKS)?;
    let said = serin.run(&["deploy", "ticker"]).await?;
    assert!(said.contains("ticker v1 serves"), "{said}");
    let before = instances(&serin, "ticker", "ready").await?;
    assert_eq!(before.len(), 2);

    let (name, pid) = before.first().context("one")?.clone();
    kill_process(pid)?;
    let after = until("two are ready again", SOON, async || {
        let ready = instances(&serin, "ticker", "ready").await?;
        Ok((ready.len() == 2 && !ready.contains(&(name.clone(), pid))).then_some(ready))
    })
    .await?;
    assert!(
        after.iter().any(|(name, _)| name == "ticker-v1-3"),
        "{after:?}"
    );
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
    let refused = serin.output(&["deploy", "ticker"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("ticker v3 was not promoted"), "{said}");
    assert!(
        said.contains("code 3") && said.contains("no database"),
        "{said}"
    );
    assert_eq!(instances(&serin, "ticker", "ready").await?, good);

    write(&serin, "ticker", "runn: x\n")?;
    let refused = serin.output(&["deploy", "ticker"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("services/ticker/service.yaml:1:1"), "{said}");

    serin.run(&["rollback", "ticker"]).await?;
    until("the first version serves again", SOON, async || {
        let service = serin.get("/api/v1/services/ticker").await?;
        let route = &service["route"]["versions"][0]["version"];
        Ok((route == &Value::from("v1")).then_some(()))
    })
    .await
}

#[tokio::test]
async fn services_outlive_a_crash_and_nothing_outlives_down() -> Result<()> {
    let mut serin = Serin::start().await?;
    write(&serin, "ticker", TICKS)?;
    serin.run(&["deploy", "ticker"]).await?;
    let before = instances(&serin, "ticker", "ready").await?;
    serin.kill()?;
    serin.start_again().await?;
    assert_eq!(instances(&serin, "ticker", "ready").await?, before);
    // Lines of before that no flush had taken went with the crash; these are new.
    until("they go on logging", SOON, async || {
        let sql = "SELECT count(DISTINCT instance) FROM logs WHERE message = 'tick'";
        Ok((serin.sql_number(sql).await? == 2).then_some(()))
    })
    .await?;

    serin.kill()?;
    serin.run(&["down"]).await?;
    for (name, pid) in &before {
        assert!(!is_running(*pid), "{name} is left");
    }
    serin.start_again().await?;
    until("what was wanted runs again", SOON, async || {
        Ok((instances(&serin, "ticker", "ready").await?.len() == 2).then_some(()))
    })
    .await?;
    let running = instances(&serin, "ticker", "ready").await?;
    serin.stop().await?;
    for (name, pid) in &running {
        assert!(!is_running(*pid), "{name} is left");
    }
    Ok(())
}

/// Asks a service's endpoint over the bus, as a client that knows no versions.
async fn ask(
    serin: &Serin,
    subject: &str,
    web: Option<&str>,
    body: &str,
) -> Result<(String, String)> {
    let client = async_nats::ConnectOptions::new();
    let address: async_nats::ServerAddr = serin.bus().parse()?;
    let (user, password) = (address.username(), address.password());
    let (user, password) = user.zip(password).context("the bus has credentials")?;
    let client = client
        .user_and_password(user.to_owned(), password.to_owned())
        .connect(&address)
        .await?;
    let mut headers = async_nats::HeaderMap::new();
    if let Some(line) = web {
        headers.insert("serin-http", line);
    }
    let answer = client
        .request_with_headers(subject.to_owned(), headers, body.to_owned().into())
        .await?;
    let headers = answer.headers.unwrap_or_default();
    let status = headers.get("serin-http-status").map(ToString::to_string);
    let error = headers.get("Nats-Service-Error").map(ToString::to_string);
    let body = String::from_utf8(answer.payload.to_vec())?;
    Ok((status.or(error).unwrap_or_default(), body))
}

#[tokio::test]
async fn a_new_service_answers_in_each_language() -> Result<()> {
    let serin = Serin::start().await?;
    for lang in ["script", "python"] {
        let name = format!("my-{lang}");
        serin.run(&["new", &name, "--lang", lang]).await?;
        serin.run(&["check"]).await?;
        serin.run(&["deploy", &name]).await?;
        let (status, page) = ask(
            &serin,
            &format!("svc.{name}.http"),
            Some("GET /?name=%3CAda%3E"),
            "",
        )
        .await?;
        assert_eq!(status, "200", "{page}");
        assert!(page.contains("Hello, &lt;Ada&gt;!"), "{page}");
        let through = reqwest::get(format!("{}/{name}/?name=Cy", serin.gateway())).await?;
        assert_eq!(through.status(), 200);
        assert!(through.text().await?.contains("Hello, Cy!"));
        let subject = format!("svc.{name}.greet");
        let (error, answer) = ask(&serin, &subject, None, r#"{"name": "Bo"}"#).await?;
        assert_eq!(error, "");
        assert_eq!(
            serde_json::from_str::<Value>(&answer)?,
            serde_json::json!({"text": "Hello, Bo!"})
        );
        until(
            "the greetings are events of the service",
            SOON,
            async || {
                let sql = format!("SELECT name FROM \"{name}.greeted\" ORDER BY 1");
                let names = serde_json::to_string(&serin.sql(&sql).await?)?;
                anyhow::ensure!(names == r#"[["<Ada>"],["Cy"]]"#, "{names}");
                Ok(Some(()))
            },
        )
        .await?;
        until("call and page are rows of requests", SOON, async || {
            let sql =
                format!("SELECT count(DISTINCT endpoint) FROM requests WHERE service = '{name}'");
            Ok((serin.sql_number(&sql).await? == 2).then_some(()))
        })
        .await?;
        let again = serin.output(&["new", &name]).await?;
        assert_eq!(again.status.code(), Some(1));
    }
    Ok(())
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
    let refused = serin.output(&["deploy", "tidy"]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said.contains("code 4") && said.contains("no broom"),
        "{said}"
    );
    Ok(())
}

/// What a client that never stops asking got.
#[derive(Debug, Default)]
struct Got {
    pages: u64,
    failed: Vec<String>,
}

/// Asks again and again until told to stop; each answer that is not a page is kept.
async fn visit(url: String, mut stop: tokio::sync::watch::Receiver<bool>) -> Got {
    let client = reqwest::Client::new();
    let mut got = Got::default();
    while !*stop.borrow_and_update() {
        match client.get(&url).send().await {
            Ok(answer) if answer.status() == 200 => got.pages += 1,
            Ok(answer) => got.failed.push(answer.status().to_string()),
            Err(error) => got.failed.push(format!("{error:?}")),
        }
    }
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_visitor_notices_deploys_and_deaths() -> Result<()> {
    let serin = Serin::start().await?;
    serin.run(&["new", "page"]).await?;
    serin.run(&["deploy", "page"]).await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let url = format!("{}/page/", serin.gateway());
    let visitors: Vec<_> = (0..4)
        .map(|_| tokio::spawn(visit(url.clone(), stopped.clone())))
        .collect();
    let page = serin.dir().join("services/page/page.html");
    for round in 0..3 {
        let text = fs::read_to_string(&page)?;
        fs::write(&page, format!("{text}<!-- {round} -->\n"))?;
        serin.run(&["deploy", "page"]).await?;
    }
    until("only the last version runs", SOON, async || {
        let ready = instances(&serin, "page", "ready").await?;
        let draining = instances(&serin, "page", "draining").await?;
        Ok((ready.len() == 2 && draining.is_empty()).then_some(()))
    })
    .await?;
    let (victim, pid) = instances(&serin, "page", "ready")
        .await?
        .pop_first()
        .context("an instance")?;
    kill_process(pid)?;
    until("the dead one is replaced", SOON, async || {
        let ready = instances(&serin, "page", "ready").await?;
        Ok((ready.len() == 2 && ready.iter().all(|(name, _)| *name != victim)).then_some(()))
    })
    .await?;
    stop.send_replace(true);
    let mut all = Got::default();
    for visitor in visitors {
        let got = visitor.await?;
        all.pages += got.pages;
        all.failed.extend(got.failed);
    }
    assert!(all.pages > 100, "{all:?}");
    assert!(
        all.failed.is_empty(),
        "{} of {}: {:?}",
        all.failed.len(),
        all.pages,
        all.failed
    );
    Ok(())
}
