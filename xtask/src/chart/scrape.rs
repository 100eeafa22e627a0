//! A real Prometheus scrapes a real cluster, and every query of dashboards and alerts is asked of
//! it: one that returns nothing is a panel that stays empty.
//!
//! `local` starts three members on loopback and needs nothing else. `live` does it where users do:
//! an operator and a cluster on the Kubernetes bench. Must not know: what the queries say.

use super::dashboards::{questions, reporter};
use super::prometheus::{Prometheus, report};
use super::tools::Tools;
use crate::cluster::{self, Cluster};
use crate::image::{self, METRICS_PORT};
use crate::kube::{self, Bench};
use crate::shell;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Client port of the first member; the others follow at a distance of ten.
const BASE_PORT: u16 = 35_100;
const PROMETHEUS_PORT: u16 = 35_190;
/// The operator's page on the bench.
const OPERATOR_PORT: u16 = 35_180;
/// Where a member on Kubernetes serves clients.
const CLIENT_PORT: u16 = 2379;
/// What the live cluster is called, as the queries ask for it.
const NAMESPACE: &str = "local";

/// Three members on loopback; the operator's queries are not asked.
pub fn local(tools: &Tools) -> Result<()> {
    let server = cluster::quorate()?;
    let dir = folder("scrape");
    let members = Cluster::start(&server, &dir.join("members"), BASE_PORT)?;
    let targets = (0..3).map(|slot| {
        let address = format!("127.0.0.1:{}", members.client_port(slot));
        (format!("demo-{slot}"), address)
    });
    let config = member_targets(targets);
    let enter = |program: &Path| Command::new(program);
    let mut prometheus = Prometheus::start(tools, &enter, &dir, PROMETHEUS_PORT, &config)?;
    let mut questions = questions(|name| reporter(name) != "operator", false)?;
    // Whether the operator is up, only Prometheus itself says.
    questions.retain(|question| !question.expression.contains("job=\"quorate-operator\""));
    let endpoints = members.endpoints();
    let load = || load(&enter, &server.program, &endpoints);
    let open = prometheus.ask_all(&questions, load)?;
    report("members on loopback", questions.len(), &open)
}

/// A cluster and an operator on the bench; all queries are asked. Without `on` a bench is started
/// and ended.
pub fn live(tools: &Tools, on: Option<&str>, profile: image::Profile) -> Result<()> {
    let image = image::build(&image::Options::with_profile(profile))?;
    let program = image::program(profile)?;
    kube::with_bench(on, &image, |bench| {
        let dir = folder("live");
        let questions = questions(|_| true, false)?;
        let enter = |program: &Path| bench.command(&program.to_string_lossy());
        let open = {
            let _cluster = LiveCluster::start(bench, &program)?;
            let config = format!(
                "{}{}",
                member_targets(pods(bench, METRICS_PORT)?),
                format_args!(
                    "  - job_name: quorate-operator\n    honor_labels: true\n    static_configs:\n      \
                     - targets: ['127.0.0.1:{OPERATOR_PORT}']\n        labels: {{pod: operator-0}}\n"
                )
            );
            let mut prometheus = Prometheus::start(tools, &enter, &dir, PROMETHEUS_PORT, &config)?;
            let endpoints = pods(bench, CLIENT_PORT)?;
            let endpoints = endpoints.into_iter().map(|(_, address)| address);
            let endpoints = endpoints.collect::<Vec<_>>().join(",");
            let mut rounds = 0;
            prometheus.ask_all(&questions, || {
                // Operations are seen only while they last.
                rounds += 1;
                if rounds == 2 {
                    bench.kubectl(&["scale", "-n", NAMESPACE, "kvc/demo", "--replicas=4"])?;
                }
                load(&enter, &program, &endpoints)
            })?
        };
        report("operator and members on Kubernetes", questions.len(), &open)
    })
}

fn folder(what: &str) -> PathBuf {
    shell::root().join(format!("target/{what}-{}", std::process::id()))
}

/// The job of the members: name of the pod, and address.
fn member_targets(members: impl IntoIterator<Item = (String, String)>) -> String {
    let mut text = String::from("  - job_name: quorate-member\n    static_configs:\n");
    for (pod, address) in members {
        let _ = write!(
            text,
            "      - targets: ['{address}']\n        labels: {{namespace: {NAMESPACE}, \
             cluster: demo, pod: {pod}}}\n",
        );
    }
    text
}

/// Some writes, reads and transactions, so that nothing is missing for want of traffic.
fn load(enter: &dyn Fn(&Path) -> Command, program: &Path, endpoints: &str) -> Result<()> {
    let run = |args: &[&str]| -> Result<()> {
        let output = enter(program)
            .args(args)
            .arg(format!("--endpoints={endpoints}"))
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("`quorate {}`: {}", args.join(" "), why.trim());
        }
        Ok(())
    };
    for n in 0..3 {
        run(&["put", &format!("key-{n}"), "value"])?;
        run(&["get", &format!("key-{n}")])?;
    }
    run(&["del", "key-0"])
}

/// A cluster of three on the bench and the operator that looks after it; both end with the value.
struct LiveCluster<'a> {
    bench: &'a Bench,
    operator: Child,
}

impl<'a> LiveCluster<'a> {
    fn start(bench: &'a Bench, program: &Path) -> Result<Self> {
        kube::install_crd(bench)?;
        bench.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n---\n\
             apiVersion: quorate.dev/v1alpha1\nkind: KvCluster\n\
             metadata: {{name: demo, namespace: {NAMESPACE}}}\nspec:\n  replicas: 3\n  \
             tls: {{client: {{mode: Disabled}}, peer: {{mode: Disabled}}}}\n"
        ))?;
        let log = std::fs::File::create(bench.run().log("operator"))?;
        let operator = bench
            .command(&program.to_string_lossy())
            .args(["operator", "run", "--watch-namespaces", NAMESPACE])
            .arg(format!("--listen=127.0.0.1:{OPERATOR_PORT}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start the operator")?;
        let cluster = Self { bench, operator };
        let name = ["-n", NAMESPACE, "kvc/demo", "--timeout=180s"];
        let wait = ["wait", "--for=condition=MembersReady"];
        bench.kubectl(&[&wait[..], &name].concat())?;
        let complete = ["wait", "--for=condition=ScaleOperationComplete"];
        bench.kubectl(&[&complete[..], &name].concat())?;
        Ok(cluster)
    }
}

impl Drop for LiveCluster<'_> {
    fn drop(&mut self) {
        // While the operator is there to let it go. The bench may be somebody's: leave nothing.
        let delete = ["delete", "-n", NAMESPACE, "kvc/demo", "--timeout=60s"];
        let deleted = self.bench.kubectl(&delete);
        let namespace = ["delete", "namespace", NAMESPACE, "--wait=false"];
        if let Err(error) = deleted.and(self.bench.kubectl(&namespace)) {
            eprintln!("chart: the live cluster is left on the bench: {error:#}");
        }
        let _ = self.operator.kill();
        let _ = self.operator.wait();
    }
}

/// Names of the members' pods, and the address of one of their ports.
fn pods(bench: &Bench, port: u16) -> Result<Vec<(String, String)>> {
    let label = "--selector=quorate.dev/cluster=demo";
    let pods = bench.json(&["get", "pods", "-n", NAMESPACE, label])?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pods: Vec<(String, String)> = pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pod| {
            let address = format!("{}:{port}", text(&pod["status"]["podIP"]));
            (text(&pod["metadata"]["name"]), address)
        })
        .collect();
    ensure!(pods.len() == 3, "three members, not {pods:?}");
    Ok(pods)
}
