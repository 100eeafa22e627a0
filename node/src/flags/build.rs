//! From checked syntax to a [`NodeConfig`]: etcd's static flags.

use super::read::Raw;
use super::{CalledAs, LogConfig, LogOutput, UsageError, hot, tls, urls};
use crate::config::{InitialMember, InitialState, NodeConfig, REQUEST_BYTES_MAX, Start};
use std::path::PathBuf;

/// Longest election timeout, ms (as in etcd).
const ELECTION_MS_MAX: u64 = 50_000;
/// Longest name of a member, bytes.
pub(super) const NAME_BYTES_MAX: usize = 253;

/// Builds the configuration of a static or managed start.
pub(super) fn build(raw: &Raw) -> Result<NodeConfig, UsageError> {
    let name = name(raw.text("name"), "name")?;
    let client = raw.text("listen-client-urls");
    if raw.is_set("listen-client-urls") && !raw.is_set("advertise-client-urls") {
        return Err(UsageError::invalid(
            "--advertise-client-urls is missing: with --listen-client-urls it must be given too, \
             because clients may need another address than the one listened on"
                .to_owned(),
        ));
    }
    let or = |flag: &str, other: &str| {
        if raw.is_set(flag) {
            raw.text(flag).to_owned()
        } else {
            raw.text(other).to_owned()
        }
    };
    let advertise_peer = or("initial-advertise-peer-urls", "listen-peer-urls");
    let advertise_client = or("advertise-client-urls", "listen-client-urls");
    let advertise_peer_urls = urls::list("initial-advertise-peer-urls", &advertise_peer)?;
    let start = if raw.bool("managed")? {
        managed(raw)?
    } else {
        static_start(raw, &name, &advertise_peer_urls)?
    };
    let tls = tls::settings(raw)?;
    tls::peer_urls_agree(&tls, "initial-advertise-peer-urls", &advertise_peer_urls)?;
    if let Start::Static {
        initial_cluster, ..
    } = &start
    {
        let urls = initial_cluster.iter().map(|member| &member.peer_url);
        tls::peer_urls_agree(&tls, "initial-cluster", urls)?;
    }
    let data_dir = match raw.text("data-dir") {
        "" => PathBuf::from(format!("{name}.etcd")),
        dir => PathBuf::from(dir),
    };
    let config = NodeConfig {
        data_dir,
        listen_client: urls::listen_addresses("listen-client-urls", client)?,
        advertise_client_urls: urls::list("advertise-client-urls", &advertise_client)?,
        listen_peer: urls::listen_addresses("listen-peer-urls", raw.text("listen-peer-urls"))?,
        advertise_peer_urls,
        listen_admin: match raw.text("listen-admin") {
            "" => None,
            text => Some(urls::listen_address("listen-admin", text)?),
        },
        listen_metrics: metrics(raw.text("listen-metrics-urls"))?,
        tls,
        start,
        ..NodeConfig::managed(name, PathBuf::new())
    };
    with_limits(raw, config)
}

/// The addresses of the monitor port.
pub(super) fn metrics(text: &str) -> Result<Vec<std::net::SocketAddr>, UsageError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let flag = "listen-metrics-urls";
    if let Some(url) = urls::list(flag, text)?
        .iter()
        .find(|url| urls::is_secure(url))
    {
        return Err(UsageError::invalid(format!(
            "--{flag} \"{url}\": this port is for those who have no certificate and has no TLS; \
             write http://. The client port serves the same over TLS"
        )));
    }
    urls::listen_addresses(flag, text)
}

fn managed(raw: &Raw) -> Result<Start, UsageError> {
    if raw.is_set("initial-cluster") {
        return Err(UsageError::invalid(
            "--managed and --initial-cluster exclude each other: a managed node is told its \
             cluster through the admin service"
                .to_owned(),
        ));
    }
    if raw.text("listen-admin").is_empty() {
        return Err(UsageError::invalid(
            "--managed needs --listen-admin=host:port: without it nobody could tell the node what \
             to join"
                .to_owned(),
        ));
    }
    Ok(Start::Managed)
}

fn static_start(raw: &Raw, name: &str, advertised: &[String]) -> Result<Start, UsageError> {
    let state = match raw.text("initial-cluster-state") {
        "new" => InitialState::New,
        "existing" => InitialState::Existing,
        other => {
            return Err(UsageError::invalid(format!(
                "--initial-cluster-state \"{other}\" is neither new nor existing"
            )));
        }
    };
    let initial_cluster = if raw.is_set("initial-cluster") {
        initial_cluster(raw.text("initial-cluster"))?
    } else {
        let own = |url: &String| InitialMember {
            name: name.to_owned(),
            peer_url: url.clone(),
        };
        advertised.iter().map(own).collect()
    };
    if !initial_cluster.iter().any(|member| member.name == name) {
        return Err(UsageError::invalid(format!(
            "--initial-cluster does not name this member: add {name}={}",
            advertised
                .first()
                .map_or("http://host:port", String::as_str)
        )));
    }
    for url in advertised {
        if !initial_cluster
            .iter()
            .any(|member| member.name == name && &member.peer_url == url)
        {
            return Err(UsageError::invalid(format!(
                "--initial-advertise-peer-urls has {url}, which --initial-cluster does not list \
                 for {name}; the two must agree"
            )));
        }
    }
    let token = raw.text("initial-cluster-token").to_owned();
    Ok(Start::Static {
        initial_cluster,
        state,
        token,
    })
}

