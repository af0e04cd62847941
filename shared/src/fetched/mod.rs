//! Public keys that a webhook names and that have to be fetched: from AWS (SNS), from PayPal, from Plaid, and from a document at a
//! URL that the scheme pins.
//!
//! Whoever sends a webhook chooses which key it names, before anything about it is proven. So only what is of a pinned host, path
//! and form becomes a [`WantedKey`]; fetching is bounded in time, size and number a minute; what was fetched, or could not be, is
//! remembered; and no redirect is followed. A key proves no more than that the provider signed: that it signed for *this* source is
//! the scheme's to compare (a topic's ARN, a webhook's id, a token's audience).

mod document;
mod paypal;
mod plaid;
pub mod sns;
mod transport;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use aws_config::SdkConfig;
use serde::Deserialize;
use tokio::sync::Mutex;

pub use document::{
    DOCUMENT_CACHE_SECONDS_DEFAULT, DOCUMENT_CACHE_SECONDS_MAX, DOCUMENT_CACHE_SECONDS_MIN, DOCUMENT_URL_CHARS_MAX, KeyDocument,
    NamedKey,
};
use document::{Document, DocumentKey, HeldDocument, OriginEntry};
pub use transport::{FETCH_BYTES_MAX, FETCH_MILLIS_MAX};
use transport::{Request, Transport};

use crate::{
    location::Places,
    secrets::Keyring,
    signatures::{
        Refusal,
        public_key::{Certificate, CertificateError, PublicKey, certificate_key},
    },
    time::{DAY_SECONDS, Timestamp},
};

/// How long a certificate is used before it is fetched again, if it is valid for so long.
pub const CERTIFICATE_CACHE_SECONDS: u64 = DAY_SECONDS;
/// How long a key of Plaid's is used before it is asked for again: until then, one that Plaid has withdrawn still counts.
pub const PLAID_CACHE_SECONDS: u64 = 3600;
/// How long a key that could not be had is not tried again; nor is a document read anew for a key that it did not have.
pub const MISSING_CACHE_SECONDS: u64 = 60;
/// Most keys remembered, missing ones included.
pub const KEYS_CACHED_MAX: usize = 256;
/// Most fetches a minute for each [`KeyOrigin`], a document each by itself, and as many again for confirmations. Anybody can name keys that do not exist: this
/// bounds what that costs. Providers sign with a handful of keys. Keys that have proven something are fetched again from a budget of their
/// own, which strangers cannot use up: what they name of these is remembered.
pub const FETCHES_PER_MINUTE_MAX: usize = 20;
/// Most keys of which it is remembered that they have proven something.
pub const PROVEN_KEYS_MAX: usize = 64;

const MINUTE: Duration = Duration::from_secs(60);

// Names that do not exist cannot push out keys that do: no more of them are remembered than three origins can be asked for where
// two minutes meet.
const _: () = assert!(MISSING_CACHE_SECONDS <= MINUTE.as_secs() && 2 * 3 * FETCHES_PER_MINUTE_MAX <= KEYS_CACHED_MAX / 2);

/// Whose keys a scheme fetches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "OriginEntry")]
pub enum KeyOrigin {
    /// The certificate at `SigningCertURL` of an SNS message.
    AwsSns,
    /// The certificate at the header `paypal-cert-url`.
    Paypal,
    /// The JSON Web Key that the token in the header `plaid-verification` names.
    Plaid,
    /// A key of a document at a URL that the scheme pins.
    Document(KeyDocument),
}

/// A key that a webhook names and that may be fetched. [`KeyOrigin::wanted`] alone makes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WantedKey(Wanted);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    AwsSns(sns::CertificateUrl),
    Paypal(paypal::CertificateUrl),
    Plaid(plaid::KeyId),
    Document(DocumentKey),
}

/// Why a key was not had. It shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// For a reason that is ours or passes: the sender should send again.
    #[error("the signing key cannot be had: {0}")]
    Unavailable(String),
    /// Its owner does not have it, or it does not count any more.
    #[error("the signing key is refused: {0}")]
    Refused(String),
    /// Too many were fetched in this minute.
    #[error("more than {FETCHES_PER_MINUTE_MAX} signing keys were asked for within a minute")]
    Budget,
}

