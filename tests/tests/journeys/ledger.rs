//! What the ledger promises to whoever uses it, on a real table: the same code that the functions run, with the time as a
//! value, so that leases end and horizons pass without waiting.

use std::{collections::BTreeMap, time::Duration};

use shared::{
    bodies::StoredBody,
    doorbell::Doorbell,
    event::{BodyDigest, Event, EventKey},
    ledger::{Bid, Claim, FailureRecord, Finish, Lease, Ledger, Outcome, Recorded, Status},
    names::{DestinationName, EventId, EventType, SourceName},
    time::Timestamp,
};
use tests::stack::{Stack, unique};

use crate::journey;

const HORIZON: Duration = Duration::from_secs(1000);
const LEASE: Duration = Duration::from_secs(60);

/// The ledger with one recorded event, and the clock.
struct Book {
    ledger: Ledger,
    event: Event,
    now: Timestamp,
}

impl Book {
    async fn open(stack: &Stack) -> Self {
        let now = Timestamp::now();
        let event = Event {
            key: EventKey { source: SourceName::parse("partner").unwrap(), event_id: EventId::parse(&unique()).unwrap() },
            event_type: EventType::unknown(),
            received_at: now,
            occurred_at: None,
            headers: BTreeMap::new(),
            body_bytes: 4,
            sha256: BodyDigest::of(b"body"),
            key_id: "initial".to_owned(),
            destinations: vec![DestinationName::parse("nobody").unwrap()],
            expires_at: now.plus(HORIZON),
        };
        let book = Self { ledger: Ledger::new(&stack.aws, stack.output("LedgerTableName").to_owned()), event, now };
        assert_eq!(book.record(b"body", now).await, Recorded::New);
        book
    }

    async fn record(&self, body: &[u8], now: Timestamp) -> Recorded {
        let event = Event { received_at: now, expires_at: now.plus(HORIZON), sha256: BodyDigest::of(body), ..self.event.clone() };
        self.ledger.record(&event, &StoredBody::InItem(vec![1])).await.unwrap()
    }

    async fn claim(&self, owner: &str, replay: u32, now: Timestamp) -> Claim {
        let doorbell = Doorbell { replay, ..Doorbell::first(&self.event.key, &self.event.destinations[0]) };
        let (event, _) = self.ledger.find(&self.event.key, now).await.unwrap().unwrap();
        let lease_until = now.plus(LEASE);
        self.ledger
            .claim(&Bid { doorbell: &doorbell, event: &event, owner, now, lease_until, pause_is_over: false })
            .await
            .unwrap()
    }

    async fn acquire(&self, owner: &str, replay: u32, now: Timestamp) -> Lease {
        match self.claim(owner, replay, now).await {
            Claim::Acquired(lease) => lease,
            other => panic!("{owner} did not get it: {other:?}"),
        }
    }

    async fn finish(&self, lease: Lease, outcome: &Outcome) -> Finish {
        self.ledger.finish(lease, outcome, self.now).await.unwrap()
    }

    /// The answer to the same body again, while nobody has claimed its one delivery.
    fn seen(&self) -> Recorded {
        Recorded::Seen { unclaimed: self.event.destinations.clone() }
    }

    async fn status(&self) -> Option<Status> {
        let delivery = self.ledger.delivery(&self.event.key, &self.event.destinations[0]).await.unwrap();
        delivery.map(|delivery| delivery.status)
    }
}

fn dead() -> Outcome {
    Outcome::Dead(FailureRecord { class: "permanent", reason: "of old age".to_owned() })
}

#[test]
fn an_expired_event_that_ttl_has_not_removed_is_no_duplicate() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let expiry = book.event.expires_at;
        assert_eq!(book.record(b"body", expiry.minus(Duration::from_secs(1))).await, book.seen());
        let received_at = async |now| book.ledger.received_at(&book.event.key, now).await.unwrap();
        assert_eq!(received_at(expiry.minus(Duration::from_secs(1))).await, Some(book.now));
        assert_eq!(received_at(expiry).await, None);
        assert_eq!(book.record(b"another body", expiry).await, Recorded::New);
    });
}

#[test]
fn an_id_that_is_new_again_is_delivered_again() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let lease = book.acquire("first", 0, book.now).await;
        assert_eq!(book.finish(lease, &Outcome::Done).await, Finish::Finished);
        assert_eq!(book.claim("second", 0, book.now).await, Claim::AlreadyDone);

        let later = book.event.expires_at;
        assert_eq!(book.record(b"body", later).await, Recorded::New);
        let again = book.record(b"body", later).await;
        assert!(matches!(&again, Recorded::Seen { unclaimed } if unclaimed.len() == 1), "{again:?}");
        assert_eq!(book.acquire("third", 0, later).await.attempt, 1);
    });
}

#[test]
fn a_held_lease_is_nobody_elses_until_it_ends() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        book.acquire("first", 0, book.now).await;
        let end = book.now.plus(LEASE);
        assert_eq!(book.claim("second", 0, end.minus(Duration::from_millis(1))).await, Claim::HeldUntil(end));
        assert_eq!(book.acquire("second", 0, end).await.attempt, 2);
    });
}

