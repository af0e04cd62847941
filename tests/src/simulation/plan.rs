//! What happens in a history: who sends what and when, and what goes wrong.

use std::{fmt, time::Duration};

use auditor::{AUDIT_DELAY_SECONDS, OVERLAP_SECONDS};
use fastrand::Rng;

use super::{
    director::{CREDENTIALS, Faults, Outage},
    wrong::Wrong,
};
use crate::model::Fate;

/// A history before it happens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of everything that is left to chance on the way.
    pub seed: u64,
    /// What is sent.
    pub webhooks: Vec<Webhook>,
    /// What goes wrong.
    pub faults: Faults,
    /// Whether SQS hands out a message twice now and then.
    pub sqs_repeats: bool,
    /// Whether some workers' clocks are ahead, so that they take a lease for over that is not.
    pub clocks_differ: bool,
    /// Whether destinations take seconds, so that two workers meet at one.
    pub slow_destinations: bool,
    /// How far indexes lag behind their tables.
    pub index_lag: Duration,
    /// Whether anybody audits at all.
    pub audited: bool,
    /// When audits run besides those that are needed at the end, after the beginning.
    pub audits: Vec<Duration>,
    /// When the dispatcher is first there, after the beginning.
    pub dispatched_after: Duration,
    /// Whether the schedule starts it twice each time.
    pub doubled_schedules: bool,
    /// A known wrong design to put in the place of ours.
    pub wrong: Option<Wrong>,
}

/// A webhook that a sender has to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its source.
    pub source: &'static str,
    /// Its id, as the sender gives it.
    pub id: String,
    /// What it says; the same id with another text is a conflict.
    pub text: String,
    /// When it is first sent, after the beginning.
    pub at: Duration,
    /// How often it is sent at once.
    pub copies: usize,
    /// When its sender sends again.
    pub persistence: Persistence,
    /// Whether its signature is genuine.
    pub genuine: bool,
    /// Whether its body is too large for an item, and goes to the bucket.
    pub large: bool,
}

/// How senders react to anything but a 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// As GitHub: never again.
    Never,
    /// As Stripe: for days, with growing waits.
    Stripe,
    /// As Shopify: eight times in four hours.
    Shopify,
}

impl Persistence {
    /// The waits before each further try.
    pub fn waits(self) -> &'static [Duration] {
        const MINUTE: u64 = 60;
        const STRIPE: [Duration; 9] = [
            Duration::from_secs(10),
            Duration::from_secs(MINUTE),
            Duration::from_secs(5 * MINUTE),
            Duration::from_secs(30 * MINUTE),
            Duration::from_secs(60 * MINUTE),
            Duration::from_secs(2 * 60 * MINUTE),
            Duration::from_secs(6 * 60 * MINUTE),
            Duration::from_secs(12 * 60 * MINUTE),
            Duration::from_secs(24 * 60 * MINUTE),
        ];
        const SHOPIFY: [Duration; 8] = [
            Duration::from_secs(MINUTE),
            Duration::from_secs(2 * MINUTE),
            Duration::from_secs(5 * MINUTE),
            Duration::from_secs(10 * MINUTE),
            Duration::from_secs(20 * MINUTE),
            Duration::from_secs(40 * MINUTE),
            Duration::from_secs(60 * MINUTE),
            Duration::from_secs(100 * MINUTE),
        ];
        match self {
            Self::Never => &[],
            Self::Stripe => &STRIPE,
            Self::Shopify => &SHOPIFY,
        }
    }
}

/// Where a history's webhooks come from; the second's scheme does not sign the event's id, the third goes to a handler. The last goes to
/// a destination with a rate, a bound on its concurrency and a circuit that opens soon, and its events have an order.
pub const SOURCES: [&str; 4] = ["partner", "github", "shopify", "guarded"];

/// How far indexes lag at the most, in seconds: longer than the audit stays behind, shorter than it and its overlap together.
const INDEX_LAG_SECONDS_MAX: u64 = AUDIT_DELAY_SECONDS + OVERLAP_SECONDS / 2;
/// A system small enough for every fault: one event of a source, and what comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Small {
    /// One of [`SOURCES`].
    pub source: &'static str,
    /// The second webhook.
    pub second: Second,
}

