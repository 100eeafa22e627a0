//! The server: what clients and operators see of a node, and the only place that knows HTTP.
//!
//! A client port speaks gRPC (etcd's services, health, reflection) and plain HTTP; an admin port
//! speaks `quorate.admin.v1`. Connections are spread over threads, each with a runtime of its own,
//! and stay on theirs: a request crosses threads only on its way to the replica and back. A monitor
//! port, where one is asked for, serves health and metrics without TLS.
//!
//! Reading order: `secure`, `connection`, `grpc`, `methods`, `frame`, `handlers`, `convert`,
//! `status`, `rest`, `probes`, `info`, `monitor`. Must not know: Raft, the log, how the state
//! machine stores anything. Caveat: connections are handed out in turn, so a thread with few but
//! busy ones may be the slowest; spreading streams instead would cost a hand-over per request.

mod client_io;
mod connection;
mod context;
mod convert;
mod frame;
mod grpc;
mod handlers;
mod info;
mod methods;
mod monitor;
mod percent;
mod probes;
mod reply;
mod rest;
mod secure;
pub mod status;
mod streaming;
#[cfg(test)]
mod tests;

use crate::metrics::Metrics;
use crate::replica::Handle;
use crate::settings::Settings;
use crate::tls::{self, Port};
pub use context::{
    CONCURRENT_STREAMS_MAX, Config, Context, INFLIGHT_BYTES_MAX, INFLIGHT_REQUESTS_MAX,
    UNSENT_BYTES_MAX,
};
use handlers::admin::AdminService;
use quorate_api::admin::v1::admin_server::AdminServer;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

/// Connections the kernel holds for us before we take them.
const BACKLOG: i32 = 4096;

/// Accepted connections that wait for their thread.
const HANDOVER_MAX: usize = 256;

/// How long answers may take after the server was told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// How long to wait when the process has no file descriptor left for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// After this much silence the kernel asks a client whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);

/// Threads for answers that are long to make (large lists, hashes), per serving thread.
const LONG_ANSWER_THREADS_MAX: usize = 4;

/// Why the server did not start. Nothing is served then.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} for {purpose}: {source}. Choose a free address, or stop what \
         holds it"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Clients, the admin service, or metrics.
        purpose: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A thread or its runtime could not be made.
    #[error("cannot start a server thread: {0}")]
    Thread(io::Error),
}

/// A server that runs.
pub struct Running {
    client_addrs: Vec<SocketAddr>,
    admin_addr: Option<SocketAddr>,
    metrics_addrs: Vec<SocketAddr>,
    stopped: Vec<oneshot::Receiver<()>>,
}

impl Running {
    /// Where clients are served; a port 0 has become the real one.
    #[must_use]
    pub fn client_addrs(&self) -> &[SocketAddr] {
        &self.client_addrs
    }

    /// Where the admin service is served.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    /// Where health and metrics are served in the clear.
    #[must_use]
    pub fn metrics_addrs(&self) -> &[SocketAddr] {
        &self.metrics_addrs
    }

    /// Waits until every thread has stopped, which begins when the token given to [`serve`] is
    /// cancelled: no new connection, answers under way are finished, at most for some seconds.
    pub async fn stopped(self) {
        for stopped in self.stopped {
            // The sender is dropped when its thread ends; nothing is ever sent.
            let _ = stopped.await;
        }
    }
}

/// Listens and serves until `shutdown` is cancelled. A port that `tls` has settings for is never
/// served without.
///
/// # Errors
/// [`ServeError`]; then nothing is served.
pub fn serve(
    config: Config,
    handle: Handle,
    metrics: Arc<Metrics>,
    tls: tls::Ports,
    settings: Arc<Settings>,
    shutdown: &CancellationToken,
) -> Result<Running, ServeError> {
    let clients = listen_all(&config.listen_client, "clients")?;
    let admin = listen_all(config.listen_admin.as_slice(), "the admin service")?.pop();
    let monitors = listen_all(&config.listen_metrics, "metrics")?;
    let (client_addrs, metrics_addrs) = (addresses(&clients)?, addresses(&monitors)?);
    let admin_addr = admin
        .as_ref()
        .map(std::net::TcpListener::local_addr)
        .transpose();
    let admin_addr = admin_addr.map_err(ServeError::Thread)?;

    let threads = config.threads.max(1);
    let context = Arc::new(Context::new(config, handle, metrics, tls, settings));
    let mut workers = Vec::with_capacity(threads);
    let mut stopped = Vec::with_capacity(threads);
    let mut first = Some((clients, admin, monitors));
    // The first thread is made last, because it hands connections to all.
    for number in (0..threads).rev() {
        let runtime = runtime().map_err(ServeError::Thread)?;
        let (hand_over, connections) = mpsc::channel(HANDOVER_MAX);
        workers.push(hand_over);
        let listeners = if number == 0 { first.take() } else { None };
        let acceptor = listeners.map(|(clients, admin, monitors)| Acceptor {
            clients,
            admin,
            monitors,
            workers: std::mem::take(&mut workers),
        });
        let worker = Worker {
            context: Arc::clone(&context),
            connections,
            acceptor,
            shutdown: shutdown.clone(),
        };
        let (ended, ending) = oneshot::channel();
        stopped.push(ending);
        thread::Builder::new()
            .name(format!("server-{number}"))
            .spawn(move || {
                let _ended: oneshot::Sender<()> = ended;
                runtime.block_on(worker.run());
                // Long answers still being made are for nobody any more.
                runtime.shutdown_background();
            })
            .map_err(ServeError::Thread)?;
    }
    Ok(Running {
        client_addrs,
        admin_addr,
        metrics_addrs,
        stopped,
    })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LONG_ANSWER_THREADS_MAX)
        .build()
}

