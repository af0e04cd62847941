//! Sends webhooks through a stack that is warm and counts what the functions call.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use ::tests::{
    providers::{Provider, Webhook},
    stack::{Item, Sample, Stack, eventually, text, unique, unix_now, when},
    wire::Count,
};
use serde_json::{Map, Value};

use crate::units::{index_bytes, item_bytes};

/// The size of each webhook's body: a common one for a JSON webhook.
pub(crate) const BODY_BYTES: usize = 2048;

/// Webhooks that go before, so that processes, connections and keyrings are there.
const WARM_UP: u32 = 20;

/// The parts of the sample push that make a body of about [`BODY_BYTES`]; the rest is filled up.
const PARTS: [&str; 6] = ["ref", "before", "after", "compare", "commits", "sender"];

/// What is measured.
pub(crate) const SUBJECTS: [Subject; 2] = [
    Subject {
        source: "partner",
        destination: "partner",
        provider: Provider::StandardWebhooks,
        signs: "id, time and body",
        signs_id: true,
    },
    Subject { source: "github", destination: "ci", provider: Provider::Github, signs: "the body alone", signs_id: false },
];

/// How long all deliveries may take after the last webhook was accepted.
const DELIVERED: Duration = Duration::from_secs(60);

/// A run that takes longer says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// A source of the local configuration, with one destination.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) source: &'static str,
    destination: &'static str,
    provider: Provider,
    pub(crate) signs: &'static str,
    /// Whether the event id is signed; else what is signed is claimed in the ledger before the event is recorded.
    pub(crate) signs_id: bool,
}

/// What was counted and what was found in the ledger.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) subject: &'static Subject,
    pub(crate) webhooks: u32,
    /// The calls for webhooks that are new, and for their deliveries.
    pub(crate) new: Vec<Count>,
    /// The calls for the same webhooks, sent again.
    pub(crate) duplicates: Vec<Count>,
    pub(crate) sizes: Vec<Sizes>,
}

/// The sizes of what one webhook left in the ledger, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) event: usize,
    pub(crate) compressed_body: usize,
    pub(crate) index: usize,
    pub(crate) delivery: usize,
    /// What remembers the signed content, where there is such an item; else 0.
    pub(crate) content: usize,
}

impl Measured {
    pub(crate) fn keyrings_were_read(&self) -> bool {
        self.new.iter().chain(&self.duplicates).any(|count| count.call.operation == "GetSecretValue")
    }
}

/// One measurement, on a stack that does nothing else.
pub(crate) async fn measure(stack: &Stack, subject: &'static Subject, webhooks: u32) -> Measured {
    let secret = stack.keyring(&format!("source/{}", subject.source)).await.pop().expect("a keyring has a valid key").secret;
    send_all("warming up", stack, subject, &samples(subject, WARM_UP), &secret, 202).await;
    let samples = samples(subject, webhooks);
    stack.wire.start_counting().await;
    send_all("sending new webhooks", stack, subject, &samples, &secret, 202).await;
    let new = counts(stack).await;
    stack.wire.start_counting().await;
    send_all("sending them again", stack, subject, &samples, &secret, 200).await;
    let duplicates = counts(stack).await;
    let mut sizes = Vec::new();
    for sample in &samples {
        let items = stack.items(sample).await;
        let content = if subject.signs_id { None } else { stack.content_item(sample).await };
        sizes.push(sizes_of(subject, &items, content.as_ref()));
    }
    Measured { subject, webhooks, new, duplicates, sizes }
}

/// Sends one webhook after the other, and waits until all is delivered and no doorbell is left.
async fn send_all(what: &str, stack: &Stack, subject: &Subject, samples: &[Sample], secret: &str, status: u16) {
    let began = Instant::now();
    let mut told = began;
    for (sent, sample) in samples.iter().enumerate() {
        let webhook: Webhook = subject.provider.sign(&sample.body, &sample.id, secret, unix_now());
        let answer = stack.post(subject.source, &webhook).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.body);
        if told.elapsed() > PROGRESS {
            told = Instant::now();
            eprintln!("{what}: {sent} of {}", samples.len());
        }
    }
    for sample in samples {
        stack.reaches(sample, subject.destination, "done", DELIVERED).await;
    }
    eventually("no doorbell waits", DELIVERED, async || when(stack.doorbells().await, Vec::is_empty)).await;
}

/// The calls of receiver and worker; the auditor's, which come every minute, are no webhook's.
async fn counts(stack: &Stack) -> Vec<Count> {
    let counts = stack.wire.counts().await.into_iter();
    counts.filter(|count| ["receiver", "worker"].contains(&count.call.function.as_str())).collect()
}

fn samples(subject: &Subject, count: u32) -> Vec<Sample> {
    let run = unique();
    (0..count).map(|n| sample(subject.source, format!("bench-{run}-{n}"))).collect()
}

/// A push as in `events/`, cut and filled up to [`BODY_BYTES`], with text of its own so that no two compress alike.
fn sample(source: &'static str, id: String) -> Sample {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events/github-push.json");
    let text = fs::read(&path).unwrap_or_else(|error| panic!("the sample {} cannot be read: {error}", path.display()));
    let whole: Map<String, Value> = serde_json::from_slice(&text).expect("the sample is a JSON object");
    let mut body: Map<String, Value> = whole.into_iter().filter(|(name, _)| PARTS.contains(&name.as_str())).collect();
    body.insert("after".to_owned(), format!("{:08x}{:032x}", fastrand::u32(..), fastrand::u128(..)).into());
    body.insert("fill".to_owned(), "".into());
    let missing = BODY_BYTES.checked_sub(Value::from(body.clone()).to_string().len()).expect("the parts are shorter");
    let fill: String = std::iter::repeat_with(fastrand::alphanumeric).take(missing).collect();
    body.insert("fill".to_owned(), fill.into());
    Sample { source, id, body: Value::from(body).to_string().into_bytes() }
}

fn sizes_of(subject: &Subject, items: &[Item], content: Option<&Item>) -> Sizes {
    let of = |key: &str| {
        let item = items.iter().find(|item| text(item, "sk") == Some(key));
        item.unwrap_or_else(|| panic!("the ledger has no `{key}` of an event of {}", subject.source))
    };
    let event = of("event");
    Sizes {
        event: item_bytes(event),
        compressed_body: event["body"].as_b().expect("a body of this size is in the item").as_ref().len(),
        index: index_bytes(event),
        delivery: item_bytes(of(&format!("delivery#{}", subject.destination))),
        content: content.map_or(0, item_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_its_size_and_is_not_another_ones() {
        let (one, other) = (sample("github", "a".to_owned()), sample("github", "b".to_owned()));
        assert_eq!((one.body.len(), other.body.len()), (BODY_BYTES, BODY_BYTES));
        assert_ne!(one.body, other.body);
        assert!(serde_json::from_slice::<Value>(&one.body).is_ok());
    }
}
