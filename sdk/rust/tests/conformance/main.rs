//! Runs `tests/conformance/scenarios.json` against this SDK and a real `nats-server`; the rules are in
//! the README beside it. A new scenario needs no code here.

mod fixture;
mod handle;
mod matching;
mod runner;

use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;

use runner::Runner;

/// How long a step waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Scenarios at a time: each has a server of its own.
const AT_A_TIME: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_holds() {
    let text = include_str!("../../../../tests/conformance/scenarios.json");
    let all: Value = serde_json::from_str(text).expect("JSON");
    let scenarios = all["scenarios"].as_array().expect("a list").clone();
    let count = scenarios.len();
    let running = scenarios.into_iter().map(|scenario| async move {
        let name = scenario["name"].to_string();
        match tokio::spawn(Runner::run(scenario)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{name}: {error:#}")),
            Err(panic) => Some(format!("{name}: {panic}")),
        }
    });
    let outcomes = futures::stream::iter(running).buffer_unordered(AT_A_TIME);
    let failed: Vec<String> = outcomes.filter_map(std::future::ready).collect().await;
    assert!(
        failed.is_empty(),
        "{} of {count}:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
