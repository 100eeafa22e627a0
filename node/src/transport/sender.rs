//! The outgoing half of a peer: one connection that we dial, and a bounded backlog.
//!
//! The owner of the replica writes straight into the socket when that would not block; whatever
//! does not fit waits in the backlog for the link's own thread, which also dials. A backlog beyond
//! its bound costs the connection, never the replica's time: Raft repeats what matters.
//! With TLS everything goes through the backlog: the link's own thread encrypts.
//! Assumes that a chunk holds whole frames. Must not know: what the frames say.

use super::address::{self, Place};
use super::frame::{FrameError, FrameReader};
use super::hello::{Hello, HelloRefusal, HelloReply, Purpose};
use super::stream::{PeerStream, failure_within};
use super::{Local, Sink};
use crate::metrics::PeerMetrics;
use crate::storage::PeerLife;
use crate::tls::{Port, Side};
use parking_lot::{Condvar, Mutex};
use quorate_api::tls::HandshakeFailure;
use rustix::net::SendFlags;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Bytes that wait for a slow connection.
pub const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Bytes kept for a peer while there is no connection: what was said last, not history.
pub const BACKLOG_DISCONNECTED_BYTES_MAX: usize = 256 << 10;
/// Longest wait for one address to accept: not long enough for a second SYN, for the next attempt
/// is one, and it asks the resolver again where the peer is now.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time to be answered.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time a blocking write may take before the connection is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Unacknowledged for so long, a connection is given up by the kernel.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait before the second attempt; doubles up to the maximum.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_millis(500);

struct State {
    urls: Vec<String>,
    /// The socket of the live connection.
    stream: Option<Arc<TcpStream>>,
    /// The life of the peer at its other end.
    life: Option<PeerLife>,
    /// Where the peer has called from and in which life, until that has been tried.
    caller: Option<(IpAddr, PeerLife)>,
    /// Bytes must be encrypted, which the link's thread does.
    secure: bool,
    backlog: VecDeque<Vec<u8>>,
    backlog_bytes: usize,
    /// The link's thread is writing: nobody else may.
    writing: bool,
    closed: bool,
}

/// One peer, outgoing.
pub(super) struct Link {
    peer: u64,
    local: Arc<Local>,
    sink: Arc<dyn Sink>,
    counters: PeerMetrics,
    state: Mutex<State>,
    wake: Condvar,
    connected: AtomicBool,
    /// Milliseconds of the process clock when the connection was established.
    since_ms: AtomicU64,
}

/// What became of bytes handed to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Written, or waiting for a live connection.
    Accepted,
    /// There is no connection; the bytes may leave later, or never.
    Disconnected,
}

impl Link {
    pub(super) fn start(
        peer: u64,
        urls: Vec<String>,
        local: Arc<Local>,
        sink: Arc<dyn Sink>,
    ) -> io::Result<Arc<Self>> {
        let state = State {
            urls,
            stream: None,
            life: None,
            caller: None,
            secure: false,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            writing: false,
            closed: false,
        };
        let counters = sink.counters(local.member, peer);
        let link = Arc::new(Self {
            counters,
            peer,
            local,
            sink,
            state: Mutex::new(state),
            wake: Condvar::new(),
            connected: AtomicBool::new(false),
            since_ms: AtomicU64::new(0),
        });
        let thread = Arc::clone(&link);
        std::thread::Builder::new()
            .name(format!("peer-{peer:x}"))
            .spawn(move || thread.run())
            .map(|_| link)
    }

    /// When the live connection was established, ms of the process clock.
    pub(super) fn connected_since_ms(&self) -> Option<u64> {
        self.connected
            .load(Ordering::Acquire)
            .then(|| self.since_ms.load(Ordering::Acquire))
    }

    /// Replaces the addresses; the next dial uses them.
    pub(super) fn set_urls(&self, urls: &[String]) {
        let mut state = self.state.lock();
        if !urls.is_empty() && state.urls != urls {
            state.urls = urls.to_vec();
            self.wake.notify_one();
        }
    }

