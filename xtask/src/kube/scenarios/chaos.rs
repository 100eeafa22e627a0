//! The life of a cluster while its operator is killed again and again, and while two operators work
//! on it at once: the same end states, one history, no member that nobody asked for.

use super::cluster::plain;
use super::life::{self, QUICK};
use super::load::{Allowed, UnderLoad};
use super::{Bench, chart, now, seconds_since, victims};
use crate::kube::poll;
use anyhow::{Result, anyhow, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Kills of the long form.
const KILLS: usize = 100;
/// The shortest and the longest time between two kills: less than a pass, and most of a step.
const PAUSE_MIN_MS: u64 = 200;
const PAUSE_MAX_MS: u64 = 4_000;
/// How many kills the short form waits for before it stops.
const KILLS_SHORT: usize = 5;

/// Kills the operator while a cluster grows and shrinks.
pub fn few_kills(bench: &Bench) -> Result<()> {
    under_kills(bench, "kills", KILLS_SHORT)
}

/// Kills it a hundred times.
pub fn many_kills(bench: &Bench) -> Result<()> {
    under_kills(bench, "hundred", KILLS)
}

/// The namespace is one of its own: that of another scenario may still be on its way out.
fn under_kills(bench: &Bench, namespace: &str, kills: usize) -> Result<()> {
    without_lease(bench, 1, || {
        let load = UnderLoad::create(bench, namespace, &plain("kills", 3, QUICK), 3)?;
        let killer = Killer::start(bench)?;
        let start = now();
        // Some of everything first, however few kills it takes.
        life::scale_all(&load)?;
        while killer.kills() < kills {
            load.step("change a resource", 3, Allowed::ONE_DOWN, life::update)?;
            if killer.kills() < kills {
                life::harm_all(bench, &load)?;
            }
            if killer.kills() < kills {
                life::changes_all(&load)?;
            }
            if killer.kills() < kills {
                life::scale_all(&load)?;
            }
        }
        let done = killer.stop()?;
        println!(
            "  the operator was killed {done} times in {:.0} s",
            seconds_since(start)
        );
        ensure!(done >= kills, "only {done} kills");
        load.step("and then in peace", 3, Allowed::NONE_DOWN, |_| Ok(()))?;
        load.clear()
    })
}

/// Two operators without a Lease work on one cluster.
pub fn two_operators(bench: &Bench) -> Result<()> {
    without_lease(bench, 2, || {
        let load = UnderLoad::create(bench, "two", &plain("two", 3, QUICK), 3)?;
        life::scale_all(&load)?;
        load.step("change a resource", 3, Allowed::ONE_DOWN, life::update)?;
        load.step("delete claim and pod 1", 3, Allowed::ONE_DOWN, |cluster| {
            life::delete_with_claim(cluster, 1)
        })?;
        load.clear()
    })
}

/// Lets so many operators work without a Lease, and afterwards one with it.
fn without_lease(bench: &Bench, operators: usize, work: impl FnOnce() -> Result<()>) -> Result<()> {
    chart::upgrade(bench, &["leaderElection.enabled=false"])?;
    // The chart refuses this, and rightly.
    chart::scale_operator(bench, operators)?;
    let result = work();
    result.and(chart::upgrade(bench, &[]))
}

/// Kills every operator at random moments until it is told to stop.
struct Killer {
    stop: Arc<AtomicBool>,
    kills: Arc<AtomicUsize>,
    thread: JoinHandle<Result<()>>,
}

impl Killer {
    fn start(bench: &Bench) -> Result<Self> {
        let bench = Bench::attach(bench.run())?;
        let (stop, kills): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let (stopped, counted) = (stop.clone(), kills.clone());
        let thread = std::thread::spawn(move || {
            let mut moments = Moments(u64::from(std::process::id()) << 32 | 1);
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(moments.next());
                let killed = victims::kill_operators(&bench)?;
                if killed == 0 {
                    // The next one is being started: it may live for a moment.
                    poll();
                    continue;
                }
                counted.fetch_add(killed, Ordering::Relaxed);
                chart::replace_pods(&bench)?;
            }
            chart::wait_for_operator(&bench)
        });
        Ok(Self {
            stop,
            kills,
            thread,
        })
    }

    fn kills(&self) -> usize {
        self.kills.load(Ordering::Relaxed)
    }

    /// Stops, waits for an operator that works, and returns how many were killed.
    fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the thread that kills operators panicked"))??;
        Ok(self.kills.load(Ordering::Relaxed))
    }
}

/// Pauses that follow no rhythm (a linear congruential generator; its low bits are poor).
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(PAUSE_MIN_MS + (self.0 >> 33) % (PAUSE_MAX_MS - PAUSE_MIN_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_within_bounds_and_differ() {
        let mut moments = Moments(7);
        let pauses: Vec<u128> = (0..100).map(|_| moments.next().as_millis()).collect();
        let bounds = u128::from(PAUSE_MIN_MS)..u128::from(PAUSE_MAX_MS);
        assert!(
            pauses.iter().all(|pause| bounds.contains(pause)),
            "{pauses:?}"
        );
        let middle = u128::from(PAUSE_MIN_MS + PAUSE_MAX_MS) / 2;
        let long = pauses.iter().filter(|pause| **pause > middle).count();
        assert!((25..75).contains(&long), "{long} of 100 are long");
    }
}
