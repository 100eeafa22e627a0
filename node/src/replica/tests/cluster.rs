//! Members on loopback with directories of their own; killing one drops its shell.

use super::gate::{Gate, GatedDisk};
use super::*;
use crate::config::{InitialMember, InitialState, NodeConfig, Start};
use crate::env::real::{SystemClock, SystemRng};
use crate::kv::Applied;
use crate::metrics::Metrics;
use crate::transport::PeerPort;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often a condition is looked at.
const PACE: Duration = Duration::from_millis(5);

struct Slot {
    dir: PathBuf,
    address: SocketAddr,
    config: NodeConfig,
    replica: Option<Replica>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
}

/// A client that writes.
pub(super) struct Writer {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<Vec<(String, i64)>>,
}

impl Writer {
    /// Writes acknowledged so far.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// Some members, their directories and a runtime to call them from.
pub(super) struct TestCluster {
    slots: Vec<Slot>,
    runtime: Runtime,
    root: TempDir,
}

impl TestCluster {
    /// Nodes with empty directories that wait to be told.
    pub(super) fn managed(len: usize) -> Self {
        Self::with(len, |_| Start::Managed)
    }

    /// One member that leads.
    pub(super) fn bootstrapped() -> Self {
        let cluster = Self::managed(3);
        let bootstrap = Bootstrap {
            cluster_uuid: [7; 16],
            member_id: 1,
            peer_urls: Vec::new(),
        };
        cluster
            .block_on(cluster.handle(0).bootstrap(bootstrap))
            .unwrap();
        cluster.await_leader();
        cluster
    }

    /// A cluster formed from flags.
    pub(super) fn of_static(len: usize) -> Self {
        let cluster = Self::with(len, |urls| Start::Static {
            initial_cluster: urls
                .iter()
                .enumerate()
                .map(|(slot, url)| InitialMember {
                    name: format!("m{slot}"),
                    peer_url: url.clone(),
                })
                .collect(),
            state: InitialState::New,
            token: "test".to_owned(),
        });
        cluster.await_leader();
        cluster
    }

    /// A cluster formed from flags, and one more slot that is not started yet and is told to join.
    pub(super) fn with_late_joiner(len: usize) -> Self {
        let mut cluster = Self::of_static(len);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let dir = cluster.root.path().join("late");
        let mut config = cluster.slots[0].config.clone();
        config.name = "late".to_owned();
        config.data_dir.clone_from(&dir);
        config.advertise_peer_urls = vec![url.clone()];
        if let Start::Static {
            initial_cluster,
            state,
            ..
        } = &mut config.start
        {
            *state = InitialState::Existing;
            initial_cluster.push(InitialMember {
                name: "late".to_owned(),
                peer_url: url,
            });
        }
        cluster.slots.push(Slot {
            dir,
            address,
            config,
            replica: None,
            gate: Arc::default(),
            metrics: Arc::default(),
        });
        cluster
    }

    fn with(len: usize, start: impl Fn(&[String]) -> Start) -> Self {
        // Shown with a failing test. The first test of the process sets it up for all.
        let _ = tracing_subscriber::fmt()
            .with_test_writer()
            .with_ansi(false)
            .try_init();
        let root = tempfile::tempdir().unwrap();
        let listeners: Vec<TcpListener> = (0..len)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses: Vec<SocketAddr> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap())
            .collect();
        let urls: Vec<String> = addresses
            .iter()
            .map(|address| format!("http://{address}"))
            .collect();
        let slot = |slot: usize| {
            let dir = root.path().join(format!("m{slot}"));
            let config = NodeConfig {
                advertise_peer_urls: vec![urls[slot].clone()],
                advertise_client_urls: vec![format!("http://client-{slot}:2379")],
                start: start(&urls),
                heartbeat_ms: 20,
                election_ms: 200,
                snapshot_catchup_entries: 100,
                ..NodeConfig::managed(format!("m{slot}"), &dir)
            };
            Slot {
                dir,
                address: addresses[slot],
                config,
                replica: None,
                gate: Arc::default(),
                metrics: Arc::default(),
            }
        };
        let slots = (0..len).map(slot).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut cluster = Self {
            slots,
            runtime,
            root,
        };
        for (slot, listener) in listeners.into_iter().enumerate() {
            cluster.launch(slot, listener).unwrap();
        }
        cluster
    }

