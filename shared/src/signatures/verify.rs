//! Proving a webhook by its scheme.
//!
//! The first alternative whose signature is there decides alone: a weaker one is never tried because a stronger one failed.
//! What is said of time and content is compared after the signature, so that a refusal for them is said only of what the
//! provider really signed.

use std::{borrow::Cow, cell::RefCell};

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD as BASE64},
};
use http::HeaderMap;
use ring::digest;

use super::{
    Refusal, UnverifiedWebhook,
    jwt::{self, Claims, JwtKey},
    key::{UsableKey, is_pem},
    mac::{Hash, MessageAuthenticator, same},
    public_key::{PublicKey, SignatureAlgorithm},
    scheme::{
        Alternative, Check, Condition, Encoding, Proof as Kind, SIGNATURES_MAX, Scheme, SignatureList, SignatureSpec,
        TimestampSpec,
    },
    template::{self, Template, TemplateValues, Variable},
    url::{self, Candidate},
};
use crate::{
    event::BodyDigest,
    fetched::{KeyDocument, NamedKey, WantedKey, sns},
    location::{self, Location, Locations, Places, Sought},
    secrets::Keyring,
    time::Timestamp,
};

/// For signatures: canonical, so that no two texts are one signature.
const BASE64URL: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// What stands for the URL where none is signed.
const NO_URL: &[Candidate] = &[Candidate { url: String::new(), differs: String::new() }];

/// A request whose sender is proven. Only [`Scheme::verify`] makes one, and [`Scheme::suppose`] for a sample that is sent nowhere.
#[derive(Debug)]
pub struct VerifiedWebhook<'a> {
    places: Places<'a>,
    scheme: &'a Scheme,
    alternative: &'a Alternative,
    proof: Proof<'a>,
}

/// What proved a request.
struct Proof<'a> {
    key_id: String,
    claims: Option<Claims>,
    signed_url: String,
    /// The text with the signature that did.
    sent: Cow<'a, str>,
}

impl std::fmt::Debug for Proof<'_> {
    /// Without the signature.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Proof({:?}, {:?})", self.key_id, self.claims)
    }
}

impl<'a> VerifiedWebhook<'a> {
    /// Its headers.
    pub fn headers(&self) -> &'a HeaderMap {
        &self.webhook().headers
    }

    /// The request.
    pub fn webhook(&self) -> &'a UnverifiedWebhook {
        self.places.webhook()
    }

    /// Where values stand in it.
    pub const fn places(&self) -> &Places<'a> {
        &self.places
    }

    /// What stands at a place, in the request or among the claims of its token.
    pub fn look(&self, place: &Location) -> Sought<'_> {
        match place {
            Location::Claim(pointer) => self.proof.claims.as_ref().map_or(Sought::Absent, |claims| claims.look(pointer)),
            Location::Within(..) => location::look_through(place, &|place| self.look(place)),
            place => self.places.look(place),
        }
    }

    /// The exact bytes of the body.
    pub fn body(&self) -> &'a [u8] {
        &self.webhook().body
    }

    /// How the URL that was signed differs from the one that was called, in words; empty if it does not.
    pub fn signed_url(&self) -> &str {
        &self.proof.signed_url
    }

    /// The id of the key that proved it.
    pub fn key_id(&self) -> &str {
        &self.proof.key_id
    }

    /// The SHA-256 of what was signed: a captured request that is sent again has the same, whatever else of it was changed.
    /// `body` is the digest of the body, which it is where the body alone is signed, and where nothing is.
    ///
    /// A token that says nothing of its body may come with many of them: of these the body alone counts.
    ///
    /// It is that of the weakest alternative: a stronger signature can be left out of what was captured.
    pub fn content_digest(&self, body: &BodyDigest) -> BodyDigest {
        let weakest = self.scheme.alternatives.last().filter(|weakest| weakest.signed.is_some()).unwrap_or(self.alternative);
        let Some(signed) = &weakest.signed else {
            // Without its signature, of which an ECDSA token has two that are good.
            let token = weakest.signature_text(&self.places).filter(|_| weakest.is_content_token());
            let content = token.as_deref().map(|token| token.rsplit_once('.').map_or(token, |(content, _)| content));
            return content.map_or(*body, |content| BodyDigest::of(content.as_bytes()));
        };
        if signed.is_body_alone() {
            return *body;
        }
        let reading = self.reading(weakest);
        let url = if weakest.uses(&Variable::Url) { url::canonical(weakest.url, self.webhook()) } else { String::new() };
        let (_, digest) = reading.content_digest(signed, &url);
        BodyDigest::from_bytes(&digest).unwrap_or(*body)
    }

    /// The request as an alternative reads it: by the text that proved it, if it is that one.
    fn reading<'r>(&'r self, alternative: &'r Alternative) -> Reading<'r> {
        match std::ptr::eq(alternative, self.alternative) {
            true => Reading::of(alternative, &self.places, Some(Cow::Borrowed(&self.proof.sent))),
            false => Reading::new(alternative, &self.places),
        }
    }

    /// What was signed, a secret within it left out; empty for tokens.
    pub fn content(&self) -> Vec<u8> {
        let reading = self.reading(self.alternative);
        let mut content = Vec::new();
        if let Some(signed) = &self.alternative.signed {
            // What proved itself has all its parts.
            let _ = reading.feed(signed, &reading.urls()[0].url, None, &mut |piece| content.extend_from_slice(piece));
        }
        content
    }
}

