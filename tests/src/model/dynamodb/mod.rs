//! DynamoDB: JSON 1.0 requests to answers, over tables in memory.
//!
//! <https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/Welcome.html>. What is not modelled panics by its name: an
//! operation, and any member of a request that would change what the operation means.

mod expression;
mod number;
mod table;
mod value;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use shared::time::Timestamp;

pub use number::Number;
pub use table::{IndexSettings, Keys, TableSettings};
pub use value::{Item, Value};

use self::{
    expression::{Comparator, Condition, Given, Operand, Update},
    table::{Key, Lags, Table, WRONG_KEY},
    value::item_size,
};
use super::http::{Answer, Fault};

/// Most keys of one BatchGetItem.
const BATCH_GET_KEYS_MAX: usize = 100;
/// Most actions of one TransactWriteItems.
const TRANSACTION_ACTIONS_MAX: usize = 100;
/// Largest page of a query, in bytes.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Most that one BatchGetItem answers, in bytes.
const BATCH_GET_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a transaction's token is remembered, in seconds.
const TOKEN_SECONDS: u64 = 10 * 60;

type Names = BTreeMap<String, String>;
type Values = BTreeMap<String, Value>;

/// All tables of the account.
#[derive(Debug)]
pub(super) struct DynamoDb {
    tables: BTreeMap<String, Table>,
    /// Tokens of transactions: until when they are known, and what they were for.
    tokens: BTreeMap<String, (Timestamp, Vec<BTreeMap<String, Write>>)>,
    lags: Lags,
}

impl DynamoDb {
    pub(super) fn new(tables: Vec<TableSettings>, read_lag: Duration, index_lag: Duration) -> Self {
        let tables = tables.into_iter().map(|settings| (settings.name.clone(), Table::new(settings))).collect();
        Self { tables, tokens: BTreeMap::new(), lags: Lags { reads: read_lag, indexes: index_lag } }
    }

    pub(super) fn lag(&mut self, reads: Duration, indexes: Duration) {
        self.lags = Lags { reads, indexes };
    }

    pub(super) fn lag_index(&mut self, table: &str, index: &str, lag: Duration) {
        let table = self.tables.get_mut(table).unwrap_or_else(|| panic!("the model has no table {table}"));
        assert!(table.settings.indexes.iter().any(|known| known.name == index), "the model has no index {index}");
        table.index_lags.insert(index.to_owned(), lag);
    }

    /// Handles a request. `left_out` says which keys of a BatchGetItem are left unprocessed.
    pub(super) fn handle(&mut self, operation: &str, body: &[u8], left_out: u64, now: Timestamp) -> Answer {
        let answer = match operation {
            "PutItem" => self.put_item(body, now),
            "GetItem" => self.get_item(body, now),
            "UpdateItem" => self.update_item(body, now),
            "DeleteItem" => self.delete_item(body, now),
            "Query" => self.query(body, now),
            "BatchGetItem" => self.batch_get_item(body, left_out, now),
            "TransactWriteItems" => self.transact_write_items(body, now),
            other => panic!("the model has no DynamoDB operation {other}"),
        };
        match answer {
            Ok(json) => Answer::json(200, json),
            Err(refusal) => refusal.answer(),
        }
    }

    // ---- The world's own side

    pub(super) fn all(&self, table: &str) -> impl Iterator<Item = &Arc<Item>> {
        self.known(table).items().map(|(_, item)| item)
    }

    pub(super) fn one(&self, table: &str, pk: &str, sk: &str) -> Option<Arc<Item>> {
        self.known(table).get(&(pk.to_owned(), sk.to_owned())).cloned()
    }

    pub(super) fn put(&mut self, table: &str, item: Item, now: Timestamp) {
        let lags = self.lags;
        let table = self.known_mut(table);
        let key = table.key_of(&item).unwrap_or_else(|why| panic!("{why}"));
        table.write(key, Some(item), now, lags);
    }

    pub(super) fn remove(&mut self, table: &str, pk: &str, sk: &str, now: Timestamp) -> bool {
        let lags = self.lags;
        let key = (pk.to_owned(), sk.to_owned());
        let table = self.known_mut(table);
        let was_there = table.get(&key).is_some();
        table.write(key, None, now, lags);
        was_there
    }

