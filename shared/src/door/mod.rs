//! The door: what a request asks of its source, whether that is granted, and with which status it is answered. The receiver and
//! the command line both come in here, so that they give one verdict.
//!
//! Always holds: a signed request is never taken for a handshake that needs no signature; what a handshake signs for anybody
//! proves no webhook. Nothing here waits or fetches: whoever calls brings the keys, in steps ([`ask`], [`Unproven::prove`],
//! [`Meeting::answer`]) or all at once ([`judge`]).

mod rejection;

use http::Method;

pub use self::rejection::Rejection;
use crate::{
    config::Source,
    content::CONTENT_ENCODING,
    event::{BodyDigest, Event, EventKey, Identified, Identity, Part, kept_headers},
    fetched::WantedKey,
    location::{Location, Places},
    secrets::{Keyring, Secret},
    signatures::{
        Refusal, UnverifiedWebhook, VerifiedWebhook,
        handshake::{Handshake, HandshakeAnswer},
        public_key::PublicKey,
    },
    time::Timestamp,
};

/// What a request asks for, before anything of it is proven.
#[derive(Debug)]
pub enum Asked<'a> {
    /// The answer of a handshake that needs no signature.
    Handshake(Meeting<'a>),
    /// To be taken in.
    Webhook(Unproven<'a>),
}

/// A request that has to prove itself.
#[derive(Debug)]
pub struct Unproven<'a> {
    source: &'a Source,
    places: Places<'a>,
}

/// A request that has proven itself.
#[derive(Debug)]
pub enum Proven<'a> {
    /// It is a handshake, and no event.
    Handshake(Meeting<'a>),
    /// It is a webhook.
    Webhook(VerifiedWebhook<'a>),
}

/// A handshake that is to be answered: it needs no signature, or has a good one.
#[derive(Debug)]
pub struct Meeting<'a> {
    source: &'a Source,
    handshake: &'a Handshake,
    places: Places<'a>,
    /// The id of the key that proved it.
    pub key_id: Option<String>,
}

/// The answer to a handshake, and what has to succeed before it is given.
#[derive(Debug)]
pub struct Greeting {
    /// The answer.
    pub answer: HandshakeAnswer,
    /// A secret that it brings and that becomes a key of the source, if its operator has opened enrolment.
    pub enrol: Option<Secret>,
    /// A subscription that has to be confirmed.
    pub confirm: Option<Confirmation>,
}

/// A subscription of AWS SNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The URL that confirms it.
    pub url: String,
    /// The topic that the message is of.
    pub topic: String,
}

/// What a request is to be judged with.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'k> {
    /// The source's keyring.
    pub keyring: &'k Keyring,
    /// What its handshakes compare.
    pub handshake_keyring: Option<&'k Keyring>,
    /// The public key that [`Unproven::wanted_key`] asks for.
    pub fetched: Option<&'k PublicKey>,
}

/// What becomes of a request that is not refused.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// A handshake is answered.
    Handshake {
        /// The handshake.
        meeting: Meeting<'a>,
        /// Its answer.
        greeting: Greeting,
    },
    /// A webhook is taken in.
    Webhook {
        /// The webhook.
        verified: VerifiedWebhook<'a>,
        /// What it says of itself, or each event of its batch does.
        identified: Identified,
    },
}

impl Verdict<'_> {
    /// The status of the answer: of a webhook that did not come before, and of a handshake whose [`Greeting`] succeeds.
    pub fn status(&self, source: &Source) -> u16 {
        match self {
            Self::Handshake { greeting, .. } => greeting.answer.status,
            Self::Webhook { .. } => source.answer.status_of(false),
        }
    }

    /// The id of the key that proved the request. `None` if it is a handshake that needs no signature.
    pub fn key_id(&self) -> Option<&str> {
        match self {
            Self::Handshake { meeting, .. } => meeting.key_id.as_deref(),
            Self::Webhook { verified, .. } => Some(verified.key_id()),
        }
    }
}

