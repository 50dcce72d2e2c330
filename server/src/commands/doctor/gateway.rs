//! The gateway: whether it answers, also where it goes on without Serin.

use std::time::Duration;

use serde_json::Value;

use super::Report;
use crate::run_file::RunFile;

/// On this machine; one that takes longer is not at work.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Asks the gateway for a page; any answer is one. `status` is what a running server says.
pub(super) async fn gateway(run: &RunFile, status: Option<&Value>, report: &mut Report) {
    let Some(url) = &run.gateway else {
        return;
    };
    let pid = status.and_then(|status| status["gateway_pid"].as_i64());
    let process = pid.map_or_else(String::new, |pid| format!("process {pid} "));
    match (asked(url).await, status) {
        (Ok(()), Some(_)) => report.ok("gateway", format!("{process}answers at {url}")),
        (Ok(()), None) => report.ok(
            "gateway",
            format!("answers at {url} without Serin, for the services it was told of last"),
        ),
        (Err(why), Some(_)) => report.bad(
            "gateway",
            format!("{process}does not answer at {url}: {why}"),
            "Serin starts it again within seconds; if it does not, look at what `serin up` printed",
        ),
        // It ended with Serin, or was ended.
        (Err(_), None) => {}
    }
    let restarts = status.and_then(|status| status["gateway_restarts"].as_u64());
    if let Some(restarts) = restarts.filter(|restarts| *restarts > 0) {
        report.warn(
            "gateway",
            format!("it ended and was started again {restarts} times since the start"),
            "requests under way at that moment were lost; what `serin up` printed says why it ended",
        );
    }
}

async fn asked(url: &str) -> Result<(), reqwest::Error> {
    let client = reqwest::Client::builder()
        .timeout(ANSWERS_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    client.get(url).send().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn one_that_does_not_answer_is_bad_beside_a_server_alone() {
        // Nobody listens where we just did.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let free = listener.local_addr().expect("an address");
        drop(listener);
        let run = RunFile {
            pid: 1,
            http: String::new(),
            gateway: Some(format!("http://{free}")),
            otlp_http: None,
            otlp_grpc: None,
            bus: String::new(),
            token: String::new(),
            catalogue: String::new(),
        };
        let status = json!({"gateway_pid": 7, "gateway_restarts": 2});
        let mut report = Report::default();
        gateway(&run, None, &mut report).await;
        assert_eq!(report.findings.len(), 0);
        gateway(&run, Some(&status), &mut report).await;
        let states: Vec<State> = report.findings.iter().map(|f| f.state).collect();
        assert_eq!(states, [State::Bad, State::Warn]);
        assert!(
            report.findings[0]
                .found
                .starts_with("process 7 does not answer")
        );
    }
}
