//! What the targets share: a keyring, a request, and what holds of every verdict.

use http::Method;
use shared::{
    event::BodyDigest,
    location::Location,
    secrets::{Key, Keyring, Secret},
    signatures::{Scheme, Template, UnverifiedWebhook, Variable},
    time::Timestamp,
};

/// Long enough that nothing else has it within by chance.
pub const SECRET: &str = "secret-for-fuzzing-that-nobody-else-has";

/// When it is.
pub const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

/// A keyring of these secrets.
pub fn keyring<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Keyring {
    let keys = secrets.into_iter().enumerate();
    let keys = keys.map(|(id, secret)| Key { id: id.to_string(), secret: Secret::new(secret), not_after: None });
    Keyring::new(keys.collect()).expect("a keyring that a target makes is one")
}

/// A request with these headers and this body.
pub fn webhook(headers: &[(&str, &str)], body: &[u8]) -> UnverifiedWebhook {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    UnverifiedWebhook::new(Method::POST, "https://hooks.example.com/webhooks/fuzz?a=1&b=2", &headers, body.to_vec())
}

/// A scheme as it is written.
pub fn scheme(text: &str) -> Scheme {
    let scheme: Scheme = toml::from_str(text).expect("a target's scheme can be read");
    scheme.check().expect("a target's scheme is possible");
    scheme
}

/// Verifies, and holds the verdict to what must be so of every one. Gives whether it is a yes.
pub fn verify(scheme: &Scheme, webhook: &UnverifiedWebhook, keyring: &Keyring, now: Timestamp) -> bool {
    let verdict = scheme.verify(webhook, keyring, None, now);
    let examination = scheme.examine(webhook, keyring, None, now);
    assert_eq!(
        examination.verdict.as_deref().map_err(|refusal| *refusal),
        verdict.as_ref().map(|verified| verified.key_id()).map_err(|refusal| *refusal)
    );
    let told = format!("{examination:?} {verdict:?}");
    // A short one could stand there by chance.
    let secrets = keyring.keys().iter().map(|key| key.secret.expose()).filter(|secret| secret.len() > 16);
    let is_public = |secret: &str| webhook_has(webhook, secret);
    assert!(!secrets.into_iter().any(|secret| told.contains(secret) && !is_public(secret)), "the examination shows a secret");
    let Ok(verified) = verdict else { return false };

    let digest = verified.content_digest(&BodyDigest::of(&webhook.body));
    let mut replay = webhook.clone();
    replay.headers.insert("x-nobody-signs-this", http::HeaderValue::from_static("other"));
    let replayed =
        scheme.verify(&replay, keyring, None, now).map(|verified| verified.content_digest(&BodyDigest::of(&replay.body)));
    assert_eq!(replayed, Ok(digest), "a replay is not known by its content");

    if covers_each_byte_of_body(scheme) {
        let mut other = webhook.clone();
        match other.body.first_mut() {
            Some(first) => *first ^= 1,
            None => other.body.push(b'0'),
        }
        assert!(scheme.verify(&other, keyring, None, now).is_err(), "a changed body is proven");
    }
    true
}

/// Whether the exact body is covered; forms and messages of SNS may be written in more ways than one.
fn covers_each_byte_of_body(scheme: &Scheme) -> bool {
    let decoded = [Variable::FormSorted, Variable::AwsSns];
    let templates = scheme.alternatives.iter().flat_map(|alternative| &alternative.signed);
    scheme.covers(&Location::Json("/".to_owned()))
        && !templates.flat_map(Template::variables).any(|variable| decoded.contains(variable))
}

fn webhook_has(webhook: &UnverifiedWebhook, text: &str) -> bool {
    format!("{webhook:?}").contains(text)
}

/// A line and what follows it.
pub fn line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, b""),
    }
}
