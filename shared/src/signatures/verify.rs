//! Proving a webhook by its scheme.
//!
//! The first alternative whose signature is there decides alone: a weaker one is never tried because a stronger one failed.
//! What is said of time and content is compared after the signature, so that a refusal for them is said only of what the
//! provider really signed.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD as BASE64},
};
use http::HeaderMap;
use ring::digest;
use serde_json::Value;

use super::{
    Refusal, UnverifiedWebhook,
    jwt::{self, JwtKey},
    key::{UsableKey, is_pem},
    mac::{Hash, MessageAuthenticator, same},
    public_key::{PublicKey, SignatureAlgorithm},
    scheme::{
        Alternative, Check, Condition, Encoding, Proof, SIGNATURES_MAX, Scheme, SignatureList, SignatureSpec, TimestampSpec,
    },
    template::{self, Template, TemplateValues, Variable},
    url,
};
use crate::{
    event::BodyDigest,
    fetched::{WantedKey, sns},
    location::{self, Location, Places},
    secrets::Keyring,
    time::Timestamp,
};

/// For signatures: canonical, so that no two texts are one signature.
const BASE64URL: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// What stands for the URL where none is signed.
const NO_URL: &[String] = &[String::new()];

/// A request whose sender is proven. Only [`Scheme::verify`] makes one.
#[derive(Debug)]
pub struct VerifiedWebhook<'a> {
    webhook: &'a UnverifiedWebhook,
    scheme: &'a Scheme,
    alternative: &'a Alternative,
    key_id: String,
}

impl<'a> VerifiedWebhook<'a> {
    /// Its headers.
    pub fn headers(&self) -> &'a HeaderMap {
        &self.webhook.headers
    }

    /// The request.
    pub fn webhook(&self) -> &'a UnverifiedWebhook {
        self.webhook
    }

    /// The exact bytes of the body.
    pub fn body(&self) -> &'a [u8] {
        &self.webhook.body
    }

    /// The id of the key that proved it.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The SHA-256 of what was signed: a captured request that is sent again has the same, whatever else of it was changed.
    /// `body` is the digest of the body, which it is where the body alone is signed, and where nothing is.
    ///
    /// It is that of the weakest alternative: a stronger signature can be left out of what was captured.
    pub fn content_digest(&self, body: &BodyDigest) -> BodyDigest {
        let places = Places::proven(self.webhook);
        let weakest = self.scheme.alternatives.last().filter(|weakest| weakest.signed.is_some()).unwrap_or(self.alternative);
        let Some(signed) = &weakest.signed else {
            // Without its signature, of which an ECDSA token has two that are good.
            let token = weakest.signature_text(&places).filter(|_| weakest.jwt.is_some());
            let content = token.as_deref().map(|token| token.rsplit_once('.').map_or(token, |(content, _)| content));
            return content.map_or(*body, |content| BodyDigest::of(content.as_bytes()));
        };
        if signed.is_body_alone() {
            return *body;
        }
        let reading = Reading::new(weakest, &places);
        // The last form is the same for all spellings of the URL that are signed alike.
        let (_, digest) = reading.content_digest(signed, reading.urls().last().map_or("", String::as_str));
        BodyDigest::from_bytes(&digest).unwrap_or(*body)
    }

    /// What was signed, a secret within it left out; empty for tokens.
    pub fn content(&self) -> Vec<u8> {
        let places = Places::proven(self.webhook);
        let reading = Reading::new(self.alternative, &places);
        let mut content = Vec::new();
        if let Some(signed) = &self.alternative.signed {
            // What proved itself has all its parts.
            let _ = reading.feed(signed, &reading.urls()[0], None, &mut |piece| content.extend_from_slice(piece));
        }
        content
    }
}

