//! What a newcomer reads when something is in the way: the line of `kubectl get`, the conditions
//! that are not as they should be, and the events.
//!
//! Each case is a file in `tests/status`; `UPDATE_GOLDENFILES=1` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use quorate_operator::crd::{KvCluster, KvClusterStatus};
use quorate_operator::ids::Slot;
use quorate_operator::observed::{LifeState, Observed, Pending, Seen};
use quorate_operator::plan::plan;
use quorate_operator::platform::kubernetes::events;
use quorate_operator::status::{Inputs, render, render_invalid};

use crate::world::World;

/// What the platform says of a slot, beside what the world knows.
type Troubles = BTreeMap<Slot, (LifeState, &'static str)>;

fn resource(world: &World, status: Option<KvClusterStatus>) -> KvCluster {
    let spec = serde_json::json!({"replicas": world.desired.replicas});
    let spec = serde_json::from_value(spec).expect("a spec");
    let mut resource = KvCluster::new("example", spec);
    resource.status = status;
    resource
}

fn observe(world: &World, troubles: &Troubles) -> Observed {
    let mut observed = world.observe();
    let Seen::Known(slots) = &mut observed.slots else {
        panic!("the world knows its slots");
    };
    for (slot, (state, words)) in troubles {
        let life = slots.lives.get_mut(slot).expect("a life");
        (life.state, life.ready) = (state.clone(), false);
        life.trouble = Some((*words).to_owned());
        let silent = Seen::Unknown("timed out".to_owned());
        observed.nodes.insert(*slot, silent);
    }
    observed
}

fn status(world: &World, troubles: &Troubles, before: Option<KvClusterStatus>) -> KvClusterStatus {
    let observed = observe(world, troubles);
    let decided = plan(&world.desired, &observed);
    let resource = resource(world, before);
    render(&Inputs {
        resource: &resource,
        desired: &world.desired,
        observed: &observed,
        record: &world.record,
        plan: &decided,
        invalid: None,
        failure: None,
    })
}

/// The status as people see it, and what is said when it takes the place of `before`.
fn show(world: &World, before: &KvClusterStatus, after: &KvClusterStatus) -> String {
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let leader = after.leader.as_ref().map(|leader| &leader.pod);
    let quorum = after.quorum.as_ref().map(|quorum| &quorum.state);
    let mut out = format!(
        "kubectl get: READY={} DESIRED={} LEADER={} QUORUM={} PHASE={}\n",
        text(after.ready.as_ref()),
        world.desired.replicas,
        text(leader),
        text(quorum),
        text(after.phase.as_ref()),
    );
    const GOOD_WHEN_FALSE: [&str; 4] = ["Progressing", "Degraded", "Paused", "ClusterIDMismatch"];
    for condition in &after.conditions {
        let good = match GOOD_WHEN_FALSE.contains(&condition.type_.as_str()) {
            true => "False",
            false => "True",
        };
        if condition.status != good {
            let (type_, status) = (&condition.type_, &condition.status);
            let (reason, message) = (&condition.reason, &condition.message);
            let _ = writeln!(out, "{type_}={status} {reason}: {message}");
        }
    }
    for said in events::of_conditions(before, after) {
        let kind = if said.warning { "Warning" } else { "Normal" };
        let _ = writeln!(out, "event {kind} {}: {}", said.reason, said.note);
    }
    out
}

fn check(name: &str, sentence: &str, shown: &str) {
    let shown = format!("# {sentence}\n{shown}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/status");
    let path = PathBuf::from(folder).join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(&path, &shown).expect("the folder is writable");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, golden, "{}", path.display());
}

/// A world in which the first pod is there and does not begin.
fn beginning() -> World {
    let mut world = World::new(3);
    for _ in 0..100 {
        if !world.lives.is_empty() {
            return world;
        }
        world.settle();
        let decided = world.pass();
        match decided.step {
            Some(step) => world.apply(&step).expect("a step of a bootstrap"),
            None => world.now += 1_000,
        }
    }
    panic!("no pod after 100 passes");
}

/// A cluster of three that serves, and its status.
fn serving() -> (World, KvClusterStatus) {
    let mut world = World::new(3);
    world.converge(1_000).expect("a cluster");
    let status = status(&world, &Troubles::new(), None);
    (world, status)
}

#[test]
fn a_pending_volume() {
    let world = beginning();
    let words = "its claim data-example-0 of StorageClass fast gets no volume: 0/1 nodes are \
                 available: pod has unbound immediate PersistentVolumeClaims. `kubectl describe pvc \
                 data-example-0` says why; most often the class does not exist or has no room.";
    let pending = LifeState::Pending(Pending::VolumeUnbound);
    let troubles = [(Slot(0), (pending, words))].into();
    let before = KvClusterStatus::default();
    let after = status(&world, &troubles, None);
    check(
        "pending_volume",
        "The first pod waits for a volume that nobody provides.",
        &show(&world, &before, &after),
    );
}

