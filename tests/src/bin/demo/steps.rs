//! The steps of the demo, in their order.

use std::{fs, path::Path, time::Duration};

use ::tests::{
    destination::Entry,
    providers::{Provider, Webhook},
    stack::{Answer, Key, Sample, Stack, eventually, unique, unix_now, when},
};
use aws_sdk_secretsmanager::types::RotationRulesType;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use crate::{
    ledger,
    say::{self, expect, waiting},
};

/// What takes the stack milliseconds, with room for cold starts on a machine that does something else meanwhile.
const SOON: Duration = Duration::from_secs(30);

/// Three attempts of `billing`, with the waits between them.
const DEAD: Duration = Duration::from_secs(60);

/// A receiver reads a keyring early, because of a signature that it does not know, at most once a minute.
const KEYRING_READ_AGAIN: Duration = Duration::from_secs(90);

/// The wait between two webhooks that are signed with a key which a receiver may not know yet.
const KEYRING_POLL: Duration = Duration::from_secs(1);

/// As many keys as a keyring can have: what a rotation refuses to add to.
const KEYS_MAX: usize = 10;

pub(crate) async fn a_push_is_accepted(stack: &Stack) -> Sample {
    say::title("1. GitHub sends a push: verified, recorded, answered, and then delivered to `ci`.");
    let sample = sample("github", uuid(), "github-push.json");
    let answer = post(stack, &sample, &signed(stack, &sample, Provider::Github, "github").await).await;
    expect_accepted(&answer, &sample);
    delivered(stack, &sample, "ci").await;
    ledger::show(stack, &sample).await;
    got(stack, "ci", &sample, &[200]).await;
    sample
}

pub(crate) async fn the_same_push_again(stack: &Stack, sample: &Sample) {
    say::title("2. GitHub sends the same push again: a duplicate, and nothing is delivered twice.");
    let answer = post(stack, sample, &signed(stack, sample, Provider::Github, "github").await).await;
    let duplicate = json!({"status": "duplicate", "source": "github", "eventId": sample.id});
    expect("the answer to a duplicate", &(answer.status, answer.body), &(200, duplicate));
    delivered(stack, sample, "ci").await;
    ledger::show(stack, sample).await;
    got(stack, "ci", sample, &[200]).await;
}

pub(crate) async fn a_captured_push(stack: &Stack, sample: &Sample) {
    say::title(
        "3. Somebody has captured that push, and sends it under an id made up: GitHub signs no id, but the push is known.",
    );
    let made_up = Sample { id: uuid(), ..sample.clone() };
    let captured = signed(stack, sample, Provider::Github, "github").await;
    say::line("webhook", format!("the same bytes with the same signature, as event {}", made_up.id));
    let answer = post(stack, &made_up, &captured.with("x-github-delivery", &made_up.id)).await;
    let duplicate = json!({"status": "duplicate", "source": "github", "eventId": sample.id});
    expect("the answer to a captured webhook", &(answer.status, answer.body), &(200, duplicate));
    expect("the items under the made-up event id", &stack.items(&made_up).await, &Vec::new());
    delivered(stack, sample, "ci").await;
    got(stack, "ci", sample, &[200]).await;
}

pub(crate) async fn a_forged_push(stack: &Stack) {
    say::title("4. Somebody who does not have the secret sends a push: refused, and nothing is written.");
    let sample = sample("github", uuid(), "github-push.json");
    let webhook = Provider::Github.sign(&sample.body, &sample.id, "a guess", unix_now());
    let answer = post(stack, &sample, &webhook).await;
    expect("the status for a forged webhook", &answer.status, &401);
    ledger::show(stack, &sample).await;
    expect("the items under a forged webhook's event id", &stack.items(&sample).await, &Vec::new());
    expect("the requests that `ci` got for it", &stack.destination.journal("ci", &sample.id).await.len(), &0);
}

