//! A table and its indexes: what they hold, and when an index has it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use shared::time::Timestamp;

use super::value::{Item, Value, item_size};

/// Largest item, in bytes.
pub(super) const ITEM_BYTES_MAX: usize = 400 * 1024;
/// What is said of a key that is not one of the table's.
pub(super) const WRONG_KEY: &str = "The provided key element does not match the schema";
/// Longest partition key, in bytes.
const HASH_BYTES_MAX: usize = 2048;
/// Longest sort key, in bytes.
const RANGE_BYTES_MAX: usize = 1024;

/// The keys of a table or of an index; all of them are texts, as Posthouse's are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The attribute with the partition key.
    pub hash: String,
    /// The attribute with the sort key.
    pub range: Option<String>,
}

impl Keys {
    /// Keys of these attributes.
    #[must_use]
    pub fn new(hash: &str, range: Option<&str>) -> Self {
        Self { hash: hash.to_owned(), range: range.map(str::to_owned) }
    }

    pub(super) fn attributes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.hash.as_str()).chain(self.range.as_deref())
    }
}

/// How a table is made.
#[derive(Clone, Debug)]
pub struct TableSettings {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub keys: Keys,
    /// Its global secondary indexes.
    pub indexes: Vec<IndexSettings>,
    /// The attribute that holds when an item expires, in seconds.
    pub ttl: Option<String>,
}

/// How an index is made.
#[derive(Clone, Debug)]
pub struct IndexSettings {
    /// Its name.
    pub name: String,
    /// Its keys.
    pub keys: Keys,
    /// What it has of an item besides all keys; `None`: everything.
    pub includes: Option<Vec<String>>,
}

impl IndexSettings {
    /// Whether the index has an attribute of its table's items.
    pub(super) fn has(&self, table: &Keys, attribute: &str) -> bool {
        let keys = || self.keys.attributes().chain(table.attributes());
        self.includes
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name == attribute) || keys().any(|key| key == attribute))
    }
}

/// Partition key and sort key; without a sort key that is empty, which no real one can be.
pub(super) type Key = (String, String);

/// Items in the order of some keys, as they were a while ago.
#[derive(Debug, Default)]
struct View {
    items: BTreeMap<Place, Arc<Item>>,
    /// Changes that do not show yet, the oldest first.
    pending: VecDeque<Pending>,
}

/// Where a view has an item: its keys there, then its keys in the table.
type Place = (String, String, String, String);

#[derive(Debug)]
struct Pending {
    due: Timestamp,
    leaves: Option<Place>,
    comes: Option<(Place, Arc<Item>)>,
}

impl View {
    fn change(&mut self, change: Pending, now: Timestamp) {
        if self.pending.is_empty() && change.due <= now {
            self.show(change);
        } else {
            // A change never shows before an earlier one.
            let due = self.pending.back().map_or(change.due, |last| last.due.max(change.due));
            self.pending.push_back(Pending { due, ..change });
        }
    }

    fn catch_up(&mut self, now: Timestamp) {
        while self.pending.front().is_some_and(|change| change.due <= now) {
            if let Some(change) = self.pending.pop_front() {
                self.show(change);
            }
        }
    }

    fn show(&mut self, change: Pending) {
        if let Some(place) = change.leaves {
            self.items.remove(&place);
        }
        if let Some((place, item)) = change.comes {
            self.items.insert(place, item);
        }
    }
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) settings: TableSettings,
    items: BTreeMap<Key, Arc<Item>>,
    /// What eventually consistent reads of the table see.
    stale: View,
    indexes: Vec<View>,
    /// How far one index lags, where it is not as the others.
    pub(super) index_lags: BTreeMap<String, Duration>,
}

/// An item where a query comes upon it.
pub(super) struct Found<'t> {
    pub(super) range: &'t str,
    pub(super) pk: &'t str,
    pub(super) sk: &'t str,
    pub(super) item: &'t Arc<Item>,
}

/// How far what is eventually consistent lags behind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lags {
    pub(super) reads: Duration,
    pub(super) indexes: Duration,
}

