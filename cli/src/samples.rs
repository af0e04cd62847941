//! `posthouse check --sample`: what a configuration makes of a body, by the code that the worker runs.

use std::io::Write;

use http::Method;
use shared::{
    config::{Route, Source},
    event::{BodyDigest, Event, EventKey},
    jq::{Jq, JqInput},
    ledger::Version,
    location::{Location, Places},
    names::{DestinationName, EventId, EventType},
    routing::{Plan, Routing, RoutingFailure},
    signatures::UnverifiedWebhook,
    time::Timestamp,
};

use crate::{Outcome, Stop, args::CheckArgs};

/// How much of an expression is repeated, in characters.
const EXPRESSION_CHARS_MAX: usize = 80;

/// A body that is taken for an event of a source.
pub(crate) struct Sample<'a> {
    /// As the command line has it.
    pub(crate) name: String,
    pub(crate) source: &'a Source,
    pub(crate) body: Vec<u8>,
}

/// Says what becomes of a sample: yes if its contract is kept and no expression fails.
pub(crate) fn tell(
    sample: Sample<'_>,
    args: &CheckArgs,
    routing: &Routing,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<Outcome, Stop> {
    let Sample { name, source, body } = sample;
    let event = event(source, &body, args.event_type.as_ref(), now)?;
    writeln!(out, "{name}: type {}, event id {}", event.event_type, event.key.event_id)?;
    if let Some(place) = &source.event.event_type
        && args.event_type.is_none()
        && event.event_type == EventType::unknown()
    {
        writeln!(out, "  type        not found at {place}: say it with --type")?;
    }
    if event.destinations.is_empty() {
        writeln!(out, "  no route takes it: it would be recorded and go nowhere")?;
        return Ok(Outcome::Yes);
    }
    let plan = |destination| (destination, routing.plan(&event, destination, body.clone()));
    let plans: Vec<_> = event.destinations.iter().map(plan).collect();
    // The same for every destination: it is looked at before any route.
    if let Some(violation) = plans.iter().find_map(|(_, plan)| plan.as_ref().err().filter(|failure| failure.is_violation())) {
        writeln!(out, "  contract    {violation}")?;
        return Ok(Outcome::No);
    }
    let is_unchecked = plans.iter().any(|(_, plan)| matches!(plan, Err(RoutingFailure::Unchecked(_))));
    let mut patterns = source.contracts.iter().flat_map(|contract| &contract.types);
    if !is_unchecked && patterns.any(|pattern| pattern.matches(&event.event_type)) {
        writeln!(out, "  contract    kept")?;
    }
    for route in source.routes_of(&event.event_type) {
        tell_filter(route, &event, &body, out)?;
    }
    let is_right = plans.iter().all(|(_, plan)| plan.is_ok());
    for (destination, plan) in &plans {
        tell_plan(destination, plan, out)?;
    }
    Ok(is_right.into())
}

/// The event that the body would be. Only what stands in the body is there to be found.
fn event(source: &Source, body: &[u8], event_type: Option<&EventType>, now: Timestamp) -> Result<Event, Stop> {
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    let webhook = UnverifiedWebhook::new(Method::POST, "https://example.com/", &headers, body.to_vec());
    let places = Places::proven(&webhook);
    let find = |place: &Location| places.find(place).filter(|value| !value.is_empty());
    let sha256 = BodyDigest::of(body);
    let ids = source.event.id.as_ref().and_then(|ids| ids.iter().map(find).collect::<Option<Vec<_>>>());
    let id = ids.map_or_else(|| sha256.to_hex(), |ids| ids.join(":"));
    let event_id = EventId::parse(&id).map_err(|error| Stop::Asked(format!("the sample's event id {error}")))?;
    let found_type = || source.event.event_type.as_ref().and_then(find).and_then(|text| EventType::parse(&text).ok());
    let event_type = event_type.cloned().or_else(found_type).unwrap_or_else(EventType::unknown);
    Ok(Event {
        key: EventKey { source: source.name.clone(), event_id },
        received_at: now,
        occurred_at: source.event.occurred_at.as_ref().and_then(|spec| spec.format.read(&find(&spec.at)?)),
        headers: headers.into(),
        body_bytes: body.len(),
        sha256,
        key_id: String::new(),
        destinations: source.destinations(&event_type),
        event_type,
        expires_at: now,
    })
}

fn tell_filter(route: &Route, event: &Event, body: &[u8], out: &mut impl Write) -> Result<(), Stop> {
    let Some(filter) = &route.filter else { return Ok(()) };
    let is_true = Jq::compile(&filter.text).map_err(|error| error.to_string()).and_then(|jq| {
        let input = JqInput::new(body, event).map_err(|failure| failure.to_string())?;
        jq.is_true(&input).map_err(|failure| failure.to_string())
    });
    let said = is_true.map_or_else(|failure| failure, |is_true| is_true.to_string());
    writeln!(out, "  filter      to {}: {}: {said}", route.destination, on_one_line(&filter.text))?;
    Ok(())
}

fn on_one_line(expression: &str) -> String {
    let line = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXPRESSION_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn tell_plan(destination: &DestinationName, plan: &Result<Plan, RoutingFailure>, out: &mut impl Write) -> Result<(), Stop> {
    let sending = match plan {
        Ok(Plan::Send(sending)) => sending,
        Ok(Plan::Skip) => {
            writeln!(out, "  {destination}: skipped, since no filter lets it through")?;
            return Ok(());
        }
        Err(failure) => {
            writeln!(out, "  {destination}: dead, since {failure}")?;
            return Ok(());
        }
    };
    writeln!(out, "  {destination}: {}", if sending.is_mapped { "sent as its map makes it" } else { "sent as it is" })?;
    if sending.is_mapped {
        writeln!(out, "    map       {}", String::from_utf8_lossy(&sending.body))?;
    }
    if let Some((key, Version::Number(version) | Version::Text(version))) = &sending.order {
        writeln!(out, "    order     {key}, version {version}")?;
    }
    Ok(())
}
