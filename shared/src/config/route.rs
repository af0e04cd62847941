//! Routes and contracts. What they have in jq and JSON Schema is compiled by [`crate::routing`], which only the worker needs.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use super::{
    CONTRACTS_PER_SOURCE_MAX, ConfigError, DEAD_LETTER_DAYS, DESTINATIONS_PER_SOURCE_MAX, Destination, EXPRESSION_BYTES_MAX,
    Gateway, Pattern, ROUTES_PER_SOURCE_MAX, Source,
    check::{Fault, named},
    file::{ContractEntry, RouteEntry, SchemaVersionEntry, Texts},
};
use crate::{
    event::Event,
    location::Location,
    names::{DestinationName, EventType, SourceName},
    time::DAY_SECONDS,
};

/// Which of a source's events go to which destination, and as what.
#[derive(Clone, Debug)]
pub struct Route {
    /// Event types that it takes.
    pub types: Vec<Pattern>,
    /// Whether it takes only what no other route of the source takes.
    pub is_default: bool,
    /// Of those, the events for which this is true; jq.
    pub filter: Option<Expression>,
    /// What is sent instead of the body; jq.
    pub map: Option<Expression>,
    /// In which order they arrive.
    pub order: Option<Order>,
    /// Where they go.
    pub destination: DestinationName,
}

/// Deliveries that are older than what has arrived are not delivered.
#[derive(Clone, Debug)]
pub struct Order {
    /// What an event is about; jq, a text or a number.
    pub key: Expression,
    /// Which state of that it tells; jq, a text or a number.
    pub version: Expression,
}

/// What the events of a source have to look like.
#[derive(Clone, Debug)]
pub struct Contract {
    /// Event types that it is for.
    pub types: Vec<Pattern>,
    /// A file with a JSON Schema, beside `gateway.toml`.
    pub schema: Option<Expression>,
    /// The schema version that is expected.
    pub schema_version: Option<SchemaVersion>,
}

/// Where an event says by which version of its schema it is made, and which versions are known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaVersion {
    /// The place.
    pub at: Location,
    /// The known ones.
    pub known: Vec<String>,
}

/// A text of the configuration that is checked later, with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// As written.
    pub text: String,
    line: usize,
    column: usize,
}

impl Expression {
    /// What is wrong with it, as an error of the configuration.
    pub fn error(&self, file: &str, message: impl Into<String>) -> ConfigError {
        ConfigError { file: file.to_owned(), line: self.line, column: self.column, message: message.into() }
    }
}

impl Source {
    /// Where an event of this type goes: each destination once, in the order of the routes.
    pub fn destinations(&self, event_type: &EventType) -> Vec<DestinationName> {
        let mut found: Vec<DestinationName> = Vec::new();
        for route in self.routes_of(event_type) {
            if !found.contains(&route.destination) {
                found.push(route.destination.clone());
            }
        }
        found
    }

    /// The routes that take events of this type, by their type alone; without any, the default routes.
    pub fn routes_of(&self, event_type: &EventType) -> impl Iterator<Item = &Route> {
        let matches = move |route: &&Route| route.types.iter().any(|pattern| pattern.matches(event_type));
        let only_default = !self.routes.iter().any(|route| !route.is_default && matches(&route));
        self.routes.iter().filter(move |route| route.is_default == only_default).filter(matches)
    }
}

impl Gateway {
    /// Whether a route leads events of this source and type to this destination.
    pub fn leads(&self, event: &Event, destination: &DestinationName) -> bool {
        let source = self.sources.get(&event.key.source);
        source.is_some_and(|source| source.routes_of(&event.event_type).any(|route| route.destination == *destination))
    }
}

pub(super) fn add_route(
    sources: &mut BTreeMap<SourceName, Source>,
    destinations: &BTreeMap<DestinationName, Destination>,
    entry: RouteEntry,
    text: &str,
) -> Result<(), Fault> {
    let source_name = named("source", &entry.source, SourceName::parse)?;
    let source = sources.get_mut(&source_name).ok_or_else(|| {
        Fault::new(entry.source.span(), format!("the route's source `{source_name}` is not configured under [sources]"))
    })?;
    let types = check_types(entry.types, &entry.source, "the route takes")?;
    let expression = |given: Option<Spanned<String>>| given.map(|given| check_expression(given, text)).transpose();
    let (filter, map) = (expression(entry.filter)?, expression(entry.map)?);
    let order = match entry.order {
        None => None,
        Some(order) => Some(Order { key: check_expression(order.key, text)?, version: check_expression(order.version, text)? }),
    };
    let named_destinations = Texts::each(entry.destination);
    if named_destinations.is_empty() {
        return Err(Fault::new(entry.source.span(), "the route has no destination"));
    }
    for name in named_destinations {
        let destination = named("destination", &name, DestinationName::parse)?;
        let Some(route_to) = destinations.get(&destination) else {
            let message = format!("the route's destination `{destination}` is not configured under [destinations]");
            return Err(Fault::new(name.span(), message));
        };
        check_horizon(source, route_to, &entry.source)?;
        if source.routes.len() == ROUTES_PER_SOURCE_MAX {
            let message = format!("source `{source_name}` has more than {ROUTES_PER_SOURCE_MAX} routes");
            return Err(Fault::new(entry.source.span(), message));
        }
        let known: BTreeSet<_> = source.routes.iter().map(|route| &route.destination).collect();
        if known.len() == DESTINATIONS_PER_SOURCE_MAX && !known.contains(&destination) {
            let message = format!("source `{source_name}` has more than {DESTINATIONS_PER_SOURCE_MAX} destinations");
            return Err(Fault::new(name.span(), message));
        }
        source.routes.push(Route {
            types: types.clone(),
            is_default: entry.default,
            filter: filter.clone(),
            map: map.clone(),
            order: order.clone(),
            destination,
        });
    }
    Ok(())
}

