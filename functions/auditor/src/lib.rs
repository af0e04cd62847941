//! The auditor: once a minute it accounts for every delivery that recorded events should have. One that is not over, and at which
//! nobody would look, gets an entry in the ledger, by which the dispatcher finds it.
//!
//! It goes from its watermark to a moment ago, overlapping the last window, and moves the watermark only after that is written. An
//! hour later it looks at the same events once more. It sends no message: whatever waits is the dispatcher's.

mod account;

use std::{collections::BTreeSet, path::Path, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use metrics::counter;
use shared::{
    aws::{self, CallTimeouts},
    config::Gateway,
    doorbell::Doorbell,
    environment::required,
    ledger::{DestinationState, LOOK_AGAIN_SECONDS, Ledger, LedgerError, audit::IndexedEvent},
    names::SourceName,
    time::Timestamp,
};

pub use account::{Account, Standing};

/// How far behind the clock the audit stays, in seconds: the index has caught up, and a worker that is a little behind has not
/// been rung for twice.
pub const AUDIT_DELAY_SECONDS: u64 = 90;
/// How much of the last window is looked at again, in seconds: for clocks that differ and an index that lagged.
pub const OVERLAP_SECONDS: u64 = 60;
/// How much is audited at once after a pause, in seconds; the watermark moves after each.
pub const WINDOW_SECONDS_MAX: u64 = 120;
/// How far back the first audit of a stack goes, in seconds.
pub const FIRST_WINDOW_SECONDS: u64 = 60 * 60;
/// How long after the first look the second one comes, in seconds: by then every lease of the first has ended long ago.
pub const SECOND_LOOK_SECONDS: u64 = 60 * 60;
/// Entries that are written at the same time.
const WRITES_CONCURRENT_MAX: usize = 16;
/// What is left at the end of an invocation that catches up, in seconds.
pub const CLOSING_SECONDS: u64 = 10;

/// Accounts for events.
#[derive(Debug)]
pub struct Auditor {
    /// The configuration: whose events it accounts for.
    pub gateway: Gateway,
    /// Events and deliveries.
    pub ledger: Ledger,
}

impl Auditor {
    /// Composes the auditor from its environment; what is missing or wrong is named.
    pub async fn from_environment() -> Result<Self, lambda_runtime::Error> {
        let config = aws::configure("auditor", CallTimeouts::BACKGROUND).await;
        Ok(Self {
            gateway: Gateway::load(Path::new(&required("GATEWAY_CONFIG")?))?,
            ledger: Ledger::new(&config, required("LEDGER_TABLE")?),
        })
    }

    /// Audits from the watermark to [`AUDIT_DELAY_SECONDS`] ago, window by window, as far as the time allows.
    pub async fn audit(&self, deadline: Timestamp, now: fn() -> Timestamp) -> Result<Account, LedgerError> {
        let until = now().minus(Duration::from_secs(AUDIT_DELAY_SECONDS));
        let stop = deadline.minus(Duration::from_secs(CLOSING_SECONDS));
        let mut watermark = self.ledger.watermark().await?;
        let mut total = Account::default();
        loop {
            let from = watermark.unwrap_or_else(|| until.minus(Duration::from_secs(FIRST_WINDOW_SECONDS)));
            let to = until.min(from.plus(Duration::from_secs(WINDOW_SECONDS_MAX)));
            if to <= from {
                break;
            }
            let account = self.account(from, to, now()).await?;
            let earlier = Duration::from_secs(SECOND_LOOK_SECONDS);
            self.account(from.minus(earlier), to.minus(earlier), now()).await?;
            self.ledger.advance_watermark(watermark, to).await?;
            total = total.plus(&account);
            watermark = Some(to);
            if now() >= stop {
                tracing::warn!(watermark = to.to_rfc3339(), "the audit is behind and goes on the next time");
                break;
            }
        }
        publish(&total);
        Ok(total)
    }

    /// Accounts for the window, attends to what nobody would look at, and fails if that cannot be written.
    async fn account(&self, from: Timestamp, to: Timestamp, now: Timestamp) -> Result<Account, LedgerError> {
        let mut account = Account::default();
        for source in self.gateway.sources.keys() {
            account = account.plus(&self.account_of(source, from, to, now).await?);
        }
        Ok(account)
    }

    async fn account_of(
        &self,
        source: &SourceName,
        from: Timestamp,
        to: Timestamp,
        now: Timestamp,
    ) -> Result<Account, LedgerError> {
        let overlapping = from.minus(Duration::from_secs(OVERLAP_SECONDS));
        let events = self.ledger.events_between(source, overlapping, to).await?;
        let expected: Vec<(&IndexedEvent, Doorbell)> = events
            .iter()
            .flat_map(|event| event.destinations.iter().map(move |name| (event, Doorbell::first(&event.key, name))))
            .collect();
        let doorbells: Vec<Doorbell> = expected.iter().map(|(_, doorbell)| doorbell.clone()).collect();
        let progress = self.ledger.progress(&doorbells).await?;
        let mut account = Account::default();
        let mut forgotten = Vec::new();
        for (event, doorbell) in expected {
            let found = progress.get(&(doorbell.event_key(), doorbell.destination.clone()));
            let standing = Standing::of(found, event.received_at);
            // What the overlap shows again was counted the last time.
            if event.received_at >= from {
                account.count(standing);
            }
            match standing {
                Standing::Known(_) => {}
                Standing::Unclaimed | Standing::Unattended { .. } => forgotten.push((event, doorbell, standing)),
                Standing::Unknown => {
                    let Doorbell { source, event_id, destination, .. } = &doorbell;
                    tracing::error!(%source, %event_id, %destination, "unaccounted: the delivery is in no known state");
                }
            }
        }
        account.attended = self.attend(forgotten, now).await?;
        Ok(account)
    }

    /// Gives entries to deliveries at which nobody would look. How many got one: the others have gone on meanwhile.
    async fn attend(&self, forgotten: Vec<(&IndexedEvent, Doorbell, Standing)>, now: Timestamp) -> Result<u64, LedgerError> {
        if forgotten.is_empty() {
            return Ok(0);
        }
        let later = now.plus(Duration::from_secs(LOOK_AGAIN_SECONDS));
        let destinations: BTreeSet<_> = forgotten.iter().map(|(_, doorbell, _)| &doorbell.destination).collect();
        for destination in destinations {
            // Before the entries: the dispatcher looks only where something is registered.
            self.ledger.register(destination, &DestinationState::default(), later).await?;
        }
        let attended = stream::iter(forgotten)
            .map(|(event, doorbell, standing)| async move {
                let is_new = match standing {
                    Standing::Unattended { until, .. } => {
                        let look_at = until.map_or(later, |until| later.max(until.plus(Duration::from_secs(LOOK_AGAIN_SECONDS))));
                        self.ledger.attend_claimed(&doorbell, event.received_at, look_at).await?
                    }
                    // Its message may be in the queue still. The dispatcher rings only while workers have room for more, so that a
                    // backlog does not multiply.
                    _ => self.ledger.attend_unclaimed(&doorbell, event.received_at, event.expires_at).await?,
                };
                let Doorbell { source, event_id, destination, .. } = &doorbell;
                match standing {
                    Standing::Unclaimed if is_new => {
                        tracing::warn!(%source, %event_id, %destination, "nobody has claimed this delivery: it is rung for again")
                    }
                    // In a retry, as likely as not. If it is forgotten, the dispatcher finds it.
                    _ => tracing::info!(%source, %event_id, %destination, ?standing, "this delivery will be looked at again"),
                }
                Ok(u64::from(is_new))
            })
            .buffer_unordered(WRITES_CONCURRENT_MAX);
        attended.try_fold(0, async |sum, one| Ok(sum + one)).await
    }
}

fn publish(account: &Account) {
    for (name, count) in account.metrics() {
        counter!(name).increment(count);
    }
    tracing::info!(?account, "audited");
}
