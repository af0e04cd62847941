//! DynamoDB: items, their keys, their sizes, reading them back.

use aws_sdk_dynamodb::{
    primitives::Blob,
    types::{AttributeValue, KeysAndAttributes, ReturnValue},
};

use crate::{
    contract,
    ground::{Difference, code, eventually, item, n, s},
};

#[test]
fn an_item_reads_back_as_it_was_put() {
    contract(async |ground| {
        let key = ground.key();
        let whole = item([
            ("pk", s(&key)),
            ("sk", s("a")),
            ("empty", s("")),
            ("text", s("é\u{1f600}\0\n")),
            ("bytes", AttributeValue::B(Blob::new([0, 255]))),
            ("no_bytes", AttributeValue::B(Blob::new([]))),
            ("yes", AttributeValue::Bool(true)),
            ("nothing", AttributeValue::Null(true)),
            ("list", AttributeValue::L(vec![s("a"), n(1), AttributeValue::L(Vec::new())])),
            ("map", AttributeValue::M(item([("a b", s("x")), ("-", n(2))]))),
        ]);
        assert_eq!(ground.get(&key, "a").await, None);
        ground.put(whole.clone()).await;
        assert_eq!(ground.get(&key, "a").await, Some(whole));
        // A put replaces the item as a whole.
        let other = item([("pk", s(&key)), ("sk", s("a")), ("other", n(1))]);
        ground.put(other.clone()).await;
        assert_eq!(ground.get(&key, "a").await, Some(other));
    });
}