    /// The peer has called us from `from`, in this life. A connection to an earlier life leads to a
    /// process that is gone, even if the network never says so; and where the peer is now, it
    /// knows before the resolver does.
    pub(super) fn called(&self, from: IpAddr, life: PeerLife) {
        let mut state = self.state.lock();
        if state.stream.is_none() {
            state.caller = Some((from, life));
            self.wake.notify_one();
        } else if state.life != Some(life) {
            state.caller = Some((from, life));
            self.drop_stream(&mut state);
        }
    }

    /// Sends whole frames without ever blocking. `must_connect`: without a connection they are
    /// not kept, so that the caller knows they did not leave.
    pub(super) fn send(&self, frames: Vec<u8>, must_connect: bool) -> Sent {
        let mut state = self.state.lock();
        let Some(stream) = state.stream.clone() else {
            self.counters.sent_failures.inc();
            if !must_connect {
                keep(&mut state, frames);
            }
            return Sent::Disconnected;
        };
        if state.secure || state.writing || !state.backlog.is_empty() {
            if state.backlog_bytes + frames.len() > BACKLOG_BYTES_MAX {
                // The oldest chunk may begin within a frame, so nothing can be left out of the
                // stream. A peer this far behind starts afresh.
                self.counters.sent_failures.inc();
                self.drop_stream(&mut state);
                return Sent::Disconnected;
            }
            state.backlog_bytes += frames.len();
            state.backlog.push_back(frames);
            if !state.writing {
                state.writing = true;
                self.wake.notify_one();
            }
            return Sent::Accepted;
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let written = match rustix::net::send(&*stream, &frames, flags) {
            Ok(written) => written,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(_) => {
                self.counters.sent_failures.inc();
                self.drop_stream(&mut state);
                return Sent::Disconnected;
            }
        };
        self.counters.sent_bytes.inc_by(written as u64);
        if written < frames.len() {
            // The first chunk of the backlog now begins within a frame: the link's thread finishes
            // it before anything else may be written.
            state.backlog_bytes += frames.len() - written;
            state.backlog.push_back(frames[written..].to_vec());
            state.writing = true;
            self.wake.notify_one();
        }
        Sent::Accepted
    }

    /// Ends the link and its thread.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        self.drop_stream(&mut state);
    }

    fn drop_stream(&self, state: &mut State) {
        if let Some(stream) = state.stream.take() {
            // The other side may have closed it already; there is nothing to do about a failure.
            let _ = stream.shutdown(Shutdown::Both);
        }
        // What is left may begin within a frame.
        state.backlog.clear();
        state.backlog_bytes = 0;
        state.writing = false;
        self.connected.store(false, Ordering::Release);
        self.wake.notify_one();
    }

