//! Making certificates, reading them again, and verifying them as the API server will.
//!
//! All times are seconds since 1970.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificate::CertificatePair;

/// How far `notBefore` lies in the past. The drill is a clock that is two hours wrong; the one that issues may be
/// ahead by so much and the one that verifies behind.
pub const BACKDATE: i64 = 4 * 3600;

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The cryptography, or a name that no certificate can hold.
    #[error("failed to make a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// A point in time that no certificate can hold.
    #[error("failed to make a certificate: its end lies outside of what a calendar holds")]
    Time,
    /// A new certificate cannot be read again.
    #[error("a certificate that was just made cannot be read")]
    Unreadable,
}

/// A certificate that could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pem: String,
    der: CertificateDer<'static>,
    /// The SubjectPublicKeyInfo, which tells whose key it is.
    public_key: Vec<u8>,
    is_authority: bool,
    /// From when it is valid.
    pub not_before: i64,
    /// Until when it is valid.
    pub not_after: i64,
}

impl Certificate {
    /// The certificates in this PEM text, without those that cannot be read.
    #[must_use]
    pub fn read_all(pem: &[u8]) -> Vec<Self> {
        CertificateDer::pem_slice_iter(pem)
            .filter_map(Result::ok)
            .filter_map(Self::from_der)
            .collect()
    }

    fn from_der(der: CertificateDer<'static>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let (not_before, not_after) = (
            parsed.validity().not_before.timestamp(),
            parsed.validity().not_after.timestamp(),
        );
        let public_key = parsed.public_key().raw.to_vec();
        let is_authority = parsed.is_ca();
        let pem = pem_of(&der);
        Some(Self {
            pem,
            der,
            public_key,
            is_authority,
            not_before,
            not_after,
        })
    }

    /// The certificate in PEM, always spelt the same way.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether it may sign others.
    #[must_use]
    pub fn is_authority(&self) -> bool {
        self.is_authority
    }

    /// Whether a clock that shows `now` accepts it.
    #[must_use]
    pub fn is_valid_at(&self, now: i64) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// When to renew it: after two thirds of its life, the backdating left out.
    #[must_use]
    pub fn due(&self) -> i64 {
        let issued = self.not_before.saturating_add(BACKDATE);
        let born = if issued < self.not_after {
            issued
        } else {
            // Not one of ours.
            self.not_before
        };
        self.not_after - (self.not_after - born) / 3
    }

    /// Whether this is the key of the certificate.
    fn has_key(&self, key: &KeyPair) -> bool {
        key.subject_public_key_info() == self.public_key
    }
}

/// PEM in the one form that the whole module writes, so that texts can be compared.
fn pem_of(der: &[u8]) -> String {
    let lines = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), lines)
}

/// A certificate with its key: the leaf that is served, or an authority.
#[derive(Clone)]
pub struct Keyed {
    /// The certificate.
    pub certificate: Certificate,
    key: String,
}

impl std::fmt::Debug for Keyed {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyed")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key == other.key
    }
}

impl Keyed {
    /// The first of these certificates that this key, in PEM, belongs to. `None` when the key cannot be read or
    /// is that of none of them.
    #[must_use]
    pub fn find(certificates: &[Certificate], key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        let key = KeyPair::from_pem(text).ok()?;
        let certificate = certificates.iter().find(|one| one.has_key(&key))?;
        Some(Self {
            certificate: certificate.clone(),
            key: text.to_owned(),
        })
    }

    /// The private key in PEM.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What a server needs.
    #[must_use]
    pub fn pair(&self) -> CertificatePair {
        CertificatePair {
            certificate: self.certificate.pem.clone(),
            private_key: self.key.clone(),
        }
    }

