use std::collections::BTreeMap;

use super::*;
use crate::{
    event::BodyDigest,
    names::{EventId, EventType, SourceName},
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const LATER: Timestamp = Timestamp::from_millis(1_700_000_000_001);
const RECEIVED: Timestamp = Timestamp::from_millis(1_699_999_999_000);

fn event() -> Event {
    Event {
        key: EventKey { source: SourceName::parse("github").unwrap(), event_id: EventId::parse("7").unwrap() },
        event_type: EventType::unknown(),
        received_at: RECEIVED,
        occurred_at: None,
        headers: BTreeMap::new(),
        body_bytes: 0,
        sha256: BodyDigest::of(b""),
        compared_sha256: None,
        part: None,
        key_id: "initial".to_owned(),
        destinations: Vec::new(),
        expires_at: Timestamp::from_seconds(1_800_000_000),
    }
}

fn delivery(status: Status) -> Delivery {
    Delivery {
        status,
        generation: RECEIVED,
        attempts: 2,
        throttles: 0,
        replay: 1,
        owner: "them".to_owned(),
        lease_until: None,
        next_at: None,
        done_at: None,
        expires_at: Timestamp::from_seconds(1_800_000_000),
        begun_at: RECEIVED,
        has_slot: false,
        history: Vec::new(),
    }
}

fn lease(history: Vec<AttemptRecord>) -> Lease {
    Lease {
        key: event().key,
        destination: DestinationName::parse("ci").unwrap(),
        owner: "me".to_owned(),
        attempt: 3,
        throttles: 0,
        begun_at: RECEIVED,
        has_slot: true,
        run: 1,
        history,
    }
}

/// What a delivery with `history` keeps of its attempts after one more that ended so.
fn kept(history: Vec<AttemptRecord>, outcome: &Outcome) -> Vec<AttemptRecord> {
    let change = Change::of(&lease(history), outcome, Ended { started_at: Some(RECEIVED), now: NOW });
    change.values[":history"].as_l().unwrap().iter().map(|attempt| AttemptRecord::read(attempt).unwrap()).collect()
}

/// How a bid with `replay` stands towards `found`, in a word.
fn word(found: &Delivery, replay: u32, pause_is_over: bool) -> String {
    let event = event();
    let destination = DestinationName::parse("ci").unwrap();
    let doorbell = Doorbell { replay, ..Doorbell::first(&event.key, &destination) };
    let bid = Bid { doorbell: &doorbell, event: &event, owner: "me", now: NOW, lease_until: LATER, pause_is_over };
    match standing(found, &bid) {
        Standing::Answer(claim) => format!("{claim:?}"),
        Standing::Mine => "Mine".to_owned(),
        Standing::BeginAnew => "BeginAnew".to_owned(),
    }
}

fn check(found: &Delivery, replay: u32, expected: &str) {
    assert_eq!(word(found, replay, false), expected, "{found:?}");
}

#[test]
fn done_is_done_unless_a_new_replay_asks() {
    check(&delivery(Status::Done), 0, "AlreadyDone");
    check(&delivery(Status::Done), 1, "AlreadyDone");
    check(&delivery(Status::Done), 2, "BeginAnew");
}

#[test]
fn dead_is_dead_unless_a_new_replay_asks() {
    check(&delivery(Status::Dead), 1, "AlreadyDead");
    check(&delivery(Status::Dead), 2, "BeginAnew");
    check(&delivery(Status::Dead), 0, "AlreadyDone");
}

#[test]
fn a_lease_holds_until_its_end_and_not_at_it() {
    let held = |lease_until| Delivery { lease_until: Some(lease_until), ..delivery(Status::Processing) };
    check(&held(LATER), 1, &format!("HeldUntil({LATER:?})"));
    check(&held(LATER), 2, &format!("HeldUntil({LATER:?})"));
    check(&held(NOW), 2, "BeginAnew");
}

#[test]
fn a_retry_waits_for_its_moment() {
    let waiting = |next_at| Delivery { next_at: Some(next_at), ..delivery(Status::Retrying) };
    check(&waiting(LATER), 1, &format!("HeldUntil({LATER:?})"));
    check(&waiting(NOW), 2, "BeginAnew");
}

#[test]
fn a_claim_whose_answer_was_lost_is_still_ours() {
    let mine = Delivery { owner: "me".to_owned(), lease_until: Some(LATER), ..delivery(Status::Processing) };
    check(&mine, 1, "Mine");
}

#[test]
fn a_pause_ends_when_it_is_seen_to_be_over_or_a_replay_asks() {
    check(&delivery(Status::Paused), 1, "Paused");
    check(&delivery(Status::Paused), 2, "BeginAnew");
    assert_eq!(word(&delivery(Status::Paused), 1, true), "BeginAnew");
}

#[test]
fn what_an_expired_event_of_the_same_id_left_behind_stands_in_nobodys_way() {
    for status in [Status::Done, Status::Dead, Status::Processing, Status::Retrying, Status::Paused] {
        let old = Delivery { generation: Timestamp::from_millis(1), lease_until: Some(LATER), ..delivery(status) };
        check(&old, 0, "BeginAnew");
    }
    let newer = Delivery { generation: LATER, ..delivery(Status::Done) };
    check(&newer, 0, &format!("HeldUntil({NOW:?})"));
}

#[test]
fn a_delivery_reads_back_as_it_was_written() {
    let written = Delivery { lease_until: Some(LATER), ..delivery(Status::Processing) };
    assert_eq!(read_delivery(&event().key, &delivery_item(&written)).unwrap(), written);
    assert!(read_delivery(&event().key, &Item::new()).is_err());
}

#[test]
fn a_finish_that_was_ours_is_told_from_a_lost_one() {
    let lease = lease(Vec::new());
    let item = |owner: &str, status| delivery_item(&Delivery { owner: owner.to_owned(), ..delivery(status) });
    assert_eq!(refused_finish(&item("me", Status::Done), &lease, Status::Done), Finish::Finished);
    assert_eq!(refused_finish(&item("me", Status::Dead), &lease, Status::Done), Finish::Lost);
    assert_eq!(refused_finish(&item("them", Status::Done), &lease, Status::Done), Finish::Lost);
    assert_eq!(refused_finish(&Item::new(), &lease, Status::Done), Finish::Lost);
}

#[test]
fn what_is_kept_of_an_error_is_bounded() {
    let failure = FailureRecord { class: "transient", reason: "é".repeat(LAST_ERROR_CHARS_MAX + 1) };
    let change = Change::of(&lease(Vec::new()), &Outcome::Dead(failure), Ended { started_at: Some(RECEIVED), now: NOW });
    assert_eq!(read_string(&change.values, ":reason").unwrap().chars().count(), LAST_ERROR_CHARS_MAX);
}

#[test]
fn the_last_attempts_are_kept_and_no_more() {
    let failure = FailureRecord { class: "transient", reason: "é".repeat(ATTEMPT_REASON_CHARS_MAX + 1) };
    let outcome = Outcome::Retry { at: NOW.plus(std::time::Duration::from_secs(5)), failure };
    let [tried] = &kept(Vec::new(), &outcome)[..] else { panic!("not one") };
    let reason = tried.reason.as_ref().unwrap();
    assert_eq!((tried.number, tried.started_at, tried.millis), (3, RECEIVED, 1000));
    assert_eq!(
        (tried.result.as_str(), reason.chars().count(), tried.wait_millis),
        ("transient", ATTEMPT_REASON_CHARS_MAX, Some(5000))
    );
    let earlier = |count: u32| (1..=count).map(|number| AttemptRecord { number, ..tried.clone() }).collect();
    let numbers = |count| kept(earlier(count), &outcome).iter().map(|attempt| attempt.number).collect::<Vec<_>>();
    assert_eq!(numbers(9), [1, 2, 3, 4, 5, 6, 7, 8, 9, 3]);
    assert_eq!(numbers(10), [2, 3, 4, 5, 6, 7, 8, 9, 10, 3]);
}

#[test]
fn what_was_not_tried_is_no_attempt_and_keeps_the_moment_that_the_rate_gave_it() {
    let failure = FailureRecord { class: "deferred", reason: "its rate is used up".to_owned() };
    let change = |has_slot| {
        let outcome = Outcome::Deferred { at: LATER, failure: failure.clone(), has_slot };
        Change::of(&lease(Vec::new()), &outcome, Ended { started_at: None, now: NOW }).expression
    };
    assert!(change(true).contains("has_slot = :has_slot") && change(true).contains("ADD attempts :minus_one"));
    assert!(change(false).contains("REMOVE lease_until, has_slot"));
    assert!(!change(true).contains("history"));
}

#[test]
fn ways_of_being_done_are_told_apart() {
    let expression =
        |done_as| Change::of(&lease(Vec::new()), &Outcome::Done(done_as), Ended { started_at: None, now: NOW }).expression;
    assert!(!expression(DoneAs::Delivered).contains("done_as"));
    assert!(expression(DoneAs::Skipped).contains("done_as") && expression(DoneAs::Superseded).contains("done_as"));
}
