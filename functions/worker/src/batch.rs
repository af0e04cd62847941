//! From a batch of messages to a verdict on each.

use std::panic::AssertUnwindSafe;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures::{FutureExt, StreamExt, stream};
use shared::{doorbell::Doorbell, time::Timestamp};

use crate::{Invocation, Worker, delivering::deliver, http::Exchange};

/// Most doorbells handled at the same time: the template's batch size, so that one slow destination holds up nobody.
pub const RECORDS_CONCURRENT_MAX: usize = 10;

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
}

pub(crate) async fn work(
    worker: &Worker<impl Exchange>,
    batch: SqsEvent,
    invocation: Invocation<'_>,
) -> Result<SqsBatchResponse, lambda_runtime::Error> {
    let records = batch.records.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    let kept = stream::iter(records)
        .map(|record| async move { keep(worker, &record, invocation).await.then_some(record.message_id) })
        .buffer_unordered(RECORDS_CONCURRENT_MAX)
        .filter_map(std::future::ready)
        .collect::<Vec<_>>()
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
    Ok(Record { index, message_id, receipt_handle, body: message.body.unwrap_or_default() })
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

/// Whether the doorbell must come again.
async fn keep(worker: &Worker<impl Exchange>, record: &Record, invocation: Invocation<'_>) -> bool {
    let verdict = guarded(&record.message_id, handle(worker, record, invocation)).await;
    if let Verdict::KeepUntil(moment) = verdict {
        // Without this it comes again after the queue's visibility timeout, and the ledger then says how long to wait.
        if let Err(error) = worker.doorbells.hold(&record.receipt_handle, moment.since((invocation.now)())).await {
            tracing::warn!(message_id = record.message_id, %error, "cannot set when the doorbell comes again");
        }
    }
    verdict != Verdict::Acknowledge
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
    match deliver(worker, &doorbell, &owner, invocation).await {
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