    /// A new authority of a new ECDSA P-256 key, valid for `life` seconds from `now`. It may sign leaves only.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn authority(now: i64, life: i64) -> Result<Self, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        // A name of its own: two authorities of one name in a bundle would leave it to the verifier which of
        // them to try.
        let digest = Sha256::digest(key.subject_public_key_info());
        let id: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        params.distinguished_name = named(&format!("outrigger-ca-{id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (date(now - BACKDATE)?, date(now + life)?);
        let certificate = params.self_signed(&key)?;
        Self::made(certificate.der(), &key)
    }

    /// A leaf of this authority with a key of its own (ECDSA P-256) for these DNS names, valid for `life` seconds
    /// from `now`, but not longer than the authority: Go refuses a chain whose root has ended.
    ///
    /// # Errors
    /// A name that is no DNS name, or when the certificate cannot be made.
    pub fn issue(&self, names: &[String], now: i64, life: i64) -> Result<Self, IssueError> {
        let issuer =
            Issuer::from_ca_cert_der(&self.certificate.der, KeyPair::from_pem(&self.key)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names.to_vec())?;
        // At most 64 characters fit (X.520), and nobody who verifies reads it.
        let common = names.iter().find(|name| name.len() <= 64);
        params.distinguished_name = named(common.map_or("outrigger", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let end = (now + life).min(self.certificate.not_after);
        let start = (now - BACKDATE).max(self.certificate.not_before);
        (params.not_before, params.not_after) = (date(start)?, date(end)?);
        let certificate = params.signed_by(&key, &issuer)?;
        Self::made(certificate.der(), &key)
    }

    fn made(der: &CertificateDer<'static>, key: &KeyPair) -> Result<Self, IssueError> {
        Ok(Self {
            certificate: Certificate::from_der(der.clone()).ok_or(IssueError::Unreadable)?,
            key: key.serialize_pem(),
        })
    }
}

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn date(seconds: i64) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| IssueError::Time)
}

/// Whether a client that trusts `bundle`, wants `name` and has a clock that shows `now` accepts this leaf.
///
/// # Errors
/// Why it does not, as the verifier says it.
pub fn verify(
    leaf: &Certificate,
    bundle: &[Certificate],
    name: &str,
    now: i64,
) -> Result<(), String> {
    verify_signature(leaf, &[], bundle, now)?;
    verify_name(leaf, name)
}

/// As [`verify`], for a certificate of anybody's: with those that are served beside the leaf, and a leaf that stands
/// in the bundle itself needs nobody's signature, as Go has it.
///
/// # Errors
/// Why it does not, as the verifier says it.
pub fn verify_chain(
    leaf: &Certificate,
    intermediates: &[Certificate],
    bundle: &[Certificate],
    name: &str,
    now: i64,
) -> Result<(), String> {
    if !(leaf.is_valid_at(now) && bundle.contains(leaf)) {
        verify_signature(leaf, intermediates, bundle, now)?;
    }
    verify_name(leaf, name)
}

fn verify_signature(
    leaf: &Certificate,
    intermediates: &[Certificate],
    bundle: &[Certificate],
    now: i64,
) -> Result<(), String> {
    // A trust anchor has no end for webpki, but has one for Go.
    let anchors: Vec<_> = bundle
        .iter()
        .filter(|one| one.is_authority && one.is_valid_at(now))
        .filter_map(|one| anchor_from_trusted_cert(&one.der).ok())
        .collect();
    let intermediates: Vec<_> = intermediates.iter().map(|one| one.der.clone()).collect();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        u64::try_from(now).unwrap_or_default(),
    ));
    let end_entity = EndEntityCert::try_from(&leaf.der).map_err(|error| error.to_string())?;
    end_entity
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &intermediates,
            time,
            KeyUsage::server_auth(),
            None,
            None,
        )
        .map_err(|error| error.to_string())?;
    Ok(())
}

