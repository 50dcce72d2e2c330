//! Why a call has no reply that can be used, and whether it may have run.

use bytes::Bytes;
use serin_wire::call;
use serin_wire::name::NameError;
use thiserror::Error;

/// What became of a call; `target` is `<service>.<endpoint>`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The service answered with an error of its own.
    #[error("{target} answered {code}: {message}")]
    Failed {
        /// Who was called.
        target: String,
        /// As HTTP has them; 500 where the service gave none.
        code: u16,
        /// One line.
        message: String,
        /// What more it said.
        body: Bytes,
        /// Whether its handler ran, or may have where a try before this answer was lost.
        has_run: bool,
    },
    /// Nobody takes it.
    #[error(
        "nobody serves {target}; is the service deployed, and has it an endpoint of this name?"
    )]
    Absent {
        /// Who was called.
        target: String,
    },
    /// There was no answer in time.
    #[error("{target} did not answer within {within_ms} ms; it may have run")]
    Late {
        /// Who was called.
        target: String,
        /// How long we waited.
        within_ms: u64,
    },
    /// The bus was not reached.
    #[error("the bus was away for {within_ms} ms; {target} was not called")]
    Away {
        /// Who was to be called.
        target: String,
        /// How long we waited.
        within_ms: u64,
    },
    /// The request or reply is larger than the bus takes.
    #[error("the request to {target} has {bytes} bytes, the bus takes {bytes_max} with headers")]
    TooLarge {
        /// Who was to be called.
        target: String,
        /// Of the body.
        bytes: usize,
        /// Of body and headers.
        bytes_max: usize,
    },
    /// Too many calls enclose each other.
    #[error(
        "{depth} calls enclose each other before {target}, the most allowed; do services call each \
         other in a circle?"
    )]
    TooDeep {
        /// Who was to be called.
        target: String,
        /// Calls around this one.
        depth: u32,
    },
    /// The request cannot be written.
    #[error("cannot write the request to {target} as JSON")]
    Request {
        /// Who was to be called.
        target: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The reply cannot be read.
    #[error("cannot read what {target} answered as {wanted}")]
    Reply {
        /// Who was called.
        target: String,
        /// The type that was wanted.
        wanted: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The name of a service or endpoint breaks the rules.
    #[error("cannot call {target}")]
    Name {
        /// Who was to be called.
        target: String,
        /// Which rule.
        source: NameError,
    },
    /// There is no connection to call over.
    #[error("cannot call {target}")]
    Connect {
        /// Who was to be called.
        target: String,
        /// What is wrong.
        source: async_nats::Error,
    },
}

impl CallError {
    /// A code as HTTP has them, also for errors on our side.
    pub fn code(&self) -> u16 {
        match self {
            CallError::Failed { code, .. } => *code,
            CallError::Late { .. } => call::CODE_TIMEOUT,
            CallError::TooLarge { .. } | CallError::TooDeep { .. } => call::CODE_TOO_LARGE,
            CallError::Absent { .. } | CallError::Away { .. } => call::CODE_BUSY,
            _ => call::CODE_FAILED,
        }
    }

    /// Whether the service may have done what it was asked for.
    pub fn may_have_run(&self) -> bool {
        match self {
            CallError::Failed { has_run, .. } => *has_run,
            CallError::Late { .. } | CallError::Reply { .. } => true,
            _ => false,
        }
    }
}