    fn launch(&mut self, slot: usize, listener: TcpListener) -> Result<(), LifeError> {
        let slot = &mut self.slots[slot];
        let metrics = Arc::new(Metrics::default());
        slot.metrics = Arc::clone(&metrics);
        let doors = doors(&slot.dir, &slot.gate);
        let peers = PeerPort::plain(vec![listener]);
        let replica = Replica::start(&slot.config, doors, peers, metrics)?;
        slot.replica = Some(replica);
        Ok(())
    }

    fn listen(&self, slot: usize) -> TcpListener {
        TcpListener::bind(self.slots[slot].address).unwrap()
    }

    /// Starts a member that was killed or stopped.
    pub(super) fn start(&mut self, slot: usize) {
        let listener = self.listen(slot);
        self.launch(slot, listener).unwrap();
    }

    /// Which epoch a member is told to take part in when it is next started.
    pub(super) fn tell_epoch(&mut self, slot: usize, epoch: u64) {
        self.slots[slot].config.epoch = epoch;
    }

    /// Starts a member that must refuse to run.
    pub(super) fn start_and_fail(&mut self, slot: usize) -> LifeError {
        self.start(slot);
        let mut replica = self.slots[slot].replica.take().unwrap();
        self.block_on(replica.ended()).unwrap_err()
    }

    /// What a member counts.
    pub(super) fn metrics(&self, slot: usize) -> &Metrics {
        &self.slots[slot].metrics
    }

    /// The sum of a member's series whose line begins with `name`; labels may be part of it.
    pub(super) fn series(&self, slot: usize, name: &str) -> f64 {
        let text = self.slots[slot].metrics.render();
        let lines = text.lines().filter(|line| line.starts_with(name));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        values.sum()
    }

    /// What holds the syncs of a member.
    pub(super) fn gate(&self, slot: usize) -> &Gate {
        &self.slots[slot].gate
    }

    /// The data directory of a member.
    pub(super) fn path(&self, slot: usize) -> &Path {
        &self.slots[slot].dir
    }

    /// Waits until a member has ended by itself, and says why.
    pub(super) fn ended(&mut self, slot: usize) -> LifeError {
        let mut replica = self.slots[slot].replica.take().unwrap();
        self.block_on(replica.ended()).unwrap_err()
    }

    /// Opens a directory that is in use.
    pub(super) fn open_again(&self, slot: usize) -> LifeError {
        let config = &self.slots[slot].config;
        let dir = &self.slots[slot].dir;
        let doors = doors(dir, &Arc::default());
        let peers = PeerPort::plain(Vec::new());
        match Replica::start(config, doors, peers, Arc::new(Metrics::default())) {
            Ok(_) => panic!("a second replica runs on {}", dir.display()),
            Err(error) => error,
        }
    }

    /// Ends a member without a word to anybody.
    pub(super) fn kill(&mut self, slot: usize) {
        self.slots[slot].replica = None;
    }

    /// Stops a member in good order.
    pub(super) fn stop(&mut self, slot: usize) {
        let replica = self.slots[slot].replica.take().unwrap();
        self.block_on(replica.stop());
    }

    pub(super) fn wipe(&self, slot: usize) {
        fs::remove_dir_all(&self.slots[slot].dir).unwrap();
    }

    pub(super) fn copy_of(&self, slot: usize) -> PathBuf {
        let copy = self.root.path().join("copy");
        copy_dir(&self.slots[slot].dir, &copy);
        copy
    }

    pub(super) fn restore(&self, slot: usize, copy: &Path) {
        self.wipe(slot);
        copy_dir(copy, &self.slots[slot].dir);
    }

    pub(super) fn swap(&self, one: usize, other: usize) {
        let (one, other) = (&self.slots[one].dir, &self.slots[other].dir);
        let aside = self.root.path().join("aside");
        fs::rename(one, &aside).unwrap();
        fs::rename(other, one).unwrap();
        fs::rename(aside, other).unwrap();
    }

    pub(super) fn handle(&self, slot: usize) -> Handle {
        self.slots[slot].replica.as_ref().unwrap().handle()
    }

    pub(super) fn id(&self, slot: usize) -> u64 {
        self.handle(slot).status().member_id
    }

