//! The planner from outside: golden scripts over a small model of the world, and the same model
//! under random faults.

mod certificates;
mod convergence;
mod kubernetes;
mod manifests;
mod matrix;
mod newcomer;
mod rng;
mod scripts;
mod settings;
mod world;
