//! What JetStream answers to a message that was published: that it has it, or why not.
//!
//! A function of the answer. Whoever published decides what becomes of a message that was refused.
//! Start at [`read`].

use async_nats::{Message, StatusCode};
use serde_json::Value;
use thiserror::Error;

/// JetStream's "maximum bytes exceeded" and "maximum messages exceeded" come under this code.
const STORE_FAILED: u64 = 10_077;
/// Its words when the stream is full, since the code stands for any failure to store.
const FULL: [&str; 2] = ["maximum bytes exceeded", "maximum messages exceeded"];
/// JetStream's "message size exceeds maximum allowed".
const MESSAGE_TOO_LARGE: u64 = 10_054;

/// The stream has the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PubAck {
    /// Its place in the stream.
    pub sequence: u64,
    /// Whether the stream had it already, by its `Nats-Msg-Id`.
    pub is_duplicate: bool,
}

/// Why the stream does not have the message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nobody keeps messages of this subject.
    #[error("no stream takes the subject")]
    NoStream,
    /// The stream is full and refuses what is new.
    #[error("the stream is full")]
    Full,
    /// JetStream said no for another reason.
    #[error("the bus refused the message: {description} (error {code})")]
    Said {
        /// JetStream's own error code.
        code: u64,
        /// Its words.
        description: String,
    },
    /// It is something else than JetStream's answer.
    #[error("the answer is not an acknowledgement")]
    Unreadable,
}

impl Refusal {
    /// Whether the same message would be refused whenever it is sent again. Anything else that
    /// JetStream says (no resources, a failed write, a sealed stream, no leader) may pass or be mended.
    pub fn is_final(&self) -> bool {
        matches!(self, Refusal::Said { code, .. } if *code == MESSAGE_TOO_LARGE)
    }
}

/// Reads the answer to a message that was published.
pub fn read(answer: &Message) -> Result<PubAck, Refusal> {
    match answer.status {
        Some(StatusCode::NO_RESPONDERS) => Err(Refusal::NoStream),
        _ => read_payload(&answer.payload),
    }
}

fn read_payload(payload: &[u8]) -> Result<PubAck, Refusal> {
    let answer: Value = serde_json::from_slice(payload).map_err(|_| Refusal::Unreadable)?;
    // A refusal has a sequence as well: 0.
    if let Some(error) = answer.get("error") {
        let code = error["err_code"].as_u64().unwrap_or_default();
        let description = error["description"].as_str().unwrap_or_default();
        if code == STORE_FAILED && FULL.contains(&description) {
            return Err(Refusal::Full);
        }
        return Err(Refusal::Said {
            code,
            description: description.to_owned(),
        });
    }
    let sequence = answer.get("seq").and_then(Value::as_u64);
    Ok(PubAck {
        sequence: sequence.ok_or(Refusal::Unreadable)?,
        is_duplicate: answer["duplicate"].as_bool().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_jetstream_are_told_apart() {
        let ack = read_payload(br#"{"stream":"EVENTS","seq":7,"duplicate":true}"#);
        let expected = PubAck {
            sequence: 7,
            is_duplicate: true,
        };
        assert_eq!(ack, Ok(expected));
        let refused = |code: u64, description: &str| {
            let said = format!(
                r#"{{"error":{{"code":503,"err_code":{code},"description":"{description}"}},"seq":0}}"#
            );
            read_payload(said.as_bytes()).expect_err("a refusal")
        };
        assert_eq!(refused(10_077, "maximum bytes exceeded"), Refusal::Full);
        let failed = refused(10_077, "write error");
        assert!(matches!(failed, Refusal::Said { code: 10_077, .. }) && !failed.is_final());
        assert!(refused(10_054, "message size exceeds maximum allowed").is_final());
        for other in ["", "{}", "[]", "null", r#"{"seq":"7"}"#] {
            assert_eq!(read_payload(other.as_bytes()), Err(Refusal::Unreadable));
        }
    }
}
