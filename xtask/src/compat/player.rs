//! Calls etcdctl on one cluster and gives what it printed, with what may differ masked.

use super::mask::{self, Added};
use super::rest;
use super::script::{self, Command};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

/// How long a cluster may take to come to rest: etcd's slowest timer is 5 s, a machine may be busy.
const REST_TIMEOUT: Duration = Duration::from_secs(90);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// For commands that name no time of their own: on a busy machine etcdctl's 5 s may not be enough,
/// and a timeout would look like a difference. A flag, because most commands of etcdctl read the
/// time before they read the environment.
const COMMAND_TIMEOUT: &str = "--command-timeout=20s";
/// What an answer depends on that each member gives for itself: such a command is sent only to a
/// cluster at rest.
const OWN_VIEWS: &[&str] = &[
    "--consistency=s",
    "endpoint ",
    "move-leader",
    "member promote",
];

/// Speaks to one cluster.
pub struct Player {
    etcdctl: PathBuf,
    /// Where commands go, comma-separated.
    pub endpoints: String,
    /// Endpoints of the members of the beginning, which can always be asked for the membership: a
    /// learner refuses to.
    first: Vec<String>,
    added: Added,
    /// Endpoints of members that were killed.
    dead: BTreeSet<String>,
}

/// One line of `member list`.
pub struct Member {
    pub id: String,
    /// Empty until it has started.
    pub name: String,
    pub peer_url: String,
    pub endpoint: String,
    pub leads: bool,
    pub learner: bool,
}

impl Player {
    /// Waits until the cluster, which has just started, is at rest.
    pub fn new(etcdctl: &Path, all: &[String]) -> Result<Self> {
        let mut player = Self {
            etcdctl: etcdctl.to_path_buf(),
            endpoints: all.first().cloned().unwrap_or_default(),
            first: all.to_vec(),
            added: Added::default(),
            dead: BTreeSet::new(),
        };
        player.wait_started(all.len())?;
        let members = player.members()?.into_iter();
        let first: Vec<String> = members.map(|member| member.id).collect();
        player.added = Added::beside(&first);
        Ok(player)
    }

    /// Takes note that the member at this endpoint is dead, and waits until the others know.
    pub fn killed(&mut self, endpoint: String) -> Result<()> {
        self.dead.insert(endpoint);
        self.wait_at_rest()
    }

    /// Runs a command; its output, its error output and its exit code, masked.
    pub fn run(&mut self, command: &Command) -> Result<String> {
        if OWN_VIEWS.iter().any(|view| command.line.contains(view)) {
            self.wait_at_rest()?;
        }
        let line = self.substitute(&command.line)?;
        let mut words = script::words(&line)?;
        if !line.contains("--endpoints") {
            words.push(format!("--endpoints={}", self.endpoints).into());
        }
        if !line.contains("--command-timeout") {
            words.push(COMMAND_TIMEOUT.into());
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

    /// Waits until so many members have started and the cluster is at rest.
    pub fn wait_started(&self, count: usize) -> Result<()> {
        self.wait_until(|members| {
            let started = members.iter().filter(|member| !member.name.is_empty());
            let started = started.count();
            (started != count).then(|| format!("{started} of {count} members have started"))
        })
    }

    /// How many members have started.
    pub fn started(&self) -> Result<usize> {
        let members = self.members()?.into_iter();
        Ok(members.filter(|member| !member.name.is_empty()).count())
    }

    /// Waits until nothing that a script compares changes by itself any more (`rest`).
    pub fn wait_at_rest(&self) -> Result<()> {
        self.wait_until(|_| None)
    }

    #[expect(clippy::disallowed_methods, reason = "a deadline for real processes")]
    fn wait_until(&self, disquiet: impl Fn(&[Member]) -> Option<String>) -> Result<()> {
        let deadline = Instant::now() + REST_TIMEOUT;
        loop {
            let members = self.members()?;
            let why = disquiet(&members).or_else(|| self.disquiet(&members));
            let Some(why) = why else { return Ok(()) };
            if Instant::now() > deadline {
                bail!("the cluster did not come to rest within {REST_TIMEOUT:?}: {why}");
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    fn disquiet(&self, members: &[Member]) -> Option<String> {
        let asked = rest::asked(members, &self.dead).join(",");
        match self.plain(&asked, &["endpoint", "status", "-w", "json"]) {
            Ok(text) => {
                let statuses: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
                rest::disquiet(members, &self.dead, &statuses)
            }
            Err(error) => Some(error.to_string()),
        }
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

    /// The members, as the first member that is alive has them.
    fn members(&self) -> Result<Vec<Member>> {
        let mut alive = self.first.iter();
        let endpoint = alive.find(|endpoint| !self.dead.contains(*endpoint));
        let endpoint = endpoint.context("every member was killed")?;
        let list = self.plain(endpoint, &["member", "list", "--consistency=s"])?;
        let status = self.plain(endpoint, &["endpoint", "status", "-w", "json"])?;
        let status: Value = serde_json::from_str(&status).unwrap_or(Value::Null);
        let leader = status[0]["Status"]["leader"].as_u64();
        let leader = leader.map(|id| format!("{id:x}"));
        let member = |line: &str| {
            let fields: Vec<&str> = line.split(", ").collect();
            (fields.len() >= 6).then(|| Member {
                id: fields[0].to_owned(),
                name: fields[2].to_owned(),
                peer_url: fields[3].to_owned(),
                endpoint: fields[4].trim_start_matches("http://").to_owned(),
                leads: leader.as_deref() == Some(fields[0]),
                learner: fields[5] == "true",
            })
        };
        Ok(list.lines().filter_map(member).collect())
    }

    /// What etcdctl prints on standard output, which is empty when it fails.
    fn plain(&self, endpoints: &str, words: &[&str]) -> Result<String> {
        let output = Process::new(&self.etcdctl)
            .args(words)
            .arg(format!("--endpoints={endpoints}"))
            .output()
            .context("cannot start etcdctl")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
