//! Takes a body apart: groups by resource, in them groups by scope, in them the records.
//!
//! All three requests are built alike, with the same tags. Nothing is decoded before its turn, so
//! that memory stays near the body's own size however it is built. Start at [`groups`].

use std::cell::Cell;

use prost::Message;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::fields::{Broken, Content, Fields};
use super::message::{Resource, Scope};
use super::{Encoding, OtlpError, Signal};
use crate::lines::{PIECES_MAX, TooMuch};

/// A record may have so many bytes: four times what the ingester takes unless told otherwise.
const RECORD_BYTES_MAX: usize = 1 << 20;
/// The tags of a request, of a group by resource, of a group by scope.
const GROUPS: u32 = 1;
const HEAD: u32 = 1;
const PARTS: u32 = 2;

/// How many groups, records and points a body may still have.
#[derive(Debug)]
pub(super) struct Pieces(Cell<usize>);

impl Default for Pieces {
    fn default() -> Pieces {
        Pieces(Cell::new(PIECES_MAX))
    }
}

impl Pieces {
    pub(super) fn take(&self, count: usize) -> Result<(), TooMuch> {
        let left = self.0.get().checked_sub(count).ok_or(TooMuch::Pieces)?;
        self.0.set(left);
        Ok(())
    }
}

/// One record, not decoded yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaf<'a> {
    Protobuf(&'a [u8]),
    Json(&'a RawValue),
}

/// The records of one resource, not looked at yet.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) resource: Resource,
    signal: Signal,
    whole: Leaf<'a>,
    pieces: &'a Pieces,
}

/// What to do with a record.
pub(super) type Each<'f> = dyn FnMut(&Scope, Leaf<'_>) -> Result<(), TooMuch> + 'f;
/// What to do with a group.
pub(super) type EachGroup<'f> = dyn FnMut(Group<'_>) -> Result<(), OtlpError> + 'f;

