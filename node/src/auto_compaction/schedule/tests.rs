//! Schedules against a world that is made up: time, writes, leadership and settings as arguments.

use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// A member, its store, and whoever looks when a look is due.
struct World {
    schedule: Schedule,
    facts: Facts,
    /// When to look next; `None`: not before the settings change.
    look_at_ms: Option<u64>,
    /// Every change of the revision, by time: the model.
    history: Vec<(u64, i64)>,
    /// What a proposal comes to.
    succeeds: bool,
    /// Proposals: time and revision.
    proposed: Vec<(u64, i64)>,
}

impl World {
    /// A leader whose store is empty, at a time that is not zero.
    fn new(settings: AutoCompaction) -> Self {
        let now_ms = 7 * HOUR + 123;
        let mut world = Self {
            schedule: Schedule::default(),
            facts: Facts {
                now_ms,
                leads: true,
                store: Some(StoreFacts {
                    cluster_uuid: [7; 16],
                    revision: 1,
                    compacted: -1,
                }),
            },
            look_at_ms: None,
            history: vec![(0, 1)],
            succeeds: true,
            proposed: Vec::new(),
        };
        world.set(settings);
        world
    }

    fn store(&mut self) -> &mut StoreFacts {
        self.facts
            .store
            .as_mut()
            .expect("this test keeps the store")
    }

    fn set(&mut self, settings: AutoCompaction) {
        self.schedule.set(settings);
        self.look();
    }

    fn look(&mut self) {
        let now_ms = self.facts.now_ms;
        let decision = self.schedule.look(&self.facts);
        self.look_at_ms = decision.look_at_ms;
        if let Some(revision) = decision.compact {
            self.proposed.push((now_ms, revision));
            if self.succeeds {
                self.store().compacted = revision;
                self.schedule.compacted(now_ms);
            }
        }
    }

    fn advance(&mut self, ms: u64) {
        let end_ms = self.facts.now_ms + ms;
        while let Some(at_ms) = self.look_at_ms.filter(|at_ms| *at_ms <= end_ms) {
            self.facts.now_ms = at_ms.max(self.facts.now_ms);
            self.look();
            assert!(self.look_at_ms > Some(at_ms), "looks twice at one time");
        }
        self.facts.now_ms = end_ms;
    }

    fn write(&mut self, count: i64) {
        let now_ms = self.facts.now_ms;
        let store = self.store();
        store.revision += count;
        let revision = store.revision;
        self.history.push((now_ms, revision));
    }

    /// Writes once a minute.
    fn write_for(&mut self, ms: u64) {
        for _ in 0..ms / MINUTE {
            self.write(1);
            self.advance(MINUTE);
        }
    }

    fn revision_at(&self, ms: u64) -> i64 {
        let reached = self.history.iter().rev().find(|(at_ms, _)| *at_ms <= ms);
        reached.map_or(1, |(_, revision)| *revision)
    }

    /// Minutes since the beginning of each proposal, with its revision.
    fn proposed(&mut self) -> Vec<(u64, i64)> {
        let since = |(at_ms, revision)| ((at_ms - 7 * HOUR - 123) / MINUTE, revision);
        std::mem::take(&mut self.proposed)
            .into_iter()
            .map(since)
            .collect()
    }
}

const fn periodic(retention_ms: u64) -> AutoCompaction {
    AutoCompaction::Periodic { retention_ms }
}

#[test]
fn by_time_it_begins_after_the_retention_and_repeats_every_period() {
    // retention, minutes written, (minute, revision); what minute n writes, revision n + 2,
    // comes after the look of that minute.
    let table = [
        (10 * MINUTE, 35, [(10, 2), (20, 11), (30, 21)]),
        (HOUR, 200, [(60, 2), (120, 61), (180, 121)]),
        (3 * HOUR, 310, [(180, 2), (240, 61), (300, 121)]),
    ];
    for (retention_ms, minutes, expected) in table {
        let mut world = World::new(AutoCompaction::Off);
        world.write(1);
        world.set(periodic(retention_ms));
        world.advance(MINUTE);
        world.write_for((minutes - 1) * MINUTE);
        assert_eq!(world.proposed(), expected, "{retention_ms} ms");
    }
}

#[test]
fn a_period_that_does_not_divide_evenly_is_not_stretched() {
    let mut world = World::new(periodic(1_005));
    for _ in 0..1_000 {
        world.write(1);
        world.advance(10);
    }
    let times = world.proposed.iter().map(|(at_ms, _)| *at_ms);
    let gaps: Vec<u64> = times
        .clone()
        .zip(times.skip(1))
        .map(|(one, next)| next - one)
        .collect();
    assert_eq!(gaps, [1_010; 8]);
}

