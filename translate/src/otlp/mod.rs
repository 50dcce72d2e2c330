//! OTLP, the protocol of OpenTelemetry: a request's body becomes lines of spans, logs or metrics.
//!
//! `walk` takes a body apart into records, in protobuf or JSON; `message` decodes one record;
//! `sender` names who sent it; `spans`, `logs` and `metrics` make its line, `requests` a second one
//! of a server's span; `answer` writes what the exporter is told. The protocol: <https://opentelemetry.io/docs/specs/otlp/>. Start at [`read`].

pub mod answer;
pub(crate) mod exponential;
mod fields;
mod logs;
mod message;
mod metrics;
mod requests;
mod sender;
mod spans;
#[cfg(test)]
mod tests;
mod value;
mod walk;

use thiserror::Error;

use crate::increase::Increases;
use crate::lines::{Out, TooMuch, Translated};
use walk::{Leaf, Pieces};

/// What a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metrics.
    Metrics,
}

/// How a request is written, and its answer too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Protocol buffers.
    Protobuf,
    /// JSON as the protocol has it: names in camel case, identities in hex, enums as numbers.
    Json,
}

/// Why nothing of a body is taken.
#[derive(Debug, Error)]
pub enum OtlpError {
    /// It is no message at all.
    #[error("the body is no {0}: it breaks off, or its parts do not fit together")]
    Protobuf(&'static str),
    /// It is no JSON of this message.
    #[error("the body is no {0} in JSON")]
    Json(&'static str, #[source] serde_json::Error),
    /// It becomes too much.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
}

impl Signal {
    /// The name of the request's message.
    pub fn request(self) -> &'static str {
        match self {
            Signal::Traces => "ExportTraceServiceRequest",
            Signal::Logs => "ExportLogsServiceRequest",
            Signal::Metrics => "ExportMetricsServiceRequest",
        }
    }

    /// What its records are called.
    pub fn records(self) -> &'static str {
        match self {
            Signal::Traces => "spans",
            Signal::Logs => "logs",
            Signal::Metrics => "metrics",
        }
    }
}

/// Reads a body. Records that are no good are refused one by one; a body that is none is an error.
pub fn read(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
    increases: &Increases,
    now_us: i64,
) -> Result<Translated, OtlpError> {
    let mut out = Out::default();
    let mut reading = increases.reading();
    let pieces = Pieces::default();
    walk::groups(signal, encoding, body, &pieces, &mut |group| {
        let sender = match sender::Sender::of(&group.resource) {
            Ok(sender) => sender,
            Err(error) => {
                return group.each(&mut |_, _| {
                    out.refused.add(1, &error);
                    Ok(())
                });
            }
        };
        group.each(&mut |scope, leaf: Leaf<'_>| match signal {
            Signal::Traces => spans::span(&sender, scope, leaf, now_us, &mut out),
            Signal::Logs => logs::log(&sender, scope, leaf, now_us, &mut out),
            Signal::Metrics => {
                metrics::metric(&sender, leaf, now_us, &pieces, &mut reading, &mut out)
            }
        })
    })?;
    Ok(out.finish(reading.finish()))
}

/// Nanoseconds since 1970 as microseconds; `None` where the sender does not know.
fn micros(nanos: u64) -> Option<i64> {
    let micros = i64::try_from(nanos / 1_000).unwrap_or(i64::MAX);
    (nanos > 0).then_some(micros)
}
