//! One event id with two bodies: what each policy makes of it, and what an operator does about what is in quarantine.

use std::{collections::BTreeMap, env, fs, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shared::{
    bodies::StoredBody,
    event::{BESIDE_DIGITS, BodyDigest, Event, EventKey},
    ledger::{Acceptance, ContentTypes, Kind, Ledger, Quarantined, Recorded, SignedContent},
    names::{DestinationName, EventId, EventType, SourceName},
    time::Timestamp,
};
use tests::stack::{Sample, Stack, eventually, unique, when};

use crate::{
    AUDITED,
    accept::the_only_delivery,
    journey,
    operator::{self, Said},
};

const HORIZON: Duration = Duration::from_secs(1000);

// ---- Policies -------------------------------------------------------------------------------------------------------------

#[test]
fn a_source_that_rejects_conflicts_says_409_and_keeps_nothing_of_them() {
    journey(async |stack| {
        let (first, second) = two_bodies(stack, "strict");
        stack.accept(&first).await;
        stack.settled(&first, "partner").await;
        let before = stack.items(&first).await;
        for _ in 0..2 {
            let answer = stack.send(&second).await;
            assert_eq!((answer.status, &answer.body["error"]["code"]), (409, &json!("conflict")), "{answer:?}");
        }
        assert_eq!(stack.items(&first).await, before);
        assert_eq!(stack.event(&beside(&second)).await, None);
        assert_eq!(stack.send(&first).await.status, 200, "the event is still the first");
        the_only_delivery(stack, &first, "partner").await;
    });
}

#[test]
fn the_latest_body_is_an_event_of_its_own_and_then_a_duplicate() {
    journey(async |stack| {
        for (source, destination) in LATEST {
            let (first, second) = two_bodies(stack, source);
            stack.accept(&first).await;
            accept_beside(stack, &second).await;
            for (sample, id) in [(&second, &beside(&second).id), (&first, &first.id), (&second, &beside(&second).id)] {
                let answer = stack.send(sample).await;
                let expected = json!({"status": "duplicate", "source": source, "eventId": id});
                assert_eq!((answer.status, answer.body), (200, expected));
            }
            stack.settled(&first, destination).await;
            stack.settled(&beside(&second), destination).await;
            each_delivered_once(stack, &[&first, &second], destination).await;
            assert_eq!(stack.conflicts(&first).await, [""; 0]);
        }
    });
}

#[test]
fn a_third_body_is_a_third_event() {
    journey(async |stack| {
        for (source, destination) in LATEST {
            let (first, second) = two_bodies(stack, source);
            let mut third = second.clone();
            third.body.extend(b" ");
            stack.accept(&first).await;
            for later in [&second, &third] {
                accept_beside(stack, later).await;
                stack.settled(&beside(later), destination).await;
            }
            each_delivered_once(stack, &[&first, &second, &third], destination).await;
        }
    });
}

#[test]
fn twenty_copies_of_the_latest_body_at_the_same_instant_are_one_event() {
    journey(async |stack| {
        for (source, destination) in LATEST {
            let (first, second) = two_bodies(stack, source);
            stack.accept(&first).await;
            let webhook = stack.sign(&second).await;
            // One that comes while another is about to be recorded may be told to come again, for as long as a claim is held.
            let answers = join_all((0..20).map(|_| stack.post_once(source, &webhook))).await;
            let new = answers.iter().filter(|answer| answer.status == 202).count();
            assert!(new <= 1, "{new} were accepted");
            assert!(answers.iter().all(|answer| [200, 202, 503].contains(&answer.status)), "{answers:?}");
            let known = eventually("it is an event", AUDITED, async || {
                when(stack.post_once(source, &webhook).await, |answer| answer.status != 503)
            });
            assert_eq!(known.await.body["eventId"], json!(beside(&second).id));
            stack.settled(&beside(&second), destination).await;
            stack.settled(&first, destination).await;
            each_delivered_once(stack, &[&first, &second], destination).await;
        }
    });
}

#[test]
fn a_captured_webhook_gains_nothing_from_a_source_that_takes_the_latest() {
    journey(async |stack| {
        let (first, second) = two_bodies(stack, "github-latest");
        stack.accept(&first).await;
        accept_beside(stack, &second).await;
        // Either of them under ids that somebody made up, and under each other's.
        for (captured, known_as) in [(&first, &first.id), (&second, &beside(&second).id)] {
            for id in [unique(), beside(&first).id] {
                let answer = stack.send(&Sample { id, ..captured.clone() }).await;
                let expected = json!({"status": "duplicate", "source": "github-latest", "eventId": known_as});
                assert_eq!((answer.status, answer.body), (200, expected));
            }
        }
        // Another event's webhook under this id is that event still.
        let other = stack.sample("github-latest");
        stack.accept(&other).await;
        let answer = stack.send(&Sample { id: first.id.clone(), ..other.clone() }).await;
        assert_eq!((answer.status, &answer.body["eventId"]), (200, &json!(other.id)));
        for sample in [&first, &beside(&second), &other] {
            stack.settled(sample, "ci").await;
        }
        each_delivered_once(stack, &[&first, &second], "ci").await;
        the_only_delivery(stack, &other, "ci").await;
    });
}

#[test]
fn an_accepted_id_that_the_sender_has_made_up_itself_sends_the_latest_into_quarantine() {
    journey(async |stack| {
        let (first, second) = two_bodies(stack, "latest");
        stack.accept(&first).await;
        let made_up = Sample { body: first.body.iter().chain(b"  ").copied().collect(), ..beside(&second) };
        stack.accept(&made_up).await;
        let answer = stack.send(&second).await;
        let expected = json!({"status": "duplicate", "source": "latest", "eventId": first.id});
        assert_eq!((answer.status, answer.body), (200, expected));
        assert_eq!(stack.conflicts(&first).await, [digest(&second)]);
    });
}

// ---- The command line -----------------------------------------------------------------------------------------------------

#[test]
fn an_operator_sees_both_bodies_and_accepts_the_second() {
    journey(async |stack| {
        let (source, destination) = ("partner", "partner");
        let (first, second) = quarantined(stack, source).await;
        let listed = posthouse(stack, &["conflicts", "--source", source, "--limit", "1000"]);
        listed.is(0, &digest(&first)[..12]);
        listed.is(0, &digest(&second)[..12]);
        let pair = listed_as_json(stack, "conflicts", &first).expect("it is listed");
        assert_eq!((&pair["first"]["sha256"], &pair["second"]["sha256"]), (&json!(digest(&first)), &json!(digest(&second))));

        let folder = env::temp_dir().join(format!("posthouse-{}", unique()));
        let shown = posthouse(stack, &["conflict", source, &first.id, "--bodies", folder.to_str().unwrap()]);
        shown.is(0, &digest(&first));
        shown.is(0, &digest(&second));
        assert!(!shown.text.contains("contact.created\""), "a body was shown: {}", shown.text);
        for (what, sample) in [("first", &first), ("conflict", &second)] {
            assert_eq!(fs::read(folder.join(format!("{what}-{}", &digest(sample)[..12]))).unwrap(), sample.body);
        }
        fs::remove_dir_all(folder).unwrap();

        let before = stack.items(&first).await;
        let digits = &digest(&second)[..8];
        posthouse(stack, &["accept", source, &first.id, digits, "--dry-run"]).is(0, &beside(&second).id);
        assert_eq!(stack.items(&first).await, before, "a dry run changes nothing");

        let accepted = posthouse(stack, &["accept", source, &first.id, digits]);
        accepted.is(0, &format!("event id    {}", beside(&second).id));
        accepted.is(0, &format!("rings       {destination}"));
        stack.settled(&beside(&second), destination).await;
        each_delivered_once(stack, &[&first, &second], destination).await;
        assert_eq!(stack.conflicts(&first).await, [""; 0]);
        assert_eq!(listed_as_json(stack, "conflicts", &first), None);
        posthouse(stack, &["accept", source, &first.id, digits]).is(1, "not in quarantine");

        // The sender sends it again.
        let answer = stack.send(&second).await;
        let expected = json!({"status": "duplicate", "source": source, "eventId": beside(&second).id});
        assert_eq!((answer.status, answer.body), (200, expected));
        assert_eq!(stack.conflicts(&first).await, [""; 0]);
        each_delivered_once(stack, &[&first, &second], destination).await;
    });
}

#[test]
fn what_an_operator_rejects_goes_nowhere_and_is_back_if_it_is_sent_again() {
    journey(async |stack| {
        let (first, second) = quarantined(stack, "partner").await;
        posthouse(stack, &["reject", "partner", &first.id, &digest(&second), "--dry-run"]).is(0, "would leave quarantine");
        assert_eq!(stack.conflicts(&first).await, [digest(&second)]);
        posthouse(stack, &["reject", "partner", &first.id, &digest(&second)]).is(0, "rejected");
        assert_eq!(stack.conflicts(&first).await, [""; 0]);
        assert_eq!(stack.event(&beside(&second)).await, None);
        posthouse(stack, &["conflict", "partner", &first.id]).is(1, "nothing is in quarantine");
        assert_eq!(stack.send(&second).await.status, 200);
        assert_eq!(stack.conflicts(&first).await, [digest(&second)]);
    });
}

#[test]
fn an_operator_accepts_a_replay_that_its_sender_meant() {
    journey(async |stack| {
        let first = stack.sample("github");
        let second = Sample { id: unique(), ..first.clone() };
        stack.accept(&first).await;
        assert_eq!(stack.send(&second).await.status, 200);
        stack.settled(&first, "ci").await;
        let pair = listed_as_json(stack, "replays", &first).expect("it is listed");
        assert_eq!((&pair["second"]["eventId"], &pair["second"]["beside"]), (&json!(second.id), &json!(first.id)));

        posthouse(stack, &["accept", "github", &first.id, "--replay", &second.id]).is(0, "accepted");
        stack.settled(&beside(&second), "ci").await;
        each_delivered_once(stack, &[&first, &second], "ci").await;
        let answer = stack.send(&second).await;
        let expected = json!({"status": "duplicate", "source": "github", "eventId": beside(&second).id});
        assert_eq!((answer.status, answer.body), (200, expected));
        assert_eq!(listed_as_json(stack, "replays", &first), None, "it is no replay any more");
        // What was signed is still the first's.
        let answer = stack.send(&Sample { id: unique(), ..first.clone() }).await;
        assert_eq!(answer.body["eventId"], json!(first.id));
        each_delivered_once(stack, &[&first, &second], "ci").await;
    });
}

#[test]
fn an_operator_accepts_a_body_that_is_in_the_bucket() {
    journey(async |stack| {
        let (first, mut second) = two_bodies(stack, "partner");
        second.body.extend(std::iter::repeat_with(|| fastrand::alphanumeric() as u8).take(1024 * 1024));
        stack.accept(&first).await;
        assert_eq!(stack.send(&second).await.status, 200);
        posthouse(stack, &["accept", "partner", &first.id, &digest(&second)]).is(0, "accepted");
        stack.settled(&beside(&second), "partner").await;
        each_delivered_once(stack, &[&first, &second], "partner").await;
    });
}

#[test]
fn an_operator_sees_an_event_and_its_deliveries() {
    journey(async |stack| {
        let (first, _) = quarantined(stack, "partner").await;
        stack.settled(&first, "partner").await;
        posthouse(stack, &["show", "partner", &first.id]).is(0, "delivery    partner: done, attempt 1");
        let shown: Value = serde_json::from_str(&posthouse(stack, &["show", "partner", &first.id, "--json"]).text).unwrap();
        assert_eq!(shown["event"]["sha256"], json!(digest(&first)));
        assert_eq!((&shown["deliveries"][0]["status"], &shown["quarantine"][0]["kind"]), (&json!("done"), &json!("conflict")));
        posthouse(stack, &["show", "partner", &unique()]).is(1, "there is no event");
    });
}

#[test]
fn a_stack_that_is_not_there_is_a_question_that_is_wrong() {
    journey(async |stack| {
        let said = operator::run(stack, &["events", "conflicts", "--stack", "no-such-stack"]);
        said.is(2, "the stack `no-such-stack` cannot be looked up");
    });
}

// ---- The ledger -----------------------------------------------------------------------------------------------------------

/// The ledger with one event, and another body of it, which is in quarantine.
struct Book {
    ledger: Ledger,
    second: Event,
    content: SignedContent,
    now: Timestamp,
}

const BODY: StoredBody = StoredBody::InBucket(String::new());

impl Book {
    async fn open(stack: &Stack) -> Self {
        let now = Timestamp::now();
        let first = Event {
            key: EventKey { source: SourceName::parse("partner").unwrap(), event_id: EventId::parse(&unique()).unwrap() },
            event_type: EventType::unknown(),
            received_at: now,
            occurred_at: None,
            headers: BTreeMap::new(),
            body_bytes: 4,
            sha256: BodyDigest::of(b"first"),
            compared_sha256: None,
            part: None,
            key_id: "initial".to_owned(),
            destinations: vec![DestinationName::parse("nobody").unwrap()],
            expires_at: now.plus(HORIZON),
        };
        let second = Event { sha256: BodyDigest::of(b"second"), ..first.clone() };
        let content = format!("{} signs it", first.key);
        let content = SignedContent {
            sha256: BodyDigest::of(content.as_bytes()),
            expires_at: now.plus(HORIZON),
            types: ContentTypes::Signed,
        };
        let book = Self {
            ledger: Ledger::new(&stack.aws, stack.output("LedgerTableName").to_owned())
                .remembering(stack.output("ContentTableName").to_owned()),
            second,
            content,
            now,
        };
        assert_eq!(book.ledger.record(&first, &BODY, None).await.unwrap(), Recorded::New);
        assert!(matches!(book.record(&book.second).await, Recorded::Conflict { .. }));
        book.ledger.quarantine_conflict(&book.second, &BODY, Some(content)).await.unwrap();
        book
    }

    async fn record(&self, event: &Event) -> Recorded {
        self.ledger.record(event, &BODY, Some(self.content)).await.unwrap()
    }

    async fn quarantined(&self) -> Vec<Quarantined> {
        self.ledger.quarantined_beside(&self.second.key, self.now).await.unwrap()
    }

    async fn accept_quarantined(&self) -> Acceptance {
        let second = self.quarantined().await.remove(0);
        let body = self.ledger.quarantined_body(&second).await.unwrap().unwrap();
        self.ledger.accept_quarantined(&second, &body, self.now).await.unwrap()
    }

    fn accepted_id(&self) -> EventId {
        self.second.key.beside(&self.second.sha256).event_id
    }

    fn seen(&self) -> Acceptance {
        Acceptance::Seen { event_id: self.accepted_id(), unclaimed: self.second.destinations.clone() }
    }
}

#[test]
fn accepting_records_an_event_for_the_audit_and_empties_quarantine_and_its_index() {
    journey(async |stack| {
        let mut book = Book::open(stack).await;
        book.now = book.now.plus(Duration::from_secs(60));
        let Acceptance::New(event) = book.accept_quarantined().await else { panic!("not new") };
        assert_eq!((event.received_at, event.expires_at.seconds()), (book.now, book.now.plus(HORIZON).seconds()));
        let source = &event.key.source;
        let audited = book.ledger.events_between(source, book.now, book.now.plus(Duration::from_millis(1))).await.unwrap();
        assert!(audited.iter().any(|audited| audited.key == event.key && audited.destinations == event.destinations));
        let (found, body) = book.ledger.find(&event.key, book.now).await.unwrap().unwrap();
        assert_eq!((found, body), (*event, BODY));
        assert_eq!(book.quarantined().await, []);
        assert_eq!(listed(&book).await, 0);
    });
}

#[test]
fn what_was_accepted_and_not_yet_taken_out_of_quarantine_can_be_accepted_again_and_is_one_event() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        // Whoever accepts it dies after the event is written.
        let acceptance = book.ledger.accept(&book.second, &BODY, Some(book.content), book.now).await.unwrap();
        assert!(matches!(acceptance, Acceptance::New(_)), "{acceptance:?}");
        assert_eq!(book.quarantined().await.len(), 1);
        assert_eq!(book.accept_quarantined().await, book.seen(), "nobody has claimed it, so it is to be rung for");
        assert_eq!(book.quarantined().await, []);
    });
}

