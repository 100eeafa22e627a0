//! `cargo xtask sim`: runs seeds, replays one, or proves itself on planted bugs.

use clap::Parser;
use quorate_sim::checkers::Violation;
use quorate_sim::options::Options;
use quorate_sim::shrink::{Simpler, shrink};
use quorate_sim::trace::Trace;
use quorate_sim::verdict::{batch, first_failure, keep_panics_quiet, verdict};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

/// Seeds that failed once, with what they found; all of them must pass for ever.
const REGRESSION: &str = include_str!("../seeds.txt");

/// Every planted bug that the core and the log can have, as numbered in docs/simulation.md.
const PLANTED: &[u32] = &[
    1, 2, 3, 10, 11, 16, 20, 23, 29, 30, 35, 38, 42, 55, 56, 60, 62, 63, 64, 65, 66, 67, 69, 101,
    102,
];

/// How many events are shown of a history that failed.
const TAIL_LINES: usize = 25;

/// Simulates whole clusters: real Raft, real write-ahead log, simulated disks, network and time.
#[derive(Parser)]
#[command(after_help = "Examples:\n  cargo xtask sim -- --seeds 50000\n  \
    cargo xtask sim -- --seed 91753 --trace\n  \
    cargo xtask sim -- --seed 91753 --without loss,stale --voters 3 --ticks 40 --trace\n  \
    cargo xtask sim --planted -- --planted 30 --seeds 20000")]
struct Args {
    /// Run this one seed.
    #[arg(long, conflicts_with_all = ["seeds", "regression"])]
    seed: Option<u64>,
    /// Run this many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Print every event of the seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Run the seeds of sim/seeds.txt first.
    #[arg(long)]
    regression: bool,
    /// Let a planted bug live (a row of docs/simulation.md, or `all`), and demand that it is found.
    /// Needs the build of `cargo xtask sim --planted`.
    #[arg(long)]
    planted: Option<String>,
    /// Threads; all cores by default. The result does not depend on it.
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Without these kinds of fault or demand, separated by commas.
    #[arg(long, value_delimiter = ',', requires = "seed")]
    without: Vec<String>,
    /// First voters, instead of what the seed draws.
    #[arg(long, requires = "seed")]
    voters: Option<u64>,
    /// Ticks of the fault phase, instead of what the seed draws.
    #[arg(long, requires = "seed")]
    ticks: Option<u64>,
}

impl Args {
    fn jobs(&self) -> NonZeroUsize {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.jobs.unwrap_or(cores)
    }

    fn seeds(&self) -> Vec<u64> {
        let listed = REGRESSION.lines().filter_map(|line| {
            let word = line.split_whitespace().next()?;
            word.parse::<u64>().ok()
        });
        let listed = listed.filter(|_| self.regression);
        listed.chain(self.start..self.start + self.seeds).collect()
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    keep_panics_quiet();
    let result = match (&args.planted, args.seed) {
        (planted, Some(seed)) => one(seed, planted.as_deref(), &args),
        (Some(row), None) => planted(row, &args),
        (None, None) => Ok(many(&args)),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(usage) => {
            eprintln!("sim: {usage}");
            ExitCode::from(2)
        }
    }
}

/// Runs one seed, perhaps simplified, perhaps with a planted bug.
fn one(seed: u64, planted: Option<&str>, args: &Args) -> Result<bool, String> {
    let row = match planted {
        None => 0,
        Some(row) => only_row(row)?,
    };
    let simpler = Simpler {
        without: args.without.clone(),
        voters: args.voters,
        ticks: args.ticks,
    };
    let options = simpler.of(Options::draw(seed, row))?;
    println!("{options}");
    let mut trace = if args.trace { Trace::Print } else { Trace::Off };
    match verdict(&options, &mut trace) {
        Ok(summary) => {
            println!("{summary:?}");
            Ok(true)
        }
        Err(violation) if args.trace => {
            println!("{violation}");
            Ok(false)
        }
        Err(violation) => {
            report(&options, &violation);
            Ok(false)
        }
    }
}

/// Says what failed, shows the end of the simplest history that fails alike, and how to replay it.
fn report(options: &Options, violation: &Violation) {
    println!("{violation}");
    println!("  {options}");
    let simpler = shrink(options, violation);
    let smallest = simpler
        .of(options.clone())
        .unwrap_or_else(|_| options.clone());
    let mut tail = Trace::tail(TAIL_LINES);
    let again = verdict(&smallest, &mut tail);
    println!("  the last events of the smallest history that fails alike:");
    for line in tail.lines() {
        println!("    {line}");
    }
    if let Err(violation) = again {
        println!("    {violation}");
    }
    let build = match options.planted {
        0 => "--".to_owned(),
        row => format!("--planted -- --planted {row}"),
    };
    let seed = options.seed;
    println!("  replay   cargo xtask sim {build} --seed {seed} --trace");
    println!("  smallest cargo xtask sim {build} --seed {seed}{simpler} --trace");
    if options.planted == 0 {
        println!("  once fixed, add the seed to sim/seeds.txt with one line on what it found");
    }
}

fn many(args: &Args) -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "the rate is printed; nothing depends on it"
    )]
    let begin = Instant::now();
    let jobs = args.jobs();
    let batch = batch(&args.seeds(), &|seed| Options::draw(seed, 0), jobs);
    let seconds = begin.elapsed().as_secs_f64();
    for (options, violation) in &batch.failed {
        report(options, violation);
    }
    let (seeds, total) = (batch.seeds, &batch.total);
    println!(
        "sim: {seeds} seeds from {}, {} violations; {seconds:.1} s on {jobs} threads, {:.0} \
         seeds/s, {:.0} events/s",
        args.start,
        batch.failed.len(),
        seeds as f64 / seconds,
        total.events as f64 / seconds,
    );
    println!(
        "     {} events, {} entries committed, {} requests acknowledged, {} crashes, {} snapshots \
         installed, {} logs found damaged, {} beyond telling; digest {:016x}",
        total.events,
        total.committed,
        total.acknowledged,
        total.crashes,
        total.installs,
        total.damaged,
        total.undecidable,
        total.hash,
    );
    batch.failed.is_empty()
}

fn only_row(row: &str) -> Result<u32, String> {
    if !cfg!(planted) {
        return Err(
            "this build holds no planted bugs: use `cargo xtask sim --planted -- …`".to_owned(),
        );
    }
    row.parse()
        .map_err(|_| format!("--planted {row:?} is neither a row nor, without --seed, `all`"))
}

fn planted(row: &str, args: &Args) -> Result<bool, String> {
    let rows = match row {
        "all" => {
            only_row("0")?;
            PLANTED.to_vec()
        }
        row => vec![only_row(row)?],
    };
    let seeds = args.seeds();
    let mut all_found = true;
    for row in &rows {
        let found = first_failure(&seeds, &|seed| Options::draw(seed, *row), args.jobs());
        let Some((options, violation)) = found else {
            println!("row {row:>3}: NOT FOUND in {} seeds", seeds.len());
            all_found = false;
            continue;
        };
        let seed = options.seed;
        let what: String = violation.what.chars().take(110).collect();
        let property = violation.property;
        println!("row {row:>3}: found by seed {seed:>5}, {property}: {what}");
        if rows.len() == 1 {
            report(&options, &violation);
        }
    }
    Ok(all_found)
}
