//! A web request as a script sees it, and what it returned as an answer.
//!
//! A text is a page; a map with `status`, `headers` or `body` is an answer in full; anything else
//! becomes JSON. Pure.

use rhai::serde::{from_dynamic, to_dynamic};
use rhai::{Dynamic, EvalAltResult, Map};
use serde_json::{Value, json};
use serin_sdk::query_pairs;

/// A web request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// `GET`.
    pub method: String,
    /// The path, without the service's prefix.
    pub path: String,
    /// What follows the `?`.
    pub query: String,
    /// Lower-case names and values.
    pub headers: Vec<(String, String)>,
    /// The body; what is no UTF-8 is replaced.
    pub body: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, as HTTP has it.
    pub status: u16,
    /// Names and values; the type of the content is among them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Asked {
    /// As the script's parameter.
    pub(crate) fn to_dynamic(&self) -> Result<Dynamic, Box<EvalAltResult>> {
        let headers: serde_json::Map<String, Value> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        // Of a name that repeats the last counts.
        let query: serde_json::Map<String, Value> = query_pairs(&self.query)
            .map(|(name, value)| (name, Value::String(value)))
            .collect();
        to_dynamic(json!({
            "method": self.method,
            "path": self.path,
            "query": query,
            "headers": headers,
            "body": self.body,
        }))
    }
}

impl Answer {
    fn new(status: u16, kind: &str, body: String) -> Answer {
        Answer {
            status,
            headers: vec![(String::from("content-type"), kind.to_owned())],
            body,
        }
    }

    /// What a script returned.
    pub(crate) fn of(returned: Dynamic) -> Result<Answer, Box<EvalAltResult>> {
        if returned.is_string() {
            let page = returned.into_string().unwrap_or_default();
            return Ok(Answer::new(200, "text/html; charset=utf-8", page));
        }
        if returned.is_unit() {
            return Ok(Answer::new(204, "text/plain", String::new()));
        }
        let is_full = returned.read_lock::<Map>().is_some_and(|map| {
            ["status", "headers", "body"]
                .iter()
                .any(|key| map.contains_key(*key))
        });
        let value: Value = from_dynamic(&returned)?;
        if !is_full {
            return Ok(Answer::new(200, "application/json", value.to_string()));
        }
        let (kind, body) = match &value["body"] {
            Value::Null => ("text/plain", String::new()),
            Value::String(text) => ("text/html; charset=utf-8", text.clone()),
            other => ("application/json", other.to_string()),
        };
        let status = value["status"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok());
        let mut answer = Answer::new(status.unwrap_or(200), kind, body);
        for (name, value) in value["headers"].as_object().into_iter().flatten() {
            let name = name.to_ascii_lowercase();
            answer.headers.retain(|(known, _)| *known != name);
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            answer.headers.push((name, value));
        }
        Ok(answer)
    }
}
