//! `quorate txn`: run a transaction read from standard input.

use std::path::PathBuf;

use clap::Args;
use quorate_api::client as api;
use quorate_api::etcdserverpb::TxnResponse;
use quorate_api::etcdserverpb::response_op::Response;
use serde_json::{Value, json};

use crate::args::{Common, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::input;
use crate::output::{Printer, Table, escaped, header, key_value};
use crate::txn_script;

use super::get;

/// Options of `txn`.
#[derive(Args, Debug)]
#[command(after_help = format!("\
Examples:
  quorate txn <<'END'
  if    version lock = 0
  then  put lock \"worker 7\"
  else  get lock
  END
  quorate txn --file take-lock.txn

The language, one statement a line; # begins a comment, double quotes hold blanks and \\n \\t \\xNN:
{}

All operations of the chosen branch happen at once or not at all. The exit code is 0 whichever branch
ran, and 3 when no answer came back.", txn_script::SUMMARY))]
pub struct TxnArgs {
    /// Read the transaction from a file instead of standard input.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// Runs `txn`.
///
/// # Errors
/// As [`Client::write`]; [`Failure::Usage`] for a transaction that cannot be read.
pub async fn run(args: &TxnArgs, common: &Common) -> Result<(), Failure> {
    let (script, source) = match &args.file {
        Some(path) => (input::read_file(path)?, path.display().to_string()),
        None => (input::read_stdin()?, "standard input".to_owned()),
    };
    let request = txn_script::parse(&script).map_err(|why| {
        Failure::usage(format!(
            "the transaction on {source} cannot be read: {why}. Nothing was sent.\n\
             The language:\n{}",
            txn_script::SUMMARY
        ))
    })?;
    let client = Client::new(common)?;
    let call = async |channel| api::kv(channel).txn(request).await;
    let answer = client.write("the transaction", call).await?;

    let printer = Printer::new(common, Format::Simple);
    match printer.format() {
        Format::Json => printer.json(&document(&answer)),
        Format::Table => print_table(&printer, &answer),
        Format::Simple => print_lines(&printer, &answer),
    }
}

fn document(answer: &TxnResponse) -> Value {
    let responses = answer
        .responses
        .iter()
        .filter_map(|response| response.response.as_ref());
    let responses: Vec<Value> = responses
        .map(|response| match response {
            Response::ResponseRange(range) => {
                let kvs: Vec<Value> = range.kvs.iter().map(|kv| key_value(kv, false)).collect();
                json!({ "get": { "kvs": kvs, "count": range.count, "more": range.more } })
            }
            Response::ResponsePut(put) => {
                let previous = put.prev_kv.as_ref().map(|kv| key_value(kv, false));
                json!({ "put": { "prev_kv": previous } })
            }
            Response::ResponseDeleteRange(deleted) => {
                let previous: Vec<Value> = deleted
                    .prev_kvs
                    .iter()
                    .map(|kv| key_value(kv, false))
                    .collect();
                json!({ "del": { "deleted": deleted.deleted, "prev_kvs": previous } })
            }
            Response::ResponseTxn(nested) => json!({ "txn": document(nested) }),
        })
        .collect();
    json!({
        "header": header(answer.header.as_ref()),
        "succeeded": answer.succeeded,
        "responses": responses,
    })
}

fn branch(answer: &TxnResponse) -> &'static str {
    if answer.succeeded { "then" } else { "else" }
}

fn print_lines(printer: &Printer, answer: &TxnResponse) -> Result<(), Failure> {
    printer.line(branch(answer))?;
    for response in answer
        .responses
        .iter()
        .filter_map(|response| response.response.as_ref())
    {
        match response {
            Response::ResponseRange(range) => get::print_lines(printer, &range.kvs, false)?,
            Response::ResponsePut(put) => {
                printer.line("OK")?;
                get::print_lines(printer, put.prev_kv.as_slice(), false)?;
            }
            Response::ResponseDeleteRange(deleted) => {
                printer.line(deleted.deleted.to_string())?;
                get::print_lines(printer, &deleted.prev_kvs, false)?;
            }
            Response::ResponseTxn(nested) => print_lines(printer, nested)?,
        }
    }
    Ok(())
}

fn print_table(printer: &Printer, answer: &TxnResponse) -> Result<(), Failure> {
    let mut table = Table::new(&["BRANCH", "OPERATION", "KEY", "RESULT"]);
    for response in answer
        .responses
        .iter()
        .filter_map(|response| response.response.as_ref())
    {
        let mut row = |operation: &str, key: String, result: String| {
            table.row(vec![
                branch(answer).to_owned(),
                operation.to_owned(),
                key,
                result,
            ]);
        };
        match response {
            Response::ResponseRange(range) if range.kvs.is_empty() => {
                row("get", "-".into(), format!("{} keys", range.count));
            }
            Response::ResponseRange(range) => {
                for kv in &range.kvs {
                    row("get", escaped(&kv.key), escaped(&kv.value));
                }
            }
            Response::ResponsePut(_) => row("put", "-".into(), "OK".into()),
            Response::ResponseDeleteRange(deleted) => {
                row("del", "-".into(), format!("{} deleted", deleted.deleted));
            }
            Response::ResponseTxn(nested) => {
                row("txn", "-".into(), branch(nested).to_owned());
            }
        }
    }
    printer.table(&table)
}
