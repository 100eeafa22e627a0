//! The command line: verbs, the options they share, and the small types those options are read
//! into.
//!
//! What belongs to one verb only is declared beside its code, in `commands/<verb>.rs`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands;
use crate::endpoints::Endpoints;
use crate::security::TlsArgs;

/// Time a client command may take when `--timeout` is not given.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// A replicated, durable key-value store that speaks the etcd v3 API.
#[derive(Debug, Parser)]
#[command(
    name = "quorate",
    version = commands::version::LONG,
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options that every command accepts.
    #[command(flatten)]
    pub common: Common,
}

const EXAMPLES: &str = "\
Examples:
  quorate up deploy/examples/kvcluster.yaml      run a cluster on this machine
  quorate put greeting hello                     write a key
  quorate get greeting                           read it back
  quorate member list                            who is in the cluster

Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 outcome of a write unknown;
4 data directory refused.";

/// Options shared by all verbs that talk to a cluster or print a result.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Members to talk to, as host:port or https://host:port, separated by commas.
    #[arg(
        long,
        global = true,
        value_name = "LIST",
        env = "QUORATE_ENDPOINTS",
        default_value = "localhost:2379",
        hide_env_values = true,
        value_parser = Endpoints::parse
    )]
    pub endpoints: Endpoints,
    /// How to print the result; each command has a fitting default.
    #[arg(long, short = 'o', global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Longest time the whole command may take, such as 500ms, 5s or 2m; a bare number is seconds.
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
}

impl Common {
    /// The time limit of a client command.
    pub fn client_timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns with a heading.
    Table,
    /// One JSON document; bytes that are not UTF-8 stand as base64 in a field of their own.
    Json,
    /// Bare lines for scripts.
    Simple,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write the value of a key.
    Put(commands::put::PutArgs),
    /// Read one key or a range of keys.
    Get(commands::get::GetArgs),
    /// Delete one key or a range of keys.
    Del(commands::del::DelArgs),
    /// List the keys under a prefix, page by page, all at one revision.
    List(commands::list::ListArgs),
    /// Run a transaction read from standard input.
    Txn(commands::txn::TxnArgs),
    /// Drop the history before a revision.
    Compact(commands::compact::CompactArgs),
    /// Show and change who is in the cluster.
    Member(commands::member::MemberArgs),
    /// Hand leadership to another voter.
    MoveLeader(commands::move_leader::MoveLeaderArgs),
    /// Show what each member says about itself.
    Status(commands::status::StatusArgs),
    /// Check that each member answers a linearizable read.
    EndpointHealth(commands::endpoint_health::EndpointHealthArgs),
    /// Wait until a health page says yes.
    Probe(commands::probe::ProbeArgs),
    /// Run the cluster of a KvCluster manifest as processes on this machine.
    Up(commands::up::UpArgs),
    /// Run one member (accepts the flags and ETCD_* variables of etcd).
    #[command(
        disable_help_flag = true,
        after_help = "\
Examples:
  quorate node --id node1 --port 8001 --peers localhost:8002,localhost:8003
  quorate node --help                             every flag"
    )]
    Node(RawArgs),
    /// Run the operator on Kubernetes, print its resource, check manifests.
    Operator(commands::operator::OperatorArgs),
    /// Look into the write-ahead log of a stopped member.
    Wal(commands::wal::WalArgs),
    /// Print the version.
    #[command(after_help = "Examples:\n  quorate version\n  quorate version -o json")]
    Version,
    /// Print a completion script for a shell.
    Completion(commands::completion::CompletionArgs),
}

impl Command {
    /// The verb as typed, for the head of error messages.
    pub fn verb(&self) -> &'static str {
        match self {
            Command::Put(_) => "put",
            Command::Get(_) => "get",
            Command::Del(_) => "del",
            Command::List(_) => "list",
            Command::Txn(_) => "txn",
            Command::Compact(_) => "compact",
            Command::Member(_) => "member",
            Command::MoveLeader(_) => "move-leader",
            Command::Status(_) => "status",
            Command::EndpointHealth(_) => "endpoint-health",
            Command::Probe(_) => "probe",
            Command::Up(_) => "up",
            Command::Node(_) => "node",
            Command::Operator(_) => "operator",
            Command::Wal(_) => "wal",
            Command::Version => "version",
            Command::Completion(_) => "completion",
        }
    }
}

/// Arguments handed on as they are.
#[derive(Args, Debug)]
pub struct RawArgs {
    /// Flags of the member, see `quorate node --help`.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FLAGS"
    )]
    pub args: Vec<OsString>,
}

/// Reads a time span: `500ms`, `5s`, `2m`, or a number of seconds.
///
/// # Errors
/// A text that is no such span, is zero, or is longer than a day.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const REMEDY: &str = "write a time such as 500ms, 5s or 2m";
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| REMEDY.to_owned())?;
    let scale_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(REMEDY.to_owned()),
    };
    let ms = number.saturating_mul(scale_ms);
    if ms == 0 {
        return Err("the time limit must be longer than zero".to_owned());
    }
    if ms > 24 * 3_600_000 {
        return Err("the time limit must not be longer than 24h".to_owned());
    }
    Ok(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_explains_itself_and_shows_an_example() {
        for verb in Cli::command().get_subcommands() {
            let name = verb.get_name();
            assert!(verb.get_about().is_some(), "`{name}` has no description");
            let help = verb.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "`{name} --help` shows no example");
        }
    }

    #[test]
    fn time_spans_are_read_with_and_without_units() {
        assert_eq!(parse_duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in [
            "",
            "s",
            "5x",
            "-1",
            "0",
            "1.5s",
            "25h",
            "99999999999999999999",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
