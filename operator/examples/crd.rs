//! Prints the CustomResourceDefinition of `KvCluster`: `cargo run -p quorate-operator --example
//! crd`.
//!
//! `deploy/crds.yaml` is this output; CI compares the two.

fn main() -> std::process::ExitCode {
    match quorate_operator::crd::crd_yaml() {
        Ok(yaml) => {
            print!("{yaml}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crd: the definition cannot be written as YAML: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
