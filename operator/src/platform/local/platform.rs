//! Observation and effects on this machine: [`Platform`] for child processes.
//!
//! `observe` reads and `apply` does exactly one thing; neither decides. Must not know: what a step
//! is good for, how a process is kept (`life.rs`) or a member asked (`admin.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::certificates::Encryption;
use crate::crd::KvClusterStatus;
use crate::ids::{Slot, SlotUid};
use crate::observed::{
    LifeState, LifeView, MembershipView, NodeState, NodeView, ObjectView, Observed, Pending, Seen,
    SlotsView, VolumeView,
};
use crate::plan::Step;
use crate::platform::calls::leader_slot;
use crate::platform::doors::{entropy, now};
use crate::platform::members::{Answer, IDENTITY_TIMEOUT};
use crate::reconcile::{Observation, Platform};
use crate::record::{BootstrapState, Record};
use crate::validate::validate;

use super::cluster::Local;
use super::life::Life;
use super::ports::SLOTS_MAX;
use super::state::State;
use super::volume::Volume;
use super::{Error, files};

/// A process that has not answered yet is starting for this long, and then silent.
const STARTING_MS: i64 = 10_000;

impl Local {
    fn life_view(&self, slot: Slot, life: &Life, node: Option<&Seen<NodeView>>) -> LifeView {
        let answered = matches!(node, Some(Seen::Known(_)));
        let young = now() < life.started_at.plus(STARTING_MS);
        let state = match life.death() {
            Some(death) => LifeState::Dead(death),
            None if life.stopping_since.is_some() => LifeState::Stopping,
            None if !answered && young => LifeState::Starting,
            None => LifeState::Running,
        };
        LifeView {
            uid: life.uid.clone(),
            began: Some(life.started_at),
            ready: node.and_then(Seen::known).is_some_and(|node| node.ready),
            state,
            volume: Some(life.volume.clone()),
            label: format!("slot {slot}"),
            endpoint: Some(self.ports.client(slot).to_string()),
            role_label: None,
            wants_role_label: false,
            ready_since: None,
            outdated: false,
            epoch: Some(life.epoch),
            trouble: None,
            host: None,
            orphan: false,
        }
    }

    fn lives(&self, nodes: &BTreeMap<Slot, Seen<NodeView>>) -> BTreeMap<Slot, LifeView> {
        let mut lives = BTreeMap::new();
        let epoch = self.epoch_due().unwrap_or(0);
        for (slot, keeper) in &self.keepers {
            if let Some(life) = keeper.life() {
                lives.insert(*slot, self.life_view(*slot, life, nodes.get(slot)));
            } else if self.state.slots.is_some_and(|count| slot.0 < count) {
                // Wanted, and `keep` did not start it: it has nothing to run on.
                lives.insert(*slot, waiting_for_volume(*slot, epoch));
            }
        }
        lives
    }

    fn volumes(&self) -> Result<BTreeMap<Slot, VolumeView>, Error> {
        let mut volumes = BTreeMap::new();
        for slot in (0..SLOTS_MAX).map(Slot) {
            if let Some(view) = Volume::of(&self.slot_dir(slot)).view()? {
                volumes.insert(slot, view);
            }
        }
        Ok(volumes)
    }

    /// What the node in each running slot says; an answer of a process that is not ours is silence.
    async fn nodes(&mut self) -> BTreeMap<Slot, Seen<NodeView>> {
        let running = self.keepers.iter().filter_map(|(slot, keeper)| {
            keeper
                .life()
                .filter(|life| life.runs())
                .map(|life| (*slot, life.process.pid))
        });
        let running: BTreeMap<Slot, u32> = running.collect();
        let slots: Vec<Slot> = running.keys().copied().collect();
        let answers = self.admin.identities(&slots).await;
        let ready = self.ready(&answers).await;
        let ours = |(slot, answer): (Slot, Seen<Answer>)| {
            let node = match answer {
                Seen::Known(Answer { node, pid, .. }) if running.get(&slot) == Some(&pid) => {
                    Seen::Known(NodeView {
                        ready: ready.contains(&slot),
                        ..node
                    })
                }
                Seen::Known(Answer { pid, .. }) => Seen::Unknown(format!(
                    "port {} is answered by process {pid}, which does not belong to this cluster",
                    self.ports.admin(slot).port()
                )),
                Seen::Unknown(why) => Seen::Unknown(why),
            };
            (slot, node)
        };
        answers.into_iter().map(ours).collect()
    }

