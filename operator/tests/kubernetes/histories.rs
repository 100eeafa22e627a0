//! Random lives of a cluster on Kubernetes: edits, evictions, lost claims and faults of every kind
//! in any mix, then quiet. The end is what the spec says, and the seed reproduces the run.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::settings::member_settings;
use quorate_operator::plan::{Requeue, plan};
use quorate_operator::platform::kubernetes::Kubernetes;
use quorate_operator::reconcile::Platform as _;

use super::api::{FAULTS, collection};
use super::passes::{Operator, names, replicas};
use super::sets::{Around, CALL_FAULTS, apply_cluster, edit};
use crate::rng::Rng;

/// What a run has to say when it fails.
type Told = Result<(), String>;

struct History {
    around: Arc<Around>,
    rng: Rng,
    size: u32,
    log: String,
}

impl History {
    fn say(&mut self, pass: usize, what: &str) {
        let _ = writeln!(self.log, "  pass {pass:>3}: {what}");
    }

    fn slot(&mut self) -> u8 {
        u8::try_from(self.rng.below(4)).expect("small")
    }

    /// Something that people, machines or networks do.
    fn event(&mut self, pass: usize) {
        match self.rng.below(10) {
            0 | 1 => {
                self.size = self.rng.pick(&[1, 2, 3]);
                edit(&self.around, &replicas(self.size));
                self.say(pass, &format!("the spec wants {} members", self.size));
            }
            2 => self.delete(pass, false),
            3 => self.delete(pass, true),
            4 => {
                let slot = self.slot();
                self.around.group().mute.insert(slot);
                self.say(pass, &format!("slot {slot} does not say who it is"));
            }
            5 => {
                let mut group = self.around.group();
                group.mute.clear();
                group.unscheduled.clear();
            }
            6 => {
                let lag = usize::try_from(self.rng.below(5)).expect("small");
                self.around.api.store().lag = lag;
                self.say(pass, &format!("reads are {lag} writes behind"));
            }
            7 => {
                let slot = 1 + u8::try_from(self.rng.below(2)).expect("small");
                self.around.group().unscheduled.insert(slot);
                self.say(pass, &format!("no place for the pod of slot {slot}"));
            }
            8 => {
                let path = format!("{}/orders", collection("statefulsets"));
                let mut store = self.around.api.store();
                let Some(mut set) = store.objects.get(&path).cloned() else {
                    return;
                };
                store.edited = true;
                set["spec"]["replicas"] = (self.size / 2).into();
                store.put(&path, set);
                drop(store);
                self.say(pass, "somebody halves the set");
            }
            _ => {
                self.around.group().linger = u32::try_from(self.rng.below(4)).expect("small");
            }
        }
    }

    /// A pod goes; with its claim only while the others are a quorum with their data.
    fn delete(&mut self, pass: usize, with_claim: bool) {
        let slot = self.slot();
        if with_claim && !self.around.group().can_lose(slot) {
            return;
        }
        let pod = format!("orders-{slot}");
        let mut store = self.around.api.store();
        let mut paths = vec![format!("{}/{pod}", collection("pods"))];
        if with_claim {
            let claims = collection("persistentvolumeclaims");
            paths.push(format!("{claims}/data-{pod}"));
        }
        for path in paths {
            if let Some(live) = store.objects.get(&path).cloned() {
                store.mark_deleted(&path, &live);
            }
        }
        drop(store);
        let what = if with_claim { "pod and claim" } else { "pod" };
        self.say(pass, &format!("{what} of slot {slot} are deleted"));
    }

    /// A fault for the next write or the next call to a member.
    fn fault(&mut self, pass: usize) {
        if self.rng.once_in(2) {
            let fault = self.rng.pick(&FAULTS);
            let number = self.around.api.store().writes;
            self.around.api.store().fault = Some((number, fault));
            self.say(pass, &format!("the next write: {fault:?}"));
        } else {
            let fault = self.rng.pick(&CALL_FAULTS);
            let number = self.around.group().calls;
            self.around.group().call_fault = Some((number, fault));
            self.say(pass, &format!("the next call to a member: {fault:?}"));
        }
    }

