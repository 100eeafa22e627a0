//! Peer URLs as socket addresses.
//!
//! Must not know: what is sent there.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

/// `host:port` of a peer URL (`http://host:port`, a trailing slash allowed).
///
/// # Errors
/// The reason, for people, when the URL has another form.
pub fn authority(url: &str) -> Result<&str, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        format!("peer URL {url:?} does not begin with http:// (peers over TLS are not available)")
    })?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let port = authority
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) if !authority.contains('/') => Ok(authority),
        _ => Err(format!(
            "peer URL {url:?} is not of the form http://host:port"
        )),
    }
}

/// All addresses that the URLs stand for, in order; asks the resolver, so it may take a while.
///
/// # Errors
/// The last failure when none resolved.
pub fn resolve(urls: &[String]) -> io::Result<Vec<SocketAddr>> {
    let mut found = Vec::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address is known");
    for url in urls {
        match authority(url)
            .map_err(io::Error::other)
            .and_then(ToSocketAddrs::to_socket_addrs)
        {
            Ok(addresses) => found.extend(addresses),
            Err(error) => failure = error,
        }
    }
    if found.is_empty() {
        Err(failure)
    } else {
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_needs_scheme_host_and_port() {
        assert_eq!(authority("http://a:1"), Ok("a:1"));
        assert_eq!(authority("http://[::1]:2380/"), Ok("[::1]:2380"));
        for bad in [
            "a:1",
            "https://a:1",
            "http://a",
            "http://a:x",
            "http://a:1/path",
        ] {
            assert!(authority(bad).unwrap_err().contains(bad), "{bad}");
        }
    }
}
