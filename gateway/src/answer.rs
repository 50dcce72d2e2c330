//! An answer on its way to the client: what an attempt at an instance came to, and the body.
//!
//! The body that leaves carries what is told of the request: it is told when the body ends or the
//! client leaves. Streams of events end when the gateway closes, since they never would themselves.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::access::AccessRecord;
use crate::health::Fault;
use crate::page::Refusal;

/// A body of an instance's answer.
pub(crate) type ServiceBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a body breaks off.
#[derive(Debug, Error)]
pub(crate) enum BodyError {
    /// The instance sent nothing for so long.
    #[error("the rest of the answer did not come within {0:?}")]
    TooSlow(Duration),
    /// The instance ended, or the client took too little of the answer.
    #[error("the answer broke off")]
    BrokeOff,
    /// The connection to the instance, or to the client, broke.
    #[error("a connection broke")]
    Connection(#[from] hyper::Error),
    /// The client's body is too large or too slow.
    #[error("the body of the request is too large or comes too slowly")]
    Request,
}

/// What came of a request at one instance.
pub(crate) enum Attempt {
    /// An answer.
    Answer {
        response: Response<ServiceBody>,
        /// Microseconds it waited before it ran, where the instance says so.
        queue_us: Option<u64>,
        /// Which of its patterns the path matched, where it says so.
        pattern: Option<String>,
    },
    /// It did certainly not run.
    NotRun(Fault),
    /// It may have run; the answer is lost.
    Lost(Refusal),
    /// It cannot be sent, here or elsewhere.
    Refused(Refusal),
}

/// The body of an answer as it leaves.
pub(crate) struct Leaving {
    body: ServiceBody,
    access: AccessRecord,
    end: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    fault: Option<BodyError>,
}

impl Leaving {
    /// `end` is when a body that never ends is ended.
    pub(crate) fn new(
        body: ServiceBody,
        mut access: AccessRecord,
        end: Option<WaitForCancellationFutureOwned>,
    ) -> Leaving {
        access.is_over = body.is_end_stream();
        Leaving {
            body,
            access,
            end: end.map(Box::pin),
            fault: None,
        }
    }
}

impl Body for Leaving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        if let Some(end) = &mut self.end
            && end.as_mut().poll(ctx).is_ready()
        {
            self.access.is_over = true;
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(ctx));
        match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.access.bytes += bytes as u64;
                self.access.is_over = self.body.is_end_stream();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(fault)) => {
                self.access.break_off();
                // What came before is sent while we seem to wait; after an error nothing is.
                self.fault = Some(fault);
                ctx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.access.is_over = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
