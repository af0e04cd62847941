//! `lambda`, `eventbridge`, `sqs` and `sns` destinations: where in AWS events go.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{
    ConfigError, DELIVERY_SECONDS_DEFAULT, DELIVERY_SECONDS_MAX, DestinationKind, Gateway,
    check::{Fault, within},
    destination::Settings,
};
use crate::names::{NAME_BYTES_MAX, SourceName};

/// How long SQS, SNS and EventBridge may take to answer, in seconds. They do so within milliseconds.
pub const TARGET_SECONDS_MAX: u64 = 6;
/// Most error types of a function that are permanent.
const PERMANENT_ERRORS_MAX: usize = 32;
/// Longest error type of a function that is known by its name, in characters.
pub const ERROR_TYPE_CHARS_MAX: usize = 128;
/// Longest source of an EventBridge event, in bytes (PutEventsRequestEntry).
const EVENT_SOURCE_BYTES_MAX: usize = 256;
/// Longest name of a Lambda function, in characters (CreateFunction).
const FUNCTION_NAME_CHARS_MAX: usize = 64;
/// Longest version or alias of a Lambda function, in characters (Invoke).
const QUALIFIER_CHARS_MAX: usize = 128;
/// Longest name of an event bus, in characters (CreateEventBus).
const BUS_NAME_CHARS_MAX: usize = 256;
/// Longest name of a queue, its `.fifo` included, in characters (CreateQueue).
const QUEUE_NAME_CHARS_MAX: usize = 80;
/// Longest name of a topic, its `.fifo` included, in characters (CreateTopic).
const TOPIC_NAME_CHARS_MAX: usize = 256;

/// Stands for the name of an event's source in `event_source`.
const SOURCE_PLACEHOLDER: &str = "{source}";
const EVENT_SOURCE_DEFAULT: &str = "posthouse.{source}";
/// How the names of queues and topics end that keep an order.
const FIFO_SUFFIX: &str = ".fifo";
/// Digits of an AWS account.
const ACCOUNT_DIGITS: usize = 12;

/// A Lambda function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LambdaDestination {
    /// Its name or ARN, with a version or alias if one is meant.
    pub function: String,
    /// How long it may take.
    pub timeout: Duration,
    /// The error types by which it says that an event will never work.
    pub permanent_errors: Vec<String>,
    region: Option<String>,
}

/// An EventBridge event bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBridgeDestination {
    /// Its name or ARN.
    pub bus: String,
    event_source: String,
    region: Option<String>,
}

/// An SQS queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqsDestination {
    /// Its URL.
    pub queue_url: String,
    /// What arrives in order; only FIFO queues have it.
    pub message_group: Option<MessageGroup>,
    region: Option<String>,
}

/// An SNS topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnsDestination {
    /// Its ARN.
    pub topic_arn: String,
    /// What arrives in order; only FIFO topics have it.
    pub message_group: Option<MessageGroup>,
    region: Option<String>,
}

/// Which messages of a FIFO queue or topic arrive one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageGroup {
    /// Those of a source.
    Source,
    /// Those of an event: each is a group of its own, so none waits for another.
    EventId,
}

impl EventBridgeDestination {
    /// The source of EventBridge's event, of an event of this source of ours.
    pub fn event_source(&self, source: &SourceName) -> String {
        self.event_source.replace(SOURCE_PLACEHOLDER, source.as_str())
    }
}

impl DestinationKind {
    /// The Region that it names; a name without one is in the worker's own.
    fn region(&self) -> Option<&str> {
        match self {
            Self::Lambda(lambda) => lambda.region.as_deref(),
            Self::EventBridge(bus) => bus.region.as_deref(),
            Self::Sqs(queue) => queue.region.as_deref(),
            Self::Sns(topic) => topic.region.as_deref(),
            Self::Http(_) | Self::Handler(_) => None,
        }
    }
}

