//! Webhooks signed as their providers sign them.
//!
//! This is written from the providers' documentation with nothing of Posthouse's own code, so that the journeys do not
//! check that code with itself.

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

/// Secrets come with and without padding.
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
    Github,
    /// <https://docs.stripe.com/webhooks#verify-manually>
    Stripe,
    /// <https://shopify.dev/docs/apps/build/webhooks/verify-deliveries>
    Shopify,
    /// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
    StandardWebhooks,
}

/// A request as a provider sends it.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Header names, in lower case, and values; a name can stand there more than once.
    pub headers: Vec<(String, String)>,
    /// The exact body.
    pub body: Vec<u8>,
}

impl Provider {
    /// A small body of the provider's shape, with the event id where this provider has it, and in any case somewhere.
    #[must_use]
    pub fn body(self, event_id: &str) -> Vec<u8> {
        let body = match self {
            Self::Github => {
                json!({"ref": "refs/heads/main", "after": event_id, "repository": {"full_name": "posthouse/example"}})
            }
            Self::Stripe => json!({
                "id": event_id, "object": "event", "type": "invoice.paid", "created": 1_767_225_600,
                "data": {"object": {"object": "invoice", "amount_paid": 4200, "currency": "eur"}},
            }),
            Self::Shopify => json!({
                "id": 820_982_911_946_154_508_u64, "name": event_id, "updated_at": "2026-01-01T00:00:00Z",
                "customer": {"id": fastrand::u32(..), "email": "ada@example.com", "updated_at": "2026-01-01T00:00:00Z"},
            }),
            Self::StandardWebhooks => {
                json!({"type": "contact.created", "timestamp": "2026-01-01T00:00:00Z", "data": {"id": event_id}})
            }
        };
        body.to_string().into_bytes()
    }

    /// The webhook with this body, signed with `secret` at `unix_seconds`. Stripe has the event id in the body alone.
    #[must_use]
    pub fn sign(self, body: &[u8], event_id: &str, secret: &str, unix_seconds: u64) -> Webhook {
        let key = secret.as_bytes();
        let headers = match self {
            Self::Github => vec![
                ("x-github-event", "push".to_owned()),
                ("x-github-delivery", event_id.to_owned()),
                ("x-hub-signature-256", format!("sha256={}", hex::encode(mac(key, &[body])))),
            ],
            Self::Stripe => {
                let signature = hex::encode(mac(key, &[unix_seconds.to_string().as_bytes(), b".", body]));
                vec![("stripe-signature", format!("t={unix_seconds},v1={signature}"))]
            }
            Self::Shopify => vec![
                ("x-shopify-topic", "orders/create".to_owned()),
                ("x-shopify-webhook-id", event_id.to_owned()),
                ("x-shopify-hmac-sha256", BASE64_STANDARD.encode(mac(key, &[body]))),
            ],
            Self::StandardWebhooks => vec![
                ("webhook-id", event_id.to_owned()),
                ("webhook-timestamp", unix_seconds.to_string()),
                ("webhook-signature", standard_webhooks_signature(secret, event_id, unix_seconds, body)),
            ],
        };
        let json = ("content-type".to_owned(), "application/json".to_owned());
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).chain([json]).collect();
        Webhook { headers, body: body.to_vec() }
    }

    /// The header that carries the signature.
    #[must_use]
    pub fn signature_header(self) -> &'static str {
        match self {
            Self::Github => "x-hub-signature-256",
            Self::Stripe => "stripe-signature",
            Self::Shopify => "x-shopify-hmac-sha256",
            Self::StandardWebhooks => "webhook-signature",
        }
    }
}

/// One signature of the Standard Webhooks header, which Posthouse also puts on what it delivers.
#[must_use]
pub fn standard_webhooks_signature(secret: &str, id: &str, unix_seconds: u64, body: &[u8]) -> String {
    let key = LENIENT_BASE64.decode(secret.trim_start_matches("whsec_")).expect("a Standard Webhooks secret is base64");
    let signature = mac(&key, &[format!("{id}.{unix_seconds}.").as_bytes(), body]);
    format!("v1,{}", BASE64_STANDARD.encode(signature))
}

impl Webhook {
    /// The same with a header replaced, or added.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a header changed.
    #[must_use]
    pub fn with_changed(self, name: &str, change: impl FnOnce(&str) -> String) -> Self {
        let changed = change(&self.header(name));
        self.with(name, &changed)
    }

    /// The same without a header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    /// The same with a header twice.
    #[must_use]
    pub fn with_repeated(mut self, name: &str) -> Self {
        self.headers.push((name.to_owned(), self.header(name)));
        self
    }

    /// The value of a header that is there.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let headers: BTreeMap<_, _> = self.headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
        headers.get(name).unwrap_or_else(|| panic!("the webhook has no header {name}")).to_string()
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn github_signs_as_in_its_documentation() {
        let webhook = Provider::Github.sign(b"Hello, World!", "id", "It's a Secret to Everybody", 0);
        let documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(webhook.header("x-hub-signature-256"), documented);
    }

    #[test]
    fn standard_webhooks_signs_as_in_its_specification() {
        let body = br#"{"test": 2432232314}"#;
        let signature = standard_webhooks_signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            body,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_body_names_its_event() {
        for provider in [Provider::Github, Provider::Stripe, Provider::Shopify, Provider::StandardWebhooks] {
            let body = String::from_utf8(provider.body("evt-1")).expect("JSON is text");
            assert!(body.contains("evt-1"), "{provider:?}: {body}");
        }
    }
}