impl Scheme {
    /// The public key that has to be fetched before this webhook can be verified, if any. Nothing is fetched for a webhook that
    /// no key of `keyring` is for.
    pub fn wanted_key(
        &self,
        webhook: &UnverifiedWebhook,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<Option<WantedKey>, Refusal> {
        let places = Places::new(webhook);
        let Some((alternative, sent)) = self.alternative(&places) else { return Ok(None) };
        let Some(origin) = alternative.fetched_key else { return Ok(None) };
        let reading = Reading::of(alternative, &places, Some(sent));
        reading.read_timestamp()?;
        let mut usable = keyring.valid_at(now).filter_map(|key| alternative.secret.usable(&key.secret));
        if !usable.any(|key| reading.chooses(&key)) {
            return Err(Refusal::WrongSignature);
        }
        origin.wanted(webhook).map(Some)
    }

    /// Proves `webhook` with any key of `keyring` that is valid at `now`, newest first. `fetched` is the key that
    /// [`Scheme::wanted_key`] asked for.
    pub fn verify<'a>(
        &'a self,
        webhook: &'a UnverifiedWebhook,
        keyring: &Keyring,
        fetched: Option<&PublicKey>,
        now: Timestamp,
    ) -> Result<VerifiedWebhook<'a>, Refusal> {
        let (places, proven) = (Places::new(webhook), Places::proven(webhook));
        let (alternative, sent) = self.alternative(&places).ok_or(Refusal::MissingSignature)?;
        let mut reading = Reading::of(alternative, &places, Some(sent));
        reading.read_timestamp()?;
        let key_id = reading.proving_key(keyring, fetched, now)?;
        reading.places = &proven;
        reading.check_time(now)?;
        reading.check_rest(now)?;
        Ok(VerifiedWebhook { webhook, scheme: self, alternative, key_id })
    }

    /// The first alternative that the request uses, and the text where its signature stands.
    pub(super) fn alternative<'p>(&self, places: &Places<'p>) -> Option<(&Alternative, Cow<'p, str>)> {
        self.alternatives.iter().find_map(|alternative| Some((alternative, alternative.sent_by(places)?)))
    }
}

impl Condition {
    /// Whether it holds of a request.
    pub fn holds(&self, places: &Places<'_>) -> bool {
        places.find(&self.at).is_some_and(|value| self.is.as_ref().is_none_or(|wanted| value == wanted.as_str()))
    }
}

impl Alternative {
    /// The text where the signature stands, if the request uses this alternative.
    fn sent_by<'p>(&self, places: &Places<'p>) -> Option<Cow<'p, str>> {
        if self.when.as_ref().is_some_and(|when| !when.holds(places)) {
            return None;
        }
        self.signature_text(places).filter(|sent| match &self.signature.list {
            Some(list) if list.key != SignatureList::KEY_ID => list.values(sent, &list.key).next().is_some(),
            _ => true,
        })
    }

    /// The text where the signature stands, the first place that is there.
    pub(super) fn signature_text<'p>(&self, places: &Places<'p>) -> Option<Cow<'p, str>> {
        self.signature_texts(places).next()
    }

    fn signature_texts<'p>(&self, places: &Places<'p>) -> impl Iterator<Item = Cow<'p, str>> {
        self.signature.at.iter().filter_map(|place| places.find(place)).filter(|text| !text.is_empty())
    }
}

impl SignatureSpec {
    fn decode(&self, text: &str) -> Option<Vec<u8>> {
        let encoded = self.strip(text)?;
        let bytes = match self.encoding? {
            Encoding::Hex => {
                let mut bytes = vec![0; encoded.len() / 2];
                hex::decode_to_slice(encoded, &mut bytes).ok()?;
                bytes
            }
            Encoding::Base64 => BASE64.decode(encoded).ok()?,
            Encoding::Base64url => BASE64URL.decode(encoded).ok()?,
        };
        (!bytes.is_empty()).then_some(bytes)
    }

    /// The signature without what stands before it.
    pub(super) fn strip<'t>(&self, text: &'t str) -> Option<&'t str> {
        let text = match (text.strip_prefix(self.prefix.as_str()), self.prefix_optional) {
            (Some(rest), _) => rest,
            (None, true) => text,
            (None, false) => return None,
        };
        Some(self.after.as_deref().and_then(|after| text.split_once(after)).map_or(text, |(_, rest)| rest))
    }
}

impl SignatureList {
    /// The values of the entries with this key.
    pub(super) fn values<'s>(&self, sent: &'s str, key: &str) -> impl Iterator<Item = &'s str> {
        sent.split(self.separator).filter_map(move |entry| entry.trim_ascii().strip_prefix(key)?.strip_prefix(self.assign))
    }
}

impl TimestampSpec {
    /// Compares the timestamp with the clock.
    fn check(&self, text: &str, now: Timestamp) -> Result<(), Refusal> {
        let sent = self.format.read(text).ok_or(Refusal::MalformedTimestamp)?;
        let seconds_off = sent.seconds().abs_diff(now.seconds());
        match self.tolerance_seconds {
            Some(tolerance_seconds) if seconds_off > tolerance_seconds => Err(Refusal::Stale { seconds_off, tolerance_seconds }),
            _ => Ok(()),
        }
    }
}

/// One request read by one alternative.
pub(super) struct Reading<'r> {
    pub(super) alternative: &'r Alternative,
    places: &'r Places<'r>,
    pub(super) sent: Option<Cow<'r, str>>,
    pub(super) timestamp: Option<String>,
    claims: Option<Value>,
}

