//! Three real members on loopback, of etcd or of Quorate, started with etcd's static flags, so
//! that comparisons run the same command line against both. Members die with the value.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a cluster may take to become healthy.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// Which server to start.
#[derive(Clone, Debug)]
pub struct Server {
    /// Name in tables: `etcd` or `quorate`.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Arguments before the flags (`node` for Quorate).
    pub first: &'static [&'static str],
    /// Flags beside those that make a member of the cluster.
    pub more: &'static [&'static str],
}

/// Three running members.
pub struct Cluster {
    members: Vec<Child>,
    base_port: u16,
    server: Server,
    dir: PathBuf,
}

impl Cluster {
    /// Starts three members that listen from `base_port` on, in fresh folders under `dir`, and
    /// waits until each is healthy.
    pub fn start(server: &Server, dir: &Path, base_port: u16) -> Result<Self> {
        // A server of somebody else would answer for ours, and nothing would tell.
        for port in (0..4).flat_map(|slot| [0, 1].map(|of| base_port + slot * 10 + of)) {
            TcpListener::bind(("127.0.0.1", port)).with_context(|| {
                format!(
                    "port {port} of loopback is needed and in use: wait for the other run to end, \
                     or end the process that `ss -lptn 'sport = :{port}'` names"
                )
            })?;
        }
        std::fs::create_dir_all(dir)?;
        let mut cluster = Self {
            members: Vec::new(),
            base_port,
            server: server.clone(),
            dir: dir.to_path_buf(),
        };
        for slot in 0..3 {
            let child = cluster.spawn(slot, &cluster.first_members(), "new")?;
            cluster.members.push(child);
        }
        cluster.wait_healthy()?;
        Ok(cluster)
    }

    /// Client addresses, comma-separated, as every client tool takes them.
    pub fn endpoints(&self) -> String {
        let all: Vec<String> = (0..3).map(|slot| self.endpoint(slot)).collect();
        all.join(",")
    }

    /// The client address of a member.
    pub fn endpoint(&self, slot: u16) -> String {
        format!("127.0.0.1:{}", self.client_port(slot))
    }

    /// The client port of a member.
    pub fn client_port(&self, slot: u16) -> u16 {
        self.base_port + slot * 10
    }

    /// CPU seconds that all members have used so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.members
            .iter()
            .map(|member| cpu_seconds(member.id()))
            .sum()
    }

    /// Resident memory of one member, in bytes.
    pub fn resident_bytes(&self, slot: usize) -> Result<u64> {
        let text = shell::read(Path::new(&format!(
            "/proc/{}/status",
            self.members[slot].id()
        )))?;
        let line = text
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .context("no VmRSS")?;
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .context("no VmRSS value")?
            .parse()?;
        Ok(kib * 1024)
    }

    /// Kills one member, starts it again, and returns the seconds until it is healthy.
    pub fn restart(&mut self, slot: usize) -> Result<f64> {
        self.kill(u16::try_from(slot)?)?;
        #[expect(clippy::disallowed_methods, reason = "a measurement")]
        let start = Instant::now();
        self.members[slot] = self.spawn(u16::try_from(slot)?, &self.first_members(), "new")?;
        self.wait_healthy()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Kills one member, as a power button would.
    pub fn kill(&mut self, slot: u16) -> Result<()> {
        let member = &mut self.members[usize::from(slot)];
        member.kill()?;
        member.wait()?;
        Ok(())
    }

    /// Starts the fourth member, `m3`, which must have been added to the membership before:
    /// `initial_cluster` is all of it.
    pub fn start_fourth(&mut self, initial_cluster: &str) -> Result<()> {
        let child = self.spawn(3, initial_cluster, "existing")?;
        self.members.push(child);
        Ok(())
    }

    /// The first three members, as `--initial-cluster` takes them.
    fn first_members(&self) -> String {
        let url = |n| format!("m{n}=http://127.0.0.1:{}", self.client_port(n) + 1);
        (0..3).map(url).collect::<Vec<_>>().join(",")
    }

    fn spawn(&self, slot: u16, initial_cluster: &str, state: &str) -> Result<Child> {
        let client = format!("http://127.0.0.1:{}", self.client_port(slot));
        let peer = format!("http://127.0.0.1:{}", self.client_port(slot) + 1);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("m{slot}.log")))?;
        Command::new(&self.server.program)
            .args(self.server.first)
            .args(["--name", &format!("m{slot}")])
            .args([
                "--data-dir",
                &self.dir.join(format!("m{slot}")).to_string_lossy(),
            ])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                initial_cluster,
                "--initial-cluster-state",
                state,
            ])
            .args(["--log-level", "warn"])
            .args(self.server.more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.server.program.display()))
    }

    fn wait_healthy(&mut self) -> Result<()> {
        #[expect(clippy::disallowed_methods, reason = "a deadline for real processes")]
        let deadline = Instant::now() + READY_TIMEOUT;
        for slot in 0..3_u16 {
            while !is_healthy(self.client_port(slot)) {
                if let Some(status) = self.members[usize::from(slot)].try_wait()? {
                    let log = self.dir.join(format!("m{slot}.log"));
                    let text = std::fs::read_to_string(log).unwrap_or_default();
                    let tail: Vec<&str> = text.lines().rev().take(10).collect();
                    bail!(
                        "{} m{slot} ended with {status}:\n{}",
                        self.server.name,
                        tail.join("\n")
                    );
                }
                #[expect(clippy::disallowed_methods, reason = "a deadline for real processes")]
                if Instant::now() > deadline {
                    bail!(
                        "{} m{slot} is not healthy after {READY_TIMEOUT:?}",
                        self.server.name
                    );
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Whether `/health` answers 200 on a port of loopback.
pub fn is_healthy(port: u16) -> bool {
    http_get(port, "/health").is_ok_and(|reply| reply.starts_with("HTTP/1.1 200"))
}

/// A plain HTTP GET on loopback; the whole reply, head included.
pub fn http_get(port: u16, path: &str) -> Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    Ok(reply)
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = shell::read(Path::new(&format!("/proc/{pid}/stat")))?;
    // Fields after the command name, which may itself contain spaces: utime and stime are the
    // 14th and 15th of the line, in clock ticks of 10 ms (USER_HZ is 100 on Linux).
    let rest = stat.rsplit(')').next().context("unreadable /proc stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

/// The optimised `quorate` binary, built now if it is not up to date; or the one that `QUORATE_BIN`
/// names, as it is.
pub fn quorate() -> Result<Server> {
    let program = match std::env::var_os("QUORATE_BIN") {
        Some(program) => PathBuf::from(program),
        None => build()?,
    };
    Ok(Server {
        name: "quorate",
        program,
        first: &["node"],
        more: &[],
    })
}

fn build() -> Result<PathBuf> {
    shell::run(
        "cargo",
        &["build", "--release", "--locked", "--package", "quorate"],
    )?;
    Ok(shell::target().join("release/quorate"))
}
