//! The Kubernetes platform from outside: what it renders, and real passes against an API server in
//! this process.

mod api;
mod hazards;
mod histories;
mod objects;
mod passes;
mod sets;
