//! Webhooks signed as their providers sign them.
//!
//! This is written from the providers' documentation with nothing of Posthouse's own code, so that the journeys do not
//! check that code with itself.

use std::{collections::BTreeMap, io::Write as _};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_STANDARD,
};
use flate2::{Compression, write::GzEncoder};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The URL that is registered with Trello, as the local gateway configuration says.
pub const TRELLO_URL: &str = "https://hooks.example.com/trello";
/// The URL that is registered with Twilio, as the local gateway configuration says.
pub const TWILIO_URL: &str = "https://hooks.example.com:8443/twilio";
/// The path that Contentful calls.
pub const CONTENTFUL_PATH: &str = "/v1/webhooks/contentful";

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
    /// <https://docs.slack.dev/authentication/verifying-requests-from-slack>
    Slack,
    /// <https://developers.facebook.com/docs/graph-api/webhooks/getting-started/>
    Meta,
    /// <https://developers.asana.com/docs/webhooks-guide>
    Asana,
    /// <https://developer.atlassian.com/cloud/trello/guides/rest-api/webhooks/>
    Trello,
    /// <https://www.twilio.com/docs/usage/webhooks/webhooks-security>
    Twilio,
    /// <https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks>
    Mailgun,
    /// <https://www.contentful.com/developers/docs/extensibility/app-framework/request-verification/>
    Contentful,
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
            Self::Slack => json!({
                "type": "event_callback", "event_id": event_id, "event_time": 1_767_225_600,
                "event": {"type": "app_mention", "text": "hello"},
            }),
            Self::Meta => json!({"object": "page", "entry": [{"id": event_id, "time": 1_767_225_600}]}),
            Self::Asana => {
                let event = json!({"action": "added", "created_at": "2026-01-01T00:00:00.000Z", "resource": {"gid": event_id}});
                json!({"events": [event]})
            }
            Self::Trello => {
                json!({"action": {"id": event_id, "type": "createCard", "date": "2026-01-01T00:00:00.000Z"}, "model": {"id": "1"}})
            }
            Self::Twilio => {
                return twilio_form(&[("To", "+18005551212"), ("MessageStatus", "delivered"), ("MessageSid", event_id)]);
            }
            Self::Mailgun => json!({"event-data": {"event": "delivered", "id": event_id}}),
            Self::Contentful => json!({"sys": {"type": "Entry", "id": event_id}, "fields": {}}),
        };
        body.to_string().into_bytes()
    }

    /// What Posthouse knows this body's event by: `event_id`, or for a provider without ids the SHA-256 of what it signs, which
    /// is the body.
    #[must_use]
    pub fn known_by(self, event_id: &str, body: &[u8]) -> String {
        match self {
            Self::Meta | Self::Asana => hex::encode(Sha256::digest(body)),
            _ => event_id.to_owned(),
        }
    }

    /// The webhook with this body, signed with `secret` at `unix_seconds`. Stripe, Slack and Trello have the event id in the body
    /// alone, Meta and Asana have none; Mailgun puts its signature into the body.
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
            Self::Slack => {
                let signature = hex::encode(mac(key, &[format!("v0:{unix_seconds}:").as_bytes(), body]));
                vec![("x-slack-request-timestamp", unix_seconds.to_string()), ("x-slack-signature", format!("v0={signature}"))]
            }
            Self::Meta => vec![("x-hub-signature-256", format!("sha256={}", hex::encode(mac(key, &[body]))))],
            Self::Asana => vec![("x-hook-signature", hex::encode(mac(key, &[body])))],
            Self::Trello => {
                vec![("x-trello-webhook", BASE64_STANDARD.encode(mac_sha1(key, &[body, TRELLO_URL.as_bytes()])))]
            }
            Self::Twilio => vec![
                ("i-twilio-idempotency-token", event_id.to_owned()),
                ("x-twilio-signature", twilio_signature(secret, TWILIO_URL, body)),
            ],
            Self::Mailgun => return mailgun(body, event_id, key, unix_seconds),
            Self::Contentful => {
                let signed = "x-contentful-signed-headers,x-contentful-timestamp";
                let millis = unix_seconds * 1000;
                let request =
                    format!("POST\n{CONTENTFUL_PATH}\nx-contentful-signed-headers:{signed};x-contentful-timestamp:{millis}\n");
                vec![
                    ("x-contentful-signed-headers", signed.to_owned()),
                    ("x-contentful-timestamp", millis.to_string()),
                    ("x-contentful-signature", hex::encode(mac(key, &[request.as_bytes(), body]))),
                    ("x-contentful-idempotency-key", event_id.to_owned()),
                    ("x-contentful-topic", "ContentManagement.Entry.publish".to_owned()),
                ]
            }
        };
        let content_type = ("content-type", self.content_type().to_owned());
        let headers = headers.into_iter().chain([content_type]).map(|(name, value)| (name.to_owned(), value)).collect();
        Webhook { headers, body: body.to_vec() }
    }

    /// The content type of its webhooks.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        if self == Self::Twilio { "application/x-www-form-urlencoded" } else { "application/json" }
    }

    /// The header that carries the signature.
    #[must_use]
    pub fn signature_header(self) -> &'static str {
        match self {
            Self::Github => "x-hub-signature-256",
            Self::Stripe => "stripe-signature",
            Self::Shopify => "x-shopify-hmac-sha256",
            Self::StandardWebhooks => "webhook-signature",
            Self::Slack => "x-slack-signature",
            Self::Meta => "x-hub-signature-256",
            Self::Asana => "x-hook-signature",
            Self::Trello => "x-trello-webhook",
            Self::Twilio => "x-twilio-signature",
            Self::Mailgun => panic!("Mailgun signs in the body"),
            Self::Contentful => "x-contentful-signature",
        }
    }
}

