//! PEM files: certificates, private keys, revocation lists.
//!
//! Bounded in size, and every error names the file and what to do about it. Assumes that whoever
//! writes a file replaces it as a whole or repairs it soon: a reader that finds half a file gets an
//! error and asks again. Must not know: what the certificates are for.

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io::Read as _;
use std::path::Path;

/// Longest file that is read, bytes: the bundle of a whole operating system is a quarter of it.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most certificates in one file.
pub const CERTIFICATES_MAX: usize = 1024;

/// Why a certificate file cannot be used. The text names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {source}. Check that the file exists and that this user may read it")]
    Read {
        /// Which.
        path: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is longer than any such file needs to be.
    #[error(
        "{path} is longer than {FILE_BYTES_MAX} bytes or holds more than {CERTIFICATES_MAX} \
         certificates; name a file that holds only what is needed"
    )]
    TooLarge {
        /// Which.
        path: String,
    },
    /// It does not hold what it should.
    #[error(
        "{path} holds no {wanted} in PEM form ({why}); it needs a block -----BEGIN {block}-----"
    )]
    NotPem {
        /// Which.
        path: String,
        /// What was looked for, in words.
        wanted: &'static str,
        /// The name of the block that was looked for.
        block: &'static str,
        /// What was found instead.
        why: String,
    },
    /// The private key is protected by a password.
    #[error(
        "{path} holds an encrypted private key; nobody could type the password. Store it \
         decrypted, readable by this user only"
    )]
    Encrypted {
        /// Which.
        path: String,
    },
    /// A certificate is malformed or of a kind that is not supported.
    #[error("{path}: a certificate in it cannot be used ({why}); issue it again")]
    BadCertificate {
        /// Which file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A key is malformed or of a kind that is not supported.
    #[error(
        "{path}: the private key cannot be used ({why}); supported are RSA, ECDSA P-256 and P-384, \
         and Ed25519"
    )]
    BadKey {
        /// Which file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key are no pair.
    #[error(
        "the private key in {key} does not belong to the certificate in {certificate}; give the \
         two files that were issued together"
    )]
    NoPair {
        /// File of the certificate.
        certificate: String,
        /// File of the key.
        key: String,
    },
}

/// Reads a file of bounded size.
///
/// # Errors
/// [`FileError::Read`], [`FileError::TooLarge`].
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let shown = || path.display().to_string();
    let failed = |source| FileError::Read {
        path: shown(),
        source,
    };
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too long from one that just fits.
    std::fs::File::open(path)
        .map_err(failed)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLarge { path: shown() });
    }
    Ok(bytes)
}

/// All certificates in `pem`, in order; `name` is the file's, for errors.
///
/// # Errors
/// [`FileError`], also when there is none.
pub fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let not_pem = |why: String| FileError::NotPem {
        path: name.to_owned(),
        wanted: "certificate",
        block: "CERTIFICATE",
        why,
    };
    let found = CertificateDer::pem_slice_iter(pem)
        .take(CERTIFICATES_MAX + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| not_pem(error.to_string()))?;
    if found.len() > CERTIFICATES_MAX {
        return Err(FileError::TooLarge {
            path: name.to_owned(),
        });
    }
    if found.is_empty() {
        return Err(not_pem(describe(pem)));
    }
    Ok(found)
}

/// The first private key in `pem`: PKCS#8, SEC1 or PKCS#1.
///
/// # Errors
/// [`FileError`].
pub fn private_key(name: &str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        let path = name.to_owned();
        if find(pem, b"ENCRYPTED") {
            return FileError::Encrypted { path };
        }
        let why = match error {
            rustls::pki_types::pem::Error::NoItemsFound => describe(pem),
            other => other.to_string(),
        };
        FileError::NotPem {
            path,
            wanted: "private key",
            block: "PRIVATE KEY",
            why,
        }
    })
}

