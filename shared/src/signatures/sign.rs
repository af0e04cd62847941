//! Signing a sample as its provider would: for `posthouse send`, and for tests.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};
use http::HeaderValue;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    UnverifiedWebhook,
    jwt::{self, JwtAlgorithm},
    key::UsableKey,
    mac::MessageAuthenticator,
    scheme::{Alternative, Check, Encoding, JwtSpec, Proof, Scheme, TimestampSpec},
    template::{Template, Variable},
    verify::{Reading, Values},
};
use crate::{
    location::{Location, Places},
    secrets::Keyring,
    time::Timestamp,
};

/// How long a token is valid that is made for a sample.
const TOKEN_SECONDS: u64 = 300;

/// Why a sample cannot be signed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Only the provider has the private key.
    #[error("this provider signs with a private key that only it has: a sample cannot be signed")]
    Asymmetric,
    /// No key of the keyring can be decoded as the scheme says.
    #[error("no valid key of the keyring is written as the scheme says")]
    UnusableKey,
    /// Something that is signed is not there and cannot be made up.
    #[error("the signature covers `{0}`, which the sample does not have")]
    Missing(String),
    /// The value cannot be put there.
    #[error("a value cannot be put at `{0}` of this sample")]
    NoPlace(String),
    /// No alternative of the scheme is for such a request.
    #[error("no alternative of the scheme is for a request like this sample")]
    NoAlternative,
}

impl Scheme {
    /// Signs `webhook` with the newest key that is valid at `now`, by the first alternative that is for such a request.
    /// Timestamps and ids that are missing are put in.
    pub fn sign(&self, webhook: &mut UnverifiedWebhook, keyring: &Keyring, now: Timestamp) -> Result<(), SignError> {
        let alternative = {
            let places = Places::new(webhook);
            let fits = |alternative: &&Alternative| alternative.when.as_ref().is_none_or(|when| when.holds(&places));
            self.alternatives.iter().find(fits).ok_or(SignError::NoAlternative)?
        };
        alternative.sign(webhook, keyring, now)
    }
}

impl Alternative {
    fn sign(&self, webhook: &mut UnverifiedWebhook, keyring: &Keyring, now: Timestamp) -> Result<(), SignError> {
        if !self.is_symmetric() {
            return Err(SignError::Asymmetric);
        }
        let key = keyring.valid_at(now).find_map(|key| self.secret.usable(&key.secret)).ok_or(SignError::UnusableKey)?;
        if let Some(place) = self.secret.chosen_by.as_ref().filter(|place| !matches!(place, Location::Claim(_))) {
            put(webhook, place, key.public_id)?;
        }
        self.fill(webhook, now)?;
        let list = self.list_entries(now);
        let text = match self.algorithm.proof() {
            Proof::Token => key.text.to_owned(),
            Proof::Basic => format!("Basic {}", BASE64.encode(&key.bytes)),
            Proof::Jwt => self.jwt.as_ref().and_then(|spec| self.token(spec, webhook, &key, now)).ok_or(SignError::Asymmetric)?,
            Proof::Public(_) => return Err(SignError::Asymmetric),
            Proof::JwsDetached => {
                self.fill_checks(webhook, &list)?;
                let (spec, signed) = self.jwt.as_ref().zip(self.signed.as_ref()).ok_or(SignError::Asymmetric)?;
                let places = Places::new(webhook);
                let reading = self.reading(&places, &list);
                let values = Values { reading: &reading, url: &reading.urls()[0].url, key: Some(&key) };
                let content = signed.render(&values).map_err(|missing| SignError::Missing(missing.to_string()))?;
                jwt::sign_detached(spec.signing_algorithm(), &content, &key.bytes).ok_or(SignError::Asymmetric)?
            }
            Proof::Hash(hash) => {
                self.fill_checks(webhook, &list)?;
                let signed = self.signed.as_ref().ok_or(SignError::Asymmetric)?;
                let places = Places::new(webhook);
                let reading = self.reading(&places, &list);
                let url = &reading.urls()[0].url;
                let mut mac = MessageAuthenticator::new(hash, &key.bytes);
                let values = Values { reading: &reading, url, key: Some(&key) };
                signed
                    .feed(&values, &mut |piece| mac.update(piece))
                    .map_err(|missing| SignError::Missing(missing.to_string()))?;
                self.encode(mac.finish().as_ref())
            }
        };
        let text = format!("{}{text}", self.signature.prefix);
        let text = match &self.signature.list {
            None => text,
            Some(spec) => {
                let name = if spec.is_by_key_id() { key.public_id } else { &spec.key };
                let entry = spec.assign.map_or(text.clone(), |assign| format!("{name}{assign}{text}"));
                if list.is_empty() { entry } else { format!("{list}{}{entry}", spec.separator) }
            }
        };
        let place = self.signature.at.iter().next().ok_or(SignError::NoAlternative)?;
        put(webhook, place, &text)
    }