#[test]
fn an_owner_that_lost_its_lease_cannot_finish() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let lost = book.acquire("first", 0, book.now).await;
        let held = book.acquire("second", 0, book.now.plus(LEASE)).await;
        assert_eq!(book.finish(lost, &dead()).await, Finish::Lost);
        assert_eq!(book.status().await, Some(Status::Processing));
        assert_eq!(book.finish(held, &Outcome::Done).await, Finish::Finished);
        assert_eq!(book.status().await, Some(Status::Done));
    });
}

#[test]
fn a_replay_runs_once() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let lease = book.acquire("first", 0, book.now).await;
        assert_eq!(book.finish(lease, &dead()).await, Finish::Finished);
        assert_eq!(book.claim("second", 0, book.now).await, Claim::AlreadyDead);

        let replayed = book.acquire("third", 1, book.now).await;
        assert_eq!(replayed.attempt, 1, "a new run has all its attempts");
        assert_eq!(book.finish(replayed, &Outcome::Done).await, Finish::Finished);
        assert_eq!(book.claim("fourth", 1, book.now).await, Claim::AlreadyDone);
        assert_eq!(book.claim("fifth", 0, book.now).await, Claim::AlreadyDone);
        book.acquire("sixth", 2, book.now).await;
    });
}

#[test]
fn a_replay_that_has_been_seen_stays_seen() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let lease = book.acquire("first", 0, book.now).await;
        book.finish(lease, &dead()).await;
        let lease = book.acquire("second", 1, book.now).await;
        let refused = FailureRecord { class: "auth", reason: "401".to_owned() };
        assert_eq!(book.finish(lease, &Outcome::Paused(refused)).await, Finish::Finished);
        assert_eq!(book.claim("third", 0, book.now).await, Claim::Paused);

        // The pause is over, and a doorbell of the first run comes before that of the second.
        let doorbell = Doorbell::first(&book.event.key, &book.event.destinations[0]);
        let lease_until = book.now.plus(LEASE);
        let bid =
            Bid { doorbell: &doorbell, event: &book.event, owner: "fourth", now: book.now, lease_until, pause_is_over: true };
        let Claim::Acquired(lease) = book.ledger.claim(&bid).await.unwrap() else { panic!("not acquired") };
        assert_eq!(book.finish(lease, &Outcome::Done).await, Finish::Finished);
        assert_eq!(book.claim("fifth", 1, book.now).await, Claim::AlreadyDone);
    });
}

#[test]
fn a_retry_is_overdue_once_it_was_due_and_names_its_run() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let lease = book.acquire("first", 0, book.now).await;
        let due = book.now.plus(Duration::from_secs(7));
        let failure = FailureRecord { class: "transient", reason: "503".to_owned() };
        book.finish(lease, &Outcome::Retry { at: due, failure }).await;
        let overdue = async |now| {
            let all = book.ledger.overdue(Status::Retrying, now).await.unwrap();
            all.into_iter().filter(|doorbell| doorbell.event_id == book.event.key.event_id).collect::<Vec<_>>()
        };
        assert_eq!(overdue(due).await, []);
        assert_eq!(
            overdue(due.plus(Duration::from_millis(1))).await,
            [Doorbell::first(&book.event.key, &book.event.destinations[0])]
        );
        book.acquire("second", 0, due).await;
        assert_eq!(overdue(due.plus(Duration::from_millis(1))).await, []);
    });
}

#[test]
fn a_claim_and_a_finish_whose_answers_were_lost_are_still_ours() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let first = book.acquire("first", 0, book.now).await;
        let same = book.acquire("first", 0, book.now).await;
        assert_eq!(first.attempt, same.attempt);
        assert_eq!(book.finish(first, &Outcome::Done).await, Finish::Finished);
        assert_eq!(book.finish(same, &Outcome::Done).await, Finish::Finished);
    });
}

#[test]
fn of_fifty_bids_at_the_same_instant_one_gets_it() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let owners: Vec<String> = (0..50).map(|n| format!("owner {n}")).collect();
        let claims = futures::future::join_all(owners.iter().map(|owner| book.claim(owner, 0, book.now))).await;
        let acquired = claims.iter().filter(|claim| matches!(claim, Claim::Acquired(_))).count();
        let held = claims.iter().filter(|claim| matches!(claim, Claim::HeldUntil(_))).count();
        assert_eq!((acquired, held), (1, 49));
    });
}

#[test]
fn a_throttle_does_not_count_as_an_attempt() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let failure = FailureRecord { class: "throttled", reason: "429".to_owned() };
        for expected in [0, 1, 2] {
            let lease = book.acquire(&format!("owner {expected}"), 0, book.now).await;
            assert_eq!((lease.attempt, lease.throttles), (1, expected));
            let outcome = Outcome::Throttled { at: book.now, failure: failure.clone() };
            assert_eq!(book.finish(lease, &outcome).await, Finish::Finished);
        }
    });
}
