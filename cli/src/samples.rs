//! `posthouse check --sample`: what a configuration makes of a webhook, by the code that the receiver and the worker run.

use std::io::Write;

use http::Method;
use shared::{
    config::{Route, Source},
    door::{self, Asked, Proven},
    event::{BodyDigest, Element, Event, EventSpec, Identified, Identity, IdentityError},
    jq::{Jq, JqInput},
    ledger::Version,
    location::{IdPlaces, Location, Places},
    names::{DestinationName, EventType},
    routing::{Plan, Routing, RoutingFailure},
    signatures::{UnverifiedWebhook, VerifiedWebhook},
    time::Timestamp,
};

use crate::{Outcome, Stop, args::CheckArgs, capture::HttpRequest, verify::printable};

/// How much of an expression is repeated, in characters.
const EXPRESSION_CHARS_MAX: usize = 80;

/// A body or a request that is taken for a genuine webhook of a source.
pub(crate) struct Sample<'a> {
    /// As the command line has it.
    pub(crate) name: String,
    pub(crate) source: &'a Source,
    pub(crate) bytes: Vec<u8>,
}

/// How the receiver would answer a sample.
enum Received {
    /// Its events: one, or those of its batch.
    Events(Vec<Told>),
    /// A handshake: it is answered, and no event.
    Handshake,
    /// Nothing; with the status and why.
    Refused { status: u16, reason: String },
}

/// An event, and what there is to say about it.
struct Told {
    event: Event,
    notes: Vec<String>,
}

/// Says what becomes of a sample: yes if it is accepted, its contract is kept and no expression fails.
pub(crate) fn tell(
    sample: Sample<'_>,
    args: &CheckArgs,
    routing: &Routing,
    now: Timestamp,
    out: &mut impl Write,
) -> Result<Outcome, Stop> {
    let Sample { name, source, bytes } = sample;
    let request = HttpRequest::recognize(&bytes).transpose().map_err(|reason| Stop::Asked(format!("{name}: {reason}")))?;
    let is_body = request.is_none();
    let webhook = match request {
        Some(request) => request.into_webhook(source.registered_url().as_deref(), false)?,
        None => {
            let headers = [("content-type".to_owned(), "application/json".to_owned())];
            let method = source.methods.first().cloned().unwrap_or(Method::POST);
            UnverifiedWebhook::new(method, "https://example.com/", &headers, bytes)
        }
    };
    let events = match receive(source, &webhook, is_body, now) {
        Received::Events(events) => events,
        Received::Handshake => {
            writeln!(out, "{name}: a handshake, which the receiver answers without recording an event")?;
            return Ok(Outcome::Yes);
        }
        Received::Refused { status, reason } => {
            writeln!(out, "{name}: the receiver refuses it with {status}: {}", printable(&reason))?;
            return Ok(Outcome::No);
        }
    };
    if events.is_empty() {
        writeln!(out, "{name}: a batch without events: the receiver accepts it, and there is nothing to deliver")?;
    }
    let places = Places::new(&webhook);
    let mut outcome = Outcome::Yes;
    for told in events {
        // Of a batch, the decoded body is stored.
        let body = if told.event.part.is_some() { places.readable_body() } else { &webhook.body };
        if tell_event(&name, source, told, body, args, routing, out)? == Outcome::No {
            outcome = Outcome::No;
        }
    }
    Ok(outcome)
}

/// Says what becomes of one event.
fn tell_event(
    name: &str,
    source: &Source,
    told: Told,
    body: &[u8],
    args: &CheckArgs,
    routing: &Routing,
    out: &mut impl Write,
) -> Result<Outcome, Stop> {
    let Told { mut event, notes } = told;
    if let Some(event_type) = &args.event_type {
        event.destinations = source.destinations(event_type);
        event.event_type = event_type.clone();
    }
    writeln!(out, "{name}: type {}, event id {}", event.event_type, event.key.event_id)?;
    for note in notes {
        writeln!(out, "  {}", printable(&note))?;
    }
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
    let plan = |destination| (destination, routing.plan(&event, destination, body.to_vec()));
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
        tell_filter(route, &event, body, out)?;
    }
    let is_right = plans.iter().all(|(_, plan)| plan.is_ok());
    for (destination, plan) in &plans {
        tell_plan(destination, plan, out)?;
    }
    Ok(is_right.into())
}

