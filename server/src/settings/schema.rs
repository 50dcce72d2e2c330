//! The JSON Schema of `serin.yaml`, made from the bounds that the settings are held to.

use serde_json::{Map, Value, json};

use super::Settings;
use super::resolve::Entry;

/// Settings that are told for each table: one table stands for all.
const ANY_TABLE: &str = "any";
const BY_TABLE: &str = "lake: {raw_days_by_table: {any: 1}, mib_max_by_table: {any: 1}}";

/// What editors are told of the file.
pub(crate) fn schema() -> String {
    let settings = Settings::parse(BY_TABLE).expect("a test reads the same text");
    let mut sections: Map<String, Value> = Map::new();
    for entry in &settings.entries {
        let mut names = entry.setting.splitn(3, '.');
        let (Some(section), Some(key)) = (names.next(), names.next()) else {
            continue;
        };
        let of_table = names.next();
        if of_table.is_some_and(|table| table != ANY_TABLE) {
            continue;
        }
        let section = sections.entry(section).or_insert_with(|| object(json!({})));
        section["properties"][key] = match of_table {
            None => value(entry),
            Some(_) => json!({
                "description": entry.bounds,
                "type": "object",
                "additionalProperties": value(entry),
            }),
        };
    }
    let mut whole = object(Value::Object(sections));
    whole["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    whole["title"] = json!("Settings of Serin (serin.yaml)");
    format!("{whole:#}\n")
}

/// A mapping that has these keys alone.
fn object(properties: Value) -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn value(entry: &Entry) -> Value {
    let told = |unit: &str| match (&entry.value, unit) {
        (Value::Null, _) => entry.bounds.to_owned(),
        (usual, "") => format!("{}; {usual} unless said", entry.bounds),
        (usual, unit) => format!("{}; {usual} {unit} unless said", entry.bounds),
    };
    match entry.within {
        None => json!({"description": told(""), "type": "boolean"}),
        Some((least, most)) => json!({
            "description": told(entry.unit),
            "type": "integer",
            "minimum": least,
            "maximum": most,
        }),
    }
}
