//! Several keys, several signatures in one request, and several ways of signing at once.

use http::{HeaderName, HeaderValue};
use proptest::{collection::vec, prelude::*};
use ring::hmac;
use shared::{
    location::Location,
    signatures::{Encoding, Refusal, SIGNATURES_MAX, UnverifiedWebhook},
};

use crate::{
    for_every_way,
    key::{KEYS_MAX, key, keyring, keys},
    sample::samples,
    way::{Way, put},
};

#[test]
fn any_key_that_is_valid_proves_and_one_that_has_expired_does_not() {
    for_every_way(&(samples(), keys(KEYS_MAX), 0..KEYS_MAX, 1..=KEYS_MAX), |way, (sample, keys, place, count)| {
        let signing = &keys[0];
        let webhook = way.sign(&sample, signing);
        let place = place % count;
        let verdict = |not_after| {
            let mut texts: Vec<_> = keys[1..count].iter().map(|key| (key.secret(way), None)).collect();
            texts.insert(place, (signing.secret(way), not_after));
            let keyring = keyring(texts.into_iter().enumerate().map(|(id, (text, until))| (id.to_string(), text, until)));
            way.verify(&webhook, signing, &keyring, sample.now).map(|verified| verified.key_id().to_owned())
        };
        let millisecond = std::time::Duration::from_millis(1);
        if way.is_proven_by_keyring() {
            prop_assert_eq!(verdict(None), Ok(place.to_string()));
            prop_assert_eq!(verdict(Some(sample.now.plus(millisecond))), Ok(place.to_string()));
            prop_assert!(verdict(Some(sample.now)).is_err_and(Refusal::depends_on_keys));
        } else {
            prop_assert!(verdict(None).is_ok());
        }
        Ok(())
    });
}

/// A text in the signature's form that is no signature of this webhook.
fn wrong(way: &Way, number: u8) -> String {
    let bytes = [number; 32];
    let text = match way.alternative().signature.encoding {
        Some(Encoding::Base64) => base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes),
        _ => hex::encode(bytes),
    };
    format!("{}{text}", way.alternative().signature.prefix)
}

/// The header that has the signature, if one has.
fn header_of(way: &Way) -> Option<HeaderName> {
    match way.alternative().signature.at.iter().next() {
        Some(Location::Header(name)) => Some(name.clone()),
        _ => None,
    }
}

#[test]
fn the_right_one_of_several_signatures_proves_wherever_it_stands() {
    let numbers = vec(any::<u8>(), 0..SIGNATURES_MAX + 3);
    for_every_way(&(samples(), key(), numbers, any::<usize>()), |way, (sample, key, numbers, place)| {
        let (Some(header), Some(_)) = (header_of(way), way.alternative().signature.encoding) else { return Ok(()) };
        let webhook = way.sign(&sample, &key);
        let right = webhook.headers[&header].to_str().unwrap().to_owned();
        let place = place % (numbers.len() + 1);
        let mut all: Vec<String> = numbers.iter().map(|number| wrong(way, *number)).collect();
        let verdict = |webhook: &UnverifiedWebhook| way.verify(webhook, &key, &key.keyring(way), sample.now).is_ok();
        let proven = place < SIGNATURES_MAX;
        if let Some(list) = &way.alternative().signature.list {
            // The signature is the list's last entry; what is about time and headers stands before it.
            let (before, signature) = right.rsplit_once(list.separator).unwrap_or(("", &right));
            let entry = |key: &str, wrong: &str| list.assign.map_or(wrong.to_owned(), |assign| format!("{key}{assign}{wrong}"));
            let mut entries: Vec<String> = all.iter().map(|wrong| entry(&list.key, wrong)).collect();
            entries.insert(place, signature.to_owned());
            if list.assign.is_none() {
                // Told by their places: the time comes first.
                entries.insert(0, before.to_owned());
                let mut sent = webhook.clone();
                put(&mut sent, &Location::Header(header.clone()), &entries.join(&list.separator.to_string()));
                prop_assert_eq!(verdict(&sent), proven, "{:?}", sent.headers);
                return Ok(());
            }
            entries.insert(0, entry("other", &wrong(way, 0)));
            entries.extend((!before.is_empty()).then(|| before.to_owned()));
            let mut sent = webhook.clone();
            put(&mut sent, &Location::Header(header.clone()), &entries.join(&list.separator.to_string()));
            prop_assert_eq!(verdict(&sent), proven, "{:?}", sent.headers);
            return Ok(());
        }
        all.insert(place, right);
        let mut repeated = webhook.clone();
        repeated.headers.remove(&header);
        for text in &all {
            repeated.headers.append(header.clone(), HeaderValue::from_str(text).unwrap());
        }
        prop_assert_eq!(verdict(&repeated), proven);
        for joint in [",", ", "] {
            let mut joined = webhook.clone();
            joined.headers.insert(header.clone(), HeaderValue::from_str(&all.join(joint)).unwrap());
            prop_assert_eq!(verdict(&joined), proven);
        }
        Ok(())
    });
}

/// A token is the secret: of two, nobody knows which one was meant.
#[test]
fn a_token_that_comes_twice_is_none() {
    for_every_way(&(samples(), key()), |way, (sample, key)| {
        let (Some(header), None) = (header_of(way), way.alternative().signature.encoding) else { return Ok(()) };
        let mut webhook = way.sign(&sample, &key);
        webhook.headers.append(&header, webhook.headers[&header].clone());
        prop_assert!(way.verify(&webhook, &key, &key.keyring(way), sample.now).is_err());
        Ok(())
    });
}

