//! `gateway.toml`: sources, destinations and routes, parsed and checked whole at cold start.
//!
//! What is wrong is an error with file, line and column, and the function does not start: a webhook that waits at its sender
//! is better than one that goes to a wrong place. Secrets are never in the file; it names Secrets Manager secrets.

mod check;
mod destination;
mod file;
mod http;
mod pattern;
mod route;
mod senders;
mod targets;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

pub use destination::{CircuitSpec, Destination, DestinationKind, Rate};
pub use http::{
    Auth, CA_BYTES_MAX, CONNECT_SECONDS_DEFAULT, ClientAuth, Connecting, Field, Grant, HEADER_FIELDS_MAX, HEADER_VALUE_BYTES_MAX,
    HEADERS_MAX, Header, HeaderTemplate, HttpDestination, Meaning, NETWORKS_MAX, OAUTH_SUFFIX, OAuth, RESPONSE_BYTES_DEFAULT,
    RESPONSE_BYTES_MAX, SCOPES_MAX, Statuses, TOKEN_WRITE_SECONDS,
};
pub use pattern::Pattern;
pub use route::{Contract, Expression, Order, Route, SchemaVersion};
pub use senders::Senders;
pub use targets::{
    ERROR_TYPE_CHARS_MAX, EventBridgeDestination, LambdaDestination, MessageGroup, SnsDestination, SqsDestination,
    TARGET_SECONDS_MAX,
};

use ::http::Method;
use serde::Deserialize;

use crate::{
    event::EventSpec,
    json::Pointers,
    names::{DestinationName, EventType, SourceName},
    signatures::{Scheme, handshake::Handshake},
};

/// Largest body taken, in bytes: Lambda's own bound on a synchronous request (6 MB), which binds before API Gateway's 10 MB.
pub const BODY_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Longest dedupe horizon, in days. Bodies in S3 must outlive it: `infra/template.yaml` keeps them for 100.
pub const DEDUPE_DAYS_MAX: u64 = 90;
/// How long an event id is remembered unless the configuration says otherwise, in days: longer than any provider's longest
/// redelivery (Stripe: 30).
pub const DEDUPE_DAYS_DEFAULT: u64 = 35;
/// How long what was signed is remembered unless the configuration says otherwise, in days, where a signature covers neither the event
/// id nor a time.
pub const REMEMBER_DAYS_DEFAULT: u64 = 365;
/// Longest time that it can be remembered for, in days.
pub const REMEMBER_DAYS_MAX: u64 = 10 * 365;
/// Under how many types that nobody names the same signed content is an event each, unless preset or configuration say otherwise: its
/// own, and one more, so that a type which somebody made up does not keep the genuine one out.
pub const TYPES_PER_CONTENT_DEFAULT: u8 = 2;
/// Most of them: each that is there already is a write when another one comes.
pub const TYPES_PER_CONTENT_MAX: u8 = 16;
/// How long a dead letter is kept, in days: SQS's longest retention, which `infra/template.yaml` asks for.
pub const DEAD_LETTER_DAYS: u64 = 14;
/// Names that no source may have: with them begin, or may begin one day, keys of the ledger that are no events.
pub const RESERVED_SOURCE_NAMES: [&str; 10] =
    ["audit", "dead", "destination", "dispatch", "key", "late", "order", "published", "tenant", "wait"];
