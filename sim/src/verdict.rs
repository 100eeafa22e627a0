//! Runs seeds and says how they ended, many at a time.
//!
//! A panic of the code under test is a violation like any other: it is caught, with where it
//! happened. Seeds share nothing, so they run on several threads, and in whatever order they end,
//! the totals are the same.

use crate::checkers::Violation;
use crate::options::Options;
use crate::trace::Trace;
use crate::world::{Summary, run};
use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of so many seeds, one runs twice and must give the same history.
const SAMPLE: u64 = 100;
/// After so many failures a batch ends.
const FAILURES_MAX: usize = 5;

thread_local! {
    /// Where this thread panicked last.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Lets panics be reported as violations, instead of being printed where they happen.
pub fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(|place| format!(" ({}:{})", place.file(), place.line()));
        PANIC.set(place.unwrap_or_default());
    }));
}

/// Runs one seed.
///
/// # Errors
/// The first broken promise; `no-panic` for a panic.
pub fn verdict(options: &Options, trace: &mut Trace) -> Result<Summary, Violation> {
    let result = catch_unwind(AssertUnwindSafe(|| run(options, trace)));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Violation {
            property: "no-panic",
            what: format!("{}{}", text.unwrap_or("a panic"), PANIC.take()),
        })
    })
}

/// How many seeds went.
#[derive(Debug, Default)]
pub struct Batch {
    /// Seeds run.
    pub seeds: usize,
    /// What happened in those that ended well. Its hash stands for all of them.
    pub total: Summary,
    /// Those that did not, by seed.
    pub failed: Vec<(Options, Violation)>,
}

/// Runs many seeds, each with its `mixture`, on `jobs` threads. Ends early after a few failures.
#[must_use]
pub fn batch(
    seeds: &[u64],
    mixture: &(impl Fn(u64) -> Options + Sync),
    jobs: NonZeroUsize,
) -> Batch {
    let next = AtomicUsize::new(0);
    let batch = Mutex::new(Batch::default());
    on_threads(jobs, || {
        let mut own = Batch::default();
        while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            let options = mixture(*seed);
            own.seeds += 1;
            match checked(&options) {
                Ok(summary) => own.total.add(&summary),
                Err(violation) => own.failed.push((options, violation)),
            }
            if own.failed.len() >= FAILURES_MAX {
                break;
            }
        }
        let mut batch = batch.lock().expect("no worker panics");
        batch.seeds += own.seeds;
        batch.total.add(&own.total);
        batch.failed.append(&mut own.failed);
    });
    let mut batch = batch.into_inner().expect("no worker panics");
    batch.failed.sort_by_key(|(options, _)| options.seed);
    batch
}

/// The first of these seeds that fails, whichever thread is faster.
#[must_use]
pub fn first_failure(
    seeds: &[u64],
    mixture: &(impl Fn(u64) -> Options + Sync),
    jobs: NonZeroUsize,
) -> Option<(Options, Violation)> {
    let next = AtomicUsize::new(0);
    let bound = AtomicUsize::new(usize::MAX);
    let first: Mutex<Option<(usize, Options, Violation)>> = Mutex::new(None);
    on_threads(jobs, || {
        loop {
            // Every number below the bound was given to some thread, which runs it to its end.
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(seed) = seeds.get(number) else { break };
            if number >= bound.load(Ordering::Relaxed) {
                break;
            }
            let options = mixture(*seed);
            if let Err(violation) = verdict(&options, &mut Trace::Off)
                && bound.fetch_min(number, Ordering::Relaxed) > number
            {
                let mut first = first.lock().expect("no worker panics");
                let earlier = first.as_ref().is_none_or(|(other, ..)| number < *other);
                if earlier {
                    *first = Some((number, options, violation));
                }
            }
        }
    });
    let first = first.into_inner().expect("no worker panics");
    first.map(|(_, options, violation)| (options, violation))
}

fn on_threads(jobs: NonZeroUsize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 1..jobs.get() {
            scope.spawn(&work);
        }
        work();
    });
}

/// Runs a seed, and some of them twice.
fn checked(options: &Options) -> Result<Summary, Violation> {
    let first = verdict(options, &mut Trace::Off);
    if !options.seed.is_multiple_of(SAMPLE) || first == verdict(options, &mut Trace::Off) {
        return first;
    }
    Err(Violation {
        property: "one-history",
        what: "the seed gives two different histories: something is not deterministic".to_owned(),
    })
}
