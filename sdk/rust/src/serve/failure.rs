//! The error of a handler: a code and a line, told to the caller as the micro protocol has it.

use bytes::Bytes;
use serde::Serialize;
use serin_wire::call;
use serin_wire::causes::sentence;

use crate::call::error::CallError;
use crate::chain::ChainError;

/// The longest message that travels, in characters: of a longer one, its beginning and its end,
/// since the first cause stands last.
const MESSAGE_CHARS_MAX: usize = 512;
const BEGINNING_CHARS: usize = 160;

/// Why a handler failed. Any error becomes one by `?`: that of a call or chain keeps its code, any
/// other has 500, and its text is not shown to visitors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub(crate) code: u16,
    pub(crate) message: String,
    pub(crate) body: Bytes,
    /// Whether the handler ran.
    pub(crate) has_run: bool,
    /// Whether it came as an error of the program, whose text is not meant for visitors.
    pub(crate) is_fault: bool,
}

impl Failure {
    /// A failure with a code as HTTP has them, and one line for whoever called.
    pub fn new(code: u16, message: impl Into<String>) -> Failure {
        let one_line = |char: char| if char.is_control() { ' ' } else { char };
        let message: String = message.into().chars().map(one_line).collect();
        Failure {
            code,
            message: cut(message),
            body: Bytes::new(),
            has_run: true,
            is_fault: false,
        }
    }

    /// Says more, as JSON; what cannot be written as JSON is left out.
    pub fn with(mut self, body: &(impl Serialize + ?Sized)) -> Failure {
        match serde_json::to_vec(body) {
            Ok(body) => self.body = Bytes::from(body),
            Err(error) => tracing::warn!(%error, "left out what more a failure says"),
        }
        self
    }

    /// The code.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// A failure before the handler ran, so that the caller may try elsewhere.
    pub(crate) fn not_run(code: u16, message: impl Into<String>) -> Failure {
        Failure {
            has_run: false,
            ..Failure::new(code, message)
        }
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        let known: &(dyn std::error::Error + 'static) = &error;
        let code = match (known.downcast_ref(), known.downcast_ref()) {
            (Some(call), _) => CallError::code(call),
            (_, Some(chain)) => ChainError::code(chain),
            _ => call::CODE_FAILED,
        };
        Failure {
            is_fault: true,
            ..Failure::new(code, sentence(&error))
        }
    }
}

fn cut(message: String) -> String {
    let chars = message.chars().count();
    if chars <= MESSAGE_CHARS_MAX {
        return message;
    }
    let ending = MESSAGE_CHARS_MAX - BEGINNING_CHARS - 3;
    let beginning: String = message.chars().take(BEGINNING_CHARS).collect();
    let end: String = message.chars().skip(chars - ending).collect();
    format!("{beginning} … {end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_its_cause() {
        let failure = Failure::new(
            500,
            format!("failed: {}the disk is full", "again: ".repeat(200)),
        );
        assert_eq!(failure.message().chars().count(), MESSAGE_CHARS_MAX);
        assert!(failure.message().starts_with("failed: again"));
        assert!(failure.message().ends_with("the disk is full"));
    }

    #[test]
    fn an_error_comes_with_its_causes_on_one_line() {
        let cause = std::io::Error::other("disk\nfull");
        let error = crate::ConnectError::Thread("t", cause);
        let failure = Failure::from(error);
        assert_eq!(failure.code(), 500);
        assert_eq!(failure.message(), "cannot start the thread t: disk full");
    }
}