/// An event must be there for as long as a delivery of it may need it.
fn check_horizon(source: &Source, destination: &Destination, place: &Spanned<String>) -> Result<(), Fault> {
    let needed = destination.give_up_after.as_secs() + DEAD_LETTER_DAYS * DAY_SECONDS;
    if source.dedupe.as_secs() >= needed {
        return Ok(());
    }
    let message = format!(
        "source `{}` would forget an event while it is tried at `{}` or is a dead letter: its `dedupe_days` must be at least {} \
         for the retries and the {DEAD_LETTER_DAYS} days of a dead letter",
        source.name,
        destination.name,
        needed.div_ceil(DAY_SECONDS)
    );
    Err(Fault::new(place.span(), message))
}

pub(super) fn add_contract(sources: &mut BTreeMap<SourceName, Source>, entry: ContractEntry, text: &str) -> Result<(), Fault> {
    let source_name = named("source", &entry.source, SourceName::parse)?;
    let source = sources.get_mut(&source_name).ok_or_else(|| {
        Fault::new(entry.source.span(), format!("the contract's source `{source_name}` is not configured under [sources]"))
    })?;
    if source.contracts.len() == CONTRACTS_PER_SOURCE_MAX {
        let message = format!("source `{source_name}` has more than {CONTRACTS_PER_SOURCE_MAX} contracts");
        return Err(Fault::new(entry.source.span(), message));
    }
    if entry.schema.is_none() && entry.schema_version.is_none() {
        let message = "the contract asks for nothing: give it a `schema`, a `schema_version` or both";
        return Err(Fault::new(entry.source.span(), message));
    }
    let types = check_types(entry.types, &entry.source, "the contract is for")?;
    let schema = entry.schema.map(|schema| check_schema_file(schema, text)).transpose()?;
    let schema_version = entry.schema_version.map(|version| check_schema_version(version, &entry.source)).transpose()?;
    source.contracts.push(Contract { types, schema, schema_version });
    Ok(())
}

fn check_types(given: Option<Vec<Spanned<String>>>, place: &Spanned<String>, what: &str) -> Result<Vec<Pattern>, Fault> {
    match given {
        None => Ok(vec![Pattern::Prefix(String::new())]),
        Some(types) if types.is_empty() => {
            Err(Fault::new(place.span(), format!("`types` is empty, so {what} nothing; leave it out for all types")))
        }
        Some(types) => {
            types.iter().map(|text| Pattern::parse(text.get_ref()).map_err(|message| Fault::new(text.span(), message))).collect()
        }
    }
}

fn check_expression(given: Spanned<String>, text: &str) -> Result<Expression, Fault> {
    if given.get_ref().len() > EXPRESSION_BYTES_MAX {
        return Err(Fault::new(given.span(), format!("the expression is longer than {EXPRESSION_BYTES_MAX} bytes")));
    }
    let (line, column) = Fault::place(given.span(), text);
    Ok(Expression { text: given.into_inner(), line, column })
}

/// A file of the deployment's own: it comes in the same layer as `gateway.toml`.
fn check_schema_file(given: Spanned<String>, text: &str) -> Result<Expression, Fault> {
    let is_beside = |path: &str| {
        let mut parts = std::path::Path::new(path).components();
        !path.is_empty() && parts.all(|part| matches!(part, std::path::Component::Normal(_)))
    };
    if !is_beside(given.get_ref()) {
        let message = "`schema` names a file beside gateway.toml, like \"contracts/invoice.json\"";
        return Err(Fault::new(given.span(), message));
    }
    check_expression(given, text)
}

fn check_schema_version(entry: SchemaVersionEntry, place: &Spanned<String>) -> Result<SchemaVersion, Fault> {
    if !matches!(entry.at, Location::Json(_) | Location::Header(_)) {
        return Err(Fault::new(
            place.span(),
            "`schema_version` stands in the body or in a header that is kept: `at = \"json:/…\"` or `at = \"header:…\"`",
        ));
    }
    let span = entry.is.span();
    let known: Vec<String> = Texts::each(entry.is).into_iter().map(Spanned::into_inner).collect();
    if known.is_empty() {
        return Err(Fault::new(span, "`schema_version` knows no version: say `is = \"1\"` or `is = [\"1\", \"2\"]`"));
    }
    Ok(SchemaVersion { at: entry.at, known })
}