    fn run(&self) {
        let mut backoff = BACKOFF_MIN;
        let mut complained = None;
        while let Some((urls, caller)) = self.target() {
            match self.connect(&urls, caller) {
                Ok((stream, life)) => {
                    tracing::info!(peer = %format_args!("{:x}", self.peer), "connected to peer");
                    backoff = BACKOFF_MIN;
                    complained = None;
                    self.counters.active.set(1);
                    self.serve(&stream, life);
                    self.counters.active.set(0);
                    self.counters.disconnected.inc();
                }
                Err(failure) => {
                    if let ConnectError::Refused(refusal) = failure {
                        self.sink.refused(self.local.member, self.peer, refusal);
                    }
                    if let (ConnectError::Tls(failure), Some(port)) = (&failure, &self.local.tls) {
                        port.count(Side::Dial, failure.reason);
                    }
                    // Once per kind of failure: a peer may be away for days.
                    let text = failure.to_string();
                    if complained.as_ref() != Some(&text) {
                        let peer = format_args!("{:x}", self.peer);
                        tracing::warn!(%peer, ?urls, reason = %text, "cannot connect to peer");
                        complained = Some(text);
                    }
                    let mut state = self.state.lock();
                    if !state.closed && state.caller.is_none() {
                        self.wake.wait_for(&mut state, backoff);
                    }
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// What to dial next; `None` when the link is closed.
    fn target(&self) -> Option<(Vec<String>, Option<IpAddr>)> {
        let mut state = self.state.lock();
        let caller = state.caller.take().map(|(from, _)| from);
        (!state.closed).then(|| (state.urls.clone(), caller))
    }

    fn connect(
        &self,
        urls: &[String],
        caller: Option<IpAddr>,
    ) -> Result<(PeerStream, PeerLife), ConnectError> {
        let stream = dial(urls, caller, self.local.tls.as_deref())?;
        let hello = self.local.hello(self.peer, Purpose::Messages);
        let reply = handshake(&stream, &hello)?;
        if reply.member != self.peer {
            return Err(ConnectError::RefusedHere(HelloRefusal::OtherMember));
        }
        self.sink
            .admit(self.peer, reply.life())
            .map_err(ConnectError::RefusedHere)?;
        stream
            .socket()
            .set_write_timeout(Some(WRITE_TIMEOUT))
            .map_err(ConnectError::Io)?;
        Ok((stream, reply.life()))
    }

    /// Writes the backlog whenever there is one, until the connection is lost.
    fn serve(&self, stream: &PeerStream, life: PeerLife) {
        let mut state = self.state.lock();
        let called_since = state.caller.is_some_and(|(_, called)| called != life);
        if state.closed || called_since {
            // Another life called while we shook hands with this one: dial where it is.
            return;
        }
        state.stream = Some(stream.shared_socket());
        state.life = Some(life);
        state.caller = None;
        state.secure = stream.is_secure();
        self.since_ms.store(self.sink.now_ms(), Ordering::Release);
        self.connected.store(true, Ordering::Release);
        loop {
            if state.backlog.is_empty() {
                state.writing = false;
                if state.stream.is_none() {
                    return;
                }
                self.wake.wait(&mut state);
                continue;
            }
            state.writing = true;
            let mut chunks: Vec<Vec<u8>> = state.backlog.drain(..).collect();
            state.backlog_bytes = 0;
            drop(state);
            let chunks = match &mut chunks[..] {
                [chunk] => std::mem::take(chunk),
                // One piece makes few writes, and few records.
                chunks => chunks.concat(),
            };
            let mut writer = stream;
            let written = writer.write_all(&chunks);
            if written.is_ok() {
                self.counters.sent_bytes.inc_by(chunks.len() as u64);
            } else {
                self.counters.sent_failures.inc();
            }
            state = self.state.lock();
            if written.is_err() || state.stream.is_none() {
                self.drop_stream(&mut state);
                return;
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

/// Keeps whole frames for the next connection; the oldest make room.
fn keep(state: &mut State, frames: Vec<u8>) {
    state.backlog_bytes += frames.len();
    state.backlog.push_back(frames);
    while state.backlog_bytes > BACKLOG_DISCONNECTED_BYTES_MAX {
        let Some(oldest) = state.backlog.pop_front() else {
            return;
        };
        state.backlog_bytes -= oldest.len();
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The network said no.
    #[error("{0}")]
    Io(io::Error),
    /// TLS came to nothing.
    #[error("TLS: {0}")]
    Tls(HandshakeFailure),
    /// The URL and this member disagree about TLS.
    #[error("{0}")]
    Scheme(&'static str),
    /// What answered does not speak our protocol.
    #[error("no Quorate peer answers there: {0}")]
    Protocol(String),
    /// The peer said no.
    #[error("refused by the peer: {0:?}")]
    Refused(HelloRefusal),
    /// We say no to the peer that answered.
    #[error("the peer is refused: {0:?}")]
    RefusedHere(HelloRefusal),
}

impl From<FrameError> for ConnectError {
    /// With TLS 1.3 a caller hears only after the handshake that he was refused.
    fn from(error: FrameError) -> Self {
        match &error {
            FrameError::Io(io) => failure_within(io).map(Self::Tls),
            FrameError::Closed
            | FrameError::ClosedWithin
            | FrameError::Length { .. }
            | FrameError::Checksum { .. } => None,
        }
        .unwrap_or_else(|| Self::Protocol(error.to_string()))
    }
}

/// Dials the first place that answers, and begins TLS where the peer port has it. `caller`: where
/// the peer was seen last, which is tried before the resolver is asked.
pub(super) fn dial(
    urls: &[String],
    caller: Option<IpAddr>,
    tls: Option<&Port>,
) -> Result<PeerStream, ConnectError> {
    let seen = caller.map(|caller| address::places_at(urls, caller));
    for place in seen.unwrap_or_default() {
        if let Ok(stream) = connect(&place, tls) {
            return Ok(stream);
        }
    }
    let places = address::resolve(urls).map_err(ConnectError::Io)?;
    let mut failure = ConnectError::Io(io::ErrorKind::NotFound.into());
    for place in places {
        match connect(&place, tls) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn connect(place: &Place, tls: Option<&Port>) -> Result<PeerStream, ConnectError> {
    // Never plaintext because a URL says so: whoever can change a URL could then listen.
    match (place.secure, tls.is_some()) {
        (true, true) | (false, false) => {}
        (false, true) => {
            return Err(ConnectError::Scheme(
                "its peer URL begins with http://, and this member speaks TLS to its peers only; \
                 give that member an https:// peer URL",
            ));
        }
        (true, false) => {
            return Err(ConnectError::Scheme(
                "its peer URL begins with https://, and this member has no --peer-cert-file; start \
                 it with the TLS flags of peers",
            ));
        }
    }
    let socket =
        TcpStream::connect_timeout(&place.address, CONNECT_TIMEOUT).map_err(ConnectError::Io)?;
    configure(&socket).map_err(ConnectError::Io)?;
    let socket = Arc::new(socket);
    match tls {
        None => Ok(PeerStream::plain(socket)),
        Some(port) => PeerStream::dial(socket, &place.host, port).map_err(ConnectError::Tls),
    }
}

/// Options of every peer socket: no delay, and a dead host is noticed.
pub(super) fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(USER_TIMEOUT)
        .with_interval(USER_TIMEOUT / 4);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// Says hello and waits for the answer.
pub(super) fn handshake(stream: &PeerStream, hello: &Hello) -> Result<HelloReply, ConnectError> {
    let mut bytes = Vec::new();
    hello.put(&mut bytes);
    let socket = stream.socket();
    socket
        .set_read_timeout(Some(HANDSHAKE_TIMEOUT))
        .map_err(ConnectError::Io)?;
    socket
        .set_write_timeout(Some(HANDSHAKE_TIMEOUT))
        .map_err(ConnectError::Io)?;
    let mut writer = stream;
    let said = writer.write_all(&bytes);
    // The reply is the only frame that comes back before we ask for more, so nothing is lost in
    // the reader's buffer. A refusal by TLS may be waiting even when nothing could be said.
    let mut reader = FrameReader::new(stream);
    let (kind, body) = match (reader.next_frame(), said) {
        (Ok(frame), Ok(())) => frame,
        (Err(error), Ok(())) => return Err(error.into()),
        (heard, Err(said)) => {
            let refused = heard.err().map(ConnectError::from);
            return Err(match refused {
                Some(refused @ ConnectError::Tls(_)) => refused,
                _ => ConnectError::Io(said),
            });
        }
    };
    let reply = HelloReply::decode(kind, body)
        .map_err(|error| ConnectError::Protocol(error.to_string()))?;
    match reply.refusal {
        None => Ok(reply),
        Some(refusal) => Err(ConnectError::Refused(refusal)),
    }
}
