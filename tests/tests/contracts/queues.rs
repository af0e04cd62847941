//! SQS: standard queues.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message, MessageAttributeValue,
    MessageSystemAttributeName as System, QueueAttributeName, SendMessageBatchRequestEntry,
};
use tokio::time::{Instant, sleep};

use crate::{
    contract,
    ground::{Difference, Ground, RECEIVES_MAX, VISIBILITY, code, eventually},
};

/// A little more than a time that was asked for.
const MARGIN: Duration = Duration::from_millis(700);

async fn send(ground: &Ground, queue: &str, body: &str) -> String {
    ground.sqs.send_message().queue_url(queue).message_body(body).send().await.unwrap().message_id.unwrap()
}

/// Receives what there is now.
async fn receive(ground: &Ground, queue: &str) -> Vec<Message> {
    let receive = ground.sqs.receive_message().queue_url(queue).max_number_of_messages(10).message_attribute_names("All");
    receive.message_system_attribute_names(System::All).send().await.unwrap().messages.unwrap_or_default()
}

/// Receives the one message that there is, sooner or later.
async fn receive_one(ground: &Ground, queue: &str) -> Message {
    for _ in 0..100 {
        let mut messages = receive(ground, queue).await;
        assert!(messages.len() < 2, "{messages:?}");
        if let Some(message) = messages.pop() {
            return message;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("no message came");
}

fn handle(message: &Message) -> &str {
    message.receipt_handle.as_deref().unwrap()
}

fn system<'m>(message: &'m Message, name: &System) -> &'m str {
    message.attributes.as_ref().and_then(|attributes| attributes.get(name)).map_or("", String::as_str)
}

async fn delete(ground: &Ground, queue: &str, handle: &str) -> String {
    code(&ground.sqs.delete_message().queue_url(queue).receipt_handle(handle).send().await)
}

async fn hide(ground: &Ground, queue: &str, handle: &str, seconds: i32) -> String {
    let change = ground.sqs.change_message_visibility().queue_url(queue).receipt_handle(handle);
    code(&change.visibility_timeout(seconds).send().await)
}

#[test]
fn a_message_comes_as_it_was_sent() {
    contract(async |ground| {
        let queues = ground.queues().await;
        let reason = MessageAttributeValue::builder().data_type("String").string_value("é, because").build().unwrap();
        let send = ground.sqs.send_message().queue_url(&queues.dead).message_body("{\"a\": \"\u{1f600}\t\"}");
        let sent = send.message_attributes("reason", reason.clone()).send().await.unwrap();
        let message = receive_one(ground, &queues.dead).await;
        assert_eq!(message.message_id, sent.message_id);
        assert_eq!(message.body.as_deref(), Some("{\"a\": \"\u{1f600}\t\"}"));
        assert_eq!(message.md5_of_body, sent.md5_of_message_body);
        assert_eq!(message.message_attributes, Some(HashMap::from([("reason".to_owned(), reason)])));
        assert_eq!(system(&message, &System::ApproximateReceiveCount), "1");
        assert!(system(&message, &System::SentTimestamp).parse::<u64>().unwrap() > 1_600_000_000_000);
        assert!(system(&message, &System::ApproximateFirstReceiveTimestamp).parse::<u64>().unwrap() > 1_600_000_000_000);
        let plain = ground.sqs.receive_message().queue_url(&queues.work).send().await.unwrap();
        assert_eq!(plain.messages.unwrap_or_default().len(), 0);
    });
}

#[test]
fn a_received_message_is_hidden_and_comes_again() {
    contract(async |ground| {
        let queues = ground.queues().await;
        let id = send(ground, &queues.work, "a").await;
        let first = receive_one(ground, &queues.work).await;
        assert_eq!(receive(ground, &queues.work).await, []);
        sleep(VISIBILITY + MARGIN).await;
        let second = receive_one(ground, &queues.work).await;
        assert_eq!(second.message_id.as_deref(), Some(id.as_str()));
        assert_ne!(handle(&first), handle(&second));
        assert_eq!(system(&second, &System::ApproximateReceiveCount), "2");
        assert_eq!(
            system(&first, &System::ApproximateFirstReceiveTimestamp),
            system(&second, &System::ApproximateFirstReceiveTimestamp)
        );
        assert_eq!(delete(ground, &queues.work, handle(&second)).await, "ok");
        let again = delete(ground, &queues.work, handle(&second)).await;
        ground.expect(&again.as_str(), &"ok", Difference::OldHandles, &"ReceiptHandleIsInvalid");
        sleep(VISIBILITY + MARGIN).await;
        assert_eq!(receive(ground, &queues.work).await, []);
    });
}

