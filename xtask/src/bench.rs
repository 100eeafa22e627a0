//! `cargo xtask bench`: Quorate against real etcd on this machine, in the same run, with etcd's own
//! load tool, rounds interleaved so that a noisy minute hits both.
//!
//! Every acknowledged write is synced on a quorum on both sides; no option weakens that. CPU is
//! the sum over the three members, from `/proc`, divided by the requests that succeeded.

use crate::cluster::{Cluster, Server};
use crate::{cluster, shell, tools};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;
use std::process::Command;

/// Options of the benchmark.
#[derive(Args, Debug)]
pub struct Options {
    /// Rounds of each row; the table shows medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Requests per round are multiplied by this (0.1 for a quick look).
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Also load a million keys and measure restart time and memory (some minutes).
    #[arg(long)]
    million: bool,
    /// The first client port; some hundred ports from there on must be free.
    #[arg(long, default_value_t = 23790)]
    base_port: u16,
    /// Fail unless every row meets its bound against etcd (CPU, p50, p99).
    #[arg(long)]
    check: bool,
}

/// One kind of load.
struct Row {
    name: &'static str,
    clients: u32,
    connections: u32,
    total: u32,
    command: &'static [&'static str],
    /// Quorate's CPU per request may be this share of etcd's.
    cpu_share_max: f64,
}

const PUT: &[&str] = &[
    "put",
    "--key-size=16",
    "--val-size=256",
    "--key-space-size=100000",
    "--sequential-keys",
];
const TXN_PUT: &[&str] = &[
    "txn-put",
    "--key-size=16",
    "--val-size=256",
    "--key-space-size=100000",
    "--txn-ops=4",
];
const LINEARIZABLE: &[&str] = &["range", KEY, "--consistency=l"];
const SERIALIZABLE: &[&str] = &["range", KEY, "--consistency=s"];
/// A key that the put rows have written: eight bytes of number, eight of zeros.
const KEY: &str = "bench-key-000001";

const ROWS: &[Row] = &[
    row("put 256 B, 1 client", 1, 1, 3_000, PUT, 0.7),
    row("put 256 B, 64 clients", 64, 8, 40_000, PUT, 0.5),
    row("put 256 B, 512 clients", 512, 32, 60_000, PUT, 0.5),
    row("linearizable get, 1 client", 1, 1, 5_000, LINEARIZABLE, 0.7),
    row(
        "linearizable get, 512 clients",
        512,
        32,
        100_000,
        LINEARIZABLE,
        0.5,
    ),
    row(
        "serializable get, 512 clients",
        512,
        32,
        120_000,
        SERIALIZABLE,
        0.5,
    ),
    row("txn of 4 puts, 64 clients", 64, 8, 20_000, TXN_PUT, 0.5),
];

const fn row(
    name: &'static str,
    clients: u32,
    connections: u32,
    total: u32,
    command: &'static [&'static str],
    cpu_share_max: f64,
) -> Row {
    Row {
        name,
        clients,
        connections,
        total,
        command,
        cpu_share_max,
    }
}

/// What one round measured.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_us: f64,
}

/// Runs the comparison and prints the table.
pub fn run(options: &Options) -> Result<()> {
    let tools = tools::etcd_tools()?;
    let quorate = cluster::quorate()?;
    let etcd = Server {
        name: "etcd",
        program: tools.etcd.clone(),
        first: &[],
        more: &[],
    };
    let dir = std::env::temp_dir().join(format!("quorate-bench-{}", std::process::id()));
    println!("{}", machine()?);
    let clusters = [
        Cluster::start(&etcd, &dir.join("etcd"), options.base_port)?,
        Cluster::start(&quorate, &dir.join("quorate"), options.base_port + 100)?,
    ];
    for cluster in &clusters {
        seed(&tools.etcdctl, cluster)?;
    }
    println!(
        "{:<30} {:>20} {:>21} {:>21} {:>23}",
        "load", "req/s etcd ours", "p50 ms etcd ours", "p99 ms etcd ours", "CPU us/req etcd ours"
    );
    let mut failures = Vec::new();
    for row in ROWS
        .iter()
        .filter(|row| row.name.contains(options.only.as_str()))
    {
        let [theirs, ours] = measure(row, options, &tools.benchmark, &clusters)?;
        print_row(row, &theirs, &ours);
        failures.extend(shortfalls(row, &theirs, &ours));
    }
    drop(clusters);
    if options.million {
        failures.extend(million(
            &quorate,
            &tools.benchmark,
            &dir,
            options.base_port + 200,
        )?);
    }
    let _ = std::fs::remove_dir_all(&dir);
    for failure in &failures {
        println!("short of the goal: {failure}");
    }
    if options.check && !failures.is_empty() {
        bail!("{} rows fall short", failures.len());
    }
    Ok(())
}

fn measure(
    row: &Row,
    options: &Options,
    benchmark: &Path,
    clusters: &[Cluster; 2],
) -> Result<[Sample; 2]> {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..options.rounds.max(1) {
        for (cluster, samples) in clusters.iter().zip(&mut samples) {
            samples.push(round(row, options.scale, benchmark, cluster)?);
        }
    }
    Ok(samples.map(|samples| median(&samples)))
}

