//! What is told of a verification, and what is remembered of it.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};
use proptest::{collection::vec, prelude::*};
use shared::{
    event::BodyDigest,
    location::{Location, Places},
    signatures::{Encoding, UnverifiedWebhook},
};

use crate::{
    for_every_way,
    key::{Key, key},
    sample::{changes, samples},
    way::{Way, put},
};

/// A text in every spelling that bytes have, and as `Debug` writes them.
fn spellings(bytes: &[u8]) -> [String; 5] {
    let debug = format!("{bytes:?}");
    let debug = debug.trim_matches(['[', ']']).to_owned();
    [hex::encode(bytes), hex::encode_upper(bytes), BASE64.encode(bytes), BASE64URL.encode(bytes), debug]
}

/// The signature that `webhook` has, in bytes.
fn signature(way: &Way, webhook: &UnverifiedWebhook) -> Option<Vec<u8>> {
    let spec = &way.alternative().signature;
    let text = Places::new(webhook).find(spec.at.iter().next()?)?.into_owned();
    let text = spec.list.as_ref().map_or(Some(text.as_str()), |list| {
        let entry = text.rsplit(list.separator).next()?;
        list.assign.map_or(Some(entry), |assign| entry.split_once(assign).map(|(_, value)| value))
    })?;
    let text = text.strip_prefix(&spec.prefix)?;
    match spec.encoding {
        Some(Encoding::Hex) => hex::decode(text).ok(),
        Some(Encoding::Base64) => BASE64.decode(text).ok(),
        Some(Encoding::Base64url) => BASE64URL.decode(text).ok(),
        Some(Encoding::Base64OfHex) => hex::decode(BASE64.decode(text).ok()?).ok(),
        None => Some(text.as_bytes().to_vec()),
    }
}

fn tells_secret(told: &str, way: &Way, key: &Key, signed: &UnverifiedWebhook) -> Option<String> {
    let secret = key.secret(way);
    let mut secrets = vec![secret.clone(), key.text()];
    secrets.extend(spellings(secret.as_bytes()));
    secrets.extend(spellings(&key.bytes()));
    // A topic of SNS, a webhook's id at PayPal and an app's id at Apple stand in the request.
    let is_secret = !way.alternative().has_foreign_keys();
    let expected = signature(way, signed).expect("a signature can be read");
    secrets.retain(|_| is_secret);
    secrets.extend(spellings(&expected));
    secrets.push(String::from_utf8_lossy(&expected).into_owned());
    secrets.into_iter().find(|secret| told.contains(secret.as_str()))
}

#[test]
fn an_examination_agrees_with_the_verdict_and_tells_no_secret() {
    for_every_way(&(samples(), key(), vec(changes(), 0..4), 0_u64..600), |way, (sample, key, changes, seconds)| {
        let signed = way.sign(&sample, &key);
        let now = sample.now.plus(std::time::Duration::from_secs(seconds));
        let (keyring, fetched) = (key.keyring(way), key.fetched(way));
        let mut webhook = signed.clone();
        for change in std::iter::once(None).chain(changes.into_iter().map(Some)) {
            webhook = change.and_then(|change| change.apply(&webhook)).unwrap_or(webhook);
            let verdict =
                way.scheme.verify(&webhook, &keyring, fetched.as_ref(), now).map(|verified| verified.key_id().to_owned());
            let examination = way.scheme.examine(&webhook, &keyring, fetched.as_ref(), now);
            prop_assert_eq!(&examination.verdict, &verdict);
            let told = format!("{examination:?} {examination:#?} {:?} {keyring:?}", verdict);
            prop_assert_eq!(tells_secret(&told, way, &key, &signed), None);
        }
        Ok(())
    });
}

#[test]
fn a_replay_is_known_by_its_content() {
    for_every_way(&(samples(), samples(), key(), "[!-~]{1,24}"), |way, (sample, other, key, id)| {
        let webhook = way.sign(&sample, &key);
        let digest = |webhook: &UnverifiedWebhook, now| {
            let verified = way.verify(webhook, &key, &key.keyring(way), now);
            verified.map(|verified| verified.content_digest(&BodyDigest::of(verified.body()))).ok()
        };
        let first = digest(&webhook, sample.now);
        prop_assert!(first.is_some());
        // Whatever stands in headers that nobody signed.
        let mut replay = webhook.clone();
        for name in ["x-not-covered", "x-github-delivery", "x-request-id", "i-twilio-idempotency-token"] {
            let place = Location::Header(http::HeaderName::from_static(name));
            if !way.scheme.places().any(|covered| *covered == place) {
                put(&mut replay, &place, &id);
            }
        }
        prop_assert_eq!(digest(&replay, sample.now), first);
        let other_webhook = way.sign(&other, &key);
        let is_other = match way.weakest_content(&webhook) {
            Some(content) => way.weakest_content(&other_webhook) != Some(content),
            None => way.covered(&other_webhook) != way.covered(&webhook) && other.body.bytes() != sample.body.bytes(),
        };
        if is_other {
            prop_assert_ne!(digest(&other_webhook, other.now), first);
        }
        Ok(())
    });
}