impl Group<'_> {
    /// Hands over the records, one after another.
    pub(super) fn each(&self, each: &mut Each<'_>) -> Result<(), OtlpError> {
        match self.whole {
            Leaf::Protobuf(group) => {
                let broken = |Broken| OtlpError::Protobuf(self.signal.request());
                for scope in Fields::messages(group, PARTS) {
                    let scope = scope.map_err(broken)?;
                    self.pieces.take(1)?;
                    let head = head(scope).ok_or(Broken).map_err(broken)?;
                    for leaf in Fields::messages(scope, PARTS) {
                        self.pieces.take(1)?;
                        each(&head, Leaf::Protobuf(leaf.map_err(broken)?))?;
                    }
                }
            }
            Leaf::Json(group) => {
                let failed = |error| OtlpError::Json(self.signal.request(), error);
                let [_, scopes, leaves] = names(self.signal);
                let scopes = list(group, scopes).map_err(failed)?;
                self.pieces.take(scopes.len())?;
                for scope in scopes {
                    let head = json_head(scope, "scope").map_err(failed)?;
                    let leaves = list(scope, leaves).map_err(failed)?;
                    self.pieces.take(leaves.len())?;
                    for leaf in leaves {
                        each(&head, Leaf::Json(leaf))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Why a record cannot be decoded, in words for its sender.
#[derive(Debug)]
pub(super) struct Unreadable(pub(super) String);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'a> Leaf<'a> {
    /// Decodes the record.
    pub(super) fn read<T: Message + Default + DeserializeOwned>(
        self,
        what: &str,
    ) -> Result<T, Unreadable> {
        let unreadable = |why: &dyn std::fmt::Display| Unreadable(format!("no {what}: {why}"));
        let bytes = match self {
            Leaf::Protobuf(bytes) => bytes.len(),
            Leaf::Json(text) => text.get().len(),
        };
        if bytes > RECORD_BYTES_MAX {
            let why = format!("it has {bytes} bytes, {RECORD_BYTES_MAX} are taken");
            return Err(unreadable(&why));
        }
        match self {
            Leaf::Protobuf(bytes) => T::decode(bytes).map_err(|error| unreadable(&error)),
            Leaf::Json(text) => {
                serde_json::from_str(text.get()).map_err(|error| unreadable(&error))
            }
        }
    }

    /// The messages in a field of the record, one or many.
    pub(super) fn parts(self, tag: u32, name: &'static str) -> Result<Vec<Leaf<'a>>, Unreadable> {
        let broken = || Unreadable(format!("no {name}: it breaks off"));
        match self {
            Leaf::Protobuf(bytes) => {
                let parts = Fields::messages(bytes, tag).map(|part| part.map(Leaf::Protobuf));
                parts
                    .collect::<Result<_, Broken>>()
                    .map_err(|Broken| broken())
            }
            Leaf::Json(text) => match member(text, name) {
                Ok(None) => Ok(Vec::new()),
                Ok(Some(part)) if part.get().starts_with('[') => {
                    let parts: Vec<&RawValue> = serde_json::from_str(part.get())
                        .map_err(|error| Unreadable(error.to_string()))?;
                    Ok(parts.into_iter().map(Leaf::Json).collect())
                }
                Ok(Some(part)) => Ok(vec![Leaf::Json(part)]),
                Err(error) => Err(Unreadable(error.to_string())),
            },
        }
    }

    /// A number in a field of the record; 0 where it is not there.
    pub(super) fn number(self, tag: u32, name: &'static str) -> u64 {
        match self {
            Leaf::Protobuf(bytes) => {
                let numbers = Fields::of(bytes).filter_map(|field| match field {
                    Ok(field) if field.tag == tag => Some(field.content),
                    _ => None,
                });
                match numbers.last() {
                    Some(Content::Number(number)) => number,
                    _ => 0,
                }
            }
            Leaf::Json(text) => match member(text, name) {
                Ok(Some(part)) => match part.get().trim_matches('"') {
                    "true" => 1,
                    number => number.parse().unwrap_or_default(),
                },
                _ => 0,
            },
        }
    }

    /// A text in a field of the record; empty where it is not there.
    pub(super) fn text(self, tag: u32, name: &'static str) -> Result<String, Unreadable> {
        let no_text = || Unreadable(format!("{name} is no text in UTF-8"));
        match self {
            Leaf::Protobuf(bytes) => match Fields::messages(bytes, tag).last() {
                None => Ok(String::new()),
                Some(Ok(text)) => String::from_utf8(text.to_vec()).map_err(|_| no_text()),
                Some(Err(Broken)) => Err(no_text()),
            },
            Leaf::Json(text) => match member(text, name) {
                Ok(Some(part)) => serde_json::from_str(part.get()).map_err(|_| no_text()),
                Ok(None) => Ok(String::new()),
                Err(error) => Err(Unreadable(error.to_string())),
            },
        }
    }
}

/// Hands over the groups of a body, one after another.
pub(super) fn groups(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
    pieces: &Pieces,
    each: &mut EachGroup<'_>,
) -> Result<(), OtlpError> {
    match encoding {
        Encoding::Protobuf => {
            let broken = |Broken| OtlpError::Protobuf(signal.request());
            for group in Fields::messages(body, GROUPS) {
                let group = group.map_err(broken)?;
                pieces.take(1)?;
                each(Group {
                    resource: head(group).ok_or(Broken).map_err(broken)?,
                    signal,
                    whole: Leaf::Protobuf(group),
                    pieces,
                })?;
            }
        }
        Encoding::Json => {
            let failed = |error| OtlpError::Json(signal.request(), error);
            let [groups, ..] = names(signal);
            let body: &RawValue = serde_json::from_slice(body).map_err(failed)?;
            let groups = list(body, groups).map_err(failed)?;
            pieces.take(groups.len())?;
            for group in groups {
                each(Group {
                    resource: json_head(group, "resource").map_err(failed)?,
                    signal,
                    whole: Leaf::Json(group),
                    pieces,
                })?;
            }
        }
    }
    Ok(())
}

/// The message that says whose the parts are.
fn head<T: Message + Default>(message: &[u8]) -> Option<T> {
    match Fields::messages(message, HEAD).last() {
        None => Some(T::default()),
        Some(head) => T::decode(head.ok()?).ok(),
    }
}

/// What lists and records are called in JSON.
fn names(signal: Signal) -> [&'static str; 3] {
    match signal {
        Signal::Traces => ["resourceSpans", "scopeSpans", "spans"],
        Signal::Logs => ["resourceLogs", "scopeLogs", "logRecords"],
        Signal::Metrics => ["resourceMetrics", "scopeMetrics", "metrics"],
    }
}

fn json_head<T: DeserializeOwned + Default>(
    object: &RawValue,
    name: &str,
) -> Result<T, serde_json::Error> {
    match member(object, name)? {
        Some(head) => serde_json::from_str(head.get()),
        None => Ok(T::default()),
    }
}

fn list<'a>(object: &'a RawValue, name: &str) -> Result<Vec<&'a RawValue>, serde_json::Error> {
    match member(object, name)? {
        Some(list) => serde_json::from_str(list.get()),
        None => Ok(Vec::new()),
    }
}

/// One member of an object; others are passed over. `null` equals absent.
fn member<'a>(object: &'a RawValue, name: &str) -> Result<Option<&'a RawValue>, serde_json::Error> {
    struct Member<'n>(&'n str);
    impl<'de> serde::de::DeserializeSeed<'de> for Member<'_> {
        type Value = Option<&'de RawValue>;

        fn deserialize<D: serde::Deserializer<'de>>(
            self,
            from: D,
        ) -> Result<Self::Value, D::Error> {
            from.deserialize_map(self)
        }
    }
    impl<'de> serde::de::Visitor<'de> for Member<'_> {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<Key<'de>>()? {
                match key.0 == self.0 {
                    true => found = Some(map.next_value()?),
                    false => drop(map.next_value::<serde::de::IgnoredAny>()?),
                }
            }
            Ok(found)
        }
    }
    #[derive(Deserialize)]
    struct Key<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);
    let mut from = serde_json::Deserializer::from_str(object.get());
    let found = serde::de::DeserializeSeed::deserialize(Member(name), &mut from)?;
    Ok(found.filter(|value| value.get() != "null"))
}
