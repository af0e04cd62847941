//! DynamoDB: queries of the table and of its indexes.

use aws_sdk_dynamodb::{
    operation::query::{QueryOutput, builders::QueryFluentBuilder},
    types::{AttributeValue, Select},
};

use crate::{
    contract,
    ground::{Difference, Ground, Item, code, eventually, item, n, s},
};

fn query(ground: &Ground) -> QueryFluentBuilder {
    ground.dynamodb.query().table_name(&ground.table)
}

/// The sort keys of what was found.
fn sort_keys(found: &QueryOutput) -> Vec<&str> {
    found.items().iter().filter_map(|item| item.get("sk")?.as_s().ok()).map(String::as_str).collect()
}

/// Puts items of these sort keys into a new partition; its key.
async fn partition(ground: &Ground, sort_keys: &[&str]) -> String {
    let key = ground.key();
    for (number, sk) in sort_keys.iter().enumerate() {
        ground.put(item([("pk", s(&key)), ("sk", s(*sk)), ("number", n(number))])).await;
    }
    key
}

#[test]
fn a_partition_is_read_in_the_order_of_its_sort_keys() {
    contract(async |ground| {
        // By bytes: a character of more bytes comes after all of fewer.
        let all = ["Z", "a", "a#1", "a#10", "a#2", "b", "\u{e9}", "\u{1f600}"];
        let key = partition(ground, &["b", "a#2", "\u{1f600}", "a#10", "Z", "\u{e9}", "a", "a#1"]).await;
        for (condition, values, expected) in [
            ("pk = :pk", vec![], &all[..]),
            ("pk = :pk AND begins_with(sk, :a)", vec![(":a", "a#")], &all[2..5]),
            ("begins_with(sk, :a) AND pk = :pk", vec![(":a", "a#1")], &all[2..4]),
            ("pk = :pk AND sk = :a", vec![(":a", "a")], &all[1..2]),
            ("pk = :pk AND sk < :a", vec![(":a", "a#1")], &all[..2]),
            ("pk = :pk AND sk <= :a", vec![(":a", "a#1")], &all[..3]),
            ("pk = :pk AND sk > :a", vec![(":a", "a#2")], &all[5..]),
            ("pk = :pk AND sk >= :a", vec![(":a", "a#2")], &all[4..]),
            ("pk = :pk AND sk BETWEEN :a AND :b", vec![(":a", "a#"), (":b", "a#2")], &all[2..5]),
            ("pk = :pk AND sk = :a", vec![(":a", "missing")], &[]),
        ] {
            let mut asked = query(ground).consistent_read(true).key_condition_expression(condition);
            asked = asked.expression_attribute_values(":pk", s(&key));
            for (name, value) in values {
                asked = asked.expression_attribute_values(name, s(value));
            }
            let found = asked.clone().send().await.unwrap();
            assert_eq!(sort_keys(&found), expected, "{condition}");
            assert_eq!((found.count, found.scanned_count), (expected.len() as i32, expected.len() as i32));
            assert_eq!(found.last_evaluated_key, None);
            let backwards: Vec<&str> = expected.iter().rev().copied().collect();
            assert_eq!(sort_keys(&asked.scan_index_forward(false).send().await.unwrap()), backwards, "{condition}");
        }
    });
}

#[test]
fn pages_make_up_the_whole() {
    contract(async |ground| {
        let all = ["a", "b", "c", "d", "e"];
        let key = partition(ground, &all).await;
        for forward in [true, false] {
            let asked = query(ground).consistent_read(true).scan_index_forward(forward).limit(2);
            let asked = asked.key_condition_expression("pk = :pk").expression_attribute_values(":pk", s(&key));
            let (mut seen, mut pages, mut start) = (Vec::new(), Vec::new(), None);
            loop {
                let page = asked.clone().set_exclusive_start_key(start).send().await.unwrap();
                seen.extend(sort_keys(&page).into_iter().map(str::to_owned));
                pages.push(page.count);
                start = page.last_evaluated_key;
                let Some(last) = &start else { break };
                assert_eq!(last, &item([("pk", s(&key)), ("sk", s(seen.last().unwrap()))]));
            }
            if !forward {
                seen.reverse();
            }
            assert_eq!((seen.as_slice(), pages.as_slice()), (all.map(str::to_owned).as_slice(), &[2, 2, 1][..]));
        }
        // A page that is full may have been the last: that shows only in the next one.
        let five = query(ground).limit(5).key_condition_expression("pk = :pk").expression_attribute_values(":pk", s(&key));
        let page = five.consistent_read(true).send().await.unwrap();
        assert_eq!((page.count, page.last_evaluated_key.is_some()), (5, true));
    });
}