impl KeyOrigin {
    /// What a webhook asks for, of which nothing is proven. `named` is what it says of a key in a document.
    pub fn wanted(
        &self,
        places: &Places<'_>,
        named: impl FnOnce(&KeyDocument) -> Result<NamedKey, Refusal>,
    ) -> Result<WantedKey, Refusal> {
        let webhook = places.webhook();
        let wanted = match self {
            Self::AwsSns => sns::CertificateUrl::named_by(places).map(Wanted::AwsSns),
            Self::Paypal => paypal::CertificateUrl::named_by(webhook).map(Wanted::Paypal),
            Self::Plaid => plaid::KeyId::named_by(webhook).map(Wanted::Plaid),
            Self::Document(document) => named(document).map(|named| Wanted::Document(document.key(named))),
        };
        wanted.map(WantedKey)
    }
}

/// The keys that were fetched by this environment.
#[derive(Debug)]
pub struct FetchedKeys {
    transport: Transport,
    state: Mutex<State>,
}

impl FetchedKeys {
    /// Fetches through the HTTP client of the AWS clients.
    pub fn new(config: &SdkConfig) -> Self {
        Self { transport: Transport::new(config), state: Mutex::default() }
    }

    /// The key, remembered or fetched. `credentials` are those that Plaid asks for: `CLIENT_ID:SECRET` or `sandbox:CLIENT_ID:SECRET`.
    pub async fn get(
        &self,
        wanted: &WantedKey,
        credentials: Option<&Keyring>,
        now: Timestamp,
    ) -> Result<Arc<PublicKey>, FetchError> {
        let account = match &wanted.0 {
            Wanted::Document(key) => return self.get_of_document(key, now).await,
            Wanted::Plaid(_) => Some(plaid::Account::of(credentials, now)?),
            Wanted::AwsSns(_) | Wanted::Paypal(_) => None,
        };
        // A key of another account, the sandbox's above all, must not prove this account's webhooks.
        let slot = Slot { wanted: wanted.clone(), account: account.as_ref().map(plaid::Account::name) };
        {
            let mut state = self.state.lock().await;
            if let Some(known) = state.known(&slot, now) {
                return known;
            }
            let is_proven = state.proven.contains(wanted);
            state.spend(if is_proven { Expense::Proven } else { wanted.0.expense() }, now)?;
        }
        let fetched = match (&wanted.0, account) {
            (Wanted::AwsSns(url), _) => url.fetch(&self.transport, now).await,
            (Wanted::Paypal(url), _) => url.fetch(&self.transport, now).await,
            (Wanted::Plaid(id), Some(account)) => id.fetch(&self.transport, &account, now).await,
            (Wanted::Plaid(_) | Wanted::Document(_), _) => Err(FetchError::Unavailable("there are no credentials".to_owned())),
        };
        let (key, until) = match fetched {
            Ok(fetched) => (Ok(Arc::new(fetched.key)), fetched.until),
            Err(error) => (Err(error), now.plus(Duration::from_secs(MISSING_CACHE_SECONDS))),
        };
        self.state.lock().await.remember(slot, Remembered { key: key.clone(), until }, now);
        key
    }

    /// Notes that a key has proven something, here or, as the ledger says, in another environment. Whether that is news.
    pub async fn note_proven(&self, wanted: &WantedKey) -> bool {
        let proven = &mut self.state.lock().await.proven;
        !matches!(wanted.0, Wanted::Document(_)) && proven.len() < PROVEN_KEYS_MAX && proven.insert(wanted.clone())
    }

    /// One fetch is for all keys of a document. It is read again when its time is over, and for a key that it did not have.
    async fn get_of_document(&self, wanted: &DocumentKey, now: Timestamp) -> Result<Arc<PublicKey>, FetchError> {
        {
            let mut state = self.state.lock().await;
            if let Some(known) = state.documents.get(&wanted.document).and_then(|held| held.known(wanted, now)) {
                return known;
            }
            state.spend(Expense::Document(wanted.document.clone()), now)?;
            // What is asked for while it is read is not in it, as far as anybody knows, and does not have it read once more.
            state.documents.entry(wanted.document.clone()).and_modify(|held| held.begin_again(now));
        }
        let fetched = wanted.document.fetch(&self.transport, now).await;
        let mut state = self.state.lock().await;
        let held = state.documents.entry(wanted.document.clone()).or_default();
        held.settle(fetched, now)?;
        held.known(wanted, now).unwrap_or_else(|| Err(FetchError::Unavailable("its document is out of date".to_owned())))
    }

    /// Confirms a subscription to an SNS topic, by fetching the URL that SNS sent. For messages alone whose signature is verified
    /// and whose topic is one of the source's.
    pub async fn confirm(&self, subscribe_url: &str, topic_arn: &str, now: Timestamp) -> Result<(), FetchError> {
        let url = sns::confirmation_url(subscribe_url, topic_arn)
            .ok_or_else(|| FetchError::Refused("the confirmation is not one of this topic, at SNS".to_owned()))?;
        self.state.lock().await.spend(Expense::Confirmation, now)?;
        self.transport.fetch(Request::Get(&url)).await?.success().map(drop)
    }
}

