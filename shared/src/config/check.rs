//! From what is written to what is meant. Each fault points at the words that cause it.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use toml::Spanned;

use super::{
    AnswerSpec, BODY_BYTES_MAX, ConfigError, DEDUPE_DAYS_DEFAULT, DEDUPE_DAYS_MAX, ENROLLED_SUFFIX, Gateway, OnConflict, Source,
    destination::check_destination,
    file::{AnswerEntry, File, SourceEntry},
    route::{add_contract, add_route},
};
use crate::{
    location::{Location, Locations},
    names::{NameError, SourceName},
    signatures::{Scheme, handshake::Handshake, preset::Preset},
    time::DAY_SECONDS,
};

/// Something wrong with the file, and where, in bytes.
pub(super) struct Fault {
    pub(super) span: Option<Range<usize>>,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span: Some(span), message: message.into() }
    }

    pub(super) fn at(self, file: &str, text: &str) -> ConfigError {
        let (line, column) = Self::place(self.span.unwrap_or_default(), text);
        ConfigError { file: file.to_owned(), line, column, message: self.message }
    }

    /// Line and column of what stands there, both from 1.
    pub(super) fn place(span: Range<usize>, text: &str) -> (usize, usize) {
        let before = text.get(..span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (line_of(before), before[line_start..].chars().count() + 1)
    }
}

pub(super) fn line_of(before: &str) -> usize {
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
        add_route(&mut sources, &destinations, entry, text)?;
    }
    for entry in file.contracts {
        add_contract(&mut sources, entry, text)?;
    }
    let schemes = file.schemes.into_iter().map(|(name, scheme)| (name.into_inner(), scheme)).collect();
    Ok(Gateway { schemes, sources, destinations })
}

pub(super) fn named<T>(what: &str, name: &Spanned<String>, parse: fn(&str) -> Result<T, NameError>) -> Result<T, Fault> {
    parse(name.get_ref()).map_err(|error| Fault::new(name.span(), format!("the {what} `{}` {error}", name.get_ref())))
}

/// A number within its bounds, or the default.
pub(super) fn within(given: Option<Spanned<u64>>, default: u64, what: &str, bounds: Range<u64>) -> Result<u64, Fault> {
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
    let preset = find_scheme(&entry.scheme, schemes)?;
    let body_bytes_max = entry.body_bytes_max.map(|given| Spanned::new(given.span(), *given.get_ref() as u64));
    let body_bytes_max = within(body_bytes_max, BODY_BYTES_MAX as u64, "body_bytes_max", 1..BODY_BYTES_MAX as u64 + 1)?;
    let dedupe_default = preset.dedupe_days.unwrap_or(DEDUPE_DAYS_DEFAULT);
    let dedupe_days = within(entry.dedupe_days, dedupe_default, "dedupe_days", 1..DEDUPE_DAYS_MAX + 1)?;
    let answer = entry.answer.map(check_answer).transpose()?.unwrap_or(preset.answer);
    let handshakes = entry.handshakes.unwrap_or(preset.handshakes);
    for handshake in &handshakes {
        handshake.check().map_err(|reason| Fault::new(name.span(), format!("source `{source}`: handshake: {reason}")))?;
    }
    if handshakes.iter().any(|handshake| handshake.enrol.is_some()) && !secret.get_ref().ends_with(ENROLLED_SUFFIX) {
        let message = format!(
            "source `{source}` receives its secret by handshake: the name of `secret` must end in `{ENROLLED_SUFFIX}`, \
             the only ones that the receiver may write"
        );
        return Err(Fault::new(secret.span(), message));
    }
    if handshakes.iter().any(Handshake::needs_handshake_secret) && entry.handshake_secret.is_none() {
        let message = format!(
            "source `{source}` has no `handshake_secret`: name the Secrets Manager secret with the token that the \
             provider's handshake must show"
        );
        return Err(Fault::new(name.span(), message));
    }
    let mut event = entry.event.unwrap_or(preset.event);
    event.id = event.id.or_else(|| preset.scheme.id().cloned().map(Into::into));
    if event.places().any(|place| matches!(place, Location::Signature(_) | Location::Claim(_))) {
        return Err(Fault::new(name.span(), format!("source `{source}`: `event` cannot look into the signature")));
    }
    if event.same_within_seconds == Some(0) {
        return Err(Fault::new(name.span(), format!("source `{source}`: `same_within_seconds` must be at least 1")));
    }
    let methods = entry.methods.unwrap_or(preset.methods);
    if handshakes.iter().any(|handshake| handshake.when.is_empty() && methods.contains(&handshake.method)) {
        let message = format!("source `{source}`: `when` of a handshake is empty, so every webhook would be taken for it");
        return Err(Fault::new(name.span(), message));
    }
    let replayable = event.id.iter().flat_map(Locations::iter).any(|place| !preset.scheme.covers(place));
    Ok(Source {
        name: source,
        replay_guard: entry.replay_guard.unwrap_or(replayable && preset.scheme.signs_content()),
        on_conflict: check_on_conflict(entry.on_conflict, &preset.scheme)?,
        scheme: preset.scheme,
        secret: named("secret", &secret, SourceName::parse)?.into(),
        handshake_secret: match &entry.handshake_secret {
            Some(secret) => Some(named("secret", secret, SourceName::parse)?.into()),
            None => None,
        },
        public_url: entry.public_url.map(|url| check_public_url(&url)).transpose()?,
        methods,
        handshakes,
        event,
        keep_headers: entry
            .keep_headers
            .unwrap_or(preset.keep_headers)
            .iter()
            .map(|header| header.to_ascii_lowercase())
            .collect(),
        body_bytes_max: body_bytes_max as usize,
        dedupe: Duration::from_secs(dedupe_days * DAY_SECONDS),
        answer,
        routes: Vec::new(),
        contracts: Vec::new(),
    })
}

