//! Whether a value is as a JSON Schema says, as far as our schemas say it: a word of the language
//! that is not known here is a fault of the test.

use regex::Regex;
use serde_json::Value;

/// Everything that is wrong with a value.
pub(super) fn faults(whole: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(whole, whole, value, "", &mut found);
    found
}

fn look(whole: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let words = schema.as_object().expect("a schema is a mapping");
    if let Some(path) = schema["$ref"].as_str() {
        let defined = whole.pointer(&path[1..]).expect("defined");
        return look(whole, defined, value, at, found);
    }
    for (word, said) in words {
        let is_right = match word.as_str() {
            "$schema" | "title" | "description" | "definitions" => true,
            "type" => is_type(value, said.as_str().expect("one type")),
            "enum" => said.as_array().expect("words").contains(value),
            "pattern" => {
                let pattern = Regex::new(said.as_str().expect("text")).expect("a pattern");
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "minimum" => value
                .as_f64()
                .zip(said.as_f64())
                .is_none_or(|(a, b)| a >= b),
            "maximum" => value
                .as_f64()
                .zip(said.as_f64())
                .is_none_or(|(a, b)| a <= b),
            "required" => {
                let mut keys = said
                    .as_array()
                    .expect("keys")
                    .iter()
                    .filter_map(Value::as_str);
                keys.all(|key| value.as_object().is_none_or(|all| all.contains_key(key)))
            }
            "anyOf" => said.as_array().expect("schemas").iter().any(|one| {
                let mut faults = Vec::new();
                look(whole, one, value, at, &mut faults);
                faults.is_empty()
            }),
            "items" => {
                for one in value.as_array().into_iter().flatten() {
                    look(whole, said, one, &format!("{at}[]"), found);
                }
                true
            }
            "properties" | "additionalProperties" => {
                keys(whole, schema, value, (word, at), found);
                true
            }
            other => panic!("{other:?} is not known to this test"),
        };
        if !is_right {
            found.push(format!("{at}: {value} is not as {word} {said} says"));
        }
    }
}

/// The values of a mapping: those that are named, or those that are not.
fn keys(
    whole: &Value,
    schema: &Value,
    value: &Value,
    (word, at): (&str, &str),
    found: &mut Vec<String>,
) {
    for (key, one) in value.as_object().into_iter().flatten() {
        let here = format!("{at}.{key}");
        match (word, schema["properties"].get(key)) {
            ("properties", Some(property)) => look(whole, property, one, &here, found),
            ("additionalProperties", None) => match &schema["additionalProperties"] {
                Value::Bool(false) => found.push(format!("{here} is not known")),
                others => look(whole, others, one, &here, found),
            },
            _ => {}
        }
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        other => panic!("{other:?} is no type"),
    }
}
