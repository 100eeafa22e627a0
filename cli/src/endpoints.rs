//! Where members are reached: the list given with `--endpoints`.
//!
//! Must not know: which verb uses it, or anything about connections.

use std::fmt;

/// More endpoints than any cluster has members are a mistake, most often a pasted file.
const ENDPOINTS_MAX: usize = 64;

/// A list of members to talk to, never empty, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<Endpoint>);

/// One member's client address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// `host:port`; IPv6 hosts stand in brackets.
    authority: String,
    /// Whether TLS is spoken; `None`: as the other options say.
    secure: Option<bool>,
}

impl Endpoints {
    /// Reads a comma-separated list of `host:port`, `http://host:port` or `https://host:port`.
    ///
    /// # Errors
    /// An empty list or entry, a missing or impossible port, or an unknown scheme; the text
    /// names the entry and the remedy.
    pub fn parse(list: &str) -> Result<Endpoints, String> {
        let parsed = list
            .split(',')
            .map(str::trim)
            .map(Endpoint::parse)
            .collect::<Result<Vec<_>, _>>()?;
        if parsed.len() > ENDPOINTS_MAX {
            return Err(format!(
                "{} endpoints are listed and {ENDPOINTS_MAX} are the most; list one per member",
                parsed.len()
            ));
        }
        Ok(Endpoints(parsed))
    }

    /// The endpoints in the order given.
    pub fn as_slice(&self) -> &[Endpoint] {
        &self.0
    }

    /// The same list without repetitions, sorted; empty input gives `None`.
    pub fn from_endpoints(mut endpoints: Vec<Endpoint>) -> Option<Endpoints> {
        endpoints.sort();
        endpoints.dedup();
        (!endpoints.is_empty()).then_some(Endpoints(endpoints))
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self
            .0
            .iter()
            .map(|endpoint| endpoint.authority.as_str())
            .collect();
        f.write_str(&names.join(", "))
    }
}

impl Endpoint {
    /// As a client library takes it, with the scheme if there was one.
    pub fn url(&self) -> String {
        match self.secure {
            None => self.authority.clone(),
            Some(false) => format!("http://{}", self.authority),
            Some(true) => format!("https://{}", self.authority),
        }
    }

    /// Reads `host:port`, `http://host:port` or `https://host:port`.
    ///
    /// # Errors
    /// As [`Endpoints::parse`], for one entry.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        if text.is_empty() {
            return Err("an endpoint is empty; write host:port, such as localhost:2379".to_owned());
        }
        let (secure, rest) = match text.split_once("://") {
            None => (None, text),
            Some(("http", rest)) => (Some(false), rest),
            Some(("https", rest)) => (Some(true), rest),
            Some((scheme, _)) => {
                return Err(format!(
                    "endpoint {text:?}: unknown scheme {scheme:?}; use http:// or https://"
                ));
            }
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(format!("endpoint {text:?} has no port; write {rest}:2379"));
        };
        let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
        let plain = !host.is_empty()
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if !bracketed && host.contains(':') {
            return Err(format!(
                "endpoint {text:?}: write an IPv6 address in brackets, such as [::1]:2379"
            ));
        }
        let ipv6 = bracketed
            && host[1..host.len() - 1]
                .parse::<std::net::Ipv6Addr>()
                .is_ok();
        if !ipv6 && !plain {
            return Err(format!(
                "endpoint {text:?} has no usable host; write host:port"
            ));
        }
        match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Endpoint {
                authority: format!("{host}:{port}"),
                secure,
            }),
            _ => Err(format!(
                "endpoint {text:?}: {port:?} is no port; use a number from 1 to 65535"
            )),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> String {
        match Endpoints::parse(list) {
            Ok(endpoints) => endpoints.to_string(),
            Err(why) => format!("refused: {why}"),
        }
    }

    #[test]
    fn hosts_urls_and_ipv6_addresses_are_accepted() {
        assert_eq!(
            parsed("localhost:2379, http://10.0.0.1:1/,[::1]:80,https://b:2"),
            "localhost:2379, 10.0.0.1:1, [::1]:80, b:2"
        );
        let urls = ["a:1", "http://a:1", "https://a:1"];
        assert_eq!(urls.map(|url| Endpoint::parse(url).unwrap().url()), urls);
    }

    #[test]
    fn a_wrong_endpoint_is_refused_with_a_remedy() {
        for wrong in [
            "",
            "a:1,",
            "localhost",
            "localhost:",
            "a:0",
            "a:65536",
            "::1:2379",
            "[x]:1",
            "ftp://a:1",
        ] {
            let text = parsed(wrong);
            assert!(text.starts_with("refused: "), "{wrong:?} gave {text}");
            assert!(
                text.contains("write") || text.contains("use"),
                "no remedy in {text}"
            );
        }
    }

    #[test]
    fn a_list_of_members_is_sorted_and_has_no_repetitions() {
        let one = Endpoint::parse("b:1").unwrap();
        let two = Endpoint::parse("a:1").unwrap();
        let list = Endpoints::from_endpoints(vec![one.clone(), two, one]).unwrap();
        assert_eq!(list.to_string(), "a:1, b:1");
        assert_eq!(Endpoints::from_endpoints(vec![]), None);
    }
}
