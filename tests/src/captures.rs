//! Somebody has captured one genuine webhook and has no secret: whatever they change of it that no signature covers, nothing comes of it.
//!
//! A case takes a preset, one of its published or made up requests, and sends it to the receiver over the model of AWS; then changed copies
//! of it, which keep the signature. What the receiver takes in of these was not signed otherwise. A case is made of its number alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    rc::Rc,
};

use aws_config::SdkConfig;
use fastrand::Rng;
use posthouse::{Catalogue, Subject};
use receiver::Receiver;
use serde_json::json;
use shared::{
    config::{ConfigError, Gateway},
    fetched::FetchedKeys,
    location::{IdPlaces, Location, Locations},
    secrets::{Keyring, Keyrings},
    signatures::preset::Preset,
    time::Timestamp,
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    model::{self, Aws, DOORBELL_QUEUE, LEDGER_TABLE, SECRETS_PREFIX, Settings},
    passage::Counts,
    requests::{self, Seed, Wire},
};

/// Copies that are sent of each captured webhook.
const COPIES: usize = 6;
/// Changes to one copy.
const CHANGES_MAX: u32 = 3;
/// Tries at making up a request that is an event.
const TRIES_MAX: usize = 4;
/// The metrics of the receiver that call a person: those that `infra/template.yaml` has an alarm on. Not `SignatureFailures`, which
/// anybody can cause without having captured anything, and not `Replays`, which has one only where somebody asked for it.
const PAGES: [&str; 3] = ["Conflicts", "StaleKeyrings", "Unreadable"];

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// The copies did nothing; so many of them were taken in.
    Held {
        /// Copies that the receiver took for the event that was there.
        taken_in: usize,
    },
    /// The request did not become an event: there was nothing to capture.
    NoEvent,
}

/// A receiver in the model, and requests of every preset.
pub struct Captures {
    aws: Aws,
    config: SdkConfig,
    receiver: Receiver,
    runtime: Runtime,
    counts: Counts,
    published: BTreeMap<String, Vec<Seed>>,
    presets: Vec<&'static str>,
    kept: BTreeMap<String, Rc<(Gateway, Subject)>>,
}

impl fmt::Debug for Captures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Captures").finish_non_exhaustive()
    }
}

impl Default for Captures {
    fn default() -> Self {
        Self::new()
    }
}

/// What there is after a request.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    /// Events in the ledger.
    events: BTreeSet<String>,
    /// Deliveries that doorbells name.
    deliveries: BTreeSet<String>,
    /// How often each metric was counted that calls a person.
    pages: [u64; PAGES.len()],
}

impl Captures {
    /// A gateway in a model of AWS.
    ///
    /// # Panics
    /// When a published request cannot be read.
    #[must_use]
    pub fn new() -> Self {
        let aws = Aws::new(Settings::posthouse(), || requests::NOW);
        let config = aws.config("receiver-1");
        let mut receiver = aws.receiver("receiver-1", Gateway::parse("", "gateway.toml").expect("nothing is no mistake"));
        // Nothing can be fetched: what needs that cannot be imitated here.
        receiver.fetched_keys = FetchedKeys::new(&SdkConfig::builder().build());
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let mut published = BTreeMap::<String, Vec<Seed>>::new();
        for seed in requests::published() {
            published.entry(seed.scheme.clone()).or_default().push(seed);
        }
        let counts = Counts::default();
        Self { aws, config, receiver, runtime, counts, published, presets: presets(), kept: BTreeMap::new() }
    }

