//! DynamoDB: transactions.

use aws_sdk_dynamodb::{
    error::SdkError,
    operation::transact_write_items::{TransactWriteItemsError, TransactWriteItemsOutput},
    types::{ConditionCheck, Delete, Put, ReturnValuesOnConditionCheckFailure as OnFailure, TransactWriteItem, Update},
};

use crate::{
    contract,
    ground::{Difference, Ground, Item, code, item, n, s},
};

type Written = Result<TransactWriteItemsOutput, SdkError<TransactWriteItemsError>>;

async fn write(ground: &Ground, actions: Vec<TransactWriteItem>) -> Written {
    ground.dynamodb.transact_write_items().set_transact_items(Some(actions)).send().await
}

fn put(ground: &Ground, key: &str, sk: &str, version: u32) -> TransactWriteItem {
    let put = Put::builder().table_name(&ground.table).set_item(Some(whole(key, sk, version)));
    TransactWriteItem::builder().put(put.build().unwrap()).build()
}

fn update(ground: &Ground, key: &str, sk: &str, at_least: u32) -> TransactWriteItem {
    let update = Update::builder().table_name(&ground.table).key("pk", s(key)).key("sk", s(sk));
    let update = update.update_expression("ADD version :one").condition_expression("version >= :least");
    let update = update.expression_attribute_values(":one", n(1)).expression_attribute_values(":least", n(at_least));
    let update = update.return_values_on_condition_check_failure(OnFailure::AllOld).build().unwrap();
    TransactWriteItem::builder().update(update).build()
}

fn whole(key: &str, sk: &str, version: u32) -> Item {
    item([("pk", s(key)), ("sk", s(sk)), ("version", n(version))])
}

/// The codes of a cancelled transaction's reasons, with the items that they show.
fn reasons(written: Written) -> Vec<(String, Option<Item>)> {
    match written.map_err(SdkError::into_service_error) {
        Err(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            let reasons = cancelled.cancellation_reasons.unwrap_or_default().into_iter();
            reasons.map(|reason| (reason.code.unwrap_or_default(), reason.item)).collect()
        }
        other => panic!("not cancelled: {other:?}"),
    }
}

#[test]
fn a_transaction_writes_all_or_nothing() {
    contract(async |ground| {
        let key = ground.key();
        write(ground, vec![put(ground, &key, "a", 1), put(ground, &key, "b", 1), put(ground, &key, "c", 1)]).await.unwrap();
        assert_eq!(ground.get(&key, "b").await, Some(whole(&key, "b", 1)));

        let delete = Delete::builder().table_name(&ground.table).key("pk", s(&key)).key("sk", s("c")).build().unwrap();
        let check = ConditionCheck::builder().table_name(&ground.table).key("pk", s(&key)).key("sk", s("d"));
        let check = check.condition_expression("attribute_not_exists(pk)").build().unwrap();
        let rest = || {
            let delete = TransactWriteItem::builder().delete(delete.clone()).build();
            vec![put(ground, &key, "a", 2), delete, TransactWriteItem::builder().condition_check(check.clone()).build()]
        };
        let refused = reasons(write(ground, [vec![update(ground, &key, "b", 2)], rest()].concat()).await);
        let expected = [("ConditionalCheckFailed", Some(whole(&key, "b", 1))), ("None", None), ("None", None), ("None", None)];
        assert_eq!(refused, expected.map(|(code, item)| (code.to_owned(), item)));
        assert_eq!(ground.get(&key, "a").await, Some(whole(&key, "a", 1)));
        assert_eq!(ground.get(&key, "c").await, Some(whole(&key, "c", 1)));

        write(ground, [vec![update(ground, &key, "b", 1)], rest()].concat()).await.unwrap();
        assert_eq!(ground.get(&key, "a").await, Some(whole(&key, "a", 2)));
        assert_eq!(ground.get(&key, "b").await, Some(whole(&key, "b", 2)));
        assert_eq!(ground.get(&key, "c").await, None);
    });
}

#[test]
fn each_action_that_fails_says_why() {
    contract(async |ground| {
        let key = ground.key();
        ground.put(whole(&key, "a", 1)).await;
        let mut text = whole(&key, "text", 1);
        text.insert("version".to_owned(), s("one"));
        ground.put(text).await;
        let add = Update::builder().table_name(&ground.table).key("pk", s(&key)).key("sk", s("text"));
        let add = add.update_expression("ADD version :one").expression_attribute_values(":one", n(1)).build().unwrap();
        let add = TransactWriteItem::builder().update(add).build();
        let refused = reasons(write(ground, vec![update(ground, &key, "a", 9), update(ground, &key, "missing", 9)]).await);
        let failed = "ConditionalCheckFailed".to_owned();
        assert_eq!(refused, [(failed.clone(), Some(whole(&key, "a", 1))), (failed, None)]);
        let codes: Vec<String> =
            reasons(write(ground, vec![put(ground, &key, "b", 1), add]).await).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, ["None", "ValidationError"], "what only the item shows to be wrong");
    });
}

#[test]
fn a_transaction_is_made_once_for_its_token() {
    contract(async |ground| {
        let key = ground.key();
        let token = tests::stack::unique();
        let add = |to: &str| {
            let update = Update::builder().table_name(&ground.table).key("pk", s(&key)).key("sk", s(to));
            let update = update.update_expression("ADD version :one").expression_attribute_values(":one", n(1));
            TransactWriteItem::builder().update(update.build().unwrap()).build()
        };
        let write = async |to: &str| {
            ground.dynamodb.transact_write_items().transact_items(add(to)).client_request_token(&token).send().await
        };
        for _ in 0..2 {
            assert_eq!(code(&write("a").await), "ok");
            assert_eq!(ground.get(&key, "a").await, Some(whole(&key, "a", 1)));
        }
        assert_eq!(code(&write("b").await), "IdempotentParameterMismatchException");
        assert_eq!(ground.get(&key, "b").await, None);
    });
}

#[test]
fn what_is_no_transaction_is_refused() {
    contract(async |ground| {
        let key = ground.key();
        assert_eq!(code(&write(ground, Vec::new()).await), "ValidationException", "no action");
        let twice = vec![put(ground, &key, "a", 1), update(ground, &key, "a", 0)];
        assert_eq!(code(&write(ground, twice).await), "ValidationException", "one item twice");
        let many = |count: u32| (0..count).map(|number| put(ground, &key, &number.to_string(), 1)).collect::<Vec<_>>();
        assert_eq!(code(&write(ground, many(101)).await), "ValidationException", "more than a hundred");
        assert_eq!(code(&write(ground, many(100)).await), "ok");
        let wrong = Update::builder().table_name(&ground.table).key("pk", s(&key)).key("sk", s("a"));
        let wrong = wrong.update_expression("SET status = :v").expression_attribute_values(":v", n(1)).build().unwrap();
        let wrong = vec![put(ground, &key, "b", 2), TransactWriteItem::builder().update(wrong).build()];
        let wrong = code(&write(ground, wrong).await);
        ground.expect(&wrong.as_str(), &"ValidationException", Difference::TransactionGrammar, &"TransactionCanceledException");
        assert_eq!(ground.get(&key, "a").await, None);
    });
}
