//! Peer URLs as socket addresses.
//!
//! Must not know: what is sent there.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Where one peer URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A socket address of the host.
    pub address: SocketAddr,
    /// The host as the URL names it, which a certificate must be made out for; without brackets.
    pub host: String,
    /// Whether the URL asks for TLS.
    pub secure: bool,
}

/// `host:port` of a peer URL (`http://host:port` or `https://host:port`, a trailing slash allowed).
///
/// # Errors
/// The reason, for people, when the URL has another form.
pub fn authority(url: &str) -> Result<&str, String> {
    split(url).map(|(_, authority)| authority)
}

/// Whether a peer URL asks for TLS.
///
/// # Errors
/// As [`authority`].
pub fn is_secure(url: &str) -> Result<bool, String> {
    split(url).map(|(secure, _)| secure)
}

fn split(url: &str) -> Result<(bool, &str), String> {
    let wrong =
        || format!("peer URL {url:?} is not of the form http://host:port or https://host:port");
    let (secure, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(wrong()),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let port = authority
        .rsplit_once(':')
        .map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) if !authority.contains('/') => Ok((secure, authority)),
        _ => Err(wrong()),
    }
}

/// All places that the URLs stand for, in order; asks the resolver, so it may take a while.
///
/// # Errors
/// The last failure when none resolved.
pub fn resolve(urls: &[String]) -> io::Result<Vec<Place>> {
    let mut found = Vec::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address is known");
    for url in urls {
        match places(url) {
            Ok(places) => found.extend(places),
            Err(error) => failure = error,
        }
    }
    if found.is_empty() {
        Err(failure)
    } else {
        Ok(found)
    }
}

/// The ports of the URLs at an address that is known; asks nobody.
pub fn places_at(urls: &[String], address: IpAddr) -> Vec<Place> {
    let place = |url: &String| {
        let (secure, authority) = split(url).ok()?;
        let (_, port) = authority.rsplit_once(':')?;
        Some(Place {
            address: SocketAddr::new(address, port.parse().ok()?),
            host: host(authority).to_owned(),
            secure,
        })
    };
    urls.iter().filter_map(place).collect()
}

fn places(url: &str) -> io::Result<Vec<Place>> {
    let (secure, authority) = split(url).map_err(io::Error::other)?;
    let places = authority.to_socket_addrs()?.map(|address| Place {
        address,
        host: host(authority).to_owned(),
        secure,
    });
    Ok(places.collect())
}

/// The host of `host:port`, without brackets.
fn host(authority: &str) -> &str {
    let host = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_the_name_that_a_certificate_must_have() {
        let urls = [
            "https://[::1]:2380".to_owned(),
            "http://127.0.0.1:1".to_owned(),
        ];
        let places = resolve(&urls).unwrap();
        assert_eq!((places[0].host.as_str(), places[0].secure), ("::1", true));
        assert_eq!(
            (places[1].host.as_str(), places[1].secure),
            ("127.0.0.1", false)
        );
    }

    #[test]
    fn a_known_address_takes_port_and_name_of_each_url_and_skips_what_is_none() {
        let urls = ["https://a.b:1", "nonsense", "http://[::1]:2/"].map(str::to_owned);
        let at = IpAddr::from([10, 0, 0, 7]);
        let found = places_at(&urls, at);
        let place = |port, host: &str, secure| Place {
            address: SocketAddr::new(at, port),
            host: host.to_owned(),
            secure,
        };
        assert_eq!(found, [place(1, "a.b", true), place(2, "::1", false)]);
    }

    #[test]
    fn an_authority_needs_scheme_host_and_port() {
        assert_eq!(authority("http://a:1"), Ok("a:1"));
        assert_eq!(authority("http://[::1]:2380/"), Ok("[::1]:2380"));
        assert_eq!(authority("https://a:1"), Ok("a:1"));
        assert_eq!(is_secure("https://a:1"), Ok(true));
        assert_eq!(is_secure("http://a:1"), Ok(false));
        for bad in [
            "a:1",
            "ftp://a:1",
            "http://a",
            "http://a:x",
            "http://a:1/path",
        ] {
            assert!(authority(bad).unwrap_err().contains(bad), "{bad}");
        }
    }
}
