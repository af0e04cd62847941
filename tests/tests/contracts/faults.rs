//! The model alone: what it makes of the fates of calls, through the SDK's own retries and timeouts.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_dynamodb::types::{KeysAndAttributes, TransactWriteItem, Update};
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use shared::aws::{CALL_ATTEMPTS_MAX, CallTimeouts};
use tests::model::{Aws, BODIES_BUCKET, DOORBELL_QUEUE, Failure, Fate, LEDGER_TABLE, Latency, Service, Settings};
use tokio::time::{Instant, timeout};

use crate::ground::{clock, code, item, n, on_the_model, s};

/// An account whose calls meet these fates, one after the other, and then succeed.
fn fated(fates: &[Fate]) -> Aws {
    let aws = Aws::new(Settings::posthouse(), clock());
    let mut fates: VecDeque<Fate> = fates.iter().copied().collect();
    aws.on_call(move |_| fates.pop_front().unwrap_or(Fate::Succeed));
    aws
}

async fn add(aws: &Aws, function: &str) -> String {
    let dynamodb = aws_sdk_dynamodb::Client::new(&aws.config(function));
    let update = dynamodb.update_item().table_name(LEDGER_TABLE).key("pk", s("a")).key("sk", s("a"));
    code(&update.update_expression("ADD times :one").expression_attribute_values(":one", n(1)).send().await)
}

/// How often the effect happened.
fn effects(aws: &Aws) -> u64 {
    aws.item(LEDGER_TABLE, "a", "a").and_then(|item| item["times"].number()).unwrap_or_default()
}

#[test]
fn the_sdk_tries_again_whatever_the_failure_and_effects_may_double() {
    on_the_model(async || {
        for failure in [Failure::ConnectionReset, Failure::InternalError, Failure::Throttled] {
            for (fates, expected) in [
                (vec![Fate::FailBefore(failure)], (1, 2)),
                (vec![Fate::FailAfter(failure)], (2, 2)),
                (vec![Fate::FailBefore(failure), Fate::FailAfter(failure)], (2, 3)),
            ] {
                let aws = fated(&fates);
                assert_eq!(add(&aws, "worker").await, "ok", "{fates:?}");
                assert_eq!((effects(&aws), aws.calls()), expected, "{fates:?}");
            }
            let aws = fated(&[Fate::FailBefore(failure); 3]);
            assert_ne!(add(&aws, "worker").await, "ok");
            assert_eq!((effects(&aws), aws.calls()), (0, CALL_ATTEMPTS_MAX.into()));
        }
    });
}

#[test]
fn each_service_fails_with_its_own_errors() {
    on_the_model(async || {
        let aws = fated(&[]);
        aws.put_secret("s", "text");
        let config = aws.config("worker");
        let sqs = aws_sdk_sqs::Client::new(&config);
        let s3 = aws_sdk_s3::Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(true).build());
        let secrets = aws_sdk_secretsmanager::Client::new(&config);
        for (failure, expected) in [
            (Failure::InternalError, ["InternalServerError", "InternalFailure", "InternalError", "InternalServiceError"]),
            (
                Failure::Throttled,
                ["ProvisionedThroughputExceededException", "RequestThrottled", "SlowDown", "ThrottlingException"],
            ),
        ] {
            aws.on_call(move |_| Fate::FailBefore(failure));
            let send = sqs.send_message().queue_url(aws.queue_url(DOORBELL_QUEUE)).message_body("a").send().await;
            let get = s3.get_object().bucket(BODIES_BUCKET).key("a").send().await;
            let secret = secrets.get_secret_value().secret_id("s").send().await;
            assert_eq!([add(&aws, "worker").await, code(&send), code(&get), code(&secret)], expected);
        }
    });
}

#[test]
fn a_call_that_hangs_runs_into_the_timeouts() {
    on_the_model(async || {
        let aws = fated(&[Fate::Hang { after_effect: true }]);
        let began = Instant::now();
        assert_eq!(add(&aws, "receiver").await, "ok");
        assert_eq!((effects(&aws), aws.calls()), (2, 2));
        assert!(began.elapsed() >= CallTimeouts::INTERACTIVE.attempt && began.elapsed() < CallTimeouts::INTERACTIVE.operation);

        let aws = fated(&[Fate::Hang { after_effect: false }; 9]);
        let began = Instant::now();
        assert_ne!(add(&aws, "worker").await, "ok");
        assert_eq!((effects(&aws), aws.calls()), (0, 2));
        assert_eq!(began.elapsed().as_secs(), CallTimeouts::BACKGROUND.operation.as_secs());
    });
}

#[test]
fn a_killed_function_hears_nothing_and_does_nothing_more() {
    on_the_model(async || {
        for (after_effect, expected) in [(false, 0), (true, 1)] {
            let aws = fated(&[Fate::Kill { after_effect }]);
            tokio::select! {
                biased;
                answer = add(&aws, "worker-1") => panic!("answered {answer}"),
                () = aws.killed("worker-1") => {}
            }
            assert_eq!(effects(&aws), expected);
            // Whoever still waits for it runs into the SDK's own timeout.
            assert_ne!(add(&aws, "worker-1").await, "ok");
            assert_eq!((effects(&aws), aws.calls()), (expected, 1), "a dead function calls nobody");
            assert_eq!(add(&aws, "worker-2").await, "ok");
            assert!(timeout(Duration::from_secs(60), aws.killed("worker-2")).await.is_err());
        }
    });
}

