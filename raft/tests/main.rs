//! Tests of the core from outside: scripts in an operator's words, random histories, counting
//! against an obvious version, what is refused at start.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

mod checker;
mod cluster;
mod quorum;
mod random;
mod script;
mod show;
mod start;

/// Which planted bug the random histories run with, in builds that have them.
#[cfg(planted)]
fn planted() -> u32 {
    let row = std::env::var("QUORATE_PLANTED").unwrap_or_default();
    row.parse().unwrap_or(0)
}
