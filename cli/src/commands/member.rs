//! `quorate member`: show and change who is in the cluster.
//!
//! Members may be named by ID or by name. A change is sent once; a name is resolved by a read
//! before.

use clap::{Args, Subcommand};
use quorate_api::client as api;
use quorate_api::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, ResponseHeader,
};
use serde_json::{Value, json};

use crate::args::{Common, Format};
use crate::client::Client;
use crate::endpoints::{Endpoint, Endpoints};
use crate::failure::Failure;
use crate::output::{Printer, Table, header, hex};

/// Options of `member`.
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  quorate member list
  quorate member add --peer-urls http://10.0.0.4:2380
  quorate member promote 8e9e05c52164694d
  quorate member remove node3

A member is named by its ID or, when that is unambiguous, by its name."
)]
pub struct MemberArgs {
    #[command(subcommand)]
    command: MemberCommand,
}

#[derive(Debug, Subcommand)]
enum MemberCommand {
    /// Show the members.
    #[command(after_help = "\
Examples:
  quorate member list
  quorate member list -o json")]
    List {
        /// Let the asked member answer from its own state, which may lag behind.
        #[arg(long)]
        serializable: bool,
    },
    /// Add a member; then start its node with `--initial-cluster-state existing`.
    #[command(after_help = "\
Examples:
  quorate member add --peer-urls http://10.0.0.4:2380             as learner (promote it later)
  quorate member add --peer-urls http://10.0.0.4:2380 --voter     as voter at once

A learner receives the log without counting for the quorum, so adding one cannot cost the quorum. A
voter that does not come up can.")]
    Add {
        /// Where the others will reach it, separated by commas.
        #[arg(long, value_name = "URLS", required = true, value_delimiter = ',', value_parser = parse_peer_url)]
        peer_urls: Vec<String>,
        /// Add it as learner; this is the default.
        #[arg(long, conflicts_with = "voter")]
        learner: bool,
        /// Add it as voter at once.
        #[arg(long)]
        voter: bool,
    },
    /// Make a learner that has caught up a voter.
    #[command(after_help = "Example:\n  quorate member promote 8e9e05c52164694d")]
    Promote {
        /// ID or name of the learner.
        member: String,
    },
    /// Remove a member for good: its ID never returns.
    #[command(after_help = "Example:\n  quorate member remove node3")]
    Remove {
        /// ID or name of the member.
        member: String,
    },
    /// Change where the others reach a member.
    #[command(after_help = "\
Example:
  quorate member update node3 --peer-urls http://10.0.0.9:2380")]
    Update {
        /// ID or name of the member.
        member: String,
        /// The new peer URLs, separated by commas.
        #[arg(long, value_name = "URLS", required = true, value_delimiter = ',', value_parser = parse_peer_url)]
        peer_urls: Vec<String>,
    },
}

/// Checks a peer URL before any member sees it.
///
/// # Errors
/// Anything but `http://host:port` and `https://host:port`.
fn parse_peer_url(url: &str) -> Result<String, String> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(
            "write a peer URL with scheme and port, such as http://10.0.0.4:2380".to_owned(),
        );
    }
    Endpoint::parse(url)?;
    Ok(url.trim_end_matches('/').to_owned())
}

/// Runs `member`.
///
/// # Errors
/// As [`Client::read`] and [`Client::write`], and for a member that is not there.
pub async fn run(args: MemberArgs, common: &Common) -> Result<(), Failure> {
    let client = Client::new(common)?;
    match args.command {
        MemberCommand::List { serializable } => {
            let answer = list(&client, !serializable).await?;
            let printer = Printer::new(common, Format::Table);
            print(&printer, answer.header.as_ref(), &answer.members, None)
        }
        MemberCommand::Add {
            peer_urls,
            learner: _,
            voter,
        } => add(&client, common, peer_urls, !voter).await,
        MemberCommand::Promote { member } => promote(&client, common, &member).await,
        MemberCommand::Remove { member } => remove(&client, common, &member).await,
        MemberCommand::Update { member, peer_urls } => {
            update(&client, common, &member, peer_urls).await
        }
    }
}