pub(crate) async fn a_destination_that_is_down(stack: &Stack) -> Sample {
    say::title("5. Stripe says that an invoice is paid, while `billing` is down: it answers 503 to everything.");
    let id = format!("evt_{}", unique());
    let sample = sample("stripe", id, "stripe-invoice-paid.json");
    stack.destination.script("billing", &sample.id, json!({"status": 503})).await;
    let answer = post(stack, &sample, &signed(stack, &sample, Provider::Stripe, "stripe").await).await;
    expect_accepted(&answer, &sample);
    waiting("the last attempt", stack.reaches(&sample, "billing", "dead", DEAD)).await;
    ledger::show(stack, &sample).await;
    got(stack, "billing", &sample, &[503, 503, 503]).await;
    let letter = waiting("the dead letter", stack.dead_letter(&sample.id)).await;
    let others = dead_letters(stack).await;
    say::line("dead", &letter.body);
    say::line("reason", letter.attribute("reason").unwrap_or("-"));

    say::title("   `billing` is mended. A person plans a redrive, sees what it would do, and redrives.");
    stack.destination.heal("billing", &sample.id).await;
    let events = [format!("stripe#{}", sample.id)];
    let plan = redrive(stack, &json!({"eventIds": events, "dryRun": true})).await;
    expect("what a dry run would redrive", &plan["redriven"], &json!(1));
    expect("dead letters after a dry run", &dead_letters(stack).await, &others);
    let done = redrive(stack, &json!({"eventIds": events})).await;
    expect("what was redriven", &done["redriven"], &json!(1));
    delivered(stack, &sample, "billing").await;
    ledger::show(stack, &sample).await;
    got(stack, "billing", &sample, &[503, 503, 503, 200]).await;
    let left = stack.dlq_messages().await.into_iter().filter(|letter| letter.body.contains(&sample.id)).count();
    expect("dead letters of this event", &left, &0);
    dead_letters(stack).await;
    sample
}

pub(crate) async fn a_rotation(stack: &Stack) -> [Sample; 2] {
    say::title("6. The secret `partner` is rotated. Webhooks signed with the old and with the new one are both accepted.");
    let before = room_for_a_key(stack).await;
    let rotate = stack.secretsmanager.rotate_secret().secret_id(format!("{}/source/partner", stack.name));
    let rules = RotationRulesType::builder().automatically_after_days(30).build();
    let rotate = rotate.rotation_lambda_arn(stack.output("RotationFunctionArn")).rotation_rules(rules);
    rotate.rotate_immediately(true).send().await.unwrap_or_else(|error| panic!("RotateSecret was refused: {error:?}"));
    let rotated = eventually("the keyring has a new key in front", SOON, async || {
        when(stack.keyring("source/partner").await, |keys| keys[0].secret != before[0].secret)
            .map_err(|_| "the old one".to_owned())
    });
    let after = waiting("the four rotation steps", rotated).await;
    for key in &after {
        let until =
            key.not_after.as_ref().map_or("valid until rotated".to_owned(), |not_after| format!("valid until {not_after}"));
        say::line("keyring", format!("key `{}` {until}", key.id));
    }
    assert!(after.iter().any(|key| key.secret == before[0].secret), "the old key is valid no more, in the middle of its overlap");

    let old = partner_sample();
    say::line("sign", format!("with the old key `{}`", before[0].id));
    let answer = post(stack, &old, &partner_signs(&old, &before[0])).await;
    expect_accepted(&answer, &old);
    let new = partner_sample();
    say::line("sign", format!("with the new key `{}`", after[0].id));
    accepted_once_known(stack, &new, &after[0]).await;
    for sample in [&old, &new] {
        delivered(stack, sample, "partner").await;
        ledger::show(stack, sample).await;
    }
    [old, new]
}

/// The keyring, with room for one more key: a demo that runs often rotates faster than keys run out.
async fn room_for_a_key(stack: &Stack) -> Vec<Key> {
    let keys = stack.keyring("source/partner").await;
    if keys.len() < KEYS_MAX {
        return keys;
    }
    say::line("keyring", format!("full with the {} keys of earlier demos; only the newest is kept", keys.len()));
    let put = stack.secretsmanager.put_secret_value().secret_id(format!("{}/source/partner", stack.name));
    let keyring = json!({"keys": [{"id": keys[0].id, "secret": keys[0].secret}]});
    put.secret_string(keyring.to_string()).send().await.unwrap_or_else(|error| panic!("PutSecretValue was refused: {error:?}"));
    stack.keyring("source/partner").await
}

fn partner_sample() -> Sample {
    sample("partner", format!("msg_{}", unique()), "standard-webhooks-contact-created.json")
}

fn partner_signs(sample: &Sample, key: &Key) -> Webhook {
    Provider::StandardWebhooks.sign(&sample.body, &sample.id, &key.secret, unix_now())
}

/// A receiver that has read its keyring early within the last minute refuses a newer key until it may do so again; a
/// partner would send again as well.
async fn accepted_once_known(stack: &Stack, sample: &Sample, key: &Key) {
    let first = post(stack, sample, &partner_signs(sample, key)).await;
    if first.status != 401 {
        return expect_accepted(&first, sample);
    }
    let again = eventually("a webhook signed with the new key is accepted", KEYRING_READ_AGAIN, async || {
        tokio::time::sleep(KEYRING_POLL).await;
        let answer = stack.post(sample.source, &partner_signs(sample, key)).await;
        when(answer, |answer| answer.status != 401)
    });
    let answer = waiting("the receiver, which reads a keyring early at most once a minute", again).await;
    say::line("answer", format!("{} {}", answer.status, answer.body));
    expect_accepted(&answer, sample);
}

