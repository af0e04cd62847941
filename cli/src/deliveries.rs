//! `posthouse deliveries`: what a person does with a single delivery.

use std::io::Write;

use shared::{
    ledger::{Cancellation, Status},
    time::Timestamp,
};

use crate::{
    Outcome, Stop,
    args::{CancelArgs, DeliveriesArgs, DeliveriesCommand},
    stack::Stack,
};

/// Runs one of the commands.
pub(crate) async fn run(args: &DeliveriesArgs, now: Timestamp, out: &mut impl Write) -> Result<Outcome, Stop> {
    let DeliveriesCommand::Cancel(args) = &args.command;
    cancel(args, now, out).await
}

async fn cancel(args: &CancelArgs, now: Timestamp, out: &mut impl Write) -> Result<Outcome, Stop> {
    let stack = Stack::find(&args.key.stack).await?;
    let (key, destination) = (args.key.event_key(), &args.destination);
    let Some((event, _)) = stack.ledger.find(&key, now).await? else {
        writeln!(out, "there is no event {key}, or it has expired")?;
        return Ok(Outcome::No);
    };
    if !event.destinations.contains(destination) {
        let names: Vec<&str> = event.destinations.iter().map(|name| name.as_str()).collect();
        writeln!(out, "{key} does not go to {destination}, but to {}", names.join(", "))?;
        return Ok(Outcome::No);
    }
    let found = stack.ledger.delivery(&key, destination).await?.filter(|found| found.generation == event.received_at);
    let (status, attempts) = found.map_or(("queued", 0), |found| (found.status.as_str(), found.attempts));
    writeln!(out, "{key} to {destination}: {status}, attempt {attempts}")?;
    if args.dry_run {
        match status {
            _ if status == Status::Done.as_str() => writeln!(out, "would stay as it is: it is done")?,
            _ => writeln!(out, "would be cancelled: nothing would try it any more")?,
        }
        return Ok(Outcome::from(status != Status::Done.as_str()));
    }
    match stack.ledger.cancel(&event, destination, &args.reason, now).await? {
        Cancellation::Cancelled => {
            writeln!(out, "cancelled: nothing tries it any more, and no redrive takes it")?;
            Ok(Outcome::Yes)
        }
        Cancellation::AlreadyDone => {
            writeln!(out, "not cancelled: it is done")?;
            Ok(Outcome::No)
        }
        Cancellation::HeldUntil(until) => {
            writeln!(out, "not cancelled: a worker holds its lease until {}; try again then", until.to_rfc3339())?;
            Ok(Outcome::No)
        }
    }
}
