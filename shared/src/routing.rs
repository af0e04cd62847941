//! What the routes make of an event: contracts kept, filters asked, maps run, order found. Compiled once, when a function starts.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use crate::{
    config::{self, ConfigError, Gateway, Pattern, SchemaVersion},
    content::ContentError,
    contract::{Contract, ContractFailure, Violation},
    event::Event,
    jq::{Jq, JqFailure, JqInput, meter},
    ledger::Version,
    location::Location,
    names::{DestinationName, SourceName},
};

/// Largest file of a JSON Schema, in bytes.
pub const SCHEMA_BYTES_MAX: u64 = 1024 * 1024;
/// Longest text that says what an event is about, in bytes.
pub const ORDER_KEY_BYTES_MAX: usize = 1024;
/// Longest version, in bytes: of a number, DynamoDB keeps 38 digits.
pub const ORDER_VERSION_BYTES_MAX: usize = 128;

/// How an error calls the key of an order.
const ORDER_KEY: &str = "order.key";

/// All routes and contracts, compiled.
#[derive(Debug, Default)]
pub struct Routing {
    sources: BTreeMap<SourceName, SourceRouting>,
}

#[derive(Debug, Default)]
struct SourceRouting {
    contracts: Vec<CompiledContract>,
    routes: Vec<CompiledRoute>,
}

#[derive(Debug)]
struct CompiledContract {
    types: Vec<Pattern>,
    schema: Option<Contract>,
    schema_version: Option<SchemaVersion>,
}

/// A route, in the order of the file.
#[derive(Debug)]
struct CompiledRoute {
    types: Vec<Pattern>,
    is_default: bool,
    destination: DestinationName,
    filter: Option<Jq>,
    map: Option<Jq>,
    order: Option<(Jq, Jq)>,
}

/// What a route makes of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// Send this.
    Send(Sending),
    /// No filter lets it through.
    Skip,
}

/// What is sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Sending {
    /// The event's exact body, or what the map made of it.
    pub body: Vec<u8>,
    /// Whether a map made it: then it is JSON.
    pub is_mapped: bool,
    /// What it is about and which state of that it tells, where the route has an order.
    pub order: Option<(String, Version)>,
}

/// Why nothing can be made of an event: it will fail every time, until the configuration or the sender is mended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoutingFailure {
    /// It does not keep its contract.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// It is of a version of its schema that the contract does not know.
    #[error("its schema version, at {0}, is none that the contract knows")]
    UnknownSchemaVersion(Location),
    /// The contract is about JSON, and this is none.
    #[error("the body is not JSON (line {line}, column {column}), and its contract says what is in it")]
    NotJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// The contract is about JSON, and the body's content coding cannot be undone.
    #[error("{0}, and its contract says what is in it")]
    Undecodable(ContentError),
    /// Nobody can tell whether it keeps its contract.
    #[error("its contract cannot be checked: {0}")]
    Unchecked(JqFailure),
    /// An expression fails.
    #[error("the {what} of its route fails: {failure}")]
    Expression {
        /// `filter`, `map`, `order.key` or `order.version`.
        what: &'static str,
        /// How.
        failure: JqFailure,
    },
    /// An expression gives something that cannot be used.
    #[error("the {what} of its route gives {gives}")]
    Unusable {
        /// `order.key` or `order.version`.
        what: &'static str,
        /// What it gives, and what it should.
        gives: &'static str,
    },
}

impl RoutingFailure {
    /// Whether a contract is not kept.
    pub const fn is_violation(&self) -> bool {
        matches!(self, Self::Violation(_) | Self::UnknownSchemaVersion(_) | Self::NotJson { .. } | Self::Undecodable(_))
    }
}

impl RoutingFailure {
    /// Whether another attempt may go better.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unchecked(failure) | Self::Expression { failure, .. } => failure.is_transient(),
            _ => false,
        }
    }
}

