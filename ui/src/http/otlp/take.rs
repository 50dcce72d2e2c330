//! Has a body translated, told to the bus, and counted; the same for HTTP and gRPC.

use std::error::Error;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serin_lake::accept::TelemetryLines;
use serin_translate::otlp::{self, Encoding, OtlpError, Signal};
use serin_translate::{Lines, Refused, Translated};
use serin_wire::causes::sentence;

use super::super::App;
use super::super::body::ReadBody;
use super::super::error::ApiError;

/// A body unpacked: four times what the protocol's own collector takes over gRPC.
pub(super) const DECODED_BYTES_MAX: usize = 16 << 20;

/// Returns once the bus has what is good of a body, with what was refused. It goes to its end though the
/// exporter leaves, so that what was told of metrics is what the next body is compared with.
pub(super) async fn take(
    app: &App,
    signal: Signal,
    encoding: Encoding,
    body: ReadBody,
) -> Result<Refused, ApiError> {
    let app = app.clone();
    let taking = tokio::spawn(async move { take_all(&app, signal, encoding, body).await });
    taking
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
}

async fn take_all(
    app: &App,
    signal: Signal,
    encoding: Encoding,
    body: ReadBody,
) -> Result<Refused, ApiError> {
    let _alone = match signal {
        Signal::Metrics => Some(app.otlp.one_of_metrics.lock().await),
        Signal::Traces | Signal::Logs => None,
    };
    let now_us = (app.now_us)();
    let (translated, held) = translate(app, signal, encoding, body, now_us).await?;
    let Translated {
        lines,
        derived,
        mut refused,
        left_out,
        totals,
    } = translated;
    let receipt = app.otlp.door.tell(telemetry(lines)).await?;
    // An exporter that is refused here sends all of it again, and the first part is known then.
    app.otlp.door.tell(telemetry(derived)).await?;
    drop(held);
    app.otlp.increases.keep(totals, now_us);
    for line in &receipt.refused {
        refused.add(1, &line.error);
    }
    let counts = app.otlp.counts(signal);
    counts
        .accepted
        .fetch_add(receipt.accepted, Ordering::Relaxed);
    counts.refused.fetch_add(refused.count, Ordering::Relaxed);
    counts.left_out.fetch_add(left_out, Ordering::Relaxed);
    Ok(refused)
}

/// Translates on a thread that may take its time. What comes out is part of the budget until the
/// body is dropped.
async fn translate(
    app: &App,
    signal: Signal,
    encoding: Encoding,
    mut body: ReadBody,
    now_us: i64,
) -> Result<(Translated, ReadBody), ApiError> {
    let broke = |error: &dyn Error| {
        ApiError::internal(format!("cannot read the {}: {error}", signal.records()))
    };
    let permit = app.otlp.translating.acquire().await;
    let permit = permit.map_err(|error| broke(&error))?;
    let on_thread = app.clone();
    let translating = tokio::task::spawn_blocking(move || {
        let read = otlp::read(
            signal,
            encoding,
            &body.bytes,
            &on_thread.otlp.increases,
            now_us,
        )?;
        let lines = read.lines.iter().chain(&read.derived);
        body.grow(lines.map(|lines| lines.text.len()).sum())?;
        Ok((read, body))
    });
    let translated = translating.await.map_err(|error| broke(&error))?;
    drop(permit);
    translated
}

fn telemetry(lines: Vec<Lines>) -> Vec<TelemetryLines> {
    let lines = lines.into_iter().map(|lines| TelemetryLines {
        subject: lines.subject,
        text: Bytes::from(lines.text),
    });
    lines.collect()
}

impl From<OtlpError> for ApiError {
    fn from(error: OtlpError) -> ApiError {
        let message = sentence(&error);
        match error {
            OtlpError::Protobuf(_) | OtlpError::Json(..) => ApiError::bad(message),
            OtlpError::TooMuch(_) => ApiError::too_large(message),
        }
    }
}
