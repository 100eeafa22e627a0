//! The life of a node: unjoined, joined, removed, stopped; and the thread that lives it.
//!
//! One thread owns the replica through all phases. A node never decides by itself to form a
//! cluster: an empty directory waits for `Bootstrap` or `Join`, or follows a static list that
//! somebody has written into its flags. A removed member stays removed.
//! Must not know: HTTP, gRPC.

use super::core::{Core, CoreConfig};
use super::disk::DiskThread;
use super::genesis::{self, GenesisError, NewMember, WAL_DIR};
use super::handle::Shared;
use super::input::{AdminCall, Input};
use super::owner::{Doors, LifeError};
use super::recover::is_fenced;
use super::repair;
use super::shell::{Ended, History, Shell};
use super::snapshots;
use super::timed::TimedDisk;
use super::types::{AdminError, MembershipView, Phase, ReplicaStatus, RequestError, Role};
use crate::config::{InitialState, NodeConfig, Start};
use crate::env::Disk;
use crate::kv;
use crate::metrics::Metrics;
use crate::storage::revision_log::{Installed, Options};
use crate::storage::{DataDir, Identity, PeerLife, Recovered, Verdict, Wal, WalOptions};
use crate::tls;
use crate::transport::{self, Local, Transport};
use quorate_raft::{Config, LogIndex, MemberId, Node};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of applied commands kept in memory for followers that lag.
const CATCHUP_BYTES_MAX: usize = 64 << 20;
/// Payload bytes of one append.
const APPEND_BYTES_MAX: usize = 1 << 20;
/// Appends in flight to one peer.
const INFLIGHT_APPENDS_MAX: usize = 256;
/// Payload bytes in flight to one peer.
const INFLIGHT_BYTES_MAX: usize = 16 << 20;
/// Payload bytes a leader holds above its commit index.
const UNCOMMITTED_BYTES_MAX: usize = 64 << 20;
/// Reads waiting for their floor in the core; each stands for a whole round.
const CORE_READS_MAX: usize = 1024;
/// Ticks in a heartbeat interval: finer than etcd's, so that election timeouts differ by more.
pub(super) const TICKS_PER_HEARTBEAT: u64 = 2;
/// Wait between two attempts to find a running cluster.
const FIND_CLUSTER_WAIT: Duration = Duration::from_millis(500);
/// How long a node without a cluster sleeps before it looks at its inbox again.
const IDLE_WAIT: Duration = Duration::from_secs(1);

pub(super) fn idle_status(dir: &DataDir, epoch_told: u64) -> ReplicaStatus {
    let identity = dir.identity();
    ReplicaStatus {
        phase: match identity {
            None => Phase::Unjoined,
            Some(identity) if identity.removed => Phase::Removed,
            Some(identity) if identity.stale => Phase::Stale,
            Some(identity) if is_fenced(&identity, epoch_told) => Phase::Fenced,
            Some(_) => Phase::Joined,
        },
        cluster_id: identity.map_or(0, |identity| identity.cluster_id),
        cluster_uuid: identity.map(|identity| identity.cluster_uuid),
        member_id: identity.map_or(0, |identity| identity.member_id.0),
        directory_id: dir.directory_id(),
        incarnation: dir.incarnation(),
        epoch: identity.map_or(0, |identity| identity.epoch),
        term: 0,
        leader: 0,
        role: Role::Follower,
        commit: 0,
        applied: 0,
        durable: 0,
        last: 0,
        last_term: 0,
        membership_index: 0,
        membership_settled: false,
        members: Arc::from([]),
        peers: Vec::new(),
    }
}

/// What the owning thread holds through all phases.
pub(super) struct Life {
    pub(super) config: NodeConfig,
    pub(super) doors: Doors,
    pub(super) dir: DataDir,
    pub(super) transport: Option<Transport>,
    /// TLS of the peer port.
    pub(super) peer_tls: Option<Arc<tls::Port>>,
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Arc<Metrics>,
    /// Whether the directory has ever seen a peer.
    pub(super) peers_seen: bool,
    /// The log of a member that was founded in this start.
    pub(super) opened: Option<(Wal, Recovered)>,
}

/// What ended a phase without a cluster.
pub(super) enum Idle {
    Stopped,
    Founded,
}

