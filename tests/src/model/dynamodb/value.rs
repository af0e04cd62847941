//! Attribute values, as they are kept and as they are on the wire.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};

use super::number::Number;

/// The attributes of an item, by name.
pub type Item = BTreeMap<String, Value>;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    S(String),
    /// A number.
    N(Number),
    /// Bytes.
    B(Vec<u8>),
    /// True or false.
    Bool(bool),
    /// Known to be nothing.
    Null,
    /// A list.
    L(Vec<Value>),
    /// A map.
    M(Item),
    /// A set of texts.
    Ss(BTreeSet<String>),
    /// A set of numbers.
    Ns(BTreeSet<Number>),
    /// A set of bytes.
    Bs(BTreeSet<Vec<u8>>),
}

impl Value {
    /// The text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Self::S(text) = self { Some(text) } else { None }
    }

    /// The number, if it is a whole one.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        if let Self::N(number) = self { number.to_u64() } else { None }
    }

    /// The name of its type on the wire and in errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::S(_) => "S",
            Self::N(_) => "N",
            Self::B(_) => "B",
            Self::Bool(_) => "BOOL",
            Self::Null => "NULL",
            Self::L(_) => "L",
            Self::M(_) => "M",
            Self::Ss(_) => "SS",
            Self::Ns(_) => "NS",
            Self::Bs(_) => "BS",
        }
    }

    /// What it counts for in an item's size, as DynamoDB documents item sizes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::S(text) => text.len(),
            Self::N(number) => number.size(),
            Self::B(bytes) => bytes.len(),
            Self::Bool(_) | Self::Null => 1,
            Self::L(values) => 3 + values.iter().map(|value| 1 + value.size()).sum::<usize>(),
            Self::M(values) => 3 + values.len() + item_size(values),
            Self::Ss(texts) => texts.iter().map(String::len).sum(),
            Self::Ns(numbers) => numbers.iter().map(|number| number.size()).sum(),
            Self::Bs(all) => all.iter().map(Vec::len).sum(),
        }
    }
}

/// The size of an item: its names and its values.
pub(super) fn item_size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value.size()).sum()
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        let kind = self.kind();
        match self {
            Self::S(text) => map.serialize_entry(kind, text)?,
            Self::N(number) => map.serialize_entry(kind, &number.to_string())?,
            Self::B(bytes) => map.serialize_entry(kind, &BASE64.encode(bytes))?,
            Self::Bool(value) => map.serialize_entry(kind, value)?,
            Self::Null => map.serialize_entry(kind, &true)?,
            Self::L(values) => map.serialize_entry(kind, values)?,
            Self::M(values) => map.serialize_entry(kind, values)?,
            Self::Ss(texts) => map.serialize_entry(kind, texts)?,
            Self::Ns(numbers) => map.serialize_entry(kind, &numbers.iter().map(Number::to_string).collect::<Vec<_>>())?,
            Self::Bs(all) => map.serialize_entry(kind, &all.iter().map(|bytes| BASE64.encode(bytes)).collect::<Vec<_>>())?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneEntry;

        impl<'de> Visitor<'de> for OneEntry {
            type Value = Value;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of one entry, named by its type")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let Some(kind) = map.next_key::<String>()? else {
                    return Err(de::Error::custom(
                        "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
                    ));
                };
                let value = match kind.as_str() {
                    "S" => Value::S(map.next_value()?),
                    "N" => Value::N(map.next_value::<String>()?.parse().map_err(de::Error::custom)?),
                    "B" => Value::B(BASE64.decode(map.next_value::<String>()?).map_err(de::Error::custom)?),
                    "BOOL" => Value::Bool(map.next_value()?),
                    "NULL" => {
                        map.next_value::<bool>()?;
                        Value::Null
                    }
                    "L" => Value::L(map.next_value()?),
                    "M" => Value::M(map.next_value()?),
                    "SS" => Value::Ss(set("string", map.next_value::<Vec<String>>()?, |text| Ok(text.clone()))?),
                    "NS" => Value::Ns(set("number", map.next_value::<Vec<String>>()?, |text| text.parse())?),
                    "BS" => Value::Bs(set("binary", map.next_value::<Vec<String>>()?, |text| {
                        BASE64.decode(text).map_err(|error| error.to_string())
                    })?),
                    other => return Err(de::Error::custom(format!("there is no type {other}"))),
                };
                match map.next_key::<String>()? {
                    None => Ok(value),
                    Some(_) => Err(de::Error::custom(
                        "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes",
                    )),
                }
            }
        }

        deserializer.deserialize_map(OneEntry)
    }
}

/// A set has at least one member, and each only once.
fn set<T: Ord, E: de::Error>(
    kind: &str,
    texts: Vec<String>,
    parse: impl Fn(&String) -> Result<T, String>,
) -> Result<BTreeSet<T>, E> {
    let invalid = |what: String| E::custom(format!("One or more parameter values were invalid: {what}"));
    if texts.is_empty() {
        return Err(invalid(format!("An {kind} set  may not be empty")));
    }
    let members = texts.iter().map(parse).collect::<Result<BTreeSet<T>, _>>().map_err(E::custom)?;
    if members.len() < texts.len() {
        return Err(invalid(format!("Input collection [{}] contains duplicates.", texts.join(", "))));
    }
    Ok(members)
}
