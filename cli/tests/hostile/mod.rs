//! Malformed input against the real binary: every piece is told what is wrong with it and what to
//! do, nothing panics, and a key written before is readable after.

mod directories;
mod frames;
mod member;
mod requests;