impl WantedKey {
    /// Its name, among all keys that are fetched. Another version of this code may name it otherwise; then it is noted anew.
    pub fn name(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl Wanted {
    fn expense(&self) -> Expense {
        match self {
            Self::AwsSns(_) => Expense::AwsSns,
            Self::Paypal(_) => Expense::Paypal,
            Self::Plaid(_) => Expense::Plaid,
            Self::Document(key) => Expense::Document(key.document.clone()),
        }
    }
}

/// A key that was just fetched.
#[derive(Debug, PartialEq, Eq)]
struct Fetched {
    key: PublicKey,
    /// From when on it has to be fetched again.
    until: Timestamp,
}

impl Fetched {
    fn from_certificate(certificate: &Certificate, now: Timestamp) -> Self {
        // A certificate is valid in its last second too.
        let expired = certificate.not_after.plus(Duration::from_secs(1));
        let stale = now.plus(Duration::from_secs(CERTIFICATE_CACHE_SECONDS));
        Self { key: certificate.key.clone(), until: expired.min(stale) }
    }
}

/// The certificate in what its host answered.
fn read_certificate(body: &[u8], now: Timestamp) -> Result<Certificate, FetchError> {
    certificate_key(&String::from_utf8_lossy(body), now).map_err(|error| match error {
        CertificateError::NotYetValid | CertificateError::Expired => {
            FetchError::Refused(format!("its certificate does not count: {error}"))
        }
        CertificateError::Malformed | CertificateError::UnsupportedKey => {
            FetchError::Unavailable(format!("its certificate cannot be used: {error}"))
        }
    })
}

/// What is remembered, and what was spent. Never locked while something is fetched.
#[derive(Debug, Default)]
struct State {
    keys: HashMap<Slot, Remembered>,
    /// As many as schemes pin.
    documents: HashMap<Document, HeldDocument>,
    spent: HashMap<Expense, Minute>,
    /// Keys that have proven something.
    proven: HashSet<WantedKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    wanted: WantedKey,
    account: Option<String>,
}

#[derive(Debug)]
struct Remembered {
    key: Result<Arc<PublicKey>, FetchError>,
    until: Timestamp,
}

/// What fetches are counted by: who floods one origin with names leaves the others theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Expense {
    AwsSns,
    Paypal,
    Plaid,
    Document(Document),
    Confirmation,
    Proven,
}

#[derive(Clone, Copy, Debug)]
struct Minute {
    begins: Timestamp,
    fetches: usize,
}

impl State {
    fn known(&self, slot: &Slot, now: Timestamp) -> Option<Result<Arc<PublicKey>, FetchError>> {
        self.keys.get(slot).filter(|remembered| now < remembered.until).map(|remembered| remembered.key.clone())
    }

    fn spend(&mut self, expense: Expense, now: Timestamp) -> Result<(), FetchError> {
        let minute = self.spent.entry(expense).or_insert(Minute { begins: now, fetches: 0 });
        if now.since(minute.begins) >= MINUTE {
            *minute = Minute { begins: now, fetches: 0 };
        }
        if minute.fetches >= FETCHES_PER_MINUTE_MAX {
            return Err(FetchError::Budget);
        }
        minute.fetches += 1;
        Ok(())
    }

