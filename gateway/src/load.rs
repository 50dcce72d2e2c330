//! The body of a request: held whole where it may have to be sent twice or goes in one message, and
//! passed on as it comes otherwise.
//!
//! Bounds: the service's limit for one body, the gateway's budget for all that are held, and the
//! time a client may take for it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::answer::{BodyError, ServiceBody};
use crate::budget::{Budget, Held};
use crate::page::Refusal;

/// The body of a request.
pub(crate) enum Load {
    /// All of it.
    Whole(
        Bytes,
        #[expect(dead_code, reason = "given back when dropped")] Held,
    ),
    /// As it comes; `None` once it was sent.
    Stream(Option<ServiceBody>, Arc<Fate>),
}

/// A body that is passed on as it comes.
struct Flow {
    incoming: Incoming,
    left: usize,
    most: usize,
    within: Duration,
    late: Pin<Box<Sleep>>,
    fate: Arc<Fate>,
}

/// What became of a body that is passed on.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// Why it broke off.
    pub(crate) fault: OnceLock<Refusal>,
    /// Cancelled when no more of it will come.
    pub(crate) is_over: CancellationToken,
}

/// Bounds of one body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The longest.
    pub(crate) bytes_max: usize,
    /// From its beginning to its end where it is held, between two pieces where it is passed on.
    pub(crate) within: Duration,
}

impl Load {
    /// Takes all of a body.
    pub(crate) async fn whole(
        incoming: Incoming,
        bounds: Bounds,
        budget: &Arc<Budget>,
    ) -> Result<Load, Refusal> {
        let reading = read(incoming, bounds.bytes_max, budget);
        match tokio::time::timeout(bounds.within, reading).await {
            Ok(read) => read,
            Err(_) => Err(Refusal::BodyTooSlow),
        }
    }

    /// Passes a body on as it comes.
    pub(crate) fn stream(incoming: Incoming, bounds: Bounds) -> Load {
        let fate = Arc::<Fate>::default();
        let flow = Flow {
            incoming,
            left: bounds.bytes_max,
            most: bounds.bytes_max,
            within: bounds.within,
            late: Box::pin(tokio::time::sleep(bounds.within)),
            fate: Arc::clone(&fate),
        };
        Load::Stream(Some(flow.boxed_unsync()), fate)
    }

    /// Whether it can be sent once more.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self, Load::Whole(..) | Load::Stream(Some(_), _))
    }

    /// The body to send, and what will become of it.
    pub(crate) fn take(&mut self) -> Option<(ServiceBody, Arc<Fate>)> {
        match self {
            Load::Whole(bytes, _) => {
                let fate = Arc::new(Fate::default());
                fate.is_over.cancel();
                let body = Full::new(bytes.clone()).map_err(|never| match never {});
                Some((body.boxed_unsync(), fate))
            }
            Load::Stream(body, fate) => Some((body.take()?, Arc::clone(fate))),
        }
    }

    /// Takes back a body of which nothing was sent.
    pub(crate) fn restore(&mut self, body: ServiceBody) {
        if let Load::Stream(place, _) = self {
            *place = Some(body);
        }
    }
}

async fn read(
    mut incoming: Incoming,
    bytes_max: usize,
    budget: &Arc<Budget>,
) -> Result<Load, Refusal> {
    let hint = incoming.size_hint().lower();
    if hint > bytes_max as u64 {
        return Err(Refusal::TooLarge { most: bytes_max });
    }
    let mut held = budget.hold(0).ok_or(Refusal::Full)?;
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(|_| Refusal::BodyBroken)?.into_data() else {
            continue;
        };
        let so_far = whole.len() + joined.len();
        if so_far + data.len() > bytes_max {
            return Err(Refusal::TooLarge { most: bytes_max });
        }
        if !held.grow(data.len()) {
            return Err(Refusal::Full);
        }
        // Most bodies come in one piece, which need not be copied.
        if so_far == 0 {
            whole = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&data);
        }
    }
    let bytes = match joined.is_empty() {
        true => whole,
        false => joined.freeze(),
    };
    Ok(Load::Whole(bytes, held))
}

impl Flow {
    fn fail(&self, why: Refusal) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // The first reason is the one that counts.
        drop(self.fate.fault.set(why));
        self.fate.is_over.cancel();
        Poll::Ready(Some(Err(BodyError::Request)))
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(ctx) else {
            return match self.late.as_mut().poll(ctx) {
                Poll::Ready(()) => self.fail(Refusal::BodyTooSlow),
                Poll::Pending => Poll::Pending,
            };
        };
        let until = Instant::now() + self.within;
        self.late.as_mut().reset(until);
        match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                match self.left.checked_sub(bytes) {
                    Some(left) => self.left = left,
                    None => return self.fail(Refusal::TooLarge { most: self.most }),
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => self.fail(Refusal::BodyBroken),
            None => {
                self.fate.is_over.cancel();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.fate.is_over.cancel();
    }
}