#[test]
fn what_is_claimed_for_an_accepted_event_and_never_recorded_is_accepted_by_the_next_try() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        book.ledger.accept(&book.second, &BODY, Some(book.content), book.now).await.unwrap();
        // As if whoever accepted it had died between the two puts.
        delete(stack, &book.second.key.beside(&book.second.sha256)).await;
        assert!(matches!(book.accept_quarantined().await, Acceptance::New(_)));
    });
}

#[test]
fn what_was_signed_is_the_accepted_events_from_then_on() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        assert!(matches!(book.accept_quarantined().await, Acceptance::New(_)));
        let unclaimed = book.second.destinations.clone();
        let again = Recorded::SeenBeside { event_id: book.accepted_id(), unclaimed: unclaimed.clone() };
        assert_eq!(book.record(&book.second).await, again);
        let key = EventKey { event_id: EventId::parse(&unique()).unwrap(), ..book.second.key.clone() };
        let captured = Event { key, ..book.second.clone() };
        assert_eq!(book.record(&captured).await, Recorded::Replayed { first: book.accepted_id(), unclaimed, is_kept: true });
    });
}

#[test]
fn what_became_an_event_under_another_id_is_not_accepted_twice() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let key = EventKey { event_id: EventId::parse(&unique()).unwrap(), ..book.second.key.clone() };
        let other = Event { key, ..book.second.clone() };
        assert_eq!(book.record(&other).await, Recorded::New);
        let expected = Acceptance::Seen { event_id: other.key.event_id, unclaimed: book.second.destinations.clone() };
        assert_eq!(book.accept_quarantined().await, expected);
        assert_eq!(book.ledger.find(&book.second.key.beside(&book.second.sha256), book.now).await.unwrap(), None);
    });
}