/// The revocation lists in `bytes`: PEM, or one list in DER.
///
/// # Errors
/// [`FileError`].
pub fn revocation_lists(
    name: &str,
    bytes: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    if bytes.first() == Some(&DER_SEQUENCE) {
        return Ok(vec![CertificateRevocationListDer::from(bytes.to_vec())]);
    }
    let not_pem = |why: String| FileError::NotPem {
        path: name.to_owned(),
        wanted: "revocation list",
        block: "X509 CRL",
        why,
    };
    let found = CertificateRevocationListDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| not_pem(error.to_string()))?;
    if found.is_empty() {
        return Err(not_pem(describe(bytes)));
    }
    Ok(found)
}

/// What every DER structure of ours begins with.
const DER_SEQUENCE: u8 = 0x30;

/// Certificates to trust.
///
/// # Errors
/// [`FileError`].
pub fn roots(
    name: &str,
    certificates: &[CertificateDer<'static>],
) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| FileError::BadCertificate {
                path: name.to_owned(),
                why: super::reason::explain(&error).text,
            })?;
    }
    Ok(roots)
}

/// A certificate chain with its key, checked to belong together.
///
/// # Errors
/// [`FileError`].
pub fn pair(
    provider: &CryptoProvider,
    (certificate, chain): (&str, Vec<CertificateDer<'static>>),
    (key, private): (&str, PrivateKeyDer<'static>),
) -> Result<CertifiedKey, FileError> {
    let signing = provider
        .key_provider
        .load_private_key(private)
        .map_err(|error| FileError::BadKey {
            path: key.to_owned(),
            why: error.to_string(),
        })?;
    let pair = CertifiedKey::new(chain, signing);
    match pair.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(pair)
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(FileError::NoPair {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        }),
        Err(error) => Err(FileError::BadCertificate {
            path: certificate.to_owned(),
            why: super::reason::explain(&error).text,
        }),
    }
}

/// What a file without the wanted block holds, in a few words.
fn describe(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "it is empty".to_owned();
    }
    if bytes.first() == Some(&DER_SEQUENCE) {
        return "it is in DER form; convert it to PEM".to_owned();
    }
    let text = String::from_utf8_lossy(bytes);
    let blocks: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-----BEGIN "))
        .filter_map(|line| line.strip_suffix("-----"))
        .take(4)
        .collect();
    if blocks.is_empty() {
        "it has no PEM block".to_owned()
    } else {
        format!("it holds {}", blocks.join(", "))
    }
}

fn find(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn issue() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn refusal<T>(result: Result<T, FileError>) -> String {
        result.err().expect("refused").to_string()
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_the_remedy() {
        let (certificate, key) = issue();
        let dir = tempfile::tempdir().unwrap();
        let missing = refusal(read(&dir.path().join("absent.pem")));
        assert!(
            missing.contains("absent.pem") && missing.contains("Check that"),
            "{missing}"
        );
        let long = dir.path().join("long.pem");
        std::fs::write(&long, vec![b'x'; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(refusal(read(&long)).contains("longer than"));

        let text = refusal(certificates("ca.pem", key.as_bytes()));
        assert!(
            text.contains("ca.pem holds no certificate") && text.contains("it holds PRIVATE KEY"),
            "{text}"
        );
        assert!(refusal(certificates("ca.pem", b"")).contains("it is empty"));
        assert!(refusal(certificates("ca.pem", b"hello")).contains("no PEM block"));
        assert!(refusal(certificates("ca.pem", &[0x30, 0x82])).contains("DER form"));
        assert!(
            refusal(private_key("k.pem", certificate.as_bytes())).contains("it holds CERTIFICATE")
        );
        let locked =
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(refusal(private_key("k.pem", locked)).contains("Store it decrypted"));
        assert!(refusal(revocation_lists("crl.pem", b"x")).contains("X509 CRL"));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let provider = crate::tls::provider();
        let (mine, my_key) = issue();
        let (_, other_key) = issue();
        let chain = || certificates("c.pem", mine.as_bytes()).unwrap();
        let key = |pem: &str| private_key("k.pem", pem.as_bytes()).unwrap();
        assert!(pair(&provider, ("c.pem", chain()), ("k.pem", key(&my_key))).is_ok());
        let text = refusal(pair(
            &provider,
            ("c.pem", chain()),
            ("k.pem", key(&other_key)),
        ));
        assert!(
            text.contains("k.pem does not belong to the certificate in c.pem"),
            "{text}"
        );
    }
}
