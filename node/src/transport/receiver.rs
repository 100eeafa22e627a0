//! The incoming half: accepts connections, checks who calls, and turns frames into messages.
//!
//! One thread per connection, a bounded number of connections. Whatever has arrived is handed on
//! as one batch. A frame that is damaged, malformed or of a stranger closes its connection with
//! one line in the log and does nothing else. Must not know: what the messages mean.

use super::frame::{FRAME_BYTES_MAX, FrameError, FrameReader, HEADER_BYTES};
use super::hello::{HELLO_BYTES_MAX, Hello, HelloRefusal, HelloReply, Purpose};
use super::message::{PeerMessage, put_membership};
use super::sender::{HANDSHAKE_TIMEOUT, configure};
use super::stream::PeerStream;
use super::wire::DecodeError;
use super::{Links, Local, PeerPort, Sink};
use crate::metrics::PeerMetrics;
use crate::tls::{Port, Side};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use quorate_api::tls::HandshakeFailure;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Connections at any time, all peers and purposes together.
pub const CONNECTIONS_MAX: usize = 128;
/// Messages handed on at once; more wait in the socket.
const BATCH_MAX: usize = 1024;
/// Bytes handed on at once, or one frame.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How long a stop tries to wake an accepting thread.
const WAKE_TIMEOUT: Duration = Duration::from_millis(200);
/// A snapshot connection that is silent for so long is given up.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);

/// Who we are, once we are somebody; shared with the acceptor, which runs before.
pub(super) type Who = ArcSwapOption<Local>;

/// Why a connection was closed.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("malformed message: {0}")]
    Decode(#[from] DecodeError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("TLS: {0}")]
    Tls(HandshakeFailure),
    #[error("refused: {0:?}")]
    Refused(HelloRefusal),
    #[error("a message names member {found:x} as its sender, the connection is of {expected:x}")]
    Impostor { found: u64, expected: u64 },
    #[error("a message for member {0:x} arrived here")]
    Misdelivered(u64),
    #[error("the node is stopping")]
    Stopping,
}

struct Shared {
    who: Arc<Who>,
    links: Arc<Links>,
    sink: Arc<dyn Sink>,
    /// `None`: plaintext.
    tls: Option<Arc<Port>>,
    stopping: AtomicBool,
    next: AtomicU64,
    /// Open connections by number, the oldest first.
    open: Mutex<BTreeMap<u64, Open>>,
}

/// An open connection, kept so that it can be closed.
struct Open {
    stream: Arc<TcpStream>,
    /// Who sends messages on it; 0 for nobody.
    peer: u64,
    /// The caller has said who it is, and may stay.
    admitted: bool,
}