/// Most routes of one source.
pub const ROUTES_PER_SOURCE_MAX: usize = 100;
/// Most destinations of one source: their doorbells go out in one request, and their names stand on the event.
pub const DESTINATIONS_PER_SOURCE_MAX: usize = crate::doorbell::RING_BATCH_MAX;
/// Most waits between attempts.
pub const BACKOFFS_MAX: usize = 32;
/// Longest wait between two attempts, in seconds: the longest visibility timeout of SQS (12 hours).
pub const BACKOFF_SECONDS_MAX: u64 = 12 * 60 * 60;
/// Waits between attempts unless the configuration says otherwise, in seconds: over 22 hours in nine attempts.
pub const BACKOFF_SECONDS_DEFAULT: [u64; 8] = [5, 30, 120, 600, 3600, 10_800, 21_600, 43_200];
/// How long a delivery is tried, its waits included, unless the configuration says otherwise, in hours.
pub const GIVE_UP_HOURS_DEFAULT: u64 = 72;
/// The longest that one may be tried, in hours.
pub const GIVE_UP_HOURS_MAX: u64 = 14 * 24;
/// Longest expression of jq, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = crate::jq::EXPRESSION_BYTES_MAX;
/// Most contracts of one source.
pub const CONTRACTS_PER_SOURCE_MAX: usize = 64;
/// Highest rate of a destination, in requests a second: one DynamoDB item takes a thousand writes.
pub const RATE_PER_SECOND_MAX: u64 = 500;
/// Longest interval over which a rate is said, in seconds.
pub const RATE_SECONDS_MAX: u64 = 60 * 60;
/// Most requests at once at a destination whose concurrency is bounded: they are all in one DynamoDB item.
pub const CONCURRENCY_MAX: u64 = 100;
/// Failures in a row that open a circuit unless the configuration says otherwise.
pub const CIRCUIT_CONSECUTIVE_DEFAULT: u64 = 10;
/// Failures among the attempts of a minute that open a circuit unless the configuration says otherwise, in percent.
pub const CIRCUIT_PERCENT_DEFAULT: u64 = 50;
/// How long a circuit that opens stays so unless the configuration says otherwise, in seconds. It doubles each time.
pub const CIRCUIT_WAIT_SECONDS_DEFAULT: u64 = 30;
/// The longest that it may be told to, in seconds.
pub const CIRCUIT_WAIT_SECONDS_MAX: u64 = 15 * 60;
/// Longest time that a destination may take to answer, in seconds. The worker's own timeout in the template is longer.
pub const DELIVERY_SECONDS_MAX: u64 = 30;
/// How long a destination may take to answer unless the configuration says otherwise, in seconds.
pub const DELIVERY_SECONDS_DEFAULT: u64 = 10;
/// How the names of secrets end that the receiver itself writes, when a provider's handshake brings the secret. The template
/// allows it no others.
pub const ENROLLED_SUFFIX: &str = "-enrolled";

const _: () = assert!(DEDUPE_DAYS_DEFAULT <= DEDUPE_DAYS_MAX);
const _: () = assert!(BACKOFF_SECONDS_DEFAULT.len() <= BACKOFFS_MAX);
const _: () = assert!(DEDUPE_DAYS_DEFAULT * crate::time::DAY_SECONDS > 2 * crate::signatures::TOLERANCE_SECONDS_MAX);

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The schemes that it describes itself, by name.
    pub schemes: BTreeMap<String, Scheme>,
    /// Who may send.
    pub sources: BTreeMap<SourceName, Source>,
    /// Where events go.
    pub destinations: BTreeMap<DestinationName, Destination>,
}

/// What types that the configuration does not name are counted under.
pub const OTHER_TYPES: &str = "other";

/// A configured sender.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, the last part of its webhook URL.
    pub name: SourceName,
    /// How it signs.
    pub scheme: Scheme,
    /// Its keyring, by name under the stack's prefix.
    pub secret: String,
    /// What its handshakes compare, as a verify token; a keyring, by name under the stack's prefix.
    pub handshake_secret: Option<String>,
    /// The URL that is registered with the provider, without a query, for schemes that sign it. `None`: as API Gateway saw it.
    pub public_url: Option<String>,
    /// The query of the registered URL, if it has one. Each request brings its own; this one is tried where the order differs.
    pub public_query: Option<String>,
    /// The methods that its webhooks come by.
    pub methods: Vec<Method>,
    /// What the provider asks of the URL before it sends.
    pub handshakes: Vec<Handshake>,
    /// Where its events carry id, type and time.
    pub event: EventSpec,
    /// The places of a JSON body that any of this looks at: they are found in one pass.
    pub pointers: Pointers,
    /// Whether a captured webhook could be sent again under another id, and is therefore known by what was signed as well.
    pub replay_guard: bool,
    /// What becomes of another body under an event id that is known.
    pub on_conflict: OnConflict,
    /// Headers kept on its events, beside the content type.
    pub keep_headers: Vec<String>,
    /// Largest body taken from it, in bytes.
    pub body_bytes_max: usize,
    /// How long its event ids are remembered.
    pub dedupe: Duration,
    /// How long what it signed is remembered, where its signatures do not cover the event id or the type.
    pub remembered: Duration,
    /// Event types that it is known to send, beside those that its routes name.
    pub types: BTreeSet<EventType>,
    /// Under how many types that nobody names the same signed content is an event each, where the type is not signed.
    pub types_per_content: u8,
    /// What it is answered.
    pub answer: AnswerSpec,
    /// Where its events go.
    pub routes: Vec<Route>,
    /// What its events have to look like.
    pub contracts: Vec<Contract>,
}

