//! The byte stream of a client as the HTTP drivers see it: what was read to find out the protocol
//! is read again, and small writes leave together.
//!
//! An HTTP/2 driver that may write several slices at once sends every answer above 256 bytes by a
//! system call of its own; given a plain buffer it copies up to a kilobyte and lets many answers
//! share one. What it still writes in pieces (the head of a larger frame, its rest) is put together
//! here. Must not know: HTTP.

use bytes::{Buf, Bytes};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes put together before a write, at most; larger pieces go as they are.
const GATHER_BYTES_MAX: usize = 32 << 10;
/// Memory that a silent connection keeps for this.
const KEPT_BYTES_MAX: usize = 4 << 10;

/// A client's byte stream.
pub(super) struct ClientIo<S> {
    read: Bytes,
    /// Taken from the driver and not written yet; `poll_flush` writes it.
    unsent: Vec<u8>,
    /// How much of `unsent` has been written.
    sent: usize,
    inner: S,
}

impl<S> ClientIo<S> {
    /// Reads `read` first, then from `inner`.
    pub(super) fn new(read: Bytes, inner: S) -> Self {
        Self {
            read,
            unsent: Vec::new(),
            sent: 0,
            inner,
        }
    }
}

impl<S: AsyncWrite + Unpin> ClientIo<S> {
    fn poll_unsent(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let rest = &self.unsent[self.sent..];
            let written = ready!(Pin::new(&mut self.inner).poll_write(task, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.sent = 0;
        self.unsent.clear();
        self.unsent.shrink_to(KEPT_BYTES_MAX);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.inner).poll_read(task, buffer);
        }
        let len = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..len]);
        self.read.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.unsent.len() + bytes.len() <= GATHER_BYTES_MAX {
            self.unsent.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_unsent(task))?;
        Pin::new(&mut self.inner).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(task))?;
        Pin::new(&mut self.inner).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(task))?;
        Pin::new(&mut self.inner).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_read_while_looking_are_read_again() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"def").await.unwrap();
        drop(client);
        let mut io = ClientIo::new(Bytes::from_static(b"abc"), server);
        let mut text = String::new();
        io.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "abcdef");
    }

    /// Remembers the length of every write.
    #[derive(Default)]
    struct Recorder {
        writes: Vec<usize>,
    }

    impl AsyncWrite for Recorder {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn small_writes_leave_together_and_large_ones_as_they_are() {
        let mut io = ClientIo::new(Bytes::new(), Recorder::default());
        for _ in 0..10 {
            io.write_all(&[1; 300]).await.unwrap();
        }
        assert!(io.inner.writes.is_empty(), "nothing leaves before a flush");
        io.flush().await.unwrap();
        assert_eq!(io.inner.writes, [3000]);
        io.write_all(&[2; 300]).await.unwrap();
        io.write_all(&[3; GATHER_BYTES_MAX]).await.unwrap();
        io.flush().await.unwrap();
        assert_eq!(io.inner.writes, [3000, 300, GATHER_BYTES_MAX]);
        assert!(io.unsent.capacity() <= KEPT_BYTES_MAX);
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_whatever_the_stream_takes_at_once() {
        let (mut client, server) = tokio::io::duplex(7);
        let mut io = ClientIo::new(Bytes::new(), server);
        let sent: Vec<u8> = (0..200_u8).cycle().take(100_000).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            for piece in sent.chunks(997) {
                io.write_all(piece).await.unwrap();
            }
            io.shutdown().await.unwrap();
        });
        let mut found = Vec::new();
        client.read_to_end(&mut found).await.unwrap();
        writer.await.unwrap();
        assert!(found == expected);
    }
}
