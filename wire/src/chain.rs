//! A message that services enhance, stage by stage, and the record of how each step went.
//!
//! The caller asks each stage's enhancers in parallel and merges what they add. Everything that could
//! run away is bounded here, in the packet: stages, enhancers, size, depth. The packet's `data` is
//! what enhancers see and add to; `hops` is what the caller and the waterfall see. Merging is a
//! function of values: whoever answers first changes nothing. Start at [`Packet::merge`].

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Stages of a chain.
pub const STAGES_MAX: usize = 4;
/// Enhancers of one stage.
pub const ENHANCERS_MAX: usize = 16;
/// A packet's data as JSON, bytes.
pub const DATA_BYTES_MAX: usize = 256 << 10;
/// Chains that may enclose each other: an enhancer may run a chain of its own.
pub const DEPTH_MAX: u32 = 4;

/// What an enhancer is sent; one that knows what it needs reads the data as a type of its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Packet<T = Map<String, Value>> {
    /// The chain's name.
    pub chain: String,
    /// The stage under way, from 1.
    pub stage: usize,
    /// What is known so far.
    pub data: T,
}

/// How one enhancer did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// The stage, from 1.
    pub stage: usize,
    /// `<service>.<endpoint>`.
    pub enhancer: String,
    /// How it ended.
    pub status: HopStatus,
    /// From sending to having the answer, microseconds.
    pub total_us: u64,
    /// Of these, waiting at the service before its handler ran.
    pub queue_us: u64,
    /// Of these, in the handler.
    pub handler_us: u64,
    /// Of these, on the way there and back: what remains.
    pub network_us: u64,
    /// Fields it added.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// Fields it added that were there already, and stayed as they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// Why it added nothing, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The code of this error: the enhancer's own where it answered with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
}

/// How an enhancer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HopStatus {
    /// It answered in time.
    Ok,
    /// It answered with an error.
    Failed,
    /// The stage was over before it answered.
    Late,
    /// Nobody serves it.
    Absent,
}

/// What merging one answer did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// Fields that are new, dotted where inside objects.
    pub added: Vec<String>,
    /// Fields that were there already.
    pub conflicts: Vec<String>,
}

impl Packet {
    /// Adds what an enhancer answered. **What is there stays**: objects are merged field by field,
    /// and any other field that exists already with another value is a conflict, told and left as it
    /// was. Called in the order in which the stage names its enhancers, so that the first named wins.
    pub fn merge(&mut self, additions: Map<String, Value>) -> Merged {
        let mut merged = Merged::default();
        merge_into(&mut self.data, additions, "", &mut merged);
        merged
    }
}

fn merge_into(
    data: &mut Map<String, Value>,
    more: Map<String, Value>,
    path: &str,
    to: &mut Merged,
) {
    for (key, value) in more {
        let name = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        match (data.get_mut(&key), value) {
            (None, value) => {
                data.insert(key, value);
                to.added.push(name);
            }
            (Some(Value::Object(there)), Value::Object(more)) => merge_into(there, more, &name, to),
            (Some(there), value) if *there == value => {}
            (Some(_), _) => to.conflicts.push(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn what_is_there_stays() {
        let mut packet = Packet {
            data: object(json!({"sku": "a", "price": {"net": 10}})),
            ..Packet::default()
        };
        let answer = json!({"sku": "b", "price": {"net": 10, "gross": 12}, "stock": 3});
        let merged = packet.merge(object(answer));
        assert_eq!(
            Value::Object(packet.data),
            json!({"sku": "a", "price": {"net": 10, "gross": 12}, "stock": 3})
        );
        assert_eq!(merged.added, ["price.gross", "stock"]);
        assert_eq!(merged.conflicts, ["sku"]);
    }
}
