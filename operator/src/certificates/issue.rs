//! Authorities and the certificates they sign.
//!
//! Draws keys; everything else is an argument. A leaf never outlives its authority.
//! Must not know: when to issue, where the result is kept.

use super::names::{ClusterNames, Holder, Use};
use quorate_api::tls::{Certificate, bundle_hash, files};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use std::time::Duration;

/// Clocks of members may be behind ours by this much, s.
const CLOCK_SKEW_S: i64 = 300;

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The library refused: a name that no certificate can hold, or no randomness.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// What is kept of an authority cannot be read.
    #[error("{0}")]
    Kept(String),
}

/// A certificate and its key in PEM form, as a Secret keeps them.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

/// Keys are for no log.
impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued(..)")
    }
}

/// An authority with its key: signs certificates of one use of one cluster.
#[derive(Debug)]
pub struct Authority {
    kept: Issued,
    /// What its certificate says.
    pub facts: Certificate,
    /// Digest that members report who trust this authority alone.
    pub bundle_hash: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn create(
        names: &ClusterNames,
        of: Use,
        now_s: i64,
        life_s: i64,
    ) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        // Two authorities of one cluster must differ in name: a leaf tells its signer by it.
        let (cluster, namespace) = (&names.cluster, &names.namespace);
        let mark: String = key.public_key_raw()[1..5]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        params.distinguished_name =
            named(format!("{cluster}.{namespace} {} CA {mark}", of.label()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, now_s - CLOCK_SKEW_S, now_s + life_s);
        let certificate_pem = params.self_signed(&key)?.pem();
        Self::read(Issued {
            certificate_pem,
            key_pem: key.serialize_pem(),
        })
    }

    /// An authority as a Secret keeps it.
    ///
    /// # Errors
    /// [`IssueError::Kept`], with what is wrong.
    pub fn read(kept: Issued) -> Result<Self, IssueError> {
        let wrong = |why: String| {
            IssueError::Kept(format!(
                "the certificate authority that is kept cannot be used: {why}; delete its Secret to \
                 have a new one made, which every member must then trust"
            ))
        };
        let pem = kept.certificate_pem.as_bytes();
        let ders = files::certificates("ca.crt", pem).map_err(|error| wrong(error.to_string()))?;
        let [der] = &ders[..] else {
            return Err(wrong(format!("{} certificates instead of one", ders.len())));
        };
        let facts = Certificate::parse(der).map_err(wrong)?;
        let key = KeyPair::from_pem(&kept.key_pem).map_err(|error| wrong(error.to_string()))?;
        let issuer =
            Issuer::from_ca_cert_der(der, key).map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            facts,
            bundle_hash: bundle_hash(&ders),
            issuer,
            kept,
        })
    }

    /// To be kept in a Secret.
    #[must_use]
    pub fn kept(&self) -> &Issued {
        &self.kept
    }

    /// Signs a certificate for a holder.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue(
        &self,
        names: &ClusterNames,
        holder: Holder,
        now_s: i64,
        life_s: i64,
    ) -> Result<Issued, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.alternatives(holder))?;
        params.distinguished_name = named(names.common_name(holder));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match holder {
            Holder::Member => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
            Holder::ClientPort => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Holder::Operator | Holder::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let until_s = (now_s + life_s).min(self.facts.not_after_s);
        let from_s = (now_s - CLOCK_SKEW_S).max(self.facts.not_before_s);
        valid(&mut params, from_s, until_s);
        Ok(Issued {
            certificate_pem: params.signed_by(&key, &self.issuer)?.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

fn named(common_name: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Sets the validity, in seconds since 1970.
fn valid(params: &mut CertificateParams, from_s: i64, until_s: i64) {
    let start = rcgen::date_time_ymd(1970, 1, 1);
    let after = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    params.not_before = start + after(from_s);
    params.not_after = start + after(until_s);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: i64 = 86_400;
    const NOW_S: i64 = 1_800_000_000;

    fn names() -> ClusterNames {
        ClusterNames {
            cluster: "orders".to_owned(),
            namespace: "data".to_owned(),
            domain: None,
            peer_service: "orders-peers".to_owned(),
            client_services: vec!["orders-client".to_owned()],
        }
    }

    fn parse(issued: &Issued) -> Certificate {
        let pem = issued.certificate_pem.as_bytes();
        Certificate::parse(&files::certificates("x", pem).unwrap()[0]).unwrap()
    }

    #[test]
    fn an_authority_is_kept_and_read_again() {
        let made = Authority::create(&names(), Use::Peer, NOW_S, 1000 * DAY_S).unwrap();
        let read = Authority::read(made.kept().clone()).unwrap();
        assert_eq!(
            (&read.facts, &read.bundle_hash),
            (&made.facts, &made.bundle_hash)
        );
        assert!(read.facts.is_ca);
        let other = Authority::create(&names(), Use::Peer, NOW_S, 1000 * DAY_S).unwrap();
        assert_ne!(other.facts.subject, made.facts.subject);
        let damaged = Issued {
            certificate_pem: "x".to_owned(),
            key_pem: made.kept().key_pem.clone(),
        };
        let text = Authority::read(damaged).unwrap_err().to_string();
        assert!(text.contains("delete its Secret"), "{text}");
        assert_eq!(format!("{:?}", made.kept()), "Issued(..)");
    }

    #[test]
    fn a_leaf_names_its_holder_and_never_outlives_its_authority() {
        let authority = Authority::create(&names(), Use::Peer, NOW_S, 100 * DAY_S).unwrap();
        let leaf = authority
            .issue(&names(), Holder::Member, NOW_S, 90 * DAY_S)
            .unwrap();
        let facts = parse(&leaf);
        assert_eq!(facts.issuer, authority.facts.subject);
        assert_eq!(facts.not_after_s, NOW_S + 90 * DAY_S);
        assert_eq!(facts.common_name.as_deref(), Some("orders.data.member"));
        assert!(facts.covers("orders-2.orders-peers.data.svc") && facts.covers("127.0.0.1"));
        let late = authority
            .issue(&names(), Holder::Operator, NOW_S + 50 * DAY_S, 90 * DAY_S)
            .unwrap();
        assert_eq!(parse(&late).not_after_s, authority.facts.not_after_s);
        assert_ne!(parse(&late).serial, facts.serial);
    }
}
