//! The bridges to the other crates of the product: a member, and the log of a stopped one.
//!
//! Everything here hands over and maps the outcome to an exit code; nothing is decided. The client
//! verbs never come through here.

use std::ffi::OsString;
use std::process::ExitCode;

pub use quorate_node::flags::CalledAs;
use quorate_node::flags::{self, Request};

use crate::args::Common;
use crate::commands::wal::{WalArgs, WalCommand};
use crate::failure::Failure;

/// Runs a member with the flags as they were typed, until it is told to stop.
///
/// # Errors
/// As the member reports them; a mistake in its flags keeps the exit code etcd uses for it.
pub fn node(called_as: CalledAs, args: &[OsString]) -> Result<ExitCode, Failure> {
    let args = args
        .iter()
        .map(|arg| {
            arg.to_str().map(str::to_owned).ok_or_else(|| {
                Failure::usage(format!(
                    "flag {} is not UTF-8; use plain text",
                    arg.display()
                ))
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    // A variable that is not text cannot be one of ours.
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    match flags::parse(called_as, &args, &env) {
        Ok(Request::Print(text)) => {
            print!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Ok(Request::Run(_config, _log)) => Err(Failure::refused("not wired yet")),
        Err(error) => {
            eprintln!("quorate node: {error}");
            Ok(ExitCode::from(error.exit_code))
        }
    }
}

/// Prints what is in the log of a stopped member.
///
/// # Errors
/// [`Failure::DataDirectory`] when a member would refuse to start from it.
pub fn wal(args: &WalArgs, _common: &Common) -> Result<(), Failure> {
    let WalCommand::Inspect { dir } = &args.command;
    Err(Failure::refused(format!("{} not wired yet", dir.display())))
}
