//! What the cluster knows about its members beside Raft's sets: names, addresses, who is gone.
//!
//! Raft decides who votes; learner flags here are mirrored from it. An ID that was ever removed is
//! kept for good, because it must never return (C12).

use super::codec::{Cursor, DecodeError, Writer};
use super::command::MemberOp;
use super::error::Error;
use bytes::Bytes;
use quorate_raft::{MemberId, Membership};
use std::collections::{BTreeMap, BTreeSet};

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its identity; never 0.
    pub id: u64,
    /// Its name; empty until it has started and published itself.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until published.
    pub client_urls: Vec<String>,
    /// Receives the log without voting.
    pub learner: bool,
}

/// Which cluster this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterInfo {
    /// Identity of this one history; all zero before the bootstrap.
    pub uuid: [u8; 16],
    /// etcd's short form of it, in every response header.
    pub id: u64,
}

/// The replicated membership data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The cluster.
    pub cluster: ClusterInfo,
    /// Members by ID.
    pub members: BTreeMap<u64, Member>,
    /// IDs that were removed and never return.
    pub removed: BTreeSet<u64>,
    /// `major.minor` that every member runs at least; empty until announced.
    pub cluster_version: String,
}

/// Format of [`Members::encode`].
const FORMAT: u8 = 1;

impl Member {
    pub(super) fn write(&self, out: &mut Writer) {
        out.u64(self.id);
        out.flags(&[self.learner]);
        out.bytes(self.name.as_bytes());
        out.texts(&self.peer_urls);
        out.texts(&self.client_urls);
    }

    pub(super) fn read(from: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let id = from.u64()?;
        let [learner] = from.flags()?;
        let name = from.text()?;
        let (peer_urls, client_urls) = (from.texts()?, from.texts()?);
        Ok(Self {
            id,
            name,
            peer_urls,
            client_urls,
            learner,
        })
    }
}

impl ClusterInfo {
    pub(super) fn write(&self, out: &mut Writer) {
        out.raw(&self.uuid);
        out.u64(self.id);
    }

    pub(super) fn read(from: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            uuid: from.array()?,
            id: from.u64()?,
        })
    }
}