impl Life {
    pub(super) fn live(&mut self) -> Result<(), LifeError> {
        loop {
            let status = idle_status(&self.dir, self.config.epoch);
            self.shared.status.store(Arc::new(status));
            let idle = match self.dir.identity() {
                None => match self.config.start.clone() {
                    Start::Managed => self.wait(&RequestError::Unjoined)?,
                    Start::Static {
                        initial_cluster,
                        state,
                        token,
                    } => match state {
                        InitialState::New => {
                            let (name, urls) =
                                (&self.config.name, &self.config.advertise_peer_urls);
                            let new =
                                genesis::from_static_list(name, urls, &initial_cluster, &token)?;
                            self.found(&new)?;
                            Idle::Founded
                        }
                        InitialState::Existing => {
                            let urls = initial_cluster.into_iter().map(|member| member.peer_url);
                            self.find_cluster(&urls.collect::<Vec<_>>())?
                        }
                    },
                },
                Some(identity) if identity.removed => self.wait(&RequestError::Removed)?,
                Some(identity) if identity.stale => self.stay_out(identity)?,
                Some(identity) if is_fenced(&identity, self.config.epoch) => {
                    self.stay_fenced(identity)?
                }
                Some(identity) => match self.run_member(identity)? {
                    Ended::Stopped => return Ok(()),
                    Ended::Removed => {
                        tracing::warn!("this member was removed from its cluster and stays out");
                        self.dir.mark_removed()?;
                        continue;
                    }
                    Ended::Stale => {
                        self.dir.mark_stale()?;
                        continue;
                    }
                    Ended::Refused(error) => return Err(*error),
                    Ended::Failed(reason) => return Err(LifeError::Failed(reason)),
                },
            };
            match idle {
                Idle::Stopped => return Ok(()),
                Idle::Founded => {}
            }
        }
    }

    /// Refuses whatever comes from now on.
    pub(super) fn end(&mut self) {
        self.shared.reader.store(None);
        if let Some(transport) = &mut self.transport {
            transport.stop();
        }
        let mut status = ReplicaStatus::clone(&self.shared.status.load());
        status.phase = Phase::Stopping;
        self.shared.status.store(Arc::new(status));
        for input in self.shared.inbox.close() {
            refuse(input, &RequestError::Stopped);
        }
    }

    fn found(&mut self, new: &NewMember) -> Result<(), GenesisError> {
        let opened = genesis::found(&self.doors.disk, &mut self.dir, new)?;
        self.opened = Some(opened);
        tracing::info!(
            member = %format_args!("{:x}", new.member_id),
            cluster = %format_args!("{:x}", new.cluster.id),
            founds_cluster = new.first_entry.is_some(),
            "this directory is a member's now"
        );
        Ok(())
    }

    /// Answers admin calls until one of them gives this node an identity.
    pub(super) fn wait(&mut self, refusal: &RequestError) -> Result<Idle, LifeError> {
        let mut batch = Vec::new();
        loop {
            self.shared.inbox.wait_and_drain(&mut batch, IDLE_WAIT);
            for input in batch.drain(..) {
                match input {
                    Input::Stop { done } => {
                        let _ = done.send(());
                        return Ok(Idle::Stopped);
                    }
                    Input::Failed(reason) => return Err(LifeError::Failed(reason)),
                    Input::Admin(AdminCall::Bootstrap { bootstrap, reply })
                        if self.dir.identity().is_none() =>
                    {
                        let urls = match bootstrap.peer_urls.as_slice() {
                            [] => &self.config.advertise_peer_urls,
                            urls => urls,
                        };
                        let (uuid, epoch) = (bootstrap.cluster_uuid, self.config.epoch);
                        let new = genesis::bootstrap(uuid, epoch, bootstrap.member_id, urls);
                        let result = self.become_member(&new);
                        let founded = result.is_ok();
                        let _ = reply.send(result);
                        if founded {
                            return Ok(Idle::Founded);
                        }
                    }
                    Input::Admin(AdminCall::Join { join, reply })
                        if self.dir.identity().is_none() || join.displaces.is_some() =>
                    {
                        let result = self.join(&join);
                        let founded = result.is_ok();
                        let _ = reply.send(result);
                        if founded {
                            return Ok(Idle::Founded);
                        }
                    }
                    Input::Admin(AdminCall::Recover { recover, reply })
                        if matches!(refusal, RequestError::Fenced { .. }) =>
                    {
                        if let Err(refused) = self.check_recovery(recover) {
                            let _ = reply.send(Err(refused));
                            continue;
                        }
                        self.begin_epoch(recover.epoch)?;
                        let _ = reply.send(Ok(()));
                        return Ok(Idle::Founded);
                    }
                    Input::Admin(AdminCall::Membership { reply }) => {
                        let _ = reply.send(Ok(self.empty_view()));
                    }
                    other => refuse(other, refusal),
                }
            }
        }
    }

