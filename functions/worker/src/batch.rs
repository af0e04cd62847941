//! From a batch of messages to a verdict on each.

use std::panic::AssertUnwindSafe;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures::{FutureExt, StreamExt, future::join_all, stream};
use shared::{doorbell::Doorbell, time::Timestamp};

use crate::{Invocation, Worker, delivering::deliver, http::Exchange};

/// Most doorbells handled at the same time: the template's batch size, so that one slow destination holds up nobody.
pub const RECORDS_CONCURRENT_MAX: usize = 10;

/// Where a record says its group (message system attributes of SQS).
const GROUP_ATTRIBUTE: &str = "MessageGroupId";
/// Where it says how often it was handed out.
const RECEIVES_ATTRIBUTE: &str = "ApproximateReceiveCount";

/// What becomes of a doorbell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// SQS may forget it.
    Acknowledge,
    /// It comes again at that moment.
    KeepUntil(Timestamp),
    /// It comes again when its visibility timeout ends.
    Keep,
}

/// A record of a batch, whole enough to be answered for.
struct Record {
    /// Its place in the batch: SQS may deliver one message twice, even in one batch.
    index: usize,
    message_id: String,
    receipt_handle: String,
    body: String,
    group: Option<String>,
    /// How often it was handed out, this time included.
    receives: u32,
}

/// A doorbell that was heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'r> {
    pub(crate) doorbell: &'r Doorbell,
    /// Of a FIFO queue: nothing of its group may overtake it.
    pub(crate) group: Option<&'r str>,
    /// How often it was handed out, this time included.
    pub(crate) receives: u32,
    /// Who hears it: different each time.
    pub(crate) owner: &'r str,
}

pub(crate) async fn work(
    worker: &Worker<impl Exchange>,
    batch: SqsEvent,
    invocation: Invocation<'_>,
) -> Result<SqsBatchResponse, lambda_runtime::Error> {
    let records = batch.records.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    let kept = stream::iter(lines(records, worker.doorbells.is_fifo()))
        .map(|line| async move {
            let (kept, verdict) = first_kept(&line, |record| verdict_on(worker, record, invocation)).await;
            hold(worker, kept, verdict, invocation).await;
            kept.iter().map(|record| record.message_id.clone()).collect::<Vec<_>>()
        })
        .buffer_unordered(RECORDS_CONCURRENT_MAX)
        .concat()
        .await;
    Ok(response(kept))
}

/// A record without its id could be named in no answer, and an answer with an empty id means that all have failed: then it is
/// better to say so.
fn read((index, message): (usize, SqsMessage)) -> Result<Record, lambda_runtime::Error> {
    let filled = |field: Option<String>| field.filter(|text| !text.is_empty());
    let (Some(message_id), Some(receipt_handle)) = (filled(message.message_id), filled(message.receipt_handle)) else {
        return Err("a record has no messageId or receiptHandle: this is not a batch of SQS".into());
    };
    let group = message.attributes.get(GROUP_ATTRIBUTE).cloned();
    let receives = message.attributes.get(RECEIVES_ATTRIBUTE).and_then(|count| count.parse().ok()).unwrap_or(1);
    Ok(Record { index, message_id, receipt_handle, body: message.body.unwrap_or_default(), group, receives })
}

/// The records that have to be handled one after another: on a FIFO queue those of a group, in the order of the batch. Any other stands
/// alone.
fn lines(records: Vec<Record>, is_fifo: bool) -> Vec<Vec<Record>> {
    let mut lines: Vec<Vec<Record>> = Vec::new();
    for record in records {
        let line = lines.iter_mut().find(|line| is_fifo && record.group.is_some() && line[0].group == record.group);
        match line {
            Some(line) => line.push(record),
            None => lines.push(vec![record]),
        }
    }
    lines
}

/// Handles a line until a doorbell must come again. That one and those behind it are what is kept: they are not begun, and SQS hands
/// out nothing of their group before.
async fn first_kept<'r>(line: &'r [Record], handle: impl AsyncFn(&'r Record) -> Verdict) -> (&'r [Record], Verdict) {
    for (index, record) in line.iter().enumerate() {
        let verdict = handle(record).await;
        if verdict != Verdict::Acknowledge {
            return (&line[index..], verdict);
        }
    }
    (&[], Verdict::Acknowledge)
}

/// SQS reads `batchItemFailures`, and `itemIdentifier` in each; anything else would mean that all is well.
fn response(kept: Vec<String>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = kept
        .into_iter()
        .map(|message_id| {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = message_id;
            failure
        })
        .collect();
    response
}

/// Sets when doorbells come again, all of a line at the same moment: one that stays hidden for longer would keep back its group.
async fn hold(worker: &Worker<impl Exchange>, kept: &[Record], verdict: Verdict, invocation: Invocation<'_>) {
    let Verdict::KeepUntil(moment) = verdict else { return };
    let wait = moment.since((invocation.now)());
    join_all(kept.iter().map(async |Record { receipt_handle, message_id, .. }| {
        // Without this it comes again after the queue's visibility timeout, and the ledger then says how long to wait.
        if let Err(error) = worker.doorbells.hold(receipt_handle, wait).await {
            tracing::warn!(message_id, %error, "cannot set when the doorbell comes again");
        }
    }))
    .await;
}

async fn verdict_on(worker: &Worker<impl Exchange>, record: &Record, invocation: Invocation<'_>) -> Verdict {
    guarded(&record.message_id, handle(worker, record, invocation)).await
}