impl Gateway {
    /// Checks that every target in AWS is in the worker's own Region: its clients call no other.
    pub fn check_regions(&self, own: &str, file: &str) -> Result<(), ConfigError> {
        for destination in self.destinations.values() {
            if let Some(region) = destination.kind.region()
                && region != own
            {
                return Err(ConfigError {
                    file: file.to_owned(),
                    line: destination.line,
                    column: 1,
                    message: format!("destination `{}` is in {region}, and this stack in {own}", destination.name),
                });
            }
        }
        Ok(())
    }
}

pub(super) fn check_lambda(settings: &mut Settings<'_>) -> Result<LambdaDestination, Fault> {
    let function = settings.entry.function.take();
    let function = settings.need("function", function)?;
    let (arn, name) = name_or_arn(&function, "function", "lambda", "function:")?;
    let (name, qualifier) = name.split_once(':').map_or((name, None), |(name, qualifier)| (name, Some(qualifier)));
    let is_qualifier = |text: &str| text == "$LATEST" || is_word(text, QUALIFIER_CHARS_MAX, "-_");
    if !is_word(name, FUNCTION_NAME_CHARS_MAX, "-_") || !qualifier.is_none_or(is_qualifier) {
        let message = "`function` is no function; write its name, `name:alias`, or its ARN like \
                       arn:aws:lambda:eu-central-1:123456789012:function:name";
        return Err(Fault::new(function.span(), message));
    }
    let region = arn.map(|arn| arn.region.to_owned());
    let permanent_errors = check_permanent_errors(settings.entry.permanent_errors.take())?;
    let timeout = settings.entry.timeout_seconds.take();
    let timeout_seconds = within(timeout, DELIVERY_SECONDS_DEFAULT, "timeout_seconds", 1..DELIVERY_SECONDS_MAX + 1)?;
    let timeout = Duration::from_secs(timeout_seconds);
    Ok(LambdaDestination { function: function.into_inner(), timeout, permanent_errors, region })
}

fn check_permanent_errors(given: Option<Spanned<Vec<Spanned<String>>>>) -> Result<Vec<String>, Fault> {
    let Some(given) = given else { return Ok(Vec::new()) };
    if given.get_ref().len() > PERMANENT_ERRORS_MAX {
        return Err(Fault::new(given.span(), format!("`permanent_errors` has more than {PERMANENT_ERRORS_MAX} error types")));
    }
    let check = |error: Spanned<String>| {
        let text = error.get_ref();
        if text.is_empty() || text.len() > ERROR_TYPE_CHARS_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!(
                "`permanent_errors` names error types as the function reports them, like \"ValidationError\": visible ASCII, \
                 at most {ERROR_TYPE_CHARS_MAX} characters"
            );
            return Err(Fault::new(error.span(), message));
        }
        Ok(error.into_inner())
    };
    given.into_inner().into_iter().map(check).collect()
}

pub(super) fn check_eventbridge(settings: &mut Settings<'_>) -> Result<EventBridgeDestination, Fault> {
    let bus = settings.entry.bus.take();
    let bus = settings.need("bus", bus)?;
    let (arn, name) = name_or_arn(&bus, "bus", "events", "event-bus/")?;
    if !is_word(name, BUS_NAME_CHARS_MAX, "-_./") {
        let message = "`bus` is no event bus; write its name, or its ARN like \
                       arn:aws:events:eu-central-1:123456789012:event-bus/name";
        return Err(Fault::new(bus.span(), message));
    }
    let region = arn.map(|arn| arn.region.to_owned());
    let event_source = check_event_source(settings.entry.event_source.take())?;
    Ok(EventBridgeDestination { bus: bus.into_inner(), event_source, region })
}

