//! TLS in front of a connection: the handshake, its bounds, and what callers without TLS hear.
//!
//! Runs in the task of the connection, never in that of the listener. A caller that says nothing
//! costs a socket for some seconds; one that has begun to speak also holds one of a bounded number
//! of handshakes. Must not know: what is served on the connection.

use crate::tls::{Port, Side};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use quorate_api::tls::reason::explain_io;
use quorate_api::tls::{HandshakeFailure, Reason};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// Longest time from the first byte a caller may send to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes under way at once, all ports together. Each holds some tens of kilobytes.
pub(super) const HANDSHAKES_MAX: usize = 1024;

/// Handshakes under way at once on the admin port, and connections that wait to be served there.
const ADMIN_HANDSHAKES_MAX: usize = 64;

/// How long a refused caller may take to hear why.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(200);

/// What a browser or `curl` is told that speaks plain HTTP.
const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Connection: close\r\nContent-Length: 58\r\n\r\n\
    This port speaks TLS only. Use https:// instead of http://";

/// Shakes hands with whoever has connected; `None` when that came to nothing, which has been
/// counted and logged then.
pub(super) async fn handshake(
    port: &Port,
    permits: &Semaphore,
    stream: TcpStream,
) -> Option<TlsStream<TcpStream>> {
    let other = stream.peer_addr().ok()?;
    let shaken = match timeout(HANDSHAKE_TIMEOUT, shake(port, permits, stream)).await {
        Ok(shaken) => shaken,
        Err(_) => Err(Some(HandshakeFailure::new(
            Reason::Timeout,
            "the caller did not finish the handshake in time",
        ))),
    };
    match shaken {
        Ok(stream) => {
            port.succeeded(Side::Accept);
            Some(stream)
        }
        Err(Some(failure)) => {
            port.failed(Side::Accept, &other, &failure);
            None
        }
        Err(None) => None,
    }
}

/// `Err(None)`: the caller left without a word, as probes of a port do.
async fn shake(
    port: &Port,
    permits: &Semaphore,
    mut stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Option<HandshakeFailure>> {
    let mut first = [0];
    if !matches!(stream.peek(&mut first).await, Ok(1)) {
        return Err(None);
    }
    let _permit = permits.acquire().await.map_err(|_| None)?;
    // No record of TLS begins like the method of a request.
    if first[0].is_ascii_uppercase() {
        let _ = stream.write_all(PLAIN_ANSWER).await;
        say_farewell(stream).await;
        return Err(Some(HandshakeFailure::new(
            Reason::Plaintext,
            "the caller speaks plain HTTP to a port with TLS; it should use https://",
        )));
    }
    let acceptor = TlsAcceptor::from(port.server());
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            say_farewell(stream).await;
            Err(Some(explain_io(&error)))
        }
    }
}

/// Closing with bytes unread would reset the connection, and the caller might lose the alert.
async fn say_farewell(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 4096];
    let drained = async { while matches!(stream.read(&mut rest).await, Ok(1..)) {} };
    // Whoever goes on talking is cut off.
    let _ = timeout(FAREWELL_TIMEOUT, drained).await;
}

/// A connection of the admin port over TLS.
pub(super) struct AdminStream(TlsStream<TcpStream>);

/// Accepts callers of the admin port and hands on those whose handshake succeeded.
pub(super) async fn admin_connections(
    listener: TcpListener,
    port: Arc<Port>,
    permits: Arc<Semaphore>,
    ready: mpsc::Sender<io::Result<AdminStream>>,
    shutdown: CancellationToken,
) {
    let mut pending = FuturesUnordered::new();
    loop {
        let room = pending.len() < ADMIN_HANDSHAKES_MAX;
        tokio::select! {
            accepted = listener.accept(), if room => match accepted {
                Ok((stream, _)) => pending.push(handshake(&port, &permits, stream)),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(super::ACCEPT_PAUSE).await;
                }
            },
            Some(shaken) = pending.next(), if !pending.is_empty() => {
                if let Some(stream) = shaken
                    && ready.send(Ok(AdminStream(stream))).await.is_err()
                {
                    return;
                }
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// A channel of connections from [`admin_connections`].
pub(super) fn admin_channel() -> (
    mpsc::Sender<io::Result<AdminStream>>,
    mpsc::Receiver<io::Result<AdminStream>>,
) {
    mpsc::channel(ADMIN_HANDSHAKES_MAX)
}

impl Connected for AdminStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for AdminStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(task, buffer)
    }
}

impl AsyncWrite for AdminStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use super::PLAIN_ANSWER;

    #[test]
    fn the_plain_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(PLAIN_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{text}"
        );
    }
}
