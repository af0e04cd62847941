//! Whether the command line gives the receiver's verdict: the same requests are sent to the receiver in the model of AWS, as API Gateway
//! hands them over, and judged by `posthouse verify`, as they are captured.
//!
//! The requests are those of the published vectors and samples that are signed here, as they are and changed in many ways, for every preset
//! and for schemes of a configuration. A case is made of its number alone, so that one that fails can be looked at again.

use std::{collections::HashMap, fmt, rc::Rc, time::Duration};

use aws_config::SdkConfig;
use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use fastrand::Rng;
use posthouse::{Case, Catalogue, Judged, Subject};
use receiver::Receiver;
use serde_json::{Value, json};
use shared::{
    config::Gateway,
    door::{Keys, Rejection, Verdict},
    fetched::FetchedKeys,
    secrets::{Keyring, Keyrings},
    signatures::preset::Preset,
    time::Timestamp,
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    model::{self, Aws, SECRETS_PREFIX, Settings},
    requests::{self, NOW, Seed, Wire},
};

const OWN_SCHEMES: &str = include_str!("../../cli/testdata/own-schemes.toml");
/// Schemes of that file, and the presets whose requests are theirs.
const OWN: [(&str, &str); 12] = [
    ("hex-after-prefix", "github"),
    ("versioned-text", "slack"),
    ("list-in-one-header", "stripe"),
    ("encoded-secret", "standard-webhooks"),
    ("registered-url", "square"),
    ("public-key", "discord"),
    ("elliptic-curve", "sendgrid"),
    ("plain-hash", "cloudinary"),
    ("shared-word", "gitlab"),
    ("key-by-name", "pusher"),
    ("signed-token", "messagebird-jwt"),
    ("two-ways", "twilio"),
];
/// How long enrolment is open, where it is.
const ENROLLING: Duration = Duration::from_secs(600);
/// Most changes to one request.
const CHANGES_MAX: u32 = 3;
/// Configurations that are kept.
const KEPT_MAX: usize = 4096;

/// A receiver in the model, and the command line beside it.
pub struct Agreement {
    aws: Aws,
    config: SdkConfig,
    receiver: Receiver,
    runtime: Runtime,
    seeds: Vec<Seed>,
    kept: HashMap<String, Rc<(Gateway, Subject)>>,
    schemes: String,
}

impl fmt::Debug for Agreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Agreement").finish_non_exhaustive()
    }
}

/// What both say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It becomes an event.
    Webhook,
    /// It is answered, and nothing is recorded: a handshake, or a batch without events.
    Handshake,
    /// It is refused.
    Refused,
}

#[derive(Debug, PartialEq, Eq)]
struct Said {
    kind: Kind,
    status: u16,
    /// Id and type of each event.
    events: Vec<(String, String)>,
}

impl Default for Agreement {
    fn default() -> Self {
        Self::new()
    }
}

impl Agreement {
    /// A gateway in a model of AWS.
    ///
    /// # Panics
    /// When a vector cannot be read.
    #[must_use]
    pub fn new() -> Self {
        let aws = Aws::new(Settings::posthouse(), || NOW);
        let gateway = Gateway::parse("", "gateway.toml").expect("nothing is no mistake");
        let config = aws.config("receiver-1");
        let mut receiver = aws.receiver("receiver-1", gateway);
        // Nothing can be fetched: what needs that is an outage.
        receiver.fetched_keys = FetchedKeys::new(&SdkConfig::builder().build());
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let mut seeds = requests::published();
        let own: Vec<Seed> = OWN
            .iter()
            .flat_map(|(scheme, preset)| {
                let of_preset = seeds.iter().filter(|seed| seed.scheme == *preset);
                of_preset.map(|seed| Seed { scheme: (*scheme).to_owned(), ..seed.clone() }).collect::<Vec<_>>()
            })
            .collect();
        seeds.extend(own);
        let made_up = Preset::names().chain(OWN.iter().map(|(scheme, _)| *scheme)).map(Seed::made_up);
        let made_up: Vec<Seed> = made_up.collect();
        seeds.extend(made_up);
        Self { aws, config, receiver, runtime, seeds, kept: HashMap::new(), schemes: OWN_SCHEMES.to_owned() }
    }

