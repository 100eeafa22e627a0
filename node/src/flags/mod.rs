//! The command line and environment of a node: etcd's flags and `ETCD_*` variables, and a short
//! form for trying it out by hand. Text in, [`NodeConfig`] out; nothing is opened or started.
//!
//! May assume nothing about its input. Must not know: sockets, disks, the replica. Host names are
//! resolved here, because a listener needs an address.

mod build;
mod compaction;
mod help;
mod hot;
mod read;
mod settings;
mod short;
mod table;
mod tls;
mod urls;

use crate::config::NodeConfig;
use std::collections::BTreeMap;

pub use hot::hot_over;
pub use settings::check_settings;
pub use table::{Flag, Kind, Mark, flags};

/// The etcd release whose behaviour this server follows; clients gate features on it.
pub const ETCD_VERSION: &str = "3.7.3";

/// How the program was called: decides defaults and the first line of `--version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalledAs {
    /// By the name `etcd`: a drop-in replacement.
    Etcd,
    /// As `quorate node`.
    QuorateNode,
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Request {
    /// Run a node.
    Run(Box<NodeConfig>, LogConfig),
    /// Print this text and exit 0.
    Print(String),
}

/// Where logs go and how much of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `debug`, `info`, `warn` or `error`.
    pub level: &'static str,
    /// One JSON object a line, as etcd prints them; otherwise plain text.
    pub json: bool,
    /// Where the lines go.
    pub output: LogOutput,
    /// Lines to log at the start: settings that were accepted without effect.
    pub warnings: Vec<String>,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(std::path::PathBuf),
}

/// Why a command line was refused. The text names the input and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What is wrong, with which input, and what to do.
    pub message: String,
    /// 2 for a flag that does not exist, 1 for values that do not fit, as etcd does.
    pub exit_code: u8,
}

impl UsageError {
    fn unknown(message: String) -> Self {
        Self {
            message,
            exit_code: 2,
        }
    }

    fn invalid(message: String) -> Self {
        Self {
            message,
            exit_code: 1,
        }
    }
}

/// Reads the arguments after the program's name (and after `node`), and the environment.
///
/// # Errors
/// [`UsageError`] with the text for the user and the exit code.
pub fn parse(
    called_as: CalledAs,
    args: &[String],
    env: &BTreeMap<String, String>,
) -> Result<Request, UsageError> {
    let raw = read::read(args, env)?;
    if raw.help {
        return Ok(Request::Print(help::text(called_as)));
    }
    if raw.version {
        return Ok(Request::Print(version(called_as)));
    }
    let config = if raw.is_set("id") || raw.is_set("port") || raw.is_set("peers") {
        short::build(&raw)?
    } else {
        build::build(&raw)?
    };
    let log = build::log(called_as, &raw)?;
    Ok(Request::Run(Box::new(config), log))
}

/// The text of `--version`; the first line has etcd's form, which tools parse.
#[must_use]
pub fn version(called_as: CalledAs) -> String {
    let etcd = format!("etcd Version: {ETCD_VERSION}");
    let quorate = format!("Quorate Version: {}", env!("CARGO_PKG_VERSION"));
    match called_as {
        CalledAs::Etcd => format!("{etcd}\n{quorate}\n"),
        CalledAs::QuorateNode => format!("{quorate}\n{etcd}\n"),
    }
}

#[cfg(test)]
mod tests;
