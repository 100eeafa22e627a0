//! TLS of the client verbs: the options, named as etcdctl names them, and the files they name.
//!
//! Must not know: any particular verb, endpoints.

use crate::failure::Failure;
use clap::Args;
use quorate_api::tls::client::Pem;
use quorate_api::tls::{ClientTls, FileError, Material};
use std::path::{Path, PathBuf};

/// What to trust and to show on connections over TLS.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// Trust the members' certificates that this CA has signed (PEM); implies https.
    #[arg(
        id = "tls_cacert",
        long = "cacert",
        global = true,
        value_name = "FILE",
        env = "QUORATE_CACERT",
        hide_env_values = true
    )]
    cacert: Option<PathBuf>,
    /// Show this certificate to the members (PEM); goes with --key.
    #[arg(
        id = "tls_cert",
        long = "cert",
        global = true,
        value_name = "FILE",
        env = "QUORATE_CERT",
        hide_env_values = true
    )]
    cert: Option<PathBuf>,
    /// The private key of --cert (PEM).
    #[arg(
        id = "tls_key",
        long = "key",
        global = true,
        value_name = "FILE",
        env = "QUORATE_KEY",
        hide_env_values = true
    )]
    key: Option<PathBuf>,
    /// Expect this name in the members' certificates instead of the host dialled.
    #[arg(
        id = "tls_server_name",
        long = "tls-server-name",
        global = true,
        value_name = "NAME"
    )]
    server_name: Option<String>,
    /// Take any certificate: encrypted, but nobody knows with whom. For trying things out.
    #[arg(
        id = "tls_skip_verify",
        long = "insecure-skip-tls-verify",
        global = true
    )]
    skip_verify: bool,
}

impl TlsArgs {
    /// What the options say; `None` when there are none of them.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a file that cannot be used, and for half of a pair.
    pub fn client(&self) -> Result<Option<ClientTls>, Failure> {
        let usage = |error: FileError| Failure::usage(error.to_string());
        let read = |path: &Path| Pem::read(path).map_err(usage);
        let identity = match (&self.cert, &self.key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (Some(_), None) => {
                return Err(Failure::usage(
                    "--cert without --key: give the certificate and its private key",
                ));
            }
            (None, Some(_)) => {
                return Err(Failure::usage(
                    "--key without --cert: give the certificate and its private key",
                ));
            }
        };
        let material = Material {
            trusted_ca: self.cacert.as_deref().map(read).transpose()?,
            identity,
            server_name: self.server_name.clone(),
            skip_verify: self.skip_verify,
        };
        if material == Material::default() {
            return Ok(None);
        }
        ClientTls::new(&material).map(Some).map_err(usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_pair_and_a_missing_file_are_named() {
        let half = TlsArgs {
            cert: Some("c.pem".into()),
            ..TlsArgs::default()
        };
        let failure = half.client().unwrap_err();
        assert!(
            failure.to_string().contains("--cert without --key"),
            "{failure}"
        );
        let missing = TlsArgs {
            cacert: Some("/absent/ca.pem".into()),
            ..TlsArgs::default()
        };
        let failure = missing.client().unwrap_err();
        assert!(failure.to_string().contains("/absent/ca.pem"), "{failure}");
        assert_eq!(failure.exit_code(), 2);
        assert!(TlsArgs::default().client().unwrap().is_none());
    }
}
