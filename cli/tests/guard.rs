//! Runs the binary under test, with bounded time and without the surroundings leaking in.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary under test, with none of the variables it reads.
pub fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy().into_owned();
        if name_text.starts_with("QUORATE_") || name_text.starts_with("ETCD_") {
            command.env_remove(&name);
        }
    }
    command.env("NO_COLOR", "1").env("COLUMNS", "100");
    command
}

/// Runs to the end with `stdin` as input.
pub fn run(args: &[String], stdin: &[u8], dir: &Path) -> Output {
    let mut child = quorate()
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary under test starts");
    // A command that refuses its arguments never reads its input: a broken pipe is fine.
    let _ = child.stdin.take().expect("stdin is piped").write_all(stdin);
    child
        .wait_with_output()
        .expect("the binary under test can be waited for")
}
