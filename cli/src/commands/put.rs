//! `quorate put`: write the value of a key.

use std::ffi::OsString;

use clap::Args;
use quorate_api::client as api;
use quorate_api::etcdserverpb::PutRequest;
use serde_json::json;

use crate::args::{Common, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::input::{ValueSource, key_bytes, parse_lease};
use crate::output::{Printer, Table, header, key_value, shown};

/// Options of `put`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate put greeting hello
  quorate put greeting ''                         an empty value
  quorate put config --value-file app.toml        byte for byte
  tar c dir | quorate put backup -                from standard input
  quorate put greeting hi --prev-kv               and print what was there before

The write is sent once. When no answer comes back the exit code is 3: the key may or may not have
been written.")]
pub struct PutArgs {
    /// The key.
    #[arg(value_name = "KEY")]
    key: OsString,
    #[command(flatten)]
    source: ValueSource,
    /// Attach the key to a lease (hexadecimal ID).
    #[arg(long, value_name = "ID", value_parser = parse_lease, conflicts_with = "ignore_lease")]
    lease: Option<i64>,
    /// Print what the key held before.
    #[arg(long)]
    prev_kv: bool,
    /// Keep the value the key has; only its lease changes.
    #[arg(long, conflicts_with_all = ["value", "value_file"])]
    ignore_value: bool,
    /// Keep the lease the key has.
    #[arg(long)]
    ignore_lease: bool,
}

/// Runs `put`.
///
/// # Errors
/// As [`Client::write`], and for a key or value that cannot be used.
pub async fn run(args: PutArgs, common: &Common) -> Result<(), Failure> {
    let key = key_bytes(&args.key)?;
    let value = match args.source.read()? {
        Some(value) => value,
        None if args.ignore_value => Vec::new(),
        None => {
            return Err(Failure::usage(format!(
                "key {} has no value. Add the value, `-` to read it from standard input, or \
                 --value-file PATH.",
                shown(&key)
            )));
        }
    };
    let what = format!("key {}", shown(&key));
    let request = PutRequest {
        key: key.into(),
        value: value.into(),
        lease: args.lease.unwrap_or(0),
        prev_kv: args.prev_kv,
        ignore_value: args.ignore_value,
        ignore_lease: args.ignore_lease,
    };
    let client = Client::new(common)?;
    let call = async |channel| api::kv(channel).put(request).await;
    let answer = client.write(&what, call).await?;

    let printer = Printer::new(common, Format::Simple);
    let revision = answer.header.as_ref().map_or(0, |header| header.revision);
    match printer.format() {
        Format::Json => {
            let mut document = json!({ "header": header(answer.header.as_ref()) });
            if let Some(previous) = &answer.prev_kv {
                document["prev_kv"] = key_value(previous, false);
            }
            printer.json(&document)
        }
        Format::Table => {
            let mut table = Table::new(&["RESULT", "REVISION"]);
            table.row(vec!["OK".into(), revision.to_string()]);
            printer.table(&table)
        }
        Format::Simple => {
            printer.line("OK")?;
            if let Some(previous) = &answer.prev_kv {
                printer.bytes_line(&previous.key)?;
                printer.bytes_line(&previous.value)?;
            }
            Ok(())
        }
    }
}