    /// Removes what has expired, as TTL does at some time.
    pub(super) fn expire(&mut self, table: &str, now: Timestamp) -> usize {
        let known = self.known(table);
        let Some(attribute) = &known.settings.ttl else { return 0 };
        let has_expired = |item: &Item| item.get(attribute).and_then(Value::number).is_some_and(|at| at < now.seconds());
        let expired: Vec<Key> = known.items().filter(|(_, item)| has_expired(item)).map(|(key, _)| key.clone()).collect();
        for (pk, sk) in &expired {
            self.remove(table, pk, sk, now);
        }
        expired.len()
    }

    fn known(&self, name: &str) -> &Table {
        self.tables.get(name).unwrap_or_else(|| panic!("the model has no table {name}"))
    }

    fn known_mut(&mut self, name: &str) -> &mut Table {
        self.tables.get_mut(name).unwrap_or_else(|| panic!("the model has no table {name}"))
    }

    // ---- Operations

    fn table(&mut self, name: &str) -> Result<&mut Table, Refusal> {
        self.tables.get_mut(name).ok_or(Refusal::NoTable)
    }

    fn put_item(&mut self, body: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let request: Write = read(body)?;
        let before = self.write(&request, Kind::Put, now)?;
        let old = request.return_values.is("ALL_OLD").then_some(before).flatten();
        Ok(json(&Attributes { attributes: old.as_deref() }))
    }

    fn delete_item(&mut self, body: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let request: Write = read(body)?;
        let before = self.write(&request, Kind::Delete, now)?;
        let old = request.return_values.is("ALL_OLD").then_some(before).flatten();
        Ok(json(&Attributes { attributes: old.as_deref() }))
    }

    fn update_item(&mut self, body: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let request: Write = read(body)?;
        let before = self.write(&request, Kind::Update, now)?;
        let table = self.table(&request.table_name)?;
        let key = table.key_given(request.key.as_ref().unwrap_or(&Item::new()))?;
        let after = table.get(&key).cloned();
        let given = Given::new(&request.names, &request.values);
        let update = request.update_expression.as_deref().map(|text| expression::update(text, &given)).transpose()?;
        let part = |item: Option<Arc<Item>>| update.as_ref().zip(item).map(|(update, item)| Arc::new(update.shown_of(&item)));
        let shown = match request.return_values.0.as_str() {
            "ALL_OLD" => before,
            "ALL_NEW" => after,
            "UPDATED_OLD" => part(before).filter(|item| !item.is_empty()),
            "UPDATED_NEW" => part(after).filter(|item| !item.is_empty()),
            _ => None,
        };
        Ok(json(&Attributes { attributes: shown.as_deref() }))
    }

    /// One write by itself; gives back the item as it was before.
    fn write(&mut self, write: &Write, kind: Kind, now: Timestamp) -> Result<Option<Arc<Item>>, Refusal> {
        let lags = self.lags;
        let table = self.table(&write.table_name)?;
        let given = Given::new(&write.names, &write.values);
        let prepared = write.prepare(table, kind, &given)?;
        let before = table.get(&prepared.key).cloned();
        match prepared.outcome(table, before.as_deref()) {
            Ok(Change::Write(after)) => table.write(prepared.key, after, now, lags),
            Ok(Change::Nothing) => {}
            Err(Failed::Condition) => return Err(Refusal::Condition(write.shown_on_failure(before))),
            Err(Failed::Invalid(why)) => return Err(Refusal::Validation(why)),
        }
        Ok(before)
    }

    fn get_item(&mut self, body: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let request: Get = read(body)?;
        let table = self.table(&request.table_name)?;
        let given = Given::new(&request.names, &NO_VALUES);
        let projection = request.projection_expression.as_deref().map(|text| expression::projection(text, &given)).transpose()?;
        given.all_used()?;
        let key = table.key_given(&request.key)?;
        let found = if request.consistent_read { table.get(&key) } else { table.get_stale(&key, now) };
        let shown = found.map(|item| match &projection {
            Some(paths) => Arc::new(expression::project(item, paths)),
            None => item.clone(),
        });
        Ok(json(&OneItem { item: shown.as_deref() }))
    }