#[test]
fn a_message_whose_time_is_over_can_still_be_deleted_by_its_last_handle() {
    contract(async |ground| {
        let queues = ground.queues().await;
        send(ground, &queues.work, "a").await;
        let first = receive_one(ground, &queues.work).await;
        sleep(VISIBILITY + MARGIN).await;
        assert_eq!(delete(ground, &queues.work, handle(&first)).await, "ok");
        assert_eq!(receive(ground, &queues.work).await, []);
    });
}

/// "If you use an old ReceiptHandle, the request will succeed, but the message might not be deleted" (DeleteMessage).
#[test]
fn deleting_by_an_earlier_handle_succeeds_whatever_it_does() {
    contract(async |ground| {
        let queues = ground.queues().await;
        send(ground, &queues.work, "a").await;
        let first = receive_one(ground, &queues.work).await;
        assert_eq!(hide(ground, &queues.work, handle(&first), 0).await, "ok");
        receive_one(ground, &queues.work).await;
        let earlier = delete(ground, &queues.work, handle(&first)).await;
        ground.expect(&earlier.as_str(), &"ok", Difference::OldHandles, &"ReceiptHandleIsInvalid");
    });
}

#[test]
fn a_message_in_flight_is_hidden_for_longer_or_shown_at_once() {
    contract(async |ground| {
        let queues = ground.queues().await;
        send(ground, &queues.work, "a").await;
        let first = receive_one(ground, &queues.work).await;
        assert_eq!(hide(ground, &queues.work, handle(&first), 4).await, "ok");
        sleep(VISIBILITY + MARGIN).await;
        assert_eq!(receive(ground, &queues.work).await, [], "longer than the queue's own time");
        sleep(Duration::from_secs(4) - VISIBILITY).await;
        let second = receive_one(ground, &queues.work).await;
        assert_eq!(hide(ground, &queues.work, handle(&second), 0).await, "ok");
        let third = receive_one(ground, &queues.work).await;
        assert_eq!(system(&third, &System::ApproximateReceiveCount), "3");
    });
}

#[test]
fn a_message_is_hidden_for_at_most_twelve_hours() {
    contract(async |ground| {
        let queues = ground.queues().await;
        send(ground, &queues.work, "a").await;
        let message = receive_one(ground, &queues.work).await;
        // The twelve hours are those from its receipt.
        sleep(Duration::from_secs(1) + MARGIN / 7).await;
        let mut taken = Vec::new();
        for seconds in [43_200, 43_201, -1] {
            if hide(ground, &queues.work, handle(&message), seconds).await == "ok" {
                taken.push(seconds);
            }
        }
        ground.expect(&taken, &vec![], Difference::Ranges, &vec![43_200, 43_201, -1]);
        assert_eq!(hide(ground, &queues.work, handle(&message), 12 * 60 * 60 - 300).await, "ok");
    });
}

#[test]
fn what_is_not_in_flight_cannot_be_hidden() {
    contract(async |ground| {
        let queues = ground.queues().await;
        send(ground, &queues.work, "a").await;
        let message = receive_one(ground, &queues.work).await;
        assert_eq!(hide(ground, &queues.work, handle(&message), 0).await, "ok");
        let visible = hide(ground, &queues.work, handle(&message), 1).await;
        ground.expect(&(visible == "ok"), &false, Difference::NotInFlight, &true);
        assert_eq!(hide(ground, &queues.work, "nonsense", 10).await, "ReceiptHandleIsInvalid");
        assert_eq!(delete(ground, &queues.work, "nonsense").await, "ReceiptHandleIsInvalid");
        let message = receive_one(ground, &queues.work).await;
        assert_eq!(delete(ground, &queues.work, handle(&message)).await, "ok");
        assert_ne!(hide(ground, &queues.work, handle(&message), 10).await, "ok", "it is gone");
    });
}

#[test]
fn a_message_that_was_received_too_often_goes_to_the_dead_letter_queue() {
    contract(async |ground| {
        let queues = ground.queues().await;
        let id = send(ground, &queues.work, "a").await;
        let mut sent = String::new();
        for count in 1..=RECEIVES_MAX {
            let message = receive_one(ground, &queues.work).await;
            assert_eq!(system(&message, &System::ApproximateReceiveCount), count.to_string());
            sent = system(&message, &System::SentTimestamp).to_owned();
            assert_eq!(hide(ground, &queues.work, handle(&message), 0).await, "ok");
        }
        // The next receive moves it.
        eventually(true, async || {
            assert_eq!(receive(ground, &queues.work).await, []);
            let counts = counts(ground, &queues.dead).await;
            counts.0 == 1
        })
        .await;
        let dead = receive_one(ground, &queues.dead).await;
        assert_eq!(dead.message_id, Some(id), "it keeps its id");
        assert_eq!(dead.body.as_deref(), Some("a"));
        assert_eq!(system(&dead, &System::SentTimestamp), sent, "a dead-letter queue keeps the original enqueue time");
    });
}

