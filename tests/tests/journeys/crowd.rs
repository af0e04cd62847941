//! What waits for a dead destination, and what others notice of it, through the deployed stack.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, PutRequest, WriteRequest};
use futures::{StreamExt, future::join, stream};
use serde_json::json;
use tests::stack::{Item, Sample, Stack, text, unique};

use crate::{SOON, deliver::numbered, journey, operator::posthouse, route::event};

/// Deliveries that wait.
const WAITING: usize = 5000;
/// Entries of one BatchWriteItem (DynamoDB's quota).
const BATCH_WRITE_MAX: usize = 25;
/// Events whose time is taken, before and while the others wait.
const TIMED: usize = 40;
/// How much longer the slowest of them may take meanwhile: this machine is busy with other journeys.
const LATER_MAX: Duration = Duration::from_secs(10);

/// Items of the ledger that are as those of an event that waits, each of an event of its own.
fn copies(items: &[Item], sample: &Sample) -> Vec<Item> {
    let renamed = |value: &AttributeValue, number: usize| match value {
        AttributeValue::S(text) => AttributeValue::S(text.replace(&sample.id, &format!("{}-{number}", sample.id))),
        other => other.clone(),
    };
    let copy = |number: usize| {
        items.iter().map(move |item| item.iter().map(move |(name, value)| (name.clone(), renamed(value, number))).collect())
    };
    (0..WAITING).flat_map(copy).collect()
}

async fn write_all(stack: &Stack, requests: Vec<WriteRequest>) {
    let table = stack.output("LedgerTableName");
    let batches: Vec<Vec<WriteRequest>> = requests.chunks(BATCH_WRITE_MAX).map(<[WriteRequest]>::to_vec).collect();
    let written = stream::iter(batches).map(|batch| async move {
        let answer = stack.dynamodb.batch_write_item().request_items(table, batch).send().await.unwrap();
        assert!(answer.unprocessed_items.is_none_or(|items| items.is_empty()));
    });
    written.buffer_unordered(4).collect::<Vec<()>>().await;
}

/// The longest that an event takes from when it is sent until it is done at a healthy destination.
async fn slowest(stack: &Stack) -> Duration {
    let run = unique();
    let samples: Vec<Sample> = (0..TIMED).map(|number| numbered(stack, "partner", &run, number)).collect();
    let took = stream::iter(&samples).map(async |sample| {
        #[expect(clippy::disallowed_methods, reason = "how long it takes")]
        let began = Instant::now();
        stack.accept(sample).await;
        stack.reaches(sample, "partner", "done", SOON).await;
        began.elapsed()
    });
    took.buffer_unordered(4).fold(Duration::ZERO, async |slowest, took| slowest.max(took)).await
}

#[test]
fn five_thousand_that_wait_for_a_dead_destination_delay_nobody_else() {
    journey(async |stack| {
        posthouse(stack, "destinations", &["pause", "crowded", "--reason", "for a crowd"]).is(0, "paused since");
        let sample = event(stack, "crowded", "some.type", json!({}));
        stack.accept(&sample).await;
        stack.reaches(&sample, "crowded", "waiting", SOON).await;
        let copies = copies(&stack.items(&sample).await, &sample);
        let put = |item: &Item| {
            let put = PutRequest::builder().set_item(Some(item.clone())).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        };
        write_all(stack, copies.iter().map(put).collect()).await;
        posthouse(stack, "destinations", &["show", "crowded"])
            .is(0, &format!("waiting     {}; the first is due since", WAITING + 1));
        let alone = slowest(stack).await;

        // It is dead when it is resumed.
        stack.destination.script("crowded", &sample.id, json!({"status": 503})).await;
        posthouse(stack, "destinations", &["resume", "crowded"]).is(0, "crowded goes on");
        let schedule = json!({});
        let (_, beside) = join(stack.invoke("dispatcher", &schedule), slowest(stack)).await;
        println!("the slowest of {TIMED}: {alone:?} alone, {beside:?} beside {WAITING} that wait");
        assert!(beside < alone + LATER_MAX, "{alone:?}, {beside:?}");
        let tried = stack.destination.journal("crowded", &sample.id).await.len();
        assert!((1..WAITING / 10).contains(&tried), "{tried} attempts at a destination that is dead");

        let delete = |item: &Item| {
            let key = |name: &str| AttributeValue::S(text(item, name).unwrap_or_default().to_owned());
            let delete = DeleteRequest::builder().key("pk", key("pk")).key("sk", key("sk")).build().unwrap();
            WriteRequest::builder().delete_request(delete).build()
        };
        write_all(stack, copies.iter().map(delete).collect()).await;
        stack.destination.heal("crowded", &sample.id).await;
        posthouse(stack, "destinations", &["resume", "crowded"]).is(0, "crowded was not paused; its circuit is closed");
    });
}
