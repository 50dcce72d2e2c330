//! What a scenario expects, against what came.

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde_json::Value;

/// An error says what does not match, and where.
pub(crate) fn check(expected: &Value, found: &Value, at: &str) -> Result<()> {
    match expected {
        Value::Object(fields) => {
            if let Some((rule, value)) = fields.iter().next()
                && fields.len() == 1
                && rule.starts_with('$')
            {
                let holds = follows(rule, value, found)?;
                ensure!(holds, "{at}: expected {expected}, found {found}");
                return Ok(());
            }
            ensure!(found.is_object(), "{at}: expected an object, found {found}");
            for (key, value) in fields {
                check(value, &found[key], &format!("{at}.{key}"))?;
            }
            Ok(())
        }
        Value::Array(items) => {
            let others = found.as_array().map(Vec::as_slice).unwrap_or_default();
            let is_long = found.is_array() && others.len() == items.len();
            ensure!(is_long, "{at}: expected {expected}, found {found}");
            for (index, (item, other)) in items.iter().zip(others).enumerate() {
                check(item, other, &format!("{at}[{index}]"))?;
            }
            Ok(())
        }
        _ => {
            ensure!(
                expected == found,
                "{at}: expected {expected}, found {found}"
            );
            Ok(())
        }
    }
}

fn follows(rule: &str, value: &Value, found: &Value) -> Result<bool> {
    let text = found.as_str();
    Ok(match rule {
        "$absent" => found.is_null(),
        "$any" => !found.is_null(),
        "$regex" => {
            let whole = format!("^(?:{})$", value.as_str().context("an expression")?);
            let expression = Regex::new(&whole)?;
            text.is_some_and(|text| expression.is_match(text))
        }
        "$contains" | "$lacks" => {
            let part = value.as_str().context("a text")?;
            text.is_some_and(|text| text.contains(part) == (rule == "$contains"))
        }
        "$integer" => number(found).is_some_and(|number| number >= 0.0 && number.fract() == 0.0),
        "$between" => number(found).is_some_and(|number| {
            let bound = |at: usize| value[at].as_f64().unwrap_or(f64::NAN);
            (bound(0)..=bound(1)).contains(&number)
        }),
        "$exactly" => value == found,
        "$unordered" => {
            let sorted = |list: &Value| {
                let items = list.as_array()?.iter().map(Value::to_string);
                let mut items: Vec<String> = items.collect();
                items.sort();
                Some(items)
            };
            sorted(found).is_some() && sorted(found) == sorted(value)
        }
        "$all" => {
            let rules = value.as_array().context("a list of rules")?;
            rules.iter().all(|rule| check(rule, found, "it").is_ok())
        }
        _ => bail!("no rule is called {rule}"),
    })
}

/// A number, also as text.
fn number(found: &Value) -> Option<f64> {
    found.as_f64().or_else(|| found.as_str()?.parse().ok())
}

/// A message against what is expected of one: headers expected as one value have it last.
pub(crate) fn check_message(expected: &Value, message: &Value) -> Result<()> {
    let mut message = message.clone();
    if let Some(headers) = message["headers"].as_object_mut() {
        for (name, values) in headers {
            if !expected["headers"][name.as_str()].is_array() {
                let last = values.as_array().and_then(|values| values.last()).cloned();
                *values = last.unwrap_or_default();
            }
        }
    }
    check(expected, &message, "the message")
}