fn check_on_conflict(given: Option<Spanned<OnConflict>>, scheme: &Scheme) -> Result<OnConflict, Fault> {
    let Some(given) = given else { return Ok(OnConflict::default()) };
    let unsigned_body = scheme.alternatives.iter().any(|alternative| alternative.unsigned_body);
    if *given.get_ref() == OnConflict::Latest && unsigned_body {
        let message = "`on_conflict` cannot be `latest` where the body is not signed: who has seen one webhook could make \
                       events of any other body";
        return Err(Fault::new(given.span(), message));
    }
    Ok(given.into_inner())
}

fn check_answer(entry: AnswerEntry) -> Result<AnswerSpec, Fault> {
    let status = entry.status.map(|given| Spanned::new(given.span(), u64::from(*given.get_ref())));
    let status = match status {
        Some(status) => u16::try_from(within(Some(status), 0, "status", 200..300)?).ok(),
        None => None,
    };
    Ok(AnswerSpec { status, body: entry.body })
}

/// The URL as registered: its text is signed, so only its outline is looked at. A user and password may be part of it.
fn check_public_url(url: &Spanned<String>) -> Result<String, Fault> {
    let fault = |message: &str| Fault::new(url.span(), format!("`public_url` {message}"));
    let text = url.get_ref().as_str();
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host {
        None => Err(fault("must start with https://, exactly as it is registered with the provider")),
        Some("") => Err(fault("has no host")),
        Some(_) if text.contains(['#', ' ']) => Err(fault("has a space or a fragment in it")),
        // The query comes with each request.
        Some(_) => Ok(text.split('?').next().unwrap_or_default().to_owned()),
    }
}

/// What a scheme's name brings with it. A scheme of the file goes before a preset of the same name.
fn find_scheme(name: &Spanned<String>, schemes: &BTreeMap<Spanned<String>, Scheme>) -> Result<Preset, Fault> {
    if let Some((_, scheme)) = schemes.iter().find(|(known, _)| known.get_ref() == name.get_ref()) {
        return Ok(Preset::of_scheme(name.get_ref(), scheme.clone()));
    }
    match Preset::find(name.get_ref()) {
        Some(Ok(preset)) => Ok(preset),
        Some(Err(message)) => Err(Fault::new(name.span(), message)),
        None => {
            let similar = Preset::similar(name.get_ref());
            let hint = if similar.is_empty() { ";".to_owned() } else { format!("; did you mean {}?", similar.join(" or ")) };
            let message = format!(
                "there is no scheme `{0}`{hint} `posthouse providers` lists the presets (docs/providers.md has them too); \
                 or describe it under [schemes.{0}]",
                name.get_ref()
            );
            Err(Fault::new(name.span(), message))
        }
    }
}