    /// A peer has refused this directory (W7, C12): it may have voted or acknowledged what it has
    /// forgotten, so nothing of it reaches a peer again. The process stays up and says so.
    fn stay_out(&mut self, identity: Identity) -> Result<Idle, LifeError> {
        tracing::error!(
            member = %identity.member_id,
            start = identity.incarnation,
            "this data directory is refused: the other members know a later start of it, or \
             another directory of this member, so it is an older copy or a new one under an old \
             ID and never takes part again. Remove this member from the cluster and add a new one; \
             start that with an empty data directory and --initial-cluster-state=existing"
        );
        self.wait(&RequestError::Stale)
    }

    fn empty_view(&self) -> MembershipView {
        let members = Arc::from([]);
        MembershipView {
            index: 0,
            term: 0,
            leader: 0,
            commit: 0,
            members,
            peers: Vec::new(),
        }
    }

    pub(super) fn become_member(&mut self, new: &NewMember) -> Result<(), AdminError> {
        if new.member_id == 0 || new.cluster.uuid == [0; 16] {
            let text = "member ID 0 and the zero UUID name nobody; choose random ones";
            return Err(AdminError::Invalid(text.to_owned()));
        }
        let urls = &self.config.advertise_peer_urls;
        if let Some(bad) = urls.iter().find(|url| transport::authority(url).is_err()) {
            return Err(AdminError::InvalidPeerUrls { url: bad.clone() });
        }
        self.found(new)
            .map_err(|error| AdminError::Invalid(error.to_string()))
    }