    fn batch_get_item(&mut self, body: &[u8], left_out: u64, now: Timestamp) -> Result<String, Refusal> {
        let request: BatchGet = read(body)?;
        let all = request.request_items.values().map(|of_table| of_table.keys.len()).sum::<usize>();
        if all > BATCH_GET_KEYS_MAX {
            return Err(Refusal::Validation("Too many items requested for the BatchGetItem call".to_owned()));
        }
        if all == 0 {
            return Err(Refusal::Validation("The requestItems parameter is required for BatchGetItem".to_owned()));
        }
        let mut number = 0;
        let mut bytes = 0;
        let mut answer = BatchGetAnswer::default();
        for (name, of_table) in request.request_items {
            let table = self.table(&name)?;
            let given = Given::new(&of_table.names, &NO_VALUES);
            let paths = of_table.projection_expression.as_deref().map(|text| expression::projection(text, &given)).transpose()?;
            given.all_used()?;
            let keys = of_table.keys.iter().map(|key| table.key_given(key)).collect::<Result<Vec<_>, _>>()?;
            if keys.iter().collect::<BTreeSet<_>>().len() < keys.len() {
                return Err(Refusal::Validation("Provided list of item keys contains duplicates".to_owned()));
            }
            let found = answer.responses.entry(name.clone()).or_default();
            let mut left = Vec::new();
            for (key, given) in keys.iter().zip(&of_table.keys) {
                let is_left = number < 64 && left_out >> number & 1 == 1;
                number += 1;
                let item = if of_table.consistent_read { table.get(key) } else { table.get_stale(key, now) };
                let size = item.map_or(0, |item| item_size(item));
                if is_left || bytes + size > BATCH_GET_BYTES_MAX {
                    left.push(given.clone());
                    continue;
                }
                bytes += size;
                found.extend(item.map(|item| match &paths {
                    Some(paths) => Arc::new(expression::project(item, paths)),
                    None => item.clone(),
                }));
            }
            if !left.is_empty() {
                let rest = KeysOfTable { keys: left, ..of_table.clone() };
                answer.unprocessed.insert(name, rest);
            }
        }
        Ok(json(&answer))
    }

    fn query(&mut self, body: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let request: Query = read(body)?;
        let table = self.table(&request.table_name)?;
        let settings = table.settings.clone();
        let index = match &request.index_name {
            None => None,
            Some(name) => Some(
                settings
                    .indexes
                    .iter()
                    .position(|index| index.name == *name)
                    .ok_or_else(|| Refusal::Validation(format!("The table does not have the specified index: {name}")))?,
            ),
        };
        let keys = index.map_or(&settings.keys, |index| &settings.indexes[index].keys);
        if index.is_some() && request.consistent_read {
            return Err(Refusal::Validation("Consistent reads are not supported on global secondary indexes".to_owned()));
        }
        if request.limit.is_some_and(|limit| limit < 1) {
            return Err(Refusal::Validation(
                "1 validation error detected: Value at 'limit' failed to satisfy constraint".to_owned(),
            ));
        }
        let given = Given::new(&request.names, &request.values);
        let Some(text) = request.key_condition_expression.as_deref() else {
            return Err(Refusal::Validation(
                "Either the KeyConditions or KeyConditionExpression parameter must be specified".to_owned(),
            ));
        };
        let condition = expression::condition("KeyConditionExpression", text, &given)?;
        let sought = Sought::read(&condition, keys)?;
        let filter = match request.filter_expression.as_deref() {
            Some(text) => Some(expression::condition("FilterExpression", text, &given)?),
            None => None,
        };
        let paths = request.projection_expression.as_deref().map(|text| expression::projection(text, &given)).transpose()?;
        given.all_used()?;
        if let (Some(index), Some(paths)) = (index.map(|index| &settings.indexes[index]), &paths)
            && let Some(path) = paths.iter().find(|path| !index.has(&settings.keys, path.root()))
        {
            let (name, attribute) = (&index.name, path.root());
            return Err(Refusal::Validation(format!(
                "One or more parameter values were invalid: Global secondary index {name} does not project [{attribute}]"
            )));
        }
        let start = request.exclusive_start_key.as_ref().map(|start| Start::read(start, &settings, keys)).transpose()?;
        let bounds = (sought.hash.as_str(), sought.from(), sought.to());
        let bounds = (bounds.0, bounds.1.as_str(), bounds.2.as_deref());
        let found = table.partition(index, request.consistent_read, bounds, now);
        let found: Box<dyn Iterator<Item = _>> = if request.scan_index_forward { found } else { Box::new(found.rev()) };
        let mut page = Page::default();
        for found in found.filter(|found| sought.means(found.range)) {
            if start.as_ref().is_some_and(|start| !start.comes_before(&found, request.scan_index_forward)) {
                continue;
            }
            let shown: Arc<Item> = match index.map(|index| &settings.indexes[index]) {
                Some(index) if index.includes.is_some() => {
                    let has = |(name, _): &(&String, &Value)| index.has(&settings.keys, name);
                    Arc::new(found.item.iter().filter(has).map(|(name, value)| (name.clone(), value.clone())).collect())
                }
                _ => found.item.clone(),
            };
            page.scanned += 1;
            page.bytes += item_size(&shown);
            let is_full = request.limit.is_some_and(|limit| page.scanned >= limit) || page.bytes > PAGE_BYTES_MAX;
            if is_full {
                let names = settings.keys.attributes().chain(keys.attributes());
                page.last = Some(names.filter_map(|name| Some((name.to_owned(), found.item.get(name)?.clone()))).collect());
            }
            if filter.as_ref().is_none_or(|filter| filter.holds(&shown)) {
                page.count += 1;
                if request.select.as_deref() != Some("COUNT") {
                    page.items.push(match &paths {
                        Some(paths) => Arc::new(expression::project(&shown, paths)),
                        None => shown,
                    });
                }
            }
            if is_full {
                break;
            }
        }
        Ok(json(&QueryAnswer {
            items: (request.select.as_deref() != Some("COUNT")).then_some(&page.items),
            count: page.count,
            scanned_count: page.scanned,
            last_evaluated_key: page.last.as_ref(),
        }))
    }