    /// Makes up one case, and compares what both say. Gives what they say, and with which status.
    ///
    /// # Errors
    /// When they do not say the same; with the whole case.
    ///
    /// # Panics
    /// When a case cannot be made up.
    pub fn compare(&mut self, number: u64) -> Result<(Kind, u16), String> {
        let mut rng = Rng::with_seed(number);
        let seed = self.seeds[rng.usize(..self.seeds.len())].clone();
        let config = configuration(&mut rng, &seed, &self.schemes);
        let both = self.configured(&config);
        let (gateway, subject) = &*both;
        let mut wire = Wire::of(&seed);
        let keyring_text = keyring_text(&mut rng, &seed, subject);
        let keyring = Keyring::parse(&keyring_text).expect("it is made to be one");
        if seed.is_made_up {
            wire.make_up(&mut rng);
            wire.sign(subject, &keyring, seed.now);
        }
        let changes = if rng.u8(..4) == 0 { 0 } else { rng.u32(..=CHANGES_MAX) };
        (0..changes).for_each(|_| wire.change(&mut rng));
        let now = if rng.u8(..16) == 0 { seed.now.plus(Duration::from_secs(rng.u64(..1200))) } else { seed.now };
        let handshake_text = seed.verify_token.clone().unwrap_or_else(|| "word".to_owned());

        self.aws.put_signing_secret("key-enrolled", &keyring_text);
        self.aws.put_signing_secret("word", &handshake_text);
        self.aws.begin_anew(Settings::posthouse());
        self.receiver.gateway.clone_from(gateway);
        self.receiver.keyrings = Keyrings::new(&self.config, SECRETS_PREFIX.to_owned());
        let event = wire.event(rng.bool());
        let response = self.runtime.block_on(self.receiver.receive(&event, "request-1", now));
        let received = self.said(&response);

        let handshake_keyring = Keyring::parse(&handshake_text).expect("a word is a keyring");
        let keys = Keys { keyring: &keyring, handshake_keyring: Some(&handshake_keyring), fetched: None };
        let is_enrolling = keyring_text.contains("enrolUntil") && now < seed.now.plus(ENROLLING);
        let judged = told(subject, &wire.captured(), keys, now, is_enrolling);
        match judged {
            Ok(judged) if judged == received => Ok((received.kind, received.status)),
            judged => Err(format!(
                "case {number}: the receiver says {received:?}, and the command line {judged:?}\n{config}\nat {now:?}\n{}\n{:?}",
                String::from_utf8_lossy(&wire.captured()),
                response.body
            )),
        }
    }

    fn configured(&mut self, config: &str) -> Rc<(Gateway, Subject)> {
        if let Some(both) = self.kept.get(config) {
            return both.clone();
        }
        if self.kept.len() >= KEPT_MAX {
            self.kept.clear();
        }
        let gateway = Gateway::parse(config, "gateway.toml").unwrap_or_else(|error| panic!("{error}\n{config}"));
        let catalogue = Catalogue::parse(config, "gateway.toml").expect("both read the same file");
        let subject = catalogue.subject("a").expect("both read the same file");
        let both = Rc::new((gateway, subject));
        self.kept.insert(config.to_owned(), both.clone());
        both
    }

    /// What the receiver says: by its answer, and by what it has written.
    fn said(&self, response: &ApiGatewayV2httpResponse) -> Said {
        let status = u16::try_from(response.status_code).expect("a status");
        let items = self.aws.items(model::LEDGER_TABLE);
        let text = |item: &model::Item, name: &str| item.get(name).and_then(|value| value.text()).map(str::to_owned);
        let recorded = items.iter().filter(|item| text(item, "sk").as_deref() == Some("event")).map(|item| {
            let key = text(item, "pk").expect("an event has a key");
            let (_, event_id) = key.split_once('#').expect("source and id");
            (event_id.to_owned(), text(item, "type").expect("an event has a type"))
        });
        let mut events: Vec<(String, String)> = recorded.collect();
        events.sort();
        let kind = match (events.is_empty(), status) {
            (false, _) => Kind::Webhook,
            (true, 200..300) => Kind::Handshake,
            (true, _) => Kind::Refused,
        };
        Said { kind, status, events }
    }
}