/// Visible, in flight, delayed.
async fn counts(ground: &Ground, queue: &str) -> (u32, u32, u32) {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let ask = ground.sqs.get_queue_attributes().queue_url(queue).set_attribute_names(Some(names.to_vec()));
    let found = ask.send().await.unwrap().attributes.unwrap();
    let [visible, in_flight, delayed] = names.map(|name| found[&name].parse().unwrap());
    (visible, in_flight, delayed)
}

#[test]
fn a_queue_says_how_many_messages_it_has() {
    contract(async |ground| {
        let queues = ground.queues().await;
        assert_eq!(counts(ground, &queues.work).await, (0, 0, 0));
        send(ground, &queues.work, "a").await;
        ground.sqs.send_message().queue_url(&queues.work).message_body("later").delay_seconds(60).send().await.unwrap();
        eventually((1, 0, 1), async || counts(ground, &queues.work).await).await;
        let message = receive_one(ground, &queues.work).await;
        hide(ground, &queues.work, handle(&message), 60).await;
        eventually((0, 1, 1), async || counts(ground, &queues.work).await).await;
        let all = ground.sqs.get_queue_attributes().queue_url(&queues.work).attribute_names(QueueAttributeName::All);
        let all = all.send().await.unwrap().attributes.unwrap();
        assert_eq!(all[&QueueAttributeName::VisibilityTimeout], VISIBILITY.as_secs().to_string());
        let policy: serde_json::Value = serde_json::from_str(&all[&QueueAttributeName::RedrivePolicy]).unwrap();
        assert_eq!(policy["maxReceiveCount"].to_string().trim_matches('"'), RECEIVES_MAX.to_string());
    });
}

#[test]
fn a_receive_waits_for_a_message_as_long_as_it_says() {
    contract(async |ground| {
        let queues = ground.queues().await;
        let waits = ground.sqs.receive_message().queue_url(&queues.work).wait_time_seconds(1);
        let began = Instant::now();
        assert_eq!(waits.clone().send().await.unwrap().messages.unwrap_or_default().len(), 0);
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
        let (received, _) = tokio::join!(waits.wait_time_seconds(10).send(), async {
            sleep(Duration::from_millis(200)).await;
            send(ground, &queues.work, "a").await
        });
        assert_eq!(received.unwrap().messages.unwrap_or_default().len(), 1);
        let too_long = ground.sqs.receive_message().queue_url(&queues.work).wait_time_seconds(21).send().await;
        let too_many = ground.sqs.receive_message().queue_url(&queues.work).max_number_of_messages(11).send().await;
        let taken = (code(&too_long) == "ok", code(&too_many) == "ok");
        ground.expect(&taken, &(false, false), Difference::Ranges, &(true, false));
    });
}

#[test]
fn a_receive_hides_for_as_long_as_it_says() {
    contract(async |ground| {
        let queues = ground.queues().await;
        send(ground, &queues.work, "a").await;
        let receive_for = async |seconds: i32| {
            let receive = ground.sqs.receive_message().queue_url(&queues.work).visibility_timeout(seconds).wait_time_seconds(1);
            receive.send().await.unwrap().messages.unwrap_or_default()
        };
        assert_eq!(receive_for(4).await.len(), 1);
        sleep(VISIBILITY).await;
        assert_eq!(receive(ground, &queues.work).await.len(), 0);
        sleep(VISIBILITY + MARGIN).await;
        assert_eq!(receive_for(4).await.len(), 1);
        let too_long = ground.sqs.receive_message().queue_url(&queues.work).visibility_timeout(43_201).send().await;
        ground.expect(&(code(&too_long) == "ok"), &false, Difference::Ranges, &true);
    });
}

fn entry(id: &str, body: &str) -> SendMessageBatchRequestEntry {
    SendMessageBatchRequestEntry::builder().id(id).message_body(body).build().unwrap()
}

