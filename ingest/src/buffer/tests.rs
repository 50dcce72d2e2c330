//! What events become: columns and `_rest`, shown as text; and nothing is lost on the way.

use std::borrow::Cow;
use std::fmt::Write;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::shape::{REST, STANDARD};

fn event<'a>(kind: &'a str, data: &'a str) -> Event<'a> {
    Event {
        id: Cow::Borrowed("i"),
        kind: Cow::Borrowed(kind),
        service: Cow::Borrowed("cart"),
        version: Cow::Borrowed(""),
        instance: Cow::Borrowed(""),
        time_us: 0,
        trace: None,
        arm: None,
        data: Cow::Borrowed(data.as_bytes()),
    }
}

/// The value of one cell as text; `None` where it is null.
fn cell(batch: &RecordBatch, column: usize, row: usize) -> Option<String> {
    let array = batch.column(column);
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        _ => array.as_string::<i32>().value(row).to_owned(),
    })
}

/// The attributes of each row, by column, `_rest` last.
fn attributes(buffer: &Buffer, table: &str) -> Vec<Vec<(String, String)>> {
    let fresh = buffer.rows(0);
    let mut rows = Vec::new();
    for batch in &fresh.tables[table].batches {
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let columns = schema.fields().iter().enumerate().skip(STANDARD.len());
            rows.push(
                columns
                    .filter_map(|(at, field)| Some((field.name().clone(), cell(batch, at, row)?)))
                    .collect(),
            );
        }
    }
    rows
}

/// Appends each line as an event and shows what became of it, and the columns.
fn check(lines: &str, expected: Expect) {
    let buffer = Buffer::new([]);
    let limits = Limits {
        columns_per_type_max: 8,
        ..Limits::default()
    };
    let mut out = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let result = buffer.hold().append(&event("a", line), &limits, false, 0);
        if let Err(refusal) = result {
            writeln!(
                out,
                "refused: {}: {}",
                refusal.reason.name(),
                refusal.explanation
            )
            .unwrap();
        }
    }
    for row in attributes(&buffer, "a") {
        let cells: Vec<String> = row
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        writeln!(out, "{}", cells.join(" ")).unwrap();
    }
    let columns = &buffer.rows(0).tables["a"].columns[STANDARD.len()..];
    let columns: Vec<String> = columns
        .iter()
        .map(|c| format!("{}:{:?}", c.name, c.kind))
        .collect();
    writeln!(out, "{}", columns.join(" ")).unwrap();
    expected.assert_eq(&out);
}

