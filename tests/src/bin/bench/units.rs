//! What DynamoDB bills for an item, by its documented rules, from the item as it was read back.
//!
//! Sizes: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>.
//! Units: <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html>.

use ::tests::stack::Item;
use aws_sdk_dynamodb::types::AttributeValue;

const WRITE_UNIT_BYTES: usize = 1024;
const READ_UNIT_BYTES: usize = 4096;

/// What a list or a map has beside its contents, and what each of its elements adds.
const CONTAINER_BYTES: usize = 3;
const ELEMENT_BYTES: usize = 1;

/// The attributes of an event that the index `by_time` has: its keys, the table's, and what the template projects.
const BY_TIME: [&str; 7] = ["by_time_pk", "by_time_sk", "pk", "sk", "type", "destinations", "expires_at"];

/// The size of an item, in bytes: every attribute's name and value.
pub(crate) fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

/// The size of an event in the index `by_time`, in bytes.
pub(crate) fn index_bytes(event: &Item) -> usize {
    item_bytes(&event.iter().filter(|(name, _)| BY_TIME.contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect())
}

/// The units of writing an item of that size, in a table or an index.
pub(crate) fn write_units(bytes: usize) -> usize {
    bytes.div_ceil(WRITE_UNIT_BYTES).max(1)
}

/// The units of a strongly consistent read of that size; one of nothing is billed as well.
pub(crate) fn read_units(bytes: usize) -> usize {
    bytes.div_ceil(READ_UNIT_BYTES).max(1)
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(number) => number_bytes(number),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::Bool(_) | AttributeValue::Null(_) => 1,
        AttributeValue::L(list) => {
            CONTAINER_BYTES + list.iter().map(|element| ELEMENT_BYTES + value_bytes(element)).sum::<usize>()
        }
        AttributeValue::M(map) => {
            let element = |(name, value): (&String, &AttributeValue)| ELEMENT_BYTES + name.len() + value_bytes(value);
            CONTAINER_BYTES + map.iter().map(element).sum::<usize>()
        }
        other => panic!("the ledger has no attribute like {other:?}"),
    }
}

/// One byte for every two significant digits, and one more; zeros at both ends do not count.
fn number_bytes(number: &str) -> usize {
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').len().div_ceil(2) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    #[test]
    fn sizes_are_names_and_values() {
        let item = |value: AttributeValue| item_bytes(&Item::from([("name".to_owned(), value)]));
        assert_eq!(item(string("Zürich")), 4 + 7);
        assert_eq!(item(AttributeValue::N("1767225600000".to_owned())), 4 + 5);
        assert_eq!(item(AttributeValue::N("0".to_owned())), 4 + 1);
        assert_eq!(item(AttributeValue::B(aws_smithy_types::Blob::new([0; 9]))), 4 + 9);
        assert_eq!(item(AttributeValue::Bool(true)), 4 + 1);
        assert_eq!(item(AttributeValue::L(vec![string("ci"), string("app")])), 4 + 3 + (1 + 2) + (1 + 3));
        assert_eq!(item(AttributeValue::M([("key".to_owned(), string("value"))].into())), 4 + 3 + (1 + 3 + 5));
    }

    #[test]
    fn units_are_whole_on_both_sides_of_their_bounds() {
        assert_eq!([0, 1, 1024, 1025].map(write_units), [1, 1, 1, 2]);
        assert_eq!([0, 4096, 4097].map(read_units), [1, 1, 2]);
    }

    #[test]
    fn the_index_has_no_body() {
        let event = [("pk", "a"), ("sk", "event"), ("type", "push"), ("body", "long"), ("headers", "long")];
        let event = event.map(|(name, value)| (name.to_owned(), string(value))).into();
        assert_eq!(index_bytes(&event), 2 + 1 + 2 + 5 + 4 + 4);
    }
}
