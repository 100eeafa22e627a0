//! Calls etcdctl on one cluster and gives what it printed, with what may differ masked.

use super::mask::{self, Added};
use super::script::{self, Command};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::Duration;

/// How often a started member is looked for, and how long one waits between two looks.
const LOOKS_MAX: usize = 600;
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Speaks to one cluster.
pub struct Player {
    etcdctl: PathBuf,
    /// Where commands go, comma-separated.
    pub endpoints: String,
    added: Added,
}

struct Member {
    id: String,
    name: String,
    peer_url: String,
    endpoint: String,
    leads: bool,
}

impl Player {
    /// Waits until every member knows the names of all.
    pub fn new(etcdctl: &Path, all: &[String]) -> Result<Self> {
        let mut player = Self {
            etcdctl: etcdctl.to_path_buf(),
            endpoints: String::new(),
            added: Added::default(),
        };
        for endpoint in all.iter().rev() {
            player.endpoints.clone_from(endpoint);
            player.wait_until("every member has published its name", |members| {
                members.len() == all.len() && members.iter().all(|member| !member.name.is_empty())
            })?;
        }
        let first: Vec<String> = player
            .members()?
            .into_iter()
            .map(|member| member.id)
            .collect();
        player.added = Added::beside(&first);
        Ok(player)
    }

    /// Runs a command; its output, its error output and its exit code, masked.
    pub fn run(&mut self, command: &Command) -> Result<String> {
        let line = self.substitute(&command.line)?;
        let mut words = script::words(&line)?;
        if !line.contains("--endpoints") {
            words.push(format!("--endpoints={}", self.endpoints).into());
        }
        let mut child = Process::new(&self.etcdctl)
            .args(&words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start etcdctl for: {line}"))?;
        // A command that fails early does not read its input.
        let _ = child
            .stdin
            .take()
            .context("no stdin")?
            .write_all(&command.input);
        let output = child.wait_with_output()?;
        let printed = format!(
            "{}{}exit {}\n",
            mask::output(&String::from_utf8_lossy(&output.stdout)),
            mask::errors(&String::from_utf8_lossy(&output.stderr)),
            output.status.code().unwrap_or(-1)
        );
        if line.starts_with("member ") {
            for member in self.members()? {
                self.added.learn(&member.id);
            }
        }
        let printed = self.added.mask(&printed);
        let printed = if line.starts_with("endpoint health") {
            mask::sorted(&printed)
        } else {
            printed
        };
        Ok(if command.masked {
            mask::ids(&printed)
        } else {
            printed
        })
    }

    /// The membership as `--initial-cluster` takes it, with a name for the member to start.
    pub fn initial_cluster(&self, new: &str) -> Result<String> {
        let members = self.members()?;
        let named = members.iter().map(|member| match member.name.as_str() {
            "" => format!("{new}={}", member.peer_url),
            name => format!("{name}={}", member.peer_url),
        });
        Ok(named.collect::<Vec<_>>().join(","))
    }

    /// Waits until a member with this name is there.
    pub fn wait_started(&self, name: &str) -> Result<()> {
        self.wait_until(&format!("{name} has published its name"), |members| {
            members.iter().any(|member| member.name == name)
        })
    }

    fn wait_until(&self, what: &str, done: impl Fn(&[Member]) -> bool) -> Result<()> {
        for _ in 0..LOOKS_MAX {
            if done(&self.members()?) {
                return Ok(());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        bail!("waited in vain until {what}");
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
            ("{leader}".to_owned(), &leader.id),
            ("{follower}".to_owned(), &follower.id),
            ("{leader-endpoint}".to_owned(), &leader.endpoint),
            ("{follower-endpoint}".to_owned(), &follower.endpoint),
        ]);
        for member in &members {
            let name = if member.name.is_empty() {
                "new"
            } else {
                &member.name
            };
            values.insert(format!("{{{name}}}"), &member.id);
            values.insert(format!("{{{name}-endpoint}}"), &member.endpoint);
        }
        let mut line = line.to_owned();
        for (name, value) in values {
            line = line.replace(&name, value);
        }
        if line.contains('{') {
            bail!("{line}: no such member");
        }
        Ok(line)
    }

    /// The members, as the first of our endpoints has them.
    fn members(&self) -> Result<Vec<Member>> {
        let list = self.plain(&["member", "list", "--consistency=s"])?;
        let status = self.plain(&["endpoint", "status", "-w", "json"])?;
        let status: Value = serde_json::from_str(&status).unwrap_or(Value::Null);
        let leader = status[0]["Status"]["leader"].as_u64();
        let leader = leader.map(|id| format!("{id:x}"));
        let member = |line: &str| {
            let fields: Vec<&str> = line.split(", ").collect();
            (fields.len() >= 5).then(|| Member {
                id: fields[0].to_owned(),
                name: fields[2].to_owned(),
                peer_url: fields[3].to_owned(),
                endpoint: fields[4].trim_start_matches("http://").to_owned(),
                leads: leader.as_deref() == Some(fields[0]),
            })
        };
        Ok(list.lines().filter_map(member).collect())
    }

    fn plain(&self, words: &[&str]) -> Result<String> {
        let endpoint = self.endpoints.split(',').next().unwrap_or_default();
        let output = Process::new(&self.etcdctl)
            .args(words)
            .arg(format!("--endpoints={endpoint}"))
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
