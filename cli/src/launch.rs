//! The bridges to the member: running one, and looking into the log of a stopped one.
//!
//! Everything here hands over and maps the outcome to an exit code; nothing is decided. The client
//! verbs never come through here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use quorate_node::env::real::RealDisk;
pub use quorate_node::flags::CalledAs;
use quorate_node::flags::{self, LogConfig, Request};
use quorate_node::storage::inspect::inspect;
use quorate_node::{NodeConfig, logging};

use crate::args::{Common, Format};
use crate::commands::wal::{WalArgs, WalCommand};
use crate::failure::Failure;
use crate::output::Printer;

/// Where the log is within a data directory.
const WAL_DIR: &str = "wal";

/// Runs a member with the flags as they were typed, until it is told to stop.
///
/// # Errors
/// As the member reports them; a mistake in its flags keeps the exit code etcd uses for it.
pub fn node(called_as: CalledAs, args: &[OsString]) -> Result<ExitCode, Failure> {
    let args = args
        .iter()
        .map(|arg| {
            let text = arg.to_str().map(str::to_owned);
            text.ok_or_else(|| {
                let shown = arg.display();
                Failure::usage(format!("flag {shown} is not UTF-8; use plain text"))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    // A variable that is not text cannot be one of ours.
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match flags::parse(called_as, &args, &env) {
        Ok(Request::Print(text)) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Request::Run(config, log)) => run(*config, &log),
        Err(error) => {
            eprintln!("quorate node: {error}");
            Ok(ExitCode::from(error.exit_code))
        }
    }
}

fn run(config: NodeConfig, log: &LogConfig) -> Result<ExitCode, Failure> {
    logging::init(log)
        .map_err(|error| Failure::refused(format!("the log cannot be opened: {error}")))?;
    // The member has threads of its own for everything that costs time; this one waits for signals.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime =
        runtime.map_err(|error| Failure::refused(format!("the runtime cannot start: {error}")))?;
    match runtime.block_on(quorate_node::run(config)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.exit_code() == 4 => {
            Err(Failure::DataDirectory(format!("cannot run: {error}")))
        }
        Err(error) => Err(Failure::refused(format!("cannot run: {error}"))),
    }
}

/// Prints what is in the log of a stopped member.
///
/// # Errors
/// [`Failure::Usage`] when there is no such directory, [`Failure::DataDirectory`] when a member
/// would
/// refuse to start from it.
pub fn wal(args: &WalArgs, common: &Common) -> Result<(), Failure> {
    let WalCommand::Inspect { dir } = &args.command;
    let shown = dir.display();
    if !dir.join(WAL_DIR).is_dir() {
        return Err(Failure::usage(format!(
            "{shown} holds no log (there is no directory {WAL_DIR:?} in it). Give the data directory \
             of a member; below that of `quorate up` it is slot-N/volume/data."
        )));
    }
    let report = inspect(&RealDisk::new(dir), WAL_DIR)
        .map_err(|error| Failure::refused(format!("{shown} cannot be read: {error}")))?;
    let printer = Printer::new(common, Format::Table);
    match printer.format() {
        Format::Json => {
            let document = serde_json::to_value(&report)
                .map_err(|error| Failure::refused(format!("the report has no JSON: {error}")))?;
            printer.json(&document)?;
        }
        Format::Table | Format::Simple => printer.raw(report.to_string().as_bytes())?,
    }
    match report.refused {
        None => Ok(()),
        Some(why) => Err(Failure::DataDirectory(format!(
            "a member would not start: {why}"
        ))),
    }
}
