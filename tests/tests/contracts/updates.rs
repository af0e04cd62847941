//! DynamoDB: updates.

use aws_sdk_dynamodb::{
    operation::update_item::{UpdateItemError, UpdateItemOutput},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};

use crate::{
    contract,
    ground::{Difference, Ground, Item, code, item, n, s},
};

type Updated = Result<UpdateItemOutput, aws_sdk_dynamodb::error::SdkError<UpdateItemError>>;

async fn update(ground: &Ground, key: &str, expression: &str, values: &[(&str, AttributeValue)], back: ReturnValue) -> Updated {
    let mut update = ground.dynamodb.update_item().table_name(&ground.table).key("pk", s(key)).key("sk", s("a"));
    for (name, value) in values {
        update = update.expression_attribute_values(*name, value.clone());
    }
    for (reference, name) in [("#status", "status"), ("#parts", "parts"), ("#things", "things"), ("#members", "members")] {
        if expression.contains(reference) {
            update = update.expression_attribute_names(reference, name);
        }
    }
    update.update_expression(expression).return_values(back).send().await
}

fn list(values: &[AttributeValue]) -> AttributeValue {
    AttributeValue::L(values.to_vec())
}

fn set(members: &[&str]) -> AttributeValue {
    AttributeValue::Ss(members.iter().map(|member| (*member).to_owned()).collect())
}

/// What is there before each update.
fn sample(key: &str) -> Item {
    item([
        ("pk", s(key)),
        ("sk", s("a")),
        ("attempts", n(2)),
        ("words", s("old")),
        ("things", list(&[s("a"), s("b"), s("c")])),
        ("parts", AttributeValue::M(item([("core", n(1))]))),
        ("members", set(&["x", "y"])),
    ])
}

/// The item without its keys and what an update left as it was; sets in order.
fn changed(before: &Item, after: &Item) -> Vec<(String, Option<AttributeValue>)> {
    let sorted = |value: &AttributeValue| match value {
        AttributeValue::Ss(members) => {
            let mut members = members.clone();
            members.sort();
            AttributeValue::Ss(members)
        }
        other => other.clone(),
    };
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&String| before.get(*name).map(sorted) != after.get(*name).map(sorted);
    names.into_iter().filter(differs).map(|name| (name.clone(), after.get(name).map(sorted))).collect()
}

#[test]
fn updates_do_what_they_say() {
    contract(async |ground| {
        let key = ground.key();
        let before = sample(&key);
        let map = |core: AttributeValue| AttributeValue::M(item([("core", core)]));
        let one = ("attempts", Some(n(3)));
        for (expression, values, expected) in [
            ("SET attempts = :v", vec![(":v", n(3))], vec![one.clone()]),
            ("SET attempts = attempts + :v", vec![(":v", n(1))], vec![one.clone()]),
            ("SET attempts = :v - attempts", vec![(":v", n(5))], vec![one.clone()]),
            ("ADD attempts :v", vec![(":v", n(1))], vec![one.clone()]),
            ("ADD attempts :v", vec![(":v", n("-0.5"))], vec![("attempts", Some(n("1.5")))]),
            ("ADD fresh :v", vec![(":v", n(4))], vec![("fresh", Some(n(4)))]),
            ("SET attempts = if_not_exists(attempts, :v)", vec![(":v", n(9))], vec![]),
            ("SET fresh = if_not_exists(fresh, :v)", vec![(":v", n(9))], vec![("fresh", Some(n(9)))]),
            ("SET fresh = if_not_exists(fresh, :v) + :w", vec![(":v", n(9)), (":w", n(1))], vec![("fresh", Some(n(10)))]),
            ("SET fresh = words", vec![], vec![("fresh", Some(s("old")))]),
            // Everything is read as it was before.
            ("SET fresh = words, words = :v", vec![(":v", s("new"))], vec![("fresh", Some(s("old"))), ("words", Some(s("new")))]),
            ("REMOVE words, absent", vec![], vec![("words", None)]),
            (
                "SET #status = :v ADD attempts :w REMOVE words",
                vec![(":v", s("x")), (":w", n(1))],
                vec![one.clone(), ("status", Some(s("x"))), ("words", None)],
            ),
            ("remove words set attempts = :v", vec![(":v", n(3))], vec![one.clone(), ("words", None)]),
            ("SET #parts.core = :v", vec![(":v", n(2))], vec![("parts", Some(map(n(2))))]),
            ("SET #things[1] = :v", vec![(":v", s("B"))], vec![("things", Some(list(&[s("a"), s("B"), s("c")])))]),
            ("SET #things[9] = :v", vec![(":v", s("d"))], vec![("things", Some(list(&[s("a"), s("b"), s("c"), s("d")])))]),
            (
                "SET #things = list_append(#things, :v)",
                vec![(":v", list(&[n(1)]))],
                vec![("things", Some(list(&[s("a"), s("b"), s("c"), n(1)])))],
            ),
            ("ADD #members :v", vec![(":v", set(&["y", "z"]))], vec![("members", Some(set(&["x", "y", "z"])))]),
            ("DELETE #members :v", vec![(":v", set(&["y", "z"]))], vec![("members", Some(set(&["x"])))]),
            // There are no empty sets.
            ("DELETE #members :v", vec![(":v", set(&["x", "y"]))], vec![("members", None)]),
        ] {
            ground.put(before.clone()).await;
            let updated = update(ground, &key, expression, &values, ReturnValue::AllNew).await;
            let after = updated.unwrap_or_else(|error| panic!("{expression}: {error:?}")).attributes.unwrap();
            let expected: Vec<_> = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            assert_eq!(changed(&before, &after), expected, "{expression}");
            assert_eq!(changed(&after, &ground.get(&key, "a").await.unwrap()), [], "{expression}");
        }
    });
}