/// What the command line says of a captured request.
fn told(subject: &Subject, captured: &[u8], keys: Keys<'_>, now: Timestamp, is_enrolling: bool) -> Result<Said, String> {
    let webhook = posthouse::webhook(captured, subject).map_err(|stop| stop.to_string())?;
    let source = &subject.source;
    let mut verdict = Case { source, webhook: &webhook, keys, now }.verdict();
    // Whether enrolment is open, only the stack knows.
    if let Ok(Verdict::Handshake { greeting, .. }) = &verdict
        && greeting.enrol.is_some()
        && !is_enrolling
    {
        verdict = Err(Rejection::EnrolmentClosed);
    }
    let Judged { headline, status, events } = Judged::of(source, &verdict);
    let texts = events.into_iter().map(|(event_id, event_type)| (event_id.to_string(), event_type.to_string()));
    let mut events: Vec<(String, String)> = texts.collect();
    events.sort();
    let kind = match (headline.as_str(), events.is_empty()) {
        ("valid", false) => Kind::Webhook,
        ("valid", true) if source.event.each.is_some() => Kind::Handshake,
        (words, true) if words.starts_with("handshake: answered ") => Kind::Handshake,
        (_, true) => Kind::Refused,
        (words, false) => return Err(format!("an event, and yet `{words}`")),
    };
    Ok(Said { kind, status, events })
}

/// A source `a` of the seed's scheme, with settings of its own.
fn configuration(rng: &mut Rng, seed: &Seed, schemes: &str) -> String {
    let is_own = OWN.iter().any(|(scheme, _)| *scheme == seed.scheme);
    let mut config = if is_own { format!("{schemes}\n") } else { String::new() };
    config.push_str(&format!(
        "[sources.a]\nscheme = \"{}\"\nsecret = \"key-enrolled\"\nhandshake_secret = \"word\"\n",
        seed.scheme
    ));
    // A signed URL is the registered one.
    let url = seed.url.split('#').next().unwrap_or_default();
    match rng.u8(..8) {
        0 => {}
        1 => config.push_str(&format!("public_url = {}\n", json!(url))),
        _ => config.push_str(&format!("public_url = {}\n", json!(url.split('?').next()))),
    }
    // Handshakes come by methods of their own.
    let is_plain = Preset::find(&seed.scheme).is_none_or(|preset| preset.is_ok_and(|preset| preset.handshakes.is_empty()));
    if is_plain && rng.bool() {
        config.push_str(&format!("methods = [\"{}\"]\n", seed.method));
    }
    if rng.u8(..16) == 0 {
        config.push_str(&format!("body_bytes_max = {}\n", 1 + rng.usize(..100)));
    }
    if rng.u8(..16) == 0 {
        config.push_str("body = \"json\"\n");
    }
    if rng.u8(..8) == 0 {
        config.push_str("answer = { status = 204, body = \"\" }\n");
    }
    let unreadable = if rng.u8(..3) == 0 { "unreadable = \"refuse\"" } else { "unreadable = \"accept\"" };
    let event = match (is_own, rng.u8(..4)) {
        (true, 2) => format!("each = \"/events\", id = \"json:/id\", type = \"json:/type\", {unreadable}"),
        (true, 0 | 1) => format!("id = \"json:/id\", type = \"json:/type\", {unreadable}"),
        (false, 0) => format!("type = [\"header:x-type\", \"json:/type\"], {unreadable}"),
        _ => unreadable.to_owned(),
    };
    config.push_str(&format!("event = {{ {event} }}\n"));
    config
}

/// The source's keyring: mostly the one that signed, and sometimes one that is open for enrolment.
fn keyring_text(rng: &mut Rng, seed: &Seed, subject: &Subject) -> String {
    let mut secrets = seed.secrets.clone();
    if seed.is_made_up {
        // One of them is written as the scheme says.
        rng.shuffle(&mut secrets);
        secrets.retain(|secret| !subject.source.scheme.alternatives.is_empty() && !secret.is_empty());
    }
    if secrets.is_empty() || rng.u8(..16) == 0 {
        secrets = vec!["another".to_owned()];
    }
    let keys: Vec<Value> =
        secrets.iter().take(10).enumerate().map(|(index, secret)| json!({"id": index.to_string(), "secret": secret})).collect();
    let mut keyring = json!({ "keys": keys });
    if rng.bool() {
        keyring["enrolUntil"] = seed.now.plus(ENROLLING).to_rfc3339().into();
    }
    keyring.to_string()
}
