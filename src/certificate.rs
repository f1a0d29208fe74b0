//! Self-signed certificates: for `serve --self-signed`, and minted inside of pods for `envoy-tls`.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// How far `notBefore` lies in the past, so that a client whose clock is behind accepts the certificate.
const BACKDATE: Duration = Duration::hours(2);

/// The mode of a private key's file: for its owner and group. The container that mints it and the one that
/// serves it share an emptyDir and need not share a user; its `fsGroup` is then what they share.
pub const DEFAULT_KEY_MODE: u32 = 0o640;

/// A certificate with its private key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificatePair {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub private_key: String,
}

/// What a server is told to serve by something that manages its certificate.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// The certificate. `None` before there is one.
    pub pair: Option<CertificatePair>,
    /// Why clients would not accept it, if they would not.
    pub obstacle: Option<String>,
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// DNS names.
    pub dns_names: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// For how many days it is valid.
    pub days: u32,
}

/// Why no certificate was made or written.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A name that no certificate can hold.
    #[error("--dns-name {name}: not a DNS name")]
    Name {
        /// The name.
        name: String,
    },
    /// Neither names nor addresses.
    #[error("a certificate needs at least one --dns-name or --ip")]
    NoSubject,
    /// The cryptography failed.
    #[error("failed to make the certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// A file.
    #[error("{path}: cannot be written: {error}")]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl CertificatePair {
    /// Makes an ECDSA P-256 key and a certificate that it signs itself.
    ///
    /// # Errors
    /// No subject, or a name that is none.
    pub fn self_signed(subject: &Subject) -> Result<Self, CertificateError> {
        let mut params = CertificateParams::default();
        for name in &subject.dns_names {
            if !is_dns_name(name) {
                return Err(CertificateError::Name { name: name.clone() });
            }
            let dns = name
                .as_str()
                .try_into()
                .map_err(|_| CertificateError::Name { name: name.clone() })?;
            params.subject_alt_names.push(SanType::DnsName(dns));
        }
        params.subject_alt_names.extend(
            subject
                .addresses
                .iter()
                .map(|address| SanType::IpAddress(*address)),
        );
        if params.subject_alt_names.is_empty() {
            return Err(CertificateError::NoSubject);
        }
        // A common name is of no use to a client of this century; it shows in listings. At most 64 characters
        // fit (X.520).
        let common = subject
            .dns_names
            .iter()
            .find(|name| name.len() <= 64)
            .cloned();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(
            DnType::CommonName,
            common.unwrap_or_else(|| "outrigger".to_owned()),
        );
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = OffsetDateTime::now_utc();
        params.not_before = now - BACKDATE;
        params.not_after = now + Duration::days(i64::from(subject.days));
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate: certificate.pem(),
            private_key: key.serialize_pem(),
        })
    }

    /// Writes `tls.crt`, `tls.key` and `ca.crt` (a self-signed certificate is its own CA) into a folder. Each
    /// file appears whole; the certificate last, so that whoever waits for it finds the key.
    ///
    /// `key_mode` is for the key; see [`DEFAULT_KEY_MODE`].
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path, key_mode: u32) -> Result<(), CertificateError> {
        write_whole(&folder.join("tls.key"), &self.private_key, key_mode)?;
        write_whole(&folder.join("ca.crt"), &self.certificate, 0o644)?;
        write_whole(&folder.join("tls.crt"), &self.certificate, 0o644)
    }
}

/// A name as DNS has it, with an underscore as in use, and maybe a `*` for its first label.
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let plain = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= 253 && plain.split('.').all(is_label)
}

fn write_whole(path: &Path, content: &str, mode: u32) -> Result<(), CertificateError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        // What is there already has a mode of its own, and maybe somebody who reads it.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        io::Write::write_all(&mut file, content.as_bytes())?;
        // Not at creation, where the umask would take the group away.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| CertificateError::Write {
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    fn subject(names: &[&str]) -> Subject {
        Subject {
            dns_names: names.iter().map(|&name| name.to_owned()).collect(),
            addresses: vec!["127.0.0.1".parse().unwrap()],
            days: 30,
        }
    }

    #[test]
    fn a_certificate_is_good_for_its_names_from_before_now() {
        let pair = CertificatePair::self_signed(&subject(&["web.shop.svc"])).unwrap();
        let (_, pem) = parse_x509_pem(pair.certificate.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert!(
            names
                .value
                .general_names
                .contains(&GeneralName::DNSName("web.shop.svc"))
        );
        assert!(
            names
                .value
                .general_names
                .contains(&GeneralName::IPAddress(&[127, 0, 0, 1]))
        );
        let now = OffsetDateTime::now_utc();
        assert!(certificate.validity().not_before.to_datetime() < now - Duration::hours(1));
        assert!(certificate.validity().not_after.to_datetime() > now + Duration::days(29));
    }

    #[test]
    fn the_key_is_not_for_others() {
        let folder = tempfile::tempdir().unwrap();
        CertificatePair::self_signed(&subject(&[]))
            .unwrap()
            .write(folder.path(), DEFAULT_KEY_MODE)
            .unwrap();
        let mode = |name: &str| {
            fs::metadata(folder.path().join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode("tls.key"), DEFAULT_KEY_MODE);
        assert!(
            fs::read_to_string(folder.path().join("tls.crt"))
                .unwrap()
                .starts_with("-----BEGIN CERTIFICATE")
        );
    }

    #[test]
    fn a_certificate_for_nobody_is_refused() {
        let nobody = Subject {
            dns_names: Vec::new(),
            addresses: Vec::new(),
            days: 1,
        };
        assert!(matches!(
            CertificatePair::self_signed(&nobody),
            Err(CertificateError::NoSubject)
        ));
        assert!(matches!(
            CertificatePair::self_signed(&subject(&["ä"])),
            Err(CertificateError::Name { .. })
        ));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in [
            "",
            "a b",
            "a..b",
            "-a",
            "a-",
            "a,b",
            "a\nb",
            "*.*.a",
            "https://a",
        ] {
            let refused = CertificatePair::self_signed(&subject(&[name]));
            assert!(
                matches!(refused, Err(CertificateError::Name { .. })),
                "{name:?}"
            );
        }
        for name in [
            "localhost",
            "*.shop.svc",
            "web_0.shop.svc",
            "XN--4-dga.example",
        ] {
            assert!(
                CertificatePair::self_signed(&subject(&[name])).is_ok(),
                "{name}"
            );
        }
    }

    /// What a process that was killed left behind must not lend its mode to a key.
    #[test]
    fn a_key_has_its_mode_whatever_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("tls.new");
        fs::write(&left, "left behind").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
        for wanted in [0o640, 0o600, 0o644] {
            let pair = CertificatePair::self_signed(&subject(&[])).unwrap();
            pair.write(folder.path(), wanted).unwrap();
            let key = folder.path().join("tls.key");
            assert_eq!(fs::read_to_string(&key).unwrap(), pair.private_key);
            assert_eq!(
                fs::metadata(&key).unwrap().permissions().mode() & 0o777,
                wanted
            );
        }
    }
}
