//! DynamoDB: conditions of writes.

use aws_sdk_dynamodb::{
    operation::put_item::PutItemError,
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure as OnFailure},
};
use futures::future::join_all;

use crate::{
    contract,
    ground::{Difference, Ground, Item, code, item, n, s},
};

#[test]
fn a_conditional_put_writes_once_and_tells_what_is_there() {
    contract(async |ground| {
        let key = ground.key();
        let put = async |version: u32, on_failure| {
            let put = ground.dynamodb.put_item().table_name(&ground.table).item("pk", s(&key)).item("sk", s("event"));
            let put = put.item("version", n(version)).condition_expression("attribute_not_exists(pk)");
            put.return_values_on_condition_check_failure(on_failure).send().await.map_err(|error| error.into_service_error())
        };
        let first = item([("pk", s(&key)), ("sk", s("event")), ("version", n(1))]);
        assert!(put(1, OnFailure::AllOld).await.is_ok());
        for (on_failure, expected) in [(OnFailure::AllOld, Some(first.clone())), (OnFailure::None, None)] {
            let Err(PutItemError::ConditionalCheckFailedException(refused)) = put(2, on_failure).await else {
                panic!("written twice")
            };
            assert_eq!(refused.item, expected);
        }
        assert_eq!(ground.get(&key, "event").await, Some(first));
    });
}

#[test]
fn of_many_conditional_puts_at_the_same_instant_one_succeeds() {
    contract(async |ground| {
        let key = ground.key();
        let puts = (0..20).map(|number| {
            let put = ground.dynamodb.put_item().table_name(&ground.table).item("pk", s(&key)).item("sk", s("a"));
            put.item("number", n(number)).condition_expression("attribute_not_exists(pk)").send()
        });
        let codes: Vec<String> = join_all(puts).await.iter().map(code).collect();
        assert_eq!(codes.iter().filter(|code| *code == "ok").count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| *code == "ConditionalCheckFailedException").count(), 19, "{codes:?}");
    });
}

/// Whether a condition holds of an item, by writing it again as it is; or the code of the refusal.
async fn verdict(ground: &Ground, whole: &Item, condition: &str, values: &[(&str, AttributeValue)]) -> String {
    let mut put =
        ground.dynamodb.put_item().table_name(&ground.table).set_item(Some(whole.clone())).condition_expression(condition);
    for (name, value) in values {
        put = put.expression_attribute_values(*name, value.clone());
    }
    for (reference, name) in [("#status", "status"), ("#owner", "owner"), ("#parts", "parts")] {
        if condition.contains(reference) {
            put = put.expression_attribute_names(reference, name);
        }
    }
    match code(&put.send().await).as_str() {
        "ok" => "holds".to_owned(),
        "ConditionalCheckFailedException" => "does not hold".to_owned(),
        other => other.to_owned(),
    }
}

fn sample(key: &str) -> Item {
    item([
        ("pk", s(key)),
        ("sk", s("a")),
        ("status", s("retrying")),
        ("expires_at", n(100)),
        ("words", s("abc")),
        ("words2", s("abc")),
        ("nothing", AttributeValue::Null(true)),
        ("set", AttributeValue::Ss(vec!["x".to_owned(), "y".to_owned()])),
        ("things", AttributeValue::L(vec![s("x"), n(1)])),
        ("parts", AttributeValue::M(item([("core", n(7))]))),
    ])
}

#[test]
fn conditions_hold_as_documented() {
    contract(async |ground| {
        let whole = sample(&ground.key());
        ground.put(whole.clone()).await;
        for (condition, value, holds) in [
            ("attribute_exists(pk)", None, true),
            ("attribute_exists(absent)", None, false),
            ("attribute_not_exists(absent)", None, true),
            ("attribute_not_exists(nothing)", None, false),
            ("attribute_exists(#parts.core)", None, true),
            ("attribute_exists(#parts.absent)", None, false),
            ("attribute_exists(things[1])", None, true),
            ("attribute_exists(things[2])", None, false),
            ("expires_at <= :v", Some(n(100)), true),
            ("expires_at <= :v", Some(n(99)), false),
            ("expires_at < :v", Some(n("100.5")), true),
            ("expires_at < :v", Some(n(100)), false),
            ("expires_at >= :v", Some(n(100)), true),
            ("expires_at > :v", Some(n(100)), false),
            ("expires_at > :v", Some(n(-100)), true),
            ("expires_at = :v", Some(n("1e2")), true),
            ("expires_at <> :v", Some(n(100)), false),
            // Numbers are no texts, and what is not there is neither less nor more.
            ("expires_at <= :v", Some(s("999")), false),
            ("expires_at = :v", Some(s("100")), false),
            ("expires_at <> :v", Some(s("100")), true),
            ("absent <= :v", Some(n(1)), false),
            ("absent > :v", Some(n(1)), false),
            ("absent = :v", Some(n(1)), false),
            ("absent <> :v", Some(n(1)), true),
            ("NOT absent = :v", Some(n(1)), true),
            ("words = words2", None, true),
            ("words <> words2", None, false),
            // By bytes: upper case first.
            ("words > :v", Some(s("Z")), true),
            ("words < :v", Some(s("é")), true),
            ("nothing = :v", Some(AttributeValue::Null(true)), true),
            ("things = :v", Some(AttributeValue::L(vec![s("x"), n(1)])), true),
            ("#parts.core = :v", Some(n(7)), true),
            ("begins_with(words, :v)", Some(s("ab")), true),
            ("begins_with(words, :v)", Some(s("")), true),
            ("begins_with(words, :v)", Some(s("b")), false),
            ("begins_with(absent, :v)", Some(s("b")), false),
            ("contains(words, :v)", Some(s("bc")), true),
            ("contains(set, :v)", Some(s("x")), false),
            ("contains(things, :v)", Some(n(1)), true),
            ("contains(things, :v)", Some(n(2)), false),
            ("size(words) = :v", Some(n(3)), true),
            ("size(things) > :v", Some(n(2)), false),
            ("size(absent) > :v", Some(n(0)), false),
            ("attribute_type(words, :v)", Some(s("S")), true),
            ("attribute_type(words, :v)", Some(s("N")), false),
            ("words IN (:v, words2)", Some(s("x")), true),
            ("words IN (:v)", Some(s("x")), false),
            ("words BETWEEN :v AND words2", Some(s("abb")), true),
            ("words BETWEEN :v AND words2", Some(s("abd")), false),
        ] {
            // `set` is a reserved word.
            if condition.starts_with("contains(set") {
                assert_eq!(verdict(ground, &whole, condition, &[(":v", value.unwrap())]).await, "ValidationException");
                continue;
            }
            let values: Vec<_> = value.clone().map(|value| (":v", value)).into_iter().collect();
            let expected = if holds { "holds" } else { "does not hold" };
            assert_eq!(verdict(ground, &whole, condition, &values).await, expected, "{condition} {value:?}");
        }
    });
}