impl Scheme {
    /// The public key that has to be fetched before this webhook can be verified, if any. Nothing is fetched for a webhook that
    /// no key of `keyring` is for.
    pub fn wanted_key(&self, places: &Places<'_>, keyring: &Keyring, now: Timestamp) -> Result<Option<WantedKey>, Refusal> {
        let Some((alternative, sent)) = self.alternative(places) else { return Ok(None) };
        let Some(origin) = &alternative.fetched_key else { return Ok(None) };
        let reading = Reading::of(alternative, places, Some(sent));
        reading.read_timestamp()?;
        let mut usable = keyring.valid_at(now).filter_map(|key| alternative.secret.usable(&key.secret));
        if !usable.any(|key| reading.may_choose(&key)) {
            return Err(Refusal::WrongSignature);
        }
        origin.wanted(places, |document| reading.named_key(document)).map(Some)
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
        self.verify_at(Places::new(webhook), keyring, fetched, now)
    }

    /// As [`Scheme::verify`], where the places of the request are known already.
    pub fn verify_at<'a>(
        &'a self,
        places: Places<'a>,
        keyring: &Keyring,
        fetched: Option<&PublicKey>,
        now: Timestamp,
    ) -> Result<VerifiedWebhook<'a>, Refusal> {
        let (alternative, sent) = self.alternative(&places).ok_or_else(|| self.no_signature(&places))?;
        let proof = alternative.prove(&places, sent, keyring, fetched, now)?;
        Ok(VerifiedWebhook { places, scheme: self, alternative, proof })
    }

    /// A request as if it had proven itself, for telling what would become of a sample; claims are taken from its token as they stand there.
    /// `None` if the scheme has no way of signing. `clippy.toml` forbids it to functions.
    pub fn suppose<'a>(&'a self, places: Places<'a>) -> Option<VerifiedWebhook<'a>> {
        let (alternative, sent) = match self.alternative(&places) {
            Some(found) => found,
            None => (self.alternatives.first()?, Cow::Borrowed("")),
        };
        let claims = alternative.signature.strip(&sent).and_then(jwt::suppose);
        let proof = Proof { key_id: String::new(), claims, signed_url: String::new(), sent };
        Some(VerifiedWebhook { places, scheme: self, alternative, proof })
    }

    /// Why a request has no signature of any alternative.
    fn no_signature(&self, places: &Places<'_>) -> Refusal {
        let looked = self.alternatives.iter().flat_map(|alternative| alternative.signature.at.iter());
        looked
            .map(|place| places.look(place))
            .find_map(|sought| Refusal::unread(&sought, "signature"))
            .unwrap_or(Refusal::MissingSignature)
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
            Some(list) if !list.is_by_key_id() => list.signatures(sent, "").next().is_some(),
            _ => true,
        })
    }

    /// Proves the request by the signature that was sent first, or, of several lists, by any of them: each has a timestamp of its own,
    /// and while a sender rotates its secret there is one for each.
    fn prove<'p>(
        &self,
        places: &Places<'p>,
        first: Cow<'p, str>,
        keyring: &Keyring,
        fetched: Option<&PublicKey>,
        now: Timestamp,
    ) -> Result<Proof<'p>, Refusal> {
        let first_refusal = match self.prove_by(places, first, keyring, fetched, now) {
            Err(refusal) if self.signature.list.is_some() => refusal,
            settled => return settled,
        };
        let others = self.signature_texts(places).skip(1).take(SIGNATURES_MAX - 1);
        let mut proofs = others.map(|sent| self.prove_by(places, sent, keyring, fetched, now));
        proofs.find_map(Result::ok).ok_or(first_refusal)
    }

    fn prove_by<'p>(
        &self,
        places: &Places<'p>,
        sent: Cow<'p, str>,
        keyring: &Keyring,
        fetched: Option<&PublicKey>,
        now: Timestamp,
    ) -> Result<Proof<'p>, Refusal> {
        let mut reading = Reading::of(self, places, Some(Cow::Borrowed(&sent)));
        reading.read_timestamp()?;
        let key_id = reading.proving_key(keyring, fetched, now)?;
        reading.check_time(now)?;
        reading.check_rest(now)?;
        let (claims, signed_url) = (reading.claims, reading.signed_url.into_inner());
        Ok(Proof { key_id, claims, signed_url, sent })
    }

    /// The text where the signature stands, the first place that is there.
    pub(super) fn signature_text<'p>(&self, places: &Places<'p>) -> Option<Cow<'p, str>> {
        self.signature_texts(places).next()
    }

    fn signature_texts<'p>(&self, places: &Places<'p>) -> impl Iterator<Item = Cow<'p, str>> {
        let found = self.signature.at.iter().filter_map(|place| {
            // A body that is no token is a body without a signature.
            places.find(place).filter(|text| *place != Location::Body || jwt::is_compact(text))
        });
        let texts = found.filter(|text| !text.is_empty());
        texts.flat_map(|text| {
            // Almost always it is one, and nothing is copied.
            let (one, several) = match &self.signature.list {
                Some(list) if !list.is_one(&text) => {
                    (None, list.lists(&text).map(|list| Cow::Owned(list.to_owned())).collect::<Vec<_>>())
                }
                _ => (Some(text), Vec::new()),
            };
            one.into_iter().chain(several)
        })
    }
}