    /// etcd's `--initial-cluster-state existing`: asks the listed members for the membership and
    /// takes the identity that was added with our peer URLs.
    fn find_cluster(&mut self, urls: &[String]) -> Result<Idle, LifeError> {
        let mut ours = self.config.advertise_peer_urls.clone();
        ours.sort();
        let others: Vec<&String> = urls.iter().filter(|url| !ours.contains(url)).collect();
        let mut complained = false;
        let mut batch = Vec::new();
        loop {
            for url in &others {
                let asked = ask(std::slice::from_ref(url), self.peer_tls.as_ref());
                // Whoever is of an epoch that has ended knows nothing of the members of today.
                let Some((found, epoch)) =
                    asked.ok().filter(|(_, epoch)| *epoch >= self.config.epoch)
                else {
                    continue;
                };
                let us = found.members.values().find(|member| {
                    let mut theirs = member.peer_urls.clone();
                    theirs.sort();
                    theirs == ours
                });
                // Only a member that has started has a name: this directory is another one, and
                // does not know what that member has promised (W7).
                if let Some(us) = us.filter(|us| !us.name.is_empty()) {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::error!(
                            member = %MemberId(us.id),
                            ?ours,
                            "the member with these peer URLs has run before, with a data directory \
                             that is gone; remove it and add a new member: this empty directory \
                             never takes its place"
                        );
                    }
                    continue;
                }
                if let Some(us) = us {
                    let new = NewMember {
                        cluster: found.cluster,
                        member_id: us.id,
                        epoch,
                        first_entry: None,
                    };
                    self.found(&new)?;
                    return Ok(Idle::Founded);
                }
            }
            if !complained {
                complained = true;
                tracing::warn!(
                    asked = ?others,
                    ?ours,
                    "no running member knows these peer URLs yet; add this member first"
                );
            }
            self.shared
                .inbox
                .wait_and_drain(&mut batch, FIND_CLUSTER_WAIT);
            for input in batch.drain(..) {
                match input {
                    Input::Stop { done } => {
                        let _ = done.send(());
                        return Ok(Idle::Stopped);
                    }
                    Input::Failed(reason) => return Err(LifeError::Failed(reason)),
                    other => refuse(other, &RequestError::Unjoined),
                }
            }
        }
    }

    fn run_member(&mut self, identity: Identity) -> Result<Ended, LifeError> {
        let (mut wal, mut recovered) = match self.opened.take() {
            Some(opened) => opened,
            None => self.open_log(&identity)?,
        };
        if identity.recovering {
            self.complete_epoch(&identity, &mut wal, &mut recovered)?;
        }
        let options = Options {
            identity: history_identity(&identity),
            ..Options::default()
        };
        let (mut store, opened, lost_state) = self.open_history(&identity, options, &recovered)?;
        store.answer_only(self.shared.boot_nonce);
        let ours = &self.config.advertise_peer_urls;
        check_addresses(identity.member_id.0, ours, &store.reader().members())?;
        if let Some(installed) = &opened.installed {
            follow_snapshot(&mut wal, &mut recovered, installed)?;
        }
        let restored = repair::restored(recovered, store.applied(), lost_state);
        let last = restored.entries.last().map(|entry| entry.id.index);
        let log_found = last.unwrap_or(restored.snapshot.last.index);
        let seed = self.doors.rng.next_u64();
        let raft = Node::new(self.raft_config(&identity, seed), restored)
            .map_err(LifeError::Contradiction)?;
        let core = Core::new(self.core_config(&identity), raft, store);
        let Some(mut transport) = self.transport.take() else {
            return Err(LifeError::Failed(
                "a member has run before in this process".to_owned(),
            ));
        };
        transport.identify(Some(self.local(&identity)));
        let (shared, metrics) = (Arc::clone(&self.shared), Arc::clone(&self.metrics));
        let clock = Arc::clone(&shared.clock);
        let disk = DiskThread::start(wal, shared.inbox.clone(), clock, Arc::clone(&metrics))
            .map_err(LifeError::Thread)?;
        let history = History {
            disk: self.history_disk(),
            options,
            local: self.local(&identity),
            log_found,
        };
        let mut shell = Shell::new(core, disk, transport, shared, metrics, history);
        let ended = shell.run();
        self.shared.reader.store(None);
        self.transport = Some(shell.into_transport());
        Ok(ended)
    }

    /// The disk as the history sees it: its syncs are timed.
    pub(super) fn history_disk(&self) -> Arc<dyn Disk> {
        let (disk, clock) = (Arc::clone(&self.doors.disk), Arc::clone(&self.shared.clock));
        let times = self.metrics.storage.history_sync_seconds.clone();
        Arc::new(TimedDisk::new(disk, clock, times))
    }

    /// Opens the log, unless it is damaged and nobody could repair it: that is decided before
    /// anything is changed.
    fn open_log(&self, identity: &Identity) -> Result<(Wal, Recovered), LifeError> {
        let mut options = WalOptions::new(identity.directory_id, identity.incarnation);
        options.was_member = true;
        let examined = Wal::examine(Arc::clone(&self.doors.disk), WAL_DIR, options)?;
        if examined.recovered().verdict == Verdict::Corrupt {
            self.check_repairable(identity, &examined)?;
        }
        Ok(examined.go_on()?)
    }

    fn raft_config(&self, identity: &Identity, seed: u64) -> Config {
        let ticks = TICKS_PER_HEARTBEAT;
        let election = self.config.election_ms * ticks / self.config.heartbeat_ms.max(1);
        Config {
            id: identity.member_id,
            election_ticks: u32::try_from(election).unwrap_or(u32::MAX / 4),
            heartbeat_ticks: u32::try_from(ticks).unwrap_or(1),
            seed,
            append_bytes_max: APPEND_BYTES_MAX,
            inflight_appends_max: INFLIGHT_APPENDS_MAX,
            inflight_bytes_max: INFLIGHT_BYTES_MAX,
            uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
            pending_reads_max: CORE_READS_MAX,
            promote_lag_max: super::PROMOTE_LAG_MAX,
            #[cfg(planted)]
            planted: 0,
        }
    }

    fn core_config(&self, identity: &Identity) -> CoreConfig {
        let entries = self.config.snapshot_catchup_entries;
        CoreConfig {
            boot_nonce: self.shared.boot_nonce,
            cluster_uuid: identity.cluster_uuid,
            cluster_id: identity.cluster_id,
            directory_id: identity.directory_id,
            incarnation: identity.incarnation,
            epoch: identity.epoch,
            name: self.config.name.clone(),
            client_urls: self.config.advertise_client_urls.clone(),
            election_ms: self.config.election_ms,
            tick_ms: (self.config.heartbeat_ms / TICKS_PER_HEARTBEAT).max(1),
            catchup_entries: usize::try_from(entries).unwrap_or(usize::MAX / 2),
            catchup_bytes_max: CATCHUP_BYTES_MAX,
            max_learners: self.config.max_learners,
            strict_reconfig_check: self.config.strict_reconfig_check,
        }
    }

    fn local(&self, identity: &Identity) -> Local {
        Local {
            cluster_uuid: identity.cluster_uuid,
            epoch: identity.epoch,
            member: identity.member_id.0,
            life: PeerLife {
                directory_id: identity.directory_id,
                incarnation: identity.incarnation,
                boot_nonce: self.shared.boot_nonce,
            },
            peer_urls: self.config.advertise_peer_urls.clone(),
            tls: self.peer_tls.clone(),
        }
    }
}

