//! From counts and sizes to a table and a line of JSON.

use std::fmt::{self, Display, Formatter};

use ::tests::wire::Count;
use serde_json::{Value, json};

use crate::{
    measure::{BODY_BYTES, Measured, Sizes, Subject},
    prices,
    units::{read_units, write_units},
};

/// Calls of a warm receiver for one new webhook whose id is signed, and of a worker for one delivery to a healthy destination.
/// None of anything else.
const GOAL: [(&str, &str, u32); 4] =
    [("receiver", "PutItem", 1), ("receiver", "SendMessage", 1), ("worker", "BatchGetItem", 1), ("worker", "UpdateItem", 2)];

/// What is more where the id is not signed: the put that claims what is.
const GOAL_UNSIGNED_ID: (&str, &str, u32) = ("receiver", "PutItem", 1);

/// What AWS bills beside the functions' own calls, for one new webhook with one delivery, in doorbell batches of one.
const AROUND: [(&str, &str, f64, &str, f64); 5] = [
    ("front door", "HTTP API request", 1.0, "request", prices::HTTP_API_REQUEST),
    ("receiver", "Lambda invocation", 1.0, "request", prices::LAMBDA_REQUEST),
    ("worker", "Lambda invocation", 1.0, "request", prices::LAMBDA_REQUEST),
    ("Lambda", "ReceiveMessage", 1.0, "request", prices::SQS_REQUEST),
    ("Lambda", "DeleteMessage", 1.0, "request", prices::SQS_REQUEST),
];

/// The same for a duplicate, which rings no doorbell: how many of [`AROUND`] it has.
const AROUND_DUPLICATE: usize = 2;

/// The figures.
pub(crate) struct Report {
    subject: &'static Subject,
    webhooks: u32,
    sizes: Sizes,
    new: Vec<Row>,
    duplicates: Vec<Row>,
    receiver_keeps_goal: bool,
    worker_keeps_goal: bool,
}

/// One operation, for one webhook.
struct Row {
    function: String,
    operation: String,
    /// Counted on the wire; else reckoned.
    counted: bool,
    calls: f64,
    unit: &'static str,
    units: f64,
    /// For a million webhooks.
    usd: f64,
}

/// Whether a webhook was new or not changes what its PutItem costs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    New,
    Duplicate,
}

impl Report {
    pub(crate) fn of(measured: &Measured) -> Self {
        let rows =
            |counts: &[Count], kind| counts.iter().map(|count| Row::counted(count, measured, kind)).chain(around(kind)).collect();
        let keeps_goal = |function: &str| {
            let mut counts = measured.new.iter().filter(|count| count.call.function == function);
            counts.all(|count| count.calls <= allowed(count, measured))
        };
        Self {
            subject: measured.subject,
            webhooks: measured.webhooks,
            sizes: mean(&measured.sizes),
            new: rows(&measured.new, Kind::New),
            duplicates: rows(&measured.duplicates, Kind::Duplicate),
            receiver_keeps_goal: keeps_goal("receiver"),
            worker_keeps_goal: keeps_goal("worker"),
        }
    }

    /// Whether a warm receiver makes no call beyond its goal.
    pub(crate) fn receiver_keeps_goal(&self) -> bool {
        self.receiver_keeps_goal
    }

    /// The figures as JSON.
    pub(crate) fn json(&self) -> Value {
        let rows = |rows: &[Row]| rows.iter().map(Row::json).collect::<Value>();
        let Sizes { event, compressed_body, index, delivery, content } = self.sizes;
        json!({
            "source": self.subject.source,
            "signsId": self.subject.signs_id,
            "webhooks": self.webhooks,
            "bytes": {"body": BODY_BYTES, "compressedBody": compressed_body, "eventItem": event, "indexItem": index,
                      "deliveryItem": delivery, "contentItem": content},
            "new": rows(&self.new),
            "duplicates": rows(&self.duplicates),
            "usdPerMillion": {"new": total(&self.new), "duplicates": total(&self.duplicates)},
            "goalKept": {"receiver": self.receiver_keeps_goal, "worker": self.worker_keeps_goal},
        })
    }
}

/// How many calls of one kind the goal allows.
fn allowed(count: &Count, measured: &Measured) -> u64 {
    let more = (!measured.subject.signs_id).then_some(&GOAL_UNSIGNED_ID);
    let goals = GOAL.iter().chain(more);
    let of_this =
        goals.filter(|(function, operation, _)| (*function, *operation) == (&*count.call.function, &*count.call.operation));
    of_this.map(|(_, _, calls)| u64::from(*calls) * u64::from(measured.webhooks)).sum()
}

