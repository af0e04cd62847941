//! From what is written to what is meant. Each fault points at the words that cause it.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use http::Uri;
use toml::Spanned;

use super::{
    AnswerSpec, BACKOFF_SECONDS_DEFAULT, BACKOFF_SECONDS_MAX, BACKOFFS_MAX, BODY_BYTES_MAX, ConfigError, DEDUPE_DAYS_DEFAULT,
    DEDUPE_DAYS_MAX, DELIVERY_SECONDS_DEFAULT, DELIVERY_SECONDS_MAX, Destination, DestinationKind, Gateway, HttpDestination,
    Pattern, ROUTES_PER_SOURCE_MAX, Route, Source,
    file::{DestinationEntry, File, Kind, RouteEntry, SourceEntry},
};
use crate::{
    location::Location,
    names::{DestinationName, NameError, SourceName},
    signatures::{Scheme, preset::Preset},
    time::DAY_SECONDS,
};

/// Something wrong with the file, and where, in bytes.
pub(super) struct Fault {
    pub(super) span: Option<Range<usize>>,
    pub(super) message: String,
}

impl Fault {
    fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span: Some(span), message: message.into() }
    }

    pub(super) fn at(self, file: &str, text: &str) -> ConfigError {
        let before = self.span.and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ConfigError {
            file: file.to_owned(),
            line: line_of(before),
            column: before[line_start..].chars().count() + 1,
            message: self.message,
        }
    }
}

fn line_of(before: &str) -> usize {
    before.matches('\n').count() + 1
}

pub(super) fn check(file: File, text: &str) -> Result<Gateway, Fault> {
    for (name, scheme) in &file.schemes {
        scheme.check().map_err(|reason| Fault::new(name.span(), format!("scheme `{}`: {reason}", name.get_ref())))?;
    }
    let mut destinations = BTreeMap::new();
    for (name, entry) in file.destinations {
        let destination = check_destination(&name, entry, text)?;
        destinations.insert(destination.name.clone(), destination);
    }
    let mut sources = BTreeMap::new();
    for (name, entry) in file.sources {
        let source = check_source(&name, entry, &file.schemes)?;
        sources.insert(source.name.clone(), source);
    }
    for entry in file.routes {
        add_route(&mut sources, &destinations, entry)?;
    }
    Ok(Gateway { sources, destinations })
}

fn named<T>(what: &str, name: &Spanned<String>, parse: fn(&str) -> Result<T, NameError>) -> Result<T, Fault> {
    parse(name.get_ref()).map_err(|error| Fault::new(name.span(), format!("the {what} `{}` {error}", name.get_ref())))
}

/// A number within its bounds, or the default.
fn within(given: Option<Spanned<u64>>, default: u64, what: &str, bounds: Range<u64>) -> Result<u64, Fault> {
    let Some(given) = given else { return Ok(default) };
    if bounds.contains(given.get_ref()) {
        return Ok(*given.get_ref());
    }
    Err(Fault::new(given.span(), format!("`{what}` must be from {} to {}", bounds.start, bounds.end - 1)))
}

fn check_source(
    name: &Spanned<String>,
    entry: SourceEntry,
    schemes: &BTreeMap<Spanned<String>, Scheme>,
) -> Result<Source, Fault> {
    let source = named("source", name, SourceName::parse)?;
    let secret = entry.secret.ok_or_else(|| {
        Fault::new(
            name.span(),
            format!("source `{source}` has no `secret`: name the Secrets Manager secret with its signing keys"),
        )
    })?;
    let (scheme, event, keep_headers) = find_scheme(&entry.scheme, schemes)?;
    let body_bytes_max = entry.body_bytes_max.map(|given| Spanned::new(given.span(), *given.get_ref() as u64));
    let body_bytes_max = within(body_bytes_max, BODY_BYTES_MAX as u64, "body_bytes_max", 1..BODY_BYTES_MAX as u64 + 1)?;
    let dedupe_days = within(entry.dedupe_days, DEDUPE_DAYS_DEFAULT, "dedupe_days", 1..DEDUPE_DAYS_MAX + 1)?;
    let status = entry.answer.status.map(|given| Spanned::new(given.span(), u64::from(*given.get_ref())));
    let status = match status {
        Some(status) => Some(within(Some(status), 0, "status", 200..300)? as u16),
        None => None,
    };
    let spec = entry.event.unwrap_or(event);
    let places = [spec.id.as_ref(), spec.event_type.as_ref(), spec.occurred_at.as_ref().map(|spec| &spec.at)];
    if places.into_iter().flatten().any(|place| matches!(place, Location::Signature(_))) {
        return Err(Fault::new(name.span(), format!("source `{source}`: `event` cannot look into the signature")));
    }
    Ok(Source {
        name: source,
        scheme,
        secret: named("secret", &secret, SourceName::parse)?.into(),
        event: spec,
        keep_headers: entry.keep_headers.unwrap_or(keep_headers).iter().map(|header| header.to_ascii_lowercase()).collect(),
        body_bytes_max: body_bytes_max as usize,
        dedupe: Duration::from_secs(dedupe_days * DAY_SECONDS),
        answer: AnswerSpec { status, body: entry.answer.body },
        routes: Vec::new(),
    })
}

