//! `cargo xtask sim`: runs seeds, replays one, or proves itself on planted bugs.

use clap::Parser;
use quorate_sim::checkers::Violation;
use quorate_sim::options::Options;
use quorate_sim::world::{Summary, run};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// Seeds that failed once, with what they found; all of them must pass for ever.
const REGRESSION: &str = include_str!("../seeds.txt");

/// Every planted bug that the core and the log can have, as numbered in docs/simulation.md.
const PLANTED: &[u32] = &[
    1, 2, 3, 10, 11, 16, 20, 23, 29, 30, 35, 38, 42, 55, 56, 60, 62, 63, 65, 66, 69,
];

/// Simulates whole clusters: real Raft, real write-ahead log, simulated disks, network and time.
#[derive(Parser)]
#[command(after_help = "Examples:\n  cargo xtask sim -- --seeds 50000\n  \
    cargo xtask sim -- --seed 91753 --trace\n  \
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
}

fn main() -> ExitCode {
    let args = Args::parse();
    // The verdict is printed by us, with how to replay it.
    std::panic::set_hook(Box::new(|_| {}));
    let good = match (&args.planted, args.seed) {
        (Some(row), _) => planted(row, &args),
        (None, Some(seed)) => one(seed, args.trace),
        (None, None) => many(&args),
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a seed; a panic of the code under test is a violation like any other.
fn verdict(seed: u64, planted: u32, trace: bool) -> Result<Summary, Violation> {
    let options = Options::draw(seed, planted);
    catch_unwind(AssertUnwindSafe(|| run(&options, trace))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Violation {
            property: "no-panic",
            what: text.unwrap_or("a panic").to_owned(),
        })
    })
}

fn one(seed: u64, trace: bool) -> bool {
    println!("{}", Options::draw(seed, 0));
    match verdict(seed, 0, trace) {
        Ok(summary) => {
            println!("seed {seed}: {summary:?}");
            true
        }
        Err(violation) => {
            report(seed, &violation);
            false
        }
    }
}

fn report(seed: u64, violation: &Violation) {
    println!("{violation}");
    println!("  {}", Options::draw(seed, 0));
    println!("  replay   cargo xtask sim -- --seed {seed} --trace");
    println!("  once fixed, add the seed to sim/seeds.txt with one line on what it found");
}

fn many(args: &Args) -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "the rate is printed; nothing depends on it"
    )]
    let begin = Instant::now();
    let regression = REGRESSION.lines().filter_map(|line| {
        let word = line.split_whitespace().next()?;
        word.parse::<u64>().ok()
    });
    let regression: Vec<u64> = if args.regression {
        regression.collect()
    } else {
        Vec::new()
    };
    let mut total = Summary::default();
    let mut failed = 0_u64;
    let mut count = 0_u64;
    for seed in regression
        .iter()
        .copied()
        .chain(args.start..args.start + args.seeds)
    {
        count += 1;
        let result = verdict(seed, 0, false);
        // A sample runs twice: the same seed must give the same history.
        if seed % 100 == 0 && result != verdict(seed, 0, false) {
            println!("seed {seed} gives two different histories: something is not deterministic");
            failed += 1;
        }
        match result {
            Ok(summary) => {
                total.events += summary.events;
                total.committed += summary.committed;
                total.acknowledged += summary.acknowledged;
                total.crashes += summary.crashes;
                total.installs += summary.installs;
            }
            Err(violation) => {
                report(seed, &violation);
                failed += 1;
                if failed >= 5 {
                    break;
                }
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "sim: {count} seeds from {}, {failed} violations, {:.0} seeds/s; {} events, {} entries \
         committed, {} requests acknowledged, {} crashes, {} snapshots installed",
        args.start,
        count as f64 / seconds,
        total.events,
        total.committed,
        total.acknowledged,
        total.crashes,
        total.installs
    );
    failed == 0
}

fn planted(row: &str, args: &Args) -> bool {
    if !cfg!(planted) {
        eprintln!("this build holds no planted bugs: use `cargo xtask sim --planted -- …`");
        return false;
    }
    let rows: Vec<u32> = match row {
        "all" => PLANTED.to_vec(),
        number => match number.parse() {
            Ok(number) => vec![number],
            Err(_) => {
                eprintln!("--planted {number:?} is neither a row nor `all`");
                return false;
            }
        },
    };
    let mut all_found = true;
    for row in rows {
        let found = (args.start..args.start + args.seeds).find_map(|seed| {
            verdict(seed, row, false)
                .err()
                .map(|violation| (seed, violation))
        });
        match found {
            Some((seed, violation)) => {
                let tried = seed - args.start + 1;
                let what: String = violation.what.chars().take(110).collect();
                println!(
                    "row {row:>2}: found after {tried:>5} seeds by {}: {what}",
                    violation.property
                );
            }
            None => {
                println!("row {row:>2}: NOT FOUND in {} seeds", args.seeds);
                all_found = false;
            }
        }
    }
    all_found
}