#[test]
fn what_is_left_out_of_a_batch_fails_or_stays_unprocessed() {
    on_the_model(async || {
        let left_out = Fate::Partly { left_out: 0b010 };
        let aws = fated(&[left_out, left_out]);
        let config = aws.config("worker");
        let entries = ["0", "1", "2"].map(|id| SendMessageBatchRequestEntry::builder().id(id).message_body(id).build().unwrap());
        let sqs = aws_sdk_sqs::Client::new(&config);
        let send = sqs.send_message_batch().queue_url(aws.queue_url(DOORBELL_QUEUE)).set_entries(Some(entries.to_vec()));
        let sent = send.send().await.unwrap();
        assert_eq!(sent.failed.iter().map(|entry| (entry.id.as_str(), entry.sender_fault)).collect::<Vec<_>>(), [("1", false)]);
        assert_eq!(aws.messages(DOORBELL_QUEUE).iter().map(|message| message.body.as_str()).collect::<Vec<_>>(), ["0", "2"]);

        let keys = ["0", "1", "2"].map(|sk| item([("pk", s("a")), ("sk", s(sk))]));
        let request = KeysAndAttributes::builder().set_keys(Some(keys.to_vec())).build().unwrap();
        let get = aws_sdk_dynamodb::Client::new(&config).batch_get_item().request_items(LEDGER_TABLE, request);
        let mut unprocessed = get.send().await.unwrap().unprocessed_keys.unwrap();
        assert_eq!(unprocessed.remove(LEDGER_TABLE).unwrap().keys, [keys[1].clone()]);
    });
}

#[test]
fn a_contended_transaction_is_cancelled_for_each_of_its_items() {
    on_the_model(async || {
        let aws = fated(&[Fate::FailBefore(Failure::Contended)]);
        let update = Update::builder().table_name(LEDGER_TABLE).key("pk", s("a")).key("sk", s("a"));
        let update = update.update_expression("ADD times :one").expression_attribute_values(":one", n(1)).build().unwrap();
        let write = aws_sdk_dynamodb::Client::new(&aws.config("worker")).transact_write_items();
        let written = write.transact_items(TransactWriteItem::builder().update(update).build()).send().await;
        let cancelled = written.unwrap_err().into_service_error();
        let reasons = match &cancelled {
            aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError::TransactionCanceledException(
                cancelled,
            ) => cancelled.cancellation_reasons(),
            other => panic!("{other:?}"),
        };
        assert_eq!(reasons.iter().map(|reason| reason.code().unwrap()).collect::<Vec<_>>(), ["TransactionConflict"]);
        assert_eq!(effects(&aws), 0);
    });
}

#[test]
fn a_message_may_come_twice_and_in_any_order() {
    on_the_model(async || {
        let aws = fated(&[]);
        for body in ["a", "b", "c"] {
            aws.send(DOORBELL_QUEUE, body);
        }
        aws.on_receive(|count| count - 1);
        let bodies = |max| aws.receive(DOORBELL_QUEUE, max).into_iter().map(|message| message.body).collect::<Vec<_>>();
        assert_eq!(bodies(2), ["c", "b"]);
        let again = aws.messages(DOORBELL_QUEUE).remove(2);
        assert!(aws.hand_out_again(DOORBELL_QUEUE, &again.id));
        assert_eq!(bodies(9), ["c", "a"]);
        let old = again.receipt_handle.unwrap();
        assert!(!aws.delete(DOORBELL_QUEUE, &old), "its handle is that of an earlier receive");
        assert_eq!(aws.counts(DOORBELL_QUEUE).in_flight, 3);
        aws.old_handles_delete(true);
        assert!(aws.delete(DOORBELL_QUEUE, &old));
        assert_eq!(aws.counts(DOORBELL_QUEUE).in_flight, 2);
        assert!(aws.next_visible_at(DOORBELL_QUEUE).unwrap() > aws.now());
    });
}

#[test]
fn calls_are_told_of_and_take_the_time_that_is_asked_for() {
    on_the_model(async || {
        let aws = Aws::new(Settings::posthouse(), clock());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        aws.on_call(move |call| {
            log.lock().unwrap().push((call.function.clone(), call.service, call.operation.clone(), call.number));
            Fate::Succeed
        });
        aws.latency(|call| Latency { before: Duration::from_millis(10 / call.number), after: Duration::from_millis(5) });
        let began = Instant::now();
        tokio::join!(add(&aws, "worker-1"), add(&aws, "worker-2"));
        assert_eq!(began.elapsed(), Duration::from_millis(15));
        let expected = [("worker-1", 1), ("worker-2", 2)];
        let expected = expected.map(|(name, number)| (name.to_owned(), Service::DynamoDb, "UpdateItem".to_owned(), number));
        assert_eq!(*seen.lock().unwrap(), expected);
        assert_eq!(aws.calls_by_operation()[&(Service::DynamoDb, "UpdateItem".to_owned())], 2);
    });
}

