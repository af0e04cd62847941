//! Certificates that come with a token (RFC 7515, section 4.1.6): its sender chooses them, so that they prove something only if they
//! lead to a root that the scheme pins.
//!
//! `webpki` builds and verifies the path: signatures, names, periods, and which certificates may issue others, and how far. What a
//! key may be used for is looked at here. Revocation is not: it would have to be asked for at every webhook.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use pkcs1::der::{Decode, asn1::ObjectIdentifier};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert,
};
use x509_cert::{Certificate, ext::pkix::KeyUsage};

use super::public_key::{PublicKey, pem_block};
use crate::time::Timestamp;

/// Most certificates of one token, the root included. Apple sends three.
pub const X5C_CERTIFICATES_MAX: usize = 5;

/// Apple Root CA - G3, until 2039: <https://www.apple.com/certificateauthority/>, whose SHA-256 is
/// 63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179.
const APPLE_ROOT_CA_G3: &str = include_str!("../../roots/apple-root-ca-g3.pem");
/// What Apple marks those certificates with that sign for the App Store, and the one that issues them
/// (<https://www.apple.com/certificateauthority/>, as Apple's own App Store Server Library checks them). The same root has issued
/// certificates to developers, whose keys prove nothing.
const APPLE_OIDS: IssuerOids = IssuerOids {
    leaf: Some(Oid(ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.11.1"))),
    intermediate: Some(Oid(ObjectIdentifier::new_unwrap("1.2.840.113635.100.6.2.1"))),
};

/// A root that certificates must lead to: one by name, or a certificate in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Root {
    certificate: CertificateDer<'static>,
    is_apples: bool,
}

/// Extensions that certificates must have, whatever is in them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerOids {
    /// The certificate whose key signs.
    leaf: Option<Oid>,
    /// The certificate that issued it, which then cannot be the root.
    intermediate: Option<Oid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Oid(ObjectIdentifier);

impl TryFrom<String> for Oid {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        ObjectIdentifier::new(&text)
            .map(Self)
            .map_err(|_| format!("`{text}` is no object identifier; write it like `1.2.840.113635.100.6.11.1`"))
    }
}

impl TryFrom<String> for Root {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_apples = text == "apple-root-ca-g3";
        let pem = if is_apples { APPLE_ROOT_CA_G3 } else { &text };
        let wrong = "is no root; `x5c_root` is \"apple-root-ca-g3\" or a certificate in PEM that may issue others";
        let Some(("CERTIFICATE", der)) = pem_block(pem) else {
            let shown: String = text.chars().take(40).collect();
            return Err(format!("`{shown}` {wrong}"));
        };
        let certificate = CertificateDer::from(der);
        if anchor_from_trusted_cert(&certificate).is_err() || Certificate::from_der(&certificate).is_err() {
            return Err(format!("this certificate {wrong}"));
        }
        Ok(Self { certificate, is_apples })
    }
}

impl Root {
    /// What the certificates must be marked with where the scheme says nothing.
    pub(super) const fn oids(&self) -> Option<&IssuerOids> {
        if self.is_apples { Some(&APPLE_OIDS) } else { None }
    }

    /// Says what is impossible about this combination, if anything.
    pub(super) fn check(&self, oids: &IssuerOids) -> Result<(), String> {
        match oids {
            IssuerOids { leaf: None, intermediate: None } => Err("`jwt.x5c_oids` is empty".into()),
            IssuerOids { leaf: None, .. } if self.is_apples => {
                Err("`jwt.x5c_oids` has no `leaf`: this root has issued certificates to developers as well".into())
            }
            _ => Ok(()),
        }
    }

    /// The key of the first certificate, if the chain leads to this root at `now`. Its last may be the root itself.
    pub(super) fn leaf_key(&self, chain: &[String], oids: Option<&IssuerOids>, now: Timestamp) -> Option<PublicKey> {
        if chain.len() > X5C_CERTIFICATES_MAX {
            return None;
        }
        let chain: Vec<CertificateDer<'_>> =
            chain.iter().map(|text| BASE64.decode(text).ok().map(CertificateDer::from)).collect::<Option<_>>()?;
        let (leaf, issuers) = chain.split_first()?;
        let issuers = issuers.strip_suffix(std::slice::from_ref(&self.certificate)).unwrap_or(issuers);
        // A root is trusted for what it is, and yet not beyond its period.
        let root = Certificate::from_der(&self.certificate).ok().filter(|root| is_within_period(root, now))?;

        let anchor = [anchor_from_trusted_cert(&self.certificate).ok()?];
        let end_entity = EndEntityCert::try_from(leaf).ok()?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.seconds()));
        let path = end_entity.verify_for_usage(ALL_VERIFICATION_ALGS, &anchor, issuers, time, AnyPurpose, None, None).ok()?;

        let leaf = Certificate::from_der(leaf).ok()?;
        let issuers: Vec<Certificate> =
            path.intermediate_certificates().map(|issuer| Certificate::from_der(&issuer.der()).ok()).collect::<Option<_>>()?;
        let may_issue = |issuer: &Certificate| may(issuer, KeyUsage::key_cert_sign);
        if !may(&leaf, KeyUsage::digital_signature) || !issuers.iter().chain([&root]).all(may_issue) {
            return None;
        }
        let is_marked = |certificate: Option<&Certificate>, oid: Option<Oid>| {
            oid.is_none_or(|oid| certificate.is_some_and(|certificate| has_extension(certificate, oid)))
        };
        let marked = oids.is_none_or(|oids| is_marked(Some(&leaf), oids.leaf) && is_marked(issuers.first(), oids.intermediate));
        if marked { PublicKey::from_certificate(&leaf) } else { None }
    }
}

/// Tokens have no purpose of their own among those of certificates: what is meant is said by the root and by extensions.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        purposes.try_for_each(|purpose| purpose.map(drop))
    }
}

/// Whether a certificate's key may be used so. One that says nothing of its use may be used for everything (RFC 5280, section 4.2.1.3).
fn may(certificate: &Certificate, usage: fn(&KeyUsage) -> bool) -> bool {
    match certificate.tbs_certificate().get_extension::<KeyUsage>() {
        Ok(Some((_, said))) => usage(&said),
        Ok(None) => true,
        Err(_) => false,
    }
}

fn has_extension(certificate: &Certificate, Oid(oid): Oid) -> bool {
    certificate
        .tbs_certificate()
        .extensions()
        .is_some_and(|extensions| extensions.iter().any(|extension| extension.extn_id == oid))
}

fn is_within_period(certificate: &Certificate, now: Timestamp) -> bool {
    let validity = certificate.tbs_certificate().validity();
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    (seconds(validity.not_before)..=seconds(validity.not_after)).contains(&now.seconds())
}

#[cfg(test)]
#[path = "chain_tests.rs"]
pub(super) mod tests;
