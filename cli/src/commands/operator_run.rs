//! `quorate operator run`: the operator as a process on Kubernetes.
//!
//! Here are the options, the signals and the log; the operator crate does the work.

use std::net::SocketAddr;

use clap::{ArgAction, Args, ValueEnum};
use quorate_node::flags::{LogConfig, LogOutput};
use quorate_node::logging;
use quorate_operator::platform::kubernetes;
use quorate_operator::process::{self, LeaseName, Settings};

use super::up::stop_signals;
use crate::failure::Failure;

/// Options of `operator run`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate operator run                                       every cluster of every namespace
  quorate operator run --watch-namespaces=shop,bank --leader-elect=false

Access is by the pod's service account, or by KUBECONFIG.")]
pub struct RunArgs {
    /// Namespaces to look after, separated by commas; all when left out.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    watch_namespaces: Vec<String>,
    /// Look after KvClusters with these labels only, such as team=shop.
    #[arg(long, value_name = "SELECTOR")]
    watch_selector: Option<String>,
    /// Work only while holding a Lease, so that several operators can stand by.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    leader_elect: bool,
    /// The Lease's name.
    #[arg(long, value_name = "NAME", default_value = "quorate-operator")]
    lease_name: String,
    /// The Lease's namespace; by default the pod's own.
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "default",
        hide_env_values = true
    )]
    lease_namespace: String,
    /// Who this process is, in the Lease and in events; by default the pod's name.
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAME",
        default_value = "quorate-operator",
        hide_env_values = true
    )]
    identity: String,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// DNS domain of the Kubernetes cluster; not needed where resolvers complete names.
    #[arg(long, value_name = "DOMAIN")]
    cluster_domain: Option<String>,
    /// Clusters that are worked on at the same time.
    #[arg(long, value_name = "N", default_value_t = 8)]
    max_concurrent_reconciles: u16,
    /// How much is logged.
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Level::Info)]
    log_level: Level,
    /// How log lines look.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Json)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Plain text.
    Text,
}

/// Runs the operator until it is told to stop.
///
/// # Errors
/// [`Failure::Refused`]: no access to an API server, the address is taken, or the Lease was lost.
pub async fn run(args: RunArgs) -> Result<(), Failure> {
    let log = LogConfig {
        level: match args.log_level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        },
        json: matches!(args.log_format, LogFormat::Json),
        output: LogOutput::Stderr,
        warnings: Vec::new(),
    };
    logging::init(&log)
        .map_err(|error| Failure::refused(format!("the log cannot be opened: {error}")))?;
    let lease = args.leader_elect.then_some(LeaseName {
        namespace: args.lease_namespace,
        name: args.lease_name,
    });
    let settings = Settings {
        namespaces: args.watch_namespaces,
        selector: args.watch_selector,
        listen: args.listen,
        lease,
        // Two processes of one name must not take each other's Lease for their own.
        identity: format!("{}_{}", args.identity, std::process::id()),
        concurrency: usize::from(args.max_concurrent_reconciles),
        cluster_domain: args.cluster_domain,
        check: super::member_settings,
    };
    let stop = stop_signals()?;
    let client = kubernetes::connect().await.map_err(Failure::refused)?;
    process::run(client, settings, stop)
        .await
        .map_err(Failure::refused)
}
