//! `quorate list`: the keys under a prefix, in pages that all show one revision.
//!
//! A million keys pass through without being held at once, except as a table or JSON document,
//! which need all of them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use clap::Args;
use quorate_api::etcdserverpb::{RangeRequest, RangeResponse};

use crate::args::{Common, Format};
use crate::client::Client;
use crate::failure::Failure;
use crate::input::{Interval, parse_count};
use crate::output::{Printer, Table};

use super::get;

/// Keys asked for at once: enough to keep the round trips few, little enough to answer quickly.
const PAGE_KEYS: i64 = 1_000;

/// Options of `list`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate list                      every key
  quorate list app/                 the keys that begin with app/
  quorate list app/ --values        with their values
  quorate list app/ --limit 20 -o table

All pages are read at one revision, so that the list is a state the store really had. --timeout
bounds each page. When a compaction overtakes that revision on the way, the command fails.")]
pub struct ListArgs {
    /// The beginning the keys share; empty or absent means all keys.
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: OsString,
    /// Print the values as well.
    #[arg(long)]
    values: bool,
    /// Most keys to print; 0 means all.
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse_count)]
    limit: i64,
    /// Read the state at this revision; 0 means the newest.
    #[arg(long, visible_alias = "revision", value_name = "REVISION", default_value = "0", value_parser = parse_count)]
    rev: i64,
    /// Let the asked member answer from its own state, which may lag behind.
    #[arg(long)]
    serializable: bool,
}

/// Runs `list`.
///
/// # Errors
/// As [`Client::read`].
pub async fn run(args: ListArgs, common: &Common) -> Result<(), Failure> {
    let interval = Interval::prefix(args.prefix.as_bytes());
    let printer = Printer::new(common, Format::Simple);
    let streamed = printer.format() == Format::Simple;
    let keys_only = !args.values;
    let what = format!("prefix {}", crate::output::shown(args.prefix.as_bytes()));
    let mut collected: Option<RangeResponse> = None;
    let mut from = interval.key.clone();
    let mut revision = args.rev;
    let mut left = if args.limit == 0 {
        i64::MAX
    } else {
        args.limit
    };
    loop {
        let client = Client::new(common)?;
        let request = RangeRequest {
            key: from.clone().into(),
            range_end: interval.range_end.clone().into(),
            limit: left.min(PAGE_KEYS),
            revision,
            serializable: args.serializable,
            keys_only,
            ..RangeRequest::default()
        };
        let mut page = get::range(&client, &what, request).await?;
        if revision == 0 {
            revision = page.header.as_ref().map_or(0, |header| header.revision);
        }
        if streamed {
            get::print_lines(&printer, &page.kvs, keys_only)?;
        }
        left -= i64::try_from(page.kvs.len()).unwrap_or(i64::MAX);
        let done = !page.more || left <= 0 || page.kvs.is_empty();
        if let Some(last) = page.kvs.last() {
            from = last.key.to_vec();
            from.push(0);
        }
        match &mut collected {
            _ if streamed => {}
            None => collected = Some(page),
            Some(first) => {
                first.kvs.append(&mut page.kvs);
                first.more = page.more;
            }
        }
        if done {
            break;
        }
    }
    let Some(answer) = collected else {
        return Ok(());
    };
    if printer.format() == Format::Json {
        return printer.json(&get::document(&answer, keys_only));
    }
    let mut table = Table::new(get::heading(keys_only));
    for kv in &answer.kvs {
        table.row(get::row(kv, keys_only));
    }
    printer.table(&table)
}