    fn transact_write_items(&mut self, body: &[u8], now: Timestamp) -> Result<String, Refusal> {
        let request: Transaction = read(body)?;
        let actions = request.transact_items.iter().map(Action::read).collect::<Result<Vec<_>, _>>()?;
        if actions.is_empty() || actions.len() > TRANSACTION_ACTIONS_MAX {
            return Err(Refusal::Validation(
                "1 validation error detected: Value at 'transactItems' failed to satisfy constraint: Member must have length less than \
                 or equal to 100"
                    .to_owned(),
            ));
        }
        self.tokens.retain(|_, (until, _)| now < *until);
        if let Some(token) = &request.client_request_token {
            match self.tokens.get(token) {
                Some((_, known)) if *known == request.transact_items => return Ok("{}".to_owned()),
                Some(_) => return Err(Refusal::TokenReused),
                None => {}
            }
        }
        let changes = self.plan(&actions)?;
        let lags = self.lags;
        for (name, key, change) in changes {
            if let Change::Write(after) = change {
                self.table(&name)?.write(key, after, now, lags);
            }
        }
        if let Some(token) = request.client_request_token {
            self.tokens.insert(token, (now.plus(Duration::from_secs(TOKEN_SECONDS)), request.transact_items));
        }
        Ok("{}".to_owned())
    }