#[test]
fn an_accepted_id_with_another_body_accepts_nothing_and_quarantine_keeps_what_it_has() {
    journey(async |stack| {
        let book = Book::open(stack).await;
        let made_up =
            Event { key: book.second.key.beside(&book.second.sha256), sha256: BodyDigest::of(b"third"), ..book.second.clone() };
        assert_eq!(book.ledger.record(&made_up, &BODY, None).await.unwrap(), Recorded::New);
        assert_eq!(book.accept_quarantined().await, Acceptance::Taken(book.accepted_id()));
        assert_eq!(book.quarantined().await.len(), 1);
    });
}

#[test]
fn what_is_in_quarantine_is_listed_until_it_expires_and_is_no_delivery_in_trouble() {
    journey(async |stack| {
        let mut book = Book::open(stack).await;
        assert_eq!(listed(&book).await, 1);
        for destination in &book.second.destinations {
            let due = book.ledger.due(destination, book.now.plus(HORIZON), 1000).await.unwrap();
            assert!(due.deliveries.iter().all(|due| due.doorbell.event_id != book.second.key.event_id));
        }
        let expiry = book.second.expires_at;
        book.now = expiry.minus(Duration::from_secs(1));
        assert_eq!((listed(&book).await, book.quarantined().await.len()), (1, 1));
        book.now = expiry;
        assert_eq!((listed(&book).await, book.quarantined().await.len()), (0, 0));
    });
}