impl<'r> Reading<'r> {
    pub(super) fn new(alternative: &'r Alternative, places: &'r Places<'r>) -> Self {
        Self::of(alternative, places, alternative.signature_text(places))
    }

    /// With the text where its signature stands.
    pub(super) fn of(alternative: &'r Alternative, places: &'r Places<'r>, sent: Option<Cow<'r, str>>) -> Self {
        let mut reading = Self { alternative, places, sent, timestamp: None, claims: None };
        // One that is only compared, and not signed, is read after the signature.
        if reading.signs_timestamp() {
            reading.timestamp = reading.timestamp_text();
        }
        reading
    }

    /// The value at `place`, in the request, in its signature's list or in its token.
    pub(super) fn find(&self, place: &Location) -> Option<Cow<'_, str>> {
        match place {
            Location::Signature(key) => {
                let list = self.alternative.signature.list.as_ref()?;
                let mut values = list.values(self.sent.as_deref()?, key);
                // One that is there twice could mean either, and so means nothing.
                values.next().filter(|_| values.next().is_none()).map(Cow::Borrowed)
            }
            Location::Claim(pointer) => location::json(self.claims.as_ref()?, pointer).map(Cow::Owned),
            place => self.places.find(place),
        }
    }

    fn signs_timestamp(&self) -> bool {
        self.alternative.signed.as_ref().is_some_and(|signed| signed.uses(&Variable::Timestamp))
    }

    pub(super) fn timestamp_text(&self) -> Option<String> {
        let spec = self.alternative.timestamp.as_ref()?;
        spec.at.iter().find_map(|place| self.find(place)).filter(|text| !text.is_empty()).map(Cow::into_owned)
    }

    /// Refuses a signed timestamp that is missing or cannot be read, before anything is computed.
    fn read_timestamp(&self) -> Result<(), Refusal> {
        match (&self.alternative.timestamp, &self.timestamp) {
            (Some(spec), Some(text)) => spec.format.read(text).map(drop).ok_or(Refusal::MalformedTimestamp),
            (Some(spec), None) if self.signs_timestamp() && !spec.optional => Err(Refusal::MissingTimestamp),
            _ => Ok(()),
        }
    }

    fn proving_key(&mut self, keyring: &Keyring, fetched: Option<&PublicKey>, now: Timestamp) -> Result<String, Refusal> {
        let mut refusal = Refusal::UnusableKey;
        for key in keyring.valid_at(now) {
            let Some(usable) = self.alternative.secret.usable(&key.secret) else { continue };
            let proved = if self.chooses(&usable) { self.proves(&usable, fetched) } else { Ok(false) };
            match proved {
                Ok(true) => return Ok(key.id.clone()),
                Ok(false) if refusal == Refusal::UnusableKey => refusal = Refusal::WrongSignature,
                Ok(false) | Err(Refusal::UnusableKey) => {}
                Err(reason) => refusal = reason,
            }
        }
        Err(refusal)
    }

    /// Whether the request names this key, if it names one.
    fn chooses(&self, key: &UsableKey<'_>) -> bool {
        self.alternative.secret.chosen_by.as_ref().is_none_or(|place| self.find(place).is_some_and(|id| id == key.public_id))
    }

    fn proves(&mut self, key: &UsableKey<'_>, fetched: Option<&PublicKey>) -> Result<bool, Refusal> {
        match self.alternative.algorithm.proof() {
            Proof::Hash(hash) => self.proves_by_hash(hash, key),
            Proof::Public(algorithm) => self.proves_by_public_key(algorithm, key, fetched),
            Proof::Jwt => self.proves_by_token(key, fetched),
            Proof::Token => Ok(same_secret(self.text()?.as_bytes(), &key.bytes)),
            Proof::Basic => {
                let text = self.text()?;
                let encoded = text.split_once(' ').filter(|(word, _)| word.eq_ignore_ascii_case("basic"));
                let (_, encoded) = encoded.ok_or(Refusal::MalformedSignature)?;
                let sent = BASE64.decode(encoded.trim()).map_err(|_| Refusal::MalformedSignature)?;
                Ok(same_secret(&sent, &key.bytes))
            }
        }
    }

    fn text(&self) -> Result<&str, Refusal> {
        let sent = self.sent.as_deref().ok_or(Refusal::MissingSignature)?;
        self.alternative.signature.strip(sent).ok_or(Refusal::MalformedSignature)
    }

    /// The decoded signatures for a key of this public id: at most [`SIGNATURES_MAX`].
    pub(super) fn candidates(&self, public_id: &str) -> Result<Vec<Vec<u8>>, Refusal> {
        let spec = &self.alternative.signature;
        let mut seen = 0;
        let mut decoded = Vec::new();
        for text in self.texts() {
            let room = SIGNATURES_MAX - seen;
            // One that cannot be decoded is passed over: another may be the one that was made for us.
            let look = |value| {
                seen += 1;
                decoded.extend(spec.decode(value));
            };
            match &spec.list {
                Some(list) => {
                    let key = if list.key == SignatureList::KEY_ID { public_id } else { &list.key };
                    list.values(&text, key).take(room).for_each(look);
                }
                // Repeated headers come joined by commas, which no encoding has.
                None => text.split(',').map(str::trim_ascii).take(room).for_each(look),
            }
        }
        let by_key_id = spec.list.as_ref().is_some_and(|list| list.key == SignatureList::KEY_ID);
        match (seen, decoded.is_empty()) {
            (0, _) if by_key_id => Err(Refusal::WrongSignature),
            (0, _) => Err(Refusal::MissingSignature),
            (_, true) => Err(Refusal::MalformedSignature),
            (_, false) => Ok(decoded),
        }
    }

    /// The texts where signatures stand; the first, which is most often the only one, is not looked for again.
    fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let others = (self.alternative.signature.at.count() > 1).then(|| self.alternative.signature_texts(self.places).skip(1));
        self.sent.as_deref().map(Cow::Borrowed).into_iter().chain(others.into_iter().flatten())
    }

    fn proves_by_hash(&self, hash: Hash, key: &UsableKey<'_>) -> Result<bool, Refusal> {
        let Some(signed) = &self.alternative.signed else { return Ok(false) };
        let candidates = self.candidates(key.public_id)?;
        for url in self.urls().iter() {
            let mut mac = MessageAuthenticator::new(hash, &key.bytes);
            self.feed(signed, url, Some(key), &mut |piece| mac.update(piece))?;
            let code = mac.finish();
            if candidates.iter().any(|candidate| same(candidate, &code)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn proves_by_public_key(
        &self,
        algorithm: SignatureAlgorithm,
        key: &UsableKey<'_>,
        fetched: Option<&PublicKey>,
    ) -> Result<bool, Refusal> {
        let Some(signed) = &self.alternative.signed else { return Ok(false) };
        let candidates = self.candidates(key.public_id)?;
        let public_key = match fetched {
            Some(fetched) => fetched.clone(),
            None => PublicKey::parse(algorithm, key.text, Some(&key.bytes)).ok_or(Refusal::UnusableKey)?,
        };
        for url in self.urls().iter() {
            let mut message = Vec::new();
            self.feed(signed, url, Some(key), &mut |piece| message.extend_from_slice(piece))?;
            if candidates.iter().any(|candidate| public_key.verify(algorithm, &message, candidate)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn proves_by_token(&mut self, key: &UsableKey<'_>, fetched: Option<&PublicKey>) -> Result<bool, Refusal> {
        let Some(spec) = &self.alternative.jwt else { return Ok(false) };
        let token = self.text()?;
        let header = jwt::unverified_header(token).ok_or(Refusal::MalformedSignature)?;
        // The kind of key settles the kind of algorithm: a public key is never taken for a shared secret.
        let parsed;
        let public_key = match fetched {
            Some(fetched) => Some(fetched),
            None if is_pem(key.text) => {
                let algorithm =
                    header.algorithm.and_then(jwt::JwtAlgorithm::signature_algorithm).ok_or(Refusal::WrongSignature)?;
                parsed = PublicKey::parse(algorithm, key.text, None).ok_or(Refusal::UnusableKey)?;
                Some(&parsed)
            }
            None => None,
        };
        let jwt_key = public_key.map_or(JwtKey::Secret(&key.bytes), JwtKey::Public);
        self.claims = jwt::verify(token, &spec.algorithms, jwt_key);
        Ok(self.claims.is_some())
    }

    fn check_time(&mut self, now: Timestamp) -> Result<(), Refusal> {
        // Those in a token or in the body can be read now; one that is signed has been read.
        self.timestamp = self.timestamp.take().or_else(|| self.timestamp_text());
        match (&self.alternative.timestamp, &self.timestamp) {
            (Some(spec), Some(text)) => spec.check(text, now),
            (Some(spec), None) if !spec.optional => Err(Refusal::MissingTimestamp),
            _ => Ok(()),
        }
    }

    fn check_rest(&self, now: Timestamp) -> Result<(), Refusal> {
        if let (Some(spec), Some(claims)) = (&self.alternative.jwt, &self.claims) {
            jwt::check_times(claims, &spec.required, spec.leeway_seconds, now)?;
        }
        let failed = self.failed_check();
        if failed.is_some() { Err(Refusal::FailedCheck) } else { Ok(()) }
    }

    /// The first check that does not hold.
    pub(super) fn failed_check(&self) -> Option<&'r Check> {
        self.alternative.checks.iter().find(|check| {
            let Some(found) = self.find(&check.at) else {
                return !(check.absent_if_body_empty && self.places.webhook().body.is_empty());
            };
            !self.urls().iter().any(|url| {
                let mut wanted = Vec::new();
                let fed = self.feed(&check.equals, url, None, &mut |piece| wanted.extend_from_slice(piece));
                fed.is_ok() && same(found.as_bytes(), &wanted)
            })
        })
    }

    /// The URLs that may have been signed; one is enough where none is.
    pub(super) fn urls(&self) -> Cow<'static, [String]> {
        if self.alternative.uses(&Variable::Url) {
            Cow::Owned(url::forms(self.alternative.url, self.places.webhook()))
        } else {
            Cow::Borrowed(NO_URL)
        }
    }

    fn feed(
        &self,
        template: &Template,
        url: &str,
        key: Option<&UsableKey<'_>>,
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(), Refusal> {
        template.feed(&Values { reading: self, url, key }, sink).map_err(|_| Refusal::MissingPart)
    }

    /// Length and SHA-256 of the signed content, a secret within left out: the hash over it would be the signature.
    pub(super) fn content_digest(&self, signed: &Template, url: &str) -> (u64, Vec<u8>) {
        let mut bytes = 0;
        let mut context = digest::Context::new(&digest::SHA256);
        // What is absent ends the content there: two requests that lack the same part are still told apart by the rest.
        let _ = signed.feed(&Values { reading: self, url, key: None }, &mut |piece: &[u8]| {
            bytes += piece.len() as u64;
            context.update(piece);
        });
        (bytes, context.finish().as_ref().to_vec())
    }

    /// The first variable of the signed content that is absent.
    pub(super) fn missing_part(&self, url: &str) -> Option<&'r Variable> {
        let signed = self.alternative.signed.as_ref()?;
        signed.feed(&Values { reading: self, url, key: None }, &mut |_| ()).err()
    }
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// Equal in a time that tells nothing of the secret, its length included.
fn same_secret(sent: &[u8], secret: &[u8]) -> bool {
    let digest = |bytes| digest::digest(&digest::SHA256, bytes);
    same(digest(sent).as_ref(), digest(secret).as_ref())
}

/// The values of one reading, for one URL and one key.
pub(super) struct Values<'v> {
    pub(super) reading: &'v Reading<'v>,
    pub(super) url: &'v str,
    pub(super) key: Option<&'v UsableKey<'v>>,
}

impl TemplateValues for Values<'_> {
    fn value(&self, variable: &Variable) -> Option<Cow<'_, [u8]>> {
        let webhook = self.reading.places.webhook();
        match variable {
            Variable::Body => Some(Cow::Borrowed(&webhook.body)),
            // A timestamp that may be absent stands for nothing then.
            Variable::Timestamp => self.reading.timestamp.as_deref().map(|text| Cow::Borrowed(text.as_bytes())),
            Variable::Id => self.reading.find(self.reading.alternative.id.as_ref()?).map(into_bytes),
            Variable::Method => Some(Cow::Borrowed(webhook.method.as_str().as_bytes())),
            Variable::Url => Some(Cow::Borrowed(self.url.as_bytes())),
            Variable::Path => Some(Cow::Borrowed(webhook.path().as_bytes())),
            Variable::Query => Some(Cow::Borrowed(webhook.raw_query.as_bytes())),
            Variable::Secret => Some(Cow::Borrowed(self.key.map_or(b"", |key| key.text.as_bytes()))),
            Variable::KeyId => Some(Cow::Borrowed(self.key.map_or(b"", |key| key.public_id.as_bytes()))),
            Variable::FormSorted => template::form_sorted(&webhook.body).map(Cow::Owned),
            Variable::QuerySorted => template::query_sorted(webhook.raw_query.as_bytes()).map(Cow::Owned),
            Variable::AwsSns => Some(Cow::Owned(sns::sns_signed_content(self.reading.places.json()?)?.into_bytes())),
            Variable::At(place) => self.reading.find(place).map(into_bytes),
        }
    }

    fn headers(&self) -> &HeaderMap {
        &self.reading.places.webhook().headers
    }

    fn key(&self) -> &[u8] {
        self.key.map_or(b"", |key| &key.bytes)
    }
}
