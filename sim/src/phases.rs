//! The end of a history: everything heals, clients are served again and fall silent, and the
//! cluster must settle and stay so.

use crate::checkers::{Violation, ensure};
use crate::options::{ELECTION_TICKS, TICK_US};
use crate::world::World;
use quorate_raft::{MemberId, Term};

/// Ticks that a healed cluster gets to settle while nobody applies anything: dozens of election
/// timeouts. One that goes on gets longer: sent one at a time, hundreds of entries take a while.
const HEALING_TICKS: u64 = 60 * ELECTION_TICKS as u64;
/// But not for ever.
const HEALING_TICKS_MAX: u64 = 20 * HEALING_TICKS;
/// For how long clients go on after the healing, at least.
const TRAFFIC_TICKS: u64 = 8 * ELECTION_TICKS as u64;
/// For how long a settled cluster must stay as it is.
const STEADY_TICKS: u64 = 4 * ELECTION_TICKS as u64;

impl World<'_> {
    /// Ends all faults and starts whoever is down.
    pub(crate) fn heal(&mut self) -> Result<(), Violation> {
        self.log(|| "everything heals".to_owned());
        self.faults = false;
        self.healed_at = self.now;
        self.acknowledged_at_healing = self.checks.acknowledged.len();
        self.net.heal();
        for host in self.hosts.values_mut() {
            host.store.calm();
        }
        let members: Vec<MemberId> = self.hosts.keys().copied().collect();
        for member in members {
            self.restart(member)?;
        }
        Ok(())
    }

    /// Lets a healed cluster serve, fall silent and settle, and asks whether it did. Ends as soon
    /// as it has, and has stayed so for a while.
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        let end = self.healed_at + HEALING_TICKS_MAX * TICK_US;
        let mut settled: Option<(u64, Term)> = None;
        let mut progress = (self.now, self.applied());
        while self.now < end.min(progress.0 + HEALING_TICKS * TICK_US) {
            self.run_until(self.now + u64::from(ELECTION_TICKS) * TICK_US)?;
            if self.applied() > progress.1 {
                progress = (self.now, self.applied());
            }
            if !self.quiet() {
                if !self.can_settle() && self.now > self.healed_at + 2 * TRAFFIC_TICKS * TICK_US {
                    break;
                }
                continue;
            }
            let term = self.checks.settled(&self.hosts).ok();
            match (settled, term) {
                (Some((since, before)), Some(now)) if before == now => {
                    if self.now >= since + STEADY_TICKS * TICK_US {
                        return Ok(());
                    }
                }
                (_, term) => settled = term.map(|term| (self.now, term)),
            }
        }
        if !self.can_settle() {
            return Ok(());
        }
        self.checks.settled(&self.hosts)?;
        ensure(self.served(), "serves", || {
            "no write was acknowledged after everything had healed".to_owned()
        })?;
        ensure(settled.is_some(), "elects", || {
            "the term does not stop growing".to_owned()
        })
    }

    /// How far all running members have applied, together.
    fn applied(&self) -> u64 {
        let running = self.hosts.values().filter_map(|host| host.running.as_ref());
        running.map(|running| running.machine.applied.0).sum()
    }

    /// Whether a write was acknowledged since everything healed.
    fn served(&self) -> bool {
        self.checks.acknowledged.len() > self.acknowledged_at_healing
    }

    /// Whether clients are silent: twice in the fault phase, since some bugs show only when traffic
    /// stops, and after the healing once they are served again.
    pub(crate) fn quiet(&self) -> bool {
        let phase = self.now * 10 / (self.options.ticks * TICK_US);
        let healing = self.now.saturating_sub(self.healed_at);
        phase == 4 || phase == 7 || (healing > TRAFFIC_TICKS * TICK_US && self.served())
    }

    /// Whether enough undamaged voters remain, in every membership that anybody may follow, to
    /// demand that the cluster comes back.
    fn can_settle(&self) -> bool {
        let mut memberships = self
            .hosts
            .values()
            .filter_map(|host| host.running.as_ref())
            .map(|running| running.node.membership())
            .filter(|membership| !membership.voters.is_empty())
            .peekable();
        memberships.peek().is_some()
            && memberships.all(|membership| {
                [&membership.voters, &membership.outgoing]
                    .into_iter()
                    .all(|half| {
                        let whole = half.iter().filter(|id| !self.hosts[id].damaged).count();
                        half.is_empty() || whole * 2 > half.len()
                    })
            })
    }
}
