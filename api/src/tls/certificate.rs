//! What a certificate says, in plain values: who, until when, for which names.
//!
//! Reads any bytes without trusting them; that a certificate is genuine is for the handshake to
//! find out. Must not know: files, connections.

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// The statements of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Serial number, lower-case hex without separators.
    pub serial: String,
    /// Whom it speaks of, as text (`CN=...`).
    pub subject: String,
    /// The common name of the subject, when it has one.
    pub common_name: Option<String>,
    /// Who signed it, as text.
    pub issuer: String,
    /// First second of validity, since 1970.
    pub not_before_s: i64,
    /// Last second of validity, since 1970.
    pub not_after_s: i64,
    /// DNS names it is for; a leading `*.` stands for one label.
    pub dns_names: Vec<String>,
    /// Addresses it is for.
    pub ip_addresses: Vec<IpAddr>,
    /// Whether it may sign others.
    pub is_ca: bool,
}

impl Certificate {
    /// Reads one certificate.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(der: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der)
            .map_err(|error| format!("not a certificate: {error}"))?;
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| format!("its alternative names are malformed: {error}"))?;
        let mut dns_names = Vec::new();
        let mut ip_addresses = Vec::new();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => ip_addresses.extend(address(bytes)),
                // Of no use for a connection.
                _ => {}
            }
        }
        let common_name = parsed
            .subject()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .map(str::to_owned);
        Ok(Self {
            serial: hex(parsed.raw_serial()),
            subject: parsed.subject().to_string(),
            common_name,
            issuer: parsed.issuer().to_string(),
            not_before_s: parsed.validity().not_before.timestamp(),
            not_after_s: parsed.validity().not_after.timestamp(),
            dns_names,
            ip_addresses,
            is_ca: parsed.is_ca(),
        })
    }

    /// Whether it is made out for `host`: a DNS name or an address, compared as TLS does.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.ip_addresses.contains(&address);
        }
        self.dns_names.iter().any(|name| matches(name, host))
    }

    /// The names it is made out for, for people.
    #[must_use]
    pub fn names(&self) -> String {
        let addresses = self.ip_addresses.iter().map(ToString::to_string);
        let names: Vec<String> = self.dns_names.iter().cloned().chain(addresses).collect();
        if names.is_empty() {
            "no name at all".to_owned()
        } else {
            names.join(", ")
        }
    }
}

/// Digest of a set of trusted certificates, lower-case hex; the order in the file does not matter.
#[must_use]
pub fn bundle_hash(certificates: &[CertificateDer<'_>]) -> String {
    let mut ders: Vec<&[u8]> = certificates.iter().map(AsRef::as_ref).collect();
    ders.sort_unstable();
    ders.dedup();
    let mut digest = Sha256::new();
    for der in ders {
        digest.update((der.len() as u64).to_le_bytes());
        digest.update(der);
    }
    hex(&digest.finalize()[..16])
}

/// A moment in seconds since 1970 as `2026-11-21T14:25:54Z`.
#[must_use]
pub fn utc(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
    // Days are counted from 1 March of year 0, so that a leap day ends its year; 400 years have
    // 146,097 days whatever they are.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day_of_month:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

fn matches(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (
        pattern.to_ascii_lowercase(),
        host.trim_end_matches('.').to_ascii_lowercase(),
    );
    match pattern.strip_prefix("*.") {
        Some(parent) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => pattern == host,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};

    fn issued() -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let names = ["db.example", "*.peers.example", "10.0.0.7", "::1"];
        let mut params = CertificateParams::new(names.map(str::to_owned)).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "member 7");
        params.serial_number = Some(SerialNumber::from_slice(&[0x2a, 0x01]));
        params.not_before = rcgen::date_time_ymd(2026, 2, 28);
        params.not_after = rcgen::date_time_ymd(2028, 2, 29);
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_tells_who_until_when_and_for_which_names() {
        let read = Certificate::parse(&issued()).unwrap();
        assert_eq!(read.serial, "2a01");
        assert_eq!(read.common_name.as_deref(), Some("member 7"));
        assert_eq!(utc(read.not_before_s), "2026-02-28T00:00:00Z");
        assert_eq!(utc(read.not_after_s), "2028-02-29T00:00:00Z");
        assert_eq!(read.names(), "db.example, *.peers.example, 10.0.0.7, ::1");
        for good in [
            "db.example",
            "DB.Example.",
            "a.peers.example",
            "10.0.0.7",
            "::1",
        ] {
            assert!(read.covers(good), "{good}");
        }
        for bad in [
            "example",
            "peers.example",
            "a.b.peers.example",
            ".peers.example",
            "10.0.0.8",
        ] {
            assert!(!read.covers(bad), "{bad}");
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused_and_never_panic() {
        let der = issued();
        for cut in 0..der.len() {
            assert!(Certificate::parse(&der[..cut]).is_err(), "{cut}");
        }
        for at in 0..der.len() {
            let mut damaged = der.to_vec();
            damaged[at] ^= 0x81;
            // Whatever it says now, reading it ends.
            let _ = Certificate::parse(&damaged);
        }
    }

    #[test]
    fn the_hash_of_a_bundle_knows_no_order() {
        let (a, b) = (issued(), issued());
        let hash = bundle_hash(&[a.clone(), b.clone()]);
        assert_eq!(hash, bundle_hash(&[b.clone(), a.clone(), a.clone()]));
        assert_ne!(hash, bundle_hash(&[a]));
        assert_eq!(hash.len(), 32);
    }

    #[test]
    fn moments_are_written_as_people_read_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