fn round(row: &Row, scale: f64, benchmark: &Path, cluster: &Cluster) -> Result<Sample> {
    let total = ((f64::from(row.total) * scale) as u32).max(row.clients);
    let before = cluster.cpu_seconds()?;
    let output = Command::new(benchmark)
        .arg(format!("--endpoints={}", cluster.endpoints()))
        .arg(format!("--clients={}", row.clients))
        .arg(format!("--conns={}", row.connections))
        .arg("--precise")
        .args(row.command)
        .arg(format!("--total={total}"))
        .output()
        .context("cannot start etcd's load tool")?;
    let cpu = cluster.cpu_seconds()? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("Error distribution") {
        bail!("the load tool failed on \"{}\":\n{text}", row.name);
    }
    Ok(Sample {
        per_second: number(&text, "Requests/sec:")?,
        p50_ms: number(&text, "50% in")? * 1e3,
        p99_ms: number(&text, "99% in")? * 1e3,
        cpu_us: cpu * 1e6 / f64::from(total),
    })
}

fn number(text: &str, label: &str) -> Result<f64> {
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with(label))
        .with_context(|| format!("the load tool printed no \"{label}\":\n{text}"))?;
    let rest = line.trim_start().trim_start_matches(label);
    let word = rest
        .split_whitespace()
        .next()
        .context("nothing after the label")?;
    Ok(word.parse()?)
}

fn median(samples: &[Sample]) -> Sample {
    let middle = |value: fn(&Sample) -> f64| {
        let mut all: Vec<f64> = samples.iter().map(value).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Sample {
        per_second: middle(|sample| sample.per_second),
        p50_ms: middle(|sample| sample.p50_ms),
        p99_ms: middle(|sample| sample.p99_ms),
        cpu_us: middle(|sample| sample.cpu_us),
    }
}

fn print_row(row: &Row, theirs: &Sample, ours: &Sample) {
    println!(
        "{:<30} {:>10.0} {:>9.0} {:>11.2} {:>9.2} {:>11.2} {:>9.2} {:>9.0} {:>6.0} {:>5.2}x",
        row.name,
        theirs.per_second,
        ours.per_second,
        theirs.p50_ms,
        ours.p50_ms,
        theirs.p99_ms,
        ours.p99_ms,
        theirs.cpu_us,
        ours.cpu_us,
        ours.cpu_us / theirs.cpu_us,
    );
}

fn shortfalls(row: &Row, theirs: &Sample, ours: &Sample) -> Vec<String> {
    let mut found = Vec::new();
    let share = ours.cpu_us / theirs.cpu_us;
    if share > row.cpu_share_max {
        found.push(format!(
            "{}: CPU is {share:.2} of etcd's, not {}",
            row.name, row.cpu_share_max
        ));
    }
    for (what, theirs, ours) in [
        ("p50", theirs.p50_ms, ours.p50_ms),
        ("p99", theirs.p99_ms, ours.p99_ms),
    ] {
        if ours > theirs {
            found.push(format!(
                "{}: {what} is {ours:.2} ms, etcd's {theirs:.2} ms",
                row.name
            ));
        }
    }
    found
}

fn seed(etcdctl: &Path, cluster: &Cluster) -> Result<()> {
    let value = "v".repeat(256);
    let output = Command::new(etcdctl)
        .args(["--endpoints", &cluster.endpoints(), "put", KEY, &value])
        .output()
        .context("cannot start etcdctl")?;
    if !output.status.success() {
        bail!(
            "the first put failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// A million keys of 256 bytes: how fast a member comes back, and what a key costs in memory.
fn million(quorate: &Server, benchmark: &Path, dir: &Path, base_port: u16) -> Result<Vec<String>> {
    const KEYS: u32 = 1_000_000;
    const KEY_BYTES: f64 = 16.0;
    let mut cluster = Cluster::start(quorate, &dir.join("million"), base_port)?;
    let empty = cluster.resident_bytes(0)?;
    let status = Command::new(benchmark)
        .arg(format!("--endpoints={}", cluster.endpoints()))
        .args([
            "--clients=512",
            "--conns=32",
            "put",
            "--key-size=16",
            "--val-size=256",
        ])
        .args([
            "--sequential-keys",
            &format!("--key-space-size={KEYS}"),
            &format!("--total={KEYS}"),
        ])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()?;
    if !status.success() {
        bail!("loading a million keys failed: {status}");
    }
    let loaded = cluster.resident_bytes(0)?;
    let seconds = cluster.restart(0)?;
    let resident = cluster.resident_bytes(0)?;
    let per_key = resident.saturating_sub(empty) as f64 / f64::from(KEYS) - KEY_BYTES;
    println!(
        "a million keys: restart {seconds:.2} s; resident {} MiB after load, {} MiB after restart, \
         {per_key:.0} bytes per key above the key",
        loaded >> 20,
        resident >> 20
    );
    let mut found = Vec::new();
    if seconds > 3.0 {
        found.push(format!(
            "restart with a million keys takes {seconds:.2} s, not 3"
        ));
    }
    if per_key > 250.0 {
        found.push(format!(
            "a key costs {per_key:.0} bytes above itself, not 250"
        ));
    }
    Ok(found)
}

fn machine() -> Result<String> {
    let cpu = shell::read(Path::new("/proc/cpuinfo"))?;
    let model = cpu
        .lines()
        .find(|line| line.starts_with("model name"))
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("unknown processor");
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let commit = shell::output("git", &["rev-parse", "--short", "HEAD"]).unwrap_or_default();
    Ok(format!(
        "{cores} x {model}; commit {}; etcd {}; three members each, real fsync",
        commit.trim(),
        tools::ETCD_VERSION
    ))
}
