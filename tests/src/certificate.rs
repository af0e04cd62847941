//! Certificates that are made up when they are needed, for the destination's TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// What may be wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Nothing: it is of the authority, for `localhost` and `127.0.0.1`.
    Good,
    /// It is of nobody but itself.
    SelfSigned,
    /// It is of the authority, for another host.
    OtherHost,
    /// It is of the authority, and was valid once.
    Expired,
}

/// An authority that nobody trusts who was not told to.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = params(&[]);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = key();
        let certificate = params.self_signed(&key).expect("a certificate can be made");
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }
}

impl Authority {
    /// Its own certificate, for whoever trusts it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server with such a certificate.
    ///
    /// # Panics
    /// When no certificate can be made.
    #[must_use]
    pub fn acceptor(&self, certificate: Certificate) -> TlsAcceptor {
        let hosts: &[&str] =
            if certificate == Certificate::OtherHost { &["elsewhere.example"] } else { &["localhost", "127.0.0.1"] };
        let mut params = params(hosts);
        if certificate == Certificate::Expired {
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = key();
        let made = match certificate {
            Certificate::SelfSigned => params.self_signed(&key),
            Certificate::Good | Certificate::OtherHost | Certificate::Expired => params.signed_by(&key, &self.issuer),
        };
        let chain = vec![made.expect("a certificate can be made").der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("the key is one");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
            .expect("the certificate belongs to the key");
        TlsAcceptor::from(Arc::new(config))
    }
}

fn params(hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("the hosts are names");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}
