//! The times at which a failing delivery is tried, through the visibility timeout of its doorbell.

use std::time::Duration;

use serde_json::json;
use tests::stack::{Item, text};

use crate::{journey, operator::posthouse, route::event};

/// The waits of the destination `scheduled` in the local configuration, in milliseconds.
const BACKOFF_MILLIS: [u64; 4] = [1000, 3000, 6000, 9000];
/// Longest that a doorbell may be late, in milliseconds: SQS counts in seconds, and this machine may be busy.
const LATE_MILLIS: u64 = 5000;

/// The attempts that the ledger keeps of a delivery: number, result, wait in milliseconds.
fn attempts(item: &Item) -> Vec<(u64, String, Option<u64>)> {
    let number = |attempt: &Item, name: &str| attempt.get(name).and_then(|value| value.as_n().ok()?.parse().ok());
    let history = item["history"].as_l().unwrap();
    let attempts = history.iter().map(|attempt| attempt.as_m().unwrap());
    attempts
        .map(|attempt| (number(attempt, "n").unwrap(), text(attempt, "is").unwrap().to_owned(), number(attempt, "wait")))
        .collect()
}

#[test]
fn the_doorbell_of_a_failing_delivery_comes_back_by_its_schedule() {
    journey(async |stack| {
        let sample = event(stack, "scheduled", "some.type", json!({}));
        stack.destination.script("scheduled", &sample.id, json!({"status": 500})).await;
        stack.accept(&sample).await;
        stack.reaches(&sample, "scheduled", "dead", Duration::from_secs(90)).await;
        let tries = stack.destination.journal("scheduled", &sample.id).await;
        assert_eq!(tries.len(), BACKOFF_MILLIS.len() + 1);
        let items = stack.items(&sample).await;
        let item = items.iter().find(|item| text(item, "sk") == Some("delivery#scheduled")).unwrap();
        let kept = attempts(item);
        assert_eq!(kept.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(kept.iter().all(|(_, result, _)| result == "transient"), "{kept:?}");
        let mut told = String::new();
        for (index, longest) in BACKOFF_MILLIS.into_iter().enumerate() {
            let (waited, meant) = (tries[index + 1].at - tries[index].at, kept[index].2.unwrap());
            told += &format!("\n  attempt {}: at most {longest} ms, drawn {meant} ms, came after {waited} ms", index + 2);
            assert!(meant <= longest, "{told}");
            assert!(waited + 50 >= meant && waited <= meant + LATE_MILLIS, "{told}");
        }
        println!("the schedule of a failing doorbell:{told}");
        let shown = posthouse(stack, "events", &["show", "scheduled", &sample.id]);
        shown.is(0, "delivery    scheduled: dead, attempt 5");
        for number in 1..=5 {
            assert!(shown.text.contains(&format!("attempt {number}, 20")), "{}", shown.text);
        }
        assert_eq!(shown.text.matches("; then waits ").count(), 4, "{}", shown.text);
    });
}
