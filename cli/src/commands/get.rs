//! `quorate get`: read one key or a range of keys.

use clap::{Args, ValueEnum};
use quorate_api::client as api;
use quorate_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate_api::etcdserverpb::{RangeRequest, RangeResponse};
use quorate_api::mvccpb::KeyValue;
use serde_json::{Value, json};

use crate::args::{Common, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::input::{Interval, KeyRange, parse_count};
use crate::output::{Printer, Table, escaped, header, key_value};

/// Options of `get`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate get greeting                            key and value, a line each
  quorate get greeting --print-value-only > file  the value, byte for byte
  quorate get app/ --prefix                       all keys that begin with app/
  quorate get a c                                 a <= key < c
  quorate get app/ --prefix --count-only
  quorate get greeting --rev 42                   as it was at revision 42
  quorate get app/ --prefix --sort-by modify --order descend --limit 10

Reads are linearizable; with --serializable the asked member answers from what it has. A read that
fails is tried on the other endpoints until --timeout. A key that does not exist prints nothing.")]
pub struct GetArgs {
    #[command(flatten)]
    range: KeyRange,
    /// Most keys to return; 0 means all.
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse_count)]
    limit: i64,
    /// Read the state at this revision; 0 means the newest.
    #[arg(long, visible_alias = "revision", value_name = "REVISION", default_value = "0", value_parser = parse_count)]
    rev: i64,
    /// Leave out the values.
    #[arg(long)]
    keys_only: bool,
    /// Only say how many keys there are.
    #[arg(long, conflicts_with_all = ["keys_only", "print_value_only", "sort_by", "order", "limit"])]
    count_only: bool,
    /// Print values without their keys; the value of a single key comes out byte for byte.
    #[arg(long, conflicts_with = "keys_only")]
    print_value_only: bool,
    /// Let the asked member answer from its own state, which may lag behind.
    #[arg(long)]
    serializable: bool,
    /// What to sort by.
    #[arg(long, value_enum, value_name = "FIELD")]
    sort_by: Option<SortField>,
    /// Which way to sort.
    #[arg(long, value_enum, value_name = "ORDER")]
    order: Option<Direction>,
}

/// A field to sort by.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SortField {
    /// The key.
    Key,
    /// Changes since the key's creation.
    Version,
    /// The revision of its creation.
    Create,
    /// The revision of its last change.
    Modify,
    /// The value, bytewise.
    Value,
}

/// A direction to sort in.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    /// Smallest first.
    Ascend,
    /// Greatest first.
    Descend,
}

impl GetArgs {
    fn request(&self, interval: &Interval) -> RangeRequest {
        let target = match self.sort_by {
            None | Some(SortField::Key) => SortTarget::Key,
            Some(SortField::Version) => SortTarget::Version,
            Some(SortField::Create) => SortTarget::Create,
            Some(SortField::Modify) => SortTarget::Mod,
            Some(SortField::Value) => SortTarget::Value,
        };
        let order = match (self.sort_by, self.order) {
            (None, None) => SortOrder::None,
            (Some(_), None) | (_, Some(Direction::Ascend)) => SortOrder::Ascend,
            (_, Some(Direction::Descend)) => SortOrder::Descend,
        };
        RangeRequest {
            key: interval.key.clone().into(),
            range_end: interval.range_end.clone().into(),
            limit: self.limit,
            revision: self.rev,
            sort_order: order.into(),
            sort_target: target.into(),
            serializable: self.serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            ..RangeRequest::default()
        }
    }
}

/// Runs `get`.
///
/// # Errors
/// As [`Client::read`], and for keys that cannot be used.
pub async fn run(args: GetArgs, common: &Common) -> Result<(), Failure> {
    let interval = args.range.interval()?;
    let request = args.request(&interval);
    let client = Client::new(common)?;
    let answer = range(&client, &interval.shown(), request).await?;

    let printer = Printer::new(common, Format::Simple);
    match printer.format() {
        Format::Json => printer.json(&document(&answer, args.keys_only)),
        _ if args.count_only => printer.line(answer.count.to_string()),
        Format::Table => print_table(&printer, &answer, args.keys_only),
        Format::Simple if args.print_value_only => {
            print_values(&printer, &answer.kvs, interval.is_range())
        }
        Format::Simple => print_lines(&printer, &answer.kvs, args.keys_only),
    }
}

/// One range read, asked of the endpoints in turn.
///
/// # Errors
/// As [`Client::read`].
pub async fn range(
    client: &Client,
    what: &str,
    request: RangeRequest,
) -> Result<RangeResponse, Failure> {
    let request = &request;
    let call = async |channel| {
        let mut kv = api::kv(channel);
        kv.range(request.clone()).await
    };
    client.read(what, call).await
}

/// The answer to a range read as one JSON document.
pub fn document(answer: &RangeResponse, keys_only: bool) -> Value {
    let kvs: Vec<Value> = answer
        .kvs
        .iter()
        .map(|kv| key_value(kv, keys_only))
        .collect();
    json!({
        "header": header(answer.header.as_ref()),
        "kvs": kvs,
        "count": answer.count,
        "more": answer.more,
    })
}

/// Adds the columns of one key to a table made with [`heading`].
pub fn row(kv: &KeyValue, keys_only: bool) -> Vec<String> {
    let mut cells = vec![
        escaped(&kv.key),
        kv.create_revision.to_string(),
        kv.mod_revision.to_string(),
        kv.version.to_string(),
    ];
    if !keys_only {
        cells.push(escaped(&kv.value));
    }
    cells
}

/// The heading that fits [`row`].
pub fn heading(keys_only: bool) -> &'static [&'static str] {
    if keys_only {
        &["KEY", "CREATED", "MODIFIED", "VERSION"]
    } else {
        &["KEY", "CREATED", "MODIFIED", "VERSION", "VALUE"]
    }
}

/// Key and value on a line each.
///
/// # Errors
/// As [`Printer::raw`].
pub fn print_lines(printer: &Printer, kvs: &[KeyValue], keys_only: bool) -> Result<(), Failure> {
    for kv in kvs {
        printer.bytes_line(&kv.key)?;
        if !keys_only {
            printer.bytes_line(&kv.value)?;
        }
    }
    Ok(())
}

fn print_values(printer: &Printer, kvs: &[KeyValue], range: bool) -> Result<(), Failure> {
    for kv in kvs {
        // Into a file or pipe, the value of the one key asked for must arrive unchanged: an end of
        // line that nobody stored would make another value of it.
        if range || printer.terminal() {
            printer.bytes_line(&kv.value)?;
        } else {
            printer.raw(&kv.value)?;
        }
    }
    Ok(())
}

fn print_table(printer: &Printer, answer: &RangeResponse, keys_only: bool) -> Result<(), Failure> {
    let mut table = Table::new(heading(keys_only));
    for kv in &answer.kvs {
        table.row(row(kv, keys_only));
    }
    printer.table(&table)?;
    if answer.more {
        let shown = answer.kvs.len();
        printer.line(format!(
            "({shown} of {} keys; raise --limit for more)",
            answer.count
        ))?;
    }
    Ok(())
}
