//! A secret is rotated while webhooks arrive. Nothing here is forged: a wrong signature would use up the one early
//! reading of the keyring that a receiver allows itself in a minute. So no other journey forges for this source.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use aws_sdk_secretsmanager::types::RotationRulesType;
use futures::future::join;
use tests::{
    providers::Provider,
    stack::{Key, Sample, Stack, eventually, unix_now, when},
};

use crate::{SOON, journey};

/// How long a receiver that has just read its keyring early may take until it reads it again.
const KEYRING_READ_AGAIN: Duration = Duration::from_secs(90);

#[test]
fn a_rotation_while_webhooks_arrive_refuses_none() {
    journey(async |stack| {
        let before = stack.keyring("shopify").await;
        let rotated = AtomicBool::new(false);
        let (sent, after) = join(send_until(stack, &before[0], &rotated), rotate(stack, &before, &rotated)).await;

        assert!(after.iter().any(|key| key.secret == before[0].secret), "the old key is valid during the overlap");
        let old = send(stack, &before[0]).await;
        assert_eq!(old.1, 202, "signed with the old key after the rotation");
        let new = eventually("a receiver knows the new key", KEYRING_READ_AGAIN, async || {
            when(send(stack, &after[0]).await, |(_, status)| *status == 202)
        })
        .await;
        for sample in sent.iter().chain([&old.0, &new.0]) {
            stack.reaches(sample, "shop", "done", SOON).await;
        }
    });
}

/// Sends with one key until the rotation is over, and a little more; all have to be accepted.
async fn send_until(stack: &Stack, key: &Key, rotated: &AtomicBool) -> Vec<Sample> {
    let mut sent = Vec::new();
    let mut more = 5;
    while more > 0 {
        more -= i32::from(rotated.load(Ordering::Relaxed));
        let (sample, status) = send(stack, key).await;
        assert_eq!(status, 202, "webhook {} during the rotation", sent.len() + 1);
        sent.push(sample);
    }
    sent
}

async fn send(stack: &Stack, key: &Key) -> (Sample, u16) {
    let sample = stack.sample("shopify");
    let webhook = Provider::Shopify.sign(&sample.body, &sample.id, &key.secret, unix_now());
    let status = stack.post("shopify", &webhook).await.status;
    (sample, status)
}

/// Rotates the secret and gives the new keyring.
async fn rotate(stack: &Stack, before: &[Key], rotated: &AtomicBool) -> Vec<Key> {
    let rules = RotationRulesType::builder().automatically_after_days(30).build();
    let rotate = stack.secretsmanager.rotate_secret().secret_id(format!("{}/shopify", stack.name));
    let rotate = rotate.rotation_lambda_arn(stack.output("RotationFunctionArn")).rotation_rules(rules);
    rotate.rotate_immediately(true).send().await.unwrap();
    let after = eventually("the keyring has a new key in front", SOON, async || {
        when(stack.keyring("shopify").await, |keys| keys[0].secret != before[0].secret)
    })
    .await;
    rotated.store(true, Ordering::Relaxed);
    after
}