#[test]
fn numbers_are_kept_as_numbers() {
    contract(async |ground| {
        let key = ground.key();
        for (written, read) in [
            ("1795328675123", "1795328675123"),
            ("007", "7"),
            ("-0", "0"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ] {
            ground.put(item([("pk", s(&key)), ("sk", s("a")), ("number", n(written))])).await;
            assert_eq!(ground.get(&key, "a").await.unwrap()["number"], n(read), "{written}");
        }
        for written in ["", "x", "0x1", "1 ", "123456789012345678901234567890123456789", "1e126"] {
            let put = ground.dynamodb.put_item().table_name(&ground.table).item("pk", s(&key)).item("sk", s("a"));
            assert_eq!(code(&put.item("number", n(written)).send().await), "ValidationException", "{written}");
        }
    });
}

#[test]
fn keys_are_texts_of_bounded_length_and_never_empty() {
    contract(async |ground| {
        let key = ground.key();
        let long = |length: usize| format!("{key}{}", "x".repeat(length - key.len()));
        for (pk, sk, expected) in [
            (Some(s(&key)), Some(s("a")), "ok"),
            (None, Some(s("a")), "ValidationException"),
            (Some(s(&key)), None, "ValidationException"),
            (Some(s("")), Some(s("a")), "ValidationException"),
            (Some(s(&key)), Some(s("")), "ValidationException"),
            (Some(n(1)), Some(s("a")), "ValidationException"),
            (Some(s(&key)), Some(n(1)), "ValidationException"),
            (Some(s(long(2048))), Some(s("a")), "ok"),
            (Some(s(long(2049))), Some(s("a")), "ValidationException"),
            (Some(s(&key)), Some(s(long(1024))), "ok"),
            (Some(s(&key)), Some(s(long(1025))), "ValidationException"),
        ] {
            let mut whole = item([("other", n(1))]);
            whole.extend(pk.clone().map(|pk| ("pk".to_owned(), pk)));
            whole.extend(sk.clone().map(|sk| ("sk".to_owned(), sk)));
            let put = ground.dynamodb.put_item().table_name(&ground.table).set_item(Some(whole)).send().await;
            assert_eq!(code(&put), expected, "put {pk:?} {sk:?}");
            let get = ground.dynamodb.get_item().table_name(&ground.table);
            let key = pk.clone().map(|pk| ("pk".to_owned(), pk)).into_iter().chain(sk.clone().map(|sk| ("sk".to_owned(), sk)));
            assert_eq!(code(&get.set_key(Some(key.collect())).send().await), expected, "get {pk:?} {sk:?}");
        }
        let get = ground.dynamodb.get_item().table_name(&ground.table).key("pk", s(&key)).key("sk", s("a")).key("other", s("a"));
        assert_eq!(code(&get.send().await), "ValidationException");
        let get = ground.dynamodb.get_item().table_name(format!("{}-none", ground.own)).key("pk", s(&key)).key("sk", s("a"));
        assert_eq!(code(&get.send().await), "ResourceNotFoundException");
    });
}

#[test]
fn the_key_of_an_index_is_a_text_and_not_empty() {
    contract(async |ground| {
        for (value, expected) in [(s("a"), "ok"), (s(""), "ValidationException"), (n(1), "ValidationException")] {
            let put = ground.dynamodb.put_item().table_name(&ground.table).item("pk", s(ground.key())).item("sk", s("a"));
            let put = put.item("attention_pk", value.clone()).item("attention_sk", s("a"));
            assert_eq!(code(&put.send().await), expected, "{value:?}");
        }
        let update = ground.dynamodb.update_item().table_name(&ground.table).key("pk", s(ground.key())).key("sk", s("a"));
        let update = update.update_expression("SET attention_pk = :empty").expression_attribute_values(":empty", s(""));
        assert_eq!(code(&update.send().await), "ValidationException");
    });
}

#[test]
fn an_item_has_at_most_400_kib() {
    contract(async |ground| {
        let key = ground.key();
        // Names and values count, numbers with a byte for two digits and one more.
        let rest = "pk".len() + key.len() + "sk".len() + "a".len() + "body".len();
        let put = async |bytes: usize| {
            let put = ground.dynamodb.put_item().table_name(&ground.table).item("pk", s(&key)).item("sk", s("a"));
            code(&put.item("body", AttributeValue::B(Blob::new(vec![7; bytes]))).send().await)
        };
        assert_eq!(put(400 * 1024 - rest).await, "ok");
        assert_eq!(put(400 * 1024 - rest + 1).await, "ValidationException");
        let update = ground.dynamodb.update_item().table_name(&ground.table).key("pk", s(&key)).key("sk", s("a"));
        let update = update.update_expression("SET one_more = :a").expression_attribute_values(":a", s("a"));
        assert_eq!(code(&update.send().await), "ValidationException");
        assert_eq!(ground.get(&key, "a").await.unwrap().len(), 3, "nothing was written");
    });
}

#[test]
fn a_set_has_members_and_each_once() {
    contract(async |ground| {
        let key = ground.key();
        for (value, expected) in [
            (AttributeValue::Ss(vec!["a".to_owned(), "b".to_owned()]), "ok"),
            (AttributeValue::Ss(Vec::new()), "ValidationException"),
            (AttributeValue::Ns(Vec::new()), "ValidationException"),
            (AttributeValue::Ss(vec!["a".to_owned(), "a".to_owned()]), "ValidationException"),
        ] {
            let put = ground.dynamodb.put_item().table_name(&ground.table).item("pk", s(&key)).item("sk", s("a"));
            assert_eq!(code(&put.item("set", value.clone()).send().await), expected, "{value:?}");
        }
    });
}

#[test]
fn what_was_there_before_is_given_back_on_demand() {
    contract(async |ground| {
        let key = ground.key();
        let version = |number: u32| item([("pk", s(&key)), ("sk", s("a")), ("version", n(number))]);
        let put = async |number, back| {
            let put = ground.dynamodb.put_item().table_name(&ground.table).set_item(Some(version(number)));
            put.return_values(back).send().await.unwrap().attributes
        };
        let delete = async |back| {
            let delete = ground.dynamodb.delete_item().table_name(&ground.table).key("pk", s(&key)).key("sk", s("a"));
            delete.return_values(back).send().await.unwrap().attributes
        };
        assert_eq!(put(1, ReturnValue::AllOld).await, None);
        assert_eq!(put(2, ReturnValue::AllOld).await, Some(version(1)));
        assert_eq!(put(3, ReturnValue::None).await, None);
        assert_eq!(delete(ReturnValue::AllOld).await, Some(version(3)));
        assert_eq!(delete(ReturnValue::AllOld).await, None, "deleting what is not there succeeds");
        assert_eq!(ground.get(&key, "a").await, None);
    });
}

#[test]
fn a_projection_shows_what_it_names() {
    contract(async |ground| {
        let key = ground.key();
        let map = AttributeValue::M(item([("x", n(1)), ("y", n(2))]));
        let whole = item([("pk", s(&key)), ("sk", s("a")), ("expires_at", n(1)), ("received_at", n(2)), ("parts", map)]);
        ground.put(whole).await;
        let get =
            || ground.dynamodb.get_item().table_name(&ground.table).key("pk", s(&key)).key("sk", s("a")).consistent_read(true);
        let shown = async |projection: &str| get().projection_expression(projection).send().await.unwrap().item;
        assert_eq!(shown("expires_at, received_at").await, Some(item([("expires_at", n(1)), ("received_at", n(2))])));
        assert_eq!(shown("absent, received_at").await, Some(item([("received_at", n(2))])));
        assert_eq!(shown("parts.y").await, Some(item([("parts", AttributeValue::M(item([("y", n(2))])))])));
        assert_eq!(shown("absent").await.unwrap_or_default(), item([]), "the item is there, none of it is shown");
        let mut taken = Vec::new();
        for refused in ["status", "a,", "a b", "parts, parts.x", ":a", ""] {
            match code(&get().projection_expression(refused).send().await).as_str() {
                "ValidationException" => {}
                _ => taken.push(refused),
            }
        }
        ground.expect(&taken, &vec![], Difference::Grammar, &vec!["a,", "a b", ""]);
        let unused = get().projection_expression("received_at").expression_attribute_names("#a", "a");
        assert_eq!(code(&unused.send().await), "ValidationException");
    });
}

#[test]
fn an_eventually_consistent_read_sees_it_in_the_end() {
    contract(async |ground| {
        let key = ground.key();
        ground.put(item([("pk", s(&key)), ("sk", s("a")), ("n", n(1))])).await;
        eventually(Some(n(1)), async || {
            let get = ground.dynamodb.get_item().table_name(&ground.table).key("pk", s(&key)).key("sk", s("a"));
            get.send().await.unwrap().item.and_then(|mut item| item.remove("n"))
        })
        .await;
    });
}

#[test]
fn a_batch_of_keys_gives_the_items_that_are_there() {
    contract(async |ground| {
        let key = ground.key();
        for number in 0..3 {
            ground.put(item([("pk", s(&key)), ("sk", s(number.to_string())), ("status", s("done")), ("other", n(1))])).await;
        }
        let get = async |sort_keys: Vec<String>| {
            let keys = sort_keys.into_iter().map(|sk| item([("pk", s(&key)), ("sk", s(sk))]));
            let request = KeysAndAttributes::builder().set_keys(Some(keys.collect())).consistent_read(true);
            let request = request.projection_expression("sk, #status").expression_attribute_names("#status", "status");
            ground.dynamodb.batch_get_item().request_items(&ground.table, request.build().unwrap()).send().await
        };
        let found = get(["0", "2", "missing"].map(str::to_owned).to_vec()).await.unwrap();
        let mut items = found.responses.unwrap().remove(&ground.table).unwrap();
        items.sort_by_key(|item| item["sk"].as_s().unwrap().clone());
        let expected = |sk: &str| item([("sk", s(sk)), ("status", s("done"))]);
        assert_eq!(items, [expected("0"), expected("2")]);
        assert_eq!(found.unprocessed_keys.unwrap_or_default().len(), 0);

        let numbers = |count: u32| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(code(&get(numbers(100)).await), "ok");
        assert_eq!(code(&get(numbers(101)).await), "ValidationException");
        assert_eq!(code(&get(vec!["0".to_owned(), "0".to_owned()]).await), "ValidationException", "a key twice");
    });
}