impl SignatureSpec {
    /// The bytes of a signature, into `bytes`; `false` if it cannot be decoded.
    fn decode(&self, text: &str, bytes: &mut Vec<u8>) -> bool {
        bytes.clear();
        let Some((encoded, encoding)) = self.strip(text).zip(self.encoding) else { return false };
        let decoded = match encoding {
            Encoding::Hex => {
                bytes.resize(encoded.len() / 2, 0);
                hex::decode_to_slice(encoded, bytes).is_ok()
            }
            Encoding::Base64 => BASE64.decode_vec(encoded, bytes).is_ok(),
            Encoding::Base64url => BASE64URL.decode_vec(encoded, bytes).is_ok(),
            Encoding::Base64OfHex => match BASE64.decode(encoded).map(hex::decode) {
                Ok(Ok(decoded)) => {
                    *bytes = decoded;
                    true
                }
                _ => false,
            },
        };
        decoded && !bytes.is_empty()
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

impl TimestampSpec {
    /// Compares the timestamp with the clock.
    fn check(&self, text: &str, now: Timestamp) -> Result<(), Refusal> {
        let sent = self.format.read(text).ok_or(Refusal::MalformedTimestamp)?;
        let seconds_off = sent.seconds().abs_diff(now.seconds());
        let Some((old, ahead)) = self.bounds() else { return Ok(()) };
        let tolerance_seconds = if sent.seconds() > now.seconds() { ahead } else { old };
        if seconds_off > tolerance_seconds { Err(Refusal::Stale { seconds_off, tolerance_seconds }) } else { Ok(()) }
    }
}

/// One request read by one alternative.
pub(super) struct Reading<'r> {
    pub(super) alternative: &'r Alternative,
    places: &'r Places<'r>,
    pub(super) sent: Option<Cow<'r, str>>,
    pub(super) timestamp: Option<String>,
    claims: Option<Claims>,
    /// How the URL that was signed differs from the one that was called.
    signed_url: RefCell<String>,
}

impl<'r> Reading<'r> {
    pub(super) fn new(alternative: &'r Alternative, places: &'r Places<'r>) -> Self {
        Self::of(alternative, places, alternative.signature_text(places))
    }