impl Members {
    /// All members, by ID.
    #[must_use]
    pub fn list(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    /// Whether the cluster has its identity.
    #[must_use]
    pub fn is_bootstrapped(&self) -> bool {
        self.cluster.uuid != [0; 16] || !self.members.is_empty()
    }

    /// Whether `op` is in order now. The leader asks before it proposes a Raft membership change,
    /// and apply asks for plain commands.
    ///
    /// # Errors
    /// etcd's refusals: ID or peer URL taken, no such member, not a learner; and a second
    /// bootstrap.
    pub fn check(&self, op: &MemberOp) -> Result<(), Error> {
        match op {
            MemberOp::Bootstrap { .. } if self.is_bootstrapped() => Err(Error::AlreadyBootstrapped),
            MemberOp::Bootstrap { .. } => Ok(()),
            MemberOp::Add(member) => {
                // In etcd's order: its clients hear "member not found" for a removed ID on every
                // call, also on an addition.
                if self.removed.contains(&member.id) {
                    return Err(Error::MemberIdRemoved);
                }
                if self.members.contains_key(&member.id) {
                    return Err(Error::MemberIdExists);
                }
                self.check_urls_free(member.id, &member.peer_urls)
            }
            MemberOp::Promote { id } => match self.members.get(id) {
                None => Err(Error::MemberNotFound),
                Some(member) if !member.learner => Err(Error::NotLearner),
                Some(_) => Ok(()),
            },
            MemberOp::Remove { id } => self.check_known(*id),
            MemberOp::Update { id, peer_urls } => {
                self.check_known(*id)?;
                self.check_urls_free(*id, peer_urls)
            }
            MemberOp::Publish { id, .. } => self.check_known(*id),
        }
    }

    fn check_known(&self, id: u64) -> Result<(), Error> {
        if self.members.contains_key(&id) {
            Ok(())
        } else {
            Err(Error::MemberNotFound)
        }
    }

    /// Refuses a URL that a member other than `id` has.
    fn check_urls_free(&self, id: u64, urls: &[String]) -> Result<(), Error> {
        let taken = self
            .members
            .values()
            .filter(|member| member.id != id)
            .any(|member| member.peer_urls.iter().any(|url| urls.contains(url)));
        if taken {
            Err(Error::PeerUrlExists)
        } else {
            Ok(())
        }
    }

    /// Executes a plain command.
    ///
    /// # Errors
    /// As [`Members::check`]; nothing is changed then.
    pub fn apply(&mut self, op: &MemberOp) -> Result<(), Error> {
        self.check(op)?;
        self.execute(op);
        Ok(())
    }

    /// Executes the context of a committed Raft membership entry, then mirrors `raft`.
    ///
    /// Never refuses: Raft's membership is in force since the entry was appended, and saying "no"
    /// afterwards would be a failure with an effect. The leader runs [`Members::check`] before.
    pub fn apply_raft(&mut self, raft: &Membership, op: Option<&MemberOp>) {
        if let Some(op) = op {
            self.execute(op);
        }
        self.mirror(raft);
    }

    fn execute(&mut self, op: &MemberOp) {
        match op {
            MemberOp::Bootstrap { cluster, members } => {
                self.cluster = *cluster;
                for member in members {
                    self.members.insert(member.id, member.clone());
                }
            }
            MemberOp::Add(member) => {
                self.members.insert(member.id, member.clone());
            }
            MemberOp::Promote { id } => {
                if let Some(member) = self.members.get_mut(id) {
                    member.learner = false;
                }
            }
            MemberOp::Remove { id } => {
                self.members.remove(id);
                self.removed.insert(*id);
            }
            MemberOp::Update { id, peer_urls } => {
                if let Some(member) = self.members.get_mut(id) {
                    member.peer_urls.clone_from(peer_urls);
                }
            }
            MemberOp::Publish {
                id,
                name,
                client_urls,
            } => {
                if let Some(member) = self.members.get_mut(id) {
                    member.name.clone_from(name);
                    member.client_urls.clone_from(client_urls);
                }
            }
        }
    }

    /// Makes the data agree with Raft's sets: who is in none of them is gone, who is only a
    /// learner does not vote, who is unknown appears without name and address.
    fn mirror(&mut self, raft: &Membership) {
        let everyone: BTreeSet<MemberId> = raft
            .voters
            .iter()
            .chain(&raft.outgoing)
            .chain(&raft.learners)
            .chain(&raft.learners_next)
            .copied()
            .collect();
        let gone: Vec<u64> = self
            .members
            .keys()
            .copied()
            .filter(|&id| !everyone.contains(&MemberId(id)))
            .collect();
        for id in gone {
            self.members.remove(&id);
            self.removed.insert(id);
        }
        for id in everyone {
            let member = self.members.entry(id.0).or_insert_with(|| Member {
                id: id.0,
                ..Member::default()
            });
            member.learner = !raft.voters.contains(&id) && !raft.outgoing.contains(&id);
        }
    }

    /// The bytes kept in the revision log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.byte(FORMAT);
        self.cluster.write(&mut out);
        out.bytes(self.cluster_version.as_bytes());
        out.len(self.members.len());
        for member in self.members.values() {
            member.write(&mut out);
        }
        out.len(self.removed.len());
        for id in &self.removed {
            out.u64(*id);
        }
        out.finish()
    }

    /// Reads what [`Members::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(input: &Bytes) -> Result<Self, DecodeError> {
        let mut from = Cursor::new(input);
        match from.byte()? {
            FORMAT => {}
            version => return Err(DecodeError::Version(version)),
        }
        let cluster = ClusterInfo::read(&mut from)?;
        let cluster_version = from.text()?;
        let count = from.count()?;
        let mut members = BTreeMap::new();
        for _ in 0..count {
            let member = Member::read(&mut from)?;
            members.insert(member.id, member);
        }
        let count = from.count()?;
        let removed = (0..count).map(|_| from.u64()).collect::<Result<_, _>>()?;
        from.finish()?;
        Ok(Self {
            cluster,
            members,
            removed,
            cluster_version,
        })
    }
}
