//! Any sequence of operations, restarts and power losses, compared with an index in memory.

use super::disk::{Loss, TestDisk};
use super::harness::{Machine, Plain};
use crate::storage::revision_log::{Compacted, MetaKind};
use proptest::prelude::*;
use quorate_raft::LogIndex;
use std::collections::BTreeMap;

/// One thing that happens to a log.
#[derive(Clone, Debug)]
enum Step {
    Put { key: u8, len: usize },
    Delete { key: u8 },
    Row { key: u8, len: usize },
    Mark,
    Allow { behind: u64 },
    Flush,
    Compact { behind: u64 },
    Rewrite,
    Restart,
    PowerLoss { torn: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6u8, 0..200usize).prop_map(|(key, len)| Step::Put { key, len }),
        2 => (0..6u8).prop_map(|key| Step::Delete { key }),
        2 => (0..3u8, 0..20usize).prop_map(|(key, len)| Step::Row { key, len }),
        6 => Just(Step::Mark),
        2 => (0..4u64).prop_map(|behind| Step::Allow { behind }),
        4 => Just(Step::Flush),
        2 => (0..6u64).prop_map(|behind| Step::Compact { behind }),
        4 => Just(Step::Rewrite),
        1 => Just(Step::Restart),
        1 => any::<bool>().prop_map(|torn| Step::PowerLoss { torn }),
    ];
    prop::collection::vec(step, 1..120)
}

/// The log and the states it went through.
struct World {
    disk: TestDisk,
    machine: Machine,
    /// By index of the mark.
    states: BTreeMap<u64, Plain>,
}

impl World {
    fn new() -> Self {
        let disk = TestDisk::new();
        let machine = Machine::open(&disk).unwrap();
        let states = BTreeMap::from([(0, machine.index.plain())]);
        Self {
            disk,
            machine,
            states,
        }
    }

    fn step(&mut self, step: &Step) {
        let machine = &mut self.machine;
        match *step {
            Step::Put { key, len } => {
                machine.put(&format!("key-{key}"), &vec![key; len]);
            }
            Step::Delete { key } => machine.delete(&format!("key-{key}")),
            Step::Row { key, len } => {
                machine.row(MetaKind::Lease, &key.to_string(), &vec![key; len]);
            }
            Step::Mark => {
                machine.mark();
                self.states.insert(machine.applied, machine.index.plain());
            }
            Step::Allow { behind } => {
                machine
                    .log
                    .allow_durable(LogIndex(machine.applied.saturating_sub(behind)));
            }
            Step::Flush => {
                machine.log.flush_step().unwrap();
            }
            Step::Compact { behind } => machine.compact(machine.revision.saturating_sub(behind)),
            Step::Rewrite => {
                let mut compactor = machine.log.compactor();
                for _ in 0..50 {
                    if machine.compactor_step(&mut compactor).unwrap() != Compacted::Worked {
                        break;
                    }
                }
            }
            Step::Restart => self.restart(Loss::Nothing),
            Step::PowerLoss { torn } => {
                self.restart(if torn { Loss::Torn } else { Loss::Unsynced });
            }
        }
        self.machine.check_values();
    }

    /// The process ends, and the log is opened again: it is at a mark that was synced, or later.
    fn restart(&mut self, loss: Loss) {
        let synced = self.machine.log.synced().index.0;
        self.disk.lose_power(loss);
        self.machine = Machine::open(&self.disk).unwrap();
        let mark = self.machine.applied;
        assert!(mark >= synced, "{mark} is behind {synced}");
        assert_eq!(self.machine.index.plain(), self.states[&mark]);
        self.states.retain(|index, _| *index <= mark);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_ends_in_a_state_that_was(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.step(&Step::Mark);
        world.machine.flush().unwrap();
        world.machine.compact_fully().unwrap();
        world.machine.check_values();
        world.restart(Loss::Unsynced);
    }
}
