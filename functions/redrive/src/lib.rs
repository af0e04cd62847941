//! Redrive: sends dead letters on again, after a plan that a person has seen (`"dryRun": true`).
//!
//! For each dead letter that the plan means: look at its delivery, ring its doorbell, and only then take it out of the
//! dead-letter queue. A crash between these leaves the dead letter where it is; doing it twice rings for the same replay, which
//! runs once. A delivery that is done is not run again.

mod dead_letters;
mod request;

use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use shared::{
    aws::{self, CallTimeouts},
    doorbell::{Bell, Doorbell},
    environment::required,
    ledger::{Ledger, LedgerError, Status},
    time::Timestamp,
};
use tokio::time::{Interval, MissedTickBehavior, interval};

use dead_letters::DeadLetter;
pub use dead_letters::DeadLetters;
pub use request::{EVENT_IDS_MAX, Filter, PER_SECOND_DEFAULT, PER_SECOND_MAX, Plan, RequestError};

/// What is left at the end of an invocation to put back what was not meant, in seconds.
pub const CLOSING_SECONDS: u64 = 15;
/// How many dead letters are looked at between two lines of progress in the log.
const PROGRESS_EVERY: u64 = 100;

/// Sends dead letters on again.
#[derive(Debug)]
pub struct Redrive {
    /// Events and deliveries.
    pub ledger: Ledger,
    /// The queue of doorbells.
    pub doorbells: Bell,
    /// The dead-letter queue.
    pub dead_letters: DeadLetters,
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
    /// Those whose delivery was done after all, or cancelled: taken out of the dead-letter queue, and nothing else.
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

/// What a look at a dead letter says.
enum Judgement {
    /// It names no delivery.
    Unreadable,
    /// The plan does not mean it.
    NotMeant,
    /// Its event is no longer in the ledger.
    Missing,
    /// It could not be looked up.
    Failed,
    /// Its delivery is done after all, or was cancelled.
    AlreadyDone,
    /// This doorbell brings its delivery on.
    Redrive(Doorbell),
}

/// One redrive under way.
struct Run<'a> {
    redrive: &'a Redrive,
    plan: &'a Plan,
    report: Report,
    pace: Interval,
    /// What was looked at and stays.
    put_back: Vec<DeadLetter>,
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
        let mut pace = interval(Duration::from_secs(1) / plan.per_second);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let report = Report { dry_run: plan.dry_run, ..Report::default() };
        let mut run = Run { redrive: self, plan, report, pace, put_back: Vec::new() };
        let outcome = run.go_through(deadline.minus(Duration::from_secs(CLOSING_SECONDS)), now).await;
        // Whatever happened: what stays is to be seen again at once, not when its visibility timeout ends.
        self.dead_letters.put_back(&run.put_back).await;
        tracing::info!(report = ?run.report, "redrive ended");
        outcome.map(|()| run.report)
    }

    async fn judge(&self, letter: &DeadLetter, plan: &Plan, now: Timestamp) -> Judgement {
        let Ok(doorbell) = serde_json::from_str::<Doorbell>(&letter.body) else { return Judgement::Unreadable };
        if !plan.filter.means(&doorbell) {
            return Judgement::NotMeant;
        }
        self.look_up(&doorbell, now).await.unwrap_or_else(|error| {
            let Doorbell { source, event_id, destination, .. } = &doorbell;
            tracing::error!(%source, %event_id, %destination, %error, "not redriven");
            Judgement::Failed
        })
    }

    async fn look_up(&self, doorbell: &Doorbell, now: Timestamp) -> Result<Judgement, LedgerError> {
        let key = doorbell.event_key();
        let Some(received_at) = self.ledger.received_at(&key, now).await? else { return Ok(Judgement::Missing) };
        // What an expired event of the same id left behind is not this event's.
        let delivery = self.ledger.delivery(&key, &doorbell.destination).await?.filter(|found| found.generation == received_at);
        let replay = match delivery {
            // A person who has ended it meant that.
            Some(delivery) if matches!(delivery.status, Status::Done | Status::Cancelled) => return Ok(Judgement::AlreadyDone),
            // One more than it has seen: rung twice, it is the same replay, and runs once.
            Some(delivery) if delivery.status == Status::Dead => delivery.replay.saturating_add(1),
            Some(delivery) => delivery.replay,
            None => 0,
        };
        Ok(Judgement::Redrive(Doorbell { replay, ..doorbell.clone() }))
    }
}