/// Listens on the peer addresses.
pub(super) struct Acceptor {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Acceptor {
    pub(super) fn start(
        port: PeerPort,
        (who, links): (Arc<Who>, Arc<Links>),
        sink: Arc<dyn Sink>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            who,
            links,
            sink,
            tls: port.tls,
            stopping: AtomicBool::new(false),
            next: AtomicU64::new(0),
            open: Mutex::new(BTreeMap::new()),
        });
        let mut addresses = Vec::new();
        let mut threads = Vec::new();
        for listener in port.listeners {
            addresses.push(listener.local_addr()?);
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new()
                .name("peer-accept".to_owned())
                .spawn(move || accept(&shared, &listener))?;
            threads.push(thread);
        }
        let threads = Mutex::new(threads);
        Ok(Self {
            shared,
            addresses,
            threads,
        })
    }

    /// Closes the listeners and every connection.
    pub(super) fn stop(&self) {
        if self.shared.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        for open in self.shared.open.lock().values() {
            let _ = open.stream.shutdown(Shutdown::Both);
        }
        for address in &self.addresses {
            // Wakes the accepting thread, which then sees the flag.
            let _ = TcpStream::connect_timeout(&reachable(*address), WAKE_TIMEOUT);
        }
        // Once they have ended, the ports are free.
        for thread in self.threads.lock().drain(..) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }

    /// Closes what `peer` has opened here.
    pub(super) fn disconnect(&self, peer: u64) {
        for open in self.shared.open.lock().values() {
            if open.peer == peer {
                let _ = open.stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An unspecified address is reached through loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer connection");
                // Typically out of descriptors: do not spin.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let stream = Arc::new(stream);
        {
            let mut open = shared.open.lock();
            if open.len() >= CONNECTIONS_MAX && !make_room(&mut open) {
                tracing::warn!(%from, "peer connection refused: {CONNECTIONS_MAX} are open");
                continue;
            }
            let stream = Arc::clone(&stream);
            open.insert(
                number,
                Open {
                    stream,
                    peer: 0,
                    admitted: false,
                },
            );
        }
        let thread = Arc::clone(shared);
        let spawned = std::thread::Builder::new()
            .name("peer-receive".to_owned())
            .spawn(move || {
                if let Err(reason) = serve(&thread, number, &stream) {
                    report(&thread, from, &reason);
                }
                let _ = stream.shutdown(Shutdown::Both);
                thread.open.lock().remove(&number);
            });
        if let Err(error) = spawned {
            tracing::warn!(%error, "cannot serve a peer connection");
            shared.open.lock().remove(&number);
        }
    }
}

fn report(shared: &Shared, from: SocketAddr, reason: &Closed) {
    match (reason, &shared.tls) {
        (Closed::Frame(FrameError::Closed) | Closed::Stopping, _) => {}
        (Closed::Refused(HelloRefusal::NotReady), _) => {
            tracing::debug!(%from, %reason, "peer connection closed");
        }
        (Closed::Tls(failure), Some(port)) => port.failed(Side::Accept, &from, failure),
        _ => tracing::warn!(%from, %reason, "peer connection closed"),
    }
}

/// Closes the oldest connection whose caller has not said who it is; returns whether there was
/// one. Whoever only holds connections open cannot keep a peer out.
fn make_room(open: &mut BTreeMap<u64, Open>) -> bool {
    let stranger = open.iter().find(|(_, open)| !open.admitted);
    let Some(number) = stranger.map(|(number, _)| *number) else {
        return false;
    };
    if let Some(stranger) = open.remove(&number) {
        // Its thread sees the end of the stream.
        let _ = stranger.stream.shutdown(Shutdown::Both);
    }
    true
}

fn serve(shared: &Shared, number: u64, socket: &Arc<TcpStream>) -> Result<(), Closed> {
    configure(socket)?;
    let stream = match &shared.tls {
        None => PeerStream::plain(Arc::clone(socket)),
        Some(port) => PeerStream::accept(Arc::clone(socket), port).map_err(Closed::Tls)?,
    };
    socket.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    socket.set_write_timeout(Some(HANDSHAKE_TIMEOUT))?;
    let mut reader = FrameReader::new(&stream);
    reader.limit(HELLO_BYTES_MAX);
    let (kind, body) = reader.next_frame()?;
    let hello = Hello::decode(kind, body)?;
    let local = shared.who.load_full();
    let refusal = refusal(shared, local.as_deref(), hello.as_ref());
    let mut bytes = Vec::new();
    let life = local.as_ref().map_or(super::NOBODY, |local| local.life);
    let reply = HelloReply {
        refusal,
        member: local.as_ref().map_or(0, |local| local.member),
        directory_id: life.directory_id,
        incarnation: life.incarnation,
        boot_nonce: life.boot_nonce,
        epoch: local.as_ref().map_or(0, |local| local.epoch),
    };
    reply.put(&mut bytes);
    let mut writer = &stream;
    writer.write_all(&bytes)?;
    let (hello, local) = match (refusal, hello, local) {
        (None, Some(hello), Some(local)) => (hello, local),
        (refusal, ..) => return Err(Closed::Refused(refusal.unwrap_or(HelloRefusal::NotReady))),
    };
    reader.limit(FRAME_BYTES_MAX);
    if hello.purpose != Purpose::Query
        && let Some(open) = shared.open.lock().get_mut(&number)
    {
        open.admitted = true;
    }
    match hello.purpose {
        Purpose::Query => {
            let mut bytes = Vec::new();
            let encoded = shared.sink.membership().ok_or(Closed::Stopping)?;
            put_membership(&encoded, &mut bytes);
            writer.write_all(&bytes)?;
            Ok(())
        }
        Purpose::Snapshot => {
            socket.set_read_timeout(Some(SNAPSHOT_TIMEOUT))?;
            socket.set_write_timeout(Some(SNAPSHOT_TIMEOUT))?;
            shared
                .sink
                .receive_snapshot(hello.from, &mut reader, &stream);
            Ok(())
        }
        Purpose::Messages => {
            replace(shared, number, hello.from);
            shared.sink.connected(hello.from, &hello.peer_urls);
            let link = shared.links.lock().get(&hello.from).cloned();
            if let (Some(link), Ok(from)) = (link, socket.peer_addr()) {
                link.called(from.ip(), hello.life());
            }
            socket.set_read_timeout(None)?;
            receive(shared, &local, hello.from, &mut reader)
        }
    }
}

/// A member has one stream of messages to us: a newer one ends the older.
fn replace(shared: &Shared, number: u64, peer: u64) {
    let mut open = shared.open.lock();
    for (other, open) in open.iter_mut() {
        if *other == number {
            open.peer = peer;
        } else if open.peer == peer {
            let _ = open.stream.shutdown(Shutdown::Both);
        }
    }
}

fn refusal(shared: &Shared, local: Option<&Local>, hello: Option<&Hello>) -> Option<HelloRefusal> {
    let Some(hello) = hello else {
        return Some(HelloRefusal::Version);
    };
    if shared.stopping.load(Ordering::Acquire) {
        return Some(HelloRefusal::NotReady);
    }
    let Some(local) = local else {
        return Some(HelloRefusal::NotReady);
    };
    if hello.purpose == Purpose::Query {
        return None;
    }
    if hello.cluster_uuid != local.cluster_uuid {
        return Some(HelloRefusal::OtherCluster);
    }
    if hello.to != local.member || hello.from == local.member || hello.from == 0 {
        return Some(HelloRefusal::OtherMember);
    }
    if hello.epoch != local.epoch {
        return Some(HelloRefusal::OtherEpoch);
    }
    shared.sink.admit(hello.from, hello.life()).err()
}

fn receive(
    shared: &Shared,
    local: &Local,
    from: u64,
    reader: &mut FrameReader<&PeerStream>,
) -> Result<(), Closed> {
    let counters = shared.sink.counters(local.member, from);
    let ended = receive_batches(shared, local, from, reader, &counters);
    if !matches!(
        ended,
        Err(Closed::Frame(FrameError::Closed) | Closed::Stopping)
    ) {
        counters.received_failures.inc();
    }
    ended
}

fn receive_batches(
    shared: &Shared,
    local: &Local,
    from: u64,
    reader: &mut FrameReader<&PeerStream>,
    counters: &PeerMetrics,
) -> Result<(), Closed> {
    loop {
        let mut batch = Vec::new();
        let mut bytes = 0;
        loop {
            let (kind, body) = reader.next_frame()?;
            bytes += HEADER_BYTES + 1 + body.len();
            let message = PeerMessage::decode(kind, body)?;
            if let PeerMessage::Raft(envelope) = &message {
                if envelope.from.0 != from {
                    return Err(Closed::Impostor {
                        found: envelope.from.0,
                        expected: from,
                    });
                }
                if envelope.to.0 != local.member {
                    return Err(Closed::Misdelivered(envelope.to.0));
                }
            }
            batch.push(message);
            if batch.len() >= BATCH_MAX || bytes >= BATCH_BYTES_MAX || !reader.has_frame() {
                break;
            }
        }
        if shared.stopping.load(Ordering::Acquire) {
            return Err(Closed::Stopping);
        }
        counters.received_bytes.inc_by(bytes as u64);
        shared.sink.deliver(from, batch, bytes);
    }
}
