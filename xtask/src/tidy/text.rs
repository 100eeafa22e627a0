//! Rules about the text of the sources: headers, budgets, leftovers, honest tests.

use super::Finding;
use crate::shell;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Production lines of one file, tests left out.
const FILE_LINES_MAX: usize = 600;
/// Columns of one line of Rust.
const COLUMNS_MAX: usize = 100;
/// Lines of one golden script, expected output included.
const SCRIPT_LINES_MAX: usize = 400;
const CRATES: &[&str] = &["raft", "api", "node", "operator", "cli", "sim", "xtask"];

fn sources() -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for name in CRATES {
        all.extend(shell::files(name, ".rs")?);
    }
    Ok(all)
}

/// Every file says first what it is, what it may assume and what it must not know.
pub fn files_start_with_a_purpose() -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for path in sources()? {
        if !shell::read(&path)?.starts_with("//!") {
            found.push(format!(
                "{}: start the file with `//!`",
                shell::shown(&path)
            ));
        }
    }
    Ok(found)
}

/// Long files and long lines.
pub fn budgets_hold() -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for path in sources()? {
        let text = shell::read(&path)?;
        let production = &text[..tests_start(&text)];
        let lines = production.lines().count();
        let test = path.components().any(|part| part.as_os_str() == "tests");
        if lines > FILE_LINES_MAX && !test {
            found.push(format!(
                "{}: {lines} production lines, more than {FILE_LINES_MAX}: split it by role",
                shell::shown(&path)
            ));
        }
        for (number, line) in text.lines().enumerate() {
            // rustfmt keeps code within the limit; comments and tables in them are ours to keep.
            let comment = line.trim_start().starts_with("//") && !line.contains(['|', '"']);
            if comment && line.chars().count() > COLUMNS_MAX {
                found.push(format!(
                    "{}:{}: longer than {COLUMNS_MAX} columns",
                    shell::shown(&path),
                    number + 1
                ));
            }
        }
    }
    Ok(found)
}

/// Promises without an owner, and debugging aids.
pub fn no_leftovers() -> Result<Vec<Finding>> {
    // Spelled in two parts so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("dbg", "!("),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
    ];
    let mut found = Vec::new();
    for path in sources()? {
        for (number, line) in shell::read(&path)?.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                found.push(format!(
                    "{}:{}: `{word}`: do it, or file it and say what is missing",
                    shell::shown(&path),
                    number + 1
                ));
            }
        }
    }
    Ok(found)
}

/// No waiting by the clock and no test that is switched off.
pub fn tests_are_honest() -> Result<Vec<Finding>> {
    let banned = [
        concat!("#[ig", "nore"),
        concat!("thread::sl", "eep("),
        concat!("time::sl", "eep("),
    ];
    let mut found = Vec::new();
    for path in sources()? {
        let text = shell::read(&path)?;
        let in_tests = path.components().any(|part| part.as_os_str() == "tests");
        let start = if in_tests { 0 } else { tests_start(&text) };
        let before = text[..start].lines().count();
        for (number, line) in text[start..].lines().enumerate() {
            let pause = line.contains("poll interval") || line.contains("random moment");
            for word in banned.iter().filter(|word| line.contains(**word) && !pause) {
                found.push(format!(
                    "{}:{}: `{word}`: wait for a condition with a deadline (a loop that polls says \
                     `// poll interval` on that line)",
                    shell::shown(&path),
                    before + number + 1
                ));
            }
        }
    }
    Ok(found)
}

/// Where the tests inside a source file begin; its end when there are none.
fn tests_start(text: &str) -> usize {
    text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len())
}

/// A file under `tests/` that no `mod` line names is never compiled.
pub fn test_files_are_reachable() -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for name in CRATES {
        let folder = shell::root().join(name).join("tests");
        let files = shell::files(&format!("{name}/tests"), ".rs")?;
        let all: String = files
            .iter()
            .map(|path| shell::read(path))
            .collect::<Result<_>>()?;
        for path in &files {
            if path == &folder.join("main.rs") {
                continue;
            }
            let module = module_name(path);
            if !all.contains(&format!("mod {module};")) {
                found.push(format!(
                    "{}: no `mod {module};` names it; one integration binary per crate, tests/main.rs",
                    shell::shown(path)
                ));
            }
        }
    }
    Ok(found)
}

fn module_name(path: &Path) -> String {
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if stem != "mod" {
        return stem;
    }
    let parent = path.parent().and_then(Path::file_name).unwrap_or_default();
    parent.to_string_lossy().into_owned()
}

/// Golden scripts tell first, in a sentence, what they show; and they stay readable.
pub fn scripts_open_with_a_sentence() -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for name in CRATES {
        for path in shell::files(&format!("{name}/tests"), ".txt")? {
            let text = shell::read(&path)?;
            let first = text.lines().next().unwrap_or_default();
            if !first.starts_with("# ") || first.len() < 12 {
                found.push(format!(
                    "{}: open with `# ` and a sentence",
                    shell::shown(&path)
                ));
            }
            if text.lines().count() > SCRIPT_LINES_MAX {
                found.push(format!(
                    "{}: longer than {SCRIPT_LINES_MAX} lines: split it",
                    shell::shown(&path)
                ));
            }
        }
    }
    Ok(found)
}

/// Prints how often the core and the log state what they believe; a number to steer by.
pub fn print_assertion_density() -> Result<()> {
    for folder in ["raft/src", "node/src/storage"] {
        let (mut lines, mut assertions) = (0_usize, 0_usize);
        for path in shell::files(folder, ".rs")? {
            let text = shell::read(&path)?;
            for line in text
                .split("#[cfg(test)]")
                .next()
                .unwrap_or_default()
                .lines()
            {
                let code = line.trim_start();
                if code.is_empty() || code.starts_with("//") {
                    continue;
                }
                lines += 1;
                assertions += usize::from(code.starts_with("assert") || code.contains(".expect("));
            }
        }
        if let Some(density) = (assertions * 1000_usize).checked_div(lines) {
            println!(
                "tidy: {folder}: {assertions} assertions in {lines} lines, {density} per thousand"
            );
        }
    }
    Ok(())
}
