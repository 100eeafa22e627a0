//! What every role has: identity, term and vote, the log, what is committed, the election timer,
//! reads sent to the leader. Roles decide; this file keeps the books, and puts what they say where
//! it may leave (the table of persist-before-send is [`Need`]).

use crate::config::{Config, Repair, Restored};
use crate::error::StartError;
use crate::log::Log;
use crate::message::{Envelope, Message, Payload};
use crate::output::{Notice, Output, Persist, ReadFloor, ReadOutcome};
use crate::timer::Timer;
use crate::types::{EntryId, HardState, LogIndex, MemberId, ReadId, Term};
use alloc::collections::BTreeMap;

/// Everything about a member but its role.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub config: Config,
    /// Term and vote in memory; may be ahead of the disk.
    pub hard_state: HardState,
    /// Term and vote on the disk.
    durable_hard_state: HardState,
    /// Whether `hard_state` still has to be handed out for writing.
    hard_state_unsaved: bool,
    pub log: Log,
    commit: LogIndex,
    /// Handed out for applying up to here.
    applied: LogIndex,
    leader: Option<MemberId>,
    pub timer: Timer,
    /// Reads we asked the leader for, with the ticks they have waited.
    forwarded: BTreeMap<ReadId, u32>,
    /// Set while entries or the state machine are being fetched again.
    pub repair: Option<Repairing>,
}

/// Where a repair stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repairing {
    /// Where our log may agree with the leader's, as last found out.
    pub hint: EntryId,
    /// A snapshot has to come before entries.
    pub state_is_lost: bool,
}

/// What must be durable here before a message may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Pre-votes, which promise nothing, and what a leader says: its term is durable since it won.
    Nothing,
    /// The term and vote in memory: all answers and vote requests.
    HardState,
    /// The log up to here, and term and vote.
    Log(LogIndex),
}

impl Common {
    pub fn new(config: Config, restored: Restored) -> Result<Self, StartError> {
        check_config(&config)?;
        check_restored(&restored)?;
        let Restored {
            hard_state,
            snapshot,
            entries,
            commit,
            applied,
            repair,
        } = restored;
        let log = Log::new(&snapshot, entries);
        // The hint may be newer than what is left of the log, and older than the state machine.
        let commit = commit.min(log.last().index).max(applied);
        let timer = Timer::new(&config, hard_state.term);
        let repair = repair.map(|lost| Repairing {
            hint: log.last(),
            state_is_lost: lost == Repair::State,
        });
        // Without a state machine nothing may be handed out for applying.
        let commit = match &repair {
            Some(repair) if repair.state_is_lost => applied,
            Some(_) | None => commit,
        };
        Ok(Self {
            config,
            hard_state,
            durable_hard_state: hard_state,
            hard_state_unsaved: false,
            log,
            commit,
            applied,
            leader: None,
            timer,
            forwarded: BTreeMap::new(),
            repair,
        })
    }

    /// Whether the planted bug `row` is alive: never, but in builds that prove the simulator.
    #[cfg(planted)]
    pub fn planted(&self, row: u32) -> bool {
        self.config.planted == row
    }

    /// Whether the planted bug `row` is alive: never, but in builds that prove the simulator.
    #[cfg(not(planted))]
    pub const fn planted(&self, _row: u32) -> bool {
        false
    }

    pub fn id(&self) -> MemberId {
        self.config.id
    }

    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    pub fn commit(&self) -> LogIndex {
        self.commit
    }

    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    pub fn leader(&self) -> Option<MemberId> {
        self.leader
    }

    /// A member that its own newest membership calls a voter may campaign, no other (A16, C3), and
    /// not while it is under repair.
    pub fn may_campaign(&self) -> bool {
        self.repair.is_none() && self.log.membership().is_voter(self.id())
    }

    /// Takes a newer term; the vote in it is still free.
    pub fn adopt_term(&mut self, term: Term) {
        assert!(
            term > self.term(),
            "term {term} does not follow {}",
            self.term()
        );
        self.set_hard_state(HardState { term, vote: None });
        self.timer.new_term(&self.config, term);
    }