fn check_event_source(given: Option<Spanned<String>>) -> Result<String, Fault> {
    let Some(given) = given else { return Ok(EVENT_SOURCE_DEFAULT.to_owned()) };
    let fault = |message: String| Err(Fault::new(given.span(), format!("`event_source` {message}")));
    let literal = given.get_ref().replace(SOURCE_PLACEHOLDER, "");
    let longest = literal.len() + given.get_ref().matches(SOURCE_PLACEHOLDER).count() * NAME_BYTES_MAX;
    if given.get_ref().is_empty() || !literal.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte)) {
        return fault("may have letters, digits and `-_./`; `{source}` stands for the name of the event's source".to_owned());
    }
    if longest > EVENT_SOURCE_BYTES_MAX {
        return fault(format!("can get longer than the {EVENT_SOURCE_BYTES_MAX} bytes that EventBridge takes"));
    }
    if given.get_ref().starts_with("aws.") {
        return fault("begins with `aws.`, which is for AWS's own events".to_owned());
    }
    Ok(given.into_inner())
}

pub(super) fn check_sqs(settings: &mut Settings<'_>) -> Result<SqsDestination, Fault> {
    let queue_url = settings.entry.queue_url.take();
    let queue_url = settings.need("queue_url", queue_url)?;
    let Some((region, name)) = read_queue_url(queue_url.get_ref()) else {
        let message = "`queue_url` is no queue; write its URL like https://sqs.eu-central-1.amazonaws.com/123456789012/name";
        return Err(Fault::new(queue_url.span(), message));
    };
    let region = Some(region.to_owned());
    let message_group = check_message_group(settings, &queue_url, name)?;
    Ok(SqsDestination { message_group, region, queue_url: queue_url.into_inner() })
}

/// The Region and the name of the queue.
fn read_queue_url(url: &str) -> Option<(&str, &str)> {
    let (host, path) = url.strip_prefix("https://")?.split_once('/')?;
    let (account, name) = path.split_once('/')?;
    let (service, rest) = host.split_once('.')?;
    let (region, domain) = rest.split_once('.')?;
    let is_sqs = ["sqs", "sqs-fips"].contains(&service) && ["amazonaws.com", "amazonaws.com.cn", "api.aws"].contains(&domain);
    (is_sqs && is_region(region) && is_account(account) && is_fifo_or_word(name, QUEUE_NAME_CHARS_MAX)).then_some((region, name))
}

pub(super) fn check_sns(settings: &mut Settings<'_>) -> Result<SnsDestination, Fault> {
    let topic_arn = settings.entry.topic_arn.take();
    let topic_arn = settings.need("topic_arn", topic_arn)?;
    let arn = read_arn(topic_arn.get_ref(), "sns");
    let Some(arn) = arn.filter(|arn| is_fifo_or_word(arn.resource, TOPIC_NAME_CHARS_MAX)) else {
        let message = "`topic_arn` is no topic; write its ARN like arn:aws:sns:eu-central-1:123456789012:name";
        return Err(Fault::new(topic_arn.span(), message));
    };
    let region = Some(arn.region.to_owned());
    let message_group = check_message_group(settings, &topic_arn, arn.resource)?;
    Ok(SnsDestination { message_group, region, topic_arn: topic_arn.into_inner() })
}

/// A FIFO queue or topic must be told what to keep in order; any other has no order.
fn check_message_group(settings: &mut Settings<'_>, place: &Spanned<String>, name: &str) -> Result<Option<MessageGroup>, Fault> {
    match (name.ends_with(FIFO_SUFFIX), settings.entry.message_group.take()) {
        (true, Some(group)) => Ok(Some(group.into_inner())),
        (true, None) => {
            let message = format!(
                "`{name}` keeps an order: say `message_group = \"source\"` for that of the whole source, one after another, or \
                 `\"event_id\"` for none"
            );
            Err(Fault::new(place.span(), message))
        }
        (false, Some(group)) => {
            Err(Fault::new(group.span(), format!("`message_group` is for names that end in `{FIFO_SUFFIX}`")))
        }
        (false, None) => Ok(None),
    }
}

/// An ARN in its parts, as far as they are looked at.
struct Arn<'a> {
    region: &'a str,
    resource: &'a str,
}

