//! The Kubernetes platform from outside: what it renders, and real passes against an API server in
//! this process.

mod api;
mod certificates;
mod hazards;
mod histories;
mod objects;
mod passes;
mod recover;
mod refused;
mod requests;
mod sets;
mod settings;
mod wire;