impl Table {
    pub(super) fn new(settings: TableSettings) -> Self {
        let indexes = settings.indexes.iter().map(|_| View::default()).collect();
        Self { settings, items: BTreeMap::new(), stale: View::default(), indexes, index_lags: BTreeMap::new() }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Item>> {
        self.items.get(key)
    }

    /// The item as an eventually consistent read sees it.
    pub(super) fn get_stale(&mut self, key: &Key, now: Timestamp) -> Option<&Arc<Item>> {
        self.stale.catch_up(now);
        self.stale.items.get(&table_place(key))
    }

    pub(super) fn items(&self) -> impl Iterator<Item = (&Key, &Arc<Item>)> {
        self.items.iter()
    }

    /// Writes an item, or removes it.
    pub(super) fn write(&mut self, key: Key, item: Option<Item>, now: Timestamp, lags: Lags) {
        let item = item.map(Arc::new);
        let before = self.items.get(&key).cloned();
        for (view, index) in self.indexes.iter_mut().zip(&self.settings.indexes) {
            let leaves = before.as_ref().and_then(|item| index_place(index, &key, item));
            let comes = item.as_ref().and_then(|item| Some((index_place(index, &key, item)?, item.clone())));
            if leaves.is_some() || comes.is_some() {
                let lag = self.index_lags.get(&index.name).copied().unwrap_or(lags.indexes);
                view.change(Pending { due: now.plus(lag), leaves, comes }, now);
            }
        }
        let place = table_place(&key);
        let comes = item.clone().map(|item| (place.clone(), item));
        self.stale.catch_up(now);
        self.stale.change(Pending { due: now.plus(lags.reads), leaves: Some(place), comes }, now);
        match item {
            Some(item) => self.items.insert(key, item),
            None => self.items.remove(&key),
        };
    }

    /// The items of a partition whose sort keys are from `from` up to and without `to`, in their order.
    pub(super) fn partition<'t>(
        &'t mut self,
        index: Option<usize>,
        consistent: bool,
        (hash, from, to): (&str, &str, Option<&str>),
        now: Timestamp,
    ) -> Box<dyn DoubleEndedIterator<Item = Found<'t>> + 't> {
        // The first text after `hash`, where its partition ends.
        let end = to.map_or_else(|| (format!("{hash}\0"), String::new()), |to| (hash.to_owned(), to.to_owned()));
        let start = (hash.to_owned(), from.to_owned());
        if start >= end {
            return Box::new(std::iter::empty());
        }
        if index.is_none() && consistent {
            let found = self.items.range(start..end);
            return Box::new(found.map(|((pk, sk), item)| Found { range: sk, pk, sk, item }));
        }
        let view = match index {
            Some(index) => &mut self.indexes[index],
            None => &mut self.stale,
        };
        view.catch_up(now);
        let place = |(hash, range)| (hash, range, String::new(), String::new());
        let found = view.items.range(place(start)..place(end));
        Box::new(found.map(|((_, range, pk, sk), item)| Found { range, pk, sk, item }))
    }

    /// The key of an item, if its key attributes are as they must be.
    pub(super) fn key_of(&self, item: &Item) -> Result<Key, String> {
        let keys = &self.settings.keys;
        let hash = key_text(item, &keys.hash, HASH_BYTES_MAX)?;
        let range = keys.range.as_ref().map(|name| key_text(item, name, RANGE_BYTES_MAX)).transpose()?;
        Ok((hash, range.unwrap_or_default()))
    }

    /// The key that a request names: all key attributes and nothing else.
    pub(super) fn key_given(&self, key: &Item) -> Result<Key, String> {
        let keys = &self.settings.keys;
        if key.len() != keys.attributes().count() || keys.attributes().any(|name| !key.contains_key(name)) {
            return Err(WRONG_KEY.to_owned());
        }
        if keys.attributes().any(|name| !matches!(key.get(name), Some(Value::S(_)))) {
            return Err(WRONG_KEY.to_owned());
        }
        self.key_of(key)
    }

    /// What must hold of an item that is written.
    pub(super) fn check(&self, item: &Item, too_large: &str) -> Result<(), String> {
        for index in &self.settings.indexes {
            for (name, bytes_max) in [(Some(&index.keys.hash), HASH_BYTES_MAX), (index.keys.range.as_ref(), RANGE_BYTES_MAX)] {
                let Some((name, value)) = name.and_then(|name| Some((name, item.get(name)?))) else { continue };
                check_index_key(&index.name, name, value, bytes_max)?;
            }
        }
        if item_size(item) > ITEM_BYTES_MAX { Err(too_large.to_owned()) } else { Ok(()) }
    }
}

fn key_text(item: &Item, name: &str, bytes_max: usize) -> Result<String, String> {
    match item.get(name) {
        Some(Value::S(text)) if text.is_empty() => Err(format!(
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. \
             Key: {name}"
        )),
        Some(Value::S(text)) if text.len() > bytes_max => Err(format!(
            "One or more parameter values were invalid: Size of {} has exceeded the maximum size limit of {bytes_max} bytes",
            if bytes_max == HASH_BYTES_MAX { "hashkey" } else { "rangekey" }
        )),
        Some(Value::S(text)) => Ok(text.clone()),
        Some(other) => Err(format!(
            "One or more parameter values were invalid: Type mismatch for key {name} expected: S actual: {}",
            other.kind()
        )),
        None => Err(format!("One or more parameter values were invalid: Missing the key {name} in the item")),
    }
}

fn check_index_key(index: &str, name: &str, value: &Value, bytes_max: usize) -> Result<(), String> {
    match value {
        Value::S(text) if text.is_empty() => Err(format!(
            "One or more parameter values are not valid. A value specified for a secondary index key is not supported. The \
             AttributeValue for a key attribute cannot contain an empty string value. IndexName: {index}, IndexKey: {name}"
        )),
        Value::S(text) if text.len() > bytes_max => Err(format!(
            "One or more parameter values were invalid: Size of the key {name} of the index {index} exceeds {bytes_max} bytes"
        )),
        Value::S(_) => Ok(()),
        other => Err(format!(
            "One or more parameter values were invalid: Type mismatch for Index Key {name} Expected: S Actual: {} IndexName: {index}",
            other.kind()
        )),
    }
}

fn table_place((pk, sk): &Key) -> Place {
    (pk.clone(), sk.clone(), String::new(), String::new())
}

/// Where an index has an item; `None` where it lacks one of the index's keys.
fn index_place(index: &IndexSettings, (pk, sk): &Key, item: &Item) -> Option<Place> {
    let hash = item.get(&index.keys.hash)?.text()?;
    let range = match &index.keys.range {
        Some(range) => item.get(range)?.text()?,
        None => "",
    };
    Some((hash.to_owned(), range.to_owned(), pk.clone(), sk.clone()))
}