/// A sample webhook under a fresh event id, which Stripe has in its body. GitHub's gets a commit of its own: the same push again
/// would be the same event.
fn sample(source: &'static str, id: String, file: &str) -> Sample {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace");
    let path = root.join("events").join(file);
    let mut body = fs::read(&path).unwrap_or_else(|error| panic!("the sample {} cannot be read: {error}", path.display()));
    let fresh = match source {
        "stripe" => Some(("id", id.clone())),
        "github" => Some(("after", format!("{:08x}{:032x}", fastrand::u32(..), fastrand::u128(..)))),
        _ => None,
    };
    if let Some((member, fresh)) = fresh {
        let text = String::from_utf8(body).expect("the sample is text");
        let event: Value = serde_json::from_str(&text).expect("the sample is JSON");
        let old = event[member].as_str().unwrap_or_else(|| panic!("the sample of {source} has no {member}"));
        body = text.replace(old, &fresh).into_bytes();
    }
    say::line("webhook", format!("events/{file} as event {id}"));
    Sample { source, id, body }
}

async fn signed(stack: &Stack, sample: &Sample, provider: Provider, secret: &str) -> Webhook {
    let key = stack.keyring(&format!("source/{secret}")).await.pop().expect("a keyring has a valid key");
    provider.sign(&sample.body, &sample.id, &key.secret, unix_now())
}

async fn post(stack: &Stack, sample: &Sample, webhook: &Webhook) -> Answer {
    say::line("POST", stack.webhook_url(sample.source));
    let answer = waiting("the answer", stack.post(sample.source, webhook)).await;
    say::line("answer", format!("{} {}", answer.status, answer.body));
    answer
}

fn expect_accepted(answer: &Answer, sample: &Sample) {
    let accepted = json!({"status": "accepted", "source": sample.source, "eventId": sample.id});
    expect("the answer to a new event", &(answer.status, &answer.body), &(202, &accepted));
}

/// Waits until a delivery is done and no doorbell names its event any more; one that ends otherwise ends the demo at once.
async fn delivered(stack: &Stack, sample: &Sample, destination: &str) {
    let what = format!("the delivery to `{destination}` is done");
    let ended = eventually(&what, SOON, async || {
        let delivery = stack.delivery(sample, destination).await;
        when(delivery, |delivery| delivery.as_ref().is_some_and(|known| ["done", "dead"].contains(&&*known.status)))
    });
    let delivery = waiting("the delivery", ended).await.expect("it was just seen");
    if delivery.status != "done" {
        ledger::show(stack, sample).await;
    }
    expect(&format!("the status of the delivery to `{destination}`"), &&*delivery.status, &"done");
    waiting("the queue to be quiet", stack.silent(&sample.id)).await;
}

/// Shows what a destination was sent of an event, which has to be answered with these statuses.
async fn got(stack: &Stack, destination: &str, sample: &Sample, statuses: &[u16]) {
    let journal = stack.destination.journal(destination, &sample.id).await;
    let first = journal.first().map_or(0, |entry| entry.at);
    let told = |entry: &Entry| format!("{} after {:.1} s", entry.answer.status, (entry.at - first) as f32 / 1000.0);
    let list = match &journal[..] {
        [only] => format!("1 request, and answered {}", only.answer.status),
        all => format!("{} requests, and answered {}", all.len(), all.iter().map(told).collect::<Vec<_>>().join(", ")),
    };
    say::line(destination, format!("got {list}"));
    let seen: Vec<u16> = journal.iter().map(|entry| entry.answer.status).collect();
    expect(&format!("what `{destination}` answered to this event"), &seen, &statuses.to_vec());
    let intact = journal.iter().all(|entry| entry.body == sample.body);
    assert!(intact, "`{destination}` got other bytes than were sent");
}

/// Shows how many messages the dead-letter queue has, and gives the number.
async fn dead_letters(stack: &Stack) -> String {
    let ask = stack.sqs.get_queue_attributes().queue_url(stack.output("DeadLetterQueueUrl"));
    let answer = ask.attribute_names(QueueAttributeName::ApproximateNumberOfMessages).send().await;
    let attributes = answer.unwrap_or_else(|error| panic!("the dead-letter queue cannot be asked: {error:?}")).attributes;
    let count = attributes.and_then(|mut all| all.remove(&QueueAttributeName::ApproximateNumberOfMessages)).unwrap_or_default();
    say::line("dead", format!("{count} in the dead-letter queue"));
    count
}

async fn redrive(stack: &Stack, request: &Value) -> Value {
    say::line("redrive", request);
    let answer = waiting("redrive to go through the dead-letter queue", stack.invoke("redrive", request)).await;
    say::line("answer", &answer);
    answer
}

/// A random id in the form of GitHub's.
fn uuid() -> String {
    let hex = format!("{:032x}", fastrand::u128(..));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
