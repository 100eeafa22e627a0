//! `cargo xtask compat`: unchanged etcdctl against real etcd and against Quorate, the same script,
//! the same ports, every byte of output compared.
//!
//! The scripts are `xtask/compat/*.txt`. A line is a command line for etcdctl; words are split at
//! spaces, `'…'` keeps them together and understands `\n`, `\t`, `\\`, `\xNN`. A line that starts
//! with `<` is the standard input of the command before it. `~` before a command masks member IDs
//! that the servers choose by the clock. `@start` starts the fourth member, `@endpoint N` speaks
//! to member N from there on, `@all` to all of them, `@wait-settled` lets connections grow old
//! enough
//! for membership changes. `{leader}`, `{follower}`, `{m3}` stand for
//! member IDs, `{leader-endpoint}` and `{follower-endpoint}` for addresses.
//! Masked everywhere: terms, Raft indexes, database sizes, durations.

use crate::cluster::{Cluster, Server};
use crate::{cluster, shell, tools};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BASE_PORT: u16 = 26790;
/// JSON fields that legitimately differ between two runs.
const MASKED_FIELDS: &[&str] = &[
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "hash",
    "took",
];

/// One command of a script and what it printed.
struct Exchange {
    line: String,
    printed: String,
}

/// Runs every script against both servers and prints the differences.
pub fn run() -> Result<()> {
    let tools = tools::etcd_tools()?;
    let quorate = cluster::quorate()?;
    let etcd = Server {
        name: "etcd",
        program: tools.etcd.clone(),
        first: &[],
    };
    let dir = std::env::temp_dir().join(format!("quorate-compat-{}", std::process::id()));
    let (mut commands, mut different) = (0, 0);
    for script in shell::files("xtask/compat", ".txt")? {
        let theirs = play(&etcd, &tools.etcdctl, &script, &dir)?;
        let ours = play(&quorate, &tools.etcdctl, &script, &dir)?;
        for (theirs, ours) in theirs.iter().zip(&ours) {
            commands += 1;
            if theirs.printed != ours.printed {
                different += 1;
                println!(
                    "{}: etcdctl {}\n--- etcd\n{}--- quorate\n{}",
                    shell::shown(&script),
                    theirs.line,
                    theirs.printed,
                    ours.printed
                );
            }
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
    println!(
        "compat: {commands} commands, {different} differences from etcd {}",
        tools::ETCD_VERSION
    );
    if different > 0 {
        bail!("{different} commands print something else than etcd does");
    }
    Ok(())
}

fn play(server: &Server, etcdctl: &Path, script: &Path, dir: &Path) -> Result<Vec<Exchange>> {
    let mut cluster = Cluster::start(server, &dir.join(server.name), BASE_PORT)?;
    let mut player = Player {
        etcdctl: etcdctl.to_path_buf(),
        endpoints: cluster.endpoints(),
        masked: false,
    };
    let text = shell::read(script)?;
    let mut lines = text.lines().peekable();
    let mut exchanges = Vec::new();
    while let Some(line) = lines.next() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "@start" {
            let id = player
                .members()?
                .into_iter()
                .find(|member| member.name.is_empty());
            let id = id.context("@start: no member is waiting to be started")?;
            cluster.start_fourth()?;
            player.wait_started(&id.id)?;
            continue;
        }
        if let Some(slot) = line.strip_prefix("@endpoint ") {
            player.endpoints = format!("127.0.0.1:{}", cluster.client_port(slot.parse()?));
            continue;
        }
        if line == "@all" {
            player.endpoints = cluster.endpoints();
            continue;
        }
        if line == "@wait-settled" {
            // etcd refuses membership changes until its peers have been connected for 5 s.
            std::thread::sleep(std::time::Duration::from_secs(6));
            continue;
        }
        let mut input = String::new();
        while let Some(more) = lines.peek().and_then(|next| next.strip_prefix('<')) {
            input.push_str(more.strip_prefix(' ').unwrap_or(more));
            input.push('\n');
            lines.next();
        }
        player.masked = line.starts_with('~');
        let line = line.trim_start_matches('~').trim();
        exchanges.push(Exchange {
            line: line.to_owned(),
            printed: player.run(line, &input)?,
        });
    }
    Ok(exchanges)
}

struct Player {
    etcdctl: PathBuf,
    endpoints: String,
    masked: bool,
}

struct Member {
    id: String,
    name: String,
    endpoint: String,
    leads: bool,
}

impl Player {
    fn run(&self, line: &str, input: &str) -> Result<String> {
        let line = self.substitute(line)?;
        let mut words = split(&line)?;
        let mut command = Command::new(&self.etcdctl);
        if !line.contains("--endpoints") {
            words.push(format!("--endpoints={}", self.endpoints).into());
        }
        let mut child = command
            .args(&words)
            .env("ETCDCTL_API", "3")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start etcdctl")?;
        child
            .stdin
            .take()
            .context("no stdin")?
            .write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        let printed = format!(
            "{}{}exit {}\n",
            mask(&String::from_utf8_lossy(&output.stdout)),
            errors(&String::from_utf8_lossy(&output.stderr)),
            output.status.code().unwrap_or(-1)
        );
        Ok(if self.masked {
            mask_ids(&printed)
        } else {
            printed
        })
    }

    fn substitute(&self, line: &str) -> Result<String> {
        if !line.contains('{') {
            return Ok(line.to_owned());
        }
        let members = self.members()?;
        let leader = members
            .iter()
            .find(|member| member.leads)
            .context("no leader")?;
        let follower = members
            .iter()
            .find(|member| !member.leads && !member.name.is_empty())
            .context("no follower")?;
        let mut values = BTreeMap::from([
            ("{leader}".to_owned(), leader.id.clone()),
            ("{leader-endpoint}".to_owned(), leader.endpoint.clone()),
            ("{follower}".to_owned(), follower.id.clone()),
            ("{follower-endpoint}".to_owned(), follower.endpoint.clone()),
        ]);
        for member in &members {
            let name = if member.name.is_empty() {
                "new"
            } else {
                &member.name
            };
            values.insert(format!("{{{name}}}"), member.id.clone());
        }
        let mut line = line.to_owned();
        for (name, value) in values {
            line = line.replace(&name, &value);
        }
        Ok(line)
    }

    fn members(&self) -> Result<Vec<Member>> {
        let list = self.plain(&["member", "list"])?;
        let status = self
            .plain(&["endpoint", "status", "--cluster", "-w", "json"])
            .unwrap_or_default();
        let status: Value = serde_json::from_str(&status).unwrap_or(Value::Null);
        let leader = status[0]["Status"]["leader"]
            .as_u64()
            .map(|id| format!("{id:x}"));
        Ok(list
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(", ").collect();
                (fields.len() >= 5).then(|| Member {
                    id: fields[0].to_owned(),
                    name: fields[2].to_owned(),
                    endpoint: fields[4].trim_start_matches("http://").to_owned(),
                    leads: leader.as_deref() == Some(fields[0]),
                })
            })
            .collect())
    }

    fn plain(&self, words: &[&str]) -> Result<String> {
        let endpoints = format!("--endpoints={}", self.endpoints);
        let output = Command::new(&self.etcdctl)
            .args(words)
            .arg(endpoints)
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn wait_started(&self, id: &str) -> Result<()> {
        for _ in 0..600 {
            if self
                .members()?
                .iter()
                .any(|member| member.id == id && !member.name.is_empty())
            {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        bail!("member {id} did not publish its name within 30 s")
    }
}

/// Splits a command line; see the module's head for the quoting.
fn split(line: &str) -> Result<Vec<std::ffi::OsString>> {
    use std::os::unix::ffi::OsStringExt;
    let (mut words, mut word, mut quoted, mut open) = (Vec::new(), Vec::new(), false, false);
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\'' => {
                quoted = !quoted;
                open = true;
            }
            b' ' if !quoted => {
                if open {
                    words.push(std::ffi::OsString::from_vec(std::mem::take(&mut word)));
                }
                open = false;
            }
            b'\\' if quoted => word.push(match bytes.next().context("a lone backslash")? {
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [bytes.next().unwrap_or(0), bytes.next().unwrap_or(0)];
                    u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?
                }
                other => other,
            }),
            other => {
                word.push(other);
                open = true;
            }
        }
    }
    if open {
        words.push(std::ffi::OsString::from_vec(word));
    }
    Ok(words)
}

