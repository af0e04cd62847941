use std::collections::BTreeMap;

use super::*;
use crate::{
    event::BodyDigest,
    ledger::history::ATTEMPT_REASON_CHARS_MAX,
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
        look_at: None,
        done_at: None,
        expires_at: Timestamp::from_seconds(1_800_000_000),
        begun_at: RECEIVED,
        reserved_at: None,
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
        reserved_at: Some(NOW),
        run: 1,
        history,
    }
}

fn waits(why: Why, at: Timestamp, failure: FailureRecord) -> Outcome {
    Outcome::Wait(Wait { why, at, failure, reserved_at: None, look_at: None })
}

/// What a delivery with `history` keeps of its attempts after one more that ended so.
fn kept(history: Vec<AttemptRecord>, outcome: &Outcome) -> Vec<AttemptRecord> {
    let change = Change::of(&lease(history), outcome, Ended { started_at: Some(RECEIVED), now: NOW });
    change.values[":history"].as_l().unwrap().iter().map(|attempt| AttemptRecord::read(attempt).unwrap()).collect()
}

/// How a bid with `replay` stands towards `found`, in a word.
fn word(found: &Delivery, replay: u32) -> String {
    let event = event();
    let destination = DestinationName::parse("ci").unwrap();
    let doorbell = Doorbell { replay, ..Doorbell::first(&event.key, &destination) };
    let bid = Bid { doorbell: &doorbell, event: &event, owner: "me", now: NOW, lease_until: LATER };
    match standing(found, &bid) {
        Standing::Answer(claim) => format!("{claim:?}"),
        Standing::Mine => "Mine".to_owned(),
        Standing::Claimable => "Claimable".to_owned(),
        Standing::BeginAnew => "BeginAnew".to_owned(),
    }
}

fn check(found: &Delivery, replay: u32, expected: &str) {
    assert_eq!(word(found, replay), expected, "{found:?}");
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
    check(&delivery(Status::Cancelled), 1, "AlreadyDone");
    check(&delivery(Status::Cancelled), 2, "BeginAnew");
}

#[test]
fn a_lease_holds_until_its_end_and_not_at_it() {
    let held = |lease_until| Delivery { lease_until: Some(lease_until), ..delivery(Status::Processing) };
    check(&held(LATER), 1, &format!("HeldUntil({LATER:?})"));
    check(&held(LATER), 2, &format!("HeldUntil({LATER:?})"));
    check(&held(NOW), 1, "Claimable");
    check(&held(NOW), 2, "BeginAnew");
}

#[test]
fn a_retry_waits_for_its_moment() {
    let waiting = |next_at, look_at| Delivery { next_at: Some(next_at), look_at, ..delivery(Status::Waiting) };
    for (look_at, has_entry) in [(None, false), (Some(LATER), true)] {
        check(&waiting(LATER, look_at), 1, &format!("WaitsUntil {{ at: {LATER:?}, has_entry: {has_entry} }}"));
        check(&waiting(NOW, look_at), 1, "Claimable");
        check(&waiting(NOW, look_at), 2, "BeginAnew");
    }
}

#[test]
fn a_claim_whose_answer_was_lost_is_still_ours() {
    let mine = Delivery { owner: "me".to_owned(), lease_until: Some(LATER), ..delivery(Status::Processing) };
    check(&mine, 1, "Mine");
}

#[test]
fn what_an_expired_event_of_the_same_id_left_behind_stands_in_nobodys_way() {
    for status in [Status::Done, Status::Dead, Status::Processing, Status::Waiting, Status::Cancelled] {
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
    let outcome = waits(Why::Failed, NOW.plus(std::time::Duration::from_secs(5)), failure);
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
    let change = |reserved_at| {
        let Outcome::Wait(wait) = waits(Why::Deferred, LATER, failure.clone()) else { panic!("it waits") };
        let outcome = Outcome::Wait(Wait { reserved_at, ..wait });
        Change::of(&lease(Vec::new()), &outcome, Ended { started_at: None, now: NOW }).expression
    };
    let kept = change(Some(LATER));
    assert!(kept.contains("reserved_at = :reserved_at") && kept.contains("ADD attempts :minus_one"), "{kept}");
    assert!(change(None).contains("REMOVE lease_until, reserved_at"));
    assert!(!kept.contains("history") && !kept.contains("begun_at"), "{kept}");
}

#[test]
fn the_time_of_a_run_begins_with_its_first_attempt_and_stops_in_a_pause() {
    let failure = FailureRecord { class: "deferred", reason: "its rate is used up".to_owned() };
    let change = |attempt, why| {
        let lease = Lease { attempt, ..lease(Vec::new()) };
        Change::of(&lease, &waits(why, LATER, failure.clone()), Ended { started_at: None, now: NOW }).expression
    };
    assert!(change(1, Why::Deferred).contains(", begun_at"));
    assert!(!change(2, Why::Deferred).contains("begun_at"));
    assert!(!change(1, Why::Failed).contains("begun_at"));
    assert!(change(2, Why::Refused).contains(", begun_at"));
}

#[test]
fn only_a_final_state_takes_an_entry_away_and_a_wait_moves_it_where_it_says_so() {
    let failure = FailureRecord { class: "transient", reason: "503".to_owned() };
    let change = |outcome: &Outcome| Change::of(&lease(Vec::new()), outcome, Ended { started_at: None, now: NOW });
    let short = change(&waits(Why::Failed, LATER, failure.clone()));
    assert!(!short.expression.contains("attention"), "{}", short.expression);
    let Outcome::Wait(wait) = waits(Why::Failed, LATER, failure.clone()) else { panic!("it waits") };
    let long = |why| change(&Outcome::Wait(Wait { why, look_at: Some(LATER), ..wait.clone() }));
    let shard = crate::ledger::event::shard(&event().key.event_id);
    assert_eq!(read_string(&long(Why::Failed).values, ":attention_pk"), Some(format!("wait#ci#{shard}").as_str()));
    assert_eq!(read_string(&long(Why::Failed).values, ":attention_sk"), Some("1700000000001#github#7"));
    assert_eq!(read_string(&long(Why::Refused).values, ":attention_pk"), Some("wait#ci#last"));
    assert!(long(Why::Failed).expression.contains("looks"), "it is counted anew");
    let dead = change(&Outcome::Dead(failure));
    assert_eq!(read_string(&dead.values, ":attention_pk"), Some(format!("dead#ci#{shard}").as_str()));
    assert!(change(&Outcome::Done(DoneAs::Delivered)).expression.contains("attention_pk, attention_sk, looks"));
}

#[test]
fn ways_of_being_done_are_told_apart() {
    let expression =
        |done_as| Change::of(&lease(Vec::new()), &Outcome::Done(done_as), Ended { started_at: None, now: NOW }).expression;
    assert!(!expression(DoneAs::Delivered).contains("done_as"));
    assert!(expression(DoneAs::Skipped).contains("done_as") && expression(DoneAs::Superseded).contains("done_as"));
}