    /// The joined nodes that pass their readiness check, all asked at once.
    async fn ready(&self, answers: &BTreeMap<Slot, Seen<Answer>>) -> BTreeSet<Slot> {
        let mut asked = tokio::task::JoinSet::new();
        for (slot, answer) in answers {
            let joined = answer
                .known()
                .is_some_and(|answer| matches!(answer.node.state, NodeState::Joined { .. }));
            if joined {
                let (slot, address) = (*slot, self.ports.client(*slot));
                asked.spawn(async move { (slot, serves(address).await) });
            }
        }
        let answers = asked.join_all().await;
        answers
            .into_iter()
            .filter_map(|(slot, ready)| ready.then_some(slot))
            .collect()
    }

    async fn membership(
        &mut self,
        record: &Record,
        nodes: &BTreeMap<Slot, Seen<NodeView>>,
    ) -> Seen<MembershipView> {
        let issued = record
            .bootstrap
            .as_ref()
            .is_some_and(|bootstrap| bootstrap.state >= BootstrapState::Issued);
        if !issued {
            return Seen::Unknown("the cluster is not founded yet".to_owned());
        }
        let joined = |slot: &&Slot| {
            let node = nodes.get(slot).and_then(Seen::known);
            node.is_some_and(|node| matches!(node.state, NodeState::Joined { .. }))
        };
        let mut members: Vec<Slot> = nodes.keys().filter(joined).copied().collect();
        // The leader answers without asking another member; `false` sorts first.
        members.sort_by_key(|slot| Some(*slot) != self.leader);
        let seen = self.admin.membership(&members).await;
        if let Some(view) = seen.known() {
            self.leader = leader_slot(view);
        }
        seen
    }

    /// Writes the records as they are after this step.
    fn record(&mut self, step: &Step) -> Result<(), Error> {
        let mut status = self.state.status.clone();
        let record = Record::from_status(&status)
            .map_err(|error| Error::Foreign(error.to_string()))?
            .with(step)
            .ok_or_else(|| {
                Error::Conflict(format!("{} does not fit what is on record", step.name()))
            })?;
        record.write_to(&mut status);
        self.save(State {
            status,
            ..self.state.clone()
        })
    }

    fn set_slots(&mut self, count: u32, was: Option<u32>) -> Result<(), Error> {
        if self.state.slots == Some(count) {
            return self.keep();
        }
        if self.state.slots != was {
            return Err(Error::Conflict(format!(
                "the set has {:?} slots and not {was:?} any more",
                self.state.slots
            )));
        }
        if count > SLOTS_MAX {
            return Err(Error::Refused(format!(
                "{count} slots are more than {SLOTS_MAX}"
            )));
        }
        self.save(State {
            slots: Some(count),
            ..self.state.clone()
        })?;
        self.keep()
    }

    fn restart(&mut self, slot: Slot, uid: &SlotUid) -> Result<(), Error> {
        let keeper = self.keeper(slot)?;
        match keeper.life() {
            Some(life) if life.uid == *uid && !life.runs() => self.start(slot, now()),
            // It was done already, or the world has moved on.
            _ => Ok(()),
        }
    }
}

impl Platform for Local {
    type Error = Error;

    fn is_patience(error: &Error) -> bool {
        matches!(error, Error::NotYet(_))
    }

    async fn observe(&mut self) -> Result<Option<Observation>, Error> {
        self.accept()?;
        self.keep()?;
        let record = Record::from_status(&self.state.status)
            .map_err(|error| Error::Foreign(error.to_string()))?;
        let nodes = self.nodes().await;
        let membership = self.membership(&record, &nodes).await;
        let volumes = match self.volumes() {
            Ok(volumes) => Seen::Known(volumes),
            Err(error) => Seen::Unknown(error.to_string()),
        };
        let slots = SlotsView {
            count: self.state.slots,
            lives: self.lives(&nodes),
            revision: None,
            volume_bytes: None,
        };
        let mut resource = self.accepted.clone();
        resource.metadata.uid = Some(self.state.uid.0.clone());
        resource.metadata.generation = Some(self.state.generation);
        resource.status = Some(self.state.status.clone());
        let asked = validate(&resource, &record, self.settings);
        let object = ObjectView {
            uid: self.state.uid.clone(),
            name: self.state.name.clone(),
            generation: self.state.generation,
            deleting: false,
            finalizer: true,
            requests_stay: true,
            unreadable: self.unreadable.clone(),
        };
        let observed = Observed {
            object,
            record,
            slots: Seen::Known(slots),
            volumes,
            nodes,
            membership,
            objects_due: Seen::Known(Vec::new()),
            encryption: Encryption::NotOffered,
            now: now(),
            entropy: entropy(),
        };
        Ok(Some(Observation {
            resource,
            asked,
            observed,
        }))
    }