impl Run<'_> {
    async fn go_through(&mut self, until: Timestamp, now: fn() -> Timestamp) -> Result<(), RedriveError> {
        while now() < until && self.report.redriven < self.plan.limit {
            let letters = self.redrive.dead_letters.receive(until.since(now())).await.map_err(RedriveError::Queue)?;
            if letters.is_empty() {
                self.report.complete = true;
                return Ok(());
            }
            let at = now();
            let judgements = join_all(letters.iter().map(|letter| self.redrive.judge(letter, self.plan, at))).await;
            self.act(letters.into_iter().zip(judgements).collect()).await;
        }
        Ok(())
    }

    /// Counts a batch, sends on what is to be sent on, and takes out what no longer belongs there.
    async fn act(&mut self, judged: Vec<(DeadLetter, Judgement)>) {
        let mut to_remove = Vec::new();
        let mut to_ring = Vec::new();
        for (letter, judgement) in judged {
            self.count(&judgement);
            let room = self.report.redriven + (to_ring.len() as u64) < self.plan.limit;
            match judgement {
                Judgement::AlreadyDone if !self.plan.dry_run => to_remove.push(letter),
                Judgement::Redrive(doorbell) if room => to_ring.push((letter, doorbell)),
                _ => self.put_back.push(letter),
            }
        }
        if self.plan.dry_run {
            self.report.redriven += to_ring.len() as u64;
            self.put_back.extend(to_ring.into_iter().map(|(letter, _)| letter));
        } else {
            to_remove.extend(self.ring(to_ring).await);
        }
        // What cannot be taken out comes again, and is then found done or rung for the same replay.
        self.redrive.dead_letters.remove(&to_remove).await;
    }

    fn count(&mut self, judgement: &Judgement) {
        let report = &mut self.report;
        report.scanned += 1;
        match judgement {
            Judgement::Unreadable => report.unreadable += 1,
            Judgement::NotMeant => return,
            Judgement::Missing => report.missing += 1,
            Judgement::Failed => report.failed += 1,
            Judgement::AlreadyDone => report.already_done += 1,
            Judgement::Redrive(_) => {}
        }
        if !matches!(judgement, Judgement::Unreadable) {
            report.matched += 1;
        }
        if report.scanned.is_multiple_of(PROGRESS_EVERY) {
            tracing::info!(?report, "redriving");
        }
    }

    /// Rings at the plan's pace; gives back the letters that may leave the dead-letter queue.
    async fn ring(&mut self, to_ring: Vec<(DeadLetter, Doorbell)>) -> Vec<DeadLetter> {
        for _ in &to_ring {
            self.pace.tick().await;
        }
        let (letters, doorbells): (Vec<DeadLetter>, Vec<Doorbell>) = to_ring.into_iter().unzip();
        if doorbells.is_empty() {
            return letters;
        }
        if let Err(error) = self.redrive.doorbells.ring(&doorbells).await {
            // Some may have been rung: they stay all the same, and ring for the same replay the next time.
            self.report.failed += doorbells.len() as u64;
            tracing::error!(%error, "not redriven");
            self.put_back.extend(letters);
            return Vec::new();
        }
        self.report.redriven += doorbells.len() as u64;
        for Doorbell { source, event_id, destination, replay } in &doorbells {
            tracing::info!(%source, %event_id, %destination, replay, "redriven");
        }
        letters
    }
}
