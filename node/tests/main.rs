//! Tests of the node through its public door, in one binary.

mod auto_compaction;
mod kv_model;
mod kv_property;
mod kv_readers;
mod kv_scripts;
mod lone;
mod quota;
mod tls;