    pub fn set_hard_state(&mut self, to: HardState) {
        let from = self.hard_state;
        assert!(
            to.term > from.term
                || (to.term == from.term && from.vote.is_none_or(|v| to.vote == Some(v))),
            "{from:?} must not become {to:?}: a term never shrinks and a vote is given once"
        );
        if to != from {
            self.hard_state = to;
            self.hard_state_unsaved = true;
        }
    }

    /// Whether term and vote in memory are on disk.
    pub fn hard_state_is_durable(&self) -> bool {
        self.durable_hard_state == self.hard_state
    }

    pub fn note_durable_hard_state(&mut self, durable: HardState) {
        assert!(
            durable.term >= self.durable_hard_state.term && durable.term <= self.term(),
            "{durable:?} became durable after {:?}, while memory has {:?}",
            self.durable_hard_state,
            self.hard_state
        );
        self.durable_hard_state = durable;
    }

    /// Remembers who leads. Reads that wait for another leader's answer are dropped.
    pub fn set_leader(&mut self, leader: Option<MemberId>, out: &mut Output) {
        if self.leader == leader {
            return;
        }
        self.leader = leader;
        self.drop_forwarded(out);
        out.notices.push(Notice::LeaderChanged {
            leader,
            term: self.term(),
        });
    }

    /// Raises the commit index. What it covers is handed out when the step ends.
    pub fn commit_to(&mut self, index: LogIndex) {
        let last = self.log.last().index;
        assert!(
            index <= last,
            "commit index {index} is beyond the end of the log, {last}"
        );
        self.commit = self.commit.max(index);
    }

    /// The log now begins after a snapshot, and so does the state machine.
    pub fn restart_after(&mut self, index: LogIndex) {
        assert!(
            index > self.commit || (self.lacks_state() && index == self.commit),
            "snapshot {index} holds nothing beyond {}",
            self.commit
        );
        self.commit = index;
        self.applied = index;
    }

    /// Whether a snapshot is wanted because the state machine is gone.
    pub fn lacks_state(&self) -> bool {
        self.repair.is_some_and(|repair| repair.state_is_lost)
    }

    /// Sends `message` in our term, as soon as `need` allows.
    pub fn send(&self, to: MemberId, message: Message, need: Need, out: &mut Output) {
        self.send_in(self.term(), to, message, need, out);
    }

    /// Sends `message` in `term`: pre-votes speak of a term that does not exist yet.
    pub fn send_in(
        &self,
        term: Term,
        to: MemberId,
        message: Message,
        need: Need,
        out: &mut Output,
    ) {
        assert!(to != self.id(), "member {to} talks to itself: {message:?}");
        let hard_state_write = if self.hard_state_is_durable() {
            None
        } else {
            self.log.hard_state_write(self.hard_state_unsaved)
        };
        let write = match need {
            Need::Nothing => None,
            Need::HardState => hard_state_write,
            Need::Log(index) => hard_state_write.max(self.log.write_covering(index)),
        };
        let envelope = Envelope {
            from: self.id(),
            to,
            term,
            message,
        };
        match write {
            None => out.messages.push(envelope),
            Some(id) => out.after_persist.push((id, envelope)),
        }
    }

    /// Notes that a message was not acted upon.
    pub fn ignore(&self, from: MemberId, what: &'static str, out: &mut Output) {
        out.notices.push(Notice::MessageIgnored { from, what });
    }

    /// Ends a step: hands out what has to be written and what may be applied, and asserts what must
    /// hold between steps.
    pub fn finish(&mut self, out: &mut Output) {
        let hard_state = self.hard_state_unsaved.then_some(self.hard_state);
        if let Some((id, entries)) = self.log.begin_write(hard_state) {
            out.persist.push(Persist {
                id,
                hard_state,
                entries,
            });
            self.hard_state_unsaved = false;
        }
        if self.applied < self.commit {
            out.apply
                .extend(self.log.between(self.applied, self.commit).cloned());
            self.applied = self.commit;
        }
        self.assert_order();
    }

    fn assert_order(&self) {
        let (base, last, durable) = (self.log.base(), self.log.last(), self.log.durable());
        assert!(
            base.index <= self.applied,
            "log begins at {base}, applied {}",
            self.applied
        );
        assert!(
            self.applied <= self.commit,
            "applied {} > commit {}",
            self.applied,
            self.commit
        );
        assert!(
            self.commit <= last.index,
            "commit {} > last {last}",
            self.commit
        );
        assert!(
            base.index <= durable,
            "log begins at {base}, durable {durable}"
        );
        assert!(durable <= last.index, "durable {durable} > last {last}");
        assert!(
            last.term <= self.term(),
            "entry {last} is newer than term {}",
            self.term()
        );
    }
}