    /// What a transaction changes, or why it is cancelled.
    fn plan(&mut self, actions: &[Action<'_>]) -> Result<Vec<(String, Key, Change)>, Refusal> {
        let mut reasons = Vec::new();
        let mut changes = Vec::new();
        let mut touched = BTreeSet::new();
        for action in actions {
            let table = self.table(&action.write.table_name)?;
            let given = Given::new(&action.write.names, &action.write.values);
            let prepared = match action.write.prepare(table, action.kind, &given) {
                // A key of a wrong type cancels the transaction; whatever else is wrong with a request makes it invalid.
                Err(Refusal::Validation(why)) if why.contains("Type mismatch for") || why == WRONG_KEY => {
                    reasons.push(Reason { code: "ValidationError", message: Some(why), item: None });
                    continue;
                }
                prepared => prepared?,
            };
            if !touched.insert((&action.write.table_name, prepared.key.clone())) {
                return Err(Refusal::Validation("Transaction request cannot include multiple operations on one item".to_owned()));
            }
            let before = table.get(&prepared.key).cloned();
            match prepared.outcome(table, before.as_deref()) {
                Ok(change) => {
                    reasons.push(Reason::none());
                    changes.push((action.write.table_name.clone(), prepared.key, change));
                }
                Err(Failed::Condition) => {
                    reasons.push(Reason {
                        code: "ConditionalCheckFailed",
                        message: Some("The conditional request failed".to_owned()),
                        item: action.write.shown_on_failure(before),
                    });
                }
                Err(Failed::Invalid(why)) => reasons.push(Reason { code: "ValidationError", message: Some(why), item: None }),
            }
        }
        if reasons.iter().any(|reason| reason.code != "None") { Err(Refusal::Cancelled(reasons)) } else { Ok(changes) }
    }
}

/// A transaction's answer when another one has its items.
pub(super) fn conflict(body: &[u8]) -> Answer {
    let count = read::<Transaction>(body).map_or(1, |request| request.transact_items.len());
    let conflict =
        |_| Reason { code: "TransactionConflict", message: Some("Transaction is ongoing for the item".to_owned()), item: None };
    Refusal::Cancelled((0..count).map(conflict).collect()).answer()
}

// ---- Requests ------------------------------------------------------------------------------------------------------------

static NO_VALUES: Values = Values::new();

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
struct ReturnValues(String);

impl ReturnValues {
    fn is(&self, name: &str) -> bool {
        self.0 == name
    }
}

/// A write of any kind: by itself or in a transaction.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Write {
    table_name: String,
    item: Option<Item>,
    key: Option<Item>,
    condition_expression: Option<String>,
    update_expression: Option<String>,
    #[serde(default, rename = "ExpressionAttributeNames")]
    names: Names,
    #[serde(default, rename = "ExpressionAttributeValues")]
    values: Values,
    #[serde(default)]
    return_values: ReturnValues,
    #[serde(default)]
    return_values_on_condition_check_failure: ReturnValues,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Update,
    Delete,
    Check,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Get {
    table_name: String,
    key: Item,
    #[serde(default)]
    consistent_read: bool,
    projection_expression: Option<String>,
    #[serde(default, rename = "ExpressionAttributeNames")]
    names: Names,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct BatchGet {
    request_items: BTreeMap<String, KeysOfTable>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct KeysOfTable {
    keys: Vec<Item>,
    #[serde(default)]
    consistent_read: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    projection_expression: Option<String>,
    #[serde(default, rename = "ExpressionAttributeNames", skip_serializing_if = "BTreeMap::is_empty")]
    names: Names,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Query {
    table_name: String,
    index_name: Option<String>,
    key_condition_expression: Option<String>,
    filter_expression: Option<String>,
    projection_expression: Option<String>,
    #[serde(default, rename = "ExpressionAttributeNames")]
    names: Names,
    #[serde(default, rename = "ExpressionAttributeValues")]
    values: Values,
    #[serde(default)]
    consistent_read: bool,
    #[serde(default = "forward")]
    scan_index_forward: bool,
    limit: Option<usize>,
    exclusive_start_key: Option<Item>,
    select: Option<String>,
}

fn forward() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Transaction {
    transact_items: Vec<BTreeMap<String, Write>>,
    client_request_token: Option<String>,
}

struct Action<'r> {
    kind: Kind,
    write: &'r Write,
}

impl<'r> Action<'r> {
    fn read(action: &'r BTreeMap<String, Write>) -> Result<Self, Refusal> {
        let one = || Refusal::Validation("TransactItems can only contain one of Check, Put, Update or Delete".to_owned());
        let (name, write) = action.first_key_value().filter(|_| action.len() == 1).ok_or_else(one)?;
        let kind = match name.as_str() {
            "Put" => Kind::Put,
            "Update" => Kind::Update,
            "Delete" => Kind::Delete,
            "ConditionCheck" => Kind::Check,
            _ => return Err(one()),
        };
        Ok(Self { kind, write })
    }
}

fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let message = error.to_string();
        assert!(!message.contains("unknown field"), "the model does not know a member of this request: {message}");
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        Refusal::Validation(message.to_owned())
    })
}

// ---- Writes --------------------------------------------------------------------------------------------------------------

/// A write whose request is right by itself.
struct Prepared<'w> {
    kind: Kind,
    key: Key,
    item: Option<&'w Item>,
    given_key: Option<&'w Item>,
    condition: Option<Condition<'w>>,
    update: Option<Update<'w>>,
}

enum Change {
    /// What the item is afterwards; `None`: it is no more.
    Write(Option<Item>),
    Nothing,
}