    async fn faults(&mut self, passes: usize) {
        let around = self.around.clone();
        let mut operator = Operator::new(&around);
        // A second operator that decides now and acts later.
        let mut late: Option<(Kubernetes, _)> = None;
        for pass in 0..passes {
            if self.rng.once_in(4) {
                self.event(pass);
            }
            if self.rng.once_in(4) {
                self.fault(pass);
            }
            if self.rng.once_in(8) {
                operator = Operator::new(&around);
            }
            if self.rng.once_in(10) {
                let mut other = Kubernetes::new(
                    self.around.api.client(),
                    "data",
                    "orders",
                    None,
                    member_settings,
                );
                late = other
                    .observe()
                    .await
                    .ok()
                    .flatten()
                    .map(|seen| (other, seen));
            }
            operator.pass().await;
            if self.rng.once_in(5)
                && let Some((mut other, seen)) = late.take()
                && let Ok(desired) = &seen.asked
                && let Some(step) = plan(desired, &seen.observed).step
            {
                self.say(
                    pass,
                    &format!("another operator comes late with {}", step.name()),
                );
                // Refused, or harmless: the world asserts what may never happen.
                let _ = other.apply(&seen, &step).await;
            }
        }
    }

    async fn quiet(&mut self) -> Told {
        {
            let mut store = self.around.api.store();
            (store.lag, store.fault) = (0, None);
        }
        {
            let mut group = self.around.group();
            group.mute.clear();
            group.unscheduled.clear();
            (group.linger, group.call_fault) = (0, None);
        }
        let mut operator = Operator::new(&self.around);
        operator.converge().await?;
        let voters = self.around.group().voters().len();
        let pods = names(&self.around, "pods").len();
        // A claim that the set made by itself, and nobody has stamped, is left to a human.
        let claims = self.around.api.store().all("persistentvolumeclaims");
        let stamp = |claim: &serde_json::Value| {
            claim["metadata"]["annotations"]["quorate.dev/member-id"].is_string()
        };
        let claims = claims.values().filter(|claim| stamp(claim)).count();
        let size = usize::try_from(self.size).expect("small");
        if (voters, pods, claims) != (size, size, size) {
            return Err(format!(
                "I14: {voters} voters, {pods} pods and {claims} claims, and {size} are wanted"
            ));
        }
        let writes = self.around.api.store().writes;
        let last = operator.pass().await;
        if last != Some(Requeue::Idle) || self.around.api.store().writes != writes {
            return Err("I11: something is written after convergence".to_owned());
        }
        Ok(())
    }
}

async fn run(seed: u64) {
    let mut rng = Rng(seed);
    let size = rng.pick(&[1, 2, 3]);
    let around = Arc::new(Around::new().await);
    apply_cluster(&around, size);
    let mut history = History {
        around,
        rng,
        size,
        log: format!("  a cluster of {size}\n"),
    };
    let passes = 10 + usize::try_from(history.rng.below(60)).expect("small");
    history.faults(passes).await;
    if let Err(why) = history.quiet().await {
        panic!("{why}\n{}", history.log);
    }
}

#[test]
fn any_mix_of_faults_on_kubernetes_ends_as_the_spec_says() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let many = number("QUORATE_PASS_SEEDS").unwrap_or(25);
    let seeds = number("QUORATE_PASS_SEED").map_or(0..many, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(run(seed));
        });
        assert!(
            outcome.is_ok(),
            "seed {seed} failed (see above)\n  replay   QUORATE_PASS_SEED={seed} cargo test -p \
             quorate-operator --test main any_mix_of_faults_on_kubernetes"
        );
    }
}
