//! Tests of the core from outside: scripts in an operator's words, random histories, properties.

mod checker;
mod cluster;
mod random;
