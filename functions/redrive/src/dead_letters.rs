//! The dead-letter queue, as something to go through once.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::{
    Client,
    types::{ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry},
};
use shared::{aws, doorbell::HOLD_SECONDS_MAX};

/// Most messages in one request (quota of ReceiveMessage and of the batch calls).
const BATCH_MAX: usize = 10;
/// How long to wait for messages, in seconds: long polling asks all of SQS's servers, so that "none" means none.
const WAIT_SECONDS: i32 = 2;

/// A message of the dead-letter queue.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) body: String,
    receipt_handle: String,
}

/// The dead-letter queue.
#[derive(Debug)]
pub struct DeadLetters {
    client: Client,
    queue_url: String,
}

impl DeadLetters {
    /// The dead-letter queue at this URL.
    pub fn new(config: &SdkConfig, queue_url: String) -> Self {
        Self { client: Client::new(config), queue_url }
    }

    /// The next letters, hidden for `hidden`, so that one run sees each once.
    pub(crate) async fn receive(&self, hidden: Duration) -> Result<Vec<DeadLetter>, String> {
        let seconds = hidden.as_secs().clamp(1, HOLD_SECONDS_MAX) as i32;
        let receive = self.client.receive_message().queue_url(&self.queue_url).max_number_of_messages(BATCH_MAX as i32);
        let answer = receive.visibility_timeout(seconds).wait_time_seconds(WAIT_SECONDS).send().await;
        let answer = answer.map_err(|error| aws::describe(&error))?;
        let letters = answer.messages.unwrap_or_default().into_iter();
        Ok(letters
            .filter_map(|message| {
                Some(DeadLetter { body: message.body.unwrap_or_default(), receipt_handle: message.receipt_handle? })
            })
            .collect())
    }

    /// Takes letters out for good. Those for which that fails come again.
    pub(crate) async fn remove(&self, letters: &[DeadLetter]) {
        for batch in letters.chunks(BATCH_MAX) {
            let entries = batch.iter().enumerate().map(|(index, letter)| {
                DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(&letter.receipt_handle).build()
            });
            let Ok(entries) = entries.collect::<Result<Vec<_>, _>>() else { continue };
            let delete = self.client.delete_message_batch().queue_url(&self.queue_url).set_entries(Some(entries));
            if let Err(error) = delete.send().await {
                tracing::warn!(error = aws::describe(&error), "dead letters stay in their queue");
            }
        }
    }

    /// Lets letters be seen again at once. Those for which that fails are seen when their visibility timeout ends.
    pub(crate) async fn put_back(&self, letters: &[DeadLetter]) {
        for batch in letters.chunks(BATCH_MAX) {
            let entries = batch.iter().enumerate().map(|(index, letter)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(&letter.receipt_handle)
                    .visibility_timeout(0)
                    .build()
            });
            let Ok(entries) = entries.collect::<Result<Vec<_>, _>>() else { continue };
            let change = self.client.change_message_visibility_batch().queue_url(&self.queue_url);
            if let Err(error) = change.set_entries(Some(entries)).send().await {
                tracing::warn!(error = aws::describe(&error), "dead letters are seen again only after their visibility timeout");
            }
        }
    }
}
