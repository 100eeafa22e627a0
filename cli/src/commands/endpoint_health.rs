//! `quorate endpoint-health`: does each member answer a linearizable read?

use clap::Args;
use quorate_api::client as api;
use quorate_api::etcdserverpb::RangeRequest;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::{Common, Format};
use crate::client::Client;
use crate::colours::Colours;
use crate::endpoints::{Endpoint, Endpoints};
use crate::failure::Failure;
use crate::output::{Printer, Table};

use super::member;

/// The key that is read; it need not exist.
const PROBE: &[u8] = b"health";

/// Options of `endpoint-health`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate endpoint-health
  quorate endpoint-health --cluster                    every member, not only --endpoints
  quorate endpoint-health --endpoints a:2379,b:2379

Healthy means: the member answered a linearizable read, so it has contact with a quorum. The exit
code is 1 when any member is not healthy.")]
pub struct EndpointHealthArgs {
    /// Ask every member of the cluster, found through --endpoints.
    #[arg(long)]
    cluster: bool,
}

struct Health {
    endpoint: Endpoint,
    took_ms: u128,
    error: Option<String>,
}

/// Runs `endpoint-health`.
///
/// # Errors
/// [`Failure::Refused`] naming the members that are not healthy.
pub async fn run(args: &EndpointHealthArgs, common: &Common) -> Result<(), Failure> {
    let mut client = Client::new(common)?;
    if args.cluster {
        client = client.with_endpoints(member::client_endpoints(&client).await?);
    }
    let mut results = Vec::new();
    for endpoint in client.endpoints().as_slice() {
        // Each on its own: a member that hangs costs its own time limit and nobody else's.
        let own = Endpoints::from_endpoints(vec![endpoint.clone()]).expect("one endpoint is given");
        results.push(probe(&client.renewed(own), endpoint).await);
    }
    print(&Printer::new(common, Format::Simple), &results)?;
    let sick: Vec<String> = results
        .iter()
        .filter(|health| health.error.is_some())
        .map(|health| health.endpoint.to_string())
        .collect();
    if sick.is_empty() {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{} of {} members not healthy: {}. See `quorate status` and the log of each.",
        sick.len(),
        results.len(),
        sick.join(", ")
    )))
}

async fn probe(client: &Client, endpoint: &Endpoint) -> Health {
    let begun = Instant::now();
    let request = RangeRequest {
        key: PROBE.into(),
        ..RangeRequest::default()
    };
    let answer = client
        .ask(endpoint, async |channel| {
            api::kv(channel).range(request.clone()).await
        })
        .await;
    let error = match answer {
        Ok(_) => None,
        // The read was carried out up to the question who asks: the quorum is there.
        Err(status) if status.code() == tonic::Code::PermissionDenied => None,
        Err(status) => Some(status.message().to_owned()),
    };
    Health {
        endpoint: endpoint.clone(),
        took_ms: begun.elapsed().as_millis(),
        error,
    }
}

fn print(printer: &Printer, results: &[Health]) -> Result<(), Failure> {
    match printer.format() {
        Format::Json => {
            let list: Vec<Value> = results
                .iter()
                .map(|health| {
                    json!({
                        "endpoint": health.endpoint.to_string(),
                        "healthy": health.error.is_none(),
                        "took_ms": u64::try_from(health.took_ms).unwrap_or(u64::MAX),
                        "error": health.error,
                    })
                })
                .collect();
            printer.json(&Value::Array(list))
        }
        Format::Table => {
            let mut table = Table::new(&["ENDPOINT", "HEALTHY", "TOOK", "ERROR"]);
            for health in results {
                table.row(vec![
                    health.endpoint.to_string(),
                    if health.error.is_none() {
                        "yes".into()
                    } else {
                        "no".into()
                    },
                    format!("{} ms", health.took_ms),
                    health.error.clone().unwrap_or_default(),
                ]);
            }
            printer.table(&table)
        }
        Format::Simple => {
            let colours = Colours::of_stdout();
            for Health {
                endpoint,
                took_ms,
                error,
            } in results
            {
                match error {
                    None => printer.line(format!(
                        "{endpoint} is {}: answered in {took_ms} ms",
                        colours.green("healthy")
                    ))?,
                    Some(why) => {
                        printer.line(format!(
                            "{endpoint} is {}: {why}",
                            colours.red("not healthy")
                        ))?;
                    }
                }
            }
            Ok(())
        }
    }
}