#[test]
fn a_page_ends_after_a_megabyte() {
    contract(async |ground| {
        let key = ground.key();
        for number in 0..4 {
            let body = AttributeValue::B(aws_sdk_dynamodb::primitives::Blob::new(vec![0; 390 * 1024]));
            ground.put(item([("pk", s(&key)), ("sk", s(number.to_string())), ("body", body)])).await;
        }
        let asked =
            query(ground).consistent_read(true).key_condition_expression("pk = :pk").expression_attribute_values(":pk", s(&key));
        // What is not shown counts all the same.
        let page = asked.projection_expression("sk").send().await.unwrap();
        assert!(page.count < 4 && page.last_evaluated_key.is_some(), "{page:?}");
    });
}

#[test]
fn a_filter_leaves_out_and_a_projection_cuts_down() {
    contract(async |ground| {
        let key = partition(ground, &["a", "b", "c", "d"]).await;
        let asked = || {
            query(ground).consistent_read(true).key_condition_expression("pk = :pk").expression_attribute_values(":pk", s(&key))
        };
        let filtered = asked().filter_expression("number > :n").expression_attribute_values(":n", n(1));
        let found = filtered.clone().send().await;
        // `number` is a reserved word.
        assert_eq!(code(&found), "ValidationException");
        let filtered = asked().filter_expression("#n > :n").expression_attribute_names("#n", "number");
        let filtered = filtered.expression_attribute_values(":n", n(1));
        let found = filtered.clone().send().await.unwrap();
        assert_eq!((sort_keys(&found), found.count, found.scanned_count), (vec!["c", "d"], 2, 4));
        // The limit is one of what is looked at.
        let found = filtered.limit(3).send().await.unwrap();
        assert_eq!((sort_keys(&found), found.scanned_count), (vec!["c"], 3));
        let found = asked().projection_expression("sk, absent").send().await.unwrap();
        assert_eq!(found.items()[0], item([("sk", s("a"))]));
        let counted = asked().select(Select::Count).send().await.unwrap();
        assert_eq!((counted.count, counted.items.unwrap_or_default().len()), (4, 0));
    });
}

#[test]
fn what_is_no_query_is_refused() {
    contract(async |ground| {
        let mut taken = Vec::new();
        for (condition, values) in [
            ("", vec![]),
            ("sk = :v", vec![(":v", s("a"))]),
            ("pk < :v", vec![(":v", s("a"))]),
            ("pk = :v AND number = :v", vec![(":v", s("a"))]),
            ("pk = :v OR sk = :v", vec![(":v", s("a"))]),
            ("pk = :v AND sk <> :v", vec![(":v", s("a"))]),
            ("pk = :v AND NOT sk = :v", vec![(":v", s("a"))]),
            ("pk = :v AND contains(sk, :v)", vec![(":v", s("a"))]),
            ("pk = :v", vec![(":v", n(1))]),
            ("pk = :v", vec![(":v", s(""))]),
            ("pk = :v", vec![]),
            ("pk = :v", vec![(":v", s("a")), (":unused", s("a"))]),
            ("pk = :v AND begins_with(sk, :w)", vec![(":v", s("a")), (":w", n(1))]),
        ] {
            let mut asked = query(ground).key_condition_expression(condition);
            for (name, value) in values {
                asked = asked.expression_attribute_values(name, value);
            }
            match code(&asked.send().await).as_str() {
                "ValidationException" => {}
                _ => taken.push(condition),
            }
        }
        let local = ["pk = :v OR sk = :v", "pk = :v AND sk <> :v", "pk = :v AND NOT sk = :v", "pk = :v AND contains(sk, :v)"];
        ground.expect(&taken, &vec![], Difference::Grammar, &local.to_vec());
        let asked = || query(ground).key_condition_expression("pk = :v").expression_attribute_values(":v", s("a"));
        assert_eq!(code(&asked().index_name("missing").send().await), "ValidationException");
        assert_eq!(code(&asked().limit(0).send().await), "ValidationException");
    });
}

