//! Reads a request's body with bounds: on its bytes as sent, its bytes unpacked, its time, and on
//! what all bodies together hold.
//!
//! A small body can unpack to gigabytes, and five thousand slow clients can each send a little. So
//! every byte kept is taken from one [`Budget`], and a body over a bound is refused while it is
//! read, not after. Start at [`read`].

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use futures::StreamExt;

use super::error::ApiError;

/// A body as sent.
pub(crate) const ENCODED_BYTES_MAX: usize = 10 << 20;
/// A body unpacked.
pub(crate) const DECODED_BYTES_MAX: usize = 64 << 20;
/// All bodies being read at one moment: three of the largest unpacked, or a hundred usual ones.
pub(crate) const BUDGET_BYTES: usize = 192 << 20;
/// How long a client may take to send its body.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// A zstd frame may ask its reader for so much memory: 2^23 bytes, what the format advises to bear.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Unpacked bytes are taken from the budget in pieces of this size.
const DECODE_STEP: usize = 256 << 10;

/// What all bodies together may hold.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
}

/// A share of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    held: usize,
}

impl Budget {
    pub(crate) fn new(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget {
            left: AtomicUsize::new(bytes),
        })
    }

    pub(crate) fn share(self: &Arc<Budget>) -> Share {
        Share {
            budget: Arc::clone(self),
            held: 0,
        }
    }
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.budget
            .left
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
                left.checked_sub(bytes)
            })
            .map_err(|_| {
                ApiError::busy(
                    "too many request bodies are being read at this moment; try again",
                    Duration::from_secs(1),
                )
            })?;
        self.held += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.held, Ordering::AcqRel);
    }
}

/// A body that was read whole, with the share of the budget it holds.
#[derive(Debug)]
pub(crate) struct ReadBody {
    pub(crate) bytes: Bytes,
    share: Share,
}

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl ReadBody {
    /// Takes so many bytes more from the budget, for what the body becomes.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.share.grow(bytes)
    }

    /// Unpacks the body; one that is not packed stays as it is.
    pub(crate) async fn unpack(
        self,
        coding: Coding,
        bytes_max: usize,
    ) -> Result<ReadBody, ApiError> {
        if coding == Coding::Identity {
            return Ok(self);
        }
        let unpacking = tokio::task::spawn_blocking(move || {
            let mut share = self.share.budget.share();
            let encoded = &*self.bytes;
            let decoded = match coding {
                Coding::Zstd => zstd_reader(encoded)
                    .and_then(|reader| unpack(reader, "zstd", bytes_max, &mut share)),
                Coding::Gzip | Coding::Identity => unpack(
                    flate2::bufread::MultiGzDecoder::new(encoded),
                    "gzip",
                    bytes_max,
                    &mut share,
                ),
            };
            decoded.map(|bytes| ReadBody {
                bytes: Bytes::from(bytes),
                share,
            })
        });
        unpacking.await.map_err(|error| {
            ApiError::internal(format!("cannot unpack the request body: {error}"))
        })?
    }
}

/// Reads and unpacks a body.
pub(crate) async fn read(
    budget: &Arc<Budget>,
    headers: &HeaderMap,
    body: Body,
) -> Result<ReadBody, ApiError> {
    let coding = coding(headers)?;
    let read = read_encoded(budget, headers, body).await?;
    read.unpack(coding, DECODED_BYTES_MAX).await
}

/// Reads a body as it was sent.
pub(crate) async fn read_encoded(
    budget: &Arc<Budget>,
    headers: &HeaderMap,
    body: Body,
) -> Result<ReadBody, ApiError> {
    if content_length(headers).is_some_and(|length| length > ENCODED_BYTES_MAX) {
        return Err(too_long_encoded());
    }
    let mut share = budget.share();
    let encoded = tokio::time::timeout(READ_DEADLINE, collect(body, &mut share))
        .await
        .map_err(|_| {
            ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "SER-HTTP-006",
                "the request body did not arrive within 30 s",
            )
        })??;
    Ok(ReadBody {
        bytes: Bytes::from(encoded),
        share,
    })
}

async fn collect(body: Body, share: &mut Share) -> Result<Vec<u8>, ApiError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece
            .map_err(|error| ApiError::bad(format!("cannot read the request body: {error}")))?;
        if bytes.len() + piece.len() > ENCODED_BYTES_MAX {
            return Err(too_long_encoded());
        }
        share.grow(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn zstd_reader(encoded: &[u8]) -> Result<impl Read + '_, ApiError> {
    let failed = |error| ApiError::internal(format!("cannot set up a zstd reader: {error}"));
    let mut reader = zstd::stream::read::Decoder::with_buffer(encoded).map_err(failed)?;
    reader.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(failed)?;
    Ok(reader)
}

fn unpack(
    mut reader: impl Read,
    name: &str,
    bytes_max: usize,
    share: &mut Share,
) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    loop {
        let before = bytes.len();
        share.grow(DECODE_STEP)?;
        reader
            .by_ref()
            .take(DECODE_STEP as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| ApiError::bad(format!("the request body is not {name}: {error}")))?;
        if bytes.len() == before {
            return Ok(bytes);
        }
        if bytes.len() > bytes_max {
            return Err(ApiError::too_large(format!(
                "the request body unpacks to more than {} MiB; send it in parts",
                bytes_max >> 20
            )));
        }
    }
}

/// How a body says that it is packed.
pub(crate) fn coding(headers: &HeaderMap) -> Result<Coding, ApiError> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(Coding::Identity);
    };
    match value.to_str().map(str::trim) {
        Ok("identity" | "") => Ok(Coding::Identity),
        Ok("gzip" | "x-gzip") => Ok(Coding::Gzip),
        Ok("zstd") => Ok(Coding::Zstd),
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "SER-HTTP-007",
            "content-encoding must be gzip, zstd or identity",
        )),
    }
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn too_long_encoded() -> ApiError {
    ApiError::too_large(format!(
        "the request body is longer than {} MiB; send it in parts, or packed with gzip or zstd",
        ENCODED_BYTES_MAX >> 20
    ))
}