    /// The preset of a case.
    #[must_use]
    pub fn preset(&self, number: u64) -> &'static str {
        self.presets[usize::try_from(number).unwrap_or_default() % self.presets.len()]
    }

    /// Plays one case.
    ///
    /// # Errors
    /// When a copy made an event or a delivery, called a person, or was answered 5xx; with the whole case.
    ///
    /// # Panics
    /// When a case cannot be made up.
    pub fn play(&mut self, number: u64) -> Result<Case, String> {
        let mut rng = Rng::with_seed(number);
        let name = self.preset(number);
        let Some((wire, subject, now)) = (0..TRIES_MAX).find_map(|_| self.capture(&mut rng, name)) else {
            return Ok(Case::NoEvent);
        };
        let before = self.traces();
        let mut taken_in = 0;
        for _ in 0..COPIES {
            let mut copy = wire.clone();
            forge(&mut copy, &mut rng, &subject);
            (0..rng.u32(..=CHANGES_MAX)).for_each(|_| copy.change(&mut rng));
            let status = self.send(&copy, &mut rng, now);
            taken_in += usize::from((200..300).contains(&status));
            let after = self.traces();
            if after != before || status >= 500 {
                return Err(format!(
                    "case {number}, {name}: answered {status}, and of {before:?} there is {after:?}\nthe captured one\n{}\nthe copy\n{}",
                    String::from_utf8_lossy(&wire.captured()),
                    String::from_utf8_lossy(&copy.captured())
                ));
            }
        }
        Ok(Case::Held { taken_in })
    }

    /// Sends a genuine webhook of a preset to a new gateway; `None` if no event came of it.
    fn capture(&mut self, rng: &mut Rng, name: &str) -> Option<(Wire, Subject, Timestamp)> {
        let published = self.published.get(name).map_or(&[][..], Vec::as_slice);
        let pick = rng.usize(..=published.len());
        let seed = published.get(pick).cloned().unwrap_or_else(|| Seed::made_up(name));
        let both = self.configured(&seed)?;
        let (gateway, subject) = (&both.0, &both.1);
        let secrets = seed.secrets.iter().take(10).enumerate();
        let keys: Vec<_> = secrets.map(|(index, secret)| json!({"id": index.to_string(), "secret": secret})).collect();
        let keyring_text = json!({ "keys": keys }).to_string();
        let keyring = Keyring::parse(&keyring_text).ok()?;
        let mut wire = Wire::of(&seed);
        if seed.is_made_up {
            wire.make_up(rng);
            wire.sign(subject, &keyring, seed.now);
        }
        self.aws.begin_anew(Settings::posthouse());
        self.aws.put_signing_secret("key-enrolled", &keyring_text);
        self.aws.put_signing_secret("word", "word");
        self.receiver.gateway.clone_from(gateway);
        self.receiver.keyrings = Keyrings::new(&self.config, SECRETS_PREFIX.to_owned());
        self.send(&wire, rng, seed.now);
        (!self.traces().events.is_empty()).then(|| (wire, subject.clone(), seed.now))
    }

    fn send(&self, wire: &Wire, rng: &mut Rng, now: Timestamp) -> i64 {
        let event = wire.event(rng.bool());
        let receiving = || self.runtime.block_on(self.receiver.receive(&event, "request-1", now));
        metrics::with_local_recorder(&self.counts, receiving).status_code
    }

    fn traces(&self) -> Traces {
        let items = self.aws.items(LEDGER_TABLE);
        let text = |item: &model::Item, name: &str| item.get(name).and_then(|value| value.text()).unwrap_or_default().to_owned();
        let events = items.iter().filter(|item| text(item, "sk") == "event").map(|item| text(item, "pk"));
        let doorbells = self.aws.messages(DOORBELL_QUEUE).into_iter().map(|message| format!("{:?}", message.body));
        Traces { events: events.collect(), deliveries: doorbells.collect(), pages: PAGES.map(|metric| self.counts.of(metric)) }
    }

    /// A source `a` of the seed's preset, whose routes name no type: so a content may be one event and no more.
    fn configured(&mut self, seed: &Seed) -> Option<Rc<(Gateway, Subject)>> {
        let url = seed.url.split(['#', '?']).next().unwrap_or_default();
        let key = format!("{} {url} {}", seed.scheme, seed.method);
        if let Some(both) = self.kept.get(&key) {
            return Some(both.clone());
        }
        let text = |settings: &str| {
            format!(
                "[sources.a]\nscheme = \"{}\"\nsecret = \"key-enrolled\"\nhandshake_secret = \"word\"\npublic_url = {}\n{settings}\n\
                 [destinations.d]\ntype = \"http\"\nurl = \"https://destination.example/\"\nsecret = \"s\"\n\
                 [[routes]]\nsource = \"a\"\ndestination = \"d\"\n",
                seed.scheme,
                json!(url)
            )
        };
        let parsed = |settings: &str| {
            let text = text(settings);
            let gateway = Gateway::parse(&text, "gateway.toml")?;
            Ok::<_, ConfigError>((gateway, Catalogue::parse(&text, "gateway.toml").expect("both read the same file")))
        };
        // It is refused where the type is signed.
        let (gateway, catalogue) = parsed("types_per_content = 1").or_else(|_| parsed("")).ok()?;
        let subject = catalogue.subject("a").ok()?;
        let both = Rc::new((gateway, subject));
        self.kept.insert(key, both.clone());
        Some(both)
    }
}

/// The presets whose signatures are of what is sent. Who has seen a token, or a password, can send anything with it, and the documentation
/// says so; keys that are fetched are not there.
fn presets() -> Vec<&'static str> {
    let signs = |name: &&str| {
        let scheme = Preset::find(name).expect("it is one").expect("it can be read").scheme;
        scheme.signs_content() && scheme.alternatives.iter().all(|alternative| alternative.fetched_key.is_none())
    };
    Preset::names().filter(signs).collect()
}

/// Puts something else where the event's id and type stand, if that is in a header or in the query.
fn forge(copy: &mut Wire, rng: &mut Rng, subject: &Subject) {
    let event = &subject.source.event;
    let ids = event.id.iter().flat_map(IdPlaces::places);
    let places: Vec<Location> = ids.chain(event.event_type.iter().flat_map(Locations::iter)).cloned().collect();
    for place in places {
        if rng.u8(..4) == 0 {
            continue;
        }
        let made_up = format!("made-up-{}", rng.u16(..));
        match place.root() {
            Location::Header(name) => {
                copy.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_ref()));
                if rng.u8(..4) > 0 {
                    copy.headers.push((name.to_string(), made_up));
                }
            }
            Location::Query(name) => copy.query = format!("{name}={made_up}"),
            _ => {}
        }
    }
}