    /// Puts what is compared after the signature where it is looked for.
    fn fill_checks(&self, webhook: &mut UnverifiedWebhook, list: &str) -> Result<(), SignError> {
        for (place, equals) in self.checks.iter().filter_map(Check::first) {
            let value = self.render(equals, webhook, list)?;
            put(webhook, place, &value)?;
        }
        Ok(())
    }

    /// Puts the timestamp and made-up ids where the signature needs them and the sample has none.
    fn fill(&self, webhook: &mut UnverifiedWebhook, now: Timestamp) -> Result<(), SignError> {
        if let Some(TimestampSpec { at, format, .. }) = &self.timestamp
            && let Some(place) = at.iter().find(|place| !matches!(place, Location::Signature(_) | Location::Claim(_)))
        {
            put(webhook, place, &format.write(now))?;
        }
        let needed = self.signed.iter().flat_map(Template::required).filter_map(|variable| match variable {
            Variable::At(place) => Some(place),
            Variable::Id => self.id.as_ref(),
            _ => None,
        });
        for place in needed.filter(|place| !matches!(place, Location::Signature(_))) {
            if Places::new(webhook).find(place).is_none() {
                put(webhook, place, &format!("sample-{}", now.millis()))?;
            }
        }
        Ok(())
    }

    /// What stands in the signature's list beside the signature.
    fn list_entries(&self, now: Timestamp) -> String {
        let Some(list) = &self.signature.list else { return String::new() };
        let mut entries = Vec::new();
        if let Some(spec) = &self.timestamp
            && let Some(Location::Signature(key)) = spec.at.iter().next()
        {
            let time = spec.format.write(now);
            entries.push(list.assign.map_or(time.clone(), |assign| format!("{key}{assign}{time}")));
        }
        let mut others: Vec<&String> = self
            .signed
            .iter()
            .flat_map(Template::variables)
            .filter_map(|variable| match variable {
                Variable::At(Location::Signature(key)) => Some(key),
                _ => None,
            })
            .collect();
        others.dedup();
        // A list of signed headers may name none.
        entries.extend(others.into_iter().map(|key| list.assign.map_or_else(String::new, |assign| format!("{key}{assign}"))));
        entries.join(&list.separator.to_string())
    }

    fn reading<'r>(&'r self, places: &'r Places<'r>, list: &'r str) -> Reading<'r> {
        let mut reading = Reading::new(self, places);
        reading.sent = Some(list.into());
        reading.timestamp = reading.timestamp_text();
        reading
    }