#[test]
fn an_index_lags_and_expired_items_stay_until_they_are_told_to_go() {
    on_the_model(async || {
        let aws = fated(&[]);
        aws.lag(Duration::from_secs(1), Duration::from_secs(5));
        let dynamodb = aws_sdk_dynamodb::Client::new(&aws.config("worker"));
        let whole =
            item([("pk", s("p")), ("sk", s("event")), ("by_time_pk", s("x#0")), ("by_time_sk", s("1")), ("expires_at", n(1))]);
        dynamodb.put_item().table_name(LEDGER_TABLE).set_item(Some(whole)).send().await.unwrap();
        let counts = async || {
            let query =
                dynamodb.query().table_name(LEDGER_TABLE).index_name("by_time").key_condition_expression("by_time_pk = :pk");
            let indexed = query.expression_attribute_values(":pk", s("x#0")).send().await.unwrap().count;
            let get = |consistent| dynamodb.get_item().table_name(LEDGER_TABLE).consistent_read(consistent).key("pk", s("p"));
            let get = async |consistent| get(consistent).key("sk", s("event")).send().await.unwrap().item.is_some();
            (get(true).await, get(false).await, indexed)
        };
        assert_eq!(counts().await, (true, false, 0));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(counts().await, (true, true, 0));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(counts().await, (true, true, 1));
        assert_eq!(aws.expire(LEDGER_TABLE), 1);
        assert_eq!(aws.items(LEDGER_TABLE).len(), 0);
    });
}

#[test]
fn hundreds_of_failures_leave_the_next_caller_its_retries() {
    on_the_model(async || {
        for _ in 0..200 {
            let aws = fated(&[Fate::FailBefore(Failure::InternalError); 2]);
            assert_eq!(add(&aws, "worker").await, "ok");
        }
    });
}

#[test]
#[should_panic(expected = "no DynamoDB operation ListTables")]
fn what_the_model_does_not_know_panics_by_its_name() {
    on_the_model(async || {
        let aws = fated(&[]);
        let _ = aws_sdk_dynamodb::Client::new(&aws.config("worker")).list_tables().send().await;
    });
}

#[test]
#[ignore = "a measurement"]
fn how_long_calls_take_without_waiting() {
    on_the_model(async || {
        let aws = Aws::new(Settings::posthouse(), clock());
        let rounds = 2000_u32;
        let each = |what: &str, began: std::time::Instant| println!("{what}: {:?}", began.elapsed() / rounds);
        let began = std::time::Instant::now();
        for _ in 0..rounds {
            let _ = aws.config("worker");
        }
        each("config", began);
        let config = aws.config("worker");
        let began = std::time::Instant::now();
        for _ in 0..rounds {
            let _ = aws_sdk_dynamodb::Client::new(&config);
        }
        each("DynamoDB client", began);
        let dynamodb = aws_sdk_dynamodb::Client::new(&config);
        let began = std::time::Instant::now();
        for number in 0..rounds {
            let put =
                dynamodb.put_item().table_name(LEDGER_TABLE).item("pk", s(format!("github#{number}"))).item("sk", s("event"));
            let put =
                put.item("by_time_pk", s("github#3")).item("by_time_sk", s(format!("{number:013}#x"))).item("type", s("push"));
            let put = put.item("received_at", n(number)).item("expires_at", n(number)).item("key_id", s("initial"));
            let put = put.condition_expression("attribute_not_exists(pk) OR expires_at <= :now");
            put.expression_attribute_values(":now", n(7)).send().await.unwrap();
        }
        each("PutItem", began);
    });
}

/// Held to what AWS documents: in flight are messages that were received and are hidden, and there are no more than so many of them.
#[tokio::test(start_paused = true)]
async fn no_more_messages_are_in_flight_than_a_queue_may_have() {
    let mut settings = Settings::posthouse();
    settings.queues.iter_mut().for_each(|queue| queue.in_flight_max = 3);
    let aws = Aws::new(settings, clock());
    for number in 0..5 {
        aws.send(DOORBELL_QUEUE, &number.to_string());
    }
    assert_eq!(aws.receive(DOORBELL_QUEUE, 2).len(), 2);
    let last = aws.receive(DOORBELL_QUEUE, 10);
    assert_eq!(last.len(), 1);
    assert!(aws.receive(DOORBELL_QUEUE, 10).is_empty());
    let sqs = aws_sdk_sqs::Client::new(&aws.config("contracts"));
    let receive = |wait: i32| sqs.receive_message().queue_url(aws.queue_url(DOORBELL_QUEUE)).wait_time_seconds(wait).send();
    assert!(format!("{:?}", receive(0).await.unwrap_err()).contains("OverLimit"));
    assert!(receive(1).await.unwrap().messages.is_none(), "a long poll is told of no message");
    assert!(aws.delete(DOORBELL_QUEUE, last[0].receipt_handle.as_deref().unwrap()));
    assert_eq!(aws.receive(DOORBELL_QUEUE, 10).len(), 1);
}
