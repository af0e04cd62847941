//! The senders: they sign, post, and try again as each of them does.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use ::tests::stack::{Stack, unix_now};
use futures::{StreamExt as _, future::join_all, stream};
use tokio::sync::Semaphore;

use crate::webhooks::{MANNERS, Manner, Planned};

/// Webhooks that are under way at the same time: most of them wait before their next try.
const UNDER_WAY_MAX: usize = 256;
/// Requests at the same time. Each has a process of its own, as each request at Lambda has an environment.
const REQUESTS_MAX: usize = 24;
/// The waits between the tries of one webhook, in milliseconds; the last one again and again.
const WAITS_MILLIS: [u64; 6] = [200, 500, 1_000, 2_000, 4_000, 8_000];
/// How often somebody who forges tries while the answer is that we are not available.
const FORGED_TRIES_MAX: u32 = 3;
/// How long a sender waits for an answer: longer than API Gateway would, so that no answer means that there is none.
const ANSWER: Duration = Duration::from_secs(35);
/// A connection that was idle for longer may just be being closed.
const IDLE: Duration = Duration::from_secs(1);
/// The key of somebody who has none: valid in every provider's form.
const NO_KEY: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// What is counted while it happens.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) webhooks: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) forged: AtomicU64,
    pub(crate) unavailable: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) unanswered: AtomicU64,
}

/// What became of a webhook as its sender knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Some answer was 2xx.
    pub(crate) accepted: bool,
    /// What was answered that is neither 2xx nor an outage: a sender does not try again then.
    pub(crate) refused: Option<u16>,
}

/// The senders of one run.
pub(crate) struct Senders<'a> {
    stack: &'a Stack,
    http: reqwest::Client,
    keys: HashMap<&'static str, String>,
    turns: Semaphore,
    tally: &'a Tally,
}

impl<'a> Senders<'a> {
    pub(crate) async fn new(stack: &'a Stack, tally: &'a Tally) -> Self {
        let mut keys = HashMap::new();
        for manner in &MANNERS {
            let oldest = stack.keyring(&format!("source/{}", manner.secret)).await.pop().expect("a keyring has a valid key");
            keys.insert(manner.source, oldest.secret);
        }
        let http = reqwest::Client::builder().timeout(ANSWER).pool_idle_timeout(IDLE).no_proxy().build();
        Self { stack, http: http.expect("the client's settings are valid"), keys, turns: Semaphore::new(REQUESTS_MAX), tally }
    }

    /// Sends all of them, and says what became of each.
    pub(crate) async fn send(&self, planned: &[Planned]) -> Vec<Sent> {
        let sending = planned.iter().enumerate().map(async |(place, one)| (place, self.send_one(one).await));
        // Unordered: one that waits before its next try holds up nobody.
        let mut sent: Vec<(usize, Sent)> = stream::iter(sending).buffer_unordered(UNDER_WAY_MAX).collect().await;
        sent.sort_by_key(|(place, _)| *place);
        sent.into_iter().map(|(_, sent)| sent).collect()
    }

    async fn send_one(&self, planned: &Planned) -> Sent {
        let sent = if planned.is_forged {
            self.insist(planned, NO_KEY, FORGED_TRIES_MAX).await
        } else {
            let key = &self.keys[planned.manner.source];
            let copies = (0..planned.copies).map(|_| self.insist(planned, key, planned.manner.tries_max));
            let copies = join_all(copies).await;
            let mut sent =
                Sent { accepted: copies.iter().any(|copy| copy.accepted), refused: copies.iter().find_map(|copy| copy.refused) };
            if sent.accepted && planned.again {
                sent.refused = sent.refused.or(self.insist(planned, key, planned.manner.tries_max).await.refused);
            }
            sent
        };
        self.tally.webhooks.fetch_add(1, Ordering::Relaxed);
        self.tally.accepted.fetch_add(u64::from(sent.accepted), Ordering::Relaxed);
        sent
    }

    /// Tries until there is a verdict, and `tries_max` times at the most.
    async fn insist(&self, planned: &Planned, key: &str, tries_max: u32) -> Sent {
        let mut waits = WAITS_MILLIS.into_iter().chain(std::iter::repeat(WAITS_MILLIS[WAITS_MILLIS.len() - 1]));
        for tried in 1..=tries_max {
            let counter = match self.post(planned.manner, planned, key).await {
                Some(status @ 200..=299) => {
                    self.tally.duplicates.fetch_add(u64::from(status == 200), Ordering::Relaxed);
                    return Sent { accepted: true, refused: None };
                }
                Some(status @ 300..=499) => {
                    self.tally.forged.fetch_add(u64::from(planned.is_forged), Ordering::Relaxed);
                    return Sent { accepted: false, refused: Some(status) };
                }
                Some(503) => &self.tally.unavailable,
                Some(_) => &self.tally.failed,
                None => &self.tally.unanswered,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            if tried < tries_max {
                tokio::time::sleep(Duration::from_millis(waits.next().unwrap_or_default())).await;
            }
        }
        Sent::default()
    }

    /// The status of the answer, or nothing if there was none.
    async fn post(&self, manner: &Manner, planned: &Planned, key: &str) -> Option<u16> {
        let _turn = self.turns.acquire().await;
        self.tally.requests.fetch_add(1, Ordering::Relaxed);
        let webhook = manner.provider.sign(&planned.sample.body, &planned.sample.id, key, unix_now());
        let mut request = self.http.post(self.stack.webhook_url(manner.source)).body(webhook.body);
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        request.send().await.ok().map(|answer| answer.status().as_u16())
    }
}
