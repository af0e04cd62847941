//! Reading and writing DynamoDB attributes.

use std::collections::HashMap;

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};

use crate::time::Timestamp;

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn string(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn millis(moment: Timestamp) -> AttributeValue {
    number(moment.millis())
}

pub(super) fn seconds(moment: Timestamp) -> AttributeValue {
    number(moment.seconds())
}

pub(super) fn binary(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// A projection to these attributes, and the names in it: some of ours are words of DynamoDB's own.
pub(super) fn projection(attributes: &[&str]) -> (String, HashMap<String, String>) {
    let names: Vec<String> = attributes.iter().map(|name| format!("#{name}")).collect();
    (names.join(", "), names.into_iter().zip(attributes.iter().map(|name| (*name).to_owned())).collect())
}

pub(super) fn read_string<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

pub(super) fn read_number(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

pub(super) fn read_millis(item: &Item, name: &str) -> Option<Timestamp> {
    read_number(item, name).map(Timestamp::from_millis)
}

pub(super) fn read_binary<'a>(item: &'a Item, name: &str) -> Option<&'a [u8]> {
    item.get(name)?.as_b().ok().map(Blob::as_ref)
}

pub(super) fn read_strings<'a>(item: &'a Item, name: &str) -> Option<Vec<&'a str>> {
    item.get(name)?.as_l().ok()?.iter().map(|value| value.as_s().ok().map(String::as_str)).collect()
}
