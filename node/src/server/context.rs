//! What every request can reach: the replica, the counters, the limits, the admission.
//!
//! Must not know: HTTP, gRPC.

use super::methods::Methods;
use super::secure::HANDSHAKES_MAX;
use super::status::{self, Status};
use crate::config::NodeConfig;
use crate::kv;
use crate::metrics::{Metrics, RequestTimer};
use crate::replica::{Handle, Phase, ReplicaStatus, RequestError, Role};
use crate::settings::Settings;
use crate::tls;
use quorate_api::etcdserverpb as pb;
use quorate_api::limits::REQUEST_OVERHEAD_BYTES;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Client requests under way at once, over all connections. Beyond, requests are refused early
/// with `too many requests`; nothing was done then.
pub const INFLIGHT_REQUESTS_MAX: usize = 32_768;

/// Bytes of the requests under way at once, over all connections.
pub const INFLIGHT_BYTES_MAX: usize = 256 << 20;

/// Bytes of large answers that clients have not taken yet, over all connections. Beyond, further
/// long lists are refused; single keys and writes are not, so that one slow reader of much harms
/// nobody else.
pub const UNSENT_BYTES_MAX: usize = 512 << 20;

/// Concurrent streams of one HTTP/2 connection, however much more the configuration allows.
pub const CONCURRENT_STREAMS_MAX: u32 = 65_536;

/// What the server must be told. Each value has been checked by whoever built it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients are served, HTTP/1 and HTTP/2 alike.
    pub listen_client: Vec<SocketAddr>,
    /// Where the admin service is served; `None` turns it off.
    pub listen_admin: Option<SocketAddr>,
    /// Where health and metrics are served in the clear, beside the client port.
    pub listen_metrics: Vec<SocketAddr>,
    /// Name of this member, for people.
    pub name: String,
    /// Which life of the cluster this node is told to take part in; 0: that of its directory.
    pub epoch: u64,
    /// Largest encoded request, bytes.
    pub max_request_bytes: usize,
    /// Most operations in one branch of a transaction.
    pub max_txn_ops: usize,
    /// Most concurrent HTTP/2 streams of one connection.
    pub max_concurrent_streams: u32,
    /// A peer that was silent for longer counts as unhealthy, ms.
    pub contact_ms_max: u64,
    /// Threads that serve clients, at least one.
    pub threads: usize,
}