async fn add(
    client: &Client,
    common: &Common,
    peer_urls: Vec<String>,
    is_learner: bool,
) -> Result<(), Failure> {
    let what = peer_urls.join(",");
    let request = MemberAddRequest {
        peer_urls,
        is_learner,
    };
    let call = async |channel| api::cluster(channel).member_add(request).await;
    let answer = client.write(&what, call).await?;
    let id = hex(answer.member.as_ref().map_or(0, |member| member.id));
    let said = if is_learner {
        format!("added learner {id}; start its node, then run `quorate member promote {id}`")
    } else {
        format!("added voter {id}; start its node now, the quorum counts on it")
    };
    finish(common, answer.header.as_ref(), &answer.members, said)
}

async fn promote(client: &Client, common: &Common, member: &str) -> Result<(), Failure> {
    let id = resolve(client, member).await?;
    let call = async |channel| {
        api::cluster(channel)
            .member_promote(MemberPromoteRequest { id })
            .await
    };
    let answer = client.write(&format!("member {member}"), call).await?;
    let said = format!("promoted member {} to voter", hex(id));
    finish(common, answer.header.as_ref(), &answer.members, said)
}

async fn remove(client: &Client, common: &Common, member: &str) -> Result<(), Failure> {
    let id = resolve(client, member).await?;
    let call = async |channel| {
        api::cluster(channel)
            .member_remove(MemberRemoveRequest { id })
            .await
    };
    let answer = client.write(&format!("member {member}"), call).await?;
    let said = format!("removed member {}", hex(id));
    finish(common, answer.header.as_ref(), &answer.members, said)
}

async fn update(
    client: &Client,
    common: &Common,
    member: &str,
    peer_urls: Vec<String>,
) -> Result<(), Failure> {
    let id = resolve(client, member).await?;
    let request = MemberUpdateRequest { id, peer_urls };
    let call = async |channel| api::cluster(channel).member_update(request).await;
    let answer = client.write(&format!("member {member}"), call).await?;
    let said = format!("updated member {}", hex(id));
    finish(common, answer.header.as_ref(), &answer.members, said)
}

/// The members, by ID.
///
/// # Errors
/// As [`Client::read`].
pub async fn list(client: &Client, linearizable: bool) -> Result<MemberListResponse, Failure> {
    let call = async |channel| {
        api::cluster(channel)
            .member_list(MemberListRequest { linearizable })
            .await
    };
    client.read("the membership", call).await
}

/// Where clients reach the members, from the membership as one of the endpoints has it.
///
/// # Errors
/// As [`Client::read`], and when no member has told its client address.
pub async fn client_endpoints(client: &Client) -> Result<Endpoints, Failure> {
    // A cluster without quorum is when this is needed most, so any member's view must do.
    let answer = match list(client, false).await {
        Ok(answer) => answer,
        Err(_) => list(client, true).await?,
    };
    let urls = answer
        .members
        .iter()
        .filter_map(|member| member.client_urls.first());
    let endpoints: Vec<Endpoint> = urls.filter_map(|url| Endpoint::parse(url).ok()).collect();
    Endpoints::from_endpoints(endpoints).ok_or_else(|| {
        Failure::refused(
            "no member has published a client address that this command can use. \
             Name them with --endpoints.",
        )
    })
}

/// The ID of the member that is meant by an ID or a name.
///
/// # Errors
/// [`Failure::Refused`] when no member, or more than one, is meant.
pub async fn resolve(client: &Client, wanted: &str) -> Result<u64, Failure> {
    let members = list(client, true).await?.members;
    choose(&members, wanted).map_err(Failure::refused)
}

