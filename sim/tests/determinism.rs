//! The same seed gives the same history, printed or not: without it no seed could be replayed.

use quorate_sim::options::{Options, Storage};
use quorate_sim::world::{Summary, run};

fn history(seed: u64, trace: bool) -> Summary {
    match run(&Options::draw(seed, 0), trace) {
        Ok(summary) => summary,
        Err(violation) => panic!("seed {seed}: {violation}"),
    }
}

#[test]
fn a_seed_gives_one_history_however_often_it_runs() {
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
        assert_eq!(history(seed, false), history(seed, false), "seed {seed}");
    }
}

#[test]
fn tracing_changes_nothing_and_seeds_differ() {
    let traced = history(3, true);
    assert_eq!(traced, history(3, false));
    assert_ne!(traced.hash, history(4, false).hash);
    assert!(traced.events > 0 && traced.committed > 0);
}
