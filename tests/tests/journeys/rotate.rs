//! A secret is rotated while webhooks arrive. Nothing here is forged: a wrong signature would use up the one early
//! reading of the keyring that a receiver allows itself in a minute. So no other journey forges for this source.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use aws_sdk_secretsmanager::types::RotationRulesType;
use aws_smithy_types::Blob;
use futures::future::join;
use serde_json::json;
use tests::{
    providers::Provider,
    stack::{Answer, Key, Sample, Stack, eventually, unique, unix_now, when},
};

use crate::{SOON, journey};

/// How long a receiver that has just read its keyring early may take until it reads it again.
const KEYRING_READ_AGAIN: Duration = Duration::from_secs(90);

#[test]
fn a_rotation_while_webhooks_arrive_refuses_none() {
    journey(async |stack| {
        let before = stack.keyring("source/shopify").await;
        let rotated = AtomicBool::new(false);
        let (sent, after) = join(send_until(stack, &before[0], &rotated), rotate(stack, &before, &rotated)).await;

        assert!(after.iter().any(|key| key.secret == before[0].secret), "the old key is valid during the overlap");
        let old = send(stack, &before[0]).await;
        assert!(old.1.took_it_in(), "signed with the old key after the rotation");
        let new = eventually("a receiver knows the new key", KEYRING_READ_AGAIN, async || {
            when(send(stack, &after[0]).await, |(_, answer)| answer.took_it_in())
        })
        .await;
        for sample in sent.iter().chain([&old.0, &new.0]) {
            stack.reaches(sample, "shop", "done", SOON).await;
        }
    });
}

#[test]
fn a_step_out_of_order_is_refused_and_changes_nothing() {
    journey(async |stack| {
        let secret = format!("{}/source/journey-{}", stack.name, unique());
        let created = stack.secretsmanager.create_secret().name(&secret).secret_string("first").send().await.unwrap();
        let current = created.version_id().unwrap().to_owned();
        for name in ["createSecret", "setSecret", "testSecret", "finishSecret"] {
            let error = step(stack, name, &secret, &format!("{}{}", unique(), unique())).await.unwrap_err();
            assert!(error.contains("not staged for rotation (unknown)"), "{name}: {error}");
            assert_eq!(step(stack, name, &secret, &current).await, Ok(()), "{name} of what is current already");
        }

        let pending = format!("{}{}", unique(), unique());
        let put = stack.secretsmanager.put_secret_value().secret_id(&secret).client_request_token(&pending);
        put.secret_string("second").version_stages("AWSPENDING").send().await.unwrap();
        for name in ["testSecret", "finishSecret"] {
            let error = step(stack, name, &secret, &pending).await.unwrap_err();
            assert!(error.contains("lacks the key `initial`") && !error.contains("second"), "{name}: {error}");
        }
        let found = stack.secretsmanager.get_secret_value().secret_id(&secret).send().await.unwrap();
        assert_eq!((found.secret_string(), found.version_id()), (Some("first"), Some(current.as_str())));
    });
}

/// One step of the rotation function, or the error that it ends with.
async fn step(stack: &Stack, step: &str, secret: &str, token: &str) -> Result<(), String> {
    let event = json!({"Step": step, "SecretId": secret, "ClientRequestToken": token});
    let invoke = stack.lambda.invoke().function_name(stack.output("RotationFunctionName"));
    let answer = invoke.payload(Blob::new(event.to_string())).send().await.unwrap();
    match answer.function_error() {
        None => Ok(()),
        Some(_) => Err(String::from_utf8_lossy(answer.payload().unwrap().as_ref()).into_owned()),
    }
}

/// Sends with one key until the rotation is over, and a little more; all have to be accepted.
async fn send_until(stack: &Stack, key: &Key, rotated: &AtomicBool) -> Vec<Sample> {
    let mut sent = Vec::new();
    let mut more = 5;
    while more > 0 {
        more -= i32::from(rotated.load(Ordering::Relaxed));
        let (sample, answer) = send(stack, key).await;
        assert!(answer.took_it_in(), "webhook {} during the rotation: {answer:?}", sent.len() + 1);
        sent.push(sample);
    }
    sent
}

async fn send(stack: &Stack, key: &Key) -> (Sample, Answer) {
    let sample = stack.sample("shopify");
    let webhook = Provider::Shopify.sign(&sample.body, &sample.id, &key.secret, unix_now());
    let answer = stack.post("shopify", &webhook).await;
    (sample, answer)
}

/// Rotates the secret and gives the new keyring.
async fn rotate(stack: &Stack, before: &[Key], rotated: &AtomicBool) -> Vec<Key> {
    let rules = RotationRulesType::builder().automatically_after_days(30).build();
    let rotate = stack.secretsmanager.rotate_secret().secret_id(format!("{}/source/shopify", stack.name));
    let rotate = rotate.rotation_lambda_arn(stack.output("RotationFunctionArn")).rotation_rules(rules);
    rotate.rotate_immediately(true).send().await.unwrap();
    let after = eventually("the keyring has a new key in front", SOON, async || {
        when(stack.keyring("source/shopify").await, |keys| keys[0].secret != before[0].secret)
    })
    .await;
    rotated.store(true, Ordering::Relaxed);
    after
}
