//! How events, deliveries and what is in quarantine are shown: to people in columns, to machines as JSON.

use std::fmt::{Display, Write};

use serde_json::{Value, json};
use shared::{
    event::{BodyDigest, Event, EventKey},
    ledger::{AttemptRecord, DeliveryReport, Kind, Pair, Quarantined},
    names::DestinationName,
    time::Timestamp,
};

use crate::check::counted;

/// How much of a digest is shown where it is only to tell two apart, in hexadecimal digits.
const SHORT_DIGITS: usize = 12;
/// How wide labels are, in characters.
const LABEL_CHARS: usize = 12;

/// The beginning of a digest: enough to tell two apart, and to name one on the command line.
pub(super) fn short(sha256: &BodyDigest) -> String {
    sha256.to_hex()[..SHORT_DIGITS].to_owned()
}

/// Destinations in a line.
pub(super) fn names(destinations: &[DestinationName]) -> String {
    match destinations {
        [] => "no destination".to_owned(),
        names => names.iter().map(DestinationName::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// An event and what came later, side by side.
pub(super) fn pair(pair: &Pair) -> String {
    let Pair { first, second } = pair;
    let cell = |of: fn(&Event) -> String| [first.as_ref().map_or_else(|| "expired".to_owned(), of), of(&second.event)];
    let rows = [
        ("event id", [second.first.event_id.to_string(), second.event.key.event_id.to_string()]),
        ("type", cell(|event| event.event_type.to_string())),
        ("received", cell(|event| event.received_at.to_rfc3339())),
        ("bytes", cell(|event| event.own_bytes().to_string())),
        ("sha256", cell(|event| short(event.own_sha256()))),
        ("key", cell(|event| event.key_id.clone())),
    ];
    let width = rows.iter().map(|(_, [left, _])| left.chars().count()).max().unwrap_or_default();
    let mut text = line(second.kind, &second.first.source);
    for (label, [left, right]) in [("", ["FIRST".to_owned(), "SECOND".to_owned()])].into_iter().chain(rows) {
        text += &format!("{label:LABEL_CHARS$}{left:width$}  {right}\n");
    }
    text
}

/// All that is in quarantine beside an event, with whole digests and the headers that were kept.
pub(super) fn beside(key: &EventKey, first: Option<&Event>, seconds: &[Quarantined]) -> String {
    let mut text = line("event", key);
    match first {
        Some(first) => text += &described(first),
        None => text += &line("", "there is none of this id, or it has expired"),
    }
    if seconds.is_empty() {
        text += "\nnothing is in quarantine beside it\n";
    }
    for second in seconds {
        text += &format!("\n{}{}", line(second.kind, &second.event.key), described(&second.event));
        text += &line("accepted", format!("would be {}", second.accepted_key().event_id));
    }
    text
}

/// One thing in quarantine, in a line.
pub(super) fn second(second: &Quarantined) -> String {
    let event = &second.event;
    let (bytes, received_at, sha256) = (event.own_bytes(), event.received_at.to_rfc3339(), short(event.own_sha256()));
    format!("{} {}: {bytes} bytes, received {received_at}, SHA-256 {sha256}", second.kind, event.key)
}

/// An event and what became of it.
pub(super) fn event(event: &Event, deliveries: &[DeliveryReport], seconds: &[Quarantined]) -> String {
    let mut text = line("event", &event.key) + &described(event);
    text += &line("expires", event.expires_at.to_rfc3339());
    let count = |kind: Kind| counted(seconds.iter().filter(|second| second.kind == kind).count(), kind.as_str());
    text += &line("quarantine", format!("{}, {}", count(Kind::Conflict), count(Kind::Replay)));
    for destination in &event.destinations {
        let report = deliveries.iter().find(|report| report.destination == *destination);
        text += &line("delivery", format!("{destination}: {}", report.map_or_else(|| "queued".to_owned(), standing)));
        for attempt in report.iter().flat_map(|report| &report.delivery.history) {
            text += &line("", tried(attempt));
        }
    }
    text
}

fn tried(attempt: &AttemptRecord) -> String {
    let AttemptRecord { run, number, started_at, millis, result, reason, wait_millis } = attempt;
    let of_run = if *run > 0 { format!("run {}, ", run + 1) } else { String::new() };
    let mut text = format!("{of_run}attempt {number}, {}, {millis} ms: {result}", started_at.to_rfc3339());
    if let Some(reason) = reason {
        text += &format!(": {reason}");
    }
    if let Some(wait) = wait_millis {
        text += &format!("; then waits {}.{:03} s", wait / 1000, wait % 1000);
    }
    text
}

fn standing(report: &DeliveryReport) -> String {
    let DeliveryReport { delivery, last_error, done_as, .. } = report;
    let of_run = if delivery.replay > 0 { format!(", run {}", delivery.replay + 1) } else { String::new() };
    let mut text = match done_as.as_deref() {
        Some("skipped") => "skipped: the filter of its route leaves it out; it was not sent".to_owned(),
        Some("superseded") => "superseded: something newer about the same has arrived; it was not sent".to_owned(),
        Some(other) => other.to_owned(),
        None => format!("{}{of_run}, attempt {}", delivery.status.as_str(), delivery.attempts),
    };
    let moments = [("next at", delivery.next_at), ("lease until", delivery.lease_until), ("done at", delivery.done_at)];
    for (label, moment) in moments.into_iter().filter_map(|(label, moment)| Some((label, moment?))) {
        text += &format!(", {label} {}", moment.to_rfc3339());
    }
    if let Some((class, reason)) = last_error {
        text += &format!(", {class}: {reason}");
    }
    text
}

fn described(event: &Event) -> String {
    let mut text = line("type", &event.event_type) + &line("received", event.received_at.to_rfc3339());
    if let Some(occurred_at) = event.occurred_at {
        text += &line("occurred", occurred_at.to_rfc3339());
    }
    text += &line("body", format!("{} bytes, SHA-256 {}", event.own_bytes(), event.own_sha256().to_hex()));
    text += &line("key", &event.key_id);
    text += &line("goes to", names(&event.destinations));
    for (name, value) in &event.headers {
        // The sender's text: it may have what a terminal obeys.
        text += &line("header", format!("{name}: {}", value.escape_debug()));
    }
    text
}

fn line(label: impl Display, value: impl Display) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{:LABEL_CHARS$}{value}", label.to_string());
    text
}

/// As [`pair`], for machines.
pub(super) fn pair_json(pair: &Pair) -> Value {
    json!({"first": pair.first.as_ref().map(of_event), "second": of_second(&pair.second)})
}

/// As [`beside`], for machines.
pub(super) fn beside_json(first: Option<&Event>, seconds: &[Quarantined]) -> Value {
    json!({"first": first.map(of_event), "quarantine": seconds.iter().map(of_second).collect::<Vec<_>>()})
}

/// As [`event`], for machines.
pub(super) fn event_json(event: &Event, deliveries: &[DeliveryReport], seconds: &[Quarantined]) -> Value {
    let deliveries = event.destinations.iter().map(|destination| {
        let report = deliveries.iter().find(|report| report.destination == *destination);
        of_delivery(destination, report)
    });
    json!({
        "event": of_event(event),
        "deliveries": deliveries.collect::<Vec<_>>(),
        "quarantine": seconds.iter().map(of_second).collect::<Vec<_>>(),
    })
}

fn of_delivery(destination: &DestinationName, report: Option<&DeliveryReport>) -> Value {
    let delivery = report.map(|report| &report.delivery);
    let moment = |moment: Option<Timestamp>| moment.map(Timestamp::to_rfc3339);
    let last_error = report.and_then(|report| report.last_error.as_ref());
    json!({
        "destination": destination,
        "status": delivery.map_or("queued", |delivery| delivery.status.as_str()),
        "doneAs": report.and_then(|report| report.done_as.as_ref()),
        "attempts": delivery.map_or(0, |delivery| delivery.attempts),
        "replay": delivery.map_or(0, |delivery| delivery.replay),
        "nextAt": moment(delivery.and_then(|delivery| delivery.next_at)),
        "leaseUntil": moment(delivery.and_then(|delivery| delivery.lease_until)),
        "doneAt": moment(delivery.and_then(|delivery| delivery.done_at)),
        "errorClass": last_error.map(|(class, _)| class),
        "lastError": last_error.map(|(_, reason)| reason),
        "history": delivery.map_or_else(Vec::new, |delivery| delivery.history.iter().map(of_attempt).collect()),
    })
}

fn of_attempt(attempt: &AttemptRecord) -> Value {
    json!({
        "run": attempt.run,
        "number": attempt.number,
        "startedAt": attempt.started_at.to_rfc3339(),
        "millis": attempt.millis,
        "result": attempt.result,
        "reason": attempt.reason,
        "waitMillis": attempt.wait_millis,
    })
}

fn of_second(second: &Quarantined) -> Value {
    let mut value = of_event(&second.event);
    value["kind"] = json!(second.kind.as_str());
    value["beside"] = json!(second.first.event_id);
    value["acceptedId"] = json!(second.accepted_key().event_id);
    value
}

fn of_event(event: &Event) -> Value {
    json!({
        "source": event.key.source,
        "eventId": event.key.event_id,
        "type": event.event_type,
        "receivedAt": event.received_at.to_rfc3339(),
        "occurredAt": event.occurred_at.map(Timestamp::to_rfc3339),
        "expiresAt": event.expires_at.to_rfc3339(),
        "bodyBytes": event.own_bytes(),
        "sha256": event.own_sha256().to_hex(),
        "keyId": event.key_id,
        "headers": event.headers,
        "destinations": event.destinations,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use shared::{
        ledger::{Delivery, Status},
        names::{EventId, EventType, SourceName},
    };

    use super::*;

    fn named(id: &str, body: &[u8]) -> Event {
        Event {
            key: EventKey { source: SourceName::parse("github").unwrap(), event_id: EventId::parse(id).unwrap() },
            event_type: EventType::parse("push").unwrap(),
            received_at: Timestamp::from_seconds(1_700_000_000),
            occurred_at: None,
            headers: BTreeMap::from([("x-a".to_owned(), "1\u{1b}[2J".to_owned())]),
            body_bytes: body.len(),
            sha256: BodyDigest::of(body),
            compared_sha256: None,
            part: None,
            key_id: "initial".to_owned(),
            destinations: vec![DestinationName::parse("ci").unwrap(), DestinationName::parse("audit").unwrap()],
            expires_at: Timestamp::from_seconds(1_700_100_000),
        }
    }

    pub(in crate::events) fn conflict() -> Quarantined {
        let event = named("7", b"second");
        Quarantined { kind: Kind::Conflict, first: event.key.clone(), event, content: None }
    }

    #[test]
    fn two_bodies_stand_side_by_side_by_their_digests() {
        let text = pair(&Pair { first: Some(named("7", b"first one")), second: conflict() });
        assert_eq!(
            text,
            "conflict    github\n            FIRST                 SECOND\n\
             event id    7                     7\n\
             type        push                  push\n\
             received    2023-11-14T22:13:20Z  2023-11-14T22:13:20Z\n\
             bytes       9                     6\n\
             sha256      92ccbf01290f          16367aacb67a\n\
             key         initial               initial\n"
        );
        assert!(pair(&Pair { first: None, second: conflict() }).contains("sha256      expired  16367aacb67a\n"));
    }

    #[test]
    fn headers_are_shown_and_cannot_command_a_terminal() {
        let text = beside(&named("7", b"").key, Some(&named("7", b"first one")), &[conflict()]);
        assert!(text.contains("header      x-a: 1\\u{1b}[2J\n"), "{text}");
        assert!(text.contains(&format!("body        6 bytes, SHA-256 {}\n", BodyDigest::of(b"second").to_hex())), "{text}");
        assert!(text.contains("accepted    would be 7~16367aacb67a"), "{text}");
    }

    #[test]
    fn a_delivery_is_told_with_its_error_and_its_next_attempt_and_is_queued_without_an_item() {
        let delivery = Delivery {
            status: Status::Waiting,
            generation: Timestamp::from_seconds(1_700_000_000),
            attempts: 2,
            throttles: 0,
            replay: 0,
            owner: "a".to_owned(),
            lease_until: None,
            next_at: Some(Timestamp::from_seconds(1_700_000_060)),
            look_at: None,
            done_at: None,
            expires_at: Timestamp::from_seconds(1_700_100_000),
            begun_at: Timestamp::from_seconds(1_700_000_000),
            reserved_at: None,
            history: vec![AttemptRecord {
                run: 0,
                number: 1,
                started_at: Timestamp::from_seconds(1_700_000_001),
                millis: 20,
                result: "transient".to_owned(),
                reason: Some("503".to_owned()),
                wait_millis: Some(4_025),
            }],
        };
        let last_error = Some(("transient".to_owned(), "503".to_owned()));
        let report = DeliveryReport { destination: DestinationName::parse("ci").unwrap(), delivery, last_error, done_as: None };
        let text = event(&named("7", b"a"), std::slice::from_ref(&report), &[conflict()]);
        assert!(text.contains("delivery    ci: waiting, attempt 2, next at 2023-11-14T22:14:20Z, transient: 503\n"), "{text}");
        let attempt = "            attempt 1, 2023-11-14T22:13:21Z, 20 ms: transient: 503; then waits 4.025 s\n";
        assert!(text.contains(attempt), "{text}");
        assert!(text.contains("delivery    audit: queued\n"), "{text}");
        assert!(text.contains("quarantine  1 conflict, 0 replays\n"), "{text}");
        let json = event_json(&named("7", b"a"), std::slice::from_ref(&report), &[conflict()]);
        assert_eq!(json["deliveries"][0]["nextAt"], "2023-11-14T22:14:20Z");
        assert_eq!(json["deliveries"][0]["errorClass"], "transient");
        assert_eq!(json["deliveries"][0]["history"][0]["waitMillis"], 4025);
        // A redrive begins another run, and what was left out was not sent.
        let mut again = report.clone();
        (again.delivery.replay, again.delivery.history[0].run) = (1, 1);
        let text = event(&named("7", b"a"), &[again], &[]);
        assert!(text.contains("ci: waiting, run 2, attempt 2, "), "{text}");
        assert!(text.contains("            run 2, attempt 1, "), "{text}");
        let skipped = DeliveryReport { done_as: Some("skipped".to_owned()), last_error: None, ..report };
        let text = event(&named("7", b"a"), std::slice::from_ref(&skipped), &[]);
        assert!(text.contains("ci: skipped: the filter of its route leaves it out; it was not sent"), "{text}");
        assert_eq!(event_json(&named("7", b"a"), &[skipped], &[])["deliveries"][0]["doneAs"], "skipped");
        assert_eq!((&json["deliveries"][1]["status"], &json["quarantine"][0]["kind"]), (&json!("queued"), &json!("conflict")));
    }
}