fn around(kind: Kind) -> impl Iterator<Item = Row> {
    let rows = if kind == Kind::New { &AROUND[..] } else { &AROUND[..AROUND_DUPLICATE] };
    rows.iter().map(|(function, operation, calls, unit, usd)| Row {
        function: (*function).to_owned(),
        operation: (*operation).to_owned(),
        counted: false,
        calls: *calls,
        unit,
        units: *calls,
        usd: calls * usd,
    })
}

impl Row {
    fn counted(count: &Count, measured: &Measured, kind: Kind) -> Self {
        let calls = count.calls as f64 / f64::from(measured.webhooks);
        let (unit, price, per_call) = billed(&count.call.service, &count.call.operation, kind, measured.subject.signs_id);
        let of_all: f64 = measured.sizes.iter().map(per_call).sum();
        let units = calls * of_all / measured.sizes.len() as f64;
        let (function, operation) = (count.call.function.clone(), count.call.operation.clone());
        Self { function, operation, counted: true, calls, unit, units, usd: units * price }
    }

    fn json(&self) -> Value {
        json!({"function": self.function, "operation": self.operation, "counted": self.counted, "calls": self.calls,
               "unit": self.unit, "units": self.units, "usdPerMillion": self.usd})
    }
}

/// The unit that AWS bills for an operation, its price, and how many of it a call is with items of some sizes.
fn billed(service: &str, operation: &str, kind: Kind, signs_id: bool) -> (&'static str, f64, fn(&Sizes) -> f64) {
    let write = |per_call: fn(&Sizes) -> f64| ("write unit", prices::WRITE_UNIT, per_call);
    let read = |per_call: fn(&Sizes) -> f64| ("read unit", prices::READ_UNIT, per_call);
    match (service, operation, kind) {
        ("dynamodb", "PutItem", Kind::New) if signs_id => write(|s| (write_units(s.event) + write_units(s.index)) as f64),
        // One of the content and one of the event: the mean of the two.
        ("dynamodb", "PutItem", Kind::New) => {
            write(|s| (write_units(s.content) + write_units(s.event) + write_units(s.index)) as f64 / 2.0)
        }
        // A condition that does not hold is billed by the item that is there; the index is left alone.
        ("dynamodb", "PutItem", Kind::Duplicate) if signs_id => write(|s| write_units(s.event) as f64),
        ("dynamodb", "PutItem", Kind::Duplicate) => write(|s| write_units(s.content) as f64),
        ("dynamodb", "UpdateItem", _) => write(|s| write_units(s.delivery) as f64),
        ("dynamodb", "GetItem", _) => read(|s| read_units(s.event) as f64),
        // The event, and the state of its destination: none, which is billed as the smallest item.
        ("dynamodb", "BatchGetItem", _) => read(|s| (read_units(s.event) + 1) as f64),
        ("dynamodb", "Query", _) => read(|s| read_units(s.delivery) as f64),
        ("sqs", ..) => ("request", prices::SQS_REQUEST, |_| 1.0),
        ("s3", "PutObject", _) => ("request", prices::S3_PUT, |_| 1.0),
        ("secretsmanager", ..) => ("request", prices::SECRET_CALL, |_| 1.0),
        _ => panic!("the bench has no price for {operation} of {service}: add it to report.rs"),
    }
}

fn mean(all: &[Sizes]) -> Sizes {
    let of = |size: fn(&Sizes) -> usize| all.iter().map(size).sum::<usize>() / all.len();
    Sizes {
        event: of(|s| s.event),
        compressed_body: of(|s| s.compressed_body),
        index: of(|s| s.index),
        delivery: of(|s| s.delivery),
        content: of(|s| s.content),
    }
}

fn total(rows: &[Row]) -> f64 {
    rows.iter().map(|row| row.usd).sum()
}