#[test]
fn the_first_value_gives_the_type() {
    check(
        r#"{"n":1,"s":"x","b":true,"d":0.5}
           {"n":"one","s":2,"b":null,"d":3}
           {"n":2.5,"d":9007199254740993}
           {"n":3}"#,
        expect![[r#"
            n=1.0 s=x b=true d=0.5
            d=3.0 _rest={"n":"one","s":2}
            n=2.5 _rest={"d":9007199254740993}
            n=3.0
            n:Double s:Text b:Bool d:Double _rest:Text
        "#]],
    );
}

#[test]
fn nested_keys_join_and_arrays_are_text() {
    check(
        r#"{"a":{"b":1,"c":{"d":"x"}},"l":[1, {"z":2}],"e":{}}
           {"a":{"b":2},"a_b":7,"l":"[1]"}
           {"a":5,"l":[]}"#,
        expect![[r#"
            a_b=1 a_c_d=x l=[1, {"z":2}] _rest={"e":{}}
            a_b=2 _rest={"a_b":7,"l":"[1]"}
            l=[] a=5
            a_b:Int a_c_d:Text l:Text a:Int _rest:Text
        "#]],
    );
}

#[test]
fn names_of_standard_columns_and_case() {
    check(
        r#"{"time":"x","id":1,"_rest":2,"_arm":3}
           {"Time":4,"Amount":5,"amount":6}
           {"amount":7}"#,
        expect![[r#"
            data_time=x data_id=1 data__rest=2 data__arm=3
            Amount=5 _rest={"Time":4,"amount":6}
            _rest={"amount":7}
            data_time:Text data_id:Int data__rest:Int data__arm:Int Amount:Int _rest:Text
        "#]],
    );
}

#[test]
fn odd_values_survive() {
    check(
        r#"{"big":18446744073709551615,"huge":1e400,"half":"\ud800","ok":"\ud83d\ude00\n"}
           {"a":1,"a":2,"a":3,"":4,"\u0000":5,"x\u0041":6}
           {"big":1,"ok":""}"#,
        expect![[r#"
            ok=😀
             _rest={"big":18446744073709551615,"huge":1e400,"half":"\ud800"}
            a=1 xA=6 _rest={"a":2,"a":3,"":4,"\u0000":5}
            ok= big=1
            ok:Text a:Int xA:Int big:Int _rest:Text
        "#]],
    );
}

#[test]
fn too_many_columns_are_refused_whole() {
    check(
        r#"{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1}
           {"a":2,"h":1,"i":1}
           {"a":3,"j":1}
           {"a":4,"h":1}"#,
        expect![[r#"
            refused: columns: type "a" has 8 attributes already and "i" would be one more (the limit ingest.columns_per_type_max); use fewer names, or raise the limit
            refused: columns: type "a" has 8 attributes already and "h" would be one more (the limit ingest.columns_per_type_max); use fewer names, or raise the limit
            a=1 b=1 c=1 d=1 e=1 f=1 g=1
            a=3 j=1
            a:Int b:Int c:Int d:Int e:Int f:Int g:Int j:Int _rest:Text
        "#]],
    );
}

#[test]
fn types_are_limited_and_differ_not_only_in_case() {
    let buffer = Buffer::new([]);
    let limits = Limits {
        types_max: 2,
        ..Limits::default()
    };
    let append = |kind, service| {
        let mut event = event(kind, "{}");
        event.service = Cow::Borrowed(service);
        buffer
            .hold()
            .append(&event, &limits, false, 0)
            .map_err(|refusal| refusal.reason)
    };
    assert_eq!(append("a.b", "cart"), Ok(()));
    assert_eq!(append("A.b", "cart"), Err(Reason::Name));
    assert_eq!(append("c", "cart"), Ok(()));
    assert_eq!(append("d", "cart"), Err(Reason::Types));
    assert_eq!(append("serin.decision", "cart"), Err(Reason::Name));
    assert_eq!(append("serin.decision", "serin"), Ok(()));
    assert_eq!(append("logs", "cart"), Err(Reason::Name));
    assert!(buffer.rows(0).tables.contains_key("decisions"));
}

#[test]
fn rows_are_in_the_buffer_until_they_are_forgotten() {
    let buffer = Buffer::new([]);
    let limits = Limits::default();
    let count = |flushed| -> usize {
        let fresh = buffer.rows(flushed);
        let batches = fresh.tables.values().flat_map(|table| &table.batches);
        batches.map(RecordBatch::num_rows).sum()
    };
    for round in 0..3 {
        for _ in 0..100 {
            buffer
                .hold()
                .append(&event("a", r#"{"n":1}"#), &limits, false, 0)
                .unwrap();
            // A snapshot seals what is open; sealed batches are joined again.
            buffer.rows(0);
        }
        assert_eq!(count(0), 100 * (round + 1));
        assert!(buffer.rows(round as u64).tables["a"].batches.len() < 10);
        let cut = buffer.hold().cut();
        assert_eq!((cut.number, cut.rows), (round as u64 + 1, 100));
        assert_eq!(count(0), 100 * (round + 1));
    }
    assert_eq!(count(2), 100);
    buffer.forget(2);
    assert_eq!(count(2), 100);
    buffer.forget(3);
    assert_eq!((count(3), buffer.hold().fill().total), (0, 0));
}

/// In open rows, in closed ones, and in both.
#[test]
fn times_of_live_and_of_imported_rows_are_told_apart() {
    let buffer = Buffer::new([]);
    let append = |time_us, is_import| {
        let event = Event {
            time_us,
            ..event("a", "{}")
        };
        let limits = Limits::default();
        buffer.hold().append(&event, &limits, is_import, 0).unwrap();
    };
    let times = || {
        let fresh = &buffer.rows(0).tables["a"];
        (fresh.live_from_us, fresh.imported_us)
    };
    append(30, false);
    append(20, true);
    assert_eq!(times(), (Some(30), Some((20, 20))));
    buffer.hold().cut();
    append(25, false);
    append(10, true);
    assert_eq!(times(), (Some(25), Some((10, 20))));
}

/// Arbitrary JSON whose keys meet standard columns, each other's case, and each other's joined form.
fn object() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_992_i64..=9_007_199_254_740_992).prop_map(Value::from),
        Just(Value::from(u64::MAX)),
        any::<f64>()
            .prop_filter("JSON has no others", |x| x.is_finite())
            .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::collection::vec(any::<i8>().prop_map(Value::from), 0..3).prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "a",
            "A",
            "b",
            "a_b",
            "time",
            "Time",
            "_rest",
            "",
            "data_time",
            "é"
        ])
        .prop_map(str::to_owned),
        ".{0,3}",
    ];
    let value = leaf.prop_recursive(3, 16, 4, move |inner| {
        prop::collection::btree_map("[ab]{1,2}", inner, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    });
    prop::collection::btree_map(key, value, 0..8).prop_map(|map| map.into_iter().collect())
}

/// Every leaf by its joined name, as text; null equals absent.
fn flat(path: Option<&str>, value: &Value, out: &mut Vec<(String, String)>) {
    match (value, path) {
        (Value::Null, _) => {}
        (Value::Object(map), _) if path.is_none() || !map.is_empty() => {
            for (key, value) in map {
                let joined = path.map_or_else(|| key.clone(), |path| format!("{path}_{key}"));
                flat(Some(&joined), value, out);
            }
        }
        (other, path) => out.push((named(path.unwrap_or_default()), shown(other))),
    }
}

fn named(path: &str) -> String {
    let is_standard = path == REST || STANDARD.iter().any(|(name, _)| *name == path);
    if is_standard {
        format!("data_{path}")
    } else {
        path.to_owned()
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(x) if number.is_f64() && x == x.trunc() && x.abs() <= 9_007_199_254_740_992.0 => {
                (x as i64).to_string()
            }
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// As [`shown`]; serde_json alone is off by a bit for some doubles.
fn shown_raw(raw: &str) -> String {
    match raw.parse::<f64>() {
        Ok(double) if raw.contains(['.', 'e', 'E']) => shown(&Value::from(double)),
        Ok(_) => raw.to_owned(),
        Err(_) => shown(&serde_json::from_str(raw).unwrap()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Any JSON object becomes columns and `_rest` from which it can be made again.
    #[test]
    fn nothing_is_lost(objects in prop::collection::vec((object(), any::<bool>()), 1..5)) {
        let buffer = Buffer::new([]);
        let limits = Limits::default();
        let mut expected = Vec::new();
        for (object, seals) in &objects {
            let text = Value::Object(object.clone()).to_string();
            buffer.hold().append(&event("a", &text), &limits, false, 0)
                .map_err(|refusal| TestCaseError::fail(refusal.explanation))?;
            if *seals {
                buffer.rows(0);
            }
            let mut leaves = Vec::new();
            flat(None, &Value::Object(object.clone()), &mut leaves);
            leaves.sort();
            expected.push(leaves);
        }
        let mut found = Vec::new();
        for row in attributes(&buffer, "a") {
            let mut leaves = Vec::new();
            for (name, value) in row {
                if name == REST {
                    // Repeated keys are there more than once, which a map would hide.
                    let pairs: Pairs = serde_json::from_str(&value)
                        .map_err(|error| TestCaseError::fail(error.to_string()))?;
                    leaves.extend(pairs.0.iter().map(|(key, raw)| (named(key), shown_raw(raw.get()))));
                } else {
                    let number: Option<f64> = value.parse().ok().filter(|_| value.contains(['.', 'e']));
                    let value = match number {
                        Some(x) if format!("{x:?}") == value => shown(&Value::from(x)),
                        _ => value,
                    };
                    leaves.push((name, value));
                }
            }
            leaves.sort();
            found.push(leaves);
        }
        prop_assert_eq!(found, expected);
    }

    /// Any bytes are taken or refused; nothing panics, and a refusal leaves no row.
    #[test]
    fn any_bytes_are_taken_or_refused(texts in prop::collection::vec("[\\{\\}\\[\\]\":,\\\\a-c0-9eu.\\- ]{0,30}", 1..20)) {
        let buffer = Buffer::new([]);
        let mut taken = 0;
        for text in &texts {
            let text = format!("{{{text}}}");
            taken += usize::from(buffer.hold().append(&event("a", &text), &Limits::default(), false, 0).is_ok());
        }
        let rows: usize = buffer.rows(0).tables.values().flat_map(|t| &t.batches).map(RecordBatch::num_rows).sum();
        prop_assert_eq!(rows, taken);
    }
}

/// The pairs of a JSON object in their order, repeated keys and all.
struct Pairs(Vec<(String, Box<serde_json::value::RawValue>)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
