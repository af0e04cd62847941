//! The auditor: once a minute it accounts for every delivery that recorded events should have, and rings again for those
//! that nobody has claimed.
//!
//! It goes from its watermark to a moment ago, overlapping the last window, and moves the watermark only after its rings
//! succeeded. An hour later it looks at the same events once more, for owners that are long gone. Besides, it rings for
//! retries that are long overdue, and for paused deliveries whose destination is no longer paused. A doorbell that it
//! rings for nothing changes nothing: the ledger is the truth.

mod account;

use std::{collections::BTreeMap, path::Path, time::Duration};

use metrics::{counter, gauge};
use shared::{
    aws::{self, CallTimeouts},
    config::Gateway,
    doorbell::{Bell, Doorbell, RingError},
    environment::required,
    ledger::{Ledger, LedgerError, Status, audit::IndexedEvent},
    names::SourceName,
    time::{DAY_SECONDS, Timestamp},
};

pub use account::{Account, LEASE_OVERDUE_SECONDS, Standing};

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
/// When the third look comes on a FIFO queue, in seconds: what waits there behind another has no owner and no item, only a doorbell, and
/// SQS keeps that for 14 days.
pub const LATE_LOOK_SECONDS: u64 = 13 * DAY_SECONDS;
/// How long after it was due a retry counts as forgotten, and how often such are looked for, in seconds.
pub const OVERDUE_SECONDS: u64 = 15 * 60;
/// What is left at the end of an invocation that catches up, in seconds.
pub const CLOSING_SECONDS: u64 = 10;

/// Accounts for events.
#[derive(Debug)]
pub struct Auditor {
    /// The configuration: whose events it accounts for.
    pub gateway: Gateway,
    /// Events and deliveries.
    pub ledger: Ledger,
    /// The queue of doorbells.
    pub bell: Bell,
}

/// An audit that could not be finished: the next one begins where this one did.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What was forgotten could not be rung.
    #[error("what was forgotten could not be rung: {0}")]
    Ring(#[from] RingError),
}

impl Auditor {
    /// Composes the auditor from its environment; what is missing or wrong is named.
    pub async fn from_environment() -> Result<Self, lambda_runtime::Error> {
        let config = aws::configure("auditor", CallTimeouts::BACKGROUND).await;
        Ok(Self {
            gateway: Gateway::load(Path::new(&required("GATEWAY_CONFIG")?))?,
            ledger: Ledger::new(&config, required("LEDGER_TABLE")?),
            bell: Bell::new(&config, required("DOORBELL_QUEUE_URL")?),
        })
    }

    /// Audits from the watermark to [`AUDIT_DELAY_SECONDS`] ago, window by window, as far as the time allows.
    pub async fn audit(&self, deadline: Timestamp, now: fn() -> Timestamp) -> Result<Account, AuditError> {
        let until = now().minus(Duration::from_secs(AUDIT_DELAY_SECONDS));
        let stop = deadline.minus(Duration::from_secs(CLOSING_SECONDS));
        let mut watermark = self.ledger.watermark().await?;
        let before = watermark;
        let mut total = Account::default();
        loop {
            let from = watermark.unwrap_or_else(|| until.minus(Duration::from_secs(FIRST_WINDOW_SECONDS)));
            let to = until.min(from.plus(Duration::from_secs(WINDOW_SECONDS_MAX)));
            if to <= from {
                break;
            }
            let account = self.account(from, to, now()).await?;
            for earlier in later_looks(self.bell.is_fifo()) {
                self.account(from.minus(*earlier), to.minus(*earlier), now()).await?;
            }
            self.ledger.advance_watermark(watermark, to).await?;
            total = total.plus(&account);
            watermark = Some(to);
            if now() >= stop {
                tracing::warn!(watermark = to.to_rfc3339(), "the audit is behind and goes on the next time");
                break;
            }
        }
        let paused_now = self.ledger.overdue(Status::Paused, now()).await?;
        // Before the rings: one that fails hides nothing.
        gauge!("PausedDeliveries").set(paused_now.len() as f64);
        total.rung += self.ring_for_overdue(before, until, now()).await?;
        total.rung += self.ring_for_resumed(paused_now).await?;
        publish(&total);
        Ok(total)
    }

