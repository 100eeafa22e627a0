//! The flags of TLS: etcd's for clients and peers, ours for the admin port.
//!
//! One rule above all: a port is never plaintext where TLS was asked for, and never half of each.
//! The scheme of its URLs and its certificate files must say the same. No file is opened here.

use super::read::Raw;
use super::{UsageError, urls};
use crate::tls::{Allowed, Callers, CipherSuite, PortTls, Settings, Version, cipher_suite};
use std::path::PathBuf;

/// Every flag of TLS: none of them goes with the short form.
pub(super) const FLAGS: &[&str] = &[
    "cert-file",
    "key-file",
    "trusted-ca-file",
    "client-cert-auth",
    "client-cert-optional",
    "client-crl-file",
    "client-cert-allowed-hostname",
    "peer-cert-file",
    "peer-key-file",
    "peer-trusted-ca-file",
    "peer-client-cert-auth",
    "peer-crl-file",
    "peer-client-cert-file",
    "peer-client-key-file",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
    "admin-cert-file",
    "admin-key-file",
    "admin-trusted-ca-file",
    "admin-cert-allowed-cn",
    "tls-min-version",
    "tls-max-version",
    "cipher-suites",
];

/// The names of one port's flags.
struct Names {
    cert: &'static str,
    key: &'static str,
    ca: &'static str,
    crl: Option<&'static str>,
    /// Flags that mean nothing without a certificate.
    others: &'static [&'static str],
}

const CLIENT: Names = Names {
    cert: "cert-file",
    key: "key-file",
    ca: "trusted-ca-file",
    crl: Some("client-crl-file"),
    others: &[
        "client-cert-auth",
        "client-cert-optional",
        "client-cert-allowed-hostname",
    ],
};

const PEER: Names = Names {
    cert: "peer-cert-file",
    key: "peer-key-file",
    ca: "peer-trusted-ca-file",
    crl: Some("peer-crl-file"),
    others: &[
        "peer-client-cert-auth",
        "peer-client-cert-file",
        "peer-client-key-file",
        "peer-cert-allowed-cn",
        "peer-cert-allowed-hostname",
    ],
};

const ADMIN: Names = Names {
    cert: "admin-cert-file",
    key: "admin-key-file",
    ca: "admin-trusted-ca-file",
    crl: None,
    others: &["admin-cert-allowed-cn"],
};

/// TLS of all ports.
pub(super) fn settings(raw: &Raw) -> Result<Settings, UsageError> {
    let common = common(raw)?;
    let client = client(raw, &common)?;
    let peer = peer(raw, &common)?;
    let admin = admin(raw, &common)?;
    if !raw.text("listen-admin").is_empty() && peer.is_some() && admin.is_none() {
        return refuse(
            "--listen-admin would be plaintext, although --peer-cert-file asks for TLS between \
             members; give --admin-cert-file, --admin-key-file and --admin-trusted-ca-file"
                .to_owned(),
        );
    }
    Ok(Settings {
        client,
        peer,
        admin,
    })
}

/// Refuses peer URLs whose scheme is not that of the peer port.
pub(super) fn peer_urls_agree<'a>(
    tls: &Settings,
    flag: &str,
    urls: impl IntoIterator<Item = &'a String>,
) -> Result<(), UsageError> {
    for url in urls {
        match (urls::is_secure(url), tls.peer.is_some()) {
            (true, true) | (false, false) => {}
            (false, true) => {
                return refuse(format!(
                    "--{flag} \"{url}\" is plaintext, but --peer-cert-file asks for TLS between \
                     members; write https://"
                ));
            }
            (true, false) => {
                return refuse(format!(
                    "--{flag} \"{url}\" needs --peer-cert-file, --peer-key-file and \
                     --peer-trusted-ca-file"
                ));
            }
        }
    }
    Ok(())
}

/// What all ports share.
struct Common {
    version_min: Version,
    version_max: Version,
    cipher_suites: Vec<CipherSuite>,
}

fn common(raw: &Raw) -> Result<Common, UsageError> {
    let version_min = version(raw, "tls-min-version", Version::Tls12)?;
    let version_max = version(raw, "tls-max-version", Version::Tls13)?;
    if version_max < version_min {
        return refuse(format!(
            "--tls-max-version={} is older than --tls-min-version={}",
            raw.text("tls-max-version"),
            raw.text("tls-min-version")
        ));
    }
    let names = list(raw.text("cipher-suites"));
    if !names.is_empty() && version_min == Version::Tls13 {
        return refuse(
            "--cipher-suites with --tls-min-version=TLS1.3: TLS 1.3 leaves no choice of suites; \
             leave one of the two out"
                .to_owned(),
        );
    }
    let suite = |name: &String| {
        cipher_suite(name).map_err(|known| {
            UsageError::invalid(format!(
                "--cipher-suites \"{name}\" is not served; choose among {known}"
            ))
        })
    };
    Ok(Common {
        version_min,
        version_max,
        cipher_suites: names.iter().map(suite).collect::<Result<_, _>>()?,
    })
}

fn version(raw: &Raw, flag: &str, default: Version) -> Result<Version, UsageError> {
    match raw.text(flag) {
        "" => Ok(default),
        "TLS1.2" => Ok(Version::Tls12),
        "TLS1.3" => Ok(Version::Tls13),
        other => refuse(format!(
            "--{flag} \"{other}\" is neither TLS1.2 nor TLS1.3; older versions are not safe"
        )),
    }
}

