//! Events that never left their senders: what SDKs say they dropped.

use anyhow::Result;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::Report;
use crate::client::Client;

/// Beats count from their instance's start, so that the greatest of each is what it dropped.
const DROPPED: &str = "SELECT service, sum(dropped) AS total FROM \
     (SELECT service, instance, max(dropped_events) AS dropped FROM beats WHERE $__range GROUP BY 1, 2) \
     GROUP BY 1 HAVING sum(dropped) > 0 ORDER BY 2 DESC, 1";

#[derive(Debug, Deserialize)]
struct Answer {
    rows: Vec<(String, u64)>,
}

/// Asks a running server what the beats of the last day say.
pub(super) async fn dropped(client: &Client, report: &mut Report) {
    let asked = json!({"sql": DROPPED, "from": "now-1d", "to": "now"});
    let request = client.request(Method::POST, "/api/v1/query").json(&asked);
    let answer: Result<Answer> = client.json(request).await;
    match answer {
        Ok(answer) => judge(&answer, report),
        Err(error) => report.warn(
            "dropped",
            format!("what services dropped cannot be asked: {error:#}"),
            "ask again, or look at `dropped_events` in the table beats",
        ),
    }
}

fn judge(answer: &Answer, report: &mut Report) {
    if answer.rows.is_empty() {
        report.ok("dropped", "no service dropped events within a day");
        return;
    }
    for (service, count) in &answer.rows {
        report.warn(
            "dropped",
            format!("{service} dropped {count} events within a day"),
            "the columns dropped_… of its beats say why, and its log says the first",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn who_dropped_events_is_named() {
        let judged = |rows| {
            let mut report = Report::default();
            judge(&Answer { rows }, &mut report);
            report.findings
        };
        assert_eq!(judged(Vec::new())[0].state, State::Ok);
        let found = judged(vec![(String::from("cart"), 3)]);
        assert_eq!(found[0].state, State::Warn);
        assert!(found[0].found.starts_with("cart dropped 3 events"));
    }
}