#[test]
fn what_is_no_update_is_refused_and_changes_nothing() {
    contract(async |ground| {
        let key = ground.key();
        let before = sample(&key);
        let mut taken = Vec::new();
        for (expression, values) in [
            ("", vec![]),
            ("SET", vec![]),
            ("SET attempts", vec![]),
            ("attempts = :v", vec![(":v", n(1))]),
            ("SET attempts = :v, ", vec![(":v", n(1))]),
            ("SET attempts = :v SET words = :v", vec![(":v", n(1))]),
            ("SET attempts = :v, attempts = :v", vec![(":v", n(1))]),
            ("SET #parts = :v, #parts.core = :v", vec![(":v", n(1))]),
            ("SET attempts = :v REMOVE attempts", vec![(":v", n(1))]),
            ("SET status = :v", vec![(":v", n(1))]),
            ("SET attempts = absent", vec![]),
            ("SET attempts = attempts + :v", vec![(":v", s("1"))]),
            ("SET attempts = words + :v", vec![(":v", n(1))]),
            ("SET #things = list_append(#things, :v)", vec![(":v", n(1))]),
            ("SET absent.core = :v", vec![(":v", n(1))]),
            ("SET words.core = :v", vec![(":v", n(1))]),
            ("ADD words :v", vec![(":v", n(1))]),
            ("ADD attempts :v", vec![(":v", s("1"))]),
            ("DELETE attempts :v", vec![(":v", n(1))]),
            ("DELETE words :v", vec![(":v", set(&["x"]))]),
            ("SET attempts = :v", vec![]),
            ("SET attempts = :v", vec![(":v", n(1)), (":unused", n(1))]),
            ("SET pk = :v", vec![(":v", s("b"))]),
            ("REMOVE sk", vec![]),
        ] {
            ground.put(before.clone()).await;
            let refused = update(ground, &key, expression, &values, ReturnValue::None).await;
            match code(&refused).as_str() {
                "ValidationException" => assert_eq!(changed(&before, &ground.get(&key, "a").await.unwrap()), [], "{expression}"),
                _ => taken.push(expression),
            }
        }
        let local = [
            "SET",
            "SET attempts",
            "SET attempts = :v, ",
            "SET attempts = :v SET words = :v",
            "SET attempts = :v, attempts = :v",
            "SET attempts = :v REMOVE attempts",
            "SET attempts = attempts + :v",
            "SET attempts = words + :v",
            "SET #things = list_append(#things, :v)",
        ];
        ground.expect(&taken, &vec![], Difference::Grammar, &local.to_vec());
    });
}