fn client(raw: &Raw, common: &Common) -> Result<Option<PortTls>, UsageError> {
    let files = files(raw, &CLIENT, common)?;
    schemes_agree(raw, "listen-client-urls", &CLIENT, files.is_some())?;
    let Some(mut tls) = files else {
        return Ok(None);
    };
    let (auth, optional) = (
        raw.bool("client-cert-auth")?,
        raw.bool("client-cert-optional")?,
    );
    for (asked, flag) in [
        (auth, "client-cert-auth"),
        (optional, "client-cert-optional"),
        (raw.is_set("client-crl-file"), "client-crl-file"),
    ] {
        if asked && tls.trusted_ca_file.is_none() {
            return refuse(format!(
                "--{flag} needs --trusted-ca-file: nobody else could say which certificates are \
                 genuine"
            ));
        }
    }
    if auth && optional {
        return refuse(
            "--client-cert-auth and --client-cert-optional exclude each other".to_owned(),
        );
    }
    // As in etcd, a trusted CA alone asks for certificates.
    tls.callers = match (tls.trusted_ca_file.is_some(), optional) {
        (false, _) => Callers::NotAsked,
        (true, true) => Callers::Optional,
        (true, false) => Callers::Required,
    };
    let names = list(raw.text("client-cert-allowed-hostname"));
    if !names.is_empty() {
        tls.allowed = Allowed::Names(names);
    }
    Ok(Some(tls))
}

fn peer(raw: &Raw, common: &Common) -> Result<Option<PortTls>, UsageError> {
    let files = files(raw, &PEER, common)?;
    schemes_agree(raw, "listen-peer-urls", &PEER, files.is_some())?;
    let Some(mut tls) = files else {
        return Ok(None);
    };
    require_ca(&PEER, &tls)?;
    tls.callers = Callers::Required;
    tls.dial_with = match (
        file(raw, "peer-client-cert-file"),
        file(raw, "peer-client-key-file"),
    ) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            return refuse(
                "--peer-client-cert-file and --peer-client-key-file go together; give both"
                    .to_owned(),
            );
        }
    };
    let names = list(raw.text("peer-cert-allowed-hostname"));
    tls.allowed = match (raw.text("peer-cert-allowed-cn"), names) {
        ("", names) if names.is_empty() => Allowed::Anyone,
        ("", names) => Allowed::Names(names),
        (cn, names) if names.is_empty() => Allowed::CommonName(cn.to_owned()),
        _ => {
            return refuse(
                "--peer-cert-allowed-cn and --peer-cert-allowed-hostname exclude each other"
                    .to_owned(),
            );
        }
    };
    Ok(Some(tls))
}

fn admin(raw: &Raw, common: &Common) -> Result<Option<PortTls>, UsageError> {
    let Some(mut tls) = files(raw, &ADMIN, common)? else {
        return Ok(None);
    };
    if raw.text("listen-admin").is_empty() {
        return refuse(
            "--admin-cert-file is given, but no --listen-admin: there is no admin port to protect"
                .to_owned(),
        );
    }
    require_ca(&ADMIN, &tls)?;
    tls.callers = Callers::Required;
    let cn = raw.text("admin-cert-allowed-cn");
    if !cn.is_empty() {
        tls.allowed = Allowed::CommonName(cn.to_owned());
    }
    Ok(Some(tls))
}

/// Certificate, key and CA of a port; `None`: it has none of them.
fn files(raw: &Raw, names: &Names, common: &Common) -> Result<Option<PortTls>, UsageError> {
    let (cert, key, ca) = (names.cert, names.key, names.ca);
    let (certificate, private) = match (file(raw, cert), file(raw, key)) {
        (Some(certificate), Some(private)) => (certificate, private),
        (Some(_), None) => return refuse(format!("--{cert} without --{key}: give both")),
        (None, Some(_)) => return refuse(format!("--{key} without --{cert}: give both")),
        (None, None) => {
            let alone = std::iter::once(&ca).chain(&names.crl).chain(names.others);
            for flag in alone {
                let text = raw.text(flag);
                if !text.is_empty() && text != "false" {
                    return refuse(format!(
                        "--{flag} without --{cert} and --{key}: the port would be plaintext; give \
                         all of them, or none"
                    ));
                }
            }
            return Ok(None);
        }
    };
    Ok(Some(PortTls {
        trusted_ca_file: file(raw, ca),
        crl_file: names.crl.and_then(|crl| file(raw, crl)),
        version_min: common.version_min,
        version_max: common.version_max,
        cipher_suites: common.cipher_suites.clone(),
        ..PortTls::new(certificate, private)
    }))
}

/// The port's URLs ask for TLS exactly when it has a certificate.
fn schemes_agree(
    raw: &Raw,
    flag: &str,
    names: &Names,
    has_certificate: bool,
) -> Result<(), UsageError> {
    let (cert, key) = (names.cert, names.key);
    for url in urls::list(flag, raw.text(flag))? {
        match (urls::is_secure(&url), has_certificate) {
            (true, true) | (false, false) => {}
            (true, false) => {
                return refuse(format!("--{flag} \"{url}\" needs --{cert} and --{key}"));
            }
            (false, true) => {
                return refuse(format!(
                    "--{flag} \"{url}\" is plaintext, but --{cert} asks for TLS; write https://, \
                     or leave --{cert} out"
                ));
            }
        }
    }
    Ok(())
}

fn require_ca(names: &Names, tls: &PortTls) -> Result<(), UsageError> {
    if tls.trusted_ca_file.is_none() {
        return refuse(format!(
            "--{} needs --{}: TLS on this port is mutual, and nobody else could say which callers \
             are genuine",
            names.cert, names.ca
        ));
    }
    Ok(())
}

fn file(raw: &Raw, flag: &str) -> Option<PathBuf> {
    let text = raw.text(flag);
    (!text.is_empty()).then(|| PathBuf::from(text))
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn refuse<T>(message: String) -> Result<T, UsageError> {
    Err(UsageError::invalid(message))
}
