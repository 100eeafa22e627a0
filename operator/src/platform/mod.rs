//! The places a cluster can live: each turns observation and steps into reads and effects.

pub mod local;
