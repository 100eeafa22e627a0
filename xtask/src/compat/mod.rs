//! `cargo xtask compat`: unchanged etcdctl against real etcd and against Quorate, the same script,
//! the same ports, every byte of output and the exit code compared.
//!
//! The scripts are `xtask/compat/*.txt`; `script` documents how they are written, `mask` what may
//! differ. `QUORATE_BIN` names a binary to compare instead of building one.

mod mask;
mod player;
mod rest;
mod script;

use crate::cluster::{Cluster, Server};
use crate::{cluster, shell, tools};
use anyhow::{Context, Result, bail};
use player::Player;
use script::Step;
use std::path::Path;
use std::time::{Duration, Instant};

/// The ports of both clusters, one after the other: three members and the one that joins.
const BASE_PORT: u16 = 26790;
/// Connections between members count in etcd's rules for changes when they are 5 s old. No answer
/// of etcd tells their age, so it is time that must pass, from a moment when all of them exist.
const SETTLE: Duration = Duration::from_secs(6);
/// Nothing that ended so soon after the processes were started can have met an older connection.
const YOUNG: Duration = Duration::from_secs(5);
/// How often a script is played whose young connections grew old on a busy machine.
const PLAYS_MAX: u32 = 5;
/// A busy machine may stop a process for longer than etcd's second; an election that no script
/// asked for would be a difference by chance.
const PATIENT: &[&str] = &["--heartbeat-interval=100", "--election-timeout=3000"];

/// One command of a script and what it printed.
struct Exchange {
    line: String,
    printed: String,
}

/// Runs every script whose name contains `filter` against both servers and prints the differences.
pub fn run(filter: &str) -> Result<()> {
    let tools = tools::oracle()?;
    let quorate = Server {
        more: PATIENT,
        ..cluster::quorate()?
    };
    let etcd = Server {
        name: "etcd",
        program: tools.etcd.clone(),
        first: &[],
        more: PATIENT,
    };
    let dir = std::env::temp_dir().join(format!("quorate-compat-{}", std::process::id()));
    let compared = compare(filter, &tools.etcdctl, [&etcd, &quorate], &dir);
    let _ = std::fs::remove_dir_all(&dir);
    let (commands, different) = compared?;
    let version = tools::ETCD_VERSION;
    println!("compat: {commands} commands, {different} differences from etcd {version}");
    if different > 0 {
        bail!("{different} commands print something else than etcd does");
    }
    if commands == 0 {
        bail!("no script in xtask/compat has {filter:?} in its name");
    }
    Ok(())
}

/// How many commands were compared, and how many of them differ.
fn compare(
    filter: &str,
    etcdctl: &Path,
    [etcd, quorate]: [&Server; 2],
    dir: &Path,
) -> Result<(usize, usize)> {
    let (mut commands, mut different) = (0, 0);
    for path in shell::files("xtask/compat", ".txt")? {
        let name = shell::shown(&path);
        if !name.contains(filter) {
            continue;
        }
        let script = script::parse(&shell::read(&path)?).with_context(|| name.clone())?;
        let play = |server: &Server| {
            play(server, etcdctl, &script, dir)
                .with_context(|| format!("{name} on {}", server.name))
        };
        let (theirs, ours) = (play(etcd)?, play(quorate)?);
        for (theirs, ours) in theirs.iter().zip(&ours) {
            commands += 1;
            if theirs.printed != ours.printed {
                different += 1;
                let (line, theirs, ours) = (&theirs.line, &theirs.printed, &ours.printed);
                println!("{name}: etcdctl {line}\n--- etcd\n{theirs}--- quorate\n{ours}");
            }
        }
    }
    Ok((commands, different))
}

/// Plays a script on a fresh cluster, again if it needs young connections and they grew old.
fn play(server: &Server, etcdctl: &Path, script: &[Step], dir: &Path) -> Result<Vec<Exchange>> {
    for _ in 0..PLAYS_MAX {
        if let Some(exchanges) = play_once(server, etcdctl, script, dir)? {
            return Ok(exchanges);
        }
    }
    bail!(
        "{PLAYS_MAX} times not at `@young` within {YOUNG:?} of the start: the machine is too busy"
    )
}

/// Plays a script; nothing when it was not in time at an `@young`.
#[expect(clippy::disallowed_methods, reason = "how old connections may be")]
fn play_once(
    server: &Server,
    etcdctl: &Path,
    script: &[Step],
    dir: &Path,
) -> Result<Option<Vec<Exchange>>> {
    let started = Instant::now();
    let mut cluster = Cluster::start(server, &dir.join(server.name), BASE_PORT)?;
    let all: Vec<String> = (0..3).map(|slot| cluster.endpoint(slot)).collect();
    let mut player = Player::new(etcdctl, &all)?;
    let mut exchanges = Vec::new();
    for step in script {
        match step {
            Step::Run(command) => exchanges.push(Exchange {
                line: command.line.clone(),
                printed: player.run(command)?,
            }),
            Step::Endpoint(slot) => player.endpoints = cluster.endpoint(*slot),
            Step::All => player.endpoints = all.join(","),
            Step::Start => {
                let started = player.started()? + 1;
                cluster.start_fourth(&player.initial_cluster("m3")?)?;
                player.wait_started(started)?;
            }
            Step::Kill(slot) => {
                cluster.kill(*slot)?;
                player.killed(cluster.endpoint(*slot))?;
            }
            Step::Settle => {
                player.wait_at_rest()?;
                std::thread::sleep(SETTLE);
            }
            Step::Young if started.elapsed() < YOUNG => {}
            Step::Young => return Ok(None),
        }
    }
    Ok(Some(exchanges))
}
