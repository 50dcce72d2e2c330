//! A connection whose other side has to take what is written: one that stops reading is cut off.
//!
//! What cannot be written because the system's buffer is full waits; if none of it leaves for too
//! long, the write fails, and with it the connection. Who reads slowly is served for as long as it
//! takes, and a connection on which nothing is to be written stays. Start at [`Steady`].

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A stream of bytes, watched.
#[derive(Debug)]
pub struct Steady<S> {
    stream: S,
    /// How long a write may make no progress.
    stall_max: Duration,
    /// Runs while something waits to be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Steady<S> {
    /// Watches a stream on which a write may make no progress for so long.
    pub fn new(stream: S, stall_max: Duration) -> Steady<S> {
        Steady {
            stream,
            stall_max,
            stalled: None,
        }
    }

    /// What became of a write; one that waits too long becomes an error.
    fn watched<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        ctx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall_max = self.stall_max;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_max)));
        stalled.as_mut().poll(ctx).map(|()| {
            let why = format!("the other side took nothing for {stall_max:?}");
            Err(io::Error::new(ErrorKind::TimedOut, why))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Steady<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(ctx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Steady<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(ctx, bytes);
        self.watched(written, ctx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(ctx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(ctx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        ctx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(ctx, slices);
        self.watched(written, ctx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_stops_reading_is_cut_off_and_who_reads_is_not() {
        let (server, mut client) = tokio::io::duplex(4);
        let mut server = Steady::new(server, Duration::from_secs(60));
        let mut read = [0; 12];
        let (written, taken) = tokio::join!(
            server.write_all(b"sixteen bytes it"),
            client.read_exact(&mut read)
        );
        written.expect("what was read made room for the rest");
        taken.expect("it came");
        server.stall_max = Duration::from_millis(1);
        let error = server.write_all(b"more").await.expect_err("nobody reads");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
