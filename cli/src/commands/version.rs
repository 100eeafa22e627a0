//! `quorate version`: which Quorate this is, and which API it speaks.

use serde_json::json;

use crate::args::{Common, Format};
use crate::failure::Failure;
use crate::output::Printer;

/// Quorate's own version.
pub const QUORATE: &str = env!("CARGO_PKG_VERSION");

/// The version of etcd whose client API is spoken.
const ETCD_API: &str = "3.7";

/// What `--version` prints after the name.
pub const LONG: &str = concat!(env!("CARGO_PKG_VERSION"), " (etcd API 3.7)");

/// Runs `version`.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(common: &Common) -> Result<(), Failure> {
    let printer = Printer::new(common, Format::Simple);
    match printer.format() {
        Format::Json => printer.json(&json!({ "quorate": QUORATE, "etcd_api": ETCD_API })),
        Format::Table | Format::Simple => printer.line(format!("quorate {LONG}")),
    }
}
