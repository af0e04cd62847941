//! After the faults: waiting until nothing is under way any more, as long as that may take.

use std::time::{Duration, Instant};

use ::tests::stack::Stack;
use redrive::EVENT_IDS_MAX;
use serde_json::json;

use crate::{
    audit,
    evidence::{Entries, doorbells},
    functions::start,
    webhooks::Planned,
};

/// How long it may take until all is settled: three times what a killed worker's doorbell takes to come back, what the auditor waits
/// before it attends to what was never rung, and circuits that have opened several times, each for twice as long.
const SETTLED_MAX: Duration = Duration::from_secs(10 * 60);
/// The wait between two looks at the whole ledger.
const LOOK: Duration = Duration::from_secs(3);
/// How often progress is told.
const TOLD: Duration = Duration::from_secs(10);

/// Where the deliveries of a run stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Those of all events in the ledger.
    pub(crate) expected: u64,
    pub(crate) done: u64,
    pub(crate) dead: u64,
}

impl Standing {
    pub(crate) fn of(planned: &[Planned], entries: &Entries) -> Self {
        let recorded = planned.iter().filter(|one| !one.is_forged && entries.events.contains(&one.key()));
        let statuses = recorded.flat_map(|one| {
            let key = one.key();
            one.destinations().map(move |destination| entries.status(&key, destination))
        });
        statuses.fold(Self::default(), |standing, status| Self {
            expected: standing.expected + 1,
            done: standing.done + u64::from(status == "done"),
            dead: standing.dead + u64::from(status == "dead"),
        })
    }
}

/// Waits until every delivery is done and, unless it has to be quick, no doorbell is left that could ring for one of them again. What is dead is redriven; for what nobody rang and for what waits, auditor
/// and dispatcher are started again and again.
pub(crate) async fn settle(stack: &Stack, run: &str, planned: &[Planned], quick: bool, clock: Instant) -> Standing {
    let began = Instant::now();
    let mut told: Option<Instant> = None;
    loop {
        let entries = Entries::read(stack, run).await;
        let standing = Standing::of(planned, &entries);
        let ringing = doorbells(stack, run).await;
        let is_settled = standing.done == standing.expected && (quick || ringing == 0);
        let is_late = began.elapsed() > SETTLED_MAX;
        if is_settled || is_late || told.is_none_or(|told| told.elapsed() >= TOLD) {
            told = Some(Instant::now());
            let Standing { expected, done, dead } = standing;
            let seconds = clock.elapsed().as_secs_f64();
            println!("{seconds:>5.0} s: {done} of {expected} deliveries done, {dead} dead, {ringing} doorbells");
        }
        if is_settled || is_late {
            return standing;
        }
        if standing.dead > 0 {
            start(stack, "RedriveFunctionName", &json!({"eventIds": dead_ids(planned, &entries)})).await;
        }
        if quick {
            audit::ahead(stack).await;
        } else {
            audit::deployed(stack).await;
        }
        start(stack, "DispatcherFunctionName", &json!({})).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// Events with a dead delivery, as many as one redrive takes.
fn dead_ids(planned: &[Planned], entries: &Entries) -> Vec<String> {
    let is_dead = |one: &&Planned| one.destinations().any(|destination| entries.status(&one.key(), destination) == "dead");
    planned.iter().filter(is_dead).map(Planned::key).take(EVENT_IDS_MAX).collect()
}
