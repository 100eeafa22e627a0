//! `quorate status`: what each member says about itself.

use clap::Args;
use quorate_api::client as api;
use quorate_api::etcdserverpb::{StatusRequest, StatusResponse};
use serde_json::{Value, json};
use tonic::Status;

use crate::args::{Common, Format};
use crate::client::Client;
use crate::endpoints::{Endpoint, Endpoints};
use crate::failure::Failure;
use crate::output::{Printer, Table, header, hex, size};

use super::member;

/// Options of `status`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate status
  quorate status --cluster                 every member, not only --endpoints
  quorate status --cluster -o json

Each member answers for itself, without asking the others. The exit code is 1 when one does not
answer.")]
pub struct StatusArgs {
    /// Ask every member of the cluster, found through --endpoints.
    #[arg(long)]
    cluster: bool,
}

/// Runs `status`.
///
/// # Errors
/// [`Failure::Refused`] naming the members that did not answer.
pub async fn run(args: &StatusArgs, common: &Common) -> Result<(), Failure> {
    let mut client = Client::new(common)?;
    if args.cluster {
        client = client.with_endpoints(member::client_endpoints(&client).await?);
    }
    let mut answers = Vec::new();
    for endpoint in client.endpoints().as_slice() {
        let own = Endpoints::from_endpoints(vec![endpoint.clone()]).expect("one endpoint is given");
        let client = client.renewed(own);
        answers.push((endpoint.clone(), of_member(&client, endpoint).await));
    }
    print(&Printer::new(common, Format::Table), &answers)?;
    let silent: Vec<String> = answers
        .iter()
        .filter_map(|(endpoint, answer)| {
            answer
                .as_ref()
                .err()
                .map(|status| format!("{endpoint} ({})", status.message()))
        })
        .collect();
    if silent.is_empty() {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{} of {} members gave no status: {}. Check that they run.",
        silent.len(),
        answers.len(),
        silent.join(", ")
    )))
}

/// The status of one member, asked once.
///
/// # Errors
/// As [`Client::ask`].
pub async fn of_member(client: &Client, endpoint: &Endpoint) -> Result<StatusResponse, Status> {
    let call = async |channel| {
        api::maintenance(channel)
            .status(StatusRequest::default())
            .await
    };
    client.ask(endpoint, call).await
}

fn print(
    printer: &Printer,
    answers: &[(Endpoint, Result<StatusResponse, Status>)],
) -> Result<(), Failure> {
    match printer.format() {
        Format::Json => {
            let list = answers
                .iter()
                .map(|(endpoint, answer)| document(endpoint, answer));
            printer.json(&Value::Array(list.collect()))
        }
        Format::Table => {
            let mut table = Table::new(&[
                "ENDPOINT",
                "MEMBER",
                "VERSION",
                "ROLE",
                "TERM",
                "COMMITTED",
                "APPLIED",
                "REVISION",
                "SIZE",
                "ERRORS",
            ]);
            for (endpoint, answer) in answers {
                table.row(cells(endpoint, answer));
            }
            printer.table(&table)
        }
        Format::Simple => answers
            .iter()
            .try_for_each(|(endpoint, answer)| printer.line(cells(endpoint, answer).join(", "))),
    }
}

fn cells(endpoint: &Endpoint, answer: &Result<StatusResponse, Status>) -> Vec<String> {
    let status = match answer {
        Ok(status) => status,
        Err(error) => {
            let mut cells = vec![endpoint.to_string()];
            cells.extend((0..8).map(|_| "-".to_owned()));
            cells.push(error.message().to_owned());
            return cells;
        }
    };
    let own = status.header.unwrap_or_default();
    vec![
        endpoint.to_string(),
        hex(own.member_id),
        status.version.clone(),
        role(status, own.member_id).to_owned(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        own.revision.to_string(),
        size(status.db_size),
        status.errors.join("; "),
    ]
}

fn role(status: &StatusResponse, own: u64) -> &'static str {
    if status.is_learner {
        "learner"
    } else if own != 0 && status.leader == own {
        "leader"
    } else {
        "follower"
    }
}

fn document(endpoint: &Endpoint, answer: &Result<StatusResponse, Status>) -> Value {
    match answer {
        Ok(status) => json!({
            "endpoint": endpoint.to_string(),
            "header": header(status.header.as_ref()),
            "version": status.version,
            "role": role(status, status.header.as_ref().map_or(0, |header| header.member_id)),
            "leader": hex(status.leader),
            "raft_term": status.raft_term,
            "raft_index": status.raft_index,
            "raft_applied_index": status.raft_applied_index,
            "db_size_bytes": status.db_size,
            "db_size_in_use_bytes": status.db_size_in_use,
            "errors": status.errors,
        }),
        Err(error) => json!({
            "endpoint": endpoint.to_string(),
            "error": error.message(),
        }),
    }
}