/// A body as a sender compresses it that says `Content-Encoding: gzip`.
///
/// # Panics
/// Never: nothing is written but memory.
#[must_use]
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("a vector takes all")
}

/// A form as Twilio posts it.
#[must_use]
pub fn twilio_form(fields: &[(&str, &str)]) -> Vec<u8> {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into_bytes()
}

/// Twilio's signature of a form that it posts to `url`: over the URL and then, sorted by name, each name and value.
#[must_use]
pub fn twilio_signature(auth_token: &str, url: &str, form: &[u8]) -> String {
    let fields: BTreeMap<_, _> = form_urlencoded::parse(form).into_owned().collect();
    let fields: String = fields.into_iter().map(|(name, value)| name + &value).collect();
    BASE64_STANDARD.encode(mac_sha1(auth_token.as_bytes(), &[url.as_bytes(), fields.as_bytes()]))
}

/// Mailgun's signature covers a time and a token, and nothing of what stands beside it.
fn mailgun(body: &[u8], token: &str, key: &[u8], unix_seconds: u64) -> Webhook {
    let mut body: Value = serde_json::from_slice(body).expect("Mailgun sends JSON");
    let signature = hex::encode(mac(key, &[unix_seconds.to_string().as_bytes(), token.as_bytes()]));
    body["signature"] = json!({"timestamp": unix_seconds.to_string(), "token": token, "signature": signature});
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Webhook { headers, body: body.to_string().into_bytes() }
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

fn mac_sha1(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
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
    fn slack_signs_as_in_its_documentation() {
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar\
                    &user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2F\
                    hooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
                    &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let webhook = Provider::Slack.sign(body.as_bytes(), "", "8f742231b10e8888abcd99yyyzzz85a5", 1_531_420_618);
        let documented = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        assert_eq!(webhook.header("x-slack-signature"), documented);
    }

    #[test]
    fn twilio_signs_as_in_its_library() {
        let form = b"CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309";
        let signature = twilio_signature("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", form);
        assert_eq!(signature, "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
    }

    #[test]
    fn every_body_names_its_event() {
        let others = [Provider::Slack, Provider::Meta, Provider::Asana, Provider::Trello, Provider::Twilio, Provider::Mailgun];
        let first = [Provider::Github, Provider::Stripe, Provider::Shopify, Provider::StandardWebhooks, Provider::Contentful];
        for provider in first.into_iter().chain(others) {
            let body = String::from_utf8(provider.body("evt-1")).expect("JSON is text");
            assert!(body.contains("evt-1"), "{provider:?}: {body}");
        }
    }
}