fn verify_name(leaf: &Certificate, name: &str) -> Result<(), String> {
    let server = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let end_entity = EndEntityCert::try_from(&leaf.der).map_err(|error| error.to_string())?;
    end_entity
        .verify_is_valid_for_subject_name(&server)
        .map_err(|_| format!("not valid for the name {name}"))
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;

    fn names() -> Vec<String> {
        vec![
            "web.shop.svc".to_owned(),
            "web.shop.svc.cluster.local".to_owned(),
        ]
    }

    #[test]
    fn an_authority_may_sign_leaves_only() {
        let authority = Keyed::authority(NOW, 3650 * DAY).unwrap();
        let (_, parsed) = X509Certificate::from_der(&authority.certificate.der).unwrap();
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = parsed.key_usage().unwrap().unwrap().value;
        assert!(usage.key_cert_sign() && !usage.digital_signature());
        assert_eq!(authority.certificate.not_before, NOW - BACKDATE);
        assert_eq!(authority.certificate.not_after, NOW + 3650 * DAY);
        let other = Keyed::authority(NOW, 3650 * DAY).unwrap();
        let (_, second) = X509Certificate::from_der(&other.certificate.der).unwrap();
        assert_ne!(parsed.subject(), second.subject());
        assert_ne!(parsed.raw_serial(), second.raw_serial());
    }

    #[test]
    fn a_leaf_is_good_for_its_names_its_authority_and_its_time() {
        let authority = Keyed::authority(NOW, 3650 * DAY).unwrap();
        let leaf = authority
            .issue(&names(), NOW, 90 * DAY)
            .unwrap()
            .certificate;
        let bundle = [
            Keyed::authority(NOW, DAY).unwrap().certificate,
            authority.certificate.clone(),
        ];
        for name in names() {
            verify(&leaf, &bundle, &name, NOW).unwrap();
        }
        // Two hours of difference either way, on both sides.
        verify(&leaf, &bundle, "web.shop.svc", NOW - 4 * 3600 + 1).unwrap();
        assert!(verify(&leaf, &bundle, "web.shop.svc", NOW + 91 * DAY).is_err());
        assert!(verify(&leaf, &bundle, "web.other.svc", NOW).is_err());
        assert!(verify(&leaf, &bundle[..1], "web.shop.svc", NOW).is_err());
        assert!(verify(&leaf, &[], "web.shop.svc", NOW).is_err());
        // A leaf is no authority.
        assert!(verify(&leaf, std::slice::from_ref(&leaf), "web.shop.svc", NOW).is_err());
    }

    #[test]
    fn a_leaf_never_outlives_its_authority_and_is_due_after_two_thirds() {
        let authority = Keyed::authority(NOW, 30 * DAY).unwrap();
        let leaf = authority
            .issue(&names(), NOW, 90 * DAY)
            .unwrap()
            .certificate;
        assert_eq!(leaf.not_after, authority.certificate.not_after);
        assert_eq!(leaf.due(), NOW + 20 * DAY);
        assert_eq!(leaf.not_before, NOW - BACKDATE);
    }

    #[test]
    fn what_was_written_is_found_again_by_its_key() {
        let one = Keyed::authority(NOW, DAY).unwrap();
        let two = Keyed::authority(NOW, DAY).unwrap();
        let text = format!(
            "noise\n{}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n{}",
            one.certificate.pem(),
            two.certificate.pem()
        );
        let read = Certificate::read_all(text.as_bytes());
        assert_eq!(read, [one.certificate.clone(), two.certificate.clone()]);
        assert_eq!(Keyed::find(&read, two.key().as_bytes()).unwrap(), two);
        assert!(Keyed::find(&read[..1], two.key().as_bytes()).is_none());
        assert!(Keyed::find(&read, b"no key").is_none());
        // And can still sign.
        let leaf = Keyed::find(&read, two.key().as_bytes())
            .unwrap()
            .issue(&names(), NOW, 60)
            .unwrap();
        verify(&leaf.certificate, &read, "web.shop.svc", NOW).unwrap();
    }

    #[test]
    fn a_debug_print_has_no_key() {
        let authority = Keyed::authority(NOW, DAY).unwrap();
        assert!(!format!("{authority:?}").contains("PRIVATE"));
    }
}
