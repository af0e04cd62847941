//! What the ledger promises to whoever uses it, on a real table: the same code that the functions run, with the time as a
//! value, so that leases end and horizons pass without waiting.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::join_all;
use shared::{
    bodies::StoredBody,
    doorbell::Doorbell,
    event::{BodyDigest, Event, EventKey},
    ledger::{
        Bid, CONTENT_CLAIM_SECONDS, Claim, ContentTypes, DestinationState, DoneAs, Ended, FailureRecord, Finish,
        LOOK_AGAIN_SECONDS, Lease, Ledger, LedgerError, Outcome, Parking, Pause, REGISTERED_SECONDS, Recorded, SignedContent,
        Status, Wait, Why,
    },
    names::{DestinationName, EventId, EventType, SourceName},
    time::Timestamp,
};
use tests::stack::unique;

use crate::{Stack, journey};

const HORIZON: Duration = Duration::from_secs(1000);
const LEASE: Duration = Duration::from_secs(60);
/// How long signed content is remembered: not as long as an event, as where its time is signed.
const CONTENT_HORIZON: Duration = Duration::from_secs(600);

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
            compared_sha256: None,
            part: None,
            key_id: "initial".to_owned(),
            destinations: vec![DestinationName::parse("nobody").unwrap()],
            expires_at: now.plus(HORIZON),
        };
        let book = Self {
            ledger: Ledger::new(&stack.aws, stack.output("LedgerTableName").to_owned())
                .remembering(stack.output("ContentTableName").to_owned()),
            event,
            now,
        };
        assert_eq!(book.record(b"body", now).await, Recorded::New);
        book
    }

    async fn record(&self, body: &[u8], now: Timestamp) -> Recorded {
        let event = Event { received_at: now, expires_at: now.plus(HORIZON), sha256: BodyDigest::of(body), ..self.event.clone() };
        self.ledger.record(&event, &StoredBody::InItem(vec![1]), None).await.unwrap()
    }

    /// As for a source whose signature covers `content` and not the id.
    async fn record_signed(&self, id: &EventId, body: &[u8], content: &str, now: Timestamp) -> Result<Recorded, LedgerError> {
        let content = format!("{} signs {content}", self.event.key);
        let content = SignedContent {
            sha256: BodyDigest::of(content.as_bytes()),
            expires_at: now.plus(CONTENT_HORIZON),
            types: ContentTypes::Signed,
        };
        self.record_with(id, body, content, now).await
    }

    /// As for a source that signs the body alone.
    async fn record_signed_body(&self, id: &EventId, body: &str, now: Timestamp) -> Result<Recorded, LedgerError> {
        let body = format!("{} has {body}", self.event.key).into_bytes();
        let content = SignedContent { sha256: BodyDigest::of(&body), expires_at: now.plus(HORIZON), types: ContentTypes::Signed };
        self.record_with(id, &body, content, now).await
    }

    async fn record_with(
        &self,
        id: &EventId,
        body: &[u8],
        content: SignedContent,
        now: Timestamp,
    ) -> Result<Recorded, LedgerError> {
        let key = EventKey { event_id: id.clone(), ..self.event.key.clone() };
        let sha256 = BodyDigest::of(body);
        let event = Event { key, received_at: now, expires_at: now.plus(HORIZON), sha256, ..self.event.clone() };
        self.ledger.record(&event, &StoredBody::InItem(vec![1]), Some(content)).await
    }

    /// Takes away an event, as if its receiver had died before it recorded it.
    async fn unrecord(&self, stack: &Stack, id: &EventId) {
        let key = EventKey { event_id: id.clone(), ..self.event.key.clone() };
        let delete = stack.dynamodb.delete_item().table_name(stack.output("LedgerTableName"));
        let delete = delete.key("pk", AttributeValue::S(key.to_string())).key("sk", AttributeValue::S("event".to_owned()));
        delete.send().await.unwrap();
    }

    /// The answer to what is known under another id, while nobody has claimed its one delivery.
    fn replayed(&self, first: &EventId) -> Recorded {
        Recorded::Replayed { first: first.clone(), unclaimed: self.event.destinations.clone(), is_kept: true }
    }

    async fn claim(&self, owner: &str, replay: u32, now: Timestamp) -> Claim {
        let doorbell = Doorbell { replay, ..Doorbell::first(&self.event.key, &self.event.destinations[0]) };
        let (event, _) = self.ledger.find(&self.event.key, now).await.unwrap().unwrap();
        self.ledger.claim(&Bid { doorbell: &doorbell, event: &event, owner, now, lease_until: now.plus(LEASE) }).await.unwrap()
    }

    async fn acquire(&self, owner: &str, replay: u32, now: Timestamp) -> Lease {
        match self.claim(owner, replay, now).await {
            Claim::Acquired(lease) => lease,
            other => panic!("{owner} did not get it: {other:?}"),
        }
    }

    async fn finish(&self, lease: Lease, outcome: &Outcome) -> Finish {
        self.ledger.finish(&lease, outcome, Ended { started_at: Some(self.now), now: self.now }).await.unwrap()
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

fn some_id() -> EventId {
    EventId::parse(&unique()).unwrap()
}

fn waits(why: Why, at: Timestamp, look_at: Option<Timestamp>, failure: FailureRecord) -> Outcome {
    Outcome::Wait(Wait { why, at, failure, reserved_at: None, look_at })
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
        assert_eq!(book.finish(lease, &Outcome::Done(DoneAs::Delivered)).await, Finish::Finished);
        assert_eq!(book.claim("second", 0, book.now).await, Claim::AlreadyDone);

        let later = book.event.expires_at;
        assert_eq!(book.record(b"body", later).await, Recorded::New);
        let again = book.record(b"body", later).await;
        assert!(matches!(&again, Recorded::Seen { unclaimed } if unclaimed.len() == 1), "{again:?}");
        assert_eq!(book.acquire("third", 0, later).await.attempt, 1);
    });
}

