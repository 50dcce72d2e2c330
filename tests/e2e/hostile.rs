//! The corpus of hostile statements against a whole server, over HTTP: each is answered clearly and in
//! time, the process stays the same, its memory is bounded, and a KPI asked meanwhile is quick.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use serin_tests::report::{quantile, report};
use serin_tests::wait::until;
use serin_tests::{Serin, cost};
use tokio::sync::oneshot;

use corpus::statements;

#[path = "../../query/tests/query/corpus.rs"]
mod corpus;

const SETTINGS: &str = "query: {deadline_s: 5, memory_mib: 256, spill_mib_max: 64}\n";
const KPIS: &str = "kpis:\n  paid: {event: order.paid, measure: count()}\n";
/// What errors of statements have: those of the statement itself, and those of its limits.
const CODES: [&str; 2] = ["SER-SQL-", "SER-QRY-"];
/// Enough rows for a join of ten of them never to end.
const ROWS: u64 = 12;
/// A statement ends at `query.deadline_s`, and a busy machine needs more to say so.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// How slow a KPI may be beside all of them in a debug build on a busy machine; what it took is told.
const KPI_DEADLINE: Duration = Duration::from_secs(10);
const SEEN_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What all processes may come to in a debug build: Serin and its bus as under any attack, and two
/// workers with `query.memory_mib` and the program each.
const PSS_MIB_MAX: u64 = 700 + 2 * (256 + 160);

#[tokio::test]
async fn hostile_statements_harm_nobody_else() -> Result<()> {
    let files = [("serin.yaml", SETTINGS), ("kpis/shop.yaml", KPIS)];
    let serin = Serin::start_with_files(&files).await?;
    let pid = serin.pid();
    stored(&serin).await?;
    let (stop, stopped) = oneshot::channel();
    let family = cost::family(&serin).await?.len();
    let memory = greatest_pss(&serin, stopped);
    let asking = async {
        let mut kpi_ms = Vec::new();
        for (wanted, sql) in statements() {
            let named = || format!("{wanted}: {}", sql.chars().take(200).collect::<String>());
            let (answered, kpi) = tokio::join!(ask(&serin, wanted, &sql), ask_kpi(&serin));
            answered.with_context(named)?;
            kpi_ms.push(kpi.with_context(named)?);
        }
        drop(stop);
        anyhow::Ok(kpi_ms)
    };
    let (kpi_ms, pss_mib) = tokio::join!(asking, memory);
    let (mut kpi_ms, pss_mib) = (kpi_ms?, pss_mib?);
    assert_eq!(serin.pid(), pid);
    ensure!(serin.get("/api/v1/status").await.is_ok(), "it answers");
    kpi_ms.sort_by(f64::total_cmp);
    report(
        &format!(
            "a KPI beside {} hostile statements (debug build)",
            kpi_ms.len()
        ),
        &format!(
            "median {:.0} ms, worst {:.0} ms",
            quantile(&kpi_ms, 0.5),
            quantile(&kpi_ms, 1.0)
        ),
        "",
    );
    report(
        "memory of all processes under hostile statements (debug build)",
        &format!("{pss_mib} MiB PSS, {family} processes at rest"),
        &format!("{PSS_MIB_MAX} MiB"),
    );
    ensure!(pss_mib <= PSS_MIB_MAX, "{pss_mib} MiB in all processes");
    Ok(())
}

/// The tables that the statements name, with rows in files and fresh ones.
async fn stored(serin: &Serin) -> Result<()> {
    for half in 0..2 {
        let mut lines = String::new();
        for n in half * ROWS / 2..(half + 1) * ROWS / 2 {
            let paid = json!({"type": "order.paid", "data": {"amount": n, "user": "ann"}});
            let cart = json!({"type": "cart.add", "data": {"items": n, "user": "ben"}});
            lines.push_str(&format!("{paid}\n{cart}\n"));
        }
        serin.give(lines).await?;
        if half == 0 {
            serin.run(&["flush"]).await?;
        }
    }
    until("all are visible", SEEN_DEADLINE, async || {
        let rows = serin
            .sql_number("SELECT count(*) FROM \"cart.add\"")
            .await?;
        Ok((rows == ROWS as i64).then_some(()))
    })
    .await
}

/// One statement: refused or failed with a code and a sentence, or answered where it may be.
async fn ask(serin: &Serin, wanted: &str, sql: &str) -> Result<()> {
    let request = serin.request(Method::POST, "/api/v1/query");
    let request = request.json(&json!({"sql": sql})).timeout(ANSWER_DEADLINE);
    let answer = request.send().await.context("no answer")?;
    let status = answer.status();
    let text = answer.text().await.context("the answer is cut off")?;
    if wanted == "any" && status.is_success() {
        return Ok(());
    }
    ensure!(!status.is_success(), "answered {status}: {text}");
    let error: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let code = error["code"].as_str().unwrap_or_default();
    let said = error["error"].as_str().unwrap_or_default();
    ensure!(
        CODES.iter().any(|codes| code.starts_with(codes)) && is_sentence(said),
        "answered {status}: {text}"
    );
    let is_refusal = status == 400;
    ensure!(
        wanted != "refused" || is_refusal,
        "answered {status}: {text}"
    );
    Ok(())
}

/// More than a word, and not what a program says when it breaks.
fn is_sentence(said: &str) -> bool {
    said.split_whitespace().count() > 2 && !said.contains("panicked")
}

/// A panel's question beside it: right, and in how many milliseconds.
async fn ask_kpi(serin: &Serin) -> Result<f64> {
    let begun = Instant::now();
    let request = serin.request(Method::GET, "/api/v1/kpis/paid?step=all");
    let answer = request.timeout(KPI_DEADLINE).send().await?;
    let answer: Value = answer.error_for_status()?.json().await?;
    let took = begun.elapsed();
    let value = &answer["series"][0]["points"][0][1];
    ensure!(*value == json!(ROWS as f64), "the KPI says {answer}");
    Ok(took.as_secs_f64() * 1e3)
}

/// The most that all processes held together, looked at until nobody asks any more.
async fn greatest_pss(serin: &Serin, mut stopped: oneshot::Receiver<()>) -> Result<u64> {
    let mut greatest = 0;
    while tokio::time::timeout(LOOK_EVERY, &mut stopped)
        .await
        .is_err()
    {
        greatest = greatest.max(cost::pss_mib(&cost::family(serin).await?));
    }
    Ok(greatest)
}