    /// Accounts for the window, rings for what was forgotten, and fails if that cannot be rung.
    async fn account(&self, from: Timestamp, to: Timestamp, now: Timestamp) -> Result<Account, AuditError> {
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
    ) -> Result<Account, AuditError> {
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
            let standing = Standing::of(found, event.received_at, now);
            // What the overlap shows again was counted the last time.
            if event.received_at >= from {
                account.count(standing);
            }
            match standing {
                Standing::Known(_) => {}
                Standing::Forgotten => forgotten.push(doorbell),
                Standing::Unknown => {
                    let Doorbell { source, event_id, destination, .. } = &doorbell;
                    tracing::error!(%source, %event_id, %destination, "unaccounted: the delivery is in no known state");
                }
            }
        }
        self.ring(forgotten, &mut account).await?;
        Ok(account)
    }

    async fn ring(&self, forgotten: Vec<Doorbell>, account: &mut Account) -> Result<(), AuditError> {
        if forgotten.is_empty() {
            return Ok(());
        }
        for Doorbell { source, event_id, destination, .. } in &forgotten {
            tracing::warn!(%source, %event_id, %destination, "nobody works on this delivery: ringing again");
        }
        if let Err(error) = self.bell.ring(&forgotten).await {
            counter!("Unaccounted").increment(forgotten.len() as u64);
            return Err(error.into());
        }
        account.rung += forgotten.len() as u64;
        Ok(())
    }

    /// Rings for retries whose own doorbell did not come, at every quarter of an hour that the audit passes. As with what was
    /// paused, they come from what the ledger says now and not from the window, so a ring that fails is made good by the next
    /// audit that looks, wherever the watermark is.
    async fn ring_for_overdue(&self, before: Option<Timestamp>, until: Timestamp, now: Timestamp) -> Result<u64, AuditError> {
        let quarter = |moment: Timestamp| moment.seconds() / OVERDUE_SECONDS;
        if before.is_some_and(|before| quarter(before) == quarter(until)) {
            return Ok(0);
        }
        let overdue = self.ledger.overdue(Status::Retrying, now.minus(Duration::from_secs(OVERDUE_SECONDS))).await?;
        let mut account = Account::default();
        self.ring(overdue, &mut account).await?;
        Ok(account.rung)
    }

    /// Rings for paused deliveries whose destination is no longer paused.
    async fn ring_for_resumed(&self, paused: Vec<Doorbell>) -> Result<u64, AuditError> {
        let mut is_paused = BTreeMap::new();
        let mut resumed = Vec::new();
        for doorbell in paused {
            let name = &doorbell.destination;
            let still = match is_paused.get(name) {
                Some(known) => *known,
                None => self.ledger.is_paused(name).await?,
            };
            is_paused.insert(name.clone(), still);
            if !still {
                resumed.push(doorbell);
            }
        }
        let mut account = Account::default();
        self.ring(resumed, &mut account).await?;
        Ok(account.rung)
    }
}

/// How long after the first look at a window the others come.
const fn later_looks(is_fifo: bool) -> &'static [Duration] {
    const ALL: [Duration; 2] = [Duration::from_secs(SECOND_LOOK_SECONDS), Duration::from_secs(LATE_LOOK_SECONDS)];
    if is_fifo { &ALL } else { ALL.split_at(1).0 }
}

fn publish(account: &Account) {
    for (name, count) in account.metrics() {
        counter!(name).increment(count);
    }
    tracing::info!(?account, "audited");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_on_a_fifo_queue_there_is_a_late_look() {
        let hour = Duration::from_secs(60 * 60);
        assert_eq!(later_looks(false), [hour]);
        assert_eq!(later_looks(true), [hour, 13 * 24 * hour]);
    }
}