#[test]
fn signed_content_is_known_under_every_id_until_its_horizon() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let (first, other, third) = (some_id(), some_id(), some_id());
        let record = async |id, body: &[u8], now| book.record_signed(id, body, "it", now).await.unwrap();
        assert_eq!(record(&first, b"body", book.now).await, Recorded::New);
        // The body may be written in another way where the signature allows it.
        assert_eq!(record(&other, b"the same body", book.now).await, book.replayed(&first));
        assert_eq!(book.record_signed(&third, b"body", "something else", book.now).await.unwrap(), Recorded::New);

        let horizon = book.now.plus(CONTENT_HORIZON);
        let before = horizon.minus(Duration::from_secs(1));
        assert_eq!(record(&other, b"body", before).await, book.replayed(&first));
        assert_eq!(record(&other, b"body", horizon).await, Recorded::New);
        assert_eq!(record(&some_id(), b"body", horizon).await, book.replayed(&other));
    });
}

#[test]
fn an_id_with_signed_content_is_seen_again_and_conflicts_as_any_other() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let (first, other) = (some_id(), some_id());
        assert_eq!(book.record_signed_body(&first, "a", book.now).await.unwrap(), Recorded::New);
        assert_eq!(book.record_signed_body(&first, "a", book.now).await.unwrap(), book.seen());
        for _ in 0..2 {
            assert!(matches!(book.record_signed_body(&first, "b", book.now).await.unwrap(), Recorded::Conflict { .. }));
        }
        // What went into quarantine was never an event: under an id of its own it is one.
        assert_eq!(book.record_signed_body(&other, "b", book.now).await.unwrap(), Recorded::New);
        assert_eq!(book.record_signed_body(&first, "b", book.now).await.unwrap(), book.replayed(&other));
        assert_eq!(book.record_signed_body(&other, "a", book.now).await.unwrap(), book.replayed(&first));
    });
}

#[test]
fn signed_content_that_was_never_recorded_is_another_ids_when_its_claim_is_over() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let (first, other) = (some_id(), some_id());
        let record = async |id, now| book.record_signed(id, b"body", "it", now).await;
        assert_eq!(record(&first, book.now).await.unwrap(), Recorded::New);
        book.unrecord(stack, &first).await;

        let over = book.now.plus(Duration::from_secs(CONTENT_CLAIM_SECONDS));
        let early = record(&other, over.minus(Duration::from_millis(1))).await;
        assert!(matches!(&early, Err(LedgerError::Unavailable(_))), "{early:?}");
        assert_eq!(record(&other, over).await.unwrap(), Recorded::New);
        assert_eq!(record(&first, over).await.unwrap(), book.replayed(&other));
    });
}

#[test]
fn an_id_that_claimed_its_content_goes_on_and_holds_it_anew() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let (first, other) = (some_id(), some_id());
        let record = async |id, now| book.record_signed(id, b"body", "it", now).await;
        assert_eq!(record(&first, book.now).await.unwrap(), Recorded::New);
        let over = book.now.plus(Duration::from_secs(CONTENT_CLAIM_SECONDS));
        for now in [book.now, over] {
            book.unrecord(stack, &first).await;
            assert_eq!(record(&first, now).await.unwrap(), Recorded::New);
        }
        book.unrecord(stack, &first).await;
        let held = record(&other, over.plus(Duration::from_secs(CONTENT_CLAIM_SECONDS - 1))).await;
        assert!(matches!(&held, Err(LedgerError::Unavailable(_))), "{held:?}");
    });
}