impl Source {
    /// The URL as it is registered with the provider, its query included.
    pub fn registered_url(&self) -> Option<String> {
        let url = self.public_url.clone()?;
        Some(self.public_query.as_ref().map_or(url.clone(), |query| format!("{url}?{query}")))
    }

    /// Whether it or one of its routes names this type, and not only a pattern that it matches.
    pub fn names_type(&self, event_type: &EventType) -> bool {
        let by_route = || self.routes.iter().flat_map(|route| &route.types).any(|pattern| pattern.names(event_type));
        self.types.contains(event_type) || by_route()
    }

    /// The name that a type is counted under: its own if the configuration has it, else `other`. A type is its sender's text, and each
    /// value of a metric's dimension is a metric that is paid for.
    pub fn counted_type<'t>(&self, event_type: &'t EventType) -> &'t str {
        let by_contract = || self.contracts.iter().flat_map(|contract| &contract.types).any(|pattern| pattern.names(event_type));
        if self.names_type(event_type) || by_contract() { event_type.as_str() } else { OTHER_TYPES }
    }
}

/// What becomes of a webhook whose event id came before with another body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// It is kept in quarantine beside the first, for a person to see, and answered as a duplicate.
    #[default]
    Quarantine,
    /// It is refused with 409, and nothing of it is kept.
    Reject,
    /// It is an event of its own at once.
    Latest,
    /// The first stays, and this one is answered as a duplicate: for senders whose retries differ in more than can be ignored.
    First,
}

/// What a sender is answered when its webhook is accepted. Some want one status or an empty body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerSpec {
    /// Instead of 202 for an accepted event and 200 for a duplicate.
    pub status: Option<u16>,
    /// Instead of the JSON body.
    pub body: Option<String>,
}

impl AnswerSpec {
    /// The status of an accepted event, or of a duplicate.
    pub fn status_of(&self, duplicate: bool) -> u16 {
        self.status.unwrap_or(if duplicate { 200 } else { 202 })
    }
}

/// The configuration cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ConfigError {
    /// Its path.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError {
        file: path.display().to_string(),
        line: 1,
        column: 1,
        message: format!("cannot be read: {error}; it comes with the deployment as a layer (infra/gateway/gateway.toml)"),
    })
}

impl Gateway {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, &path.display().to_string())
    }

    /// Parses and checks a text; `file` is for messages.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let parsed: file::File = toml::from_str(text)
            .map_err(|error| check::Fault { span: error.span(), message: error.message().to_owned() }.at(file, text))?;
        check::check(parsed, text).map_err(|fault| fault.at(file, text))
    }

    /// Checks that every handler destination names one of `known`.
    pub fn check_handlers(&self, known: &[&str], file: &str) -> Result<(), ConfigError> {
        for destination in self.destinations.values() {
            if let DestinationKind::Handler(name) = &destination.kind
                && !known.contains(&name.as_str())
            {
                return Err(ConfigError {
                    file: file.to_owned(),
                    line: destination.line,
                    column: 1,
                    message: format!("there is no handler `{name}` in this worker; it has: {}", known.join(", ")),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