enum Failed {
    Condition,
    Invalid(String),
}

impl Write {
    fn prepare<'w>(&'w self, table: &Table, kind: Kind, given: &'w Given<'w>) -> Result<Prepared<'w>, Refusal> {
        let missing =
            |what: &str| Refusal::Validation(format!("The {what} parameter is required but was not present in the request"));
        if kind == Kind::Check && self.condition_expression.is_none() {
            return Err(missing("ConditionExpression"));
        }
        if self.condition_expression.is_none() && self.update_expression.is_none() && self.names.len() + self.values.len() > 0 {
            return Err(Refusal::Validation(
                "ExpressionAttributeNames and ExpressionAttributeValues can only be specified when using expressions".to_owned(),
            ));
        }
        let update = match (&self.update_expression, kind) {
            (Some(text), Kind::Update) => Some(expression::update(text, given)?),
            (Some(_), _) => panic!("the model knows UpdateExpression only in an update"),
            (None, _) => None,
        };
        let condition = match &self.condition_expression {
            Some(text) => Some(expression::condition("ConditionExpression", text, given)?),
            None => None,
        };
        given.all_used()?;
        let key = match (kind, &self.item, &self.key) {
            (Kind::Put, Some(item), None) => {
                let key = table.key_of(item)?;
                table.check(item, "Item size has exceeded the maximum allowed size")?;
                key
            }
            (Kind::Put, ..) => return Err(missing("Item")),
            (_, None, Some(key)) => table.key_given(key)?,
            _ => return Err(missing("Key")),
        };
        if let Some(name) = update
            .as_ref()
            .and_then(|update| update.roots().find(|root| table.settings.keys.attributes().any(|key| key == *root)))
        {
            return Err(Refusal::Validation(format!(
                "One or more parameter values were invalid: Cannot update attribute {name}. This attribute is part of the key"
            )));
        }
        Ok(Prepared { kind, key, item: self.item.as_ref(), given_key: self.key.as_ref(), condition, update })
    }

    fn shown_on_failure(&self, before: Option<Arc<Item>>) -> Option<Arc<Item>> {
        self.return_values_on_condition_check_failure.is("ALL_OLD").then_some(before).flatten()
    }
}

impl Prepared<'_> {
    /// What it does to the item as it is.
    fn outcome(&self, table: &Table, before: Option<&Item>) -> Result<Change, Failed> {
        let nothing = Item::new();
        let found = before.unwrap_or(&nothing);
        if self.condition.as_ref().is_some_and(|condition| !condition.holds(found)) {
            return Err(Failed::Condition);
        }
        match self.kind {
            Kind::Check => Ok(Change::Nothing),
            Kind::Delete => Ok(Change::Write(None)),
            Kind::Put => Ok(Change::Write(self.item.cloned())),
            Kind::Update => {
                let key = self.given_key.unwrap_or(&nothing);
                let found = before.unwrap_or(key);
                let after = match &self.update {
                    Some(update) => update.apply(found).map_err(Failed::Invalid)?,
                    None => found.clone(),
                };
                table.check(&after, "Item size to update has exceeded the maximum allowed size").map_err(Failed::Invalid)?;
                Ok(Change::Write(Some(after)))
            }
        }
    }
}

// ---- Queries -------------------------------------------------------------------------------------------------------------

/// What a key condition seeks.
struct Sought {
    hash: String,
    range: RangeCondition,
}

enum RangeCondition {
    Any,
    Prefix(String),
    /// From and to; whether they are within.
    Within(Option<(String, bool)>, Option<(String, bool)>),
}

impl Sought {
    fn read(condition: &Condition<'_>, keys: &Keys) -> Result<Self, Refusal> {
        let unsupported = || Refusal::Validation("Query key condition not supported".to_owned());
        let missing = |name: &str| Refusal::Validation(format!("Query condition missed key schema element: {name}"));
        let (first, second) = match condition {
            Condition::And(first, second) => (first.as_ref(), Some(second.as_ref())),
            only => (only, None),
        };
        let is_hash = |condition: &Condition<'_>| key_of(condition) == Some(keys.hash.as_str());
        let (hash, range) = match second {
            Some(second) if is_hash(second) => (second, Some(first)),
            second => (first, second),
        };
        if !is_hash(hash) {
            return Err(missing(&keys.hash));
        }
        let Condition::Compare(_, Comparator::Equal, Operand::Value(value)) = hash else { return Err(unsupported()) };
        let range = match (range, &keys.range) {
            (None, _) => RangeCondition::Any,
            (Some(range), Some(name)) if key_of(range) == Some(name.as_str()) => {
                RangeCondition::read(range).ok_or_else(unsupported)?
            }
            (Some(_), Some(name)) => return Err(missing(name)),
            (Some(_), None) => return Err(unsupported()),
        };
        Ok(Self { hash: key_value(value)?, range })
    }