#[test]
fn not_binds_closer_than_and_and_that_closer_than_or() {
    contract(async |ground| {
        let whole = sample(&ground.key());
        ground.put(whole.clone()).await;
        let (yes, no) = ("attribute_exists(pk)", "attribute_exists(absent)");
        for (condition, holds) in [
            (format!("{yes} OR {yes} AND {no}"), true),
            (format!("({yes} OR {yes}) AND {no}"), false),
            (format!("NOT {no} AND {no}"), false),
            (format!("NOT ({no} AND {no})"), true),
            (format!("NOT NOT {yes}"), true),
            (format!("{no} or {yes} and not {no}"), true),
            (format!("({yes}) AND ({yes} OR {no})"), true),
            (format!("{no} OR ({yes} AND (({no}) OR ({yes})))"), true),
        ] {
            let expected = if holds { "holds" } else { "does not hold" };
            assert_eq!(verdict(ground, &whole, &condition, &[]).await, expected, "{condition}");
        }
    });
}

#[test]
fn what_is_no_condition_is_refused() {
    contract(async |ground| {
        let whole = sample(&ground.key());
        ground.put(whole.clone()).await;
        let mut taken = Vec::new();
        for (condition, values) in [
            ("", vec![]),
            ("pk", vec![]),
            ("pk = ", vec![]),
            ("pk = :v AND", vec![(":v", s("a"))]),
            ("pk == :v", vec![(":v", s("a"))]),
            ("pk = 'a'", vec![]),
            ("exists(pk)", vec![]),
            ("ATTRIBUTE_EXISTS(pk)", vec![]),
            ("(attribute_exists(pk)", vec![]),
            ("((attribute_exists(pk)))", vec![]),
            // Reserved words, in any case of their letters.
            ("status = :v", vec![(":v", s("a"))]),
            ("Owner = :v", vec![(":v", s("a"))]),
            ("pk = :v AND #owner.name = :v", vec![(":v", s("a"))]),
            // What is used is given, and what is given is used.
            ("pk = :v", vec![]),
            ("pk = :v", vec![(":v", s("a")), (":unused", s("b"))]),
            ("#undefined = :v", vec![(":v", s("a"))]),
            // Types that the operator does not have.
            ("begins_with(words, :v)", vec![(":v", n(1))]),
            ("words < :v", vec![(":v", AttributeValue::Bool(true))]),
            ("words BETWEEN :v AND :w", vec![(":v", s("a")), (":w", n(1))]),
            ("words BETWEEN :v AND :w", vec![(":v", s("b")), (":w", s("a"))]),
        ] {
            match verdict(ground, &whole, condition, &values).await.as_str() {
                "ValidationException" => {}
                _ => taken.push(condition),
            }
        }
        ground.expect(
            &taken,
            &vec![],
            Difference::Grammar,
            &vec!["pk = 'a'", "ATTRIBUTE_EXISTS(pk)", "words < :v", "words BETWEEN :v AND :w"],
        );
    });
}

#[test]
fn names_and_values_need_an_expression() {
    contract(async |ground| {
        let put = || ground.dynamodb.put_item().table_name(&ground.table).item("pk", s(ground.key())).item("sk", s("a"));
        assert_eq!(code(&put().expression_attribute_values(":v", s("a")).send().await), "ValidationException");
        assert_eq!(code(&put().expression_attribute_names("#n", "a").send().await), "ValidationException");
        let unused = put().condition_expression("attribute_not_exists(pk)").expression_attribute_names("#n", "a");
        assert_eq!(code(&unused.send().await), "ValidationException");
    });
}
