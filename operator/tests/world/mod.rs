//! A small model of what the operator works on: slots, volumes, directories, a membership with
//! compare-and-set. It refuses what a node refuses and asserts the invariants of the protocols.

use std::collections::{BTreeMap, BTreeSet};

use quorate_operator::certificates::Encryption;
use quorate_operator::desired::{
    Bootstrap, Desired, Once, RecoverRequest, Repair, RepairPolicy, VolumePolicy,
};
use quorate_operator::ids::{
    ClusterUuid, DirectoryId, MemberId, ObjectUid, Slot, SlotUid, UnixMs, VolumeUid,
};
use quorate_operator::observed::{
    Death, Entropy, Growth, LifeState, LifeView, LogEnd, MemberView, MembershipView, NodeState,
    NodeView, ObjectView, Observed, Refusing, Role, Seen, SettingsView, SlotsView, Stamp,
    VolumeView,
};
use quorate_operator::plan::{Plan, Step, plan, quorum};
use quorate_operator::record::{LastMember, OperationKind, Record};

pub struct Life {
    pub uid: u64,
    pub began: UnixMs,
    pub volume: Option<u64>,
    pub dead: Option<Death>,
    /// The template it began with.
    pub revision: u32,
    pub label: Option<Role>,
    /// No set owns it.
    pub orphan: bool,
    /// The epoch it was told to take part in.
    pub epoch: u64,
    /// It was told to stop.
    pub stopping: bool,
    /// The settings it has in force.
    pub settings: SettingsView,
}

#[derive(Clone)]
pub struct Volume {
    pub uid: u64,
    pub stamp: Option<Stamp>,
    pub deleting: bool,
    pub released: bool,
    pub directory: u64,
    pub requested: u64,
    pub capacity: u64,
    /// The life that is to end before the capacity is what was requested, and since when.
    pub mounted_by: Option<(u64, UnixMs)>,
    /// Whose data it holds.
    pub joined: Option<(ClusterUuid, MemberId)>,
    /// Of which epoch.
    pub epoch: u64,
}

/// How a platform's volumes grow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Growing {
    /// At once, in use.
    Online,
    /// Once their user has begun anew.
    Remounted,
    /// Not even then.
    Stubborn,
    /// Their class does not allow it.
    Refused,
    /// Whether their class allows it cannot be read.
    Unknown,
    /// It goes wrong.
    Failing,
    /// It takes for ever.
    Slow,
}

#[derive(Clone)]
pub struct Group {
    pub uuid: ClusterUuid,
    pub epoch: u64,
    pub config_index: u64,
    pub term: u64,
    pub leader: MemberId,
    pub members: BTreeMap<MemberId, (Option<Slot>, Role)>,
    pub removed: BTreeSet<MemberId>,
}

pub struct World {
    pub desired: Desired,
    pub record: Record,
    pub deleting: bool,
    pub finalizer: bool,
    pub count: Option<u32>,
    pub lives: BTreeMap<Slot, Life>,
    pub volumes: BTreeMap<Slot, Volume>,
    pub group: Option<Group>,
    pub unreachable: BTreeSet<Slot>,
    pub lagging: BTreeSet<MemberId>,
    /// An older membership, served instead of the present one.
    pub stale: Option<MembershipView>,
    pub now: i64,
    pub drawn: u64,
    /// The newest template; `None`: a platform without templates, labels and a set that starts
    /// slots again by itself.
    pub revision: Option<u32>,
    /// Volumes have sizes, which they change in this way. `None`: a platform without sizes.
    pub growing: Option<Growing>,
    /// The size in the set's template.
    pub template_bytes: Option<u64>,
    /// A new set takes over the lives of the one before.
    pub adopts: bool,
    /// Templates whose process ends at once.
    pub bad: BTreeSet<u32>,
    /// Slots whose volume is tied to a machine that is gone.
    pub stranded: BTreeSet<Slot>,
    /// The leader refuses to hand over.
    pub jammed: bool,
    /// What the platform says of certificates.
    pub encryption: Encryption,
    /// Slots whose log ends early.
    pub behind: BTreeSet<Slot>,
    /// Slots on a machine that cannot be reached: what is stopped there does not end.
    pub stuck: BTreeSet<Slot>,
    /// The slots that cannot be reached cannot be reached by the others either.
    pub parted: bool,
    /// Slots that do not take new settings, and what they say about it.
    pub deaf: BTreeMap<Slot, Option<String>>,
    /// Whether requests stay, as in a file.
    pub requests_stay: bool,
    bootstraps: u32,
    homes: BTreeMap<MemberId, u64>,
}

