//! Secrets Manager: versions and their labels.

use std::collections::BTreeMap;

use crate::{
    contract,
    ground::{Difference, Ground, code},
};

/// A token as Secrets Manager makes them, which is the id of the version that it makes.
fn token() -> String {
    let digits: String = std::iter::repeat_with(|| fastrand::digit(16)).take(32).collect();
    format!("{}-{}-4{}-8{}-{}", &digits[..8], &digits[8..12], &digits[13..16], &digits[17..20], &digits[20..])
}

async fn value(ground: &Ground, name: &str, stage: Option<&str>, version: Option<&str>) -> Option<String> {
    let get = ground.secretsmanager.get_secret_value().secret_id(name);
    let got = get.set_version_stage(stage.map(str::to_owned)).set_version_id(version.map(str::to_owned)).send().await;
    assert!(matches!(code(&got).as_str(), "ok" | "ResourceNotFoundException"), "{got:?}");
    got.ok()?.secret_string
}

/// The labels of each version.
async fn stages(ground: &Ground, name: &str) -> BTreeMap<String, Vec<String>> {
    let described = ground.secretsmanager.describe_secret().secret_id(name).send().await.unwrap();
    let mut stages: BTreeMap<_, _> = described.version_ids_to_stages.unwrap().into_iter().collect();
    stages.values_mut().for_each(|stages: &mut Vec<String>| stages.sort());
    stages.retain(|_, stages| !stages.is_empty());
    stages
}

#[test]
fn a_new_value_is_current_and_the_one_before_it_previous() {
    contract(async |ground| {
        let name = ground.secret("first").await;
        assert_eq!(value(ground, &name, None, None).await.as_deref(), Some("first"));
        ground.secretsmanager.put_secret_value().secret_id(&name).secret_string("second").send().await.unwrap();
        assert_eq!(value(ground, &name, None, None).await.as_deref(), Some("second"));
        assert_eq!(value(ground, &name, Some("AWSCURRENT"), None).await.as_deref(), Some("second"));
        assert_eq!(value(ground, &name, Some("AWSPREVIOUS"), None).await.as_deref(), Some("first"));
        assert_eq!(value(ground, &name, Some("AWSPENDING"), None).await, None);
        assert_eq!(value(ground, &format!("{name}-none"), None, None).await, None);
        let arn = ground.secretsmanager.get_secret_value().secret_id(&name).send().await.unwrap().arn.unwrap();
        assert_eq!(value(ground, &arn, None, None).await.as_deref(), Some("second"), "by its ARN");
        assert_eq!(stages(ground, &name).await.into_values().collect::<Vec<_>>().concat().len(), 2);
    });
}

#[test]
fn a_version_is_put_once() {
    contract(async |ground| {
        let name = ground.secret("first").await;
        let token = token();
        let put = async |text: &str| {
            let put = ground.secretsmanager.put_secret_value().secret_id(&name).client_request_token(&token);
            code(&put.version_stages("AWSPENDING").secret_string(text).send().await)
        };
        assert_eq!(put("second").await, "ok");
        assert_eq!(put("second").await, "ok");
        assert_eq!(put("third").await, "ResourceExistsException");
        assert_eq!(value(ground, &name, Some("AWSPENDING"), Some(&token)).await.as_deref(), Some("second"));
        let of_another = value(ground, &name, Some("AWSCURRENT"), Some(&token)).await;
        ground.expect(&of_another, &None, Difference::StageOfAnotherVersion, &Some("second".to_owned()));
        assert_eq!(value(ground, &name, None, None).await.as_deref(), Some("first"));
    });
}

#[test]
fn finishing_a_rotation_moves_the_labels() {
    contract(async |ground| {
        let name = ground.secret("first").await;
        let before = stages(ground, &name).await.into_keys().next().unwrap();
        let token = token();
        let put = ground.secretsmanager.put_secret_value().secret_id(&name).client_request_token(&token);
        put.version_stages("AWSPENDING").secret_string("second").send().await.unwrap();
        let finish = async |from: Option<&str>| {
            let update = ground.secretsmanager.update_secret_version_stage().secret_id(&name).version_stage("AWSCURRENT");
            let update = update.move_to_version_id(&token).set_remove_from_version_id(from.map(str::to_owned));
            code(&update.send().await)
        };
        assert_eq!(finish(None).await, "InvalidParameterException", "the label is on a version that is not named");
        assert_eq!(finish(Some(&token)).await, "InvalidParameterException", "the label is on another version");
        assert_eq!(value(ground, &name, None, None).await.as_deref(), Some("first"));
        assert_eq!(finish(Some(&before)).await, "ok");
        assert_eq!(value(ground, &name, None, None).await.as_deref(), Some("second"));
        assert_eq!(value(ground, &name, Some("AWSPREVIOUS"), None).await.as_deref(), Some("first"));
        let stages = stages(ground, &name).await;
        assert_eq!(stages[&before], ["AWSPREVIOUS"]);
        assert!(stages[&token].contains(&"AWSCURRENT".to_owned()), "{stages:?}");
    });
}