/// Judges a request by itself: what the receiver answers if its ledger does not have the event, and all else succeeds.
pub fn judge<'a>(
    source: &'a Source,
    webhook: &'a UnverifiedWebhook,
    keys: Keys<'_>,
    now: Timestamp,
) -> Result<Verdict<'a>, Rejection> {
    let meeting = match ask(source, webhook)? {
        Asked::Handshake(meeting) => meeting,
        Asked::Webhook(unproven) => {
            if unproven.wanted_key(keys.keyring, now)?.is_some() && keys.fetched.is_none() {
                return Err(Rejection::unavailable("its signing key has to be fetched"));
            }
            match unproven.prove(keys.keyring, keys.fetched, now)? {
                Proven::Handshake(meeting) => meeting,
                Proven::Webhook(verified) => {
                    let identified = source.event.identify_all(&verified, &BodyDigest::of(verified.body()), now)?;
                    return Ok(Verdict::Webhook { verified, identified });
                }
            }
        }
    };
    let greeting = meeting.answer(Some(keys.keyring), keys.handshake_keyring, now)?;
    Ok(Verdict::Handshake { meeting, greeting })
}

/// What a request asks for. What has a signature is never taken for a handshake that needs none: it could be an event.
pub fn ask<'a>(source: &'a Source, webhook: &'a UnverifiedWebhook) -> Result<Asked<'a>, Rejection> {
    check_size(source, webhook.body.len())?;
    let places = Places::new(webhook).knowing(&source.pointers);
    let mut unsigned = source.handshakes.iter().filter(|handshake| !handshake.signed);
    if let Some(handshake) = unsigned.find(|handshake| handshake.is_meant(&places) && !source.scheme.is_signed(&places)) {
        return Ok(Asked::Handshake(Meeting { source, handshake, places, key_id: None }));
    }
    let signed = source.handshakes.iter().filter(|handshake| handshake.signed).map(|handshake| &handshake.method);
    if !source.methods.iter().chain(signed).any(|method| *method == webhook.method) {
        let allowed: Vec<&str> = source.methods.iter().map(Method::as_str).collect();
        return Err(Rejection::MethodNotAllowed { allowed: allowed.join(", ") });
    }
    Ok(Asked::Webhook(Unproven { source, places }))
}

/// Refuses a body that is larger than its source may send.
pub fn check_size(source: &Source, body_bytes: usize) -> Result<(), Rejection> {
    match body_bytes > source.body_bytes_max {
        true => Err(Rejection::TooLarge { body_bytes_max: source.body_bytes_max }),
        false => Ok(()),
    }
}

impl<'a> Unproven<'a> {
    /// The public key that has to be fetched before it can be proven, if any.
    pub fn wanted_key(&self, keyring: &Keyring, now: Timestamp) -> Result<Option<WantedKey>, Rejection> {
        Ok(self.source.scheme.wanted_key(&self.places, keyring, now)?)
    }

    /// Proves it. `fetched` is the key that [`Unproven::wanted_key`] asked for.
    pub fn prove(&self, keyring: &Keyring, fetched: Option<&PublicKey>, now: Timestamp) -> Result<Proven<'a>, Rejection> {
        let verified = self.source.scheme.verify_at(self.places.clone(), keyring, fetched, now)?;
        if could_be_our_own(self.source, &verified) {
            return Err(Refusal::WrongSignature.into());
        }
        Ok(Proven::of(self.source, verified))
    }
}

impl<'a> Proven<'a> {
    /// What a verified request is.
    pub fn of(source: &'a Source, verified: VerifiedWebhook<'a>) -> Self {
        let mut signed = source.handshakes.iter().filter(|handshake| handshake.signed);
        match signed.find(|handshake| handshake.is_meant(verified.places())) {
            Some(handshake) => Self::Handshake(Meeting {
                source,
                handshake,
                key_id: Some(verified.key_id().to_owned()),
                places: verified.places().clone(),
            }),
            None => Self::Webhook(verified),
        }
    }
}