/// A panic is one record's, not the batch's.
async fn guarded(message_id: &str, handling: impl Future<Output = Verdict>) -> Verdict {
    AssertUnwindSafe(handling).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(message_id, "panicked; the doorbell comes again");
        Verdict::Keep
    })
}

async fn handle(worker: &Worker<impl Exchange>, record: &Record, invocation: Invocation<'_>) -> Verdict {
    let Ok(doorbell) = serde_json::from_str::<Doorbell>(&record.body) else {
        return put_aside(worker, &record.body, "this is no doorbell").await;
    };
    let owner = format!("{}/{}/{}", invocation.request_id, record.message_id, record.index);
    let group = record.group.as_deref().filter(|_| worker.doorbells.is_fifo());
    let heard = Heard { doorbell: &doorbell, group, receives: record.receives, owner: &owner };
    match deliver(worker, heard, invocation).await {
        Ok(verdict) => verdict,
        Err(error) => {
            let Doorbell { source, event_id, destination, .. } = &doorbell;
            tracing::error!(%source, %event_id, %destination, %error, "not handled; the doorbell comes again");
            Verdict::Keep
        }
    }
}

/// Puts the message into the dead-letter queue with the reason, and only then lets the queue forget it.
pub(crate) async fn put_aside(worker: &Worker<impl Exchange>, body: &str, reason: &str) -> Verdict {
    metrics::counter!("DeadLetters").increment(1);
    match worker.dead_letters.put_aside(body, reason).await {
        Ok(()) => {
            tracing::error!(reason, "put aside into the dead-letter queue");
            Verdict::Acknowledge
        }
        Err(error) => {
            tracing::error!(reason, %error, "cannot be put aside; the doorbell comes again");
            Verdict::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_has_the_bytes_that_sqs_reads() {
        let json = |kept: &[&str]| serde_json::to_string(&response(kept.iter().map(|id| (*id).to_owned()).collect())).unwrap();
        assert_eq!(json(&[]), r#"{"batchItemFailures":[]}"#);
        assert_eq!(json(&["a", "b"]), r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"b"}]}"#);
    }

    fn record((index, group): (usize, Option<&str>)) -> Record {
        let mut message = SqsMessage::default();
        (message.message_id, message.receipt_handle) = (Some(index.to_string()), Some(index.to_string()));
        message.attributes.extend(group.map(|group| (GROUP_ATTRIBUTE.to_owned(), group.to_owned())));
        read((index, message)).unwrap()
    }

    fn ids(line: &[Record]) -> Vec<&str> {
        line.iter().map(|record| record.message_id.as_str()).collect()
    }

    #[test]
    fn records_of_a_group_stand_in_line_and_any_other_alone() {
        let groups = [None, Some("a"), Some("b"), Some("a"), None, Some("b"), Some("a")];
        let found = |is_fifo| {
            let lines = lines(groups.into_iter().enumerate().map(record).collect(), is_fifo);
            lines.iter().map(|line| ids(line).into_iter().map(str::to_owned).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(found(true), ["0", "1 3 6", "2 5", "4"]);
        assert_eq!(found(false), ["0", "1", "2", "3", "4", "5", "6"], "there a group is for fairness");
    }

    #[test]
    fn behind_one_that_is_kept_nothing_of_its_line_is_begun() {
        let line: Vec<Record> = [Some("a"); 3].into_iter().enumerate().map(record).collect();
        let later = Verdict::KeepUntil(Timestamp::from_seconds(7));
        for (verdicts, begun, kept, verdict) in [
            ([Verdict::Acknowledge; 3], vec!["0", "1", "2"], vec![], Verdict::Acknowledge),
            ([Verdict::Acknowledge, later, Verdict::Acknowledge], vec!["0", "1"], vec!["1", "2"], later),
            ([Verdict::Keep, Verdict::Acknowledge, later], vec!["0"], vec!["0", "1", "2"], Verdict::Keep),
        ] {
            let handled = std::sync::Mutex::new(Vec::new());
            let found = first_kept(&line, async |record| {
                handled.lock().unwrap().push(record.message_id.as_str());
                verdicts[record.index]
            });
            let (left, found) = found.now_or_never().unwrap();
            assert_eq!((ids(left), found), (kept, verdict));
            assert_eq!(handled.into_inner().unwrap(), begun);
        }
    }

    #[test]
    fn a_panic_keeps_its_doorbell_and_nobody_elses() {
        let panics = guarded("m", async { panic!("on purpose") });
        assert_eq!(panics.now_or_never(), Some(Verdict::Keep));
        assert_eq!(guarded("m", async { Verdict::Acknowledge }).now_or_never(), Some(Verdict::Acknowledge));
    }

    #[test]
    fn a_record_without_an_id_fails_the_batch_rather_than_being_forgotten() {
        let message = |id: Option<&str>| {
            let mut message = SqsMessage::default();
            message.message_id = id.map(str::to_owned);
            message.receipt_handle = Some("r".to_owned());
            read((0, message)).is_ok()
        };
        assert!(message(Some("m")));
        assert!(!message(Some("")));
        assert!(!message(None));
    }

    #[test]
    fn the_sample_batch_is_one_of_doorbells() {
        let batch: SqsEvent = serde_json::from_str(include_str!("../../../events/lambda/worker-batch.json")).unwrap();
        assert!(!batch.records.is_empty());
        for record in batch.records.into_iter().enumerate().map(read) {
            serde_json::from_str::<Doorbell>(&record.unwrap().body).unwrap();
        }
    }
}