/// What is written is either an ARN of that service, or just a name; with the name, which what comes before it is taken from.
fn name_or_arn<'a>(
    given: &'a Spanned<String>,
    what: &str,
    service: &str,
    before: &str,
) -> Result<(Option<Arn<'a>>, &'a str), Fault> {
    let text = given.get_ref();
    if !text.starts_with("arn:") {
        return Ok((None, text));
    }
    let arn = read_arn(text, service).and_then(|arn| Some((arn.resource.strip_prefix(before)?, arn)));
    let Some((name, arn)) = arn else {
        let message = format!("`{what}` is no ARN of the form arn:aws:{service}:REGION:ACCOUNT:{before}NAME");
        return Err(Fault::new(given.span(), message));
    };
    Ok((Some(arn), name))
}

fn read_arn<'a>(text: &'a str, service: &str) -> Option<Arn<'a>> {
    let mut parts = text.splitn(6, ':');
    let ("arn", partition) = (parts.next()?, parts.next()?) else { return None };
    let is_partition = partition.starts_with("aws") && partition.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let (of, region, account, resource) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (is_partition && of == service && is_region(region) && is_account(account)).then_some(Arn { region, resource })
}

/// Such as `eu-central-1` or `us-gov-west-1`.
fn is_region(text: &str) -> bool {
    let Some((area, number)) = text.rsplit_once('-') else { return false };
    let mut areas = area.split('-');
    !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && area.contains('-')
        && areas.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()))
}

fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_fifo_or_word(name: &str, chars_max: usize) -> bool {
    name.len() <= chars_max && is_word(name.strip_suffix(FIFO_SUFFIX).unwrap_or(name), chars_max, "-_")
}

