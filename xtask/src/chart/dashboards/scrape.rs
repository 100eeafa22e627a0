//! A real Prometheus scrapes a real cluster of three members, and every query of the cluster
//! dashboard is asked of it: one that returns nothing is a panel that stays empty.
//!
//! The operator's panels need an operator and so a Kubernetes; they are counted and not asked.

use super::super::tools::Tools;
use super::Query;
use crate::cluster::{self, Cluster};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Client port of the first member; the others follow at a distance of ten.
const BASE_PORT: u16 = 35_100;
const PROMETHEUS_PORT: u16 = 35_190;
/// Prometheus computes rates from several scrapes; at one a second this is enough.
const PATIENCE: Duration = Duration::from_secs(90);
const SERVER: &str = "127.0.0.1";

/// A process that ends, and a folder that goes, with the value.
struct Running {
    child: Child,
    dir: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing can be done about a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Asks every query until it returns data or patience ends.
pub(super) fn run(tools: &Tools, queries: &[Query]) -> Result<()> {
    let server = cluster::quorate()?;
    let dir = shell::root().join(format!("target/scrape-{}", std::process::id()));
    let members = Cluster::start(&server, &dir.join("members"), BASE_PORT)?;
    let _prometheus = start(tools, &dir)?;
    let (ours, others): (Vec<&Query>, Vec<&Query>) = queries
        .iter()
        .partition(|query| query.dashboard.ends_with("quorate-cluster.json"));
    let mut empty = ours.clone();
    #[expect(clippy::disallowed_methods, reason = "a deadline for real processes")]
    let start = Instant::now();
    while !empty.is_empty() && start.elapsed() < PATIENCE {
        load(&server.program, &members.endpoints())?;
        std::thread::sleep(Duration::from_secs(2)); // poll interval
        empty.retain(|query| !has_data(query).unwrap_or(false));
    }
    for query in &empty {
        eprintln!(
            "no data: {}, panel `{}`: {}",
            query.dashboard, query.panel, query.expression
        );
    }
    println!(
        "chart: {} of {} queries of the cluster dashboard return data; {} of the operator's need a \
         Kubernetes and were not asked",
        ours.len() - empty.len(),
        ours.len(),
        others.len()
    );
    if !empty.is_empty() {
        bail!("{} queries return no data", empty.len());
    }
    Ok(())
}

fn start(tools: &Tools, dir: &Path) -> Result<Running> {
    std::fs::create_dir_all(dir)?;
    let mut targets = String::new();
    for slot in 0..3 {
        let _ = write!(
            targets,
            "      - targets: ['{SERVER}:{}']\n        labels: {{namespace: local, cluster: demo, pod: demo-{slot}}}\n",
            BASE_PORT + 10 * slot
        );
    }
    let rules = shell::root().join("deploy/alerts");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: ['{}/*.yaml']\n\
         scrape_configs:\n  - job_name: quorate-member\n    static_configs:\n{targets}",
        rules.display()
    );
    let file = dir.join("prometheus.yaml");
    std::fs::write(&file, config)?;
    let child = Command::new(&tools.prometheus)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.join("tsdb").display()
        ))
        .arg(format!("--web.listen-address={SERVER}:{PROMETHEUS_PORT}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start prometheus")?;
    Ok(Running {
        child,
        dir: dir.to_path_buf(),
    })
}

/// Some writes, reads and transactions, so that nothing is missing for want of traffic.
fn load(program: &Path, endpoints: &str) -> Result<()> {
    let run = |args: &[&str]| -> Result<()> {
        let status = Command::new(program)
            .args(args)
            .arg(format!("--endpoints={endpoints}"))
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("`quorate {}` failed", args.join(" "));
        }
        Ok(())
    };
    for n in 0..5 {
        run(&["put", &format!("key-{n}"), "value"])?;
        run(&["get", &format!("key-{n}")])?;
    }
    run(&["del", "key-0"])
}

fn has_data(query: &Query) -> Result<bool> {
    let expression = query
        .expression
        .replace("$__rate_interval", "10s")
        .replace("$namespace", "local")
        .replace("$cluster", "demo")
        .replace("$pod", ".*");
    let mut encoded = String::new();
    for byte in expression.bytes() {
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => {
                write!(encoded, "{}", char::from(byte))
            }
            _ => write!(encoded, "%{byte:02X}"),
        };
    }
    let answer = cluster::http_get(PROMETHEUS_PORT, &format!("/api/v1/query?query={encoded}"))?;
    let body = answer
        .split_once("\r\n\r\n")
        .map_or(answer.as_str(), |(_, body)| body);
    let start = body.find('{').context("no JSON")?;
    let end = body.rfind('}').context("no JSON")?;
    let answer: serde_json::Value = serde_json::from_str(&body[start..=end])?;
    Ok(answer["data"]["result"]
        .as_array()
        .is_some_and(|series| !series.is_empty()))
}
