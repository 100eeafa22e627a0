//! Automatic compaction on whole members, with a clock that the test moves.

use super::cluster::TestCluster;
use crate::auto_compaction::AutoCompactor;
use crate::auto_compaction::tests::HandClock;
use crate::config::AutoCompaction;
use crate::env::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Three members, the settings of all, and a compactor for each.
struct Compacted {
    cluster: TestCluster,
    clock: Arc<HandClock>,
    settings: watch::Sender<AutoCompaction>,
    compactors: Vec<AutoCompactor>,
}

impl Compacted {
    fn new(settings: AutoCompaction) -> Self {
        let cluster = TestCluster::of_static(3);
        let clock = Arc::new(HandClock::default());
        let (settings, seen) = watch::channel(settings);
        let compactors = (0..3)
            .map(|slot| {
                let clock: Arc<dyn Clock> = Arc::clone(&clock) as _;
                AutoCompactor::new(seen.clone(), cluster.handle(slot), clock)
            })
            .collect();
        let mut compacted = Self {
            cluster,
            clock,
            settings,
            compactors,
        };
        compacted.look_all();
        compacted
    }

    /// Moves time minute by minute; everybody looks each time, more often than is due.
    fn advance(&mut self, by: Duration) {
        for _ in 0..by.as_secs() / 60 {
            self.clock.advance(MINUTE);
            self.look_all();
        }
    }

    fn look_all(&mut self) {
        for slot in 0..self.compactors.len() {
            self.look(slot);
        }
    }

    fn look(&mut self, slot: usize) -> Option<Duration> {
        self.cluster.block_on(self.compactors[slot].look())
    }

    /// Writes, until every running member has it.
    fn put(&self, count: usize) {
        for _ in 0..count {
            self.cluster.put(0, "a", "1");
        }
        for slot in 0..3 {
            self.cluster
                .wait_for("a read", || self.cluster.is_up_to_date(slot));
        }
    }

    /// Waits until every running member is compacted at `revision`, and no further.
    fn await_compacted(&self, slots: &[usize], revision: i64) {
        for &slot in slots {
            let compacted = || {
                self.cluster
                    .handle(slot)
                    .reader()
                    .unwrap()
                    .compact_revision()
                    .0
            };
            self.cluster
                .wait_for(&format!("compaction on {slot}"), || compacted() >= revision);
            assert_eq!(compacted(), revision, "member {slot}");
        }
    }
}

#[test]
fn the_leader_forgets_all_but_the_newest_revisions_every_five_minutes() {
    let mut world = Compacted::new(AutoCompaction::Revision { keep: 10 });
    world.put(30);
    world.advance(4 * MINUTE);
    world.await_compacted(&[0, 1, 2], -1);
    world.advance(MINUTE);
    // Revision 31, without the ten behind it.
    world.await_compacted(&[0, 1, 2], 21);
    let leader = world.cluster.await_leader();
    let proposals = "etcd_server_proposals_applied_total";
    let applied = world.cluster.series(leader, proposals);
    world.advance(HOUR);
    let later = world.cluster.series(leader, proposals);
    assert!(later - applied < 1.0, "an idle cluster proposed something");
}

#[test]
fn a_new_leader_goes_on_where_the_last_one_was() {
    let mut world = Compacted::new(AutoCompaction::Periodic {
        retention_ms: 3_600_000,
    });
    world.put(20);
    world.advance(30 * MINUTE);
    world.put(20);
    world.advance(25 * MINUTE);
    let leader = world.cluster.await_leader();
    world.cluster.kill(leader);
    world.compactors.remove(leader);
    let rest: Vec<usize> = (0..3).filter(|slot| *slot != leader).collect();
    world.cluster.await_leader();
    world.await_compacted(&rest, -1);
    world.advance(30 * MINUTE);
    // What the first half hour wrote is older than an hour by now, and the rest is not.
    world.await_compacted(&rest, 21);
}

#[test]
fn settings_change_while_a_member_runs() {
    let mut world = Compacted::new(AutoCompaction::Off);
    assert_eq!(world.look(0), None);
    world.put(30);
    world.advance(2 * HOUR);
    world.await_compacted(&[0, 1, 2], -1);
    world
        .settings
        .send_replace(AutoCompaction::Revision { keep: 1 });
    world.advance(6 * MINUTE);
    world.await_compacted(&[0, 1, 2], 30);
    world.settings.send_replace(AutoCompaction::Off);
    world.put(30);
    world.advance(2 * HOUR);
    world.await_compacted(&[0, 1, 2], 30);
}
