//! Peers: length-prefixed, checksummed frames over one TCP connection each way, with TLS on both
//! sides where the peer port has certificates.
//!
//! Every connection begins with a hello that names cluster, both members, and which life of its
//! data directory the caller is (W7); strangers, stale copies and removed members are refused
//! before their first message. Nothing here ever blocks the replica.
//! Must not know: Raft's rules, storage, who leads.

mod address;
mod frame;
mod hello;
mod message;
mod raft_codec;
mod receiver;
mod sender;
mod snapshot_message;
mod stream;
mod wire;

pub use address::{authority, is_secure};
pub use frame::{FRAME_BYTES_MAX, FrameError, FrameReader, HEADER_BYTES, put_frame};
pub use hello::{Hello, HelloRefusal, HelloReply, PROTOCOL_VERSION, Purpose};
pub use message::{Call, CallRefusal, ForwardRefusal, PeerMessage};
pub use receiver::CONNECTIONS_MAX;
pub use sender::{BACKLOG_BYTES_MAX, BACKLOG_DISCONNECTED_BYTES_MAX, ConnectError, Sent};
pub use snapshot_message::{SnapshotMessage, WANTED_RANGES_MAX};
pub use stream::PeerStream;
pub use wire::DecodeError;

use crate::metrics::PeerMetrics;
use crate::storage::PeerLife;
use crate::tls::Port;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

/// Who we are among peers; fixed while the process lives.
#[derive(Clone, Debug)]
pub struct Local {
    /// UUID of our cluster.
    pub cluster_uuid: [u8; 16],
    /// Which life of it: members of another one are strangers.
    pub epoch: u64,
    /// This member.
    pub member: u64,
    /// Which life of which data directory this is.
    pub life: PeerLife,
    /// Where peers reach us.
    pub peer_urls: Vec<String>,
    /// TLS in both directions; `None`: plaintext in both.
    pub tls: Option<Arc<Port>>,
}

/// Where peers come in.
pub struct PeerPort {
    /// Bound and listening.
    pub listeners: Vec<TcpListener>,
    /// What callers must go through; `None`: plaintext.
    pub tls: Option<Arc<Port>>,
}

impl PeerPort {
    /// Without TLS.
    #[must_use]
    pub fn plain(listeners: Vec<TcpListener>) -> Self {
        let tls = None;
        Self { listeners, tls }
    }
}

impl Local {
    fn hello(&self, to: u64, purpose: Purpose) -> Hello {
        Hello {
            cluster_uuid: self.cluster_uuid,
            epoch: self.epoch,
            from: self.member,
            to,
            directory_id: self.life.directory_id,
            incarnation: self.life.incarnation,
            boot_nonce: self.life.boot_nonce,
            purpose,
            peer_urls: self.peer_urls.clone(),
        }
    }
}

/// The life of a node that has no identity.
const NOBODY: PeerLife = PeerLife {
    directory_id: [0; 16],
    incarnation: 0,
    boot_nonce: 0,
};

/// Where messages and facts about connections go. Called from transport's threads; must not block.
pub trait Sink: Send + Sync {
    /// Messages of one peer, in order, and the bytes they came in. May drop them when it has no
    /// room.
    fn deliver(&self, from: u64, messages: Vec<PeerMessage>, bytes: usize);
    /// What is counted about a peer of member `local`.
    fn counters(&self, local: u64, peer: u64) -> PeerMetrics;
    /// Whether this life of a peer may talk to us; remembers the newest one durably.
    ///
    /// # Errors
    /// Why not.
    fn admit(&self, peer: u64, life: PeerLife) -> Result<(), HelloRefusal>;
    /// A peer refused us, when we were `member`.
    fn refused(&self, member: u64, by: u64, why: HelloRefusal);
    /// A peer has connected and says where it is reached.
    fn connected(&self, peer: u64, peer_urls: &[String]);
    /// The replicated membership, encoded, for a node that asks; `None` while there is none.
    fn membership(&self) -> Option<Vec<u8>>;
    /// A peer sends a snapshot; blocks the connection's own thread until that has ended.
    fn receive_snapshot(
        &self,
        from: u64,
        reader: &mut FrameReader<&PeerStream>,
        writer: &PeerStream,
    );
    /// The process clock, ms.
    fn now_ms(&self) -> u64;
}

/// All peer connections of this node.
pub struct Transport {
    who: Arc<receiver::Who>,
    sink: Arc<dyn Sink>,
    acceptor: receiver::Acceptor,
    links: Arc<Links>,
}

/// Outgoing connections by member; the acceptor tells them who has called.
type Links = Mutex<BTreeMap<u64, Arc<sender::Link>>>;

