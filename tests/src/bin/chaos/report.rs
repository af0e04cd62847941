//! What is told: progress, what was broken, and the last line.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use ::tests::{destination::Effect, stack::Stack, wire::FaultReport};

use crate::{
    audit::Account,
    senders::Tally,
    verdict::{self, Found, Violation},
};

/// How often progress is told.
const TOLD: Duration = Duration::from_secs(10);
/// How many violations are told.
const VIOLATIONS_TOLD_MAX: usize = 20;

/// What is told while webhooks are sent.
pub(crate) struct Progress<'a> {
    pub(crate) stack: &'a Stack,
    pub(crate) tally: &'a Tally,
    pub(crate) webhooks: u32,
    pub(crate) clock: Instant,
}

impl Progress<'_> {
    /// Tells it for ever.
    pub(crate) async fn tell(&self) {
        loop {
            tokio::time::sleep(TOLD).await;
            let (fired, killed) = totals(&self.stack.wire.reports().await);
            println!(
                "{:>5.0} s: {} of {} webhooks, {} accepted, {} requests, {fired} AWS calls broken, {killed} kills",
                self.clock.elapsed().as_secs_f64(),
                read(&self.tally.webhooks),
                self.webhooks,
                read(&self.tally.accepted),
                read(&self.tally.requests),
            );
        }
    }
}

/// A run that has ended.
pub(crate) struct Ended<'a> {
    pub(crate) tally: &'a Tally,
    pub(crate) faults: &'a [FaultReport],
    pub(crate) found: &'a Found,
    pub(crate) account: &'a Account,
    pub(crate) violations: &'a [Violation],
    pub(crate) took: Duration,
}

/// Tells what happened, and whether everything held.
pub(crate) fn tell(ended: &Ended<'_>) -> bool {
    let Ended { tally, faults, found, account, violations, took } = ended;
    println!("\n{}", table(faults));
    println!(
        "senders       {} requests: {} answers for duplicates, {} refusals of forged ones, {} times 503, {} times another 5xx, {} times no answer",
        read(&tally.requests),
        read(&tally.duplicates),
        read(&tally.forged),
        read(&tally.unavailable),
        read(&tally.failed),
        read(&tally.unanswered),
    );
    let of = |effect| found.arrivals.iter().filter(|arrival| arrival.effect == effect).count();
    let broken = found.arrivals.iter().filter(|arrival| arrival.was_broken).count();
    println!(
        "destinations  {} requests: {} applied, {} repeats not applied again, {} refused; {broken} answered badly, late or not at all",
        found.arrivals.len(),
        of(Effect::Applied),
        of(Effect::Repeated),
        of(Effect::Refused),
    );
    println!("handler       {} customers, each as its newest order has it", found.customers.len());
    println!(
        "audit         {} recorded = {} done + {} dead + {} cancelled + {} waiting + {} queued; {} unaccounted, {} attended to",
        account.recorded,
        account.done,
        account.dead,
        account.cancelled,
        account.waiting,
        account.queued,
        account.unaccounted(),
        account.attended,
    );
    println!("took          {:.0} s\n", took.as_secs_f64());
    for Violation { kind, what } in violations.iter().take(VIOLATIONS_TOLD_MAX) {
        println!("{kind:?}: {what}");
    }
    if violations.len() > VIOLATIONS_TOLD_MAX {
        println!("and {} more", violations.len() - VIOLATIONS_TOLD_MAX);
    }
    let (fired, killed) = totals(faults);
    println!(
        "{} webhooks, {} accepted, {} faults, {killed} kills, {}",
        read(&tally.webhooks),
        read(&tally.accepted),
        fired + broken as u64,
        verdict::counts(violations)
    );
    violations.is_empty()
}

/// A line for each call that was broken.
fn table(faults: &[FaultReport]) -> String {
    let mut rows: BTreeMap<[&str; 3], (u64, usize)> = BTreeMap::new();
    for FaultReport { fault, fired, killed } in faults {
        let named = [&fault.function, &fault.service, &fault.operation].map(|name| name.as_deref().unwrap_or("any"));
        let row = rows.entry(named).or_default();
        *row = (row.0 + fired, row.1 + killed.len());
    }
    let mut table = format!("{:10} {:15} {:25} {:>7} {:>7}\n", "function", "service", "operation", "broken", "killed");
    for ([function, service, operation], (fired, killed)) in rows.into_iter().filter(|(_, (fired, _))| *fired > 0) {
        table += &format!("{function:10} {service:15} {operation:25} {fired:>7} {killed:>7}\n");
    }
    table
}

/// How many calls were broken, and how many processes were killed by it.
fn totals(faults: &[FaultReport]) -> (u64, usize) {
    (faults.iter().map(|report| report.fired).sum(), faults.iter().map(|report| report.killed.len()).sum())
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn broken_calls_are_added_up_by_operation() {
        let report = |operation: &str, fired: u64, killed: &[u32]| -> FaultReport {
            let report = json!({"function": "worker", "service": "sqs", "operation": operation, "action": "kill",
                                "fired": fired, "killed": killed});
            serde_json::from_value(report).unwrap()
        };
        let faults = [report("SendMessage", 2, &[7, 8]), report("SendMessage", 1, &[]), report("Never", 0, &[])];
        assert_eq!(totals(&faults), (3, 2));
        let table = table(&faults);
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1..], [["worker", "sqs", "SendMessage", "3", "2"]]);
    }
}
