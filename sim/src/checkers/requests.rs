//! `read-floor`, `nothing-lost`, and what must be true when all faults have ended.

use super::{Checks, Hosts, Violation, ensure};
use crate::host::Running;
use crate::machine::Machine;
use quorate_raft::{Envelope, LogIndex, MemberId, Message, RoleKind, Term};

impl Checks {
    /// A request was applied by the member that proposed it: its client is told.
    pub fn acknowledge(&mut self, request: u64, index: LogIndex) {
        self.acknowledged.insert(request, index);
        self.floor = self.floor.max(index);
    }

    /// A read was confirmed with `floor`; `due` was acknowledged before it was registered.
    ///
    /// # Errors
    /// A violation.
    pub fn read(&self, id: MemberId, floor: LogIndex, due: LogIndex) -> Result<(), Violation> {
        ensure(floor >= due, "read-floor", || {
            format!(
                "a read at {id} is confirmed at {floor}; {due} was acknowledged before it began"
            )
        })
    }

    /// A heartbeat leaves a leader; `sequence` numbers the moment.
    pub fn heartbeat_sent(&mut self, envelope: &Envelope, sequence: u64) {
        if let Message::Heartbeat { round, .. } = envelope.message {
            self.rounds
                .entry((envelope.from, envelope.term, round))
                .or_insert(sequence);
        }
    }

    /// An answer to a heartbeat reaches the leader.
    pub fn heartbeat_answered(&mut self, envelope: &Envelope) {
        if let Message::HeartbeatResponse { round } = envelope.message {
            let answers = self
                .answers
                .entry((envelope.to, envelope.term))
                .or_default();
            let newest = answers.entry(envelope.from).or_insert(round);
            *newest = round.max(*newest);
        }
    }

    /// `read-context-fresh`: a leader confirms a read of its own only with answers to heartbeats
    /// that left after the read was registered, from a quorum (E2).
    ///
    /// # Errors
    /// A violation.
    pub fn confirmed_freshly(
        &self,
        leader: MemberId,
        registered: u64,
        running: &Running,
    ) -> Result<(), Violation> {
        let term = running.node.term();
        let answers = self.answers.get(&(leader, term));
        let fresh = |voter: &&MemberId| {
            let round = answers.and_then(|answers| answers.get(*voter)).copied();
            let sent = round.and_then(|round| self.rounds.get(&(leader, term, round)));
            **voter == leader || sent.is_some_and(|sent| *sent >= registered)
        };
        let membership = running.node.membership();
        for half in [&membership.voters, &membership.outgoing] {
            let count = half.iter().filter(fresh).count();
            ensure(
                half.is_empty() || count * 2 > half.len(),
                "read-context-fresh",
                || {
                    format!(
                        "{leader} confirms a read registered at {registered} with {count} fresh answers \
                     of {half:?}: {answers:?}"
                    )
                },
            )?;
        }
        Ok(())
    }

    /// Everything acknowledged is in this state.
    ///
    /// # Errors
    /// A violation.
    pub fn nothing_lost(&self, id: MemberId, machine: &Machine) -> Result<(), Violation> {
        for (request, index) in &self.acknowledged {
            let found = machine.requests.get(request);
            ensure(found == Some(index), "nothing-lost", || {
                format!("request {request} was acknowledged at {index}; {id} has it at {found:?}")
            })?;
        }
        Ok(())
    }

    /// After the healing: one leader, everybody equal, nothing waiting. Answers the leader's term.
    ///
    /// # Errors
    /// A violation, named by what is missing.
    pub fn settled(&self, hosts: &Hosts) -> Result<Term, Violation> {
        let leaders: Vec<MemberId> = hosts
            .values()
            .filter(|host| {
                let running = host.running.as_ref();
                running.is_some_and(|running| running.node.role() == RoleKind::Leader)
            })
            .map(|host| host.id)
            .collect();
        let leader = match leaders[..] {
            [leader] => leader,
            _ => {
                return Err(Violation {
                    property: "elects",
                    what: format!("leaders: {leaders:?}"),
                });
            }
        };
        let running = hosts[&leader].running.as_ref().expect("it leads");
        let status = running.node.status();
        ensure(status.membership_settled, "config-settles", || {
            format!("{status:?}")
        })?;
        ensure(status.commit == status.last.index, "serves", || {
            format!(
                "leader {leader}: commit {} of {}",
                status.commit, status.last
            )
        })?;
        ensure(self.floor >= LogIndex(1), "serves", || {
            "nothing was acknowledged".to_owned()
        })?;
        let membership = running.node.membership();
        for id in membership.voters.iter().chain(&membership.learners) {
            let Some(peer) = hosts.get(id).filter(|host| !host.damaged) else {
                continue;
            };
            let Some(peer) = &peer.running else { continue };
            let same = peer.machine.applied == running.machine.applied
                && peer.machine.digest == running.machine.digest;
            ensure(same, "converges", || {
                format!(
                    "{id} applied {} of {} (its last {}, term {}; leader {leader}, term {})",
                    peer.machine.applied,
                    running.machine.applied,
                    peer.node.last(),
                    peer.node.term(),
                    running.node.term()
                )
            })?;
            ensure(
                peer.reads.is_empty() && peer.confirmed.is_empty(),
                "requests-end",
                || {
                    format!(
                        "{id}: {} reads still wait",
                        peer.reads.len() + peer.confirmed.len()
                    )
                },
            )?;
            self.nothing_lost(*id, &peer.machine)?;
        }
        Ok(status.term)
    }
}
