//! Redrive: sends dead letters on again, after a plan that a person has seen (`"dryRun": true`).
//!
//! For each dead letter that the plan means: look at its delivery, ring its doorbell, and only then take it out of the
//! dead-letter queue. A crash between these leaves the dead letter where it is; doing it twice rings for the same replay, which
//! runs once. A delivery that is done is not run again.

mod dead_letters;
mod request;

use std::time::Duration;

use serde::Serialize;
use shared::{
    aws::{self, CallTimeouts},
    doorbell::{Bell, Doorbell, RingError},
    environment::required,
    ledger::{Ledger, LedgerError, Status},
    time::Timestamp,
};
use tokio::time::{Interval, MissedTickBehavior, interval};

use dead_letters::{DeadLetter, DeadLetters};
pub use request::{EVENT_IDS_MAX, Filter, PER_SECOND_DEFAULT, PER_SECOND_MAX, Plan, RequestError};

/// What is left at the end of an invocation to put back what was not meant, in seconds.
pub const CLOSING_SECONDS: u64 = 15;
/// How many dead letters are looked at between two lines of progress in the log.
const PROGRESS_EVERY: u64 = 100;

/// Sends dead letters on again.
#[derive(Debug)]
pub struct Redrive {
    ledger: Ledger,
    doorbells: Bell,
    dead_letters: DeadLetters,
}

/// What a redrive did, or with `dryRun` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether it only counted.
    pub dry_run: bool,
    /// Dead letters looked at.
    pub scanned: u64,
    /// Those that the filter means.
    pub matched: u64,
    /// Those sent on again.
    pub redriven: u64,
    /// Those whose delivery was done after all: taken out of the dead-letter queue, and nothing else.
    pub already_done: u64,
    /// Those whose event is no longer in the ledger: left where they are.
    pub missing: u64,
    /// Those that name no delivery: left where they are.
    pub unreadable: u64,
    /// Those that could not be looked up or sent on: left where they are, see the log.
    pub failed: u64,
    /// Whether the whole dead-letter queue was looked at. If not, call again.
    pub complete: bool,
}

/// A redrive that could not go on. What it had sent on by then is sent on; calling again is safe.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// The dead-letter queue cannot be read.
    #[error("the dead-letter queue cannot be read: {0}")]
    Queue(String),
}

/// What becomes of one dead letter.
enum Fate {
    Redrive(Doorbell),
    AlreadyDone,
    Missing,
}

impl Redrive {
    /// Composes the function from its environment; what is missing is named.
    pub async fn from_environment() -> Result<Self, lambda_runtime::Error> {
        let config = aws::configure("redrive", CallTimeouts::BACKGROUND).await;
        Ok(Self {
            ledger: Ledger::new(&config, required("LEDGER_TABLE")?),
            doorbells: Bell::new(&config, required("DOORBELL_QUEUE_URL")?),
            dead_letters: DeadLetters::new(&config, required("DEAD_LETTER_QUEUE_URL")?),
        })
    }

    /// Follows a plan until the dead-letter queue is through, the limit is reached, or the time is up.
    pub async fn run(&self, plan: &Plan, deadline: Timestamp, now: fn() -> Timestamp) -> Result<Report, RedriveError> {
        let until = deadline.minus(Duration::from_secs(CLOSING_SECONDS));
        let mut report = Report { dry_run: plan.dry_run, ..Report::default() };
        let mut pace = interval(Duration::from_secs(1) / plan.per_second);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut put_back = Vec::new();
        let outcome = self.go_through(plan, until, now, &mut report, &mut pace, &mut put_back).await;
        // Whatever happened: what stays is to be seen again at once, not when its visibility timeout ends.
        self.dead_letters.put_back(&put_back).await;
        tracing::info!(?report, "redrive ended");
        outcome.map(|()| report)
    }

    async fn go_through(
        &self,
        plan: &Plan,
        until: Timestamp,
        now: fn() -> Timestamp,
        report: &mut Report,
        pace: &mut Interval,
        put_back: &mut Vec<DeadLetter>,
    ) -> Result<(), RedriveError> {
        while now() < until {
            let letters = self.dead_letters.receive(until.since(now())).await.map_err(RedriveError::Queue)?;
            if letters.is_empty() {
                report.complete = true;
                return Ok(());
            }
            for letter in letters {
                // Read before the letter is spent on.
                let in_plan = report.redriven < plan.limit && now() < until;
                report.scanned += 1;
                if report.scanned.is_multiple_of(PROGRESS_EVERY) {
                    tracing::info!(?report, "redriving");
                }
                if !in_plan || !self.handle(plan, &letter, report, pace, now).await {
                    put_back.push(letter);
                }
            }
            if report.redriven >= plan.limit {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the letter has left the dead-letter queue.
    async fn handle(
        &self,
        plan: &Plan,
        letter: &DeadLetter,
        report: &mut Report,
        pace: &mut Interval,
        now: fn() -> Timestamp,
    ) -> bool {
        let Ok(doorbell) = serde_json::from_str::<Doorbell>(&letter.body) else {
            report.unreadable += 1;
            return false;
        };
        if !plan.filter.means(&doorbell) {
            return false;
        }
        report.matched += 1;
        let done = match self.fate(&doorbell, now()).await {
            Ok(Fate::Missing) => {
                report.missing += 1;
                return false;
            }
            Ok(Fate::AlreadyDone) => {
                report.already_done += 1;
                plan.dry_run || self.dead_letters.remove(letter).await
            }
            Ok(Fate::Redrive(_)) if plan.dry_run => {
                report.redriven += 1;
                return false;
            }
            Ok(Fate::Redrive(again)) => {
                pace.tick().await;
                self.send_on(&again, letter, report).await
            }
            Err(error) => {
                report.failed += 1;
                tracing::error!(source = %doorbell.source, event_id = %doorbell.event_id, %error, "not redriven");
                return false;
            }
        };
        done && !plan.dry_run
    }

    async fn fate(&self, doorbell: &Doorbell, now: Timestamp) -> Result<Fate, LedgerError> {
        let key = doorbell.event_key();
        let Some(received_at) = self.ledger.received_at(&key, now).await? else { return Ok(Fate::Missing) };
        // What an expired event of the same id left behind is not this event's.
        let delivery = self.ledger.delivery(&key, &doorbell.destination).await?.filter(|found| found.generation == received_at);
        let replay = match delivery {
            Some(delivery) if delivery.status == Status::Done => return Ok(Fate::AlreadyDone),
            // One more than it has seen: rung twice, it is the same replay, and runs once.
            Some(delivery) if delivery.status == Status::Dead => delivery.replay.saturating_add(1),
            Some(delivery) => delivery.replay,
            None => 0,
        };
        Ok(Fate::Redrive(Doorbell { replay, ..doorbell.clone() }))
    }

    async fn send_on(&self, again: &Doorbell, letter: &DeadLetter, report: &mut Report) -> bool {
        let Doorbell { source, event_id, destination, replay } = again;
        let rung: Result<(), RingError> = self.doorbells.ring(std::slice::from_ref(again)).await;
        match rung {
            Ok(()) => {
                report.redriven += 1;
                tracing::info!(%source, %event_id, %destination, replay, "redriven");
                self.dead_letters.remove(letter).await
            }
            Err(error) => {
                report.failed += 1;
                tracing::error!(%source, %event_id, %destination, %error, "not redriven");
                false
            }
        }
    }
}