// Reads that another member answers.
impl Common {
    /// How many reads wait for the leader's answer.
    pub fn forwarded_count(&self) -> usize {
        self.forwarded.len()
    }

    /// Asks `leader` for the floor of `read`.
    pub fn forward_read(&mut self, read: ReadId, leader: MemberId, out: &mut Output) {
        self.forwarded.insert(read, 0);
        self.send(leader, Message::ReadIndex { read }, Need::HardState, out);
    }

    /// The leader has answered, or nobody will any more.
    pub fn end_forwarded(&mut self, read: ReadId, floor: Option<LogIndex>, out: &mut Output) {
        if self.forwarded.remove(&read).is_some() {
            let outcome = floor.map_or(ReadOutcome::Dropped, ReadOutcome::Floor);
            out.reads.push(ReadFloor { read, outcome });
        }
    }

    /// Drops all of them: the leader that was asked no longer counts (E3).
    pub fn drop_forwarded(&mut self, out: &mut Output) {
        while let Some((read, _)) = self.forwarded.pop_first() {
            out.reads.push(ReadFloor {
                read,
                outcome: ReadOutcome::Dropped,
            });
        }
    }

    /// Drops those that have waited for an election timeout: question or answer was lost.
    pub fn age_forwarded(&mut self, out: &mut Output) {
        let limit = self.config.election_ticks;
        self.forwarded.retain(|read, waited| {
            *waited += 1;
            let keep = *waited < limit;
            if !keep {
                out.reads.push(ReadFloor {
                    read: *read,
                    outcome: ReadOutcome::Dropped,
                });
            }
            keep
        });
    }
}

fn check_config(config: &Config) -> Result<(), StartError> {
    let refuse = |wrong: bool, what| {
        if wrong {
            Err(StartError::Config(what))
        } else {
            Ok(())
        }
    };
    refuse(config.id == MemberId(0), "the member ID must not be 0")?;
    refuse(config.heartbeat_ticks == 0, "heartbeat_ticks must not be 0")?;
    refuse(
        config.election_ticks <= config.heartbeat_ticks,
        "election_ticks must be greater than heartbeat_ticks",
    )?;
    refuse(
        config.election_ticks > u32::MAX / 4,
        "election_ticks is too large",
    )?;
    refuse(
        config.inflight_appends_max == 0,
        "inflight_appends_max must not be 0",
    )?;
    refuse(
        config.append_bytes_max == 0,
        "append_bytes_max must not be 0",
    )?;
    refuse(
        config.pending_reads_max == 0,
        "pending_reads_max must not be 0",
    )
}

fn check_restored(restored: &Restored) -> Result<(), StartError> {
    let Restored {
        hard_state,
        snapshot,
        entries,
        commit: _,
        applied,
        repair: _,
    } = restored;
    if !snapshot.membership.is_consistent() || snapshot.membership_index > snapshot.last.index {
        return Err(StartError::Membership(snapshot.membership_index));
    }
    let mut last = snapshot.last;
    for entry in entries {
        let index = entry.id.index;
        if last.index.0.checked_add(1) != Some(index.0) {
            return Err(StartError::NotContiguous {
                expected: last.index.next(),
                found: index,
            });
        }
        if entry.id.term < last.term {
            return Err(StartError::TermOrder {
                index,
                found: entry.id.term,
            });
        }
        if let Payload::Membership { membership, .. } = &entry.payload
            && (!membership.is_consistent() || membership.is_empty())
        {
            return Err(StartError::Membership(index));
        }
        last = entry.id;
    }
    if last.term > hard_state.term {
        return Err(StartError::TermOrder {
            index: last.index,
            found: last.term,
        });
    }
    if *applied > last.index {
        return Err(StartError::AppliedBeyondLog {
            applied: *applied,
            last: last.index,
        });
    }
    if *applied < snapshot.last.index {
        let base = snapshot.last.index;
        return Err(StartError::AppliedBeforeLog {
            applied: *applied,
            base,
        });
    }
    Ok(())
}