    async fn apply(&mut self, observation: &Observation, step: &Step) -> Result<(), Error> {
        match step {
            // A file has no finalizer, no labels and no other objects around it.
            Step::AddFinalizer
            | Step::DropFinalizer
            | Step::EnsureObject { .. }
            | Step::Certify { .. }
            | Step::LabelSlot { .. } => Ok(()),
            // The manifest is the user's own.
            Step::DropRequest { .. } => Ok(()),
            Step::Latch(_)
            | Step::WriteIntent(_)
            | Step::ClearIntent { .. }
            | Step::WriteRecovery(_)
            | Step::ClearRecovery { .. }
            | Step::NoteRequest { .. } => self.record(step),
            Step::EnsureVolume { stamp, adopt } => {
                let dir = self.slot_dir(stamp.slot);
                files::create_dir(&dir)?;
                match adopt {
                    Some(uid) => Volume::of(&dir).adopt(uid, stamp),
                    None => Volume::of(&dir).ensure(stamp),
                }
            }
            Step::DeleteVolume { slot, uid } => {
                Volume::of(&self.slot_dir(*slot)).mark_deleting(uid)?;
                self.keep()
            }
            Step::ReleaseVolume { slot, uid } => Volume::of(&self.slot_dir(*slot)).release(uid),
            // Directories have no size and processes no set that could be made anew.
            Step::ResizeVolume { .. } | Step::OrphanSlots => Err(Error::Refused(format!(
                "{} has no meaning here",
                step.name()
            ))),
            Step::SetSlots { count, was } => self.set_slots(*count, *was),
            Step::DeleteSlots => {
                self.save(State {
                    slots: None,
                    ..self.state.clone()
                })?;
                self.keep()
            }
            Step::StopSlot { slot, uid, asking } => {
                self.admin.ask_to_stop(observation, *asking).await?;
                self.keeper(*slot)?.stop(uid, now())
            }
            Step::RestartSlot { slot, uid } => self.restart(*slot, uid),
            Step::Bootstrap { .. }
            | Step::Recover { .. }
            | Step::MemberAdd { .. }
            | Step::Join { .. }
            | Step::Promote { .. }
            | Step::TransferLeader { .. }
            | Step::MemberRemove { .. } => {
                let cluster = self.state.name.clone();
                let name = |slot| format!("{cluster}-{slot}");
                Ok(self.admin.call(observation, step, name).await?)
            }
        }
    }

    async fn publish(&mut self, status: &KvClusterStatus) -> Result<(), Error> {
        let mut status = status.clone();
        // The records are written by steps alone. A status made from an earlier look must not take
        // back what a step of the same pass has written.
        let KvClusterStatus {
            cluster_uuid,
            cluster_id,
            epoch,
            bootstrap,
            operation,
            recovery,
            last_requests,
            backoff,
            ..
        } = self.state.status.clone();
        status.cluster_uuid = cluster_uuid;
        status.cluster_id = cluster_id;
        status.epoch = epoch;
        status.bootstrap = bootstrap;
        status.operation = operation;
        status.recovery = recovery;
        status.last_requests = last_requests;
        status.backoff = backoff;
        if status == self.state.status {
            return Ok(());
        }
        self.save(State {
            status,
            ..self.state.clone()
        })
    }
}

fn waiting_for_volume(slot: Slot, epoch: u64) -> LifeView {
    LifeView {
        // It will begin with what is due then.
        epoch: Some(epoch),
        began: None,
        ready_since: None,
        outdated: false,
        trouble: None,
        host: None,
        orphan: false,
        uid: SlotUid(format!("none-{slot}")),
        state: LifeState::Pending(Pending::VolumeMissing),
        ready: false,
        volume: None,
        label: format!("slot {slot}"),
        endpoint: None,
        role_label: None,
        wants_role_label: false,
    }
}
/// Whether the node passes its readiness check: one plain HTTP request on the client port.
async fn serves(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok::<_, std::io::Error>(head)
    };
    matches!(timeout(IDENTITY_TIMEOUT, ask).await, Ok(Ok(head)) if &head[9..] == b"200")
}