impl Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Sizes { event, compressed_body, index, delivery, content } = self.sizes;
        let Subject { source, signs, signs_id, .. } = self.subject;
        writeln!(
            out,
            "{} warm webhooks of `{source}`, which signs {signs}: a JSON body of {BODY_BYTES} bytes ({compressed_body} compressed), \
             one delivery each",
            self.webhooks
        )?;
        write!(out, "mean item sizes: event {event} bytes, its index entry {index}, delivery {delivery}")?;
        writeln!(out, "{}\n", if *signs_id { String::new() } else { format!(", signed content {content}") })?;
        table(out, "A new webhook, and its delivery", &self.new)?;
        let word = |kept: bool| if kept { "kept" } else { "NOT KEPT" };
        let puts = if *signs_id { "1 PutItem" } else { "2 PutItem (content, event)" };
        writeln!(out, "  goal, receiver: {puts}, 1 SendMessage, nothing else: {}", word(self.receiver_keeps_goal))?;
        writeln!(
            out,
            "  goal, worker: 1 BatchGetItem (load), 2 UpdateItem (claim, finish), nothing else: {}\n",
            word(self.worker_keeps_goal)
        )?;
        table(out, "A duplicate", &self.duplicates)
    }
}

/// What is to be known about every report.
pub(crate) const FOOTNOTE: &str = "\
* not counted: what AWS bills around the functions, with doorbells in batches of one; in batches of ten the last
  three cost a tenth. Calls are counted on the wire. Units are by DynamoDB's documented size rules from the items
  read back, prices the list of us-east-1. Not in it: duration, logs, storage, data transfer.";

fn table(out: &mut Formatter<'_>, title: &str, rows: &[Row]) -> fmt::Result {
    writeln!(out, "{title}\n  {:12}{:20}{:>7}   {:18}{:>14}", "who", "operation", "calls", "billed units", "USD a million")?;
    for row in rows {
        let calls = format!("{:.2}{}", row.calls, if row.counted { " " } else { "*" });
        let units = format!("{:.2} {}", row.units, row.unit);
        writeln!(out, "  {:12}{:20}{calls:>8}  {units:18}{:>14.3}", row.function, row.operation, row.usd)?;
    }
    writeln!(out, "  {:12}{:>59.3}", "total", total(rows))
}

#[cfg(test)]
mod tests {
    use ::tests::wire::Call;

    use super::*;
    use crate::measure::SUBJECTS;

    fn count(function: &str, operation: &str, calls: u64) -> Count {
        let service = if operation == "SendMessage" { "sqs" } else { "dynamodb" };
        let call = Call { function: function.to_owned(), service: service.to_owned(), operation: operation.to_owned() };
        Count { call, calls, bytes_sent: 0, bytes_received: 0 }
    }

    fn report(signs_id: bool, new: Vec<Count>) -> Report {
        let subject = SUBJECTS.iter().find(|subject| subject.signs_id == signs_id).unwrap();
        let sizes = vec![Sizes { event: 1500, compressed_body: 900, index: 200, delivery: 300, content: 150 }; 10];
        Report::of(&Measured { subject, webhooks: 10, new, duplicates: vec![count("receiver", "PutItem", 10)], sizes })
    }

    #[test]
    fn the_goal_is_kept_up_to_its_bound_and_not_beyond() {
        let kept = |new| report(true, new).receiver_keeps_goal();
        assert!(kept(vec![count("receiver", "PutItem", 10), count("receiver", "SendMessage", 10)]));
        assert!(!kept(vec![count("receiver", "PutItem", 11), count("receiver", "SendMessage", 10)]));
        for (puts, expected) in [(20, true), (21, false)] {
            assert_eq!(report(false, vec![count("receiver", "PutItem", puts)]).receiver_keeps_goal(), expected);
        }
        assert!(!kept(vec![count("receiver", "PutItem", 10), count("receiver", "Query", 1)]));
        assert!(kept(vec![count("worker", "Query", 1)]), "the worker's calls are not the receiver's");
    }

    #[test]
    fn units_follow_from_sizes_and_counts() {
        let figures = report(true, vec![count("receiver", "PutItem", 10), count("worker", "UpdateItem", 20)]).json();
        assert_eq!((&figures["new"][0]["calls"], &figures["new"][0]["units"]), (&json!(1.0), &json!(3.0)));
        assert_eq!((&figures["new"][1]["calls"], &figures["new"][1]["units"]), (&json!(2.0), &json!(2.0)));
        assert_eq!(figures["duplicates"][0]["units"], json!(2.0), "a refused put does not write the index");
        let figures = report(false, vec![count("receiver", "PutItem", 20)]).json();
        assert_eq!((&figures["new"][0]["calls"], &figures["new"][0]["units"]), (&json!(2.0), &json!(4.0)));
        assert_eq!(figures["duplicates"][0]["units"], json!(1.0), "what is there is the content's item");
    }
}
