//! Deploys and deaths under load: no visitor notices but those at a killed process.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serin_tests::report::judged;
use serin_tests::wait::until;
use serin_tests::{Serin, process};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::scaffolds::ask;
use super::{SOON, instances, write_python};

/// From the moment an edit is saved, through `serin deploy`, to the first visitor who gets it.
const EDIT_SERVES_WITHIN: Duration = Duration::from_secs(2);
const EDITS: usize = 5;

/// Clients that never stop asking for a page.
#[derive(Debug)]
pub(crate) struct Visitors {
    stop: watch::Sender<bool>,
    served: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Visitors {
    /// So many, each with a connection of its own.
    pub(crate) fn start(url: &str, count: usize) -> Visitors {
        let (stop, stopped) = watch::channel(false);
        let served = Arc::<AtomicU64>::default();
        let visitor = |_| {
            let visiting = visit(url.to_owned(), Arc::clone(&served), stopped.clone());
            tokio::spawn(visiting)
        };
        let tasks = (0..count).map(visitor).collect();
        Visitors {
            stop,
            served,
            tasks,
        }
    }

    /// Returns once so many more pages were served.
    pub(crate) async fn more(&self, count: u64) -> Result<()> {
        let from = self.served.load(Ordering::Relaxed);
        until(
            &format!("{count} more pages are served"),
            SOON,
            async || {
                let served = self.served.load(Ordering::Relaxed) - from;
                Ok((served >= count).then_some(()))
            },
        )
        .await
    }

    /// Ends; whatever was no page is an error.
    pub(crate) async fn all_were_served(self) -> Result<()> {
        self.stop.send_replace(true);
        let mut failed = Vec::new();
        for task in self.tasks {
            failed.extend(task.await?);
        }
        let served = self.served.load(Ordering::Relaxed);
        ensure!(
            failed.is_empty(),
            "{} failed beside {served} that did not: {failed:?}",
            failed.len()
        );
        Ok(())
    }
}

/// Asks again and again until told to stop; each answer that is not a page is kept.
async fn visit(url: String, served: Arc<AtomicU64>, stop: watch::Receiver<bool>) -> Vec<String> {
    let client = reqwest::Client::new();
    let mut failed = Vec::new();
    while !*stop.borrow() {
        match client.get(&url).send().await {
            Ok(answer) if answer.status() == 200 => {
                served.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => failed.push(answer.status().to_string()),
            Err(error) => failed.push(format!("{error:?}")),
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_visitor_notices_deploys_and_deaths() -> Result<()> {
    let serin = Serin::start().await?;
    serin.run(&["new", "page"]).await?;
    serin.run(&["deploy", "page"]).await?;
    let visitors = Visitors::start(&format!("{}/page/", serin.gateway()), 4);
    let page = serin.dir().join("services/page/page.html");
    for round in 0..3 {
        let text = fs::read_to_string(&page)?;
        fs::write(&page, format!("{text}<!-- {round} -->\n"))?;
        serin.run(&["deploy", "page"]).await?;
    }
    only_the_last_version_runs(&serin, "page").await?;
    let (victim, pid) = instances(&serin, "page", "ready")
        .await?
        .pop_first()
        .context("an instance")?;
    process::kill(pid)?;
    until("the dead one is replaced", SOON, async || {
        let ready = instances(&serin, "page", "ready").await?;
        Ok((ready.len() == 2 && ready.iter().all(|(name, _)| *name != victim)).then_some(()))
    })
    .await?;
    visitors.more(100).await?;
    visitors.all_were_served().await
}

async fn only_the_last_version_runs(serin: &Serin, name: &str) -> Result<()> {
    until("only the last version runs", SOON, async || {
        let ready = instances(serin, name, "ready").await?;
        let draining = instances(serin, name, "draining").await?;
        Ok((ready.len() == 2 && draining.is_empty()).then_some(()))
    })
    .await
}

/// An unmodified program, which knows nothing of requests under way and ends at SIGTERM at once.
const PLAIN: &str = r#"
import http.server, os, time


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(0.02)
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"well")


place = ("127.0.0.1", int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(place, Answers).serve_forever()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_visitor_notices_deploys_of_a_program_without_our_sdk() -> Result<()> {
    let serin = Serin::start().await?;
    let more = |round: usize| format!("port: auto\nweb: /plain\nenv: {{ROUND: {round}}}\n");
    write_python(&serin, "plain", &more(0), PLAIN)?;
    serin.run(&["deploy", "plain"]).await?;
    let visitors = Visitors::start(&format!("{}/plain/", serin.gateway()), 4);
    for round in 1..=3 {
        visitors.more(50).await?;
        write_python(&serin, "plain", &more(round), PLAIN)?;
        serin.run(&["deploy", "plain"]).await?;
    }
    only_the_last_version_runs(&serin, "plain").await?;
    visitors.more(50).await?;
    visitors.all_were_served().await
}

/// The moment a deploy says "serves" is the moment from which nobody gets the version before, or
/// nobody at all: clients that know no versions, and visitors.
#[tokio::test]
async fn who_serves_is_reached_by_everybody_at_once() -> Result<()> {
    let serin = Serin::start().await?;
    serin.run(&["new", "page"]).await?;
    let page = serin.dir().join("services/page/page.html");
    let text = fs::read_to_string(&page)?;
    for round in 0..6 {
        let mark = format!("round {round}");
        fs::write(&page, format!("{text}<!-- {mark} -->\n"))?;
        serin.run(&["deploy", "page"]).await?;
        let (status, over_bus) = ask(&serin, "svc.page.http", Some("GET /"), "").await?;
        assert_eq!(status, "200", "{mark}: {over_bus}");
        assert!(over_bus.contains(&mark), "{mark}: {over_bus}");
        let answer = reqwest::get(format!("{}/page/", serin.gateway())).await?;
        assert_eq!(answer.status(), 200, "{mark}");
        let through_gateway = answer.text().await?;
        assert!(through_gateway.contains(&mark), "{mark}: {through_gateway}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_of_a_python_service_serves_soon_and_no_visitor_notices() -> Result<()> {
    let serin = Serin::start().await?;
    serin.run(&["new", "shout", "--lang", "python"]).await?;
    serin.run(&["deploy", "shout"]).await?;
    let url = format!("{}/shout/", serin.gateway());
    let visitors = Visitors::start(&url, 4);
    let main = serin.dir().join("services/shout/main.py");
    let first = fs::read_to_string(&main)?;
    let mut took = Vec::new();
    for round in 1..=EDITS {
        let said = format!("Ahoy {round}, ");
        let edited = first.replace("Hello, ", &said);
        ensure!(edited != first, "{first}");
        fs::write(&main, edited)?;
        let saved = Instant::now();
        serin.run(&["deploy", "shout"]).await?;
        until("the edit is served", SOON, async || {
            let page = reqwest::get(&url).await?.text().await?;
            Ok(page.contains(&said).then_some(()))
        })
        .await?;
        took.push(saved.elapsed());
    }
    visitors.more(100).await?;
    visitors.all_were_served().await?;
    took.sort_unstable();
    let (median, worst) = (took[EDITS / 2], took[EDITS - 1]);
    judged(
        "an edit of a Python service, saved to serving, under load",
        &format!(
            "median {:.2} s, worst {:.2} s of {EDITS}",
            median.as_secs_f64(),
            worst.as_secs_f64()
        ),
        "2 s, no failed request",
        median <= EDIT_SERVES_WITHIN,
    );
    Ok(())
}
