//! Real processes on loopback: killed, wiped, swapped and restarted while writers count what was
//! acknowledged. `QUORATE_TEST_ROUNDS` makes the loops longer (nightly runs use 20).

mod directories;
pub mod harness;
mod kill;
mod metrics;
mod replace;
mod scale;
mod short_form;
mod stop;
mod tls;
mod writers;
