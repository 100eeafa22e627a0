//! The same seed gives the same history, printed or not and on however many threads: without it no
//! seed could be replayed.

use quorate_sim::options::{Options, Storage};
use quorate_sim::trace::Trace;
use quorate_sim::verdict::{batch, first_failure, verdict};
use quorate_sim::world::{Summary, run};
use std::num::NonZeroUsize;

fn history(seed: u64, trace: &mut Trace) -> Summary {
    match run(&Options::draw(seed, 0), trace) {
        Ok(summary) => summary,
        Err(violation) => panic!("seed {seed}: {violation}"),
    }
}

/// Everything that happened in a seed, as it would be printed.
fn told(seed: u64) -> String {
    let mut trace = Trace::tail(usize::MAX);
    history(seed, &mut trace);
    trace.lines().collect::<Vec<_>>().join("\n")
}

#[test]
fn a_seed_gives_one_history_byte_for_byte_however_often_it_runs() {
    let seeds = 1..=12;
    let of = |storage| {
        seeds
            .clone()
            .filter(move |seed| Options::draw(*seed, 0).storage == storage)
    };
    assert!(
        of(Storage::Wal).count() > 0,
        "the write-ahead log takes part"
    );
    assert!(
        of(Storage::Parallel).count() > 0,
        "the parallel disk takes part"
    );
    for seed in seeds {
        let first = told(seed);
        assert!(first.len() > 10_000, "seed {seed} tells little: {first}");
        assert!(first == told(seed), "seed {seed} tells two histories");
    }
}

#[test]
fn listening_changes_nothing_and_seeds_differ() {
    let traced = history(3, &mut Trace::tail(10));
    assert_eq!(traced, history(3, &mut Trace::Off));
    assert_ne!(traced.hash, history(4, &mut Trace::Off).hash);
    assert!(traced.events > 0 && traced.committed > 0);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let seeds: Vec<u64> = (20..50).collect();
    let on = |jobs| {
        let jobs = NonZeroUsize::new(jobs).unwrap();
        batch(&seeds, &|seed| Options::draw(seed, 0), jobs)
    };
    let (one, three) = (on(1), on(3));
    assert_eq!(one.failed, [], "seeds of this version pass");
    assert_eq!((one.seeds, one.total), (three.seeds, three.total));
}

#[test]
fn a_failure_is_the_first_one_on_any_number_of_threads() {
    // No window at all is refused when a member starts: a failure at hand in every build.
    let mixture = |seed: u64| {
        let mut options = Options::draw(seed, 0);
        if seed >= 7 {
            options.window = 0;
        }
        options
    };
    for jobs in 1..=3 {
        let jobs = NonZeroUsize::new(jobs).unwrap();
        let seeds: Vec<u64> = (1..=12).collect();
        let (options, violation) = first_failure(&seeds, &mixture, jobs).unwrap();
        assert_eq!((options.seed, violation.property), (7, "no-panic"));
        assert_eq!(verdict(&options, &mut Trace::Off), Err(violation));
    }
}