impl Meeting<'_> {
    /// Whether the answer is made with the source's key.
    pub fn needs_key(&self) -> bool {
        self.handshake.needs_key()
    }

    /// Whether the answer needs the source's handshake secret.
    pub fn needs_handshake_secret(&self) -> bool {
        self.handshake.needs_handshake_secret()
    }

    /// The answer, or why there is none. Each keyring may be absent where it is not needed.
    pub fn answer(
        &self,
        keyring: Option<&Keyring>,
        handshake_keyring: Option<&Keyring>,
        now: Timestamp,
    ) -> Result<Greeting, Rejection> {
        let Self { source, handshake, places, .. } = self;
        let answer = handshake.answer(&source.scheme, places, keyring, handshake_keyring, now)?;
        let confirm = match self.value_at(handshake.confirm.as_ref())? {
            Some(url) => {
                let topic = Location::Json("/TopicArn".to_owned());
                Some(Confirmation { url, topic: self.value_at(Some(&topic))?.unwrap_or_default() })
            }
            None => None,
        };
        Ok(Greeting { answer, enrol: self.value_at(handshake.enrol.as_ref())?.map(Secret::new), confirm })
    }

    /// The value at a place that the handshake names; it must be there.
    fn value_at(&self, place: Option<&Location>) -> Result<Option<String>, Rejection> {
        let Some(place) = place else { return Ok(None) };
        let found = self.places.find(place).filter(|value| !value.is_empty());
        let missing = || Rejection::Handshake { reason: format!("the handshake lacks `{place}`"), status: 400 };
        found.map(|value| Some(value.into_owned())).ok_or_else(missing)
    }
}

/// The event that a webhook is. `sha256` is that of its exact body.
pub fn event_of(
    source: &Source,
    verified: &VerifiedWebhook<'_>,
    sha256: BodyDigest,
    identity: Identity,
    received_at: Timestamp,
) -> Event {
    Event {
        destinations: source.destinations(&identity.event_type),
        key: EventKey { source: source.name.clone(), event_id: identity.event_id },
        event_type: identity.event_type,
        received_at,
        occurred_at: identity.occurred_at,
        headers: kept_headers(verified, &source.keep_headers),
        body_bytes: verified.body().len(),
        sha256,
        compared_sha256: identity.compared_sha256,
        part: None,
        key_id: verified.key_id().to_owned(),
        expires_at: received_at.plus(source.dedupe),
    }
}

/// One event of a batch. The body that is stored is the decoded one, in which its part is counted; `sha256` is of that.
pub fn element_of(
    source: &Source,
    verified: &VerifiedWebhook<'_>,
    sha256: BodyDigest,
    part: Part,
    identity: Identity,
    received_at: Timestamp,
) -> Event {
    let body_bytes = verified.places().readable_body().len();
    let mut event = Event { body_bytes, part: Some(part), ..event_of(source, verified, sha256, identity, received_at) };
    event.headers.remove(CONTENT_ENCODING);
    event
}