/// What a life reports that has taken the newest settings.
fn taken(desired: &Desired) -> SettingsView {
    SettingsView {
        digest: Some(desired.settings.clone()),
        problem: None,
    }
}

impl World {
    pub fn new(replicas: u32) -> World {
        World {
            desired: desired(replicas),
            record: Record::default(),
            deleting: false,
            finalizer: true,
            count: None,
            lives: BTreeMap::new(),
            volumes: BTreeMap::new(),
            group: None,
            unreachable: BTreeSet::new(),
            lagging: BTreeSet::new(),
            stale: None,
            now: 0,
            drawn: 0,
            revision: None,
            growing: None,
            template_bytes: None,
            adopts: true,
            bad: BTreeSet::new(),
            stranded: BTreeSet::new(),
            jammed: false,
            encryption: Encryption::NotOffered,
            behind: BTreeSet::new(),
            stuck: BTreeSet::new(),
            parted: false,
            deaf: BTreeMap::new(),
            requests_stay: false,
            bootstraps: 0,
            homes: BTreeMap::new(),
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    fn joined(&self, slot: Slot) -> Option<MemberId> {
        let runs = |life: &&Life| life.dead.is_none() && !self.bad.contains(&life.revision);
        let life = self.lives.get(&slot).filter(runs)?;
        let volume = self
            .volumes
            .get(&slot)
            .filter(|volume| life.volume == Some(volume.uid))?;
        let epoch = self.group.as_ref().map_or(1, |group| group.epoch);
        let takes_part = life.epoch <= volume.epoch && volume.epoch == epoch;
        volume.joined.filter(|_| takes_part).map(|(_, id)| id)
    }

    pub fn alive(&self, id: MemberId) -> bool {
        let member = self.group.as_ref().and_then(|group| group.members.get(&id));
        member.is_some_and(|(slot, _)| slot.is_some_and(|slot| self.joined(slot) == Some(id)))
    }

    pub fn voters(&self) -> Vec<MemberId> {
        let members = self.group.iter().flat_map(|group| &group.members);
        members
            .filter(|(_, (_, role))| *role == Role::Voter)
            .map(|(id, _)| *id)
            .collect()
    }

    pub fn has_quorum(&self) -> bool {
        let voters = self.voters();
        let alive = voters.iter().filter(|id| self.alive(**id)).count();
        !voters.is_empty() && alive >= quorum(voters.len())
    }

    /// What the platform's own controllers and the cluster do by themselves.
    pub fn settle(&mut self) {
        self.lives
            .retain(|slot, life| slot.0 < self.count.unwrap_or(0) || life.dead.is_none());
        let stuck = &self.stuck;
        self.lives
            .retain(|slot, life| !life.stopping || stuck.contains(slot));
        let lives = &self.lives;
        self.volumes.retain(|slot, volume| {
            let used = lives
                .get(slot)
                .is_some_and(|life| life.dead.is_none() && life.volume == Some(volume.uid));
            !volume.deleting || used
        });
        for slot in (0..self.count.unwrap_or(0)).map(Slot) {
            let volume = self.volumes.get(&slot).filter(|volume| !volume.deleting);
            if let Some(volume) = volume.map(|volume| volume.uid)
                && !self.lives.contains_key(&slot)
            {
                let uid = self.draw();
                self.lives.insert(
                    slot,
                    Life {
                        uid,
                        began: UnixMs(self.now),
                        volume: Some(volume),
                        dead: None,
                        revision: self.revision.unwrap_or(0),
                        label: None,
                        orphan: false,
                        epoch: self.record.epoch_due(),
                        stopping: false,
                        settings: taken(&self.desired),
                    },
                );
            }
        }
        for (slot, life) in &mut self.lives {
            match self.deaf.get(slot) {
                Some(problem) => life.settings.problem.clone_from(problem),
                None => life.settings = taken(&self.desired),
            }
        }
        for life in self.lives.values_mut() {
            life.orphan = life.orphan && !(self.adopts && self.count.is_some());
        }
        for (slot, volume) in &mut self.volumes {
            let life = self.lives.get(slot).map(|life| life.uid);
            let mounted_by = volume.mounted_by.map(|(life, _)| life);
            let stubborn = self.growing == Some(Growing::Stubborn);
            let remounted = mounted_by.is_some() && life != mounted_by && !stubborn;
            if self.growing == Some(Growing::Online) || remounted {
                volume.capacity = volume.capacity.max(volume.requested);
                volume.mounted_by = None;
            }
        }
        let leads = self.group.as_ref().is_some_and(|group| {
            group
                .members
                .get(&group.leader)
                .is_some_and(|(_, role)| *role == Role::Voter)
                && self.alive(group.leader)
        });
        if !leads && self.has_quorum() {
            let next = self.voters().into_iter().find(|id| self.alive(*id));
            if let (Some(group), Some(next)) = (self.group.as_mut(), next) {
                group.leader = next;
                group.term += 1;
            }
        }
    }

    fn membership(&self) -> Seen<MembershipView> {
        if let Some(stale) = &self.stale {
            return Seen::Known(stale.clone());
        }
        let reachable = self.lives.iter().any(|(slot, life)| {
            life.dead.is_none()
                && !self.unreachable.contains(slot)
                && self.joined(*slot).is_some_and(|id| self.alive(id))
        });
        let heard = self.voters().into_iter().filter(|id| {
            let slot = self.group.as_ref().and_then(|group| group.members[id].0);
            self.alive(*id) && slot.is_some_and(|slot| !self.unreachable.contains(&slot))
        });
        let answers = !self.parted || heard.count() >= quorum(self.voters().len());
        let Some(group) = self
            .group
            .as_ref()
            .filter(|_| reachable && answers && self.has_quorum())
        else {
            return Seen::Unknown("no member answered".to_owned());
        };
        let view = |(id, (slot, role)): (&MemberId, &(Option<Slot>, Role))| {
            let alive = self.alive(*id);
            let lags = self.lagging.contains(id);
            let view = MemberView {
                slot: *slot,
                role: *role,
                caught_up: alive && !lags,
                in_contact: alive,
                lag: if alive && !lags { 0 } else { 9000 },
                db_size_bytes: 0,
            };
            (*id, view)
        };
        Seen::Known(MembershipView {
            cluster_uuid: group.uuid,
            config_index: group.config_index,
            epoch: group.epoch,
            term: group.term,
            leader: Some(group.leader),
            changing: false,
            cluster_id: 77,
            members: group.members.iter().map(view).collect(),
        })
    }

    fn life_view(&self, slot: Slot, life: &Life) -> LifeView {
        let bad = self.bad.contains(&life.revision);
        let state = match life.dead.clone() {
            Some(death) => LifeState::Dead(death),
            None if life.stopping => LifeState::Stopping,
            None if bad => LifeState::CrashLooping {
                restarts: 2,
                exit: "exit code 1".to_owned(),
                out_of_memory: false,
            },
            None => LifeState::Running,
        };
        LifeView {
            uid: SlotUid(format!("p{}", life.uid)),
            ready: state == LifeState::Running,
            state,
            volume: life.volume.map(|uid| VolumeUid(format!("v{uid}"))),
            label: format!("example-{slot}"),
            endpoint: None,
            role_label: life.label,
            wants_role_label: self.revision.is_some(),
            began: Some(life.began),
            ready_since: None,
            outdated: self.revision.is_some_and(|newest| newest != life.revision),
            trouble: None,
            host: None,
            orphan: life.orphan,
            epoch: Some(life.epoch),
        }
    }

    pub fn observe(&self) -> Observed {
        let life = |(slot, life): (&Slot, &Life)| (*slot, self.life_view(*slot, life));
        let volume = |(slot, volume): (&Slot, &Volume)| {
            let view = VolumeView {
                uid: VolumeUid(format!("v{}", volume.uid)),
                stamp: volume.stamp.clone(),
                deleting: volume.deleting,
                released: volume.released,
                capacity_bytes: self.growing.map(|_| volume.capacity),
                requested_bytes: self.growing.map(|_| volume.requested),
                growth: self.growth(volume),
                node_gone: self.stranded.contains(slot),
                name: None,
            };
            (*slot, view)
        };
        let next = self.drawn + 0x100;
        Observed {
            object: self.object(),
            record: self.record.clone(),
            slots: Seen::Known(SlotsView {
                count: self.count,
                lives: self.lives.iter().map(life).collect(),
                revision: self.revision.map(|revision| format!("r{revision}")),
                volume_bytes: self.template_bytes.filter(|_| self.growing.is_some()),
            }),
            volumes: Seen::Known(self.volumes.iter().map(volume).collect()),
            nodes: self
                .lives
                .keys()
                .map(|slot| (*slot, self.node(*slot)))
                .collect(),
            membership: self.membership(),
            objects_due: Seen::Known(Vec::new()),
            encryption: self.encryption.clone(),
            now: UnixMs(self.now),
            entropy: Entropy {
                member_id: MemberId(next),
                cluster_uuid: ClusterUuid(uuid::Uuid::from_u128(u128::from(next))),
                operation_id: next,
            },
        }
    }

    fn growth(&self, volume: &Volume) -> Growth {
        if let Some((_, since)) = volume.mounted_by {
            return Growth::Unmounted { since };
        }
        match self.growing {
            Some(Growing::Refused) => Growth::Refused("class x forbids it".to_owned()),
            Some(Growing::Unknown) => Growth::Unknown("forbidden".to_owned()),
            Some(Growing::Failing) => Growth::Failed("no space left".to_owned()),
            Some(Growing::Slow) => Growth::UnderWay,
            _ => Growth::Possible,
        }
    }

    fn object(&self) -> ObjectView {
        ObjectView {
            uid: ObjectUid::from("object-1"),
            name: "example".to_owned(),
            generation: 1,
            deleting: self.deleting,
            finalizer: self.finalizer,
            requests_stay: self.requests_stay,
            unreadable: None,
        }
    }

    fn node(&self, slot: Slot) -> Seen<NodeView> {
        let runs = |life: &&Life| life.dead.is_none() && !self.bad.contains(&life.revision);
        let life = self.lives.get(&slot).filter(runs);
        let volume = self
            .volumes
            .get(&slot)
            .filter(|volume| life.is_some_and(|life| life.volume == Some(volume.uid)));
        let Some(volume) = volume.filter(|_| !self.unreachable.contains(&slot)) else {
            return Seen::Unknown("timed out".to_owned());
        };
        let removed = |id| {
            self.group
                .as_ref()
                .is_some_and(|group| group.removed.contains(id))
        };
        let state = match volume.joined {
            None => NodeState::Unjoined,
            Some((cluster_uuid, member)) if removed(&member) => NodeState::Removed {
                cluster_uuid,
                member,
            },
            Some((cluster_uuid, member)) if life.is_some_and(|life| life.epoch > volume.epoch) => {
                NodeState::Refusing {
                    cluster_uuid: Some(cluster_uuid),
                    member: Some(member),
                    why: Refusing::Fenced,
                    message: "its epoch has ended".to_owned(),
                }
            }
            Some((cluster_uuid, member)) => NodeState::Joined {
                cluster_uuid,
                member,
            },
        };
        let joined = matches!(state, NodeState::Joined { .. });
        let index = match (joined, self.behind.contains(&slot)) {
            (false, _) => 0,
            (true, true) => 40,
            (true, false) => 70,
        };
        Seen::Known(NodeView {
            epoch: volume.joined.map_or(0, |_| volume.epoch),
            log: LogEnd { term: 3, index },
            state,
            directory: Some(DirectoryId(format!("d{}", volume.directory))),
            version: "0.1.0".to_owned(),
            ready: true,
            settings: life.map(|life| life.settings.clone()).unwrap_or_default(),
            certificates: BTreeMap::new(),
        })
    }

    /// One pass: observe, plan (twice: equal worlds give equal steps, I12), publish what is kept.
    pub fn pass(&mut self) -> Plan {
        let observed = self.observe();
        let decided = plan(&self.desired, &observed);
        assert_eq!(
            decided,
            plan(&self.desired, &observed),
            "I12: equal world, other plan"
        );
        self.drawn += 1;
        let lost = observed.membership.known().is_none() && self.record.is_bootstrapped();
        let since = self.record.quorum_absent_since.unwrap_or(observed.now);
        self.record.quorum_absent_since = lost.then_some(since);
        if let (Seen::Known(view), None) = (&observed.membership, &self.stale) {
            self.record.config_index_seen = view.config_index;
            let rows = view
                .members
                .iter()
                .filter_map(|(id, member)| Some((member.slot?, (*id, member.role))));
            let volumes = &self.volumes;
            self.record.last_members = rows
                .map(|(slot, (member, role))| {
                    let stamp = volumes.get(&slot).and_then(|volume| volume.stamp.as_ref());
                    let incarnation = stamp.map_or(0, |stamp| stamp.incarnation);
                    (
                        slot,
                        LastMember {
                            member,
                            incarnation,
                            voter: role == Role::Voter,
                        },
                    )
                })
                .collect();
        }
        decided
    }

    /// Carries a step out as a platform and its nodes would, or refuses it.
    pub fn apply(&mut self, step: &Step) -> Result<(), String> {
        if let Some(record) = self.record.with(step) {
            self.record = record;
            return Ok(());
        }
        let result = match step {
            Step::AddFinalizer => {
                self.finalizer = true;
                Ok(())
            }
            Step::DropFinalizer => {
                self.finalizer = false;
                Ok(())
            }
            Step::EnsureVolume { stamp, adopt } => self.ensure_volume(stamp, adopt.as_ref()),
            Step::DeleteVolume { slot, uid } => self.delete_volume(*slot, uid),
            Step::ReleaseVolume { slot, .. } => {
                let volume = self.volumes.get_mut(slot).ok_or("no volume")?;
                volume.released = true;
                Ok(())
            }
            Step::SetSlots { count, was } => {
                if self.count != *was {
                    return Err("conflict".to_owned());
                }
                if self.count.is_none() {
                    self.template_bytes = Some(self.desired.storage_bytes);
                }
                self.count = Some(*count);
                self.lives.retain(|slot, _| slot.0 < *count);
                Ok(())
            }
            Step::OrphanSlots => {
                self.count = None;
                self.lives.values_mut().for_each(|life| life.orphan = true);
                Ok(())
            }
            Step::ResizeVolume { slot, uid, bytes } => self.resize(*slot, uid, *bytes),
            Step::DeleteSlots => {
                self.count = None;
                self.lives.clear();
                Ok(())
            }
            Step::StopSlot { slot, uid, asking } => {
                self.ask_to_stop(*slot, *asking)?;
                let life = self.lives.get_mut(slot);
                if let Some(life) = life.filter(|life| format!("p{}", life.uid) == uid.0) {
                    life.stopping = true;
                }
                Ok(())
            }
            Step::LabelSlot { slot, role, .. } => {
                let life = self.lives.get_mut(slot).ok_or("no life")?;
                life.label = *role;
                Ok(())
            }
            Step::RestartSlot { slot, uid } => {
                self.lives.retain(|at, life| {
                    at != slot || format!("p{}", life.uid) != uid.0 || life.dead.is_none()
                });
                Ok(())
            }
            _ => match self.request(step) {
                Some(done) => done,
                None => self.change(step),
            },
        };
        self.settle();
        result
    }

    /// What the leader answers; and nobody who serves is stopped without being asked about.
    fn ask_to_stop(&self, slot: Slot, asking: Option<MemberId>) -> Result<(), String> {
        let voters = self.voters();
        let serving = self.joined(slot).filter(|id| voters.contains(id));
        let others = voters.iter().filter(|id| Some(**id) != serving);
        let enough = others.filter(|id| self.alive(**id)).count() >= quorum(voters.len());
        assert!(
            serving.is_none()
                || asking == serving
                || voters.len() <= 2
                || self.deleting
                || self.record.recovery.is_some(),
            "I3: voter {serving:?} is stopped without a question"
        );
        match asking {
            Some(id) if !enough => Err(format!("without {id} the quorum would be lost")),
            _ => Ok(()),
        }
    }

    fn ensure_volume(&mut self, stamp: &Stamp, adopt: Option<&VolumeUid>) -> Result<(), String> {
        if let Some(volume) = self.volumes.get_mut(&stamp.slot) {
            let same = volume.stamp.as_ref() == Some(stamp);
            if adopt.is_some_and(|uid| format!("v{}", volume.uid) == uid.0) {
                volume.stamp = Some(stamp.clone());
                return Ok(());
            }
            return if same {
                Ok(())
            } else {
                Err("another volume is there".to_owned())
            };
        }
        let (uid, directory) = (self.draw(), self.draw());
        let volume = Volume {
            uid,
            stamp: Some(stamp.clone()),
            deleting: false,
            released: false,
            directory,
            requested: self.desired.storage_bytes,
            capacity: self.desired.storage_bytes,
            mounted_by: None,
            joined: None,
            epoch: 0,
        };
        self.volumes.insert(stamp.slot, volume);
        Ok(())
    }

    fn resize(&mut self, slot: Slot, uid: &VolumeUid, bytes: u64) -> Result<(), String> {
        let life = self.lives.get(&slot).map(|life| life.uid);
        let volume = self.volumes.get_mut(&slot).ok_or("no volume")?;
        if format!("v{}", volume.uid) != uid.0 {
            return Err("another volume is there".to_owned());
        }
        assert!(bytes >= volume.capacity, "a volume is to shrink");
        volume.requested = bytes;
        if let Some(Growing::Remounted | Growing::Stubborn) = self.growing {
            volume.mounted_by = life.map(|life| (life, UnixMs(self.now)));
        }
        Ok(())
    }

    fn delete_volume(&mut self, slot: Slot, uid: &VolumeUid) -> Result<(), String> {
        let voters = self.voters();
        let Some(volume) = self.volumes.get_mut(&slot) else {
            return Ok(());
        };
        if format!("v{}", volume.uid) != uid.0 {
            return Ok(());
        }
        let owner = volume.stamp.as_ref().map(|stamp| stamp.member);
        let of_voter = owner.is_some_and(|owner| voters.contains(&owner));
        assert!(
            !of_voter || self.deleting,
            "I6: the volume of voter {owner:?} is deleted"
        );
        volume.deleting = true;
        Ok(())
    }

    /// What a fenced node does; and nobody of the old epoch may still run, unless it was forced.
    fn recover(&mut self, slot: Slot, uuid: ClusterUuid, epoch: u64) -> Result<(), String> {
        let told = self.lives.get(&slot).map_or(0, |life| life.epoch);
        let forced = self.record.recovery.as_ref().is_some_and(|it| it.force);
        let others = self.lives.iter().filter(|(at, _)| **at != slot);
        for (at, life) in others.filter(|(_, life)| life.dead.is_none()) {
            let holds = self.volumes.get(at).is_some_and(|it| it.joined.is_some());
            assert!(
                forced || life.epoch >= epoch || !holds,
                "H59: slot {at} may still serve the old epoch"
            );
        }
        let volume = self.volumes.get_mut(&slot).ok_or("no volume")?;
        let (ours, member) = volume.joined.ok_or("it is unjoined")?;
        if volume.epoch == epoch && ours == uuid {
            return Ok(());
        }
        if told != epoch || volume.epoch >= epoch || ours != uuid {
            return Err("it is not fenced".to_owned());
        }
        volume.epoch = epoch;
        let group = self.group.as_mut().ok_or("no cluster")?;
        let voter = matches!(group.members.get(&member), Some((_, Role::Voter)));
        assert!(voter, "member {member}, no voter, is to survive");
        let old = std::mem::take(&mut group.members);
        group
            .removed
            .extend(old.into_keys().filter(|id| *id != member));
        group.members = BTreeMap::from([(member, (Some(slot), Role::Voter))]);
        (group.epoch, group.leader) = (epoch, member);
        group.config_index += 2;
        group.term += 1;
        Ok(())
    }

    fn can_lead(&self, id: &MemberId) -> bool {
        !self.jammed && self.alive(*id) && !self.lagging.contains(id)
    }

    /// The steps of a recovery, which no quorum has a say in; `None` for any other.
    fn request(&mut self, step: &Step) -> Option<Result<(), String>> {
        if let Step::DropRequest { annotation, value } = step {
            let others =
                |request: &Once| request.annotation != *annotation || request.text != *value;
            self.desired.once.retain(others);
            let said = |request: &Result<RecoverRequest, String>| {
                request.as_ref().is_ok_and(|request| request.text == *value)
            };
            if self.desired.recover_request.as_ref().is_some_and(said) {
                self.desired.recover_request = None;
            }
            return Some(Ok(()));
        }
        match step {
            Step::Recover {
                slot,
                cluster_uuid,
                epoch,
            } => Some(self.recover(*slot, *cluster_uuid, *epoch)),
            _ => None,
        }
    }

    fn change(&mut self, step: &Step) -> Result<(), String> {
        if let Step::Bootstrap {
            slot,
            cluster_uuid,
            member,
        } = step
        {
            return self.bootstrap(*slot, *cluster_uuid, *member);
        }
        if let Step::Join {
            slot,
            cluster_uuid,
            member,
            displaces,
            ..
        } = step
        {
            return self.join(*slot, *cluster_uuid, *member, *displaces);
        }
        if !self.has_quorum() {
            return Err("no quorum".to_owned());
        }
        let caught_up = |id: &MemberId| self.alive(*id) && !self.lagging.contains(id);
        let ready = matches!(step, Step::Promote { member, .. } if caught_up(member));
        let can_lead = matches!(step, Step::TransferLeader { to, .. } if self.can_lead(to));
        let group = self.group.as_mut().ok_or("no cluster")?;
        let is = |id: &MemberId, role: Role| group.members.get(id).is_some_and(|row| row.1 == role);
        let expected = match step {
            Step::MemberAdd { member, .. } if group.members.contains_key(member) => return Ok(()),
            Step::Promote { member, .. } if is(member, Role::Voter) => return Ok(()),
            Step::MemberRemove { member, .. } if !group.members.contains_key(member) => {
                return Ok(());
            }
            Step::MemberAdd { expected, .. }
            | Step::Promote { expected, .. }
            | Step::MemberRemove { expected, .. } => *expected,
            Step::TransferLeader { to, .. } if can_lead && group.members.contains_key(to) => {
                group.leader = *to;
                group.term += 1;
                return Ok(());
            }
            _ => return Err("refused".to_owned()),
        };
        if expected != group.config_index {
            return Err("config changed".to_owned());
        }
        match step {
            Step::MemberAdd { slot, member, .. } => {
                if group.removed.contains(member) {
                    return Err("that ID was removed".to_owned());
                }
                group.members.insert(*member, (Some(*slot), Role::Learner));
            }
            Step::Promote { member, .. } => match group.members.get_mut(member) {
                Some(row) if ready => row.1 = Role::Voter,
                _ => return Err("not ready".to_owned()),
            },
            Step::MemberRemove { member, .. } => {
                group.members.remove(member);
                group.removed.insert(*member);
            }
            _ => return Err("refused".to_owned()),
        }
        group.config_index += 1;
        let voters = self.voters();
        let alive = voters.iter().filter(|id| self.alive(**id)).count();
        assert!(
            alive >= quorum(voters.len()),
            "{step:?} cost the quorum: {alive} of {voters:?}"
        );
        Ok(())
    }

    fn bootstrap(&mut self, slot: Slot, uuid: ClusterUuid, id: MemberId) -> Result<(), String> {
        let volume = self.volumes.get_mut(&slot).ok_or("no volume")?;
        match volume.joined {
            Some(pair) if pair == (uuid, id) => return Ok(()),
            Some(_) => return Err("the directory is not empty".to_owned()),
            None => (volume.joined, volume.epoch) = (Some((uuid, id)), 1),
        }
        self.bootstraps += 1;
        assert_eq!(self.bootstraps, 1, "I4: bootstrapped twice");
        self.homes.insert(id, volume.directory);
        self.group = Some(Group {
            uuid,
            epoch: 1,
            config_index: 1,
            term: 1,
            leader: id,
            members: BTreeMap::from([(id, (Some(slot), Role::Voter))]),
            removed: BTreeSet::new(),
        });
        Ok(())
    }

    fn join(
        &mut self,
        slot: Slot,
        uuid: ClusterUuid,
        id: MemberId,
        displaces: Option<MemberId>,
    ) -> Result<(), String> {
        let volume = self.volumes.get_mut(&slot).ok_or("no volume")?;
        if volume.joined == Some((uuid, id)) {
            return Ok(());
        }
        if volume.joined.is_some() && volume.joined.map(|(_, old)| old) != displaces {
            return Err("the directory is not empty".to_owned());
        }
        let home = *self.homes.entry(id).or_insert(volume.directory);
        assert_eq!(
            home, volume.directory,
            "I5: member {id} lives on a second directory"
        );
        volume.joined = Some((uuid, id));
        volume.epoch = self.group.as_ref().map_or(1, |group| group.epoch);
        Ok(())
    }

    /// What must hold after every event.
    pub fn check(&self) {
        let Some(group) = &self.group else { return };
        let learners = group
            .members
            .values()
            .filter(|row| row.1 == Role::Learner)
            .count();
        assert!(learners <= 1, "I2: {learners} learners");
        let operation = self
            .record
            .operation
            .as_ref()
            .map(|operation| &operation.kind);
        let asleep = matches!(operation, Some(OperationKind::Hibernate(_)));
        // Without a set nothing is shrunk: the pods live on.
        if !asleep && !self.deleting && self.count.is_some() {
            let top = group
                .members
                .values()
                .filter_map(|row| row.0)
                .map(Slot::count)
                .max();
            assert!(
                self.count >= top,
                "I1: {:?} slots for members up to {top:?}",
                self.count
            );
        }
    }

    /// Passes until nothing more happens; time moves while something is awaited.
    pub fn converge(&mut self, passes_max: u32) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..passes_max {
            self.settle();
            let decided = self.pass();
            last = format!("{:?}", decided);
            match decided.step {
                Some(step) => drop(self.apply(&step)),
                None if decided.notes.is_empty() => return Ok(()),
                None => self.now += 1_000,
            }
            self.check();
        }
        Err(last)
    }

    /// Somebody else adds a learner.
    pub fn intrude(&mut self, slot: Option<Slot>) {
        if let Some(group) = &mut self.group {
            group
                .members
                .insert(MemberId(0xf00d), (slot, Role::Learner));
            group.config_index += 1;
        }
    }

    /// Somebody else removes the member in this slot.
    pub fn expel(&mut self, slot: Slot) {
        if let Some(group) = &mut self.group {
            let there = group.members.iter().find(|(_, row)| row.0 == Some(slot));
            if let Some(id) = there.map(|(id, _)| *id) {
                group.members.remove(&id);
                group.removed.insert(id);
                group.config_index += 1;
            }
        }
    }

    /// A process ends.
    pub fn kill(&mut self, slot: Slot) {
        let now = UnixMs(self.now);
        if let Some(life) = self.lives.get_mut(&slot) {
            let exit = "signal 9".to_owned();
            life.dead = Some(Death {
                since: now,
                failures: 1,
                exit,
                data_refused: false,
            });
        }
    }

    /// The data is gone; with `stamp`, so is the stamp.
    pub fn wipe(&mut self, slot: Slot, stamp: bool) {
        let directory = self.draw();
        if let Some(volume) = self.volumes.get_mut(&slot) {
            volume.joined = None;
            volume.directory = directory;
            if stamp {
                volume.stamp = None;
            }
        }
    }
}

pub fn desired(replicas: u32) -> Desired {
    Desired {
        name: "example".to_owned(),
        replicas,
        version: "0.1.0".to_owned(),
        bootstrap: Bootstrap::New,
        storage_bytes: 1 << 30,
        when_deleted: VolumePolicy::Retain,
        when_scaled: VolumePolicy::Delete,
        repair: Repair {
            lost_volume: RepairPolicy::Replace,
            corrupt_member: RepairPolicy::Report,
            node_gone: RepairPolicy::Report,
            crash_loop: RepairPolicy::Report,
            crash_loop_threshold: 5,
            learner_deadline_ms: 900_000,
        },
        paused: false,
        hibernate: false,
        manual_update: false,
        min_ready_ms: 0,
        progress_deadline_ms: 600_000,
        once: Vec::new(),
        recover_request: None,
        min_outage_ms: 300_000,
        settings: "first".to_owned(),
        tls_peer: false,
        tls_client: false,
        backup: false,
        warnings: Vec::new(),
    }
}