#[test]
fn what_came_in_the_place_of_something_in_quarantine_is_not_taken_out_with_it() {
    journey(async |stack| {
        let first = stack.sample("github");
        stack.accept(&first).await;
        let second = Sample { id: unique(), ..first.clone() };
        stack.send(&second).await;
        let ledger = Ledger::new(&stack.aws, stack.output("LedgerTableName").to_owned())
            .remembering(stack.output("ContentTableName").to_owned());
        let key = EventKey { source: SourceName::parse("github").unwrap(), event_id: EventId::parse(&first.id).unwrap() };
        let found = ledger.quarantined_beside(&key, Timestamp::now()).await.unwrap().remove(0);
        let mut other = found.clone();
        other.event.sha256 = BodyDigest::of(b"another body");
        ledger.remove_quarantined(&other).await.unwrap();
        assert_eq!(ledger.quarantined_beside(&key, Timestamp::now()).await.unwrap(), std::slice::from_ref(&found));
        assert_eq!(ledger.quarantined_body(&other).await.unwrap(), None);
        ledger.remove_quarantined(&found).await.unwrap();
        assert_eq!(ledger.quarantined_beside(&key, Timestamp::now()).await.unwrap(), []);
    });
}

/// How many conflicts with the book's event the index lists.
async fn listed(book: &Book) -> usize {
    let pairs = book.ledger.quarantined(Kind::Conflict, Some(&book.second.key.source), usize::MAX, book.now).await.unwrap();
    pairs.iter().filter(|pair| pair.second.first == book.second.key).count()
}

