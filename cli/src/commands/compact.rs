//! `quorate compact`: drop the history before a revision.

use clap::Args;
use quorate_api::client as api;
use quorate_api::etcdserverpb::CompactionRequest;
use serde_json::json;

use crate::args::{Common, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::input::parse_count;
use crate::output::{Printer, header};

/// Options of `compact`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate compact 1000                 reads below revision 1000 fail from now on
  quorate compact 1000 --physical      and wait until the space is reclaimed

The newest value of every key stays, and reads at revision 1000 and above remain possible.")]
pub struct CompactArgs {
    /// The oldest revision that remains readable.
    #[arg(value_name = "REVISION", value_parser = parse_count)]
    revision: i64,
    /// Return only when the old history has been removed from disk.
    #[arg(long)]
    physical: bool,
}

/// Runs `compact`.
///
/// # Errors
/// As [`Client::write`].
pub async fn run(args: CompactArgs, common: &Common) -> Result<(), Failure> {
    let CompactArgs { revision, physical } = args;
    let client = Client::new(common)?;
    let call = async |channel| {
        api::kv(channel)
            .compact(CompactionRequest { revision, physical })
            .await
    };
    let answer = client.write(&format!("revision {revision}"), call).await?;
    let printer = Printer::new(common, Format::Simple);
    match printer.format() {
        Format::Json => printer
            .json(&json!({ "header": header(answer.header.as_ref()), "compacted": revision })),
        Format::Table | Format::Simple => printer.line(format!("compacted revision {revision}")),
    }
}