impl Routing {
    /// Compiles what the configuration at `path` has, with the schemas beside it.
    pub fn load(gateway: &Gateway, path: &Path) -> Result<Self, ConfigError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let file = path.display().to_string();
        let mut routing = Self::without_contracts(gateway, path)?;
        for source in gateway.sources.values() {
            let contracts = source.contracts.iter().map(|contract| CompiledContract::load(contract, &file, folder));
            let contracts = contracts.collect::<Result<_, _>>()?;
            routing.sources.entry(source.name.clone()).or_default().contracts = contracts;
        }
        Ok(routing)
    }

    /// The routes alone: for [`Self::order_key`], which needs no contract, in a function that should not carry the checking of them.
    pub fn without_contracts(gateway: &Gateway, path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let mut sources = BTreeMap::new();
        for source in gateway.sources.values() {
            let routes = source.routes.iter().map(|route| CompiledRoute::compile(route, &file));
            let routing = SourceRouting { contracts: Vec::new(), routes: routes.collect::<Result<_, _>>()? };
            sources.insert(source.name.clone(), routing);
        }
        Ok(Self { sources })
    }

    /// Whether [`Self::plan`] parses the event's body, which may take a while.
    pub fn looks_into(&self, event: &Event, destination: &DestinationName) -> bool {
        let Some(source) = self.sources.get(&event.key.source) else { return false };
        source.contracts_of(event).next().is_some() || source.needed_by(event, destination).is_some()
    }

    /// What is sent of an event to a destination. Of several routes that lead there, the first whose filter lets the event
    /// through. `stored` is the body that it came in; of a batch, its own part is sent. All that it takes shares [`crate::jq::STEPS_MAX`].
    pub fn plan(&self, event: &Event, destination: &DestinationName, stored: Vec<u8>) -> Result<Plan, RoutingFailure> {
        // Most routes need no expression, and then the body is neither decoded nor parsed.
        let Some(source) = self.sources.get(&event.key.source).filter(|_| self.looks_into(event, destination)) else {
            return Ok(Plan::unchanged(own(event, stored)));
        };
        let planned = meter::run(|| source.plan(event, destination, stored));
        planned.unwrap_or_else(|stopped| {
            let failure = stopped.into();
            Err(match source.needed_by(event, destination) {
                Some(what) => RoutingFailure::Expression { what, failure },
                None => RoutingFailure::Unchecked(failure),
            })
        })
    }

    /// Whether a route of this event to this destination has an order.
    pub fn has_order(&self, event: &Event, destination: &DestinationName) -> bool {
        let source = self.sources.get(&event.key.source);
        source.is_some_and(|source| source.routes_to(event, destination).any(|route| route.order.is_some()))
    }

    /// What an event is about, where its route to a destination has an order; nothing where that cannot be told, as [`Self::plan`]
    /// then says.
    pub fn order_key(&self, event: &Event, destination: &DestinationName, body: &[u8]) -> Option<String> {
        // Most routes have none, and then the body is not parsed.
        if !self.has_order(event, destination) {
            return None;
        }
        let input = JqInput::new(body, event).ok()?;
        for route in self.sources.get(&event.key.source)?.routes_to(event, destination) {
            if route.lets_through(&input).ok()? {
                return route.order.as_ref().and_then(|(key, _)| order_key(key, &input).ok());
            }
        }
        None
    }
}

/// The event's own part of a stored body.
fn own(event: &Event, stored: Vec<u8>) -> Vec<u8> {
    if event.part.is_some() { event.own_part(&stored).to_vec() } else { stored }
}

impl SourceRouting {
    fn contracts_of(&self, event: &Event) -> impl Iterator<Item = &CompiledContract> {
        self.contracts.iter().filter(|contract| matches(&contract.types, event))
    }

    /// The key of the first expression that needs the event's body to be JSON.
    fn needed_by(&self, event: &Event, destination: &DestinationName) -> Option<&'static str> {
        self.routes_to(event, destination).next()?.first_expression()
    }

    /// As [`Routing::plan`], where the body has to be looked into.
    fn plan(&self, event: &Event, destination: &DestinationName, stored: Vec<u8>) -> Result<Plan, RoutingFailure> {
        let needed_by = self.needed_by(event, destination);
        let input = JqInput::new(&stored, event).map_err(|failure| match (failure, needed_by) {
            (failure, Some(what)) if self.contracts_of(event).next().is_none() => RoutingFailure::Expression { what, failure },
            (JqFailure::NotJson { line, column }, _) => RoutingFailure::NotJson { line, column },
            (JqFailure::Undecodable(error), _) => RoutingFailure::Undecodable(error),
            (failure, _) => RoutingFailure::Unchecked(failure),
        })?;
        self.contracts_of(event).try_for_each(|contract| contract.check(event, &input))?;
        if needed_by.is_none() {
            return Ok(Plan::unchanged(own(event, stored)));
        }
        for route in self.routes_to(event, destination) {
            if route.lets_through(&input)? {
                return route.make(&input, own(event, stored)).map(Plan::Send);
            }
        }
        Ok(Plan::Skip)
    }

    /// The routes that lead an event to a destination, in the order of the file.
    fn routes_to(&self, event: &Event, destination: &DestinationName) -> impl Iterator<Item = &CompiledRoute> {
        let takes = |route: &&CompiledRoute| matches(&route.types, event);
        let only_default = !self.routes.iter().any(|route| !route.is_default && takes(&route));
        let routes = self.routes.iter().filter(move |route| route.is_default == only_default).filter(takes);
        routes.filter(|route| route.destination == *destination)
    }
}

fn matches(types: &[Pattern], event: &Event) -> bool {
    types.iter().any(|pattern| pattern.matches(&event.event_type))
}

impl Plan {
    fn unchanged(body: Vec<u8>) -> Self {
        Self::Send(Sending { body, is_mapped: false, order: None })
    }
}

impl CompiledContract {
    fn load(contract: &config::Contract, file: &str, folder: &Path) -> Result<Self, ConfigError> {
        let schema = contract.schema.as_ref().map(|schema| {
            let read = read_schema(&folder.join(&schema.text)).and_then(|schema| Contract::compile(&schema));
            read.map_err(|reason| schema.error(file, format!("the schema `{}` {reason}", schema.text)))
        });
        let schema = schema.transpose()?;
        Ok(Self { types: contract.types.clone(), schema, schema_version: contract.schema_version.clone() })
    }

