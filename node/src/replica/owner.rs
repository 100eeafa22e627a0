//! A replica with its thread: how it is started, awaited, stopped and dropped, and why it may end.
//!
//! Must not know: what the thread does in which phase.

use super::genesis::GenesisError;
use super::handle::{Handle, Shared};
use super::ids;
use super::inbox::Inbox;
use super::input::Input;
use super::lifecycle::{Life, idle_status};
use super::sink::PeerSink;
use crate::config::{NodeConfig, REQUEST_BYTES_MAX};
use crate::env::{Clock, Disk, Rng};
use crate::kv;
use crate::metrics::Metrics;
use crate::storage::{self, DataDir, PeersSeen};
use crate::transport::{PeerPort, Transport};
use arc_swap::{ArcSwap, ArcSwapOption};
use quorate_raft::StartError;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::oneshot;

/// Why a node does not run (any more).
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// The data directory refused or failed; nothing was changed when it is a refusal.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// An empty directory could not become a member's.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The state machine cannot be opened.
    #[error("cannot open the state machine: {0}")]
    State(#[from] kv::Fatal),
    /// What was found on disk contradicts itself.
    #[error(
        "the log and the state of this member contradict each other: {0}. The member must not take part; remove it from the cluster and add a new one with an empty directory"
    )]
    Contradiction(StartError),
    /// A single voter with a damaged log has nobody to repair it from.
    #[error(
        "the log of the only voter is damaged ({damage}), and there is no other member to repair it from. The log was left as it is. Restore a backup into an empty directory; `quorate wal inspect` shows what is left"
    )]
    SingleVoterDamaged {
        /// Which files, where, and how.
        damage: String,
    },
    /// A single voter whose state machine is damaged, with a log that no longer has all of it.
    #[error(
        "the history of the only voter is damaged ({damage}), there is no other member to fetch it from, and the log no longer reaches back to its beginning. The history was left as it is. Restore a backup into an empty directory; `quorate wal inspect` shows what is left"
    )]
    SingleVoterWithoutState {
        /// Which file, and how.
        damage: String,
    },
    /// The directory belongs to another member than the flags describe.
    #[error(
        "the data directory belongs to member {found:x}, whose peer URLs are {theirs:?}, but this node is told to be reached at {ours:?}, which are those of member {other:x}: two directories were exchanged. Put them back; nothing was changed"
    )]
    SwappedDirectory {
        /// Whose it is.
        found: u64,
        /// Where that member is reached.
        theirs: Vec<String>,
        /// What this node advertises.
        ours: Vec<String>,
        /// Who is reached there.
        other: u64,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The member had to stop.
    #[error("{0}")]
    Failed(String),
}

impl LifeError {
    /// Whether the data directory is refused (exit code 4).
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_refusal(),
            Self::Genesis(GenesisError::Storage(error)) => error.is_refusal(),
            Self::SwappedDirectory { .. }
            | Self::SingleVoterDamaged { .. }
            | Self::SingleVoterWithoutState { .. }
            | Self::Contradiction(_) => true,
            Self::Genesis(_) | Self::State(_) | Self::Thread(_) | Self::Failed(_) => false,
        }
    }
}

// A request that was taken can be logged, and handed to the leader: neither may fail later.
const _: () = assert!(REQUEST_BYTES_MAX + 4096 <= storage::PAYLOAD_BYTES_MAX);
const _: () = assert!(REQUEST_BYTES_MAX + 4096 <= crate::transport::FRAME_BYTES_MAX);

/// The ways out of the replica.
pub struct Doors {
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Box<dyn Rng>,
}

/// A replica that lives in its own thread.
pub struct Replica {
    handle: Handle,
    ended: oneshot::Receiver<Result<(), LifeError>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Replica {
    /// Opens the data directory, listens for peers, and lives.
    ///
    /// # Errors
    /// [`LifeError`], when the directory is refused or a thread cannot be started. What goes wrong
    /// later is told by [`Replica::ended`].
    pub fn start(
        config: &NodeConfig,
        mut doors: Doors,
        peers: PeerPort,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LifeError> {
        let pid = std::process::id();
        let (dir, _) = DataDir::open(Arc::clone(&doors.disk), &mut *doors.rng, pid)?;
        let is_member = dir.identity().is_some();
        let seen = PeersSeen::open(Arc::clone(&doors.disk), dir.directory_id(), is_member)?;
        let peers_seen = !seen.is_empty();
        let shared = Arc::new(Shared {
            inbox: Inbox::default(),
            status: ArcSwap::from_pointee(idle_status(&dir, config.epoch)),
            reader: ArcSwapOption::empty(),
            boot_nonce: dir.boot_nonce(),
            next_request: AtomicU64::new(ids::first_counter(dir.incarnation()) + 1),
            request_bytes_max: config.max_request_bytes.min(REQUEST_BYTES_MAX),
            clock: Arc::clone(&doors.clock),
        });
        let sink = Arc::new(PeerSink::new(
            Arc::clone(&shared),
            Arc::clone(&metrics),
            seen,
            Arc::clone(&doors.disk),
        ));
        let peer_tls = peers.tls.clone();
        let transport = Transport::start(peers, sink).map_err(LifeError::Thread)?;
        let handle = Handle {
            shared: Arc::clone(&shared),
        };
        let (tell, ended) = oneshot::channel();
        let mut life = Life {
            config: config.clone(),
            doors,
            dir,
            transport: Some(transport),
            peer_tls,
            shared,
            metrics,
            peers_seen,
            opened: None,
        };
        let thread = std::thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || {
                let result = life.live();
                if let Err(error) = &result {
                    tracing::error!(%error, "the replica has stopped");
                }
                life.end();
                // Nobody may be left to hear it.
                let _ = tell.send(result);
            })
            .map_err(LifeError::Thread)?;
        Ok(Self {
            handle,
            ended,
            thread: Some(thread),
        })
    }

    /// Access for everybody else.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until the replica has ended by itself or was stopped.
    ///
    /// # Errors
    /// Why it had to stop.
    pub async fn ended(&mut self) -> Result<(), LifeError> {
        (&mut self.ended).await.unwrap_or_else(|_| {
            Err(LifeError::Failed(
                "the replica's thread has ended without a reason".to_owned(),
            ))
        })
    }

    /// Stops in good order: hands leadership over, finishes what was accepted, syncs.
    pub async fn stop(&self) {
        let (done, told) = oneshot::channel();
        if self
            .handle
            .shared
            .inbox
            .push_always(Input::Stop { done })
            .is_ok()
        {
            // An error means that it has ended before.
            let _ = told.await;
        }
    }
}

impl Drop for Replica {
    /// Ends the thread as a crash would: nothing is handed over, what is durable stays.
    fn drop(&mut self) {
        let killed = Input::Failed("the replica was dropped".to_owned());
        let _ = self.handle.shared.inbox.push_always(killed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}