#[test]
fn signed_content_is_known_when_its_event_has_expired() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let (first, other) = (some_id(), some_id());
        let content = SignedContent {
            sha256: BodyDigest::of(first.as_str().as_bytes()),
            expires_at: book.now.plus(2 * HORIZON),
            types: ContentTypes::Signed,
        };
        let record = async |id, now| book.record_with(id, b"body", content, now).await.unwrap();
        assert_eq!(record(&first, book.now).await, Recorded::New);
        let expiry = book.now.plus(HORIZON);
        assert_eq!(record(&other, expiry.minus(Duration::from_secs(1))).await, book.replayed(&first));
        // Two may want the same room beside the first: then one of them is not kept.
        let is_replay = |recorded: &Recorded| matches!(recorded, Recorded::Replayed { first: known, unclaimed, .. } if *known == first && unclaimed.is_empty());
        assert!(is_replay(&record(&other, expiry).await));
        assert!(is_replay(&record(&first, expiry).await), "under its own id as well");
        let forgotten = book.now.plus(2 * HORIZON);
        assert!(is_replay(&record(&other, forgotten.minus(Duration::from_secs(1))).await));
        assert_eq!(record(&other, forgotten).await, Recorded::New);
    });
}

#[test]
fn of_twenty_ids_with_the_same_signed_content_one_is_recorded() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let ids: Vec<EventId> = (0..20).map(|_| some_id()).collect();
        let once = async |now| {
            let all = join_all(ids.iter().map(|id| book.record_signed(id, b"body", "it", now))).await;
            let new = all.iter().filter(|recorded| matches!(recorded, Ok(Recorded::New))).count();
            let late = all.iter().filter(|recorded| matches!(recorded, Err(_) | Ok(Recorded::Replayed { .. }))).count();
            assert_eq!((new, late), (1, 19), "{all:?}");
            ids[all.iter().position(|recorded| matches!(recorded, Ok(Recorded::New))).unwrap()].clone()
        };
        let winner = once(book.now).await;
        // The same, when they all take over from one that died.
        book.unrecord(stack, &winner).await;
        once(book.now.plus(Duration::from_secs(CONTENT_CLAIM_SECONDS))).await;
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
        assert_eq!(book.finish(held, &Outcome::Done(DoneAs::Delivered)).await, Finish::Finished);
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
        assert_eq!(book.finish(replayed, &Outcome::Done(DoneAs::Delivered)).await, Finish::Finished);
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
        let outcome = waits(Why::Refused, book.now, Some(book.now), refused);
        assert_eq!(book.finish(lease, &outcome).await, Finish::Finished);
        // A doorbell of the first run comes before that of the second.
        let lease = book.acquire("third", 0, book.now).await;
        assert_eq!(book.finish(lease, &Outcome::Done(DoneAs::Delivered)).await, Finish::Finished);
        assert_eq!(book.claim("fifth", 1, book.now).await, Claim::AlreadyDone);
    });
}

#[test]
fn what_waits_is_due_at_its_moment_and_names_its_run_until_it_is_over() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let destination = &book.event.destinations[0];
        let due_at = async |now| {
            let all = book.ledger.due(destination, now, 1000).await.unwrap().deliveries;
            all.into_iter().filter(|due| due.doorbell.event_id == book.event.key.event_id).collect::<Vec<_>>()
        };
        let lease = book.acquire("first", 0, book.now).await;
        let at = book.now.plus(Duration::from_secs(70));
        let failure = FailureRecord { class: "transient", reason: "503".to_owned() };
        book.finish(lease, &waits(Why::Failed, at, Some(at), failure)).await;
        assert_eq!(due_at(at).await, []);
        let after = at.plus(Duration::from_millis(1));
        let [due] = &due_at(after).await[..] else { panic!("it is not due") };
        assert_eq!((&due.doorbell, due.next_at), (&Doorbell::first(&book.event.key, destination), at));
        // It was rung for: somebody looks again later, and twice is not written twice.
        for _ in 0..2 {
            book.ledger.look_again(due, at).await.unwrap();
        }
        assert_eq!(due_at(at.plus(Duration::from_secs(LOOK_AGAIN_SECONDS))).await, []);
        let later = at.plus(Duration::from_secs(LOOK_AGAIN_SECONDS + 1));
        assert_eq!(due_at(later).await.len(), 1);
        // A claim leaves the entry alone, and the end takes it away.
        let lease = book.acquire("second", 0, at).await;
        let [held] = &due_at(later).await[..] else { panic!("it is forgotten while somebody works on it") };
        assert_eq!(held.held_until, Some(at.plus(LEASE)));
        book.finish(lease, &Outcome::Done(DoneAs::Delivered)).await;
        assert_eq!(due_at(later).await, []);
        book.ledger.look_again(held, later).await.unwrap();
        assert_eq!(due_at(later.plus(Duration::from_secs(24 * 3600))).await, [], "what is over stays so");
    });
}

