//! The project's rules as tests. A rule lives only if something runs it: these run in
//! `cargo xtask tidy`, `cargo xtask ci` and in plain `cargo test`.

mod deps;
mod hazards;
mod scenarios;
mod text;

use crate::{chart, image};
use anyhow::{Result, bail};

/// One broken rule: where, and what to do.
pub type Finding = String;

type Rule = fn() -> Result<Vec<Finding>>;

const RULES: &[(&str, Rule)] = &[
    (
        "raft has no dependencies and no interior mutability",
        deps::raft_is_pure,
    ),
    (
        "crates depend only as the table allows",
        deps::crates_follow_the_table,
    ),
    (
        "modules of node and operator use only what lies below them",
        deps::modules_follow_the_table,
    ),
    ("Cargo.lock stays small", deps::lock_is_small),
    ("every dependency says why", deps::every_dependency_says_why),
    (
        "every source file starts with its purpose",
        text::files_start_with_a_purpose,
    ),
    ("files and lines keep to their budget", text::budgets_hold),
    ("no leftovers on the main branch", text::no_leftovers),
    ("tests neither sleep nor hide", text::tests_are_honest),
    (
        "every file under tests/ is reachable",
        text::test_files_are_reachable,
    ),
    (
        "every script opens with a sentence",
        text::scripts_open_with_a_sentence,
    ),
    (
        "every scenario of the catalogue has a test",
        scenarios::catalogue_is_covered,
    ),
    (
        "every hazard has a row, and its tests exist",
        hazards::matrix_is_whole,
    ),
    (
        "the Dockerfile and `cargo xtask image` build the same image",
        image::matches_the_contract,
    ),
    (
        "generated files of the chart are current",
        chart::generated_files_are_current,
    ),
    (
        "rendered manifests come from the chart as it is",
        chart::rendered_manifests_are_current,
    ),
    (
        "every value of the chart is described and checked",
        chart::values_are_described,
    ),
    (
        "the schema of the values is closed",
        chart::schema_is_closed,
    ),
    (
        "dashboards and alerts name metrics that exist",
        chart::metrics_are_listed_and_exist,
    ),
    (
        "panels are complete and do not overlap",
        chart::panels_are_complete,
    ),
    (
        "every alert is tested and explained",
        chart::every_alert_is_tested_and_explained,
    ),
    (
        "every reason of a condition is explained",
        chart::every_reason_is_explained,
    ),
    (
        "documents name files that exist",
        chart::documents_name_what_exists,
    ),
];

/// Checks every rule, prints what is broken, and fails if anything is.
pub fn run() -> Result<()> {
    let mut broken = 0;
    for (name, rule) in RULES {
        let findings = rule()?;
        if !findings.is_empty() {
            broken += findings.len();
            eprintln!("tidy: {name}:");
            for finding in findings {
                eprintln!("  {finding}");
            }
        }
    }
    text::print_assertion_density()?;
    if broken > 0 {
        bail!("{broken} findings; each line above says what to do");
    }
    println!("tidy: {} rules hold", RULES.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        super::run().expect("the findings are printed above");
    }
}