    fn render(&self, template: &Template, webhook: &UnverifiedWebhook, list: &str) -> Result<String, SignError> {
        let places = Places::new(webhook);
        let reading = self.reading(&places, list);
        let url = &reading.urls()[0].url;
        let values = Values { reading: &reading, url, key: None };
        let bytes = template.render(&values).map_err(|missing| SignError::Missing(missing.to_string()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn encode(&self, bytes: &[u8]) -> String {
        match self.signature.encoding {
            Some(Encoding::Base64) => BASE64.encode(bytes),
            Some(Encoding::Base64url) => BASE64URL.encode(bytes),
            Some(Encoding::Base64OfHex) => BASE64.encode(hex::encode(bytes)),
            Some(Encoding::Hex) | None => hex::encode(bytes),
        }
    }

    fn token(&self, spec: &JwtSpec, webhook: &UnverifiedWebhook, key: &UsableKey<'_>, now: Timestamp) -> Option<String> {
        // A body that becomes the token is what the token says.
        let is_body = self.signature.at.iter().next() == Some(&Location::Body);
        let body = Some(&webhook.body).filter(|_| is_body).and_then(|body| serde_json::from_slice::<Value>(body).ok());
        let mut claims = body.filter(Value::is_object).unwrap_or_else(|| json!({}));
        for (name, seconds) in [("iat", now.seconds()), ("nbf", now.seconds()), ("exp", now.seconds() + TOKEN_SECONDS)] {
            claims[name] = seconds.into();
        }
        if let Some(Location::Claim(pointer)) = &self.secret.chosen_by {
            set(&mut claims, pointer, key.public_id.into())?;
        }
        for check in &self.checks {
            if let Some((Location::Claim(pointer), equals)) = check.first()
                && !(check.absent_if_body_empty && webhook.body.is_empty())
            {
                set(&mut claims, pointer, self.render(equals, webhook, "").ok()?.into())?;
            }
        }
        jwt::sign(spec.signing_algorithm(), &claims, &key.bytes)
    }
}

impl Check {
    /// The place and the value that a sample has.
    fn first(&self) -> Option<(&Location, &Template)> {
        self.at.iter().next().zip(self.equals.first())
    }
}

impl JwtSpec {
    /// What a sample is signed with.
    fn signing_algorithm(&self) -> JwtAlgorithm {
        self.algorithms.iter().copied().find(|algorithm| algorithm.is_symmetric()).unwrap_or(JwtAlgorithm::HS256)
    }
}

/// Puts a value at a place, in place of what was there.
fn put(webhook: &mut UnverifiedWebhook, place: &Location, value: &str) -> Result<(), SignError> {
    let no_place = || SignError::NoPlace(place.to_string());
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    match place {
        Location::Header(name) => {
            webhook.headers.insert(name.clone(), HeaderValue::from_str(value).map_err(|_| no_place())?);
        }
        Location::Query(name) => {
            let others = without(webhook.raw_query.as_bytes(), name);
            webhook.raw_query = appended(others, &format!("{}={}", encoded(name), encoded(value)));
        }
        Location::Form(name) => {
            let others = without(&webhook.body, name);
            webhook.body = appended(others, &format!("{}={}", encoded(name), encoded(value))).into_bytes();
        }
        Location::Json(pointer) => {
            let mut body: Value = serde_json::from_slice(&webhook.body).map_err(|_| no_place())?;
            // A number where a number was, or where none can be told from a text.
            let value = value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from);
            set(&mut body, pointer, value).ok_or_else(no_place)?;
            webhook.body = body.to_string().into_bytes();
        }
        Location::Body => webhook.body = value.as_bytes().to_vec(),
        Location::Signature(_) | Location::Claim(_) | Location::Raw(_) | Location::Multipart(_) | Location::Within(..) => {
            return Err(no_place());
        }
    }
    Ok(())
}

/// The pairs of a form or query but those of this name, as they are written.
fn without(form: &[u8], name: &str) -> String {
    let text = String::from_utf8_lossy(form).into_owned();
    let others = text.split('&').filter(|pair| !pair.is_empty());
    let others: Vec<&str> =
        others.filter(|pair| form_urlencoded::parse(pair.as_bytes()).next().is_none_or(|(found, _)| found != name)).collect();
    others.join("&")
}

fn appended(mut form: String, pair: &str) -> String {
    if !form.is_empty() {
        form.push('&');
    }
    form + pair
}

/// Sets the value at a JSON pointer, objects on the way made where they are missing; `*` is every element.
fn set(target: &mut Value, pointer: &str, value: Value) -> Option<()> {
    let Some(rest) = pointer.strip_prefix('/') else {
        *target = value;
        return Some(());
    };
    let (key, after) = rest.find('/').map_or((rest, ""), |end| rest.split_at(end));
    match target {
        Value::Array(elements) if key == "*" => elements.iter_mut().try_for_each(|element| set(element, after, value.clone())),
        Value::Array(elements) => set(elements.get_mut(key.parse::<usize>().ok()?)?, after, value),
        Value::Object(members) => {
            let key = key.replace("~1", "/").replace("~0", "~");
            let missing = || if after.starts_with("/*") { json!([{}]) } else { json!({}) };
            set(members.entry(key).or_insert_with(missing), after, value)
        }
        _ => None,
    }
}