/// A scheme's ways of signing, the strongest first.
fn ways(preset: &'static str, count: usize) -> Vec<Way> {
    let ways = Way::of(preset);
    assert_eq!(ways.len(), count);
    ways
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_weaker_signature_of_hubspots_does_not_rescue_a_wrong_one(sample in samples(), keys in keys(2)) {
        let ways = ways("hubspot", 3);
        let own = keys[0].keyring(&ways[0]);
        for weaker in &ways[1..] {
            let weak = weaker.sign(&sample, &keys[0]);
            prop_assert!(weaker.verify(&weak, &keys[0], &own, sample.now).is_ok());
            let mut with_wrong = weak.clone();
            ways[0].sign_again(&mut with_wrong, sample.now, &keys[1]);
            prop_assert!(weaker.verify(&with_wrong, &keys[0], &own, sample.now).is_err());
            let mut with_right = with_wrong;
            ways[0].sign_again(&mut with_right, sample.now, &keys[0]);
            prop_assert!(weaker.verify(&with_right, &keys[0], &own, sample.now).is_ok());
        }
    }

    #[test]
    fn a_weaker_signature_of_hook0s_does_not_rescue_a_wrong_one(sample in samples(), keys in keys(2), first in any::<bool>()) {
        let [strong, weak] = [0, 1].map(|index| ways("hook0", 2).remove(index));
        let own = keys[0].keyring(&weak);
        let sent = |key: usize, way: &Way| way.sign(&sample, &keys[key]).headers["x-hook0-signature"].to_str().unwrap().to_owned();
        let with = |strong_key: usize| {
            let (strong, weak) = (sent(strong_key, &strong), sent(0, &weak));
            let (time_and_names, version_1) = strong.rsplit_once(',').unwrap();
            let (_, version_0) = weak.rsplit_once(',').unwrap();
            let both = if first { [version_0, version_1] } else { [version_1, version_0] };
            let mut webhook = ways("hook0", 2)[0].sign(&sample, &keys[0]);
            let text = format!("{time_and_names},{}", both.join(","));
            put(&mut webhook, &Location::Header(HeaderName::from_static("x-hook0-signature")), &text);
            webhook
        };
        let verdict = |webhook: &UnverifiedWebhook| weak.verify(webhook, &keys[0], &own, sample.now).is_ok();
        prop_assert!(verdict(&weak.sign(&sample, &keys[0])));
        prop_assert!(verdict(&with(0)));
        prop_assert!(!verdict(&with(1)));
    }

    #[test]
    fn a_form_of_twilios_does_not_rescue_a_wrong_digest(sample in samples(), key in key()) {
        let [by_digest, by_form] = [0, 1].map(|index| ways("twilio", 2).remove(index));
        let own = key.keyring(&by_form);
        let verdict = |webhook: &UnverifiedWebhook| by_form.verify(webhook, &key, &own, sample.now).map(drop);
        let right = by_digest.sign(&sample, &key);
        prop_assert_eq!(verdict(&right), Ok(()));
        // Signed as a form, over the same URL with its digest, right or wrong.
        for query in [right.raw_query.clone(), "bodySHA256=00".to_owned(), "bodySHA256=".to_owned()] {
            let mut form = UnverifiedWebhook { raw_query: query, ..right.clone() };
            form.body.extend_from_slice(b"&a=1");
            by_form.sign_again(&mut form, sample.now, &key);
            prop_assert!(verdict(&form).is_err());
        }
        let mut form = UnverifiedWebhook { raw_query: String::new(), ..right };
        by_form.sign_again(&mut form, sample.now, &key);
        prop_assert_eq!(verdict(&form), Ok(()));
    }

    /// Signed here with `ring` alone: `Scheme::sign` names no headers.
    #[test]
    fn headers_that_a_list_names_are_covered(
        sample in samples(), key in key(), values in vec("[!-+.-~]{1,8}", 1..4), changed in any::<usize>()
    ) {
        for way in [ways("hook0", 2).remove(0), ways("coinbase-cdp", 1).remove(0)] {
            let mut webhook = way.sign(&sample, &key);
            let names: Vec<String> = (0..values.len()).map(|number| format!("x-named-{number}")).collect();
            for (name, value) in names.iter().zip(&values) {
                put(&mut webhook, &Location::Header(HeaderName::try_from(name).unwrap()), value);
            }
            let seconds = sample.now.seconds();
            let mut content = format!("{seconds}.{}.{}.", names.join(" "), values.join(".")).into_bytes();
            content.extend_from_slice(&webhook.body);
            let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.text().as_bytes()), &content);
            let text = format!("t={seconds},h={},v1={}", names.join(" "), hex::encode(code));
            put(&mut webhook, &Location::Header(HeaderName::from_static("x-hook0-signature")), &text);
            let verdict = |webhook: &UnverifiedWebhook| way.verify(webhook, &key, &key.keyring(&way), sample.now).is_ok();
            prop_assert!(verdict(&webhook));
            let name = &names[changed % names.len()];
            let mut other = webhook.clone();
            put(&mut other, &Location::Header(HeaderName::try_from(name).unwrap()), "other");
            prop_assert!(!verdict(&other) || webhook.headers[name] == "other");
            webhook.headers.remove(name);
            prop_assert!(!verdict(&webhook));
        }
    }
}