/// A scheme of the file goes before a preset of the same name.
fn find_scheme(
    name: &Spanned<String>,
    schemes: &BTreeMap<Spanned<String>, Scheme>,
) -> Result<(Scheme, crate::event::EventSpec, Vec<String>), Fault> {
    if let Some((_, scheme)) = schemes.iter().find(|(known, _)| known.get_ref() == name.get_ref()) {
        return Ok((scheme.clone(), crate::event::EventSpec::default(), Vec::new()));
    }
    match Preset::find(name.get_ref()) {
        Some(Ok(preset)) => Ok((preset.scheme, preset.event, preset.keep_headers)),
        Some(Err(message)) => Err(Fault::new(name.span(), message)),
        None => {
            let presets = Preset::names().collect::<Vec<_>>().join(", ");
            let message =
                format!("there is no scheme `{0}`: presets are {presets}; or describe it under [schemes.{0}]", name.get_ref());
            Err(Fault::new(name.span(), message))
        }
    }
}

fn check_destination(name: &Spanned<String>, entry: DestinationEntry, text: &str) -> Result<Destination, Fault> {
    let destination = named("destination", name, DestinationName::parse)?;
    let need = |what: &str| Fault::new(name.span(), format!("destination `{destination}` has no `{what}`"));
    let foreign = |what: &str, span| Fault::new(span, format!("`{what}` means nothing for this type of destination"));
    let kind = match entry.kind.get_ref() {
        Kind::Http => {
            if let Some(handler) = entry.handler {
                return Err(foreign("handler", handler.span()));
            }
            let url = entry.url.ok_or_else(|| need("url"))?;
            check_url(&url, entry.allow_plaintext)?;
            let secret = entry.secret.ok_or_else(|| need("secret"))?;
            let timeout_seconds =
                within(entry.timeout_seconds, DELIVERY_SECONDS_DEFAULT, "timeout_seconds", 1..DELIVERY_SECONDS_MAX + 1)?;
            DestinationKind::Http(HttpDestination {
                url: url.into_inner(),
                secret: named("secret", &secret, SourceName::parse)?.into(),
                timeout: Duration::from_secs(timeout_seconds),
            })
        }
        Kind::Handler => {
            for (what, given) in [("url", &entry.url), ("secret", &entry.secret)] {
                if let Some(given) = given {
                    return Err(foreign(what, given.span()));
                }
            }
            DestinationKind::Handler(entry.handler.ok_or_else(|| need("handler"))?.into_inner())
        }
    };
    Ok(Destination {
        kind,
        backoff: check_backoff(entry.backoff_seconds)?,
        line: line_of(text.get(..name.span().start).unwrap_or_default()),
        name: destination,
    })
}

fn check_url(url: &Spanned<String>, allow_plaintext: bool) -> Result<(), Fault> {
    let fault = |message: &str| Fault::new(url.span(), format!("`url` {message}"));
    let parsed: Uri = url.get_ref().parse().map_err(|error| fault(&format!("cannot be read: {error}")))?;
    if parsed.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(fault("has a user name or password in it: secrets are not for this file"));
    }
    match parsed.scheme_str() {
        _ if parsed.host().is_none_or(str::is_empty) => Err(fault("has no host; write it like https://example.com/webhooks")),
        Some("https") => Ok(()),
        Some("http") if allow_plaintext => Ok(()),
        Some("http") => Err(fault("is not https; if that is meant, say `allow_plaintext = true`")),
        _ => Err(fault("must start with https://")),
    }
}

fn check_backoff(given: Option<Spanned<Vec<u64>>>) -> Result<Vec<Duration>, Fault> {
    let seconds = match given {
        None => BACKOFF_SECONDS_DEFAULT.to_vec(),
        Some(given) if given.get_ref().len() > BACKOFFS_MAX => {
            return Err(Fault::new(given.span(), format!("`backoff_seconds` has more than {BACKOFFS_MAX} waits")));
        }
        Some(given) if given.get_ref().iter().any(|seconds| !(1..=BACKOFF_SECONDS_MAX).contains(seconds)) => {
            let message = format!("each of `backoff_seconds` must be from 1 to {BACKOFF_SECONDS_MAX}, what SQS can wait");
            return Err(Fault::new(given.span(), message));
        }
        Some(given) => given.into_inner(),
    };
    Ok(seconds.into_iter().map(Duration::from_secs).collect())
}

fn add_route(
    sources: &mut BTreeMap<SourceName, Source>,
    destinations: &BTreeMap<DestinationName, Destination>,
    entry: RouteEntry,
) -> Result<(), Fault> {
    let source_name = named("source", &entry.source, SourceName::parse)?;
    let destination = named("destination", &entry.destination, DestinationName::parse)?;
    let source = sources.get_mut(&source_name).ok_or_else(|| {
        Fault::new(entry.source.span(), format!("the route's source `{source_name}` is not configured under [sources]"))
    })?;
    if !destinations.contains_key(&destination) {
        let message = format!("the route's destination `{destination}` is not configured under [destinations]");
        return Err(Fault::new(entry.destination.span(), message));
    }
    if source.routes.len() == ROUTES_PER_SOURCE_MAX {
        let message = format!("source `{source_name}` has more than {ROUTES_PER_SOURCE_MAX} routes");
        return Err(Fault::new(entry.source.span(), message));
    }
    let types = match entry.types {
        None => vec![Pattern::Prefix(String::new())],
        Some(types) if types.is_empty() => {
            return Err(Fault::new(
                entry.source.span(),
                "`types` is empty, so the route takes nothing; leave it out to take all",
            ));
        }
        Some(types) => types
            .iter()
            .map(|text| Pattern::parse(text.get_ref()).map_err(|message| Fault::new(text.span(), message)))
            .collect::<Result<_, _>>()?,
    };
    source.routes.push(Route { types, destination });
    Ok(())
}