    fn check(&self, event: &Event, input: &JqInput) -> Result<(), RoutingFailure> {
        if let Some(version) = &self.schema_version {
            let found = match &version.at {
                Location::Json(pointer) => input.text_at(pointer),
                Location::Header(name) => event.headers.get(name.as_str()).cloned(),
                _ => None,
            };
            if !found.is_some_and(|found| version.known.contains(&found)) {
                return Err(RoutingFailure::UnknownSchemaVersion(version.at.clone()));
            }
        }
        match &self.schema {
            Some(schema) => schema.check(input).map_err(|failure| match failure {
                ContractFailure::Broken(violation) => violation.into(),
                ContractFailure::Unchecked(failure) => RoutingFailure::Unchecked(failure),
            }),
            None => Ok(()),
        }
    }
}

fn read_schema(path: &Path) -> Result<Value, String> {
    let bytes = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if bytes > SCHEMA_BYTES_MAX {
        return Err(format!("is larger than {SCHEMA_BYTES_MAX} bytes"));
    }
    let text = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("is not JSON: {error}"))
}

impl CompiledRoute {
    fn compile(route: &config::Route, file: &str) -> Result<Self, ConfigError> {
        let compile = |expression: &config::Expression| {
            Jq::compile(&expression.text).map_err(|error| expression.error(file, error.to_string()))
        };
        let order = match &route.order {
            Some(order) => Some((compile(&order.key)?, compile(&order.version)?)),
            None => None,
        };
        Ok(Self {
            types: route.types.clone(),
            is_default: route.is_default,
            destination: route.destination.clone(),
            filter: route.filter.as_ref().map(compile).transpose()?,
            map: route.map.as_ref().map(compile).transpose()?,
            order,
        })
    }

    /// The key of its first expression, if it has any: what needs the body to be JSON.
    const fn first_expression(&self) -> Option<&'static str> {
        match self {
            Self { filter: Some(_), .. } => Some("filter"),
            Self { map: Some(_), .. } => Some("map"),
            Self { order: Some(_), .. } => Some(ORDER_KEY),
            _ => None,
        }
    }

    fn lets_through(&self, input: &JqInput) -> Result<bool, RoutingFailure> {
        let Some(filter) = &self.filter else { return Ok(true) };
        filter.is_true(input).map_err(|failure| RoutingFailure::Expression { what: "filter", failure })
    }

    fn make(&self, input: &JqInput, body: Vec<u8>) -> Result<Sending, RoutingFailure> {
        let order = match &self.order {
            Some((key, version)) => Some((order_key(key, input)?, order_version(version, input)?)),
            None => None,
        };
        let Some(map) = &self.map else { return Ok(Sending { body, is_mapped: false, order }) };
        let body = map.map(input).map_err(|failure| RoutingFailure::Expression { what: "map", failure })?;
        Ok(Sending { body, is_mapped: true, order })
    }
}

fn order_key(key: &Jq, input: &JqInput) -> Result<String, RoutingFailure> {
    let unusable = |gives| RoutingFailure::Unusable { what: ORDER_KEY, gives };
    match key.one(input).map_err(|failure| RoutingFailure::Expression { what: ORDER_KEY, failure })? {
        Value::String(text) if text.is_empty() => Err(unusable("an empty text; it must say what the event is about")),
        Value::String(text) if text.len() > ORDER_KEY_BYTES_MAX => Err(unusable("a text of more than 1,024 bytes")),
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(unusable("neither a text nor a number")),
    }
}

fn order_version(version: &Jq, input: &JqInput) -> Result<Version, RoutingFailure> {
    const WHAT: &str = "order.version";
    let unusable = |gives| RoutingFailure::Unusable { what: WHAT, gives };
    match version.one(input).map_err(|failure| RoutingFailure::Expression { what: WHAT, failure })? {
        Value::String(text) if text.is_empty() => Err(unusable("an empty text; it must say which state the event tells")),
        Value::String(text) if text.len() > ORDER_VERSION_BYTES_MAX => Err(unusable("a text of more than 128 bytes")),
        Value::String(text) => Ok(Version::Text(text)),
        Value::Number(number) if is_exact(&number.to_string()) => Ok(Version::Number(number.to_string())),
        Value::Number(_) => Err(unusable("a number of more than 38 digits, or too large for DynamoDB")),
        _ => Err(unusable("neither a text nor a number")),
    }
}

/// Whether DynamoDB keeps this number as it is: 38 digits, between 1e-130 and 1e126.
fn is_exact(number: &str) -> bool {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let significant = digits.chars().filter(char::is_ascii_digit).count();
    significant <= 38 && exponent.parse::<i32>().is_ok_and(|exponent| (-90..=85).contains(&exponent))
}

#[cfg(test)]
mod tests;
