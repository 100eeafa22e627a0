//! URLs of listeners and members: checked text, and addresses to listen on.

use super::UsageError;
use std::net::{SocketAddr, ToSocketAddrs};

/// Most URLs in one list.
const URLS_MAX: usize = 16;

/// Splits a comma-separated list and checks each URL; the result keeps order.
pub(super) fn list(flag: &str, text: &str) -> Result<Vec<String>, UsageError> {
    let urls: Vec<String> = text.split(',').map(|url| url.trim().to_owned()).collect();
    if urls.len() > URLS_MAX {
        return Err(UsageError::invalid(format!(
            "--{flag} names {} URLs; at most {URLS_MAX} are allowed",
            urls.len()
        )));
    }
    for url in &urls {
        check(flag, url)?;
    }
    Ok(urls)
}

/// Checks that a URL is `http://host:port` or `https://host:port` and nothing more.
pub(super) fn check(flag: &str, url: &str) -> Result<(), UsageError> {
    host_and_port(flag, url).map(|_| ())
}

/// Whether a checked URL asks for TLS.
pub(super) fn is_secure(url: &str) -> bool {
    url.starts_with("https://")
}

fn host_and_port<'a>(flag: &str, url: &'a str) -> Result<(&'a str, u16), UsageError> {
    let refuse = |why: &str| {
        Err(UsageError::invalid(format!(
            "--{flag} \"{url}\": {why}; it has the form http://host:port or https://host:port"
        )))
    };
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else {
        return if url.starts_with("unix") {
            refuse("unix sockets are not served")
        } else {
            refuse("the scheme is missing or unknown")
        };
    };
    if rest.contains('/') {
        return refuse("it must not have a path");
    }
    let Some((host, port)) = rest.rsplit_once(':') else {
        return refuse("the port is missing");
    };
    let Ok(port) = port.parse() else {
        return refuse("the port is not a number up to 65535");
    };
    if host.is_empty() {
        return refuse("the host is missing");
    }
    Ok((host, port))
}

/// The addresses of a list of listen URLs. A listener is bound to an IP address or to localhost,
/// as in etcd: a name could move to another machine.
pub(super) fn listen_addresses(flag: &str, text: &str) -> Result<Vec<SocketAddr>, UsageError> {
    let mut addresses = Vec::new();
    for url in list(flag, text)? {
        let (host, port) = host_and_port(flag, &url)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = if host == "localhost" {
            "127.0.0.1"
        } else {
            host
        };
        let ip = host.parse().map_err(|_| {
            UsageError::invalid(format!(
                "--{flag} \"{url}\": \"{host}\" is not an IP address; listen on an address of this \
                 machine, or on 0.0.0.0 for all of them"
            ))
        })?;
        addresses.push(SocketAddr::new(ip, port));
    }
    Ok(addresses)
}

/// One `host:port` to listen on.
pub(super) fn listen_address(flag: &str, text: &str) -> Result<SocketAddr, UsageError> {
    text.to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next())
        .ok_or_else(|| {
            UsageError::invalid(format!(
                "--{flag} \"{text}\" is not host:port, for instance 0.0.0.0:2381"
            ))
        })
}
