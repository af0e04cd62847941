//! PayPal: the certificate that the header `paypal-cert-url` names.
//!
//! Documentation: <https://developer.paypal.com/api/rest/webhooks/rest/#link-selfverification>.

use super::{
    FetchError, Fetched, read_certificate,
    transport::{Request, Transport},
};
use crate::{
    location,
    signatures::{Refusal, UnverifiedWebhook},
    time::Timestamp,
};

const CERTIFICATE_PATH: &str = "/v1/notifications/certs/CERT-";
/// Longest name of a certificate after `CERT-`. PayPal's have 26 characters.
const NAME_CHARS_MAX: usize = 64;

/// Where a certificate of PayPal's is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CertificateUrl {
    environment: Environment,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Environment {
    Live,
    Sandbox,
}

impl Environment {
    const fn host(self) -> &'static str {
        match self {
            Self::Live => "https://api.paypal.com",
            Self::Sandbox => "https://api.sandbox.paypal.com",
        }
    }

    /// Whom its certificates are made out to. PayPal's own SDK for Java takes names that begin and end so (`SSLUtil`).
    const fn common_name(self) -> &'static str {
        match self {
            Self::Live => "messageverificationcerts.paypal.com",
            Self::Sandbox => "messageverificationcerts.sandbox.paypal.com",
        }
    }
}

impl CertificateUrl {
    /// The header's.
    pub(super) fn named_by(webhook: &UnverifiedWebhook) -> Result<Self, Refusal> {
        let url = location::header(&webhook.headers, "paypal-cert-url").ok_or(Refusal::MissingSignature)?;
        Self::parse(&url).ok_or(Refusal::UntrustedKey)
    }

    fn parse(text: &str) -> Option<Self> {
        let in_environment = |environment: Environment| {
            let name = text.strip_prefix(environment.host())?.strip_prefix(CERTIFICATE_PATH)?;
            let allowed = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            ((1..=NAME_CHARS_MAX).contains(&name.len()) && allowed).then(|| Self { environment, name: name.to_owned() })
        };
        in_environment(Environment::Live).or_else(|| in_environment(Environment::Sandbox))
    }

    pub(super) async fn fetch(&self, transport: &Transport, now: Timestamp) -> Result<Fetched, FetchError> {
        let url = format!("{}{CERTIFICATE_PATH}{}", self.environment.host(), self.name);
        let body = transport.fetch(Request::Get(&url)).await?.success()?;
        let certificate = read_certificate(&body, now)?;
        // A certificate of PayPal's for something else signs no webhooks.
        if certificate.common_name.as_deref() != Some(self.environment.common_name()) {
            return Err(FetchError::Refused("its certificate is not one for signing webhooks".to_owned()));
        }
        Ok(Fetched::from_certificate(&certificate, now))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::{
        fetched::{FetchedKeys, KeyOrigin, transport::canned::Canned},
        location::Places,
    };

    const NOW: Timestamp = Timestamp::from_seconds(1_780_000_000);
    const LIVE: &str = include_str!("../../testdata/keys/paypal-certificate.pem");
    const SANDBOX: &str = include_str!("../../testdata/keys/paypal-sandbox-certificate.pem");
    const OTHER: &str = include_str!("../../testdata/keys/sns-certificate.pem");
    const LIVE_URL: &str = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270";
    const SANDBOX_URL: &str = "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-5a29e601";

    fn webhook(urls: &[&str]) -> UnverifiedWebhook {
        let headers: Vec<_> = urls.iter().map(|url| ("PAYPAL-CERT-URL".to_owned(), (*url).to_owned())).collect();
        UnverifiedWebhook::new(Method::POST, "https://h/", &headers, Vec::new())
    }

    #[test]
    fn only_certificates_of_paypal_are_wanted() {
        let check = |url: &str| CertificateUrl::named_by(&webhook(&[url]));
        assert_eq!(check(LIVE_URL).unwrap().environment, Environment::Live);
        assert_eq!(check(SANDBOX_URL).unwrap().environment, Environment::Sandbox);
        let long = format!("CERT-{}", "a".repeat(NAME_CHARS_MAX));
        assert!(check(&LIVE_URL.replace("CERT-360caa42-fca2a594-1d93a270", &long)).is_ok());
        let longer = format!("{long}a");
        for (from, to) in [
            ("https", "http"),
            ("https://", "https://user@"),
            ("https://", "https://evil.org/?"),
            ("https://", "https://evil."),
            ("api.paypal.com", "api.paypal.com.evil.org"),
            ("api.paypal.com", "api.paypal.com:8443"),
            ("api.paypal.com", "API.paypal.com"),
            ("api.paypal.com", "www.paypal.com"),
            ("api.paypal.com", "api.paypal.com@evil.org"),
            ("/v1/", "/v2/"),
            ("/v1/", "//v1/"),
            ("certs/CERT-", "certs/"),
            ("CERT-360caa42-fca2a594-1d93a270", "CERT-"),
            ("CERT-360caa42-fca2a594-1d93a270", "CERT-../../x"),
            ("CERT-360caa42-fca2a594-1d93a270", "CERT-a?b"),
            ("CERT-360caa42-fca2a594-1d93a270", "CERT-a#b"),
            ("CERT-360caa42-fca2a594-1d93a270", "CERT-a%2fb"),
            ("CERT-360caa42-fca2a594-1d93a270", longer.as_str()),
        ] {
            let url = LIVE_URL.replacen(from, to, 1);
            assert_ne!(url, LIVE_URL);
            assert_eq!(check(&url), Err(Refusal::UntrustedKey), "{url}");
        }
        assert_eq!(CertificateUrl::named_by(&webhook(&[])), Err(Refusal::MissingSignature));
        assert_eq!(CertificateUrl::named_by(&webhook(&[LIVE_URL, LIVE_URL])), Err(Refusal::UntrustedKey));
    }

    #[tokio::test]
    async fn a_certificate_is_one_for_webhooks_of_its_environment() {
        for (url, certificate, right) in [
            (LIVE_URL, LIVE, true),
            (SANDBOX_URL, SANDBOX, true),
            (LIVE_URL, SANDBOX, false),
            (SANDBOX_URL, LIVE, false),
            (LIVE_URL, OTHER, false),
        ] {
            let canned = Canned::always(200, certificate);
            let keys = FetchedKeys::new(&canned.config());
            let key = keys
                .get(
                    &KeyOrigin::Paypal.wanted(&Places::new(&webhook(&[url])), |_| Err(Refusal::UntrustedKey)).unwrap(),
                    None,
                    NOW,
                )
                .await;
            assert_eq!(canned.last(), format!("GET {url} "));
            assert_eq!(key.is_ok(), right, "{key:?}");
            assert_eq!(matches!(key, Err(FetchError::Refused(_))), !right, "{key:?}");
        }
    }
}
