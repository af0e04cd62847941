//! What the ledger says, in words and as a table.

use ::tests::stack::{Item, Sample, Stack, text};

use crate::say;

const COLUMNS: [&str; 7] = ["source", "event id", "type", "destination", "status", "attempts", "ms to done"];

/// Shows everything that the ledger has under an event.
pub(crate) async fn show(stack: &Stack, sample: &Sample) {
    let items = stack.items(sample).await;
    let Some(event) = items.iter().find(|item| text(item, "sk") == Some("event")) else {
        say::line("ledger", "nothing under this event id");
        return;
    };
    let bytes = number(event, "body_bytes").unwrap_or_default();
    say::line("ledger", format!("event {}, {bytes} bytes, proved by the key `{}`", word(event, "type"), word(event, "key_id")));
    for (destination, delivery) in deliveries(&items) {
        let took = millis_to_done(event, delivery).map(|millis| format!(", {millis} ms after it was received"));
        let error = text(delivery, "last_error").map(|error| format!(": {error}"));
        say::line(
            "ledger",
            format!(
                "delivery to `{destination}` {}, {}{}",
                word(delivery, "status"),
                attempts(delivery),
                took.or(error).unwrap_or_default()
            ),
        );
    }
}

/// A line for each delivery of each event.
pub(crate) async fn table(stack: &Stack, samples: &[Sample]) -> String {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for sample in samples {
        let items = stack.items(sample).await;
        let event = items.iter().find(|item| text(item, "sk") == Some("event")).expect("an accepted event is in the ledger");
        for (destination, delivery) in deliveries(&items) {
            rows.push([
                sample.source.to_owned(),
                sample.id.clone(),
                word(event, "type").to_owned(),
                destination.to_owned(),
                word(delivery, "status").to_owned(),
                number(delivery, "attempts").unwrap_or_default().to_string() + replay(delivery),
                millis_to_done(event, delivery).map_or_else(|| "-".to_owned(), |millis| millis.to_string()),
            ]);
        }
    }
    aligned(&rows)
}

/// The columns below each other; the last one, which is a number, to the right.
fn aligned(rows: &[[String; COLUMNS.len()]]) -> String {
    let widths: [usize; COLUMNS.len()] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default());
    let mut table = String::new();
    for row in rows {
        table.push_str("  ");
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let last = column + 1 == COLUMNS.len();
            table += &if last { format!(" {cell:>width$}\n") } else { format!(" {cell:width$} ") };
        }
    }
    table
}

/// The destination's name and the item of each delivery.
fn deliveries(items: &[Item]) -> impl Iterator<Item = (&str, &Item)> {
    items.iter().filter_map(|item| Some((text(item, "sk")?.strip_prefix("delivery#")?, item)))
}

/// Attempts are those of the present run; a redrive begins a new one.
fn attempts(delivery: &Item) -> String {
    let count = number(delivery, "attempts").unwrap_or_default();
    format!("{count} attempt{}{}", if count == 1 { "" } else { "s" }, replay(delivery))
}

fn replay(delivery: &Item) -> &'static str {
    if number(delivery, "replay").unwrap_or_default() > 0 { " since redrive" } else { "" }
}

fn millis_to_done(event: &Item, delivery: &Item) -> Option<u64> {
    number(delivery, "done_at")?.checked_sub(number(event, "received_at")?)
}

fn word<'a>(item: &'a Item, name: &str) -> &'a str {
    text(item, name).unwrap_or("-")
}

fn number(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let row =
            |cells: &str| -> [String; 7] { std::array::from_fn(|n| cells.split(' ').nth(n).unwrap_or_default().to_owned()) };
        let table = aligned(&[row("a bb c d e f 1000"), row("aaa b c d e f 7")]);
        assert_eq!(table, "   a    bb  c  d  e  f  1000\n   aaa  b   c  d  e  f     7\n");
    }
}