#[test]
fn a_destination_stays_registered_for_as_long_as_anybody_said_and_no_longer() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let name = DestinationName::parse(&format!("x{}", unique().to_lowercase())).unwrap();
        let state = async || book.ledger.destination_state(&name).await.unwrap();
        let registered = async || book.ledger.registered().await.unwrap().contains(&name);
        let later = |seconds| book.now.plus(Duration::from_secs(seconds));
        book.ledger.register(&name, &DestinationState::default(), later(600)).await.unwrap();
        let until = later(600 + REGISTERED_SECONDS);
        assert!(registered().await);
        assert_eq!(state().await.waiting_until, Some(until));
        // Whoever has less to wait for, and an older view of it, lowers nothing.
        book.ledger.register(&name, &DestinationState::default(), later(5)).await.unwrap();
        assert_eq!(state().await.waiting_until, Some(until));
        let seen = state().await;
        book.ledger.register(&name, &seen, later(900)).await.unwrap();
        assert_eq!(state().await.waiting_until, Some(until), "it is registered for long enough");
        book.ledger.register(&name, &seen, later(600 + REGISTERED_SECONDS)).await.unwrap();
        // What has been raised since, or is paused, stays.
        book.ledger.unregister(&name, &seen).await.unwrap();
        assert!(registered().await);
        let pause = Pause { at: book.now, reason: "x".to_owned(), by_person: true };
        book.ledger.pause(&name, &pause).await.unwrap();
        book.ledger.unregister(&name, &state().await).await.unwrap();
        assert!(registered().await);
        assert!(book.ledger.resume(&name).await.unwrap());
        book.ledger.unregister(&name, &state().await).await.unwrap();
        assert!(!registered().await);
    });
}

#[test]
fn a_delivery_at_a_closed_gate_is_parked_once_and_claimed_when_somebody_rings_again() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let (event, _) = book.ledger.find(&book.event.key, book.now).await.unwrap().unwrap();
        let doorbell = Doorbell::first(&book.event.key, &book.event.destinations[0]);
        let reason = FailureRecord { class: "paused", reason: "the destination is paused".to_owned() };
        let parking = Parking { reason, stops_the_clock: true };
        for owner in ["first", "second"] {
            let bid = Bid { doorbell: &doorbell, event: &event, owner, now: book.now, lease_until: book.now.plus(LEASE) };
            assert_eq!(book.ledger.park(&bid, &parking).await.unwrap(), Claim::Parked);
        }
        let delivery = book.ledger.delivery(&book.event.key, &doorbell.destination).await.unwrap().unwrap();
        assert_eq!((delivery.status, delivery.attempts, delivery.owner.as_str()), (Status::Waiting, 0, "first"));
        let lease = book.acquire("third", 0, book.now).await;
        assert_eq!(lease.attempt, 1);
        book.finish(lease, &dead()).await;
        // A redrive while the gate is closed begins another run, which waits.
        let again = Doorbell { replay: 1, ..doorbell.clone() };
        let bid = Bid { doorbell: &again, event: &event, owner: "fourth", now: book.now, lease_until: book.now.plus(LEASE) };
        assert_eq!(book.ledger.park(&bid, &parking).await.unwrap(), Claim::Parked);
        let delivery = book.ledger.delivery(&book.event.key, &doorbell.destination).await.unwrap().unwrap();
        assert_eq!((delivery.status, delivery.replay, delivery.attempts), (Status::Waiting, 1, 0));
        assert_eq!(delivery.look_at, Some(book.now));
    });
}

#[test]
fn a_claim_and_a_finish_whose_answers_were_lost_are_still_ours() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let first = book.acquire("first", 0, book.now).await;
        let same = book.acquire("first", 0, book.now).await;
        assert_eq!(first.attempt, same.attempt);
        assert_eq!(book.finish(first, &Outcome::Done(DoneAs::Delivered)).await, Finish::Finished);
        assert_eq!(book.finish(same, &Outcome::Done(DoneAs::Delivered)).await, Finish::Finished);
    });
}

#[test]
fn of_fifty_bids_at_the_same_instant_one_gets_it() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let owners: Vec<String> = (0..50).map(|n| format!("owner {n}")).collect();
        let claims = join_all(owners.iter().map(|owner| book.claim(owner, 0, book.now))).await;
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
            let outcome = waits(Why::Throttled, book.now, None, failure.clone());
            assert_eq!(book.finish(lease, &outcome).await, Finish::Finished);
        }
    });
}
