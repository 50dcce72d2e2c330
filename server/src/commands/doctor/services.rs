//! The services: those that are not as they are wanted.

use anyhow::Result;
use serde_json::Value;

use super::Report;
use crate::client::Client;

/// Asks a running server for its services.
pub(super) async fn services(client: &Client, report: &mut Report) {
    let told: Result<Value> = client.get("/api/v1/services", &[]).await;
    match told {
        Ok(told) => judge(&told, report),
        Err(error) => report.bad("services", format!("cannot be listed: {error:#}"), ""),
    }
}

fn judge(told: &Value, report: &mut Report) {
    let all = told["services"].as_array().map_or(&[][..], Vec::as_slice);
    let mut are_well = true;
    for service in all {
        let name = service["name"].as_str().unwrap_or_default();
        let state = service["state"].as_str().unwrap_or_default();
        if !matches!(state, "down" | "degraded") {
            continue;
        }
        are_well = false;
        if let Some(why) = service["deploy"]["why"]
            .as_str()
            .filter(|_| state == "down")
        {
            let why = why.lines().next().unwrap_or_default();
            let advice = format!("mend services/{name}, then `serin deploy {name}`");
            report.warn(
                "services",
                format!("{name} is not deployed: {why}"),
                &advice,
            );
            continue;
        }
        let instances = service["instances"].as_array().into_iter().flatten();
        let ended = instances.filter(|one| one["exit"].is_string());
        let last = ended.max_by_key(|one| one["ended_us"].as_i64());
        let exit = last.and_then(|one| one["exit"].as_str());
        let exit = exit.map_or_else(String::new, |exit| format!("; its last end: {exit}"));
        report.warn(
            "services",
            format!("{name} is {state}{exit}"),
            &format!("`serin logs {name}` says why; `serin rollback {name}` goes back"),
        );
    }
    if are_well {
        report.ok("services", format!("{} are as they are wanted", all.len()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::State;
    use super::*;

    #[test]
    fn one_that_is_down_is_told_with_its_last_end() {
        let well = json!({"name": "a", "state": "serving", "instances": []});
        let mut report = Report::default();
        judge(&json!({"services": [well]}), &mut report);
        assert_eq!(report.findings[0].state, State::Ok);
        let down = json!({"name": "b", "state": "down", "instances": [
            {"exit": "code 3", "ended_us": 2}, {"exit": "code 1", "ended_us": 1}, {"exit": null}]});
        let mut report = Report::default();
        judge(&json!({"services": [well, down]}), &mut report);
        assert_eq!(report.findings.len(), 1);
        assert_eq!(report.findings[0].found, "b is down; its last end: code 3");
    }
}