fn choose(members: &[Member], wanted: &str) -> Result<u64, String> {
    let id = u64::from_str_radix(wanted.strip_prefix("0x").unwrap_or(wanted), 16).ok();
    if let Some(member) = members.iter().find(|member| Some(member.id) == id) {
        return Ok(member.id);
    }
    let named: Vec<u64> = members
        .iter()
        .filter(|member| member.name == wanted)
        .map(|member| member.id)
        .collect();
    match (named.as_slice(), id) {
        ([one], _) => Ok(*one),
        ([], _) => {
            let known: Vec<String> = members
                .iter()
                .map(|member| format!("{} ({})", hex(member.id), name(member)))
                .collect();
            Err(format!(
                "there is no member {wanted:?}; the members are {}. Nothing was changed.",
                known.join(", ")
            ))
        }
        (several, _) => {
            let ids: Vec<String> = several.iter().map(|id| hex(*id)).collect();
            Err(format!(
                "{} members are called {wanted:?}: {}. Name the one you mean by its ID.",
                several.len(),
                ids.join(", ")
            ))
        }
    }
}

/// Prints a change: the sentence, or the members after it.
fn finish(
    common: &Common,
    head: Option<&ResponseHeader>,
    members: &[Member],
    said: String,
) -> Result<(), Failure> {
    print(
        &Printer::new(common, Format::Simple),
        head,
        members,
        Some(said),
    )
}

fn print(
    printer: &Printer,
    head: Option<&ResponseHeader>,
    members: &[Member],
    said: Option<String>,
) -> Result<(), Failure> {
    match (printer.format(), said) {
        (Format::Json, _) => {
            let members: Vec<Value> = members.iter().map(document).collect();
            printer.json(&json!({ "header": header(head), "members": members }))
        }
        (Format::Table, _) => {
            let mut table = Table::new(&[
                "MEMBER",
                "NAME",
                "ROLE",
                "STARTED",
                "PEER URLS",
                "CLIENT URLS",
            ]);
            members.iter().for_each(|member| table.row(cells(member)));
            printer.table(&table)
        }
        (Format::Simple, Some(said)) => printer.line(said),
        (Format::Simple, None) => members
            .iter()
            .try_for_each(|member| printer.line(cells(member).join(", "))),
    }
}

/// A member's name; it has one from its first start on.
fn name(member: &Member) -> &str {
    if member.name.is_empty() {
        "not started"
    } else {
        &member.name
    }
}

fn cells(member: &Member) -> Vec<String> {
    let started = if member.name.is_empty() { "no" } else { "yes" };
    vec![
        hex(member.id),
        if member.name.is_empty() {
            "-".into()
        } else {
            member.name.clone()
        },
        role(member).to_owned(),
        started.to_owned(),
        member.peer_urls.join(","),
        if member.client_urls.is_empty() {
            "-".into()
        } else {
            member.client_urls.join(",")
        },
    ]
}

fn role(member: &Member) -> &'static str {
    if member.is_learner {
        "learner"
    } else {
        "voter"
    }
}

fn document(member: &Member) -> Value {
    json!({
        "id": hex(member.id),
        "name": member.name,
        "role": role(member),
        "peer_urls": member.peer_urls,
        "client_urls": member.client_urls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<Member> {
        [(0xa1, "one"), (0xb2, "two"), (0xc3, "two"), (0xd4, "a1")]
            .map(|(id, name)| Member {
                id,
                name: name.to_owned(),
                ..Member::default()
            })
            .to_vec()
    }

    #[test]
    fn a_member_is_found_by_its_id_before_its_name() {
        assert_eq!(choose(&members(), "a1"), Ok(0xa1));
        assert_eq!(choose(&members(), "0xb2"), Ok(0xb2));
        assert_eq!(choose(&members(), "one"), Ok(0xa1));
    }

    #[test]
    fn an_unknown_or_ambiguous_member_is_refused_with_the_choices() {
        let unknown = choose(&members(), "five").unwrap_err();
        assert!(unknown.contains("a1 (one), b2 (two)"), "{unknown}");
        let ambiguous = choose(&members(), "two").unwrap_err();
        assert!(ambiguous.contains("b2, c3"), "{ambiguous}");
    }

    #[test]
    fn peer_urls_need_scheme_and_port() {
        assert_eq!(parse_peer_url("http://a:1/"), Ok("http://a:1".to_owned()));
        for wrong in ["a:1", "http://a", "http://:1", "http://a:1/path"] {
            assert!(parse_peer_url(wrong).is_err(), "{wrong} was accepted");
        }
    }
}