    fn from(&self) -> String {
        match &self.range {
            RangeCondition::Prefix(prefix) => prefix.clone(),
            RangeCondition::Within(Some((from, _)), _) => from.clone(),
            _ => String::new(),
        }
    }

    /// The first sort key beyond, if that is known.
    fn to(&self) -> Option<String> {
        match &self.range {
            RangeCondition::Within(_, Some((to, true))) => Some(format!("{to}\0")),
            RangeCondition::Within(_, Some((to, false))) => Some(to.clone()),
            _ => None,
        }
    }

    fn means(&self, range: &str) -> bool {
        match &self.range {
            RangeCondition::Any => true,
            RangeCondition::Prefix(prefix) => range.starts_with(prefix.as_str()),
            RangeCondition::Within(from, to) => {
                from.as_ref().is_none_or(|(from, within)| if *within { range >= from.as_str() } else { range > from.as_str() })
                    && to.as_ref().is_none_or(|(to, within)| if *within { range <= to.as_str() } else { range < to.as_str() })
            }
        }
    }
}

impl RangeCondition {
    fn read(condition: &Condition<'_>) -> Option<Self> {
        let text = |operand: &Operand<'_>| match operand {
            Operand::Value(Value::S(text)) => Some(text.clone()),
            _ => None,
        };
        Some(match condition {
            Condition::BeginsWith(_, prefix) => Self::Prefix(text(prefix)?),
            Condition::Between(_, low, high) => Self::Within(Some((text(low)?, true)), Some((text(high)?, true))),
            Condition::Compare(_, comparator, value) => {
                let value = text(value)?;
                match comparator {
                    Comparator::Equal => Self::Within(Some((value.clone(), true)), Some((value, true))),
                    Comparator::Less => Self::Within(None, Some((value, false))),
                    Comparator::LessOrEqual => Self::Within(None, Some((value, true))),
                    Comparator::Greater => Self::Within(Some((value, false)), None),
                    Comparator::GreaterOrEqual => Self::Within(Some((value, true)), None),
                    Comparator::NotEqual => return None,
                }
            }
            _ => return None,
        })
    }
}

/// The attribute that a part of a key condition is about.
fn key_of<'c>(condition: &'c Condition<'_>) -> Option<&'c str> {
    match condition {
        Condition::Compare(Operand::Path(path), _, Operand::Value(_))
        | Condition::Between(Operand::Path(path), Operand::Value(_), Operand::Value(_))
        | Condition::BeginsWith(Operand::Path(path), Operand::Value(_))
            if path.0.len() == 1 =>
        {
            Some(path.root())
        }
        _ => None,
    }
}

fn key_value(value: &Value) -> Result<String, Refusal> {
    match value {
        Value::S(text) if text.is_empty() => Err(Refusal::Validation(
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value."
                .to_owned(),
        )),
        Value::S(text) => Ok(text.clone()),
        _ => Err(Refusal::Validation(
            "One or more parameter values were invalid: Condition parameter type does not match schema type".to_owned(),
        )),
    }
}

/// Where a query goes on.
struct Start {
    range: String,
    pk: String,
    sk: String,
}

impl Start {
    fn read(start: &Item, table: &TableSettings, keys: &Keys) -> Result<Self, Refusal> {
        let text = |name: &str| {
            let text = start.get(name).and_then(Value::text);
            text.map(str::to_owned).ok_or_else(|| Refusal::Validation("The provided starting key is invalid".to_owned()))
        };
        let or_none = |name: &Option<String>| name.as_ref().map_or(Ok(String::new()), |name| text(name));
        Ok(Self { range: or_none(&keys.range)?, pk: text(&table.keys.hash)?, sk: or_none(&table.keys.range)? })
    }

