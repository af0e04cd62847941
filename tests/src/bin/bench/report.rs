//! From counts and sizes to a table and a line of JSON.

use std::fmt::{self, Display, Formatter};

use ::tests::wire::Count;
use serde_json::{Value, json};

use crate::{
    measure::{BODY_BYTES, Measured, Sizes},
    prices,
    units::{read_units, write_units},
};

/// Calls of a warm receiver for one new webhook, and of a worker for one delivery to a healthy destination. None of
/// anything else.
const GOAL: [(&str, &str, u32); 4] =
    [("receiver", "PutItem", 1), ("receiver", "SendMessage", 1), ("worker", "GetItem", 1), ("worker", "UpdateItem", 2)];

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
            counts.all(|count| count.calls <= allowed(count, measured.webhooks))
        };
        Self {
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
        let Sizes { event, compressed_body, index, delivery } = self.sizes;
        json!({
            "webhooks": self.webhooks,
            "bytes": {"body": BODY_BYTES, "compressedBody": compressed_body, "eventItem": event, "indexItem": index,
                      "deliveryItem": delivery},
            "new": rows(&self.new),
            "duplicates": rows(&self.duplicates),
            "usdPerMillion": {"new": total(&self.new), "duplicates": total(&self.duplicates)},
            "goalKept": {"receiver": self.receiver_keeps_goal, "worker": self.worker_keeps_goal},
        })
    }
}

/// How many calls of one kind the goal allows.
fn allowed(count: &Count, webhooks: u32) -> u64 {
    let goal =
        GOAL.iter().find(|(function, operation, _)| (*function, *operation) == (&*count.call.function, &*count.call.operation));
    goal.map_or(0, |(_, _, calls)| u64::from(*calls) * u64::from(webhooks))
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
        let (unit, price, per_call) = billed(&count.call.service, &count.call.operation, kind);
        let of_all: usize = measured.sizes.iter().map(per_call).sum();
        let units = calls * of_all as f64 / measured.sizes.len() as f64;
        let (function, operation) = (count.call.function.clone(), count.call.operation.clone());
        Self { function, operation, counted: true, calls, unit, units, usd: units * price }
    }

    fn json(&self) -> Value {
        json!({"function": self.function, "operation": self.operation, "counted": self.counted, "calls": self.calls,
               "unit": self.unit, "units": self.units, "usdPerMillion": self.usd})
    }
}

/// The unit that AWS bills for an operation, its price, and how many of it a call is with items of some sizes.
fn billed(service: &str, operation: &str, kind: Kind) -> (&'static str, f64, fn(&Sizes) -> usize) {
    match (service, operation, kind) {
        ("dynamodb", "PutItem", Kind::New) => ("write unit", prices::WRITE_UNIT, |s| write_units(s.event) + write_units(s.index)),
        // A condition that does not hold is billed by the item that is there; the index is left alone.
        ("dynamodb", "PutItem", Kind::Duplicate) => ("write unit", prices::WRITE_UNIT, |s| write_units(s.event)),
        ("dynamodb", "UpdateItem", _) => ("write unit", prices::WRITE_UNIT, |s| write_units(s.delivery)),
        ("dynamodb", "GetItem", _) => ("read unit", prices::READ_UNIT, |s| read_units(s.event)),
        ("dynamodb", "Query", _) => ("read unit", prices::READ_UNIT, |s| read_units(s.delivery)),
        ("sqs", ..) => ("request", prices::SQS_REQUEST, |_| 1),
        ("s3", "PutObject", _) => ("request", prices::S3_PUT, |_| 1),
        ("secretsmanager", ..) => ("request", prices::SECRET_CALL, |_| 1),
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
    }
}

fn total(rows: &[Row]) -> f64 {
    rows.iter().map(|row| row.usd).sum()
}

impl Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Sizes { event, compressed_body, index, delivery } = self.sizes;
        writeln!(
            out,
            "{} warm webhooks, a JSON body of {BODY_BYTES} bytes ({compressed_body} compressed), one delivery each",
            self.webhooks
        )?;
        writeln!(out, "mean item sizes: event {event} bytes, its index entry {index}, delivery {delivery}\n")?;
        table(out, "A new webhook, and its delivery", &self.new)?;
        let word = |kept: bool| if kept { "kept" } else { "NOT KEPT" };
        writeln!(out, "  goal, receiver: 1 PutItem, 1 SendMessage, nothing else: {}", word(self.receiver_keeps_goal))?;
        writeln!(
            out,
            "  goal, worker: 1 GetItem (load), 2 UpdateItem (claim, finish), nothing else: {}\n",
            word(self.worker_keeps_goal)
        )?;
        table(out, "A duplicate", &self.duplicates)?;
        write!(
            out,
            "\n* not counted: what AWS bills around the functions, with doorbells in batches of one; in batches of ten the last\n\
             \x20 three cost a tenth. Calls are counted on the wire. Units are by DynamoDB's documented size rules from the items\n\
             \x20 read back, prices the list of us-east-1. Not in it: duration, logs, storage, data transfer."
        )
    }
}

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

    fn count(function: &str, operation: &str, calls: u64) -> Count {
        let service = if operation == "SendMessage" { "sqs" } else { "dynamodb" };
        let call = Call { function: function.to_owned(), service: service.to_owned(), operation: operation.to_owned() };
        Count { call, calls, bytes_sent: 0, bytes_received: 0 }
    }

    fn report(new: Vec<Count>) -> Report {
        let sizes = vec![Sizes { event: 1500, compressed_body: 900, index: 200, delivery: 300 }; 10];
        Report::of(&Measured { webhooks: 10, new, duplicates: vec![count("receiver", "PutItem", 10)], sizes })
    }

    #[test]
    fn the_goal_is_kept_up_to_its_bound_and_not_beyond() {
        let kept = |new| report(new).receiver_keeps_goal();
        assert!(kept(vec![count("receiver", "PutItem", 10), count("receiver", "SendMessage", 10)]));
        assert!(!kept(vec![count("receiver", "PutItem", 11), count("receiver", "SendMessage", 10)]));
        assert!(!kept(vec![count("receiver", "PutItem", 10), count("receiver", "Query", 1)]));
        assert!(kept(vec![count("worker", "Query", 1)]), "the worker's calls are not the receiver's");
    }

    #[test]
    fn units_follow_from_sizes_and_counts() {
        let figures = report(vec![count("receiver", "PutItem", 10), count("worker", "UpdateItem", 20)]).json();
        assert_eq!((&figures["new"][0]["calls"], &figures["new"][0]["units"]), (&json!(1.0), &json!(3.0)));
        assert_eq!((&figures["new"][1]["calls"], &figures["new"][1]["units"]), (&json!(2.0), &json!(2.0)));
        assert_eq!(figures["duplicates"][0]["units"], json!(2.0), "a refused put does not write the index");
    }
}