#[test]
fn an_image_that_is_not_found() {
    let world = beginning();
    let words = "its image quorate/quorate:9.9.9 cannot be fetched: not found. Correct spec.image \
                 or spec.version, or give the registry's credentials in spec.image.pullSecrets; the \
                 pod is then made anew.";
    let pending = LifeState::Pending(Pending::Image);
    let troubles = [(Slot(0), (pending, words))].into();
    let before = KvClusterStatus::default();
    let after = status(&world, &troubles, None);
    check(
        "image_not_found",
        "The image of the first pod does not exist.",
        &show(&world, &before, &after),
    );
}

#[test]
fn a_lost_quorum() {
    let (mut world, before) = serving();
    let words = "no machine takes it: 0/3 nodes are available. Free some room, add machines, or \
                 ask for less in spec.resources and spec.scheduling.";
    let pending = LifeState::Pending(Pending::Unschedulable);
    let troubles: Troubles = [
        (Slot(1), (pending.clone(), words)),
        (Slot(2), (pending, words)),
    ]
    .into();
    world.kill(Slot(1));
    world.kill(Slot(2));
    let after = status(&world, &troubles, Some(before.clone()));
    check(
        "quorum_lost",
        "Two of three members have ended and find no machine.",
        &show(&world, &before, &after),
    );
}

#[test]
fn a_learner_that_does_not_catch_up() {
    let mut world = World::new(1);
    world.converge(1_000).expect("a cluster");
    let before = status(&world, &Troubles::new(), None);
    world.desired.replicas = 2;
    let mut joined = false;
    for _ in 0..200 {
        if joined {
            world.unreachable = [Slot(1)].into();
        }
        world.settle();
        let decided = world.pass();
        match decided.step {
            Some(step) => {
                joined |= step.name() == "join";
                world.apply(&step).expect("a step");
            }
            None if joined => world.now += 60_000,
            None => world.now += 1_000,
        }
        if world.record.backoff.is_some() {
            let after = status(&world, &Troubles::new(), Some(before.clone()));
            return check(
                "learner_stuck",
                "A new member did not catch up and was given up.",
                &show(&world, &before, &after),
            );
        }
    }
    panic!("the learner was never given up");
}

#[test]
fn a_spec_that_is_not_valid() {
    let (world, before) = serving();
    let why = "spec.config: --election-timeout=1000 is shorter than five times \
               --heartbeat-interval=2000";
    let observed = observe(&world, &Troubles::new());
    let decided = plan(&world.desired, &observed);
    let resource = resource(&world, Some(before.clone()));
    let after = render(&Inputs {
        resource: &resource,
        desired: &world.desired,
        observed: &observed,
        record: &world.record,
        plan: &decided,
        invalid: Some(why),
        failure: None,
    });
    let mut shown = show(&world, &before, &after);
    shown.push_str("--- never valid\n");
    let fresh = KvCluster {
        status: None,
        ..resource
    };
    let never = render_invalid(&fresh, &observed, why);
    shown.push_str(&show(&world, &KvClusterStatus::default(), &never));
    check(
        "invalid_spec",
        "A spec that cannot be, on a cluster that serves and on one that never was.",
        &shown,
    );
}

#[test]
fn a_paused_cluster() {
    let (mut world, before) = serving();
    world.desired.paused = true;
    let after = status(&world, &Troubles::new(), Some(before.clone()));
    let mut shown = show(&world, &before, &after);
    world.desired.paused = false;
    let again = status(&world, &Troubles::new(), Some(after.clone()));
    shown.push_str("--- and no longer\n");
    shown.push_str(&show(&world, &after, &again));
    check("paused", "A cluster is paused, and no longer.", &shown);
}

#[test]
fn a_spec_with_something_worth_knowing() {
    let (mut world, before) = serving();
    let degraded = |status: &KvClusterStatus| -> String {
        let mut rows = status.conditions.iter();
        let row = rows.find(|row| row.type_ == "Degraded").expect("a row");
        format!(
            "{}={} {}: {}\n",
            row.type_, row.status, row.reason, row.message
        )
    };
    let warning = |number: usize| format!("spec.config: --flag-{number} has no effect here");
    world.desired.warnings = vec!["spec.tls.client.mode: traffic is not encrypted".to_owned()];
    let one = status(&world, &Troubles::new(), Some(before.clone()));
    let mut shown = show(&world, &before, &one) + &degraded(&one);
    shown.push_str("--- more than there is room for\n");
    world.desired.warnings = (0..9).map(warning).collect();
    world.desired.warnings[1] = "x".repeat(5_000);
    let many = status(&world, &Troubles::new(), Some(one.clone()));
    shown.push_str(&(show(&world, &one, &many) + &degraded(&many)));
    shown.push_str("--- a member is down: that comes first\n");
    world.kill(Slot(1));
    let down = status(&world, &Troubles::new(), Some(many.clone()));
    shown.push_str(&degraded(&down));
    check(
        "worth_knowing",
        "What validation warns of stands in Degraded, bounded, while nothing is wrong.",
        &shown,
    );
}