/// Letters, digits and some other characters.
fn is_word(text: &str, chars_max: usize, others: &str) -> bool {
    let is_one = |character: char| character.is_ascii_alphanumeric() || others.contains(character);
    !text.is_empty() && text.len() <= chars_max && text.chars().all(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(settings: &str) -> Result<DestinationKind, String> {
        let gateway = Gateway::parse(&format!("[destinations.d]\n{settings}"), "gateway.toml");
        let gateway = gateway.map_err(|error| error.to_string())?;
        Ok(gateway.destinations.into_values().next().unwrap().kind)
    }

    fn refused(settings: &str) -> String {
        kind(settings).expect_err(settings)
    }

    fn lambda(settings: &str) -> LambdaDestination {
        match kind(&format!("type = \"lambda\"\n{settings}")) {
            Ok(DestinationKind::Lambda(lambda)) => lambda,
            other => panic!("{other:?}"),
        }
    }

    fn eventbridge(settings: &str) -> EventBridgeDestination {
        match kind(&format!("type = \"eventbridge\"\n{settings}")) {
            Ok(DestinationKind::EventBridge(bus)) => bus,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_function_is_named_in_each_of_its_ways() {
        let arn = "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:orders";
        for (written, region) in [
            ("orders", None),
            ("orders_2-x:live", None),
            ("orders:$LATEST", None),
            ("orders:7", None),
            (arn, Some("us-gov-west-1")),
            (&format!("{arn}:live"), Some("us-gov-west-1")),
        ] {
            let found = lambda(&format!("function = \"{written}\""));
            assert_eq!((found.function.as_str(), found.region.as_deref()), (written, region), "{written}");
            assert_eq!((found.timeout.as_secs(), found.permanent_errors.len()), (DELIVERY_SECONDS_DEFAULT, 0));
        }
    }

    #[test]
    fn what_is_no_function_is_refused_with_its_place() {
        for written in [
            "",
            "a b",
            "orders:",
            "orders:li.ve",
            "123456789012:function:orders",
            "arn:aws:lambda:eu-central-1:123456789012:layer:orders",
            "arn:aws:sqs:eu-central-1:123456789012:function:orders",
            "arn:aws:lambda:eu-central-1:12345678901:function:orders",
            "arn:aws:lambda:central:123456789012:function:orders",
            "arn:aws:lambda::123456789012:function:orders",
            "arn:other:lambda:eu-central-1:123456789012:function:orders",
            "arn:aws:lambda:eu-central-1:123456789012:function:",
            "arn:aws:lambda:eu-central-1",
        ] {
            let message = refused(&format!("type = \"lambda\"\nfunction = \"{written}\""));
            assert!(message.starts_with("gateway.toml:3:12: `function` is no "), "{written}: {message}");
        }
        assert!(refused("type = \"lambda\"").contains("destination `d` has no `function`"));
    }

    #[test]
    fn every_bound_of_a_function_holds_on_both_sides() {
        let function = |text: &str| kind(&format!("type = \"lambda\"\nfunction = \"{text}\"")).is_ok();
        assert!(function(&"a".repeat(FUNCTION_NAME_CHARS_MAX)));
        assert!(!function(&"a".repeat(FUNCTION_NAME_CHARS_MAX + 1)));
        assert!(function(&format!("a:{}", "b".repeat(QUALIFIER_CHARS_MAX))));
        assert!(!function(&format!("a:{}", "b".repeat(QUALIFIER_CHARS_MAX + 1))));
        let with = |setting: &str| kind(&format!("type = \"lambda\"\nfunction = \"a\"\n{setting}"));
        for (good, bad) in [("timeout_seconds = 1", "timeout_seconds = 0"), ("timeout_seconds = 30", "timeout_seconds = 31")] {
            assert!(with(good).is_ok(), "{good}");
            assert!(with(bad).unwrap_err().starts_with("gateway.toml:4:19: `timeout_seconds` must be from 1 to 30"), "{bad}");
        }
        let errors = |count: usize| with(&format!("permanent_errors = {:?}", vec!["E"; count]));
        assert!(errors(PERMANENT_ERRORS_MAX).is_ok());
        assert!(errors(PERMANENT_ERRORS_MAX + 1).unwrap_err().contains("more than 32"));
        let error = |text: &str| with(&format!("permanent_errors = [\"A\", \"{text}\"]"));
        assert!(error(&"e".repeat(ERROR_TYPE_CHARS_MAX)).is_ok());
        for bad in ["e".repeat(ERROR_TYPE_CHARS_MAX + 1), String::new(), "a b".to_owned(), "é".to_owned()] {
            let message = error(&bad).unwrap_err();
            assert!(message.starts_with("gateway.toml:4:26: `permanent_errors` names error types"), "{bad}: {message}");
        }
    }

    #[test]
    fn an_event_bus_is_named_in_each_of_its_ways() {
        let arn = "arn:aws:events:eu-central-1:123456789012:event-bus/orders";
        let source = SourceName::parse("github").unwrap();
        assert_eq!(eventbridge("bus = \"default\"").event_source(&source), "posthouse.github");
        assert_eq!(eventbridge(&format!("bus = \"{arn}\"")).region.as_deref(), Some("eu-central-1"));
        let with = |text: &str| eventbridge(&format!("bus = \"a.b/c-d_e\"\nevent_source = \"{text}\"")).event_source(&source);
        assert_eq!(with("com.example.hooks"), "com.example.hooks");
        assert_eq!(with("{source}/{source}"), "github/github");
    }

    #[test]
    fn every_bound_of_an_event_bus_holds_on_both_sides() {
        let bus = |text: &str| kind(&format!("type = \"eventbridge\"\nbus = \"{text}\""));
        assert!(bus(&"a".repeat(BUS_NAME_CHARS_MAX)).is_ok());
        for bad in ["a".repeat(BUS_NAME_CHARS_MAX + 1), String::new(), "a b".to_owned(), "arn:aws:events:x".to_owned()] {
            let message = bus(&bad).unwrap_err();
            assert!(message.starts_with("gateway.toml:3:7: `bus` is no "), "{bad}: {message}");
        }
        let source = |text: &str| kind(&format!("type = \"eventbridge\"\nbus = \"a\"\nevent_source = \"{text}\""));
        assert!(source(&"a".repeat(EVENT_SOURCE_BYTES_MAX)).is_ok());
        assert!(source(&format!("{}{{source}}", "a".repeat(EVENT_SOURCE_BYTES_MAX - NAME_BYTES_MAX))).is_ok());
        assert!(source("awsome").is_ok());
        for (bad, why) in [
            ("a".repeat(EVENT_SOURCE_BYTES_MAX + 1), "longer than the 256 bytes"),
            (format!("{}{{source}}", "a".repeat(EVENT_SOURCE_BYTES_MAX - NAME_BYTES_MAX + 1)), "longer than the 256 bytes"),
            (String::new(), "`{source}` stands for"),
            ("{type}".to_owned(), "`{source}` stands for"),
            ("a b".to_owned(), "`{source}` stands for"),
            ("aws.s3".to_owned(), "AWS's own events"),
        ] {
            let message = source(&bad).unwrap_err();
            assert!(message.starts_with("gateway.toml:4:16: `event_source` ") && message.contains(why), "{bad}: {message}");
        }
    }

    #[test]
    fn a_queue_is_named_by_its_url() {
        for (url, region) in [
            ("https://sqs.eu-central-1.amazonaws.com/123456789012/orders", "eu-central-1"),
            ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/or_d-ers", "cn-north-1"),
            ("https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/o", "us-gov-west-1"),
            ("https://sqs.eu-west-1.api.aws/123456789012/o", "eu-west-1"),
        ] {
            let found = kind(&format!("type = \"sqs\"\nqueue_url = \"{url}\"")).unwrap();
            assert_eq!(found.region(), Some(region), "{url}");
        }
        let name = |name: &str| {
            let group = if name.ends_with(FIFO_SUFFIX) { "message_group = \"source\"" } else { "" };
            let url = format!("https://sqs.eu-central-1.amazonaws.com/123456789012/{name}");
            kind(&format!("type = \"sqs\"\nqueue_url = \"{url}\"\n{group}"))
        };
        assert!(name(&"a".repeat(QUEUE_NAME_CHARS_MAX)).is_ok());
        assert!(name(&"a".repeat(QUEUE_NAME_CHARS_MAX + 1)).is_err());
        assert!(name(&format!("{}.fifo", "a".repeat(QUEUE_NAME_CHARS_MAX - 5))).is_ok());
        assert!(name(&format!("{}.fifo", "a".repeat(QUEUE_NAME_CHARS_MAX - 4))).is_err());
        for bad in ["", "a.b", ".fifo", "a/b", "a?b"] {
            let message = name(bad).expect_err(bad);
            assert!(message.starts_with("gateway.toml:3:13: `queue_url` is no queue"), "{bad}: {message}");
        }
    }

    #[test]
    fn what_is_no_queue_is_refused_with_its_place() {
        for url in [
            "arn:aws:sqs:eu-central-1:123456789012:orders",
            "http://sqs.eu-central-1.amazonaws.com/123456789012/orders",
            "https://sqs.eu-central-1.example.com/123456789012/orders",
            "https://s3.eu-central-1.amazonaws.com/123456789012/orders",
            "https://sqs.amazonaws.com/123456789012/orders",
            "https://sqs.eu-central-1.amazonaws.com/orders",
        ] {
            let message = refused(&format!("type = \"sqs\"\nqueue_url = \"{url}\""));
            assert!(message.starts_with("gateway.toml:3:13: `queue_url` is no queue"), "{url}: {message}");
        }
        assert!(refused("type = \"sqs\"").contains("destination `d` has no `queue_url`"));
    }

    #[test]
    fn a_topic_is_named_by_its_arn() {
        let topic = |name: &str| kind(&format!("type = \"sns\"\ntopic_arn = \"arn:aws:sns:eu-central-1:123456789012:{name}\""));
        assert_eq!(topic("orders").unwrap().region(), Some("eu-central-1"));
        assert!(topic(&"a".repeat(TOPIC_NAME_CHARS_MAX)).is_ok());
        for bad in ["a".repeat(TOPIC_NAME_CHARS_MAX + 1), String::new(), "a:b".to_owned(), "a.b".to_owned()] {
            let message = topic(&bad).unwrap_err();
            assert!(message.starts_with("gateway.toml:3:13: `topic_arn` is no topic"), "{bad}: {message}");
        }
        assert!(refused("type = \"sns\"").contains("destination `d` has no `topic_arn`"));
    }

    #[test]
    fn what_keeps_an_order_says_of_what_and_nothing_else_does() {
        let arn = "topic_arn = \"arn:aws:sns:eu-central-1:123456789012:orders";
        let url = "queue_url = \"https://sqs.eu-central-1.amazonaws.com/123456789012/orders";
        for (kind_name, target) in [("sns", arn), ("sqs", url)] {
            let written = |suffix: &str, group: &str| kind(&format!("type = \"{kind_name}\"\n{target}{suffix}\"\n{group}"));
            for (group, meant) in [("source", MessageGroup::Source), ("event_id", MessageGroup::EventId)] {
                let found = written(".fifo", &format!("message_group = \"{group}\"")).unwrap();
                let (DestinationKind::Sqs(SqsDestination { message_group, .. })
                | DestinationKind::Sns(SnsDestination { message_group, .. })) = found
                else {
                    panic!("{found:?}")
                };
                assert_eq!(message_group, Some(meant));
            }
            let message = written(".fifo", "").unwrap_err();
            assert!(message.starts_with("gateway.toml:3:13: `orders.fifo` keeps an order: say `message_group"), "{message}");
            let message = written("", "message_group = \"source\"").unwrap_err();
            assert!(message.starts_with("gateway.toml:4:17: `message_group` is for names that end in `.fifo`"), "{message}");
            assert!(written(".fifo", "message_group = \"type\"").unwrap_err().contains("`source` or `event_id`"));
        }
    }

    #[test]
    fn settings_of_another_type_mean_nothing() {
        for (target, other) in [
            ("type = \"lambda\"\nfunction = \"a\"", "bus = \"a\""),
            ("type = \"lambda\"\nfunction = \"a\"", "secret = \"a\""),
            ("type = \"eventbridge\"\nbus = \"a\"", "timeout_seconds = 5"),
            ("type = \"eventbridge\"\nbus = \"a\"", "permanent_errors = [\"a\"]"),
            ("type = \"eventbridge\"\nbus = \"a\"", "message_group = \"source\""),
            ("type = \"eventbridge\"\nbus = \"a\"", "queue_url = \"a\""),
            ("type = \"handler\"\nhandler = \"a\"", "function = \"a\""),
            ("type = \"handler\"\nhandler = \"a\"", "topic_arn = \"a\""),
            ("type = \"handler\"\nhandler = \"a\"", "event_source = \"a\""),
        ] {
            assert!(kind(target).is_ok(), "{target}");
            let message = refused(&format!("{target}\n{other}"));
            assert!(message.starts_with("gateway.toml:4:") && message.contains("means nothing"), "{message}");
        }
    }

    #[test]
    fn a_target_in_another_region_is_named_with_its_line() {
        let text = "\n[destinations.d]\ntype = \"sns\"\ntopic_arn = \"arn:aws:sns:eu-central-1:123456789012:a\"";
        let gateway = Gateway::parse(text, "gateway.toml").unwrap();
        assert!(gateway.check_regions("eu-central-1", "gateway.toml").is_ok());
        let message = gateway.check_regions("us-east-1", "gateway.toml").unwrap_err().to_string();
        assert_eq!(message, "gateway.toml:2:1: destination `d` is in eu-central-1, and this stack in us-east-1");
        let named = Gateway::parse("[destinations.d]\ntype = \"eventbridge\"\nbus = \"a\"", "gateway.toml").unwrap();
        assert!(named.check_regions("us-east-1", "gateway.toml").is_ok());
    }
}