#[test]
fn an_update_gives_back_what_is_asked_for() {
    contract(async |ground| {
        let key = ground.key();
        let whole = |attempts: u32| item([("pk", s(&key)), ("sk", s("a")), ("attempts", n(attempts)), ("other", s("o"))]);
        ground.put(whole(1)).await;
        let part = |attempts: u32| item([("attempts", n(attempts))]);
        for (back, before, expected) in [
            (ReturnValue::None, 1, None),
            (ReturnValue::AllOld, 2, Some(whole(2))),
            (ReturnValue::AllNew, 3, Some(whole(4))),
            (ReturnValue::UpdatedOld, 4, Some(part(4))),
            (ReturnValue::UpdatedNew, 5, Some(part(6))),
        ] {
            let updated = update(ground, &key, "ADD attempts :one", &[(":one", n(1))], back.clone()).await.unwrap();
            assert_eq!(updated.attributes.filter(|item| !item.is_empty()), expected, "{back:?} of {before}");
        }
    });
}

#[test]
fn an_update_makes_the_item_that_is_not_there() {
    contract(async |ground| {
        let key = ground.key();
        let values = [(":v", s("x")), (":one", n(1))];
        let updated = update(ground, &key, "SET words = :v ADD attempts :one", &values, ReturnValue::AllOld).await;
        assert_eq!(updated.unwrap().attributes.unwrap_or_default(), item([]));
        let expected = item([("pk", s(&key)), ("sk", s("a")), ("words", s("x")), ("attempts", n(1))]);
        assert_eq!(ground.get(&key, "a").await, Some(expected));
    });
}

#[test]
fn elements_are_those_of_the_list_before() {
    contract(async |ground| {
        let key = ground.key();
        ground.put(sample(&key)).await;
        let updated = update(ground, &key, "REMOVE #things[0], #things[2]", &[], ReturnValue::AllNew).await;
        let left = updated.unwrap().attributes.unwrap().remove("things").unwrap();
        ground.expect(&left, &list(&[s("b")]), Difference::ElementsMove, &list(&[s("b"), s("c")]));
    });
}

/// The expressions are those of `Ledger::claim` and `Ledger::finish`.
#[test]
fn a_conditional_update_tells_who_was_faster() {
    contract(async |ground| {
        let key = ground.key();
        let claim = async |owner: &str, now: u32| {
            let update = ground.dynamodb.update_item().table_name(&ground.table).key("pk", s(&key)).key("sk", s("delivery#ci"));
            let claimed = update
                .update_expression(
                    "SET #status = :processing, #owner = :owner, lease_until = :until, replay = if_not_exists(replay, :replay) \
                     ADD attempts :one REMOVE next_at, attention_pk, attention_sk",
                )
                .condition_expression(
                    "attribute_not_exists(pk) OR (replay >= :replay AND ((#status = :retrying AND next_at <= :now) OR \
                     (#status = :processing AND lease_until <= :now)))",
                )
                .expression_attribute_names("#status", "status")
                .expression_attribute_names("#owner", "owner")
                .expression_attribute_values(":processing", s("processing"))
                .expression_attribute_values(":retrying", s("retrying"))
                .expression_attribute_values(":owner", s(owner))
                .expression_attribute_values(":until", n(now + 60))
                .expression_attribute_values(":now", n(now))
                .expression_attribute_values(":replay", n(0))
                .expression_attribute_values(":one", n(1))
                .return_values(ReturnValue::AllNew)
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
                .await;
            match claimed.map_err(|error| error.into_service_error()) {
                Ok(claimed) => (true, claimed.attributes.unwrap()),
                Err(UpdateItemError::ConditionalCheckFailedException(refused)) => (false, refused.item.unwrap()),
                Err(error) => panic!("{error:?}"),
            }
        };
        let (claimed, first) = claim("first", 1000).await;
        assert!(claimed);
        assert_eq!((&first["attempts"], &first["owner"]), (&n(1), &s("first")));
        assert_eq!(claim("second", 1059).await, (false, first.clone()));
        let (claimed, second) = claim("second", 1060).await;
        assert!(claimed);
        assert_eq!((&second["attempts"], &second["owner"]), (&n(2), &s("second")));
    });
}
