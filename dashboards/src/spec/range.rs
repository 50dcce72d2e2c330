//! The range of a dashboard as people write it: `6h`, or from one moment to another.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serin_yaml::{parse_time, written_span};

/// What a dashboard shows unless someone picks another range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultRange {
    /// The last so many microseconds up to now.
    Last(i64),
    /// From one moment to another, microseconds since 1970.
    Between(i64, i64),
}

impl<'de> Deserialize<'de> for DefaultRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<DefaultRange, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = DefaultRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as 6h, or {from: TIME, to: TIME}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<DefaultRange, E> {
                written_span(text).map(DefaultRange::Last)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DefaultRange, A::Error> {
                const KEYS: &[&str] = &["from", "to"];
                let (mut from, mut to) = (None, None);
                while let Some((key, text)) = map.next_entry::<String, String>()? {
                    let time = parse_time(&text).ok_or_else(|| {
                        A::Error::custom(format!(
                            "{text:?} is no time; write 2015-05-17 or 2015-05-17T10:00:00Z"
                        ))
                    })?;
                    match key.as_str() {
                        "from" => from = Some(time),
                        "to" => to = Some(time),
                        _ => return Err(A::Error::unknown_field(&key, KEYS)),
                    }
                }
                match (from, to) {
                    (Some(from), Some(to)) if from < to => Ok(DefaultRange::Between(from, to)),
                    (Some(_), Some(_)) => {
                        Err(A::Error::custom("the range must end after it starts"))
                    }
                    (None, _) => Err(A::Error::missing_field("from")),
                    (_, None) => Err(A::Error::missing_field("to")),
                }
            }
        }
        deserializer.deserialize_any(Written)
    }
}
