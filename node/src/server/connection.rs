//! One client connection: finds out which HTTP it speaks and drives all its requests.
//!
//! All streams of an HTTP/2 connection live in the task of the connection: answers that become
//! ready together leave in one write, and a batch of them costs one wake-up.
//! May assume: the stream is connected and, once there is TLS, decrypted: any byte stream will do.
//! Must not know: what a request means.

use super::client_io::ClientIo;
use super::context::{CONCURRENT_STREAMS_MAX, Context};
use super::{grpc, rest};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response, request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::task::unconstrained;
use tokio_util::sync::CancellationToken;

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client that has not said what it speaks, or not finished its head, after this long is let go.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes in flight towards us, of one stream and of one connection. What is beyond waits at the
/// client; the second bounds what unfinished requests of one connection can hold here.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Size of all headers of one request, bytes.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// Serves one connection until it ends. When `stop` is cancelled, what has begun is finished.
pub(super) async fn serve<S>(context: Arc<Context>, io: S, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _open = Open::new(context.metrics.server.connections.clone());
    let mut io = io;
    // Whoever is gone or silent is let go: there is nobody to tell.
    let found = tokio::select! {
        found = tokio::time::timeout(HEAD_TIMEOUT, sniff(&mut io)) => found,
        () = stop.cancelled() => return,
    };
    if let Ok(Ok((protocol, read))) = found {
        let io = ClientIo::new(read, io);
        match protocol {
            Protocol::Http1 => http1(context, io, stop).await,
            Protocol::Http2 => http2(&context, io, stop).await,
        }
    }
}

/// Counts a connection for as long as its task lives, however that ends.
struct Open(IntGauge);

impl Open {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Reads until the bytes are the preface of HTTP/2 or cannot become it.
async fn sniff(io: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, Bytes)> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    loop {
        let mut buffer = [0; PREFACE.len()];
        let len = io.read(&mut buffer[..PREFACE.len() - read.len()]).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.extend_from_slice(&buffer[..len]);
        if !PREFACE.starts_with(&read) {
            return Ok((Protocol::Http1, read.freeze()));
        }
        if read.len() == PREFACE.len() {
            return Ok((Protocol::Http2, read.freeze()));
        }
    }
}

async fn http2<S>(context: &Context, io: S, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let streams = context
        .config
        .max_concurrent_streams
        .clamp(1, CONCURRENT_STREAMS_MAX);
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_concurrent_streams(streams);
    let handshake = tokio::time::timeout(HEAD_TIMEOUT, builder.handshake::<_, Bytes>(io)).await;
    let Ok(Ok(mut connection)) = handshake else {
        return;
    };
    let mut exchanges = FuturesUnordered::new();
    let mut stopping = pin!(stop.cancelled());
    let mut stopped = false;
    poll_fn(|task| {
        loop {
            if !stopped && stopping.as_mut().poll(task).is_ready() {
                stopped = true;
                connection.graceful_shutdown();
            }
            let mut moved = false;
            loop {
                match connection.poll_accept(task) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        // Exchanges take turns by themselves; tokio's budget is for the socket.
                        exchanges.push(unconstrained(exchange(context, request, respond)));
                        moved = true;
                    }
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            while let Poll::Ready(Some(())) = exchanges.poll_next_unpin(task) {
                moved = true;
            }
            // What the exchanges wrote leaves with the next turn of the connection.
            if !moved {
                return Poll::Pending;
            }
        }
    })
    .await;
}

async fn exchange(
    context: &Context,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, body) = request.into_parts();
    if grpc::is_grpc(&head.headers) {
        return grpc::serve(context, head, body, respond).await;
    }
    let body = collect(body, context.receive_bytes_max()).await;
    let (head, body) = rest::answer(context, &head, body).await.into_parts();
    let empty = body.is_empty();
    // An error means that the client has gone.
    if let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), empty)
        && !empty
    {
        let _ = stream.send_data(body, true);
    }
}

/// A request body in one piece, or why it is not.
async fn collect(mut body: RecvStream, bytes_max: usize) -> Result<Bytes, rest::BodyError> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = poll_fn(|task| body.poll_data(task)).await {
        let chunk = chunk.map_err(|_| rest::BodyError::Broken)?;
        // The window must be given back or the client stalls; it fails only on a dead stream.
        let _ = body.flow_control().release_capacity(chunk.len());
        if whole.len() + chunk.len() > bytes_max {
            return Err(rest::BodyError::TooLarge { bytes_max });
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

async fn http1<S>(context: Arc<Context>, io: S, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = |head: request::Parts, body: Incoming| {
        let context = Arc::clone(&context);
        async move {
            let bytes_max = context.receive_bytes_max();
            let body = match Limited::new(body, bytes_max).collect().await {
                Ok(body) => Ok(body.to_bytes()),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    Err(rest::BodyError::TooLarge { bytes_max })
                }
                Err(_) => Err(rest::BodyError::Broken),
            };
            rest::answer(&context, &head, body).await
        }
    };
    http1_with(io, stop, answer).await;
}

/// Drives a connection of HTTP/1 with these answers until it ends. When `stop` is cancelled, what
/// has begun is finished.
pub(super) async fn http1_with<S, F>(
    io: S,
    stop: CancellationToken,
    answer: impl Fn(request::Parts, Incoming) -> F,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Response<Bytes>>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let answer = answer(head, body);
        async move { Ok::<_, Infallible>(answer.await.map(Full::new)) }
    });
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(100)
            .serve_connection(TokioIo::new(io), service)
    );
    tokio::select! {
        // An error means that the client has gone or spoke nonsense, and hyper has answered.
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn sniffed(pieces: &[&[u8]]) -> io::Result<(Protocol, Bytes)> {
        let (mut client, mut server) = tokio::io::duplex(64);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let writer = tokio::spawn(async move {
            for piece in pieces {
                client.write_all(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let found = sniff(&mut server).await;
        writer.await.unwrap();
        found
    }

    #[tokio::test]
    async fn the_protocol_is_known_from_the_first_bytes_however_they_arrive() {
        let (protocol, read) = sniffed(&[b"P", b"RI * HTTP/2.0\r\n\r\n", b"SM\r\n\r\n"])
            .await
            .unwrap();
        assert_eq!((protocol, &read[..]), (Protocol::Http2, &PREFACE[..]));
        let (protocol, read) = sniffed(&[b"P", b"UT /key/a"]).await.unwrap();
        assert_eq!((protocol, &read[..]), (Protocol::Http1, &b"PUT /key/a"[..]));
        assert!(sniffed(&[b"PRI"]).await.is_err());
    }
}