impl Transport {
    /// Listens; refuses every caller with `NotReady` until [`Transport::identify`].
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(port: PeerPort, sink: Arc<dyn Sink>) -> io::Result<Self> {
        let who = Arc::new(receiver::Who::empty());
        let links = Arc::new(Links::default());
        let known = (Arc::clone(&who), Arc::clone(&links));
        let acceptor = receiver::Acceptor::start(port, known, Arc::clone(&sink))?;
        Ok(Self {
            who,
            sink,
            acceptor,
            links,
        })
    }

    /// From now on we are somebody. `None`: nobody again (removed, stopping).
    pub fn identify(&mut self, local: Option<Local>) {
        if local.is_none() {
            let mut links = self.links.lock();
            links.values().for_each(|link| link.close());
            links.clear();
        }
        self.who.store(local.map(Arc::new));
    }

    /// Makes the set of outgoing links equal to `peers` (member ID to peer URLs; an entry without
    /// URLs keeps those already known).
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn set_peers(&mut self, peers: &BTreeMap<u64, Vec<String>>) -> io::Result<()> {
        let Some(local) = self.who.load_full() else {
            return Ok(());
        };
        let mut links = self.links.lock();
        links.retain(|id, link| {
            let stays = peers.contains_key(id);
            if !stays {
                link.close();
            }
            stays
        });
        for (&id, urls) in peers {
            match links.get(&id) {
                Some(link) => link.set_urls(urls),
                None if id == local.member || urls.is_empty() => {}
                None => {
                    let (local, sink) = (Arc::clone(&local), Arc::clone(&self.sink));
                    let link = sender::Link::start(id, urls.clone(), local, sink)?;
                    links.insert(id, link);
                }
            }
        }
        Ok(())
    }

    /// Sends whole frames to a peer without blocking; see [`Sent`].
    pub fn send(&self, to: u64, frames: Vec<u8>, must_connect: bool) -> Sent {
        let link = self.links.lock().get(&to).cloned();
        match link {
            Some(link) => link.send(frames, must_connect),
            None => Sent::Disconnected,
        }
    }

    /// When the outgoing connection to `peer` was established, ms of the process clock.
    #[must_use]
    pub fn connected_since_ms(&self, peer: u64) -> Option<u64> {
        let links = self.links.lock();
        links.get(&peer).and_then(|link| link.connected_since_ms())
    }

    /// Closes what a peer has opened here: it was removed.
    pub fn disconnect(&self, peer: u64) {
        self.acceptor.disconnect(peer);
    }

    /// Closes everything; threads end soon after.
    pub fn stop(&mut self) {
        self.identify(None);
        self.acceptor.stop();
    }
}

/// Opens a connection for one snapshot to `peer`.
///
/// # Errors
/// [`ConnectError`].
pub fn connect_snapshot(
    local: &Local,
    peer: u64,
    urls: &[String],
) -> Result<PeerStream, ConnectError> {
    let stream = sender::dial(urls, None, local.tls.as_deref())?;
    let reply = sender::handshake(&stream, &local.hello(peer, Purpose::Snapshot))?;
    if reply.member != peer {
        return Err(ConnectError::RefusedHere(HelloRefusal::OtherMember));
    }
    Ok(stream)
}

/// Asks the node at `urls` for the replicated membership, encoded, and for its epoch.
///
/// # Errors
/// [`ConnectError`].
pub fn query_membership(
    urls: &[String],
    tls: Option<&Arc<Port>>,
) -> Result<(Vec<u8>, u64), ConnectError> {
    let nobody = Local {
        cluster_uuid: [0; 16],
        epoch: 0,
        member: 0,
        life: NOBODY,
        peer_urls: Vec::new(),
        tls: tls.cloned(),
    };
    let stream = sender::dial(urls, None, nobody.tls.as_deref())?;
    let mut bytes = Vec::new();
    nobody.hello(0, Purpose::Query).put(&mut bytes);
    stream
        .socket()
        .set_read_timeout(Some(sender::HANDSHAKE_TIMEOUT))
        .map_err(ConnectError::Io)?;
    io::Write::write_all(&mut &stream, &bytes).map_err(ConnectError::Io)?;
    let mut reader = FrameReader::new(&stream);
    let protocol = |error: String| ConnectError::Protocol(error);
    let (kind, body) = reader.next_frame()?;
    let reply = HelloReply::decode(kind, body).map_err(|error| protocol(error.to_string()))?;
    if let Some(refusal) = reply.refusal {
        return Err(ConnectError::Refused(refusal));
    }
    match reader.next_frame()? {
        (message::kind::MEMBERSHIP, body) => Ok((body.to_vec(), reply.epoch)),
        (other, _) => Err(protocol(format!("frame {other} instead of the membership"))),
    }
}

#[cfg(test)]
mod tests;
