//! The simulator as it is called: the same arguments print the same bytes, a mistake says what to
//! do, and a failure keeps only what it needs.

use quorate_sim::options::{KINDS, Options};
use quorate_sim::shrink::shrink;
use quorate_sim::trace::Trace;
use quorate_sim::verdict::verdict;
use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .args(arguments)
        .output()
        .expect("the simulator starts")
}

#[test]
fn a_traced_seed_prints_the_same_bytes_twice() {
    for seed in ["3", "14"] {
        let (first, second) = (
            sim(&["--seed", seed, "--trace"]),
            sim(&["--seed", seed, "--trace"]),
        );
        assert!(first.status.success() && first.stdout.len() > 10_000);
        assert!(
            first.stdout == second.stdout,
            "seed {seed} prints two histories"
        );
    }
}

#[test]
fn totals_and_digest_do_not_depend_on_the_number_of_threads() {
    // The first line tells the rate.
    let totals = |jobs| {
        let output = sim(&["--seeds", "30", "--jobs", jobs]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().last().unwrap_or_default().to_owned()
    };
    let one = totals("1");
    assert!(one.contains("digest"), "{one}");
    assert_eq!(one, totals("3"));
}

#[test]
fn an_unknown_kind_of_fault_is_a_mistake_that_names_those_there_are() {
    let output = sim(&["--seed", "3", "--without", "weather"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("weather") && text.contains("partitions"),
        "{text}"
    );
}

#[test]
fn a_failure_is_shrunk_to_what_it_needs() {
    // No window at all is refused when a member starts: a failure at hand in every build.
    let mut options = Options::draw(5, 0);
    options.window = 0;
    options.voters = 3;
    let violation = verdict(&options, &mut Trace::Off).unwrap_err();
    let simpler = shrink(&options, &violation);
    for kind in KINDS.iter().filter(|kind| kind.is_in(&options)) {
        let dropped = simpler.without.iter().any(|name| name == kind.name);
        assert_eq!(dropped, kind.name != "small-windows", "{}", kind.name);
    }
    assert_eq!(simpler.voters, Some(1));
    let smallest = simpler.of(options).unwrap();
    assert!(smallest.ticks <= 5, "{} ticks", smallest.ticks);
    assert_eq!(verdict(&smallest, &mut Trace::Off), Err(violation));
}