async fn delete(stack: &Stack, key: &EventKey) {
    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let delete = stack.dynamodb.delete_item().table_name(stack.output("LedgerTableName"));
    delete.key("pk", text(&key.to_string())).key("sk", text("event")).send().await.unwrap();
}

// ---- Helpers --------------------------------------------------------------------------------------------------------------

/// Sources that take the latest body, and where they route to: one that signs its ids, and one that does not.
const LATEST: [(&str, &str); 2] = [("latest", "partner"), ("github-latest", "ci")];

/// Two bodies under one event id.
fn two_bodies(stack: &Stack, source: &'static str) -> (Sample, Sample) {
    let first = stack.sample(source);
    let mut second = first.clone();
    second.body.extend(b" ");
    (first, second)
}

/// Two bodies under one event id, of which the second is in quarantine.
async fn quarantined(stack: &Stack, source: &'static str) -> (Sample, Sample) {
    let (first, second) = two_bodies(stack, source);
    stack.accept(&first).await;
    assert_eq!(stack.send(&second).await.status, 200);
    assert_eq!(stack.conflicts(&first).await, [digest(&second)]);
    (first, second)
}

fn digest(sample: &Sample) -> String {
    hex::encode(Sha256::digest(&sample.body))
}

/// The sample as the event of its own that it becomes.
fn beside(sample: &Sample) -> Sample {
    Sample { id: format!("{}~{}", sample.id, &digest(sample)[..BESIDE_DIGITS]), ..sample.clone() }
}

