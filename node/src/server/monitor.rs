//! The monitor port: health and metrics in the clear, for whoever has no certificate, and nothing
//! else.
//!
//! A kubelet cannot show a certificate, and one that expired must not make a member look dead. So
//! this port has no TLS, and in exchange no way to a key: what it serves is named here.
//! Must not know: gRPC, keys.

use super::connection::http1_with;
use super::context::Context;
use super::reply::Problem;
use super::rest;
use bytes::Bytes;
use http::{Response, request};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections served at once. Who comes later waits with the kernel.
const CONNECTIONS_MAX: usize = 64;

/// Accepts and serves until `shutdown` is cancelled; connections are counted by `tasks`.
pub(super) async fn serve(
    context: Arc<Context>,
    listener: std::net::TcpListener,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the monitor port cannot be served"),
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            Some((permit, listener.accept().await))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Some((permit, Ok((stream, _)))) => {
                let (context, stop) = (Arc::clone(&context), shutdown.clone());
                tasks.spawn(async move {
                    let answer = |head: request::Parts, _| {
                        let context = Arc::clone(&context);
                        async move { answer(&context, &head).await }
                    };
                    http1_with(stream, stop, answer).await;
                    drop(permit);
                });
            }
            Some((_, Err(error))) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(super::ACCEPT_PAUSE).await;
            }
            None => return,
        }
    }
}

async fn answer(context: &Context, head: &request::Parts) -> Response<Bytes> {
    let path = head.uri.path();
    let first = path.split('/').nth(1).unwrap_or_default();
    if matches!(first, "health" | "livez" | "readyz" | "metrics" | "version") {
        return rest::answer(context, head, Ok(Bytes::new())).await;
    }
    Problem::missing(
        format!("there is nothing at {path} on this port"),
        "Known paths: /health, /livez, /readyz, /version, /metrics. Everything else is on the \
         client port.",
    )
    .into_response()
}
