//! The command line as its users meet it: the real binary, its messages and its exit codes.

mod agreement;
mod guard;
mod hostile;
mod mistakes;
mod process;
mod recover;
mod terminal;
mod unknown;
mod up;