fn addresses(listeners: &[std::net::TcpListener]) -> Result<Vec<SocketAddr>, ServeError> {
    let addresses = listeners.iter().map(std::net::TcpListener::local_addr);
    addresses
        .collect::<Result<_, _>>()
        .map_err(ServeError::Thread)
}

fn listen_all(
    addresses: &[SocketAddr],
    purpose: &'static str,
) -> Result<Vec<std::net::TcpListener>, ServeError> {
    let listen = |&address: &SocketAddr| {
        listen(address).map_err(|source| ServeError::Listen {
            address,
            purpose,
            source,
        })
    };
    addresses.iter().map(listen).collect()
}

/// One listener per address and not one per thread: with a port shared by several listeners the
/// kernel spreads connections by hash, which leaves threads idle when there are few, and a second
/// process on the port would go unnoticed.
fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Takes connections and hands them to the threads in turn.
struct Acceptor {
    clients: Vec<std::net::TcpListener>,
    admin: Option<std::net::TcpListener>,
    monitors: Vec<std::net::TcpListener>,
    workers: Vec<mpsc::Sender<std::net::TcpStream>>,
}

/// One serving thread.
struct Worker {
    context: Arc<Context>,
    connections: mpsc::Receiver<std::net::TcpStream>,
    acceptor: Option<Acceptor>,
    shutdown: CancellationToken,
}

impl Worker {
    async fn run(mut self) {
        let tasks = TaskTracker::new();
        if let Some(acceptor) = self.acceptor.take() {
            let (context, stop) = (Arc::clone(&self.context), self.shutdown.clone());
            tasks.spawn(async move { context.settings.watch(&stop).await });
            for listener in acceptor.clients {
                tasks.spawn(accept(
                    listener,
                    acceptor.workers.clone(),
                    self.shutdown.clone(),
                ));
            }
            for listener in acceptor.monitors {
                let (context, stop) = (Arc::clone(&self.context), self.shutdown.clone());
                tasks.spawn(monitor::serve(context, listener, tasks.clone(), stop));
            }
            if let Some(listener) = acceptor.admin {
                tasks.spawn(admin(
                    Arc::clone(&self.context),
                    listener,
                    self.shutdown.clone(),
                ));
            }
        }
        loop {
            let stream = tokio::select! {
                stream = self.connections.recv() => stream,
                () = self.shutdown.cancelled() => None,
            };
            // No stream: told to stop, or the acceptors have ended.
            let Some(stream) = stream else { break };
            // A connection that cannot be set up is as good as one that was cut.
            if let Ok(stream) = TcpStream::from_std(stream) {
                let (context, stop) = (Arc::clone(&self.context), self.shutdown.clone());
                match self.context.tls.client.clone() {
                    None => tasks.spawn(connection::serve(context, stream, stop)),
                    Some(port) => tasks.spawn(serve_secure(context, port, stream, stop)),
                };
            }
        }
        self.shutdown.cancelled().await;
        tasks.close();
        // What is left after that is cut off with the runtime.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, tasks.wait()).await;
    }
}

async fn accept(
    listener: std::net::TcpListener,
    workers: Vec<mpsc::Sender<std::net::TcpStream>>,
    shutdown: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the client port cannot be served"),
    };
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
    let mut turns = workers.iter().cycle();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let ready = accepted.and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            // A client that vanished without a word must not hold its connection for ever.
            SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
            stream.into_std()
        });
        match (ready, turns.next()) {
            (Ok(stream), Some(worker)) => {
                // Waiting here leaves further connections with the kernel.
                if worker.send(stream).await.is_err() {
                    return;
                }
            }
            (Err(error), _) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Ok(_), None) => return,
        }
    }
}

async fn serve_secure(
    context: Arc<Context>,
    port: Arc<Port>,
    stream: TcpStream,
    stop: CancellationToken,
) {
    let stream = tokio::select! {
        stream = secure::handshake(&port, &context.handshakes, stream) => stream,
        () = stop.cancelled() => None,
    };
    if let Some(stream) = stream {
        connection::serve(context, stream, stop).await;
    }
}

async fn admin(
    context: Arc<Context>,
    listener: std::net::TcpListener,
    shutdown: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the admin port cannot be served"),
    };
    let Some(port) = context.tls.admin.clone() else {
        return serve_admin(context, TcpListenerStream::new(listener), shutdown).await;
    };
    let (ready, accepted) = secure::admin_channel();
    let permits = Arc::clone(&context.handshakes);
    let accepting = secure::admin_connections(listener, port, permits, ready, shutdown.clone());
    let serving = serve_admin(context, ReceiverStream::new(accepted), shutdown);
    tokio::join!(accepting, serving);
}

async fn serve_admin<S>(
    context: Arc<Context>,
    connections: impl Stream<Item = io::Result<S>>,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let service = AdminServer::new(AdminService(context));
    let served = tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(connections, shutdown.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin service ended");
    }
}
