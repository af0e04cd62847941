//! What to look at when a webhook is refused.

use shared::{
    location::Location,
    secrets::Keyring,
    signatures::{Alternative, Encoding, Examination, Looked, Refusal, Scheme, UnverifiedWebhook},
    time::Timestamp,
};

use crate::subject::Subject;

/// Parts of the names of headers that carry signatures.
const SIGNATURE_WORDS: [&str; 8] = ["signature", "sign", "hmac", "sig-", "-sig", "token", "authorization", "secret"];

/// Headers of the request that look like a signature, but for those that were looked at. Their names: values are nobody's business.
pub(crate) fn signature_like(webhook: &UnverifiedWebhook, looked: &[Looked]) -> Vec<String> {
    let names = webhook.headers.keys().map(|name| name.as_str());
    let alike = names.filter(|name| SIGNATURE_WORDS.iter().any(|word| name.contains(word)));
    let places = alike.map(|name| format!("header:{name}"));
    places.filter(|place| looked.iter().all(|looked| looked.at != *place)).collect()
}

/// A small change to the request with which the signature would hold: what is mostly done to webhooks on their way.
pub(crate) fn nearly_right(scheme: &Scheme, webhook: &UnverifiedWebhook, keyring: &Keyring, now: Timestamp) -> Option<String> {
    let holds = |changed: &UnverifiedWebhook| {
        // One that is too old is rightly signed all the same.
        matches!(scheme.verify(changed, keyring, None, now), Ok(_) | Err(Refusal::Stale { .. }))
    };
    let with_body = |body: Vec<u8>| UnverifiedWebhook { body, ..webhook.clone() };
    let bodies = changed_bodies(&webhook.body).into_iter().filter(|(_, body)| *body != webhook.body);
    let found = bodies.map(|(what, body)| (what, with_body(body))).find(|(_, changed)| holds(changed));
    if let Some((what, _)) = found {
        return Some(format!("the signature holds for the body {what}: it is not what was sent"));
    }
    if !scheme.signs_url() {
        return None;
    }
    let urls = changed_urls(&webhook.url).into_iter();
    let mut changed = urls.map(|(what, url)| (what, UnverifiedWebhook { url, ..webhook.clone() }));
    let (what, _) = changed.find(|(_, changed)| holds(changed))?;
    Some(format!("the signature holds for the URL {what}: that is what is registered with the provider"))
}

fn changed_bodies(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let crlf = String::from_utf8_lossy(body).replace("\r\n", "\n").replace('\n', "\r\n").into_bytes();
    let lf = String::from_utf8_lossy(body).replace("\r\n", "\n").into_bytes();
    let trimmed = body.trim_ascii_end().to_vec();
    let newline = [body, b"\n"].concat();
    let chomped = body.strip_suffix(b"\n").unwrap_or(body);
    let chomped = chomped.strip_suffix(b"\r").unwrap_or(chomped).to_vec();
    let mut bodies = vec![
        ("without the line break at its end", chomped),
        ("without the space at its end", trimmed),
        ("with a line break at its end", newline),
        ("with lines that end in LF", lf),
        ("with lines that end in CRLF", crlf),
    ];
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) {
        bodies.push(("written anew as JSON without spaces", json.to_string().into_bytes()));
    }
    bodies
}

/// URLs are not shown: a password may stand in one.
fn changed_urls(url: &str) -> Vec<(&'static str, String)> {
    let (slash, other_slash) = match url.strip_suffix('/') {
        Some(without) => ("without the slash at its end", without.to_owned()),
        None => ("with a slash at its end", format!("{url}/")),
    };
    let scheme = match url.split_once("://") {
        Some(("https", rest)) => ("with http instead of https", format!("http://{rest}")),
        Some((_, rest)) => ("with https", format!("https://{rest}")),
        None => ("with https:// before it", format!("https://{url}")),
    };
    vec![(slash, other_slash), scheme]
}