/// Whether what was signed is of the kind that the source's own handshake signs for anybody who asks.
fn could_be_our_own(source: &Source, verified: &VerifiedWebhook<'_>) -> bool {
    let mut oracles = source.handshakes.iter().filter(|handshake| !handshake.signed && handshake.needs_key()).peekable();
    oracles.peek().is_some() && {
        let content = verified.content();
        oracles.any(|handshake| handshake.could_have_signed(&content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Gateway, names::EventId};

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const SECRET: &str = "made-up-secret";

    fn source(settings: &str) -> Source {
        let config = format!("[sources.a]\nsecret = \"a-enrolled\"\nhandshake_secret = \"b\"\n{settings}");
        Gateway::parse(&config, "gateway.toml").unwrap().sources.into_values().next().unwrap()
    }

    fn request(method: Method, url: &str, headers: &[(&str, &str)], body: &str) -> UnverifiedWebhook {
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        UnverifiedWebhook::new(method, url, &headers, body.as_bytes().to_vec())
    }

    /// Signed as its provider would.
    fn signed(source: &Source, mut webhook: UnverifiedWebhook) -> UnverifiedWebhook {
        source.scheme.sign(&mut webhook, &Keyring::parse(SECRET).unwrap(), NOW).unwrap();
        webhook
    }

    /// The verdict in short, and its status.
    fn judged(source: &Source, webhook: &UnverifiedWebhook) -> (&'static str, u16) {
        let keyring = Keyring::parse(SECRET).unwrap();
        match judge(source, webhook, Keys { keyring: &keyring, handshake_keyring: Some(&keyring), fetched: None }, NOW) {
            Ok(verdict @ Verdict::Handshake { .. }) => ("handshake", verdict.status(source)),
            Ok(verdict @ Verdict::Webhook { .. }) => ("webhook", verdict.status(source)),
            Err(rejection) => (rejection.code(), rejection.status()),
        }
    }

    #[test]
    fn a_signed_request_is_never_taken_for_an_unsigned_handshake() {
        let source = source("scheme = \"asana\"");
        let greets = [("x-hook-secret", "brought")];
        let unsigned = request(Method::POST, "https://h/", &greets, "");
        assert_eq!(judged(&source, &unsigned), ("handshake", 200));
        assert_eq!(judged(&source, &signed(&source, unsigned.clone())), ("webhook", 202));
        let Ok(Asked::Handshake(meeting)) = ask(&source, &unsigned) else { panic!("no handshake") };
        let greeting = meeting.answer(None, None, NOW).unwrap();
        assert_eq!(greeting.enrol.map(|secret| secret.expose().to_owned()).as_deref(), Some("brought"));
        assert_eq!(meeting.key_id, None);
    }

    #[test]
    fn a_signed_handshake_is_proven_before_it_is_answered() {
        let source = source("scheme = \"slack\"");
        let challenge = request(Method::POST, "https://h/", &[], r#"{"type":"url_verification","challenge":"abc"}"#);
        assert_eq!(judged(&source, &challenge), ("bad_signature", 401));
        assert_eq!(judged(&source, &signed(&source, challenge)), ("handshake", 200));
    }

    #[test]
    fn what_cannot_be_a_webhook_is_refused_before_its_signature_is_looked_at() {
        let source = source("scheme = \"github\"\nbody_bytes_max = 4\nanswer = { status = 204 }");
        let sent = |method: Method, body: &str| request(method, "https://h/", &[("x-github-delivery", "7")], body);
        assert_eq!(judged(&source, &sent(Method::PUT, "1234")), ("method_not_allowed", 405));
        assert_eq!(judged(&source, &sent(Method::POST, "12345")), ("too_large", 413));
        assert_eq!(judged(&source, &sent(Method::POST, "1234")), ("bad_signature", 401));
        assert_eq!(judged(&source, &signed(&source, sent(Method::POST, "1234"))), ("webhook", 204));
    }

    #[test]
    fn an_unreadable_id_is_refused_where_its_source_says_so() {
        let sent = request(Method::POST, "https://h/", &[("x-id", "7")], "{}");
        let refusing = source("scheme = \"github\"\nevent = { id = \"json:/id\", unreadable = \"refuse\" }");
        assert_eq!(judged(&refusing, &signed(&refusing, sent.clone())), ("malformed", 400));
        let accepting = source("scheme = \"github\"\nevent = { id = \"header:x-id\" }");
        let sent = signed(&accepting, sent);
        let keyring = Keyring::parse(SECRET).unwrap();
        let keys = Keys { keyring: &keyring, handshake_keyring: None, fetched: None };
        let Ok(Verdict::Webhook { identified: Identified::Whole(identity), verified }) = judge(&accepting, &sent, keys, NOW)
        else {
            panic!("no webhook")
        };
        assert_eq!((identity.event_id, verified.key_id()), (EventId::parse("7").unwrap(), "initial"));
    }

    #[test]
    fn what_nobody_here_can_judge_is_an_outage() {
        let sns = source("scheme = \"aws-sns\"");
        let body = r#"{"Type":"Notification","SignatureVersion":"2","Signature":"AAAA","MessageId":"1","Message":"m",
            "Timestamp":"2023-11-14T22:13:20.000Z","TopicArn":"arn:aws:sns:eu-central-1:123456789012:t",
            "SigningCertURL":"https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0000000000000000000000000000000a.pem"}"#;
        let keyring = Keyring::parse("arn:aws:sns:eu-central-1:123456789012:t").unwrap();
        let keys = Keys { keyring: &keyring, handshake_keyring: None, fetched: None };
        let sent = request(Method::POST, "https://h/", &[], body);
        let verdict = judge(&sns, &sent, keys, NOW);
        assert_eq!(verdict.map(drop).map_err(|rejection| rejection.code()), Err("unavailable"));
    }
}