/// What comes after the first webhook of a small system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Second {
    /// The same, a minute later.
    Duplicate,
    /// The same, at the same instant.
    AtOnce,
    /// Another text under the same id, a minute later.
    Conflict,
    /// The same text under another id, a minute later: captured, where the id is not signed, else an event of its own.
    Replay,
}

impl Second {
    const ALL: [Self; 4] = [Self::Duplicate, Self::AtOnce, Self::Conflict, Self::Replay];

    const fn word(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::AtOnce => "at-once",
            Self::Conflict => "conflict",
            Self::Replay => "replay",
        }
    }
}

impl Small {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Second::ALL.into_iter().flat_map(|second| SOURCES.into_iter().map(move |source| Self { source, second }))
    }

    /// Whether there are too many calls for every pair of faults in a few minutes: where there is a second event, and where a
    /// destination's guards are asked.
    pub fn is_large(self) -> bool {
        self.second == Second::Replay || self.source == "guarded"
    }

    /// The one that is written so.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|system| system.to_string() == name)
    }
}

impl fmt::Display for Small {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.source, self.second.word())
    }
}

/// One event in so many has a large body: each of them takes as long as many others.
const LARGE_ONE_IN: u8 = 30;
/// For how long things go wrong at random.
const TROUBLE: Duration = Duration::from_secs(10 * 60);

impl Webhook {
    /// A genuine webhook, sent once at the beginning by a persistent sender.
    pub fn simple(source: &'static str, id: &str) -> Self {
        Self {
            source,
            id: id.to_owned(),
            text: format!("text of {id}"),
            at: Duration::ZERO,
            copies: 1,
            persistence: Persistence::Stripe,
            genuine: true,
            large: false,
        }
    }
}

impl Plan {
    /// The smallest history that has everything: one event and what comes after it.
    pub fn small(system: Small) -> Self {
        let first = Webhook::simple(system.source, "event-1");
        let minute = Duration::from_secs(60);
        let second = match system.second {
            Second::Duplicate => Webhook { at: minute, ..first.clone() },
            Second::AtOnce => first.clone(),
            Second::Conflict => Webhook { at: minute, text: "another text".to_owned(), ..first.clone() },
            Second::Replay => Webhook { at: minute, id: "event-2".to_owned(), ..first.clone() },
        };
        Self {
            seed: 0,
            webhooks: vec![first, second],
            faults: Faults::default(),
            sqs_repeats: false,
            clocks_differ: false,
            slow_destinations: false,
            index_lag: Duration::ZERO,
            audited: true,
            audits: Vec::new(),
            dispatched_after: Duration::ZERO,
            doubled_schedules: false,
            wrong: None,
        }
    }

    /// A history of a few webhooks, drawn by the seed.
    pub fn random(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut webhooks = Vec::new();
        let in_order = rng.u8(..8) == 0;
        for number in 0..if in_order { 3 } else { [1, 1, 1, 1, 1, 2, 3][rng.usize(..7)] } {
            // Of one source, their order can be seen.
            let source = if in_order { "guarded" } else { SOURCES[rng.usize(..SOURCES.len())] };
            webhooks.extend(drawn(&mut rng, source, number));
        }
        let one_in = [0, 6, 12, 25, 60][rng.usize(..5)];
        let mut outages = Vec::new();
        if rng.u8(..4) == 0 {
            let services = ["dynamodb", "sqs", "s3", "secretsmanager", "destination", CREDENTIALS];
            outages.push(Outage {
                service: services[rng.usize(..services.len())],
                from: Duration::from_secs(rng.u64(..120)),
                lasts: Duration::from_secs([5, 60, 600, 2 * 3600][rng.usize(..4)]),
            });
        }
        let audits = (0..[0, 0, 0, 0, 1][rng.usize(..5)]).map(|_| Duration::from_secs(rng.u64(60..600))).collect();
        Self {
            seed,
            webhooks,
            faults: Faults { one_in, random_for: TROUBLE, outages, ..Faults::default() },
            sqs_repeats: rng.u8(..3) == 0,
            clocks_differ: rng.u8(..4) == 0,
            slow_destinations: rng.u8(..4) == 0,
            index_lag: Duration::from_secs([0, 0, 1, 30, INDEX_LAG_SECONDS_MAX][rng.usize(..5)]),
            audited: true,
            audits,
            dispatched_after: Duration::from_secs([0, 0, 0, 3 * 60 * 60][rng.usize(..4)]),
            doubled_schedules: rng.u8(..4) == 0,
            wrong: None,
        }
    }
}