#[test]
fn by_number_it_looks_every_five_minutes() {
    let mut world = World::new(AutoCompaction::Revision { keep: 7 });
    world.write_for(21 * MINUTE);
    // After 5 minutes the store is at revision 6: none can go yet.
    assert_eq!(world.proposed(), [(10, 4), (15, 9), (20, 14)]);
    let mut world = World::new(AutoCompaction::Revision { keep: u64::MAX });
    world.write_for(HOUR);
    assert_eq!(world.proposed(), []);
}

#[test]
fn turned_off_or_with_nothing_new_it_proposes_nothing() {
    let mut world = World::new(AutoCompaction::Off);
    world.write_for(2 * HOUR);
    assert_eq!((world.proposed(), world.look_at_ms), (vec![], None));
    let mut world = World::new(periodic(10 * MINUTE));
    world.advance(24 * HOUR);
    assert_eq!(world.proposed(), [], "the store is empty");
    world.write(5);
    world.advance(24 * HOUR);
    assert_eq!(
        world.proposed().len(),
        1,
        "one compaction forgets all there is"
    );
    assert!(
        world.schedule.samples.len() <= 2,
        "an idle store costs no memory"
    );
}

#[test]
fn a_failure_is_made_good_at_the_next_look() {
    let mut world = World::new(AutoCompaction::Off);
    world.write(1);
    world.set(periodic(10 * MINUTE));
    world.write_for(9 * MINUTE);
    world.succeeds = false;
    world.write_for(3 * MINUTE);
    world.succeeds = true;
    world.write_for(12 * MINUTE);
    let minutes: Vec<u64> = world.proposed().iter().map(|(minute, _)| *minute).collect();
    assert_eq!(minutes, [10, 11, 12, 13, 23]);
}

#[test]
fn a_follower_proposes_nothing_and_goes_on_where_the_last_leader_was() {
    let mut world = World::new(periodic(HOUR));
    world.facts.leads = false;
    world.write_for(100 * MINUTE);
    assert_eq!(world.proposed(), []);
    world.facts.leads = true;
    world.write_for(10 * MINUTE);
    // At the next look, one hour back: what it sampled as a follower counts.
    assert_eq!(world.proposed(), [(102, 43)]);
    world.facts.leads = false;
    world.write_for(3 * HOUR);
    assert_eq!(world.proposed(), []);
}

#[test]
fn what_a_user_compacted_further_is_left_alone() {
    for settings in [periodic(10 * MINUTE), AutoCompaction::Revision { keep: 10 }] {
        let mut world = World::new(settings);
        for _ in 0..60 {
            world.write(1);
            world.store().compacted = world.store().revision;
            world.advance(MINUTE);
        }
        assert_eq!(world.proposed(), [], "{settings}");
        world.write_for(21 * MINUTE);
        let first = world.proposed()[0];
        assert!(first.1 > 61, "{settings}: {first:?}");
    }
}

#[test]
fn settings_that_change_hold_at_once() {
    let mut world = World::new(periodic(24 * HOUR));
    world.write_for(5 * HOUR);
    assert_eq!(world.proposed(), []);
    world.set(periodic(HOUR));
    // Samples of the longer retention tell where the store was an hour ago.
    assert_eq!(world.proposed(), [(300, 241)]);
    // Also when the last compaction is not a period ago.
    world.set(periodic(30 * MINUTE));
    assert_eq!(world.proposed(), [(300, 271)]);
    world.set(periodic(HOUR));
    world.write_for(HOUR);
    assert_eq!(world.proposed().len(), 1);
    world.set(AutoCompaction::Off);
    world.write_for(2 * HOUR);
    assert_eq!((world.proposed(), world.look_at_ms), (vec![], None));
    world.set(AutoCompaction::Revision { keep: 10 });
    world.advance(5 * MINUTE);
    assert_eq!(world.proposed(), [(485, 471)]);
    world.set(AutoCompaction::Revision { keep: 3 });
    world.set(AutoCompaction::Revision { keep: 3 });
    world.advance(5 * MINUTE);
    assert_eq!(world.proposed(), [(490, 478)]);
}

#[test]
fn a_look_too_early_changes_nothing() {
    let mut world = World::new(periodic(HOUR));
    let mut patient = World::new(periodic(HOUR));
    for minute in 0..200 {
        world.write(1);
        patient.write(1);
        for _ in 0..3 {
            let due = world.look_at_ms;
            world.look();
            assert!(
                world.look_at_ms == due || minute % 6 == 0,
                "minute {minute}"
            );
        }
        world.advance(MINUTE);
        patient.advance(MINUTE);
    }
    assert_eq!(world.proposed(), patient.proposed());
}