/// What to check, most likely first.
pub(crate) fn checks(subject: &Subject, examination: &Examination, refusal: Refusal) -> Vec<String> {
    let deciding = examination.alternative.and_then(|number| subject.source.scheme.alternatives.get(number.checked_sub(1)?));
    let alternative = deciding.or(subject.source.scheme.alternatives.first());
    match refusal {
        // There, but no signature in it.
        Refusal::MissingSignature if examination.looked.iter().any(|looked| looked.found) => {
            alternative.map(written).into_iter().collect()
        }
        Refusal::MissingSignature => texts(&[
            "is a secret set at the provider? without one, most do not sign",
            "is this the provider's scheme? `posthouse providers` has variants of some",
            "does a proxy on the way drop headers?",
        ]),
        Refusal::MalformedSignature => alternative.map(written).into_iter().collect(),
        Refusal::WrongSignature => wrong_signature(subject, alternative),
        Refusal::MissingPart => texts(&["does a proxy on the way drop or rename headers?", "is the request complete?"]),
        Refusal::Repeated(_) => texts(&["does a proxy on the way add headers or parameters a second time?"]),
        Refusal::BodyNotJson { .. } => {
            texts(&["is the body whole, and to the byte what was sent?", "is this the provider's scheme?"])
        }
        Refusal::Undecodable { .. } => texts(&[
            "is the body whole, and to the byte what was sent?",
            "was it decoded when it was captured? then remove its Content-Encoding",
        ]),
        Refusal::MissingTimestamp => texts(&["is the request complete? the provider sends its time with each one"]),
        Refusal::MalformedTimestamp => texts(&["is this the provider's scheme, and its unit of time?"]),
        Refusal::Stale { .. } => texts(&[
            "the signature is right: was this captured before? then give --now with the time of its capture",
            "is the clock of this machine right?",
        ]),
        Refusal::BadClaim(_) => texts(&[
            "was this captured before? then give --now with the time of its capture",
            "is the clock of this machine right?",
        ]),
        Refusal::FailedCheck => {
            let mut checks =
                texts(&["the signature is right, but it is not about this body or URL: is the body as it was sent?"]);
            checks.extend(url_check(subject));
            checks
        }
        Refusal::OtherReceiver => {
            let mut checks = texts(&["the provider signed it, but for somebody else: is it for this account, project or URL?"]);
            checks.extend(alternative.map(secret_form));
            checks
        }
        Refusal::UnusableKey => alternative.map(secret_form).into_iter().collect(),
        Refusal::UntrustedKey => texts(&[
            "the webhook names a key that its provider does not have, or at a place that is not its provider's, or brings \
             certificates that do not lead to the scheme's root: it may be forged",
            "was this captured before? then give --now with the time of its capture: a certificate may have expired since",
        ]),
    }
}

fn wrong_signature(subject: &Subject, alternative: Option<&Alternative>) -> Vec<String> {
    let mut checks = Vec::new();
    if alternative.is_some_and(|alternative| alternative.signed.is_some() || alternative.jwt.is_some()) {
        checks.push(
            "is the body to the byte what was sent? a proxy or a framework that parses JSON and writes it anew changes it"
                .to_owned(),
        );
    }
    checks.push("is it this endpoint's secret? test and live mode, and each endpoint, mostly have their own".to_owned());
    checks.extend(alternative.map(secret_form));
    checks.extend(url_check(subject));
    checks
}

fn url_check(subject: &Subject) -> Option<String> {
    let words = "the URL is signed: is `public_url` (or --url) to the letter what is registered with the provider?";
    subject.source.scheme.signs_url().then(|| words.to_owned())
}

/// How a signature is written.
fn written(alternative: &Alternative) -> String {
    let spec = &alternative.signature;
    let encoding = match spec.encoding {
        Some(Encoding::Hex) => "hexadecimal",
        Some(Encoding::Base64) => "Base64",
        Some(Encoding::Base64url) => "Base64 for URLs",
        Some(Encoding::Base64OfHex) => "Base64 of hexadecimal",
        None => "a token",
    };
    let prefix = if spec.prefix.is_empty() { String::new() } else { format!(" after `{}`", spec.prefix) };
    let list = spec.list.as_ref().map_or_else(String::new, |list| {
        let entry = list.assign.map_or_else(|| "…".to_owned(), |assign| format!("{}{assign}…", list.key));
        format!(", in a list of `{entry}` with `{}` between", list.separator)
    });
    format!("is this the provider's scheme? it writes its signature as {encoding}{prefix}{list}")
}

/// What has to be in the secret.
pub(crate) fn secret_form(alternative: &Alternative) -> String {
    use shared::signatures::Algorithm as A;
    let spec = &alternative.secret;
    let encoded = match spec.encoding {
        Some(Encoding::Hex) => Some("hexadecimal"),
        Some(Encoding::Base64 | Encoding::Base64url | Encoding::Base64OfHex) => Some("Base64"),
        None => None,
    };
    if let Some(binding) = alternative.checks.iter().find(|check| check.equals_secret()) {
        return format!("the signing key is public; the secret is what a webhook of yours has at `{}`", binding.at);
    }
    if let Some(place) = alternative.secret.chosen_by.as_ref().filter(|place| matches!(place, Location::Claim(_))) {
        let id = spec
            .id_separator
            .as_ref()
            .map_or_else(|| "the secret".to_owned(), |separator| format!("what stands before `{separator}` in the secret"));
        return format!("{id} is what a webhook of yours has at `{place}`");
    }
    if alternative.own_keys {
        return "the signing key is public, and its owner signs for you alone: the secret may be any text".to_owned();
    }
    if alternative.fetched_key.is_some() {
        return "the signing key is public, and fetched; the provider's notes say what the secret has instead".to_owned();
    }
    if alternative.algorithm.signature_algorithm().is_some() {
        let or = encoded.map_or_else(String::new, |encoded| format!(", or {encoded}"));
        return format!("the secret is the provider's public key: PEM{or}");
    }
    if alternative.algorithm == A::Basic {
        return "the secret is `USER:PASSWORD`, as it is".to_owned();
    }
    let name = match &spec.id_separator {
        Some(separator) => format!("the secret is `KEY_ID{separator}SECRET`"),
        None => "the secret is the text that the provider shows".to_owned(),
    };
    let prefix =
        if spec.strip_prefix.is_empty() { String::new() } else { format!("; `{}` before it may stay or go", spec.strip_prefix) };
    match encoded {
        Some(encoded) => format!("{name}, in {encoded}{prefix}"),
        None => format!("{name}, as it is{prefix}"),
    }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