/// Ends an installation that a crash has interrupted between the state and the log: the log begins
/// behind the snapshot, unless it holds the snapshot's last entry (D3).
pub(super) fn follow_snapshot(
    wal: &mut Wal,
    recovered: &mut Recovered,
    installed: &Installed,
) -> Result<(), LifeError> {
    let meta = snapshots::decode_meta(&installed.meta).ok_or_else(|| {
        LifeError::Failed("the installed snapshot has no readable position".to_owned())
    })?;
    let base = recovered
        .base
        .as_ref()
        .map_or(LogIndex(0), |base| base.last.index);
    let held = recovered.entries.iter().any(|entry| entry.id == meta.last);
    if meta.last.index <= base || held {
        return Ok(());
    }
    wal.save_base(&meta)?;
    recovered.entries.clear();
    recovered.base = Some(meta);
    Ok(())
}

/// Mixed into every segment of the revision log: unlike for any other member and start.
fn history_identity(identity: &Identity) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&identity.directory_id[..8]);
    u64::from_le_bytes(first) ^ identity.incarnation.rotate_left(48)
}

/// A directory whose member is reached elsewhere, at a node that is reached where another member
/// is: two directories were exchanged.
pub(super) fn check_addresses(
    id: u64,
    ours: &[String],
    members: &kv::Members,
) -> Result<(), LifeError> {
    let shares = |urls: &[String]| urls.iter().any(|url| ours.contains(url));
    let Some(us) = members.members.get(&id) else {
        return Ok(());
    };
    let other = members
        .members
        .values()
        .find(|other| other.id != id && shares(&other.peer_urls));
    match other {
        Some(other) if !shares(&us.peer_urls) => Err(LifeError::SwappedDirectory {
            found: id,
            theirs: us.peer_urls.clone(),
            ours: ours.to_vec(),
            other: other.id,
        }),
        Some(_) | None => Ok(()),
    }
}

/// Asks a running member for the membership, and for its epoch.
pub(super) fn ask(
    urls: &[String],
    tls: Option<&Arc<tls::Port>>,
) -> Result<(kv::Members, u64), transport::ConnectError> {
    let (bytes, epoch) = transport::query_membership(urls, tls)?;
    kv::Members::decode(&bytes.into())
        .map(|members| (members, epoch))
        .map_err(|error| transport::ConnectError::Protocol(error.to_string()))
}

/// Answers an input that cannot be served in this phase.
fn refuse(input: Input, error: &RequestError) {
    // Whoever asked may have gone away.
    match input {
        Input::Propose { reply, .. } => drop(reply.send(Err(error.clone()))),
        Input::Read { reply } => drop(reply.send(Err(error.clone()))),
        Input::Admin(call) => call.refuse(&AdminError::Request(error.clone())),
        Input::Stop { done } => drop(done.send(())),
        Input::Peer { .. }
        | Input::Inadmissible { .. }
        | Input::PeerConnected { .. }
        | Input::PeerRefused { .. }
        | Input::Persisted(_)
        | Input::SnapshotSent { .. }
        | Input::SnapshotReceived(_)
        | Input::Failed(_) => {}
    }
}
