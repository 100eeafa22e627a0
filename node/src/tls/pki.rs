//! Certificates for tests, made on the spot: authorities, and leaves with whatever is wrong.
//!
//! Also compiled into the integration tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::path::{Path, PathBuf};

/// The names a member of a test is reached by.
pub const LOCAL: &[&str] = &["localhost", "127.0.0.1"];

/// An authority.
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub pem: String,
}

/// A certificate with its key, PEM.
pub struct TestLeaf {
    pub cert: String,
    pub key: String,
}

impl TestCa {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a certificate of a test");
        let pem = params
            .self_signed(&key)
            .expect("a certificate of a test")
            .pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A leaf that is good for a century.
    pub fn leaf(&self, common_name: &str, names: &[&str]) -> TestLeaf {
        self.leaf_of_years(common_name, names, 2000..2100)
    }

    /// A leaf that is good in these years.
    pub fn leaf_of_years(
        &self,
        common_name: &str,
        names: &[&str],
        years: std::ops::Range<i32>,
    ) -> TestLeaf {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("a certificate of a test");
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a certificate of a test");
        TestLeaf {
            cert: params
                .signed_by(&key, &self.issuer)
                .expect("a certificate of a test")
                .pem(),
            key: key.serialize_pem(),
        }
    }

    /// A revocation list of these serial numbers (hex).
    #[allow(dead_code, reason = "not every test binary revokes")]
    pub fn revoke(&self, serials: &[&str]) -> String {
        let revoked = serials.iter().map(|serial| {
            let bytes: Vec<u8> = (0..serial.len())
                .step_by(2)
                .map(|at| {
                    u8::from_str_radix(&serial[at..at + 2], 16).expect("a certificate of a test")
                })
                .collect();
            RevokedCertParams {
                serial_number: SerialNumber::from_slice(&bytes),
                revocation_time: date_time_ymd(2001, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2001, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer)
            .expect("a certificate of a test")
            .pem()
            .expect("a certificate of a test")
    }
}

/// A file that is replaced as a whole, as tools that renew certificates do.
pub fn put(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    let fresh = dir.join(format!("{name}.new"));
    std::fs::write(&fresh, text).expect("a certificate of a test");
    std::fs::rename(&fresh, &path).expect("a certificate of a test");
    path
}

/// Both files of a leaf: `<stem>.crt` and `<stem>.key`.
pub fn put_leaf(dir: &Path, stem: &str, leaf: &TestLeaf) -> (PathBuf, PathBuf) {
    let certificate = put(dir, &format!("{stem}.crt"), &leaf.cert);
    (certificate, put(dir, &format!("{stem}.key"), &leaf.key))
}
