//! `/healthz`, `/readyz` and `/metrics`, on one plain port.
//!
//! Healthy: the loop goes round. Ready: the API server answered and knows our resource; an operator
//! that waits for the Lease is ready too. Must not know: clusters.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::metrics::Metrics;

/// A loop that has not gone round for this long hangs.
const HUNG: Duration = Duration::from_secs(90);

/// What the pages show.
pub struct Shared {
    /// The families.
    pub metrics: Metrics,
    /// When the loop last went round.
    pub beat: Instant,
    /// Why the operator is not ready; `None` when it is.
    pub waiting_for: Option<String>,
}

/// Shared between the loop and the pages. It is never held while anything is awaited.
pub type Board = Arc<Mutex<Shared>>;

/// Looks at the board, or writes to it.
pub fn on<T>(board: &Board, act: impl FnOnce(&mut Shared) -> T) -> T {
    act(&mut board.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Serves the pages until `stop`.
///
/// # Errors
/// The socket fails.
pub async fn serve(
    listener: TcpListener,
    board: Board,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(board);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop)
        .await
}

/// Binds the address of the pages.
///
/// # Errors
/// It is taken, or not ours; in words.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}; choose another --listen"))
}

async fn healthz(State(board): State<Board>) -> impl IntoResponse {
    match on(&board, |shared| shared.beat.elapsed()) {
        age if age < HUNG => (StatusCode::OK, "ok\n".to_owned()),
        age => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the loop has not gone round for {} s\n", age.as_secs()),
        ),
    }
}

async fn readyz(State(board): State<Board>) -> impl IntoResponse {
    match on(&board, |shared| shared.waiting_for.clone()) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(board): State<Board>) -> impl IntoResponse {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    match on(&board, |shared| shared.metrics.text()) {
        Ok(text) => (StatusCode::OK, kind, text),
        Err(error) => {
            let text = error.to_string().into_bytes();
            (StatusCode::INTERNAL_SERVER_ERROR, kind, text)
        }
    }
}
