//! Golden scripts of mistakes: what was typed, the exit code, and the message.

use std::error::Error;
use std::path::Path;

use goldenscript::{Argument, Command, Context, Runner};

/// Runs `quorate ARGS…` in an empty directory; `stdin=` gives its input.
struct Shell {
    dir: tempfile::TempDir,
}

impl Runner for Shell {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = Vec::new();
        let mut stdin = String::new();
        for argument in &command.args {
            match argument {
                Argument::KeyValue(key, value) if key == "stdin" => stdin.clone_from(value),
                Argument::KeyValue(key, value) => args.push(format!("{key}={value}")),
                Argument::Positional(value) => args.push(value.clone()),
                other => return Err(format!("argument {other} is of an unknown kind").into()),
            }
        }
        if command.name != "quorate" {
            return Err(format!("no command {:?}; use quorate", command.name).into());
        }
        let output = crate::guard::run(&args, stdin.as_bytes(), self.dir.path());
        let mut text = format!("exit {}\n", output.status.code().unwrap_or(-1));
        for (name, bytes) in [("out", &output.stdout), ("err", &output.stderr)] {
            // The directory is temporary, and the system's wording of errors is its own.
            for line in String::from_utf8_lossy(bytes).lines() {
                text.push_str(&format!("{name}: {line}\n"));
            }
        }
        Ok(text)
    }
}

fn check(script: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/scripts")
        .join(script);
    goldenscript::run(&mut Shell { dir }, path).expect("the script runs");
}

#[test]
fn wrong_flags_and_arguments_exit_2_and_name_the_remedy() {
    for script in [
        "arguments_keys.txt",
        "arguments_values.txt",
        "arguments_members.txt",
    ] {
        check(script);
    }
}

#[test]
fn wrong_input_is_refused_before_anything_is_sent() {
    check("input.txt");
}

#[test]
fn an_unreachable_cluster_is_named_with_the_endpoints_tried() {
    check("unreachable.txt");
}

#[test]
fn help_before_or_after_a_verb_is_the_same() {
    let run = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        crate::guard::run(&words, b"", Path::new("."))
    };
    for verb in ["put", "node", "up"] {
        let (before, after) = (run(&["help", verb]), run(&[verb, "--help"]));
        assert_eq!(
            (before.status.code(), after.status.code()),
            (Some(0), Some(0))
        );
        assert!(!before.stdout.is_empty() && before.stdout == after.stdout);
    }
    let unknown = run(&["help", "gte"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("unrecognized subcommand 'gte'"));
}

#[test]
fn a_manifest_whose_settings_members_would_refuse_is_refused() {
    check("manifests.txt");
}
