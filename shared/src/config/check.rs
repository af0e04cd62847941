//! From what is written to what is meant. Each fault points at the words that cause it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

use toml::Spanned;

use super::{
    AnswerSpec, Auth, BODY_BYTES_MAX, ConfigError, DEDUPE_DAYS_DEFAULT, DEDUPE_DAYS_MAX, Destination, DestinationKind,
    ENROLLED_SUFFIX, Gateway, OnConflict, REMEMBER_DAYS_DEFAULT, REMEMBER_DAYS_MAX, RESERVED_SOURCE_NAMES, Source,
    TYPES_PER_CONTENT_DEFAULT, TYPES_PER_CONTENT_MAX,
    destination::check_destination,
    file::{AnswerEntry, File, SourceEntry},
    route::{add_contract, add_route},
};
use crate::{
    event::{Each, EventSpec},
    fetched::{KeyOrigin, sns},
    json::Pointers,
    location::{IdPlaces, Location},
    names::{DestinationName, EventType, NameError, SourceName},
    signatures::{
        Scheme, TOLERANCE_UNREMEMBERED_SECONDS_MAX,
        handshake::Handshake,
        outgoing::{Signing, SigningKey},
        preset::Preset,
    },
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
    let (mut destinations, mut spans) = (BTreeMap::new(), BTreeMap::new());
    for (name, entry) in file.destinations {
        let destination = check_destination(&name, entry, text)?;
        spans.insert(destination.name.clone(), name.span());
        destinations.insert(destination.name.clone(), destination);
    }
    check_master_keys(&destinations, &spans)?;
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

/// A secret that keys are derived from must be known to nobody else: its holder can make the key of every destination.
fn check_master_keys(
    destinations: &BTreeMap<DestinationName, Destination>,
    spans: &BTreeMap<DestinationName, Range<usize>>,
) -> Result<(), Fault> {
    let mut masters = BTreeMap::new();
    let mut shown = Vec::new();
    for (name, destination) in destinations {
        let DestinationKind::Http(http) = &destination.kind else { continue };
        match &http.signing {
            Some(Signing { key: SigningKey::Derived { .. }, secret, .. }) => drop(masters.insert(secret.as_str(), name)),
            Some(Signing { key: SigningKey::Own, secret, .. }) => shown.push((name, secret.as_str())),
            None => {}
        }
        shown.extend(http.auth.as_ref().map(|auth| (name, Auth::secret(auth))));
    }
    let both = shown.into_iter().find_map(|(name, secret)| Some((name, secret, masters.get(secret)?)));
    let Some((name, secret, deriving)) = both else { return Ok(()) };
    let message = format!(
        "destination `{name}` shows the secret `{secret}` to its other side, and the key of `{deriving}` is derived from it: give one of \
         them a secret of its own"
    );
    Err(Fault::new(spans.get(name).cloned().unwrap_or_default(), message))
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

pub(super) fn check_source(
    name: &Spanned<String>,
    entry: SourceEntry,
    schemes: &BTreeMap<Spanned<String>, Scheme>,
) -> Result<Source, Fault> {
    let source = named("source", name, SourceName::parse)?;
    if RESERVED_SOURCE_NAMES.contains(&source.as_str()) {
        let message = format!("no source can be called `{source}`: keys of the ledger begin so; choose another name");
        return Err(Fault::new(name.span(), message));
    }
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
    let remember_default = REMEMBER_DAYS_DEFAULT.max(dedupe_days);
    let remember_days = within(entry.remember_days, remember_default, "remember_days", dedupe_days..REMEMBER_DAYS_MAX + 1)?;
    let types_default = u64::from(preset.types_per_content.unwrap_or(TYPES_PER_CONTENT_DEFAULT));
    let types_bounds = 1..u64::from(TYPES_PER_CONTENT_MAX) + 1;
    let types_per_content = within(entry.types_per_content, types_default, "types_per_content", types_bounds)?;
    let types_per_content = u8::try_from(types_per_content).unwrap_or(TYPES_PER_CONTENT_MAX);
    let types = entry.types.unwrap_or_default().iter().map(check_type).collect::<Result<_, _>>()?;
    let answer = entry.answer.map(check_answer).transpose()?.unwrap_or(preset.answer);
    let handshakes = entry.handshakes.unwrap_or(preset.handshakes);
    for handshake in &handshakes {
        handshake.check().map_err(|reason| Fault::new(name.span(), format!("source `{source}`: handshake: {reason}")))?;
    }
    if preset.scheme.has_symmetric_tokens() && handshakes.iter().any(Handshake::signs_for_anybody) {
        let message = format!(
            "source `{source}`: a handshake without a signature signs what anybody asks for, and the scheme's tokens are signed with the same key: \
             what is asked for could be a token"
        );
        return Err(Fault::new(name.span(), message));
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
    let mut event = entry.event.unwrap_or_default().or(preset.event);
    event.body = entry.body.unwrap_or_default();
    if event.each.is_some() {
        check_each(&event, &preset.scheme, entry.replay_guard)
            .map_err(|why| Fault::new(name.span(), format!("source `{source}`: {why}")))?;
    } else {
        event.id = event.id.or_else(|| preset.scheme.id().cloned().map(Into::into));
    }
    let in_signature = |place: &Location| match place.root() {
        Location::Signature(_) | Location::Body => true,
        Location::Claim(_) => !preset.scheme.has_claims(),
        _ => false,
    };
    if event.places().any(in_signature) {
        let message = format!(
            "source `{source}`: `event` cannot look into the signature; `claim:` is for schemes whose every alternative is a JWT"
        );
        return Err(Fault::new(name.span(), message));
    }
    if event.id == Some(IdPlaces::DigestOfBody) && !preset.scheme.covers_body() {
        let message = format!(
            "source `{source}`: its events cannot be known by the digest of the body, which the signature does not cover"
        );
        return Err(Fault::new(name.span(), message));
    }
    if event.same_within_seconds == Some(0) {
        return Err(Fault::new(name.span(), format!("source `{source}`: `same_within_seconds` must be at least 1")));
    }
    let methods = entry.methods.unwrap_or(preset.methods);
    if handshakes.iter().any(|handshake| handshake.when.is_empty() && methods.contains(&handshake.method)) {
        let message = format!("source `{source}`: `when` of a handshake is empty, so every webhook would be taken for it");
        return Err(Fault::new(name.span(), message));
    }
    let public_url = entry.public_url.map(|url| check_public_url(&url)).transpose()?;
    let pointers = pointers(&preset.scheme, &event, &handshakes);
    // An id is no better than unsigned where the bytes that are signed could be of another id.
    let divisible = preset.scheme.could_be_divided_otherwise();
    let replayable = event.id.iter().flat_map(IdPlaces::places).any(|place| divisible || !preset.scheme.covers(place));
    let unsigned_id = event.id.iter().flat_map(IdPlaces::places).any(|place| !preset.scheme.covers(place));
    // What is signed of a batch is many events, each known by its own id.
    let replay_guard = event.each.is_none() && entry.replay_guard.unwrap_or(replayable && preset.scheme.signs_content());
    let unguarded = replayable && !replay_guard && event.each.is_none();
    let remembered_seconds = match (unguarded, event.same_within_seconds) {
        (true, _) => 0,
        (false, seconds) => seconds.unwrap_or(u64::MAX).min(dedupe_days * DAY_SECONDS),
    };
    check_tolerance(&preset.scheme, remembered_seconds)
        .map_err(|reason| Fault::new(name.span(), format!("source `{source}`: {reason}")))?;
    Ok(Source {
        name: source,
        replay_guard,
        on_conflict: check_on_conflict(entry.on_conflict, preset.on_conflict, &preset.scheme, unsigned_id)?,
        scheme: preset.scheme,
        secret: named("secret", &secret, SourceName::parse)?.into(),
        handshake_secret: match &entry.handshake_secret {
            Some(secret) => Some(named("secret", secret, SourceName::parse)?.into()),
            None => None,
        },
        public_query: public_url.as_ref().and_then(|url| url.split_once('?')).map(|(_, query)| query.to_owned()),
        public_url: public_url.map(|url| url.split('?').next().unwrap_or_default().to_owned()),
        methods,
        handshakes,
        event,
        pointers,
        keep_headers: entry
            .keep_headers
            .unwrap_or(preset.keep_headers)
            .iter()
            .map(|header| header.to_ascii_lowercase())
            .collect(),
        body_bytes_max: body_bytes_max as usize,
        dedupe: Duration::from_secs(dedupe_days * DAY_SECONDS),
        remembered: Duration::from_secs(remember_days * DAY_SECONDS),
        types,
        types_per_content,
        answer,
        routes: Vec::new(),
        contracts: Vec::new(),
    })
}

impl Source {
    /// A source of a preset, with no settings of its own and no secrets: for whoever brings the keys and records nothing.
    pub fn of_preset(name: SourceName, preset: Preset) -> Self {
        let mut event = preset.event;
        event.id = event.id.or_else(|| preset.scheme.id().cloned().map(Into::into));
        Self {
            name,
            pointers: pointers(&preset.scheme, &event, &preset.handshakes),
            scheme: preset.scheme,
            secret: String::new(),
            handshake_secret: None,
            public_url: None,
            public_query: None,
            methods: preset.methods,
            handshakes: preset.handshakes,
            event,
            replay_guard: false,
            on_conflict: preset.on_conflict.unwrap_or_default(),
            keep_headers: preset.keep_headers,
            body_bytes_max: BODY_BYTES_MAX,
            dedupe: Duration::from_secs(preset.dedupe_days.unwrap_or(DEDUPE_DAYS_DEFAULT) * DAY_SECONDS),
            remembered: Duration::from_secs(REMEMBER_DAYS_DEFAULT * DAY_SECONDS),
            types: BTreeSet::new(),
            types_per_content: preset.types_per_content.unwrap_or(TYPES_PER_CONTENT_DEFAULT),
            answer: preset.answer,
            routes: Vec::new(),
            contracts: Vec::new(),
        }
    }
}

/// A captured webhook can be sent again for as long as its time is tolerated, to both sides of the clock. Beyond some minutes it must be
/// known again for all that while.
fn check_tolerance(scheme: &Scheme, remembered_seconds: u64) -> Result<(), String> {
    let Some((tolerance, replayable_seconds)) =
        scheme.tolerance_seconds().filter(|(tolerance, _)| *tolerance > TOLERANCE_UNREMEMBERED_SECONDS_MAX)
    else {
        return Ok(());
    };
    if remembered_seconds >= replayable_seconds {
        return Ok(());
    }
    Err(format!(
        "its scheme tolerates times that are {tolerance} s off, so what was signed must be remembered for {replayable_seconds} s: \
         leave `replay_guard` on, and `dedupe_days` and `same_within_seconds` long enough, or tolerate at most \
         {TOLERANCE_UNREMEMBERED_SECONDS_MAX} s"
    ))
}

/// Each element of a batch needs an id of its own.
fn check_each(event: &EventSpec, scheme: &Scheme, replay_guard: Option<bool>) -> Result<(), String> {
    if replay_guard == Some(true) {
        return Err(
            "`replay_guard` cannot go with `event.each`: what is signed is many events, each of which is known by its id"
                .to_owned(),
        );
    }
    if scheme.signs_content() && !scheme.covers_body() {
        return Err("`event.each` needs a signed body: the scheme signs something else, and whoever has seen one webhook could \
                    send any events with it"
            .to_owned());
    }
    let outside = event.id.iter().flat_map(IdPlaces::places).find(|place| place.pointer().is_none());
    match outside {
        Some(place) => {
            Err(format!("with `event.each`, the event id stands in each element, as `json:/id`, and not at `{place}`"))
        }
        None => Ok(()),
    }
}

/// The places in a JSON body that verification, handshakes or events look at.
fn pointers(scheme: &Scheme, event: &EventSpec, handshakes: &[Handshake]) -> Pointers {
    // Places within the elements of a batch are looked for in each of them.
    let of_event = event.places().filter(|_| event.each.is_none());
    let places = scheme.places().chain(of_event).chain(handshakes.iter().flat_map(Handshake::places));
    let list = event.each.as_ref().map(Each::pointer).filter(|pointer| !pointer.is_empty());
    let named = places.filter_map(Location::pointer).chain(list);
    let is_sns = scheme.alternatives.iter().any(|alternative| alternative.fetched_key == Some(KeyOrigin::AwsSns));
    let of_sns: &[&str] = if is_sns { &sns::POINTERS } else { &[] };
    Pointers::new(named.chain(of_sns.iter().copied()))
}

fn check_on_conflict(
    given: Option<Spanned<OnConflict>>,
    of_preset: Option<OnConflict>,
    scheme: &Scheme,
    unsigned_id: bool,
) -> Result<OnConflict, Fault> {
    let unsigned_body = scheme.alternatives.iter().any(|alternative| alternative.unsigned_body);
    // Whoever has captured one webhook could take the id that the next will have.
    let is_open_to_vetoes = unsigned_id && scheme.signs_content() && !unsigned_body;
    let Some(given) = given else {
        return Ok(if is_open_to_vetoes { OnConflict::Latest } else { of_preset.unwrap_or_default() });
    };
    if is_open_to_vetoes && *given.get_ref() != OnConflict::Latest {
        let message = "`on_conflict` can only be `latest` here, and is when it is left out: the signature does not cover the event \
                       id, so whoever has seen one webhook could take the id of the next, which would then not be delivered";
        return Err(Fault::new(given.span(), message));
    }
    if *given.get_ref() == OnConflict::Latest && unsigned_body {
        let message = "`on_conflict` cannot be `latest` where the body is not signed: who has seen one webhook could make \
                       events of any other body";
        return Err(Fault::new(given.span(), message));
    }
    Ok(given.into_inner())
}

/// A type that is named: not a pattern.
fn check_type(given: &Spanned<String>) -> Result<EventType, Fault> {
    let event_type = named("type", given, EventType::parse)?;
    if given.get_ref().contains('*') {
        return Err(Fault::new(given.span(), "`types` of a source names types as they are sent; patterns are for routes"));
    }
    Ok(event_type)
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
        Some(_) => Ok(text.to_owned()),
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
