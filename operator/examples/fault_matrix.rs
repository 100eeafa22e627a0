//! Prints the fault matrix as the document `docs/fault-matrix.md`, or, with `--proofs`, one line
//! for each test that must fail while a bug lives: hazard, bug, test.
//!
//! `cargo xtask fix` writes the document, CI compares it, `cargo xtask faults` runs the proofs.

// The kinds of seeds are for rows to come as well.
#[allow(dead_code, reason = "the same file serves the tests")]
#[path = "../tests/matrix/rows.rs"]
mod rows;

use rows::{HAZARDS, ROWS, Row, SEEDS, Seed, Test};

const HEAD: &str = "# The fault matrix

What can go wrong between an operator and its clusters, by the numbers of the hazard catalogue, and the test that provokes it.
This file is generated from `operator/tests/matrix/rows.rs`: run `cargo xtask fix`.

- **Guard** is what keeps the hazard from doing harm; **missed by** is what happens when that guard is taken out. A name there is a
  planted bug (`operator/src/planted.rs`): `cargo xtask faults` builds the operator with all of them, lets one live at a time, and
  demands that the test beside it fails. Where none stands, the guard is in the node or in the shape of the code.
- **Seed** is the first history that finds the bug as well, `plan` of the planner's model and `pass` on Kubernetes. To see one:
  `QUORATE_PLAN_SEED=7 cargo test -p quorate-operator --test main the_cluster_ends_up`, or
  `QUORATE_PASS_SEED=7 cargo test -p quorate-operator --test main any_mix_of_faults_on_kubernetes`.
- Beside these, a crash before and after every effect, a lost reply, 409, 429, 503 although it was done, and calls to members that
  are refused, late or lost meet every write and every call of a cluster's life (`operator/tests/kubernetes/passes.rs`).

| | What could happen | Guard | Fault | Test | Missed by | Seed |
|---|---|---|---|---|---|---|
";

fn main() -> std::process::ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => print!("{}", document()),
        Some("--proofs") => print!("{}", proofs()),
        Some(other) => {
            eprintln!("fault_matrix: {other:?} is no option; there is --proofs");
            return std::process::ExitCode::from(2);
        }
    }
    std::process::ExitCode::SUCCESS
}

fn document() -> String {
    assert_eq!(ROWS.len(), usize::from(HAZARDS), "a row for each hazard");
    let mut text = HEAD.to_owned();
    for row in ROWS {
        text.push_str(&line(row));
    }
    text
}

fn line(row: &Row) -> String {
    let faults: Vec<&str> = row.faults.iter().map(|fault| fault.words()).collect();
    let tests: Vec<String> = row.proofs.iter().map(|proof| place(proof.test)).collect();
    let bugs: Vec<String> = row
        .proofs
        .iter()
        .map(|proof| proof.bug.map_or("–".to_owned(), |bug| format!("`{bug:?}`")))
        .collect();
    let mut seeds = Vec::new();
    for (bug, seed) in SEEDS {
        if row.proofs.iter().any(|proof| proof.bug == Some(*bug)) {
            seeds.push(match seed {
                Seed::Plan(number) => format!("plan {number}"),
                Seed::Pass(number) => format!("pass {number}"),
            });
        }
    }
    if seeds.is_empty() {
        seeds.push("fixed".to_owned());
    }
    format!(
        "| H{} | {} | {} | {} | {} | {} | {} |\n",
        row.hazard,
        row.what,
        row.guard,
        faults.join(", "),
        tests.join("<br>"),
        bugs.join("<br>"),
        seeds.join("<br>"),
    )
}

fn place(test: Test) -> String {
    match test {
        Test::Script(name) => format!("`operator/tests/scripts/{name}.txt`"),
        Test::In(file, "") => format!("`{file}`"),
        Test::In(file, name) => format!("`{file}::{name}`"),
    }
}

fn proofs() -> String {
    let mut text = String::new();
    for row in ROWS {
        for proof in row.proofs {
            let Some(bug) = proof.bug else { continue };
            let test = place(proof.test).replace('`', "");
            text.push_str(&format!("H{}\t{bug:?}\t{test}\n", row.hazard));
        }
    }
    for (bug, seed) in SEEDS {
        let (kind, number) = match seed {
            Seed::Plan(number) => ("plan", number),
            Seed::Pass(number) => ("pass", number),
        };
        text.push_str(&format!("seed\t{bug:?}\t{kind} {number}\n"));
    }
    text
}
