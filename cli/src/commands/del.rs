//! `quorate del`: delete one key or a range of keys.

use clap::Args;
use quorate_api::client as api;
use quorate_api::etcdserverpb::DeleteRangeRequest;
use serde_json::{Value, json};

use crate::args::{Common, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::input::KeyRange;
use crate::output::{Printer, Table, header, key_value};

use super::get;

/// Options of `del`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate del greeting
  quorate del app/ --prefix              all keys that begin with app/
  quorate del a c                        a <= key < c
  quorate del greeting --prev-kv         and print what was deleted

Prints how many keys were deleted; deleting nothing is no error. The write is sent once: exit code 3
means that it may or may not have happened.")]
pub struct DelArgs {
    #[command(flatten)]
    range: KeyRange,
    /// Print the deleted keys with their values.
    #[arg(long)]
    prev_kv: bool,
}

/// Runs `del`.
///
/// # Errors
/// As [`Client::write`], and for keys that cannot be used.
pub async fn run(args: DelArgs, common: &Common) -> Result<(), Failure> {
    let interval = args.range.interval()?;
    let what = interval.shown();
    let request = DeleteRangeRequest {
        key: interval.key.into(),
        range_end: interval.range_end.into(),
        prev_kv: args.prev_kv,
    };
    let client = Client::new(common)?;
    let call = async |channel| {
        let mut kv = api::kv(channel);
        kv.delete_range(request).await
    };
    let answer = client.write(&what, call).await?;

    let printer = Printer::new(common, Format::Simple);
    match printer.format() {
        Format::Json => {
            let previous: Vec<Value> = answer
                .prev_kvs
                .iter()
                .map(|kv| key_value(kv, false))
                .collect();
            let mut document =
                json!({ "header": header(answer.header.as_ref()), "deleted": answer.deleted });
            if args.prev_kv {
                document["prev_kvs"] = Value::Array(previous);
            }
            printer.json(&document)
        }
        Format::Table => {
            let revision = answer.header.as_ref().map_or(0, |header| header.revision);
            let mut table = Table::new(&["DELETED", "REVISION"]);
            table.row(vec![answer.deleted.to_string(), revision.to_string()]);
            printer.table(&table)
        }
        Format::Simple => {
            printer.line(answer.deleted.to_string())?;
            get::print_lines(&printer, &answer.prev_kvs, false)
        }
    }
}