impl Plan {
    /// A history in which a wrong design does harm for many a seed, and ours does none: where nobody audits, senders persist.
    pub fn tempting(wrong: Wrong, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let hours = |count: u64| Duration::from_secs(count * 60 * 60);
        let webhook = |source| Webhook { copies: 2, ..Webhook::simple(source, "event-1") };
        let outage = |service, lasts| Outage { service, from: Duration::ZERO, lasts };
        let mut plan = Self {
            seed,
            webhooks: vec![webhook("partner")],
            ..Self::small(Small { source: "partner", second: Second::Duplicate })
        };
        plan.faults.random_for = TROUBLE;
        plan.faults.one_in = 5;
        match wrong {
            Wrong::DuplicatesDropped => {
                plan.audited = false;
                plan.webhooks[0].copies = 1;
                plan.faults.one_in = 0;
                plan.faults.at = [(rng.u64(..4), Fate::Kill { after_effect: false })].into();
            }
            Wrong::DeletedWhenNotRung => {
                plan.webhooks[0].copies = 3;
                plan.webhooks[0].persistence = Persistence::Never;
            }
            Wrong::HeldLeaseAcknowledged => {
                plan.audited = false;
                plan.faults.only = Some("worker");
                plan.slow_destinations = true;
                plan.sqs_repeats = true;
            }
            Wrong::FinishUnconditional => {
                plan.sqs_repeats = true;
                plan.clocks_differ = true;
                plan.slow_destinations = true;
            }
            Wrong::TtlTrusted => {
                let first = Webhook { copies: 1, ..webhook("partner") };
                plan.webhooks = vec![first.clone(), Webhook { at: hours(25), ..first }];
                plan.faults.one_in = [0, 20][rng.usize(..2)];
            }
            Wrong::WatermarkFirst => {
                plan.webhooks[0].copies = 1;
                plan.webhooks[0].persistence = Persistence::Never;
                plan.faults.one_in = 0;
                plan.faults.outages = vec![outage("sqs", hours(2))];
                plan.audits = vec![Duration::from_secs(200), Duration::from_secs(4000)];
            }
            Wrong::RedriveDropped => plan.faults.outages = vec![outage("destination", TROUBLE)],
        }
        plan
    }
}

/// One event with what may come with it: copies, later repeats, conflicts, forgeries, replays.
fn drawn(rng: &mut Rng, source: &'static str, number: usize) -> Vec<Webhook> {
    let persistence = match source {
        "github" => Persistence::Never,
        "shopify" => Persistence::Shopify,
        _ => Persistence::Stripe,
    };
    let first = Webhook {
        at: Duration::from_millis(rng.u64(..5_000)),
        copies: [1, 1, 1, 2, 3][rng.usize(..5)],
        persistence,
        large: rng.u8(..LARGE_ONE_IN) == 0,
        ..Webhook::simple(source, &format!("event-{number}"))
    };
    let mut webhooks = vec![first.clone()];
    let later = |rng: &mut Rng| first.at + Duration::from_millis([100, 5_000, 60_000, 600_000][rng.usize(..4)]);
    if rng.u8(..2) == 0 {
        webhooks.push(Webhook { at: later(rng), copies: 1, ..first.clone() });
    }
    if rng.u8(..6) == 0 {
        webhooks.push(Webhook { at: later(rng), text: format!("another text of event-{number}"), copies: 1, ..first.clone() });
    }
    if rng.u8(..6) == 0 {
        let at = if rng.bool() { first.at / 2 } else { later(rng) };
        webhooks.push(Webhook { at, genuine: false, id: format!("forged-{number}"), copies: 1, ..first.clone() });
    }
    if rng.u8(..6) == 0 {
        // Captured, and sent again under another id: seen only where the id is not signed.
        webhooks.push(Webhook { at: later(rng), id: format!("replayed-{number}"), copies: 1, ..first });
    }
    webhooks
}
