//! Who published a message, and which of its messages it was.
//!
//! A producer numbers its messages from 1 without holes and may send one again with the same
//! number; the ingester takes each number once, whenever it comes. That holds without a time
//! window, unlike the broker's own de-duplication, which forgets after two minutes. The number
//! travels as `Nats-Msg-Id: <producer>/<epoch>/<number>`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A producer and one run of it: `<producer>/<epoch>`.
///
/// `producer` is random for an SDK's connection and derived from the content for an import (so
/// that importing the same file again names the same messages). `epoch` rises when a producer
/// that keeps its name starts numbering afresh.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProducerId {
    /// 1 to 64 characters of `[A-Za-z0-9_-]`.
    pub producer: String,
    /// Which run of that producer.
    pub epoch: u32,
}

/// One numbered message of a producer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Number {
    /// Who.
    pub producer: ProducerId,
    /// Which of its messages, from 1.
    pub number: u64,
}

/// The highest number: what a signed 64-bit integer holds, since that is how databases keep it.
pub const NUMBER_MAX: u64 = i64::MAX as u64;

/// The text is not `<producer>/<epoch>/<number>`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not <producer>/<epoch>/<number>, such as 01J9/0/17, with a number up to {NUMBER_MAX}"
)]
pub struct NumberError(String);

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.producer, self.epoch)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.producer, self.number)
    }
}

impl FromStr for Number {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        let error = || NumberError(text.chars().take(96).collect());
        let mut parts = text.split('/');
        let (Some(producer), Some(epoch), Some(number), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(error());
        };
        let is_name = (1..=64).contains(&producer.len())
            && producer
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let epoch = epoch.parse().map_err(|_| error())?;
        let number: u64 = number.parse().map_err(|_| error())?;
        if !is_name || number == 0 || number > NUMBER_MAX {
            return Err(error());
        }
        Ok(Number {
            producer: ProducerId {
                producer: producer.to_owned(),
                epoch,
            },
            number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_back() {
        let number = Number {
            producer: ProducerId {
                producer: "01J9".into(),
                epoch: 3,
            },
            number: 17,
        };
        assert_eq!(number.to_string(), "01J9/3/17");
        assert_eq!("01J9/3/17".parse(), Ok(number));
    }

    #[test]
    fn other_message_ids_are_not_numbers() {
        for text in [
            "",
            "abc",
            "a/b/c",
            "a/1/0",
            "/1/1",
            "a/1/1/1",
            "a b/1/1",
            "a/-1/1",
            "a/1/9223372036854775808",
            "a/1/18446744073709551615",
        ] {
            assert!(text.parse::<Number>().is_err(), "{text}");
        }
    }
}