impl Config {
    /// The server's part of a node's configuration, with a thread for every core.
    #[must_use]
    pub fn of(node: &NodeConfig) -> Self {
        Self {
            listen_client: node.listen_client.clone(),
            listen_admin: node.listen_admin,
            listen_metrics: node.listen_metrics.clone(),
            name: node.name.clone(),
            epoch: node.epoch,
            max_request_bytes: node.max_request_bytes,
            max_txn_ops: node.max_txn_ops,
            max_concurrent_streams: node.max_concurrent_streams,
            contact_ms_max: 2 * node.election_ms,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// What every request can reach.
pub struct Context {
    /// As given to [`super::serve`].
    pub(super) config: Config,
    /// The replica.
    pub(super) handle: Handle,
    /// What is counted.
    pub(super) metrics: Arc<Metrics>,
    /// Who may still come in.
    pub(super) admission: Admission,
    /// The gRPC methods with their counters.
    pub(super) methods: Methods,
    /// How long requests take.
    pub(super) timers: Timers,
    /// The certificates of all ports.
    pub(super) tls: tls::Ports,
    /// What may change while the node runs.
    pub(super) settings: Arc<Settings>,
    /// TLS handshakes that may begin.
    pub(super) handshakes: Arc<Semaphore>,
}

/// Histograms by kind of request, as etcd names them.
pub(super) struct Timers {
    pub(super) range: RequestTimer,
    pub(super) put: RequestTimer,
    pub(super) delete_range: RequestTimer,
    pub(super) txn: RequestTimer,
    pub(super) readonly_txn: RequestTimer,
    pub(super) compaction: RequestTimer,
}

impl Context {
    pub(super) fn new(
        config: Config,
        handle: Handle,
        metrics: Arc<Metrics>,
        tls: tls::Ports,
        settings: Arc<Settings>,
    ) -> Self {
        let timer = |kind| metrics.server.timer(kind);
        let timers = Timers {
            range: timer("Range"),
            put: timer("Put"),
            delete_range: timer("DeleteRange"),
            txn: timer("Txn"),
            readonly_txn: timer("ReadonlyTxn"),
            compaction: timer("Compaction"),
        };
        let methods = Methods::new(&metrics.server);
        Self {
            config,
            handle,
            metrics,
            admission: Admission::default(),
            methods,
            timers,
            tls,
            settings,
            handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        }
    }

    /// The largest message a client may send, bytes.
    pub(super) fn receive_bytes_max(&self) -> usize {
        self.config.max_request_bytes + REQUEST_OVERHEAD_BYTES
    }

    /// The state to read.
    ///
    /// # Errors
    /// Unavailable, with what to do, while there is none.
    pub(super) fn reader(&self) -> Result<Arc<kv::Reader>, Status> {
        self.handle
            .reader()
            .ok_or_else(|| self.phase_error(&self.handle.status()).into())
    }

    /// The header of an answer about `revision`.
    pub(super) fn header(&self, revision: i64) -> pb::ResponseHeader {
        header(&self.handle.status(), revision)
    }

    /// Refuses what this member cannot serve as it stands.
    ///
    /// # Errors
    /// Unavailable while it belongs to no cluster or has been removed.
    pub(super) fn check_phase(&self, replica: &ReplicaStatus) -> Result<(), Status> {
        match replica.phase {
            Phase::Joined | Phase::Stopping => Ok(()),
            Phase::Unjoined | Phase::Repairing | Phase::Stale | Phase::Fenced | Phase::Removed => {
                Err(self.phase_error(replica).into())
            }
        }
    }

    /// Why a member that stands so serves nothing.
    pub(super) fn phase_error(&self, replica: &ReplicaStatus) -> RequestError {
        match replica.phase {
            Phase::Unjoined => RequestError::Unjoined,
            Phase::Repairing => RequestError::Repairing,
            Phase::Stale => RequestError::Stale,
            Phase::Fenced => RequestError::Fenced {
                epoch: replica.epoch,
                told: self.config.epoch,
            },
            Phase::Removed => RequestError::Removed,
            // A member without a state to read yet: it is still being restored.
            Phase::Joined => RequestError::NoLeader,
            Phase::Stopping => RequestError::Stopped,
        }
    }

    /// Whether this member is a learner, which serves little.
    pub(super) fn is_learner(&self) -> bool {
        self.handle.status().role == Role::Learner
    }
}

/// The header of an answer, from a picture of the replica.
pub(super) fn header(replica: &ReplicaStatus, revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader {
        cluster_id: replica.cluster_id,
        member_id: replica.member_id,
        revision,
        raft_term: replica.term,
    }
}

/// Counts what is under way and refuses the rest.
#[derive(Default)]
pub struct Admission {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    unsent_bytes: AtomicUsize,
}

/// Room for one request; dropping it gives the room back.
pub struct Admitted<'a> {
    admission: &'a Admission,
    bytes: usize,
}

impl Admission {
    /// Takes room for a request of `bytes`.
    ///
    /// # Errors
    /// `too many requests` when there is none; nothing was done.
    pub fn enter(&self, bytes: usize) -> Result<Admitted<'_>, Status> {
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let admitted = Admitted {
            admission: self,
            bytes,
        };
        if requests > INFLIGHT_REQUESTS_MAX || total > INFLIGHT_BYTES_MAX {
            return Err(status::TOO_MANY_REQUESTS);
        }
        Ok(admitted)
    }

    /// Whether another answer may be made that is expected to be large.
    ///
    /// # Errors
    /// `too many requests` while clients have not taken those that were made.
    pub fn enter_large(&self) -> Result<(), Status> {
        if self.unsent_bytes.load(Ordering::Relaxed) > UNSENT_BYTES_MAX {
            return Err(status::TOO_MANY_REQUESTS);
        }
        Ok(())
    }

    /// Counts a large answer until the client has taken it.
    pub fn hold_unsent(&self, bytes: usize) -> Unsent<'_> {
        self.unsent_bytes.fetch_add(bytes, Ordering::Relaxed);
        Unsent {
            admission: self,
            bytes,
        }
    }

    /// Requests under way, and their bytes.
    pub fn inflight(&self) -> (usize, usize) {
        (
            self.requests.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed),
        )
    }
}

/// A large answer on its way; dropping it ends the count.
pub struct Unsent<'a> {
    admission: &'a Admission,
    bytes: usize,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.admission
            .unsent_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.admission.requests.fetch_sub(1, Ordering::Relaxed);
        self.admission
            .bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_room_comes_back() {
        let admission = Admission::default();
        let first = admission.enter(INFLIGHT_BYTES_MAX - 1).unwrap();
        assert_eq!(admission.enter(2).err(), Some(status::TOO_MANY_REQUESTS));
        assert_eq!(admission.inflight(), (1, INFLIGHT_BYTES_MAX - 1));
        drop(first);
        assert_eq!(admission.inflight(), (0, 0));
        let all: Vec<_> = (0..INFLIGHT_REQUESTS_MAX)
            .map(|_| admission.enter(0).unwrap())
            .collect();
        assert_eq!(admission.enter(0).err(), Some(status::TOO_MANY_REQUESTS));
        drop(all);
        assert_eq!(admission.inflight(), (0, 0));
    }

    #[test]
    fn large_answers_wait_for_their_readers_but_small_requests_do_not() {
        let admission = Admission::default();
        let unsent = admission.hold_unsent(UNSENT_BYTES_MAX + 1);
        assert_eq!(admission.enter_large(), Err(status::TOO_MANY_REQUESTS));
        assert!(admission.enter(100).is_ok());
        drop(unsent);
        assert_eq!(admission.enter_large(), Ok(()));
    }
}
