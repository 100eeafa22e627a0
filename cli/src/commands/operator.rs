//! `quorate operator`: the operator itself, and tools around the KvCluster resource.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quorate_operator::record::Record;
use quorate_operator::{crd, manifest, validate};
use serde_json::json;

use super::operator_run;
use crate::args::{Common, Format};
use crate::failure::Failure;
use crate::input;
use crate::output::Printer;

/// Options of `operator`.
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  quorate operator run
  quorate operator crd | kubectl apply -f -
  quorate operator check deploy/examples/kvcluster.yaml"
)]
pub struct OperatorArgs {
    #[command(subcommand)]
    command: OperatorCommand,
}

#[derive(Debug, Subcommand)]
enum OperatorCommand {
    /// Run the operator on Kubernetes.
    Run(Box<operator_run::RunArgs>),
    /// Print the CustomResourceDefinition of KvCluster.
    #[command(after_help = "Example:\n  quorate operator crd | kubectl apply -f -")]
    Crd,
    /// Check a KvCluster manifest without applying it.
    #[command(after_help = "\
Example:
  quorate operator check deploy/examples/kvcluster.yaml

The exit code is 2 when the manifest would be refused.")]
    Check {
        /// The KvCluster manifest (YAML).
        #[arg(value_name = "MANIFEST")]
        manifest: PathBuf,
    },
}

/// Runs `operator`.
///
/// # Errors
/// As `run` says; [`Failure::Usage`] for a manifest that would be refused, naming file, line and
/// field.
pub async fn run(args: OperatorArgs, common: &Common) -> Result<(), Failure> {
    let printer = Printer::new(common, Format::Simple);
    match args.command {
        OperatorCommand::Run(args) => operator_run::run(*args).await,
        OperatorCommand::Crd => {
            let yaml = crd::crd_yaml().map_err(|error| Failure::refused(error.to_string()))?;
            printer.raw(yaml.as_bytes())
        }
        OperatorCommand::Check { manifest: path } => {
            let shown = path.display().to_string();
            let text = String::from_utf8(input::read_file(&path)?)
                .map_err(|_| Failure::usage(format!("{shown}: is not UTF-8 text")))?;
            let cluster = manifest::parse(&shown, &text)
                .map_err(|error| Failure::usage(error.to_string()))?;
            let desired = validate::validate(&cluster, &Record::default(), super::member_settings)
                .map_err(|invalid| Failure::usage(format!("{shown}: {invalid}")))?;
            if printer.format() == Format::Json {
                return printer.json(&json!({
                    "name": desired.name,
                    "replicas": desired.replicas,
                    "warnings": desired.warnings,
                }));
            }
            for warning in &desired.warnings {
                printer.line(format!("warning: {warning}"))?;
            }
            let members = if desired.replicas == 1 {
                "member"
            } else {
                "members"
            };
            printer.line(format!(
                "{shown}: cluster {:?}, {} {members}",
                desired.name, desired.replicas
            ))
        }
    }
}