/// Standard error without what a client library logs about its own retries.
fn errors(text: &str) -> String {
    let kept = text.lines().filter(|line| !line.starts_with('{'));
    mask(&kept.map(|line| format!("{line}\n")).collect::<String>())
}

fn mask(text: &str) -> String {
    if let Ok(mut value) = serde_json::from_str::<Value>(text) {
        mask_json(&mut value);
        return format!("{value:#}\n");
    }
    text.lines()
        .map(|line| match line.split_once("took = ") {
            Some((head, _)) => format!("{head}took = *\n"),
            None => format!("{line}\n"),
        })
        .collect()
}

fn mask_json(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if MASKED_FIELDS.contains(&name.as_str()) {
                    *value = Value::from("*");
                } else {
                    mask_json(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask_json),
        _ => {}
    }
}

/// Replaces hexadecimal words and decimal numbers long enough to be IDs.
fn mask_ids(text: &str) -> String {
    let (mut masked, mut word) = (String::new(), String::new());
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_alphanumeric() {
            word.push(letter);
            continue;
        }
        let id = word.len() >= 14 && word.chars().all(|digit| digit.is_ascii_hexdigit());
        masked.push_str(if id { "<id>" } else { &word });
        word.clear();
        masked.push(letter);
    }
    masked.pop();
    masked
}

#[cfg(test)]
mod tests {
    use super::{mask, mask_ids, split};

    #[test]
    fn words_keep_bytes_inside_quotes() {
        let words = split("put 'a b' '\\x00\\n' '' x").unwrap();
        let bytes: Vec<&[u8]> = words.iter().map(|word| word.as_encoded_bytes()).collect();
        assert_eq!(bytes, [&b"put"[..], b"a b", b"\x00\n", b"", b"x"]);
    }

    #[test]
    fn only_ids_are_masked() {
        assert_eq!(
            mask_ids("8e9e05c52164694d, started, m0\n"),
            "<id>, started, m0\n"
        );
        assert_eq!(
            mask("127.0.0.1:1 is healthy: took = 1.2ms"),
            "127.0.0.1:1 is healthy: took = *\n"
        );
    }
}
