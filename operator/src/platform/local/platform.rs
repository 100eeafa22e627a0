//! Observation and effects on this machine: [`Platform`] for child processes.
//!
//! `observe` reads and `apply` does exactly one thing; neither decides. Must not know: what a step
//! is
//! good for, how a process is kept (`life.rs`) or a member asked (`admin.rs`).

use std::collections::BTreeMap;

use crate::crd::KvClusterStatus;
use crate::ids::{ClusterUuid, MemberId, Slot, SlotUid};
use crate::observed::{
    Entropy, LifeState, LifeView, MembershipView, NodeState, NodeView, ObjectView, Observed,
    Pending, Seen, SlotsView, VolumeView,
};
use crate::plan::Step;
use crate::reconcile::{Observation, Platform};
use crate::record::{BootstrapState, Record};

use super::admin::Answer;
use super::cluster::{Local, now};
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
            ready: node.and_then(Seen::known).is_some_and(|node| node.ready),
            state,
            volume: Some(life.volume.clone()),
            label: format!("slot {slot}"),
            endpoint: Some(self.ports.client(slot).to_string()),
            role_label: None,
            wants_role_label: false,
        }
    }

    fn lives(&self, nodes: &BTreeMap<Slot, Seen<NodeView>>) -> BTreeMap<Slot, LifeView> {
        let mut lives = BTreeMap::new();
        for (slot, keeper) in &self.keepers {
            if let Some(life) = keeper.life() {
                lives.insert(*slot, self.life_view(*slot, life, nodes.get(slot)));
            } else if self.state.slots.is_some_and(|count| slot.0 < count) {
                // Wanted, and `keep` did not start it: it has nothing to run on.
                lives.insert(*slot, waiting_for_volume(*slot));
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
        let ours = |(slot, answer): (Slot, Seen<Answer>)| {
            let node = match answer {
                Seen::Known(Answer { node, pid }) if running.get(&slot) == Some(&pid) => {
                    Seen::Known(node)
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

    /// The member to send changes through: the leader, or else any.
    fn through(&self, observation: &Observation) -> Result<Slot, Error> {
        let view = observation.observed.membership.known();
        view.and_then(|view| {
            leader_slot(view).or_else(|| view.members.values().find_map(|member| member.slot))
        })
        .ok_or_else(|| Error::Conflict("no member is known to send the change through".to_owned()))
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

impl Local {
    /// The steps that are calls to members.
    async fn call(&mut self, observation: &Observation, step: &Step) -> Result<(), Error> {
        match step {
            Step::Bootstrap {
                slot,
                cluster_uuid,
                member,
            } => {
                let name = self.node_name(*slot);
                self.admin
                    .bootstrap(*slot, *cluster_uuid, *member, name)
                    .await
            }
            Step::MemberAdd {
                slot,
                member,
                expected,
            } => {
                let (through, name) = (self.through(observation)?, self.node_name(*slot));
                self.admin
                    .member_add(through, *slot, *member, name, *expected)
                    .await
            }
            Step::Join {
                slot,
                cluster_uuid,
                member,
                seeds,
                displaces,
            } => {
                self.admin
                    .join(*slot, *cluster_uuid, *member, seeds, *displaces)
                    .await
            }
            Step::Promote { member, expected } => {
                let through = self.through(observation)?;
                self.admin.member_promote(through, *member, *expected).await
            }
            Step::TransferLeader { from: _, to } => {
                let through = self.through(observation)?;
                self.admin.transfer_leader(through, *to).await
            }
            Step::MemberRemove { member, expected } => {
                let through = self.through(observation)?;
                self.admin.member_remove(through, *member, *expected).await
            }
            _ => Err(Error::Refused(format!(
                "{} is no call to a member",
                step.name()
            ))),
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
        };
        let mut resource = self.accepted.clone();
        resource.metadata.uid = Some(self.state.uid.0.clone());
        resource.metadata.generation = Some(self.state.generation);
        resource.status = Some(self.state.status.clone());
        let object = ObjectView {
            uid: self.state.uid.clone(),
            name: self.state.name.clone(),
            generation: self.state.generation,
            deleting: false,
            finalizer: true,
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
            now: now(),
            entropy: entropy(),
        };
        Ok(Some(Observation { resource, observed }))
    }

    async fn apply(&mut self, observation: &Observation, step: &Step) -> Result<(), Error> {
        match step {
            // A file has no finalizer, no labels and no other objects around it.
            Step::AddFinalizer
            | Step::DropFinalizer
            | Step::EnsureObject { .. }
            | Step::LabelSlot { .. } => Ok(()),
            Step::Latch(_) | Step::WriteIntent(_) | Step::ClearIntent { .. } => self.record(step),
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
            Step::SetSlots { count, was } => self.set_slots(*count, *was),
            Step::DeleteSlots => {
                self.save(State {
                    slots: None,
                    ..self.state.clone()
                })?;
                self.keep()
            }
            Step::StopSlot { slot, uid } => self.keeper(*slot)?.stop(uid, now()),
            Step::RestartSlot { slot, uid } => self.restart(*slot, uid),
            Step::Bootstrap { .. }
            | Step::MemberAdd { .. }
            | Step::Join { .. }
            | Step::Promote { .. }
            | Step::TransferLeader { .. }
            | Step::MemberRemove { .. } => self.call(observation, step).await,
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
            backoff,
            ..
        } = self.state.status.clone();
        status.cluster_uuid = cluster_uuid;
        status.cluster_id = cluster_id;
        status.epoch = epoch;
        status.bootstrap = bootstrap;
        status.operation = operation;
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

fn leader_slot(view: &MembershipView) -> Option<Slot> {
    view.leader
        .and_then(|leader| view.members.get(&leader))
        .and_then(|member| member.slot)
}

fn waiting_for_volume(slot: Slot) -> LifeView {
    LifeView {
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

fn entropy() -> Entropy {
    let number = || {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        // The version and variant bits are constant; mixing the halves hides them.
        (high ^ low.rotate_left(32)).max(1)
    };
    Entropy {
        member_id: MemberId(number()),
        cluster_uuid: ClusterUuid(uuid::Uuid::new_v4()),
        operation_id: number(),
    }
}
