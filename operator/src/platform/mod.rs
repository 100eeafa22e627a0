//! The places a cluster can live: each turns observation and steps into reads and effects.

mod calls;
pub(crate) mod doors;
pub mod kubernetes;
pub mod local;
mod members;
