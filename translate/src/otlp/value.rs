//! Values of attributes and bodies: decoded from both encodings, and as JSON.
//!
//! Bytes are base64, as OTLP's own JSON has them. Numbers that are not finite have no JSON and are
//! null.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::message::{KeyValue, number};
use crate::key;

/// A value of any kind.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "Any", tags = "1, 2, 3, 4, 5, 6, 7")]
    any: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Any {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    List(List),
    #[prost(message, tag = "6")]
    Map(KeyValues),
    #[prost(bytes, tag = "7")]
    Bytes(Vec<u8>),
}

#[derive(Clone, PartialEq, Message, serde::Deserialize)]
#[serde(default)]
struct List {
    #[prost(message, repeated, tag = "1")]
    values: Vec<AnyValue>,
}

#[derive(Clone, PartialEq, Message, serde::Deserialize)]
#[serde(default)]
struct KeyValues {
    #[prost(message, repeated, tag = "1")]
    values: Vec<KeyValue>,
}

impl AnyValue {
    /// As JSON; keys as they were told.
    pub(super) fn into_json(self) -> Value {
        match self.any {
            None => Value::Null,
            Some(Any::Text(text)) => Value::String(text),
            Some(Any::Bool(value)) => Value::Bool(value),
            Some(Any::Int(number)) => Value::from(number),
            Some(Any::Double(number)) => Value::from(number),
            Some(Any::List(list)) => {
                Value::Array(list.values.into_iter().map(AnyValue::into_json).collect())
            }
            Some(Any::Map(map)) => {
                let pairs = map.values.into_iter();
                Value::Object(pairs.map(|pair| (pair.key, of(pair.value))).collect())
            }
            Some(Any::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        }
    }
}

/// A value as JSON.
pub(super) fn of(value: Option<AnyValue>) -> Value {
    value.map_or(Value::Null, AnyValue::into_json)
}

/// A value as text: that of a text itself, else its JSON; empty where there is none.
pub(super) fn text(value: Option<AnyValue>) -> String {
    match of(value) {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Attributes as an object with plain names.
pub(super) fn attributes(pairs: Vec<KeyValue>) -> Map<String, Value> {
    let mut map = Map::new();
    for pair in pairs {
        let name = key::free(&pair.key, |name| map.contains_key(name));
        map.insert(name, of(pair.value));
    }
    map
}

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<AnyValue, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = AnyValue;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(r#"a value such as {"stringValue": "a"}"#)
            }

            fn visit_unit<E>(self) -> Result<AnyValue, E> {
                Ok(AnyValue::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValue, A::Error> {
                let mut any = None;
                while let Some(key) = map.next_key::<String>()? {
                    any = match &*key {
                        "stringValue" => map.next_value::<Option<_>>()?.map(Any::Text),
                        "boolValue" => map.next_value::<Option<_>>()?.map(Any::Bool),
                        "intValue" => Some(Any::Int(map.next_value::<Number<i64>>()?.0)),
                        "doubleValue" => Some(Any::Double(map.next_value::<Number<f64>>()?.0)),
                        "arrayValue" => map.next_value::<Option<_>>()?.map(Any::List),
                        "kvlistValue" => map.next_value::<Option<_>>()?.map(Any::Map),
                        // Base64 already.
                        "bytesValue" => map.next_value::<Option<_>>()?.map(Any::Text),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                }
                Ok(AnyValue { any })
            }
        }
        from.deserialize_any(Written)
    }
}

/// A number, or its text.
struct Number<T>(T);

impl<'de, T: std::str::FromStr + Default> Deserialize<'de> for Number<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Number<T>, D::Error> {
        number(from).map(Number)
    }
}
