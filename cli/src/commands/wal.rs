//! `quorate wal`: look into the write-ahead log of a stopped member.
//!
//! Only the options live here: `main` hands the directory to the storage engine and prints what it
//! says.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Options of `wal`.
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Example:
  quorate wal inspect .quorate/demo/slot-0/data"
)]
pub struct WalArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: WalCommand,
}

/// The verbs of `wal`.
#[derive(Debug, Subcommand)]
pub enum WalCommand {
    /// Print what is in the log, and whether a member would start from it. Changes nothing.
    #[command(after_help = "\
Example:
  quorate wal inspect .quorate/demo/slot-0/data

The exit code is 4 when a member would refuse to start from the directory.")]
    Inspect {
        /// The data directory of the member.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}