/// What the receiver makes of a webhook that proves itself. Of a body alone it is said where it needs more than that.
fn receive(source: &Source, webhook: &UnverifiedWebhook, is_body: bool, now: Timestamp) -> Received {
    let refused = |status, reason: String| Received::Refused { status, reason };
    if is_body {
        if let Err(rejection) = door::check_size(source, webhook.body.len()) {
            return refused(rejection.status(), rejection.to_string());
        }
    } else {
        match door::ask(source, webhook) {
            Ok(Asked::Webhook(_)) => {}
            Ok(Asked::Handshake(_)) => return Received::Handshake,
            Err(rejection) => return refused(rejection.status(), rejection.to_string()),
        }
    }
    #[expect(clippy::disallowed_methods, reason = "a sample is sent nowhere and recorded nowhere")]
    let supposed = source.scheme.suppose(Places::new(webhook).knowing(&source.pointers));
    let Some(verified) = supposed else { return refused(401, "its scheme has no way of signing".to_owned()) };
    let verified = match Proven::of(source, verified) {
        Proven::Handshake(_) => return Received::Handshake,
        Proven::Webhook(verified) => verified,
    };
    let sha256 = BodyDigest::of(&webhook.body);
    let mut notes = Vec::new();
    let identified = match source.event.each {
        Some(_) => source.event.identify_all(&verified, &sha256, now),
        None => identify(source, &verified, &sha256, is_body, now, &mut notes).map(Identified::Whole),
    };
    match identified {
        Ok(Identified::Whole(identity)) => {
            notes.extend(unreadable_words(&identity));
            Received::Events(vec![Told { event: door::event_of(source, &verified, sha256, identity, now), notes }])
        }
        Ok(Identified::Each(elements)) => {
            let whole = BodyDigest::of(verified.places().readable_body());
            let told = |Element { part, identity }| {
                let notes = unreadable_words(&identity).into_iter().collect();
                Told { event: door::element_of(source, &verified, whole, part, identity, now), notes }
            };
            Received::Events(elements.into_iter().map(told).collect())
        }
        Err(error) => {
            let rejection = door::Rejection::from(error);
            refused(rejection.status(), rejection.to_string())
        }
    }
}

fn unreadable_words(identity: &Identity) -> Option<String> {
    let reason = identity.unreadable.as_ref()?;
    Some(format!("unreadable  {reason}: the receiver accepts it under its digest, and an alarm rings"))
}

/// What a webhook says of itself, as the receiver reads it. A body alone lacks what stands beside it and may be signed: where its id
/// depends on that, its digest is taken.
fn identify(
    source: &Source,
    verified: &VerifiedWebhook<'_>,
    sha256: &BodyDigest,
    is_body: bool,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> Result<Identity, IdentityError> {
    let by_digest = || EventSpec { id: Some(IdPlaces::DigestOfBody), ..source.event.clone() };
    let identity = source.event.identify(verified, sha256, now);
    let missing = match &identity {
        Ok(Identity { unreadable: Some(error), .. }) | Err(error) => Some(error),
        Ok(_) => None,
    };
    let beside = |place: &Location| matches!(place.root(), Location::Header(_) | Location::Query(_) | Location::Claim(_));
    match missing {
        Some(IdentityError::NoEventId(at)) if is_body && source.event.id.iter().flat_map(IdPlaces::places).any(beside) => {
            notes.push(format!("event id    stands at {at}, which is not in a body: give the request as captured"));
            by_digest().identify(verified, sha256, now)
        }
        _ if is_body => {
            let Identity { event_id, .. } = by_digest().identify(verified, sha256, now)?;
            identity.map(|identity| if identity.by_content { Identity { event_id, ..identity } } else { identity })
        }
        _ => identity,
    }
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