    fn remember(&mut self, slot: Slot, remembered: Remembered, now: Timestamp) {
        self.keys.retain(|_, remembered| now < remembered.until);
        if self.keys.len() >= KEYS_CACHED_MAX {
            let rank = |slot: &Slot, remembered: &Remembered| (self.proven.contains(&slot.wanted), remembered.until);
            let first_to_go =
                self.keys.iter().min_by_key(|(slot, remembered)| rank(slot, remembered)).map(|(slot, _)| slot.clone());
            first_to_go.and_then(|slot| self.keys.remove(&slot));
        }
        self.keys.insert(slot, remembered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use http::Method;

    use super::transport::canned::Canned;
    use crate::signatures::{UnverifiedWebhook, public_key::SignatureAlgorithm};

    const NOW: Timestamp = Timestamp::from_seconds(1_780_000_000);
    const SNS_CERTIFICATE: &str = include_str!("../../testdata/keys/sns-certificate.pem");
    const PAYPAL_CERTIFICATE: &str = include_str!("../../testdata/keys/paypal-certificate.pem");
    const SIGNED_SHA256: &[u8] = include_bytes!("../../testdata/keys/signer-sha256.sig");

    fn no_name(_: &KeyDocument) -> Result<NamedKey, Refusal> {
        panic!("only a document's key has a name")
    }

    fn sns(hex: &str) -> WantedKey {
        let url = format!("https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-{hex:0>32}.pem");
        let body = serde_json::json!({"SigningCertURL": url, "TopicArn": "arn:aws:sns:eu-central-1:123456789012:t"}).to_string();
        let webhook = UnverifiedWebhook::new(Method::POST, "https://h/", &[], body.into_bytes());
        KeyOrigin::AwsSns.wanted(&Places::new(&webhook), no_name).unwrap()
    }

    fn paypal(name: &str) -> WantedKey {
        let url = format!("https://api.paypal.com/v1/notifications/certs/CERT-{name}");
        let headers = [("PAYPAL-CERT-URL".to_owned(), url)];
        let webhook = UnverifiedWebhook::new(Method::POST, "https://h/", &headers, Vec::new());
        KeyOrigin::Paypal.wanted(&Places::new(&webhook), no_name).unwrap()
    }

    fn seconds(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    #[tokio::test]
    async fn a_key_is_fetched_once_and_then_remembered_for_a_day() {
        let canned = Canned::always(200, SNS_CERTIFICATE);
        let keys = FetchedKeys::new(&canned.config());
        let key = keys.get(&sns("a"), None, NOW).await.unwrap();
        assert!(key.verify(SignatureAlgorithm::RsaSha256, b"message", SIGNED_SHA256));
        assert_eq!(keys.get(&sns("a"), None, seconds(CERTIFICATE_CACHE_SECONDS - 1)).await, Ok(key.clone()));
        assert_eq!(canned.count(), 1);
        assert_eq!(keys.get(&sns("a"), None, seconds(CERTIFICATE_CACHE_SECONDS)).await, Ok(key));
        assert_eq!(canned.count(), 2);
        keys.get(&sns("b"), None, NOW).await.unwrap();
        assert_eq!(canned.count(), 3);
    }

    #[tokio::test]
    async fn a_certificate_is_not_remembered_longer_than_it_is_valid() {
        let canned = Canned::always(200, SNS_CERTIFICATE);
        let keys = FetchedKeys::new(&canned.config());
        let last = Timestamp::parse_rfc3339("2027-01-01T00:00:00Z").unwrap();
        let minute_before = last.minus(MINUTE);
        keys.get(&sns("a"), None, minute_before).await.unwrap();
        keys.get(&sns("a"), None, last).await.unwrap();
        assert_eq!(canned.count(), 1);
        let refusal = keys.get(&sns("a"), None, last.plus(Duration::from_secs(1))).await;
        assert_eq!(refusal, Err(FetchError::Refused("its certificate does not count: it has expired".to_owned())));
        assert_eq!(canned.count(), 2);
    }

    #[tokio::test]
    async fn a_key_that_could_not_be_had_is_tried_again_after_a_minute() {
        let canned = Canned::always(404, "no such key");
        let keys = FetchedKeys::new(&canned.config());
        let refused = keys.get(&sns("a"), None, NOW).await;
        assert!(matches!(refused, Err(FetchError::Refused(_))), "{refused:?}");
        canned.answer(200, SNS_CERTIFICATE);
        assert_eq!(keys.get(&sns("a"), None, seconds(MISSING_CACHE_SECONDS - 1)).await, refused);
        assert_eq!(canned.count(), 1);
        assert!(keys.get(&sns("a"), None, seconds(MISSING_CACHE_SECONDS)).await.is_ok());

        canned.answer(500, "");
        let unavailable = keys.get(&sns("b"), None, NOW).await;
        assert!(matches!(unavailable, Err(FetchError::Unavailable(_))), "{unavailable:?}");
        assert_eq!(keys.get(&sns("b"), None, seconds(MISSING_CACHE_SECONDS - 1)).await, unavailable);
        assert_eq!(canned.count(), 3);
    }

    #[tokio::test]
    async fn nobody_makes_us_fetch_at_will() {
        let canned = Canned::always(404, "");
        let keys = FetchedKeys::new(&canned.config());
        for number in 0..FETCHES_PER_MINUTE_MAX {
            assert!(matches!(keys.get(&sns(&format!("{number:x}")), None, NOW).await, Err(FetchError::Refused(_))));
        }
        canned.answer(200, SNS_CERTIFICATE);
        assert_eq!(keys.get(&sns("abc"), None, NOW).await, Err(FetchError::Budget));
        assert_eq!(keys.get(&sns("abc"), None, NOW.plus(MINUTE).minus(Duration::from_millis(1))).await, Err(FetchError::Budget));
        assert_eq!(canned.count(), FETCHES_PER_MINUTE_MAX);
        // What is refused for want of budget is not remembered as missing, other origins have their own, and the next minute is new.
        canned.answer(200, PAYPAL_CERTIFICATE);
        assert!(keys.get(&paypal("a"), None, NOW).await.is_ok());
        assert!(keys.get(&sns("abc"), None, NOW.plus(MINUTE)).await.is_ok());
    }

    #[tokio::test]
    async fn strangers_do_not_use_up_what_keys_that_have_proven_something_are_fetched_from() {
        let canned = Canned::always(200, SNS_CERTIFICATE);
        let keys = FetchedKeys::new(&canned.config());
        keys.get(&sns("abc"), None, NOW).await.unwrap();
        assert!(keys.note_proven(&sns("abc")).await);
        assert!(!keys.note_proven(&sns("abc")).await, "that is no news");
        let later = seconds(CERTIFICATE_CACHE_SECONDS);
        for number in 0..=FETCHES_PER_MINUTE_MAX {
            drop(keys.get(&sns(&format!("{number:x}")), None, later).await);
        }
        assert_eq!(keys.get(&sns("abd"), None, later).await, Err(FetchError::Budget));
        assert!(keys.get(&sns("abc"), None, later).await.is_ok(), "it is fetched again");
        // In a cold environment the ledger says so.
        assert!(keys.note_proven(&sns("abd")).await);
        assert!(keys.get(&sns("abd"), None, later).await.is_ok());
    }

    #[tokio::test]
    async fn no_more_proven_keys_are_remembered_than_the_bound() {
        let keys = FetchedKeys::new(&Canned::always(404, "").config());
        for number in 0..PROVEN_KEYS_MAX {
            assert!(keys.note_proven(&sns(&format!("{number:x}"))).await);
        }
        assert!(!keys.note_proven(&sns("fff")).await);
    }

    #[test]
    fn what_has_proven_something_is_the_last_to_be_forgotten() {
        let mut state = State::default();
        let slot = |number: usize| Slot { wanted: sns(&format!("{number:x}")), account: None };
        let remembered = |until| Remembered { key: Err(FetchError::Budget), until };
        state.proven.insert(slot(0).wanted);
        for number in 0..=KEYS_CACHED_MAX {
            state.remember(slot(number), remembered(seconds(1000 + number as u64)), NOW);
        }
        assert!(state.known(&slot(0), NOW).is_some());
        assert!(state.known(&slot(1), NOW).is_none());
    }

    #[test]
    fn no_more_keys_are_remembered_than_the_bound_and_the_lasting_ones_stay() {
        let mut state = State::default();
        let slot = |number: usize| Slot { wanted: sns(&format!("{number:x}")), account: None };
        let remembered = |until| Remembered { key: Err(FetchError::Budget), until };
        for number in 0..KEYS_CACHED_MAX {
            state.remember(slot(number), remembered(seconds(1000 + number as u64)), NOW);
        }
        assert_eq!(state.keys.len(), KEYS_CACHED_MAX);
        assert!(state.known(&slot(0), NOW).is_some());
        state.remember(slot(KEYS_CACHED_MAX), remembered(seconds(5000)), NOW);
        assert_eq!(state.keys.len(), KEYS_CACHED_MAX);
        assert!(state.known(&slot(0), NOW).is_none());
        assert!(state.known(&slot(1), NOW).is_some());
        // What is over goes first.
        state.remember(slot(0), remembered(seconds(9000)), seconds(4999));
        assert_eq!(state.keys.len(), 2);
    }

    #[tokio::test]
    async fn without_an_http_client_nothing_is_had_and_nothing_panics() {
        let keys = FetchedKeys::new(&SdkConfig::builder().build());
        assert!(matches!(keys.get(&sns("a"), None, NOW).await, Err(FetchError::Unavailable(_))));
    }

    #[test]
    fn origins_are_named_as_in_schemes() {
        let origins: Vec<KeyOrigin> = serde_json::from_str(r#"["aws-sns", "paypal", "plaid"]"#).unwrap();
        assert_eq!(origins, [KeyOrigin::AwsSns, KeyOrigin::Paypal, KeyOrigin::Plaid]);
        assert!(serde_json::from_str::<KeyOrigin>("\"google\"").is_err());
    }
}