/// Sends another body of a known event id, which has to be an event of its own then.
async fn accept_beside(stack: &Stack, second: &Sample) {
    let answer = stack.send(second).await;
    assert_eq!((answer.took_it_in(), &answer.body["eventId"]), (true, &json!(beside(second).id)), "{answer:?}");
}

/// The destination got each of these bodies, which name the same sample, once.
async fn each_delivered_once(stack: &Stack, samples: &[&Sample], destination: &str) {
    let mut bodies: Vec<&[u8]> = samples.iter().map(|sample| sample.body.as_slice()).collect();
    bodies.sort_unstable();
    let entries = stack.destination.journal(destination, &samples[0].id).await;
    let mut got: Vec<&[u8]> = entries.iter().map(|entry| entry.body.as_ref()).collect();
    got.sort_unstable();
    assert!(got == bodies, "{destination} got {} and not {} deliveries of {}", got.len(), bodies.len(), samples[0].id);
}

/// What the command line says is in quarantine beside an event.
fn listed_as_json(stack: &Stack, kind: &str, first: &Sample) -> Option<Value> {
    let said = posthouse(stack, &[kind, "--source", first.source, "--limit", "1000", "--json"]);
    assert_eq!(said.status, 0, "{}", said.text);
    let mut pairs = said.text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    pairs.find(|pair| pair["second"]["beside"] == json!(first.id))
}

/// Runs `posthouse events …` on the stack.
fn posthouse(stack: &Stack, args: &[&str]) -> Said {
    operator::posthouse(stack, "events", args)
}