#[test]
fn a_clock_that_goes_back_only_delays() {
    let mut world = World::new(periodic(10 * MINUTE));
    world.write_for(25 * MINUTE);
    world.proposed();
    let revision = world.store().revision;
    world.facts.now_ms -= 5 * HOUR;
    world.look();
    assert_eq!(world.proposed, []);
    world.write(100);
    world.advance(9 * MINUTE);
    assert_eq!(world.proposed, []);
    world.advance(2 * MINUTE);
    // Nothing is known of before the jump but where the store was then.
    assert_eq!(world.proposed.len(), 1);
    assert_eq!(world.proposed[0].1, revision);
}

#[test]
fn samples_of_another_history_or_without_a_store_decide_nothing() {
    let mut world = World::new(periodic(10 * MINUTE));
    world.facts.leads = false;
    world.write_for(30 * MINUTE);
    world.facts.leads = true;
    world.store().cluster_uuid = [8; 16];
    world.store().revision = 1_000;
    world.advance(5 * MINUTE);
    assert_eq!(world.proposed(), []);
    world.store().revision = 5;
    world.advance(9 * MINUTE);
    assert_eq!(world.proposed(), [], "the revision fell");
    let store = world.facts.store.take();
    world.advance(HOUR);
    assert_eq!(world.proposed(), []);
    world.facts.store = store;
    world.advance(2 * MINUTE);
    assert_eq!(
        world.proposed().last().map(|(_, revision)| *revision),
        Some(5)
    );
}

#[derive(Clone, Debug)]
enum Event {
    Advance(u64),
    Write(i64),
    Lead(bool),
    Succeed(bool),
    UserCompacts { behind: i64 },
    Set(AutoCompaction),
}

fn settings() -> impl Strategy<Value = AutoCompaction> {
    prop_oneof![
        Just(AutoCompaction::Off),
        (1..5_000u64).prop_map(|ms| periodic(1_000 + ms)),
        (1..30u64).prop_map(|tenths| periodic(tenths * HOUR / 10)),
        (1..50u64).prop_map(|keep| AutoCompaction::Revision { keep }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1..2 * HOUR).prop_map(Event::Advance),
        3 => (1..30 * SECOND).prop_map(Event::Advance),
        8 => (1..20i64).prop_map(Event::Write),
        1 => any::<bool>().prop_map(Event::Lead),
        1 => any::<bool>().prop_map(Event::Succeed),
        1 => (0..20i64).prop_map(|behind| Event::UserCompacts { behind }),
        1 => settings().prop_map(Event::Set),
    ]
}

/// What was proposed since keeps the history that the settings promise.
fn check(world: &mut World, settings: AutoCompaction, led: bool) {
    for (at_ms, revision) in std::mem::take(&mut world.proposed) {
        assert!(led, "a follower proposed");
        assert!(revision > FIRST_REVISION, "nothing lies below {revision}");
        let now = world.revision_at(at_ms);
        match settings {
            AutoCompaction::Off => panic!("turned off"),
            AutoCompaction::Revision { keep } => {
                assert_eq!(revision, now.saturating_sub_unsigned(keep));
            }
            AutoCompaction::Periodic { retention_ms } => {
                let kept_from = world.revision_at(at_ms - retention_ms);
                assert!(
                    revision <= kept_from,
                    "{revision} is younger than the retention"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn the_promised_history_is_kept_and_the_rest_goes(
        first in settings(),
        events in prop::collection::vec(event(), 1..60),
        last in settings(),
    ) {
        let mut world = World::new(first);
        let mut now = first;
        for event in events {
            let before = world.store().compacted;
            match event {
                Event::Advance(ms) => world.advance(ms),
                Event::Write(count) => world.write(count),
                Event::Lead(leads) => world.facts.leads = leads,
                Event::Succeed(succeeds) => world.succeeds = succeeds,
                Event::UserCompacts { behind } => {
                    let store = world.store();
                    store.compacted = store.compacted.max(store.revision - behind);
                }
                Event::Set(settings) => {
                    now = settings;
                    world.set(settings);
                }
            }
            prop_assert!(world.proposed.iter().all(|(_, revision)| *revision > before));
            let led = world.facts.leads;
            check(&mut world, now, led);
        }
        // In the end a steady leader forgets all that is older than it must be.
        (world.facts.leads, world.succeeds) = (true, true);
        world.set(last);
        let (reach_ms, keep) = match last {
            AutoCompaction::Off => return Ok(()),
            AutoCompaction::Revision { keep } => (REVISION_INTERVAL_MS, keep),
            AutoCompaction::Periodic { retention_ms } => {
                (retention_ms + retention_ms.min(HOUR) + 2 * step_ms(retention_ms), 0)
            }
        };
        for _ in 0..40 {
            world.write(3);
            world.advance(reach_ms / 10);
        }
        let old = world.revision_at(world.facts.now_ms - reach_ms).saturating_sub_unsigned(keep);
        prop_assert!(old <= 1 || world.store().compacted >= old, "{old} is still there");
    }
}
