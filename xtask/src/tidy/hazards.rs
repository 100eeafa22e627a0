//! The fault matrix: every hazard of the catalogue has a row, and every test it names is there.

use super::Finding;
use crate::shell;
use anyhow::Result;

/// Hazards of the catalogue, H1 to this.
const HAZARDS: u32 = 60;
const DOCUMENT: &str = "docs/fault-matrix.md";

/// Reads the document: it is compared with the table elsewhere, and here with the tree.
pub fn matrix_is_whole() -> Result<Vec<Finding>> {
    let text = shell::read(&shell::root().join(DOCUMENT))?;
    check(&text, &|path| shell::read(&shell::root().join(path)).ok())
}

fn check(text: &str, file: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for number in 1..=HAZARDS {
        let start = format!("| H{number} | ");
        let Some(row) = text.lines().find(|line| line.starts_with(&start)) else {
            found.push(format!(
                "{DOCUMENT}: H{number} has no row in operator/tests/matrix/rows.rs"
            ));
            continue;
        };
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let named: Vec<&str> = cells.get(4).map_or(Vec::new(), |cell| named(cell));
        if cells.len() != 7 || cells.iter().any(|cell| cell.is_empty()) || named.is_empty() {
            found.push(format!("{DOCUMENT}: H{number} has an empty cell"));
        }
        for test in named {
            if !exists(test, file) {
                found.push(format!(
                    "{DOCUMENT}: H{number} names {test}, which is not there"
                ));
            }
        }
    }
    Ok(found)
}

/// What stands between backticks.
fn named(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn exists(test: &str, file: &dyn Fn(&str) -> Option<String>) -> bool {
    match test.split_once("::") {
        Some((path, name)) => file(path).is_some_and(|text| text.contains(&format!("fn {name}("))),
        None => file(test).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_row_an_empty_cell_and_a_test_that_is_gone_are_found() {
        let row = |number, test: &str| format!("| H{number} | a | b | c | {test} | d | e |\n");
        let rows = (1..=HAZARDS).map(|number| row(number, "`x.rs::there`"));
        let whole: String = rows.collect();
        let file = |path: &str| (path == "x.rs").then(|| "fn there() {}".to_owned());
        let findings = |text: &str| check(text, &file).unwrap().len();
        assert_eq!(findings(&whole), 0);
        assert_eq!(findings(&whole.replace("| H7 |", "| H77 |")), 1);
        assert_eq!(
            findings(&whole.replace(&row(9, "`x.rs::there`"), &row(9, ""))),
            1
        );
        for gone in ["`x.rs::gone`", "`y.rs::there`", "`scripts/h01.txt`"] {
            let text = whole.replace(&row(9, "`x.rs::there`"), &row(9, gone));
            assert_eq!(findings(&text), 1, "{gone}");
        }
    }
}