    pub(super) fn peer_urls(&self, slot: usize) -> Vec<String> {
        self.slots[slot].config.advertise_peer_urls.clone()
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, future).await })
            .unwrap()
    }

    /// Waits until the condition holds.
    pub(super) fn wait_for(&self, what: &str, condition: impl Fn() -> bool) {
        self.wait(what, PATIENCE, condition);
    }

    /// Waits for what moves many bytes, or takes several elections.
    pub(super) fn wait_long_for(&self, what: &str, condition: impl Fn() -> bool) {
        self.wait(what, 8 * PATIENCE, condition);
    }

    fn wait(&self, what: &str, patience: Duration, condition: impl Fn() -> bool) {
        let mut pace = self.runtime.block_on(async { tokio::time::interval(PACE) });
        let mut looks = 0;
        while !condition() {
            self.runtime.block_on(pace.tick());
            looks += 1;
            assert!(
                PACE * looks < patience,
                "{what} did not happen; {:?}",
                self.statuses()
            );
        }
    }

    fn statuses(&self) -> Vec<Arc<ReplicaStatus>> {
        let running = self.slots.iter().filter_map(|slot| slot.replica.as_ref());
        running.map(|replica| replica.handle().status()).collect()
    }

    /// Waits until a member is in a phase.
    pub(super) fn await_phase(&self, slot: usize, phase: Phase) {
        self.wait_for(&format!("member {slot} to be {}", phase.as_str()), || {
            self.handle(slot).status().phase == phase
        });
    }

    /// Waits until somebody leads and everybody who runs as a member agrees; returns the slot.
    pub(super) fn await_leader(&self) -> usize {
        let leader = || {
            let members: Vec<Arc<ReplicaStatus>> = self
                .statuses()
                .into_iter()
                .filter(|status| status.phase == Phase::Joined)
                .collect();
            let leaders: Vec<&Arc<ReplicaStatus>> = members
                .iter()
                .filter(|status| status.role == Role::Leader)
                .collect();
            let [leader] = leaders.as_slice() else {
                return None;
            };
            let agreed = members
                .iter()
                .all(|status| status.leader == leader.member_id);
            agreed.then_some(leader.member_id)
        };
        self.wait_for("a leader", || leader().is_some());
        let id = leader();
        let of = |slot: &Slot| slot.replica.as_ref().map(|r| r.handle().status().member_id);
        self.slots
            .iter()
            .position(|slot| of(slot) == id && id.is_some())
            .unwrap()
    }

    pub(super) fn put(&self, slot: usize, key: &str, value: &str) -> Applied {
        let put = Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Put::default()
        };
        self.block_on(self.handle(slot).propose(Op::Put(put)))
            .unwrap()
    }

    /// Writes a key, whatever becomes of it.
    pub(super) fn put_and_forget(&self, slot: usize, key: &str) {
        let (handle, key) = (self.handle(slot), key.to_owned());
        let put = Put {
            key: key.into(),
            value: "?".into(),
            ..Put::default()
        };
        drop(
            self.runtime
                .spawn(async move { handle.propose(Op::Put(put)).await }),
        );
    }

    /// Writes `many-0` and so on, all at once.
    pub(super) fn put_many(&self, slot: usize, count: usize) {
        let handle = self.handle(slot);
        let puts: Vec<_> = (0..count)
            .map(|number| {
                let handle = handle.clone();
                let put = Put {
                    key: format!("many-{number}").into(),
                    value: "x".into(),
                    ..Put::default()
                };
                self.runtime
                    .spawn(async move { handle.propose(Op::Put(put)).await })
            })
            .collect();
        for put in puts {
            self.block_on(put).unwrap().unwrap();
        }
    }

    /// Writes more than one segment of the log, and more entries than are kept for followers.
    pub(super) fn put_large(&self, slot: usize) {
        for round in 0..3 {
            let handle = self.handle(slot);
            let puts: Vec<_> = (0..100)
                .map(|number| {
                    let handle = handle.clone();
                    let put = Put {
                        key: format!("large-{number}").into(),
                        value: vec![round; 60 << 10].into(),
                        ..Put::default()
                    };
                    self.runtime
                        .spawn(async move { handle.propose(Op::Put(put)).await })
                })
                .collect();
            for put in puts {
                self.block_on(put).unwrap().unwrap();
            }
        }
        self.put_many(slot, 700);
    }

    pub(super) fn dir(&self, slot: usize) -> PathBuf {
        self.slots[slot].dir.clone()
    }

    /// Waits until a member takes part, whole, and knows a leader.
    pub(super) fn await_whole(&self, slot: usize) {
        self.wait_long_for(&format!("member {slot} to be whole"), || {
            let status = self.handle(slot).status();
            status.phase == Phase::Joined && status.leader != 0
        });
    }

    /// Whether a write is acknowledged.
    pub(super) fn try_put(&self, slot: usize, key: &str, value: &str) -> bool {
        let put = Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..Put::default()
        };
        let outcome = self.block_on(self.handle(slot).propose(Op::Put(put)));
        outcome.is_ok_and(|applied| applied.result.is_ok())
    }

    /// Whether a member has everything that was acknowledged before.
    pub(super) fn is_up_to_date(&self, slot: usize) -> bool {
        self.block_on(self.handle(slot).read_barrier()).is_ok()
    }

    /// What a member holds.
    pub(super) fn get_serializable(&self, slot: usize, key: &str) -> Option<String> {
        let range = RangeRequest::new(Interval::Key(key.to_owned().into()));
        let found = self.handle(slot).reader().unwrap().range(&range).unwrap();
        let value = found.kvs.first().map(|kv| kv.value.to_vec());
        value.map(|value| String::from_utf8(value).unwrap())
    }

    /// Hash of all keys and revisions, behind everything acknowledged.
    pub(super) fn hash(&self, slot: usize) -> u32 {
        self.wait_long_for("a read", || self.is_up_to_date(slot));
        let reader = self.handle(slot).reader().unwrap();
        reader.hash_kv(kv::Revision(0)).unwrap().hash
    }

    /// Writes one key after the other through a member until told to stop, or the member is gone.
    pub(super) fn write_until_stopped(&self, slot: usize, round: usize) -> Writer {
        let handle = self.handle(slot);
        let (stop, count) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let task = self.runtime.spawn(async move {
            let mut acknowledged = Vec::new();
            let mut number = 0;
            while !told.load(Ordering::Relaxed) {
                number += 1;
                let key = format!("round-{round}-member-{slot}-{number}");
                let put = Put {
                    key: key.clone().into(),
                    value: "x".into(),
                    ..Put::default()
                };
                match handle.propose(Op::Put(put)).await {
                    Ok(applied) => {
                        acknowledged.push((key, applied.revision.0));
                        counted.store(acknowledged.len(), Ordering::Relaxed);
                    }
                    Err(RequestError::Stopped) => break,
                    // Unknown, or refused: the next key is another one.
                    Err(_) => {}
                }
            }
            acknowledged
        });
        Writer { stop, count, task }
    }

    /// What a writer was told to be written, with revisions.
    pub(super) fn stop_writer(&self, writer: Writer) -> Vec<(String, i64)> {
        writer.stop.store(true, Ordering::Relaxed);
        self.block_on(writer.task).unwrap()
    }

    /// A linearizable read.
    pub(super) fn get(&self, slot: usize, key: &str) -> Option<String> {
        self.block_on(self.handle(slot).read_barrier()).unwrap();
        let range = RangeRequest::new(Interval::Key(key.to_owned().into()));
        let found = self.handle(slot).reader().unwrap().range(&range).unwrap();
        found
            .kvs
            .first()
            .map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
    }

    pub(super) fn membership(&self, slot: usize) -> MembershipView {
        self.block_on(self.handle(slot).membership(true)).unwrap()
    }

    /// Adds a managed node as a learner and promotes it, as the operator does.
    pub(super) fn grow(&mut self, slot: usize) {
        self.grow_as(slot, 100 + slot as u64);
    }

    /// The same under an ID of the caller's choice.
    pub(super) fn grow_as(&mut self, slot: usize, id: u64) {
        let leader = self.await_leader();
        let handle = self.handle(leader);
        let view = self.membership(leader);
        let add = MemberAdd {
            id: Some(id),
            peer_urls: self.peer_urls(slot),
            learner: true,
            expected: Some(view.index),
        };
        let (_, view) = self.block_on(handle.member_add(add)).unwrap();
        let join = Join {
            cluster_uuid: [7; 16],
            member_id: id,
            seeds: self.peer_urls(leader),
            displaces: None,
        };
        self.block_on(self.handle(slot).join(join)).unwrap();
        self.wait_for("promotion", || {
            let promoted = self.block_on(handle.member_promote(id, Some(view.index)));
            match promoted {
                Ok(view) => view.member(id).is_some_and(|member| !member.learner),
                Err(AdminError::LearnerNotReady | AdminError::Unhealthy) => false,
                Err(other) => panic!("promotion: {other}"),
            }
        });
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        // A member that hangs could not be ended.
        self.slots.iter().for_each(|slot| slot.gate.open());
    }
}

fn doors(dir: &Path, gate: &Arc<Gate>) -> Doors {
    Doors {
        disk: Arc::new(GatedDisk::new(dir, gate)),
        clock: Arc::new(SystemClock::new()),
        rng: Box::new(SystemRng::open().unwrap()),
    }
}

fn copy_dir(from: &Path, to: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