    fn comes_before(&self, found: &table::Found<'_>, forward: bool) -> bool {
        let order = (self.range.as_str(), self.pk.as_str(), self.sk.as_str()).cmp(&(found.range, found.pk, found.sk));
        if forward { order.is_lt() } else { order.is_gt() }
    }
}

#[derive(Default)]
struct Page {
    items: Vec<Arc<Item>>,
    count: usize,
    scanned: usize,
    bytes: usize,
    last: Option<Item>,
}

// ---- Answers -------------------------------------------------------------------------------------------------------------

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes<'i> {
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<&'i Item>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct OneItem<'i> {
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<&'i Item>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct BatchGetAnswer {
    #[serde(serialize_with = "shared_items_by_table")]
    responses: BTreeMap<String, Vec<Arc<Item>>>,
    #[serde(rename = "UnprocessedKeys")]
    unprocessed: BTreeMap<String, KeysOfTable>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct QueryAnswer<'i> {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shared_items")]
    items: Option<&'i Vec<Arc<Item>>>,
    count: usize,
    scanned_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_evaluated_key: Option<&'i Item>,
}

fn shared_items<S: serde::Serializer>(items: &Option<&Vec<Arc<Item>>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(items.iter().flat_map(|items| items.iter()).map(Arc::as_ref))
}

fn shared_items_by_table<S: serde::Serializer>(all: &BTreeMap<String, Vec<Arc<Item>>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(all.iter().map(|(table, items)| (table, items.iter().map(Arc::as_ref).collect::<Vec<&Item>>())))
}

fn json(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).expect("maps with text keys can be written")
}

/// Why DynamoDB does not do what is asked.
enum Refusal {
    Validation(String),
    NoTable,
    Condition(Option<Arc<Item>>),
    Cancelled(Vec<Reason>),
    TokenReused,
}

struct Reason {
    code: &'static str,
    message: Option<String>,
    item: Option<Arc<Item>>,
}

impl Reason {
    fn none() -> Self {
        Self { code: "None", message: None, item: None }
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Validation(message)
    }
}

impl Refusal {
    fn answer(self) -> Answer {
        #[derive(Serialize)]
        struct Body<'i> {
            #[serde(rename = "__type")]
            kind: String,
            message: &'i str,
            #[serde(rename = "Item", skip_serializing_if = "Option::is_none")]
            item: Option<&'i Item>,
            #[serde(rename = "CancellationReasons", skip_serializing_if = "Vec::is_empty")]
            reasons: Vec<ReasonBody<'i>>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct ReasonBody<'i> {
            code: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            message: Option<&'i str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            item: Option<&'i Item>,
        }
        let body = |name: &str, message: &str, item: Option<&Item>, reasons: &[Reason]| {
            let prefix =
                if name == "ValidationException" { "com.amazon.coral.validate" } else { "com.amazonaws.dynamodb.v20120810" };
            let reasons = reasons.iter().map(|reason| ReasonBody {
                code: reason.code,
                message: reason.message.as_deref(),
                item: reason.item.as_deref(),
            });
            Answer::json(400, json(&Body { kind: format!("{prefix}#{name}"), message, item, reasons: reasons.collect() }))
        };
        match self {
            Self::Validation(message) => body("ValidationException", &message, None, &[]),
            Self::NoTable => body("ResourceNotFoundException", "Requested resource not found", None, &[]),
            Self::Condition(item) => {
                body("ConditionalCheckFailedException", "The conditional request failed", item.as_deref(), &[])
            }
            Self::TokenReused => body(
                "IdempotentParameterMismatchException",
                "The provided client token is already in use for a different request",
                None,
                &[],
            ),
            Self::Cancelled(reasons) => {
                let codes = reasons.iter().map(|reason| reason.code).collect::<Vec<_>>().join(", ");
                let message = format!("Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]");
                body("TransactionCanceledException", &message, None, &reasons)
            }
        }
    }
}

/// The errors that DynamoDB gives for reasons of its own.
pub(super) fn fault(fault: Fault) -> Answer {
    let (status, name, message) = match fault {
        Fault::Internal => (500, "InternalServerError", "Internal server error"),
        Fault::Throttled => (
            400,
            "ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level \
             with the UpdateTable API.",
        ),
    };
    Answer::json(status, format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{name}","message":"{message}"}}"#))
}