fn initial_cluster(text: &str) -> Result<Vec<InitialMember>, UsageError> {
    let mut members = Vec::new();
    for pair in text.split(',') {
        let Some((member, url)) = pair.trim().split_once('=') else {
            return Err(UsageError::invalid(format!(
                "--initial-cluster \"{pair}\" has no =; it is a list of name=http://host:port"
            )));
        };
        urls::check("initial-cluster", url)?;
        let duplicate = members
            .iter()
            .any(|known: &InitialMember| known.peer_url == url);
        if duplicate {
            return Err(UsageError::invalid(format!(
                "--initial-cluster names {url} twice; each URL belongs to one member"
            )));
        }
        members.push(InitialMember {
            name: name(member, "initial-cluster")?,
            peer_url: url.to_owned(),
        });
    }
    Ok(members)
}

pub(super) fn name(text: &str, flag: &str) -> Result<String, UsageError> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(['/', '\0', ',', '=']) {
        let shown: String = text.chars().take(60).collect();
        return Err(UsageError::invalid(format!(
            "--{flag} \"{shown}\": a name has 1 to {NAME_BYTES_MAX} bytes and none of / , ="
        )));
    }
    Ok(text.to_owned())
}

/// Fills in timing and limits, which all forms of start share.
pub(super) fn with_limits(raw: &Raw, mut config: NodeConfig) -> Result<NodeConfig, UsageError> {
    config.heartbeat_ms = positive(raw, "heartbeat-interval")?;
    config.election_ms = positive(raw, "election-timeout")?;
    if config.election_ms < 5 * config.heartbeat_ms {
        return Err(UsageError::invalid(format!(
            "--election-timeout={} is shorter than five times --heartbeat-interval={}",
            config.election_ms, config.heartbeat_ms
        )));
    }
    if config.election_ms > ELECTION_MS_MAX {
        return Err(UsageError::invalid(format!(
            "--election-timeout={} is longer than {ELECTION_MS_MAX} ms",
            config.election_ms
        )));
    }
    config.snapshot_count = positive(raw, "snapshot-count")?;
    config.snapshot_catchup_entries = positive(raw, "snapshot-catchup-entries")?;
    config.hot = hot::hot(raw)?;
    config.settings_file = match raw.text("settings-file") {
        "" => None,
        path => Some(PathBuf::from(path)),
    };
    let request = raw.number("max-request-bytes")?;
    if !(1024..=REQUEST_BYTES_MAX as i64).contains(&request) {
        return Err(UsageError::invalid(format!(
            "--max-request-bytes={request} is not between 1024 and {REQUEST_BYTES_MAX}"
        )));
    }
    config.max_request_bytes = request.unsigned_abs() as usize;
    config.max_txn_ops = positive(raw, "max-txn-ops")? as usize;
    config.max_learners = positive(raw, "max-learners")? as usize;
    let streams = positive(raw, "max-concurrent-streams")?;
    config.max_concurrent_streams = u32::try_from(streams).unwrap_or(u32::MAX);
    config.strict_reconfig_check = raw.bool("strict-reconfig-check")?;
    let epoch = raw.number("epoch")?;
    config.epoch = u64::try_from(epoch)
        .map_err(|_| UsageError::invalid(format!("--epoch={epoch} must not be negative")))?;
    Ok(config)
}

fn positive(raw: &Raw, flag: &str) -> Result<u64, UsageError> {
    let number = raw.number(flag)?;
    u64::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| UsageError::invalid(format!("--{flag}={number} must be greater than 0")))
}

/// Where logs go.
pub(super) fn log(called_as: CalledAs, raw: &Raw) -> Result<LogConfig, UsageError> {
    let json = match raw.text("log-format") {
        "" => called_as == CalledAs::Etcd,
        "json" => true,
        "console" => false,
        other => {
            return Err(UsageError::invalid(format!(
                "--log-format \"{other}\" is neither json nor console"
            )));
        }
    };
    let output = match raw.text("log-outputs") {
        "default" | "stderr" => LogOutput::Stderr,
        "stdout" => LogOutput::Stdout,
        "systemd/journal" => {
            return Err(UsageError::invalid(
                "--log-outputs systemd/journal is not served; systemd collects stderr by itself"
                    .to_owned(),
            ));
        }
        path if path.contains(',') => {
            return Err(UsageError::invalid(format!(
                "--log-outputs \"{path}\" names several outputs; one is served"
            )));
        }
        path => LogOutput::File(PathBuf::from(path)),
    };
    Ok(LogConfig {
        level: hot::log_level(raw)?,
        json,
        output,
        warnings: raw.warnings.clone(),
    })
}
