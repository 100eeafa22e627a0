//! `quorate move-leader`: hand leadership to another voter.

use clap::Args;
use quorate_api::client as api;
use quorate_api::etcdserverpb::MoveLeaderRequest;
use serde_json::json;

use crate::args::{Common, Format};
use crate::client::Client;
use crate::endpoints::{Endpoint, Endpoints};
use crate::failure::Failure;
use crate::output::{Printer, hex};

use super::{member, status};

/// Options of `move-leader`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate move-leader node2
  quorate move-leader 8e9e05c52164694d

The leader is found through --endpoints and asked; it hands over to a voter that has everything.")]
pub struct MoveLeaderArgs {
    /// ID or name of the voter that is to lead.
    #[arg(value_name = "MEMBER")]
    member: String,
}

/// Runs `move-leader`.
///
/// # Errors
/// As [`Client::read`] and [`Client::write`]; and when there is no leader or it cannot be reached.
pub async fn run(args: &MoveLeaderArgs, common: &Common) -> Result<(), Failure> {
    let client = Client::new(common)?;
    let target_id = member::resolve(&client, &args.member).await?;
    let (leader, endpoint) = leader(&client).await?;
    if leader != target_id {
        let at_leader = client.with_endpoints(endpoint);
        let call = async |channel| {
            api::maintenance(channel)
                .move_leader(MoveLeaderRequest { target_id })
                .await
        };
        at_leader
            .write(&format!("member {}", args.member), call)
            .await?;
    }
    let printer = Printer::new(common, Format::Simple);
    match printer.format() {
        Format::Json => printer.json(&json!({ "from": hex(leader), "to": hex(target_id) })),
        Format::Table | Format::Simple if leader == target_id => {
            printer.line(format!("member {} leads already", hex(target_id)))
        }
        Format::Table | Format::Simple => printer.line(format!(
            "leadership moved from {} to {}",
            hex(leader),
            hex(target_id)
        )),
    }
}

/// The member that leads and where it is reached.
async fn leader(client: &Client) -> Result<(u64, Endpoints), Failure> {
    let mut leader = 0;
    for endpoint in client.endpoints().as_slice() {
        let Ok(answer) = status::of_member(client, endpoint).await else {
            continue;
        };
        leader = answer.leader;
        let own = answer.header.as_ref().map_or(0, |header| header.member_id);
        if leader != 0 && own == leader {
            let endpoint = Endpoints::from_endpoints(vec![endpoint.clone()]);
            return Ok((leader, endpoint.expect("one endpoint is given")));
        }
    }
    if leader == 0 {
        return Err(Failure::refused(format!(
            "no leader is known to {}. Wait for the election, or bring members back.",
            client.endpoints()
        )));
    }
    let members = member::list(client, true).await?.members;
    let urls = members
        .iter()
        .filter(|member| member.id == leader)
        .flat_map(|m| &m.client_urls);
    let endpoints = urls.filter_map(|url| Endpoint::parse(url).ok()).collect();
    let endpoints = Endpoints::from_endpoints(endpoints).ok_or_else(|| {
        Failure::refused(format!(
            "the leader, member {}, has published no client address this command can use. \
             Name it with --endpoints.",
            hex(leader)
        ))
    })?;
    Ok((leader, endpoints))
}
