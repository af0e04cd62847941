//! What makes an event of a second body, with every fault at every call, in a model of AWS: whatever goes wrong, and however often it
//! is tried again, in the end there is one event of it, and what was signed is that event's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, time::Duration};

use shared::{
    bodies::StoredBody,
    event::{BodyDigest, Event, EventKey},
    ledger::{Acceptance, CONTENT_CLAIM_SECONDS, ContentTypes, Ledger, LedgerError, Recorded, SignedContent},
    names::{DestinationName, EventId, EventType, SourceName},
    time::Timestamp,
};
use tests::{
    model::{Aws, CONTENT_TABLE, Fate, LEDGER_TABLE, Settings},
    simulation::{clock, director::FATES},
};
use tokio::{runtime::Builder, time::sleep};

const HORIZON: Duration = Duration::from_secs(10 * 24 * 60 * 60);
const BODY: StoredBody = StoredBody::InItem(Vec::new());
/// Tries after which what does not succeed never will.
const TRIES_MAX: u32 = 10;

/// Who makes an event of the second body.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The receiver, for a source that takes the latest.
    Latest,
    /// A person, after the receiver has put it into quarantine.
    Person,
}

/// A webhook with this id and this body.
fn webhook(id: &str, body: &str) -> Event {
    let now = clock::now();
    Event {
        key: EventKey { source: SourceName::parse("github").unwrap(), event_id: EventId::parse(id).unwrap() },
        event_type: EventType::unknown(),
        received_at: now,
        occurred_at: None,
        headers: BTreeMap::new(),
        body_bytes: body.len(),
        sha256: BodyDigest::of(body.as_bytes()),
        compared_sha256: None,
        part: None,
        key_id: "initial".to_owned(),
        destinations: vec![DestinationName::parse("ci").unwrap()],
        expires_at: now.plus(HORIZON),
    }
}

/// What its signature covers: the body, if ids are not signed.
fn content(event: &Event, ids_are_signed: bool) -> Option<SignedContent> {
    (!ids_are_signed).then_some(SignedContent { sha256: event.sha256, expires_at: event.expires_at, types: ContentTypes::Signed })
}

/// One try to have the second body as an event; its id then.
async fn one_try(ledger: &Ledger, way: Way, ids_are_signed: bool) -> Result<EventId, LedgerError> {
    let second = webhook("7", "second");
    let acceptance = match way {
        Way::Latest => {
            let content = content(&second, ids_are_signed);
            match ledger.record(&second, &BODY, content).await? {
                Recorded::Conflict { .. } => ledger.accept(&second, &BODY, content, clock::now()).await?,
                Recorded::SeenBeside { event_id, .. } => return Ok(event_id),
                other => panic!("{other:?}"),
            }
        }
        Way::Person => {
            // Nothing left: the try before did it all, and was not told so.
            let Some(quarantined) = ledger.quarantined_beside(&second.key, clock::now()).await?.pop() else {
                return Ok(second.key.beside(&second.sha256).event_id);
            };
            let Some(body) = ledger.quarantined_body(&quarantined).await? else {
                return Err(LedgerError::Unavailable("settled at this moment".to_owned()));
            };
            ledger.accept_quarantined(&quarantined, &body, clock::now()).await?
        }
    };
    match acceptance {
        Acceptance::New(event) => Ok(event.key.event_id),
        Acceptance::Seen { event_id, .. } => Ok(event_id),
        Acceptance::Taken(event_id) => panic!("{event_id} is taken"),
    }
}

/// Plays it with one fault, at a call that is counted from when the second body comes or is judged; how many calls there were.
async fn play(way: Way, ids_are_signed: bool, fault: Option<(u64, Fate)>) -> u64 {
    clock::start();
    let aws = Aws::new(Settings::posthouse(), clock::now);
    let sound = Ledger::new(&aws.config("sound"), LEDGER_TABLE.to_owned()).remembering(CONTENT_TABLE.to_owned());
    let record = async |id: &str, body: &str| {
        let event = webhook(id, body);
        sound.record(&event, &BODY, content(&event, ids_are_signed)).await.unwrap()
    };
    assert_eq!(record("7", "first").await, Recorded::New);
    if matches!(way, Way::Person) {
        assert!(matches!(record("7", "second").await, Recorded::Conflict { .. }));
        let second = webhook("7", "second");
        sound.quarantine_conflict(&second, &BODY, content(&second, ids_are_signed)).await.unwrap();
    }
    let before = aws.calls();
    aws.on_call(move |call| match fault {
        Some((at, fate)) if call.number == before + 1 + at => fate,
        _ => Fate::Succeed,
    });

    let expected = webhook("7", "second").key.beside(&BodyDigest::of(b"second")).event_id;
    let mut tries = 0;
    loop {
        tries += 1;
        assert!(tries <= TRIES_MAX, "{way:?}, {ids_are_signed}, {fault:?}: it is stuck");
        let name = format!("try {tries}");
        let ledger = Ledger::new(&aws.config(&name), LEDGER_TABLE.to_owned()).remembering(CONTENT_TABLE.to_owned());
        let told = tokio::select! {
            told = one_try(&ledger, way, ids_are_signed) => told.ok(),
            () = aws.killed(&name) => None,
        };
        if let Some(event_id) = told {
            assert_eq!(event_id, expected);
            break;
        }
        sleep(Duration::from_secs(CONTENT_CLAIM_SECONDS)).await;
    }
    let calls = aws.calls() - before;

    let why = format!("{way:?}, {ids_are_signed}, {fault:?}");
    let unclaimed = webhook("7", "second").destinations;
    let seen = Recorded::SeenBeside { event_id: expected.clone(), unclaimed: unclaimed.clone() };
    assert_eq!(record("7", "second").await, seen, "{why}");
    assert_eq!(record("7", "first").await, Recorded::Seen { unclaimed: unclaimed.clone() }, "{why}");
    if !ids_are_signed {
        assert_eq!(record("8", "second").await, Recorded::Replayed { first: expected, unclaimed, is_kept: true }, "{why}");
    }
    let events = sound.events_between(&webhook("7", "").key.source, Timestamp::from_millis(0), clock::now().plus(HORIZON)).await;
    assert_eq!(events.unwrap().len(), 2, "{why}");
    let conflicts = sound.quarantined_beside(&webhook("7", "").key, clock::now()).await.unwrap();
    assert_eq!(conflicts, [], "{why}");
    calls
}

fn every_fault(way: Way, ids_are_signed: bool) {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let calls = runtime.block_on(play(way, ids_are_signed, None));
    assert!(calls >= 3, "{calls}");
    for at in 0..calls {
        for fate in FATES {
            runtime.block_on(play(way, ids_are_signed, Some((at, fate))));
        }
    }
}

#[test]
fn no_fault_at_any_call_loses_or_doubles_the_latest_body() {
    every_fault(Way::Latest, true);
    every_fault(Way::Latest, false);
}

#[test]
fn no_fault_at_any_call_loses_or_doubles_what_a_person_accepts() {
    every_fault(Way::Person, true);
    every_fault(Way::Person, false);
}
