//! `serin emit`: one event over the HTTP door.

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::print;
use crate::cli::{Emit, Global};
use crate::client::Client;

pub(crate) async fn run(global: &Global, emit: &Emit) -> Result<()> {
    serin_wire::name::check_type(&emit.kind)?;
    serin_wire::name::check_service(&emit.service)?;
    let mut event = json!({
        "specversion": "1.0",
        "type": emit.kind,
        "source": format!("/{}", emit.service),
        "data": attributes(&emit.attributes)?,
    });
    if let Some(time) = &emit.time {
        event["time"] = Value::from(time.as_str());
    }
    let client = Client::find(global)?;
    let request = client
        .request(Method::POST, "/api/v1/events")
        .header("content-type", serin_wire::cloudevent::CONTENT_TYPE)
        .body(event.to_string());
    let answer: Value = client.json(request).await?;
    if global.json {
        print(&answer.to_string());
    }
    Ok(())
}

fn attributes(pairs: &[String]) -> Result<Map<String, Value>> {
    let mut attributes = Map::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            bail!("{pair:?} is not key=value, such as amount=12.5");
        };
        let (key, value) = match key.strip_suffix(':') {
            Some(key) => {
                let value = serde_json::from_str(value)
                    .with_context(|| format!("the value of {key:?} is not JSON: {value}"))?;
                (key, value)
            }
            None => (key, plain(value)),
        };
        if key.is_empty() {
            bail!("{pair:?} has no key before '='");
        }
        if attributes.insert(key.to_owned(), value).is_some() {
            bail!("the attribute {key:?} is given twice");
        }
    }
    Ok(attributes)
}

/// Numbers, true, false and null as such; a whole number of more than 64 bits stays text, for it would
/// lose its last digits.
fn plain(text: &str) -> Value {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Bool(_) | Value::Null)) => value,
        Ok(value @ Value::Number(_)) if !value.is_f64() || text.contains(['.', 'e', 'E']) => value,
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbers_where_they_look_like_it() {
        let given = [
            "a=1",
            "b=2.50",
            "i=12345678901234567890123",
            "c=true",
            "d=de",
            "e=007",
            "f:=[1]",
            "g=x=y",
            "h=",
        ];
        let read = attributes(&given.map(String::from)).expect("pairs");
        let expected = json!({"a":1,"b":2.5,"i":"12345678901234567890123","c":true,"d":"de","e":"007","f":[1],"g":"x=y","h":""});
        assert_eq!(Value::from(read), expected);
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for bad in [vec!["a"], vec!["=1"], vec!["a=1", "a=2"], vec!["a:=x"]] {
            let bad: Vec<String> = bad.into_iter().map(String::from).collect();
            assert!(attributes(&bad).is_err(), "{bad:?}");
        }
    }
}