/// An event as the index `by_time` sees it.
fn event(key: &str, shard: &str, millis: u64) -> Item {
    item([
        ("pk", s(format!("{key}{millis}"))),
        ("sk", s("event")),
        ("type", s("push")),
        ("body", s("not in the index")),
        ("by_time_pk", s(shard)),
        ("by_time_sk", s(format!("{millis:013}#id"))),
    ])
}

#[test]
fn an_index_has_the_items_that_have_its_keys_and_of_them_what_it_includes() {
    contract(async |ground| {
        let key = ground.key();
        let shard = format!("{key}#3");
        for millis in [3000, 1000, 2000] {
            ground.put(event(&key, &shard, millis)).await;
        }
        let mut without = event(&key, &shard, 4000);
        without.remove("by_time_sk");
        ground.put(without).await;
        let asked = || {
            let asked = query(ground).index_name("by_time").expression_attribute_values(":shard", s(&shard));
            asked.key_condition_expression("by_time_pk = :shard AND by_time_sk BETWEEN :from AND :to")
        };
        let between = |from: u64, to: u64| {
            let asked = asked().expression_attribute_values(":from", s(format!("{from:013}")));
            asked.expression_attribute_values(":to", s(format!("{to:013}")))
        };
        let times = async |from, to| {
            let found = between(from, to).send().await.unwrap();
            found.items().iter().map(|item| item["by_time_sk"].as_s().unwrap().clone()).collect::<Vec<_>>()
        };
        let expected = |millis: &[u64]| millis.iter().map(|millis| format!("{millis:013}#id")).collect::<Vec<_>>();
        eventually(expected(&[1000, 2000, 3000]), async || times(0, 9000).await).await;
        // The bound without an id comes before every event of its millisecond.
        assert_eq!(times(1000, 3000).await, expected(&[1000, 2000]));
        let mut found = between(1000, 2000).send().await.unwrap().items.unwrap();
        let mut whole = event(&key, &shard, 1000);
        whole.remove("body");
        assert_eq!(found.remove(0), whole, "the index has its keys, the table's, and what it includes");

        // It follows the table: updates and deletions take items out.
        let update =
            ground.dynamodb.update_item().table_name(&ground.table).key("pk", s(format!("{key}1000"))).key("sk", s("event"));
        update.update_expression("REMOVE by_time_pk, by_time_sk").send().await.unwrap();
        let delete =
            ground.dynamodb.delete_item().table_name(&ground.table).key("pk", s(format!("{key}2000"))).key("sk", s("event"));
        delete.send().await.unwrap();
        eventually(expected(&[3000]), async || times(0, 9000).await).await;

        assert_eq!(code(&between(0, 1).consistent_read(true).send().await), "ValidationException");
        let body = code(&between(0, 1).projection_expression("body").send().await);
        ground.expect(&body.as_str(), &"ValidationException", Difference::Unprojected, &"ok");
    });
}

#[test]
fn items_of_the_same_index_key_are_all_found_page_by_page() {
    contract(async |ground| {
        let key = ground.key();
        for number in 0..5 {
            let attributes = [
                ("pk", s(format!("{key}{number}"))),
                ("sk", s("delivery#ci")),
                ("attention_pk", s(&key)),
                ("attention_sk", s("0000000001000")),
                ("replay", n(number)),
            ];
            ground.put(item(attributes)).await;
        }
        let asked =
            || query(ground).index_name("attention").key_condition_expression("attention_pk = :pk AND attention_sk < :until");
        let asked =
            || asked().expression_attribute_values(":pk", s(&key)).expression_attribute_values(":until", s("0000000001001"));
        eventually(5, async || asked().select(Select::Count).send().await.unwrap().count).await;
        let mut pages = asked().limit(2).into_paginator().items().send();
        let mut seen = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.unwrap();
            // This index has keys alone.
            assert!(!item.contains_key("replay"));
            seen.push(item["pk"].as_s().unwrap().trim_start_matches(key.as_str()).to_owned());
        }
        seen.sort();
        assert_eq!(seen, ["0", "1", "2", "3", "4"]);
        let page = asked().limit(2).send().await.unwrap();
        let mut names: Vec<String> = page.last_evaluated_key.unwrap().into_keys().collect();
        names.sort();
        assert_eq!(names, ["attention_pk", "attention_sk", "pk", "sk"]);
    });
}