#[test]
fn a_batch_takes_ten_and_fails_entry_by_entry() {
    contract(async |ground| {
        let queues = ground.queues().await;
        let send = async |entries: Vec<SendMessageBatchRequestEntry>| {
            ground.sqs.send_message_batch().queue_url(&queues.dead).set_entries(Some(entries)).send().await
        };
        let numbered = |count: u32| (0..count).map(|number| entry(&number.to_string(), "a")).collect::<Vec<_>>();
        assert_eq!(code(&send(numbered(0)).await), "AWS.SimpleQueueService.EmptyBatchRequest");
        assert_eq!(code(&send(numbered(11)).await), "AWS.SimpleQueueService.TooManyEntriesInBatchRequest");
        assert_eq!(code(&send(vec![entry("a", "a"), entry("a", "b")]).await), "AWS.SimpleQueueService.BatchEntryIdsNotDistinct");
        assert_eq!(code(&send(vec![entry("a b", "a")]).await), "AWS.SimpleQueueService.InvalidBatchEntryId");
        let half = "x".repeat(600 * 1024);
        let too_long = send(vec![entry("a", &half), entry("b", &half)]).await;
        assert_eq!(code(&too_long), "AWS.SimpleQueueService.BatchRequestTooLong");
        let mixed = send(vec![entry("good", "a"), entry("bad", "\u{1}")]).await.unwrap();
        assert_eq!(mixed.successful.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["good"]);
        let failed: Vec<_> =
            mixed.failed.iter().map(|entry| (entry.id.as_str(), entry.code.as_str(), entry.sender_fault)).collect();
        assert_eq!(failed, [("bad", "InvalidMessageContents", true)]);
        assert_eq!(send(numbered(10)).await.unwrap().successful.len(), 10);
        eventually((11, 0, 0), async || counts(ground, &queues.dead).await).await;
    });
}

#[test]
fn batches_delete_and_show_again() {
    contract(async |ground| {
        let queues = ground.queues().await;
        for body in ["a", "b", "c"] {
            send(ground, &queues.dead, body).await;
        }
        let mut messages = Vec::new();
        for _ in 0..20 {
            messages.extend(receive(ground, &queues.dead).await);
            if messages.len() == 3 {
                break;
            }
        }
        messages.sort_by_key(|message| message.body.clone());
        let [a, b, _] = messages.as_slice() else { panic!("{messages:?}") };
        let remove =
            |id: &str, handle: &str| DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(handle).build().unwrap();
        let delete = ground.sqs.delete_message_batch().queue_url(&queues.dead);
        let deleted = delete.entries(remove("0", handle(a))).entries(remove("1", "nonsense")).send().await.unwrap();
        assert_eq!(deleted.successful.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["0"]);
        assert_eq!(deleted.failed.iter().map(|entry| entry.code.as_str()).collect::<Vec<_>>(), ["ReceiptHandleIsInvalid"]);
        let show = ChangeMessageVisibilityBatchRequestEntry::builder().id("0").receipt_handle(handle(b)).visibility_timeout(0);
        let change = ground.sqs.change_message_visibility_batch().queue_url(&queues.dead).entries(show.build().unwrap());
        let changed = change.send().await.unwrap();
        assert_eq!((changed.successful.len(), changed.failed.len()), (1, 0));
        assert_eq!(receive_one(ground, &queues.dead).await.body.as_deref(), Some("b"));
    });
}

#[test]
fn what_is_no_message_is_refused() {
    contract(async |ground| {
        let queues = ground.queues().await;
        let send = |body: String| ground.sqs.send_message().queue_url(&queues.dead).message_body(body);
        assert_eq!(code(&send("x".repeat(1024 * 1024)).send().await), "ok");
        assert_ne!(code(&send("x".repeat(1024 * 1024 + 1)).send().await), "ok");
        assert_ne!(code(&send(String::new()).send().await), "ok");
        for refused in ["\0", "\u{1f}", "\u{fffe}", "\u{ffff}"] {
            assert_eq!(code(&send(refused.to_owned()).send().await), "InvalidMessageContents", "{refused:?}");
        }
        assert_eq!(code(&send("\t\n\r\u{7f}\u{fffd}".to_owned()).send().await), "ok");
        let empty = MessageAttributeValue::builder().data_type("String").string_value("").build().unwrap();
        let empty = code(&send("a".to_owned()).message_attributes("reason", empty).send().await);
        ground.expect(&(empty == "ok"), &false, Difference::EmptyAttribute, &true);
        assert_eq!(code(&send("a".to_owned()).delay_seconds(900).send().await), "ok");
        let too_long = code(&send("a".to_owned()).delay_seconds(901).send().await);
        ground.expect(&(too_long == "ok"), &false, Difference::Ranges, &true);
        let nowhere = ground.sqs.send_message().queue_url(format!("{}-none", queues.work)).message_body("a").send().await;
        assert_eq!(code(&nowhere), "AWS.SimpleQueueService.NonExistentQueue");
    });
}