    /// With the text where its signature stands.
    pub(super) fn of(alternative: &'r Alternative, places: &'r Places<'r>, sent: Option<Cow<'r, str>>) -> Self {
        let mut reading = Self { alternative, places, sent, timestamp: None, claims: None, signed_url: RefCell::default() };
        // One that is only compared, and not signed, is read after the signature.
        if reading.signs_timestamp() {
            reading.timestamp = reading.timestamp_text();
        }
        reading
    }

    /// The value at `place`, in the request, in its signature's list or in its token.
    pub(super) fn find(&self, place: &Location) -> Option<Cow<'_, str>> {
        self.look(place).text()
    }

    /// What stands at `place`. An entry of the list that is there twice could mean either, and so means nothing.
    pub(super) fn look(&self, place: &Location) -> Sought<'_> {
        match place {
            Location::Signature(key) => {
                let list = self.alternative.signature.list.as_ref().zip(self.sent.as_deref());
                let mut values = list.into_iter().flat_map(|(list, sent)| list.values(sent, key));
                match (values.next(), values.next()) {
                    (None, _) => Sought::Absent,
                    (Some(value), None) => Sought::Text { text: Cow::Borrowed(value), is_exact: true },
                    (Some(_), Some(_)) => Sought::Several,
                }
            }
            Location::Claim(pointer) => self.claims.as_ref().map_or(Sought::Absent, |claims| claims.look(pointer)),
            Location::Within(..) => location::look_through(place, &|place| self.look(place)),
            place => self.places.look(place),
        }
    }

    /// The values at the first of these places that is there: several in an array among the claims.
    fn values(&self, places: &'r Locations) -> Vec<Cow<'_, str>> {
        let all = places.iter().map(|place| match (place, &self.claims) {
            (Location::Claim(pointer), Some(claims)) => claims.texts(pointer),
            _ => self.find(place).into_iter().collect(),
        });
        all.into_iter().find(|values: &Vec<_>| !values.is_empty()).unwrap_or_default()
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
            (Some(spec), None) if self.signs_timestamp() && !spec.optional => Err(self.no_timestamp(spec)),
            _ => Ok(()),
        }
    }

    /// Why there is no timestamp: a request that has two of them is not told that it has none.
    fn no_timestamp(&self, spec: &TimestampSpec) -> Refusal {
        let looked = spec.at.iter().map(|place| self.look(place));
        looked.into_iter().find_map(|sought| Refusal::unread(&sought, "timestamp")).unwrap_or(Refusal::MissingTimestamp)
    }

    fn proving_key(&mut self, keyring: &Keyring, fetched: Option<&PublicKey>, now: Timestamp) -> Result<String, Refusal> {
        let certified = self.certified_key(now)?;
        let given = certified.as_ref().or(fetched);
        let mut refusal = Refusal::UnusableKey;
        for key in keyring.valid_at(now) {
            let Some(usable) = self.alternative.secret.usable(&key.secret) else { continue };
            let proved = if self.may_choose(&usable) { self.proves(&usable, given) } else { Ok(false) };
            match proved {
                Ok(true) if self.is_for(&usable) => return Ok(key.id.clone()),
                Ok(true) => refusal = Refusal::OtherReceiver,
                Ok(false) if refusal == Refusal::UnusableKey => refusal = Refusal::WrongSignature,
                Ok(false) | Err(Refusal::UnusableKey) => {}
                Err(reason) => refusal = reason,
            }
        }
        Err(refusal)
    }

    /// The key that the token's own certificates certify, where the scheme has a root for them.
    fn certified_key(&self, now: Timestamp) -> Result<Option<PublicKey>, Refusal> {
        let Some((spec, root)) = self.alternative.jwt.as_ref().and_then(|spec| Some((spec, spec.x5c_root.as_ref()?))) else {
            return Ok(None);
        };
        let header = jwt::unverified_header(self.text()?).ok_or(Refusal::MalformedSignature)?;
        if !spec.algorithms.contains(&header.algorithm) {
            return Err(Refusal::WrongSignature);
        }
        let chain = header.certificates.unwrap_or_default();
        root.leaf_key(&chain, spec.oids(), now).map(Some).ok_or(Refusal::UntrustedKey)
    }

    /// The key of a document that the request names, before anything of it is proven.
    fn named_key(&self, document: &KeyDocument) -> Result<NamedKey, Refusal> {
        let (algorithm, key_id) = match (self.alternative.algorithm.signature_algorithm(), &self.alternative.jwt) {
            (Some(algorithm), _) => (algorithm, None),
            (None, Some(spec)) => {
                let header = jwt::unverified_header(self.text()?).ok_or(Refusal::MalformedSignature)?;
                let algorithm = header.algorithm.signature_algorithm().filter(|_| spec.algorithms.contains(&header.algorithm));
                (algorithm.ok_or(Refusal::WrongSignature)?, header.key_id)
            }
            (None, None) => return Err(Refusal::UntrustedKey),
        };
        let key_id = match &document.key_id_at {
            Some(place) => Some(self.find(place).ok_or(Refusal::UntrustedKey)?.into_owned()),
            None => key_id,
        };
        Ok(NamedKey { key_id, algorithm })
    }

    /// Whether the request names this key, as far as can be told before its signature is verified.
    fn may_choose(&self, key: &UsableKey<'_>) -> bool {
        let place = self.alternative.secret.chosen_by.as_ref().filter(|place| !matches!(place, Location::Claim(_)));
        place.is_none_or(|place| self.find(place).is_some_and(|id| id == key.public_id))
    }

    /// Whether what is verified names this key.
    fn is_for(&self, key: &UsableKey<'_>) -> bool {
        let chosen = match (&self.alternative.secret.chosen_by, &self.claims) {
            (Some(Location::Claim(pointer)), Some(claims)) => claims.texts(pointer).iter().any(|id| *id == key.public_id),
            (Some(Location::Claim(_)), None) => false,
            _ => true,
        };
        let mut bindings = self.alternative.checks.iter().filter(|check| check.equals_secret());
        chosen && bindings.all(|check| self.values(&check.at).iter().any(|value| same(value.as_bytes(), key.text.as_bytes())))
    }

    fn proves(&mut self, key: &UsableKey<'_>, given: Option<&PublicKey>) -> Result<bool, Refusal> {
        match self.alternative.algorithm.proof() {
            Kind::Hash(hash) => self.proves_by_hash(hash, key),
            Kind::Public(algorithm) => self.proves_by_public_key(algorithm, key, given),
            Kind::Jwt => self.proves_by_token(key, given),
            Kind::JwsDetached => self.proves_by_detached(key, given),
            Kind::Token => Ok(same_secret(self.text()?.as_bytes(), &key.bytes)),
            Kind::Basic => {
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

    /// Whether any signature for a key of this public id is good, of those that can be decoded and of the first [`SIGNATURES_MAX`].
    fn any_signature(&self, public_id: &str, mut is_good: impl FnMut(&[u8]) -> bool) -> Result<bool, Refusal> {
        let spec = &self.alternative.signature;
        let in_headers = spec.at.iter().any(|place| matches!(place, Location::Header(_)));
        let (mut seen, mut decoded) = (0, 0);
        let mut bytes = Vec::new();
        for text in self.texts() {
            let room = SIGNATURES_MAX - seen;
            // One that cannot be decoded is passed over: another may be the one that was made for us.
            let mut look = |value| {
                seen += 1;
                let is_decoded = spec.decode(value, &mut bytes);
                decoded += usize::from(is_decoded);
                is_decoded && is_good(&bytes)
            };
            let found = match &spec.list {
                Some(list) => list.signatures(&text, public_id).take(room).any(&mut look),
                // Repeated headers come joined by commas, which no encoding has.
                None if in_headers => text.split(',').take(room).any(|value| look(value.trim_ascii())),
                None => room > 0 && look(text.trim_ascii()),
            };
            if found {
                return Ok(true);
            }
        }
        let by_key_id = spec.list.as_ref().is_some_and(SignatureList::is_by_key_id);
        match (seen, decoded) {
            (0, _) if by_key_id => Err(Refusal::WrongSignature),
            (0, _) => Err(Refusal::MissingSignature),
            (_, 0) => Err(Refusal::MalformedSignature),
            _ => Ok(false),
        }
    }

    /// How many signatures for a key of this public id can be decoded.
    pub(super) fn decodable(&self, public_id: &str) -> usize {
        let mut decodable = 0;
        let count = |_: &[u8]| {
            decodable += 1;
            false
        };
        // One that has none is told why elsewhere.
        let _ = self.any_signature(public_id, count);
        decodable
    }

    /// The texts where signatures stand; the first, which is most often the only one, is not looked for again.
    fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let SignatureSpec { at, list, .. } = &self.alternative.signature;
        // A list is read alone, with its own timestamp.
        let has_others = at.count() > 1 && list.is_none();
        let others = has_others.then(|| self.alternative.signature_texts(self.places).skip(1));
        self.sent.as_deref().map(Cow::Borrowed).into_iter().chain(others.into_iter().flatten())
    }

    fn proves_by_hash(&self, hash: Hash, key: &UsableKey<'_>) -> Result<bool, Refusal> {
        let Some(signed) = &self.alternative.signed else { return Ok(false) };
        for candidate in self.urls().iter() {
            let mut mac = MessageAuthenticator::new(hash, &key.bytes);
            self.feed(signed, &candidate.url, Some(key), &mut |piece| mac.update(piece))?;
            let code = mac.finish();
            if self.any_signature(key.public_id, |signature| same(signature, code.as_ref()))? {
                self.signed_url.replace(candidate.differs.clone());
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
        let public_key = match fetched {
            Some(fetched) => fetched.clone(),
            // The keyring has what is ours, which is no key even if it could be one.
            None if self.alternative.has_foreign_keys() => return Err(Refusal::UnusableKey),
            None => PublicKey::parse(algorithm, key.text, Some(&key.bytes)).ok_or(Refusal::UnusableKey)?,
        };
        for candidate in self.urls().iter() {
            let mut message = Vec::new();
            self.feed(signed, &candidate.url, Some(key), &mut |piece| message.extend_from_slice(piece))?;
            if self.any_signature(key.public_id, |signature| public_key.verify(algorithm, &message, signature))? {
                self.signed_url.replace(candidate.differs.clone());
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn proves_by_token(&mut self, key: &UsableKey<'_>, given: Option<&PublicKey>) -> Result<bool, Refusal> {
        let Some(spec) = &self.alternative.jwt else { return Ok(false) };
        let public_key = self.token_key(key, given)?;
        let jwt_key = public_key.as_deref().map_or(JwtKey::Secret(&key.bytes), JwtKey::Public);
        self.claims = jwt::verify(self.text()?, &spec.algorithms, jwt_key);
        Ok(self.claims.is_some())
    }

    fn proves_by_detached(&self, key: &UsableKey<'_>, given: Option<&PublicKey>) -> Result<bool, Refusal> {
        let Some((spec, signed)) = self.alternative.jwt.as_ref().zip(self.alternative.signed.as_ref()) else { return Ok(false) };
        let public_key = self.token_key(key, given)?;
        let jwt_key = public_key.as_deref().map_or(JwtKey::Secret(&key.bytes), JwtKey::Public);
        let token = self.text()?;
        for candidate in self.urls().iter() {
            let mut content = Vec::new();
            self.feed(signed, &candidate.url, Some(key), &mut |piece| content.extend_from_slice(piece))?;
            if jwt::verify_detached(token, &content, &spec.algorithms, jwt_key) {
                self.signed_url.replace(candidate.differs.clone());
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The public key that a token is verified with. `None` if a secret is shared: the kind of key settles the kind of algorithm, so
    /// that a public key is never taken for a shared secret.
    fn token_key<'k>(&self, key: &UsableKey<'_>, given: Option<&'k PublicKey>) -> Result<Option<Cow<'k, PublicKey>>, Refusal> {
        let header = jwt::unverified_header(self.text()?).ok_or(Refusal::MalformedSignature)?;
        if let Some(given) = given {
            return Ok(Some(Cow::Borrowed(given)));
        }
        if self.alternative.has_foreign_keys() {
            return Err(Refusal::UntrustedKey);
        }
        if !is_pem(key.text) {
            return Ok(None);
        }
        let algorithm = header.algorithm.signature_algorithm().ok_or(Refusal::WrongSignature)?;
        PublicKey::parse(algorithm, key.text, None).map(|key| Some(Cow::Owned(key))).ok_or(Refusal::UnusableKey)
    }

    fn check_time(&mut self, now: Timestamp) -> Result<(), Refusal> {
        // Those in a token or in the body can be read now; one that is signed has been read.
        self.timestamp = self.timestamp.take().or_else(|| self.timestamp_text());
        match (&self.alternative.timestamp, &self.timestamp) {
            (Some(spec), Some(text)) => spec.check(text, now),
            (Some(spec), None) if !spec.optional => Err(self.no_timestamp(spec)),
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
        // Whether one is a key was settled when the key was found.
        self.alternative.checks.iter().filter(|check| !check.equals_secret()).find(|check| {
            if check.absent {
                return check.at.iter().any(|place| self.look(place) != Sought::Absent);
            }
            let found = self.values(&check.at);
            if found.is_empty() {
                return !(check.absent_if_body_empty && self.places.webhook().body.is_empty());
            }
            !self.urls().iter().any(|candidate| {
                check.equals.iter().any(|equals| {
                    let mut wanted = Vec::new();
                    let fed = self.feed(equals, &candidate.url, None, &mut |piece| wanted.extend_from_slice(piece));
                    fed.is_ok() && found.iter().any(|value| same(value.as_bytes(), &wanted))
                })
            })
        })
    }

    /// The URLs that may have been signed; one is enough where none is.
    pub(super) fn urls(&self) -> Cow<'static, [Candidate]> {
        if self.alternative.uses(&Variable::Url) {
            Cow::Owned(url::candidates(self.alternative.url, self.places.webhook()))
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
            Variable::AwsSns => Some(Cow::Owned(sns::sns_signed_content(self.reading.places)?.into_bytes())),
            // Of answers alone; those that are joined are asked for one by one.
            Variable::HandshakeSecret | Variable::Joined(_) => None,
            Variable::PairsSorted => template::pairs_sorted(webhook).map(Cow::Owned),
            Variable::Listed => self.reading.alternative.listed.as_ref()?.values(self.reading.places).map(Cow::Owned),
            // The exact bytes, which need not be text.
            Variable::At(Location::Raw(pointer)) => self.reading.places.raw(pointer).ok().flatten().map(Cow::Borrowed),
            Variable::At(Location::Json(pointer)) => {
                // Whoever reads it later may take the other one.
                self.reading.places.json_once(pointer).ok().flatten()?;
                self.reading.find(&Location::Json(pointer.clone())).map(into_bytes)
            }
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
